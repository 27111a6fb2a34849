//! What changes on the way: the request to the upstream, the response to the client.
//!
//! Everything else stays as it came, byte for byte: path, query and `Host` are what SigV4 signs.

use std::mem;

use http::header::{
    AUTHORIZATION, CONNECTION, CONTENT_LENGTH, COOKIE, EXPECT, FORWARDED, HOST, MAX_FORWARDS,
    ORIGIN, TE, TRANSFER_ENCODING, UPGRADE, VIA,
};
use http::uri::{Authority, PathAndQuery, Scheme};
use http::{
    HeaderMap, HeaderName, HeaderValue, Method, Request, StatusCode, Uri, Version, request,
    response,
};
use http_body::Body;

use super::client::{self, Client};
use super::error::Error;
use super::host::Host;
use super::request_body::RequestBody;
use super::snapshot::{Forwarding, HostHeader};
use super::upstream::Upstream;

/// How a request names its host.
///
/// An absolute-form target, or HTTP/2's `:authority`, wins over `Host` ([RFC 9112 §3.2.2]).
///
/// # Errors
///
/// [`Error::InvalidHost`] where HTTP/1.1 has no `Host`, where there are several or one that is none,
/// whatever the target says, and where HTTP/2's two ways to say it differ ([RFC 9113 §8.3.1]).
///
/// [RFC 9112 §3.2.2]: https://www.rfc-editor.org/rfc/rfc9112#section-3.2.2
/// [RFC 9113 §8.3.1]: https://www.rfc-editor.org/rfc/rfc9113#section-8.3.1
pub(super) fn authority(request: &request::Parts) -> Result<&[u8], Error> {
    let mut hosts = request.headers.get_all(HOST).iter();
    let host = hosts.next().map(HeaderValue::as_bytes);
    if hosts.next().is_some() {
        return Err(Error::InvalidHost);
    }
    let Some(authority) = request.uri.authority() else {
        return host.ok_or(Error::InvalidHost);
    };
    let authority = authority.as_str().as_bytes();
    let may_be = match host {
        Some(host) if request.version == Version::HTTP_2 => host.eq_ignore_ascii_case(authority),
        Some(host) => Host::parse(host).is_ok(),
        None => request.version != Version::HTTP_11,
    };
    may_be.then_some(authority).ok_or(Error::InvalidHost)
}

/// Checks that the target is one that a reverse proxy serves: origin-form, absolute-form of
/// http or https, or `*`, which is for OPTIONS alone ([RFC 9112 §3.2.4]).
///
/// [RFC 9112 §3.2.4]: https://www.rfc-editor.org/rfc/rfc9112#section-3.2.4
pub(super) fn check_target(request: &request::Parts) -> Result<(), Error> {
    let form_is_served = match request.uri.scheme() {
        Some(scheme) => *scheme == Scheme::HTTP || *scheme == Scheme::HTTPS,
        None => request.uri.authority().is_none(),
    };
    let method_is_served = match request.method {
        Method::CONNECT => false,
        Method::OPTIONS => true,
        _ => request.uri.path() != "*",
    };
    if form_is_served && method_is_served {
        Ok(())
    } else {
        Err(Error::InvalidTarget)
    }
}

/// Whether the client asks to leave HTTP for a protocol that can be tunnelled.
///
/// `h2c` is none, not even as one choice of several: a request could be smuggled behind the
/// upgrade.
pub(super) fn wants_upgrade(request: &request::Parts) -> bool {
    request.version == Version::HTTP_11
        && request.headers.contains_key(UPGRADE)
        && !elements(&request.headers, &UPGRADE)
            .any(|protocol| protocol.to_ascii_lowercase().starts_with(b"h2c"))
        && lists(&request.headers, &CONNECTION, b"upgrade")
}

/// Whether the client waits for `100 Continue` before it sends the body. In HTTP/1.0 nobody does
/// ([RFC 9110 §10.1.1]).
///
/// [RFC 9110 §10.1.1]: https://www.rfc-editor.org/rfc/rfc9110#section-10.1.1
pub(super) fn expects_continue(request: &request::Parts) -> bool {
    let expected = request.headers.get(EXPECT);
    expected
        .filter(|_| request.version != Version::HTTP_10)
        .is_some_and(|value| value.as_bytes().eq_ignore_ascii_case(b"100-continue"))
}

/// Whether a request may go one hop further. Only TRACE and OPTIONS say for how many they are
/// meant, and are told of one less ([RFC 9110 §7.6.2]).
///
/// [RFC 9110 §7.6.2]: https://www.rfc-editor.org/rfc/rfc9110#section-7.6.2
pub(super) fn may_go_on(request: &mut request::Parts) -> bool {
    if !matches!(request.method, Method::TRACE | Method::OPTIONS) {
        return true;
    }
    let mut values = request.headers.get_all(MAX_FORWARDS).iter();
    let (Some(value), None) = (values.next(), values.next()) else {
        return true;
    };
    let value = value.as_bytes();
    if value.is_empty() || !value.iter().all(u8::is_ascii_digit) {
        return true;
    }
    // One that is beyond what we count with may become less.
    let hops = std::str::from_utf8(value).map_or(0, |value| value.parse().unwrap_or(u64::MAX));
    let left = hops.checked_sub(1);
    if let Some(left) = left {
        let left = HeaderValue::from(left);
        request.headers.insert(MAX_FORWARDS, left);
    }
    left.is_some()
}

/// Makes `request` what the upstream gets.
pub(super) fn to_upstream(
    request: &mut request::Parts,
    client: Client,
    forwarding: Forwarding,
    upgrade: bool,
) {
    if let Some(authority) = request.uri.authority() {
        // What an authority has, a field value may have.
        if let Ok(host) = HeaderValue::from_str(authority.as_str()) {
            request.headers.insert(HOST, host);
        }
    }
    let te_trailers = request.headers.contains_key(TE) && lists(&request.headers, &TE, b"trailers");
    let protocol = request.headers.get(UPGRADE).filter(|_| upgrade).cloned();
    let received = request.version;
    remove_connection_fields(&mut request.headers);
    if received == Version::HTTP_10 {
        request.headers.remove(EXPECT);
    }
    if received == Version::HTTP_2 {
        join_cookies(&mut request.headers);
    }
    if let Some(protocol) = protocol {
        request.headers.insert(UPGRADE, protocol);
        request
            .headers
            .insert(CONNECTION, HeaderValue::from_static("upgrade"));
    } else if te_trailers {
        request
            .headers
            .insert(TE, HeaderValue::from_static("trailers"));
        request
            .headers
            .insert(CONNECTION, HeaderValue::from_static("te"));
    }
    if forwarding.via {
        request.headers.append(VIA, via(received));
    }
    client::tell(&mut request.headers, client, forwarding);
    request.version = Version::HTTP_11;
}

/// Sets what depends on the upstream that was chosen: `Host`, the target's form, the framing.
pub(super) fn address_to(
    request: &mut Request<RequestBody>,
    upstream: &Upstream,
    host: HostHeader,
    version: Version,
) {
    if host == HostHeader::Upstream {
        let authority = upstream.authority.clone();
        request.headers_mut().insert(HOST, authority);
    }
    if version == Version::HTTP_2 {
        return to_http2(request, upstream);
    }
    if request.uri().authority().is_some() {
        // Only an absolute-form target has one.
        *request.uri_mut() = origin_form(request.uri());
    }
    say_chunked(request);
}

/// Says that a body of unknown length comes in chunks. hyper would say it for the methods that
/// usually have a body, and for the others leave the body out.
fn say_chunked(request: &mut Request<RequestBody>) {
    let body = request.body();
    if !body.is_empty() && body.size_hint().exact().is_none() {
        let chunked = HeaderValue::from_static("chunked");
        request.headers_mut().insert(TRANSFER_ENCODING, chunked);
    }
}

fn to_http2<B>(request: &mut Request<B>, upstream: &Upstream) {
    request.headers_mut().remove(CONNECTION);
    request.headers_mut().remove(TRANSFER_ENCODING);
    let host = request.headers_mut().remove(HOST);
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
    uri.path_and_query()
        .cloned()
        .unwrap_or_else(|| PathAndQuery::from_static("/"))
        .into()
}

/// Makes `response` what the client gets, the policy's fields apart.
pub(super) fn to_client(response: &mut response::Parts, forwarding: Forwarding) {
    // Ours, whatever the upstream speaks (RFC 9112 §2.3); hyper lowers it for an older client.
    let received = mem::replace(&mut response.version, Version::HTTP_11);
    remove_connection_fields(&mut response.headers);
    if response.status == StatusCode::NO_CONTENT {
        // A body that cannot be has no length (RFC 9110 §8.6).
        response.headers.remove(CONTENT_LENGTH);
    }
    if forwarding.via {
        response.headers.append(VIA, via(received));
    }
}

/// Makes one `Cookie` of those that HTTP/2 may have split it into: HTTP/1.1 has one ([RFC 9113
/// §8.2.3]).
///
/// [RFC 9113 §8.2.3]: https://www.rfc-editor.org/rfc/rfc9113#section-8.2.3
fn join_cookies(fields: &mut HeaderMap) {
    let crumbs = fields.get_all(COOKIE).iter().map(HeaderValue::as_bytes);
    let crumbs: Vec<_> = crumbs.collect();
    if crumbs.len() > 1
        && let Ok(cookie) = HeaderValue::try_from(crumbs.join(&b"; "[..]))
    {
        fields.insert(COOKIE, cookie);
    }
}

/// The fields that are about one connection only, besides those that `Connection` names.
const CONNECTION_FIELDS: [HeaderName; 6] = [
    HeaderName::from_static("keep-alive"),
    HeaderName::from_static("proxy-connection"),
    TE,
    TRANSFER_ENCODING,
    UPGRADE,
    HeaderName::from_static("http2-settings"),
];

/// Removes the fields that are meant for one connection only: those `Connection` lists, then
/// `Connection` itself and its old companions.
///
/// Every intermediary must do this before it forwards a message ([RFC 9110 §7.6.1]). The message's
/// framing is hyper's business, which has read it already.
///
/// [RFC 9110 §7.6.1]: https://www.rfc-editor.org/rfc/rfc9110#section-7.6.1
pub(super) fn remove_connection_fields(fields: &mut HeaderMap) {
    // Most messages have one of them or none: look once, before a look-up for each.
    if !fields
        .keys()
        .any(|name| *name == CONNECTION || CONNECTION_FIELDS.contains(name))
    {
        return;
    }
    if let Some(connection) = fields.get(CONNECTION) {
        let says_only = connection.as_bytes();
        let names_nothing = matches!(says_only, b"keep-alive" | b"close");
        if !names_nothing || fields.get_all(CONNECTION).iter().nth(1).is_some() {
            remove_listed(fields);
        }
        fields.remove(CONNECTION);
    }
    for name in &CONNECTION_FIELDS {
        fields.remove(name);
    }
}

/// Removes the fields that `Connection` names.
fn remove_listed(fields: &mut HeaderMap) {
    let listed: Vec<HeaderName> = elements(fields, &CONNECTION)
        .filter_map(|name| HeaderName::from_bytes(name).ok())
        .filter(|name| !is_end_to_end(name.as_str()))
        .collect();
    for name in listed {
        fields.remove(name);
    }
}

/// Whether a field is about one connection only, whatever `Connection` names.
pub(super) fn is_connection_field(name: &str) -> bool {
    let is = |other: &str| name.eq_ignore_ascii_case(other);
    // Lengths tell nearly all names apart before any letter is compared.
    match name.len() {
        2 => is("te"),
        7 => is("upgrade"),
        10 => is("connection") || is("keep-alive"),
        14 => is("http2-settings"),
        16 => is("proxy-connection"),
        17 => is("transfer-encoding"),
        _ => false,
    }
}

/// Fields that a client may not have removed by naming them in `Connection`: what routes,
/// frames, identifies or decides.
pub(super) fn is_end_to_end(name: &str) -> bool {
    const FIELDS: [HeaderName; 7] = [
        HOST,
        ORIGIN,
        AUTHORIZATION,
        COOKIE,
        CONTENT_LENGTH,
        FORWARDED,
        VIA,
    ];
    const PREFIXES: [&str; 4] = ["access-control-", "x-forwarded-", "x-amz-", "x-s3cors-"];
    let starts_with = |prefix: &str| {
        let start = name.as_bytes().get(..prefix.len());
        start.is_some_and(|start| start.eq_ignore_ascii_case(prefix.as_bytes()))
    };
    FIELDS
        .iter()
        .any(|field| name.eq_ignore_ascii_case(field.as_str()))
        || PREFIXES.into_iter().any(starts_with)
}

/// Whether a list field has an element, in any letter case.
fn lists(fields: &HeaderMap, name: &HeaderName, element: &[u8]) -> bool {
    elements(fields, name).any(|listed| listed.eq_ignore_ascii_case(element))
}

/// The elements of a list field, over all its lines.
fn elements<'f>(fields: &'f HeaderMap, name: &HeaderName) -> impl Iterator<Item = &'f [u8]> {
    let lines = fields.get_all(name).iter();
    let elements = lines.flat_map(|line| line.as_bytes().split(|&byte| byte == b','));
    elements.map(<[u8]>::trim_ascii)
}

/// `Via`: the version in which the message was received, and a pseudonym for us
/// ([RFC 9110 §7.6.3]).
///
/// [RFC 9110 §7.6.3]: https://www.rfc-editor.org/rfc/rfc9110#section-7.6.3
fn via(received: Version) -> HeaderValue {
    HeaderValue::from_static(match received {
        Version::HTTP_2 => "2.0 s3cors",
        Version::HTTP_10 => "1.0 s3cors",
        _ => "1.1 s3cors",
    })
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
    fn a_cookie_that_came_in_crumbs_is_one() {
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

    #[test]
    fn what_connection_lists_goes_but_not_what_decides() {
        let mut fields = fields(&[
            ("connection", "close, X-Private, Origin, host"),
            ("connection", "Authorization"),
            ("x-private", "1"),
            ("keep-alive", "timeout=5"),
            ("te", "trailers"),
            ("transfer-encoding", "chunked"),
            ("origin", "https://a.example"),
            ("host", "a"),
            ("authorization", "AWS4-HMAC-SHA256"),
            ("etag", "\"1\""),
        ]);
        remove_connection_fields(&mut fields);
        let mut left: Vec<_> = fields.keys().map(HeaderName::as_str).collect();
        left.sort_unstable();
        assert_eq!(left, ["authorization", "etag", "host", "origin"]);
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
        assert_eq!(authority(&one).unwrap(), b"a.example");
        let two = parts("http://a.example/x", Version::HTTP_2, host());
        assert!(authority(&two).is_err());
        let doubled = fields(&[("host", "a"), ("host", "a")]);
        assert!(authority(&parts("/x", Version::HTTP_11, doubled)).is_err());
        assert!(authority(&parts("/x", Version::HTTP_11, HeaderMap::new())).is_err());
        // Only before HTTP/1.1 and behind it, a target is enough.
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
        };
        to_upstream(&mut request, client, Forwarding::default(), false);
        assert_eq!(request.headers[HOST], "a.example");
        assert_eq!(origin_form(&request.uri).to_string(), "/x//y%2Fz?q=1+2&acl");
    }

    #[test]
    fn connection_fields_are_the_same_as_names_and_as_text() {
        for name in CONNECTION_FIELDS.iter().chain([&CONNECTION]) {
            assert!(
                is_connection_field(&name.as_str().to_ascii_uppercase()),
                "{name}"
            );
        }
        for name in [
            "host",
            "trailer",
            "warning",
            "etag",
            "content-length",
            "te-",
            "",
        ] {
            assert!(!is_connection_field(name), "{name}");
        }
    }

    #[test]
    fn trace_and_options_go_as_far_as_they_say() {
        let cases = [
            ("TRACE", &["0"][..], None),
            ("OPTIONS", &["00"], None),
            ("OPTIONS", &["1"], Some(&["0"][..])),
            ("TRACE", &["10"], Some(&["9"])),
            (
                "TRACE",
                &["99999999999999999999999"],
                Some(&["18446744073709551614"]),
            ),
            // What is no number of hops says nothing.
            ("TRACE", &["-1"], Some(&["-1"])),
            ("TRACE", &[""], Some(&[""])),
            ("TRACE", &["0", "0"], Some(&["0", "0"])),
            ("TRACE", &[], Some(&[])),
            ("GET", &["0"], Some(&["0"])),
        ];
        for (method, values, expected) in cases {
            let mut request = parts("/", Version::HTTP_11, HeaderMap::new());
            request.method = method.parse().unwrap();
            for value in values {
                let value = HeaderValue::from_static(value);
                request.headers.append(MAX_FORWARDS, value);
            }
            let goes_on = may_go_on(&mut request);
            assert_eq!(goes_on, expected.is_some(), "{method} {values:?}");
            let left: Vec<_> = request.headers.get_all(MAX_FORWARDS).iter().collect();
            assert_eq!(left, expected.unwrap_or(values), "{method} {values:?}");
        }
    }

    #[test]
    fn h2c_is_not_an_upgrade() {
        for (protocol, wanted) in [
            ("websocket", true),
            ("h2c", false),
            ("H2C, websocket", false),
            ("websocket, H2C", false),
        ] {
            let headers = fields(&[("connection", "Upgrade")]);
            let mut request = parts("/", Version::HTTP_11, headers);
            request
                .headers
                .insert(UPGRADE, HeaderValue::from_static(protocol));
            assert_eq!(wants_upgrade(&request), wanted, "{protocol}");
        }
    }
}
