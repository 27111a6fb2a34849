//! Preflights that no browser sends, because the method or a header's name is not a token: what a policy answers.

use http::header::{ACCESS_CONTROL_REQUEST_HEADERS, ACCESS_CONTROL_REQUEST_METHOD, ORIGIN};
use http::{HeaderMap, HeaderValue, Method};

use crate::cors::{Decision, Outcome, Policy, ResourceType, S3Error};

use super::exchange::{Exchange, Hypothetical};
use super::fetch::PreflightReason;

impl Exchange {
    /// What `policy` answers to a preflight that asks for what `request` has, as it is written; `None`: it cannot
    /// be sent at all, or the policy allows it.
    pub(super) fn malformed(
        policy: &Policy,
        request: &Hypothetical,
        resource: ResourceType,
    ) -> Option<Self> {
        let origin = HeaderValue::from_str(request.origin.trim()).ok()?;
        let method = HeaderValue::from_str(request.method.trim()).ok()?;
        let names = request
            .header_texts()
            .filter_map(|text| text.split(':').next());
        let names: Vec<String> = names.map(|name| name.trim().to_owned()).collect();
        let mut fields = HeaderMap::new();
        fields.insert(ORIGIN, origin.clone());
        fields.insert(ACCESS_CONTROL_REQUEST_METHOD, method);
        if !names.is_empty() {
            let names = HeaderValue::from_str(&names.join(",")).ok()?;
            fields.insert(ACCESS_CONTROL_REQUEST_HEADERS, names);
        }
        let Decision::Preflight(Err(denial)) = policy.decide(&Method::OPTIONS, &fields) else {
            return None;
        };
        let error = S3Error::of(&denial, resource);
        let preflight = policy.explain(&Method::OPTIONS, &fields);
        matches!(preflight.outcome, Outcome::Refused(_)).then(|| Self {
            method: Method::from_bytes(request.method.trim().as_bytes()).unwrap_or_default(),
            origin: origin.clone(),
            written_origin: None,
            preflight_reasons: vec![PreflightReason::Malformed],
            requested_headers: names,
            safelisted_headers: Vec::new(),
            forbidden_headers: Vec::new(),
            preflight,
            preflight_status: denial.status(),
            preflight_error: Some((error.code.to_owned(), error.message.into_owned())),
            actual: policy.explain(&Method::GET, &HeaderMap::from_iter([(ORIGIN, origin)])),
            ambiguity: None,
            browser: None,
        })
    }

    /// Whether no browser sends it.
    pub(super) fn is_malformed(&self) -> bool {
        self.preflight_reasons.contains(&PreflightReason::Malformed)
    }
}
