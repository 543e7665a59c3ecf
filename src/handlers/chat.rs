//! `POST /v1/chat/completions`

use crate::{
    error::ApiError,
    handlers::{Context, Dialect, passthrough, read_json},
    pool::key::ApiType,
    ports::{Ports, Request, Response},
};

/// Answers a chat request: the pools that may serve its model are asked one after the other, a later one only where the one
/// before has no keys at all.
pub async fn chat<P: Ports>(
    context: Context<P>,
    group: String,
    request: Request<P::RequestBody>,
) -> Result<Response<P>, ApiError> {
    let head = passthrough::Head::of(&context, &request);
    let body = read_json(&context, request).await?;
    let model = passthrough::Peek::read(&body)?.required_model()?.into_owned();
    let choices = context.choices(&model, &head).await;
    let mut without_keys = None;
    for choice in choices {
        let answer = match choice.api_type {
            ApiType::OpenAi => passthrough::json(&context, "/chat/completions", &group, &head, &body, &choice).await,
            ApiType::Gemini => return Err(ApiError::model_not_found(&model, "Gemini is not spoken yet.")),
        };
        match answer {
            Ok(response) => return Ok(response),
            Err(failure) if failure.no_keys => without_keys = without_keys.or(Some(failure)),
            Err(failure) => return Ok(failure.answer(Dialect::OpenAi)),
        }
    }
    match without_keys {
        Some(failure) => Ok(failure.answer(Dialect::OpenAi)),
        None => Err(ApiError::model_not_found(&model, "no pool serves it.")),
    }
}
