//! Load: so many connections, each with one request at a time.

use std::{
    net::SocketAddr,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use anyhow::{Context as _, Result, bail};
use bytes::Bytes;
use http::{Request, StatusCode};
use http_body_util::{BodyExt as _, Full};
use hyper::client::conn::http1::{self, SendRequest};
use hyper_util::rt::TokioIo;
use tokio::{
    net::TcpStream,
    time::{Instant, sleep_until, timeout},
};

/// The request that is sent again and again.
#[derive(Clone)]
pub(crate) struct Shot {
    pub(crate) method: &'static str,
    pub(crate) path: String,
    pub(crate) headers: Vec<(&'static str, String)>,
    pub(crate) body: Bytes,
    /// What an answer that is whole ends with.
    pub(crate) ending: &'static str,
}

/// How it is sent.
#[derive(Clone, Copy)]
pub(crate) struct Load {
    pub(crate) connections: usize,
    /// Connections begin spread over this time, so that they do not all ask at the same moment ever after.
    pub(crate) spread: Duration,
    /// Before it counts.
    pub(crate) warm_up: Duration,
    pub(crate) measured: Duration,
}

/// What came of it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Figures {
    /// Answers with status 200, whole.
    pub(crate) answers: u64,
    /// Everything else.
    pub(crate) failures: u64,
    pub(crate) seconds: f64,
    /// To the end of the answer, in milliseconds, sorted.
    pub(crate) whole_ms: Vec<f64>,
    /// To the first piece of the body.
    pub(crate) first_ms: Vec<f64>,
    /// What the first failure was.
    pub(crate) failure: Option<String>,
}

impl Figures {
    pub(crate) fn per_second(&self) -> f64 {
        self.answers as f64 / self.seconds
    }

    fn add(&mut self, other: Self) {
        self.answers += other.answers;
        self.failures += other.failures;
        self.whole_ms.extend(other.whole_ms);
        self.first_ms.extend(other.first_ms);
        self.failure = self.failure.take().or(other.failure);
    }
}

/// A value of sorted ones.
pub(crate) fn percentile(sorted: &[f64], percent: f64) -> f64 {
    let index = (sorted.len() as f64 * percent / 100.0).ceil() as usize;
    sorted.get(index.saturating_sub(1)).copied().unwrap_or(f64::NAN)
}

/// Sends load, and calls `begin` and `end` at the edges of the time that counts.
pub(crate) async fn run(
    address: SocketAddr,
    shot: &Shot,
    load: Load,
    begin: impl FnOnce(),
    end: impl FnOnce(),
) -> Result<Figures> {
    let start = Instant::now();
    let counted = start + load.warm_up..start + load.warm_up + load.measured;
    let sum = Arc::<Mutex<Figures>>::default();
    let tasks: Vec<_> = (0..load.connections)
        .map(|index| {
            let (shot, counted, sum) = (shot.clone(), counted.clone(), Arc::clone(&sum));
            let first = start + load.spread.mul_f64(index as f64 / load.connections as f64);
            tokio::spawn(async move {
                sleep_until(first).await;
                let figures = connection(address, &shot, counted).await;
                sum.lock().unwrap_or_else(PoisonError::into_inner).add(figures);
            })
        })
        .collect();
    sleep_until(counted.start).await;
    begin();
    sleep_until(counted.end).await;
    end();
    for task in tasks {
        task.await?;
    }
    let mut figures = std::mem::take(&mut *sum.lock().unwrap_or_else(PoisonError::into_inner));
    figures.seconds = load.measured.as_secs_f64();
    figures.whole_ms.sort_by(f64::total_cmp);
    figures.first_ms.sort_by(f64::total_cmp);
    Ok(figures)
}

/// Sends one request on a connection of its own, and reads the answer whole.
pub(crate) async fn once(address: SocketAddr, shot: &Shot) -> Result<Bytes> {
    let mut sender = connect(address).await?;
    let response = timeout(PATIENCE, sender.send_request(shot.request()?)).await??;
    let status = response.status();
    let body = timeout(PATIENCE, response.into_body().collect()).await??.to_bytes();
    if status != StatusCode::OK {
        bail!("{status}: {}", String::from_utf8_lossy(&body));
    }
    Ok(body)
}

impl Shot {
    fn request(&self) -> Result<Request<Full<Bytes>>> {
        let mut request = Request::builder()
            .method(self.method)
            .uri(&self.path)
            .header("host", "bench");
        for (name, value) in &self.headers {
            request = request.header(*name, value);
        }
        Ok(request.body(Full::new(self.body.clone()))?)
    }
}

async fn connection(address: SocketAddr, shot: &Shot, counted: std::ops::Range<Instant>) -> Figures {
    let mut figures = Figures::default();
    let mut sender = None;
    while Instant::now() < counted.end {
        let began = Instant::now();
        let result = tokio::select! {
            result = one(address, &mut sender, shot) => result,
            // What is still under way at the end counts for nobody.
            () = sleep_until(counted.end) => break,
        };
        let ended = Instant::now();
        if !counted.contains(&ended) {
            continue;
        }
        match result {
            Ok(first) => {
                figures.answers += 1;
                figures.whole_ms.push((ended - began).as_secs_f64() * 1000.0);
                figures.first_ms.push((first - began).as_secs_f64() * 1000.0);
            }
            Err(error) => {
                figures.failures += 1;
                figures.failure.get_or_insert_with(|| format!("{error:#}"));
                sender = None;
            }
        }
    }
    figures
}

/// One request; when the first piece of the answer's body came.
async fn one(address: SocketAddr, kept: &mut Option<SendRequest<Full<Bytes>>>, shot: &Shot) -> Result<Instant> {
    let mut sender = match kept.take() {
        Some(sender) if !sender.is_closed() => sender,
        _ => connect(address).await?,
    };
    sender.ready().await?;
    let mut response = timeout(PATIENCE, sender.send_request(shot.request()?))
        .await
        .context("no answer")??;
    let status = response.status();
    let (mut first, mut last) = (None, Bytes::new());
    while let Some(frame) = timeout(PATIENCE, response.frame()).await.context("no end")? {
        if let Ok(data) = frame?.into_data() {
            first.get_or_insert_with(Instant::now);
            last = data;
        }
    }
    if status != StatusCode::OK {
        bail!("status {status}: {}", String::from_utf8_lossy(&last));
    }
    if !last.trim_ascii_end().ends_with(shot.ending.as_bytes()) {
        bail!("the answer does not end with {:?}", shot.ending);
    }
    *kept = Some(sender);
    Ok(first.unwrap_or_else(Instant::now))
}

async fn connect(address: SocketAddr) -> Result<SendRequest<Full<Bytes>>> {
    let stream = TcpStream::connect(address).await?;
    stream.set_nodelay(true)?;
    let (sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
    tokio::spawn(async move {
        // Its errors are seen by those who send.
        let _ = connection.await;
    });
    Ok(sender)
}

/// How long an answer may take.
const PATIENCE: Duration = Duration::from_secs(60);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_values_that_were_measured() {
        let sorted: Vec<f64> = (1..=100).map(f64::from).collect();
        assert_eq!(percentile(&sorted, 50.0), 50.0);
        assert_eq!(percentile(&sorted, 99.0), 99.0);
        assert_eq!(percentile(&[7.0], 99.0), 7.0);
        assert!(percentile(&[], 50.0).is_nan());
    }
}
