//! Which fields a script may set without a preflight
//! ([«CORS-safelisted request-header»](https://fetch.spec.whatwg.org/#cors-safelisted-request-header)).

use super::engine::Engine;
use super::field::is_token;

/// The longest value of a safelisted field, in bytes.
const MAX_VALUE: usize = 128;

/// Whether a field with this value needs no preflight; `name` must be in lower case.
pub(super) fn is_safelisted(engine: Option<Engine>, name: &str, value: &str) -> bool {
    // Step 1.
    if value.len() > MAX_VALUE {
        return false;
    }
    // Step 2.
    match name {
        "accept" => !value.bytes().any(is_unsafe),
        "accept-language" | "content-language" => value.bytes().all(is_language),
        "content-type" => is_form(value),
        "range" => is_simple_range(engine, value),
        _ => engine == Some(Engine::Chromium) && is_client_hint(name, value),
    }
}

/// Fields that Chromium sends without a preflight in addition to the standard: client hints with a
/// valid value, and `User-Agent`.
fn is_client_hint(name: &str, value: &str) -> bool {
    match name {
        "dpr" | "device-memory" | "downlink" => is_decimal(value),
        "width" | "viewport-width" | "rtt" => is_number(value),
        "ect" => matches!(value, "slow-2g" | "2g" | "3g" | "4g"),
        "save-data" => value.eq_ignore_ascii_case("on"),
        "user-agent" => true,
        _ => false,
    }
}

fn is_number(value: &str) -> bool {
    !value.is_empty() && value.bytes().all(|byte| byte.is_ascii_digit())
}

fn is_decimal(value: &str) -> bool {
    match value.split_once('.') {
        Some((whole, fraction)) => is_number(whole) && is_number(fraction),
        None => is_number(value),
    }
}

/// A [CORS-unsafe request-header byte](https://fetch.spec.whatwg.org/#cors-unsafe-request-header-byte).
fn is_unsafe(byte: u8) -> bool {
    (byte < b' ' && byte != b'\t') || b"\"():<>?@[\\]{}\x7f".contains(&byte)
}

fn is_language(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b" *,-.;=".contains(&byte)
}

/// Whether a form could send this media type. The value is parsed as a [MIME
/// type](https://mimesniff.spec.whatwg.org/#parse-a-mime-type), and only the essence matters.
fn is_form(value: &str) -> bool {
    const FORMS: [&str; 3] = [
        "application/x-www-form-urlencoded",
        "multipart/form-data",
        "text/plain",
    ];
    let essence = value.split(';').next().unwrap_or_default();
    let essence = essence.trim_matches([' ', '\t', '\r', '\n']);
    let parses = essence
        .split_once('/')
        .is_some_and(|(kind, subtype)| is_token(kind) && is_token(subtype));
    parses
        && !value.bytes().any(is_unsafe)
        && FORMS.iter().any(|form| essence.eq_ignore_ascii_case(form))
}

/// A [simple range](https://fetch.spec.whatwg.org/#simple-range-header-value): `bytes=1-` or `bytes=1-2`.
fn is_simple_range(engine: Option<Engine>, value: &str) -> bool {
    let Some((unit, range)) = value.split_once('=') else {
        return false;
    };
    let is_bytes = match engine {
        Some(Engine::Webkit) => unit.eq_ignore_ascii_case("bytes"),
        Some(Engine::Chromium | Engine::Firefox) | None => unit == "bytes",
    };
    let Some((first, last)) = range.split_once('-') else {
        return false;
    };
    if !is_bytes || !is_number(first) || !(last.is_empty() || is_number(last)) {
        return false;
    }
    // Numbers of equal length compare as text; leading zeros are ignored.
    let (from, to) = (first.trim_start_matches('0'), last.trim_start_matches('0'));
    last.is_empty() || (from.len(), from) <= (to.len(), to)
}
