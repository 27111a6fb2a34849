//! Finds out what the author most probably meant by an origin that no browser sends.
//!
//! A repair is offered only if the result is in the form that browsers send and causes no warning
//! itself.

use super::origin_form::{
    AS_BROWSERS_DO, OriginParts, is_canonical, is_invisible, is_local, is_plain_http,
};
use super::punycode::ascii_host;
use super::spelling::distance;
use super::wide_origin::is_wide;

/// Quotation marks, also typographic ones, and other brackets around a URL.
pub(super) const QUOTES: [char; 9] = ['"', '\'', '`', '“', '”', '‘', '’', '«', '»'];

/// Separators between the origins of a list.
pub(super) const SEPARATORS: [char; 5] = [',', ';', '|', '，', '、'];

/// What to write instead of `origin`; `None`: it is correct, or the intention is unclear, or the
/// result would also cause a warning.
pub(super) fn repaired(origin: &str) -> Option<String> {
    as_sent(origin).filter(|right| !is_plain_http(right))
}

/// The form in which browsers send `origin`, if it is in another form.
pub(super) fn as_sent(origin: &str) -> Option<String> {
    let visible: String = origin.chars().filter(|one| !is_invisible(*one)).collect();
    if listed(&visible).is_some() {
        return None;
    }
    let repair = Repair::of(&visible)?;
    let text = repair.text;
    let parts = OriginParts::of(&text);
    let is_site = parts.host.contains('.') || parts.host == "localhost";
    let is_good = text != origin
        && text != "null"
        && is_canonical(&text)
        && scheme_meant(parts.scheme.unwrap_or_default()).is_none()
        && !is_wide(&text)
        // Perhaps the end of a sentence.
        && !parts.host.ends_with('.')
        // Either the scheme or the port is wrong; which one is unclear.
        && !matches!((parts.scheme, parts.port), (Some("https"), Some("80")) | (Some("http"), Some("443")))
        // A guessed scheme must not send credentials over plain HTTP.
        && (is_site || is_local(&text) || !repair.needs_site)
        && (!repair.is_guess || parts.scheme == Some("https") || is_local(&text));
    is_good.then_some(text)
}

/// The hint that names the intended origin, if it is certain.
pub(super) fn right(origin: &str) -> Option<String> {
    repaired(origin).map(|right| format!("write `{right}`"))
}

/// Like [`right`], or else the form of origins.
pub(super) fn right_or_how(origin: &str) -> String {
    right(origin).unwrap_or_else(|| AS_BROWSERS_DO.into())
}

/// The origins in a list; `None`: it is not a list.
pub(super) fn listed(origin: &str) -> Option<Vec<&str>> {
    let is_between = |one: char| SEPARATORS.contains(&one) || one.is_whitespace();
    let parts: Vec<&str> = origin
        .split(is_between)
        .filter(|part| !part.is_empty())
        .collect();
    let is_origin = |part: &&&str| {
        let part = part.trim_matches(QUOTES);
        let signs = ['(', ')', '{', '}', '\\', '^', '$'];
        part.contains(['.', ':', '*']) && !part.contains(signs)
    };
    let several = parts.len() > 1 && parts.iter().filter(is_origin).count() == parts.len();
    let glued = origin.matches("://").count() > 1 && !origin.contains(['(', ')', '?', '#', '=']);
    (several || glued).then_some(parts)
}

/// An origin under repair.
struct Repair {
    text: String,
    /// Whether its scheme is a guess.
    is_guess: bool,
    /// Whether it must name a site, because not every word after `http:` is a host.
    needs_site: bool,
}

impl Repair {
    fn of(origin: &str) -> Option<Self> {
        let around = |one: char| {
            QUOTES.contains(&one)
                || SEPARATORS.contains(&one)
                || one.is_whitespace()
                || matches!(one, '<' | '>')
        };
        let mut text = origin.trim_matches(around).to_owned();
        // Globs use `**` for any number of labels.
        text = text.replace("**.", "*.");
        let mut is_guess = false;
        if is_expression(&text) {
            text = without_expression(&text)?;
            is_guess = true;
        }
        let (scheme, rest) = split_scheme(&text);
        let authority = authority(rest)?;
        let authority = authority.rsplit('@').next().unwrap_or_default();
        let host = ascii_host(authority)?.to_ascii_lowercase();
        let scheme = match scheme.map(str::to_ascii_lowercase) {
            Some(scheme) => match scheme_meant(&scheme) {
                // `httpp` is as close to both schemes, and both are used on the local machine.
                Some("https") if is_local(&host) && distance(&scheme, "http") <= 1 => return None,
                Some(meant) => {
                    is_guess = true;
                    meant.to_owned()
                }
                None => scheme,
            },
            None => {
                is_guess = true;
                let local = is_local(&host) || host.starts_with("127.");
                if local { "http" } else { "https" }.to_owned()
            }
        };
        Some(Self {
            needs_site: is_guess || !text.contains("://"),
            text: with_canonical_port(&format!("{scheme}://{host}")),
            is_guess,
        })
    }
}

/// The text before `://` or a misspelling of it, and the text after.
fn split_scheme(text: &str) -> (Option<&str>, &str) {
    if let Some((scheme, rest)) = text.split_once("://") {
        return (Some(scheme), rest.trim_start_matches('/'));
    }
    for scheme in ["https", "http"] {
        let head = text.get(..scheme.len());
        if let Some(head) = head.filter(|head| head.eq_ignore_ascii_case(scheme))
            && let Some(rest) = text.get(scheme.len()..)
            && rest.starts_with([':', '/'])
        {
            return (Some(head), rest.trim_start_matches([':', '/']));
        }
    }
    (None, text.trim_start_matches('/'))
}

/// The text before a path, a query or a fragment; `None`: it may mean something else, as in
/// `app?.example.com`.
fn authority(rest: &str) -> Option<&str> {
    let Some(end) = rest.find(['/', '?', '#']) else {
        return Some(rest);
    };
    let (authority, after) = rest.split_at(end);
    let is_query = match after.strip_prefix('?') {
        None | Some("") => true,
        Some(query) => query
            .split_once('=')
            .is_some_and(|(key, _)| !key.contains(['.', '?'])),
    };
    is_query.then_some(authority)
}

/// Removes the scheme's default port, an empty port, and leading zeros.
fn with_canonical_port(origin: &str) -> String {
    let OriginParts { scheme, host, port } = OriginParts::of(origin);
    let scheme = scheme.unwrap_or_default();
    let Some(port) = port.filter(|_| host.starts_with('[') || !host.contains(':')) else {
        return origin.to_owned();
    };
    let digits = port.trim_start_matches('0');
    match (scheme, digits) {
        ("https", "443") | ("http", "80") => format!("{scheme}://{host}"),
        // Another origin with its own scheme follows.
        (_, "") if host.ends_with("http") || host.ends_with("https") => origin.to_owned(),
        (_, "") if port.is_empty() => format!("{scheme}://{host}"),
        _ if port.bytes().all(|byte| byte.is_ascii_digit()) => {
            format!("{scheme}://{host}:{digits}")
        }
        _ => origin.to_owned(),
    }
}

/// Whether it is a regular expression, which has characters that neither a scheme nor a host has.
pub(super) fn is_expression(origin: &str) -> bool {
    let signs = ['\\', '^', '$', '(', ')', '{', '}', '|', '+', '[', ']'];
    let (scheme, rest) = match origin.split_once("://") {
        Some((scheme, rest)) => (scheme, rest),
        None => ("", origin),
    };
    let authority = rest.split(['/', '#']).next().unwrap_or_default();
    let authority = authority.split("?").next().unwrap_or_default();
    let host = match authority.split_once(']') {
        Some((address, rest)) if is_address(address) => rest,
        _ => authority,
    };
    let between_slashes = origin.len() > 2
        && origin.starts_with('/')
        && !origin.starts_with("//")
        && origin.get(1..).is_some_and(|rest| rest.contains('/'));
    // Schemes may contain a plus.
    scheme.contains(['?', '\\', '^', '(', '[', '|'])
        || host.contains(signs)
        || host.starts_with(".*")
        || between_slashes
}

fn is_address(address: &str) -> bool {
    address
        .strip_prefix('[')
        .is_some_and(|address| address.parse::<std::net::Ipv6Addr>().is_ok())
}

/// The pattern that matches what a regular expression's author intended; `None`: one pattern cannot
/// express it.
fn without_expression(origin: &str) -> Option<String> {
    let mut text = origin.to_owned();
    // JavaScript literals, with their flags.
    if let Some(inner) = text.strip_prefix('/').filter(|rest| !rest.starts_with('/'))
        && let Some((inner, flags)) = inner.rsplit_once('/')
        && flags.bytes().all(|flag| flag.is_ascii_lowercase())
    {
        text = inner.to_owned();
    }
    text = text.replace("\\/", "/").replace("(?i)", "");
    for scheme in [
        "https?://",
        "(https?)://",
        "(http|https)://",
        "(https|http)://",
    ] {
        let address = text.trim_start_matches('^');
        if let Some(rest) = address.strip_prefix(scheme) {
            let host = rest.replace('\\', "");
            // Plain HTTP is not suggested for the network.
            let scheme = if is_local(&host) { "http*" } else { "https" };
            text = format!("{scheme}://{rest}");
        }
    }
    text = with_stars(&text);
    text = text.replace("(*)", "*").replace('\\', "");
    text = text
        .trim_start_matches('^')
        .trim_end_matches('$')
        .to_owned();
    // A leading `.*` has no effect, because a search without anchors would do the same.
    (text.matches('*').count() <= 1).then_some(text)
}

/// Replaces `.*`, `[^.]+`, `\w+` and similar expressions with `*`.
fn with_stars(text: &str) -> String {
    let mut written = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(first) = rest.chars().next() {
        let class = any_of(rest);
        let after = class.and_then(|length| rest.get(length..));
        match after {
            Some(after) => {
                let tail = after.trim_start_matches(['+', '*', '?']);
                // A lone dot is the dot of a name.
                let is_dot = first == '.' && tail.len() == after.len();
                written.push(if is_dot { '.' } else { '*' });
                rest = tail;
            }
            None => {
                written.push(first);
                rest = rest.get(first.len_utf8()..).unwrap_or_default();
            }
        }
    }
    written
}

/// The length of an expression that matches any of several characters, at the beginning of `text`.
fn any_of(text: &str) -> Option<usize> {
    if text.starts_with('.') {
        return Some(1);
    }
    if ["\\w", "\\d", "\\S"]
        .iter()
        .any(|class| text.starts_with(class))
    {
        return Some(2);
    }
    let inside = text.strip_prefix('[')?;
    let end = inside.find(']')?;
    Some(end + 2)
}

/// The scheme that was meant by a misspelled one.
pub(super) fn scheme_meant(written: &str) -> Option<&'static str> {
    let written = written.to_ascii_lowercase();
    if written.contains('*') || written.is_empty() || ["https", "http"].contains(&&*written) {
        return None;
    }
    if written == "wss" || written == "ws" {
        return Some(if written == "ws" { "http" } else { "https" });
    }
    let letters = |text: &str| {
        let mut letters = text.as_bytes().to_vec();
        letters.sort_unstable();
        letters
    };
    let near = |scheme: &&str| {
        let apart = distance(&written, scheme);
        // Two swapped letters have a distance of two.
        apart == 1 || (apart == 2 && letters(&written) == letters(scheme))
    };
    ["https", "http"].into_iter().find(near)
}
