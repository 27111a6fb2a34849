//! Why a browser sends a preflight before a script's request.

use std::fmt;

use http::HeaderName;

/// Why a browser sends a preflight before a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PreflightReason {
    /// The method is not GET, HEAD or POST.
    Method(String),
    /// A script sets this field, which is not safelisted.
    Header(String),
    /// A script sets this field, which is safelisted for some values only, and the value is
    /// unknown.
    Unvalued(String),
    /// Browsers do not send it, but other clients can: the method or a header's name is not a token.
    Malformed,
}

impl fmt::Display for PreflightReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Method(method) => write!(f, "{method} is not GET, HEAD or POST"),
            Self::Header(name) => write!(f, "{name} is not a CORS-safelisted request header"),
            Self::Unvalued(name) => write!(
                f,
                "{name} is CORS-safelisted for some values only, and no value was given"
            ),
            Self::Malformed => f.write_str("its method or the name of a header is not a token"),
        }
    }
}

/// Parses a command line's field: its name, or `name: value`.
///
/// # Errors
///
/// The invalid name.
pub(super) fn field(text: &str) -> Result<(HeaderName, Option<&str>), String> {
    let (name, value) = match text.split_once(':') {
        Some((name, value)) => (name, Some(value.trim())),
        None => (text, None),
    };
    let name = name.trim().to_ascii_lowercase();
    HeaderName::from_bytes(name.as_bytes())
        .map(|name| (name, value))
        .map_err(|_| name)
}

/// Whether the field's value decides if browsers send a preflight.
pub(super) fn depends_on_its_value(name: &HeaderName) -> bool {
    matches!(name.as_str(), "content-type" | "range")
}
