//! Messages into contents: who said what, in which order, and which result belongs to which call.

use std::borrow::Cow;

use serde_json::value::RawValue;

use super::{
    model::{Family, Gemini},
    parts::{At, Sources, plain, text},
    payload::{arguments, object, response},
    tools::Names,
};
use crate::{
    error::ApiError,
    gemini::request::{Content, Data, FunctionCall, FunctionResponse, Part, Role},
    openai::{
        Text,
        chat::Message,
        content,
        tools::{Extra, Signed},
    },
};

/// A conversation as Gemini has it.
#[derive(Debug, Default)]
pub(super) struct Conversation<'a> {
    pub(super) contents: Vec<Content<'a>>,
    /// What the system and developer messages say, one part each.
    pub(super) system: Vec<Part<'a>>,
}

/// What is needed beside the messages.
pub(super) struct Knowledge<'k> {
    pub(super) gemini: &'k Gemini<'k>,
    pub(super) names: &'k Names,
    pub(super) recall: &'k dyn Fn(&str) -> Option<String>,
}

/// Translates the messages of a request.
pub(super) fn translate<'a>(
    messages: Vec<Message<'a>>,
    knowledge: &Knowledge<'_>,
    sources: &mut Sources,
) -> Result<Conversation<'a>, ApiError> {
    let mut builder = Builder {
        knowledge,
        sources,
        done: Conversation::default(),
        open: None,
        ends_with_results: false,
    };
    for (index, message) in messages.into_iter().enumerate() {
        builder.message(message, index)?;
    }
    builder.close()?;
    let mut done = builder.done;
    complete(&mut done.contents, knowledge.gemini);
    Ok(done)
}

/// The value that Gemini takes in the place of a thought signature that is lost.
pub(super) const DUMMY: &str = "skip_thought_signature_validator";

struct Builder<'a, 'k> {
    knowledge: &'k Knowledge<'k>,
    sources: &'k mut Sources,
    done: Conversation<'a>,
    /// The calls of the last model content: their results come next.
    open: Option<Open<'a>>,
    /// The last content holds results: what the user says after it starts a new turn, and is a content of its own.
    ends_with_results: bool,
}

#[derive(Default)]
struct Open<'a> {
    calls: Vec<Call<'a>>,
    message: usize,
}

struct Call<'a> {
    id: Option<Cow<'a, str>>,
    /// As it was sent.
    name: Cow<'a, str>,
    result: Option<(FunctionResponse<'a>, Vec<Part<'a>>)>,
}

impl<'a> Builder<'a, '_> {
    fn message(&mut self, message: Message<'a>, index: usize) -> Result<(), ApiError> {
        let param = |field: &str| format!("messages[{index}].{field}");
        let role = message.role.as_ref().ok_or_else(|| ApiError::missing(&param("role")))?;
        match &**role {
            "system" | "developer" => {
                let content = message.content.ok_or_else(|| ApiError::missing(&param("content")))?;
                let joined = joined(content, index)?;
                if !joined.is_empty() {
                    self.done.system.push(text(joined));
                }
                Ok(())
            }
            "user" => {
                self.close()?;
                let content = message.content.ok_or_else(|| ApiError::missing(&param("content")))?;
                let parts = self.parts(content, index)?;
                self.push(Role::User, parts);
                Ok(())
            }
            "assistant" | "model" => self.assistant(message, index),
            "tool" => {
                let id = message
                    .tool_call_id
                    .ok_or_else(|| ApiError::missing(&param("tool_call_id")))?;
                let is_it = |call: &Call<'_>| call.id.as_deref() == Some(&*id);
                self.result(message.content, index, "tool_call_id", is_it)
            }
            "function" => {
                let name = message.name.ok_or_else(|| ApiError::missing(&param("name")))?;
                let name = self.knowledge.names.sent(name.0);
                self.result(message.content, index, "name", |call| call.name == name)
            }
            _ => {
                let known = "it is one of system, developer, user, assistant, tool and function.";
                let param = param("role");
                Err(ApiError::invalid(
                    param.clone(),
                    format!("Invalid value for '{param}': {known}"),
                ))
            }
        }
    }

    fn assistant(&mut self, message: Message<'a>, index: usize) -> Result<(), ApiError> {
        // Calls stay open while the model goes on speaking, not when the first of their results is in.
        if self
            .open
            .as_ref()
            .is_some_and(|open| open.calls.iter().any(|call| call.result.is_some()))
        {
            self.close()?;
        }
        let mut parts = match message.content {
            Some(content) => self.parts(content, index)?,
            None => Vec::new(),
        };
        if parts.is_empty()
            && let Some(refusal) = message.refusal.filter(|refusal| !refusal.is_empty())
        {
            parts.push(text(refusal.0));
        }
        for (number, image) in message.images.unwrap_or_default().into_iter().enumerate() {
            parts.push(self.sources.part(
                image,
                At {
                    message: index,
                    field: "images",
                    part: number,
                },
            )?);
        }
        let calls = message.tool_calls.unwrap_or_default();
        let has_calls = !calls.is_empty() || message.function_call.is_some();
        if let Some(signature) = message
            .extra_content
            .and_then(signature_of)
            .and_then(|text| self.usable(text))
        {
            sign_text(&mut parts, signature, has_calls);
        }
        let mut open = Vec::new();
        for (number, call) in calls.into_iter().enumerate() {
            let at = format!("messages[{index}].tool_calls[{number}]");
            let id = call.id.ok_or_else(|| ApiError::missing(&format!("{at}.id")))?.0;
            let told = call.extra_content.and_then(signature_of);
            let told = told.or_else(|| signature(call.provider_specific_fields));
            let (name, args, told) = match (call.function, call.custom) {
                (Some(function), _) => {
                    let told = told.or(function.thought_signature.map(|text| text.0));
                    let told = told.or_else(|| signature(function.provider_specific_fields));
                    let name = function
                        .name
                        .ok_or_else(|| ApiError::missing(&format!("{at}.function.name")))?;
                    (name, arguments(function.arguments.unwrap_or_default())?, told)
                }
                (None, Some(custom)) => {
                    let name = custom
                        .name
                        .ok_or_else(|| ApiError::missing(&format!("{at}.custom.name")))?;
                    (name, object("input", custom.input.unwrap_or_default())?, told)
                }
                (None, None) => return Err(ApiError::missing(&format!("{at}.function"))),
            };
            let told = told.and_then(|text| self.usable(text));
            let signature = told.or_else(|| self.usable(Cow::Owned((self.knowledge.recall)(&id)?)));
            let name = self.named(name, &format!("{at}.function.name"))?;
            parts.push(self.call(Some(id.clone()), name.clone(), args, signature));
            open.push(Call {
                id: Some(id),
                name,
                result: None,
            });
        }
        if let Some(call) = message.function_call {
            let at = format!("messages[{index}].function_call");
            let name = call.name.ok_or_else(|| ApiError::missing(&format!("{at}.name")))?;
            let name = self.named(name, &format!("{at}.name"))?;
            let signature = call.thought_signature.and_then(|text| self.usable(text.0));
            parts.push(self.call(
                None,
                name.clone(),
                arguments(call.arguments.unwrap_or_default())?,
                signature,
            ));
            open.push(Call {
                id: None,
                name,
                result: None,
            });
        }
        self.push(Role::Model, parts);
        if !open.is_empty() {
            let calls = self.open.get_or_insert_default();
            calls.calls.extend(open);
            calls.message = index;
        }
        Ok(())
    }

    /// Keeps a result until the results of all its siblings are in.
    fn result(
        &mut self,
        content: Option<content::Content<'a>>,
        index: usize,
        field: &str,
        is_it: impl Fn(&Call<'a>) -> bool,
    ) -> Result<(), ApiError> {
        let invalid = |why: &str| {
            let param = format!("messages[{index}].{field}");
            Err(ApiError::invalid(
                param.clone(),
                format!("Invalid value for '{param}': {why}"),
            ))
        };
        let content = content.ok_or_else(|| ApiError::missing(&format!("messages[{index}].content")))?;
        let (output, media) = self.output(content, index)?;
        let is_multimodal = self.knowledge.gemini.family >= Family::Gemini3;
        let calls = self.open.as_mut().map(|open| &mut open.calls);
        let mut fitting: Vec<_> = calls.into_iter().flatten().filter(|call| is_it(call)).collect();
        if fitting.is_empty() {
            return invalid(
                "messages with the role 'tool' have to answer a call in the 'tool_calls' of an assistant message before them.",
            );
        }
        let Some(call) = fitting.iter_mut().find(|call| call.result.is_none()) else {
            return invalid("this call has its result already.");
        };
        // What Gemini has to fetch itself cannot stand inside a result.
        let (inside, beside): (Vec<_>, Vec<_>) = media
            .into_iter()
            .partition(|part| is_multimodal && matches!(part.data, Data::InlineData(_)));
        let response = FunctionResponse {
            id: call.id.clone().filter(|_| is_multimodal),
            name: call.name.clone(),
            response: output,
            parts: inside,
        };
        call.result = Some((response, beside));
        Ok(())
    }

    /// Ends the turn of the open calls: their results become one content, in the calls' order.
    fn close(&mut self) -> Result<(), ApiError> {
        let Some(open) = self.open.take() else {
            return Ok(());
        };
        let unanswered = open.calls.iter().filter(|call| call.result.is_none());
        let unanswered: Vec<&str> = unanswered
            .map(|call| call.id.as_deref().unwrap_or(&call.name))
            .take(8)
            .collect();
        if !unanswered.is_empty() {
            let message = format!(
                "An assistant message with 'tool_calls' must be followed by tool messages responding to each 'tool_call_id'. The following tool_call_ids did not have response messages: {}",
                unanswered.join(", ").chars().take(400).collect::<String>()
            );
            return Err(ApiError::invalid(
                format!("messages[{}].tool_calls", open.message),
                message,
            ));
        }
        let mut parts = Vec::with_capacity(open.calls.len());
        let mut beside = Vec::new();
        for (response, media) in open.calls.into_iter().filter_map(|call| call.result) {
            parts.push(plain(Data::FunctionResponse(response)));
            beside.extend(media);
        }
        parts.extend(beside);
        self.done.contents.push(Content {
            role: Role::User,
            parts,
        });
        self.ends_with_results = true;
        Ok(())
    }

    fn push(&mut self, role: Role, parts: Vec<Part<'a>>) {
        match self.done.contents.last_mut() {
            Some(last) if last.role == role && !self.ends_with_results => last.parts.extend(parts),
            _ => self.done.contents.push(Content { role, parts }),
        }
        self.ends_with_results = false;
    }

    /// The parts of a content; empty texts are left out.
    fn parts(&mut self, content: content::Content<'a>, index: usize) -> Result<Vec<Part<'a>>, ApiError> {
        let parts = match content {
            content::Content::Text(whole) => vec![text(whole.0)],
            content::Content::Parts(parts) => {
                let mut read = Vec::with_capacity(parts.len());
                for (number, mut part) in parts.into_iter().enumerate() {
                    let signature = part.extra_content.take().and_then(signature_of);
                    let mut part = self.sources.part(
                        part,
                        At {
                            message: index,
                            field: "content",
                            part: number,
                        },
                    )?;
                    part.thought_signature = signature.and_then(|text| self.usable(text));
                    read.push(part);
                }
                read
            }
        };
        let is_empty = |part: &Part<'_>| matches!(&part.data, Data::Text(text) if text.is_empty());
        Ok(parts.into_iter().filter(|part| !is_empty(part)).collect())
    }

    /// What a tool gave back: its text as a JSON object, and its media.
    fn output(
        &mut self,
        content: content::Content<'a>,
        index: usize,
    ) -> Result<(Box<RawValue>, Vec<Part<'a>>), ApiError> {
        let mut media = self.parts(content, index)?;
        let texts: Vec<Cow<'_, str>> = media
            .extract_if(.., |part| matches!(part.data, Data::Text(_)))
            .filter_map(|part| {
                if let Data::Text(text) = part.data {
                    Some(text)
                } else {
                    None
                }
            })
            .collect();
        Ok((response(concatenated(texts))?, media))
    }

    fn named(&self, name: Text<'a>, param: &str) -> Result<Cow<'a, str>, ApiError> {
        if name.is_empty() {
            return Err(ApiError::invalid(param, "A function's name is empty."));
        }
        Ok(self.knowledge.names.sent(name.0))
    }

    fn call(
        &self,
        id: Option<Cow<'a, str>>,
        name: Cow<'a, str>,
        args: Box<RawValue>,
        signature: Option<Cow<'a, str>>,
    ) -> Part<'a> {
        let id = id.filter(|_| self.knowledge.gemini.family >= Family::Gemini3);
        Part {
            thought_signature: signature,
            ..plain(Data::FunctionCall(FunctionCall { id, name, args }))
        }
    }

    /// A signature that may be sent: models before 2.5 know none, and what is not base64 is none.
    fn usable(&self, signature: Cow<'a, str>) -> Option<Cow<'a, str>> {
        let is_known = |byte: u8| byte.is_ascii_alphanumeric() || b"+/-_".contains(&byte);
        let body = signature.trim_end_matches('=');
        let is_base64 = !body.is_empty() && body.len() % 4 != 1 && body.bytes().all(is_known);
        (is_base64 && self.knowledge.gemini.family >= Family::Gemini25).then_some(signature)
    }
}

/// What Gemini demands of the contents as a whole.
fn complete(contents: &mut Vec<Content<'_>>, gemini: &Gemini<'_>) {
    let is_call = |part: &Part<'_>| matches!(part.data, Data::FunctionCall(_));
    // A history that was cut off before the user's question.
    if contents
        .first()
        .is_some_and(|first| first.role == Role::Model && first.parts.iter().any(is_call))
    {
        contents.insert(
            0,
            Content {
                role: Role::User,
                parts: Vec::new(),
            },
        );
    }
    for content in contents.iter_mut() {
        if content.parts.is_empty() {
            content.parts.push(text(Cow::Borrowed(" ")));
        }
        if content.role == Role::Model && gemini.family >= Family::Gemini3 {
            sign(content, gemini.is_image());
        }
    }
}

/// Gemini 3 wants a signature on the first call of each of its turns, and on the images that it drew.
pub(super) fn sign(content: &mut Content<'_>, draws: bool) {
    let is_call = |part: &&mut Part<'_>| matches!(part.data, Data::FunctionCall(_));
    if let Some(first) = content.parts.iter_mut().find(is_call) {
        first.thought_signature.get_or_insert(Cow::Borrowed(DUMMY));
    }
    let is_image = |part: &&mut Part<'_>| draws && matches!(part.data, Data::InlineData(_));
    for image in content.parts.iter_mut().filter(is_image) {
        image.thought_signature.get_or_insert(Cow::Borrowed(DUMMY));
    }
}

/// A text's signature stands on the last text; where the text was empty, on an empty one.
fn sign_text<'a>(parts: &mut Vec<Part<'a>>, signature: Cow<'a, str>, has_calls: bool) {
    let last = parts.iter_mut().rev().find(|part| matches!(part.data, Data::Text(_)));
    if let Some(last) = last {
        last.thought_signature = Some(signature);
    } else if !has_calls {
        parts.push(Part {
            thought_signature: Some(signature),
            ..text(Cow::Borrowed(""))
        });
    }
}

fn signature_of(extra: Extra<'_>) -> Option<Cow<'_, str>> {
    signature(extra.google)
}

fn signature(signed: Option<Signed<'_>>) -> Option<Cow<'_, str>> {
    signed?.thought_signature.map(|text| text.0)
}

/// A content that can be text alone.
fn joined(content: content::Content<'_>, index: usize) -> Result<Cow<'_, str>, ApiError> {
    let parts = match content {
        content::Content::Text(text) => return Ok(text.0),
        content::Content::Parts(parts) => parts,
    };
    let mut texts = Vec::with_capacity(parts.len());
    for (number, part) in parts.into_iter().enumerate() {
        let param = |field: &str| format!("messages[{index}].content[{number}].{field}");
        let kind = part.kind.ok_or_else(|| ApiError::missing(&param("type")))?;
        if &*kind != "text" {
            let param = param("type");
            let message = format!("Invalid value for '{param}': messages of this role hold text alone.");
            return Err(ApiError::invalid(param, message));
        }
        texts.push(part.text.ok_or_else(|| ApiError::missing(&param("text")))?.0);
    }
    Ok(concatenated(texts))
}

fn concatenated(texts: Vec<Cow<'_, str>>) -> Cow<'_, str> {
    let mut texts = texts.into_iter();
    match (texts.next(), texts.len()) {
        (None, _) => Cow::Borrowed(""),
        (Some(only), 0) => only,
        (Some(first), _) => texts.fold(first, |whole, text| whole + text),
    }
}
