//! What a browser makes of a server's answers, as Fetch says
//! (<https://fetch.spec.whatwg.org/#http-cors-protocol>).

use std::collections::BTreeSet;

use http::HeaderMap;

/// A script's request to another origin.
#[derive(Clone, Debug)]
pub(super) struct Request {
    pub(super) origin: String,
    pub(super) method: String,
    /// The headers that need a preflight, in lower case.
    pub(super) headers: Vec<String>,
}

/// The CORS fields of a response; a refused preflight has none.
#[derive(Clone, Debug, Default)]
pub(super) struct Fields {
    pub(super) allow_origin: Option<String>,
    pub(super) allow_credentials: bool,
    pub(super) allow_methods: Option<String>,
    pub(super) allow_headers: Option<String>,
    pub(super) expose_headers: Option<String>,
    pub(super) max_age: Option<String>,
}

impl Fields {
    pub(super) fn of(map: &HeaderMap) -> Self {
        let get = |name: &str| {
            let value = map.get(format!("access-control-{name}"))?;
            Some(value.to_str().unwrap().to_owned())
        };
        Self {
            allow_origin: get("allow-origin"),
            allow_credentials: get("allow-credentials").as_deref() == Some("true"),
            allow_methods: get("allow-methods"),
            allow_headers: get("allow-headers"),
            expose_headers: get("expose-headers"),
            max_age: get("max-age"),
        }
    }

    /// The CORS check.
    fn lets_in(&self, request: &Request, with_credentials: bool) -> bool {
        match self.allow_origin.as_deref() {
            Some("*") => !with_credentials,
            Some(origin) => {
                origin == request.origin && (!with_credentials || self.allow_credentials)
            }
            None => false,
        }
    }
}

/// The result for a script.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Outcome {
    /// Whether it gets the response.
    pub(super) reads: bool,
    /// The requested response fields that it can read.
    pub(super) exposed: BTreeSet<String>,
    /// How long its preflight is cached, in seconds.
    pub(super) max_age: Option<u64>,
}

fn items(list: Option<&str>) -> impl Iterator<Item = &str> {
    list.unwrap_or_default()
        .split(',')
        .map(str::trim)
        .filter(|item| !item.is_empty())
}

pub(super) fn needs_preflight(request: &Request) -> bool {
    !is_safelisted(&request.method) || !request.headers.is_empty()
}

fn is_safelisted(method: &str) -> bool {
    ["GET", "HEAD", "POST"].contains(&method)
}

/// The result of a request with these responses to the preflight and the request.
pub(super) fn outcome(
    request: &Request,
    preflight: &Fields,
    actual: &Fields,
    with_credentials: bool,
    response_fields: &[&str],
) -> Outcome {
    let mut reads = actual.lets_in(request, with_credentials);
    let mut max_age = None;
    if needs_preflight(request) {
        let wildcard = |list| !with_credentials && items(list).any(|item| item == "*");
        let methods = preflight.allow_methods.as_deref();
        let method = is_safelisted(&request.method)
            || items(methods).any(|item| item == request.method)
            || wildcard(methods);
        let headers = preflight.allow_headers.as_deref();
        let all_headers = request.headers.iter().all(|name| {
            items(headers).any(|item| item.eq_ignore_ascii_case(name))
                || (wildcard(headers) && name != "authorization")
        });
        reads &= preflight.lets_in(request, with_credentials) && method && all_headers;
        if reads {
            let seconds = preflight.max_age.as_deref().map(str::parse);
            max_age = Some(seconds.map_or(5, Result::unwrap));
        }
    }
    let exposed = actual.expose_headers.as_deref();
    let is_exposed = |name: &&&str| {
        items(exposed)
            .any(|item| item.eq_ignore_ascii_case(name) || (item == "*" && !with_credentials))
    };
    let exposed = response_fields.iter().filter(is_exposed);
    Outcome {
        reads,
        exposed: exposed
            .map(|name| (*name).to_owned())
            .filter(|_| reads)
            .collect(),
        max_age,
    }
}
