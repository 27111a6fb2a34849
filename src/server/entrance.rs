//! What comes before HTTP on a connection: the PROXY protocol's header, then the TLS handshake,
//! both within one limit of time.

use std::future::poll_fn;
use std::io;
use std::net::IpAddr;
use std::pin::pin;
use std::rc::Rc;
use std::task::Poll;

use tokio_rustls::TlsAcceptor;

use crate::proxy::Client;
use crate::proxy::Proxy;

use super::admission::Admission;
use super::connection::{Protocols, Spoken};
use super::drain::DrainSignal;
use super::listener::Socket;
use super::no_room;
use super::proxy_protocol::{self, Source};
use super::tls::{self, TlsCell};

/// How connections of a listener begin.
#[derive(Clone, Debug)]
pub(super) struct Entrance {
    /// The listener's name in metrics.
    pub(super) listener: String,
    pub(super) tls: Option<TlsCell>,
    pub(super) proxy_protocol: bool,
    /// Whether somebody else has the listener's socket too, and with it who waits there.
    pub(super) is_shared: bool,
}

impl Entrance {
    /// Serves a connection to its end.
    pub(super) async fn serve<S: Socket>(
        &self,
        stream: S,
        address: Option<IpAddr>,
        admission: &Admission,
        protocols: &Protocols,
        proxy: &Rc<Proxy>,
        drain: &DrainSignal,
    ) {
        let address = address.map(|address| address.to_canonical());
        let client = Client {
            address,
            tls: self.tls.is_some(),
            trusted: proxy.trusts(address),
        };
        if self.tls.is_none() && !self.proxy_protocol {
            let Some(_counted) = admission.admit(client) else {
                return no_room::tell(stream).await;
            };
            let spoken = Spoken::Unknown;
            return protocols.serve(stream, spoken, client, proxy, drain).await;
        }
        // Boxed, so that what is plain needs no room for a handshake.
        let served = self.serve_after_handshake(stream, client, admission, protocols, proxy, drain);
        Box::pin(served).await;
    }

    async fn serve_after_handshake<S: Socket>(
        &self,
        mut stream: S,
        mut client: Client,
        admission: &Admission,
        protocols: &Protocols,
        proxy: &Rc<Proxy>,
        drain: &DrainSignal,
    ) {
        let handshake = async {
            if self.proxy_protocol {
                if !client.trusted {
                    return Err(io::Error::other("it is no listed proxy"));
                }
                // What follows is the client's own, whoever speaks for it.
                client.trusted = false;
                match proxy_protocol::read(&mut stream).await? {
                    Source::Socket => {}
                    Source::Address(address) => {
                        client.address = Some(address.to_canonical());
                        client.trusted = proxy.trusts(client.address);
                    }
                    Source::Unix => client.address = None,
                }
            }
            let Some(counted) = admission.admit(client) else {
                if self.tls.is_none() {
                    no_room::tell(stream).await;
                }
                return Err(io::Error::other(
                    "its client has all connections that it may",
                ));
            };
            let entered = match &self.tls {
                None => Entered::Plain(stream),
                Some(cell) => {
                    let acceptor = TlsAcceptor::from(cell.config());
                    Entered::Tls(Box::new(acceptor.accept(stream).await?))
                }
            };
            Ok((counted, entered))
        };
        let limit = protocols.limits().handshake;
        let entered = unless_too_late(tokio::time::timeout(limit, handshake), drain);
        let (_counted, entered) = match entered.await {
            Some(Ok(Ok(entered))) => entered,
            Some(result) => {
                let error = match result {
                    Ok(result) => result.err(),
                    Err(elapsed) => Some(elapsed.into()),
                };
                let error = error.map(|error: io::Error| error.to_string());
                tracing::debug!(listener = self.listener, error, "a handshake failed");
                return;
            }
            None => return,
        };
        match entered {
            Entered::Plain(stream) => {
                let spoken = Spoken::Unknown;
                protocols.serve(stream, spoken, client, proxy, drain).await;
            }
            Entered::Tls(stream) => {
                let spoken = match tls::is_http2(stream.get_ref().1) {
                    true => Spoken::Http2,
                    false => Spoken::Http1,
                };
                protocols.serve(*stream, spoken, client, proxy, drain).await;
            }
        }
    }
}

/// A connection that is ready for HTTP.
enum Entered<S> {
    Plain(S),
    Tls(Box<tokio_rustls::server::TlsStream<S>>),
}

/// `None`: the server closes, and it took too long.
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
