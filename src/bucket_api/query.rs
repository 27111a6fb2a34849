//! A request's query: parameters by name, and the canonical form that is signed.

use percent_encoding::percent_decode_str;

/// The parameters of a query, decoded.
#[derive(Debug)]
pub(super) struct Query(Vec<(Vec<u8>, Vec<u8>)>);

impl Query {
    pub(super) fn parse(query: &str) -> Self {
        let pairs = query.split('&').filter(|pair| !pair.is_empty());
        let decoded = |text: &str| percent_decode_str(&text.replace('+', "%20")).collect();
        let pairs = pairs.map(|pair| {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            (decoded(name), decoded(value))
        });
        Self(pairs.collect())
    }

    /// Whether there is a parameter of this name.
    pub(super) fn has(&self, name: &str) -> bool {
        self.0.iter().any(|(known, _)| known == name.as_bytes())
    }

    /// The names of all parameters.
    pub(super) fn names(&self) -> impl Iterator<Item = &[u8]> {
        self.0.iter().map(|(name, _)| &**name)
    }

    /// The value of a parameter that occurs once.
    pub(super) fn one(&self, name: &str) -> Option<&str> {
        let mut values = self.0.iter().filter(|(known, _)| known == name.as_bytes());
        let (_, value) = values.next()?;
        if values.next().is_some() {
            return None;
        }
        std::str::from_utf8(value).ok()
    }

    /// Sorted and encoded, without the signature.
    pub(super) fn canonical(&self) -> String {
        let signed = self.0.iter().filter(|(name, _)| name != b"X-Amz-Signature");
        let mut pairs: Vec<(String, String)> = signed
            .map(|(name, value)| (encoded(name, false), encoded(value, false)))
            .collect();
        pairs.sort();
        let pairs = pairs.iter().map(|(name, value)| format!("{name}={value}"));
        pairs.collect::<Vec<_>>().join("&")
    }
}

/// A path in its signed form: decoded, and encoded once.
pub(super) fn canonical_path(path: &str) -> String {
    let decoded: Vec<u8> = percent_decode_str(path).collect();
    match decoded.is_empty() {
        true => "/".to_owned(),
        false => encoded(&decoded, true),
    }
}

/// `UriEncode` of Signature V4.
pub(super) fn encoded(bytes: &[u8], keeps_slash: bool) -> String {
    const DIGITS: &[u8; 16] = b"0123456789ABCDEF";
    let mut text = String::with_capacity(bytes.len());
    for &byte in bytes {
        let is_kept = byte.is_ascii_alphanumeric()
            || matches!(byte, b'-' | b'.' | b'_' | b'~')
            || keeps_slash && byte == b'/';
        if is_kept {
            text.push(char::from(byte));
        } else {
            let digit = |value: u8| DIGITS.get(usize::from(value)).copied().unwrap_or(b'0');
            text.push('%');
            text.push(char::from(digit(byte >> 4)));
            text.push(char::from(digit(byte & 15)));
        }
    }
    text
}
