//! Google Cloud Storage: an entry answers where it lists the origin and the method; its headers
//! are both allowed and exposed; credentials are never allowed
//! (<https://cloud.google.com/storage/docs/cross-origin>).

use proptest::prelude::*;
use proptest::{collection, option};
use s3cors::import::Dialect;
use serde_json::json;

use super::browser::{Fields, Request};
use super::model::{Source, agrees, some};

#[derive(Debug)]
struct Entry {
    origins: Vec<String>,
    methods: Vec<String>,
    headers: Vec<String>,
    max_age: Option<u32>,
}

#[derive(Debug)]
struct Bucket {
    entries: Vec<Entry>,
    /// The bucket's resource, not only the list.
    resource: bool,
}

fn lists(list: &[String], value: &str) -> bool {
    list.iter().any(|one| one == "*" || one == value)
}

impl Bucket {
    fn asked(&self, request: &Request) -> Vec<&Entry> {
        let entries = self.entries.iter();
        entries
            .filter(|entry| {
                lists(&entry.origins, &request.origin) && lists(&entry.methods, &request.method)
            })
            .collect()
    }

    fn answer(&self, request: &Request, headers: &[String]) -> Fields {
        let Some(entry) = self.asked(request).first().copied() else {
            return Fields::default();
        };
        let allowed = |name: &String| {
            let mut listed = entry.headers.iter();
            listed.any(|one| one == "*" || one.eq_ignore_ascii_case(name))
        };
        if !headers.iter().all(allowed) {
            return Fields::default();
        }
        let any = entry.origins.iter().any(|origin| origin == "*");
        Fields {
            allow_origin: Some(if any {
                "*".into()
            } else {
                request.origin.clone()
            }),
            allow_credentials: false,
            allow_methods: Some(request.method.clone()),
            allow_headers: Some(headers.join(", ")),
            expose_headers: Some(entry.headers.join(", ")),
            max_age: entry.max_age.map(|seconds| seconds.to_string()),
        }
    }
}

impl Source for Bucket {
    const DIALECT: Dialect = Dialect::Gcs;

    fn text(&self) -> String {
        let entries: serde_json::Value = self
            .entries
            .iter()
            .map(|entry| {
                let mut json = json!({
                    "origin": entry.origins,
                    "method": entry.methods,
                    "responseHeader": entry.headers,
                });
                if let Some(seconds) = entry.max_age {
                    json["maxAgeSeconds"] = seconds.into();
                }
                json
            })
            .collect();
        match self.resource {
            true => json!({ "kind": "storage#bucket", "cors": entries }).to_string(),
            false => format!("{entries:#}"),
        }
    }

    fn preflight(&self, request: &Request) -> Fields {
        self.answer(request, &request.headers)
    }

    fn actual(&self, request: &Request) -> Fields {
        self.answer(request, &[])
    }

    fn is_undocumented(&self, request: &Request) -> bool {
        self.asked(request).len() > 1
    }
}

fn bucket() -> impl Strategy<Value = Bucket> {
    let origins = &[
        "*",
        "https://a.test",
        "https://b.test",
        "https://*.a.test",
        "null",
    ];
    let methods = &[
        "GET", "PUT", "HEAD", "POST", "DELETE", "PATCH", "OPTIONS", "*",
    ];
    let entry = (
        some(origins, 1..3),
        some(methods, 1..4),
        some(&["*", "x-a", "x-a*", "Content-Type", "ETag"], 0..3),
        option::of(0..9000_u32),
    );
    let entry = entry.prop_map(|(origins, methods, headers, max_age)| Entry {
        origins,
        methods,
        headers,
        max_age,
    });
    let entries = collection::vec(entry, 1..4);
    (entries, any::<bool>()).prop_map(|(entries, resource)| Bucket { entries, resource })
}

#[test]
fn google_cloud_storage_agrees_with_its_model() {
    agrees(
        bucket(),
        &[
            "any-method",
            "credentials-added",
            "expose-wildcard",
            "header-pattern",
            "method-unsupported",
            "rule-choice",
        ],
    );
}
