//! Calls to other hosts: one pooled client for the whole application, held to `allowed_outbound_hosts`.

use std::{
    collections::HashMap,
    error::Error as StdError,
    io,
    net::{IpAddr, SocketAddr},
    path::PathBuf,
    pin::Pin,
    sync::{Arc, Mutex, atomic::Ordering::Relaxed},
    task::{Context, Poll, ready},
    time::Duration,
};

use anyhow::Context as _;
use bytes::Bytes;
use futures::future::BoxFuture;
use http::{Request, Response, Uri};
use http_body::{Body, Frame, SizeHint};
use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use hyper_rustls::HttpsConnector;
use hyper_util::{
    client::legacy::{
        Client,
        connect::{
            HttpConnector,
            dns::{GaiResolver, Name},
        },
    },
    rt::{TokioExecutor, TokioTimer},
};
use rustls::pki_types::{CertificateDer, pem::PemObject as _};
use tokio::time::{Instant, Sleep, timeout};
use wasmtime_wasi_http::{Error, RequestOptions, WasiBody, WasiHttpHooks};

use super::{Shared, lock};
use crate::allowed_hosts::{AllowedHosts, is_private};

/// How an application calls other hosts.
pub struct Outbound {
    allowed: AllowedHosts,
    network: Arc<Network>,
}

/// The connections of the whole application.
pub struct Network {
    tls: rustls::ClientConfig,
    pooling: bool,
    nodelay: bool,
    block_private: bool,
    /// A client for each connect time-out that was asked for: the time-out is a property of the connector.
    clients: Mutex<HashMap<Duration, Connections>>,
}

type Connections = Client<HttpsConnector<HttpConnector<Resolver>>, WasiBody>;

impl Network {
    /// Trusts the system's roots and those of the given PEM files.
    pub fn new(pooling: bool, nodelay: bool, block_private: bool, roots: &[PathBuf]) -> anyhow::Result<Self> {
        let mut store = rustls::RootCertStore::empty();
        store.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
        for path in roots {
            for certificate in
                CertificateDer::pem_file_iter(path).with_context(|| format!("cannot read {}", path.display()))?
            {
                store.add(certificate.with_context(|| format!("{} is not PEM", path.display()))?)?;
            }
        }
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let tls = rustls::ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()?
            .with_root_certificates(store)
            .with_no_client_auth();
        Ok(Self {
            tls,
            pooling,
            nodelay,
            block_private,
            clients: Mutex::default(),
        })
    }

    /// Whom calls by TLS trust.
    pub fn tls(&self) -> rustls::ClientConfig {
        self.tls.clone()
    }

    fn client(&self, connect_timeout: Duration) -> Connections {
        let mut clients = lock(&self.clients);
        if clients.len() >= MAX_CLIENTS {
            clients.clear();
        }
        clients
            .entry(connect_timeout)
            .or_insert_with(|| self.connections(connect_timeout))
            .clone()
    }

    fn connections(&self, connect_timeout: Duration) -> Connections {
        let mut tcp = HttpConnector::new_with_resolver(Resolver {
            block_private: self.block_private,
            system: GaiResolver::new(),
        });
        tcp.enforce_http(false);
        tcp.set_nodelay(self.nodelay);
        tcp.set_connect_timeout(Some(connect_timeout));
        let https = hyper_rustls::HttpsConnectorBuilder::new()
            .with_tls_config(self.tls.clone())
            .https_or_http()
            .enable_all_versions()
            .wrap_connector(tcp);
        Client::builder(TokioExecutor::new())
            .pool_timer(TokioTimer::new())
            .pool_idle_timeout(Duration::from_secs(90))
            .pool_max_idle_per_host(if self.pooling { usize::MAX } else { 0 })
            .build(https)
    }
}

impl Outbound {
    /// The calls of one component.
    pub const fn new(allowed: AllowedHosts, network: Arc<Network>) -> Self {
        Self { allowed, network }
    }

    async fn send(
        &self,
        request: Request<WasiBody>,
        options: Option<RequestOptions>,
    ) -> Result<Response<WasiBody>, Error> {
        let uri = request.uri();
        if !self.allowed.allows(uri) {
            eprintln!(
                "A component wanted to call {}, which allowed_outbound_hosts of spin.toml does not allow. To allow it, add: \"{}\"",
                origin(uri),
                origin(uri),
            );
            return Err(Error::HttpRequestDenied);
        }
        // Literal addresses never reach the resolver.
        let literal = uri.host().and_then(|host| {
            host.trim_start_matches('[')
                .trim_end_matches(']')
                .parse::<IpAddr>()
                .ok()
        });
        if self.network.block_private && literal.is_some_and(is_private) {
            return Err(Error::DestinationIpProhibited);
        }
        let options = options.unwrap_or_default();
        let client = self.network.client(options.connect_timeout.unwrap_or(DEFAULT_TIMEOUT));
        let first_byte = options.first_byte_timeout.unwrap_or(DEFAULT_TIMEOUT);
        let idle = options.between_bytes_timeout.unwrap_or(DEFAULT_TIMEOUT);
        let response = timeout(first_byte, client.request(request))
            .await
            .map_err(|_| Error::ConnectionReadTimeout)?
            .map_err(|error| classify(&error))?;
        Ok(response.map(|body| {
            Timed {
                body,
                idle,
                timer: Box::pin(tokio::time::sleep(idle)),
            }
            .boxed_unsync()
        }))
    }
}

/// wasi:http's hooks of one instance.
pub struct Hooks(pub(super) Arc<Shared>);

/// What becomes of a request's body, told to the component.
type Transmission = Box<dyn Future<Output = Result<(), Error>> + Send>;

impl WasiHttpHooks for Hooks {
    fn send_request(
        &mut self,
        request: Request<WasiBody>,
        options: Option<RequestOptions>,
        _received: Transmission,
    ) -> Box<dyn Future<Output = Result<(Response<WasiBody>, Transmission), Error>> + Send> {
        let shared = Arc::clone(&self.0);
        shared.calls.sends.fetch_add(1, Relaxed);
        Box::new(async move {
            let response = shared.outbound.send(request, options).await?;
            Ok((response, Box::new(async { Ok(()) }) as Transmission))
        })
    }
}

/// The system's resolver; where private networks are blocked it hides their addresses, so that no name can lead there.
#[derive(Clone)]
struct Resolver {
    block_private: bool,
    system: GaiResolver,
}

impl tower_service::Service<Name> for Resolver {
    type Response = std::vec::IntoIter<SocketAddr>;
    type Error = io::Error;
    type Future = BoxFuture<'static, io::Result<Self::Response>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, name: Name) -> Self::Future {
        let block_private = self.block_private;
        let found = self.system.call(name);
        Box::pin(async move {
            let all: Vec<SocketAddr> = found.await?.collect();
            let public: Vec<_> = all
                .into_iter()
                .filter(|address| !(block_private && is_private(address.ip())))
                .collect();
            if public.is_empty() {
                return Err(io::Error::new(
                    io::ErrorKind::PermissionDenied,
                    "destination prohibited",
                ));
            }
            Ok(public.into_iter())
        })
    }
}

/// A body that fails when nothing comes for a while.
struct Timed {
    body: Incoming,
    idle: Duration,
    timer: Pin<Box<Sleep>>,
}

impl Body for Timed {
    type Data = Bytes;
    type Error = Error;

    fn poll_frame(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Error>>> {
        let this = &mut *self;
        if let Poll::Ready(frame) = Pin::new(&mut this.body).poll_frame(context) {
            this.timer.as_mut().reset(Instant::now() + this.idle);
            return Poll::Ready(frame.map(|frame| frame.map_err(|_| Error::HttpResponseIncomplete)));
        }
        ready!(this.timer.as_mut().poll(context));
        Poll::Ready(Some(Err(Error::ConnectionReadTimeout)))
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

fn origin(uri: &Uri) -> String {
    format!(
        "{}://{}",
        uri.scheme_str().unwrap_or("https"),
        uri.authority().map_or("", |authority| authority.as_str())
    )
}

/// Finds the reason of a failure along the chain of its sources.
fn classify(error: &(dyn StdError + 'static)) -> Error {
    let mut source = Some(error);
    while let Some(error) = source {
        if error.is::<rustls::Error>() {
            return Error::TlsProtocolError;
        }
        if let Some(error) = error.downcast_ref::<hyper::Error>()
            && (error.is_parse() || error.is_parse_status())
        {
            return Error::HttpProtocolError;
        }
        if let Some(error) = error.downcast_ref::<io::Error>() {
            if is_tls(error) {
                return Error::TlsProtocolError;
            }
            match error.kind() {
                io::ErrorKind::ConnectionRefused => return Error::ConnectionRefused,
                io::ErrorKind::TimedOut => return Error::ConnectionTimeout,
                io::ErrorKind::PermissionDenied => return Error::DestinationIpProhibited,
                io::ErrorKind::HostUnreachable | io::ErrorKind::NetworkUnreachable => {
                    return Error::DestinationUnavailable;
                }
                _ => {}
            }
        }
        if error.to_string().starts_with("dns error") {
            // The resolver's own refusal stands behind this one.
            let inner = error.source().and_then(|inner| inner.downcast_ref::<io::Error>());
            if inner.is_none_or(|inner| inner.kind() != io::ErrorKind::PermissionDenied) {
                return Error::DnsError {
                    rcode: None,
                    info_code: None,
                };
            }
        }
        source = error.source();
    }
    Error::ConnectionTerminated
}

/// rustls hides itself inside an io::Error that gives no source, and that inside another.
fn is_tls(error: &io::Error) -> bool {
    error
        .get_ref()
        .is_some_and(|inner| inner.is::<rustls::Error>() || inner.downcast_ref().is_some_and(is_tls))
}

/// What Spin waits when a component does not say.
const DEFAULT_TIMEOUT: Duration = Duration::from_secs(600);

/// How many different connect time-outs are kept clients for.
const MAX_CLIENTS: usize = 16;
