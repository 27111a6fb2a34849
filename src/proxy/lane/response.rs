//! The head that the client gets: the upstream's own, but for the connection's fields, with the
//! policy's CORS fields in place of the upstream's.

use http::{HeaderValue, StatusCode, Version};

use crate::cors::ReplacedFields;
use crate::proxy::edits::ResponseEdit;
use crate::proxy::wire::{ResponseBody, ResponseHead, copy_runs};

use super::body::Coding;

/// What is set on a response.
pub(super) struct Dressing<'a> {
    /// The policy's fields, as lines; `None`: CORS is the upstream's business.
    pub(super) cors: Option<&'a [u8]>,
    /// The fields beyond CORS among them.
    pub(super) replaced: ReplacedFields,
    /// What `Vary` has to name.
    pub(super) vary: Option<&'static HeaderValue>,
    pub(super) via: bool,
    /// How a body whose length is not known goes to the client.
    pub(super) coding: Coding,
    /// The lines that say whether the client's connection goes on.
    pub(super) ends: &'static [u8],
}

/// Whether a response's body has no length that is known.
pub(super) fn is_unsized(head: &ResponseHead<'_, '_>) -> bool {
    match head.body {
        ResponseBody::Length(_) => false,
        ResponseBody::Chunked | ResponseBody::UntilClose => true,
    }
}

/// Writes an interim response: as it came, but for the fields of one connection.
pub(super) fn write_interim(head: &ResponseHead<'_, '_>, out: &mut Vec<u8>) {
    let edit = ResponseEdit {
        status: head.status,
        via: None,
        has_lists: head.has_lists,
        replaces_cors: false,
        replaced: ReplacedFields::default(),
        vary: None,
        keeps_upgrade: false,
    };
    write_status_line(head, out);
    write_fields(head, &edit, out);
    out.extend_from_slice(b"\r\n");
}

/// Writes the head of a response that switches to another protocol: as it came.
pub(super) fn write_switch(head: &ResponseHead<'_, '_>, out: &mut Vec<u8>) {
    write_status_line(head, out);
    for field in head.fields {
        write_line(field.name.as_bytes(), field.value, out);
    }
    out.extend_from_slice(b"\r\n");
}

/// Writes the fields that an edit keeps.
fn write_fields(head: &ResponseHead<'_, '_>, edit: &ResponseEdit, out: &mut Vec<u8>) {
    let keeps = |name: &str| edit.keeps(name, head.fields);
    if head.is_clean {
        copy_runs(head.bytes, head.fields, out, |field| keeps(field.name));
    } else {
        for field in head.fields.iter().filter(|field| keeps(field.name)) {
            write_line(field.name.as_bytes(), field.value, out);
        }
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
        replaced: dressing.replaced,
        vary: dressing.vary,
        keeps_upgrade: head.status == StatusCode::UPGRADE_REQUIRED
            && dressing.coding == Coding::Chunks,
    };
    write_status_line(head, out);
    write_fields(head, &edit, out);
    if is_unsized(head) && dressing.coding == Coding::Chunks {
        out.extend_from_slice(b"transfer-encoding: chunked\r\n");
    }
    out.extend_from_slice(dressing.cors.unwrap_or_default());
    edit.add(head.fields, out);
    out.extend_from_slice(dressing.ends);
}

fn write_status_line(head: &ResponseHead<'_, '_>, out: &mut Vec<u8>) {
    out.extend_from_slice(b"HTTP/1.1 ");
    out.extend_from_slice(head.status.as_str().as_bytes());
    out.push(b' ');
    out.extend_from_slice(head.reason.as_bytes());
    out.extend_from_slice(b"\r\n");
}

/// Writes a field.
pub(in crate::proxy) fn write_line(name: &[u8], value: &[u8], out: &mut Vec<u8>) {
    for part in [name, b": ", value, b"\r\n"] {
        out.extend_from_slice(part);
    }
}
