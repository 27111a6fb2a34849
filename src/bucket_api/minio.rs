//! Lets MinIO authorize changes of a bucket's CORS configuration: the client's own signed request
//! is forwarded to it, and its 501 means yes.
//!
//! MinIO's community edition has no CORS configuration per bucket. Newer releases first verify
//! the signature and the policy of a `?cors` request, and then answer 501
//! (`PutBucketCorsHandler`, [minio#20220] and [minio#20253], August 2024); older ones answer 501
//! to everyone (`rejectedBucketAPIs` of `cmd/api-router.go`), and all of them answer 501 to
//! everyone who adds `?website` or another parameter of that list. So a 501 alone proves nothing.
//! Each request is sent to one upstream, on one connection if it stays open, in this order:
//!
//! 1. a PUT without its signature, and the request itself without its signature: both must be refused
//!    with 403;
//! 2. the request as it came: MinIO's 501, for this bucket, is the permission. Any other answer is a
//!    refusal, which the client gets.
//!
//! If a load balancer sends them to different servers, which MinIO identifies by `x-amz-id-2`,
//! the first step is repeated until the server of step 2 has refused one; otherwise the request
//! is refused. A server other than MinIO does not refuse step 1, or does not answer 501, and it
//! receives no request with a deleting method before it has refused a PUT.
//!
//! [minio#20220]: https://github.com/minio/minio/pull/20220
//! [minio#20253]: https://github.com/minio/minio/pull/20253

use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use arc_swap::ArcSwapOption;
use bytes::Bytes;
use http::{HeaderMap, Method, StatusCode};
use tokio::sync::Semaphore;

use crate::proxy::request_edit::has_looped;
use crate::routing::cors_api::ApiRequest;
use crate::routing::snapshot::HostHeader;
use crate::upstream::direct::DirectConn;
use crate::upstream::endpoint::Upstream;
use crate::upstream::error::Error;

use super::error::ApiError;
use super::minio_answer::{Asked, Asking, Problem, Verdict, server_of};
use super::query::Query;

/// The time limit for an answer of an upstream.
const PATIENCE: Duration = Duration::from_secs(10);

/// The maximum number of repetitions of the first step.
const MAX_REPEATS: usize = 16;

/// The maximum number of concurrent requests, over all workers.
const MAX_UNDER_WAY: usize = 8;

/// How often health and addresses are checked.
const LOOK: Duration = Duration::from_secs(1);

/// How often an unchanged upstream is probed.
const PROBE: Duration = Duration::from_secs(60);

/// How often an unreachable upstream is probed.
const RETRY: Duration = Duration::from_secs(5);

/// Bucket and query of the unsigned probe.
const PROBE_TARGET: &str = "/s3cors-probe?cors";

/// The allowed query parameters. MinIO answers 501 to everyone for subresources that it does not
/// support.
const NAMES: [&str; 10] = [
    "cors",
    "x-id",
    "X-Amz-Algorithm",
    "X-Amz-Content-Sha256",
    "X-Amz-Credential",
    "X-Amz-Date",
    "X-Amz-Expires",
    "X-Amz-Security-Token",
    "X-Amz-Signature",
    "X-Amz-SignedHeaders",
];

/// Asks the upstreams of a route for authorization.
#[derive(Debug)]
pub struct MinioCheck {
    /// The `route` label.
    route: Box<str>,
    upstreams: Box<[Probed]>,
    host_header: HostHeader,
    /// Limits concurrent requests.
    permits: Semaphore,
}

#[derive(Debug)]
struct Probed {
    upstream: Arc<Upstream>,
    /// `None` if not known yet.
    state: ArcSwapOption<ProbeState>,
}

/// The state of an upstream.
#[derive(Clone, Debug)]
pub(super) struct ProbeState {
    /// `None` if its 501 is reliable.
    pub(super) problem: Option<Problem>,
    pub(super) since: SystemTime,
}

impl MinioCheck {
    /// A check with these upstreams.
    #[must_use]
    pub fn new(route: &str, upstreams: &[Arc<Upstream>], host_header: HostHeader) -> Self {
        let upstreams = upstreams.iter().map(|upstream| Probed {
            upstream: Arc::clone(upstream),
            state: ArcSwapOption::empty(),
        });
        Self {
            route: route.into(),
            upstreams: upstreams.collect(),
            host_header,
            permits: Semaphore::new(MAX_UNDER_WAY),
        }
    }

    /// Whether MinIO allows the client's request.
    pub(super) async fn check(
        &self,
        request: &ApiRequest<'_>,
        bucket: &str,
        body: Bytes,
    ) -> Result<(), ApiError> {
        if has_looped(request.forwarded) {
            let message = "The request came back to s3cors: an upstream leads to it.";
            let status = StatusCode::LOOP_DETECTED;
            return Err(ApiError::new(status, "InvalidRequest", message));
        }
        // Anyone can cause forwarded requests.
        let Ok(_permit) = self.permits.try_acquire() else {
            let message = "Please reduce your request rate.";
            let status = StatusCode::SERVICE_UNAVAILABLE;
            return Err(ApiError::new(status, "SlowDown", message));
        };
        let query = Query::parse(request.query);
        let is_allowed = |name: &[u8]| NAMES.iter().any(|known| known.as_bytes() == name);
        if let Some(name) = query.names().find(|name| !is_allowed(name)) {
            let message = "This parameter is not allowed in a request for a CORS configuration.";
            return Err(ApiError::bad_request("InvalidArgument", message)
                .with("ArgumentName", String::from_utf8_lossy(name)));
        }
        let asked = Asked {
            method: request.method.clone(),
            target: format!("{}?{}", request.path, request.query),
            unsigned_target: format!("{}?cors", request.path),
            fields: request.forwarded,
            body,
        };
        // Another upstream is tried only if connecting fails, because then nothing was sent.
        let mut failure = None;
        for probed in self.by_health() {
            match DirectConn::open(&probed.upstream, PATIENCE).await {
                Ok(conn) => return self.ask(probed, conn, &asked, bucket).await,
                Err(error) => failure = Some(self.unreachable(probed, &error)),
            }
        }
        Err(failure
            .unwrap_or_else(|| off(&Problem::Unreachable("the route has no upstream".into()))))
    }

    /// Healthy ones first.
    fn by_health(&self) -> impl Iterator<Item = &Probed> {
        let is_healthy = |probed: &&Probed| probed.upstream.condition().is_healthy;
        let healthy = self.upstreams.iter().filter(is_healthy);
        healthy.chain(
            self.upstreams
                .iter()
                .filter(move |probed| !is_healthy(probed)),
        )
    }

    async fn ask(
        &self,
        probed: &Probed,
        conn: DirectConn<'_>,
        asked: &Asked<'_>,
        bucket: &str,
    ) -> Result<(), ApiError> {
        let upstream = &*probed.upstream;
        let mut conn = Asking {
            conn,
            upstream,
            host_header: self.host_header,
        };
        let failed = |error: Error| self.unreachable(probed, &error);
        let mut known = Vec::new();
        for method in [Method::PUT, asked.method.clone()] {
            match conn.unsigned(asked, method).await.map_err(failed)? {
                Ok(server) => known.push(server),
                Err(problem) => return Err(self.not_refused(probed, problem).await),
            }
        }
        let response = conn.signed(asked).await.map_err(failed)?;
        let server = server_of(&response);
        let verdict = Verdict::of(&response, asked, bucket);
        match verdict {
            Verdict::Refused(error) => return Err(error),
            Verdict::NotMinio(status) => return Err(off(&Problem::NotMinio(status))),
            Verdict::Allowed => {}
        }
        // The server that granted the request must be one that refuses unsigned requests.
        for _ in 0..MAX_REPEATS {
            if known.contains(&server) {
                return Ok(());
            }
            let refused = conn.unsigned(asked, Method::PUT).await.map_err(failed)?;
            match refused {
                Ok(server) => known.push(server),
                Err(problem) => return Err(self.not_refused(probed, problem).await),
            }
        }
        match known.contains(&server) {
            true => Ok(()),
            false => Err(ApiError::new(
                StatusCode::SERVICE_UNAVAILABLE,
                "ServiceUnavailable",
                "The request cannot be authorized: the upstream's servers answer by turns. Try again.",
            )),
        }
    }

    /// An unsigned request was not refused: the upstream refuses none, or just not this one. Only
    /// a probe can tell.
    async fn not_refused(&self, probed: &Probed, problem: Problem) -> ApiError {
        let refuses_others = self.probe(probed).await
            && probed
                .state
                .load()
                .as_ref()
                .is_some_and(|state| state.problem.is_none());
        match problem {
            Problem::Unauthenticated if refuses_others => ApiError::access_denied(
                "The upstream accepts requests for this bucket without a signature; restrict the bucket's policy,                  or upgrade all of its servers.",
            ),
            problem => off(&problem),
        }
    }

    fn unreachable(&self, probed: &Probed, error: &Error) -> ApiError {
        let why = match std::error::Error::source(error) {
            Some(source) => format!("{error}: {source}"),
            None => error.to_string(),
        };
        let problem = Problem::Unreachable(why);
        let error = off(&problem);
        self.note(probed, Some(problem));
        error
    }

    /// Records an upstream's state, and logs a change.
    fn note(&self, probed: &Probed, problem: Option<Problem>) {
        let before = probed.state.load();
        if before
            .as_ref()
            .is_some_and(|before| before.problem == problem)
        {
            return;
        }
        let (route, upstream) = (&*self.route, probed.upstream.url());
        match &problem {
            None => tracing::info!(
                route,
                upstream,
                "the CORS API is on: the upstream authenticates requests"
            ),
            Some(problem) => tracing::error!(route, upstream, %problem, "the CORS API is off"),
        }
        let since = SystemTime::now();
        probed
            .state
            .store(Some(Arc::new(ProbeState { problem, since })));
    }

    /// The state of each upstream.
    pub(super) fn states(&self) -> impl Iterator<Item = (String, Option<Arc<ProbeState>>)> {
        let upstreams = self.upstreams.iter();
        upstreams.map(|probed| (probed.upstream.url(), probed.state.load_full()))
    }

    /// Probes the upstreams at once, after each change, and periodically. Never returns.
    pub(super) async fn keep_probing(&self) {
        let mut seen: Vec<(bool, Vec<std::net::SocketAddr>)> = Vec::new();
        let mut due = Instant::now();
        loop {
            let mut now_seen = Vec::new();
            for probed in &self.upstreams {
                let addresses = match probed.upstream.resolver() {
                    Some(resolver) => resolver
                        .addresses()
                        .await
                        .map(|found| found.addresses.to_vec()),
                    None => Ok(Vec::new()),
                };
                let is_healthy = probed.upstream.condition().is_healthy;
                now_seen.push((is_healthy, addresses.unwrap_or_default()));
            }
            if now_seen != seen || Instant::now() >= due {
                let mut all_answer = true;
                for probed in &self.upstreams {
                    all_answer &= self.probe(probed).await;
                }
                due = Instant::now() + if all_answer { PROBE } else { RETRY };
                seen = now_seen;
            }
            tokio::time::sleep(LOOK).await;
        }
    }

    /// Sends an unsigned PutBucketCors. Returns whether the upstream answered.
    async fn probe(&self, probed: &Probed) -> bool {
        let fields = HeaderMap::new();
        let asked = Asked {
            method: Method::PUT,
            target: PROBE_TARGET.to_owned(),
            unsigned_target: PROBE_TARGET.to_owned(),
            fields: &fields,
            body: Bytes::new(),
        };
        let upstream = &*probed.upstream;
        let answer = async {
            let conn = DirectConn::open(upstream, PATIENCE).await?;
            let mut conn = Asking {
                conn,
                upstream,
                host_header: HostHeader::Upstream,
            };
            conn.unsigned(&asked, Method::PUT).await
        };
        match answer.await {
            Ok(refused) => {
                self.note(probed, refused.err());
                true
            }
            Err(error) => {
                self.unreachable(probed, &error);
                false
            }
        }
    }
}

/// The response while the API is off.
fn off(problem: &Problem) -> ApiError {
    match problem {
        Problem::Unreachable(_) => {
            let message = "The request cannot be authorized: the upstream is unreachable.";
            ApiError::new(
                StatusCode::SERVICE_UNAVAILABLE,
                "ServiceUnavailable",
                message,
            )
        }
        Problem::Unauthenticated | Problem::NotMinio(_) => {
            let message = format!("The CORS API of this route is off: {problem}.");
            ApiError::new(StatusCode::NOT_IMPLEMENTED, "NotImplemented", message)
        }
    }
}
