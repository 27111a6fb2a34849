//! Documents that are no XML at all, but something that another command takes.

/// What a document is instead of XML.
#[derive(Clone, Copy)]
pub(super) enum OtherFormat {
    Toml,
    Json,
}

impl OtherFormat {
    /// What a text begins as.
    pub(super) fn of(text: &str) -> Option<Self> {
        if is_toml(text) {
            return Some(Self::Toml);
        }
        let is_json = text.trim_start().starts_with(['{', '[']);
        is_json.then_some(Self::Json)
    }

    pub(super) fn detail(self) -> &'static str {
        match self {
            Self::Toml => "the document is TOML, not XML",
            Self::Json => "the document is JSON, not XML",
        }
    }

    pub(super) fn hint(self) -> &'static str {
        match self {
            Self::Toml => {
                "this looks like a config of the proxy, which `s3cors check --config` checks; the \
                 document has to be XML: `<CORSConfiguration><CORSRule>…`"
            }
            Self::Json => {
                "this looks like the JSON of S3's console or of `aws s3api`, of which \
                 `s3cors import` makes XML; the document has to be XML: \
                 `<CORSConfiguration><CORSRule>…`"
            }
        }
    }
}

/// Whether a text begins as TOML does, and neither XML nor JSON: with a table, or a key and `=`.
fn is_toml(text: &str) -> bool {
    let mut lines = text.lines().map(str::trim);
    let first = lines.find(|line| !line.is_empty() && !line.starts_with('#'));
    let first = first.unwrap_or_default();
    let is_key = |key: &str| {
        !key.is_empty()
            && key
                .bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-' | b'.'))
    };
    let table = first.trim_start_matches('[').split(']').next();
    (first.starts_with('[') && table.is_some_and(is_key) && first.contains(']'))
        || first
            .split_once('=')
            .is_some_and(|(key, _)| is_key(key.trim()))
}
