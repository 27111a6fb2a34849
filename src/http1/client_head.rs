//! Writes the response head for the client: the upstream's, without its connection fields, and with
//! the policy's CORS fields instead of the upstream's.

use http::{HeaderValue, StatusCode, Version};

use crate::cors::ReplacedFields;

use super::body::Coding;
use super::fields::{CLOSE, copy_runs};
use super::response_edit::ResponseEdit;
use super::response_head::{ResponseFraming, ResponseHead};

/// What is set on a response.
pub(crate) struct ClientHead<'a> {
    /// The policy's fields, as lines; `None`: the upstream decides about CORS.
    pub(crate) cors: Option<&'a [u8]>,
    /// Which fields beyond CORS these lines replace.
    pub(crate) replaced: ReplacedFields,
    /// The field names that `Vary` must list.
    pub(crate) vary: Option<&'static HeaderValue>,
    pub(crate) via: bool,
    /// How a body of unknown length is sent to the client.
    pub(crate) coding: Coding,
    /// The lines that say whether the client's connection stays open.
    pub(crate) ends: &'static [u8],
}

/// Whether a response's body has no known length.
pub(crate) fn is_unsized(head: &ResponseHead<'_, '_>) -> bool {
    match head.body {
        ResponseFraming::Length(_) => false,
        ResponseFraming::Chunked | ResponseFraming::UntilClose => true,
    }
}

/// Writes an interim response unchanged, except for connection fields.
pub(crate) fn write_interim(head: &ResponseHead<'_, '_>, out: &mut Vec<u8>) {
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

/// Writes the head of a response that switches protocols, unchanged.
pub(crate) fn write_switch(head: &ResponseHead<'_, '_>, out: &mut Vec<u8>) {
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

/// Writes the head, without `Date` and the final empty line.
pub(crate) fn write_for_client(
    head: &ResponseHead<'_, '_>,
    client_head: &ClientHead<'_>,
    out: &mut Vec<u8>,
) {
    let received = match head.bytes.starts_with(b"HTTP/1.0") {
        true => Version::HTTP_10,
        false => Version::HTTP_11,
    };
    let edit = ResponseEdit {
        status: head.status,
        via: client_head.via.then_some(received),
        has_lists: head.has_lists,
        replaces_cors: client_head.cors.is_some(),
        replaced: client_head.replaced,
        vary: client_head.vary,
        keeps_upgrade: head.status == StatusCode::UPGRADE_REQUIRED
            && client_head.coding == Coding::Chunks,
    };
    write_status_line(head, out);
    write_fields(head, &edit, out);
    if is_unsized(head) && client_head.coding == Coding::Chunks {
        out.extend_from_slice(b"transfer-encoding: chunked\r\n");
    }
    out.extend_from_slice(client_head.cors.unwrap_or_default());
    edit.add(head.fields, out);
    out.extend_from_slice(client_head.ends);
}

fn write_status_line(head: &ResponseHead<'_, '_>, out: &mut Vec<u8>) {
    out.extend_from_slice(b"HTTP/1.1 ");
    out.extend_from_slice(head.status.as_str().as_bytes());
    out.push(b' ');
    out.extend_from_slice(head.reason.as_bytes());
    out.extend_from_slice(b"\r\n");
}

/// Writes a field.
pub(crate) fn write_line(name: &[u8], value: &[u8], out: &mut Vec<u8>) {
    for part in [name, b": ", value, b"\r\n"] {
        out.extend_from_slice(part);
    }
}

/// The lines that say whether the connection stays open, if that is not the version's default.
pub(crate) fn ends(close: bool, is_http10: bool) -> &'static [u8] {
    match (close, is_http10) {
        (true, _) => CLOSE,
        (false, true) => b"connection: keep-alive\r\n",
        (false, false) => b"",
    }
}
