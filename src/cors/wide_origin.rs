//! Patterns that match sites other than the intended one.

use super::origin_form::{AS_BROWSERS_DO, Found, is_canonical, is_local, is_plain_http};

/// Why a pattern matches more than one site.
enum Wide<'o> {
    /// Every site; with the port, if it has one.
    AnySite,
    /// Every host of a scheme other than HTTP and HTTPS.
    AnyOfScheme(&'o str),
    /// Every site under a top-level domain; with the domain.
    TopLevelDomain(&'o str),
    /// Every longer name.
    OpenEnd,
    /// The `*` is within the registered part of the name.
    InsideLabel,
    /// Plain HTTP, too.
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
        // After part of a name, two whole labels identify the site.
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

/// Whether a pattern matches sites other than the intended one.
pub(super) fn is_wide(origin: &str) -> bool {
    Wide::of(origin).is_some()
}

/// A pattern that matches sites other than the intended one.
pub(super) fn wide(origin: &str) -> Option<Found> {
    let (before, after) = origin.split_once('*')?;
    Some(match Wide::of(origin)? {
        Wide::AnySite => {
            let message = format!("`{origin}` allows pages of every site, with credentials");
            let hint = "list the origins, or use `*`, which excludes credentials";
            ("origin-any-with-credentials", message, hint.into())
        }
        Wide::AnyOfScheme(scheme) => any_of_scheme(origin, scheme),
        Wide::TopLevelDomain(domain) => {
            let message = format!(
                "`{origin}` allows pages of every site under `.{domain}`, with credentials"
            );
            let hint = match before.split_once("://") {
                Some((_, part)) if !part.is_empty() => {
                    "list each origin in its own AllowedOrigin".into()
                }
                scheme => {
                    let scheme = scheme.map_or("https", |(scheme, _)| scheme);
                    format!("include the site's own domain, as in `{scheme}://*.example.{domain}`")
                }
            };
            ("origin-top-level-domain", message, hint)
        }
        Wide::OpenEnd => {
            let example = format!("{before}.evil.example").replace("..", ".");
            let message = format!("`{origin}` matches every longer name, such as `{example}`");
            let hint = "write the complete host name; the port may be `:*`";
            ("origin-open-end", message, hint.into())
        }
        Wide::InsideLabel => {
            let message = format!("`{origin}` also matches another site, `{before}evil{after}`");
            let scheme = if before.is_empty() {
                "https://"
            } else {
                before
            };
            let (site, below) = (format!("{scheme}{after}"), format!("{scheme}*.{after}"));
            let hint = if is_good(&site) && is_good(&below) && scheme.ends_with("://") {
                format!("use `{site}` for the site itself, and `{below}` for its subdomains")
            } else {
                "list each origin in its own AllowedOrigin".into()
            };
            ("origin-wildcard-inside-label", message, hint)
        }
        Wide::AnyScheme => {
            let message = format!("`{origin}` also matches plain HTTP, with credentials");
            // The `*` was either the scheme, or also the beginning of the host.
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

/// Whether a pattern causes no warning.
fn is_good(pattern: &str) -> bool {
    is_canonical(pattern) && !is_wide(pattern) && !is_plain_http(pattern)
}

/// A pattern for every host of a scheme other than HTTP and HTTPS.
fn any_of_scheme(origin: &str, scheme: &str) -> Found {
    // In Chromium and Safari an extension has one ID, in Firefox one for each installation
    // (https://developer.mozilla.org/docs/Mozilla/Add-ons/WebExtensions/manifest.json/web_accessible_resources).
    let (who, hint) = match scheme {
        "moz-extension" => (
            "every extension of Firefox",
            "in Firefox, an extension has a different ID in each installation: let it request the host \
             in its permissions, so that it needs no CORS",
        ),
        "chrome-extension" => (
            "every extension of Chromium",
            "use the extension's ID: `chrome-extension://` and its 32 letters",
        ),
        _ if scheme.ends_with("-extension") => {
            ("every extension of that browser", "use the extension's ID")
        }
        _ => (
            "every page that an app serves with that scheme",
            "include the host that the app uses, as in `capacitor://localhost`",
        ),
    };
    let message = format!("`{origin}` allows {who}, with credentials");
    ("origin-any-of-scheme", message, hint.into())
}

/// The top-level domain below which a pattern's `*` matches every site, as in `https://*.com` and
/// `https://app.*.com`.
///
/// Other public suffixes (`co.uk`, `github.io`) change weekly and are not known here.
fn top_level_domain<'o>(before: &str, after: &'o str) -> Option<&'o str> {
    /// Names under which nobody can register a site (RFC 6761, RFC 6762, and ICANN's `internal`).
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
    // The `*` may match only a scheme.
    let has_host = before.contains("://") || before.is_empty();
    (has_host && is_domain && !PRIVATE.contains(&domain)).then_some(domain)
}
