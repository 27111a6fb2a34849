//! The formats of CORS settings, and how each is recognized.

use super::document::{Node, Value};
use super::{azure, b2, cloudformation, gateway_api, gcs, ingress_nginx, r2, s3_json, terraform};

/// A format of CORS settings.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Dialect {
    /// S3's JSON: the console's array, `aws s3api get-bucket-cors`.
    S3Json,
    /// Google Cloud Storage's JSON, or a bucket's resource.
    Gcs,
    /// Azure Storage's XML, or ARM's JSON.
    Azure,
    /// ingress-nginx: an Ingress, or its annotations.
    IngressNginx,
    /// Gateway API: an HTTPRoute, or its CORS filter.
    GatewayApi,
    /// MinIO's `cors_allow_origin`.
    Minio,
    /// Cloudflare R2's JSON.
    R2,
    /// Backblaze B2's `corsRules`.
    B2,
    /// CloudFormation, and SAM, serverless and the CDK, which generate it.
    CloudFormation,
    /// Terraform's HCL, or `terraform show -json`.
    Terraform,
}

impl Dialect {
    /// Every dialect.
    pub const ALL: [Self; 10] = [
        Self::S3Json,
        Self::Gcs,
        Self::Azure,
        Self::IngressNginx,
        Self::GatewayApi,
        Self::Minio,
        Self::R2,
        Self::B2,
        Self::CloudFormation,
        Self::Terraform,
    ];

    /// Its stable name.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::S3Json => "s3-json",
            Self::Gcs => "gcs",
            Self::Azure => "azure",
            Self::IngressNginx => "ingress-nginx",
            Self::GatewayApi => "gateway-api",
            Self::Minio => "minio",
            Self::R2 => "r2",
            Self::B2 => "b2",
            Self::CloudFormation => "cloudformation",
            Self::Terraform => "terraform",
        }
    }
}

/// Every dialect that fits a document: each has keys of its own, and keys that exclude it.
pub(super) fn fitting(document: &Node) -> Vec<Dialect> {
    let first = document.items().first();
    let mut fitting = Vec::new();
    let mut fits = |dialect, fits: bool| {
        if fits {
            fitting.push(dialect);
        }
    };
    let is_cloudformation = !cloudformation::rule_lists(document).is_empty();
    let is_b2 = b2::rules(document).is_some();
    let is_r2 = r2::rules(document).is_some();
    let azure = azure::rules(document).is_some_and(|rules| !rules.is_empty() || !is_b2);
    fits(Dialect::Azure, azure && !is_b2);
    fits(
        Dialect::S3Json,
        s3_json::rules(document).is_some_and(|rules| rules.iter().all(|rule| is_s3(rule))),
    );
    fits(
        Dialect::Gcs,
        gcs::list(document).is_some()
            || gcs::xml_entries(document).is_some()
            || first.is_some_and(gcs::is_entry),
    );
    fits(Dialect::IngressNginx, ingress_nginx::is_one(document));
    fits(Dialect::R2, is_r2);
    fits(Dialect::B2, is_b2);
    fits(Dialect::CloudFormation, is_cloudformation);
    if fitting.is_empty() && terraform::is_one(document) {
        return vec![Dialect::Terraform];
    }
    // Its keys may be anywhere in a document.
    if fitting.is_empty() && !gateway_api::filters(document).is_empty() {
        return vec![Dialect::GatewayApi];
    }
    fitting
}

/// Whether a rule with keys shared by S3 and Azure is S3's: its values are lists, while Azure's
/// command line prints text.
fn is_s3(rule: &Node) -> bool {
    let text = |key| matches!(rule.get(key), Some(Node { value: Value::Scalar(text), .. }) if text.contains(','));
    !text("AllowedOrigins") && !text("AllowedMethods")
}
