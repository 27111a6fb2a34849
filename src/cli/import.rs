//! `s3cors import`: other systems' CORS settings, as S3's XML.

use std::io::{self, Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use clap::Args;
use clap::builder::PossibleValue;
use http::Method;
use serde_json::{Value, json};

use crate::config::Diagnostic;
use crate::config::Report;
use crate::config::SourceFile;
use crate::cors::Options;
use crate::import::Dialect;
use crate::import::MAX_SOURCE;
use crate::import::Note;
use crate::import::Unreadable;
use crate::import::import;

use super::manual::Manual;
use super::{Failure, Format, NO, YES, count, has_colours, print};

pub(super) const MANUAL: Manual = Manual {
    examples: &[
        (
            "S3's own JSON",
            "aws s3api get-bucket-cors --bucket photos | s3cors import - > photos.xml",
        ),
        (
            "Google Cloud Storage",
            "gcloud storage buckets describe gs://photos --format=json | s3cors import - > photos.xml",
        ),
        (
            "Azure Storage",
            "az storage cors list --services b | s3cors import - > photos.xml",
        ),
        (
            "ingress-nginx",
            "kubectl get ingress photos -o yaml | s3cors import - > photos.xml",
        ),
        (
            "Gateway API",
            "kubectl get httproute photos -o yaml | s3cors import --extra-method PATCH - > photos.xml",
        ),
        (
            "MinIO, by its client or by the value alone",
            "mc admin config get minio api | s3cors import - > photos.xml\n    \
             echo 'https://app.example.com' | s3cors import --from minio - > photos.xml",
        ),
    ],
    exit_codes: &[
        (
            "0",
            "the XML says what the settings say, or --lossy was given",
        ),
        ("1", "it does not in everything, or no rule is left"),
        ("2", "bad usage, or settings that cannot be read"),
    ],
    environment: &[],
    files: &[],
};

/// Turn other systems' CORS settings into S3's XML, and say what that loses.
///
/// The XML goes to standard output. What S3's rules cannot say (lost), what they let in besides
/// (widened) and how the ambiguous was read goes to standard error, each with its place.
#[derive(Debug, Args)]
pub(super) struct Import {
    /// The settings; `-` is standard input.
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// What they are written in; without it, whatever they unmistakably are.
    #[arg(long, value_enum)]
    from: Option<Dialect>,
    /// A method beyond S3's five that the route allows (its `extra_methods`). May stand several
    /// times.
    #[arg(long = "extra-method", value_name = "METHOD")]
    extra_methods: Vec<Method>,
    /// Exit with 0 although something was lost, widened or ambiguous.
    #[arg(long)]
    lossy: bool,
    /// How that is told.
    #[arg(long, value_enum, default_value_t)]
    format: Format,
}

impl clap::ValueEnum for Dialect {
    fn value_variants<'a>() -> &'a [Self] {
        &Self::ALL
    }

    fn to_possible_value(&self) -> Option<PossibleValue> {
        Some(PossibleValue::new(self.as_str()))
    }
}

impl Import {
    pub(super) fn execute(self) -> Result<u8, Failure> {
        let source = read(&self.file)?;
        let file = SourceFile::new(&self.file, &source);
        let options = Options {
            extra_methods: self.extra_methods,
            ..Options::default()
        };
        let imported = match import(&source, self.from, &options) {
            Ok(imported) => imported,
            Err(unreadable) => {
                tell(&unreadable_report(&file, unreadable));
                return Err(Failure::Usage("nothing is imported".into()));
            }
        };
        match self.format {
            Format::Human => {
                tell(&notes_report(&file, &imported.notes));
            }
            Format::Json => {
                let notes: Value = imported
                    .notes
                    .iter()
                    .map(|note| to_json(&file, note))
                    .collect();
                let document = json!({ "from": imported.dialect.as_str(), "notes": notes });
                let _ = io::stderr().write_all(format!("{document:#}\n").as_bytes());
            }
        }
        if imported.configuration.rules.is_empty() {
            let _ = writeln!(
                io::stderr(),
                "s3cors: the settings allow nothing that a rule could say; a bucket without CORS \
                 needs no file"
            );
            return Ok(NO);
        }
        print(&imported.configuration.to_xml())?;
        if self.format == Format::Human {
            let _ = writeln!(
                io::stderr(),
                "{} from {}; {}",
                count(imported.configuration.rules.len(), "rule"),
                imported.dialect.as_str(),
                match imported.notes.len() {
                    0 => "they say what the settings say".to_owned(),
                    notes => format!("{} above", count(notes, "note")),
                }
            );
        }
        let is_same = imported.notes.is_empty();
        Ok(if is_same || self.lossy { YES } else { NO })
    }
}

/// Reads a file or standard input, no further than what is too large.
fn read(path: &Path) -> Result<Vec<u8>, Failure> {
    let limit = MAX_SOURCE as u64 + 1;
    let mut bytes = Vec::new();
    let read = if path == Path::new("-") {
        io::stdin().lock().take(limit).read_to_end(&mut bytes)
    } else {
        std::fs::File::open(path).and_then(|file| file.take(limit).read_to_end(&mut bytes))
    };
    match read {
        Ok(_) => Ok(bytes),
        Err(error) => Err(Failure::Usage(format!("{}: {error}", path.display()))),
    }
}

/// Where an answer goes that is not the XML. Nobody is left to tell where that fails.
fn tell(report: &Report) {
    let text = report.render(has_colours(&io::stderr()));
    let _ = io::stderr().write_all(text.as_bytes());
}

fn unreadable_report(file: &Arc<SourceFile>, unreadable: Unreadable) -> Report {
    let diagnostic = Diagnostic::error("unreadable", unreadable.message);
    let diagnostic = match unreadable.span {
        Some(span) => diagnostic.at(file, span),
        None => diagnostic.of(file),
    };
    let mut report = Report::default();
    report.push(match unreadable.hint {
        Some(hint) => diagnostic.help(hint),
        None => diagnostic,
    });
    report
}

fn notes_report(file: &Arc<SourceFile>, notes: &[Note]) -> Report {
    let mut report = Report::default();
    for note in notes {
        let message = format!("{}: {}", note.effect.as_str(), note.message);
        let diagnostic = Diagnostic::warning(note.code, message).at(file, note.span.clone());
        report.push(match &note.hint {
            Some(hint) => diagnostic.help(hint),
            None => diagnostic,
        });
    }
    report
}

fn to_json(file: &Arc<SourceFile>, note: &Note) -> Value {
    let place = Diagnostic::warning(note.code, "").at(file, note.span.clone());
    let position = place.position();
    json!({
        "effect": note.effect.as_str(),
        "code": note.code,
        "message": note.message,
        "help": note.hint,
        "subject": note.subject,
        "line": position.map(|position| position.line),
        "column": position.map(|position| position.column),
    })
}
