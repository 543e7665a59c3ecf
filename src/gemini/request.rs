//! `generateContent` and `batchEmbedContents` as they are sent. Nothing is sent that is not here: Gemini refuses a request
//! for one name that it does not know.
#![expect(missing_docs, reason = "the fields' names are the wire's own")]

use std::borrow::Cow;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, value::RawValue};

use crate::openai::Text;

/// The body of `generateContent` and `streamGenerateContent`.
#[derive(Debug, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct GenerateContent<'a> {
    pub contents: Vec<Content<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub system_instruction: Option<Parts<'a>>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub tools: Vec<Tool<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tool_config: Option<ToolConfig<'a>>,
    #[serde(skip_serializing_if = "GenerationConfig::is_empty")]
    pub generation_config: GenerationConfig<'a>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub safety_settings: Option<Vec<SafetySetting<'a>>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cached_content: Option<Text<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub service_tier: Option<Text<'a>>,
}

/// What one side said.
#[derive(Debug, Serialize)]
pub struct Content<'a> {
    pub role: Role,
    pub parts: Vec<Part<'a>>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    User,
    Model,
}

#[derive(Debug, Default, Serialize)]
pub struct Parts<'a> {
    pub parts: Vec<Part<'a>>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Part<'a> {
    #[serde(flatten)]
    pub data: Data<'a>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub thought_signature: Option<Cow<'a, str>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub media_resolution: Option<PartResolution>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum Data<'a> {
    Text(Cow<'a, str>),
    InlineData(Blob<'a>),
    FileData(FileData<'a>),
    FunctionCall(FunctionCall<'a>),
    FunctionResponse(FunctionResponse<'a>),
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Blob<'a> {
    pub mime_type: Cow<'a, str>,
    /// In base64.
    pub data: Cow<'a, str>,
    /// The download that fills this in.
    #[serde(skip)]
    pub download: Option<usize>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct FileData<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mime_type: Option<Cow<'a, str>>,
    pub file_uri: Cow<'a, str>,
}

#[derive(Debug, Serialize)]
pub struct FunctionCall<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub id: Option<Cow<'a, str>>,
    pub name: Cow<'a, str>,
    pub args: Box<RawValue>,
}

#[derive(Debug, Serialize)]
pub struct FunctionResponse<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub id: Option<Cow<'a, str>>,
    pub name: Cow<'a, str>,
    pub response: Box<RawValue>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub parts: Vec<Part<'a>>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct PartResolution {
    pub level: &'static str,
}

/// One entry of `tools`: functions, or a tool of Google's own.
#[derive(Debug, Serialize)]
#[serde(untagged)]
pub enum Tool<'a> {
    Functions(Functions<'a>),
    BuiltIn(Map<String, Value>),
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Functions<'a> {
    pub function_declarations: Vec<FunctionDeclaration<'a>>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct FunctionDeclaration<'a> {
    pub name: Cow<'a, str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub description: Option<Text<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub parameters_json_schema: Option<Value>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub parameters: Option<Value>,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all(serialize = "camelCase"))]
pub struct ToolConfig<'a> {
    #[serde(borrow, alias = "functionCallingConfig", skip_serializing_if = "Option::is_none")]
    pub function_calling_config: Option<FunctionCallingConfig<'a>>,
    #[serde(alias = "includeServerSideToolInvocations", skip_serializing_if = "Option::is_none")]
    pub include_server_side_tool_invocations: Option<bool>,
    #[serde(alias = "retrievalConfig", skip_serializing_if = "Option::is_none")]
    pub retrieval_config: Option<Value>,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all(serialize = "camelCase"))]
pub struct FunctionCallingConfig<'a> {
    #[serde(borrow, skip_serializing_if = "Option::is_none")]
    pub mode: Option<Text<'a>>,
    #[serde(
        borrow,
        default,
        alias = "allowedFunctionNames",
        skip_serializing_if = "Option::is_none"
    )]
    pub allowed_function_names: Option<Vec<Text<'a>>>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SafetySetting<'a> {
    #[serde(borrow)]
    pub category: Text<'a>,
    #[serde(borrow)]
    pub threshold: Text<'a>,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all(serialize = "camelCase"))]
pub struct ThinkingConfig<'a> {
    #[serde(alias = "includeThoughts", skip_serializing_if = "Option::is_none")]
    pub include_thoughts: Option<bool>,
    #[serde(alias = "thinkingBudget", skip_serializing_if = "Option::is_none")]
    pub thinking_budget: Option<i32>,
    #[serde(borrow, alias = "thinkingLevel", skip_serializing_if = "Option::is_none")]
    pub thinking_level: Option<Text<'a>>,
}

/// The fields of `generationConfig`, and how one is laid over another.
macro_rules! generation_config {
    ($($(#[$attribute:meta])* $name:ident: $type:ty,)*) => {
        /// How an answer is made. Clients may send it too, in either spelling of its names.
        #[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
        #[serde(rename_all(serialize = "camelCase"))]
        pub struct GenerationConfig<'a> {
            $(
                $(#[$attribute])*
                #[serde(skip_serializing_if = "Option::is_none")]
                pub $name: Option<$type>,
            )*
        }

        impl GenerationConfig<'_> {
            /// Lays another over this one: what the other has wins.
            pub fn overlay(&mut self, other: Self) {
                $(
                    if other.$name.is_some() {
                        self.$name = other.$name;
                    }
                )*
            }

            /// Whether there is nothing to send.
            pub fn is_empty(&self) -> bool {
                true $(&& self.$name.is_none())*
            }
        }
    };
}

generation_config! {
    #[serde(alias = "maxOutputTokens")]
    max_output_tokens: i64,
    temperature: f64,
    #[serde(alias = "topP")]
    top_p: f64,
    #[serde(alias = "topK")]
    top_k: i64,
    #[serde(borrow, alias = "stopSequences")]
    stop_sequences: Vec<Text<'a>>,
    #[serde(alias = "candidateCount")]
    candidate_count: i64,
    seed: i64,
    #[serde(alias = "presencePenalty")]
    presence_penalty: f64,
    #[serde(alias = "frequencyPenalty")]
    frequency_penalty: f64,
    #[serde(alias = "responseLogprobs")]
    response_logprobs: bool,
    logprobs: i64,
    #[serde(borrow, alias = "responseMimeType")]
    response_mime_type: Text<'a>,
    #[serde(alias = "responseJsonSchema")]
    response_json_schema: Value,
    #[serde(alias = "responseSchema")]
    response_schema: Value,
    #[serde(borrow, alias = "responseModalities")]
    response_modalities: Vec<Text<'a>>,
    #[serde(alias = "speechConfig")]
    speech_config: Value,
    #[serde(borrow, alias = "mediaResolution")]
    media_resolution: Text<'a>,
    #[serde(borrow, alias = "thinkingConfig")]
    thinking_config: ThinkingConfig<'a>,
    #[serde(alias = "imageConfig")]
    image_config: Value,
    #[serde(alias = "enableEnhancedCivicAnswers")]
    enable_enhanced_civic_answers: bool,
}

/// The body of `batchEmbedContents`.
#[derive(Debug, Serialize)]
pub struct BatchEmbedContents<'a> {
    pub requests: Vec<EmbedContent<'a>>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct EmbedContent<'a> {
    /// With `models/` before it, and the same as in the path.
    pub model: &'a str,
    pub content: Parts<'a>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub output_dimensionality: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub task_type: Option<&'a str>,
}
