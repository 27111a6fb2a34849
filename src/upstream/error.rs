//! Every error of a request, and the one table that maps it to a status, a reason and the side to
//! blame.

use std::borrow::Cow;
use std::error::Error as _;
use std::io;

use http::StatusCode;
use thiserror::Error;

use crate::metrics::UpstreamFailure;

/// Why a request got no response from its upstream.
///
/// `Display` describes this level only; [`source`](std::error::Error::source) has the cause.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum Error {
    /// The request is not HTTP, or HTTP that another server might read differently.
    #[error("malformed request: {0}")]
    MalformedRequest(&'static str),
    /// The request's head did not arrive in time.
    #[error("the request's head did not arrive in time")]
    RequestHeadTimeout,
    /// The memory for unfinished request heads was used up before this head was complete.
    #[error("too many request heads are unfinished (`limits.unfinished_head_bytes`)")]
    UnfinishedHead,
    /// The request's host is missing, repeated or invalid.
    #[error("the request's host is missing, repeated or invalid")]
    InvalidHost,
    /// The request's target is invalid, or has a form that only forward proxies serve.
    #[error("the request's target is invalid for a reverse proxy")]
    InvalidTarget,
    /// A `TRACE` that must not be forwarded any further. It is not answered, because the answer
    /// would reveal the request's fields.
    #[error("TRACE is not allowed: its Max-Forwards ends at this proxy")]
    TraceEnds,
    /// An extended CONNECT for a protocol other than WebSocket.
    #[error("the protocol of the extended CONNECT is not supported")]
    UnknownProtocol,
    /// The request passed through this proxy too often: an upstream leads back to it.
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
    /// The request's body stopped arriving.
    #[error("the request's body stopped arriving")]
    RequestBodyTimeout,
    /// The request's body failed: the client left, or sent an invalid body.
    #[error("the request's body failed")]
    RequestBody(#[source] io::Error),
    /// All of the upstream's connections are in use, and no more may be opened or waited for.
    #[error("all connections to upstream {upstream} are in use")]
    Busy {
        /// Its address in the config.
        upstream: String,
    },
    /// No file descriptor is left for a connection to the upstream.
    #[error("no file descriptor is left for a connection to upstream {upstream}")]
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
    /// No connection to the upstream was established in time.
    #[error("connecting to upstream {upstream} timed out")]
    ConnectTimeout {
        /// Its address in the config.
        upstream: String,
    },
    /// The TLS handshake with the upstream failed.
    #[error("TLS handshake with upstream {upstream} failed")]
    Tls {
        /// Its address in the config.
        upstream: String,
        /// The cause, and what to do.
        source: io::Error,
    },
    /// The upstream sent no response head in time.
    #[error("upstream {upstream} sent no response in time")]
    ResponseHeadTimeout {
        /// Its address in the config.
        upstream: String,
    },
    /// The upstream closed the connection without a response.
    #[error("upstream {upstream} closed the connection without a response")]
    Closed {
        /// Its address in the config.
        upstream: String,
        /// The error of the connection.
        source: io::Error,
    },
    /// The upstream refused the request without processing it (HTTP/2).
    #[error("upstream {upstream} refused the request without processing it")]
    Refused {
        /// Its address in the config.
        upstream: String,
        /// The HTTP/2 error.
        source: hyper::Error,
    },
    /// The upstream's response is not valid HTTP.
    #[error("upstream {upstream} sent an invalid response")]
    InvalidResponse {
        /// Its address in the config.
        upstream: String,
        /// The parser's error.
        source: hyper::Error,
    },
    /// The upstream's response is HTTP but cannot be passed on.
    #[error("upstream {upstream} sent {what}")]
    Unacceptable {
        /// Its address in the config.
        upstream: String,
        /// What it sent.
        what: Cow<'static, str>,
    },
    /// The upstream sent more than a limit allows.
    #[error("upstream {upstream} sent {what}")]
    OverLimit {
        /// Its address in the config.
        upstream: String,
        /// What exceeded which key of the config's `route.limits`.
        what: &'static str,
    },
}

/// The upstream sent interim responses without end.
pub(crate) const MANY_INTERIM: &str = "more interim responses than `interim_responses`";

/// Which side caused an error; determines the log level.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Blame {
    /// The client: logged at debug.
    Client,
    /// The upstream: logged at warn.
    Upstream(UpstreamFailure),
}

/// The response to an error.
#[derive(Clone, Copy, Debug)]
pub struct ErrorAnswer {
    /// The status.
    pub status: StatusCode,
    /// `Code` of S3's error document.
    pub code: &'static str,
    /// Which side caused it.
    pub blame: Blame,
    /// After how many seconds a retry makes sense, if known.
    pub retry_after: Option<u32>,
    /// Whether to close the connection: a misread request may have left bytes on it.
    pub close: bool,
}

impl Error {
    /// The response to the client, and which side caused the error.
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

    /// The upstream that failed, and the reason it is counted under.
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

    /// Whether the error says that the upstream is unhealthy. Too many requests, a graceful
    /// shutdown, or a lack of resources in this process do not.
    pub(crate) fn is_upstreams_fault(&self) -> bool {
        match self.answer().blame {
            // An invalid response may concern only one request.
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

/// Whether the connection ended because of too many interim responses. h2 keeps only the text of an
/// I/O error.
pub(crate) fn has_many_interim(error: &hyper::Error) -> bool {
    let source = error.source();
    source.is_some_and(|source| source.to_string() == MANY_INTERIM)
}

/// Why the body of an HTTP/2 response ended early. hyper's own text does not include it.
pub(crate) fn body_cause(error: &hyper::Error) -> String {
    http2_cause(error).unwrap_or_else(|| match error.source() {
        Some(source) => source.to_string(),
        None => error.to_string(),
    })
}

/// What ended an HTTP/2 stream or connection, with its error code ([RFC 9113 §7]).
///
/// [RFC 9113 §7]: https://www.rfc-editor.org/rfc/rfc9113#section-7
pub(crate) fn http2_cause(error: &hyper::Error) -> Option<String> {
    let error = std::error::Error::source(error)?.downcast_ref::<h2::Error>()?;
    let reason = error.reason()?;
    let what = match (error.is_remote(), error.is_reset(), error.is_go_away()) {
        (true, true, _) => "it reset the stream",
        (true, _, true) => "it closed the connection (GOAWAY)",
        (false, true, _) => "the stream was reset because of a protocol violation",
        _ => "the connection was closed because of a protocol violation",
    };
    // For example `PROTOCOL_ERROR`.
    Some(format!("{what}: {reason:?} (0x{:x})", u32::from(reason)))
}
