//! Instructions to allow a request, in the settings of the server that refused it.

use std::fmt::Write as _;

use super::server::{Server, ServerKind};
use super::target;
use super::wanted::Wanted;

/// What to do, and the commands or settings for it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Fix {
    pub(super) text: String,
    /// Commands or settings; may be empty.
    pub(super) code: String,
}

impl Fix {
    /// How to allow the wanted request at `url` on `server`.
    pub(super) fn of(server: &Server, url: &str, wanted: &Wanted) -> Self {
        let bucket = bucket(server.kind, url);
        if server.kind.has_buckets() && !wanted.is_s3_method() {
            let text = match server.kind {
                ServerKind::S3cors => format!(
                    "S3's rules cannot allow {}; add it to the route's extra_methods, and to AllowedMethod of a rule",
                    wanted.method
                ),
                _ => format!(
                    "S3's rules cannot allow {}; use another method, or put s3cors in front with extra_methods",
                    wanted.method
                ),
            };
            return Self {
                text,
                code: String::new(),
            };
        }
        let (text, code) = match server.kind {
            ServerKind::S3cors => s3cors(wanted),
            ServerKind::AmazonS3 => aws(&bucket, None, wanted),
            ServerKind::Minio => minio(&bucket, wanted),
            ServerKind::R2 => (
                "set the bucket's CORS policy; this replaces the existing one".to_owned(),
                file("cors.json", &wanted.r2_json())
                    + &format!("wrangler r2 bucket cors set {} --file cors.json\n", word(&bucket)),
            ),
            ServerKind::Gcs => (
                "set the bucket's CORS configuration; this replaces the existing one".to_owned(),
                file("cors.json", &wanted.gcs_json())
                    + &format!("gcloud storage buckets update {} --cors-file=cors.json\n", word(&format!("gs://{bucket}"))),
            ),
            ServerKind::Azure => azure(wanted),
            ServerKind::Ceph | ServerKind::SeaweedFs | ServerKind::B2 | ServerKind::OtherS3 => {
                aws(&bucket, endpoint(server.kind, url).as_deref(), wanted)
            }
            ServerKind::Nginx => (
                "answer the preflight in the location, and add the fields to every response, including errors (`always`)".to_owned(),
                nginx(wanted),
            ),
            ServerKind::Caddy => (
                "answer the preflight in the site block, and add the fields to every response".to_owned(),
                caddy(wanted),
            ),
            ServerKind::Apache => (
                "answer the preflight, and add the fields to every response, including errors (`always`; mod_headers, mod_rewrite)".to_owned(),
                apache(wanted),
            ),
            ServerKind::Traefik | ServerKind::Envoy | ServerKind::Express | ServerKind::Unknown => (
                "configure the server to send these fields, also on errors; or put s3cors in front of it".to_owned(),
                plain(wanted),
            ),
        };
        Self { text, code }
    }
}

/// A `cat` command that creates a file.
fn file(name: &str, content: &str) -> String {
    format!("cat > {name} <<'EOF'\n{}\nEOF\n", content.trim_end())
}

/// Quotes a word for a POSIX shell.
fn word(text: &str) -> String {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_./:@%+=,".contains(&byte);
    if !text.is_empty() && text.bytes().all(is_plain) {
        return text.to_owned();
    }
    format!("'{}'", text.replace('\'', r"'\''"))
}

fn s3cors(wanted: &Wanted) -> (String, String) {
    (
        "add this rule to the policy; `s3cors explain` shows the file, and whether a smaller change is enough".to_owned(),
        wanted.configuration().to_xml(),
    )
}

fn aws(bucket: &str, endpoint: Option<&str>, wanted: &Wanted) -> (String, String) {
    let endpoint =
        endpoint.map_or_else(String::new, |url| format!(" --endpoint-url {}", word(url)));
    let command = format!(
        "aws s3api put-bucket-cors{endpoint} --bucket {} --cors-configuration file://cors.json\n",
        word(bucket)
    );
    let text = "set the bucket's CORS configuration; this replaces the existing one, which \
                `aws s3api get-bucket-cors` prints";
    (
        text.to_owned(),
        file("cors.json", &wanted.s3_json()) + &command,
    )
}

fn minio(bucket: &str, wanted: &Wanted) -> (String, String) {
    let text = "set the bucket's CORS configuration. Community releases of MinIO have no configuration per bucket, only one list of origins for the whole server: use the last line";
    let code = file("cors.xml", &wanted.configuration().to_xml())
        + &format!(
            "mc cors set {} cors.xml\n",
            word(&format!("ALIAS/{bucket}"))
        )
        + &format!(
            "mc admin config set ALIAS api {}\n",
            word(&format!("cors_allow_origin={}", wanted.origin))
        );
    (text.to_owned(), code)
}

fn azure(wanted: &Wanted) -> (String, String) {
    let mut code = format!(
        "az storage cors add --account-name ACCOUNT --services b --methods {} --origins {} --max-age 3600",
        word(&wanted.method),
        word(&wanted.origin)
    );
    for (option, names) in [("allowed", &wanted.headers), ("exposed", &wanted.expose)] {
        if !names.is_empty() {
            let _ = write!(code, " --{option}-headers {}", word(&names.join(",")));
        }
    }
    code.push('\n');
    ("add a CORS rule to the storage account".to_owned(), code)
}

/// A string in quotation marks for nginx or Apache.
fn quoted(text: &str) -> String {
    format!("\"{}\"", text.replace('\\', r"\\").replace('"', "\\\""))
}

fn nginx(wanted: &Wanted) -> String {
    let line = |indent: &str, (name, value): &(&str, String)| {
        format!("{indent}add_header {name} {} always;\n", quoted(value))
    };
    let preflight = wanted.preflight_fields();
    let preflight: String = preflight
        .iter()
        .map(|field| line("        ", field))
        .collect();
    let response = wanted.response_fields(true);
    let response: String = response.iter().map(|field| line("    ", field)).collect();
    format!(
        "location / {{\n    if ($request_method = OPTIONS) {{\n{preflight}        return 204;\n    }}\n{response}    \
         # For proxy_pass: otherwise the upstream's own fields are sent too.\n    \
         proxy_hide_header Access-Control-Allow-Origin;\n}}\n"
    )
}

fn caddy(wanted: &Wanted) -> String {
    let line = |indent: &str, (name, value): &(&str, String)| {
        // Replaces the upstream's field, but adds to `Vary`.
        let add = if *name == "Vary" { "+" } else { "" };
        format!("{indent}{add}{name} \"{}\"\n", value.replace('"', "\\\""))
    };
    let preflight = wanted.preflight_fields();
    let preflight: String = preflight
        .iter()
        .map(|field| line("        ", field))
        .collect();
    let response = wanted.response_fields(true);
    let response: String = response.iter().map(|field| line("    ", field)).collect();
    format!(
        "@preflight {{\n    method OPTIONS\n    header Access-Control-Request-Method *\n}}\nhandle @preflight {{\n    header {{\n{preflight}    \
         }}\n    respond 204\n}}\nheader {{\n{response}    defer\n}}\n"
    )
}

fn apache(wanted: &Wanted) -> String {
    let line = |(name, value): &(&str, String)| match *name {
        "Vary" => "Header always merge Vary Origin\n".to_owned(),
        _ => format!("Header always set {name} {}\n", quoted(value)),
    };
    let mut fields = wanted.preflight_fields();
    for field in wanted.response_fields(true) {
        if !fields.iter().any(|(name, _)| *name == field.0) {
            fields.push(field);
        }
    }
    let fields: String = fields.iter().map(line).collect();
    format!(
        "{fields}RewriteEngine On\nRewriteCond %{{REQUEST_METHOD}} =OPTIONS\nRewriteRule ^ - [R=204,L]\n"
    )
}

fn plain(wanted: &Wanted) -> String {
    let lines = |fields: Vec<(&str, String)>| -> String {
        fields
            .iter()
            .map(|(name, value)| format!("{name}: {value}\n"))
            .collect()
    };
    let preflight = lines(wanted.preflight_fields());
    let response = lines(wanted.response_fields(true));
    format!("# On OPTIONS, with status 204:\n{preflight}# On every other response:\n{response}")
}

/// The bucket in a URL, or `BUCKET`.
fn bucket(kind: ServerKind, url: &str) -> String {
    let named = target::uri(url).and_then(|uri| {
        let host = uri.host()?.to_ascii_lowercase();
        let mut segments = uri.path().split('/').skip(1);
        match bucket_in_host(kind, &host) {
            Some((bucket, _)) => Some(bucket.to_owned()),
            // `https://f004.backblazeb2.com/file/BUCKET/KEY`
            None if kind == ServerKind::B2 && uri.path().starts_with("/file/") => {
                segments.nth(1).map(str::to_owned)
            }
            // Public buckets have their own hosts.
            None if host.ends_with(".r2.dev") => None,
            None => segments.next().map(str::to_owned),
        }
    });
    named
        .filter(|name| !name.is_empty() && !name.contains('%'))
        .unwrap_or_else(|| "BUCKET".to_owned())
}

/// The bucket and the endpoint, if the service's host contains both.
fn bucket_in_host(kind: ServerKind, host: &str) -> Option<(&str, &str)> {
    let ends = |end: &str| {
        host.strip_suffix(end)
            .and_then(|labels| labels.split_once('.'))
    };
    let bucket = match kind {
        ServerKind::Gcs => host.strip_suffix(".storage.googleapis.com")?,
        // BUCKET.ACCOUNT.r2.cloudflarestorage.com
        ServerKind::R2 => ends(".r2.cloudflarestorage.com")?.0,
        // BUCKET.REGION.digitaloceanspaces.com
        ServerKind::Ceph if host.ends_with(".digitaloceanspaces.com") => {
            ends(".digitaloceanspaces.com")?.0
        }
        // BUCKET.s3.REGION.…, and the bucket's name may have dots.
        ServerKind::AmazonS3 | ServerKind::B2 | ServerKind::OtherS3 => {
            let mut labels = host.match_indices('.').map(|(dot, _)| dot);
            let dot = labels.rfind(|dot| {
                let label = host.get(dot + 1..).unwrap_or_default().split('.').next();
                label.is_some_and(|label| label == "s3" || label.starts_with("s3-"))
            });
            host.get(..dot?)?
        }
        _ => return None,
    };
    let endpoint = host.get(bucket.len() + 1..)?;
    Some((bucket, endpoint))
}

/// The root of a URL, without the bucket in its host.
fn endpoint(kind: ServerKind, url: &str) -> Option<String> {
    let uri = target::uri(url)?;
    let host = uri.host()?.to_ascii_lowercase();
    let host = bucket_in_host(kind, &host).map_or(&*host, |(_, endpoint)| endpoint);
    let port = uri
        .port_u16()
        .map_or_else(String::new, |port| format!(":{port}"));
    Some(format!("{}://{host}{port}", uri.scheme_str()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wanted() -> Wanted {
        Wanted {
            origin: "https://app.example".to_owned(),
            method: "PUT".to_owned(),
            headers: vec!["content-type".to_owned()],
            expose: vec!["etag".to_owned()],
            has_credentials: true,
        }
    }

    fn fix(kind: ServerKind, url: &str) -> Fix {
        let server = Server {
            kind,
            evidence: String::new(),
            front: None,
        };
        Fix::of(&server, url, &wanted())
    }

    #[test]
    fn each_server_gets_the_fix_in_its_own_form() {
        let cases = [
            (
                ServerKind::AmazonS3,
                "https://photos.s3.eu-central-1.amazonaws.com/k",
                "aws s3api put-bucket-cors --bucket photos ",
            ),
            (
                ServerKind::AmazonS3,
                "https://s3.amazonaws.com/photos/k",
                "--bucket photos ",
            ),
            (
                ServerKind::AmazonS3,
                "https://my.photos.s3.amazonaws.com/k",
                "--bucket my.photos ",
            ),
            (
                ServerKind::SeaweedFs,
                "http://127.0.0.1:8333/photos/k",
                "put-bucket-cors --endpoint-url http://127.0.0.1:8333 --bucket photos ",
            ),
            (ServerKind::Ceph, "https://rgw.example/", "--bucket BUCKET "),
            (
                ServerKind::Minio,
                "http://minio.example/photos/k",
                "mc cors set ALIAS/photos cors.xml",
            ),
            (
                ServerKind::Minio,
                "http://minio.example/photos/k",
                "cors_allow_origin=https://app.example",
            ),
            (
                ServerKind::R2,
                "https://photos.acc.r2.cloudflarestorage.com/k",
                "wrangler r2 bucket cors set photos --file",
            ),
            (
                ServerKind::R2,
                "https://acc.r2.cloudflarestorage.com/photos/k",
                "set photos ",
            ),
            (
                ServerKind::Gcs,
                "https://storage.googleapis.com/photos/k",
                "gs://photos --cors-file",
            ),
            (
                ServerKind::Gcs,
                "https://photos.storage.googleapis.com/k",
                "gs://photos ",
            ),
            (
                ServerKind::Azure,
                "https://a.blob.core.windows.net/c/k",
                "--methods PUT --origins https://app.example",
            ),
            (
                ServerKind::Nginx,
                "http://a.example/",
                "add_header Access-Control-Allow-Headers \"content-type\" always;",
            ),
            (
                ServerKind::Caddy,
                "http://a.example/",
                "Access-Control-Expose-Headers \"etag\"",
            ),
            (
                ServerKind::Apache,
                "http://a.example/",
                "Header always set Access-Control-Allow-Credentials \"true\"",
            ),
            (
                ServerKind::S3cors,
                "http://a.example/",
                "<AllowedOrigin>https://app.example</AllowedOrigin>",
            ),
            (
                ServerKind::Unknown,
                "http://a.example/",
                "Access-Control-Allow-Methods: PUT\n",
            ),
        ];
        for (kind, url, expected) in cases {
            let fix = fix(kind, url);
            assert!(fix.code.contains(expected), "{kind:?} {url}: {}", fix.code);
        }
    }

    #[test]
    fn the_bucket_is_found_in_the_host_or_in_the_path() {
        let cases = [
            (
                ServerKind::Ceph,
                "https://photos.nyc3.digitaloceanspaces.com/cat.jpg",
                "photos",
                "https://nyc3.digitaloceanspaces.com",
            ),
            (
                ServerKind::Ceph,
                "https://nyc3.digitaloceanspaces.com/photos/cat.jpg",
                "photos",
                "https://nyc3.digitaloceanspaces.com",
            ),
            (
                ServerKind::B2,
                "https://photos.s3.us-west-004.backblazeb2.com/cat.jpg",
                "photos",
                "https://s3.us-west-004.backblazeb2.com",
            ),
            (
                ServerKind::B2,
                "https://s3.us-west-004.backblazeb2.com/photos/cat.jpg",
                "photos",
                "https://s3.us-west-004.backblazeb2.com",
            ),
            (
                ServerKind::B2,
                "https://f004.backblazeb2.com/file/photos/cat.jpg",
                "photos",
                "https://f004.backblazeb2.com",
            ),
            (
                ServerKind::OtherS3,
                "https://my.photos.s3.eu-central-1.wasabisys.com/cat.jpg",
                "my.photos",
                "https://s3.eu-central-1.wasabisys.com",
            ),
            (
                ServerKind::OtherS3,
                "http://127.0.0.1:9000/photos/cat.jpg",
                "photos",
                "http://127.0.0.1:9000",
            ),
            (
                ServerKind::R2,
                "https://pub-1.r2.dev/cat.jpg",
                "BUCKET",
                "https://pub-1.r2.dev",
            ),
            (
                ServerKind::AmazonS3,
                "https://photos.s3-eu-west-1.amazonaws.com/cat.jpg",
                "photos",
                "https://s3-eu-west-1.amazonaws.com",
            ),
        ];
        for (kind, url, name, root) in cases {
            assert_eq!(bucket(kind, url), name, "{url}");
            assert_eq!(endpoint(kind, url).as_deref(), Some(root), "{url}");
        }
    }

    #[test]
    fn shell_words_are_quoted() {
        assert_eq!(word("a'; rm -rf /"), r"'a'\''; rm -rf /'");
        let fix = fix(ServerKind::AmazonS3, "https://s3.amazonaws.com/$(reboot)/k");
        assert!(fix.code.contains("--bucket '$(reboot)'"), "{}", fix.code);
    }

    #[test]
    fn a_method_that_s3_rules_cannot_allow_gets_no_rule() {
        let wanted = Wanted {
            method: "PATCH".to_owned(),
            ..wanted()
        };
        let server = Server {
            kind: ServerKind::AmazonS3,
            evidence: String::new(),
            front: None,
        };
        let fix = Fix::of(&server, "https://b.s3.amazonaws.com/", &wanted);
        assert!(fix.code.is_empty() && fix.text.contains("cannot allow PATCH"));
    }
}
