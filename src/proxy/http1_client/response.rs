//! A response's head as a header map whose values share one buffer.

use bytes::{Bytes, BytesMut};
use http::{HeaderMap, HeaderName, HeaderValue, Response, Version};

use crate::http1::body::BodyReader;
use crate::http1::chunked::TrailerPolicy;
use crate::http1::fields::offset;
use crate::http1::response_head::ResponseHead;
use crate::proxy::http1_heads::ReasonPhrase;
use crate::upstream::http1_response::NoReply;

use super::response_body::RemainingBody;

/// About how many fields are added to the upstream's: `Via`, `Date`, CORS.
const OUR_FIELDS: usize = 9;

/// A response's head, and what came after it.
pub(super) struct ReadResponse {
    pub(super) head: Response<()>,
    pub(super) rest: RemainingBody,
}

impl ReadResponse {
    /// The response with this head; `rest` is the beginning of its body.
    pub(super) fn new(head: &ResponseHead<'_, '_>, rest: &[u8]) -> Result<Self, NoReply> {
        // One buffer for all values and the beginning of the body.
        let mut bytes = BytesMut::with_capacity(head.bytes.len() + rest.len());
        bytes.extend_from_slice(head.bytes);
        bytes.extend_from_slice(rest);
        let bytes = bytes.freeze();
        let mut fields = HeaderMap::with_capacity(head.fields.len() + OUR_FIELDS);
        for field in head.fields {
            let start = offset(head.bytes, field.value);
            let value = bytes.slice(start..start + field.value.len());
            let name = HeaderName::from_bytes(field.name.as_bytes());
            let value = HeaderValue::from_maybe_shared(value);
            let (Ok(name), Ok(value)) = (name, value) else {
                return Err(NoReply::Unacceptable("an invalid field".into()));
            };
            fields.append(name, value);
        }
        let mut response = Response::new(());
        if Some(head.reason) != head.status.canonical_reason() {
            let reason = ReasonPhrase(Bytes::copy_from_slice(head.reason.as_bytes()));
            response.extensions_mut().insert(reason);
        }
        *response.status_mut() = head.status;
        *response.headers_mut() = fields;
        *response.version_mut() = match head.bytes.starts_with(b"HTTP/1.0") {
            true => Version::HTTP_10,
            false => Version::HTTP_11,
        };
        Ok(Self {
            head: response,
            rest: RemainingBody {
                left: BodyReader::of(head.body, TrailerPolicy::Filter),
                bytes: bytes.slice(head.bytes.len()..),
                // An authenticated connection must not be shared.
                closes: head.closes || head.authenticates_connection,
            },
        })
    }
}
