//! Which route serves a host: exact names before wildcards, the longest suffix first.

use std::borrow::Cow;
use std::collections::HashMap;
use std::fmt;
use std::net::Ipv6Addr;
use std::str::FromStr;

use foldhash::fast::RandomState;
use http::Version;
use thiserror::Error;

use crate::upstream::error::Error;

use super::bucket::MatchedHost;

/// The longest host name that is looked up, in bytes (RFC 1035 §2.3.4, plus a trailing dot).
const MAX_HOST: usize = 254;

/// A host in the config.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum HostPattern {
    /// One host, in lower case, without port or trailing dot.
    Exact(Box<str>),
    /// `*.suffix`: every host below the suffix, at any depth. Holds `.suffix`.
    Below(Box<str>),
    /// `*`: every host.
    Any,
}

/// The text is not a host pattern.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum InvalidHostPattern {
    /// It has a scheme, port, path or white space.
    #[error("a host must not have a scheme, port or path")]
    NotAHost,
    /// It has letters beyond ASCII, which no client sends.
    #[error("a host with letters beyond ASCII must be in punycode, the form that clients send")]
    NotAscii,
    /// It has a `*` that is not the whole first label.
    #[error("`*` must be the whole first label: `*.example.com`, or `*` alone for every host")]
    Wildcard,
    /// It has a dot at the start or after another dot.
    #[error("a host must not have an empty label; for every host below one, use `*.example.com`")]
    EmptyLabel,
    /// It is empty, or too long for a host name.
    #[error("a host must have 1 to 253 characters")]
    Length,
}

impl FromStr for HostPattern {
    type Err = InvalidHostPattern;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if text == "*" {
            return Ok(Self::Any);
        }
        let lower = text.to_ascii_lowercase();
        let (below, name) = match lower.strip_prefix("*.") {
            Some(name) => (true, name),
            None => (false, lower.as_str()),
        };
        let name = name.strip_suffix('.').unwrap_or(name);
        if name.is_empty() || name.len() >= MAX_HOST {
            return Err(InvalidHostPattern::Length);
        }
        if name.split('.').any(str::is_empty) {
            return Err(InvalidHostPattern::EmptyLabel);
        }
        if name.contains('*') {
            return Err(InvalidHostPattern::Wildcard);
        }
        if lower
            .chars()
            .any(|letter| !letter.is_ascii() && letter.is_alphabetic())
        {
            return Err(InvalidHostPattern::NotAscii);
        }
        let is_address = bracketed(name).is_some_and(|address| address.parse::<Ipv6Addr>().is_ok());
        let is_name = name
            .bytes()
            .all(|byte| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_'));
        if !(is_name || is_address && !below) {
            return Err(InvalidHostPattern::NotAHost);
        }
        Ok(if below {
            Self::Below(format!(".{name}").into())
        } else {
            Self::Exact(name.into())
        })
    }
}

impl HostPattern {
    /// Whether every host of this pattern also matches `wildcard`, another pattern.
    #[must_use]
    pub fn is_below(&self, wildcard: &Self) -> bool {
        let (Self::Exact(name) | Self::Below(name), Self::Below(suffix)) = (self, wildcard) else {
            return false;
        };
        self != wildcard
            && name
                .strip_suffix(&**suffix)
                .is_some_and(|below| !below.is_empty())
    }
}

impl fmt::Display for HostPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Exact(name) => f.write_str(name),
            Self::Below(suffix) => write!(f, "*{suffix}"),
            Self::Any => f.write_str("*"),
        }
    }
}

/// A map from host patterns to values.
#[derive(Debug)]
pub struct HostMap<T> {
    // Requests only look names up, so the hash need not resist chosen keys.
    exact: HashMap<Box<[u8]>, T, RandomState>,
    below: HashMap<Box<[u8]>, T, RandomState>,
    any: Option<T>,
}

impl<T> Default for HostMap<T> {
    fn default() -> Self {
        Self {
            exact: HashMap::default(),
            below: HashMap::default(),
            any: None,
        }
    }
}

/// The result of a lookup.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Found<'m, 'h, T> {
    /// The value in the map.
    pub value: &'m T,
    /// What the wildcard matched, without the dot: `photos` for `photos.s3.example.com` under
    /// `*.s3.example.com`.
    pub below: Option<&'h str>,
    /// Whether the host was in canonical form.
    pub is_canonical: bool,
}

impl<'h, T> Found<'_, 'h, T> {
    /// The part of the host that may name a bucket.
    #[must_use]
    pub fn host(&self) -> MatchedHost<'h> {
        MatchedHost {
            below: self.below,
            is_canonical: self.is_canonical,
        }
    }
}

impl<T> HostMap<T> {
    /// The value for every host, if any.
    #[must_use]
    pub fn catch_all(&self) -> Option<&T> {
        self.any.as_ref()
    }

    /// Adds a host.
    ///
    /// # Errors
    ///
    /// Returns `value` if the pattern already exists.
    pub fn insert(&mut self, pattern: HostPattern, value: T) -> Result<(), T> {
        let place = match pattern {
            HostPattern::Exact(name) => self.exact.entry(name.into_boxed_bytes()),
            HostPattern::Below(suffix) => self.below.entry(suffix.into_boxed_bytes()),
            HostPattern::Any if self.any.is_some() => return Err(value),
            HostPattern::Any => {
                self.any = Some(value);
                return Ok(());
            }
        };
        match place {
            std::collections::hash_map::Entry::Occupied(_) => Err(value),
            std::collections::hash_map::Entry::Vacant(place) => {
                place.insert(value);
                Ok(())
            }
        }
    }

    /// Looks a host up.
    #[must_use]
    pub fn get<'m, 'h>(&'m self, host: &'h Host<'_>) -> Option<Found<'m, 'h, T>> {
        let name = &*host.name;
        let found = |value, below: Option<&'h [u8]>| Found {
            value,
            below: below.and_then(|below| std::str::from_utf8(below).ok()),
            is_canonical: host.is_canonical,
        };
        if let Some(value) = self.exact.get(name) {
            return Some(found(value, None));
        }
        if !self.below.is_empty() {
            // The suffix after the first dot is the longest.
            let dots = name.iter().enumerate().skip(1);
            for (dot, _) in dots.filter(|(_, byte)| **byte == b'.') {
                let (below, suffix) = name.split_at(dot);
                if let Some(value) = self.below.get(suffix) {
                    return Some(found(value, Some(below)));
                }
            }
        }
        let value = self.any.as_ref()?;
        Some(found(value, None))
    }
}

/// The host of a request, normalized for lookup: lower case, no port, no trailing dot. Borrowed if
/// it was already normalized.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Host<'r> {
    /// ASCII.
    name: Cow<'r, [u8]>,
    is_canonical: bool,
}

/// The request's host is invalid.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("the request's host is invalid")]
pub struct InvalidHost;

impl<'r> Host<'r> {
    /// Parses `uri-host [":" port]` ([RFC 9110 §7.2]).
    ///
    /// # Errors
    ///
    /// [`InvalidHost`] for user information, a path, white space, control bytes, a port beyond
    /// 65535, and anything else that is not a host.
    ///
    /// [RFC 9110 §7.2]: https://www.rfc-editor.org/rfc/rfc9110#section-7.2
    pub fn parse(authority: &'r [u8]) -> Result<Self, InvalidHost> {
        let is_address = authority.starts_with(b"[");
        // The classes of all bytes in the name, and whether two dots follow each other.
        let (mut any, mut dots, mut before) = (0, 0, 0);
        let end = authority.iter().position(|&byte| {
            let class = CLASSES.get(usize::from(byte)).copied().unwrap_or(0);
            any |= class;
            dots |= class & before;
            before = class & DOT;
            match is_address {
                true => byte == b']',
                false => class == 0,
            }
        });
        let end = end.map_or(authority.len(), |end| end + usize::from(is_address));
        let (name, port) = authority.split_at_checked(end).ok_or(InvalidHost)?;
        // Refuses a byte that a name must not contain, unless it is the colon before a port.
        check_port(port)?;
        let rooted = name.strip_suffix(b".");
        let name = rooted.unwrap_or(name);
        if name.is_empty() || name.len() >= MAX_HOST || name.starts_with(b".") {
            return Err(InvalidHost);
        }
        let upper = any & UPPER != 0;
        // In the unnormalized name: a single dot at its end is the root.
        let has_empty_label = dots != 0;
        if is_address {
            let name = std::str::from_utf8(name).map_err(|_| InvalidHost)?;
            let address = bracketed(name).ok_or(InvalidHost)?;
            let _: Ipv6Addr = address.parse().map_err(|_| InvalidHost)?;
        }
        Ok(Self {
            is_canonical: !upper && rooted.is_none() && !has_empty_label && is_usual_port(port),
            name: match upper {
                true => Cow::Owned(name.to_ascii_lowercase()),
                false => Cow::Borrowed(name),
            },
        })
    }

    /// The host's name.
    #[must_use]
    pub fn as_str(&self) -> &str {
        std::str::from_utf8(&self.name).unwrap_or_default()
    }

    /// Whether it came in the form that every server reads alike: in lower case, without a trailing
    /// dot or an empty label, and with a plain port number, if any.
    ///
    /// Servers that find buckets in hosts compare hosts byte by byte, most of them only in lower
    /// case, so that any other spelling is another host to them.
    #[must_use]
    pub fn is_canonical(&self) -> bool {
        self.is_canonical
    }
}

/// A byte that a host name may contain.
const NAME: u8 = 1;
/// A letter in upper case.
const UPPER: u8 = 2;
/// A dot.
const DOT: u8 = 4;

/// The class of each byte in a host name: the request path checks every byte of every host.
static CLASSES: [u8; 256] = classes();

const fn classes() -> [u8; 256] {
    let mut classes = [0; 256];
    let mut byte = 0_u8;
    while byte < 128 {
        let mut class = 0;
        if byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_') {
            class |= NAME;
        }
        if byte.is_ascii_uppercase() {
            class |= UPPER;
        }
        if byte == b'.' {
            class |= DOT;
        }
        #[expect(clippy::indexing_slicing, reason = "checked when it is compiled")]
        {
            classes[byte as usize] = class;
        }
        byte += 1;
    }
    classes
}

/// The text in brackets, such as an IPv6 address.
fn bracketed(name: &str) -> Option<&str> {
    name.strip_prefix('[')?.strip_suffix(']')
}

fn check_port(port: &[u8]) -> Result<(), InvalidHost> {
    match port {
        [] | [b':'] => Ok(()),
        [b':', digits @ ..] if digits.len() <= 5 && digits.iter().all(u8::is_ascii_digit) => {
            let port = digits
                .iter()
                .fold(0_u32, |port, digit| port * 10 + u32::from(digit - b'0'));
            if port <= u32::from(u16::MAX) {
                Ok(())
            } else {
                Err(InvalidHost)
            }
        }
        _ => Err(InvalidHost),
    }
}

/// Whether a port is written as a plain number, or absent.
fn is_usual_port(port: &[u8]) -> bool {
    !matches!(port, [b':'] | [b':', b'0', ..])
}

/// The host of a request: an absolute-form target, or HTTP/2's `:authority`, takes precedence over
/// `Host` ([RFC 9112 §3.2.2]). `None`: an HTTP/1.0 request without a host.
///
/// # Errors
///
/// [`Error::InvalidHost`] if an HTTP/1.1 or HTTP/2 request has no host, if an HTTP/1.1 request has
/// no valid `Host` in addition to its target, and if an HTTP/2 request's `:authority` and `Host`
/// differ ([RFC 9113 §8.3.1]).
///
/// [RFC 9112 §3.2.2]: https://www.rfc-editor.org/rfc/rfc9112#section-3.2.2
/// [RFC 9113 §8.3.1]: https://www.rfc-editor.org/rfc/rfc9113#section-8.3.1
pub(crate) fn authority<'r>(
    version: Version,
    of_target: Option<&'r [u8]>,
    host: Option<&'r [u8]>,
) -> Result<Option<&'r [u8]>, Error> {
    let is_valid = match (of_target, host) {
        (None, None) => version == Version::HTTP_10,
        (None, Some(_)) => true,
        (Some(authority), Some(host)) if version == Version::HTTP_2 => {
            host.eq_ignore_ascii_case(authority)
        }
        (Some(_), Some(host)) => Host::parse(host).is_ok(),
        (Some(_), None) => version != Version::HTTP_11,
    };
    match is_valid {
        true => Ok(of_target.or(host)),
        false => Err(Error::InvalidHost),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn map(patterns: &[&'static str]) -> HostMap<&'static str> {
        let mut map = HostMap::default();
        for pattern in patterns {
            map.insert(pattern.parse().unwrap(), *pattern).unwrap();
        }
        map
    }

    #[test]
    fn an_exact_host_wins_over_suffixes_and_the_longest_suffix_over_others() {
        let map = map(&["s3.example.com", "*.example.com", "*.s3.example.com", "*"]);
        let cases = [
            ("s3.example.com", "s3.example.com", None),
            ("S3.Example.COM.:8080", "s3.example.com", None),
            ("photos.s3.example.com", "*.s3.example.com", Some("photos")),
            ("a.b.s3.example.com", "*.s3.example.com", Some("a.b")),
            ("a.example.com", "*.example.com", Some("a")),
            ("example.com", "*", None),
            ("localhost:1", "*", None),
            ("[::1]:80", "*", None),
        ];
        for (host, expected, below) in cases {
            let host = Host::parse(host.as_bytes()).unwrap();
            let found = map.get(&host).unwrap();
            assert_eq!((*found.value, found.below), (expected, below), "{host:?}");
        }
    }

    #[test]
    fn invalid_hosts_are_refused() {
        let long = "a".repeat(255);
        let odd = [
            "",
            ":80",
            "a:b",
            "a:65536",
            "a:999999",
            "user@a",
            "a/b",
            "a b",
            "a\0",
            "[::1",
            "::1",
            "[1]",
            ".a",
            ".",
            "h\u{e9}",
            "a,b",
            long.as_str(),
            "*.a",
            "a%2e",
        ];
        for host in odd {
            assert!(Host::parse(host.as_bytes()).is_err(), "{host:?}");
        }
    }

    #[test]
    fn a_pattern_is_a_host_or_starts_with_a_star() {
        for good in [
            "a.example",
            "*.a.example",
            "*",
            "127.0.0.1",
            "[::1]",
            "my_host",
        ] {
            assert_eq!(good.parse::<HostPattern>().unwrap().to_string(), good);
        }
        for bad in [
            "",
            "https://a",
            "a:80",
            "a/b",
            "a.*.b",
            "**",
            "*a",
            "*.",
            "a b",
            "*.[::1]",
            ".a",
            "*..a",
            "..",
            "a..b",
            "a..",
        ] {
            assert!(bad.parse::<HostPattern>().is_err(), "{bad}");
        }
    }

    proptest! {
        #[test]
        fn no_bytes_cause_a_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            if let Ok(host) = Host::parse(&bytes) {
                prop_assert!(!host.as_str().is_empty());
                let again = Host::parse(host.as_str().as_bytes()).unwrap();
                prop_assert_eq!(again.as_str(), host.as_str());
            }
        }
    }
}
