//! WebSocket over HTTP/2: a client's extended CONNECT ([RFC 8441]) becomes an HTTP/1.1 upgrade for
//! the upstream ([RFC 6455 §4]).
//!
//! [RFC 8441]: https://www.rfc-editor.org/rfc/rfc8441
//! [RFC 6455 §4]: https://www.rfc-editor.org/rfc/rfc6455#section-4

use std::hash::{BuildHasher, RandomState};

use aws_lc_rs::digest::{SHA1_FOR_LEGACY_USE_ONLY, digest};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use h2::ext::Protocol;
use http::header::{CONNECTION, CONTENT_LENGTH, SEC_WEBSOCKET_ACCEPT, SEC_WEBSOCKET_KEY, UPGRADE};
use http::{HeaderMap, HeaderValue, Method, StatusCode, request, response};

use crate::upstream::error::Error;

/// What an upstream appends to the key before hashing it ([RFC 6455 §1.3]).
///
/// [RFC 6455 §1.3]: https://www.rfc-editor.org/rfc/rfc6455#section-1.3
const GUID: &[u8] = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11";

/// A handshake with an upstream, on behalf of an HTTP/2 client.
pub(super) struct WebSocketHandshake {
    key: String,
}

/// The handshake of a request, if it is an extended CONNECT.
///
/// # Errors
/// [`Error::UnknownProtocol`]: it asks for a protocol other than WebSocket.
pub(super) fn requested(request: &request::Parts) -> Result<Option<WebSocketHandshake>, Error> {
    match request.extensions.get::<Protocol>() {
        Some(protocol) if protocol.as_str() == "websocket" => Ok(Some(WebSocketHandshake::new())),
        Some(_) => Err(Error::UnknownProtocol),
        None => Ok(None),
    }
}

impl WebSocketHandshake {
    fn new() -> Self {
        // The key only has to differ between handshakes, so that caches do not answer them.
        let random = RandomState::new();
        let halves = [random.hash_one(0), random.hash_one(1)].map(u64::to_be_bytes);
        Self {
            key: STANDARD.encode(halves.concat()),
        }
    }

    /// Converts `request` to an upgrade. `Sec-WebSocket-Version` and the other fields of the
    /// protocol stay as they came.
    pub(super) fn convert_request(&self, request: &mut request::Parts) {
        request.method = Method::GET;
        let fields = &mut request.headers;
        fields.remove(CONTENT_LENGTH);
        fields.insert(UPGRADE, HeaderValue::from_static("websocket"));
        fields.insert(CONNECTION, HeaderValue::from_static("upgrade"));
        if let Ok(key) = HeaderValue::from_str(&self.key) {
            fields.insert(SEC_WEBSOCKET_KEY, key);
        }
    }

    /// Converts the upstream's response for the extended CONNECT: 101 becomes 200.
    ///
    /// # Errors
    ///
    /// What is wrong with the response. Another success must not reach the client, because it would
    /// look like a tunnel.
    pub(super) fn answer(&self, response: &mut response::Parts) -> Result<(), &'static str> {
        if response.status != StatusCode::SWITCHING_PROTOCOLS {
            return match response.status.is_success() {
                true => Err("a success instead of 101 to a WebSocket handshake"),
                false => Ok(()),
            };
        }
        let fields = &mut response.headers;
        if !is_websocket(fields) {
            return Err("101 to a WebSocket handshake, but with another protocol");
        }
        let accept = fields.remove(SEC_WEBSOCKET_ACCEPT);
        if accept.is_none_or(|accept| accept.as_bytes() != self.accept().as_bytes()) {
            return Err("101 to a WebSocket handshake, but with a wrong Sec-WebSocket-Accept");
        }
        fields.remove(CONTENT_LENGTH);
        response.status = StatusCode::OK;
        Ok(())
    }

    /// What a server that understood the handshake responds with.
    fn accept(&self) -> String {
        let text = [self.key.as_bytes(), GUID].concat();
        STANDARD.encode(digest(&SHA1_FOR_LEGACY_USE_ONLY, &text))
    }
}

fn is_websocket(fields: &HeaderMap) -> bool {
    let mut protocols = fields.get_all(UPGRADE).iter();
    match (protocols.next(), protocols.next()) {
        (Some(protocol), None) => protocol.as_bytes().eq_ignore_ascii_case(b"websocket"),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use http::{Request, Response};

    use super::*;

    #[test]
    fn the_accept_value_matches_the_example_of_rfc_6455() {
        // RFC 6455 §1.3.
        let handshake = WebSocketHandshake {
            key: "dGhlIHNhbXBsZSBub25jZQ==".to_owned(),
        };
        assert_eq!(handshake.accept(), "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
    }

    #[test]
    fn keys_have_16_bytes_and_differ() {
        let keys =
            [WebSocketHandshake::new(), WebSocketHandshake::new()].map(|handshake| handshake.key);
        for key in &keys {
            assert_eq!(STANDARD.decode(key).unwrap().len(), 16);
        }
        assert_ne!(keys[0], keys[1]);
    }

    #[test]
    fn only_a_valid_101_begins_a_tunnel() {
        let handshake = WebSocketHandshake::new();
        let right = handshake.accept();
        let cases = [
            (101, "websocket", right.as_str(), Ok(200)),
            (101, "WebSocket", right.as_str(), Ok(200)),
            (101, "websocket", "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=", Err(())),
            (101, "h2c", right.as_str(), Err(())),
            (200, "websocket", right.as_str(), Err(())),
            (204, "websocket", right.as_str(), Err(())),
            (403, "websocket", right.as_str(), Ok(403)),
            (302, "websocket", right.as_str(), Ok(302)),
        ];
        for (status, protocol, accept, expected) in cases {
            let response = Response::builder()
                .status(status)
                .header(UPGRADE, protocol)
                .header(SEC_WEBSOCKET_ACCEPT, accept);
            let mut response = response.body(()).unwrap().into_parts().0;
            let answer = handshake.answer(&mut response).map_err(|_| ());
            let answer = answer.map(|()| response.status.as_u16());
            assert_eq!(answer, expected, "{status} {protocol} {accept}");
        }
    }

    #[test]
    fn another_protocol_is_not_supported() {
        for (protocol, is_known) in [
            ("websocket", true),
            ("WebSocket", false),
            ("connect-udp", false),
        ] {
            let request = Request::builder().extension(Protocol::from_static(protocol));
            let request = request.body(()).unwrap().into_parts().0;
            assert_eq!(requested(&request).is_ok(), is_known, "{protocol}");
        }
        assert!(matches!(
            requested(&Request::new(()).into_parts().0),
            Ok(None)
        ));
    }
}
