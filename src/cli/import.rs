//! `s3cors import`: other systems' CORS settings, as S3's XML.

use std::io::{self, Read as _};
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use clap::Args;
use clap::builder::PossibleValue;
use http::Method;
use serde_json::{Value, json};

use crate::config::{Diagnostic, Report, SourceFile};
use crate::cors::Options;
use crate::import::{Dialect, Import as Imported, MAX_SOURCE, Unreadable, import};

use super::manual::Manual;
use super::output::{Failure, Format, NO, USAGE, YES, complain, count, has_colours, print};

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
            "Terraform, or what it would make",
            "s3cors import main.tf > photos.xml\n    \
             terraform show -json | s3cors import - > photos.xml",
        ),
        (
            "CloudFormation, SAM, serverless, and what the CDK synthesizes",
            "s3cors import template.yaml > photos.xml\n    cdk synth | s3cors import - > photos.xml",
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
            "the XML says the same as the settings, or --lossy was given",
        ),
        (
            "1",
            "something was lost, widened or ambiguous, or no rule is left",
        ),
        ("2", "bad usage, or settings that cannot be read"),
    ],
    environment: &[],
    files: &[],
};

/// Convert other systems' CORS settings to S3's XML, and report what that loses.
///
/// Prints the XML to standard output. Reports to standard error what S3's rules cannot express
/// (lost), what they allow in addition (widened) and how ambiguous settings were read, each with its
/// place.
#[derive(Debug, Args)]
pub(super) struct Import {
    /// The settings; `-` is standard input.
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// Their format; detected if not given.
    #[arg(long, value_enum)]
    from: Option<Dialect>,
    /// A method beyond S3's five that the route allows (its `extra_methods`). Repeatable.
    #[arg(long = "extra-method", value_name = "METHOD")]
    extra_methods: Vec<Method>,
    /// Exit with 0 although something was lost, widened or ambiguous.
    #[arg(long)]
    lossy: bool,
    /// The output format.
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
        let name = if is_stdin(&self.file) {
            Path::new("<stdin>")
        } else {
            &self.file
        };
        let file = SourceFile::new(name, &source);
        let options = Options {
            extra_methods: self.extra_methods,
            ..Options::default()
        };
        let result = import(&source, self.from, &options);
        if let Ok(imported) = &result
            && !imported.configuration.rules.is_empty()
        {
            print(&imported.configuration.to_xml())?;
        }
        let told = match self.format {
            Format::Human => human(&file, &result),
            Format::Json => format!("{:#}\n", to_json(&file, &result)),
        };
        complain(&told);
        Ok(match result {
            Err(_) => USAGE,
            Ok(imported) if imported.configuration.rules.is_empty() => NO,
            Ok(imported) if imported.notes.iter().all(|note| note.is_minor) || self.lossy => YES,
            Ok(_) => NO,
        })
    }
}

fn is_stdin(path: &Path) -> bool {
    path == Path::new("-")
}

/// Reads a file or standard input up to the size limit.
fn read(path: &Path) -> Result<Vec<u8>, Failure> {
    let limit = MAX_SOURCE as u64 + 1;
    let mut bytes = Vec::new();
    let read = if is_stdin(path) {
        io::stdin().lock().take(limit).read_to_end(&mut bytes)
    } else {
        std::fs::File::open(path).and_then(|file| file.take(limit).read_to_end(&mut bytes))
    };
    match read {
        Ok(_) => Ok(bytes),
        Err(error) => Err(Failure::Usage(format!("{}: {error}", path.display()))),
    }
}

/// The report for people: a diagnostic for each note, and a summary.
fn human(file: &Arc<SourceFile>, result: &Result<Imported, Unreadable>) -> String {
    let mut report = Report::default();
    let outcome = match result {
        Err(unreadable) => {
            let diagnostic = Diagnostic::error("unreadable", &unreadable.message);
            let diagnostic = match &unreadable.span {
                Some(span) => diagnostic.at(file, span.clone()),
                None => diagnostic.of(file),
            };
            report.push(with_help(diagnostic, unreadable.hint.as_deref()));
            "nothing imported".to_owned()
        }
        Ok(imported) => {
            for note in &imported.notes {
                let message = format!("{}: {}", note.kind(), note.message);
                let diagnostic = Diagnostic::warning(note.code, message);
                let diagnostic = diagnostic.at(file, note.span.clone());
                report.push(with_help(diagnostic, note.hint.as_deref()));
            }
            let from = imported.dialect.as_str();
            let notes = count(imported.notes.len(), "note");
            match (imported.configuration.rules.len(), imported.notes.len()) {
                (0, 0) => {
                    format!("{from}: CORS is not configured; a bucket without CORS needs no file")
                }
                (0, _) => format!("{from}: no rule is left; {notes}"),
                (rules, 0) => {
                    format!("{} from {from}, without loss", count(rules, "rule"))
                }
                (rules, _) => format!("{} from {from}; {notes}", count(rules, "rule")),
            }
        }
    };
    report.render(has_colours(&io::stderr())) + &outcome + "\n"
}

fn with_help(diagnostic: Diagnostic, hint: Option<&str>) -> Diagnostic {
    match hint {
        Some(hint) => diagnostic.help(hint),
        None => diagnostic,
    }
}

/// The report for programs.
fn to_json(file: &Arc<SourceFile>, result: &Result<Imported, Unreadable>) -> Value {
    let place = |span: &Range<usize>| {
        let place = Diagnostic::warning("", "").at(file, span.clone());
        let position = place.position();
        let line = position.map(|position| position.line);
        let column = position.map(|position| position.column);
        (line, column)
    };
    match result {
        Err(unreadable) => {
            let (line, column) = unreadable.span.as_ref().map(place).unwrap_or_default();
            json!({
                "error": {
                    "message": unreadable.message,
                    "help": unreadable.hint,
                    "line": line,
                    "column": column,
                },
            })
        }
        Ok(imported) => {
            let notes = imported.notes.iter().map(|note| {
                let (line, column) = place(&note.span);
                json!({
                    "effect": note.kind(),
                    "code": note.code,
                    "message": note.message,
                    "help": note.hint,
                    "subject": note.subject,
                    "line": line,
                    "column": column,
                })
            });
            json!({
                "from": imported.dialect.as_str(),
                "rules": imported.configuration.rules.len(),
                "notes": notes.collect::<Value>(),
            })
        }
    }
}
