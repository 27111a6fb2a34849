//! The text of a config file: read, and decoded as UTF-8.

use std::path::Path;
use std::sync::Arc;

use super::diagnostic::Diagnostic;
use super::files::Files;
use super::read::readable;
use super::report::{Report, SYNTAX};
use super::source::SourceFile;

/// The largest config that is read, in bytes.
const MAX_CONFIG: u64 = 16 * 1024 * 1024;

pub(super) fn read_config(
    path: &Path,
    files: &mut Files,
    report: &mut Report,
) -> Option<Arc<SourceFile>> {
    let bytes = match files.read(path, MAX_CONFIG) {
        Ok(bytes) => bytes,
        Err(error) => {
            let message = format!("the config {error}");
            let diagnostic = Diagnostic::error("unreadable-file", message);
            let diagnostic = diagnostic.of(&SourceFile::unread(path));
            report.push(if error.is_not_found() {
                diagnostic.help("`s3cors config defaults` prints one to start with")
            } else {
                readable(diagnostic, &error)
            });
            return None;
        }
    };
    decode(path, &bytes, report)
}

pub(super) fn decode(path: &Path, bytes: &[u8], report: &mut Report) -> Option<Arc<SourceFile>> {
    let file = SourceFile::new(path, bytes);
    if let Some(form) = utf16(bytes) {
        let diagnostic = Diagnostic::error(SYNTAX, "the config is UTF-16, not UTF-8");
        let help = format!("save it as UTF-8; `iconv -f {form} -t UTF-8` converts it");
        report.push(diagnostic.help(help).at(&file, 0..0));
        return None;
    }
    if let Err(error) = std::str::from_utf8(bytes) {
        let at = error.valid_up_to();
        let diagnostic = Diagnostic::error(SYNTAX, "the config is not UTF-8");
        let byte = bytes.get(at).map(|byte| format!("byte 0x{byte:02x}"));
        report.push(
            diagnostic
                .detail(byte.unwrap_or_default())
                .at(&file, at..at),
        );
        return None;
    }
    if let Some(at) = text_begins(bytes).filter(|at| bytes.get(*at) == Some(&b'<')) {
        let diagnostic = Diagnostic::error(SYNTAX, "the config is XML, not TOML");
        let help = "check a policy with `s3cors check FILE`; to serve it, set a route's `cors` to its path";
        report.push(diagnostic.help(help).at(&file, at..at + 1));
        return None;
    }
    Some(file)
}

fn text_begins(bytes: &[u8]) -> Option<usize> {
    let mark = bytes.strip_prefix(b"\xef\xbb\xbf").map_or(0, |_| 3);
    let rest = bytes.get(mark..)?;
    let spaces = rest.iter().position(|byte| !byte.is_ascii_whitespace())?;
    Some(mark + spaces)
}

/// Detects UTF-16 by its byte order mark or by the zeros in its ASCII.
fn utf16(bytes: &[u8]) -> Option<&'static str> {
    match bytes {
        [0xff, 0xfe, ..] | [0xfe, 0xff, ..] => Some("UTF-16"),
        [first, 0, ..] if *first != 0 => Some("UTF-16LE"),
        [0, second, ..] if *second != 0 => Some("UTF-16BE"),
        _ => None,
    }
}
