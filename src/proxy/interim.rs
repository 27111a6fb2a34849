//! What an upstream says before its response: interim responses (1xx), which are counted, and of
//! which `100 Continue` lets a held body go.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use http::{Request, StatusCode};

use super::request_body::RequestBody;

/// The interim responses to one request.
#[derive(Debug, Default)]
pub(super) struct Interim(AtomicUsize);

impl Interim {
    /// Watches what comes before the response to `request`.
    pub(super) fn watch(request: &mut Request<RequestBody>) -> Arc<Self> {
        let interim = Arc::new(Self::default());
        let counter = Arc::clone(&interim);
        let continued = request.body().continued();
        hyper::ext::on_informational(request, move |response| {
            counter.0.fetch_add(1, Ordering::Relaxed);
            if response.status() == StatusCode::CONTINUE
                && let Some(continued) = &continued
            {
                continued.notify_one();
            }
        });
        interim
    }

    /// How many there were.
    pub(super) fn count(&self) -> usize {
        self.0.load(Ordering::Relaxed)
    }
}
