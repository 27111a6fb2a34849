//! Addresses in a config or a flag: listeners and upstreams.

use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::path::Path;

use http::Uri;
use thiserror::Error;
use toml::Spanned;

use crate::server::Bind;
use crate::upstream::endpoint::Address;

use super::diagnostic::{Diagnostic, with_help};
use super::file::Reader;

/// The default ports of the schemes.
const HTTP_PORT: u16 = 80;
const HTTPS_PORT: u16 = 443;

/// An invalid address.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("{problem}")]
pub(super) struct InvalidAddress {
    problem: String,
    /// How to fix it.
    pub(super) help: Option<String>,
}

impl InvalidAddress {
    fn new(problem: impl Into<String>, help: impl Into<String>) -> Self {
        Self {
            problem: problem.into(),
            help: Some(help.into()),
        }
    }
}

/// The address of a listener.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Listen {
    Bind(Bind),
    /// A socket of this name, passed by systemd.
    Systemd(String),
}

/// Reads `address:port`, `unix:path` or `systemd:name`; paths are relative to `base`.
pub(super) fn listen(text: &str, base: &Path) -> Result<Listen, InvalidAddress> {
    if let Some(name) = text.strip_prefix("systemd:") {
        return if name.is_empty() {
            Err(InvalidAddress::new(
                "the socket has no name",
                "write systemd:NAME, its FileDescriptorName",
            ))
        } else {
            Ok(Listen::Systemd(name.to_owned()))
        };
    }
    bind(text, base).map(Listen::Bind)
}

/// Reads `address:port` or `unix:path`; paths are relative to `base`.
///
/// # Errors
///
/// What is wrong with it, and what was probably meant.
pub(super) fn bind(text: &str, base: &Path) -> Result<Bind, InvalidAddress> {
    if let Some(path) = text.strip_prefix("unix:") {
        return if path.is_empty() {
            Err(InvalidAddress::new(
                "the Unix socket has no path",
                "write unix:/run/s3cors/http.sock",
            ))
        } else {
            Ok(Bind::Unix(base.join(path)))
        };
    }
    if let Some(error) = unexpanded(text) {
        return Err(error);
    }
    text.parse().map(Bind::Tcp).map_err(|_| {
        let problem = format!("`{text}` isn't an address to listen on");
        InvalidAddress {
            problem,
            help: listen_help(text),
        }
    })
}

/// An error if the text contains a variable of a shell or a template.
fn unexpanded(text: &str) -> Option<InvalidAddress> {
    let (mark, variable) = ["${", "$(", "{{", "$", "%"].into_iter().find_map(|mark| {
        let after = text.split_once(mark)?.1;
        let is_name =
            |letter: char| letter.is_ascii_alphanumeric() || letter == '_' || letter == '.';
        let name = after.trim_start().split(|letter| !is_name(letter)).next()?;
        // `%41` is an encoded byte, and `%eth0` a zone.
        let is_variable = mark != "%" || after.strip_prefix(name)?.starts_with('%');
        (is_variable && !name.is_empty()).then_some((mark, name))
    })?;
    let problem = format!("`{text}` has `{mark}{variable}`, but variables are not expanded");
    let help = "write the value, or generate the file with `envsubst` or a template; --upstream, --listen and --admin have environment variables (S3CORS_UPSTREAM, …)";
    Some(InvalidAddress::new(problem, help))
}

/// `::1:8080`: an IPv6 address and a port, without brackets.
fn with_brackets(text: &str) -> Option<String> {
    let (host, port) = text.rsplit_once(':')?;
    let host = host.parse::<Ipv6Addr>().ok()?;
    let port = port.parse::<u16>().ok()?;
    Some(format!("[{host}]:{port}"))
}

fn listen_help(text: &str) -> Option<String> {
    if let Some(meant) = with_brackets(text) {
        return Some(format!("write {meant}: an IPv6 address needs brackets"));
    }
    if text.parse::<Ipv6Addr>().is_ok() {
        return Some(format!(
            "add a port, and put the address in brackets: [{text}]:8080"
        ));
    }
    if text.parse::<IpAddr>().is_ok() {
        return Some(format!("add a port: {text}:8080"));
    }
    let meant = |host: &str, port: &str| {
        let meant = format!("{host}:{port}");
        meant.parse::<SocketAddr>().ok().map(|_| meant)
    };
    let is_port = |port: &str| port.parse::<u16>().is_ok();
    if is_port(text) {
        return meant("127.0.0.1", text)
            .map(|meant| format!("write {meant}, or 0.0.0.0:{text} for every interface"));
    }
    if let Some(rest) = text.split_once("://").map(|(_, rest)| rest) {
        let rest = rest.trim_end_matches('/');
        return Some(match rest.parse::<SocketAddr>() {
            Ok(_) => format!("write {rest}, without a scheme"),
            Err(_) => "write ADDRESS:PORT, without a scheme".into(),
        });
    }
    if text.starts_with('/') {
        return Some(format!("write unix:{text}"));
    }
    match text.rsplit_once(':') {
        Some(("" | "*", port)) if is_port(port) => {
            Some(format!("write 0.0.0.0:{port}, or [::]:{port} for IPv6 too"))
        }
        Some(("localhost", port)) if is_port(port) => Some(format!("write 127.0.0.1:{port}")),
        Some((_, port)) if is_port(port) => Some("write an IP address, not a host name".into()),
        _ => Some("write ADDRESS:PORT, such as 127.0.0.1:8080, or unix:PATH".into()),
    }
}

/// Parses `http://host:port`, `https://host:port` or `unix:path`; the path is relative to `base`.
/// Also returns whether it uses TLS.
///
/// # Errors
///
/// What is wrong with it, and what was probably meant.
pub(super) fn upstream(text: &str, base: &Path) -> Result<(Address, bool), InvalidAddress> {
    const FORMS: &str = "write http://HOST:PORT, https://HOST:PORT or unix:PATH";
    if let Some(path) = text.strip_prefix("unix:") {
        return if path.is_empty() {
            Err(InvalidAddress::new(
                "the Unix socket has no path",
                "write unix:/run/minio.sock",
            ))
        } else {
            Ok((Address::Unix(base.join(path)), false))
        };
    }
    if let Some(error) = unexpanded(text) {
        return Err(error);
    }
    let problem = |problem: &str, help: String| Err(InvalidAddress::new(problem, help));
    let Some((scheme, rest)) = text.split_once("://") else {
        let problem = "an upstream needs a scheme";
        let is_address = !text.is_empty() && format!("http://{text}").parse::<Uri>().is_ok();
        let cut = ["https", "http"].into_iter().find_map(|scheme| {
            let rest = text.strip_prefix(scheme)?;
            let host = rest.trim_start_matches([':', '/']);
            let is_cut = matches!(rest.strip_suffix(host)?, ":" | ":/" | "//" | "/");
            (is_cut && !host.is_empty()).then(|| format!("{scheme}://{host}"))
        });
        return Err(if let Some(whole) = cut {
            InvalidAddress::new(problem, format!("write {whole}"))
        } else if let Some(meant) = with_brackets(text) {
            InvalidAddress::new(problem, format!("write http://{meant}"))
        } else if text.starts_with('/') {
            InvalidAddress::new(problem, format!("write unix:{text}"))
        } else if is_address {
            InvalidAddress::new(problem, format!("write http://{text}"))
        } else {
            InvalidAddress::new(problem, FORMS)
        });
    };
    let tls = match &*scheme.to_ascii_lowercase() {
        "http" => false,
        "https" => true,
        _ => return problem("an upstream's scheme must be http or https", FORMS.into()),
    };
    let scheme = if tls { "https" } else { "http" };
    let (authority, after) = match rest.find(['/', '?', '#']) {
        Some(at) => rest.split_at(at),
        None => (rest, ""),
    };
    if authority.contains('@') {
        return problem(
            "an upstream cannot have user information",
            "remove everything before the `@`; requests are forwarded with the client's own credentials".into(),
        );
    }
    if !matches!(after, "" | "/") {
        let what = match after.chars().next() {
            Some('/') => "an upstream cannot have a path; requests keep their own",
            Some('?') => "an upstream cannot have a query",
            _ => "an upstream cannot have a fragment",
        };
        return problem(what, format!("write {scheme}://{authority}"));
    }
    if let Some(meant) = with_brackets(authority) {
        return problem(
            "an IPv6 address needs brackets",
            format!("write {scheme}://{meant}"),
        );
    }
    let Ok(uri) = format!("http://{authority}").parse::<Uri>() else {
        return problem(
            "an upstream needs a host, with an optional port",
            FORMS.into(),
        );
    };
    let host = uri.host().unwrap_or_default();
    let port = match authority
        .strip_prefix(host)
        .unwrap_or_default()
        .strip_prefix(':')
    {
        None if tls => HTTPS_PORT,
        None => HTTP_PORT,
        Some(port) => match port.parse() {
            Ok(port) if port != 0 => port,
            Ok(_) | Err(_) => {
                return problem("a port must be a number from 1 to 65535", FORMS.into());
            }
        },
    };
    if host.is_empty() || host.contains('*') {
        return problem("an upstream must be a single host", FORMS.into());
    }
    let bracketed = host
        .strip_prefix('[')
        .and_then(|host| host.strip_suffix(']'));
    let host = bracketed.unwrap_or(host).to_ascii_lowercase();
    Ok((Address::Tcp { host, port }, tls))
}

pub(crate) fn invalid_address(
    text: &Spanned<&str>,
    error: InvalidAddress,
    reader: &mut Reader<'_>,
) {
    let diagnostic = Diagnostic::error("invalid-address", error.to_string());
    reader.push(with_help(diagnostic, error.help), text.span());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_upstream_is_a_host_a_port_and_a_scheme() {
        let base = Path::new("/etc/s3cors");
        for (text, expected, tls) in [
            ("http://127.0.0.1:9000", "127.0.0.1:9000", false),
            ("http://minio/", "minio:80", false),
            ("HTTPS://S3.Example.com", "s3.example.com:443", true),
            ("http://[::1]:9000", "[::1]:9000", false),
            ("unix:minio.sock", "unix:/etc/s3cors/minio.sock", false),
            ("unix:/run/minio.sock", "unix:/run/minio.sock", false),
        ] {
            let (address, found) = upstream(text, base).unwrap();
            assert_eq!(
                (address.to_string(), found),
                (expected.to_owned(), tls),
                "{text}"
            );
        }
        for (text, problem, help) in [
            (
                "127.0.0.1:9000",
                "an upstream needs a scheme",
                "write http://127.0.0.1:9000",
            ),
            ("/run/s", "an upstream needs a scheme", "write unix:/run/s"),
            ("", "an upstream needs a scheme", "HOST:PORT"),
            ("unix:", "no path", "unix:/"),
            (
                "http:/127.0.0.1:9000",
                "a scheme",
                "write http://127.0.0.1:9000",
            ),
            ("https//minio", "a scheme", "write https://minio"),
            ("http:minio:9000", "a scheme", "write http://minio:9000"),
            ("ftp://minio", "http or https", "HOST:PORT"),
            ("http://u:p@minio", "user information", "before the `@`"),
            (
                "http://minio/bucket",
                "cannot have a path",
                "write http://minio",
            ),
            (
                "https://minio?x",
                "cannot have a query",
                "write https://minio",
            ),
            (
                "http://minio#x",
                "cannot have a fragment",
                "write http://minio",
            ),
            ("http://", "needs a host", "HOST:PORT"),
            ("http://:9000", "host", "HOST:PORT"),
            ("http://a b", "needs a host", "HOST:PORT"),
            ("http://minio:0", "1 to 65535", "HOST:PORT"),
            ("http://minio:99999", "1 to 65535", "HOST:PORT"),
            ("http://minio:", "1 to 65535", "HOST:PORT"),
            ("http://*.minio", "a single host", "HOST:PORT"),
            (
                "http://::1:9000",
                "needs brackets",
                "write http://[::1]:9000",
            ),
            (
                "https://2001:db8::9:443",
                "needs brackets",
                "write https://[2001:db8::9]:443",
            ),
            ("::1:9000", "a scheme", "write http://[::1]:9000"),
            (
                "http://${MINIO}:9000",
                "`${MINIO`, but variables are not expanded",
                "envsubst",
            ),
            ("http://$MINIO:9000", "not expanded", "S3CORS_UPSTREAM"),
            ("http://minio:$(PORT)", "not expanded", "write the value"),
            (
                "http://{{ .Values.minio }}:9000",
                "not expanded",
                "write the value",
            ),
            ("${UPSTREAM}", "not expanded", "write the value"),
            ("http://%MINIO%:9000", "not expanded", "write the value"),
        ] {
            let error = upstream(text, base).unwrap_err();
            assert!(error.to_string().contains(problem), "{text}: {error}");
            let found = error.help.unwrap();
            assert!(found.contains(help), "{text}: {found}");
        }
    }

    #[test]
    fn a_wrong_listen_address_gets_a_suggestion() {
        let base = Path::new("/etc/s3cors");
        assert_eq!(
            listen("systemd:http", base),
            Ok(Listen::Systemd("http".into()))
        );
        assert_eq!(bind("unix:a", base), Ok(Bind::Unix("/etc/s3cors/a".into())));
        assert_eq!(
            bind("[::1]:1", base),
            Ok(Bind::Tcp("[::1]:1".parse().unwrap()))
        );
        for (text, help) in [
            ("8080", "127.0.0.1:8080"),
            (":8080", "0.0.0.0:8080"),
            ("*:8080", "0.0.0.0:8080"),
            ("localhost:8080", "127.0.0.1:8080"),
            ("http://127.0.0.1:8080/", "write 127.0.0.1:8080, without"),
            ("example.com:8080", "an IP address"),
            ("::1:8080", "write [::1]:8080"),
            (":::8080", "write [::]:8080"),
            ("2001:db8::9", "[2001:db8::9]:8080"),
            ("127.0.0.1", "add a port: 127.0.0.1:8080"),
            ("0.0.0.0:${PORT}", "write the value"),
            ("$ADDRESS", "write the value"),
            ("/run/x", "unix:/run/x"),
            ("", "ADDRESS:PORT"),
            ("unix:", "unix:/"),
            ("systemd:", "systemd:NAME"),
        ] {
            let found = listen(text, base).unwrap_err().help.unwrap();
            assert!(found.contains(help), "{text}: {found}");
        }
    }
}
