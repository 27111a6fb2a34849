//! A JSON reader that bounds memory: it cuts long strings, and rejects a part of the document
//! that is still too long or nested too deeply.

use std::cell::Cell;
use std::io::{self, Read};
use std::rc::Rc;

/// The longest string, in bytes; the rest is cut off.
const MAX_STRING: usize = 32 << 10;

/// The longest part (event or entry), in bytes, after its strings are cut.
const MAX_PART: u64 = 4 << 20;

/// How deeply values may be nested.
const MAX_DEPTH: u32 = 500;

/// How many more bytes the current part may have; `None`: unlimited.
#[derive(Clone, Debug)]
pub(super) struct Budget(Rc<Cell<Option<u64>>>);

impl Budget {
    pub(super) fn new() -> Self {
        Self(Rc::new(Cell::new(Some(MAX_PART))))
    }

    /// Starts a part that is kept in memory.
    pub(super) fn renew(&self) {
        self.0.set(Some(MAX_PART));
    }

    /// Starts a part that is not kept.
    pub(super) fn lift(&self) {
        self.0.set(None);
    }
}

/// Reads a document and cuts its long strings.
pub(super) struct Bounded<R> {
    reader: R,
    budget: Budget,
    input: Box<[u8]>,
    output: Vec<u8>,
    /// How much of the output has been read.
    read: usize,
    state: State,
}

/// The reader's position in the document.
#[derive(Debug, Default)]
struct State {
    in_string: bool,
    is_escaped: bool,
    is_cut: bool,
    /// The length of the string so far.
    length: usize,
    /// The remaining digits of a `\\uXXXX` and its value so far.
    digits: u8,
    unit: u32,
    /// Whether half a surrogate pair has been read.
    is_half: bool,
    depth: u32,
}

impl<R: Read> Bounded<R> {
    pub(super) fn new(reader: R, budget: Budget) -> Self {
        Self {
            reader,
            budget,
            input: vec![0; 64 << 10].into(),
            output: Vec::new(),
            read: 0,
            state: State::default(),
        }
    }

    fn fill(&mut self) -> io::Result<()> {
        self.output.clear();
        self.read = 0;
        while self.output.is_empty() {
            let count = self.reader.read(&mut self.input)?;
            if count == 0 {
                return Ok(());
            }
            for byte in self.input.get(..count).unwrap_or_default() {
                if self.state.keeps(*byte) {
                    self.output.push(*byte);
                }
            }
            if self.state.depth > MAX_DEPTH {
                return Err(io::Error::other(format!(
                    "its values are nested more than {MAX_DEPTH} levels deep"
                )));
            }
        }
        Ok(())
    }
}

impl State {
    /// Whether to keep a byte.
    fn keeps(&mut self, byte: u8) -> bool {
        if !self.in_string {
            match byte {
                b'"' => {
                    *self = Self {
                        in_string: true,
                        depth: self.depth,
                        ..Self::default()
                    };
                }
                b'[' | b'{' => self.depth += 1,
                b']' | b'}' => self.depth = self.depth.saturating_sub(1),
                _ => {}
            }
            return true;
        }
        let is_between =
            !self.is_escaped && self.digits == 0 && !self.is_half && byte & 0xc0 != 0x80;
        if !self.is_escaped && byte == b'"' {
            self.in_string = false;
            return true;
        }
        self.is_cut |= is_between && self.length >= MAX_STRING;
        self.length += 1;
        if self.is_escaped {
            self.is_escaped = false;
            (self.digits, self.unit) = (if byte == b'u' { 4 } else { 0 }, 0);
            self.is_half = false;
        } else if byte == b'\\' {
            self.is_escaped = true;
        } else if self.digits > 0 {
            self.digits -= 1;
            self.unit = (self.unit << 4) | char::from(byte).to_digit(16).unwrap_or_default();
            self.is_half = self.digits == 0 && (0xd800..0xdc00).contains(&self.unit);
        } else {
            self.is_half = false;
        }
        !self.is_cut
    }
}

impl<R: Read> Read for Bounded<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.read == self.output.len() {
            self.fill()?;
        }
        let left = self.output.get(self.read..).unwrap_or_default();
        let mut count = left.len().min(buffer.len());
        if let Some(budget) = self.budget.0.get() {
            let most = usize::try_from(budget).unwrap_or(usize::MAX);
            if most == 0 && count > 0 {
                let message = format!("a part of it is longer than {} MiB", MAX_PART >> 20);
                return Err(io::Error::other(message));
            }
            count = count.min(most);
            self.budget.0.set(Some(budget - count as u64));
        }
        if let (Some(to), Some(from)) = (buffer.get_mut(..count), left.get(..count)) {
            to.copy_from_slice(from);
        }
        self.read += count;
        Ok(count)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::{Value, json};

    use super::*;

    fn through(text: &str) -> io::Result<String> {
        let budget = Budget::new();
        budget.lift();
        let mut read = String::new();
        Bounded::new(text.as_bytes(), budget).read_to_string(&mut read)?;
        Ok(read)
    }

    #[test]
    fn a_long_string_is_cut_between_two_characters() {
        for piece in [
            "a",
            "é",
            "\\u00e9a",
            "\\ud83d\\ude00abcdefghijklmnopqrstuvw",
            "\\\"123456789abcd",
            "x\u{1f600}",
        ] {
            let long = piece.repeat(40_000);
            let text = format!(r#"{{"a":"{long}","b":[1,"x"]}}"#);
            let read: Value = serde_json::from_str(&through(&text).unwrap()).unwrap();
            assert_eq!(read["b"], json!([1, "x"]));
            assert!(read["a"].as_str().unwrap().len() < 70_000, "{piece}");
        }
    }

    #[test]
    fn nesting_and_long_parts_are_errors() {
        assert!(through(&"[".repeat(1000)).is_err());
        let budget = Budget::new();
        let text = "1,".repeat(8 << 20);
        let mut read = Vec::new();
        assert!(
            Bounded::new(text.as_bytes(), budget)
                .read_to_end(&mut read)
                .is_err()
        );
    }

    proptest! {
        #[test]
        fn short_documents_pass_unchanged(text in "[\\[\\]{}\",:\\\\a-zé]{0,60}") {
            prop_assert_eq!(through(&text).unwrap(), text);
        }
    }
}
