//! The query of a request's target, as forms and links write it.

/// The names and values of a query ([URL standard, application/x-www-form-urlencoded]).
///
/// [URL standard, application/x-www-form-urlencoded]: https://url.spec.whatwg.org/#urlencoded-parsing
pub(super) fn pairs(query: &str) -> impl Iterator<Item = (String, String)> {
    let pairs = query.split('&').filter(|pair| !pair.is_empty());
    pairs.map(|pair| {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        (decoded(name), decoded(value))
    })
}

/// What is no UTF-8 becomes U+FFFD, as the standard has it.
fn decoded(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((first, after)) = rest.split_first() {
        let escaped = match (first, after) {
            (b'%', [high, low, ..]) => hex(*high).zip(hex(*low)),
            _ => None,
        };
        rest = after;
        match (first, escaped) {
            (_, Some((high, low))) => {
                bytes.push(high * 16 + low);
                rest = after.get(2..).unwrap_or_default();
            }
            (b'+', None) => bytes.push(b' '),
            (byte, None) => bytes.push(*byte),
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

fn hex(digit: u8) -> Option<u8> {
    let value = char::from(digit).to_digit(16)?;
    u8::try_from(value).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_query_is_read_as_browsers_write_it() {
        let cases: [(&str, &[(&str, &str)]); 6] = [
            ("", &[]),
            ("a=1&b=2&a=3", &[("a", "1"), ("b", "2"), ("a", "3")]),
            (
                "url=http%3A%2F%2Fa%2Fb%3Fc%3Dd%26e",
                &[("url", "http://a/b?c=d&e")],
            ),
            ("a+b=c%20d&&e", &[("a b", "c d"), ("e", "")]),
            ("a=100%&b=%zz%4", &[("a", "100%"), ("b", "%zz%4")]),
            ("a=%ff%C3%A9=", &[("a", "\u{fffd}\u{e9}=")]),
        ];
        for (query, expected) in cases {
            let pairs: Vec<_> = pairs(query).collect();
            let pairs: Vec<_> = pairs
                .iter()
                .map(|(a, b)| (a.as_str(), b.as_str()))
                .collect();
            assert_eq!(pairs, expected, "{query}");
        }
    }
}
