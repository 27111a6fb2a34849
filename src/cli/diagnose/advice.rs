//! The smallest change of a config or a policy that would allow a blocked request.

use std::path::Path;

use serde_json::{Value, json};

use crate::explain::Hypothetical;

use super::super::expectations::Subject;
use super::super::output::Failure;
use super::blocked::{Group, Key};

/// Advises on blocked requests, from a config or a policy.
pub(super) struct Advisor(Subject);

impl Advisor {
    pub(super) fn new(config: Option<&Path>, cors: Option<&Path>) -> Result<Option<Self>, Failure> {
        Ok(match (config, cors) {
            (Some(config), _) => Some(Self(Subject::routes(config)?)),
            (None, Some(cors)) => Some(Self(Subject::policy(cors)?)),
            (None, None) => None,
        })
    }

    /// The policy's decision about a group's requests, and the change that would allow them.
    pub(super) fn advise(&self, key: &Key, group: &Group) -> Value {
        let request = Hypothetical {
            url: group.first_url.clone(),
            origin: key.origin.clone(),
            method: key.method.clone(),
            headers: group.headers.clone(),
            credentials: group.credentials,
            read: Vec::new(),
        };
        let document = match self.0.explain(&request) {
            Ok(document) => document,
            Err(error) => return json!({ "verdict": "unknown", "text": error, "advice": null }),
        };
        let document = &document;
        let verdict = &document["verdict"];
        let text = match verdict.as_str() {
            Some("allowed") => {
                "this policy allows the request: it did not reach s3cors, or the policy has changed since"
            }
            Some("unknown_host") => "no route serves this host",
            Some("transparent") => "this route has no policy: its upstream answered",
            _ => "this policy refuses the request",
        };
        let (preflight, actual) = (&document["preflight"], &document["actual"]);
        let is_preflight = preflight["needed"] == true && preflight["outcome"] == "refused";
        let advice = if is_preflight {
            &preflight["advice"]
        } else {
            &actual["advice"]
        };
        json!({ "verdict": verdict, "text": text, "advice": advice })
    }
}
