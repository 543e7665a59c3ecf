//! Chat and legacy completions with Gemini's models: translated, sent, and translated back, streamed or whole.

mod attempt;
mod stream;

use std::borrow::Cow;

use bytes::Bytes;
use futures::{
    future::try_join_all,
    stream::{self as futures_stream, StreamExt as _},
};
use http::{HeaderMap, HeaderValue, StatusCode, header};

use self::{
    attempt::{Attempted, Call, Streamed, Whole, Work},
    stream::{Live, pump},
};
use crate::{
    app::App,
    catalogue::Choice,
    error::ApiError,
    handlers::{self, Context, download, explain, passthrough},
    pool::{Selection, Target, key::ApiType, key::Candidate},
    ports::{Body, Ports, Response},
    relay::{Attempt, Delivered, Failure},
    translate::{
        completions, model,
        request::{self, Prepared},
        response::{self, Kind, Shape},
    },
};

/// Which of OpenAI's routes is answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Route {
    /// `/v1/chat/completions`
    Chat,
    /// `/v1/completions`
    Completions,
}

/// Answers a request with a model of Gemini's.
pub async fn answer<P: Ports>(
    context: &Context<P>,
    route: Route,
    group: &str,
    head: &passthrough::Head,
    body: &Bytes,
    choice: &Choice,
) -> Result<Response<P>, Failure> {
    let app = &context.app;
    let recall = |id: &str| app.recall_signature(id, context.started);
    let (requests, echo) = match route {
        Route::Chat => (vec![request::prepare(body, &choice.model, &recall)?], Vec::new()),
        Route::Completions => {
            let completions = completions::prepare_completion(body, &choice.model)?;
            let n = completions.requests.first().map_or(1, |prepared| prepared.n as usize);
            let echo = completions.echo.into_iter().map(Cow::Owned);
            let each = echo.flat_map(|prompt| std::iter::repeat_n(prompt, n)).collect();
            (completions.requests, each)
        }
    };
    let mut works = Vec::with_capacity(requests.len());
    for mut prepared in requests {
        fill(context, &mut prepared).await?;
        works.push(Work::new(prepared));
    }
    let Some(first) = works.first() else {
        return Err(ApiError::missing("prompt").into());
    };
    let (stream, include_usage, n, pinned, pcm) = {
        let prepared = first.prepared.borrow();
        (
            prepared.stream,
            prepared.include_usage,
            prepared.n,
            prepared.pinned,
            prepared.pcm,
        )
    };
    let names = first.prepared.borrow().names.clone();
    let seed = context.ports().seed();
    let call = Call {
        target: target(context, group, choice, body, pinned)?,
        path: format!(
            "/v1beta/{}:{}",
            model::path(&first.prepared.borrow().model),
            if stream {
                "streamGenerateContent?alt=sse"
            } else {
                "generateContent"
            }
        ),
        timeouts: context.settings.timeouts(stream),
        id: match route {
            Route::Chat => format!("chatcmpl-{seed:016x}"),
            Route::Completions => format!("cmpl-{seed:016x}"),
        },
        created: context.started.0.div_euclid(1000),
        // What an alias stands for, as an upstream that is passed through would tell it.
        model: first.prepared.borrow().model.clone(),
        names,
        seed,
        kind: match route {
            Route::Chat => Kind::Chat,
            Route::Completions => Kind::Completion { echo: &echo },
        },
        include_usage,
        pcm,
    };
    // Each of several answers is a call of its own: Gemini's models give one a call.
    let calls: Vec<&Work> = works
        .iter()
        .flat_map(|work| std::iter::repeat_n(work, n as usize))
        .collect();
    if stream {
        streamed(context, head, &call, &calls).await
    } else {
        whole(context, head, &call, &calls).await
    }
}

/// Fetches what the request names by URL.
async fn fill<P: Ports>(context: &Context<P>, prepared: &mut Prepared<'_>) -> Result<(), ApiError> {
    let wanted = prepared.downloads.clone();
    let fetches = wanted
        .iter()
        .map(|wanted| download::fetch(context, &wanted.url, &wanted.param));
    // Few at once: each may be large, and what is too much together is noticed as they come in.
    let mut files = futures_stream::iter(fetches).buffered(DOWNLOADS_AT_ONCE).enumerate();
    while let Some((number, file)) = files.next().await {
        let file = file?;
        prepared.inline(number, &file.mime, &file.data)?;
    }
    Ok(())
}

fn target<P: Ports>(
    context: &Context<P>,
    group: &str,
    choice: &Choice,
    body: &[u8],
    pinned: bool,
) -> Result<Target, ApiError> {
    let sticky = match context.settings.selection {
        _ if pinned => Some(passthrough::hash(group)),
        Selection::Sticky => passthrough::Peek::read(body)?.conversation(),
        _ => None,
    };
    Ok(Target {
        sticky,
        pinned,
        ..choice.target(group)
    })
}

async fn whole<P: Ports>(
    context: &Context<P>,
    head: &passthrough::Head,
    call: &Call<'_>,
    works: &[&Work<'_>],
) -> Result<Response<P>, Failure> {
    let runs = (0..).zip(works).map(async |(number, work)| {
        let mut whole = Whole(Attempted::new(call, work, number, works.len()));
        run(context, head, call, &mut whole).await
    });
    let delivered = try_join_all(runs).await?;
    let (key, attempts) = served_by(&delivered);
    let mut answer = None;
    if delivered.len() > 1 {
        let bodies: Vec<&[u8]> = delivered.iter().map(|one| &*one.output.0).collect();
        let shape = Shape {
            is_last: true,
            ..call.shape()
        };
        answer = Some(response::completion(&bodies, &shape).map_err(|error| error.told(None))?);
    }
    for one in delivered {
        let (_, own) = one.output;
        note(&context.app, &[], own.flagged, own.unknown_finish.as_deref(), &one.key);
        one.ticket.succeeded(own.tokens);
        answer.get_or_insert(own);
    }
    let answer = answer.ok_or_else(|| ApiError::missing("messages"))?;
    context.app.remember_signatures(&answer.signatures);
    let mut response = handlers::bytes(StatusCode::OK, handlers::JSON, Bytes::from(answer.body));
    explain(&mut response.headers, &key, attempts);
    Ok(response)
}

async fn streamed<P: Ports>(
    context: &Context<P>,
    head: &passthrough::Head,
    call: &Call<'_>,
    works: &[&Work<'_>],
) -> Result<Response<P>, Failure> {
    let runs = (0..).zip(works).map(async |(number, work)| {
        let mut streamed = Streamed(Attempted::new(call, work, number, works.len()));
        run(context, head, call, &mut streamed).await
    });
    let delivered = try_join_all(runs).await?;
    let (key, attempts) = served_by(&delivered);
    let feeds: Vec<Live<P>> = delivered
        .into_iter()
        .map(|one| Live {
            feed: one.output,
            ticket: one.ticket,
        })
        .collect();
    let mut headers = HeaderMap::with_capacity(8);
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("text/event-stream"));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    headers.insert("x-accel-buffering", HeaderValue::from_static("no"));
    explain(&mut headers, &key, attempts);
    Ok(Response {
        status: StatusCode::OK,
        headers,
        body: Body::Stream(pump(context.app.clone(), feeds, key)),
    })
}

/// Asks the pool, or the upstream with the client's own key.
async fn run<P: Ports, A: Attempt<P>>(
    context: &Context<P>,
    head: &passthrough::Head,
    call: &Call<'_>,
    attempt: &mut A,
) -> Result<Delivered<P, A::Output>, Failure> {
    let relay = &context.instance().relay;
    match &head.own_key {
        Some(key) => {
            let key = Candidate::own(ApiType::Gemini, key.clone(), &context.settings.gemini_base_url);
            relay.run_own(key, &call.target.model, attempt).await
        }
        None => relay.run(&call.target, context.started, attempt).await,
    }
}

fn served_by<P: Ports, T>(delivered: &[Delivered<P, T>]) -> (String, u32) {
    let key = delivered.first().map(|one| one.key.clone()).unwrap_or_default();
    (key, delivered.iter().map(|one| one.attempts).sum())
}

/// Keeps what an answer says beside its words.
fn note<P: Ports>(app: &App<P>, signatures: &[(String, String)], flagged: bool, unknown: Option<&str>, key: &str) {
    app.remember_signatures(signatures);
    if flagged {
        app.instance()
            .ports
            .log(&format!("level=warn event=key_limited_by_provider key={key}"));
    }
    if let Some(reason) = unknown {
        app.instance()
            .ports
            .log(&format!("level=warn event=unknown_finish_reason reason={reason:?}"));
    }
}

/// How many files of one request are fetched at the same time.
const DOWNLOADS_AT_ONCE: usize = 4;
