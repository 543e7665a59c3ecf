//! Legacy completions: each prompt is a chat of one message.

use super::request::{Prepared, translate};
use crate::{
    error::ApiError,
    openai::{
        self, Text, Texts, Whole,
        chat::{ChatRequest, Message},
        completions::CompletionRequest,
        content::Content,
    },
};

/// What a completion request became.
#[derive(Debug)]
pub struct PreparedCompletion<'a> {
    /// One for each prompt, in their order. Each gives `n` choices.
    pub requests: Vec<Prepared<'a>>,
    /// What the choices of each begin with: its prompt where `echo` was asked for, else nothing.
    pub echo: Vec<String>,
}

/// Reads a completion request and translates it for a model.
pub fn prepare_completion<'a>(body: &'a [u8], model: &str) -> Result<PreparedCompletion<'a>, ApiError> {
    let mut request: CompletionRequest<'a> = openai::read(body)?;
    let prompts = request
        .prompt
        .take()
        .map(Texts::into_vec)
        .ok_or_else(|| ApiError::missing("prompt"))?;
    let n = request.n.map_or(1, |Whole(n)| n.max(1));
    let choices = i64::try_from(prompts.len()).unwrap_or(i64::MAX).saturating_mul(n);
    if prompts.is_empty() || choices > MOST_CHOICES {
        let message = format!("'prompt' has to hold between 1 and {MOST_CHOICES} prompts, counted 'n' times.");
        return Err(ApiError::invalid("prompt", message));
    }
    let mut requests = Vec::with_capacity(prompts.len());
    let mut echo = Vec::with_capacity(prompts.len());
    for prompt in prompts {
        echo.push(if request.echo == Some(true) {
            prompt.to_string()
        } else {
            String::new()
        });
        let size = prompt.len() + request.suffix.as_deref().map_or(0, str::len);
        requests.push(translate(chat(request.clone(), prompt), model, &|_| None, size)?);
    }
    Ok(PreparedCompletion { requests, echo })
}

fn chat<'a>(request: CompletionRequest<'a>, prompt: Text<'a>) -> ChatRequest<'a> {
    let said = |role: &'static str, text: Text<'a>| Message {
        role: Some(Text::from_static(role)),
        content: Some(Content::Text(text)),
        ..Message::default()
    };
    let mut messages = Vec::new();
    if let Some(suffix) = request.suffix.filter(|suffix| !suffix.is_empty()) {
        let task = format!(
            "Write only the text that stands between the user's text and the text below, so that both join to one.\n\n{}",
            &*suffix
        );
        messages.push(said("system", Text(task.into())));
    }
    messages.push(said("user", prompt));
    ChatRequest {
        messages: Some(messages),
        stream: request.stream,
        stream_options: request.stream_options,
        n: request.n,
        max_tokens: request.max_tokens,
        temperature: request.temperature,
        top_p: request.top_p,
        top_k: request.top_k,
        stop: request.stop,
        seed: request.seed,
        presence_penalty: request.presence_penalty,
        frequency_penalty: request.frequency_penalty,
        reasoning_effort: request.reasoning_effort,
        google: request.google,
        extra_body: request.extra_body,
        ..ChatRequest::default()
    }
}

/// Choices that one request may ask for: each is a call.
const MOST_CHOICES: i64 = 16;
