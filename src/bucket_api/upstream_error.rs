//! Parses an upstream's error document, strictly.

use http::StatusCode;
use quick_xml::Reader;
use quick_xml::escape::resolve_xml_entity;
use quick_xml::events::Event;

use super::error::ApiError;

/// The elements that are used; each occurs at most once.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct UpstreamError {
    pub(super) code: String,
    pub(super) message: String,
    pub(super) bucket: Option<String>,
    pub(super) key: Option<String>,
    pub(super) resource: Option<String>,
    pub(super) region: Option<String>,
}

/// Codes that are passed on; a client may react to them.
const CODES: [(&str, StatusCode); 14] = [
    ("AccessDenied", StatusCode::FORBIDDEN),
    ("AuthorizationHeaderMalformed", StatusCode::BAD_REQUEST),
    ("AuthorizationQueryParametersError", StatusCode::BAD_REQUEST),
    ("ExpiredToken", StatusCode::BAD_REQUEST),
    ("InvalidAccessKeyId", StatusCode::FORBIDDEN),
    ("InvalidBucketName", StatusCode::BAD_REQUEST),
    ("InvalidToken", StatusCode::BAD_REQUEST),
    ("InvalidTokenId", StatusCode::FORBIDDEN),
    ("NoSuchBucket", StatusCode::NOT_FOUND),
    ("PermanentRedirect", StatusCode::MOVED_PERMANENTLY),
    ("RequestTimeTooSkewed", StatusCode::FORBIDDEN),
    ("SignatureDoesNotMatch", StatusCode::FORBIDDEN),
    ("SlowDown", StatusCode::SERVICE_UNAVAILABLE),
    (
        "XMinioServerNotInitialized",
        StatusCode::SERVICE_UNAVAILABLE,
    ),
];

impl UpstreamError {
    /// Parses a document; `None` if it is not an S3 error document.
    pub(super) fn read(document: &[u8]) -> Option<Self> {
        let mut reader = Reader::from_str(std::str::from_utf8(document).ok()?);
        let mut found = Self::default();
        let (mut code, mut message) = (None, None);
        let mut path: Vec<String> = Vec::new();
        let mut text = String::new();
        let mut roots = 0;
        loop {
            match reader.read_event().ok()? {
                Event::Start(tag) => {
                    roots += usize::from(path.is_empty());
                    path.push(tag.name().into_inner().to_owned());
                    text.clear();
                }
                Event::Empty(tag) => {
                    roots += usize::from(path.is_empty());
                    // It could hide one with a text.
                    if path == ["Error"] && ["Key", "BucketName"].contains(&tag.name().into_inner())
                    {
                        return None;
                    }
                }
                Event::End(_) => {
                    let name = path.pop()?;
                    if path != ["Error"] {
                        continue;
                    }
                    let text = std::mem::take(&mut text);
                    let place = match &*name {
                        "Code" => &mut code,
                        "Message" => &mut message,
                        "BucketName" => &mut found.bucket,
                        "Key" => &mut found.key,
                        "Resource" => &mut found.resource,
                        "Region" => &mut found.region,
                        _ => continue,
                    };
                    if place.replace(text).is_some() {
                        return None;
                    }
                }
                Event::Text(content) => text.push_str(&content.xml10_content()),
                Event::CData(content) => text.push_str(&content.xml10_content()),
                Event::GeneralRef(reference) => match reference.resolve_char_ref().ok()? {
                    Some(character) => text.push(character),
                    None => text.push_str(resolve_xml_entity(&reference)?),
                },
                Event::DocType(_) => return None,
                Event::Eof => break,
                Event::Decl(_) | Event::Comment(_) | Event::PI(_) => {}
            }
        }
        found.code = code?;
        found.message = message.unwrap_or_default();
        (roots == 1 && path.is_empty()).then_some(found)
    }

    /// The error for the client; an unknown code is a refusal.
    pub(super) fn passed_on(&self) -> ApiError {
        let known = CODES.iter().find(|(code, _)| *code == self.code);
        let Some((code, status)) = known else {
            return ApiError::access_denied("Access Denied");
        };
        let error = ApiError::new(*status, code, &*self.message);
        match &self.region {
            Some(region) => error.with("Region", &**region),
            None => error,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_an_error_document_is_parsed() {
        let document = b"<?xml version=\"1.0\"?>\n<Error><Code>NotImplemented</Code><Message>a &amp; b</Message>\
            <BucketName>photos</BucketName><Resource>/photos/</Resource></Error>";
        let error = UpstreamError::read(document).unwrap();
        assert_eq!(error.code, "NotImplemented");
        assert_eq!(error.message, "a & b");
        assert_eq!(error.bucket.as_deref(), Some("photos"));
        for document in [
            "",
            "Not Implemented",
            "<html><Error><Code>NotImplemented</Code></Error></html>",
            "<Error><Code>NotImplemented</Code></Error><Error/>",
            "<Error><Code>a</Code><Code>NotImplemented</Code></Error>",
            "<Error><Code>NotImplemented</Code><Key>x</Key><Key></Key></Error>",
            "<Error><Code>NotImplemented</Code><Resource>/a</Resource><Resource>/b</Resource></Error>",
            "<Error><a><Code>NotImplemented</Code></a></Error>",
            "<Error><Code>NotImplemented</Code>",
            "<!DOCTYPE Error><Error><Code>NotImplemented</Code></Error>",
            "<Errors><Code>NotImplemented</Code></Errors>",
            "<Error/>",
        ] {
            assert_eq!(UpstreamError::read(document.as_bytes()), None, "{document}");
        }
    }

    #[test]
    fn an_unknown_code_is_a_refusal() {
        let error = |code: &str| UpstreamError {
            code: code.to_owned(),
            ..UpstreamError::default()
        };
        assert_eq!(
            error("NoSuchBucket").passed_on().status,
            StatusCode::NOT_FOUND
        );
        for code in ["NotImplemented", "OK", ""] {
            assert_eq!(error(code).passed_on().code, "AccessDenied", "{code}");
        }
    }
}
