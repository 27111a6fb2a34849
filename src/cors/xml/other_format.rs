//! Recognises documents that are not XML but belong to another command.

/// What a document is instead of XML.
#[derive(Clone, Copy)]
pub(super) enum OtherFormat {
    Toml,
    Json,
    Html,
    /// S3's error for a bucket without a configuration, and other errors.
    S3Error,
    /// XML with `&lt;` instead of `<`.
    EscapedXml,
}

impl OtherFormat {
    /// The format that a text begins with.
    pub(super) fn of(text: &str) -> Option<Self> {
        if is_toml(text) {
            return Some(Self::Toml);
        }
        let text = text.trim_start();
        let begins = |start: &str| {
            let head = text.get(..start.len());
            head.is_some_and(|head| head.eq_ignore_ascii_case(start))
        };
        let root = match text.strip_prefix("<?xml") {
            Some(rest) => rest.split_once("?>").map_or("", |(_, rest)| rest),
            None => text,
        };
        if text.starts_with(['{', '[']) {
            Some(Self::Json)
        } else if begins("<!doctype html") || begins("<html") {
            Some(Self::Html)
        } else if begins("&lt;") {
            Some(Self::EscapedXml)
        } else {
            root.trim_start()
                .starts_with("<Error>")
                .then_some(Self::S3Error)
        }
    }

    pub(super) fn detail(self) -> &'static str {
        match self {
            Self::Toml => "the document is TOML, not XML",
            Self::Json => "the document is JSON, not XML",
            Self::Html => "the document is an HTML page",
            Self::S3Error => "the document is an error response from S3",
            Self::EscapedXml => "the document has `&lt;` instead of `<`",
        }
    }

    pub(super) fn hint(self) -> &'static str {
        match self {
            Self::Toml => {
                "this looks like the proxy's config, which `s3cors check --config` checks; the \
                 document must be XML: `<CORSConfiguration><CORSRule>…`"
            }
            Self::Json => {
                "this looks like the JSON of S3's console or `aws s3api`, which \
                 `s3cors import` converts to XML; the document must be XML: \
                 `<CORSConfiguration><CORSRule>…`"
            }
            Self::Html => {
                "this may be a login page or an error page: check what the command fetched, and from \
                 where"
            }
            Self::S3Error => {
                "its Code says why; NoSuchCORSConfiguration means a bucket without CORS, which needs no \
                 file"
            }
            Self::EscapedXml => "write `<` for `&lt;` and `>` for `&gt;`",
        }
    }
}

/// Whether a text begins like TOML and unlike XML and JSON: with a table, or a key and `=`.
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
