//! Converts a host name beyond ASCII to the form that browsers send: each label in punycode ([RFC
//! 3492]).
//!
//! Only for hints: of the mapping that precedes punycode ([UTS #46]), it supports lower-casing, and
//! returns nothing for names that need more.
//!
//! [RFC 3492]: https://www.rfc-editor.org/rfc/rfc3492
//! [UTS #46]: https://www.unicode.org/reports/tr46/

const BASE: u32 = 36;
const T_MIN: u32 = 1;
const T_MAX: u32 = 26;
const SKEW: u32 = 38;
const DAMP: u32 = 700;
const INITIAL_BIAS: u32 = 72;
const INITIAL_N: u32 = 0x80;

/// The longest label (RFC 1035 §2.3.4).
const MAX_LABEL: usize = 63;

/// A host in ASCII; ASCII parts, ports and `*` stay unchanged. `None`: it is unknown what a browser
/// would send.
pub(crate) fn ascii_host(host: &str) -> Option<String> {
    let labels: Option<Vec<String>> = host.split('.').map(label).collect();
    Some(labels?.join("."))
}

fn label(label: &str) -> Option<String> {
    // Only the last label can have a port.
    let (name, port) = label.split_at(label.find(':').unwrap_or(label.len()));
    if name.is_ascii() {
        return Some(label.to_owned());
    }
    let name: String = name.chars().flat_map(char::to_lowercase).collect();
    if !name.chars().all(is_plain) {
        return None;
    }
    let encoded = format!("xn--{}", encode(&name)?);
    (encoded.len() <= MAX_LABEL).then(|| encoded + port)
}

/// Whether a browser keeps a letter unchanged; many others are mapped to similar ones.
fn is_plain(letter: char) -> bool {
    match letter {
        '0'..='9' | 'a'..='z' | '-' => true,
        // Latin, without its ligatures; Greek, Cyrillic, Hebrew.
        'ĳ' | 'ŀ' | 'ŉ' => false,
        'ß'..='ž' | 'ά'..='ώ' | 'а'..='џ' | 'א'..='ת' => letter.is_alphabetic(),
        // Hiragana, katakana, Chinese, Korean.
        'ぁ'..='ゖ' | 'ァ'..='ヺ' | 'ー' | '一'..='\u{9fff}' | '가'..='힣' => true,
        _ => false,
    }
}

/// [RFC 3492 §6.3](https://www.rfc-editor.org/rfc/rfc3492#section-6.3).
fn encode(label: &str) -> Option<String> {
    let mut output: String = label.chars().filter(char::is_ascii).collect();
    let basic = u32::try_from(output.len()).ok()?;
    if basic > 0 {
        output.push('-');
    }
    let all = u32::try_from(label.chars().count()).ok()?;
    let (mut n, mut delta, mut bias, mut handled) = (INITIAL_N, 0_u32, INITIAL_BIAS, basic);
    while handled < all {
        let next = label
            .chars()
            .map(u32::from)
            .filter(|code| *code >= n)
            .min()?;
        delta = delta.checked_add((next - n).checked_mul(handled + 1)?)?;
        n = next;
        for code in label.chars().map(u32::from) {
            if code < n {
                delta = delta.checked_add(1)?;
            }
            if code == n {
                write_number(&mut output, delta, bias);
                bias = adapt(delta, handled + 1, handled == basic);
                delta = 0;
                handled += 1;
            }
        }
        delta = delta.checked_add(1)?;
        n += 1;
    }
    Some(output)
}

fn write_number(output: &mut String, mut number: u32, bias: u32) {
    let mut k = BASE;
    loop {
        let threshold = k.saturating_sub(bias).clamp(T_MIN, T_MAX);
        if number < threshold {
            break;
        }
        let above = number - threshold;
        output.extend(digit(threshold + above % (BASE - threshold)));
        number = above / (BASE - threshold);
        k += BASE;
    }
    output.extend(digit(number));
}

fn adapt(delta: u32, points: u32, is_first: bool) -> u32 {
    let mut delta = if is_first { delta / DAMP } else { delta / 2 };
    delta += delta / points;
    let mut k = 0;
    while delta > ((BASE - T_MIN) * T_MAX) / 2 {
        delta /= BASE - T_MIN;
        k += BASE;
    }
    k + (((BASE - T_MIN + 1) * delta) / (delta + SKEW))
}

/// `a` to `z`, then `0` to `9`.
fn digit(value: u32) -> Option<char> {
    let letter = |base: u8, above: u32| Some(char::from(base + u8::try_from(above).ok()?));
    match value {
        0..=25 => letter(b'a', value),
        _ => letter(b'0', value - 26),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Each result is from `new URL("https://…").host`.
    #[test]
    fn hosts_are_converted_like_in_browsers() {
        for (written, expected) in [
            ("münchen.example", Some("xn--mnchen-3ya.example")),
            ("MÜNCHEN.example:8080", Some("xn--mnchen-3ya.example:8080")),
            ("*.bücher.example", Some("*.xn--bcher-kva.example")),
            ("straße.example", Some("xn--strae-oqa.example")),
            ("例え.テスト", Some("xn--r8jz45g.xn--zckzah")),
            ("пример.испытание", Some("xn--e1afmkfd.xn--80akhbyknj4f")),
            ("παράδειγμα.δοκιμή", Some("xn--hxajbheg2az3al.xn--jxalpdlp")),
            ("app.example", Some("app.example")),
            ("mu\u{308}nchen.example", None),
            ("ｆｕｌｌ.example", None),
            ("app–one.example", None),
        ] {
            assert_eq!(ascii_host(written).as_deref(), expected, "{written}");
        }
    }

    #[test]
    fn labels_that_become_too_long_are_refused() {
        assert_eq!(ascii_host(&"ü".repeat(63)), None);
    }
}
