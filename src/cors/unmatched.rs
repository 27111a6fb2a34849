//! Fields beyond CORS on responses without a matching rule.

use http::{HeaderMap, HeaderValue};

use super::extension::{RESOURCE_POLICY, TIMING_ALLOW_ORIGIN, Timing, insert};
use super::rule::Rule;

#[cfg(feature = "proxy")]
use super::extension::{ReplacedFields, write};

/// The fields of a response to a request without a matching rule.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct UnmatchedFields {
    timing: Option<HeaderValue>,
    resource_policy: Option<HeaderValue>,
}

impl UnmatchedFields {
    /// `None`: there are none.
    pub(super) fn of(rules: &[Rule]) -> Option<Box<Self>> {
        let of_get = || {
            let embedding = rules.iter().filter(|rule| rule.grant.allows_method(b"GET"));
            embedding.filter_map(|rule| rule.grant.extension.as_deref())
        };
        let timing = of_get().find_map(|extension| match &extension.timing {
            Some(Timing::Fixed(value)) => Some(value.clone()),
            Some(Timing::MatchedOrigin) | None => None,
        });
        let resource_policy = of_get().find_map(|extension| extension.resource_policy.clone());
        let fields = Self {
            timing,
            resource_policy,
        };
        (fields.timing.is_some() || fields.resource_policy.is_some()).then(|| Box::new(fields))
    }

    pub(super) fn insert_into(&self, fields: &mut HeaderMap) {
        insert(&TIMING_ALLOW_ORIGIN, self.timing.as_ref(), fields);
        insert(&RESOURCE_POLICY, self.resource_policy.as_ref(), fields);
    }

    /// Like [`insert_into`](Self::insert_into), as lines; returns which fields were written.
    #[cfg(feature = "proxy")]
    pub(super) fn write(&self, out: &mut Vec<u8>) -> ReplacedFields {
        let bytes = HeaderValue::as_bytes;
        ReplacedFields {
            timing: write(&TIMING_ALLOW_ORIGIN, self.timing.as_ref().map(bytes), out),
            resource_policy: write(
                &RESOURCE_POLICY,
                self.resource_policy.as_ref().map(bytes),
                out,
            ),
        }
    }
}
