//! An HTTP client of one connection, which it opens anew when it has to.

use std::time::Duration;

use anyhow::{Context as _, Result};
use bytes::Bytes;
use http::{Method, Request, Response, header};
use http_body_util::{BodyExt as _, Full};
use hyper::{body::Incoming, client::conn::http1};
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::{net::TcpStream, sync::Mutex, time::timeout};

/// A client.
pub(crate) struct Client {
    authority: String,
    connection: Mutex<Option<http1::SendRequest<Full<Bytes>>>>,
}

impl Client {
    pub(crate) fn new(authority: &str) -> Self {
        Self {
            authority: authority.to_owned(),
            connection: Mutex::default(),
        }
    }

    /// Sends a request and waits for the head of the answer.
    pub(crate) async fn send(
        &self,
        method: Method,
        path: &str,
        key: &str,
        body: Option<&Value>,
    ) -> Result<Response<Incoming>> {
        let mut slot = self.connection.lock().await;
        let mut connection = match slot.take().filter(|connection| !connection.is_closed()) {
            Some(connection) => connection,
            None => self.connect().await?,
        };
        connection.ready().await.context("the connection was closed")?;
        let body = body.map(Value::to_string).unwrap_or_default();
        let request = Request::builder()
            .method(method)
            .uri(path)
            .header(header::HOST, &self.authority)
            .header(header::AUTHORIZATION, format!("Bearer {key}"))
            .header(header::CONTENT_TYPE, "application/json")
            .body(Full::new(Bytes::from(body)))?;
        let response = timeout(PATIENCE, connection.send_request(request)).await??;
        *slot = Some(connection);
        Ok(response)
    }

    /// Sends a request and reads the whole answer.
    pub(crate) async fn call(
        &self,
        method: Method,
        path: &str,
        key: &str,
        body: Option<&Value>,
    ) -> Result<(u16, Bytes)> {
        let response = self.send(method, path, key, body).await?;
        let status = response.status().as_u16();
        let body = timeout(PATIENCE, response.into_body().collect()).await??;
        Ok((status, body.to_bytes()))
    }

    /// Closes the connection, whatever is under way on it.
    pub(crate) async fn hang_up(&self) {
        self.connection.lock().await.take();
    }

    async fn connect(&self) -> Result<http1::SendRequest<Full<Bytes>>> {
        let stream = TcpStream::connect(&self.authority).await?;
        stream.set_nodelay(true)?;
        let (sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
        tokio::spawn(async move {
            // That it has ended is seen by the next who wants to send.
            let _ = connection.await;
        });
        Ok(sender)
    }
}

/// How long anything may take.
const PATIENCE: Duration = Duration::from_secs(100);
