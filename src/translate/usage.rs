//! Tokens: Gemini's counts in OpenAI's terms.

use crate::{gemini::response::UsageMetadata, openai::answer::Usage, pool::usage::Tokens};

impl From<UsageMetadata> for Usage {
    /// OpenAI's counts add up, and thinking is part of the answer.
    fn from(counts: UsageMetadata) -> Self {
        let count = |count: Option<i64>| u64::try_from(count.unwrap_or_default()).unwrap_or_default();
        let (own, tools) = (
            count(counts.prompt_token_count),
            count(counts.tool_use_prompt_token_count),
        );
        let (answer, thoughts) = (count(counts.candidates_token_count), count(counts.thoughts_token_count));
        let prompt = own.saturating_add(tools);
        let sum = |parts: &[u64]| parts.iter().fold(0_u64, |sum, part| sum.saturating_add(*part));
        let all = sum(&[prompt, answer, thoughts]);
        let total = count(counts.total_token_count);
        let completion = if total == all || total == sum(&[own, answer, thoughts]) {
            sum(&[answer, thoughts])
        } else if total > prompt {
            // Some models count the thinking among the answer's tokens.
            total - prompt
        } else {
            sum(&[answer, thoughts])
        };
        Self {
            prompt,
            completion,
            total: prompt.saturating_add(completion),
            reasoning: thoughts.min(completion),
            cached: count(counts.cached_content_token_count).min(prompt),
            audio_in: count(Some(counts.prompt_tokens_details.0)).min(prompt),
            audio_out: count(Some(counts.candidates_tokens_details.0)).min(completion),
        }
    }
}

impl From<Usage> for Tokens {
    fn from(usage: Usage) -> Self {
        Self {
            prompt: usage.prompt,
            completion: usage.completion,
            total: usage.total,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_add_up_and_count_the_thinking() {
        // The upstream's JSON, then prompt, completion, total, reasoning, cached, audio in and out.
        let cases = [
            (
                r#"{"promptTokenCount":5,"candidatesTokenCount":2,"totalTokenCount":7}"#,
                [5, 2, 7, 0, 0, 0, 0],
            ),
            // The thinking beside the answer, and within it.
            (
                r#"{"promptTokenCount":5,"candidatesTokenCount":2,"thoughtsTokenCount":10,"totalTokenCount":17}"#,
                [5, 12, 17, 10, 0, 0, 0],
            ),
            (
                r#"{"promptTokenCount":5,"candidatesTokenCount":12,"thoughtsTokenCount":10,"totalTokenCount":17}"#,
                [5, 12, 17, 10, 0, 0, 0],
            ),
            // Nothing but thinking.
            (
                r#"{"promptTokenCount":5,"thoughtsTokenCount":10,"totalTokenCount":15}"#,
                [5, 10, 15, 10, 0, 0, 0],
            ),
            // What tools gave the model to read is of the prompt, whether or not the total counts it.
            (
                r#"{"promptTokenCount":5,"toolUsePromptTokenCount":7,"candidatesTokenCount":2,"totalTokenCount":14}"#,
                [12, 2, 14, 0, 0, 0, 0],
            ),
            (
                r#"{"promptTokenCount":5,"toolUsePromptTokenCount":7,"candidatesTokenCount":2,"totalTokenCount":7}"#,
                [12, 2, 14, 0, 0, 0, 0],
            ),
            (
                r#"{"promptTokenCount":9,"cachedContentTokenCount":8,"candidatesTokenCount":3,"totalTokenCount":12,
                    "promptTokensDetails":[{"modality":"AUDIO","tokenCount":4},{"modality":"TEXT","tokenCount":5}],
                    "candidatesTokensDetails":[{"modality":"AUDIO","tokenCount":1},{"modality":"AUDIO","tokenCount":1}]}"#,
                [9, 3, 12, 0, 8, 4, 2],
            ),
            // No total, no counts, nonsense.
            (
                r#"{"promptTokenCount":5,"candidatesTokenCount":2}"#,
                [5, 2, 7, 0, 0, 0, 0],
            ),
            ("{}", [0; 7]),
            (
                r#"{"promptTokenCount":-5,"totalTokenCount":-1,"promptTokensDetails":null,"candidatesTokensDetails":[{}]}"#,
                [0; 7],
            ),
            (
                r#"{"promptTokenCount":9223372036854775807,"candidatesTokenCount":9223372036854775807,"thoughtsTokenCount":9223372036854775807}"#,
                [i64::MAX as u64, u64::MAX - 1, u64::MAX, i64::MAX as u64, 0, 0, 0],
            ),
        ];
        for (upstream, expected) in cases {
            let counts: UsageMetadata = serde_json::from_str(upstream).unwrap();
            let usage = Usage::from(counts);
            let told = [
                usage.prompt,
                usage.completion,
                usage.total,
                usage.reasoning,
                usage.cached,
                usage.audio_in,
                usage.audio_out,
            ];
            assert_eq!(told, expected, "{upstream}");
            assert_eq!(Tokens::from(usage).total, usage.total);
        }
    }
}
