//! What a byte-level exchange keeps of its request for the access log.

use std::net::IpAddr;
use std::ops::Range;
use std::time::SystemTime;

use http::{StatusCode, Version};

use crate::cors::fetch::AnswerVerdict;
use crate::cors::{Kind, Reason};
use crate::metrics::UpstreamFailure;
use crate::telemetry::access_log::BodyCut;
use crate::telemetry::live::LiveNote;
use crate::telemetry::trace_context::TraceId;
use crate::telemetry::traces::OpenSpan;
use crate::upstream::endpoint::Upstream;

/// What is known of a request from its head. The ranges are places in the exchange's `head_buf`.
pub(crate) struct AccessNote {
    pub(crate) time: SystemTime,
    pub(crate) address: Option<IpAddr>,
    pub(crate) target: Range<usize>,
    pub(crate) host: Range<usize>,
    pub(crate) origin: Option<Range<usize>>,
    pub(crate) referer: Option<Range<usize>>,
    pub(crate) user_agent: Option<Range<usize>>,
    pub(crate) version: Version,
    pub(crate) span: Option<OpenSpan>,
    pub(crate) trace_id: Option<TraceId>,
    pub(crate) decision: Option<(Kind, Result<(), Reason>)>,
    /// The method and headers that a preflight asks for.
    pub(crate) asked: Option<(Range<usize>, Range<usize>)>,
    pub(crate) tls: bool,
    /// What the console shows about the decision.
    pub(crate) live: Option<Box<LiveNote>>,
}

/// How an exchange ended.
pub(crate) struct ExchangeEnd<'e> {
    pub(crate) status: StatusCode,
    /// Bytes of the response's body that were sent to the client.
    pub(crate) bytes: u64,
    /// Which side cut it short.
    pub(crate) cut: Option<BodyCut>,
    /// The upstream that answered; `None`: the proxy itself.
    pub(crate) upstream: Option<&'e Upstream>,
    /// The upstream that failed to answer, and why.
    pub(crate) failed: Option<(&'e str, UpstreamFailure)>,
    pub(crate) request_id: &'e str,
    pub(crate) verdict: Option<AnswerVerdict>,
}

/// A request that the proxy answered itself.
pub(crate) struct Answered<'a> {
    pub(crate) status: StatusCode,
    pub(crate) decision: Option<(Kind, Result<(), Reason>)>,
    pub(crate) verdict: Option<AnswerVerdict>,
    /// What the console shows about the decision.
    pub(crate) live: Option<&'a LiveNote>,
    pub(crate) request_id: &'a str,
    /// Bytes of the body.
    pub(crate) bytes: usize,
}
