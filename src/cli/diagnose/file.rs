//! Reads a recording in either format.

use std::fmt;
use std::fs::File;
use std::io::{self, BufReader, Read};
use std::path::Path;

use serde::de::{DeserializeSeed, Deserializer, IgnoredAny, MapAccess, Visitor};

use super::bounded::{Bounded, Budget};
use super::har::{Har, Log};
use super::netlog::{Events, Sink as _};
use super::requests::Requests;

/// The contents of a file.
pub(super) struct Recording {
    pub(super) contents: Contents,
    /// Where and why the file breaks off; `None` if it is complete.
    pub(super) broken: Option<String>,
}

/// The format of a file, with its contents.
pub(super) enum Contents {
    NetLog(Box<Requests>),
    Har(Box<Har>),
}

/// Reads a file; `-` is standard input.
pub(super) fn read(path: &Path) -> Result<Recording, String> {
    let name = path.display();
    let reader: Box<dyn Read> = match path.to_str() {
        Some("-") => Box::new(io::stdin()),
        _ => Box::new(File::open(path).map_err(|error| format!("cannot read {name}: {error}"))?),
    };
    let budget = Budget::new();
    let mut document = Document::default();
    let bounded = BufReader::new(Bounded::new(reader, budget.clone()));
    let mut deserializer = serde_json::Deserializer::from_reader(bounded);
    let seed = Seed {
        document: &mut document,
        budget,
    };
    let broken = match seed.deserialize(&mut deserializer) {
        Ok(()) => None,
        Err(error) if error.is_io() && document.parts() == 0 => {
            return Err(format!("cannot read {name}: {error}"));
        }
        Err(error) if document.parts() == 0 => {
            let what = if error.is_eof() {
                "breaks off"
            } else {
                "is not a NetLog or a HAR"
            };
            return Err(format!("{name} {what}: {error}"));
        }
        // Chrome writes the end of a NetLog when it exits; a killed browser leaves it out.
        Err(error) => Some(error.to_string()),
    };
    document.requests.end();
    document.har.end();
    let contents = match document {
        Document {
            has_events: true,
            has_constants: false,
            ..
        } => {
            return Err(format!(
                "{name} has no `constants`, which a NetLog needs to name its events; record it again"
            ));
        }
        Document {
            has_constants: true,
            requests,
            ..
        } => Contents::NetLog(requests),
        Document {
            has_log: true, har, ..
        } if har.entries == 0 => {
            return Err(format!(
                "{name} is a HAR without entries; open the network panel before the page loads, then export again"
            ));
        }
        Document {
            has_log: true, har, ..
        } => Contents::Har(har),
        _ => {
            return Err(format!(
                "{name} is neither a NetLog (chrome://net-export) nor a HAR (network panel of the developer tools)"
            ));
        }
    };
    Ok(Recording { contents, broken })
}

#[derive(Default)]
struct Document {
    has_constants: bool,
    has_events: bool,
    has_log: bool,
    requests: Box<Requests>,
    har: Box<Har>,
}

impl Document {
    /// How much was read so far.
    fn parts(&self) -> u64 {
        u64::from(self.has_constants) + self.har.entries
    }
}

struct Seed<'d> {
    document: &'d mut Document,
    budget: Budget,
}

impl<'de> DeserializeSeed<'de> for Seed<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for Seed<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a NetLog or a HAR")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<(), A::Error> {
        let Self { document, budget } = self;
        while let Some(name) = members.next_key::<String>()? {
            match &*name {
                "constants" => {
                    document.requests.constants(members.next_value()?);
                    document.has_constants = true;
                }
                "events" => {
                    document.has_events = true;
                    members.next_value_seed(Events {
                        sink: &mut *document.requests,
                        budget: &budget,
                    })?;
                }
                "log" => {
                    document.has_log = true;
                    members.next_value_seed(Log {
                        har: &mut document.har,
                        budget: &budget,
                    })?;
                }
                _ => {
                    budget.lift();
                    members.next_value::<IgnoredAny>()?;
                }
            }
            budget.renew();
        }
        Ok(())
    }
}
