//! HTTP/1.1 requests that the proxy makes itself: health checks, traces, and access to stored
//! policies.

use std::io;

use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::http1::body::BodyReader;
use crate::http1::chunked::TrailerPolicy;
use crate::http1::response_head::{ResponseHead, read_response};

use super::endpoint::UpstreamLimits;
use super::error::MANY_INTERIM;
use super::http1_response::NoReply;
use super::stream::UpstreamStream;

/// How much is read at once, in bytes.
const PIECE: usize = 4 * 1024;

/// Sends `request`, and reads the response's status and at most `most` bytes of its body.
///
/// # Errors
///
/// Why there is no such response.
pub(crate) async fn request_once(
    mut stream: UpstreamStream,
    request: &[u8],
    limits: &UpstreamLimits,
    most: usize,
) -> Result<(StatusCode, Vec<u8>), NoReply> {
    let answer = send(&mut stream, request, limits, most).await?;
    Ok((answer.status, answer.body))
}

/// A response.
pub(crate) struct OneShotResponse {
    pub(crate) status: StatusCode,
    pub(crate) fields: HeaderMap,
    pub(crate) body: Vec<u8>,
    /// Whether the connection can carry another request.
    pub(crate) keeps_open: bool,
}

/// Likewise, on a connection that may be used again.
///
/// # Errors
///
/// Why there is no such response.
pub(crate) async fn send(
    stream: &mut UpstreamStream,
    request: &[u8],
    limits: &UpstreamLimits,
    most: usize,
) -> Result<OneShotResponse, NoReply> {
    // A failed write is not final: an upstream that answers early may close at once, so the
    // response is read anyway.
    let sent = async {
        stream.write_all(request).await?;
        stream.flush().await
    };
    let refused = sent.await.err();
    let to_head = request.starts_with(b"HEAD ");
    let mut bytes = Vec::new();
    let mut interim = 0;
    let (status, fields, closes, mut left) = loop {
        let head = read_response(&bytes, limits.response_header_count, to_head, |head| {
            (
                head.bytes.len(),
                head.status,
                head.body,
                fields_of(head),
                head.closes,
            )
        })?;
        match head {
            Some((length, ..)) if length > limits.response_head_bytes => {
                return Err(NoReply::TOO_LONG);
            }
            None if bytes.len() > limits.response_head_bytes => return Err(NoReply::TOO_LONG),
            Some((length, status, ..))
                if status.is_informational() && status != StatusCode::SWITCHING_PROTOCOLS =>
            {
                interim += 1;
                if interim > limits.interim_responses {
                    return Err(NoReply::OverLimit(MANY_INTERIM));
                }
                bytes.drain(..length);
            }
            Some((length, status, body, fields, closes)) => {
                bytes.drain(..length);
                let left = BodyReader::of(body, TrailerPolicy::Drop);
                break (status, fields, closes, left);
            }
            None => {
                if read(stream, &mut bytes).await? == 0 {
                    let ended = io::ErrorKind::UnexpectedEof.into();
                    return Err(NoReply::Closed(refused.unwrap_or(ended)));
                }
            }
        }
    };
    let mut body = Vec::new();
    let mut unread = bytes::Bytes::from(bytes);
    while body.len() < most {
        let piece = left.take(&mut unread);
        let piece =
            piece.map_err(|_| NoReply::Unacceptable("a body with an invalid chunk".into()))?;
        body.extend_from_slice(&piece);
        if left.is_ended() {
            break;
        }
        if piece.is_empty() {
            let mut more = Vec::new();
            if read(stream, &mut more).await? == 0 && !left.close() {
                return Err(NoReply::Closed(io::ErrorKind::UnexpectedEof.into()));
            }
            unread = more.into();
        }
    }
    body.truncate(most);
    Ok(OneShotResponse {
        status,
        fields,
        body,
        keeps_open: !closes && left.is_ended() && unread.is_empty(),
    })
}

fn fields_of(head: &ResponseHead<'_, '_>) -> HeaderMap {
    let mut fields = HeaderMap::with_capacity(head.fields.len());
    for field in head.fields {
        let name = HeaderName::from_bytes(field.name.as_bytes());
        // The parser lets only valid names and values through.
        if let (Ok(name), Ok(value)) = (name, HeaderValue::from_bytes(field.value)) {
            fields.append(name, value);
        }
    }
    fields
}

async fn read(stream: &mut UpstreamStream, bytes: &mut Vec<u8>) -> Result<usize, NoReply> {
    bytes.reserve(PIECE);
    stream.read_buf(bytes).await.map_err(NoReply::Closed)
}
