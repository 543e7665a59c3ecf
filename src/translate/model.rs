//! Models' names: which are Google's, and what a family of them can do.

/// Whether a name is of one of Google's models.
pub fn is_gemini(name: &str) -> bool {
    let bare = bare(name);
    name.starts_with("models/")
        || name.starts_with("tunedModels/")
        || PREFIXES.iter().any(|prefix| bare.starts_with(prefix))
        || NAMES.contains(&bare)
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

/// A generation of models that take the same parameters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Family {
    /// 2.0 and before: no thinking; penalties and logprobs allowed.
    Two,
    /// 2.5: a thinking budget.
    TwoFive,
    /// 3 and what is newer: thinking levels, thought signatures on function calls, ids of function calls.
    Three,
    /// 4: as 3, with other levels.
    Four,
    /// Gemma: no system instruction, no JSON mode, no function calling.
    Gemma,
}

impl Family {
    /// The family of a bare name. What is not known is taken for the newest generation: models come faster than tables, and
    /// a refusal is mended by [`super::adapt`].
    pub fn of(bare: &str) -> Self {
        let is = |prefixes: &[&str]| prefixes.iter().any(|prefix| bare.starts_with(prefix));
        if is(&["gemma-"]) {
            Self::Gemma
        } else if is(&["gemini-1", "gemini-pro", "gemini-exp-", "gemini-2.0-", "learnlm-"])
            && !bare.ends_with("-latest")
        {
            Self::Two
        } else if is(&["gemini-2.5-"]) {
            Self::TwoFive
        } else if is(&["gemini-4"]) {
            Self::Four
        } else {
            Self::Three
        }
    }

    /// Whether function calls carry ids and thought signatures.
    pub const fn has_signatures(self) -> bool {
        matches!(self, Self::Three | Self::Four)
    }
}

/// Whether a model makes images.
pub fn makes_images(bare: &str) -> bool {
    bare.contains("-image") || bare.starts_with("nano-banana")
}

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
    fn an_unknown_model_is_of_the_newest_generation() {
        let cases = [
            ("gemini-1.5-pro", Family::Two),
            ("gemini-2.0-flash", Family::Two),
            ("gemini-2.5-pro", Family::TwoFive),
            ("gemini-3.1-pro-preview", Family::Three),
            ("gemini-flash-latest", Family::Three),
            ("gemini-pro-latest", Family::Three),
            ("gemini-4-pro", Family::Four),
            ("gemini-9", Family::Three),
            ("gemma-3-27b-it", Family::Gemma),
        ];
        for (name, family) in cases {
            assert_eq!(Family::of(name), family, "{name}");
        }
    }
}
