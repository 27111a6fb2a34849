//! Azure Storage: the first rule with origin and method decides, and refuses headers that it does
//! not list (the importer has the sources).

use proptest::prelude::*;
use proptest::sample::select;
use proptest::{collection, option};
use s3cors::import::Dialect;
use serde_json::json;

use super::browser::{Fields, Request};
use super::model::{RESPONSE_FIELDS, Source, agrees, glob, some};

#[derive(Debug)]
struct Rule {
    origins: Vec<String>,
    methods: Vec<String>,
    headers: Vec<String>,
    exposed: Vec<String>,
    max_age: Option<u32>,
}

#[derive(Clone, Copy, Debug)]
enum Syntax {
    Xml,
    Arm,
    Cli,
}

#[derive(Debug)]
struct Service {
    rules: Vec<Rule>,
    syntax: Syntax,
}

impl Service {
    fn answer(&self, request: &Request, headers: &[String]) -> Fields {
        let any = |rule: &Rule| rule.origins.iter().any(|origin| origin == "*");
        let rule = self.rules.iter().find(|rule| {
            let mut origins = rule.origins.iter();
            (any(rule) || origins.any(|origin| glob(origin, &request.origin)))
                && rule.methods.contains(&request.method)
        });
        let allowed = |rule: &&Rule| {
            let mut names = headers.iter();
            names.all(|name| {
                rule.headers
                    .iter()
                    .any(|one| glob(&one.to_ascii_lowercase(), name))
            })
        };
        let Some(rule) = rule.filter(allowed) else {
            return Fields::default();
        };
        // A prefix is sent as the response's fields that begin with it.
        let is_exposed = |name: &&&str| {
            rule.exposed
                .iter()
                .any(|one| glob(&one.to_ascii_lowercase(), name))
        };
        let exposed: Vec<&str> = RESPONSE_FIELDS.iter().filter(is_exposed).copied().collect();
        Fields {
            allow_origin: Some(if any(rule) {
                "*".into()
            } else {
                request.origin.clone()
            }),
            allow_credentials: true,
            allow_methods: Some(request.method.clone()),
            allow_headers: Some(headers.join(",")),
            expose_headers: Some(exposed.join(",")),
            max_age: rule.max_age.map(|seconds| seconds.to_string()),
        }
    }
}

impl Source for Service {
    const DIALECT: Dialect = Dialect::Azure;

    fn text(&self) -> String {
        let rules = self.rules.iter();
        match self.syntax {
            Syntax::Xml => {
                let rules: String = rules
                    .map(|rule| {
                        let max_age = rule
                            .max_age
                            .map(|seconds| format!("<MaxAgeInSeconds>{seconds}</MaxAgeInSeconds>"));
                        format!(
                            "<CorsRule><AllowedOrigins>{}</AllowedOrigins>\n<AllowedMethods>{}\
                             </AllowedMethods>{}<ExposedHeaders>{}</ExposedHeaders>\
                             <AllowedHeaders>{}</AllowedHeaders></CorsRule>",
                            rule.origins.join(", "),
                            rule.methods.join(","),
                            max_age.unwrap_or_default(),
                            rule.exposed.join(","),
                            rule.headers.join(" ,\n"),
                        )
                    })
                    .collect();
                format!("<StorageServiceProperties><Cors>{rules}</Cors></StorageServiceProperties>")
            }
            Syntax::Arm => {
                let rules: serde_json::Value = rules
                    .map(|rule| {
                        json!({
                            "allowedOrigins": rule.origins,
                            "allowedMethods": rule.methods,
                            "allowedHeaders": rule.headers,
                            "exposedHeaders": rule.exposed,
                            "maxAgeInSeconds": rule.max_age,
                        })
                    })
                    .collect();
                json!({ "properties": { "cors": { "corsRules": rules } } }).to_string()
            }
            Syntax::Cli => {
                let rules: serde_json::Value = rules
                    .map(|rule| {
                        json!({
                            "AllowedOrigins": rule.origins.join(", "),
                            "AllowedMethods": rule.methods.join(", "),
                            "AllowedHeaders": rule.headers.join(", "),
                            "ExposedHeaders": rule.exposed.join(", "),
                            "MaxAgeInSeconds": rule.max_age,
                            "Service": "blob",
                        })
                    })
                    .collect();
                format!("{rules:#}")
            }
        }
    }

    fn preflight(&self, request: &Request) -> Fields {
        self.answer(request, &request.headers)
    }

    fn actual(&self, request: &Request) -> Fields {
        self.answer(request, &[])
    }
}

fn service() -> impl Strategy<Value = Service> {
    // Few, so that rules overlap.
    let origins = &["*", "https://a.test", "https://b.test", "https://*.a.test"];
    let methods = &["GET", "PUT", "DELETE", "PATCH", "OPTIONS", "MERGE"];
    let rule = (
        some(origins, 1..3),
        some(methods, 2..6),
        some(&["*", "x-a", "X-A*", "x-ms-meta-*"], 0..2),
        some(&["*", "x-a*", "ETag", "x-ms-meta-*", "x-a"], 0..3),
        option::of(0..9000_u32),
    );
    let rule = rule.prop_map(|(origins, methods, headers, exposed, max_age)| Rule {
        origins,
        methods,
        headers,
        exposed,
        max_age,
    });
    let rules = collection::vec(rule, 1..6);
    let syntax = select(&[Syntax::Xml, Syntax::Arm, Syntax::Cli][..]);
    (rules, syntax).prop_map(|(rules, syntax)| Service { rules, syntax })
}

#[test]
fn azure_storage_agrees_with_its_model() {
    agrees(
        service(),
        &["expose-wildcard", "method-unsupported", "next-rule-asked"],
    );
}
