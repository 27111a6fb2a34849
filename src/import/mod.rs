//! Other systems' CORS settings in, S3's rules out, and a note for every difference.
//!
//! One file per dialect describes how that system applies its settings; [`Note`]s describe what
//! S3's rules lose, what they additionally allow, and how ambiguous settings were read. S3
//! accepts the result. May use `cors` only.
//!
//! `tests/integration/import` compares each importer with a model of its system.

mod azure;
mod b2;
mod cloudformation;
mod default_port;
mod dialect;
mod distinct;
mod document;
mod draft;
mod gateway_api;
mod gcs;
mod hcl;
mod ingress_nginx;
mod minio;
mod note;
mod r2;
mod s3_json;
mod shape;
mod terraform;
mod unreadable;
mod variables;
mod xml;
mod yaml;

use std::ops::Range;

use crate::cors::{CorsConfiguration, MAX_DOCUMENT, Options};

use dialect::fitting;
use document::{Node, Value};
use draft::Draft;

pub use dialect::Dialect;
pub use note::{CODES, Effect, Note};
pub use unreadable::Unreadable;

/// The largest source that is read, in bytes.
pub const MAX_SOURCE: usize = 1024 * 1024;

/// A source, converted to S3's rules.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Import {
    /// The dialect of the source.
    pub dialect: Dialect,
    /// The rules. If there are none, the source allows nothing that S3's rules could allow;
    /// otherwise S3 accepts them.
    pub configuration: CorsConfiguration,
    /// Every difference between the rules and the source, in the order of the source.
    pub notes: Vec<Note>,
}

/// Converts a source to S3's rules, for a route with these `options`.
///
/// `from` is its dialect; `None` detects it.
///
/// # Errors
///
/// The source is not valid in its dialect, or the dialect cannot be detected.
pub fn import(
    source: &[u8],
    from: Option<Dialect>,
    options: &Options,
) -> Result<Import, Unreadable> {
    if source.len() > MAX_SOURCE {
        let message = format!("the source has more than {MAX_SOURCE} bytes");
        return Err(Unreadable::new(message));
    }
    if shape::is_utf16(source) {
        let error = Unreadable::at(0..2, "this is UTF-16, not UTF-8");
        return Err(error.hint("save it as UTF-8; PowerShell's `>` writes UTF-16"));
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
        let message = format!("the rules have {length} bytes; S3 accepts at most {MAX_DOCUMENT}");
        return Err(Unreadable::new(message));
    }
    Ok(Import {
        dialect,
        configuration,
        notes,
    })
}

/// Reads the source and drafts its rules; returns its dialect.
fn read(text: &str, from: Option<Dialect>, draft: &mut Draft<'_>) -> Result<Dialect, Unreadable> {
    // An environment or `mc admin config` has its own syntax.
    if from == Some(Dialect::Minio) || (from.is_none() && !minio::settings(text).is_empty()) {
        minio::import(draft);
        return Ok(Dialect::Minio);
    }
    if let Some(other) = shape::other(text) {
        return Err(other);
    }
    let is_hcl = from.is_none_or(|from| from == Dialect::Terraform) && hcl::is_one(text);
    let documents = if text.trim_start().starts_with('<') {
        let root = xml::read(text)?;
        if root.key.text == "CORSConfiguration" {
            let error = Unreadable::at(root.key.span, "this is already S3's XML");
            return Err(error.hint("`s3cors check` validates it"));
        }
        // A document that contains the root, like a map with one entry.
        let span = root.key.span.clone();
        vec![Node::map(vec![root], span)]
    } else if is_hcl && !text.trim_start().starts_with(['{', '[']) {
        vec![hcl::read(text)?]
    } else {
        yaml::read(text)?
    };
    let Some(document) = documents.first() else {
        return Err(Unreadable::new("the source is empty"));
    };
    let (dialect, document) = match from {
        Some(dialect) => (dialect, document),
        None => dialect_of(&documents)?,
    };
    let takes_all = matches!(dialect, Dialect::IngressNginx | Dialect::GatewayApi);
    if let Some(second) = documents.get(1).filter(|_| !takes_all) {
        let message = "used only the first document";
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
        Dialect::R2 => r2::import(document, draft)?,
        Dialect::B2 => b2::import(document, draft)?,
        Dialect::CloudFormation => cloudformation::import(document, draft)?,
        Dialect::Terraform => terraform::import(document, draft)?,
        Dialect::Minio => {}
    }
    Ok(dialect)
}

/// The dialect of the first document with settings.
fn dialect_of(documents: &[Node]) -> Result<(Dialect, &Node), Unreadable> {
    let mut found = documents
        .iter()
        .map(|document| (fitting(document), document));
    let found = found.find(|(fitting, _)| !fitting.is_empty());
    let first = documents.first().map(|document| &document.value);
    match found {
        Some((fitting, document)) => match *fitting {
            [only] => Ok((only, document)),
            _ => {
                let names: Vec<&str> = fitting.iter().map(|one| one.as_str()).collect();
                let message = format!("this may be {}", names.join(" or "));
                let options: Vec<_> = names.iter().map(|name| format!("--from {name}")).collect();
                let error = Unreadable::at(document.span.clone(), message);
                Err(error.hint(format!("choose one: {}", options.join(" or "))))
            }
        },
        None => {
            let is_empty = match first {
                Some(Value::Null) | None => true,
                Some(Value::List(items)) => items.is_empty(),
                Some(Value::Map(entries)) => entries.is_empty(),
                Some(Value::Scalar(_)) => false,
            };
            if is_empty {
                let error = Unreadable::new("no CORS rules found");
                return Err(error.hint("a bucket without CORS needs no file"));
            }
            let error = Unreadable::new("cannot detect the format");
            let names: Vec<&str> = Dialect::ALL.iter().map(|one| one.as_str()).collect();
            Err(error.hint(format!("name it with --from {}", names.join("|"))))
        }
    }
}
