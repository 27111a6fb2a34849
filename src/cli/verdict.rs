//! `s3cors verdict`: what browsers do with recorded exchanges.

use std::fmt::Write as _;
use std::fs::File;
use std::io::{self, BufRead, BufReader, ErrorKind, Read as _};
use std::path::{Path, PathBuf};

use clap::Args;
use serde_json::Value;

use crate::cors::fetch::{Engine, Outcome, Verdict as Judged, judge};
use crate::explain::{exchange_from_json, verdict_to_json};
use crate::telemetry::LineWriter;
use crate::text::visible::visible;

use super::manual::Manual;
use super::output::{Failure, Format, NO, YES};

pub(super) const MANUAL: Manual = Manual {
    examples: &[
        (
            "Exchanges in a file, one JSON object per line",
            "s3cors verdict exchanges.jsonl",
        ),
        (
            "As JSON: only those that a browser blocks",
            "s3cors verdict --format json exchanges.jsonl | jq 'select(.outcome == \"blocked\")'",
        ),
    ],
    exit_codes: &[
        ("0", "no exchange is blocked"),
        ("1", "at least one is"),
        ("2", "bad usage, or a line that is not an exchange"),
    ],
    environment: &[],
    files: &[],
};

/// The longest line, in bytes.
const MAX_LINE: u64 = 8 << 20;

/// How much output is collected before it is written.
const OUTPUT: usize = 64 << 10;

/// Judge recorded exchanges as Chromium, Firefox and WebKit would.
///
/// Reads one exchange per line, as JSON: the script's request (`request`), the server's answer to
/// a preflight (`preflight`) and to the request (`response`). Reports for each whether the script
/// can read the response, which fields, and otherwise why not, in the words of each browser's
/// console.
#[derive(Debug, Args)]
pub(super) struct Verdict {
    /// The exchanges, as JSON Lines; `-` is standard input.
    #[arg(value_name = "FILE", default_value = "-")]
    file: PathBuf,
    /// The output format.
    #[arg(long, value_enum, default_value_t)]
    format: Format,
}

impl Verdict {
    pub(super) fn execute(self) -> Result<u8, Failure> {
        let mut lines = Lines::open(&self.file)?;
        let mut output = Output::new()?;
        let mut is_blocked = false;
        let judged = loop {
            match lines.next_exchange() {
                Ok(Some((number, value))) => match exchange_from_json(&value) {
                    Ok(exchange) => {
                        let verdict = judge(&exchange);
                        is_blocked |= verdict.outcome == Outcome::Blocked;
                        match self.format {
                            Format::Json => writeln!(output.text, "{}", verdict_to_json(&verdict)),
                            Format::Human => {
                                human(&mut output.text, number, &exchange.request, &verdict)
                            }
                        }
                        .expect("a string takes every text");
                    }
                    Err(error) => break Err(lines.invalid(&error.to_string())),
                },
                Ok(None) => break Ok(()),
                Err(error) => break Err(error),
            }
            if output.text.len() > OUTPUT && !output.write()? {
                return Ok(if is_blocked { NO } else { YES });
            }
        };
        output.write()?;
        judged.map(|()| if is_blocked { NO } else { YES })
    }
}

fn human(
    out: &mut String,
    number: u64,
    request: &crate::cors::fetch::ScriptRequest,
    verdict: &Judged,
) -> std::fmt::Result {
    let preflight = if verdict.preflight_sent {
        "with a preflight"
    } else {
        "without a preflight"
    };
    let subject = visible(&format!(
        "{} {} from {}",
        request.method, request.url, request.origin
    ));
    writeln!(
        out,
        "line {number}: {}, {preflight}: {subject}",
        verdict.outcome.as_str()
    )?;
    if verdict.outcome == Outcome::Readable {
        writeln!(
            out,
            "  readable fields: {}",
            visible(&verdict.readable_headers.join(", "))
        )?;
    }
    if let Some(error) = &verdict.error {
        writeln!(
            out,
            "  reason: {} {}",
            error.name,
            visible(&error.parameter)
        )?;
    }
    for (engine, text) in &verdict.messages {
        writeln!(out, "  {engine}: {}", visible(text))?;
    }
    for engine in Engine::ALL {
        for (_, difference) in verdict.differs.iter().filter(|(other, _)| *other == engine) {
            writeln!(out, "  {engine} differs: {}", difference.outcome.as_str())?;
        }
    }
    Ok(())
}

/// Buffered standard output.
struct Output {
    text: String,
    writer: LineWriter,
}

impl Output {
    fn new() -> io::Result<Self> {
        Ok(Self {
            text: String::new(),
            writer: LineWriter::duplicate(&io::stdout())?,
        })
    }

    /// Writes the buffer; `false` if the reader is gone.
    fn write(&mut self) -> Result<bool, Failure> {
        let written = self.writer.write(self.text.as_bytes());
        self.text.clear();
        match written {
            Ok(()) => Ok(true),
            Err(lost) if lost.source.kind() == ErrorKind::BrokenPipe => Ok(false),
            Err(lost) => Err(lost.source.into()),
        }
    }
}

/// Lines of JSON, with their numbers.
struct Lines {
    name: String,
    reader: Box<dyn BufRead>,
    line: Vec<u8>,
    number: u64,
}

impl Lines {
    fn open(path: &Path) -> Result<Self, Failure> {
        let (name, reader): (String, Box<dyn BufRead>) = match path.to_str() {
            Some("-") => ("<stdin>".to_owned(), Box::new(BufReader::new(io::stdin()))),
            _ => {
                let name = path.display().to_string();
                let file = File::open(path)
                    .map_err(|error| Failure::Usage(format!("cannot read {name}: {error}")))?;
                (name, Box::new(BufReader::new(file)))
            }
        };
        Ok(Self {
            name,
            reader,
            line: Vec::new(),
            number: 0,
        })
    }

    /// The next line that is not empty.
    fn next_exchange(&mut self) -> Result<Option<(u64, Value)>, Failure> {
        loop {
            self.line.clear();
            let read = self
                .reader
                .by_ref()
                .take(MAX_LINE + 1)
                .read_until(b'\n', &mut self.line);
            self.number += 1;
            match read {
                Ok(0) => return Ok(None),
                Ok(_) if self.line.len() as u64 > MAX_LINE => {
                    return Err(self.invalid(&format!("is longer than {} MiB", MAX_LINE >> 20)));
                }
                Ok(_) if self.line.trim_ascii().is_empty() => {}
                Ok(_) => {
                    let parsed = serde_json::from_slice(&self.line);
                    let value =
                        parsed.map_err(|error| self.invalid(&format!("is not JSON: {error}")))?;
                    return Ok(Some((self.number, value)));
                }
                Err(error) => {
                    return Err(Failure::Usage(format!(
                        "cannot read {}: {error}",
                        self.name
                    )));
                }
            }
        }
    }

    fn invalid(&self, why: &str) -> Failure {
        Failure::Usage(visible(&format!(
            "{}: line {}: {why}",
            self.name, self.number
        )))
    }
}
