//! What `generateContent`, each event of `streamGenerateContent` and `batchEmbedContents` answer. Everything is optional,
//! whatever the documentation says, and long texts are not looked into: they lie in the answer's bytes as they came.

use std::{borrow::Cow, fmt};

use serde::{
    Deserialize, Deserializer,
    de::{SeqAccess, Visitor},
};
use serde_json::value::RawValue;

/// An answer, or one event of a streamed one.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Response<'a> {
    /// The answers, usually one.
    #[serde(borrow)]
    pub candidates: Option<Vec<Candidate<'a>>>,
    /// Says why there is none.
    #[serde(borrow)]
    pub prompt_feedback: Option<PromptFeedback<'a>>,
    /// Tokens.
    pub usage_metadata: Option<UsageMetadata>,
    /// An error, where there is no answer.
    #[serde(borrow)]
    pub error: Option<&'a RawValue>,
}

/// One answer.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Candidate<'a> {
    /// What it says.
    #[serde(borrow)]
    pub content: Option<Content<'a>>,
    /// Why it ended.
    #[serde(borrow)]
    pub finish_reason: Option<Text<'a>>,
    /// The same in words.
    #[serde(borrow)]
    pub finish_message: Option<Text<'a>>,
    /// Its number; absent for the first.
    pub index: Option<u32>,
    /// What it found where: see [`Grounding`].
    #[serde(borrow)]
    pub grounding_metadata: Option<&'a RawValue>,
    /// What it quotes: see [`Citations`].
    #[serde(borrow)]
    pub citation_metadata: Option<&'a RawValue>,
    /// How likely its tokens were: see [`Logprobs`].
    #[serde(borrow)]
    pub logprobs_result: Option<&'a RawValue>,
}

/// What an answer says.
#[derive(Debug, Default, Deserialize)]
pub struct Content<'a> {
    /// In order.
    #[serde(borrow)]
    pub parts: Option<Vec<Part<'a>>>,
}

/// A part of an answer: one of its fields, and a mark or two.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Part<'a> {
    /// Text.
    #[serde(borrow)]
    pub text: Option<Text<'a>>,
    /// Whether it is of the thinking.
    pub thought: Option<bool>,
    /// Has to come back with this part.
    #[serde(borrow)]
    pub thought_signature: Option<Text<'a>>,
    /// A call.
    #[serde(borrow)]
    pub function_call: Option<FunctionCall<'a>>,
    /// An image or sound.
    #[serde(borrow)]
    pub inline_data: Option<Blob<'a>>,
    /// Code that the model has run.
    #[serde(borrow)]
    pub executable_code: Option<ExecutableCode<'a>>,
    /// What came of it.
    #[serde(borrow)]
    pub code_execution_result: Option<CodeExecutionResult<'a>>,
}

/// A call of a function.
#[derive(Debug, Deserialize)]
pub struct FunctionCall<'a> {
    /// The call's id.
    #[serde(borrow)]
    pub id: Option<Text<'a>>,
    /// The function.
    #[serde(borrow)]
    pub name: Option<Text<'a>>,
    /// An object.
    #[serde(borrow)]
    pub args: Option<&'a RawValue>,
}

/// Bytes.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Blob<'a> {
    /// Their type.
    #[serde(borrow)]
    pub mime_type: Option<Text<'a>>,
    /// In base64.
    #[serde(borrow)]
    pub data: Option<Text<'a>>,
}

/// Code that the model has run.
#[derive(Debug, Deserialize)]
pub struct ExecutableCode<'a> {
    /// `PYTHON`.
    #[serde(borrow)]
    pub language: Option<Text<'a>>,
    /// The code.
    #[serde(borrow)]
    pub code: Option<Text<'a>>,
}

/// What came of code.
#[derive(Debug, Deserialize)]
pub struct CodeExecutionResult<'a> {
    /// What it printed.
    #[serde(borrow)]
    pub output: Option<Text<'a>>,
}

/// Why a prompt was not answered.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PromptFeedback<'a> {
    /// Absent when it was only rated.
    #[serde(borrow)]
    pub block_reason: Option<Text<'a>>,
}

/// Tokens. A count of nothing is absent.
#[derive(Clone, Copy, Debug, Default, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct UsageMetadata {
    /// In the prompt, what was cached included.
    pub prompt_token_count: Option<i64>,
    /// Of the prompt, from the cache.
    pub cached_content_token_count: Option<i64>,
    /// In the answers; with some models the thinking is counted here too.
    pub candidates_token_count: Option<i64>,
    /// What tools gave the model to read.
    pub tool_use_prompt_token_count: Option<i64>,
    /// In the thinking.
    pub thoughts_token_count: Option<i64>,
    /// Together.
    pub total_token_count: Option<i64>,
    /// Of the prompt's.
    #[serde(default)]
    pub prompt_tokens_details: AudioTokens,
    /// Of the answers'.
    #[serde(default)]
    pub candidates_tokens_details: AudioTokens,
}

/// How many of a list of counts by modality are of sound.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct AudioTokens(pub i64);

/// Where an answer's statements come from.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Grounding<'a> {
    /// The sources.
    #[serde(borrow)]
    pub grounding_chunks: Option<Vec<GroundingChunk<'a>>>,
    /// What they say of the answer.
    #[serde(borrow)]
    pub grounding_supports: Option<Vec<GroundingSupport<'a>>>,
}

/// A source.
#[derive(Debug, Deserialize)]
pub struct GroundingChunk<'a> {
    /// A page of the web.
    #[serde(borrow)]
    pub web: Option<Web<'a>>,
}

/// A page of the web.
#[derive(Debug, Deserialize)]
pub struct Web<'a> {
    /// Its address.
    #[serde(borrow)]
    pub uri: Option<Text<'a>>,
    /// Its title.
    #[serde(borrow)]
    pub title: Option<Text<'a>>,
}

/// A statement and its sources.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct GroundingSupport<'a> {
    /// Where it stands.
    #[serde(borrow)]
    pub segment: Option<Segment<'a>>,
    /// The sources' numbers.
    pub grounding_chunk_indices: Option<Vec<u32>>,
}

/// A piece of an answer's text.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Segment<'a> {
    /// The number of its part.
    pub part_index: Option<usize>,
    /// Its first byte in that part's UTF-8.
    pub start_index: Option<usize>,
    /// The byte behind its last.
    pub end_index: Option<usize>,
    /// The text itself.
    #[serde(borrow)]
    pub text: Option<Text<'a>>,
}

/// What an answer quotes.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Citations<'a> {
    /// Each quotation.
    #[serde(borrow, alias = "citations")]
    pub citation_sources: Option<Vec<Citation<'a>>>,
}

/// A quotation.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Citation<'a> {
    /// Its first byte.
    pub start_index: Option<usize>,
    /// The byte behind its last.
    pub end_index: Option<usize>,
    /// What is quoted.
    #[serde(borrow)]
    pub uri: Option<Text<'a>>,
    /// Its title.
    #[serde(borrow)]
    pub title: Option<Text<'a>>,
}

/// How likely tokens were.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Logprobs<'a> {
    /// The likeliest for each token.
    #[serde(borrow)]
    pub top_candidates: Option<Vec<TopCandidates<'a>>>,
    /// Those that were taken.
    #[serde(borrow)]
    pub chosen_candidates: Option<Vec<Token<'a>>>,
}

/// The likeliest for one token.
#[derive(Debug, Deserialize)]
pub struct TopCandidates<'a> {
    /// The likeliest first.
    #[serde(borrow)]
    pub candidates: Option<Vec<Token<'a>>>,
}

/// A token and how likely it was.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Token<'a> {
    /// The token.
    #[serde(borrow)]
    pub token: Option<Text<'a>>,
    /// The logarithm of its probability; absent when it is 0.
    #[serde(borrow)]
    pub log_probability: Option<&'a RawValue>,
}

/// What `batchEmbedContents` answers.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Embeddings<'a> {
    /// In the order of the inputs.
    pub embeddings: Option<Vec<Embedding>>,
    /// Tokens.
    pub usage_metadata: Option<UsageMetadata>,
    /// An error, where there is no answer.
    #[serde(borrow)]
    pub error: Option<&'a RawValue>,
}

/// A vector.
#[derive(Debug, Default, Deserialize)]
pub struct Embedding {
    /// Its numbers.
    pub values: Option<Vec<f32>>,
}

/// A JSON string as it stands in the answer. Most texts go on as they came, escapes and all, so that nothing has to be read
/// and written anew; whatever is no string is as good as an empty one.
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(transparent)]
pub struct Text<'a>(#[serde(borrow)] &'a RawValue);

impl<'a> Text<'a> {
    /// The text without its quotes, its escapes as they came. It can stand between the quotes of another JSON string.
    pub fn escaped(self) -> &'a str {
        let raw = self.0.get();
        raw.strip_prefix('"')
            .and_then(|raw| raw.strip_suffix('"'))
            .unwrap_or_default()
    }

    /// The text itself.
    pub fn plain(self) -> Cow<'a, str> {
        plain(self.escaped())
    }

    /// Whether it says nothing.
    pub fn is_empty(self) -> bool {
        self.escaped().is_empty()
    }
}

/// The text that escaped text stands for. What stands for no text, half of a surrogate pair, is left as it is.
pub fn plain(escaped: &str) -> Cow<'_, str> {
    if !escaped.contains('\\') {
        return Cow::Borrowed(escaped);
    }
    let text: Result<String, _> = serde_json::from_str(&format!("\"{escaped}\""));
    text.map_or(Cow::Borrowed(escaped), Cow::Owned)
}

impl<'de> Deserialize<'de> for AudioTokens {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(SumAudio)
    }
}

/// Adds the counts up as they are read: a list would be made for each event of a stream.
struct SumAudio;

impl<'de> Visitor<'de> for SumAudio {
    type Value = AudioTokens;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("counts of tokens by modality")
    }

    fn visit_unit<E>(self) -> Result<AudioTokens, E> {
        Ok(AudioTokens(0))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<AudioTokens, A::Error> {
        #[derive(Deserialize)]
        #[serde(rename_all = "camelCase")]
        struct Count<'a> {
            #[serde(borrow)]
            modality: Option<Text<'a>>,
            token_count: Option<i64>,
        }
        let mut sum = 0_i64;
        while let Some(count) = list.next_element::<Count<'de>>()? {
            if count.modality.is_some_and(|modality| modality.escaped() == "AUDIO") {
                sum = sum.saturating_add(count.token_count.unwrap_or_default());
            }
        }
        Ok(AudioTokens(sum))
    }
}
