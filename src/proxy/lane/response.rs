//! The head that the client gets: the upstream's own, but for the connection's fields, with the
//! policy's CORS fields in place of the upstream's.

use http::{HeaderValue, StatusCode};
use httparse::Header;

use crate::cors::merged_vary;
use crate::proxy::connection_fields;
use crate::proxy::wire::{CLOSE, ResponseBody, ResponseHead, copy_runs};

/// What is set on a response.
pub(super) struct Dressing<'a> {
    /// The policy's fields, as lines; `None`: CORS is the upstream's business.
    pub(super) cors: Option<&'a [u8]>,
    /// What `Vary` has to name.
    pub(super) vary: Option<&'static HeaderValue>,
    pub(super) via: bool,
    /// Whether the client's connection ends with it.
    pub(super) closes: bool,
}

/// Whether a response's body goes to the client in chunks.
fn is_chunked(head: &ResponseHead<'_, '_>) -> bool {
    match head.body {
        ResponseBody::Length(_) => false,
        ResponseBody::Chunked | ResponseBody::UntilClose => true,
    }
}

/// Writes the head but for `Date` and its end.
pub(super) fn write_for_client(
    head: &ResponseHead<'_, '_>,
    dressing: &Dressing<'_>,
    out: &mut Vec<u8>,
) {
    write_status_line(head, out);
    let is_kept = |name: &str| {
        let is_cors = dressing.cors.is_some() && is_cors_field(name);
        let is_merged = dressing.vary.is_some() && name.eq_ignore_ascii_case("vary");
        let is_listed = head.has_lists && is_listed(head.fields, name);
        !(connection_fields::includes(name) || is_cors || is_merged || is_listed)
    };
    // A body that cannot be has no length (RFC 9110 §8.6).
    let has_no_length = head.status == StatusCode::NO_CONTENT;
    if head.is_clean && !has_no_length {
        copy_runs(head.bytes, head.fields, out, |field| is_kept(field.name));
    } else {
        for field in head.fields {
            let is_length = has_no_length && field.name.eq_ignore_ascii_case("content-length");
            if is_kept(field.name) && !is_length {
                write_line(field.name.as_bytes(), field.value, out);
            }
        }
    }
    if is_chunked(head) {
        out.extend_from_slice(b"transfer-encoding: chunked\r\n");
    }
    if dressing.via {
        // The version in which it was received.
        out.extend_from_slice(match head.bytes.starts_with(b"HTTP/1.0") {
            true => b"via: 1.0 s3cors\r\n",
            false => b"via: 1.1 s3cors\r\n",
        });
    }
    out.extend_from_slice(dressing.cors.unwrap_or_default());
    if let Some(names) = dressing.vary {
        if head.has_vary {
            let is_vary = |name: &str| name.eq_ignore_ascii_case("vary");
            let lines = head.fields.iter().filter(|field| is_vary(field.name));
            let lines = lines.map(|field| field.value).chain([names.as_bytes()]);
            write_line(b"vary", &merged_vary(lines), out);
        } else {
            write_line(b"vary", names.as_bytes(), out);
        }
    }
    if dressing.closes {
        out.extend_from_slice(CLOSE);
    }
}

fn write_status_line(head: &ResponseHead<'_, '_>, out: &mut Vec<u8>) {
    out.extend_from_slice(b"HTTP/1.1 ");
    out.extend_from_slice(head.status.as_str().as_bytes());
    out.push(b' ');
    out.extend_from_slice(head.reason.as_bytes());
    out.extend_from_slice(b"\r\n");
}

/// Writes a field.
pub(super) fn write_line(name: &[u8], value: &[u8], out: &mut Vec<u8>) {
    for part in [name, b": ", value, b"\r\n"] {
        out.extend_from_slice(part);
    }
}

fn is_cors_field(name: &str) -> bool {
    const PREFIX: &str = "access-control-";
    let start = name.as_bytes().get(..PREFIX.len());
    start.is_some_and(|start| start.eq_ignore_ascii_case(PREFIX.as_bytes()))
}

/// Whether `Connection`, on whichever line, names a field that may be taken out so.
fn is_listed(fields: &[Header<'_>], name: &str) -> bool {
    let lines = fields
        .iter()
        .filter(|field| field.name.eq_ignore_ascii_case("connection"));
    let mut listed = lines.flat_map(|line| line.value.split(|&byte| byte == b','));
    listed.any(|listed| listed.trim_ascii().eq_ignore_ascii_case(name.as_bytes()))
        && !connection_fields::is_end_to_end(name)
}
