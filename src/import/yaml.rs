//! Parses YAML, and with it JSON, which is a subset of YAML.

use std::collections::HashSet;
use std::ops::Range;

use granit_parser::{Event, Parser, ScalarStyle, Tag};

use super::Unreadable;
use super::document::{Entry, MAX_DEPTH, Node, Value, Word};

/// The documents of a text, one after the other.
///
/// # Errors
///
/// The first syntax error, or a feature that no CORS setting needs: an alias, a duplicate key,
/// values nested too deeply.
pub(super) fn read(text: &str) -> Result<Vec<Node>, Unreadable> {
    let mut reading = Reading::default();
    for next in Parser::new_from_str(text) {
        let (event, span) = next.map_err(|error| {
            let at = error.marker().byte_offset().unwrap_or_default();
            // JSON is parsed as YAML, too.
            let syntax = match text.trim_start().starts_with(['{', '[']) {
                true => "JSON",
                false => "YAML",
            };
            Unreadable::at(at..at, format!("invalid {syntax}: {}", error.info()))
        })?;
        let span = span.byte_range().unwrap_or_default();
        reading.event(event, span)?;
    }
    Ok(reading.documents)
}

#[derive(Default)]
struct Reading {
    documents: Vec<Node>,
    /// The open lists and maps, outermost first.
    open: Vec<Open>,
}

struct Open {
    start: usize,
    inside: Inside,
    /// The CloudFormation function that is called with it.
    function: Option<String>,
}

/// A CloudFormation function in its short form: `!Ref`, `!Sub`.
fn function(tag: &Tag) -> Option<String> {
    let tag = tag.to_string();
    let name = tag.strip_prefix('!')?;
    let is_name = name.starts_with(|first: char| first.is_ascii_uppercase())
        && name
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || byte == b'.');
    is_name.then_some(tag)
}

enum Inside {
    List(Vec<Node>),
    Map {
        entries: Vec<Entry>,
        keys: HashSet<String>,
        /// The parts of the next entry so far.
        key: Option<Word>,
    },
}

impl Reading {
    fn event(&mut self, event: Event<'_>, span: Range<usize>) -> Result<(), Unreadable> {
        match event {
            Event::Scalar(text, style, _, tag) => {
                if let Some(function) = tag.as_deref().and_then(function) {
                    let value = Value::Scalar(format!("{function} {text}"));
                    return self.value(Node { value, span });
                }
                let plain = style == ScalarStyle::Plain;
                let value = if plain && ["", "~", "null", "Null", "NULL"].contains(&&*text) {
                    Value::Null
                } else {
                    Value::Scalar(text.into_owned())
                };
                self.value(Node { value, span })
            }
            Event::SequenceStart(_, _, tag) => {
                self.start(Inside::List(Vec::new()), tag.as_deref(), span)
            }
            Event::MappingStart(_, _, tag) => {
                let map = Inside::Map {
                    entries: Vec::new(),
                    keys: HashSet::new(),
                    key: None,
                };
                self.start(map, tag.as_deref(), span)
            }
            Event::SequenceEnd | Event::MappingEnd => {
                let Some(Open {
                    start,
                    inside,
                    function,
                }) = self.open.pop()
                else {
                    return Ok(());
                };
                let (value, last) = match inside {
                    Inside::List(items) => {
                        let last = items.last().map(|item| item.span.end);
                        (Value::List(items), last)
                    }
                    Inside::Map { entries, .. } => {
                        let last = entries.last().map(|entry| entry.node.span.end);
                        (Value::Map(entries), last)
                    }
                };
                // Without a bracket, it ends where the next element begins.
                let end = last.filter(|_| span.is_empty()).unwrap_or(span.end);
                let span = start..end.max(start);
                let value = match function {
                    Some(function) => Value::Scalar(format!("{function} …")),
                    None => value,
                };
                self.value(Node { value, span })
            }
            Event::Alias(_) | Event::UnresolvedAlias(_) => {
                let error = Unreadable::at(span, "aliases are not supported");
                Err(error.hint("write the value itself in its place"))
            }
            _ => Ok(()),
        }
    }

    fn start(
        &mut self,
        inside: Inside,
        tag: Option<&Tag>,
        span: Range<usize>,
    ) -> Result<(), Unreadable> {
        if self.open.len() == MAX_DEPTH {
            return Err(Unreadable::at(span, "values are nested too deeply"));
        }
        let start = span.start;
        self.open.push(Open {
            start,
            inside,
            function: tag.and_then(function),
        });
        Ok(())
    }

    fn value(&mut self, node: Node) -> Result<(), Unreadable> {
        match self.open.last_mut().map(|open| &mut open.inside) {
            None => self.documents.push(node),
            Some(Inside::List(items)) => items.push(node),
            Some(Inside::Map { entries, keys, key }) => match key.take() {
                Some(key) => entries.push(Entry { key, node }),
                None => {
                    let Value::Scalar(text) = node.value else {
                        return Err(Unreadable::at(node.span, "this cannot be a key"));
                    };
                    if !keys.insert(text.clone()) {
                        let message = format!("duplicate key `{text}`");
                        return Err(Unreadable::at(node.span, message));
                    }
                    let span = node.span;
                    *key = Some(Word { text, span });
                }
            },
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn yaml_and_json_give_the_same_values_with_their_places() {
        for text in [
            "a:\n  - b\n  - \"c\"\nd: 1\n",
            "{\"a\": [\"b\", \"c\"], \"d\": 1}",
            "{\n\t\"a\": [\n\t\t\"b\",\n\t\t\"c\"\n\t],\n\t\"d\": 1\n}\n",
            "{\"a\":[\"b\",\"\\u0063\"],\"d\":1}",
        ] {
            let documents = read(text).unwrap();
            assert_eq!(documents.len(), 1, "{text}");
            let words = documents[0].get("a").unwrap().words().unwrap();
            let texts: Vec<&str> = words.iter().map(|word| &*word.text).collect();
            assert_eq!(texts, ["b", "c"]);
            assert!(text[words[0].span.clone()].contains('b'));
            assert_eq!(documents[0].get("d").unwrap().word().unwrap().text, "1");
        }
    }

    #[test]
    fn unsupported_features_are_rejected_with_their_place() {
        let deep = "[".repeat(MAX_DEPTH + 1) + &"]".repeat(MAX_DEPTH + 1);
        for (text, place, said) in [
            ("a: &x [b]\nc: *x\n", "*x", "aliases"),
            ("a: 1\na: 2\n", "a", "duplicate key"),
            ("? [a]\n: b\n", "[a]", "key"),
            ("a: [b\n", "", "YAML"),
            (&deep, "[", "deeply"),
        ] {
            let error = read(text).unwrap_err();
            assert!(error.message.contains(said), "{text}: {error:?}");
            assert_eq!(&text[error.span.unwrap()], place, "{text}");
        }
    }
}
