//! Parses PEM files: certificates and keys, each with its line ([RFC 7468]).
//!
//! No block is dropped silently: a damaged block, or one of an unusable kind, is an error.
//! Markers are found anywhere in a line, because files without a final newline are often
//! concatenated.
//!
//! [RFC 7468]: https://www.rfc-editor.org/rfc/rfc7468

use rustls::pki_types::PrivateKeyDer;
use rustls::pki_types::pem::{self, PemObject, SectionKind};
use thiserror::Error;

/// One block of a PEM file.
#[derive(Debug)]
pub(super) struct Block {
    pub(super) content: Content,
    /// Counted from 1.
    pub(super) line: usize,
}

/// What a block holds.
#[derive(Debug)]
pub(super) enum Content {
    /// A certificate, in DER.
    Certificate(Vec<u8>),
    /// A private key.
    Key(PrivateKeyDer<'static>),
    /// An encrypted private key.
    EncryptedKey,
}

/// Why a PEM file cannot be used.
#[derive(Debug, PartialEq, Eq, Error)]
#[error("line {line}: {problem}")]
pub struct PemError {
    /// Counted from 1.
    pub line: usize,
    problem: String,
}

/// Kinds of blocks that tools write next to a certificate or key, and that can be ignored.
const IGNORED: [&str; 6] = [
    "DH PARAMETERS",
    "DSA PARAMETERS",
    "EC PARAMETERS",
    "PUBLIC KEY",
    "RSA PUBLIC KEY",
    "X9.42 DH PARAMETERS",
];

/// The blocks of a file, in order. Text between blocks is ignored.
pub(super) fn blocks(text: &[u8]) -> Result<Vec<Block>, PemError> {
    if text.starts_with(&[0xff, 0xfe]) || text.starts_with(&[0xfe, 0xff]) {
        return Err(error(
            text,
            0,
            "the file is UTF-16 text; save it as ASCII or UTF-8",
        ));
    }
    let mut found = Vec::new();
    let mut at = 0;
    while let Some(begin) = Marker::next(text, at)? {
        if begin.word == Word::End {
            return Err(error(
                text,
                begin.start,
                "an END line without its BEGIN line",
            ));
        }
        let unended = || error(text, begin.start, "a block without its END line");
        let end = Marker::next(text, begin.end)?.ok_or_else(unended)?;
        if end.word == Word::Begin {
            return Err(unended());
        }
        if end.label != begin.label {
            let (label, other) = (begin.label, end.label);
            let problem = format!("a block that begins as `{label}` and ends as `{other}`");
            return Err(error(text, begin.start, problem));
        }
        let body = text.get(begin.end..end.start).unwrap_or_default();
        let read = content(begin.label, body);
        if let Some(content) = read.map_err(|problem| error(text, begin.start, problem))? {
            let line = line_of(text, begin.start);
            found.push(Block { content, line });
        }
        at = end.end;
    }
    Ok(found)
}

/// `None` for an ignored block.
fn content(label: &str, body: &[u8]) -> Result<Option<Content>, String> {
    let content = match label {
        // The older labels of RFC 7468 §5.1.
        "CERTIFICATE" | "X509 CERTIFICATE" | "X.509 CERTIFICATE" => {
            Content::Certificate(decoded("CERTIFICATE", body)?)
        }
        "ENCRYPTED PRIVATE KEY" => Content::EncryptedKey,
        "PRIVATE KEY" | "RSA PRIVATE KEY" | "EC PRIVATE KEY" if is_encrypted(body) => {
            Content::EncryptedKey
        }
        "PRIVATE KEY" => key(SectionKind::PrivateKey, label, body)?,
        "RSA PRIVATE KEY" => key(SectionKind::RsaPrivateKey, label, body)?,
        "EC PRIVATE KEY" => key(SectionKind::EcPrivateKey, label, body)?,
        "TRUSTED CERTIFICATE" => {
            return Err(
                "a certificate with OpenSSL's trust settings, which are not supported; \
                 `openssl x509 -in FILE` removes them"
                    .into(),
            );
        }
        "PKCS7" | "CMS" => {
            return Err(format!(
                "a `{label}` block; `openssl pkcs7 -print_certs -in FILE` writes its certificates"
            ));
        }
        "X509 CRL" => return Err("a revocation list, which is not supported; remove it".into()),
        "CERTIFICATE REQUEST" | "NEW CERTIFICATE REQUEST" => {
            return Err("a certificate request; put the certificate issued for it here".into());
        }
        label if IGNORED.contains(&label) => return Ok(None),
        label => {
            return Err(format!(
                "a `{label}` block, which is neither a certificate nor a usable key; remove it"
            ));
        }
    };
    Ok(Some(content))
}

fn key(kind: SectionKind, label: &str, body: &[u8]) -> Result<Content, String> {
    let key = PrivateKeyDer::from_pem(kind, decoded(label, body)?);
    key.map(Content::Key)
        .ok_or_else(|| "a block without a private key".into())
}

/// Decodes the body of a block.
fn decoded(label: &str, body: &[u8]) -> Result<Vec<u8>, String> {
    // Puts each marker on its own line, as the library expects.
    let mut block = format!("-----BEGIN {label}-----\n").into_bytes();
    block.extend(body.iter().filter(|byte| !byte.is_ascii_whitespace()));
    block.extend(format!("\n-----END {label}-----\n").bytes());
    match pem::from_buf(&mut &*block) {
        Ok(Some((_, der))) => Ok(der),
        Ok(None) | Err(_) => Err("a block that is not base64".into()),
    }
}

/// Whether a key is encrypted in OpenSSL's old format, with the fields of RFC 1421.
fn is_encrypted(body: &[u8]) -> bool {
    const FIELD: &[u8] = b"Proc-Type: 4,ENCRYPTED";
    body.windows(FIELD.len()).any(|part| part == FIELD)
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Word {
    Begin,
    End,
}

/// `-----BEGIN label-----` or `-----END label-----`.
#[derive(Debug)]
struct Marker<'t> {
    word: Word,
    label: &'t str,
    /// Where its first dash is.
    start: usize,
    /// After its last dash.
    end: usize,
}

impl<'t> Marker<'t> {
    /// The first marker from `from` on. Anything that looks like a damaged one is an error.
    fn next(text: &'t [u8], from: usize) -> Result<Option<Self>, PemError> {
        const DASHES: usize = 5;
        let mut at = from;
        while let Some(rest) = text.get(at..).filter(|rest| !rest.is_empty()) {
            let Some((word, length)) = Word::at(rest) else {
                at += 1;
                continue;
            };
            let dashes = |bytes: &mut dyn Iterator<Item = &u8>| {
                bytes.take_while(|&&byte| byte == b'-').count()
            };
            let before = text.get(..at).unwrap_or_default();
            let before = dashes(&mut before.iter().rev());
            // Fewer than two dashes are not a marker.
            if before < 2 {
                at += length;
                continue;
            }
            let start = at - before.min(DASHES);
            let after = rest.get(length..).unwrap_or_default();
            let (space, after) = after.split_at_checked(1).unwrap_or_default();
            let is_label = |byte: &&u8| matches!(byte, b' ' | b'.' | b'0'..=b'9' | b'A'..=b'Z');
            let label_length = after.iter().take_while(is_label).count();
            let (label, after) = after.split_at_checked(label_length).unwrap_or_default();
            let behind = dashes(&mut after.iter());
            let is_word = rest.starts_with(b"BEGIN") || rest.starts_with(b"END");
            let label = std::str::from_utf8(label).unwrap_or_default();
            if before < DASHES || behind < DASHES || label.is_empty() || !is_word || space != b" " {
                let problem = match word {
                    Word::Begin => "a damaged BEGIN line; it must be `-----BEGIN …-----`",
                    Word::End => "a damaged END line; it must be `-----END …-----`",
                };
                return Err(error(text, start, problem));
            }
            return Ok(Some(Self {
                word,
                label,
                start,
                end: at + length + space.len() + label_length + DASHES,
            }));
        }
        Ok(None)
    }
}

impl Word {
    /// The word at the start of `text`, in any case, and its length.
    fn at(text: &[u8]) -> Option<(Self, usize)> {
        for (word, written) in [(Self::Begin, "BEGIN"), (Self::End, "END")] {
            let begin = text.get(..written.len());
            if begin.is_some_and(|begin| begin.eq_ignore_ascii_case(written.as_bytes())) {
                return Some((word, written.len()));
            }
        }
        None
    }
}

fn error(text: &[u8], at: usize, problem: impl Into<String>) -> PemError {
    PemError {
        line: line_of(text, at),
        problem: problem.into(),
    }
}

/// The line of an offset, counted from 1.
fn line_of(text: &[u8], at: usize) -> usize {
    let before = text.get(..at).unwrap_or(text);
    before.iter().filter(|&&byte| byte == b'\n').count() + 1
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const CERTIFICATE: &str = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";

    fn lines(text: &str) -> Result<Vec<usize>, String> {
        let blocks = blocks(text.as_bytes()).map_err(|error| error.to_string())?;
        Ok(blocks.iter().map(|block| block.line).collect())
    }

    #[test]
    fn blocks_know_their_lines() {
        let text = format!("text\n\n{CERTIFICATE}more text\n{CERTIFICATE}");
        assert_eq!(lines(&text), Ok(vec![3, 7]));
        assert_eq!(lines(""), Ok(vec![]));
        assert_eq!(lines("not PEM at all"), Ok(vec![]));
    }

    #[test]
    fn no_block_is_dropped() {
        let one = CERTIFICATE.trim_end();
        let crlf = one.replace('\n', "\r\n");
        for (text, expected) in [
            // Concatenated files without a final newline.
            (format!("{one}{one}"), vec![1, 3]),
            (format!("{one}{one}{one}\n"), vec![1, 3, 5]),
            (format!("{crlf}{crlf}"), vec![1, 3]),
            (format!("subject=CN = a{one}"), vec![1]),
            (format!("{one} {one}"), vec![1, 3]),
            // Saved with a byte order mark, and indented as in YAML.
            (format!("\u{feff}{one}"), vec![1]),
            (format!("    {}", one.replace('\n', "\n    ")), vec![1]),
            (one.replace('\n', "\r"), vec![1]),
            (one.replace('\n', ""), vec![1]),
            // Alternative labels of RFC 7468 §5.1, and blocks next to keys.
            (one.replace("CERTIFICATE", "X509 CERTIFICATE"), vec![1]),
            (
                format!("{}\n{one}", one.replace("CERTIFICATE", "EC PARAMETERS")),
                vec![4],
            ),
        ] {
            assert_eq!(lines(&text), Ok(expected), "{text:?}");
        }
    }

    #[test]
    fn a_damaged_block_is_an_error_with_its_line() {
        let one = CERTIFICATE.trim_end();
        let renamed = |label: &str| one.replace("CERTIFICATE", label);
        for (damaged, line, problem) in [
            ("-----BEGIN CERTIFICATE-----\nAAAA\n", 5, "END line"),
            (&one.replace("AAAA", "!!!!"), 5, "base64"),
            (&one.replace("AAAA", "AAAA\\nAAAA"), 5, "base64"),
            // The first block has no END line.
            (
                &format!("-----BEGIN CERTIFICATE-----\nAAAA\n{one}"),
                5,
                "END line",
            ),
            (&one[1..], 5, "damaged BEGIN"),
            (&one.replacen("-----\n", "----\n", 1), 5, "damaged BEGIN"),
            (&one[..one.len() - 1], 7, "damaged END"),
            (&one.to_lowercase(), 5, "damaged BEGIN"),
            (&one[28..], 6, "without its BEGIN"),
            (
                &one.replacen("CERTIFICATE", "PRIVATE KEY", 1),
                5,
                "ends as `CERTIFICATE`",
            ),
            (&renamed("TRUSTED CERTIFICATE"), 5, "openssl x509"),
            (&renamed("PKCS7"), 5, "openssl pkcs7"),
            (&renamed("X509 CRL"), 5, "revocation list"),
            (&renamed("CERTIFICATE REQUEST"), 5, "certificate request"),
            (
                &renamed("OPENSSH PRIVATE KEY"),
                5,
                "`OPENSSH PRIVATE KEY` block",
            ),
        ] {
            let text = format!("{CERTIFICATE}\n{damaged}");
            let error = blocks(text.as_bytes()).unwrap_err();
            assert_eq!(error.line, line, "{damaged}: {error}");
            assert!(error.to_string().contains(problem), "{damaged}: {error}");
        }
        let utf16 = "\u{feff}-----BEGIN"
            .encode_utf16()
            .flat_map(u16::to_le_bytes);
        let error = blocks(&utf16.collect::<Vec<_>>()).unwrap_err();
        assert!(error.to_string().contains("UTF-16"), "{error}");
    }

    proptest! {
        /// However blocks are joined and damaged, each is parsed or reported.
        #[test]
        fn every_remaining_block_is_parsed_or_an_error(
            count in 1..4_usize,
            separator in prop::sample::select(vec!["", "\n", "\r\n", " ", "text\n"]),
            cut in prop::option::of((0..200_usize, 1..60_usize)),
        ) {
            let mut text = [CERTIFICATE.trim_end(); 4][..count].join(separator);
            let whole = text.clone();
            if let Some((start, length)) = cut {
                let start = start.min(text.len());
                let end = (start + length).min(text.len());
                text.replace_range(start..end, "");
            }
            match blocks(text.as_bytes()) {
                Ok(found) if text == whole => prop_assert_eq!(found.len(), count),
                Ok(found) => {
                    let left = text.matches("BEGIN").count();
                    prop_assert!(found.len() >= left, "{} of {} in {:?}", found.len(), left, text);
                }
                Err(_) => prop_assert_ne!(text, whole),
            }
        }

        #[test]
        fn no_bytes_cause_a_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = blocks(&bytes);
        }
    }
}
