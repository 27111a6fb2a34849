//! Properties of HTTP/1.1 heads and chunks, for any input.

use s3cors::http1::chunked::Chunked;
use s3cors::http1::request_head::HeadLimits;
use s3cors::http1::request_head::{Framing, read_request};

const LIMITS: HeadLimits = HeadLimits {
    uri_bytes: 1024,
    head_bytes: 4096,
    header_count: 32,
};

/// A request's head, followed by a chunked body: an accepted head has exactly the fields that a
/// line-by-line reader finds, and chunks decode to the same data however they are split.
pub fn wire(bytes: &[u8]) {
    let read = read_request(bytes, &LIMITS, |head| {
        let lines = obvious(head.bytes).expect("an accepted head consists of field lines");
        assert!(bytes.starts_with(head.bytes));
        assert_eq!(
            lines.request,
            [
                head.method,
                head.target,
                if head.is_http10 {
                    "HTTP/1.0"
                } else {
                    "HTTP/1.1"
                }
            ]
        );
        assert!(
            head.target
                .bytes()
                .all(|byte| byte.is_ascii_graphic() && byte != b'#')
        );
        let own: Vec<_> = head
            .fields
            .iter()
            .map(|field| (field.name, field.value))
            .collect();
        assert_eq!(own, lines.fields);
        assert_eq!(framing(&lines.fields), Some(head.framing));
        head.bytes.len()
    });
    let behind = match read {
        Ok(Some(length)) => &bytes[length..],
        Ok(None) | Err(_) => bytes,
    };
    let whole = chunks(behind, usize::MAX);
    assert_eq!(whole, chunks(behind, 1));
    assert_eq!(whole, chunks(behind, 7));
}

/// A head, read line by line by a simple reference implementation.
struct Lines<'b> {
    request: [&'b str; 3],
    fields: Vec<(&'b str, &'b [u8])>,
}

fn obvious(head: &[u8]) -> Option<Lines<'_>> {
    let head = head.strip_suffix(b"\r\n\r\n")?;
    let mut lines = Vec::new();
    let mut rest = head;
    while let Some(end) = rest.windows(2).position(|two| two == b"\r\n") {
        lines.push(&rest[..end]);
        rest = &rest[end + 2..];
    }
    lines.push(rest);
    if lines
        .iter()
        .any(|line| line.iter().any(|byte| matches!(byte, b'\r' | b'\n' | 0)))
    {
        return None;
    }
    let request = std::str::from_utf8(lines[0])
        .ok()?
        .split(' ')
        .collect::<Vec<_>>();
    let fields = lines[1..].iter().map(|line| {
        let colon = line.iter().position(|byte| *byte == b':')?;
        let name = std::str::from_utf8(&line[..colon]).ok()?;
        let is_name = !name.is_empty() && !name.contains([' ', '\t']);
        let blank = |byte: &u8| matches!(byte, b' ' | b'\t');
        let value = &line[colon + 1..];
        let start = value
            .iter()
            .position(|byte| !blank(byte))
            .unwrap_or(value.len());
        let end = value
            .iter()
            .rposition(|byte| !blank(byte))
            .map_or(start, |last| last + 1);
        is_name.then_some((name, &value[start..end]))
    });
    Some(Lines {
        request: request.try_into().ok()?,
        fields: fields.collect::<Option<_>>()?,
    })
}

fn framing(fields: &[(&str, &[u8])]) -> Option<Framing> {
    let values = |wanted: &str| {
        let named = fields
            .iter()
            .filter(|(name, _)| name.eq_ignore_ascii_case(wanted));
        named.map(|(_, value)| *value).collect::<Vec<_>>()
    };
    match (
        &values("content-length")[..],
        &values("transfer-encoding")[..],
    ) {
        ([], []) => Some(Framing::Length(0)),
        ([length], []) => std::str::from_utf8(length)
            .ok()?
            .parse()
            .ok()
            .map(Framing::Length),
        ([], [coding]) if coding.eq_ignore_ascii_case(b"chunked") => Some(Framing::Chunked),
        _ => None,
    }
}

/// The data, how many bytes were taken, and whether the body has ended; `None`: it is invalid.
fn chunks(bytes: &[u8], piece: usize) -> Option<(Vec<u8>, usize, bool)> {
    let (mut chunked, mut data, mut taken) = (Chunked::default(), Vec::new(), 0);
    while taken < bytes.len() && !chunked.is_ended() {
        let mut now = &bytes[taken..bytes.len().min(taken.saturating_add(piece))];
        let before = now.len();
        while !now.is_empty() && !chunked.is_ended() {
            data.extend_from_slice(chunked.take(&mut now).ok()?);
        }
        taken += before - now.len();
    }
    Some((data, taken, chunked.is_ended()))
}
