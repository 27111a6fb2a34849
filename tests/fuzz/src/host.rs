//! Properties of hosts, for any input.

use std::net::Ipv6Addr;

use s3cors::routing::host::{Host, HostMap, HostPattern};

/// A host, followed by the patterns of a map: both are parsed like a simple reference
/// implementation does, and the map finds the same as trying every pattern.
pub fn host(bytes: &[u8]) {
    let mut lines = bytes.split(|byte| *byte == b'\n');
    let written = lines.next().unwrap_or_default();
    let host = Host::parse(written);
    let name = obvious(written);
    assert_eq!(host.as_ref().ok().map(Host::as_str), name.as_deref());

    let mut map = HostMap::default();
    let mut patterns = Vec::new();
    for line in lines.take(20) {
        let Ok(Ok(pattern)) = std::str::from_utf8(line).map(str::parse::<HostPattern>) else {
            continue;
        };
        let shown = pattern.to_string();
        assert_eq!(shown.parse().as_ref(), Ok(&pattern));
        let is_new = !patterns.contains(&shown);
        assert_eq!(map.insert(pattern, shown.clone()).is_ok(), is_new);
        patterns.push(shown);
    }
    let (Ok(host), Some(name)) = (host, name) else {
        return;
    };
    let found = map.get(&host);
    let found = found.map(|found| (found.value.as_str(), found.below));
    assert_eq!(found, obviously_found(&patterns, &name));
}

/// `uri-host [":" port]`, without its port and the root's dot, in lower case.
fn obvious(written: &[u8]) -> Option<String> {
    let text = std::str::from_utf8(written).ok()?;
    let (name, port) = match text.strip_prefix('[') {
        Some(rest) => {
            let (address, port) = rest.split_once(']')?;
            address.parse::<Ipv6Addr>().ok()?;
            (format!("[{address}]"), port)
        }
        None => {
            let (name, port) = text.split_at(text.find(':').unwrap_or(text.len()));
            let name = name.strip_suffix('.').unwrap_or(name);
            let is_name = |one: char| one.is_ascii_alphanumeric() || "-._".contains(one);
            if name.is_empty() || name.starts_with('.') || !name.chars().all(is_name) {
                return None;
            }
            (name.to_owned(), port)
        }
    };
    let digits = port.strip_prefix(':').unwrap_or(port);
    let is_port = digits.is_empty()
        || digits.len() <= 5
            && digits.bytes().all(|digit| digit.is_ascii_digit())
            && digits.parse::<u16>().is_ok()
            && port.starts_with(':');
    (is_port && name.len() < 254).then(|| name.to_ascii_lowercase())
}

/// The exact pattern, otherwise the one with the longest suffix, otherwise the one for every host.
fn obviously_found<'p>(
    patterns: &'p [String],
    name: &'p str,
) -> Option<(&'p str, Option<&'p str>)> {
    let exact = patterns.iter().find(|pattern| *pattern == name);
    let below = patterns.iter().filter_map(|pattern| {
        let below = name.strip_suffix(pattern.strip_prefix('*')?)?;
        (pattern.len() > 1 && !below.is_empty()).then_some((&**pattern, Some(below)))
    });
    let longest = below.max_by_key(|(pattern, _)| pattern.len());
    let any = patterns.iter().find(|pattern| *pattern == "*");
    let exact = exact.map(|pattern| (&**pattern, None));
    exact.or(longest).or(any.map(|pattern| (&**pattern, None)))
}
