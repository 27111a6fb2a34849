//! Documents that are no XML at all, but something that another command takes.

/// What a document is instead of XML.
#[derive(Clone, Copy)]
pub(super) enum OtherFormat {
    Toml,
    Json,
    Html,
    /// What S3 answers where it has no configuration to give.
    S3Error,
    /// XML with its `<` written as `&lt;`.
    EscapedXml,
}

impl OtherFormat {
    /// What a text begins as.
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
            Self::S3Error => "the document is an error that S3 answered with",
            Self::EscapedXml => "the document has `&lt;` where XML has `<`",
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
            Self::Html => {
                "this may be a login page or an error: look at what the command fetched, and from \
                 where"
            }
            Self::S3Error => {
                "its Code says why; NoSuchCORSConfiguration is a bucket without CORS, which needs no \
                 file"
            }
            Self::EscapedXml => "write `<` for `&lt;` and `>` for `&gt;`",
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
