//! Reads the requests of scripts from access logs.

use serde::Deserialize;

/// A script's request.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct LoggedRequest {
    /// Empty in a combined log, which does not record it.
    pub(super) host: String,
    /// Without the query.
    pub(super) path: String,
    pub(super) origin: String,
    pub(super) method: String,
    /// The requested headers of a preflight.
    pub(super) headers: Vec<String>,
    /// Whether the request had credentials, as far as the log shows.
    pub(super) has_credentials: bool,
}

/// Why a line is not a script's request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum NotLogged {
    /// It has no origin, so it is not CORS.
    NotCors,
    /// A preflight whose requested method is missing: from a combined log, or an older version.
    NoMethod,
    /// It is not a line of an access log.
    Unreadable,
}

/// From this length on, the log may have cut a value.
const MAX_VALUE: usize = 512;

#[derive(Deserialize)]
struct JsonLine {
    method: String,
    #[serde(default)]
    host: String,
    target: String,
    origin: Option<String>,
    cors: Option<JsonCors>,
}

#[derive(Deserialize)]
struct JsonCors {
    request: String,
    error: Option<String>,
    method: Option<String>,
    headers: Option<String>,
}

impl LoggedRequest {
    /// Reads a line of either format.
    pub(super) fn read(line: &str) -> Result<Self, NotLogged> {
        match line.starts_with('{') {
            true => Self::of_json(line),
            false => Self::of_combined(line),
        }
    }

    fn of_json(line: &str) -> Result<Self, NotLogged> {
        let line: JsonLine = serde_json::from_str(line).map_err(|_| NotLogged::Unreadable)?;
        let origin = line.origin.ok_or(NotLogged::NotCors)?;
        let error = line.cors.as_ref().and_then(|cors| cors.error.as_deref());
        let has_credentials = matches!(
            error,
            Some("WildcardOriginNotAllowed" | "InvalidAllowCredentials")
        );
        let preflight = line.cors.filter(|cors| cors.request == "preflight");
        let (method, headers) = match preflight {
            None => (line.method, String::new()),
            Some(asked) => {
                let method = asked.method.ok_or(NotLogged::NoMethod)?;
                (method, asked.headers.unwrap_or_default())
            }
        };
        if headers.len() >= MAX_VALUE || origin.len() >= MAX_VALUE {
            return Err(NotLogged::Unreadable);
        }
        Ok(Self {
            host: line.host,
            path: path(&line.target),
            origin,
            method,
            headers: names(&headers),
            has_credentials,
        })
    }

    /// Reads a combined line. It has no `Origin`, so the `Referer` stands for the page.
    fn of_combined(line: &str) -> Result<Self, NotLogged> {
        let mut quoted = line.split('"').skip(1).step_by(2);
        let request = quoted.next().ok_or(NotLogged::Unreadable)?;
        let referer = quoted.next().ok_or(NotLogged::Unreadable)?;
        let mut words = request.split(' ');
        let (Some(method), Some(target)) = (words.next(), words.next()) else {
            return Err(NotLogged::Unreadable);
        };
        let (scheme, rest) = referer.split_once("://").ok_or(NotLogged::NotCors)?;
        let host = rest.split(['/', '?', '#']).next().unwrap_or_default();
        if method == "OPTIONS" {
            return Err(NotLogged::NoMethod);
        }
        Ok(Self {
            host: String::new(),
            path: path(target),
            origin: format!("{scheme}://{host}"),
            method: method.to_owned(),
            headers: Vec::new(),
            has_credentials: false,
        })
    }
}

fn path(target: &str) -> String {
    target.split('?').next().unwrap_or_default().to_owned()
}

/// The names of a list, lower case and sorted, because their order does not matter.
fn names(list: &str) -> Vec<String> {
    let names = list.split(',').map(|name| name.trim().to_ascii_lowercase());
    let mut names: Vec<_> = names.filter(|name| !name.is_empty()).collect();
    names.sort_unstable();
    names.dedup();
    names
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(line: &str) -> Result<(String, String, String, Vec<String>), NotLogged> {
        LoggedRequest::read(line).map(|read| {
            let place = format!("{}{}", read.host, read.path);
            (place, read.origin, read.method, read.headers)
        })
    }

    #[test]
    fn a_json_line_yields_the_requested_method_and_headers() {
        let actual = r#"{"time":"x","method":"GET","host":"photos.example","target":"/a?X-Amz-Signature=-","origin":"https://app.example","cors":{"request":"actual","outcome":"allowed","reason":"matched"}}"#;
        let expected = (
            "photos.example/a".to_owned(),
            "https://app.example".to_owned(),
            "GET".to_owned(),
            vec![],
        );
        assert_eq!(read(actual), Ok(expected));
        let preflight = r#"{"method":"OPTIONS","host":"h","target":"/","origin":"null","cors":{"request":"preflight","method":"PUT","headers":"X-B, x-a,,x-b"}}"#;
        let expected = (
            "h/".to_owned(),
            "null".to_owned(),
            "PUT".to_owned(),
            vec!["x-a".to_owned(), "x-b".to_owned()],
        );
        assert_eq!(read(preflight), Ok(expected));
        let old = r#"{"method":"OPTIONS","host":"h","target":"/","origin":"null","cors":{"request":"preflight","outcome":"denied","reason":"origin"}}"#;
        assert_eq!(read(old), Err(NotLogged::NoMethod));
        assert_eq!(
            read(r#"{"method":"GET","host":"h","target":"/"}"#),
            Err(NotLogged::NotCors)
        );
        for broken in ["{", "{}", r#"{"method":1}"#] {
            assert_eq!(read(broken), Err(NotLogged::Unreadable), "{broken}");
        }
        let long = format!(
            r#"{{"method":"GET","target":"/","origin":"https://{}"}}"#,
            "a".repeat(600)
        );
        assert_eq!(read(&long), Err(NotLogged::Unreadable));
    }

    #[test]
    fn a_combined_line_takes_the_origin_from_its_referer() {
        let line = r#"192.0.2.7 - - [10/Oct/2000:13:55:36 +0000] "GET /a.jpg?x=1 HTTP/1.1" 200 1234 "https://app.example/album" "curl/8""#;
        let expected = (
            "/a.jpg".to_owned(),
            "https://app.example".to_owned(),
            "GET".to_owned(),
            vec![],
        );
        assert_eq!(read(line), Ok(expected));
        assert_eq!(
            read(&line.replace("GET", "OPTIONS")),
            Err(NotLogged::NoMethod)
        );
        assert_eq!(
            read(&line.replace("https://app.example/album", "-")),
            Err(NotLogged::NotCors)
        );
        assert_eq!(read("nonsense"), Err(NotLogged::Unreadable));
    }
}
