//! MinIO: every matching origin is answered by name, with credentials (the importer has the
//! sources).

use proptest::prelude::*;
use proptest::sample::select;
use s3cors::import::Dialect;

use super::browser::{Fields, Request};
use super::model::{Source, agrees, glob, some};

#[derive(Debug)]
struct Minio {
    origins: Vec<String>,
    /// How the setting is written, around the list.
    around: (&'static str, &'static str),
}

impl Minio {
    fn allows(&self, request: &Request) -> bool {
        let methods = ["GET", "PUT", "HEAD", "POST", "DELETE", "OPTIONS", "PATCH"];
        methods.contains(&&*request.method)
            && self
                .origins
                .iter()
                .any(|origin| glob(origin, &request.origin))
    }
}

impl Source for Minio {
    const DIALECT: Dialect = Dialect::Minio;

    fn text(&self) -> String {
        let (before, after) = self.around;
        format!("{before}{}{after}", self.origins.join(","))
    }

    fn names(&self, origin: &str) -> bool {
        let mut patterns = self.origins.iter().filter(|pattern| *pattern != "*");
        patterns.any(|pattern| glob(pattern, origin))
    }

    fn preflight(&self, request: &Request) -> Fields {
        if !self.allows(request) {
            return Fields::default();
        }
        Fields {
            allow_origin: Some(request.origin.clone()),
            allow_credentials: true,
            allow_methods: Some(request.method.clone()),
            allow_headers: Some(request.headers.join(", ")),
            ..Fields::default()
        }
    }

    fn actual(&self, request: &Request) -> Fields {
        if !self.allows(request) {
            return Fields::default();
        }
        Fields {
            allow_origin: Some(request.origin.clone()),
            allow_credentials: true,
            expose_headers: Some("Date, Etag, Server, Expires, X-Amz*, X-Amz*, *".to_owned()),
            ..Fields::default()
        }
    }
}

fn minio() -> impl Strategy<Value = Minio> {
    let origins = &[
        "*",
        "https://a.test",
        "https://*.a.test",
        "https://*.b.*",
        "http*://a.test",
        "null",
    ];
    let around = &[
        (
            "api requests_max=0 cors_allow_origin=",
            " sync_events=off\n",
        ),
        ("MINIO_API_CORS_ALLOW_ORIGIN=\"", "\"\n"),
        ("env:\n  MINIO_API_CORS_ALLOW_ORIGIN: '", "'\n"),
    ];
    let settings = (some(origins, 1..4), select(&around[..]));
    settings.prop_map(|(origins, around)| Minio { origins, around })
}

#[test]
fn minio_agrees_with_its_model() {
    agrees(
        minio(),
        &[
            "credentials-with-any-origin",
            "expose-wildcard",
            "method-unsupported",
            "origin-two-wildcards",
        ],
    );
}
