//! Explains what happens to a script's request: its route, bucket and policy, whether its browser
//! sends a preflight, the result of each rule, and a command to reproduce it.
//!
//! The command line and the admin console show the same explanation. Its JSON
//! ([`RouteExplanation::to_json`]) is part of the interface: names are added, never changed. It
//! counts rules from 1.

mod advice_json;
mod browser;
mod curl;
mod exchange;
pub(crate) mod exchange_json;
mod fetch;
mod home;
mod json;
mod judged;
mod malformed;
mod reach;
mod words;

use std::borrow::Cow;
use std::sync::Arc;

use http::Uri;

use crate::cors::{Outcome, Policy, ResourceType};
use crate::routing::bucket::{Addressing, MatchedHost};
use crate::routing::host::{Host, HostPattern};
use crate::routing::snapshot::{Route, RoutePolicy, Snapshot};

pub use crate::routing::bucket::Ambiguity;
pub use crate::routing::snapshot::Scope;
pub use browser::{Browser, Remedy};
pub use curl::{Entrance, EntranceAddress};
pub use exchange::{Exchange, Hypothetical, InvalidHypothetical};
pub use exchange_json::{InvalidExchange, exchange_from_json, verdict_to_json};
pub use fetch::PreflightReason;
pub use reach::{Effect, Place};

/// What happens to a script's request.
#[derive(Clone, Debug)]
pub struct RouteExplanation {
    /// The request.
    pub request: Hypothetical,
    /// Whether page and URL have the same origin, so that the browser does not use CORS.
    pub same_origin: bool,
    /// The route and policy; `None` if no route serves the host.
    pub served: Option<Served>,
    /// The policy's answers; `None` if there is no policy: the host is unknown, or the upstream
    /// handles CORS.
    pub exchange: Option<Exchange>,
    /// Some of the served hosts, if this one is unknown.
    pub known_hosts: Vec<String>,
    /// The places that the suggested change applies to.
    pub places: Vec<Place>,
    /// The proxy's listeners, for command lines; empty if unknown.
    pub entrances: Vec<Entrance>,
}

/// The route that serves a request, and the policy in it.
#[derive(Clone, Debug)]
pub struct Served {
    /// The route.
    pub route: Arc<Route>,
    /// The route's host pattern that matched.
    pub host: HostPattern,
    /// Whether the path is an object or its bucket.
    pub resource: ResourceType,
    /// The bucket, on a route with buckets.
    pub bucket: Option<ServedBucket>,
    /// Which policy decides.
    pub scope: Scope,
    /// The policy; `None`: the route is transparent.
    pub policy: Option<Arc<RoutePolicy>>,
}

/// The bucket that a request addresses.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServedBucket {
    /// Its name; `None` if the request is for the service root.
    pub name: Option<String>,
    /// Where the request names the bucket.
    pub addressing: Addressing,
    /// Whether the request lists the buckets.
    pub is_root: bool,
}

/// The verdict in one word.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// The script can read the response.
    Allowed,
    /// The script cannot read the response.
    Refused,
    /// The upstream handles CORS.
    Transparent,
    /// No route serves the host.
    UnknownHost,
}

impl Verdict {
    /// Its name in JSON.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Allowed => "allowed",
            Self::Refused => "refused",
            Self::Transparent => "transparent",
            Self::UnknownHost => "unknown_host",
        }
    }
}

impl Snapshot {
    /// Explains what would happen to a request.
    ///
    /// # Errors
    ///
    /// [`InvalidHypothetical`] if no browser could send it.
    pub fn explain(&self, request: &Hypothetical) -> Result<RouteExplanation, InvalidHypothetical> {
        let (uri, served) = self.served(request)?;
        // Also where no policy is asked: an invalid request is never explained as a valid one.
        let asked = exchange::Asked::new(request)?;
        let decides = served
            .as_ref()
            .and_then(|served| Some((served.policy.as_ref()?, served.resource)));
        let same_origin = asked
            .origin
            .as_bytes()
            .eq_ignore_ascii_case(origin(&uri).as_bytes());
        let mut exchange = match decides {
            Some((policy, resource)) => {
                let exchange = Exchange::new(&policy.policy, request, resource)?;
                Some(exchange.judged(&policy.policy, request))
            }
            None => None,
        };
        if let Some(exchange) = exchange.as_mut().filter(|_| same_origin) {
            exchange.preflight_reasons.clear();
        }
        if let Some(exchange) = &mut exchange {
            exchange.ambiguity = served.as_ref().and_then(Served::ambiguity);
        }
        let known_hosts = self.other_hosts(served.as_ref());
        let decided = exchange.as_ref().filter(|one| one.ambiguity.is_none());
        let places = served.as_ref().zip(decided);
        let places = places.map_or_else(Vec::new, |(served, exchange)| {
            match &exchange.deciding().outcome {
                Outcome::Refused(refusal) => Place::of(self, served, &refusal.advice),
                Outcome::NotCors | Outcome::Allowed(_) => Vec::new(),
            }
        });
        Ok(RouteExplanation {
            places,
            entrances: Vec::new(),
            request: Hypothetical {
                url: uri.to_string(),
                ..request.clone()
            },
            same_origin,
            served,
            exchange,
            known_hosts,
        })
    }

    /// As [`explain`](Self::explain), but also explains preflights that only other clients than browsers send:
    /// those whose method or header names are not tokens.
    ///
    /// # Errors
    ///
    /// [`InvalidHypothetical`] where no client can make the request.
    pub fn explain_as_sent(
        &self,
        request: &Hypothetical,
    ) -> Result<RouteExplanation, InvalidHypothetical> {
        let error = match self.explain(request) {
            Err(error @ (InvalidHypothetical::Method(_) | InvalidHypothetical::Header(_))) => error,
            explained => return explained,
        };
        let (uri, served) = self.served(request)?;
        let policy = served
            .as_ref()
            .and_then(|served| Some((served.policy()?, served.resource)));
        let exchange = policy.map(|(policy, resource)| {
            let mut exchange = Exchange::malformed(policy, request, resource)?;
            exchange.ambiguity = served.as_ref().and_then(Served::ambiguity);
            Some(exchange)
        });
        let exchange = exchange.map(|exchange| exchange.ok_or(error)).transpose()?;
        Ok(RouteExplanation {
            places: Vec::new(),
            entrances: Vec::new(),
            request: Hypothetical {
                url: uri.to_string(),
                ..request.clone()
            },
            same_origin: false,
            known_hosts: self.other_hosts(served.as_ref()),
            served,
            exchange,
        })
    }

    /// The URL of a request, and who serves it.
    fn served(&self, request: &Hypothetical) -> Result<(Uri, Option<Served>), InvalidHypothetical> {
        let uri = uri(&request.url)?;
        let invalid = || InvalidHypothetical::Url(request.url.clone());
        let authority = uri.authority().ok_or_else(invalid)?.as_str();
        let host = Host::parse(authority.as_bytes()).map_err(|_| invalid())?;
        let served = self.hosts.get(&host).and_then(|found| {
            let route = self.routes.get(*found.value)?;
            Some(Served::find(route, &host, found.host(), uri.path()))
        });
        Ok((uri, served))
    }

    /// Some of the hosts that are served, where this one is not.
    fn other_hosts(&self, served: Option<&Served>) -> Vec<String> {
        let routes = self.routes.iter().filter(|_| served.is_none());
        let hosts = routes.flat_map(|route| &route.hosts);
        hosts.take(20).map(ToString::to_string).collect()
    }
}

impl RouteExplanation {
    /// The verdict in one word.
    #[must_use]
    pub fn verdict(&self) -> Verdict {
        match (&self.served, &self.exchange) {
            (None, _) => Verdict::UnknownHost,
            // The browser does not use CORS, so nothing can refuse the request.
            (Some(_), _) if self.same_origin => Verdict::Allowed,
            (Some(_), None) => Verdict::Transparent,
            (Some(_), Some(exchange)) if exchange.is_allowed() => Verdict::Allowed,
            (Some(_), Some(_)) => Verdict::Refused,
        }
    }
}

impl Served {
    fn find(route: &Arc<Route>, host: &Host, matched: MatchedHost<'_>, path: &str) -> Self {
        let found = route.policies.find(path, matched);
        let buckets = route.policies.buckets.as_ref();
        Self {
            route: Arc::clone(route),
            host: pattern(route, host, matched.below),
            resource: found.resource,
            bucket: buckets.map(|buckets| ServedBucket {
                is_root: found.bucket.is_none() && matches!(path, "" | "/"),
                name: found.bucket.map(Cow::into_owned),
                addressing: buckets.addressing,
            }),
            scope: found.scope,
            policy: found.policy.map(Arc::clone),
        }
    }

    /// Why no policy applies, if storage servers could read different buckets from the request.
    #[must_use]
    pub fn ambiguity(&self) -> Option<Ambiguity> {
        match self.scope {
            Scope::Ambiguous(ambiguity) => Some(ambiguity),
            Scope::Bucket | Scope::Route | Scope::NotEnabled | Scope::Transparent => None,
        }
    }

    /// The policy that decides.
    #[must_use]
    pub fn policy(&self) -> Option<&Policy> {
        self.policy.as_ref().map(|policy| &*policy.policy)
    }
}

/// The pattern that a host matched.
fn pattern(route: &Route, host: &Host, below: Option<&str>) -> HostPattern {
    let name = host.as_str();
    if let Some(suffix) = below.and_then(|below| name.strip_prefix(below)) {
        return HostPattern::Below(suffix.into());
    }
    let exact = HostPattern::Exact(name.into());
    if route.hosts.contains(&exact) {
        exact
    } else {
        HostPattern::Any
    }
}

/// Parses a URL as a browser's address bar does: percent-encodes invalid characters, and drops
/// the fragment.
fn uri(url: &str) -> Result<Uri, InvalidHypothetical> {
    let mut encoded = String::with_capacity(url.len());
    let before_fragment = url.trim().split('#').next().unwrap_or_default();
    for byte in before_fragment.bytes() {
        match byte {
            b'"' | b'<' | b'>' | b'\\' | b'^' | b'`' | b'{' | b'|' | b'}' => {
                encoded.push_str(&format!("%{byte:02X}"));
            }
            b'!'..=b'~' => encoded.push(char::from(byte)),
            _ => encoded.push_str(&format!("%{byte:02X}")),
        }
    }
    let uri: Option<Uri> = encoded.parse().ok();
    uri.filter(|uri| matches!(uri.scheme_str(), Some("http" | "https")))
        .ok_or_else(|| InvalidHypothetical::Url(url.to_owned()))
}

/// A URL's origin, as browsers write it.
fn origin(uri: &Uri) -> String {
    let scheme = uri.scheme_str().unwrap_or_default();
    let host = uri.host().unwrap_or_default();
    match (scheme, uri.port_u16()) {
        ("http", Some(80)) | ("https", Some(443)) | (_, None) => format!("{scheme}://{host}"),
        (_, Some(port)) => format!("{scheme}://{host}:{port}"),
    }
}

#[cfg(test)]
mod tests;
