//! The start of a connection, before HTTP: the PROXY protocol's header, then the TLS handshake,
//! with one time limit for both.

use std::future::poll_fn;
use std::io::{self, ErrorKind};
use std::net::IpAddr;
use std::pin::pin;
use std::rc::Rc;
use std::task::Poll;

use tokio::io::AsyncReadExt;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

use crate::metrics::HandshakeFailure;
use crate::net::listener_id::ListenerId;
use crate::proxy::Proxy;
use crate::routing::client::Client;

use super::admission::Admission;
use super::connection::{Protocols, Spoken};
use super::drain::DrainSignal;
use super::end_signal::EndSignal;
use super::listener::Socket;
use super::proxy_protocol::ProxySource;
use super::tls::TlsCell;
use super::{handshake_log, overload, proxy_protocol, tls};

/// The start of a listener's connections.
#[derive(Clone, Debug)]
pub(super) struct Handshake {
    /// The listener's name in metrics.
    pub(super) listener: String,
    pub(super) tls: Option<TlsCell>,
    pub(super) proxy_protocol: bool,
    /// The name that routes are bound to.
    pub(super) id: ListenerId,
    /// Whether another process shares the listener's socket, with its queue.
    pub(super) is_shared: bool,
}

impl Handshake {
    /// Serves a connection to its end.
    pub(super) async fn serve<S: Socket>(
        &self,
        stream: S,
        address: Option<IpAddr>,
        admission: &Admission,
        protocols: &Protocols,
        proxy: &Rc<Proxy>,
        end: &EndSignal<'_>,
    ) {
        let address = address.map(|address| address.to_canonical());
        let client = Client {
            address,
            tls: self.tls.is_some(),
            trusted: proxy.trusts(address),
            listener: self.id,
        };
        if self.tls.is_none() && !self.proxy_protocol {
            let Some(_counted) = admission.admit(client) else {
                return Box::pin(overload::tell(stream)).await;
            };
            let spoken = Spoken::Unknown;
            return protocols.serve(stream, spoken, client, proxy, end).await;
        }
        // Boxed, so that plain connections need no memory for a handshake.
        let served = self.serve_after_handshake(stream, client, admission, protocols, proxy, end);
        Box::pin(served).await;
    }

    async fn serve_after_handshake<S: Socket>(
        &self,
        mut stream: S,
        mut client: Client,
        admission: &Admission,
        protocols: &Protocols,
        proxy: &Rc<Proxy>,
        end: &EndSignal<'_>,
    ) {
        let address = client.address;
        let handshake = async {
            if self.proxy_protocol {
                if !client.trusted {
                    let error = io::Error::other("the peer is not in trusted_proxies");
                    return Err(FailedHandshake(HandshakeFailure::UnlistedProxy, error));
                }
                // From here on, the bytes are the client's, even behind a proxy.
                client.trusted = false;
                match proxy_protocol::read(&mut stream).await.map_err(in_header)? {
                    ProxySource::Socket => {}
                    ProxySource::Address(address) => {
                        client.address = Some(address.to_canonical());
                        client.trusted = proxy.trusts(client.address);
                    }
                    ProxySource::Unix => client.address = None,
                }
            }
            let Some(counted) = admission.admit(client) else {
                if self.tls.is_none() {
                    overload::tell(stream).await;
                }
                return Ok(None);
            };
            let entered = match &self.tls {
                None => Entered::Plain(stream),
                Some(cell) => tls_handshake(stream, cell).await?,
            };
            Ok(Some((counted, entered)))
        };
        let limit = protocols.limits().handshake;
        let handshake = async {
            match tokio::time::timeout(limit, handshake).await {
                Ok(result) => result,
                Err(elapsed) => Err(FailedHandshake(HandshakeFailure::Timeout, elapsed.into())),
            }
        };
        let failed = |FailedHandshake(reason, error)| {
            admission.handshake_failed(reason);
            handshake_log::log(reason, &self.listener, address, &error);
        };
        let (_counted, entered) = match unless_too_late(handshake, end.drain).await {
            Some(Ok(Some(entered))) => entered,
            Some(Err(failure)) => return failed(failure),
            Some(Ok(None)) | None => return,
        };
        match entered {
            Entered::Plain(stream) => {
                let spoken = Spoken::Unknown;
                protocols.serve(stream, spoken, client, proxy, end).await;
            }
            Entered::PlainHttp(stream) => {
                let error = io::Error::other("plain HTTP request on a TLS listener");
                failed(FailedHandshake(HandshakeFailure::PlainHttp, error));
                overload::say(stream, PLAIN_HTTP).await;
            }
            Entered::Tls(stream) => {
                admission.tls_handshake(tls::handshake_kind(stream.get_ref().1));
                let spoken = match tls::is_http2(stream.get_ref().1) {
                    true => Spoken::Http2,
                    false => Spoken::Http1,
                };
                protocols.serve(*stream, spoken, client, proxy, end).await;
            }
        }
    }
}

/// Why a handshake failed: for the metric, and for the log.
struct FailedHandshake(HandshakeFailure, io::Error);

/// Reading the PROXY protocol's header failed.
fn in_header(error: io::Error) -> FailedHandshake {
    let reason = match error.kind() {
        ErrorKind::InvalidData => HandshakeFailure::ProxyHeader,
        _ => HandshakeFailure::Closed,
    };
    FailedHandshake(reason, error)
}

/// Performs a TLS handshake.
async fn tls_handshake<S: Socket>(
    mut stream: S,
    cell: &TlsCell,
) -> Result<Entered<S>, FailedHandshake> {
    let mut first = [0; tls::RECORD_HEADER];
    let mut length = 0;
    // Most clients send a whole ClientHello at once. If the bytes look like TLS, the library
    // reads on.
    while length < first.len() && first.first() != Some(&tls::HANDSHAKE) {
        let free = first.get_mut(length..).unwrap_or_default();
        match stream.read(free).await {
            Ok(0) => {
                return Err(FailedHandshake(
                    HandshakeFailure::Closed,
                    ErrorKind::UnexpectedEof.into(),
                ));
            }
            Ok(read) => length += read,
            Err(error) => return Err(FailedHandshake(HandshakeFailure::Closed, error)),
        }
        let read = first.get(..length).unwrap_or_default();
        if !tls::begins_handshake(read) && !tls::may_be_http(read) {
            let error = io::Error::other("the client sent neither TLS nor HTTP");
            return Err(FailedHandshake(HandshakeFailure::NotTls, error));
        }
    }
    let first = first.get(..length).unwrap_or_default();
    if !tls::begins_handshake(first) {
        return Ok(Entered::PlainHttp(stream));
    }
    let accepted = TlsAcceptor::from(cell.config()).accept_with(stream, |connection| {
        // Reads no more than the first record's header, which always fits.
        let _ = connection.read_tls(&mut { first });
    });
    match accepted.await {
        Ok(stream) => Ok(Entered::Tls(Box::new(stream))),
        Err(error) => Err(FailedHandshake(handshake_log::tls_failure(&error), error)),
    }
}

/// The response to plain HTTP on a TLS listener.
const PLAIN_HTTP: &[u8] =
    b"HTTP/1.1 400 Bad Request\r\nContent-Type: text/plain; charset=utf-8\r\n\
    Content-Length: 50\r\nConnection: close\r\n\r\n\
    this port requires TLS, not plain HTTP; use https\n";

/// A connection after its handshake.
enum Entered<S> {
    Plain(S),
    Tls(Box<TlsStream<S>>),
    /// Plain HTTP on a TLS listener. It gets 400, as in nginx.
    PlainHttp(S),
}

/// `None` if the server closes before it completes.
async fn unless_too_late<F: Future>(future: F, drain: &DrainSignal) -> Option<F::Output> {
    let mut future = pin!(future);
    let mut closing = pin!(drain.grace_over());
    poll_fn(|cx| {
        if let Poll::Ready(output) = future.as_mut().poll(cx) {
            return Poll::Ready(Some(output));
        }
        closing.as_mut().poll(cx).map(|()| None)
    })
    .await
}
