//! The parts of URLs that CORS needs: their origins, and where a redirect leads.

/// A URL's parts.
#[derive(Clone, Copy, Debug)]
pub(super) struct Url<'u> {
    /// Unchanged.
    pub(super) scheme: &'u str,
    /// User name and password, without the `@`.
    pub(super) userinfo: Option<&'u str>,
    host: &'u str,
    port: Option<&'u str>,
    /// Path, query and fragment.
    rest: &'u str,
}

impl<'u> Url<'u> {
    /// The parts of an absolute URL with an authority.
    pub(super) fn parse(url: &'u str) -> Option<Self> {
        let (scheme, after) = url.split_once("://")?;
        let is_scheme = scheme
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || b"+-.".contains(&byte));
        if !is_scheme || !scheme.starts_with(|first: char| first.is_ascii_alphabetic()) {
            return None;
        }
        let end = after.find(['/', '?', '#', '\\']).unwrap_or(after.len());
        let (authority, rest) = after.split_at(end);
        let (userinfo, host) = match authority.rsplit_once('@') {
            Some((userinfo, host)) => (Some(userinfo), host),
            None => (None, authority),
        };
        let (host, port) = match host.rsplit_once(':') {
            Some((host, port)) if !port.contains(']') => {
                (host, Some(port).filter(|port| !port.is_empty()))
            }
            _ => (host, None),
        };
        (!host.is_empty()).then_some(Self {
            scheme,
            userinfo,
            host,
            port,
            rest,
        })
    }

    /// The serialised origin: scheme and host in lower case, without the scheme's default port.
    fn origin(&self) -> String {
        let (scheme, host) = (
            self.scheme.to_ascii_lowercase(),
            self.host.to_ascii_lowercase(),
        );
        let default = match &*scheme {
            "http" => "80",
            "https" => "443",
            _ => "",
        };
        match self.port.map(|port| port.trim_start_matches('0')) {
            Some(port) if port != default => format!("{scheme}://{host}:{port}"),
            _ => format!("{scheme}://{host}"),
        }
    }

    /// Whether browsers can fetch it from a server.
    pub(super) fn is_http(&self) -> bool {
        ["http", "https"]
            .iter()
            .any(|scheme| self.scheme.eq_ignore_ascii_case(scheme))
    }
}

/// The origin of an absolute URL in the form that browsers send; `None`: it has none.
#[must_use]
pub fn origin_of(url: &str) -> Option<String> {
    Url::parse(url).map(|url| url.origin())
}

/// Whether a page of `origin` needs CORS to read from `url`.
#[must_use]
pub fn is_cross_origin(origin: &str, url: &str) -> bool {
    match (origin_of(origin), origin_of(url)) {
        (Some(page), Some(server)) => page != server,
        _ => true,
    }
}

/// Whether responses from `url` cannot be altered on their way ([«potentially
/// trustworthy»](https://w3c.github.io/webappsec-secure-contexts/#is-url-trustworthy)).
pub(super) fn is_trustworthy(url: &str) -> bool {
    Url::parse(url).is_some_and(|url| {
        let host = url.host.to_ascii_lowercase();
        let is_local = host == "localhost" || host.ends_with(".localhost") || host == "[::1]";
        url.scheme.eq_ignore_ascii_case("https") || is_local || host.starts_with("127.")
    })
}

/// Whether the host is an IP address, not a name.
pub(super) fn is_address(url: &str) -> bool {
    Url::parse(url).is_some_and(|url| {
        url.host.starts_with('[') || url.host.parse::<std::net::Ipv4Addr>().is_ok()
    })
}

/// A URL in the form that browsers send: without an empty password, and without an empty user name
/// and password ([URL serializing](https://url.spec.whatwg.org/#url-serializing), step 2).
pub(super) fn normalized_userinfo(url: String) -> String {
    let Some(userinfo) = Url::parse(&url).and_then(|url| url.userinfo) else {
        return url;
    };
    match userinfo.strip_suffix(':').unwrap_or(userinfo) {
        "" => url.replacen(&format!("{userinfo}@"), "", 1),
        user if user.len() < userinfo.len() => {
            url.replacen(&format!("{userinfo}@"), &format!("{user}@"), 1)
        }
        _ => url,
    }
}

/// Where `location` leads from `base` ([URL Standard](https://url.spec.whatwg.org/#url-parsing),
/// limited to what HTTP needs); `None`: `base` is not a URL of a server.
pub(super) fn resolve(base: &str, location: &str) -> Option<String> {
    let from = Url::parse(base)?;
    let location = location.trim_matches([' ', '\t']);
    let scheme = location
        .split_once(':')
        .map(|(scheme, _)| scheme)
        .filter(|scheme| {
            scheme.starts_with(|first: char| first.is_ascii_alphabetic())
                && scheme
                    .bytes()
                    .all(|byte| byte.is_ascii_alphanumeric() || b"+-.".contains(&byte))
        });
    let root = base.strip_suffix(from.rest)?;
    let path = from.rest.split(['?', '#']).next().unwrap_or_default();
    Some(match location {
        _ if scheme.is_some() => location.to_owned(),
        _ if location.starts_with("//") => format!("{}:{location}", from.scheme),
        _ if location.starts_with('/') => format!("{root}{location}"),
        "" => base.split('#').next().unwrap_or_default().to_owned(),
        _ if location.starts_with('?') => format!("{root}{path}{location}"),
        _ if location.starts_with('#') => {
            format!("{}{location}", base.split('#').next().unwrap_or_default())
        }
        _ => {
            let folder = path
                .rfind('/')
                .map_or("/", |slash| path.get(..=slash).unwrap_or("/"));
            format!("{root}{}", without_dots(&format!("{folder}{location}")))
        }
    })
}

/// A path without its `.` and `..` segments.
fn without_dots(path: &str) -> String {
    let end = path.find(['?', '#']).unwrap_or(path.len());
    let (path, rest) = path.split_at(end);
    let mut kept: Vec<&str> = Vec::new();
    let mut segments = path.split('/').skip(1).peekable();
    while let Some(segment) = segments.next() {
        let is_last = segments.peek().is_none();
        match segment {
            ".." => {
                kept.pop();
                if is_last {
                    kept.push("");
                }
            }
            "." if is_last => kept.push(""),
            "." => {}
            _ => kept.push(segment),
        }
    }
    format!("/{}{rest}", kept.join("/"))
}
