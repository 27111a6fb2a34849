//! Reads fields by Fetch's rules: combined values, lists, tokens.

use http::{HeaderMap, HeaderName};

/// All values of a field, joined as [«get»](https://fetch.spec.whatwg.org/#concept-header-list-get)
/// does; `None`: the field is absent.
pub(super) fn combined(headers: &HeaderMap, name: &HeaderName) -> Option<String> {
    let mut values = headers
        .get_all(name)
        .iter()
        .map(|value| text(value.as_bytes()));
    let first = values.next()?;
    Some(values.fold(first, |all, value| all + ", " + &value))
}

/// A value without surrounding whitespace
/// ([«normalize»](https://fetch.spec.whatwg.org/#concept-header-value-normalize)). Bytes that are
/// not UTF-8 are replaced; the values that CORS compares never have any.
pub(super) fn text(value: &[u8]) -> String {
    String::from_utf8_lossy(value)
        .trim_matches([' ', '\t'])
        .to_owned()
}

/// The elements of a list, without empty ones.
pub(super) fn elements(value: &str) -> impl Iterator<Item = &str> {
    value
        .split(',')
        .map(|element| element.trim_matches([' ', '\t']))
        .filter(|element| !element.is_empty())
}

/// The elements of a list field, or the first element that is not a token
/// ([«extract header list values»](https://fetch.spec.whatwg.org/#extract-header-list-values)).
pub(super) fn tokens(value: Option<&str>) -> Result<Vec<&str>, &str> {
    let mut found = Vec::new();
    for element in elements(value.unwrap_or_default()) {
        if !is_token(element) {
            return Err(element);
        }
        found.push(element);
    }
    Ok(found)
}

/// A token ([RFC 9110 §5.6.2](https://www.rfc-editor.org/rfc/rfc9110#section-5.6.2)).
pub(super) fn is_token(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(is_token_byte)
}

fn is_token_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}
