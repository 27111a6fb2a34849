//! S3, as `conformance` has it: the first rule that allows origin, method and headers.

use proptest::prelude::*;
use proptest::{collection, option};
use s3cors::import::Dialect;
use serde_json::json;

use super::browser::{Fields, Request};
use super::model::{Source, agrees, glob, some};

#[derive(Debug)]
struct Rule {
    origins: Vec<String>,
    methods: Vec<String>,
    headers: Vec<String>,
    exposed: Vec<String>,
    max_age: Option<u32>,
}

#[derive(Debug)]
struct Bucket {
    rules: Vec<Rule>,
    /// As `aws s3api get-bucket-cors` prints it, and not as the console does.
    wrapped: bool,
}

impl Bucket {
    fn answer(&self, request: &Request, headers: &[String]) -> Fields {
        let rule = self.rules.iter().find(|rule| {
            rule.origins
                .iter()
                .any(|origin| glob(origin, &request.origin))
                && rule.methods.contains(&request.method)
                && headers
                    .iter()
                    .all(|name| rule.headers.iter().any(|one| glob(one, name)))
        });
        let Some(rule) = rule else {
            return Fields::default();
        };
        let any = rule.origins.iter().any(|origin| origin == "*");
        Fields {
            allow_origin: Some(if any {
                "*".into()
            } else {
                request.origin.clone()
            }),
            allow_credentials: !any,
            allow_methods: Some(rule.methods.join(", ")),
            allow_headers: Some(headers.join(", ")),
            expose_headers: Some(rule.exposed.join(", ")),
            max_age: rule.max_age.map(|seconds| seconds.to_string()),
        }
    }
}

impl Source for Bucket {
    const DIALECT: Dialect = Dialect::S3Json;

    fn text(&self) -> String {
        let rules: serde_json::Value = self
            .rules
            .iter()
            .map(|rule| {
                let mut json = json!({
                    "AllowedOrigins": rule.origins,
                    "AllowedMethods": rule.methods,
                    "AllowedHeaders": rule.headers,
                    "ExposeHeaders": rule.exposed,
                });
                if let Some(seconds) = rule.max_age {
                    json["MaxAgeSeconds"] = seconds.into();
                }
                json
            })
            .collect();
        match self.wrapped {
            true => json!({ "CORSRules": rules }).to_string(),
            false => format!("{rules:#}"),
        }
    }

    fn preflight(&self, request: &Request) -> Fields {
        self.answer(request, &request.headers)
    }

    fn actual(&self, request: &Request) -> Fields {
        self.answer(request, &[])
    }
}

fn bucket() -> impl Strategy<Value = Bucket> {
    let origins = &[
        "*",
        "https://a.test",
        "https://*.a.test",
        "https://*",
        "null",
        "http*://a.test",
    ];
    let methods = &["GET", "PUT", "HEAD", "POST", "DELETE"];
    let rule = (
        some(origins, 1..3),
        some(methods, 1..4),
        some(&["*", "x-*", "authorization", "content-type"], 0..3),
        some(&["ETag", "x-a", "Date"], 0..3),
        option::of(0..9000_u32),
    );
    let rule = rule.prop_map(|(origins, methods, headers, exposed, max_age)| Rule {
        origins,
        methods,
        headers,
        exposed,
        max_age,
    });
    let rules = collection::vec(rule, 1..4);
    (rules, any::<bool>()).prop_map(|(rules, wrapped)| Bucket { rules, wrapped })
}

#[test]
fn what_s3_takes_is_taken_as_it_is() {
    agrees(bucket(), &[]);
}
