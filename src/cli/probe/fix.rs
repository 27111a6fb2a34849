//! How to allow a request, in the form of the server that has to.

use std::fmt::Write as _;

use super::server::{Kind, Server};
use super::target;
use super::wanted::Wanted;

/// What to do, and what to type or write for it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Fix {
    pub(super) text: String,
    /// Commands or settings; empty: there are none to give.
    pub(super) code: String,
}

impl Fix {
    /// How `server` allows what is wanted at `url`.
    pub(super) fn of(server: &Server, url: &str, wanted: &Wanted) -> Self {
        let bucket = bucket(server.kind, url);
        if server.kind.has_buckets() && !wanted.is_s3_method() {
            let text = match server.kind {
                Kind::S3cors => format!(
                    "S3's rules cannot allow {}: add it to the route's extra_methods, and to AllowedMethod of a rule",
                    wanted.method
                ),
                _ => format!(
                    "S3's rules cannot allow {}: use another method, or put s3cors in front with extra_methods",
                    wanted.method
                ),
            };
            return Self {
                text,
                code: String::new(),
            };
        }
        let (text, code) = match server.kind {
            Kind::S3cors => s3cors(wanted),
            Kind::AmazonS3 => aws(&bucket, None, wanted),
            Kind::Minio => minio(&bucket, wanted),
            Kind::R2 => (
                "set the bucket's CORS policy; this replaces the one it has".to_owned(),
                file("cors.json", &wanted.r2_json())
                    + &format!("wrangler r2 bucket cors set {} --file cors.json\n", word(&bucket)),
            ),
            Kind::Gcs => (
                "set the bucket's CORS configuration; this replaces the one it has".to_owned(),
                file("cors.json", &wanted.gcs_json())
                    + &format!("gcloud storage buckets update {} --cors-file=cors.json\n", word(&format!("gs://{bucket}"))),
            ),
            Kind::Azure => azure(wanted),
            Kind::Ceph | Kind::SeaweedFs | Kind::B2 | Kind::OtherS3 => {
                aws(&bucket, endpoint(url).as_deref(), wanted)
            }
            Kind::Nginx => (
                "answer the preflight in the location, and add the fields to every response, errors too (`always`)".to_owned(),
                nginx(wanted),
            ),
            Kind::Caddy => (
                "answer the preflight in the site block, and add the fields to every response".to_owned(),
                caddy(wanted),
            ),
            Kind::Apache => (
                "answer the preflight, and add the fields to every response, errors too (`always`; mod_headers, mod_rewrite)".to_owned(),
                apache(wanted),
            ),
            Kind::Traefik | Kind::Envoy | Kind::Express | Kind::Unknown => (
                "have the server send these fields, on errors too; or put s3cors in front of it".to_owned(),
                plain(wanted),
            ),
        };
        Self { text, code }
    }
}

/// `cat` of a file that a command reads.
fn file(name: &str, content: &str) -> String {
    format!("cat > {name} <<'EOF'\n{}\nEOF\n", content.trim_end())
}

/// A word for a POSIX shell that stands for itself.
fn word(text: &str) -> String {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_./:@%+=,".contains(&byte);
    if !text.is_empty() && text.bytes().all(is_plain) {
        return text.to_owned();
    }
    format!("'{}'", text.replace('\'', r"'\''"))
}

fn s3cors(wanted: &Wanted) -> (String, String) {
    (
        "add this rule to the policy; `s3cors explain` says in which file, and whether a smaller change will do".to_owned(),
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
    let text = "set the bucket's CORS configuration; this replaces the one it has, which \
                `aws s3api get-bucket-cors` prints";
    (
        text.to_owned(),
        file("cors.json", &wanted.s3_json()) + &command,
    )
}

fn minio(bucket: &str, wanted: &Wanted) -> (String, String) {
    let text = "set the bucket's CORS configuration. Community releases of MinIO have none for a bucket, and \
                allow one list of origins for the whole server: the last line";
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

/// A string in nginx' or Apache's quotation marks.
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
        // A field that the upstream sent is replaced; `Vary` is added to.
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

/// The bucket that a URL names, or `BUCKET`.
fn bucket(kind: Kind, url: &str) -> String {
    let named = target::uri(url).and_then(|uri| {
        let host = uri.host()?.to_ascii_lowercase();
        let first = uri.path().split('/').nth(1).unwrap_or_default().to_owned();
        let below = |end: &str| {
            let label = host.strip_suffix(end)?.trim_end_matches('.');
            (!label.is_empty()).then(|| label.to_owned())
        };
        match kind {
            Kind::AmazonS3 => {
                let labels: Vec<&str> = host.split('.').collect();
                let is_endpoint = |label: &&str| *label == "s3" || label.starts_with("s3-");
                let at = labels.iter().rposition(is_endpoint)?;
                match at {
                    0 => Some(first),
                    _ => Some(labels.get(..at)?.join(".")),
                }
            }
            Kind::Gcs => below("storage.googleapis.com").or(Some(first)),
            Kind::R2 => match below(".r2.cloudflarestorage.com") {
                // BUCKET.ACCOUNT or ACCOUNT.
                Some(labels) => match labels.split_once('.') {
                    Some((bucket, _)) => Some(bucket.to_owned()),
                    None => Some(first),
                },
                None => None,
            },
            _ => Some(first),
        }
    });
    named
        .filter(|name| !name.is_empty() && !name.contains('%'))
        .unwrap_or_else(|| "BUCKET".to_owned())
}

/// The root of a URL.
fn endpoint(url: &str) -> Option<String> {
    let uri = target::uri(url)?;
    Some(format!("{}://{}", uri.scheme_str()?, uri.authority()?))
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

    fn fix(kind: Kind, url: &str) -> Fix {
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
                Kind::AmazonS3,
                "https://photos.s3.eu-central-1.amazonaws.com/k",
                "aws s3api put-bucket-cors --bucket photos ",
            ),
            (
                Kind::AmazonS3,
                "https://s3.amazonaws.com/photos/k",
                "--bucket photos ",
            ),
            (
                Kind::AmazonS3,
                "https://my.photos.s3.amazonaws.com/k",
                "--bucket my.photos ",
            ),
            (
                Kind::SeaweedFs,
                "http://127.0.0.1:8333/photos/k",
                "put-bucket-cors --endpoint-url http://127.0.0.1:8333 --bucket photos ",
            ),
            (Kind::Ceph, "https://rgw.example/", "--bucket BUCKET "),
            (
                Kind::Minio,
                "http://minio.example/photos/k",
                "mc cors set ALIAS/photos cors.xml",
            ),
            (
                Kind::Minio,
                "http://minio.example/photos/k",
                "cors_allow_origin=https://app.example",
            ),
            (
                Kind::R2,
                "https://photos.acc.r2.cloudflarestorage.com/k",
                "wrangler r2 bucket cors set photos --file",
            ),
            (
                Kind::R2,
                "https://acc.r2.cloudflarestorage.com/photos/k",
                "set photos ",
            ),
            (
                Kind::Gcs,
                "https://storage.googleapis.com/photos/k",
                "gs://photos --cors-file",
            ),
            (
                Kind::Gcs,
                "https://photos.storage.googleapis.com/k",
                "gs://photos ",
            ),
            (
                Kind::Azure,
                "https://a.blob.core.windows.net/c/k",
                "--methods PUT --origins https://app.example",
            ),
            (
                Kind::Nginx,
                "http://a.example/",
                "add_header Access-Control-Allow-Headers \"content-type\" always;",
            ),
            (
                Kind::Caddy,
                "http://a.example/",
                "Access-Control-Expose-Headers \"etag\"",
            ),
            (
                Kind::Apache,
                "http://a.example/",
                "Header always set Access-Control-Allow-Credentials \"true\"",
            ),
            (
                Kind::S3cors,
                "http://a.example/",
                "<AllowedOrigin>https://app.example</AllowedOrigin>",
            ),
            (
                Kind::Unknown,
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
    fn nothing_leaves_its_word_in_a_shell() {
        assert_eq!(word("a'; rm -rf /"), r"'a'\''; rm -rf /'");
        let fix = fix(Kind::AmazonS3, "https://s3.amazonaws.com/$(reboot)/k");
        assert!(fix.code.contains("--bucket '$(reboot)'"), "{}", fix.code);
    }

    #[test]
    fn a_method_that_s3_has_no_rules_for_gets_no_rule() {
        let wanted = Wanted {
            method: "PATCH".to_owned(),
            ..wanted()
        };
        let server = Server {
            kind: Kind::AmazonS3,
            evidence: String::new(),
            front: None,
        };
        let fix = Fix::of(&server, "https://b.s3.amazonaws.com/", &wanted);
        assert!(fix.code.is_empty() && fix.text.contains("cannot allow PATCH"));
    }
}
