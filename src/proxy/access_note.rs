//! What is kept of a request on bytes for its access record.

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

/// What is known of a request at its head. The ranges are places in the exchange's head_buf.
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
    /// The method and the headers that a preflight asks for.
    pub(crate) asked: Option<(Range<usize>, Range<usize>)>,
    pub(crate) tls: bool,
    /// What the console shows of the decision.
    pub(crate) live: Option<Box<LiveNote>>,
}

/// How an exchange ended.
pub(crate) struct ExchangeEnd<'e> {
    pub(crate) status: StatusCode,
    /// Of the response's body, sent to the client.
    pub(crate) bytes: u64,
    /// Who cut it short.
    pub(crate) cut: Option<BodyCut>,
    /// Who answered; `None`: we did.
    pub(crate) upstream: Option<&'e Upstream>,
    /// Who should have answered and did not, and why.
    pub(crate) failed: Option<(&'e str, UpstreamFailure)>,
    pub(crate) request_id: &'e str,
    pub(crate) verdict: Option<AnswerVerdict>,
}

/// How a request was answered here.
pub(crate) struct Answered<'a> {
    pub(crate) status: StatusCode,
    pub(crate) decision: Option<(Kind, Result<(), Reason>)>,
    pub(crate) verdict: Option<AnswerVerdict>,
    /// What the console shows of the decision.
    pub(crate) live: Option<&'a LiveNote>,
    pub(crate) request_id: &'a str,
    /// Of the body.
    pub(crate) bytes: usize,
}
