//! A request in progress, as far as the events show.

use crate::cors::fetch::Response;

use super::head::{self, Field};
use super::loose::Loose;
use super::netlog::{Kind, Params};

/// The size of a request besides its texts, in bytes.
const OVERHEAD: usize = 512;

/// The maximum number of URLs of a request: Chrome follows 20 redirects.
const MAX_HOPS: usize = 22;

/// Event phases.
pub(super) const BEGIN: i64 = 1;
pub(super) const END: i64 = 2;

/// The number of an event's source.
pub(super) fn id(id: &Loose) -> Option<u64> {
    id.number().and_then(|id| u64::try_from(id).ok())
}

/// A request in progress.
#[derive(Debug, Default)]
pub(super) struct Pending {
    /// A request of a script or page, not a preflight.
    pub(super) is_main: bool,
    pub(super) has_started: bool,
    pub(super) is_cancelled: bool,
    /// The request is complete: the last of its network requests ends soon.
    pub(super) is_over: bool,
    /// The number of its network requests in progress. After a redirect that needs a preflight
    /// there are two.
    pub(super) alive: i64,
    pub(super) net_error: Option<i64>,
    pub(super) method: String,
    pub(super) headers: Vec<Field>,
    pub(super) initiator: Option<String>,
    pub(super) load_flags: Option<i64>,
    pub(super) hops: Vec<PendingHop>,
    /// Chrome's error about the preflight.
    pub(super) cors_error: Option<(i64, String)>,
    pub(super) size: usize,
}

/// One URL of a request.
#[derive(Debug, Default)]
pub(super) struct PendingHop {
    pub(super) url: String,
    /// The source of its preflight.
    pub(super) preflight: Option<u64>,
    pub(super) origin: Option<String>,
    pub(super) mode: Option<String>,
    pub(super) response: Option<Response>,
}

/// A preflight and its answer.
pub(super) struct Preflight {
    pub(super) url: String,
    pub(super) origin: Option<String>,
    pub(super) response: Option<Response>,
}

impl Preflight {
    pub(super) fn of(pending: Pending) -> Self {
        let last = pending.hops.into_iter().next_back().unwrap_or_default();
        Self {
            url: last.url,
            origin: last.origin,
            response: last.response,
        }
    }
}

impl Pending {
    pub(super) fn apply(&mut self, kind: Kind, phase: i64, params: Params) {
        match (kind, phase) {
            (Kind::CorsRequest, BEGIN) => {
                self.is_main = true;
                let head = params.request_headers.unwrap_or_default();
                let method = head.line.text().and_then(|line| line.split(' ').next());
                method.unwrap_or_default().clone_into(&mut self.method);
                self.headers = head
                    .headers
                    .lines()
                    .iter()
                    .filter_map(|line| head::field(line))
                    .collect();
                self.go_to(params.url.text());
            }
            (Kind::StartJob, BEGIN) => {
                self.has_started = true;
                if let Some(initiator) = params.initiator.text() {
                    self.initiator = Some(initiator.to_owned());
                }
                self.load_flags = params.load_flags.number().or(self.load_flags);
                // If a redirect needs a preflight, Chrome starts again at the new URL.
                match self.hops.last_mut() {
                    Some(hop) if hop.url.is_empty() => {
                        params
                            .url
                            .text()
                            .unwrap_or_default()
                            .clone_into(&mut hop.url);
                    }
                    Some(hop) if hop.response.is_none() => {}
                    Some(_) | None => self.go_to(params.url.text()),
                }
                if self.method.is_empty() {
                    params
                        .method
                        .text()
                        .unwrap_or_default()
                        .clone_into(&mut self.method);
                }
            }
            (Kind::Redirected, _) => match self.hops.last_mut() {
                // The preflight for the new URL came first.
                Some(hop) if hop.url.is_empty() => {
                    params
                        .location
                        .text()
                        .unwrap_or_default()
                        .clone_into(&mut hop.url);
                }
                Some(_) | None => self.go_to(params.location.text()),
            },
            (Kind::PreflightRequest, _) => {
                if self.hops.last().is_some_and(|hop| hop.response.is_some()) {
                    // The preflight itself has the URL.
                    self.go_to(Some(""));
                }
                if let Some(hop) = self.hops.last_mut() {
                    hop.preflight = params.source_dependency.and_then(|source| id(&source.id));
                }
            }
            (Kind::PreflightError, _) => {
                let parameter = params.failed_parameter.text().unwrap_or_default();
                let number = params.cors_error.number();
                self.cors_error = number.map(|number| (number, parameter.to_owned()));
            }
            (Kind::RequestHead, _) => {
                let fields: Vec<Field> = params
                    .headers
                    .lines()
                    .iter()
                    .filter_map(|line| head::field(line))
                    .collect();
                if let Some(hop) = self.hops.last_mut() {
                    hop.origin = head::value(&fields, "origin").map(str::to_owned);
                    hop.mode = head::value(&fields, "sec-fetch-mode").map(str::to_owned);
                }
            }
            (Kind::ResponseHead, _) => {
                let mut lines = params.headers.lines().iter();
                let status = lines.next().and_then(|line| head::status(line));
                let fields = lines.filter_map(|line| head::field(line));
                if let (Some(hop), Some(status)) = (self.hops.last_mut(), status) {
                    hop.response = head::response(status, fields);
                }
            }
            (Kind::Cancelled, _) => self.is_cancelled |= self.is_over,
            (Kind::CorsRequest, END) => self.is_over = true,
            (Kind::Alive, BEGIN) => self.alive += 1,
            (Kind::Alive, END) => {
                self.alive -= 1;
                self.net_error = params.net_error.number();
            }
            (Kind::CorsRequest | Kind::StartJob | Kind::Alive, _) => {}
        }
    }

    fn go_to(&mut self, url: Option<&str>) {
        if let Some(url) = url
            && self.hops.len() < MAX_HOPS
        {
            self.hops.push(PendingHop {
                url: url.to_owned(),
                ..PendingHop::default()
            });
        }
    }

    pub(super) fn measure(&self) -> usize {
        let fields: usize = self
            .headers
            .iter()
            .map(|(name, value)| name.len() + value.len() + 64)
            .sum();
        let hops: usize = self
            .hops
            .iter()
            .map(|hop| {
                let fields = hop.response.iter().flat_map(|response| &response.headers);
                let fields: usize = fields
                    .map(|(name, value)| name.as_str().len() + value.len() + 128)
                    .sum();
                hop.url.len() + hop.origin.as_ref().map_or(0, String::len) + fields + OVERHEAD
            })
            .sum();
        OVERHEAD + fields + hops
    }
}
