//! Why an answer ended. Strict clients fail on any value but OpenAI's five.

use super::error::Why;

/// OpenAI's word for Gemini's. `calls` is the word for an answer that ends with calls, when there are any.
pub fn finish_reason(native: &str, calls: Option<&'static str>, has_text: bool) -> &'static str {
    match native {
        "MAX_TOKENS" | "CONTINUATION" => "length",
        "SAFETY"
        | "RECITATION"
        | "LANGUAGE"
        | "BLOCKLIST"
        | "PROHIBITED_CONTENT"
        | "SPII"
        | "IMAGE_SAFETY"
        | "IMAGE_PROHIBITED_CONTENT"
        | "IMAGE_RECITATION"
        | "IMAGE_OTHER"
        | "NO_IMAGE"
        | "ESCALATION"
        | "MODEL_ARMOR"
        | LIMITED => "content_filter",
        "OTHER" if !has_text && calls.is_none() => "content_filter",
        "OTHER" => "stop",
        _ if is_slip(native) => "stop",
        // Gemini says STOP for calls too. What is new ends an answer like any other.
        _ => calls.unwrap_or("stop"),
    }
}

/// Whether the word is in the documentation.
pub fn is_known(native: &str) -> bool {
    finish_reason(native, None, false) != "stop"
        || matches!(native, "" | "STOP" | "FINISH_REASON_UNSPECIFIED")
        || is_slip(native)
}

/// Whether the model has slipped: what it tried to say could not be read, or was not asked for.
pub fn is_slip(native: &str) -> bool {
    matches!(
        native,
        "MALFORMED_FUNCTION_CALL"
            | "UNEXPECTED_TOOL_CALL"
            | "TOO_MANY_TOOL_CALLS"
            | "MALFORMED_RESPONSE"
            | "MISSING_THOUGHT_SIGNATURE"
    )
}

/// Why it is worth asking again when nothing was said.
pub fn retry(native: &str) -> Option<Why> {
    match native {
        "MALFORMED_FUNCTION_CALL" => Some(Why::MalformedCall),
        "MISSING_THOUGHT_SIGNATURE" => Some(Why::MissingSignature),
        _ => None,
    }
}

/// Says that the key's account was limited.
pub const LIMITED: &str = "PUP_LIMITED_DISABLED";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_reason_is_one_of_openais_five() {
        // Gemini's word, and OpenAI's: of text, of nothing, of calls.
        let cases = [
            ("STOP", ["stop", "stop", "tool_calls"]),
            ("FINISH_REASON_UNSPECIFIED", ["stop", "stop", "tool_calls"]),
            ("", ["stop", "stop", "tool_calls"]),
            ("MAX_TOKENS", ["length"; 3]),
            ("CONTINUATION", ["length"; 3]),
            ("SAFETY", ["content_filter"; 3]),
            ("RECITATION", ["content_filter"; 3]),
            ("LANGUAGE", ["content_filter"; 3]),
            ("BLOCKLIST", ["content_filter"; 3]),
            ("PROHIBITED_CONTENT", ["content_filter"; 3]),
            ("SPII", ["content_filter"; 3]),
            ("IMAGE_SAFETY", ["content_filter"; 3]),
            ("IMAGE_PROHIBITED_CONTENT", ["content_filter"; 3]),
            ("IMAGE_RECITATION", ["content_filter"; 3]),
            ("IMAGE_OTHER", ["content_filter"; 3]),
            ("NO_IMAGE", ["content_filter"; 3]),
            ("ESCALATION", ["content_filter"; 3]),
            ("MODEL_ARMOR", ["content_filter"; 3]),
            ("PUP_LIMITED_DISABLED", ["content_filter"; 3]),
            ("OTHER", ["stop", "content_filter", "stop"]),
            ("MALFORMED_FUNCTION_CALL", ["stop"; 3]),
            ("UNEXPECTED_TOOL_CALL", ["stop"; 3]),
            ("TOO_MANY_TOOL_CALLS", ["stop"; 3]),
            ("MALFORMED_RESPONSE", ["stop"; 3]),
            ("MISSING_THOUGHT_SIGNATURE", ["stop"; 3]),
            ("A_NEW_ONE", ["stop", "stop", "tool_calls"]),
        ];
        for (native, expected) in cases {
            let told = [(None, true), (None, false), (Some("tool_calls"), false)];
            let told = told.map(|(calls, text)| finish_reason(native, calls, text));
            assert_eq!(told, expected, "{native}");
            assert_eq!(is_known(native), native != "A_NEW_ONE", "{native}");
        }
    }

    #[test]
    fn only_what_a_second_try_can_mend_is_tried_again() {
        assert_eq!(retry("MALFORMED_FUNCTION_CALL"), Some(Why::MalformedCall));
        assert_eq!(retry("MISSING_THOUGHT_SIGNATURE"), Some(Why::MissingSignature));
        for native in ["STOP", "SAFETY", "UNEXPECTED_TOOL_CALL", "MALFORMED_RESPONSE", ""] {
            assert_eq!(retry(native), None, "{native}");
        }
    }
}
