//! Other systems' CORS settings in, S3's rules out, and a note for everything that the two do
//! not have in common.
//!
//! A file for each dialect says what that system does with its settings; [`Note`]s say what
//! S3's rules lose of it, what they let in besides, and how the ambiguous was read. What comes
//! out, S3 takes. May use `cors` alone.
//!
//! `tests/integration/import` holds each importer to a model of its system.

mod azure;
mod document;
mod draft;
mod gateway_api;
mod gcs;
mod ingress_nginx;
mod minio;
mod note;
mod s3_json;
mod xml;
mod yaml;

use std::ops::Range;

use crate::cors::{CorsConfiguration, MAX_DOCUMENT, Options};

pub use note::{CODES, Effect, Note};

use document::{Node, Value};
use draft::Draft;

/// The largest source that is read, in bytes.
pub const MAX_SOURCE: usize = 1024 * 1024;

/// A way to write CORS settings down.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Dialect {
    /// S3's JSON: the console's array, `aws s3api get-bucket-cors`.
    S3Json,
    /// Google Cloud Storage's JSON, or a bucket's resource.
    Gcs,
    /// Azure Storage's XML, or ARM's JSON.
    Azure,
    /// ingress-nginx: an Ingress, or its annotations.
    IngressNginx,
    /// Gateway API: an HTTPRoute, or its CORS filter.
    GatewayApi,
    /// MinIO's `cors_allow_origin`.
    Minio,
}

impl Dialect {
    /// Every dialect.
    pub const ALL: [Self; 6] = [
        Self::S3Json,
        Self::Gcs,
        Self::Azure,
        Self::IngressNginx,
        Self::GatewayApi,
        Self::Minio,
    ];

    /// Its stable name.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::S3Json => "s3-json",
            Self::Gcs => "gcs",
            Self::Azure => "azure",
            Self::IngressNginx => "ingress-nginx",
            Self::GatewayApi => "gateway-api",
            Self::Minio => "minio",
        }
    }
}

/// A source, turned into S3's rules.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Import {
    /// What the source was read as.
    pub dialect: Dialect,
    /// The rules. Without any, the source allows no page anything that S3 could say; else S3
    /// takes them.
    pub configuration: CorsConfiguration,
    /// Everything that the rules do not say as the source does, in its order.
    pub notes: Vec<Note>,
}

/// A source that makes no sense.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unreadable {
    /// Where, in bytes of the source.
    pub span: Option<Range<usize>>,
    /// What is wrong.
    pub message: String,
    /// What to do about it.
    pub hint: Option<String>,
}

impl Unreadable {
    fn new(message: impl Into<String>) -> Self {
        Self {
            span: None,
            message: message.into(),
            hint: None,
        }
    }

    fn at(span: Range<usize>, message: impl Into<String>) -> Self {
        let span = Some(span);
        Self {
            span,
            ..Self::new(message)
        }
    }

    fn hint(self, hint: impl Into<String>) -> Self {
        let hint = Some(hint.into());
        Self { hint, ..self }
    }
}

/// Turns a source into S3's rules, for a route with these `options`.
///
/// `from` is what it is written in; `None`: whatever it unmistakably is.
///
/// # Errors
///
/// Where it cannot be read as what it should be, or cannot be told what it is.
pub fn import(
    source: &[u8],
    from: Option<Dialect>,
    options: &Options,
) -> Result<Import, Unreadable> {
    if source.len() > MAX_SOURCE {
        let message = format!("the source has more than the {MAX_SOURCE} bytes that are read");
        return Err(Unreadable::new(message));
    }
    let text = std::str::from_utf8(source).map_err(|error| {
        let at = error.valid_up_to();
        Unreadable::at(at..at, "these bytes are not UTF-8")
    })?;
    let body = text.strip_prefix('\u{feff}').unwrap_or(text);
    let base = text.len() - body.len();
    let in_source = |span: Range<usize>| span.start + base..span.end + base;
    let mut draft = Draft::new(body, options);
    let dialect = read(body, from, &mut draft).map_err(|error| Unreadable {
        span: error.span.map(in_source),
        ..error
    })?;
    let (configuration, mut notes) = draft.finish();
    for note in &mut notes {
        note.span = in_source(note.span.clone());
    }
    let length = configuration.to_xml().len();
    if length > MAX_DOCUMENT {
        let message = format!("the rules have {length} bytes; S3 takes at most {MAX_DOCUMENT}");
        return Err(Unreadable::new(message));
    }
    Ok(Import {
        dialect,
        configuration,
        notes,
    })
}

/// Reads the source and drafts its rules; what it was read as.
fn read(text: &str, from: Option<Dialect>, draft: &mut Draft<'_>) -> Result<Dialect, Unreadable> {
    // An environment or `mc admin config` has a syntax of its own.
    if from == Some(Dialect::Minio) || (from.is_none() && !minio::settings(text).is_empty()) {
        minio::import(draft);
        return Ok(Dialect::Minio);
    }
    let documents = if text.trim_start().starts_with('<') {
        let root = xml::read(text)?;
        if root.key.text == "CORSConfiguration" {
            let error = Unreadable::at(root.key.span, "this is S3's XML already");
            return Err(error.hint("`s3cors check` says whether it is good"));
        }
        // A document that holds the root, as a map holds its entries.
        let span = root.key.span.clone();
        let value = Value::Map(vec![root]);
        vec![Node { value, span }]
    } else {
        yaml::read(text)?
    };
    let Some(document) = documents.first() else {
        return Err(Unreadable::new("there is nothing in it"));
    };
    let dialect = from.or_else(|| documents.iter().find_map(guess));
    let Some(dialect) = dialect else {
        let error = Unreadable::new("cannot tell what this is written in");
        let names: Vec<&str> = Dialect::ALL
            .iter()
            .map(|dialect| dialect.as_str())
            .collect();
        return Err(error.hint(format!("say so: --from {}", names.join("|"))));
    };
    let takes_all = matches!(dialect, Dialect::IngressNginx | Dialect::GatewayApi);
    if let Some(second) = documents.get(1).filter(|_| !takes_all) {
        let message = "only the first document is taken";
        draft.note(Note::new(
            "other-setting",
            second.span.clone(),
            None,
            message,
        ));
    }
    match dialect {
        Dialect::S3Json => s3_json::import(document, draft)?,
        Dialect::Gcs => gcs::import(document, draft)?,
        Dialect::Azure => azure::import(document, draft)?,
        Dialect::IngressNginx => ingress_nginx::import(&documents, draft)?,
        Dialect::GatewayApi => gateway_api::import(&documents, draft)?,
        Dialect::Minio => {}
    }
    Ok(dialect)
}

/// What a document unmistakably is.
fn guess(document: &Node) -> Option<Dialect> {
    let first = document.items().first();
    if azure::rules(document).is_some() {
        Some(Dialect::Azure)
    } else if document.has("CORSRules") || first.is_some_and(s3_json::is_rule) {
        Some(Dialect::S3Json)
    } else if gcs::list(document).is_some() || first.is_some_and(gcs::is_entry) {
        Some(Dialect::Gcs)
    } else if ingress_nginx::is_one(document) {
        Some(Dialect::IngressNginx)
    } else if !gateway_api::filters(document).is_empty() {
        Some(Dialect::GatewayApi)
    } else {
        None
    }
}
