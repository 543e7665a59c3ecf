//! `POST /v1/chat/completions` as clients send it. A field that is not here means nothing to Gemini and is ignored.
#![expect(missing_docs, reason = "the fields' names are the wire's own")]

use serde::Deserialize;
use serde_json::Value;

use super::{
    Present, Text, Texts, Whole,
    content::{Content, Part},
    tools::{Extra, Function, FunctionCall, Tool, ToolCall, ToolChoice},
};
use crate::gemini::request::{GenerationConfig, SafetySetting, ThinkingConfig, ToolConfig};

/// The body of a request.
#[derive(Debug, Default, Deserialize)]
pub struct ChatRequest<'a> {
    #[serde(borrow)]
    pub messages: Option<Vec<Message<'a>>>,
    pub stream: Option<bool>,
    pub stream_options: Option<StreamOptions>,
    pub n: Option<Whole>,
    pub max_completion_tokens: Option<Whole>,
    pub max_tokens: Option<Whole>,
    pub temperature: Option<f64>,
    pub top_p: Option<f64>,
    pub top_k: Option<Whole>,
    #[serde(borrow)]
    pub stop: Option<Texts<'a>>,
    pub seed: Option<Whole>,
    pub presence_penalty: Option<f64>,
    pub frequency_penalty: Option<f64>,
    pub logprobs: Option<bool>,
    pub top_logprobs: Option<Whole>,
    #[serde(borrow)]
    pub response_format: Option<ResponseFormat<'a>>,
    #[serde(borrow)]
    pub tools: Option<Vec<Tool<'a>>>,
    #[serde(borrow)]
    pub functions: Option<Vec<Function<'a>>>,
    #[serde(borrow)]
    pub tool_choice: Option<ToolChoice<'a>>,
    #[serde(borrow)]
    pub function_call: Option<ToolChoice<'a>>,
    #[serde(borrow)]
    pub reasoning_effort: Option<Text<'a>>,
    #[serde(borrow)]
    pub reasoning: Option<Reasoning<'a>>,
    #[serde(borrow)]
    pub modalities: Option<Vec<Text<'a>>>,
    #[serde(borrow)]
    pub audio: Option<AudioOut<'a>>,
    pub web_search_options: Option<Present>,
    #[serde(borrow)]
    pub service_tier: Option<Text<'a>>,
    #[serde(borrow)]
    pub google: Option<Google<'a>>,
    #[serde(borrow)]
    pub extra_body: Option<ExtraBody<'a>>,
}

#[derive(Clone, Copy, Debug, Default, Deserialize)]
pub struct StreamOptions {
    pub include_usage: Option<bool>,
}

#[derive(Debug, Default, Deserialize)]
pub struct Message<'a> {
    #[serde(borrow)]
    pub role: Option<Text<'a>>,
    #[serde(borrow)]
    pub content: Option<Content<'a>>,
    #[serde(borrow)]
    pub refusal: Option<Text<'a>>,
    #[serde(borrow)]
    pub name: Option<Text<'a>>,
    #[serde(borrow)]
    pub tool_calls: Option<Vec<ToolCall<'a>>>,
    #[serde(borrow)]
    pub tool_call_id: Option<Text<'a>>,
    #[serde(borrow)]
    pub function_call: Option<FunctionCall<'a>>,
    /// Images that the model drew, as they are in answers.
    #[serde(borrow)]
    pub images: Option<Vec<Part<'a>>>,
    #[serde(borrow)]
    pub extra_content: Option<Extra<'a>>,
}

#[derive(Debug, Default, Deserialize)]
pub struct ResponseFormat<'a> {
    #[serde(borrow, rename = "type")]
    pub kind: Option<Text<'a>>,
    pub json_schema: Option<JsonSchema>,
}

#[derive(Debug, Default, Deserialize)]
pub struct JsonSchema {
    pub schema: Option<Value>,
}

#[derive(Debug, Default, Deserialize)]
pub struct Reasoning<'a> {
    #[serde(borrow)]
    pub effort: Option<Text<'a>>,
}

#[derive(Debug, Default, Deserialize)]
pub struct AudioOut<'a> {
    #[serde(borrow)]
    pub voice: Option<Text<'a>>,
    #[serde(borrow)]
    pub format: Option<Text<'a>>,
}

/// The field that the Python client makes of `extra_body={"extra_body": {"google": ...}}`.
#[derive(Clone, Debug, Default, Deserialize)]
pub struct ExtraBody<'a> {
    #[serde(borrow)]
    pub google: Option<Google<'a>>,
}

/// What Google's own OpenAI layer takes beside OpenAI's fields.
#[derive(Clone, Debug, Default, Deserialize)]
pub struct Google<'a> {
    #[serde(borrow, alias = "thinkingConfig")]
    pub thinking_config: Option<ThinkingConfig<'a>>,
    #[serde(borrow, alias = "cachedContent")]
    pub cached_content: Option<Text<'a>>,
    #[serde(borrow, alias = "safetySettings")]
    pub safety_settings: Option<Vec<SafetySetting<'a>>>,
    #[serde(borrow, alias = "generationConfig")]
    pub generation_config: Option<GenerationConfig<'a>>,
    pub tools: Option<Vec<serde_json::Map<String, Value>>>,
    #[serde(borrow, alias = "toolConfig")]
    pub tool_config: Option<ToolConfig<'a>>,
    #[serde(alias = "imageConfig")]
    pub image_config: Option<Value>,
    #[serde(borrow, alias = "aspectRatio")]
    pub aspect_ratio: Option<Text<'a>>,
}
