//! Whether Chromium accepts a text as a URL: it reports an origin that does not match differently
//! from a value that is not an origin ([URL
//! Standard](https://url.spec.whatwg.org/#concept-basic-url-parser)).

/// Schemes whose URLs have a host ([«special scheme»](https://url.spec.whatwg.org/#special-scheme)).
const SPECIAL: [&str; 5] = ["ftp", "http", "https", "ws", "wss"];

/// Whether a value without spaces and commas parses as an absolute URL.
pub(super) fn is_valid_url(value: &str) -> bool {
    let Some((scheme, rest)) = value.split_once(':') else {
        return false;
    };
    let is_scheme = scheme.starts_with(|first: char| first.is_ascii_alphabetic())
        && scheme
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || b"+-.".contains(&byte));
    if !is_scheme {
        return false;
    }
    let is_special = SPECIAL
        .iter()
        .any(|special| scheme.eq_ignore_ascii_case(special));
    if is_special {
        let after = rest.trim_start_matches(['/', '\\']);
        let end = after.find(['/', '\\', '?', '#']).unwrap_or(after.len());
        return after
            .get(..end)
            .is_some_and(|authority| is_authority(authority, true));
    }
    match rest.strip_prefix("//") {
        Some(after) => {
            let end = after.find(['/', '?', '#']).unwrap_or(after.len());
            let authority = after.get(..end).unwrap_or_default();
            authority.is_empty() || is_authority(authority, false)
        }
        None => true,
    }
}

fn is_authority(authority: &str, is_special: bool) -> bool {
    let host = authority
        .rsplit_once('@')
        .map_or(authority, |(_, host)| host);
    let (host, port) = match host.rsplit_once(':') {
        Some((host, port)) if !port.contains(']') => (host, port),
        _ => (host, ""),
    };
    let is_port = port.is_empty()
        || (port.bytes().all(|byte| byte.is_ascii_digit()) && port.parse::<u16>().is_ok());
    is_port && is_host(host, is_special)
}

fn is_host(host: &str, is_special: bool) -> bool {
    if let Some(address) = host.strip_prefix('[') {
        let address = address.strip_suffix(']').unwrap_or_default();
        return address.parse::<std::net::Ipv6Addr>().is_ok();
    }
    // Forbidden host code points, and those that are only forbidden in domains.
    let forbidden = |byte: u8| b"\0\t\n\r #/:<>?@[\\]^|".contains(&byte);
    let in_domains = |byte: u8| byte < b' ' || byte == b'%' || byte == 0x7f;
    if host
        .bytes()
        .any(|byte| forbidden(byte) || (is_special && in_domains(byte)))
    {
        return false;
    }
    !host.is_empty() && (!is_special || !ends_in_number(host) || is_ipv4(host))
}

/// Whether a host is parsed as an IPv4 address ([«ends in a
/// number»](https://url.spec.whatwg.org/#ends-in-a-number-checker)).
fn ends_in_number(host: &str) -> bool {
    let last = host
        .strip_suffix('.')
        .unwrap_or(host)
        .rsplit('.')
        .next()
        .unwrap_or_default();
    !last.is_empty() && (last.bytes().all(|byte| byte.is_ascii_digit()) || number(last).is_some())
}

fn is_ipv4(host: &str) -> bool {
    let parts: Vec<Option<u64>> = host
        .strip_suffix('.')
        .unwrap_or(host)
        .split('.')
        .map(number)
        .collect();
    let Some((Some(last), first)) = parts.split_last() else {
        return false;
    };
    let room = 256_u64.checked_pow(4_u32.saturating_sub(u32::try_from(first.len()).unwrap_or(4)));
    first.len() < 4
        && first.iter().all(|part| part.is_some_and(|part| part < 256))
        && room.is_some_and(|room| *last < room)
}

/// A number in an IPv4 address: decimal, octal or hexadecimal.
fn number(text: &str) -> Option<u64> {
    let lower = text.to_ascii_lowercase();
    match (lower.strip_prefix("0x"), lower.strip_prefix('0')) {
        (Some(""), _) | (None, Some("")) => Some(0),
        (Some(hexadecimal), _) => u64::from_str_radix(hexadecimal, 16).ok(),
        (None, Some(octal)) => u64::from_str_radix(octal, 8).ok(),
        (None, None) => lower.parse().ok(),
    }
}
