//! A request that a policy has decided, on its way to the upstream.

use std::borrow::Cow;
use std::net::IpAddr;
use std::rc::Rc;
use std::time::Instant;

use http::{HeaderValue, Method};

use crate::cors::ReplacedFields;
use crate::http1::body::Coding;
use crate::http1::chunked::TrailerPolicy;
use crate::http1::client_head::{ClientHead, ends};
use crate::http1::request_head::Framing;
use crate::routing::snapshot::Route;
use crate::upstream::endpoint::Upstream;
use crate::upstream::http1_response::Interim;

use super::access_note::AccessNote;
use super::state::HeldSnapshot;
use super::verdict_basis::VerdictBasis;

/// A request that a policy has decided, on its way to the upstream.
pub struct Http1Exchange {
    /// The CORS fields for the response, then the head for the upstream, then what the verdict and
    /// the access log need of the request.
    pub(crate) head_buf: Vec<u8>,
    /// Where the CORS fields end.
    pub(crate) cors: usize,
    /// Where the head ends.
    pub(crate) head: usize,
    /// Where in it the chosen upstream's `Host` goes; `None`: it already has one.
    pub(crate) host_at: Option<usize>,
    /// `None`: there is no log.
    pub(crate) note: Option<Box<AccessNote>>,
    /// `None`: the upstream decides about CORS.
    pub(crate) marks: Option<Marks>,
    pub(crate) verdict_basis: VerdictBasis,
    pub(crate) held: Rc<HeldSnapshot>,
    /// The route's index in the snapshot.
    pub(crate) route: usize,
    pub(crate) method: Method,
    /// The client's address; `None`: the client is not counted.
    pub(crate) client: Option<IpAddr>,
    /// How the request's body is framed.
    pub(crate) framing: Framing,
    /// Whether the client waits for `100 Continue` before it sends the body.
    pub(crate) expects_continue: bool,
    /// Whether the client announces trailers (`Trailer`).
    pub(crate) announces_trailers: bool,
    /// Whether the client takes trailers (`TE: trailers`).
    pub(crate) accepts_trailers: bool,
    /// Whether it asks to switch protocols.
    pub(crate) upgrades: bool,
    /// Whether its credentials authenticate the connection (NTLM, Negotiate).
    pub(crate) authenticates_connection: bool,
    /// Whether the client speaks HTTP/1.0.
    pub(crate) is_http10: bool,
    /// Whether the client's connection closes after the response.
    pub(crate) closes: bool,
    pub(crate) start: Instant,
}

/// What the policy sets on the response, besides the fields that grant access.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Marks {
    /// The field names that `Vary` must list.
    pub(crate) vary: Option<&'static HeaderValue>,
    /// Which of those fields are beyond CORS.
    pub(crate) replaced: ReplacedFields,
}

impl Http1Exchange {
    /// The complete head for `upstream`.
    pub(crate) fn head_for(&self, upstream: &Upstream) -> Cow<'_, [u8]> {
        let part = |from, to| self.head_buf.get(from..to).unwrap_or_default();
        match self.host_at {
            None => part(self.cors, self.head).into(),
            Some(at) => {
                let host = upstream.authority.as_bytes();
                [
                    part(self.cors, at),
                    b"host: ",
                    host,
                    b"\r\n",
                    part(at, self.head),
                ]
                .concat()
                .into()
            }
        }
    }

    /// The head for the upstream, without `Host` if it depends on the upstream.
    pub(crate) fn upstream_head(&self) -> &[u8] {
        self.head_buf.get(self.cors..self.head).unwrap_or_default()
    }

    fn cors_lines(&self) -> &[u8] {
        self.head_buf.get(..self.cors).unwrap_or_default()
    }

    pub(crate) fn client_head(&self, route: &Route, closes: bool) -> ClientHead<'_> {
        ClientHead {
            cors: self.marks.map(|_| self.cors_lines()),
            replaced: self
                .marks
                .map_or_else(Default::default, |marks| marks.replaced),
            vary: self.marks.and_then(|marks| marks.vary),
            via: route.forwarding.via,
            coding: self.coding(),
            ends: ends(closes, self.is_http10),
        }
    }

    /// How a body of unknown length is sent to the client.
    pub(crate) fn coding(&self) -> Coding {
        match self.is_http10 {
            true => Coding::Identity,
            false => Coding::Chunks,
        }
    }

    /// What happens to the response's trailers.
    pub(crate) fn trailers(&self) -> TrailerPolicy {
        match self.accepts_trailers {
            true => TrailerPolicy::Filter,
            false => TrailerPolicy::Drop,
        }
    }

    /// Which interim responses the client gets.
    pub(crate) fn interim(&self) -> Interim {
        match (self.is_http10, self.expects_continue) {
            (true, _) => Interim::None,
            (false, true) => Interim::All,
            (false, false) => Interim::Unasked,
        }
    }

    /// Whether it has no body.
    pub(crate) fn is_bodiless(&self) -> bool {
        self.framing == Framing::Length(0)
    }

    /// Whether it may be sent twice (RFC 9110 §9.2.2); none of its body may have been read.
    pub(crate) fn is_repeatable(&self) -> bool {
        self.is_bodiless() && self.method.is_idempotent()
    }
}
