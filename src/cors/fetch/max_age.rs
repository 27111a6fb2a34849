//! How long browsers cache the response to a preflight ([«CORS-preflight
//! cache»](https://fetch.spec.whatwg.org/#cors-preflight-cache)).

use http::HeaderMap;
use http::header::ACCESS_CONTROL_MAX_AGE;

use super::engine::Engine;
use super::field::combined;

/// The default of all engines without `Access-Control-Max-Age`.
const DEFAULT: u64 = 5;

/// How many seconds an engine caches a response with these fields; 0: every request needs a
/// preflight.
#[must_use]
pub fn preflight_cache_seconds(engine: Engine, headers: &HeaderMap) -> u64 {
    // Every engine has its own limit, which the standard allows.
    let cap = match engine {
        Engine::Chromium => 7200,
        Engine::Firefox => 86_400,
        Engine::Webkit => 600,
    };
    let Some(value) = combined(headers, &ACCESS_CONTROL_MAX_AGE) else {
        return DEFAULT;
    };
    let is_negative = value
        .strip_prefix('-')
        .is_some_and(|age| age.parse::<i64>().is_ok());
    let is_number = !value.is_empty() && value.bytes().all(|byte| byte.is_ascii_digit());
    match (engine, is_number) {
        // A number that overflows exceeds every limit.
        (_, true) => value.parse().unwrap_or(u64::MAX).min(cap),
        (Engine::Firefox, false) if value.is_empty() => DEFAULT,
        (Engine::Chromium | Engine::Webkit, false) if !is_negative => DEFAULT,
        (Engine::Chromium | Engine::Firefox | Engine::Webkit, false) => 0,
    }
}
