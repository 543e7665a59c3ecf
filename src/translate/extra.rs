//! What clients say to Google past OpenAI's format: `extra_body.google`, or `google` at the top.

use serde_json::{Map, Value, json};

use crate::{
    gemini::request::{GenerationConfig, ToolConfig},
    openai::chat::{ChatRequest, Google},
};

/// Takes it out of a request. Both places may be used together; then the one at the top comes first.
pub(super) fn take<'a>(request: &mut ChatRequest<'a>) -> Google<'a> {
    let top = request.google.take().unwrap_or_default();
    let nested = request
        .extra_body
        .take()
        .and_then(|body| body.google)
        .unwrap_or_default();
    Google {
        thinking_config: top.thinking_config.or(nested.thinking_config),
        cached_content: top.cached_content.or(nested.cached_content),
        safety_settings: top.safety_settings.or(nested.safety_settings),
        generation_config: top.generation_config.or(nested.generation_config),
        tools: top.tools.or(nested.tools),
        tool_config: top.tool_config.or(nested.tool_config),
        image_config: top.image_config.or(nested.image_config),
        aspect_ratio: top.aspect_ratio.or(nested.aspect_ratio),
    }
}

/// The parts of a generation config that have a place of their own in `google`.
pub(super) fn generation<'a>(google: &mut Google<'a>) -> GenerationConfig<'a> {
    let mut config = google.generation_config.take().unwrap_or_default();
    if let Some(explicit) = google.thinking_config.take() {
        config.thinking_config = Some(explicit);
    }
    let ratio = google.aspect_ratio.take();
    let image = google.image_config.take().filter(Value::is_object);
    if let Some(mut image) = image.or_else(|| ratio.is_some().then(|| json!({}))) {
        let fields = image.as_object_mut().into_iter();
        for (fields, ratio) in fields.zip(ratio) {
            if !fields.contains_key("aspect_ratio") {
                fields.entry("aspectRatio").or_insert_with(|| json!(&*ratio));
            }
        }
        config.image_config = Some(image);
    }
    config
}

/// Tools of Google's own. Functions that stand among them are the client's affair: they go as they are.
pub(super) fn tools(google: &mut Google<'_>) -> Vec<Map<String, Value>> {
    google.tools.take().unwrap_or_default()
}

/// What the client says of calling tools in Google's words, over what it says in OpenAI's.
pub(super) fn tool_config<'a>(
    explicit: Option<ToolConfig<'a>>,
    ours: Option<ToolConfig<'a>>,
) -> Option<ToolConfig<'a>> {
    let (Some(explicit), Some(ours)) = (&explicit, &ours) else {
        return explicit.or(ours);
    };
    Some(ToolConfig {
        function_calling_config: explicit
            .function_calling_config
            .clone()
            .or(ours.function_calling_config.clone()),
        include_server_side_tool_invocations: explicit
            .include_server_side_tool_invocations
            .or(ours.include_server_side_tool_invocations),
        retrieval_config: explicit.retrieval_config.clone(),
    })
}
