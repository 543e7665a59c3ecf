//! Every error that a caller can see, and the only place that maps errors to a status and to a body.

use http::StatusCode;

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
