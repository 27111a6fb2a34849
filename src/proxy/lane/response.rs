//! The head that the client gets: the upstream's own, but for the connection's fields, with the
//! policy's CORS fields in place of the upstream's.

use http::{HeaderValue, Version};

use crate::proxy::edits::ResponseEdit;
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
    let received = match head.bytes.starts_with(b"HTTP/1.0") {
        true => Version::HTTP_10,
        false => Version::HTTP_11,
    };
    let edit = ResponseEdit {
        status: head.status,
        via: dressing.via.then_some(received),
        has_lists: head.has_lists,
        replaces_cors: dressing.cors.is_some(),
        vary: dressing.vary,
    };
    write_status_line(head, out);
    if head.is_clean {
        copy_runs(head.bytes, head.fields, out, |field| {
            edit.keeps(field.name, head.fields)
        });
    } else {
        for field in head.fields {
            if edit.keeps(field.name, head.fields) {
                write_line(field.name.as_bytes(), field.value, out);
            }
        }
    }
    if is_chunked(head) {
        out.extend_from_slice(b"transfer-encoding: chunked\r\n");
    }
    out.extend_from_slice(dressing.cors.unwrap_or_default());
    edit.add(head.fields, out);
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
