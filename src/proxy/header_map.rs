//! Checks and edits of heads that are header maps; the rules for fields are in `request_edit` and
//! `http1::response_edit`.

use std::mem;

use h2::ext::Protocol;
use http::header::{CONNECTION, CONTENT_LENGTH, COOKIE, HOST, TE, TRANSFER_ENCODING, UPGRADE};
use http::uri::{Authority, PathAndQuery, Scheme};
use http::{HeaderMap, HeaderValue, Method, Request, Uri, Version, request, response};

use crate::cors::ReplacedFields;
use crate::http1::claims::{IMITATED_FRAMING, imitates_framing};
use crate::http1::fields::Fields as _;
use crate::http1::request_head::parse_length;
use crate::http1::response_edit::ResponseEdit;
use crate::routing::client::{Client, TrustedProxies};
use crate::routing::host;
use crate::routing::snapshot::{Forwarding, HostHeader};
use crate::upstream::endpoint::Upstream;
use crate::upstream::error::Error;

use super::request_edit::RequestEdit;

/// The host of a request.
pub(crate) fn authority(request: &request::Parts) -> Result<Option<&[u8]>, Error> {
    let mut hosts = request.headers.field_values(&HOST);
    let host = hosts.next();
    if hosts.next().is_some() {
        return Err(Error::InvalidHost);
    }
    let of_target = request.uri.authority().map(Authority::as_str);
    host::authority(request.version, of_target.map(str::as_bytes), host)
}

/// Checks that the target has a form that a reverse proxy serves: origin-form, absolute-form of
/// http or https, or `*`, which is only for OPTIONS ([RFC 9112 §3.2.4]).
///
/// [RFC 9112 §3.2.4]: https://www.rfc-editor.org/rfc/rfc9112#section-3.2.4
pub(crate) fn check_target(request: &request::Parts) -> Result<(), Error> {
    let form_is_served = match request.uri.scheme() {
        Some(scheme) => *scheme == Scheme::HTTP || *scheme == Scheme::HTTPS,
        None => request.uri.authority().is_none(),
    };
    let method_is_served = match request.method {
        // An extended CONNECT (RFC 8441) names a resource; a plain one is for forward proxies.
        Method::CONNECT => request.extensions.get::<Protocol>().is_some(),
        Method::OPTIONS => true,
        _ => request.uri.path() != "*",
    };
    if form_is_served && method_is_served {
        Ok(())
    } else {
        Err(Error::InvalidTarget)
    }
}

/// Holds an HTTP/2 request to the rules of HTTP/1.1 where the library does not, because the
/// upstream might misread it otherwise. HTTP/1.1 heads were checked when they were parsed.
pub(crate) fn check_http2(request: &request::Parts) -> Result<(), Error> {
    let target = request.uri.path_and_query();
    let target = target.map_or("", |target| target.as_str());
    if !target.is_ascii() || !(target.starts_with('/') || target == "*") {
        return Err(Error::InvalidTarget);
    }
    let mut names = request.headers.keys();
    if names.any(|name| imitates_framing(name.as_str())) {
        return Err(Error::MalformedRequest(IMITATED_FRAMING));
    }
    // RFC 9113 §8.2.1: a value neither begins nor ends with a space or tab.
    let is_padded = |value: &HeaderValue| {
        let value = value.as_bytes();
        [value.first(), value.last()]
            .iter()
            .any(|byte| matches!(byte, Some(b' ' | b'\t')))
    };
    if request.headers.values().any(is_padded) {
        return Err(Error::MalformedRequest(
            "a field value begins or ends with a space",
        ));
    }
    let mut lengths = request.headers.get_all(CONTENT_LENGTH).iter();
    match (lengths.next(), lengths.next()) {
        (None, _) => Ok(()),
        (Some(length), None) if parse_length(length.as_bytes()).is_some() => Ok(()),
        (Some(_), _) => Err(Error::MalformedRequest(
            "Content-Length must be a single number",
        )),
    }
}

/// Edits `request` for the upstream.
pub(crate) fn to_upstream(
    request: &mut request::Parts,
    client: Client,
    forwarding: Forwarding,
    proxies: &TrustedProxies,
    upgrade: bool,
) {
    if let Some(authority) = request.uri.authority() {
        // An authority is always a valid field value.
        if let Ok(host) = HeaderValue::from_str(authority.as_str()) {
            request.headers.insert(HOST, host);
        }
    }
    let host = request.headers.get(HOST).cloned();
    let protocol = upgrade
        .then(|| request.headers.get(UPGRADE).cloned())
        .flatten();
    let edit = RequestEdit {
        client,
        forwarding,
        proxies,
        received: request.version,
        host: host.as_ref().map_or(b"", HeaderValue::as_bytes),
        replaces_host: false,
        has_lists: request.headers.contains_key(CONNECTION),
        accepts_trailers: request.headers.lists(&TE, b"trailers"),
        upgrade: protocol.as_ref().map(HeaderValue::as_bytes),
        max_forwards: None,
        is_chunked: false,
        span: None,
    };
    edit.apply(&mut request.headers);
    request.version = Version::HTTP_11;
}

/// Adds `Content-Length: 0` to an HTTP/2 request without a body, as HTTP/1.1 expects for these
/// methods ([RFC 9110 §8.6]); some servers answer 411 without it.
///
/// [RFC 9110 §8.6]: https://www.rfc-editor.org/rfc/rfc9110#section-8.6
pub(crate) fn add_empty_length(request: &mut request::Parts) {
    let has_content = matches!(request.method, Method::POST | Method::PUT | Method::PATCH);
    if has_content && !request.headers.contains_key(CONTENT_LENGTH) {
        let none = HeaderValue::from_static("0");
        request.headers.insert(CONTENT_LENGTH, none);
    }
}

/// Converts `request` for an HTTP/2 upstream.
pub(crate) fn to_http2<B>(request: &mut Request<B>, upstream: &Upstream, host: HostHeader) {
    request.headers_mut().remove(CONNECTION);
    request.headers_mut().remove(TRANSFER_ENCODING);
    let sent = request.headers_mut().remove(HOST);
    let host = match host {
        HostHeader::Upstream => Some(upstream.authority.clone()),
        // HTTP/1.0 requests may have no host.
        HostHeader::Preserve => sent.or_else(|| Some(upstream.authority.clone())),
    };
    let authority = host.and_then(|host| Authority::try_from(host.as_bytes()).ok());
    let scheme = if upstream.settings.tls.is_some() {
        Scheme::HTTPS
    } else {
        Scheme::HTTP
    };
    let mut parts = origin_form(request.uri()).into_parts();
    if authority.is_some() {
        parts.authority = authority;
        parts.scheme = Some(scheme);
    }
    if let Ok(uri) = Uri::from_parts(parts) {
        *request.uri_mut() = uri;
    }
    *request.version_mut() = Version::HTTP_2;
}

fn origin_form(uri: &Uri) -> Uri {
    let target = uri.path_and_query();
    // A target in absolute form may have a query without a path.
    if let Some(query) = target.filter(|target| target.as_str().starts_with('?')) {
        // `Display` would also write the missing path.
        let target = PathAndQuery::try_from(format!("/{}", query.as_str()));
        return target.map_or_else(|_| uri.clone(), Uri::from);
    }
    target
        // The library writes a target that is only a fragment as an empty one.
        .filter(|target| target.as_str() != "/")
        .cloned()
        .unwrap_or_else(|| PathAndQuery::from_static("/"))
        .into()
}

/// Edits `response` for the client, except for the policy's fields.
pub(crate) fn to_client(response: &mut response::Parts, forwarding: Forwarding) {
    // The proxy's own version, whatever the upstream's (RFC 9112 §2.3).
    let received = mem::replace(&mut response.version, Version::HTTP_11);
    let edit = ResponseEdit {
        status: response.status,
        via: forwarding.via.then_some(received),
        has_lists: response.headers.contains_key(CONNECTION),
        replaces_cors: false,
        replaced: ReplacedFields::default(),
        vary: None,
        keeps_upgrade: false,
    };
    edit.apply(&mut response.headers);
}

/// Joins the `Cookie` fields that HTTP/2 may have split, because HTTP/1.1 has only one ([RFC 9113
/// §8.2.3]).
///
/// [RFC 9113 §8.2.3]: https://www.rfc-editor.org/rfc/rfc9113#section-8.2.3
pub(crate) fn join_cookies(fields: &mut HeaderMap) {
    if fields.get_all(COOKIE).iter().nth(1).is_none() {
        return;
    }
    let crumbs = fields.get_all(COOKIE).iter().map(HeaderValue::as_bytes);
    let crumbs: Vec<_> = crumbs.collect();
    if let Ok(cookie) = HeaderValue::try_from(crumbs.join(&b"; "[..])) {
        fields.insert(COOKIE, cookie);
    }
}

/// The size of an HTTP/2 field section in bytes, as its limit is defined ([RFC 9113 §6.5.2]).
///
/// [RFC 9113 §6.5.2]: https://www.rfc-editor.org/rfc/rfc9113#section-6.5.2
#[must_use]
pub(crate) fn field_section_size(fields: &HeaderMap) -> usize {
    const FIELD_BYTES: usize = 32;
    fields
        .iter()
        .map(|(name, value)| name.as_str().len() + value.len() + FIELD_BYTES)
        .sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fields(lines: &[(&'static str, &'static str)]) -> HeaderMap {
        let mut fields = HeaderMap::new();
        for (name, value) in lines {
            fields.append(*name, HeaderValue::from_static(value));
        }
        fields
    }

    #[test]
    fn a_cookie_that_http2_split_is_joined() {
        for (crumbs, joined) in [
            (&["a=1"][..], "a=1"),
            (&["a=1", "b=2"], "a=1; b=2"),
            (&["a=1", "b=2; c=3", "d="], "a=1; b=2; c=3; d="),
        ] {
            let mut fields = fields(&[("accept", "*/*")]);
            for crumb in crumbs {
                fields.append(COOKIE, HeaderValue::from_static(crumb));
            }
            join_cookies(&mut fields);
            let cookies: Vec<_> = fields.get_all(COOKIE).iter().collect();
            assert_eq!(cookies, [joined]);
        }
        let mut none = fields(&[("accept", "*/*")]);
        join_cookies(&mut none);
        assert!(!none.contains_key(COOKIE));
    }

    fn parts(target: &str, version: Version, headers: HeaderMap) -> request::Parts {
        let mut request = http::Request::new(());
        *request.uri_mut() = target.parse().unwrap();
        *request.version_mut() = version;
        *request.headers_mut() = headers;
        request.into_parts().0
    }

    #[test]
    fn the_target_wins_over_host_in_http1_and_must_agree_in_http2() {
        let host = || fields(&[("host", "b.example")]);
        let one = parts("http://a.example/x", Version::HTTP_11, host());
        assert_eq!(authority(&one).unwrap(), Some(&b"a.example"[..]));
        let two = parts("http://a.example/x", Version::HTTP_2, host());
        assert!(authority(&two).is_err());
        let doubled = fields(&[("host", "a"), ("host", "a")]);
        assert!(authority(&parts("/x", Version::HTTP_11, doubled)).is_err());
        assert!(authority(&parts("/x", Version::HTTP_11, HeaderMap::new())).is_err());
        // A target alone is enough in HTTP/1.0 and HTTP/2, but not in HTTP/1.1.
        for (version, is_enough) in [
            (Version::HTTP_10, true),
            (Version::HTTP_11, false),
            (Version::HTTP_2, true),
        ] {
            let request = parts("http://a.example/x", version, HeaderMap::new());
            assert_eq!(authority(&request).is_ok(), is_enough, "{version:?}");
        }
        let odd = fields(&[("host", "b@example")]);
        assert!(authority(&parts("http://a.example/x", Version::HTTP_11, odd)).is_err());
    }

    #[test]
    fn an_absolute_target_becomes_origin_form_and_host() {
        let mut request = parts(
            "http://a.example/x//y%2Fz?q=1+2&acl",
            Version::HTTP_11,
            fields(&[("host", "b.example")]),
        );
        let client = Client {
            address: None,
            tls: false,
            trusted: false,
            listener: Default::default(),
        };
        let proxies = TrustedProxies::default();
        to_upstream(&mut request, client, Forwarding::default(), &proxies, false);
        assert_eq!(request.headers[HOST], "a.example");
        assert_eq!(origin_form(&request.uri).to_string(), "/x//y%2Fz?q=1+2&acl");
        for (target, expected) in [
            ("http://a.example?q", "/?q"),
            ("http://a.example/?q", "/?q"),
            ("http://a.example", "/"),
            ("http://a.example//?q", "//?q"),
        ] {
            let uri = target.parse().unwrap();
            assert_eq!(origin_form(&uri).to_string(), expected, "{target}");
        }
    }
}
