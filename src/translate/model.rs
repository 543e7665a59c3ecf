//! Models' names: which are Google's, and what their names say of them.

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};

/// A Gemini model, as far as its name tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Gemini<'m> {
    /// The name as Google's paths have it.
    pub name: &'m str,
    /// Its generation.
    pub family: Family,
    /// The client's name for it asks for a web search: `gemini-2.5-flash:search`.
    pub searches: bool,
}

/// Generations of models, by what they take. The order is that of their age.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Family {
    /// Gemma.
    Gemma,
    /// Before 2.0.
    Legacy,
    /// 2.0: no thinking.
    Gemini20,
    /// 2.5: thinks by budget, signs where it likes.
    Gemini25,
    /// 3: thinks by level, wants its signatures back.
    Gemini3,
    /// 4, and every name that says nothing else: names without a number stand for the newest.
    Gemini4,
}

impl<'m> Gemini<'m> {
    /// Reads a name.
    pub fn of(name: &'m str) -> Self {
        let bare = bare(name);
        let stripped = SEARCH.iter().find_map(|suffix| bare.strip_suffix(suffix));
        let name = stripped.unwrap_or(bare);
        let family = FAMILIES
            .iter()
            .find(|(prefix, _)| name.strip_prefix(prefix).is_some_and(|rest| is_boundary(prefix, rest)))
            .map_or(Family::Gemini4, |(_, family)| *family);
        let family = if OLD.contains(&name) || name.starts_with("gemini-exp-") {
            Family::Legacy
        } else {
            family
        };
        Self {
            name,
            family,
            searches: stripped.is_some(),
        }
    }

    /// Whether it draws.
    pub fn is_image(&self) -> bool {
        self.name.contains("-image") || self.name.starts_with("nano-banana")
    }

    /// Whether it is of the larger kind.
    pub fn is_pro(&self) -> bool {
        self.name.contains("-pro")
    }

    /// Gemma 3 knows neither system instructions nor the JSON mode.
    pub fn is_gemma_3(&self) -> bool {
        self.name.starts_with("gemma-3")
    }
}

/// Whether what follows a generation's number does not make it another number.
fn is_boundary(prefix: &str, rest: &str) -> bool {
    let is_digit = |character: char| character.is_ascii_digit();
    !prefix.ends_with(is_digit) || !rest.starts_with(is_digit)
}

/// Whether a name is of one of Google's models.
pub fn is_gemini(name: &str) -> bool {
    let bare = bare(name);
    name.starts_with("models/")
        || name.starts_with("tunedModels/")
        || PREFIXES.iter().any(|prefix| bare.starts_with(prefix))
        || NAMES.contains(&bare)
}

/// Where a model is below Google's version. A name is a client's word: what is not of a name's own kind is encoded, so that it
/// stays one segment of the path and never becomes a query.
pub fn path(name: &str) -> String {
    let (folder, name) = match name.strip_prefix("tunedModels/") {
        Some(tuned) => ("tunedModels", tuned),
        None => ("models", name),
    };
    format!("{folder}/{}", utf8_percent_encode(name, NAME))
}

/// A name as Google's paths have it: without the prefixes that clients put before it.
pub fn bare(name: &str) -> &str {
    let mut bare = name;
    while let Some(rest) = ["models/", "google/", "gemini/"]
        .iter()
        .find_map(|prefix| bare.strip_prefix(prefix))
    {
        bare = rest;
    }
    bare
}

/// Endings that ask for a web search.
const SEARCH: [&str; 2] = [":search", "-search-preview"];

/// Names without a number that are not the newest.
const OLD: [&str; 2] = ["gemini-pro", "gemini-pro-vision"];

const FAMILIES: [(&str, Family); 8] = [
    ("gemini-1", Family::Legacy),
    ("gemini-2.0", Family::Gemini20),
    ("learnlm-", Family::Gemini20),
    ("gemini-2.5", Family::Gemini25),
    ("gemini-3", Family::Gemini3),
    ("gemma-", Family::Gemma),
    ("medgemma-", Family::Gemma),
    ("codegemma-", Family::Gemma),
];

/// What a model's name may hold beside letters and digits.
const NAME: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'@');

const PREFIXES: [&str; 12] = [
    "gemini-",
    "gemma-",
    "learnlm-",
    "imagen-",
    "veo-",
    "lyria-",
    "nano-banana",
    "aqa",
    "codegemma-",
    "text-embedding-00",
    "gemini-embedding",
    "medgemma-",
];

const NAMES: [&str; 3] = ["embedding-001", "embedding-gecko-001", "gemini-embedding-001"];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn googles_models_are_known_by_name() {
        for name in [
            "gemini-2.5-flash",
            "models/anything",
            "google/gemini-3-pro",
            "text-embedding-004",
            "embedding-001",
            "gemma-3-27b-it",
        ] {
            assert!(is_gemini(name), "{name}");
        }
        for name in [
            "gpt-4o",
            "text-embedding-3-small",
            "meta/llama",
            "my-gemini-2",
            "google/palm-2",
            "openai/gpt-4o",
            "",
        ] {
            assert!(!is_gemini(name), "{name}");
        }
        assert_eq!(bare("models/google/gemini-3-pro"), "gemini-3-pro");
    }

    #[test]
    fn a_name_tells_the_generation() {
        for (name, bare, family, searches) in [
            ("gemini-1.5-pro", "gemini-1.5-pro", Family::Legacy, false),
            ("gemini-pro", "gemini-pro", Family::Legacy, false),
            ("gemini-exp-1206", "gemini-exp-1206", Family::Legacy, false),
            ("models/gemini-2.0-flash", "gemini-2.0-flash", Family::Gemini20, false),
            (
                "google/gemini-2.5-flash:search",
                "gemini-2.5-flash",
                Family::Gemini25,
                true,
            ),
            ("gemini-3.1-pro-search-preview", "gemini-3.1-pro", Family::Gemini3, true),
            ("gemini-4-flash", "gemini-4-flash", Family::Gemini4, false),
            ("gemini-flash-latest", "gemini-flash-latest", Family::Gemini4, false),
            ("gemini-pro-latest", "gemini-pro-latest", Family::Gemini4, false),
            ("gemini-robotics-er", "gemini-robotics-er", Family::Gemini4, false),
            ("gemma-3-27b-it", "gemma-3-27b-it", Family::Gemma, false),
            ("gemini-35-pro", "gemini-35-pro", Family::Gemini4, false),
            ("gemini-3.5-flash-lite", "gemini-3.5-flash-lite", Family::Gemini3, false),
        ] {
            let model = Gemini::of(name);
            assert_eq!(
                (model.name, model.family, model.searches),
                (bare, family, searches),
                "{name}"
            );
        }
        assert!(Gemini::of("gemini-2.5-flash-image").is_image());
        assert!(Gemini::of("nano-banana-pro").is_image());
        assert!(!Gemini::of("gemini-2.5-flash").is_image());
    }

    #[test]
    fn a_name_is_one_segment_of_a_path() {
        for (name, expected) in [
            ("gemini-2.5-flash", "models/gemini-2.5-flash"),
            ("tunedModels/mine-1", "tunedModels/mine-1"),
            ("x/../../files?key=1#", "models/x%2F..%2F..%2Ffiles%3Fkey%3D1%23"),
            ("x:countTokens\r\n", "models/x%3AcountTokens%0D%0A"),
            ("模型", "models/%E6%A8%A1%E5%9E%8B"),
        ] {
            assert_eq!(path(name), expected);
        }
    }
}
