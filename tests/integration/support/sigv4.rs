//! Signs requests with Signature V4, like clients.

use aws_lc_rs::digest::{SHA256, digest};
use aws_lc_rs::hmac::{HMAC_SHA256, Key, sign};
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;

/// A request to sign: S3's, at `host`, with a path and a query that need no encoding.
#[derive(Clone, Debug)]
pub(crate) struct Unsigned<'r> {
    pub(crate) method: &'r str,
    pub(crate) host: &'r str,
    pub(crate) path: &'r str,
    pub(crate) query: &'r str,
    pub(crate) body: &'r [u8],
    pub(crate) key_id: &'r str,
    pub(crate) secret: &'r str,
    pub(crate) region: &'r str,
    /// `20130524T000000Z`
    pub(crate) time: &'r str,
    /// Whether the body's digest is signed, or `UNSIGNED-PAYLOAD`.
    pub(crate) signs_body: bool,
    /// Also signed; in lower case and sorted, all after `x-amz-date`.
    pub(crate) fields: &'r [(&'r str, &'r str)],
}

impl Unsigned<'_> {
    /// The complete HTTP/1.1 request.
    pub(crate) fn sign(&self) -> Vec<u8> {
        let payload = match self.signs_body {
            true => hex(digest(&SHA256, self.body).as_ref()),
            false => "UNSIGNED-PAYLOAD".to_owned(),
        };
        let mut fields = vec![
            ("host", self.host),
            ("x-amz-content-sha256", &*payload),
            ("x-amz-date", self.time),
        ];
        fields.extend(self.fields);
        fields.sort_unstable();
        let names: Vec<&str> = fields.iter().map(|(name, _)| *name).collect();
        let names = names.join(";");
        let lines = fields
            .iter()
            .map(|(name, value)| format!("{name}:{value}\n"));
        let lines: String = lines.collect();
        let mut query: Vec<String> = self
            .query
            .split('&')
            .map(|pair| {
                let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
                format!("{name}={value}")
            })
            .collect();
        query.sort();
        let canonical = format!(
            "{}\n{}\n{}\n{lines}\n{names}\n{payload}",
            self.method,
            self.path,
            query.join("&")
        );
        let date = &self.time[..8];
        let scope = format!("{date}/{}/s3/aws4_request", self.region);
        let hash = hex(digest(&SHA256, canonical.as_bytes()).as_ref());
        let to_sign = format!("AWS4-HMAC-SHA256\n{}\n{scope}\n{hash}", self.time);
        let mut key = format!("AWS4{}", self.secret).into_bytes();
        for part in [date, self.region, "s3", "aws4_request"] {
            key = hmac(&key, part.as_bytes());
        }
        let signature = hex(&hmac(&key, to_sign.as_bytes()));
        let fields = fields
            .iter()
            .map(|(name, value)| format!("{name}: {value}\r\n"));
        let fields: String = fields.collect();
        let mut request = format!(
            "{} {}?{} HTTP/1.1\r\n{fields}authorization: AWS4-HMAC-SHA256 Credential={}/{scope}, \
             SignedHeaders={names}, Signature={signature}\r\ncontent-length: {}\r\n\r\n",
            self.method,
            self.path,
            self.query,
            self.key_id,
            self.body.len()
        )
        .into_bytes();
        request.extend_from_slice(self.body);
        request
    }
}

/// `x-amz-checksum-sha256` of a body.
pub(crate) fn checksum(body: &[u8]) -> String {
    BASE64_STANDARD.encode(digest(&SHA256, body))
}

fn hmac(key: &[u8], text: &[u8]) -> Vec<u8> {
    sign(&Key::new(HMAC_SHA256, key), text).as_ref().to_vec()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
