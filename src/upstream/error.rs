//! What can go wrong with a request, and the one table from it to status, reason and blame.

use std::borrow::Cow;
use std::error::Error as _;
use std::io;

use http::StatusCode;
use thiserror::Error;

use crate::metrics::UpstreamFailure;

/// Why a request got no response from its upstream.
///
/// `Display` tells this level only; [`source`](std::error::Error::source) has the rest.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum Error {
    /// The request is not HTTP, or HTTP that another server might read differently.
    #[error("malformed request: {0}")]
    MalformedRequest(&'static str),
    /// The request's line and fields stopped coming.
    #[error("the request's head stopped coming")]
    RequestHeadTimeout,
    /// The request's line and fields did not end before the memory for unfinished heads was used up.
    #[error("too many request heads are unfinished (`limits.unfinished_head_bytes`)")]
    UnfinishedHead,
    /// The request has no host, several, or one that is none.
    #[error("the request's host is missing, doubled or invalid")]
    InvalidHost,
    /// The request's target has a form that only forward proxies serve, or is no target.
    #[error("the request's target is not one that a reverse proxy serves")]
    InvalidTarget,
    /// A `TRACE` is for us, and shows what fields it came with: we answer none.
    #[error("a TRACE goes no further than here, and is not answered here")]
    TraceEnds,
    /// An extended CONNECT for another protocol than WebSocket.
    #[error("the protocol that an extended CONNECT asks for is not supported")]
    UnknownProtocol,
    /// The request came back, again and again: an upstream leads to this proxy.
    #[error("the request passed through s3cors too often: an upstream leads back to it")]
    Loop,
    /// No route serves the request's host.
    #[error("no route serves this host")]
    UnknownHost,
    /// The request's line and fields are too large.
    #[error("the request's head is too large")]
    HeadTooLarge,
    /// The request's target is too long.
    #[error("the request's target is too long")]
    UriTooLong,
    /// The request's body stopped coming.
    #[error("the request's body stopped coming")]
    RequestBodyTimeout,
    /// The request's body failed: the client left, or sent what is no body.
    #[error("the request's body failed")]
    RequestBody(#[source] io::Error),
    /// All of the upstream's connections are in use, and no more may be opened or waited for.
    #[error("upstream {upstream} has no connection to spare")]
    Busy {
        /// Its address in the config.
        upstream: String,
    },
    /// The system has no descriptor left for a connection to the upstream.
    #[error("no descriptor is left for a connection to upstream {upstream}")]
    NoDescriptor {
        /// Its address in the config.
        upstream: String,
        /// What the operating system said.
        source: io::Error,
    },
    /// The upstream's name could not be looked up.
    #[error("cannot look up upstream {upstream}")]
    Dns {
        /// Its address in the config.
        upstream: String,
        /// What the resolver said.
        source: io::Error,
    },
    /// The upstream could not be reached.
    #[error("cannot connect to upstream {upstream}")]
    Connect {
        /// Its address in the config.
        upstream: String,
        /// What the operating system said.
        source: io::Error,
    },
    /// No connection to the upstream in time.
    #[error("cannot connect to upstream {upstream} in time")]
    ConnectTimeout {
        /// Its address in the config.
        upstream: String,
    },
    /// The TLS handshake with the upstream failed.
    #[error("TLS handshake with upstream {upstream} failed")]
    Tls {
        /// Its address in the config.
        upstream: String,
        /// Why, and what to do.
        source: io::Error,
    },
    /// The upstream sent no response head in time.
    #[error("upstream {upstream} sent no response in time")]
    ResponseHeadTimeout {
        /// Its address in the config.
        upstream: String,
    },
    /// The upstream closed the connection before a response.
    #[error("upstream {upstream} closed the connection without a response")]
    Closed {
        /// Its address in the config.
        upstream: String,
        /// What the connection said.
        source: io::Error,
    },
    /// The upstream did nothing with the request, and said so (HTTP/2).
    #[error("upstream {upstream} refused the request unprocessed")]
    Refused {
        /// Its address in the config.
        upstream: String,
        /// What it said.
        source: hyper::Error,
    },
    /// The upstream sent what is no HTTP response.
    #[error("upstream {upstream} sent no valid response")]
    InvalidResponse {
        /// Its address in the config.
        upstream: String,
        /// What the parser said.
        source: hyper::Error,
    },
    /// The upstream sent what is HTTP but cannot be passed on.
    #[error("upstream {upstream} sent {what}")]
    Unacceptable {
        /// Its address in the config.
        upstream: String,
        /// What it sent.
        what: Cow<'static, str>,
    },
    /// The upstream sent more than a limit of ours lets through.
    #[error("upstream {upstream} sent {what}")]
    OverLimit {
        /// Its address in the config.
        upstream: String,
        /// More of what than which key of the config's `route.limits`.
        what: &'static str,
    },
}

/// What an upstream sends that answers with nothing else.
pub(crate) const MANY_INTERIM: &str = "more interim responses than `interim_responses`";

/// Whose fault an error is; the log level follows from it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Blame {
    /// The client's: logged at debug.
    Client,
    /// The upstream's: logged at warn.
    Upstream(UpstreamFailure),
}

/// What a client sees of an error.
#[derive(Clone, Copy, Debug)]
pub struct ErrorAnswer {
    /// The status.
    pub status: StatusCode,
    /// `Code` of S3's error document.
    pub code: &'static str,
    /// Who is to blame.
    pub blame: Blame,
    /// After how many seconds it is worth to ask again; `None`: that is not known.
    pub retry_after: Option<u32>,
    /// Whether the connection ends: a request that was misread may have left bytes behind.
    pub close: bool,
}

impl Error {
    /// What the client sees, and who is to blame.
    ///
    /// The only place where errors become statuses.
    #[must_use]
    pub fn answer(&self) -> ErrorAnswer {
        let client = |status, code, close| ErrorAnswer {
            status,
            code,
            blame: Blame::Client,
            retry_after: None,
            close,
        };
        let upstream = |status, code, failure| ErrorAnswer {
            status,
            code,
            blame: Blame::Upstream(failure),
            retry_after: None,
            close: false,
        };
        let bad_gateway = |failure| upstream(StatusCode::BAD_GATEWAY, "BadGateway", failure);
        let too_slow = |failure| upstream(StatusCode::GATEWAY_TIMEOUT, "GatewayTimeout", failure);
        match self {
            Self::MalformedRequest(_) | Self::InvalidHost | Self::InvalidTarget => {
                client(StatusCode::BAD_REQUEST, "InvalidRequest", true)
            }
            Self::TraceEnds => client(StatusCode::METHOD_NOT_ALLOWED, "MethodNotAllowed", false),
            Self::UnknownProtocol => client(StatusCode::NOT_IMPLEMENTED, "NotImplemented", false),
            Self::Loop => upstream(
                StatusCode::LOOP_DETECTED,
                "LoopDetected",
                UpstreamFailure::Loop,
            ),
            Self::UnknownHost => client(StatusCode::MISDIRECTED_REQUEST, "NoSuchBucket", false),
            Self::HeadTooLarge => client(
                StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE,
                "RequestHeaderSectionTooLarge",
                true,
            ),
            Self::UriTooLong => client(StatusCode::URI_TOO_LONG, "URITooLong", true),
            Self::RequestHeadTimeout | Self::RequestBodyTimeout => {
                client(StatusCode::REQUEST_TIMEOUT, "RequestTimeout", true)
            }
            Self::UnfinishedHead => ErrorAnswer {
                retry_after: Some(1),
                ..client(StatusCode::SERVICE_UNAVAILABLE, "SlowDown", true)
            },
            Self::RequestBody(_) => client(StatusCode::BAD_REQUEST, "IncompleteBody", true),
            Self::Busy { .. } | Self::NoDescriptor { .. } | Self::Refused { .. } => ErrorAnswer {
                retry_after: Some(1),
                ..upstream(
                    StatusCode::SERVICE_UNAVAILABLE,
                    "SlowDown",
                    UpstreamFailure::Busy,
                )
            },
            Self::Dns { .. } => bad_gateway(UpstreamFailure::Dns),
            Self::Connect { .. } => bad_gateway(UpstreamFailure::Connect),
            Self::ConnectTimeout { .. } => too_slow(UpstreamFailure::ConnectTimeout),
            Self::Tls { .. } => bad_gateway(UpstreamFailure::Tls),
            Self::ResponseHeadTimeout { .. } => too_slow(UpstreamFailure::ResponseHeadTimeout),
            Self::Closed { .. } => bad_gateway(UpstreamFailure::Closed),
            Self::InvalidResponse { .. } | Self::Unacceptable { .. } | Self::OverLimit { .. } => {
                bad_gateway(UpstreamFailure::InvalidResponse)
            }
        }
    }

    /// Which upstream gave no answer, and the reason that it is counted under.
    pub(crate) fn failed_upstream(&self) -> Option<(&str, UpstreamFailure)> {
        let Blame::Upstream(failure) = self.answer().blame else {
            return None;
        };
        match self {
            Self::Busy { upstream }
            | Self::Refused { upstream, .. }
            | Self::NoDescriptor { upstream, .. }
            | Self::Dns { upstream, .. }
            | Self::Connect { upstream, .. }
            | Self::ConnectTimeout { upstream }
            | Self::Tls { upstream, .. }
            | Self::ResponseHeadTimeout { upstream }
            | Self::Closed { upstream, .. }
            | Self::InvalidResponse { upstream, .. }
            | Self::Unacceptable { upstream, .. }
            | Self::OverLimit { upstream, .. } => Some((upstream, failure)),
            Self::MalformedRequest(_)
            | Self::RequestHeadTimeout
            | Self::UnfinishedHead
            | Self::InvalidHost
            | Self::InvalidTarget
            | Self::TraceEnds
            | Self::Loop
            | Self::UnknownProtocol
            | Self::UnknownHost
            | Self::HeadTooLarge
            | Self::UriTooLong
            | Self::RequestBodyTimeout
            | Self::RequestBody(_) => None,
        }
    }

    /// Whether it tells that the upstream fares badly: that it is asked too much or is about to end
    /// does not, nor that this process has no room.
    pub(crate) fn is_upstreams_fault(&self) -> bool {
        match self.answer().blame {
            // What it sends may be wrong for one request only.
            Blame::Client
            | Blame::Upstream(
                UpstreamFailure::Busy | UpstreamFailure::InvalidResponse | UpstreamFailure::Loop,
            ) => false,
            Blame::Upstream(_) => true,
        }
    }
}

pub(crate) fn from_hyper(source: hyper::Error, upstream: &impl ToString) -> Error {
    let upstream = upstream.to_string();
    if has_many_interim(&source) {
        let what = MANY_INTERIM;
        Error::OverLimit { upstream, what }
    } else if source.is_parse_too_large() {
        let what = "more than `response_head_bytes` or `response_header_count`";
        Error::OverLimit { upstream, what }
    } else if source.is_parse() {
        Error::InvalidResponse { upstream, source }
    } else {
        let source = match http2_cause(&source) {
            Some(cause) => io::Error::other(cause),
            None => io::Error::other(source),
        };
        Error::Closed { upstream, source }
    }
}

/// Whether the connection ended for too many interim responses. h2 keeps no more of an I/O error than
/// its text.
pub(crate) fn has_many_interim(error: &hyper::Error) -> bool {
    let source = error.source();
    source.is_some_and(|source| source.to_string() == MANY_INTERIM)
}

/// Why the body of an HTTP/2 response broke off: hyper's own text does not say.
pub(crate) fn body_cause(error: &hyper::Error) -> String {
    http2_cause(error).unwrap_or_else(|| match error.source() {
        Some(source) => source.to_string(),
        None => error.to_string(),
    })
}

/// What ended a stream or a connection of HTTP/2, with its code ([RFC 9113 §7]).
///
/// [RFC 9113 §7]: https://www.rfc-editor.org/rfc/rfc9113#section-7
pub(crate) fn http2_cause(error: &hyper::Error) -> Option<String> {
    let error = std::error::Error::source(error)?.downcast_ref::<h2::Error>()?;
    let reason = error.reason()?;
    let what = match (error.is_remote(), error.is_reset(), error.is_go_away()) {
        (true, true, _) => "it reset the stream",
        (true, _, true) => "it ended the connection (GOAWAY)",
        (false, true, _) => "the stream was reset because of what it sent",
        _ => "the connection was ended because of what it sent",
    };
    // As `PROTOCOL_ERROR`.
    Some(format!("{what}: {reason:?} (0x{:x})", u32::from(reason)))
}
