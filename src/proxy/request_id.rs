//! IDs of the proxy's own responses, in S3's format.

use std::cell::Cell;
use std::hash::{BuildHasher as _, RandomState};

use http::HeaderName;

pub(crate) const REQUEST_ID: HeaderName = HeaderName::from_static("x-amz-request-id");

/// Generates the IDs that identify a request in the log and to the client: 16 letters and digits
/// like S3's, from a worker's counter and a seed unique to that worker.
#[derive(Debug)]
pub(crate) struct RequestIds {
    seed: RandomState,
    next: Cell<u64>,
}

/// One request's ID.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct RequestId([u8; 16]);

impl RequestId {
    /// The ID as text.
    pub(crate) fn as_str(&self) -> &str {
        std::str::from_utf8(&self.0).unwrap_or_default()
    }
}

impl RequestIds {
    pub(crate) fn new() -> Self {
        Self {
            seed: RandomState::new(),
            next: Cell::new(0),
        }
    }

    pub(crate) fn next(&self) -> RequestId {
        const DIGITS: [u8; 32] = *b"0123456789ABCDEFGHJKMNPQRSTVWXYZ";
        let count = self.next.get();
        self.next.set(count.wrapping_add(1));
        let halves = [self.seed.hash_one(count), self.seed.hash_one((count, "id"))];
        let mut id = [b'0'; 16];
        for (place, digit) in id.iter_mut().enumerate() {
            let half = halves.get(place / 8).copied().unwrap_or_default();
            let value = (half >> (5 * (place % 8))) & 31;
            *digit = DIGITS
                .get(usize::try_from(value).unwrap_or_default())
                .copied()
                .unwrap_or(b'0');
        }
        RequestId(id)
    }
}

/// `HostId`, S3's second ID; clients only need it to exist.
pub(crate) fn host_id(id: RequestId) -> String {
    format!("{}s3cors", id.as_str())
}
