//! Identifies the kind of a server by its response fields and its name.

use http::HeaderMap;

use super::client::Answer;
use super::target;

/// A kind of server that has its own form of CORS settings.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ServerKind {
    S3cors,
    AmazonS3,
    Minio,
    R2,
    Gcs,
    Ceph,
    SeaweedFs,
    B2,
    Azure,
    /// Another server with S3's API.
    OtherS3,
    Nginx,
    Apache,
    Caddy,
    Traefik,
    Envoy,
    Express,
    Unknown,
}

/// A server, identified from outside.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Server {
    pub(super) kind: ServerKind,
    /// The evidence; empty if there is none.
    pub(super) evidence: String,
    /// The proxy or CDN in front of it, if it identifies itself.
    pub(super) front: Option<&'static str>,
}

impl ServerKind {
    pub(super) const fn as_str(self) -> &'static str {
        match self {
            Self::S3cors => "s3cors",
            Self::AmazonS3 => "s3",
            Self::Minio => "minio",
            Self::R2 => "r2",
            Self::Gcs => "gcs",
            Self::Ceph => "ceph",
            Self::SeaweedFs => "seaweedfs",
            Self::B2 => "b2",
            Self::Azure => "azure",
            Self::OtherS3 => "s3-compatible",
            Self::Nginx => "nginx",
            Self::Apache => "apache",
            Self::Caddy => "caddy",
            Self::Traefik => "traefik",
            Self::Envoy => "envoy",
            Self::Express => "express",
            Self::Unknown => "unknown",
        }
    }

    /// The name for people.
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::S3cors => "s3cors",
            Self::AmazonS3 => "Amazon S3",
            Self::Minio => "MinIO",
            Self::R2 => "Cloudflare R2",
            Self::Gcs => "Google Cloud Storage",
            Self::Ceph => "Ceph Object Gateway",
            Self::SeaweedFs => "SeaweedFS",
            Self::B2 => "Backblaze B2",
            Self::Azure => "Azure Blob Storage",
            Self::OtherS3 => "a server with S3's API",
            Self::Nginx => "nginx",
            Self::Apache => "Apache httpd",
            Self::Caddy => "Caddy",
            Self::Traefik => "Traefik",
            Self::Envoy => "Envoy",
            Self::Express => "Express (Node.js)",
            Self::Unknown => "an unknown server",
        }
    }

    /// Whether its buckets have CORS configurations.
    pub(super) const fn has_buckets(self) -> bool {
        matches!(
            self,
            Self::S3cors
                | Self::AmazonS3
                | Self::Minio
                | Self::R2
                | Self::Gcs
                | Self::Ceph
                | Self::SeaweedFs
                | Self::B2
                | Self::OtherS3
        )
    }
}

/// Prefixes of `Server` values, in lower case.
const SERVERS: [(&str, ServerKind); 17] = [
    ("amazons3", ServerKind::AmazonS3),
    ("minio", ServerKind::Minio),
    ("uploadserver", ServerKind::Gcs),
    ("ceph", ServerKind::Ceph),
    ("seaweedfs", ServerKind::SeaweedFs),
    ("seaweed", ServerKind::SeaweedFs),
    ("windows-azure-", ServerKind::Azure),
    ("blob service", ServerKind::Azure),
    ("wasabis3", ServerKind::OtherS3),
    ("rustfs", ServerKind::OtherS3),
    ("garage", ServerKind::OtherS3),
    ("nginx", ServerKind::Nginx),
    ("openresty", ServerKind::Nginx),
    ("apache", ServerKind::Apache),
    ("caddy", ServerKind::Caddy),
    ("traefik", ServerKind::Traefik),
    ("envoy", ServerKind::Envoy),
];

/// Suffixes of services' host names.
const HOSTS: [(&str, ServerKind); 9] = [
    (".r2.cloudflarestorage.com", ServerKind::R2),
    (".r2.dev", ServerKind::R2),
    (".backblazeb2.com", ServerKind::B2),
    (".blob.core.windows.net", ServerKind::Azure),
    ("storage.googleapis.com", ServerKind::Gcs),
    (".amazonaws.com", ServerKind::AmazonS3),
    (".amazonaws.com.cn", ServerKind::AmazonS3),
    (".digitaloceanspaces.com", ServerKind::Ceph),
    (".wasabisys.com", ServerKind::OtherS3),
];

/// Prefixes of field names that only one server sends.
const FIELDS: [(&str, ServerKind); 9] = [
    ("x-minio-", ServerKind::Minio),
    ("x-goog-", ServerKind::Gcs),
    ("x-guploader-", ServerKind::Gcs),
    ("x-rgw-", ServerKind::Ceph),
    ("x-seaweedfs-", ServerKind::SeaweedFs),
    ("x-bz-", ServerKind::B2),
    ("x-ms-request-id", ServerKind::Azure),
    ("x-amz-request-id", ServerKind::OtherS3),
    ("x-envoy-", ServerKind::Envoy),
];

impl Server {
    /// Identifies a server by its answers.
    pub(super) fn of<'a>(url: &str, answers: impl Iterator<Item = &'a Answer>) -> Self {
        let mut found: Option<(ServerKind, String)> = None;
        let mut front = None;
        for answer in answers {
            front = front.or_else(|| cache(&answer.fields));
            for (kind, evidence) in signs(url, answer) {
                let rank = |kind| match kind {
                    ServerKind::S3cors => 3,
                    kind if kind_is_store(kind) => 2,
                    ServerKind::OtherS3 => 1,
                    _ => 0,
                };
                let is_better = found
                    .as_ref()
                    .is_none_or(|(best, _)| rank(kind) > rank(*best));
                if let Some((best, _)) = found.as_ref().filter(|_| is_better) {
                    // A web server in front of a store.
                    front = front.or_else(|| (rank(*best) == 0).then(|| best.name()));
                } else if !is_better
                    && rank(kind) == 0
                    && found.as_ref().is_some_and(|(best, _)| rank(*best) > 0)
                {
                    front = front.or(Some(kind.name()));
                }
                if is_better {
                    found = Some((kind, evidence));
                }
            }
        }
        let (kind, evidence) = found.unwrap_or((ServerKind::Unknown, String::new()));
        Self {
            kind,
            evidence,
            front,
        }
    }
}

fn kind_is_store(kind: ServerKind) -> bool {
    kind != ServerKind::OtherS3 && (kind.has_buckets() || kind == ServerKind::Azure)
}

/// Collects the evidence in an answer.
fn signs(url: &str, answer: &Answer) -> Vec<(ServerKind, String)> {
    let mut signs = Vec::new();
    let text = |name: &str| {
        let values = answer.fields.get_all(name).iter();
        values
            .filter_map(|value| value.to_str().ok())
            .collect::<Vec<_>>()
    };
    let marks = [("via", " s3cors"), ("x-amz-id-2", "s3cors")];
    for (name, mark) in marks {
        for value in text(name).into_iter().filter(|value| value.ends_with(mark)) {
            signs.push((ServerKind::S3cors, format!("{name}: {value}")));
        }
    }
    for value in text("server") {
        let lower = value.to_ascii_lowercase();
        if let Some((_, kind)) = SERVERS.iter().find(|(start, _)| lower.starts_with(start)) {
            signs.push((*kind, format!("server: {value}")));
        }
    }
    for value in text("x-powered-by") {
        if value.eq_ignore_ascii_case("express") {
            signs.push((ServerKind::Express, format!("x-powered-by: {value}")));
        }
    }
    let host = target::uri(url).and_then(|uri| Some(uri.host()?.to_ascii_lowercase()));
    if let Some(host) = host
        && let Some((_, kind)) = HOSTS.iter().find(|(end, _)| {
            host.strip_suffix(end)
                .is_some_and(|rest| rest.is_empty() || end.starts_with('.') || rest.ends_with('.'))
        })
        && (*kind != ServerKind::AmazonS3
            || host
                .split('.')
                .any(|label| label == "s3" || label.starts_with("s3-")))
    {
        signs.push((*kind, format!("the host {host}")));
    }
    // moto, a test double for S3, runs in Flask's server.
    let is_flask = text("server")
        .iter()
        .any(|value| value.starts_with("Werkzeug/"));
    if is_flask && answer.fields.contains_key("x-amzn-requestid") {
        signs.push((ServerKind::OtherS3, "the field x-amzn-requestid".to_owned()));
    }
    // Ceph's request ids have their own form.
    for value in text("x-amz-request-id") {
        if value.starts_with("tx0") && value.matches('-').count() >= 2 {
            signs.push((ServerKind::Ceph, format!("x-amz-request-id: {value}")));
        }
    }
    for name in answer.fields.keys() {
        if let Some((_, kind)) = FIELDS
            .iter()
            .find(|(start, _)| name.as_str().starts_with(start))
        {
            signs.push((*kind, format!("the field {name}")));
        }
    }
    signs
}

/// The cache that answered.
fn cache(fields: &HeaderMap) -> Option<&'static str> {
    let has = |name: &str, part: &str| {
        let values = fields.get_all(name).iter();
        let mut texts = values.filter_map(|value| value.to_str().ok());
        texts.any(|text| text.to_ascii_lowercase().contains(part))
    };
    [
        ("via", "cloudfront", "CloudFront"),
        ("server", "cloudflare", "Cloudflare"),
        ("x-served-by", "cache-", "Fastly"),
        ("via", "varnish", "Varnish"),
        ("x-varnish", "", "Varnish"),
        ("server", "akamai", "Akamai"),
    ]
    .into_iter()
    .find(|(name, part, _)| has(name, part))
    .map(|(_, _, front)| front)
}

#[cfg(test)]
mod tests {
    use http::{HeaderName, StatusCode, Version};

    use super::*;

    fn server(url: &str, fields: &[(&str, &str)]) -> Server {
        let fields = fields
            .iter()
            .map(|(name, value)| (name.parse::<HeaderName>().unwrap(), value.parse().unwrap()));
        let answer = Answer {
            version: Version::HTTP_11,
            status: StatusCode::OK,
            fields: fields.collect(),
            body: Vec::new(),
        };
        Server::of(url, [answer].iter())
    }

    /// From each server's documentation, and from servers that the tests start.
    #[test]
    fn servers_are_identified_by_their_fields() {
        let here = "http://127.0.0.1/b/k";
        let cases = [
            (
                here,
                &[
                    ("server", "AmazonS3"),
                    ("x-amz-request-id", "4442587FB7D0A2F9"),
                ][..],
                ServerKind::AmazonS3,
                None,
            ),
            (
                here,
                &[("server", "MinIO"), ("x-amz-request-id", "17")],
                ServerKind::Minio,
                None,
            ),
            (
                here,
                &[("server", "nginx/1.22.1"), ("x-minio-deployment-id", "x")],
                ServerKind::Minio,
                Some("nginx"),
            ),
            (
                here,
                &[("server", "UploadServer"), ("x-goog-hash", "x")],
                ServerKind::Gcs,
                None,
            ),
            (
                here,
                &[("x-amz-request-id", "tx00000a1b2c-0065-10-default")],
                ServerKind::Ceph,
                None,
            ),
            (
                here,
                &[("server", "Windows-Azure-Blob/1.0 Microsoft-HTTPAPI/2.0")],
                ServerKind::Azure,
                None,
            ),
            (here, &[("server", "nginx")], ServerKind::Nginx, None),
            (here, &[("server", "Caddy")], ServerKind::Caddy, None),
            (
                here,
                &[("server", "Apache/2.4.57 (Debian)")],
                ServerKind::Apache,
                None,
            ),
            (
                here,
                &[("x-powered-by", "Express")],
                ServerKind::Express,
                None,
            ),
            (
                here,
                &[("via", "1.1 s3cors"), ("server", "MinIO")],
                ServerKind::S3cors,
                None,
            ),
            (
                here,
                &[("x-amz-request-id", "x")],
                ServerKind::OtherS3,
                None,
            ),
            (
                here,
                &[("server", "cloudflare")],
                ServerKind::Unknown,
                Some("Cloudflare"),
            ),
            (here, &[], ServerKind::Unknown, None),
            (
                here,
                &[
                    ("server", "Werkzeug/3.1.9 Python/3.11.7"),
                    ("x-amzn-requestid", "x"),
                ],
                ServerKind::OtherS3,
                None,
            ),
            (
                "https://x.execute-api.eu-central-1.amazonaws.com/k",
                &[],
                ServerKind::Unknown,
                None,
            ),
            (
                "https://b.s3.eu-central-1.amazonaws.com/k",
                &[],
                ServerKind::AmazonS3,
                None,
            ),
            (
                "https://acc.r2.cloudflarestorage.com/b",
                &[("server", "cloudflare")],
                ServerKind::R2,
                Some("Cloudflare"),
            ),
            (
                "https://storage.googleapis.com/b",
                &[],
                ServerKind::Gcs,
                None,
            ),
            (
                "https://notstorage.googleapis.com/b",
                &[],
                ServerKind::Unknown,
                None,
            ),
        ];
        for (url, fields, kind, front) in cases {
            let server = server(url, fields);
            assert_eq!(
                (server.kind, server.front),
                (kind, front),
                "{url} {fields:?}"
            );
            assert_eq!(server.evidence.is_empty(), kind == ServerKind::Unknown);
        }
    }
}
