//! ingress-nginx: constant fields in every response to a listed origin (the importer has the
//! sources).

use std::fmt::Write as _;

use proptest::option;
use proptest::prelude::*;
use s3cors::import::Dialect;

use super::browser::{Fields, Request};
use super::model::{Source, agrees, some};

#[derive(Debug)]
struct Ingress {
    origins: Option<Vec<String>>,
    methods: Option<Vec<String>>,
    headers: Option<Vec<String>>,
    exposed: Option<Vec<String>>,
    credentials: Option<bool>,
    max_age: Option<u32>,
    /// An Ingress, not only its annotations.
    resource: bool,
}

impl Ingress {
    fn allows(&self, origin: &str) -> bool {
        let origins = self.origins.iter().flatten();
        origins.into_iter().any(|pattern| {
            let pattern = pattern.to_ascii_lowercase();
            match pattern.split_once('*') {
                // The expression has no start anchor, only an end anchor.
                None => origin.ends_with(&pattern),
                Some((before, after)) => {
                    let label = |label: &str| {
                        !label.is_empty()
                            && label
                                .chars()
                                .all(|one| one.is_ascii_alphanumeric() || one == '-')
                    };
                    origin.strip_suffix(after).is_some_and(|rest| {
                        (0..=rest.len())
                            .any(|at| rest[..at].ends_with(before) && label(&rest[at..]))
                    })
                }
            }
        })
    }
}

impl Source for Ingress {
    const DIALECT: Dialect = Dialect::IngressNginx;

    fn text(&self) -> String {
        let (mut text, indent) = match self.resource {
            true => (
                "kind: Ingress\nmetadata:\n  annotations:\n".to_owned(),
                "    ",
            ),
            false => (String::new(), ""),
        };
        let list = |list: &Option<Vec<String>>, comma| list.as_ref().map(|list| list.join(comma));
        for (name, value) in [
            ("enable-cors", Some("true".to_owned())),
            ("cors-allow-origin", list(&self.origins, ", ")),
            ("cors-allow-methods", list(&self.methods, ",")),
            ("cors-allow-headers", list(&self.headers, ", ")),
            ("cors-expose-headers", list(&self.exposed, ", ")),
            (
                "cors-allow-credentials",
                self.credentials.map(|one| one.to_string()),
            ),
            (
                "cors-max-age",
                self.max_age.map(|seconds| seconds.to_string()),
            ),
        ] {
            if let Some(value) = value {
                let name = format!("nginx.ingress.kubernetes.io/{name}");
                writeln!(text, "{indent}{name}: {value:?}").unwrap();
            }
        }
        text
    }

    fn preflight(&self, request: &Request) -> Fields {
        self.actual(request)
    }

    fn actual(&self, request: &Request) -> Fields {
        let mut origins = self.origins.iter().flatten();
        let any = self.origins.is_none() || origins.any(|origin| origin == "*");
        if !any && !self.allows(&request.origin) {
            return Fields::default();
        }
        let list = |list: &Option<Vec<String>>, default: &str| match list {
            Some(list) => list.join(","),
            None => default.to_owned(),
        };
        let methods = list(&self.methods, "GET, PUT, POST, DELETE, PATCH, OPTIONS");
        let headers = list(
            &self.headers,
            "DNT,Keep-Alive,User-Agent,X-Requested-With,If-Modified-Since,Cache-Control,\
             Content-Type,Range,Authorization",
        );
        Fields {
            allow_origin: Some(if any {
                "*".into()
            } else {
                request.origin.clone()
            }),
            allow_credentials: self.credentials.unwrap_or(true),
            allow_methods: Some(methods),
            allow_headers: Some(headers),
            expose_headers: self.exposed.as_ref().map(|list| list.join(",")),
            max_age: Some(self.max_age.unwrap_or(1_728_000).to_string()),
        }
    }
}

fn ingress() -> impl Strategy<Value = Ingress> {
    let origins = &[
        "https://a.test",
        "https://A.test",
        "https://a.test:8443",
        "https://b.test",
        "https://*.a.test",
        "https://a.test",
        "http://a.test",
        "*",
    ];
    let methods = &[
        "GET", "PUT", "HEAD", "POST", "DELETE", "PATCH", "OPTIONS", "MERGE",
    ];
    let settings = (
        option::weighted(0.8, some(origins, 1..4)),
        option::of(some(methods, 1..6)),
        option::of(some(&["Authorization", "X-A", "content-type"], 1..4)),
        option::of(some(&["ETag", "*", "x-a"], 1..4)),
        option::of(any::<bool>()),
        option::of(0..9000_u32),
        any::<bool>(),
    );
    settings.prop_map(
        |(origins, methods, headers, exposed, credentials, max_age, resource)| Ingress {
            origins,
            methods,
            headers,
            exposed,
            credentials,
            max_age,
            resource,
        },
    )
}

#[test]
fn ingress_nginx_agrees_with_its_model() {
    agrees(
        ingress(),
        &[
            "credentials-added",
            "expose-wildcard",
            "method-unsupported",
            "origin-pattern-wider",
        ],
    );
}
