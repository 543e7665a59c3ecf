//! Embeddings by Gemini's models.

use bytes::Bytes;
use futures::future::try_join_all;
use http::{HeaderMap, Method, StatusCode, header};

use crate::{
    catalogue::Choice,
    error::ApiError,
    handlers::{self, Context, explain, fetch, passthrough},
    pool::key::{ApiType, Candidate},
    ports::{Inbound, Outbound, OutboundBody, Ports, Response, Timeouts},
    relay::{Attempt, Broken, Failure},
    translate::{
        embedding::{self, Shape},
        embedding_request, model,
    },
};

/// Answers a request: one upstream call for each hundred inputs.
pub async fn answer<P: Ports>(
    context: &Context<P>,
    group: &str,
    head: &passthrough::Head,
    body: &Bytes,
    choice: &Choice,
) -> Result<Response<P>, Failure> {
    let request = embedding_request::embeddings(body, &choice.model)?;
    let target = choice.target(group);
    let relay = &context.instance().relay;
    let runs = request.batches.iter().map(async |batch| {
        let mut call = Batch {
            path: format!("/v1beta/{}:batchEmbedContents", model::path(&request.model)),
            body: batch.clone(),
            timeouts: context.settings.timeouts(false),
        };
        match &head.own_key {
            Some(key) => {
                let key = Candidate::own(ApiType::Gemini, key.clone(), &context.settings.gemini_base_url);
                relay.run_own(key, &target.model, &mut call).await
            }
            None => relay.run(&target, context.started, &mut call).await,
        }
    });
    let delivered = try_join_all(runs).await?;
    let bodies: Vec<&[u8]> = delivered.iter().map(|one| &*one.output).collect();
    let shape = Shape {
        model: &request.model,
        base64: request.base64,
        count: request.count,
        estimate: request.estimate,
    };
    let (answer, tokens) = embedding::embeddings(&bodies, &shape).map_err(|error| error.told(None))?;
    let key = delivered.first().map(|one| one.key.clone()).unwrap_or_default();
    let attempts = delivered.iter().map(|one| one.attempts).sum();
    let mut rest = Some(tokens);
    for one in delivered {
        // The tokens of all batches are told together: they are the first one's in the counts.
        one.ticket.succeeded(rest.take().unwrap_or_default());
    }
    let mut response = handlers::bytes(StatusCode::OK, handlers::JSON, Bytes::from(answer));
    explain(&mut response.headers, &key, attempts);
    Ok(response)
}

/// One upstream call.
struct Batch {
    path: String,
    body: Bytes,
    timeouts: Timeouts,
}

impl<P: Ports> Attempt<P> for Batch {
    type Output = Bytes;

    fn request(&mut self, key: &Candidate) -> Result<Outbound<P::RequestBody>, ApiError> {
        let (name, value) = passthrough::credential(key)?;
        Ok(Outbound {
            method: Method::POST,
            url: format!("{}{}", key.base_url, self.path),
            headers: HeaderMap::from_iter([(header::CONTENT_TYPE, handlers::JSON), (name, value)]),
            body: OutboundBody::Full(self.body.clone()),
            timeouts: self.timeouts,
        })
    }

    async fn accept(&mut self, _: &Candidate, answer: Inbound<P::ResponseBody>) -> Result<Bytes, Broken> {
        fetch::whole(answer.body).await.map_err(Broken::Transport)
    }
}
