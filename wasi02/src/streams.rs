//! The host's byte streams: read, written, and spliced.

use bytes::Bytes;
use keystorm::ports::{ClientGone, Sink, TransportError};
use spin_sdk::http::OutgoingBody;
use spin_sdk::wit::wasi::http0_2_0::types::IncomingBody;
use wasi::io::streams::{InputStream, OutputStream, StreamError};

use crate::tasks::{self, ready};

/// A body that is being read. The stream is the body's: it has to go first.
pub(crate) struct Reader {
    stream: InputStream,
    _body: IncomingBody,
}

impl Reader {
    /// Begins to read.
    pub(crate) fn new(body: IncomingBody) -> Result<Self, TransportError> {
        Ok(Self {
            stream: body.stream().map_err(|()| TransportError::Other)?,
            _body: body,
        })
    }

    /// The next piece; `None` at the end.
    pub(crate) async fn chunk(&mut self) -> Result<Option<Bytes>, TransportError> {
        loop {
            match self.stream.read(READ_SIZE) {
                Ok(bytes) if bytes.is_empty() => ready(self.stream.subscribe()).await,
                Ok(bytes) => return Ok(Some(Bytes::from(bytes))),
                Err(StreamError::Closed) => return Ok(None),
                Err(StreamError::LastOperationFailed(_)) => return Err(TransportError::Closed),
            }
        }
    }
}

/// A body that is being written. The stream is the body's: it has to go first.
pub(crate) struct Writer {
    stream: Option<OutputStream>,
    body: Option<OutgoingBody>,
}

impl Writer {
    /// Begins to write.
    pub(crate) fn new(body: OutgoingBody) -> Result<Self, TransportError> {
        Ok(Self {
            stream: Some(body.write().map_err(|()| TransportError::Other)?),
            body: Some(body),
        })
    }

    /// Writes a piece; fails when nobody takes it any more.
    pub(crate) async fn write(&mut self, mut bytes: &[u8]) -> Result<(), ClientGone> {
        let stream = self.stream.as_ref().ok_or(ClientGone)?;
        while !bytes.is_empty() {
            let room = room(stream).await?.min(bytes.len());
            let (now, later) = bytes.split_at(room);
            stream.write(now).map_err(|_| ClientGone)?;
            bytes = later;
        }
        stream.flush().map_err(|_| ClientGone)?;
        room(stream).await.map(drop)
    }

    /// Hands on a body to its end, from host to host. What breaks off is not made to look whole.
    pub(crate) async fn splice(self, from: Reader) {
        let Some(stream) = &self.stream else { return };
        loop {
            // Nobody is left to write to.
            let Ok(room) = room(stream).await else { return };
            match stream.splice(&from.stream, room as u64) {
                Ok(0) => ready(from.stream.subscribe()).await,
                Ok(_) => {}
                Err(StreamError::Closed) => return self.finish(),
                Err(StreamError::LastOperationFailed(_)) => return self.abandon().await,
            }
        }
    }

    /// The body is whole.
    pub(crate) fn finish(mut self) {
        self.stream = None;
        if let Some(body) = self.body.take() {
            // It fails when the other side has gone, who then need not be told.
            let _ = OutgoingBody::finish(body, None);
        }
    }

    /// The body breaks off: dropped without its end, the connection ends as it should not. The host then throws away
    /// what it has not written yet, so it is given the time to write what came before.
    async fn abandon(self) {
        tasks::sleep(WRITE_OUT_MS).await;
        drop(self);
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        self.stream = None;
        self.body = None;
    }
}

/// A streamed answer. It is whole when its task ends.
pub(crate) struct StreamSink(Option<Writer>);

impl StreamSink {
    /// Writes to a client.
    pub(crate) const fn new(writer: Writer) -> Self {
        Self(Some(writer))
    }
}

impl Sink for StreamSink {
    async fn write(&mut self, bytes: Bytes) -> Result<(), ClientGone> {
        self.0.as_mut().ok_or(ClientGone)?.write(&bytes).await
    }
}

impl Drop for StreamSink {
    fn drop(&mut self) {
        if let Some(writer) = self.0.take() {
            writer.finish();
        }
    }
}

/// How much can be written now; waits until it is something.
async fn room(stream: &OutputStream) -> Result<usize, ClientGone> {
    loop {
        match stream.check_write() {
            Ok(0) => ready(stream.subscribe()).await,
            Ok(room) => return Ok(usize::try_from(room).unwrap_or(usize::MAX)),
            Err(_) => return Err(ClientGone),
        }
    }
}

/// How much of a body is read at once. The host hands over what it has, at most this much.
const READ_SIZE: u64 = 64 * 1024;

/// How long the host has for its last bytes. A client that takes them more slowly loses the last of a broken answer.
const WRITE_OUT_MS: u64 = 50;
