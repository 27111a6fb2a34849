//! Other systems' CORS settings in, S3's rules out, and a note for everything that the two do
//! not have in common.
//!
//! A file for each dialect says what that system does with its settings; [`Note`]s say what
//! S3's rules lose of it, what they let in besides, and how the ambiguous was read. What comes
//! out, S3 takes. May use `cors` alone.
//!
//! `tests/integration/import` holds each importer to a model of its system.

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
    if let Some(other) = shape::other(text) {
        return Err(other);
    }
    let is_hcl = from.is_none_or(|from| from == Dialect::Terraform) && hcl::is_one(text);
    let documents = if text.trim_start().starts_with('<') {
        let root = xml::read(text)?;
        if root.key.text == "CORSConfiguration" {
            let error = Unreadable::at(root.key.span, "this is S3's XML already");
            return Err(error.hint("`s3cors check` says whether it is good"));
        }
        // A document that holds the root, as a map holds its entries.
        let span = root.key.span.clone();
        vec![Node::map(vec![root], span)]
    } else if is_hcl && !text.trim_start().starts_with(['{', '[']) {
        vec![hcl::read(text)?]
    } else {
        yaml::read(text)?
    };
    let Some(document) = documents.first() else {
        return Err(Unreadable::new("there is nothing in it"));
    };
    let (dialect, document) = match from {
        Some(dialect) => (dialect, document),
        None => dialect_of(&documents)?,
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
        Dialect::R2 => r2::import(document, draft)?,
        Dialect::B2 => b2::import(document, draft)?,
        Dialect::CloudFormation => cloudformation::import(document, draft)?,
        Dialect::Terraform => terraform::import(document, draft)?,
        Dialect::Minio => {}
    }
    Ok(dialect)
}

/// What the first document that has settings is written in.
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
                Err(error.hint(format!("say which: {}", options.join(" or "))))
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
                let error = Unreadable::new("there are no CORS rules in it");
                return Err(error.hint("a bucket without CORS needs no file"));
            }
            let error = Unreadable::new("cannot tell what this is written in");
            let names: Vec<&str> = Dialect::ALL.iter().map(|one| one.as_str()).collect();
            Err(error.hint(format!("say so: --from {}", names.join("|"))))
        }
    }
}
