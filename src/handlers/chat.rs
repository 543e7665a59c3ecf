//! `POST /v1/chat/completions`, `/v1/completions` and `/v1/embeddings`: JSON that names a model.

use crate::{
    error::ApiError,
    handlers::{Context, Dialect, embed, generate, passthrough, read_json},
    pool::key::ApiType,
    ports::{Ports, Request, Response},
    routes::OpenAi,
};

/// Answers a request: the pools that may serve its model are asked one after the other, a later one only where the one before
/// has no keys at all.
pub async fn answer<P: Ports>(
    context: Context<P>,
    route: &OpenAi,
    group: String,
    request: Request<P::RequestBody>,
) -> Result<Response<P>, ApiError> {
    let head = passthrough::Head::of(&context, &request);
    let body = read_json(&context, request).await?;
    let model = passthrough::Peek::read(&body)?.required_model()?.into_owned();
    let choices = context.choices(&model, &group, &head).await;
    let mut without_keys = None;
    for choice in choices {
        let answer = match (choice.api_type, route) {
            (ApiType::OpenAi, route) => passthrough::json(&context, path(route), &group, &head, &body, &choice).await,
            (ApiType::Gemini, OpenAi::Embeddings) => embed::answer(&context, &group, &head, &body, &choice).await,
            (ApiType::Gemini, OpenAi::Completions) => {
                generate::answer(&context, generate::Route::Completions, &group, &head, &body, &choice).await
            }
            (ApiType::Gemini, _) => {
                generate::answer(&context, generate::Route::Chat, &group, &head, &body, &choice).await
            }
        };
        match answer {
            Ok(response) => return Ok(response),
            Err(failure) if failure.no_keys => without_keys = without_keys.or(Some(failure)),
            // Google's errors keep to Google: this client speaks OpenAI's dialect.
            Err(failure) if choice.api_type == ApiType::Gemini => {
                return Ok(failure.translated().answer(Dialect::OpenAi));
            }
            Err(failure) => return Ok(failure.answer(Dialect::OpenAi)),
        }
    }
    match without_keys {
        Some(failure) => Ok(failure.answer(Dialect::OpenAi)),
        None => Err(ApiError::model_not_found(&model, "no pool serves it.")),
    }
}

const fn path(route: &OpenAi) -> &'static str {
    match route {
        OpenAi::Embeddings => "/embeddings",
        OpenAi::Completions => "/completions",
        _ => "/chat/completions",
    }
}
