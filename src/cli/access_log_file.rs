//! Access logs as they lie on disk: plain, or compressed by `logrotate`.

use std::fs::File;
use std::io::{self, BufRead, BufReader};
use std::path::Path;

use flate2::bufread::MultiGzDecoder;

/// The first bytes of a gzip file (RFC 1952 §2.3.1).
const GZIP: &[u8] = b"\x1f\x8b";

/// How much is decompressed at a time.
const BUFFER: usize = 64 << 10;

/// Opens a log; `-` is standard input. A gzip file is recognised by its first bytes, whatever its name.
pub(super) fn open(log: &Path) -> io::Result<Box<dyn BufRead>> {
    let mut reader: Box<dyn BufRead> = match log == Path::new("-") {
        true => Box::new(BufReader::new(io::stdin())),
        false => Box::new(BufReader::new(File::open(log)?)),
    };
    if !reader.fill_buf()?.starts_with(GZIP) {
        return Ok(reader);
    }
    // Appended files are several members, one after the other.
    let decoder = MultiGzDecoder::new(reader);
    Ok(Box::new(BufReader::with_capacity(BUFFER, decoder)))
}
