//! S3's error document.

use super::decision::{Cause, Denial};

/// An error as S3 writes it: root `Error`, no namespace, elements in S3's order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct S3Error<'a> {
    /// `Code`, for programs.
    pub code: &'a str,
    /// `Message`, for people.
    pub message: std::borrow::Cow<'a, str>,
    /// `Method` and `ResourceType`, of a refused preflight.
    pub resource: Option<(std::borrow::Cow<'a, str>, ResourceType)>,
}

/// What a request's path names.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ResourceType {
    /// A bucket: the path names no key.
    Bucket,
    /// An object.
    Object,
}

/// S3's message for a preflight that no rule allows, with S3's own spelling.
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
            message: std::borrow::Cow::Borrowed(message),
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

    /// The document, with the ids under which the log knows the request.
    #[must_use]
    pub fn to_xml(&self, request_id: &str, host_id: &str) -> String {
        let mut xml = String::with_capacity(512);
        xml.push_str("<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<Error>");
        element(&mut xml, "Code", self.code);
        element(&mut xml, "Message", &self.message);
        if let Some((method, resource)) = &self.resource {
            element(&mut xml, "Method", method);
            let resource = match resource {
                ResourceType::Bucket => "BUCKET",
                ResourceType::Object => "OBJECT",
            };
            element(&mut xml, "ResourceType", resource);
        }
        element(&mut xml, "RequestId", request_id);
        element(&mut xml, "HostId", host_id);
        xml.push_str("</Error>");
        xml
    }
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
