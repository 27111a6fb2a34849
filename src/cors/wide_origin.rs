//! Patterns that match other sites than the one they were written for.

use super::origin_form::{AS_BROWSERS_DO, Found, is_canonical, is_local, is_plain_http};

/// Why a pattern matches more than one site.
enum Wide<'o> {
    /// Every site; with the port, where it has one.
    AnySite,
    /// Every host of a scheme that is not the web's.
    AnyOfScheme(&'o str),
    /// Every site below a top-level domain; with the domain.
    TopLevelDomain(&'o str),
    /// Every longer name.
    OpenEnd,
    /// The `*` stands for a part of the name that is registered.
    InsideLabel,
    /// Plain HTTP too.
    AnyScheme,
}

impl<'o> Wide<'o> {
    fn of(origin: &'o str) -> Option<Self> {
        let (before, after) = origin.split_once('*')?;
        if before.is_empty() && after.is_empty() {
            return None;
        }
        let (scheme, host_before) = before.split_once("://").unwrap_or(("", ""));
        let is_web = ["https://", "http://"]
            .iter()
            .any(|web| web.starts_with(before));
        let is_port = |text: &str| {
            text.strip_prefix(':')
                .is_some_and(|port| !port.contains('.'))
        };
        if is_web && (after.is_empty() || after == "://" || is_port(after)) {
            return Some(Self::AnySite);
        }
        let is_foreign = !scheme.is_empty() && !scheme.starts_with("http");
        if is_foreign && (host_before.is_empty() || scheme.ends_with("-extension")) {
            return after.is_empty().then_some(Self::AnyOfScheme(scheme));
        }
        if let Some(domain) = top_level_domain(before, after) {
            return Some(Self::TopLevelDomain(domain));
        }
        if after.is_empty() && !before.ends_with(':') {
            return Some(Self::OpenEnd);
        }
        // Behind part of a name, two whole labels say which site it is.
        let anchored = !host_before.is_empty() && after.matches('.').count() >= 2;
        if after.starts_with(|next: char| next.is_ascii_alphanumeric() || next == '-')
            && after.contains('.')
            && !anchored
        {
            return Some(Self::InsideLabel);
        }
        (before.is_empty() && after.starts_with(['.', ':'])).then_some(Self::AnyScheme)
    }
}

/// Whether a pattern matches other sites than the one it was written for.
pub(super) fn is_wide(origin: &str) -> bool {
    Wide::of(origin).is_some()
}

/// A pattern that matches other sites than the one it was written for.
pub(super) fn wide(origin: &str) -> Option<Found> {
    let (before, after) = origin.split_once('*')?;
    Some(match Wide::of(origin)? {
        Wide::AnySite => {
            let message = format!("`{origin}` lets in pages of every site, with credentials");
            let hint = "name the origins; or write `*`, which excludes credentials";
            ("origin-any-with-credentials", message, hint.into())
        }
        Wide::AnyOfScheme(scheme) => any_of_scheme(origin, scheme),
        Wide::TopLevelDomain(domain) => {
            let message = format!(
                "`{origin}` lets in pages of every site below `.{domain}`, with credentials"
            );
            let hint = match before.split_once("://") {
                Some((_, part)) if !part.is_empty() => {
                    "name each origin in an AllowedOrigin of its own".into()
                }
                scheme => {
                    let scheme = scheme.map_or("https", |(scheme, _)| scheme);
                    format!("name the site's own domain too, as in `{scheme}://*.example.{domain}`")
                }
            };
            ("origin-top-level-domain", message, hint)
        }
        Wide::OpenEnd => {
            let example = format!("{before}.evil.example").replace("..", ".");
            let message = format!("`{origin}` matches every longer name, `{example}` too");
            let hint = "write the host name to its end; a port may be `:*`";
            ("origin-open-end", message, hint.into())
        }
        Wide::InsideLabel => {
            let message = format!("`{origin}` matches `{before}evil{after}` too, another site");
            let scheme = if before.is_empty() {
                "https://"
            } else {
                before
            };
            let (site, below) = (format!("{scheme}{after}"), format!("{scheme}*.{after}"));
            let hint = if is_good(&site) && is_good(&below) && scheme.ends_with("://") {
                format!("write `{site}` for the site itself, and `{below}` for its sub-domains")
            } else {
                "name each origin in an AllowedOrigin of its own".into()
            };
            ("origin-wildcard-inside-label", message, hint)
        }
        Wide::AnyScheme => {
            let message = format!("`{origin}` matches plain HTTP too, with credentials");
            // The `*` stood for the scheme alone, or for the beginning of the host, too.
            let host = after.strip_prefix("://").unwrap_or(origin);
            let scheme = if is_local(host) { "http" } else { "https" };
            let right = format!("{scheme}://{host}");
            let hint = match is_good(&right) {
                true => format!("write `{right}`"),
                false => AS_BROWSERS_DO.into(),
            };
            ("origin-no-scheme", message, hint)
        }
    })
}

/// Whether nothing is to be warned of in a pattern.
fn is_good(pattern: &str) -> bool {
    is_canonical(pattern) && !is_wide(pattern) && !is_plain_http(pattern)
}

/// A pattern for every host of a scheme that is not the web's.
fn any_of_scheme(origin: &str, scheme: &str) -> Found {
    // Chromium and Safari give an extension one id, Firefox one for each installation
    // (https://developer.mozilla.org/docs/Mozilla/Add-ons/WebExtensions/manifest.json/web_accessible_resources).
    let (who, hint) = match scheme {
        "moz-extension" => (
            "every extension of Firefox",
            "Firefox gives an extension another id in each installation: have it ask for the host \
             in its permissions, so that it needs no CORS",
        ),
        "chrome-extension" => (
            "every extension of Chromium",
            "name the extension's id: `chrome-extension://` and its 32 letters",
        ),
        _ if scheme.ends_with("-extension") => {
            ("every extension of that browser", "name the extension's id")
        }
        _ => (
            "every page that an app serves under that scheme",
            "name the host that the app uses, as in `capacitor://localhost`",
        ),
    };
    let message = format!("`{origin}` lets in {who}, with credentials");
    ("origin-any-of-scheme", message, hint.into())
}

/// The top-level domain below which a pattern's `*` stands for every site, as in `https://*.com`
/// and `https://app.*.com`.
///
/// What else is a public suffix (`co.uk`, `github.io`) changes by the week, and is not known here.
fn top_level_domain<'o>(before: &str, after: &'o str) -> Option<&'o str> {
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
    let begins = before.is_empty() || before.ends_with("://");
    let domain = match host.strip_prefix('.') {
        Some(domain) => domain,
        None if begins => host,
        None => host.split_once('.')?.1,
    };
    let is_label = domain.len() >= 2 && domain.bytes().all(|byte| byte.is_ascii_lowercase());
    let is_domain = is_label || (domain.starts_with("xn--") && !domain.contains('.'));
    // The `*` may stand for a scheme alone.
    let has_host = before.contains("://") || before.is_empty();
    (has_host && is_domain && !PRIVATE.contains(&domain)).then_some(domain)
}
