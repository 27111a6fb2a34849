//! What a server must allow for the script's request.

use serde_json::{Value, json};

use crate::cors::fetch::Credentials;
use crate::cors::{CorsConfiguration, CorsRule, S3_METHODS};

use super::exchange::ProbeExchange;

/// The preflight lifetime in suggested settings.
const MAX_AGE_SECONDS: u32 = 3600;

/// What a script needs from a server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Wanted {
    pub(super) origin: String,
    pub(super) method: String,
    /// The fields that a preflight requests.
    pub(super) headers: Vec<String>,
    /// The response fields that the script wants to read.
    pub(super) expose: Vec<String>,
    pub(super) has_credentials: bool,
}

impl Wanted {
    pub(super) fn of(exchanged: &ProbeExchange, read: &[String]) -> Self {
        let request = &exchanged.exchange.request;
        let hop = exchanged.last.as_ref();
        Self {
            origin: hop
                .and_then(|hop| hop.origin.clone())
                .unwrap_or_else(|| request.origin.clone()),
            method: hop.map_or_else(|| request.method.clone(), |hop| hop.method.clone()),
            headers: hop
                .and_then(|hop| hop.preflight.clone())
                .unwrap_or_default(),
            expose: read.to_vec(),
            has_credentials: request.credentials == Credentials::Include,
        }
    }

    /// Whether S3's rules can allow the method.
    pub(super) fn is_s3_method(&self) -> bool {
        S3_METHODS.contains(&&*self.method)
    }

    /// S3's configuration with the one rule needed.
    pub(super) fn configuration(&self) -> CorsConfiguration {
        CorsConfiguration {
            rules: vec![CorsRule {
                allowed_origins: vec![self.origin.clone()],
                allowed_methods: vec![self.method.clone()],
                allowed_headers: self.headers.clone(),
                expose_headers: self.expose.clone(),
                max_age_seconds: Some(MAX_AGE_SECONDS),
                ..CorsRule::default()
            }],
        }
    }

    /// The same in the form of `aws s3api put-bucket-cors`.
    pub(super) fn s3_json(&self) -> String {
        // Strings, lists and numbers always serialize.
        let value = serde_json::to_value(self.configuration()).unwrap_or_default();
        format!("{value:#}")
    }

    /// The same in the form of `gcloud storage buckets update --cors-file`.
    pub(super) fn gcs_json(&self) -> String {
        // One list has the request's and the response's fields
        // (https://cloud.google.com/storage/docs/cross-origin#cors-components).
        let fields: Vec<&String> = self.headers.iter().chain(&self.expose).collect();
        let value: Value = json!([{
            "origin": [self.origin],
            "method": [self.method],
            "responseHeader": fields,
            "maxAgeSeconds": MAX_AGE_SECONDS,
        }]);
        format!("{value:#}")
    }

    /// The same in the form of `wrangler r2 bucket cors set --file`.
    pub(super) fn r2_json(&self) -> String {
        let value = json!({ "rules": [{
            "allowed": { "origins": [self.origin], "methods": [self.method], "headers": self.headers },
            "exposeHeaders": self.expose,
            "maxAgeSeconds": MAX_AGE_SECONDS,
        }]});
        format!("{value:#}")
    }

    /// The response fields of the preflight.
    pub(super) fn preflight_fields(&self) -> Vec<(&'static str, String)> {
        let mut fields = self.response_fields(false);
        fields.push(("Access-Control-Allow-Methods", self.method.clone()));
        if !self.headers.is_empty() {
            fields.push(("Access-Control-Allow-Headers", self.headers.join(", ")));
        }
        fields.push(("Access-Control-Max-Age", MAX_AGE_SECONDS.to_string()));
        fields
    }

    /// The response fields of the request itself.
    pub(super) fn response_fields(&self, exposes: bool) -> Vec<(&'static str, String)> {
        let mut fields = vec![("Access-Control-Allow-Origin", self.origin.clone())];
        if self.has_credentials {
            fields.push(("Access-Control-Allow-Credentials", "true".to_owned()));
        }
        if exposes && !self.expose.is_empty() {
            fields.push(("Access-Control-Expose-Headers", self.expose.join(", ")));
        }
        fields.push(("Vary", "Origin".to_owned()));
        fields
    }
}
