//! S3's error document.

use std::borrow::Cow;

use super::decision::{Cause, Denial};
use super::xml::is_xml_character;

/// An error in S3's format: root `Error`, no namespace, elements in S3's order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct S3Error<'a> {
    /// `Code`, for programs.
    pub code: &'a str,
    /// `Message`, for people.
    pub message: Cow<'a, str>,
    /// `Method` and `ResourceType` of a refused preflight.
    pub resource: Option<(Cow<'a, str>, ResourceType)>,
}

/// What a request's path names.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ResourceType {
    /// A bucket: the path names no key.
    Bucket,
    /// An object.
    Object,
}

/// S3's message for a preflight that no rule allows, including S3's typo.
pub const NOT_ALLOWED: &str = "CORSResponse: This CORS request is not allowed. This is usually because the evalution of Origin, request method / Access-Control-Request-Method or Access-Control-Request-Headers are not whitelisted by the resource's CORS spec.";
const NOT_ENABLED: &str = "CORSResponse: CORS is not enabled for this bucket.";
const BUCKET_NOT_FOUND: &str = "CORSResponse: Bucket not found";
const NO_ORIGIN: &str = "Insufficient information. Origin request header needed.";

impl<'a> S3Error<'a> {
    /// The document of a refused preflight whose path names a `resource`.
    #[must_use]
    pub fn of(denial: &'a Denial, resource: ResourceType) -> Self {
        let requested = denial
            .requested_method
            .as_ref()
            .map(|method| String::from_utf8_lossy(method.as_bytes()));
        let forbidden = |message, method: Option<_>, resource| Self {
            code: "AccessForbidden",
            message: Cow::Borrowed(message),
            resource: Some((method.unwrap_or("OPTIONS".into()), resource)),
        };
        let bad = |message| Self {
            code: "BadRequest",
            message,
            resource: None,
        };
        match &denial.cause {
            Cause::MissingOrigin => bad(NO_ORIGIN.into()),
            Cause::BucketNotFound => forbidden(BUCKET_NOT_FOUND, None, ResourceType::Bucket),
            Cause::NotEnabled => forbidden(NOT_ENABLED, requested, ResourceType::Bucket),
            Cause::MalformedOrigin | Cause::NoRule(_) => {
                forbidden(NOT_ALLOWED, requested, resource)
            }
            Cause::InvalidMethod => {
                let value = requested.as_deref().unwrap_or("null");
                bad(format!("Invalid Access-Control-Request-Method: {value}").into())
            }
            Cause::InvalidHeaders(Some(name)) => {
                let name = String::from_utf8_lossy(name.as_bytes());
                bad(format!(
                    "Access-Control-Request-Headers \"{name}\" contains invalid character."
                )
                .into())
            }
            Cause::InvalidHeaders(None) => {
                bad("Access-Control-Request-Headers has too many names.".into())
            }
        }
    }

    /// The document, with the IDs that the log has for the request.
    #[must_use]
    pub fn to_xml(&self, request_id: &str, host_id: &str) -> String {
        let details = self.resource.as_ref().map(|(method, resource)| {
            let resource = match resource {
                ResourceType::Bucket => "BUCKET",
                ResourceType::Object => "OBJECT",
            };
            [("Method", &**method), ("ResourceType", resource)]
        });
        let details = details.iter().flatten().copied();
        error_document(self.code, &self.message, details, request_id, host_id)
    }
}

/// S3's error document; `details` are the elements between `Message` and `RequestId`. They and the
/// message may contain client input.
pub(crate) fn error_document<'d>(
    code: &str,
    message: &str,
    details: impl Iterator<Item = (&'d str, &'d str)>,
    request_id: &str,
    host_id: &str,
) -> String {
    let mut xml = String::with_capacity(512);
    xml.push_str("<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<Error>");
    element(&mut xml, "Code", code);
    element(&mut xml, "Message", &allowed(message));
    for (name, text) in details {
        element(&mut xml, name, &allowed(text));
    }
    element(&mut xml, "RequestId", request_id);
    element(&mut xml, "HostId", host_id);
    xml.push_str("</Error>");
    xml
}

/// Replaces characters that XML forbids with U+FFFD, because no parser accepts them, even escaped.
fn allowed(text: &str) -> Cow<'_, str> {
    // XML forbids control characters, and U+FFFE and U+FFFF, whose first byte is 0xEF. Checks all
    // bytes, so that it is vectorized.
    let may_be_forbidden = |found, byte| found | (byte < b' ') | (byte == 0xef);
    if !text.bytes().fold(false, may_be_forbidden) {
        return Cow::Borrowed(text);
    }
    let characters = text.chars();
    let replaced = characters.map(|character| match is_xml_character(character) {
        true => character,
        false => char::REPLACEMENT_CHARACTER,
    });
    Cow::Owned(replaced.collect())
}

fn element(xml: &mut String, name: &str, text: &str) {
    for part in [
        "<",
        name,
        ">",
        &quick_xml::escape::minimal_escape(text),
        "</",
        name,
        ">",
    ] {
        xml.push_str(part);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn document(text: &str) -> String {
        let details = [("ArgumentValue", text)].into_iter();
        error_document("InvalidArgument", text, details, "request", "host")
    }

    #[test]
    fn characters_that_xml_forbids_are_replaced() {
        for (text, expected) in [
            ("a\u{1}b", "a\u{fffd}b"),
            ("\0", "\u{fffd}"),
            ("\u{1b}[31m", "\u{fffd}[31m"),
            ("\u{ffff}<", "\u{fffd}&lt;"),
            ("\u{fffe}\u{fffd}", "\u{fffd}\u{fffd}"),
            ("tab\tand\nline", "tab\tand\nline"),
            ("\u{7f}é", "\u{7f}é"),
        ] {
            let document = document(text);
            for name in ["Message", "ArgumentValue"] {
                let element = format!("<{name}>{expected}</{name}>");
                assert!(document.contains(&element), "{text:?}: {document}");
            }
        }
    }

    proptest! {
        #[test]
        fn every_document_has_only_valid_xml_characters(text in any::<String>()) {
            prop_assert!(document(&text).chars().all(is_xml_character));
        }
    }
}
