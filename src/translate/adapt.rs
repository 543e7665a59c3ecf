//! What can be mended when a model refuses a request: what models take changes faster than any table of them.

use serde_json::Value;

use super::{
    messages::sign,
    model::{Family, Gemini},
    openapi,
    parts::text,
    request::Prepared,
    tools,
};
use crate::gemini::request::{Content, Data, GenerateContent, Role, Tool};

/// The fixes that were made.
#[derive(Debug, Default)]
pub(super) struct Fixes(Vec<Fix>);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fix {
    Penalties,
    Logprobs,
    Candidates,
    SystemInstruction,
    JsonMode,
    Thinking,
    ServerTools,
    Signatures,
    Schemas,
    Sampling,
    MediaResolution,
}

/// Applies every fix that a message asks for and that was not made before.
pub(super) fn adapt(prepared: &mut Prepared<'_>, message: &str) -> bool {
    let message = message.to_lowercase();
    let mut has_changed = false;
    for (fix, asks) in FIXES {
        if asks(&message) && !prepared.fixes.0.contains(&fix) {
            prepared.fixes.0.push(fix);
            has_changed |= apply(fix, prepared);
        }
    }
    has_changed
}

/// Puts what the system says before what the user says first, for models that have no place for it.
pub(super) fn speak_as_user(request: &mut GenerateContent<'_>) -> bool {
    let Some(system) = request.system_instruction.take() else {
        return false;
    };
    let mut parts = system.parts;
    for part in &mut parts {
        if let Data::Text(text) = &mut part.data {
            text.to_mut().push_str("\n\n");
        }
    }
    match request.contents.iter_mut().find(|content| content.role == Role::User) {
        Some(first) => {
            first.parts.splice(0..0, parts);
        }
        None => request.contents.insert(
            0,
            Content {
                role: Role::User,
                parts,
            },
        ),
    }
    true
}

/// Says in words that the answer shall be JSON, for models that cannot be held to it.
pub(super) fn ask_for_json(request: &mut GenerateContent<'_>, schema: Option<&Value>) {
    let mut words = "Answer with one JSON value alone, without any other text and without a code block.".to_owned();
    if let Some(schema) = schema {
        words.push_str(" It has to fit this JSON Schema:\n");
        words.push_str(&schema.to_string());
    }
    request
        .system_instruction
        .get_or_insert_default()
        .parts
        .push(text(words.into()));
}

fn apply(fix: Fix, prepared: &mut Prepared<'_>) -> bool {
    let family = prepared.family;
    let request = &mut prepared.request;
    let config = &mut request.generation_config;
    match fix {
        Fix::Penalties => config.presence_penalty.take().is_some() | config.frequency_penalty.take().is_some(),
        Fix::Logprobs => config.response_logprobs.take().is_some() | config.logprobs.take().is_some(),
        Fix::Candidates => config.candidate_count.take().is_some(),
        Fix::SystemInstruction => speak_as_user(request),
        Fix::JsonMode => {
            let was_json = config.response_mime_type.take().is_some();
            let schema = config.response_json_schema.take().or(config.response_schema.take());
            if was_json || schema.is_some() {
                ask_for_json(request, schema.as_ref());
                if prepared.fixes.0.contains(&Fix::SystemInstruction) || Gemini::of(&prepared.model).is_gemma_3() {
                    speak_as_user(&mut prepared.request);
                }
                return true;
            }
            false
        }
        Fix::Thinking => config.thinking_config.take().is_some(),
        Fix::ServerTools => drop_server_tools(request),
        Fix::Signatures => replace_signatures(&mut request.contents, &prepared.model, family),
        Fix::Schemas => sanitize(request, family),
        Fix::Sampling => {
            config.temperature.take().is_some() | config.top_p.take().is_some() | config.top_k.take().is_some()
        }
        Fix::MediaResolution => {
            let parts = request.contents.iter_mut().flat_map(|content| &mut content.parts);
            let in_parts = parts.fold(false, |found, part| part.media_resolution.take().is_some() | found);
            config.media_resolution.take().is_some() | in_parts
        }
    }
}

fn drop_server_tools(request: &mut GenerateContent<'_>) -> bool {
    let before = request.tools.len();
    request.tools.retain(|tool| matches!(tool, Tool::Functions(_)));
    if request.tools.len() == before {
        return false;
    }
    if let Some(config) = &mut request.tool_config {
        let was_together = config.include_server_side_tool_invocations.take().is_some();
        let calling = config.function_calling_config.as_ref();
        // The mode that both together need, unless the client has chosen among the functions.
        let is_ours = was_together && calling.is_some_and(|calling| *calling == tools::mode("VALIDATED"));
        if is_ours || request.tools.is_empty() {
            config.function_calling_config = None;
        }
    }
    request.tool_config = request
        .tool_config
        .take()
        .filter(|config| *config != Default::default());
    true
}

fn replace_signatures(contents: &mut [Content<'_>], model: &str, family: Family) -> bool {
    let mut has_changed = false;
    for content in contents.iter_mut().filter(|content| content.role == Role::Model) {
        let before: Vec<_> = content
            .parts
            .iter_mut()
            .map(|part| part.thought_signature.take())
            .collect();
        if family >= Family::Gemini3 {
            sign(content, Gemini::of(model).is_image());
        }
        has_changed |= content.parts.iter().map(|part| &part.thought_signature).ne(&before);
    }
    has_changed
}

fn sanitize(request: &mut GenerateContent<'_>, family: Family) -> bool {
    let numeric_enums = family >= Family::Gemini3;
    let mut has_changed = false;
    for tool in &mut request.tools {
        let Tool::Functions(functions) = tool else {
            continue;
        };
        for function in &mut functions.function_declarations {
            if let Some(schema) = function.parameters_json_schema.take() {
                function.parameters = Some(openapi::sanitize(&schema, numeric_enums, false));
                has_changed = true;
            }
        }
    }
    if let Some(schema) = request.generation_config.response_json_schema.take() {
        request.generation_config.response_schema = Some(openapi::sanitize(&schema, numeric_enums, true));
        has_changed = true;
    }
    has_changed
}

type Asks = fn(&str) -> bool;

/// What Gemini says, in lower case, and what helps.
const FIXES: [(Fix, Asks); 11] = [
    (Fix::Penalties, |message| message.contains("penalty is not enabled")),
    (Fix::Logprobs, |message| message.contains("logprobs is not enabled")),
    (Fix::Candidates, |message| {
        message.contains("multiple candidates is not enabled")
    }),
    (Fix::SystemInstruction, |message| {
        message.contains("developer instruction is not enabled")
    }),
    (Fix::JsonMode, |message| {
        message.contains("json mode is not enabled")
            || message.contains("with a response mime type: 'application/json' is unsupported")
    }),
    (Fix::Thinking, |message| {
        [
            "budget 0 is invalid",
            "only works in thinking mode",
            "thinking level",
            "thinking is not supported",
        ]
        .iter()
        .any(|words| message.contains(words))
    }),
    (Fix::ServerTools, |message| {
        [
            "tool use with function calling is unsupported",
            "to use built-in tools with function calling",
        ]
        .iter()
        .any(|words| message.contains(words))
    }),
    (Fix::Signatures, |message| {
        [
            "missing a thought_signature",
            "corrupted thought signature",
            "invalid thought signature",
        ]
        .iter()
        .any(|words| message.contains(words))
            || (message.contains("thought_signature") && message.contains("base64"))
    }),
    (Fix::Schemas, |message| {
        let place = ["tools[", "response_"].iter().any(|words| message.contains(words));
        place
            && ["unknown name", "schema", "parameters"]
                .iter()
                .any(|words| message.contains(words))
    }),
    (Fix::Sampling, |message| {
        let names = ["temperature", "top_p", "topp", "top_k", "topk"]
            .iter()
            .any(|words| message.contains(words));
        names
            && ["not supported", "unsupported", "not enabled"]
                .iter()
                .any(|words| message.contains(words))
    }),
    (Fix::MediaResolution, |message| {
        ["mediaresolution", "media_resolution", "media resolution"]
            .iter()
            .any(|words| message.contains(words))
    }),
];
