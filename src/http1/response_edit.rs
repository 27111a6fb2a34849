//! What changes in a response on its way to the client, each rule written once: for heads as bytes
//! (HTTP/1.1) and as header maps (HTTP/2).
//!
//! An edit decides for each field whether it stays (`keeps`), then adds fields to a [`FieldSink`]
//! (`add`). Everything else stays as it came, byte for byte.

use bytes::Bytes;
use http::header::{CONNECTION, UPGRADE, VARY, VIA};
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, Version};

use crate::cors::{ReplacedFields, is_cors_field, merged_vary};

use super::connection_fields::{includes, removed_by_connection};
use super::fields::{Fields, is_named};

/// Receives the fields that an edit adds.
pub(crate) trait FieldSink {
    /// Adds a field; `write` appends its value to a buffer.
    fn field(&mut self, name: &HeaderName, write: impl FnOnce(&mut Vec<u8>));

    /// Adds a field with a constant value.
    fn constant(&mut self, name: &HeaderName, value: &'static str);
}

/// Writes HTTP/1.1 field lines to the end of a head.
impl FieldSink for Vec<u8> {
    fn field(&mut self, name: &HeaderName, write: impl FnOnce(&mut Self)) {
        self.extend_from_slice(name.as_str().as_bytes());
        self.extend_from_slice(b": ");
        write(self);
        self.extend_from_slice(b"\r\n");
    }

    fn constant(&mut self, name: &HeaderName, value: &'static str) {
        for part in [name.as_str(), ": ", value, "\r\n"] {
            self.extend_from_slice(part.as_bytes());
        }
    }
}

/// The changes to a client's response, except for the CORS fields that grant access.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ResponseEdit {
    pub(crate) status: StatusCode,
    /// The version in which the response was received; `None`: do not add `Via`.
    pub(crate) via: Option<Version>,
    /// Whether `Connection` may list fields.
    pub(crate) has_lists: bool,
    /// Whether a policy decides about CORS instead of the upstream.
    pub(crate) replaces_cors: bool,
    /// The fields beyond CORS that the policy sets.
    pub(crate) replaced: ReplacedFields,
    /// The field names that `Vary` must list.
    pub(crate) vary: Option<&'static HeaderValue>,
    /// Whether `Upgrade` stays, which names the required protocol for a client that could use it
    /// ([RFC 9110 §15.5.22]).
    ///
    /// [RFC 9110 §15.5.22]: https://www.rfc-editor.org/rfc/rfc9110#section-15.5.22
    pub(crate) keeps_upgrade: bool,
}

impl ResponseEdit {
    /// Applies the edit to a header map.
    pub(crate) fn apply(&self, fields: &mut HeaderMap) {
        let mut added = Added::default();
        self.add(fields, &mut added);
        added.replace(fields, |name, fields| self.keeps(name, fields));
    }

    /// Whether a field stays as it came.
    pub(crate) fn keeps(&self, name: &str, fields: &(impl Fields + ?Sized)) -> bool {
        let is = |other: &str| is_named(name, other);
        if self.keeps_upgrade && is("upgrade") {
            return true;
        }
        !(includes(name)
            || self.replaces_cors && (is_cors_field(name) || self.replaced.includes(name))
            || self.vary.is_some() && is("vary")
            || self.has_lists && removed_by_connection(name, fields)
            // A response that cannot have a body has no length (RFC 9110 §8.6).
            || (self.status == StatusCode::NO_CONTENT || self.status.is_informational())
                && is("content-length"))
    }

    /// Adds the proxy's fields; `fields` are those that the response arrived with.
    pub(crate) fn add(&self, fields: &(impl Fields + ?Sized), out: &mut impl FieldSink) {
        if let Some(received) = self.via {
            add_via(received, out);
        }
        if self.keeps_upgrade && fields.field_values(&UPGRADE).next().is_some() {
            out.constant(&CONNECTION, "upgrade");
        }
        if let Some(names) = self.vary {
            out.field(&VARY, |out| match fields.field_values(&VARY).next() {
                None => out.extend_from_slice(names.as_bytes()),
                Some(_) => {
                    let lines = fields.field_values(&VARY).chain([names.as_bytes()]);
                    out.extend_from_slice(&merged_vary(lines));
                }
            });
        }
    }
}

/// Adds `Via`: the version in which the message was received, and this proxy's pseudonym ([RFC 9110
/// §7.6.3]).
///
/// [RFC 9110 §7.6.3]: https://www.rfc-editor.org/rfc/rfc9110#section-7.6.3
pub(crate) fn add_via(received: Version, out: &mut impl FieldSink) {
    out.constant(
        &VIA,
        match received {
            Version::HTTP_2 => "2.0 s3cors",
            Version::HTTP_10 => "1.0 s3cors",
            _ => "1.1 s3cors",
        },
    );
}

/// Fields to add to a map once the edit has read all of it.
#[derive(Debug, Default)]
pub(crate) struct Added(Vec<(HeaderName, HeaderValue)>);

impl FieldSink for Added {
    fn field(&mut self, name: &HeaderName, write: impl FnOnce(&mut Vec<u8>)) {
        let mut value = Vec::new();
        write(&mut value);
        // The value is made of parts of valid field values, so it is valid.
        if let Ok(value) = HeaderValue::from_maybe_shared(Bytes::from(value)) {
            self.0.push((name.clone(), value));
        }
    }

    fn constant(&mut self, name: &HeaderName, value: &'static str) {
        self.0.push((name.clone(), HeaderValue::from_static(value)));
    }
}

impl Added {
    /// Removes the fields that do not stay, and inserts the added ones.
    pub(crate) fn replace(self, fields: &mut HeaderMap, keeps: impl Fn(&str, &HeaderMap) -> bool) {
        let goes = |name: &&HeaderName| !keeps(name.as_str(), fields);
        let gone: Vec<HeaderName> = fields.keys().filter(goes).cloned().collect();
        for name in gone {
            fields.remove(name);
        }
        for (name, value) in self.0 {
            fields.append(name, value);
        }
    }
}
