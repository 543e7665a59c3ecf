//! One line for a request, in `name=value` pairs that log collectors take apart.

use std::fmt::Write as _;

use http::{HeaderMap, Method};

use crate::{auth, ports::UnixMillis, settings::LogRequests};

/// What of a request is told when it is answered. Never a query, a header that was not asked for, or a body.
#[derive(Debug)]
pub struct Asked {
    method: Method,
    path: String,
    client: String,
    trace: Option<String>,
}

impl Asked {
    /// Takes it from a request.
    pub fn of(method: &Method, path: &str, headers: &HeaderMap) -> Self {
        Self {
            method: method.clone(),
            path: path.chars().take(MOST_PATH).collect(),
            client: client(headers),
            trace: trace_id(headers),
        }
    }

    /// The line of an answered request; `None` when such ones are not to be told.
    pub fn line(
        &self,
        request_id: &str,
        told: LogRequests,
        status: u16,
        answer: &HeaderMap,
        started: UnixMillis,
        now: UnixMillis,
    ) -> Option<String> {
        let header = |name: &str| answer.get(name).and_then(|value| value.to_str().ok());
        let attempts = header("x-keystorm-attempts");
        let has_failed = status >= 400 || attempts.is_some_and(|attempts| attempts != "1");
        match told {
            LogRequests::None => return None,
            LogRequests::Failed if !has_failed => return None,
            _ => {}
        }
        let level = match status {
            500.. => "error",
            400.. => "warn",
            _ => "info",
        };
        let mut line = format!(
            "at={} level={level} event=request request_id={request_id} method={} path={:?} status={status} ms={} client={}",
            moment(started),
            self.method,
            self.path,
            now.since(started),
            self.client,
        );
        let optional = [
            ("attempts", attempts),
            ("key", header("x-keystorm-key")),
            ("trace", self.trace.as_deref()),
        ];
        for (name, value) in optional {
            if let Some(value) = value.filter(|value| !value.is_empty()) {
                // Writing to a string does not fail.
                let _ = write!(line, " {name}={value}");
            }
        }
        Some(line)
    }
}

/// The address that the host saw, and what it says to come for: a proxy's word, which nobody has checked.
pub fn client(headers: &HeaderMap) -> String {
    let seen = auth::client_address(headers).unwrap_or("unknown");
    let told = headers.get_all("x-forwarded-for").iter().next_back();
    let told = told
        .and_then(|value| value.to_str().ok()?.rsplit(',').next())
        .map(str::trim)
        .filter(|address| address.parse::<std::net::IpAddr>().is_ok());
    told.map_or_else(|| seen.to_owned(), |told| format!("{told},{seen}"))
}

/// The trace that a request belongs to (W3C Trace Context).
fn trace_id(headers: &HeaderMap) -> Option<String> {
    let mut parts = headers.get("traceparent")?.to_str().ok()?.split('-');
    let (_version, id) = (parts.next()?, parts.next()?);
    let good = id.len() == 32 && id.bytes().all(|byte| byte.is_ascii_hexdigit());
    good.then(|| id.to_owned())
}

fn moment(at: UnixMillis) -> String {
    jiff::Timestamp::from_millisecond(at.0).map_or_else(|_| at.0.to_string(), |at| format!("{at:.3}"))
}

/// How much of a path is told.
const MOST_PATH: usize = 200;

#[cfg(test)]
mod tests {
    use http::{HeaderName, HeaderValue};

    use super::*;

    fn headers(pairs: &[(&'static str, &'static str)]) -> HeaderMap {
        pairs
            .iter()
            .map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_static(value)))
            .collect()
    }

    #[test]
    fn a_line_says_who_asked_what_and_how_it_went() {
        let asked = Asked::of(
            &Method::POST,
            "/v1/chat/completions",
            &headers(&[
                ("spin-client-addr", "10.0.0.5:4711"),
                ("x-forwarded-for", "6.6.6.6, 203.0.113.7"),
                ("traceparent", "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"),
                ("authorization", "Bearer secret"),
            ]),
        );
        let answer = headers(&[("x-keystorm-attempts", "3"), ("x-keystorm-key", "sk-g...0001")]);
        let line = asked.line(
            "req_1",
            LogRequests::Failed,
            200,
            &answer,
            UnixMillis(1_795_392_000_000),
            UnixMillis(1_795_392_000_120),
        );
        assert_eq!(
            line.as_deref(),
            Some(
                "at=2026-11-23T00:00:00.000Z level=info event=request request_id=req_1 method=POST path=\"/v1/chat/completions\" status=200 ms=120 client=203.0.113.7,10.0.0.5 attempts=3 key=sk-g...0001 trace=0af7651916cd43dd8448eb211c80319c"
            )
        );
    }

    #[test]
    fn what_is_told_is_what_the_operator_asked_for_and_one_line() {
        let asked = Asked::of(
            &Method::GET,
            "/v1/mod\nels",
            &headers(&[("traceparent", "00-x\"y-1-1")]),
        );
        let line = |told, status, attempts: &'static str| {
            asked.line(
                "r",
                told,
                status,
                &headers(&[("x-keystorm-attempts", attempts)]),
                UnixMillis(0),
                UnixMillis(1),
            )
        };
        let cases = [
            (LogRequests::None, 500, "1", false),
            (LogRequests::Failed, 200, "1", false),
            (LogRequests::Failed, 200, "2", true),
            (LogRequests::Failed, 404, "1", true),
            (LogRequests::All, 200, "1", true),
        ];
        for (told, status, attempts, is_told) in cases {
            let line = line(told, status, attempts);
            assert_eq!(line.is_some(), is_told, "{told:?} {status} {attempts}");
            assert!(!line.unwrap_or_default().contains('\n'));
        }
    }
}
