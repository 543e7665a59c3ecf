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

/// How the providers' keys look: a prefix, what may stand in the rest beside word characters and hyphens, how long that is.
const SHAPES: [(&str, &str, usize); 3] = [("AIza", "", 30), ("AQ.", ".", 20), ("sk-", "", 16)];

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
}
