//! `POST /v1/chat/completions`, `/v1/completions` and `/v1/embeddings`: JSON that names a model.

use crate::{
    error::ApiError,
    handlers::{Context, Dialect, passthrough, read_json},
    pool::key::ApiType,
    ports::{Ports, Request, Response},
};

/// Answers a request: the pools that may serve its model are asked one after the other, a later one only where the one before
/// has no keys at all. Gemini's models are reached through Google's own OpenAI layer.
pub async fn answer<P: Ports>(
    context: Context<P>,
    path: &str,
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
            ApiType::OpenAi => passthrough::json(&context, path, &group, &head, &body, &choice).await,
            ApiType::Gemini => {
                let path = format!("{}{path}", passthrough::GOOGLE_OPENAI);
                let answer = passthrough::json(&context, &path, &group, &head, &body, &choice).await;
                // Google's errors keep Google's shape even there.
                answer.map_err(crate::relay::Failure::translated)
            }
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
