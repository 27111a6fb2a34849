//! The checks of the response to a preflight ([«CORS-preflight
//! fetch»](https://fetch.spec.whatwg.org/#cors-preflight-fetch), steps 6 and 7).

use http::StatusCode;
use http::header::{ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS, LOCATION};

use super::cors_check::cors_check;
use super::engine::Engine;
use super::exchange::{Credentials, Response};
use super::failure::{InvalidList, Reason};
use super::field::{combined, tokens};
use super::request_headers::is_safelisted_method;

/// What a preflight asks for.
pub(super) struct PreflightRequest<'r> {
    pub(super) origin: &'r str,
    pub(super) credentials: Credentials,
    pub(super) method: &'r str,
    /// The names in `Access-Control-Request-Headers`, in the engine's checking order.
    pub(super) headers: Vec<&'r str>,
}

impl PreflightRequest<'_> {
    /// Checks the response in an engine's order; the standard's order is Chromium's.
    pub(super) fn check(
        &self,
        engine: Option<Engine>,
        answer: Option<&Response>,
    ) -> Result<(), Reason> {
        let Some(answer) = answer else {
            return Err(Reason::NoAnswer);
        };
        let redirect = || match is_redirect(answer) {
            true => Err(Reason::PreflightRedirect(answer.status)),
            false => Ok(()),
        };
        let status = || match answer.status.is_success() {
            true => Ok(()),
            false => Err(Reason::Status(answer.status)),
        };
        let check = || cors_check(answer, self.origin, self.credentials);
        match engine {
            Some(Engine::Chromium) | None => {
                redirect().and_then(|()| check()).and_then(|()| status())
            }
            Some(Engine::Firefox) => check().and_then(|()| redirect()).and_then(|()| status()),
            Some(Engine::Webkit) => status().and_then(|()| check()),
        }?;
        self.check_lists(engine, answer)
    }

    /// Step 7, including its first substep.
    fn check_lists(&self, engine: Option<Engine>, answer: &Response) -> Result<(), Reason> {
        let methods = combined(&answer.headers, &ACCESS_CONTROL_ALLOW_METHODS);
        let headers = combined(&answer.headers, &ACCESS_CONTROL_ALLOW_HEADERS);
        let allowed_methods = tokens(methods.as_deref())
            .map_err(|token| Reason::InvalidMethods(InvalidList::new(methods.as_deref(), token)))?;
        let allowed_headers = tokens(headers.as_deref())
            .map_err(|token| Reason::InvalidHeaders(InvalidList::new(headers.as_deref(), token)));
        // Firefox checks the method before it parses the other list.
        if engine == Some(Engine::Firefox) {
            self.check_method(&allowed_methods)?;
        }
        let allowed_headers = allowed_headers?;
        self.check_method(&allowed_methods)?;
        self.check_headers(engine, &allowed_headers)
    }

    fn covers(&self, wildcard: bool) -> bool {
        wildcard && self.credentials != Credentials::Include
    }

    fn check_method(&self, allowed: &[&str]) -> Result<(), Reason> {
        let is_allowed = allowed.contains(&self.method)
            || is_safelisted_method(self.method)
            || self.covers(allowed.contains(&"*"));
        if is_allowed {
            Ok(())
        } else {
            Err(Reason::Method(self.method.to_owned()))
        }
    }

    fn check_headers(&self, engine: Option<Engine>, allowed: &[&str]) -> Result<(), Reason> {
        let wildcard = self.covers(allowed.contains(&"*"));
        for name in &self.headers {
            let is_named = allowed
                .iter()
                .any(|allowed| allowed.eq_ignore_ascii_case(name));
            // `Authorization` must be named explicitly
            // (https://fetch.spec.whatwg.org/#cors-non-wildcard-request-header-name).
            let needs_name = *name == "authorization" && engine.is_none();
            if !(is_named || (wildcard && !needs_name)) {
                return Err(Reason::Header((*name).to_owned()));
            }
        }
        Ok(())
    }
}

impl InvalidList {
    fn new(value: Option<&str>, token: &str) -> Self {
        Self {
            value: value.unwrap_or_default().to_owned(),
            token: token.to_owned(),
        }
    }
}

/// Whether a browser follows a response to another URL.
pub(super) fn is_redirect(response: &Response) -> bool {
    is_redirect_status(response.status) && response.headers.contains_key(LOCATION)
}

/// Whether a status with a `Location` is a redirect: a [redirect status] in Fetch.
///
/// [redirect status]: https://fetch.spec.whatwg.org/#redirect-status
pub(crate) fn is_redirect_status(status: StatusCode) -> bool {
    matches!(status.as_u16(), 301 | 302 | 303 | 307 | 308)
}
