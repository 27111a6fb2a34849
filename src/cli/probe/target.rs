//! Parses the arguments of `s3cors probe`: the URL, addresses to use for it, and the request's
//! fields.

use std::net::IpAddr;
use std::str::FromStr;

use http::uri::Scheme;
use http::{HeaderName, HeaderValue, Method, Uri};

use crate::cors::as_browsers_write;
use crate::cors::fetch::{is_forbidden_method, normalized_method, origin_of};

use super::super::redact;

/// Parses a URL as browsers do, far enough to request it.
pub(super) fn url(text: &str) -> Result<String, String> {
    let written = text.trim();
    let shown = redact::url(written);
    let Some((scheme, rest)) = written.split_once("://") else {
        return Err(format!(
            "`{shown}` has no scheme; write http://{shown} or https://{shown}"
        ));
    };
    let scheme = scheme.to_ascii_lowercase();
    if !matches!(&*scheme, "http" | "https") {
        return Err(format!(
            "`{shown}` has the scheme {scheme}; only http and https can be probed"
        ));
    }
    let authority = rest.split(['/', '?', '#', '\\']).next().unwrap_or_default();
    if authority.contains('@') {
        return Err(
            "the URL has a user name or a password, which browsers refuse to fetch; use --header authorization instead"
                .to_owned(),
        );
    }
    let (host, port) = match authority.rsplit_once(':') {
        Some((host, port)) if !port.contains(']') => (host, Some(port)),
        _ => (authority, None),
    };
    let host = crate::cors::ascii_host(host)
        .filter(|host| !host.is_empty())
        .ok_or_else(|| format!("`{shown}` has no resolvable host; write it in punycode"))?;
    let after = rest.get(authority.len()..).unwrap_or_default();
    let after = match after.split('#').next().unwrap_or_default() {
        path if path.starts_with('/') => path.to_owned(),
        query => format!("/{}", query.trim_start_matches('\\')),
    };
    let port = port.filter(|port| !port.is_empty());
    if port.is_some_and(|port| port.parse::<u16>().is_err()) {
        return Err(format!(
            "`{shown}` isn't a URL: the port isn't a number from 0 to 65535"
        ));
    }
    let port = port.map_or_else(String::new, |port| format!(":{port}"));
    let url = format!("{scheme}://{}{port}{after}", host.to_ascii_lowercase());
    if uri(&url).is_none() || origin_of(&url).is_none() {
        return Err(format!(
            "`{shown}` isn't a URL; write http://HOST/PATH or https://HOST/PATH"
        ));
    }
    Ok(url)
}

/// A URL as it is requested: without its fragment, and percent-encoded where necessary.
pub(super) fn uri(url: &str) -> Option<Uri> {
    let mut encoded = String::with_capacity(url.len());
    for byte in url.split('#').next().unwrap_or_default().bytes() {
        match byte {
            b'"' | b'<' | b'>' | b'\\' | b'^' | b'`' | b'{' | b'|' | b'}' => {
                encoded.push_str(&format!("%{byte:02X}"));
            }
            b'!'..=b'~' => encoded.push(char::from(byte)),
            _ => encoded.push_str(&format!("%{byte:02X}")),
        }
    }
    let uri: Uri = encoded.parse().ok()?;
    let is_http = uri.scheme() == Some(&Scheme::HTTP) || uri.scheme() == Some(&Scheme::HTTPS);
    (is_http && uri.host().is_some_and(|host| !host.is_empty())).then_some(uri)
}

/// The port of a URL.
pub(super) fn port(uri: &Uri) -> u16 {
    let default = if uri.scheme() == Some(&Scheme::HTTPS) {
        443
    } else {
        80
    };
    uri.port_u16().unwrap_or(default)
}

/// The origin of the page, as browsers write it.
pub(super) fn origin(text: &str) -> Result<String, String> {
    let written = text.trim();
    if written == "null" {
        return Ok(written.to_owned());
    }
    let sent = as_browsers_write(written).filter(|_| written.contains("://"));
    let origin = sent.unwrap_or_else(|| written.to_owned());
    let is_visible = origin.bytes().all(|byte| byte.is_ascii_graphic());
    if is_visible && origin_of(&origin).as_deref() == Some(&*origin) {
        return Ok(origin);
    }
    let example = match written.contains("://") {
        true => {
            "scheme://host, with the port if it is not the scheme's own, and no path".to_owned()
        }
        false => format!("https://{written}"),
    };
    Err(format!(
        "--origin `{written}` isn't an origin; write {example}"
    ))
}

/// The method, as the script gives it.
pub(super) fn method(text: &str) -> Result<String, String> {
    let written = text.trim();
    if is_forbidden_method(written) {
        return Err(format!("--method {written}: no script can use it"));
    }
    match Method::from_bytes(normalized_method(written).as_bytes()) {
        Ok(_) => Ok(written.to_owned()),
        Err(_) => Err(format!("--method `{written}` isn't a valid method")),
    }
}

/// The fields of `--header`: `N: V`, a name, or a list of names.
pub(super) fn headers(texts: &[String]) -> Result<Vec<(HeaderName, HeaderValue)>, String> {
    let mut headers = Vec::new();
    for text in texts {
        match text.split_once(':') {
            Some((name, value)) => headers.push(header(name, Some(value.trim()))?),
            None => {
                for name in text.split(',') {
                    headers.push(header(name, None)?);
                }
            }
        }
    }
    Ok(headers)
}

fn header(name: &str, value: Option<&str>) -> Result<(HeaderName, HeaderValue), String> {
    let name = name.trim().to_ascii_lowercase();
    let parsed = HeaderName::from_bytes(name.as_bytes())
        .map_err(|_| format!("--header `{name}` isn't a valid header name"))?;
    // Like `explain`, which takes a name without a value for one that needs a preflight.
    let value = value.unwrap_or(match &*name {
        "content-type" => "application/json",
        "range" => "bytes=-1",
        _ => "x",
    });
    let value = HeaderValue::from_bytes(value.as_bytes())
        .map_err(|_| format!("--header {name}: the value has control characters"))?;
    Ok((parsed, value))
}

/// The names of `--read`.
pub(super) fn names(texts: &[String]) -> Result<Vec<String>, String> {
    let names = texts.iter().flat_map(|list| list.split(','));
    let names = names.map(|name| {
        let name = name.trim().to_ascii_lowercase();
        match HeaderName::from_bytes(name.as_bytes()) {
            Ok(_) => Ok(name),
            Err(_) => Err(format!("--read `{name}` isn't a valid header name")),
        }
    });
    names.collect()
}

/// `HOST:PORT:ADDR` of `--resolve`, in curl's form.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Resolve {
    /// `*`: every host.
    pub(super) host: String,
    pub(super) port: u16,
    pub(super) addresses: Vec<IpAddr>,
}

impl FromStr for Resolve {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let parsed = || {
            // An IPv6 host is written in brackets.
            let (host, rest) = match text.strip_prefix('[') {
                Some(rest) => rest
                    .split_once("]:")
                    .map(|(host, rest)| (format!("[{host}]"), rest))?,
                None => text
                    .split_once(':')
                    .map(|(host, rest)| (host.to_owned(), rest))?,
            };
            let (port, addresses) = rest.split_once(':')?;
            let addresses = addresses.split(',').map(|address| {
                let address = address.trim();
                let bare = address
                    .strip_prefix('[')
                    .and_then(|rest| rest.strip_suffix(']'));
                bare.unwrap_or(address).parse().ok()
            });
            let addresses: Option<Vec<IpAddr>> = addresses.collect();
            (!host.is_empty()).then_some(Self {
                host: host.to_ascii_lowercase(),
                port: port.parse().ok()?,
                addresses: addresses?,
            })
        };
        parsed().ok_or_else(|| {
            "write HOST:PORT:ADDRESS, such as s3.example.com:443:192.0.2.1".to_owned()
        })
    }
}

impl Resolve {
    pub(super) fn applies_to(&self, host: &str, port: u16) -> bool {
        self.port == port && (self.host == "*" || self.host.eq_ignore_ascii_case(host))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_are_read_as_browsers_read_them() {
        let cases = [
            ("https://S3.Example/b/k", Ok("https://s3.example/b/k")),
            ("HTTP://a.example", Ok("http://a.example/")),
            ("http://a.example?x#y", Ok("http://a.example/?x")),
            ("http://[::1]:9000/k", Ok("http://[::1]:9000/k")),
            (
                "http://münchen.example/",
                Ok("http://xn--mnchen-3ya.example/"),
            ),
            ("s3.example/b", Err("has no scheme")),
            ("ftp://a.example/", Err("scheme ftp")),
            ("http:///b", Err("has no resolvable host")),
            ("http://u:p@a.example/", Err("user name")),
            ("http://a.example:x/", Err("isn't a URL")),
        ];
        for (written, expected) in cases {
            match (url(written), expected) {
                (Ok(read), Ok(expected)) => assert_eq!(read, expected),
                (Err(error), Err(expected)) => assert!(error.contains(expected), "{error}"),
                (read, _) => panic!("{written}: {read:?}"),
            }
        }
        let encoded = uri("http://a.example/a b{c}").unwrap().to_string();
        assert_eq!(encoded, "http://a.example/a%20b%7Bc%7D");
    }

    #[test]
    fn an_origin_is_a_scheme_and_a_host() {
        assert_eq!(
            origin("HTTPS://App.Example:443/").unwrap(),
            "https://app.example"
        );
        assert_eq!(origin("null").unwrap(), "null");
        assert!(
            origin("app.example")
                .unwrap_err()
                .contains("https://app.example")
        );
        assert!(origin("https://a b").is_err());
        assert!(origin("").is_err());
    }

    #[test]
    fn resolve_takes_curls_form() {
        let one: Resolve = "S3.example:443:192.0.2.1,[2001:db8::1]".parse().unwrap();
        assert_eq!(one.addresses.len(), 2);
        assert!(one.applies_to("s3.example", 443) && !one.applies_to("s3.example", 80));
        let any: Resolve = "*:80:127.0.0.1".parse().unwrap();
        assert!(any.applies_to("x", 80));
        assert!(
            "[::1]:80:::1"
                .parse::<Resolve>()
                .unwrap()
                .applies_to("[::1]", 80)
        );
        for wrong in [
            "",
            "a",
            "a:80",
            "a:80:",
            "a:x:127.0.0.1",
            ":80:127.0.0.1",
            "a:80:b",
        ] {
            assert!(wrong.parse::<Resolve>().is_err(), "{wrong}");
        }
    }
}
