//! Gemini's native routes, passed through with a key of the pool in the header.

use http::Method;

use crate::{
    catalogue::Choice,
    error::ApiError,
    handlers::{Context, Dialect, is_json, passthrough, read_body, upload},
    pool::key::ApiType,
    ports::{OutboundBody, Ports, Request, Response},
    routes::Gemini,
    translate::model,
};

/// Passes a request through. What names a model goes to any key that may use it, and to another when that one cannot; what
/// Google keeps for one key's project (files, caches, operations) stays with one key of the group.
pub async fn native<P: Ports>(
    context: Context<P>,
    route: Gemini,
    group: String,
    request: Request<P::RequestBody>,
) -> Result<Response<P>, ApiError> {
    let mut head = passthrough::Head::of(&context, &request);
    head.query = upload::without_token(&head.query);
    let origin = upload::Origin::of(&request, &group);
    let has_body = !matches!(request.method, Method::GET | Method::HEAD | Method::DELETE);
    let is_upload = route.path.starts_with("/upload/");
    let stream = route.verb.as_deref() == Some("streamGenerateContent");
    let mut path = route.path.clone();
    let target = match &route.model {
        Some(requested) => {
            let guess = || Choice::anywhere(ApiType::Gemini, model::bare(requested)).target(&group);
            let catalogue = context
                .app
                .catalogue_for(&context.settings, guess, context.started)
                .await;
            let name = catalogue
                .aliases
                .get(requested)
                .map_or(requested.as_str(), String::as_str);
            let name = model::bare(name);
            if name != requested && model::bare(requested) != name {
                path = path.replacen(requested.as_str(), name, 1);
            }
            Choice::anywhere(ApiType::Gemini, name).target(&group)
        }
        None if route.path.ends_with("/models") => Choice::anywhere(ApiType::Gemini, "").target(&group),
        None => passthrough::pinned(ApiType::Gemini, &group),
    };
    let mut length = None;
    let body = if !has_body {
        OutboundBody::Empty
    } else if is_json(&request.headers) && !is_upload {
        OutboundBody::Full(
            read_body(
                &context,
                &request.headers,
                request.body,
                context.settings.max_body_bytes,
            )
            .await?,
        )
    } else {
        length = Some(request.headers);
        OutboundBody::Forward(request.body)
    };
    let mut upstream = passthrough::Upstream::new(&context, &path, &head, body, stream);
    if let Some(headers) = length {
        upstream.keep_length(&headers);
    }
    let result = passthrough::forward(&context, &target, &head, upstream).await;
    let mut response = result.unwrap_or_else(|failure| failure.answer(Dialect::Gemini));
    if is_upload && head.own_key.is_none() {
        upload::lead_back(&context.settings, &origin, &mut response.headers);
    }
    Ok(response)
}
