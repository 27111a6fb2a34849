//! PEM files: certificates and keys, each with the line that it begins at.

use rustls::pki_types::pem::{self, SectionKind};
use thiserror::Error;

/// One section of a PEM file.
#[derive(Debug)]
pub(super) struct Section {
    pub(super) kind: SectionKind,
    pub(super) der: Vec<u8>,
    /// Counted from 1.
    pub(super) line: usize,
}

/// A file is no PEM.
#[derive(Debug, PartialEq, Eq, Error)]
#[error("line {line}: {problem}")]
pub struct PemError {
    /// Where the section begins, counted from 1.
    pub line: usize,
    problem: &'static str,
}

/// The sections of a file, in its order. What is no certificate, key or list of revocations is
/// passed over, as everybody does: many files have text before each.
pub(super) fn sections(text: &[u8]) -> Result<Vec<Section>, PemError> {
    let mut rest = text;
    let mut found = Vec::new();
    loop {
        let read = text.len() - rest.len();
        let result = pem::from_buf(&mut rest);
        let line = line_of_begin(text, read);
        match result {
            Ok(Some((kind, der))) => found.push(Section { kind, der, line }),
            Ok(None) => return Ok(found),
            Err(error) => {
                let problem = match error {
                    pem::Error::MissingSectionEnd { .. } => "a section without its END line",
                    pem::Error::IllegalSectionStart { .. } => "a damaged BEGIN line",
                    pem::Error::Base64Decode(_) => "a section that is no base64",
                    _ => "no PEM",
                };
                return Err(PemError { line, problem });
            }
        }
    }
}

/// Whether a file has a key under a passphrase, which nobody is there to type.
pub(super) fn has_encrypted_key(text: &[u8]) -> bool {
    let mut lines = text.split(|&byte| byte == b'\n');
    lines.any(|line| {
        line.starts_with(b"-----BEGIN ENCRYPTED PRIVATE KEY")
            || line.starts_with(b"Proc-Type: 4,ENCRYPTED")
    })
}

/// The line of the first section after `from` bytes; the last line where there is none.
fn line_of_begin(text: &[u8], from: usize) -> usize {
    let (before, after) = text.split_at(from.min(text.len()));
    let passed = before.iter().filter(|&&byte| byte == b'\n').count();
    let lines = after.split(|&byte| byte == b'\n');
    let mut until = lines.take_while(|line| !line.starts_with(b"-----BEGIN"));
    passed + until.by_ref().count() + 1
}

#[cfg(test)]
mod tests {
    use super::*;

    const CERTIFICATE: &str = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";

    #[test]
    fn sections_know_their_lines() {
        let text = format!("text\n\n{CERTIFICATE}more text\n{CERTIFICATE}");
        let lines = sections(text.as_bytes()).unwrap();
        let lines: Vec<_> = lines.iter().map(|section| section.line).collect();
        assert_eq!(lines, [3, 7]);
        assert!(sections(b"").unwrap().is_empty());
        assert!(sections(b"no PEM at all").unwrap().is_empty());
    }

    #[test]
    fn what_is_damaged_is_told_with_its_line() {
        for (damaged, problem) in [
            ("-----BEGIN CERTIFICATE-----\nAAAA\n", "END line"),
            (
                "-----BEGIN CERTIFICATE-----\n!!!!\n-----END CERTIFICATE-----\n",
                "base64",
            ),
        ] {
            let text = format!("{CERTIFICATE}\n{damaged}");
            let error = sections(text.as_bytes()).unwrap_err();
            assert_eq!(error.line, 5, "{damaged}");
            assert!(error.to_string().contains(problem), "{error}");
        }
    }
}
