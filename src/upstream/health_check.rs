//! Active health checks: an upstream that has them gets a request at regular intervals, and is not
//! used after too many failures in a row.

use std::sync::{Arc, Weak};

use bytes::Bytes;
use http::{Request, StatusCode, Uri};
use http_body_util::Empty;
use hyper::client::conn::http2;
use hyper_util::rt::TokioIo;

use super::check_settings::CheckSettings;
use super::endpoint::Upstream;
use super::error::{Error, from_hyper};
use super::http1_once::request_once;
use super::local_executor::LocalExecutor;
use super::stream::UpstreamStream;

/// Checks an upstream until no snapshot uses it, unless it is already being checked.
pub(crate) fn start(upstream: &Arc<Upstream>) {
    let Some(settings) = upstream.settings.check.clone() else {
        return;
    };
    if !upstream.health.begin_checks() {
        return;
    }
    let upstream = Arc::downgrade(upstream);
    tokio::task::spawn_local(async move {
        let mut tally = Tally::new(&settings);
        let mut interval = tokio::time::interval(settings.interval);
        loop {
            interval.tick().await;
            let Some(upstream) = Weak::upgrade(&upstream) else {
                return;
            };
            let Some(checked) = check(&upstream, &settings).await else {
                continue;
            };
            let failure = checked.as_ref().err();
            let Some(is_failing) = tally.count(failure.is_none()) else {
                continue;
            };
            let (path, cause) = (settings.path.as_str(), failure.map(String::as_str));
            upstream.health.set_failing(cause);
            tracing::warn!(%upstream, path, is_failing, cause, "health check state changed");
        }
    });
}

/// Checks it once. `Err`: why it fails; `None`: unknown, because of a problem in this process.
async fn check(upstream: &Upstream, settings: &CheckSettings) -> Option<Result<(), String>> {
    let asked = tokio::time::timeout(settings.interval, request_status(upstream, settings));
    let failure = match asked.await {
        Ok(Ok(status)) => match status {
            status if settings.passes_with(status) => return Some(Ok(())),
            status => format!("status {}, which is not in `check_status`", status.as_str()),
        },
        Ok(Err(error)) if !error.is_upstreams_fault() => return None,
        Ok(Err(error)) => match std::error::Error::source(&error) {
            Some(source) => format!("{error}: {source}"),
            None => error.to_string(),
        },
        Err(_) => format!("no answer within {:?}", settings.interval),
    };
    tracing::debug!(%upstream, path = settings.path.as_str(), cause = &*failure, "health check failed");
    Some(Err(failure))
}

/// The status of the upstream's response.
async fn request_status(
    upstream: &Upstream,
    settings: &CheckSettings,
) -> Result<StatusCode, Error> {
    let failed = |error| from_hyper(error, upstream);
    let stream = UpstreamStream::connect(upstream).await?;
    if !stream.speaks_http2(upstream) {
        let CheckSettings { method, path, .. } = settings;
        let mut request = format!("{method} {path} HTTP/1.1\r\nhost: ").into_bytes();
        request.extend_from_slice(
            settings
                .host
                .as_ref()
                .unwrap_or(&upstream.authority)
                .as_bytes(),
        );
        request.extend_from_slice(b"\r\n\r\n");
        let asked = request_once(stream, &request, &upstream.settings.limits, 0).await;
        let asked = asked.map_err(|no_reply| no_reply.error_of(upstream));
        return asked.map(|(status, _)| status);
    }
    let builder = http2::Builder::new(LocalExecutor);
    let handshake = builder.handshake(TokioIo::new(stream)).await;
    let (mut sender, connection) = handshake.map_err(failed)?;
    tokio::task::spawn_local(connection);
    let asked = sender.send_request(request(upstream, settings)).await;
    asked.map(|response| response.status()).map_err(failed)
}

fn request(upstream: &Upstream, settings: &CheckSettings) -> Request<Empty<Bytes>> {
    let mut request = Request::new(Empty::new());
    *request.method_mut() = settings.method.clone();
    let scheme = if upstream.settings.tls.is_some() {
        "https"
    } else {
        "http"
    };
    let uri = Uri::from(settings.path.clone());
    let mut parts = uri.clone().into_parts();
    parts.scheme = scheme.parse().ok();
    parts.authority = settings
        .host
        .as_ref()
        .unwrap_or(&upstream.authority)
        .as_bytes()
        .try_into()
        .ok();
    *request.uri_mut() = Uri::from_parts(parts).unwrap_or(uri);
    request
}

/// Passes or failures in a row.
struct Tally {
    passes: usize,
    failures: usize,
    /// How many results in a row contradict the current state.
    against: usize,
    is_failing: bool,
}

impl Tally {
    fn new(settings: &CheckSettings) -> Self {
        Self {
            passes: settings.passes,
            failures: settings.failures,
            against: 0,
            is_failing: false,
        }
    }

    /// Counts a check; `Some`: the state changes, to failing or not.
    fn count(&mut self, passed: bool) -> Option<bool> {
        if passed != self.is_failing {
            self.against = 0;
            return None;
        }
        self.against += 1;
        let needed = if self.is_failing {
            self.passes
        } else {
            self.failures
        };
        if self.against < needed {
            return None;
        }
        self.against = 0;
        self.is_failing = !self.is_failing;
        Some(self.is_failing)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::uri::PathAndQuery;

    #[test]
    fn the_state_changes_after_enough_results_in_a_row() {
        let settings = CheckSettings::new(PathAndQuery::from_static("/"));
        let mut tally = Tally::new(&settings);
        let checks = "+--+---+-++-";
        let turns = "......!...!.";
        for (at, (check, turn)) in checks.chars().zip(turns.chars()).enumerate() {
            let turned = tally.count(check == '+').is_some();
            assert_eq!(turned, turn == '!', "check {at} of {checks}");
        }
    }
}
