//! `GET /api/egress`: from which country requests leave. Providers decide by it whom they serve.

use http::{HeaderMap, Method, StatusCode, Uri};
use serde_json::json;

use crate::{
    classify,
    error::ApiError,
    handlers::{self, Context, fetch},
    ports::{Outbound, OutboundBody, Ports, Response, Timeouts},
};

/// Asks the trace URL, which answers lines of `name=value` about who asks.
pub(super) async fn show<P: Ports>(context: &Context<P>) -> Result<Response<P>, ApiError> {
    let Some(url) = &context.settings.egress_trace_url else {
        return handlers::json(
            StatusCode::OK,
            &json!({ "country": null, "address": null, "asked": null }),
        );
    };
    let outbound = Outbound {
        method: Method::GET,
        url: url.clone(),
        headers: HeaderMap::new(),
        body: OutboundBody::Empty,
        timeouts: TIMEOUTS,
    };
    let failed = |why: &str| {
        ApiError::upstream(format!(
            "The trace URL (variable egress_trace_url) was of no use: {why}"
        ))
    };
    let answer = context
        .ports()
        .send(outbound)
        .await
        .map_err(|error| failed(&classify::classify_transport(error).message))?;
    if !answer.status.is_success() {
        return Err(failed(&format!("it answered {}.", answer.status)));
    }
    let body = fetch::whole(answer.body)
        .await
        .map_err(|_| failed("its answer broke off."))?;
    let trace =
        Trace::parse(&String::from_utf8_lossy(&body)).ok_or_else(|| failed("its answer names no country (loc=)."))?;
    let asked = url.parse::<Uri>().ok().and_then(|uri| uri.host().map(str::to_owned));
    handlers::json(
        StatusCode::OK,
        &json!({ "country": trace.country, "address": trace.address, "asked": asked }),
    )
}

/// What of a trace is of interest.
#[derive(Debug, PartialEq, Eq)]
struct Trace {
    /// Two letters, as in ISO 3166.
    country: String,
    /// The address that requests come from.
    address: Option<String>,
}

impl Trace {
    fn parse(text: &str) -> Option<Self> {
        let value = |name: &str| {
            let mut pairs = text.lines().filter_map(|line| line.trim().split_once('='));
            pairs.find_map(|(key, value)| (key == name).then(|| value.trim()))
        };
        let country =
            value("loc").filter(|code| code.len() == 2 && code.bytes().all(|byte| byte.is_ascii_alphanumeric()))?;
        let address = value("ip").filter(|address| address.parse::<std::net::IpAddr>().is_ok());
        Some(Self {
            country: country.to_ascii_uppercase(),
            address: address.map(str::to_owned),
        })
    }
}

const TIMEOUTS: Timeouts = Timeouts {
    connect: 5_000,
    first_byte: 10_000,
    idle: 10_000,
};

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_trace_is_read_and_what_is_none_is_not() {
        let cases = [
            (
                "fl=1\nip=203.0.113.7\nloc=US\ncolo=IAD\n",
                Some(("US", Some("203.0.113.7"))),
            ),
            ("loc=de\r\nip=2001:db8::1\r\n", Some(("DE", Some("2001:db8::1")))),
            ("loc=US\nip=<script>", Some(("US", None))),
            ("loc=<b>", None),
            ("<html>blocked</html>", None),
            ("", None),
        ];
        for (text, expected) in cases {
            let trace = Trace::parse(text);
            let found = trace
                .as_ref()
                .map(|trace| (trace.country.as_str(), trace.address.as_deref()));
            assert_eq!(found, expected, "{text}");
        }
    }
}
