//! The HTTP client of `probe`: one request per connection, over HTTP/1.1 or HTTP/2, with a time
//! limit.
//!
//! hyper is the HTTP/1.1 client here, unlike in the data plane: nothing is forwarded, few
//! requests are sent, and the client must accept whatever browsers accept.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::{ACCEPT, ACCEPT_ENCODING, ACCEPT_LANGUAGE, HOST, REFERER, USER_AGENT};
use http::uri::Scheme;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, StatusCode, Uri, Version};
use http_body_util::{BodyExt, Empty};
use hyper::client::conn::{http1, http2};
use hyper_util::rt::TokioIo;
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout, timeout_at};
use tokio_rustls::TlsConnector;

use crate::net::abort_on_drop::AbortOnDrop;
use crate::upstream::local_executor::LocalExecutor;

use super::target::{self, Resolve};
use super::tls;

/// The longest response head, in bytes.
const MAX_HEAD: usize = 256 << 10;

/// The maximum number of response fields.
const MAX_FIELDS: usize = 500;

/// How much of a body is read.
const MAX_BODY: usize = 16 << 10;

/// How long to wait for a body after its head.
const BODY: Duration = Duration::from_secs(1);

/// The time limit of all requests together, as a multiple of the limit of one.
const ALL_REQUESTS: u32 = 6;

/// A request as a browser sends it.
#[derive(Clone, Debug)]
pub(super) struct Sent {
    pub(super) url: String,
    pub(super) method: Method,
    pub(super) fields: HeaderMap,
}

/// The answer to a request.
#[derive(Clone, Debug)]
pub(super) struct Answer {
    pub(super) version: Version,
    pub(super) status: StatusCode,
    pub(super) fields: HeaderMap,
    /// The first bytes of the body.
    pub(super) body: Vec<u8>,
}

/// Why a request got no answer.
#[derive(Clone, Debug)]
pub(super) struct NoAnswer(String);

impl fmt::Display for NoAnswer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Sends requests to servers.
pub(super) struct Client {
    /// The time limit of a request.
    timeout: Duration,
    /// The deadline of all requests.
    deadline: Instant,
    resolve: Vec<Resolve>,
    tls: Option<Arc<ClientConfig>>,
    insecure: bool,
}

impl Client {
    pub(super) fn new(timeout: Duration, resolve: Vec<Resolve>, insecure: bool) -> Self {
        Self {
            timeout,
            deadline: Instant::now() + timeout * ALL_REQUESTS,
            resolve,
            tls: None,
            insecure,
        }
    }

    /// Sends a request and reads the head of its answer.
    pub(super) async fn send(&mut self, sent: &Sent) -> Result<Answer, NoAnswer> {
        let until = (Instant::now() + self.timeout).min(self.deadline);
        let late = match Instant::now() < self.deadline {
            true => format!(
                "no answer within {} s; --timeout raises the limit",
                self.timeout.as_secs()
            ),
            false => "time limit reached, remaining requests not sent; --timeout raises the limit"
                .to_owned(),
        };
        match timeout_at(until, self.exchange(sent)).await {
            Ok(answer) => answer,
            Err(_) => Err(NoAnswer(late)),
        }
    }

    async fn exchange(&mut self, sent: &Sent) -> Result<Answer, NoAnswer> {
        let uri = target::uri(&sent.url)
            .ok_or_else(|| NoAnswer("the URL cannot be requested".to_owned()))?;
        let stream = self.connect(&uri).await?;
        if uri.scheme() != Some(&Scheme::HTTPS) {
            return over_http1(stream, sent, &uri).await;
        }
        let config = self.tls_config()?;
        let host = uri.host().unwrap_or_default();
        let bare = host
            .trim_start_matches('[')
            .trim_end_matches(']')
            .to_owned();
        let name = ServerName::try_from(bare)
            .map_err(|_| NoAnswer(format!("the host {host} cannot have a certificate")))?;
        let stream = TlsConnector::from(config)
            .connect(name, stream)
            .await
            .map_err(|error| {
                NoAnswer(format!(
                    "the TLS handshake with {host} failed: {}",
                    tls::advice(&error)
                ))
            })?;
        let is_http2 = stream.get_ref().1.alpn_protocol() == Some(b"h2");
        if is_http2 {
            over_http2(stream, sent, &uri).await
        } else {
            over_http1(stream, sent, &uri).await
        }
    }

    fn tls_config(&mut self) -> Result<Arc<ClientConfig>, NoAnswer> {
        if let Some(config) = &self.tls {
            return Ok(Arc::clone(config));
        }
        let config = tls::config(self.insecure)
            .map_err(|error| NoAnswer(format!("TLS cannot be used: {error}")))?;
        self.tls = Some(Arc::clone(&config));
        Ok(config)
    }

    async fn connect(&self, uri: &Uri) -> Result<TcpStream, NoAnswer> {
        let (host, port) = (uri.host().unwrap_or_default(), target::port(uri));
        let addresses = self.addresses(host, port).await?;
        let mut failed = None;
        for address in &addresses {
            match TcpStream::connect(address).await {
                Ok(stream) => {
                    // Failure is harmless: a request is sent at once anyway.
                    let _ = stream.set_nodelay(true);
                    return Ok(stream);
                }
                Err(error) => failed = Some((address, error)),
            }
        }
        Err(NoAnswer(match failed {
            Some((address, error)) => format!("cannot connect to {host} ({address}): {error}"),
            None => format!("{host} has no address"),
        }))
    }

    async fn addresses(&self, host: &str, port: u16) -> Result<Vec<SocketAddr>, NoAnswer> {
        let socket = |address: &IpAddr| SocketAddr::new(*address, port);
        if let Some(resolve) = self.resolve.iter().find(|one| one.applies_to(host, port)) {
            return Ok(resolve.addresses.iter().map(socket).collect());
        }
        let bare = host.trim_start_matches('[').trim_end_matches(']');
        if let Ok(address) = bare.parse() {
            return Ok(vec![socket(&address)]);
        }
        // Browsers do not look up localhost
        // (https://w3c.github.io/webappsec-secure-contexts/#localhost).
        let name = host.trim_end_matches('.');
        if name == "localhost" || name.ends_with(".localhost") {
            let loopback = [
                IpAddr::V4(Ipv4Addr::LOCALHOST),
                IpAddr::V6(Ipv6Addr::LOCALHOST),
            ];
            return Ok(loopback.iter().map(socket).collect());
        }
        let found = tokio::net::lookup_host((host, port))
            .await
            .map_err(|error| NoAnswer(format!("cannot look up {host}: {error}")))?;
        Ok(found.collect())
    }
}

async fn over_http1<S>(stream: S, sent: &Sent, uri: &Uri) -> Result<Answer, NoAnswer>
where
    S: AsyncRead + AsyncWrite + Unpin + 'static,
{
    let mut builder = http1::Builder::new();
    builder
        .title_case_headers(true)
        .max_buf_size(MAX_HEAD)
        .max_headers(MAX_FIELDS)
        // Browsers accept these too.
        .allow_obsolete_multiline_headers_in_responses(true)
        .allow_spaces_after_header_name_in_responses(true)
        .ignore_invalid_headers_in_responses(true);
    let (mut sender, connection) = builder
        .handshake(TokioIo::new(stream))
        .await
        .map_err(failed)?;
    let driver = tokio::task::spawn_local(async move { drop(connection.await) });
    let _driver = AbortOnDrop::from(driver);
    let target = uri.path_and_query().map_or("/", |target| target.as_str());
    let mut request = request(sent, target)?;
    let host = uri.authority().map_or("", |authority| authority.as_str());
    let host =
        HeaderValue::from_str(host).map_err(|_| NoAnswer("the host is not valid".to_owned()))?;
    request.headers_mut().insert(HOST, host);
    answer(sender.send_request(request).await.map_err(failed)?).await
}

async fn over_http2<S>(stream: S, sent: &Sent, uri: &Uri) -> Result<Answer, NoAnswer>
where
    S: AsyncRead + AsyncWrite + Unpin + 'static,
{
    let mut builder = http2::Builder::new(LocalExecutor);
    builder.max_header_list_size(MAX_HEAD as u32);
    let (mut sender, connection) = builder
        .handshake(TokioIo::new(stream))
        .await
        .map_err(failed)?;
    let driver = tokio::task::spawn_local(async move { drop(connection.await) });
    let _driver = AbortOnDrop::from(driver);
    let request = request(sent, &uri.to_string())?;
    answer(sender.send_request(request).await.map_err(failed)?).await
}

fn request(sent: &Sent, target: &str) -> Result<Request<Empty<Bytes>>, NoAnswer> {
    let mut request = Request::builder()
        .method(sent.method.clone())
        .uri(target)
        .body(Empty::new())
        .map_err(|error| NoAnswer(format!("the URL cannot be requested: {error}")))?;
    *request.headers_mut() = sent.fields.clone();
    Ok(request)
}

/// The fields that browsers add to every request of a page.
pub(super) fn browser_fields(page: &str) -> HeaderMap {
    let mut fields = HeaderMap::new();
    let mut add = |name: HeaderName, value: &str| {
        if let Ok(value) = HeaderValue::from_str(value) {
            fields.insert(name, value);
        }
    };
    add(ACCEPT, "*/*");
    add(ACCEPT_ENCODING, "gzip, deflate, br, zstd");
    add(ACCEPT_LANGUAGE, "en");
    add(
        USER_AGENT,
        concat!(
            "Mozilla/5.0 (compatible; s3cors-probe/",
            env!("CARGO_PKG_VERSION"),
            ")"
        ),
    );
    if page != "null" {
        add(REFERER, &format!("{page}/"));
    }
    add(HeaderName::from_static("sec-fetch-mode"), "cors");
    add(HeaderName::from_static("sec-fetch-dest"), "empty");
    fields
}

async fn answer(response: hyper::Response<hyper::body::Incoming>) -> Result<Answer, NoAnswer> {
    let (head, mut body) = response.into_parts();
    let mut read = Vec::new();
    let reading = async {
        while read.len() < MAX_BODY {
            let Some(Ok(frame)) = body.frame().await else {
                return;
            };
            if let Some(data) = frame.data_ref() {
                let room = MAX_BODY - read.len();
                read.extend_from_slice(data.get(..room.min(data.len())).unwrap_or_default());
            }
        }
    };
    // The body only serves to quote the server's own error message: a late or broken rest is
    // ignored.
    let _ = timeout(BODY, reading).await;
    Ok(Answer {
        version: head.version,
        status: head.status,
        fields: head.headers,
        body: read,
    })
}

fn failed(error: hyper::Error) -> NoAnswer {
    let why = super::super::output::chain(&error);
    NoAnswer(match error.is_incomplete_message() || error.is_closed() {
        true => "the server closed the connection without an answer".to_owned(),
        false => format!("the server's answer is not HTTP: {why}"),
    })
}
