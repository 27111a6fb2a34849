//! Decisions without a header map: takes a request's CORS fields and writes the response's CORS
//! fields as bytes.

use http::HeaderValue;

use super::decision::{Cause, Denial};
use super::extension::ReplacedFields;
use super::policy::{Policy, write_allow_headers};
use super::request::{CorsRequest, RequestedHeaders, is_origin};
use super::rule::Rule;

/// The CORS fields of an allowed request's response, ready to be written.
#[derive(Debug)]
pub(crate) struct AllowedFields<'p> {
    pub(super) rule: &'p Rule,
    /// The request's origin, or `*`.
    pub(super) origin: &'p [u8],
    pub(super) headers: RequestedHeaders<'p>,
    pub(super) pattern: usize,
}

impl Policy {
    /// Like [`decide`](Self::decide), for a CORS request whose fields are not in a map: each occurs
    /// once, and the origin is not empty.
    pub(crate) fn answer<'p, 'r: 'p>(
        &'p self,
        request: &CorsRequest<'r>,
    ) -> Result<AllowedFields<'p>, Denial> {
        let refused = match self.refuse_early(request.kind, Some(request.method)) {
            Some(cause) => Some(cause),
            None => (!is_origin(request.origin)).then_some(Cause::MalformedOrigin),
        };
        let (cause, nearest) = match refused {
            Some(cause) => (cause, None),
            None => match self.first_match(request) {
                Ok((rule, matched)) => {
                    return Ok(AllowedFields {
                        rule,
                        origin: if matched.any { b"*" } else { request.origin },
                        headers: request.headers,
                        pattern: matched.pattern,
                    });
                }
                Err((cause, nearest)) => (cause, Some(nearest)),
            },
        };
        Err(Denial {
            cause,
            requested_method: HeaderValue::from_bytes(request.method).ok(),
            nearest,
        })
    }

    /// Whether responses without a matching rule get fields beyond CORS.
    pub(crate) fn extends_unmatched(&self) -> bool {
        self.unmatched.is_some()
    }

    /// Writes the fields beyond CORS of a response without a matching rule; returns which they are.
    pub(crate) fn write_unmatched(&self, out: &mut Vec<u8>) -> ReplacedFields {
        let unmatched = self.unmatched.as_ref();
        unmatched.map_or_else(ReplacedFields::default, |fields| fields.write(out))
    }
}

impl AllowedFields<'_> {
    /// The pattern that matched, as an index into
    /// [`Policy::origin_patterns`](super::Policy::origin_patterns).
    pub(crate) fn pattern(&self) -> usize {
        self.pattern
    }

    /// Whether `Access-Control-Allow-Origin` is `*`.
    pub(crate) fn is_any_origin(&self) -> bool {
        self.origin == b"*"
    }

    /// Writes the fields in S3's order, without `Vary`: the same fields that
    /// [`Policy::mark`](super::Policy::mark) sets.
    pub(crate) fn write(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(b"access-control-allow-origin: ");
        out.extend_from_slice(self.origin);
        out.extend_from_slice(&self.rule.grant.wire.methods);
        if !self.headers.is_empty() {
            out.extend_from_slice(b"access-control-allow-headers: ");
            write_allow_headers(self.headers, out);
            out.extend_from_slice(b"\r\n");
        }
        out.extend_from_slice(&self.rule.grant.wire.rest);
    }

    /// Writes the fields of the rule's extension elements, for responses to actual requests;
    /// returns which they are.
    pub(crate) fn write_extension(&self, out: &mut Vec<u8>) -> ReplacedFields {
        let extension = self.rule.grant.extension.as_ref();
        extension.map_or_else(ReplacedFields::default, |extension| {
            extension.write(self.origin, out)
        })
    }
}
