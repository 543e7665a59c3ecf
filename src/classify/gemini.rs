//! Google's errors. The order is the meaning: the first rule that fits holds.
//! Shapes: google.rpc.Status with ErrorInfo, RetryInfo and QuotaFailure (google/rpc/error_details.proto).

use serde_json::Value;

use super::{Answer, DAY, Fault, HOUR, Judgement, MINUTE, Next, Rest, SECOND, retry_after};

pub(super) fn judge(answer: &Answer) -> Judgement {
    let reason = answer
        .details("ErrorInfo")
        .find_map(|info| info.get("reason")?.as_str())
        .unwrap_or_default();
    let dead = |rule| answer.judgement(rule, Fault::Credential, Rest::Dead, Next::OtherKey);
    // A web page is a gateway's word, whatever its status; that there is too much is said by the status alone.
    if answer.is_html && answer.status != 429 {
        return answer.judgement("G17", Fault::Overload, Rest::None, Next::Retry);
    }
    match answer.status {
        400 if reason == "API_KEY_INVALID"
            || answer.says(&["api key not valid", "api key not found", "api key expired"]) =>
        {
            dead("G1")
        }
        401 => dead("G2"),
        403 if answer.says(&["reported as leaked"]) => dead("G3"),
        403 if reason == "CONSUMER_SUSPENDED" || answer.says(&["has been suspended"]) => dead("G4"),
        403 if answer.says(&["your project has been denied access"]) => dead("G5"),
        403 if MISCONFIGURED.contains(&reason) || answer.says(&["has not been used in project", "are blocked"]) => {
            dead("G6")
        }
        // What belongs to another project says nothing of the key; another refusal does, once it is repeated.
        403 if answer.says(&["file", "cachedcontent", "cached content"]) => {
            answer.judgement("G7", Fault::Model, Rest::None, Next::OtherKeyFew)
        }
        403 => answer.judgement("G7", Fault::Model, Rest::ModelRepeated(HOUR), Next::OtherKeyFew),
        // A file or a cached content of another key's project looks as if it did not exist.
        404 if answer.says(&["files/", "cachedcontents/", "cachedcontent "]) => {
            answer.judgement("G7", Fault::Model, Rest::None, Next::OtherKeyFew)
        }
        400 if answer.says(&["user location is not supported"]) => {
            answer.judgement("G8", Fault::Region, Rest::None, Next::Stop)
        }
        400 if answer.field("status") == "FAILED_PRECONDITION" && answer.details("BadRequest").next().is_none() => {
            answer.judgement("G9", Fault::Quota, Rest::Key(DAY), Next::OtherKey)
        }
        404 if answer.says(&["no longer available to new users"]) => {
            answer.judgement("G10", Fault::Model, Rest::Model(DAY), Next::OtherKey)
        }
        404 => answer.judgement("G11", Fault::Caller, Rest::None, Next::Stop),
        402 => answer.judgement("G12", Fault::Quota, Rest::Key(DAY), Next::OtherKey),
        429 => Judgement {
            project: consumer(answer),
            ..too_many(answer)
        },
        499 => answer.judgement("G20", Fault::Cancelled, Rest::None, Next::Stop),
        503 => answer.judgement("G18", Fault::Overload, Rest::None, Next::Retry),
        504 => answer.judgement("G19", Fault::Timeout, Rest::None, Next::Retry),
        400..=498 => answer.judgement("G21", Fault::Caller, Rest::None, Next::Stop),
        _ => answer.judgement("G17", Fault::Overload, Rest::None, Next::Retry),
    }
}

fn too_many(answer: &Answer) -> Judgement {
    let no_money = answer.says(&["prepayment credits are depleted", "spend cap", "spending limit"])
        || (answer.says(&["billing"]) && answer.says(&["enable"]));
    if no_money {
        return answer.judgement("G12", Fault::Quota, Rest::Key(DAY), Next::OtherKey);
    }
    let violations = || {
        answer
            .details("QuotaFailure")
            .filter_map(|failure| failure.get("violations")?.as_array())
            .flatten()
    };
    let text = |violation: &Value, name: &str| {
        violation
            .get(name)
            .and_then(Value::as_str)
            .unwrap_or_default()
            .to_owned()
    };
    if violations().any(|violation| text(violation, "quotaValue") == "0") || has_limit_zero(&answer.words) {
        return answer.judgement("G13", Fault::Quota, Rest::Model(DAY), Next::OtherKey);
    }
    // A body can name a minute's and a day's quota together: the day's holds, however short the delay beside it.
    let daily = |id: String| id.contains("PerDay") || id.contains("Daily");
    if violations().any(|violation| daily(text(violation, "quotaId"))) {
        return answer.judgement("G14", Fault::Quota, Rest::ModelUntilMidnight, Next::OtherKey);
    }
    let delay = answer
        .details("RetryInfo")
        .find_map(|info| retry_after::duration(info.get("retryDelay")?.as_str()?))
        .or_else(|| retry_after::from_message(&answer.words))
        .or_else(|| retry_after::from_headers(answer.headers, answer.now));
    match delay {
        Some(delay) if delay > 5 * MINUTE => {
            answer.judgement("G14", Fault::Quota, Rest::ModelUntilMidnight, Next::OtherKey)
        }
        // A second more than was asked for: clocks differ, and asking too early begins the wait anew.
        Some(delay) => answer.judgement("G15", Fault::RateLimit, Rest::Model(delay + SECOND), Next::OtherKey),
        None if violations().any(|violation| text(violation, "quotaId").contains("PerMinute")) => {
            answer.judgement("G15", Fault::RateLimit, Rest::Model(MINUTE), Next::OtherKey)
        }
        None => answer.judgement(
            "G16",
            Fault::RateLimit,
            Rest::ModelDoubling(30 * SECOND, 10 * MINUTE),
            Next::OtherKey,
        ),
    }
}

/// `limit: 0` as a whole number: `limit: 0, model: x`, and not `limit: 0.5` or `limit: 05`.
fn has_limit_zero(words: &str) -> bool {
    words.split("limit: 0").skip(1).any(|behind| {
        let behind = behind.strip_prefix('.').unwrap_or(behind);
        !behind.starts_with(|letter: char| letter.is_ascii_digit())
    })
}

/// The project whose quota it is: `projects/123` in ErrorInfo, or `project_number:123` in the message.
fn consumer(answer: &Answer) -> Option<String> {
    let named = answer.details("ErrorInfo").find_map(|info| {
        let consumer = info.get("metadata")?.get("consumer")?.as_str()?;
        consumer.starts_with("projects/").then(|| consumer.to_owned())
    });
    let told = || {
        let (_, behind) = answer.words.split_once("project_number:")?;
        let number: String = behind.chars().take_while(char::is_ascii_digit).take(20).collect();
        (!number.is_empty()).then(|| format!("projects/{number}"))
    };
    named.or_else(told).map(|project| project.chars().take(64).collect())
}

/// Reasons of google.api.ErrorReason by which a key can serve nobody until its owner changes something.
const MISCONFIGURED: [&str; 7] = [
    "SERVICE_DISABLED",
    "API_KEY_SERVICE_BLOCKED",
    "API_KEY_HTTP_REFERRER_BLOCKED",
    "API_KEY_IP_ADDRESS_BLOCKED",
    "API_KEY_ANDROID_APP_BLOCKED",
    "CONSUMER_INVALID",
    "BILLING_DISABLED",
];
