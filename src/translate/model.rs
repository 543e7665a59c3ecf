//! Models' names: which are Google's.

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
}
