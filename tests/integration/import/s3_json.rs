//! S3, as in `conformance`: the first rule that allows origin, method and headers. R2, B2,
//! CloudFormation and Terraform have the same rules in other forms.

use std::fmt::{Debug, Write as _};
use std::marker::PhantomData;

use proptest::prelude::*;
use proptest::{collection, option};
use s3cors::import::Dialect;
use serde_json::{Value, json};

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

/// A form of the same rules.
trait Form: Debug {
    const DIALECT: Dialect;

    /// The origins in rules.
    const ORIGINS: &'static [&'static str] = &[
        "*",
        "https://a.test",
        "https://*.a.test",
        "https://*",
        "null",
        "http*://a.test",
    ];

    fn text(bucket: &Bucket) -> String;

    fn matches(pattern: &str, origin: &str) -> bool {
        glob(pattern, origin)
    }
}

/// Settings of a system with S3's rules in another form.
#[derive(Debug)]
struct Written<F> {
    bucket: Bucket,
    form: PhantomData<F>,
}

#[derive(Debug)]
struct Bucket {
    rules: Vec<Rule>,
    /// As `aws s3api get-bucket-cors` prints it, and not as the console does.
    wrapped: bool,
}

impl Bucket {
    fn answer<F: Form>(&self, request: &Request, headers: &[String]) -> Fields {
        let rule = self.rules.iter().find(|rule| {
            rule.origins
                .iter()
                .any(|origin| F::matches(origin, &request.origin))
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

#[derive(Debug)]
struct S3Json;

impl Form for S3Json {
    const DIALECT: Dialect = Dialect::S3Json;

    fn text(bucket: &Bucket) -> String {
        let rules: Value = bucket
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
        match bucket.wrapped {
            true => json!({ "CORSRules": rules }).to_string(),
            false => format!("{rules:#}"),
        }
    }
}

impl<F: Form> Source for Written<F> {
    const DIALECT: Dialect = F::DIALECT;

    fn text(&self) -> String {
        F::text(&self.bucket)
    }

    fn preflight(&self, request: &Request) -> Fields {
        self.bucket.answer::<F>(request, &request.headers)
    }

    fn actual(&self, request: &Request) -> Fields {
        self.bucket.answer::<F>(request, &[])
    }
}

/// Cloudflare's API and `wrangler r2 bucket cors`.
#[derive(Debug)]
struct R2;

impl Form for R2 {
    const DIALECT: Dialect = Dialect::R2;

    fn text(bucket: &Bucket) -> String {
        let rules = bucket.rules.iter().map(|rule| {
            let mut json = json!({
                "allowed": {
                    "origins": rule.origins,
                    "methods": rule.methods,
                    "headers": rule.headers,
                },
                "exposeHeaders": rule.exposed,
            });
            if let Some(seconds) = rule.max_age {
                json["maxAgeSeconds"] = seconds.into();
            }
            json
        });
        let rules = rules.collect::<Value>();
        match bucket.wrapped {
            // The API's response.
            true => json!({ "success": true, "result": { "rules": rules } }).to_string(),
            false => json!({ "rules": rules }).to_string(),
        }
    }
}

/// A bucket as `b2 bucket get` prints it, or its rules alone. `https` is every origin of that scheme; an
/// origin without a port has the scheme's own; operations of the native API are not requests of S3's
/// (<https://www.backblaze.com/docs/cloud-storage-cross-origin-resource-sharing-rules>).
#[derive(Debug)]
struct B2;

impl Form for B2 {
    const DIALECT: Dialect = Dialect::B2;

    const ORIGINS: &'static [&'static str] = &[
        "*",
        "https",
        "https://a.test",
        "https://a.test:443",
        "https://a.test:8443",
        "https://*.a.test",
        "https://*",
        "https://*:8443",
    ];

    fn matches(pattern: &str, origin: &str) -> bool {
        let port = |origin: &str| {
            let (_, authority) = origin.split_once("://").unwrap_or_default();
            let (_, port) = authority.rsplit_once(':').unwrap_or_default();
            port.to_owned()
        };
        let pattern = pattern.trim_end_matches(":443");
        match pattern {
            "*" => true,
            "https" => origin.starts_with("https:"),
            _ => port(pattern) == port(origin) && glob(pattern, origin),
        }
    }

    fn text(bucket: &Bucket) -> String {
        let rules = bucket.rules.iter().map(|rule| {
            let methods = rule.methods.iter();
            let operations = methods.map(|method| format!("s3_{}", method.to_lowercase()));
            let native = bucket.wrapped.then(|| "b2_download_file_by_id".to_owned());
            let mut json = json!({
                "corsRuleName": "rule",
                "allowedOrigins": rule.origins,
                "allowedOperations": operations.chain(native).collect::<Value>(),
                "allowedHeaders": rule.headers,
                "exposeHeaders": rule.exposed,
            });
            if let Some(seconds) = rule.max_age {
                json["maxAgeSeconds"] = seconds.into();
            }
            json
        });
        let rules = rules.collect::<Value>();
        match bucket.wrapped {
            true => json!({ "bucketName": "photos", "corsRules": rules }).to_string(),
            false => rules.to_string(),
        }
    }
}

/// A template in JSON or YAML.
#[derive(Debug)]
struct CloudFormation;

impl Form for CloudFormation {
    const DIALECT: Dialect = Dialect::CloudFormation;

    fn text(bucket: &Bucket) -> String {
        let rules = bucket.rules.iter().map(|rule| {
            let mut json = json!({
                "AllowedOrigins": rule.origins,
                "AllowedMethods": rule.methods,
                "AllowedHeaders": rule.headers,
                "ExposedHeaders": rule.exposed,
            });
            if let Some(seconds) = rule.max_age {
                json["MaxAge"] = seconds.into();
            }
            json
        });
        let rules = rules.collect::<Value>();
        match bucket.wrapped {
            true => json!({ "Resources": { "Photos": {
                "Type": "AWS::S3::Bucket",
                "Properties": { "CorsConfiguration": { "CorsRules": rules } },
            } } })
            .to_string(),
            // JSON values are YAML values.
            false => format!(
                "Resources:\n  Photos:\n    Type: AWS::S3::Bucket\n    Properties:\n      \
                 CorsConfiguration:\n        CorsRules: {rules}\n"
            ),
        }
    }
}

/// A resource of the AWS provider, or `terraform show -json`'s form of it.
#[derive(Debug)]
struct Terraform;

impl Form for Terraform {
    const DIALECT: Dialect = Dialect::Terraform;

    fn text(bucket: &Bucket) -> String {
        let rules = bucket.rules.iter().map(|rule| {
            json!({
                "id": "",
                "allowed_origins": rule.origins,
                "allowed_methods": rule.methods,
                "allowed_headers": rule.headers,
                "expose_headers": rule.exposed,
                "max_age_seconds": rule.max_age,
            })
        });
        if bucket.wrapped {
            let values = json!({ "bucket": "photos", "cors_rule": rules.collect::<Value>() });
            let resources = json!([{
                "address": "aws_s3_bucket_cors_configuration.photos",
                "type": "aws_s3_bucket_cors_configuration",
                "values": values,
            }]);
            return json!({ "values": { "root_module": { "resources": resources } } }).to_string();
        }
        let mut text = "resource \"aws_s3_bucket_cors_configuration\" \"photos\" {\n".to_owned();
        for rule in rules {
            text += "  cors_rule {\n";
            for (name, value) in rule.as_object().unwrap() {
                if name != "id" && !value.is_null() {
                    writeln!(text, "    {name} = {value}").unwrap();
                }
            }
            text += "  }\n";
        }
        text + "}\n"
    }
}

fn bucket<F>() -> impl Strategy<Value = Written<F>>
where
    F: Form,
{
    let methods = &["GET", "PUT", "HEAD", "POST", "DELETE"];
    let rule = (
        some(F::ORIGINS, 1..3),
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
    (rules, any::<bool>()).prop_map(|(rules, wrapped)| Written {
        bucket: Bucket { rules, wrapped },
        form: PhantomData,
    })
}

#[test]
fn s3_settings_are_imported_unchanged() {
    agrees(bucket::<S3Json>(), &[]);
}

#[test]
fn r2_settings_are_imported_unchanged() {
    agrees(bucket::<R2>(), &[]);
}

#[test]
fn b2_settings_are_imported_unchanged() {
    agrees(bucket::<B2>(), &["origin-pattern-wider"]);
}

#[test]
fn cloudformation_settings_are_imported_unchanged() {
    agrees(bucket::<CloudFormation>(), &[]);
}

#[test]
fn terraform_settings_are_imported_unchanged() {
    agrees(bucket::<Terraform>(), &[]);
}
