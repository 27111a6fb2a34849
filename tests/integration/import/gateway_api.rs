//! Gateway API's CORS filter, as in its reference (see the importer).

use proptest::option;
use proptest::prelude::*;
use proptest::sample::select;
use s3cors::import::Dialect;
use serde_json::json;

use super::browser::{Fields, Request};
use super::model::{Source, agrees, glob, some};

#[derive(Debug)]
struct Filter {
    origins: Vec<String>,
    methods: Vec<String>,
    headers: Vec<String>,
    exposed: Vec<String>,
    credentials: Option<bool>,
    max_age: Option<u32>,
    /// An HTTPRoute, not only its filter.
    resource: bool,
}

/// Scheme, host and port; the default port is the scheme's.
fn parts(origin: &str) -> Option<(String, String, String)> {
    let (scheme, rest) = origin.split_once("://")?;
    let (host, port) = match rest.split_once(':') {
        Some((host, port)) => (host, port),
        None => (rest, if scheme == "https" { "443" } else { "80" }),
    };
    Some((
        scheme.to_owned(),
        host.to_ascii_lowercase(),
        port.to_owned(),
    ))
}

fn has_any(list: &[String]) -> bool {
    list.iter().any(|one| one == "*")
}

fn joined(list: &[String]) -> Option<String> {
    (!list.is_empty()).then(|| list.join(", "))
}

impl Filter {
    fn allow_origin(&self, origin: &str) -> Option<String> {
        let with_credentials = self.credentials == Some(true);
        if has_any(&self.origins) {
            return Some(if with_credentials { origin } else { "*" }.to_owned());
        }
        let (scheme, host, port) = parts(origin)?;
        let matches = self
            .origins
            .iter()
            .filter_map(|pattern| parts(pattern))
            .any(|pattern| pattern.0 == scheme && glob(&pattern.1, &host) && pattern.2 == port);
        matches.then(|| origin.to_owned())
    }

    fn answer(&self, request: &Request, is_preflight: bool) -> Fields {
        let Some(allow_origin) = self.allow_origin(&request.origin) else {
            return Fields::default();
        };
        let with_credentials = self.credentials == Some(true);
        let methods = match has_any(&self.methods) && with_credentials {
            true => Some(request.method.clone()),
            false => joined(&self.methods),
        };
        let headers = match has_any(&self.headers) && with_credentials {
            true => joined(&request.headers),
            false => joined(&self.headers),
        };
        Fields {
            allow_origin: Some(allow_origin),
            allow_credentials: with_credentials,
            allow_methods: methods.filter(|_| is_preflight),
            allow_headers: headers.filter(|_| is_preflight),
            expose_headers: joined(&self.exposed),
            max_age: Some(self.max_age.unwrap_or(5).to_string()),
        }
    }
}

impl Source for Filter {
    const DIALECT: Dialect = Dialect::GatewayApi;

    fn text(&self) -> String {
        let mut filter = json!({
            "allowOrigins": self.origins,
            "allowMethods": self.methods,
            "allowHeaders": self.headers,
            "exposeHeaders": self.exposed,
        });
        if let Some(credentials) = self.credentials {
            filter["allowCredentials"] = credentials.into();
        }
        if let Some(seconds) = self.max_age {
            filter["maxAge"] = seconds.into();
        }
        match self.resource {
            true => format!(
                "kind: HTTPRoute\nspec:\n  rules:\n  - filters:\n    - type: CORS\n      cors: {filter}\n"
            ),
            false => format!("{filter:#}"),
        }
    }

    fn preflight(&self, request: &Request) -> Fields {
        self.answer(request, true)
    }

    fn actual(&self, request: &Request) -> Fields {
        self.answer(request, false)
    }
}

fn filter() -> impl Strategy<Value = Filter> {
    let named = some(
        &[
            "https://a.test",
            "https://A.test:443",
            "https://a.test:8443",
            "http://a.test:80",
            "https://*.a.test",
            "https://*",
            "https://*:8443",
            "https://*.b.*",
            "http://*:8080",
        ],
        1..4,
    );
    let all = || Just(vec!["*".to_owned()]);
    let methods = &["GET", "PUT", "HEAD", "POST", "DELETE", "PATCH", "OPTIONS"];
    let settings = (
        prop_oneof![3 => named, 1 => all()],
        prop_oneof![3 => some(methods, 0..5), 1 => all()],
        some(&["*", "Authorization", "x-a", "content-type"], 0..3),
        some(&["*", "ETag", "x-a"], 0..3),
        select(&[None, Some(true), Some(true), Some(false)][..]),
        option::of(1..9000_u32),
        any::<bool>(),
    );
    settings.prop_map(
        |(origins, methods, headers, exposed, credentials, max_age, resource)| Filter {
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
fn gateway_api_agrees_with_its_model() {
    agrees(
        filter(),
        &[
            "any-method",
            "credentials-added",
            "credentials-with-any-origin",
            "expose-wildcard",
            "header-authorization",
            "method-unsupported",
            "origin-pattern-wider",
            "origin-two-wildcards",
        ],
    );
}
