//! Finds pseudo-fields in trailers, which make a request or response malformed ([RFC 9113 §8.1]).
//!
//! h2 drops them and passes the message on as complete, so they are found before h2 sees the
//! trailers. No field is decoded: a name that begins with `:` is known by its index in HPACK's
//! tables, or by its first byte. Interim responses (1xx) are recognised in the same way: the value
//! of `:status` begins with `1`. For each entry of the dynamic table, two bits are kept: whether
//! its name is that of a pseudo-field, and whether its value begins with `1`. Evictions need not be
//! tracked, because h2 refuses an index that its table does not have.
//!
//! [RFC 9113 §8.1]: https://www.rfc-editor.org/rfc/rfc9113#section-8.1

/// The static table's entries for pseudo-fields: 1 to 14 ([RFC 7541 Appendix A]).
///
/// [RFC 7541 Appendix A]: https://www.rfc-editor.org/rfc/rfc7541#appendix-A
const LAST_PSEUDO: u64 = 14;

/// How many entries the static table has.
const STATIC: u64 = 61;

/// `:` in HPACK's Huffman code, in the highest seven bits ([RFC 7541 Appendix B]).
///
/// [RFC 7541 Appendix B]: https://www.rfc-editor.org/rfc/rfc7541#appendix-B
const HUFFMAN_COLON: u8 = 0b1011_1000;

/// `1` in HPACK's Huffman code, in the highest five bits.
const HUFFMAN_ONE: u8 = 0b0000_1000;

const HEADERS: u8 = 1;
const CONTINUATION: u8 = 9;

/// Flags of HEADERS; CONTINUATION also has the first one.
const END_HEADERS: u8 = 0x4;
const PADDED: u8 = 0x8;
const PRIORITY: u8 = 0x20;

/// The length of the priority fields in bytes.
const PRIORITY_BYTES: usize = 5;

/// Inspects the frames of a connection as they arrive.
#[derive(Debug, Default)]
pub(crate) struct TrailerCheck {
    blocks: FieldBlocks,
    /// The frame's stream, and the stream it depends on.
    stream: u32,
    dependency: u32,
    /// Whether the frame is part of a field block.
    is_block: bool,
    /// Whether that block holds trailers.
    is_trailers: bool,
    /// Whether the block ends with the frame.
    ends_block: bool,
    /// Whether the padding length is still to come.
    is_padded: bool,
    /// Bytes of the frame still to come before the block.
    before: usize,
    /// Bytes of the block, then of the padding, still to come.
    left: usize,
    padding: usize,
    /// Whether the frame ended a block that is the head of an interim response.
    ended_interim: bool,
}

impl TrailerCheck {
    /// Sets the stream of the next frame.
    pub(crate) fn of_stream(&mut self, stream: u32) {
        self.stream = stream;
    }

    /// Begins a frame; `is_trailers`: its stream already had a head.
    pub(crate) fn begin(&mut self, kind: u8, flags: u8, length: usize, is_trailers: bool) {
        self.is_block = matches!(kind, HEADERS | CONTINUATION);
        if kind == HEADERS {
            self.is_trailers = is_trailers;
        }
        let has = |flag| kind == HEADERS && flags & flag != 0;
        self.is_padded = has(PADDED);
        self.before = if has(PRIORITY) { PRIORITY_BYTES } else { 0 };
        self.dependency = 0;
        self.left = length;
        self.padding = 0;
        self.ends_block = flags & END_HEADERS != 0;
        self.ended_interim = false;
        self.end_if_read();
    }

    /// Whether the frame is complete and ended the head of an interim response.
    pub(crate) fn ended_interim(&self) -> bool {
        self.ended_interim
    }

    /// Reads a piece of the frame's payload. Returns true if it shows a pseudo-field in trailers,
    /// or a stream that depends on itself ([RFC 7540 §5.3.1]). h2 resets such a stream without
    /// decoding the block, so its dynamic table would no longer match the one tracked here.
    ///
    /// [RFC 7540 §5.3.1]: https://www.rfc-editor.org/rfc/rfc7540#section-5.3.1
    pub(crate) fn read(&mut self, bytes: &[u8]) -> bool {
        if !self.is_block {
            return false;
        }
        let mut rest = bytes;
        if self.is_padded
            && let [padding, after @ ..] = rest
        {
            self.is_padded = false;
            self.left = self.left.saturating_sub(1);
            self.padding = usize::from(*padding);
            rest = after;
        }
        let skipped = self.before.min(rest.len());
        let (priority, after) = rest.split_at(skipped);
        for byte in priority {
            // The last byte is the weight.
            if self.before > 1 {
                self.dependency = self.dependency << 8 | u32::from(*byte);
            }
            self.before -= 1;
        }
        const EXCLUSIVE: u32 = 1 << 31;
        let is_circular = skipped > 0
            && self.before == 0
            && self.stream != 0
            && self.dependency & !EXCLUSIVE == self.stream;
        rest = after;
        self.left = self.left.saturating_sub(skipped);
        let of_block = self.left.saturating_sub(self.padding).min(rest.len());
        let found = self.blocks.read(rest.get(..of_block).unwrap_or_default());
        self.left = self.left.saturating_sub(rest.len());
        self.end_if_read();
        found && self.is_trailers || is_circular
    }

    fn end_if_read(&mut self) {
        if self.left == 0 && self.is_block && self.ends_block {
            self.ended_interim = self.blocks.end();
            self.is_block = false;
        }
    }
}

/// Reads the field blocks of a connection, split at any byte.
#[derive(Debug, Default)]
struct FieldBlocks {
    /// One bit for each entry of the dynamic table: whether its name is that of a pseudo-field. The
    /// newest entry is the lowest bit. With its default size of 4,096 bytes, the table has at most
    /// 128 entries of 32 bytes ([RFC 7541 §4.1]).
    ///
    /// [RFC 7541 §4.1]: https://www.rfc-editor.org/rfc/rfc7541#section-4.1
    dynamic: u128,
    /// Likewise: whether the entry is a pseudo-field whose value begins with `1`.
    dynamic_interim: u128,
    step: HpackState,
    /// The integer being read, and how many of its bits have arrived.
    integer: u64,
    shift: u32,
    /// For the field line being read.
    is_pseudo: bool,
    is_interim: bool,
    is_kept: bool,
    /// For the block being read: whether it has pseudo-fields whose values begin with `1`, and
    /// others.
    has_interim: bool,
    has_final: bool,
}

/// What the next byte is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum HpackState {
    /// A field line, or a new size of the table.
    #[default]
    Line,
    /// More of an index.
    Index { then: IndexUse },
    /// The first byte of a name's or value's length.
    Length { is_name: bool },
    /// More of that length.
    MoreLength { is_name: bool, is_huffman: bool },
    /// A string with this many bytes left.
    Text { left: u64, is_name: bool },
    /// The first byte of a name, or of a pseudo-field's value.
    TextStart {
        left: u64,
        is_name: bool,
        is_huffman: bool,
    },
}

/// What an index refers to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum IndexUse {
    /// A whole field line.
    Indexed,
    /// A name, whose value follows.
    Name,
    /// The table's new size.
    Size,
}

impl FieldBlocks {
    /// Reads a piece of a block; returns whether a name in it begins with `:`.
    fn read(&mut self, mut bytes: &[u8]) -> bool {
        let mut found = false;
        while let [byte, rest @ ..] = bytes {
            if let HpackState::Text { left, is_name } = self.step {
                let length = usize::try_from(left).unwrap_or(usize::MAX).min(bytes.len());
                bytes = bytes.get(length..).unwrap_or_default();
                self.text(left - length as u64, is_name);
                continue;
            }
            found |= self.byte(*byte);
            bytes = rest;
        }
        found
    }

    /// Ends a block; returns whether it is the head of an interim response. h2 reports a truncated
    /// line.
    fn end(&mut self) -> bool {
        self.step = HpackState::Line;
        let has_final = std::mem::take(&mut self.has_final);
        std::mem::take(&mut self.has_interim) && !has_final
    }

    /// Reads a byte; returns whether it shows a name that begins with `:`.
    fn byte(&mut self, byte: u8) -> bool {
        match self.step {
            HpackState::Line => {
                // RFC 7541 §6: the representation, and how many bits of the index this byte holds.
                let (then, bits, is_kept) = match byte {
                    0x80.. => (IndexUse::Indexed, 7, false),
                    0x40.. => (IndexUse::Name, 6, true),
                    0x20.. => (IndexUse::Size, 5, false),
                    _ => (IndexUse::Name, 4, false),
                };
                self.is_kept = is_kept;
                self.is_pseudo = false;
                self.is_interim = false;
                match self.begin_integer(byte, bits) {
                    true => self.index(then),
                    false => {
                        self.step = HpackState::Index { then };
                        false
                    }
                }
            }
            HpackState::Index { then } => self.more_integer(byte) && self.index(then),
            HpackState::Length { is_name } => {
                let is_huffman = byte & 0x80 != 0;
                if self.begin_integer(byte, 7) {
                    self.length(is_name, is_huffman);
                } else {
                    self.step = HpackState::MoreLength {
                        is_name,
                        is_huffman,
                    };
                }
                false
            }
            HpackState::MoreLength {
                is_name,
                is_huffman,
            } => {
                if self.more_integer(byte) {
                    self.length(is_name, is_huffman);
                }
                false
            }
            HpackState::TextStart {
                left,
                is_name,
                is_huffman,
            } => {
                if is_name {
                    self.is_pseudo = match is_huffman {
                        true => byte & 0xfe == HUFFMAN_COLON,
                        false => byte == b':',
                    };
                } else {
                    self.is_interim = match is_huffman {
                        true => byte & 0xf8 == HUFFMAN_ONE,
                        false => byte == b'1',
                    };
                }
                self.text(left - 1, is_name);
                is_name && self.is_pseudo
            }
            // `read` handles these.
            HpackState::Text { left, is_name } => {
                self.text(left.saturating_sub(1), is_name);
                false
            }
        }
    }

    /// Begins an integer in the lowest `bits` of a byte ([RFC 7541 §5.1]). Returns true if that
    /// byte is all of it.
    ///
    /// [RFC 7541 §5.1]: https://www.rfc-editor.org/rfc/rfc7541#section-5.1
    fn begin_integer(&mut self, byte: u8, bits: u32) -> bool {
        let most = (1_u8 << bits) - 1;
        self.integer = u64::from(byte & most);
        self.shift = 0;
        byte & most != most
    }

    /// Adds a byte to an integer; returns true for the last byte.
    fn more_integer(&mut self, byte: u8) -> bool {
        let more = u64::from(byte & 0x7f).checked_shl(self.shift);
        // h2 refuses integers of more than four bytes.
        self.integer = self.integer.saturating_add(more.unwrap_or(u64::MAX));
        self.shift = self.shift.saturating_add(7);
        byte & 0x80 == 0
    }

    /// Completes an index; returns whether its name begins with `:`.
    fn index(&mut self, then: IndexUse) -> bool {
        let index = self.integer;
        if then == IndexUse::Size {
            self.step = HpackState::Line;
            return false;
        }
        let mut is_interim = false;
        self.is_pseudo = match index.checked_sub(STATIC + 1) {
            None => (1..=LAST_PSEUDO).contains(&index),
            Some(place) => {
                let place = u32::try_from(place).unwrap_or(u32::MAX);
                let bit = |entries: u128| entries.checked_shr(place).unwrap_or(0) & 1 == 1;
                is_interim = bit(self.dynamic_interim);
                bit(self.dynamic)
            }
        };
        self.step = match then {
            IndexUse::Name => HpackState::Length {
                is_name: index == 0,
            },
            IndexUse::Indexed | IndexUse::Size => {
                self.is_interim = is_interim;
                self.end_line();
                HpackState::Line
            }
        };
        self.is_pseudo
    }

    /// Completes a field line.
    fn end_line(&mut self) {
        if self.is_pseudo {
            self.has_interim |= self.is_interim;
            self.has_final |= !self.is_interim;
        }
    }

    /// Completes a string's length.
    fn length(&mut self, is_name: bool, is_huffman: bool) {
        let left = self.integer;
        match left > 0 && (is_name || self.is_pseudo) {
            true => {
                self.step = HpackState::TextStart {
                    left,
                    is_name,
                    is_huffman,
                };
            }
            false => self.text(left, is_name),
        }
    }

    /// Begins a string with this many bytes left.
    fn text(&mut self, left: u64, is_name: bool) {
        self.step = match (left, is_name) {
            (1.., _) => HpackState::Text { left, is_name },
            (0, true) => HpackState::Length { is_name: false },
            (0, false) => {
                if self.is_kept {
                    self.dynamic = self.dynamic << 1 | u128::from(self.is_pseudo);
                    self.dynamic_interim = self.dynamic_interim << 1 | u128::from(self.is_interim);
                }
                self.end_line();
                HpackState::Line
            }
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// HEADERS of stream 1, with these flags and payload.
    fn headers(flags: u8, payload: &[u8]) -> (u8, u8, Vec<u8>) {
        (HEADERS, flags, payload.to_vec())
    }

    /// Whether trailers that follow `head` are refused, split at any byte.
    fn is_refused(head: &[u8], trailers: &[(u8, u8, Vec<u8>)]) -> bool {
        let found: Vec<bool> = [1, 2, 3, usize::MAX]
            .into_iter()
            .map(|piece| {
                let mut check = TrailerCheck::default();
                check.begin(HEADERS, END_HEADERS, head.len(), false);
                assert!(!check.read(head), "a head has pseudo-fields");
                let mut found = false;
                for (kind, flags, payload) in trailers {
                    check.begin(*kind, *flags, payload.len(), true);
                    for piece in payload.chunks(piece.min(payload.len().max(1))) {
                        found |= check.read(piece);
                    }
                }
                found
            })
            .collect();
        assert!(found.iter().all(|one| *one == found[0]), "{found:?}");
        found[0]
    }

    /// A literal with incremental indexing, with a new name and an empty value.
    fn kept(name: &[u8]) -> Vec<u8> {
        let mut line = vec![0x40, u8::try_from(name.len()).unwrap()];
        line.extend(name);
        line.push(0);
        line
    }

    #[test]
    fn a_stream_that_depends_on_itself_is_an_error() {
        for (dependency, is_fault) in [
            ([0, 0, 0, 3], true),
            ([0x80, 0, 0, 3], true),
            ([0, 0, 0, 1], false),
            ([0, 0, 0, 0], false),
        ] {
            let payload = [&dependency[..], &[16, 0x40, 1, b'x', 1, b'y']].concat();
            for size in [1, 3, payload.len()] {
                let mut check = TrailerCheck::default();
                check.of_stream(3);
                check.begin(HEADERS, END_HEADERS | PRIORITY, payload.len(), false);
                let found = payload.chunks(size).any(|piece| check.read(piece));
                assert_eq!(found, is_fault, "{dependency:?}, {size}");
            }
        }
    }

    #[test]
    fn a_name_that_begins_with_a_colon_is_found_in_every_encoding() {
        // `:method: GET`, then `:a` and `x-sum` in the dynamic table; the last has index 62.
        let head = [&[0x82][..], &kept(b":a"), &kept(b"x-sum")].concat();
        for (block, expected) in [
            (&b""[..], false),
            (b"\x00\x05x-sum\x011", false),
            (b"\x00\x02:a\x011", true),
            (b"\x10\x01:\x00", true),
            (b"\x40\x05:path\x00", true),
            // Huffman: `:a`, then `a:`.
            (b"\x00\x82\xb8\x7f\x00", true),
            (b"\x00\x82\x1d\xcf\x00", false),
            // Static: the first and the last pseudo-field, and the entry after that.
            (b"\x81", true),
            (b"\x8e", true),
            (b"\x8f", false),
            (b"\x04\x011", true),
            (b"\x0e\x011", true),
            (b"\x0f\x00\x011", false),
            (b"\x44\x011", true),
            // Dynamic: 62 and 63, in each representation.
            (b"\xbe", false),
            (b"\xbf", true),
            (b"\x7e\x011", false),
            (b"\x7f\x00\x011", true),
            (b"\x0f\x2f\x011", false),
            (b"\x0f\x30\x011", true),
            (b"\x1f\x30\x011", true),
            // With one more entry in the table, 63 becomes 64.
            (b"\x40\x01y\x00\xbf", false),
            (b"\x40\x01y\x00\xc0", true),
            // After changes of the table size, and after another field.
            (b"\x20\x3f\xe1\x1f\x81", true),
            (b"\x00\x01x\x01:\x81", true),
            // A value, not a name.
            (b"\x00\x01x\x04:a:b", false),
            (b"\x0f\x00\x02:a", false),
        ] {
            let whole = [headers(END_HEADERS, block)];
            assert_eq!(is_refused(&head, &whole), expected, "{block:x?}");
            // Padded, with a priority, and in two frames, the first of which may be empty.
            let mut padded = vec![3];
            padded.extend([0, 0, 0, 0, 9]);
            padded.extend(block);
            padded.extend(b":a\x81");
            let padded = [headers(END_HEADERS | PADDED | PRIORITY, &padded)];
            assert_eq!(is_refused(&head, &padded), expected, "padded {block:x?}");
            for at in 0..block.len() {
                let (first, second) = block.split_at(at);
                let frames = [
                    headers(0, first),
                    (CONTINUATION, END_HEADERS, second.to_vec()),
                ];
                assert_eq!(is_refused(&head, &frames), expected, "{at} {block:x?}");
            }
        }
    }

    #[test]
    fn an_interim_response_is_recognised_in_every_encoding_of_its_status() {
        // `:status: 103`, `:status: 200` and `x: 1` in the dynamic table; the last has index 62.
        let before = b"\x48\x03103\x48\x03200\x40\x01x\x011";
        for (block, expected) in [
            (&b"\x08\x03103"[..], true),
            (b"\x18\x03100", true),
            (b"\x48\x03103", true),
            (b"\x00\x07:status\x03103", true),
            // Huffman: `103`, `200`.
            (b"\x08\x82\x08\x19", true),
            (b"\x08\x82\x10\x01", false),
            (b"\x08\x03200", false),
            (b"\x08\x00", false),
            // Static: 200.
            (b"\x88", false),
            // Dynamic: each in turn, then one after a new entry.
            (b"\xbe", false),
            (b"\xbf", false),
            (b"\xc0", true),
            (b"\x40\x01y\x00\xc1", true),
            // A dynamic name with another value.
            (b"\x0f\x31\x03200", false),
            (b"\x0f\x30\x03103", true),
            // Fields that are not the status.
            (b"\x00\x01x\x03103", false),
            (b"\x08\x03103\x00\x01x\x03200", true),
            (b"\x88\x00\x01x\x03103", false),
            (b"\x88\x04\x03103", false),
            (b"", false),
        ] {
            for at in 0..=block.len() {
                let (first, second) = block.split_at(at);
                let mut one_frame = TrailerCheck::default();
                one_frame.begin(HEADERS, END_HEADERS, before.len(), false);
                one_frame.read(before);
                assert!(!one_frame.ended_interim(), "it also has a 200");
                one_frame.begin(HEADERS, END_HEADERS, block.len(), false);
                one_frame.read(first);
                one_frame.read(second);
                assert_eq!(one_frame.ended_interim(), expected, "{at} {block:x?}");
                one_frame.begin(0, 0, 3, false);
                one_frame.read(b"abc");
                assert!(!one_frame.ended_interim(), "DATA after {block:x?}");

                let mut two_frames = TrailerCheck::default();
                two_frames.begin(HEADERS, END_HEADERS, before.len(), false);
                two_frames.read(before);
                two_frames.begin(HEADERS, 0, first.len(), false);
                two_frames.read(first);
                assert!(!two_frames.ended_interim(), "{at} {block:x?}");
                two_frames.begin(CONTINUATION, END_HEADERS, second.len(), false);
                two_frames.read(second);
                assert_eq!(two_frames.ended_interim(), expected, "{at} {block:x?}");
            }
        }
    }

    #[test]
    fn long_values_are_skipped() {
        let mut value = vec![0x00, 0x01, b'x', 0x7f, 0x81, 0x01];
        value.extend([b':'; 256]);
        let with = |line: &[u8]| headers(END_HEADERS, &[&value, line].concat());
        assert!(!is_refused(&[], &[with(b"\xbe")]));
        assert!(is_refused(&[], &[with(b"\x81")]));
    }
}
