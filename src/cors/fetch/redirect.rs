//! Where a redirect leads, and how it changes the request ([«HTTP-redirect
//! fetch»](https://fetch.spec.whatwg.org/#concept-http-redirect-fetch)).

use http::header::LOCATION;

use super::chromium_url::is_valid_url;
use super::engine::Engine;
use super::exchange::{Mode, Response};
use super::failure::Reason;
use super::field::text;
use super::preflight::is_redirect;
use super::request_headers::SentHeaders;
use super::url::{Url, is_cross_origin, normalized_userinfo, resolve};

/// The most redirects that a browser follows (step 7).
const MAX_REDIRECTS: usize = 20;

/// Fields that describe a body; they are removed together with it ([«request-body-header
/// name»](https://fetch.spec.whatwg.org/#request-body-header-name)).
const BODY_FIELDS: [&str; 4] = [
    "content-encoding",
    "content-language",
    "content-location",
    "content-type",
];

/// A request as it moves from one URL to the next.
#[derive(Clone, Debug)]
pub(super) struct RedirectedRequest {
    /// The origin of the page.
    pub(super) page: String,
    pub(super) mode: Mode,
    pub(super) url: String,
    pub(super) method: String,
    pub(super) headers: SentHeaders,
    /// Whether it has visited an origin other than the page's: the response tainting is «cors».
    pub(super) has_been_cross_origin: bool,
    /// Whether its origin is tainted by redirects and sent as `null`
    /// ([«redirect-tainted origin»](https://fetch.spec.whatwg.org/#concept-request-tainted-origin)).
    pub(super) is_tainted: bool,
    pub(super) redirects: usize,
    /// Where the current response leads, if it is a redirect.
    pub(super) leads_to: Option<String>,
}

impl RedirectedRequest {
    /// The origin that the request sends.
    pub(super) fn origin(&self) -> &str {
        if self.is_tainted { "null" } else { &self.page }
    }

    /// Where a response leads, as the URL that the browser computes; `None`: it is not a redirect.
    pub(super) fn location(&self, response: &Response) -> Option<Location> {
        if !is_redirect(response) {
            return None;
        }
        let written = response
            .headers
            .get(LOCATION)
            .map(|value| text(value.as_bytes()))?;
        let resolved = resolve(&self.url, &written).filter(|url| is_valid_url(url));
        let Some(mut url) = resolved else {
            return Some(Location {
                url: written,
                is_http: false,
                is_valid: false,
                has_userinfo: false,
            });
        };
        url = normalized_userinfo(url);
        // «Location URL», step 4: the fragment stays.
        if let (None, Some((_, fragment))) = (url.find('#'), self.url.split_once('#')) {
            url = format!("{url}#{fragment}");
        }
        let parsed = Url::parse(&url).filter(Url::is_http);
        let (is_http, has_userinfo) = (
            parsed.is_some(),
            parsed.is_some_and(|url| url.userinfo.is_some()),
        );
        Some(Location {
            url,
            is_http,
            is_valid: true,
            has_userinfo,
        })
    }

    /// Follows a redirect.
    pub(super) fn follow(
        &mut self,
        engine: Option<Engine>,
        location: Location,
        response: &Response,
    ) -> Result<(), Reason> {
        // Steps 4 and 6.
        if let Some(reason) = location.refusal() {
            return Err(reason);
        }
        let next = location.url;
        // Step 7.
        if self.redirects == MAX_REDIRECTS {
            return Err(Reason::TooManyRedirects);
        }
        self.redirects += 1;
        // Steps 9 and 10.
        if location.has_userinfo {
            let leaves_page = self.has_been_cross_origin || is_cross_origin(&self.page, &next);
            match self.mode {
                Mode::Cors if leaves_page => return Err(Reason::RedirectCredentials(next)),
                // Chromium does not load subresources from such a URL at all.
                Mode::NoCors if engine == Some(Engine::Chromium) => {
                    return Err(Reason::UrlCredentials);
                }
                Mode::Cors | Mode::NoCors => {}
            }
        }
        // Step 12.
        let status = response.status.as_u16();
        let becomes_get = (matches!(status, 301 | 302) && self.method == "POST")
            || (status == 303 && !matches!(&*self.method, "GET" | "HEAD"));
        if becomes_get {
            "GET".clone_into(&mut self.method);
            self.headers.remove(&BODY_FIELDS);
        }
        // Step 13.
        if is_cross_origin(&self.url, &next) {
            // WebKit keeps the field, and its preflight asks for it.
            if engine != Some(Engine::Webkit) {
                self.headers.remove(&["authorization"]);
            }
            if is_cross_origin(&self.page, &self.url) {
                self.is_tainted = true;
            }
        }
        self.url = next;
        Ok(())
    }
}

impl Location {
    /// Why browsers do not follow it.
    pub(super) fn refusal(&self) -> Option<Reason> {
        match (self.is_valid, self.is_http) {
            (false, _) => Some(Reason::RedirectUrl(self.url.clone())),
            (true, false) => Some(Reason::RedirectScheme(self.url.clone())),
            (true, true) => None,
        }
    }
}

/// Where a redirect leads.
#[derive(Clone, Debug)]
pub(super) struct Location {
    /// The URL, or the original text if it is invalid.
    pub(super) url: String,
    pub(super) is_http: bool,
    pub(super) is_valid: bool,
    has_userinfo: bool,
}
