//! Origins that S3 accepts in a rule and that hardly do what is meant: no browser sends them, they match
//! more than their site, or they should not be trusted.

use super::impossible_origin::impossible;
use super::note::is_local;
use super::origin::{OriginDifference, mended};

/// A lint's code, message and hint.
pub(super) type Found = (&'static str, String, String);

/// An origin that no browser sends like this.
pub(super) fn written_wrongly(origin: &str) -> Option<Found> {
    if origin.is_empty() {
        let message = "an empty AllowedOrigin matches no origin";
        return Some(("origin-empty", message.into(), "remove it".into()));
    }
    if let Some(found) = impossible(origin) {
        return Some(found);
    }
    let list = |character: char| character == ',' || character.is_whitespace();
    if origin.trim().contains(list) {
        let message = format!("`{origin}` matches no origin: one element holds one origin");
        let hint = "give each origin an AllowedOrigin of its own";
        return Some(("origin-list", message, hint.into()));
    }
    if let Some(right) = with_whole_scheme(origin) {
        let message = format!("`{origin}` matches no origin: behind a scheme stands `://`");
        return Some(("origin-no-scheme", message, format!("write `{right}`")));
    }
    let (right, slips) = mended(origin);
    let (code, why) = match slips.first()? {
        OriginDifference::WhiteSpace => ("origin-white-space", "white space around it"),
        OriginDifference::Path if origin.ends_with('/') && right.len() + 1 == origin.len() => {
            ("origin-trailing-slash", "a slash at its end")
        }
        OriginDifference::Path => ("origin-path", "a path"),
        OriginDifference::Case => ("origin-upper-case", "capitals"),
        OriginDifference::DefaultPort => ("origin-default-port", "the scheme's own port"),
        OriginDifference::NoScheme => {
            let message = format!("`{origin}` matches no origin: a browser's begins with a scheme");
            return Some(("origin-no-scheme", message, format!("write `{right}`")));
        }
        _ => return None,
    };
    let message = format!("`{origin}` matches no origin: a browser sends none with {why}");
    Some((code, message, format!("write `{right}`")))
}

/// A pattern that matches other sites than the one it was written for.
pub(super) fn wide(origin: &str) -> Option<Found> {
    let (before, after) = origin.split_once('*')?;
    if before.is_empty() && after.is_empty() {
        return None;
    }
    let host_before = before.split_once("://").map_or("", |(_, host)| host);
    let any_host = ["https://", "http://"]
        .iter()
        .any(|scheme| scheme.starts_with(before));
    if after.is_empty() && any_host {
        let message = format!("`{origin}` lets in pages of every site, with credentials");
        let hint = "name the origins; or write `*`, which excludes credentials";
        return Some(("origin-any-with-credentials", message, hint.into()));
    }
    if let Some(found) = whole_top_level_domain(origin, before, after) {
        return Some(found);
    }
    if after.is_empty() && !before.ends_with(':') {
        let example = format!("{before}.evil.example").replace("..", ".");
        let message = format!("`{origin}` matches every longer name, `{example}` too");
        let hint = "write the host name to its end; a port may be `:*`";
        return Some(("origin-open-end", message, hint.into()));
    }
    // Behind part of a name, two whole labels say which site it is.
    let anchored = !host_before.is_empty() && after.matches('.').count() >= 2;
    if after.starts_with(|next: char| next.is_ascii_alphanumeric() || next == '-')
        && after.contains('.')
        && !anchored
    {
        let message = format!("`{origin}` matches `{before}evil{after}` too, another site");
        let hint = format!(
            "write `{before}*.{after}` for the sub-domains, and the host itself in an \
             AllowedOrigin of its own"
        );
        return Some(("origin-wildcard-inside-label", message, hint));
    }
    if before.is_empty() && after.starts_with(['.', ':']) {
        let message = format!("`{origin}` matches plain HTTP too, with credentials");
        // The `*` stood for the scheme alone, or for the beginning of the host, too.
        let host = after.strip_prefix("://").unwrap_or(origin);
        return Some((
            "origin-no-scheme",
            message,
            format!("write `https://{host}`"),
        ));
    }
    None
}

/// A pattern whose `*` stands for every site below a top-level domain, as in `https://*.com`.
///
/// What else is a public suffix (`co.uk`, `github.io`) changes by the week, and is not known here.
fn whole_top_level_domain(origin: &str, before: &str, after: &str) -> Option<Found> {
    /// Names that nobody can register a site below (RFC 6761, RFC 6762, and ICANN's `internal`).
    const PRIVATE: [&str; 7] = [
        "example",
        "internal",
        "invalid",
        "local",
        "localhost",
        "onion",
        "test",
    ];
    let host = after.split_once(':').map_or(after, |(host, _)| host);
    let domain = host.strip_prefix('.').unwrap_or(host);
    let is_label = domain.len() >= 2 && domain.bytes().all(|byte| byte.is_ascii_lowercase());
    let begins = before.is_empty() || before.ends_with("://");
    if !begins || !(is_label || domain.starts_with("xn--")) || PRIVATE.contains(&domain) {
        return None;
    }
    let message =
        format!("`{origin}` lets in pages of every site below `.{domain}`, with credentials");
    let scheme = if before.is_empty() {
        "https://"
    } else {
        before
    };
    let hint = format!("name the site's own domain too, as in `{scheme}*.example.{domain}`");
    Some(("origin-top-level-domain", message, hint))
}

/// An origin that should not be trusted with credentials.
pub(super) fn trusting(origin: &str) -> Option<Found> {
    if origin == "null" {
        let message = "`null` is the origin of sandboxed frames, data: and file: URLs: any site \
                       can make such a page, and it gets credentials";
        let hint = "serve the page from an origin of its own";
        return Some(("origin-null", message.into(), hint.into()));
    }
    let plain = origin.starts_with("http://") || origin.starts_with("http*://");
    if plain && !is_local(origin.as_bytes()) {
        let message = format!(
            "`{origin}` lets in plain HTTP: whoever controls the network speaks for the site, with \
             credentials"
        );
        let hint = "write https:// once the site has it";
        return Some(("origin-plain-http", message, hint.into()));
    }
    None
}

/// The origin that was meant where `https:/` or `https//` stands for `https://`.
fn with_whole_scheme(origin: &str) -> Option<String> {
    ["https", "http"].into_iter().find_map(|scheme| {
        let rest = origin.strip_prefix(scheme)?.trim_start_matches([':', '/']);
        let cut = origin.get(scheme.len()..origin.len() - rest.len())?;
        matches!(cut, ":/" | "//" | ":").then(|| format!("{scheme}://{rest}"))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_scheme_that_is_not_whole_is_made_whole() {
        for (origin, right) in [
            ("https:/app.example.com", "https://app.example.com"),
            ("https//app.example.com", "https://app.example.com"),
            ("http:app.example.com", "http://app.example.com"),
            ("https.example.com", "https://https.example.com"),
            ("app.example.com", "https://app.example.com"),
        ] {
            let (code, _, hint) = written_wrongly(origin).unwrap();
            assert_eq!(
                (code, hint),
                ("origin-no-scheme", format!("write `{right}`"))
            );
        }
        for (origin, right) in [
            ("*://app.example.com", "https://app.example.com"),
            ("*.example.com", "https://*.example.com"),
        ] {
            let (code, _, hint) = wide(origin).unwrap();
            assert_eq!(
                (code, hint),
                ("origin-no-scheme", format!("write `{right}`"))
            );
        }
    }
}
