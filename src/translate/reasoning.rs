//! How long a model thinks: efforts as OpenAI names them, levels and budgets as Gemini does.

use std::borrow::Cow;

use super::model::{Family, Gemini};
use crate::{
    error::ApiError,
    gemini::request::ThinkingConfig,
    openai::{Text, chat::ChatRequest},
};

/// OpenAI's efforts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Effort {
    None,
    Minimal,
    Low,
    Medium,
    High,
}

impl Effort {
    /// The effort that a request asks for.
    pub(super) fn of(request: &ChatRequest<'_>) -> Result<Option<Self>, ApiError> {
        let nested = request
            .reasoning
            .as_ref()
            .and_then(|reasoning| reasoning.effort.as_ref());
        let (word, param) = match (&request.reasoning_effort, nested) {
            (Some(word), _) => (word, "reasoning_effort"),
            (None, Some(word)) => (word, "reasoning.effort"),
            (None, None) => return Ok(None),
        };
        match &**word {
            "none" => Ok(Some(Self::None)),
            "minimal" => Ok(Some(Self::Minimal)),
            "low" => Ok(Some(Self::Low)),
            "medium" => Ok(Some(Self::Medium)),
            "high" | "xhigh" | "max" => Ok(Some(Self::High)),
            _ => {
                let known = "it is one of none, minimal, low, medium, high and xhigh.";
                Err(ApiError::invalid(
                    param,
                    format!("Invalid value for '{param}': {known}"),
                ))
            }
        }
    }

    /// The level for a model that thinks by levels.
    fn level(self, gemini: &Gemini<'_>) -> &'static str {
        let is_3 = gemini.family == Family::Gemini3;
        match self {
            Self::None | Self::Minimal if is_3 && gemini.name.contains("flash") => "minimal",
            Self::None | Self::Minimal | Self::Low => "low",
            // The first of the 3 Pro knows no medium.
            Self::Medium if gemini.name.starts_with("gemini-3-pro") => "high",
            Self::Medium => "medium",
            Self::High => "high",
        }
    }

    /// The budget for a model that thinks by tokens.
    fn budget(self, gemini: &Gemini<'_>) -> i32 {
        match self {
            // Pro models cannot be kept from thinking.
            Self::None if gemini.is_pro() => 128,
            Self::None => 0,
            Self::Minimal | Self::Low => 1024,
            Self::Medium => 8192,
            Self::High => 24_576,
        }
    }

    fn of_budget(budget: i32) -> Option<Self> {
        match budget {
            ..0 => None,
            0 => Some(Self::None),
            1..=1024 => Some(Self::Low),
            1025..=8192 => Some(Self::Medium),
            8193.. => Some(Self::High),
        }
    }

    fn of_level(level: &str) -> Option<Self> {
        match level.to_ascii_lowercase().as_str() {
            "minimal" => Some(Self::Minimal),
            "low" => Some(Self::Low),
            "medium" => Some(Self::Medium),
            "high" => Some(Self::High),
            _ => None,
        }
    }
}

/// What is sent: what the client said in Gemini's own words comes before the effort. A model gets a level or a budget,
/// whichever it knows; never both, which is refused.
pub(super) fn thinking<'a>(
    gemini: &Gemini<'_>,
    effort: Option<Effort>,
    explicit: Option<ThinkingConfig<'a>>,
) -> Option<ThinkingConfig<'a>> {
    let draws_without_thought = gemini.is_image() && gemini.family <= Family::Gemini25;
    if gemini.family < Family::Gemini25 || draws_without_thought {
        return None;
    }
    let ThinkingConfig {
        include_thoughts,
        thinking_budget,
        thinking_level,
    } = explicit.unwrap_or_default();
    let says_nothing = thinking_budget.is_none() && thinking_level.is_none();
    let effort = effort.filter(|_| says_nothing);
    let config = if gemini.family == Family::Gemini25 {
        let asked = effort.or_else(|| Effort::of_level(thinking_level.as_deref()?));
        ThinkingConfig {
            include_thoughts,
            thinking_budget: thinking_budget.or_else(|| asked.map(|effort| effort.budget(gemini))),
            thinking_level: None,
        }
    } else {
        let asked = effort.or_else(|| Effort::of_budget(thinking_budget?));
        let asked = || asked.map(|effort| Text(Cow::Borrowed(effort.level(gemini))));
        ThinkingConfig {
            include_thoughts,
            thinking_budget: None,
            thinking_level: thinking_level.or_else(asked),
        }
    };
    (config != ThinkingConfig::default()).then_some(config)
}

#[cfg(test)]
mod tests {
    use super::*;

    const EFFORTS: [Effort; 5] = [Effort::None, Effort::Minimal, Effort::Low, Effort::Medium, Effort::High];

    #[test]
    fn an_effort_is_a_level_or_a_budget_by_model() {
        let cases: [(&str, [&str; 5]); 12] = [
            ("gemini-3.1-pro", ["low", "low", "low", "medium", "high"]),
            ("gemini-3-pro-preview", ["low", "low", "low", "high", "high"]),
            ("gemini-3-flash", ["minimal", "minimal", "low", "medium", "high"]),
            ("gemini-3.5-flash-lite", ["minimal", "minimal", "low", "medium", "high"]),
            ("gemini-4-pro", ["low", "low", "low", "medium", "high"]),
            ("gemini-flash-latest", ["low", "low", "low", "medium", "high"]),
            ("gemini-2.5-flash", ["0", "1024", "1024", "8192", "24576"]),
            ("gemini-2.5-flash-lite", ["0", "1024", "1024", "8192", "24576"]),
            ("gemini-2.5-pro", ["128", "1024", "1024", "8192", "24576"]),
            ("gemini-2.0-flash", [""; 5]),
            ("gemma-3-27b-it", [""; 5]),
            ("gemini-2.5-flash-image", [""; 5]),
        ];
        for (name, expected) in cases {
            let gemini = Gemini::of(name);
            for (effort, expected) in EFFORTS.into_iter().zip(expected) {
                let config = thinking(&gemini, Some(effort), None).unwrap_or_default();
                let budget = config.thinking_budget.map(|budget| budget.to_string());
                let level = config.thinking_level.map(|level| level.to_string());
                assert!(budget.is_none() || level.is_none(), "never both");
                assert_eq!(budget.or(level).unwrap_or_default(), expected, "{name} {effort:?}");
            }
        }
    }

    #[test]
    fn what_is_said_in_geminis_words_wins_and_is_turned_into_what_the_model_knows() {
        let budget = |budget| ThinkingConfig {
            thinking_budget: Some(budget),
            ..ThinkingConfig::default()
        };
        let level = |level| ThinkingConfig {
            thinking_level: Some(Text(Cow::Borrowed(level))),
            ..ThinkingConfig::default()
        };
        let thoughts = || ThinkingConfig {
            include_thoughts: Some(true),
            ..ThinkingConfig::default()
        };
        let all = ThinkingConfig {
            include_thoughts: Some(true),
            ..level("high")
        };
        for (name, effort, explicit, expected) in [
            ("gemini-2.5-pro", Some(Effort::Low), budget(2000), Some(budget(2000))),
            ("gemini-2.5-pro", None, level("MEDIUM"), Some(budget(8192))),
            ("gemini-3-flash", Some(Effort::Low), level("HIGH"), Some(level("HIGH"))),
            ("gemini-3-flash", None, budget(0), Some(level("minimal"))),
            ("gemini-3-flash", None, budget(512), Some(level("low"))),
            ("gemini-3-flash", None, budget(4096), Some(level("medium"))),
            ("gemini-3-flash", None, budget(-1), None),
            ("gemini-3-flash", Some(Effort::High), thoughts(), Some(all)),
            ("gemini-3-flash", None, thoughts(), Some(thoughts())),
            ("gemini-2.0-flash", None, thoughts(), None),
        ] {
            assert_eq!(
                thinking(&Gemini::of(name), effort, Some(explicit.clone())),
                expected,
                "{name} {explicit:?}"
            );
        }
    }
}
