//! Errors of OpenAI and of what speaks its API. The order is the meaning: the first rule that fits holds.

use super::{Answer, DAY, Fault, Judgement, Next, Rest, SECOND, retry_after};

pub(super) fn judge(answer: &Answer) -> Judgement {
    let (code, kind) = (answer.field("code"), answer.field("type"));
    let is = |names: &[&str]| names.contains(&code) || names.contains(&kind);
    let caller = |rule| answer.judgement(rule, Fault::Caller, Rest::None, Next::Stop);
    let server = || answer.judgement("O8", Fault::Overload, Rest::None, Next::Retry);
    if answer.status == 401 {
        return answer.judgement("O1", Fault::Credential, Rest::Dead, Next::OtherKey);
    }
    // A web page is a gateway's word, whatever its status; that there is too much is said by the status alone.
    if answer.is_html && answer.status != 429 {
        return server();
    }
    let no_money = is(&NO_MONEY) || answer.says(&["insufficient balance", "credit balance is too low"]);
    match answer.status {
        403 if is(&["unsupported_country_region_territory"]) => {
            answer.judgement("O2", Fault::Region, Rest::None, Next::Stop)
        }
        402 => answer.judgement("O4", Fault::Quota, Rest::Key(DAY), Next::OtherKey),
        400 | 403 | 429 if no_money => answer.judgement("O4", Fault::Quota, Rest::Key(DAY), Next::OtherKey),
        403 | 404 if is(&["model_not_found"]) => answer.judgement("O6", Fault::Model, Rest::Model(DAY), Next::OtherKey),
        400 if is(&["invalid_api_key", "account_deactivated"]) => {
            answer.judgement("O1", Fault::Credential, Rest::Dead, Next::OtherKey)
        }
        // A restricted key lacks the scope for this route or model, and serves others well.
        403 => answer.judgement("O3", Fault::Model, Rest::Model(DAY), Next::OtherKey),
        429 => {
            let delay = retry_after::from_headers(answer.headers, answer.now)
                .or_else(|| retry_after::from_message(&answer.words));
            let rest = delay.map_or(Rest::ModelDoubling(20 * SECOND, 60 * SECOND), |delay| {
                Rest::Model(delay.clamp(SECOND, DAY))
            });
            answer.judgement("O5", Fault::RateLimit, rest, Next::OtherKey)
        }
        408 => server(),
        400..=499 => caller("O7"),
        504 | 524 => Judgement {
            fault: Fault::Timeout,
            ..server()
        },
        _ => server(),
    }
}

/// Codes and types by which a key has no money or no access left.
const NO_MONEY: [&str; 7] = [
    "insufficient_quota",
    "insufficient_user_quota",
    "billing_not_active",
    "billing_hard_limit_reached",
    "access_terminated",
    "quota_exceeded",
    "insufficient_balance",
];
