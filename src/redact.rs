//! Takes credentials out of text that comes from upstreams. Google quotes the key in some of its messages.

/// A message for people: without credentials, without control characters, and of bounded length.
pub fn redact(text: &str, secret: Option<&str>) -> String {
    let clean = scrub(text, secret);
    clean
        .chars()
        .filter(|letter| !letter.is_control() || *letter == '\n')
        .take(MAX_LENGTH)
        .collect()
}

/// Replaces whatever looks like a provider's key, and the known secret itself wherever it stands.
pub fn scrub(text: &str, secret: Option<&str>) -> String {
    let text = match secret.filter(|secret| secret.len() >= 4) {
        Some(secret) => text.replace(secret, HIDDEN),
        None => text.to_owned(),
    };
    let mut clean = String::with_capacity(text.len());
    let mut rest = text.as_str();
    'text: while let Some(letter) = rest.chars().next() {
        let inside_word = clean
            .chars()
            .next_back()
            .is_some_and(|before| before.is_ascii_alphanumeric());
        for (prefix, extra, least) in SHAPES {
            let Some(tail) = rest.strip_prefix(prefix).filter(|_| !inside_word) else {
                continue;
            };
            let is_part =
                |letter: char| letter.is_ascii_alphanumeric() || "_-".contains(letter) || extra.contains(letter);
            let length = tail.find(|letter| !is_part(letter)).unwrap_or(tail.len());
            if length >= least {
                clean.push_str(HIDDEN);
                rest = tail.get(length..).unwrap_or_default();
                continue 'text;
            }
        }
        clean.push(letter);
        rest = rest.get(letter.len_utf8()..).unwrap_or_default();
    }
    clean
}

/// What is wrong with somebody's JSON, without the values that serde quotes: one of them may be a key, or be as long as the
/// whole body. Also the field that is meant, where serde names one.
pub fn json_fault(error: &serde_json::Error) -> (Option<String>, String) {
    let told = error.to_string();
    let plain = match (told.find('"'), told.rfind('"')) {
        (Some(first), Some(last)) if error.is_data() => {
            let (before, behind) = (told.get(..first), told.get(last + 1..));
            format!(
                "{}{}",
                before.unwrap_or_default().trim_end(),
                behind.unwrap_or_default()
            )
        }
        _ => told,
    };
    // The names of our own types mean nothing to anybody.
    let plain = match plain.split_once("struct ") {
        Some((before, behind)) => {
            let behind = behind.split_once(' ').map_or("", |(_, behind)| behind);
            format!("{before}an object {behind}")
        }
        None => plain,
    };
    let named = ["missing field `", "unknown field `", "duplicate field `"]
        .iter()
        .find_map(|words| plain.strip_prefix(words)?.split('`').next());
    // What is no plain word is no field of any API: it could be a key that stands in the wrong place.
    let is_word = |field: &&str| {
        (1..=40).contains(&field.len()) && field.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
    };
    match named {
        Some(field) if !is_word(&field) => (None, "a field has a name that no field has".to_owned()),
        _ => (named.map(|field| scrub(field, None)), short(&redact(&plain, None), 300)),
    }
}

fn short(text: &str, most: usize) -> String {
    text.chars().take(most).collect()
}

/// How the providers' keys look: a prefix, what may stand in the rest beside word characters and hyphens, how long that is.
const SHAPES: [(&str, &str, usize); 5] = [
    ("AIza", "", 30),
    ("AQ.", ".", 20),
    ("sk-", "", 16),
    ("gsk_", "", 16),
    ("xai-", "", 16),
];

const HIDDEN: &str = "[redacted]";

/// Messages are for people: what is longer is cut off.
const MAX_LENGTH: usize = 2000;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_taken_out_of_text() {
        let google = format!("AIza{}", "x".repeat(35));
        let cases = [
            (
                format!("Consumer 'api_key:{google}' has been suspended."),
                "Consumer 'api_key:[redacted]' has been suspended.",
            ),
            (format!("AQ.{} is bad", "Ab8.RN6-".repeat(4)), "[redacted] is bad"),
            (
                "Incorrect API key provided: sk-proj-abcdefghijklmnop.".to_owned(),
                "Incorrect API key provided: [redacted].",
            ),
            ("my-own-key was refused".to_owned(), "[redacted] was refused"),
            (
                "task-force sk-short AIzashort".to_owned(),
                "task-force sk-short AIzashort",
            ),
            ("ключ sk-ключ".to_owned(), "ключ sk-ключ"),
        ];
        for (text, expected) in cases {
            assert_eq!(redact(&text, Some("my-own-key")), expected);
        }
    }

    #[test]
    fn what_is_wrong_with_json_is_told_without_its_values() {
        #[derive(Debug, serde::Deserialize)]
        #[serde(deny_unknown_fields)]
        struct Taken {
            #[allow(dead_code, reason = "it is only read into")]
            keys: Vec<String>,
        }
        let long = format!("\"{}\"", "x".repeat(100_000));
        let cases = [
            (
                r#"{"keys":"my-own-key"}"#,
                None,
                "invalid type: string, expected a sequence",
            ),
            (r#""my-own-key""#, None, "invalid type: string, expected an object"),
            (long.as_str(), None, "invalid type: string, expected an object"),
            (r#"{"keys":[7]}"#, None, "invalid type: integer `7`, expected a string"),
            ("{}", Some("keys"), "missing field `keys`"),
            (r#"{"keys":[],"keys":[]}"#, Some("keys"), "duplicate field `keys`"),
            (r#"{"key":[]}"#, Some("key"), "unknown field `key`"),
            (r#"{"my-own-key":[]}"#, None, "a field has a name that no field has"),
            (r#"{"keys":["#, None, "EOF while parsing a list"),
            (r#"{"keys":["my-own-key"}"#, None, "expected `,` or `]`"),
        ];
        for (json, field, words) in cases {
            let (found, told) = json_fault(&serde_json::from_str::<Taken>(json).unwrap_err());
            assert_eq!(found.as_deref(), field, "{told}");
            assert!(told.starts_with(words), "{told}");
            assert!(!told.contains("my-own-key") && told.len() <= 300, "{told}");
        }
    }
}
