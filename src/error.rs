//! Every error that a caller can see, and the only place that maps errors to a status and to a body.

use bytes::Bytes;
use http::{Method, StatusCode};
use serde_json::json;

/// An error as it is told to a caller. `message` is safe to show: it holds no credential and nothing of the inside.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ApiError {
    /// The HTTP status.
    pub status: StatusCode,
    /// OpenAI's `error.type`.
    pub kind: &'static str,
    /// OpenAI's `error.code`.
    pub code: Option<String>,
    /// The field that is wrong.
    pub param: Option<String>,
    /// What happened and what to do.
    pub message: String,
    /// Seconds after which trying again makes sense.
    pub retry_after: Option<u64>,
    /// The methods that the route has.
    pub allow: Option<&'static str>,
}

impl ApiError {
    /// An error of this kind.
    pub fn new(
        status: StatusCode,
        kind: &'static str,
        code: impl Into<Option<&'static str>>,
        message: impl Into<String>,
    ) -> Self {
        Self {
            status,
            kind,
            code: code.into().map(str::to_owned),
            param: None,
            message: message.into(),
            retry_after: None,
            allow: None,
        }
    }

    /// The request as a whole is wrong.
    pub fn bad_request(message: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, INVALID, None, message)
    }

    /// A field is wrong.
    pub fn invalid(param: impl Into<String>, message: impl Into<String>) -> Self {
        Self {
            param: Some(param.into()),
            ..Self::new(StatusCode::BAD_REQUEST, INVALID, "invalid_value", message)
        }
    }

    /// A field is missing.
    pub fn missing(param: &str) -> Self {
        let message = format!("Missing required parameter: '{param}'.");
        Self {
            param: Some(param.to_owned()),
            ..Self::new(StatusCode::BAD_REQUEST, INVALID, "missing_required_parameter", message)
        }
    }

    /// The caller's credential is none of ours.
    pub fn unauthorized(message: impl Into<String>) -> Self {
        Self::new(StatusCode::UNAUTHORIZED, INVALID, "invalid_api_key", message)
    }

    /// A published default is in force, and the caller is not on this machine.
    pub fn default_credentials(variable: &str) -> Self {
        let message = format!(
            "This KeyStorm still has the published default of {variable}, which serves direct clients on its own machine alone. Set one of your own: spin up --variable {variable}=... (or SPIN_VARIABLE_{})",
            variable.to_uppercase()
        );
        Self::new(
            StatusCode::FORBIDDEN,
            "request_forbidden",
            "default_credentials",
            message,
        )
    }

    /// The caller may not do this.
    pub fn forbidden(code: &'static str, message: impl Into<String>) -> Self {
        Self::new(StatusCode::FORBIDDEN, "request_forbidden", code, message)
    }

    /// There is no such path.
    pub fn unknown_url(method: &Method, path: &str) -> Self {
        let path: String = path.chars().take(200).collect();
        Self::new(
            StatusCode::NOT_FOUND,
            INVALID,
            "unknown_url",
            format!("Unknown request URL: {method} {path}."),
        )
    }

    /// There is no such thing.
    pub fn not_found(code: &'static str, message: impl Into<String>) -> Self {
        Self::new(StatusCode::NOT_FOUND, INVALID, code, message)
    }

    /// No pool serves this model.
    pub fn model_not_found(model: &str, why: &str) -> Self {
        let model: String = model.chars().take(200).collect();
        let message = format!("The model '{model}' does not exist or is not served here: {why}");
        Self {
            param: Some("model".to_owned()),
            ..Self::new(StatusCode::NOT_FOUND, INVALID, "model_not_found", message)
        }
    }

    /// The path has other methods.
    pub fn method_not_allowed(allow: &'static str) -> Self {
        let message = format!("This URL has the methods {allow}.");
        Self {
            allow: Some(allow),
            ..Self::new(StatusCode::METHOD_NOT_ALLOWED, INVALID, None, message)
        }
    }

    /// The body is larger than `max_body_bytes`.
    pub fn body_too_large(limit: usize) -> Self {
        let message = format!("The body is larger than {limit} bytes (variable max_body_bytes).");
        Self::new(StatusCode::PAYLOAD_TOO_LARGE, INVALID, "body_too_large", message)
    }

    /// The body did not come in time.
    pub fn slow_body() -> Self {
        let message = "The request's body did not come in time (variable body_timeout_ms).";
        Self::new(StatusCode::REQUEST_TIMEOUT, INVALID, "request_timeout", message)
    }

    /// The path with its query is longer than anything that is asked for.
    pub fn uri_too_long(limit: usize) -> Self {
        let message = format!("The path with its query is longer than {limit} bytes.");
        Self::new(StatusCode::URI_TOO_LONG, INVALID, "uri_too_long", message)
    }

    /// The body has another type than the route takes.
    pub fn unsupported_media_type(expected: &str) -> Self {
        let message = format!("The body must be sent with content-type: {expected}.");
        Self::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, INVALID, None, message)
    }

    /// Every key that could serve rests.
    pub fn rate_limited(retry_after: u64) -> Self {
        let message = format!("Every key that could serve this request is rate-limited. Try again in {retry_after} s.");
        Self {
            retry_after: Some(retry_after),
            ..Self::new(
                StatusCode::TOO_MANY_REQUESTS,
                "requests",
                "rate_limit_exceeded",
                message,
            )
        }
    }

    /// Every key that could serve has used up its quota or its money.
    pub fn insufficient_quota(retry_after: u64) -> Self {
        Self {
            retry_after: Some(retry_after),
            ..Self::new(
                StatusCode::TOO_MANY_REQUESTS,
                "insufficient_quota",
                "insufficient_quota",
                "Every key that could serve this request has used up its quota.",
            )
        }
    }

    /// There is no key of this type, or all of them are dead.
    pub fn no_available_keys(message: impl Into<String>) -> Self {
        Self::new(StatusCode::SERVICE_UNAVAILABLE, SERVER, "no_available_keys", message)
    }

    /// The upstream failed.
    pub fn upstream(message: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_GATEWAY, SERVER, "upstream_error", message)
    }

    /// The upstream is overloaded.
    pub fn overloaded(message: impl Into<String>) -> Self {
        Self::new(StatusCode::SERVICE_UNAVAILABLE, SERVER, "overloaded", message)
    }

    /// The upstream took too long.
    pub fn timeout(message: impl Into<String>) -> Self {
        Self::new(StatusCode::GATEWAY_TIMEOUT, SERVER, "upstream_error", message)
    }

    /// The providers refuse the region that this KeyStorm calls from.
    pub fn region(message: impl Into<String>) -> Self {
        Self::new(
            StatusCode::FORBIDDEN,
            "request_forbidden",
            "unsupported_country_region_territory",
            message,
        )
    }

    /// A caller tried too often.
    pub fn throttled(retry_after: u64) -> Self {
        let message = format!("Too many failed attempts. Try again in {retry_after} s.");
        Self {
            retry_after: Some(retry_after),
            ..Self::new(
                StatusCode::TOO_MANY_REQUESTS,
                "requests",
                "rate_limit_exceeded",
                message,
            )
        }
    }

    /// The operator's variables are wrong.
    pub fn misconfigured(faults: &[String]) -> Self {
        let message = format!("KeyStorm is not configured well: {}.", faults.join("; "));
        Self::new(StatusCode::SERVICE_UNAVAILABLE, SERVER, "misconfigured", message)
    }

    /// The database cannot be used now.
    pub fn database(what: &str) -> Self {
        let message = format!("The database cannot be used now: {what}");
        Self {
            retry_after: Some(1),
            ..Self::new(StatusCode::SERVICE_UNAVAILABLE, SERVER, "database_unavailable", message)
        }
    }

    /// A fault of KeyStorm itself.
    pub fn internal(message: impl Into<String>) -> Self {
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, SERVER, "internal_error", message)
    }

    /// The body for clients of OpenAI's API and for the administrator:
    /// `{"error": {"message", "type", "param", "code"}}`, and `retry_after` in seconds when there is one.
    pub fn openai_body(&self) -> Bytes {
        let mut error = json!({ "message": self.message, "type": self.kind, "param": self.param, "code": self.code });
        if let (Some(error), Some(seconds)) = (error.as_object_mut(), self.retry_after) {
            error.insert("retry_after".to_owned(), seconds.into());
        }
        Bytes::from(json!({ "error": error }).to_string())
    }

    /// The body for clients of Gemini's API: `{"error": {"code", "message", "status"}}`, where `status` is the name of a
    /// google.rpc.Code.
    pub fn google_body(&self) -> Bytes {
        let name = match self.status.as_u16() {
            400 | 408 | 413 | 414 | 415 => "INVALID_ARGUMENT",
            401 => "UNAUTHENTICATED",
            403 => "PERMISSION_DENIED",
            404 => "NOT_FOUND",
            405 => "UNIMPLEMENTED",
            409 => "ABORTED",
            429 => "RESOURCE_EXHAUSTED",
            503 => "UNAVAILABLE",
            504 => "DEADLINE_EXCEEDED",
            _ => "INTERNAL",
        };
        let error = json!({ "code": self.status.as_u16(), "message": self.message, "status": name });
        Bytes::from(json!({ "error": error }).to_string())
    }
}

const INVALID: &str = "invalid_request_error";
const SERVER: &str = "server_error";
