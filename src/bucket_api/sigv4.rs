//! Verifies Signature V4 ([AWS]): whether a request was recently signed with one of the keys, for
//! this region.
//!
//! Verifies the signature in the `Authorization` field or in a presigned URL; rejects a body that
//! is signed in pieces (`STREAMING-…`), because no client sends a CORS configuration that way.
//!
//! [AWS]: https://docs.aws.amazon.com/AmazonS3/latest/API/sig-v4-authenticating-requests.html

use std::time::{Duration, SystemTime};

use aws_lc_rs::digest::{SHA256, digest};
use aws_lc_rs::hmac;
use http::{HeaderMap, HeaderName, StatusCode};

use super::authorization::{ALGORITHM, Authorization, Credential};
use super::error::ApiError;
use super::keys::{Key, Keys};
use super::query::{Query, canonical_path};
use super::time::BasicTime;

/// The maximum difference between the clocks of client and server.
const MAX_SKEW: Duration = Duration::from_secs(15 * 60);

const CONTENT_SHA256: HeaderName = HeaderName::from_static("x-amz-content-sha256");
const SECURITY_TOKEN: HeaderName = HeaderName::from_static("x-amz-security-token");
const UNSIGNED: &str = "UNSIGNED-PAYLOAD";

/// The head of a request, as received.
#[derive(Clone, Copy, Debug)]
pub struct SignedHead<'r> {
    /// The method.
    pub method: &'r str,
    /// The path, encoded.
    pub path: &'r str,
    /// The query, without its question mark.
    pub query: &'r str,
    /// `Host`, or HTTP/2's `:authority`.
    pub host: &'r [u8],
    /// All other fields.
    pub headers: &'r HeaderMap,
}

/// A request that one of the keys signed.
#[derive(Debug)]
pub struct Verified<'k> {
    /// The claims of its signature.
    pub claims: Claims,
    pub(super) key: &'k Key,
}

/// The claims of a request's signature. They hold once it is verified.
#[derive(Debug)]
pub struct Claims {
    /// The id of the key.
    pub key_id: String,
    /// The SHA-256 of the body; `None` if it is not signed.
    pub(super) payload: Option<[u8; 32]>,
    signed_headers: Vec<String>,
}

impl Claims {
    /// The claims of a request's signature, without verifying it.
    pub(super) fn of(
        headers: &HeaderMap,
        query: &Query,
        now: SystemTime,
    ) -> Result<Self, ApiError> {
        let authorization = Authorization::of(headers, query, None)?;
        let payload = Payload::of(headers, query, authorization.expires.is_some())?;
        check_time(&authorization, now)?;
        check_signed_headers(&authorization, headers)?;
        Ok(Self {
            key_id: authorization.credential.key_id,
            payload: payload.digest,
            signed_headers: authorization.signed_headers,
        })
    }

    /// Whether a field is signed.
    pub(super) fn signs(&self, name: &str) -> bool {
        self.signed_headers.iter().any(|signed| signed == name)
    }
}

/// Verifies a request's signature.
///
/// # Errors
///
/// S3's error.
pub fn verify<'k>(
    head: &SignedHead<'_>,
    keys: &'k Keys,
    region: &str,
    now: SystemTime,
) -> Result<Verified<'k>, ApiError> {
    let query = Query::parse(head.query);
    let authorization = Authorization::of(head.headers, &query, Some(region))?;
    let payload = Payload::of(head.headers, &query, authorization.expires.is_some())?;
    check_time(&authorization, now)?;
    let key_id = &authorization.credential.key_id;
    let key = keys.get(key_id).ok_or_else(|| {
        ApiError::forbidden(
            "InvalidAccessKeyId",
            "The AWS Access Key Id you provided does not exist in our records.",
        )
        .with("AWSAccessKeyId", key_id)
    })?;
    if head.headers.contains_key(SECURITY_TOKEN) || query.has("X-Amz-Security-Token") {
        let message = "The provided token is malformed or otherwise invalid.";
        return Err(ApiError::bad_request("InvalidToken", message));
    }
    check_signed_headers(&authorization, head.headers)?;
    let canonical = canonical_request(head, &query, &authorization, &payload);
    let to_sign = string_to_sign(&authorization, &canonical);
    let signing_key = signing_key(key.secret(), &authorization);
    let is_signed = unhex(&authorization.signature).is_some_and(|signature| {
        hmac::verify(&signing_key, to_sign.as_bytes(), &signature).is_ok()
    });
    if !is_signed {
        let message = "The request signature we calculated does not match the signature you \
                       provided. Check your key and signing method.";
        return Err(ApiError::forbidden("SignatureDoesNotMatch", message)
            .with("AWSAccessKeyId", key_id)
            .with("StringToSign", to_sign)
            .with("SignatureProvided", &authorization.signature)
            .with("CanonicalRequest", canonical));
    }
    Ok(Verified {
        claims: Claims {
            key_id: authorization.credential.key_id,
            payload: payload.digest,
            signed_headers: authorization.signed_headers,
        },
        key,
    })
}

/// The payload's part of the signature.
struct Payload {
    /// As written.
    text: String,
    digest: Option<[u8; 32]>,
}

impl Payload {
    fn of(headers: &HeaderMap, query: &Query, is_presigned: bool) -> Result<Self, ApiError> {
        let mut fields = headers.get_all(CONTENT_SHA256).iter();
        let in_query = query.has("X-Amz-Content-Sha256");
        let text = match (fields.next(), fields.next()) {
            // Servers disagree which of the two counts.
            (Some(_), None) if in_query => "",
            (Some(field), None) => field.to_str().unwrap_or_default(),
            (None, _) if is_presigned => query.one("X-Amz-Content-Sha256").unwrap_or(UNSIGNED),
            (None, _) => {
                let message = "Missing required header for this request: x-amz-content-sha256";
                return Err(ApiError::bad_request("InvalidRequest", message));
            }
            (Some(_), Some(_)) => "",
        };
        if text.starts_with("STREAMING-") {
            let message = "A header you provided implies functionality that is not implemented";
            return Err(
                ApiError::new(StatusCode::NOT_IMPLEMENTED, "NotImplemented", message)
                    .with("Header", CONTENT_SHA256.as_str())
                    .with("additionalMessage", text),
            );
        }
        let digest = unhex(text);
        if digest.is_none() && text != UNSIGNED {
            let message = "x-amz-content-sha256 must be UNSIGNED-PAYLOAD, or a valid sha256 value.";
            return Err(ApiError::bad_request("InvalidArgument", message)
                .with("ArgumentName", CONTENT_SHA256.as_str())
                .with("ArgumentValue", text));
        }
        Ok(Self {
            text: text.to_owned(),
            digest,
        })
    }
}

fn check_time(authorization: &Authorization, now: SystemTime) -> Result<(), ApiError> {
    let signed = authorization.time.time;
    let now_text = BasicTime::of(now).extended();
    let is_early = signed > now + MAX_SKEW;
    let Some(expires) = authorization.expires else {
        if is_early || signed + MAX_SKEW < now {
            let message =
                "The difference between the request time and the current time is too large.";
            return Err(ApiError::forbidden("RequestTimeTooSkewed", message)
                .with("RequestTime", authorization.time.as_str())
                .with("ServerTime", now_text)
                .with(
                    "MaxAllowedSkewMilliseconds",
                    MAX_SKEW.as_millis().to_string(),
                ));
        }
        return Ok(());
    };
    if is_early {
        return Err(ApiError::access_denied("Request is not yet valid")
            .with("X-Amz-Date", authorization.time.as_str())
            .with("ServerTime", now_text));
    }
    if signed + expires < now {
        return Err(ApiError::access_denied("Request has expired")
            .with("X-Amz-Expires", expires.as_secs().to_string())
            .with("Expires", BasicTime::of(signed + expires).extended())
            .with("ServerTime", now_text));
    }
    Ok(())
}

/// Checks that `host` and every `x-amz-…` field are signed.
fn check_signed_headers(
    authorization: &Authorization,
    headers: &HeaderMap,
) -> Result<(), ApiError> {
    let signed = &authorization.signed_headers;
    // Each once, in order, as S3 requires: a repeated name would copy its field's value each
    // time.
    if !signed.is_sorted_by(|one, next| one < next) {
        let message = "The signed headers must be in alphabetical order, each once";
        return Err(ApiError::bad_request(
            "AuthorizationHeaderMalformed",
            message,
        ));
    }
    let is_signed = |name: &str| signed.iter().any(|signed| signed == name);
    let amz = headers.keys().map(HeaderName::as_str);
    let amz = amz.filter(|name| name.starts_with("x-amz-"));
    let unsigned: Vec<&str> = amz
        .chain(["host"])
        .filter(|name| !is_signed(name))
        .collect();
    if unsigned.is_empty() {
        return Ok(());
    }
    let message = "There were headers present in the request which were not signed";
    Err(ApiError::access_denied(message).with("HeadersNotSigned", unsigned.join(", ")))
}

fn canonical_request(
    head: &SignedHead<'_>,
    query: &Query,
    authorization: &Authorization,
    payload: &Payload,
) -> String {
    let mut text = [
        head.method,
        &canonical_path(head.path),
        &query.canonical(),
        "",
    ]
    .join("\n");
    for name in &authorization.signed_headers {
        text.push_str(name);
        text.push(':');
        let values = head.headers.get_all(name.as_str()).iter();
        let values: Vec<String> = match name.as_str() {
            "host" => vec![canonical_value(head.host)],
            _ => values
                .map(|value| canonical_value(value.as_bytes()))
                .collect(),
        };
        text.push_str(&values.join(","));
        text.push('\n');
    }
    let signed_headers = authorization.signed_headers.join(";");
    text + "\n" + &signed_headers + "\n" + &payload.text
}

/// A field's value with whitespace trimmed, and inner runs of spaces collapsed.
fn canonical_value(value: &[u8]) -> String {
    let text = String::from_utf8_lossy(value);
    let words: Vec<&str> = text.split_ascii_whitespace().collect();
    words.join(" ")
}

fn string_to_sign(authorization: &Authorization, canonical: &str) -> String {
    format!(
        "{ALGORITHM}\n{}\n{}\n{}",
        authorization.time.as_str(),
        authorization.credential.scope(),
        hex(digest(&SHA256, canonical.as_bytes()).as_ref())
    )
}

/// The `Authorization` field for a request with all of its fields signed now; `payload` is
/// `x-amz-content-sha256`.
pub(super) fn sign(
    head: &SignedHead<'_>,
    (key_id, secret): (&str, &str),
    region: &str,
    payload: &str,
    now: SystemTime,
) -> String {
    let time = BasicTime::of(now);
    let names = head.headers.keys().map(HeaderName::as_str).chain(["host"]);
    let mut signed_headers: Vec<String> = names.map(str::to_owned).collect();
    signed_headers.sort();
    let authorization = Authorization {
        credential: Credential {
            key_id: key_id.to_owned(),
            date: time.date().to_owned(),
            region: region.to_owned(),
        },
        signed_headers,
        signature: String::new(),
        time,
        expires: None,
    };
    let payload = Payload {
        text: payload.to_owned(),
        digest: None,
    };
    let canonical = canonical_request(head, &Query::parse(head.query), &authorization, &payload);
    let to_sign = string_to_sign(&authorization, &canonical);
    let signature = hmac::sign(&signing_key(secret, &authorization), to_sign.as_bytes());
    format!(
        "{ALGORITHM} Credential={key_id}/{}, SignedHeaders={}, Signature={}",
        authorization.credential.scope(),
        authorization.signed_headers.join(";"),
        hex(signature.as_ref())
    )
}

fn signing_key(secret: &str, authorization: &Authorization) -> hmac::Key {
    let key = |bytes: &[u8]| hmac::Key::new(hmac::HMAC_SHA256, bytes);
    let credential = &authorization.credential;
    let parts = [&*credential.date, &*credential.region, "s3", "aws4_request"];
    parts
        .iter()
        .fold(key(format!("AWS4{secret}").as_bytes()), |signing, part| {
            key(hmac::sign(&signing, part.as_bytes()).as_ref())
        })
}

/// Lower-case hexadecimal.
pub(super) fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write as _;
    let mut text = String::with_capacity(bytes.len() * 2);
    for byte in bytes {
        // Writing to memory does not fail.
        let _ = write!(text, "{byte:02x}");
    }
    text
}

/// 32 bytes of lower-case hexadecimal.
fn unhex(text: &str) -> Option<[u8; 32]> {
    let digit = |byte: u8| match byte {
        b'0'..=b'9' => Some(byte - b'0'),
        b'a'..=b'f' => Some(byte - b'a' + 10),
        _ => None,
    };
    let bytes = text.as_bytes();
    if bytes.len() != 64 {
        return None;
    }
    let mut out = [0; 32];
    for (pair, place) in bytes.chunks_exact(2).zip(&mut out) {
        let [high, low] = pair else { return None };
        *place = digit(*high)? << 4 | digit(*low)?;
    }
    Some(out)
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;
    use proptest::option;
    use proptest::prelude::*;

    use super::*;
    use crate::cors::Wildcard;

    const KEY_ID: &str = "AKIAIOSFODNN7EXAMPLE";
    const SECRET: &str = "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY";
    const EMPTY: &str = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

    fn keys() -> Keys {
        let mut keys = Keys::default();
        let any = Wildcard::parse("*").unwrap();
        keys.add(KEY_ID, Key::new(SECRET, [any]));
        keys
    }

    fn at(text: &str) -> SystemTime {
        BasicTime::parse(text).unwrap().time
    }

    fn headers(fields: &[(&str, &str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in fields {
            let name: HeaderName = name.parse().unwrap();
            headers.append(name, HeaderValue::from_str(value).unwrap());
        }
        headers
    }

    fn check(path: &str, query: &str, headers: &HeaderMap, now: &str) -> Result<(), ApiError> {
        let head = SignedHead {
            method: "GET",
            path,
            query,
            host: b"examplebucket.s3.amazonaws.com",
            headers,
        };
        verify(&head, &keys(), "us-east-1", at(now)).map(|verified| {
            assert_eq!(verified.claims.key_id, KEY_ID);
        })
    }

    /// AWS's own example «GET Bucket Lifecycle»
    /// (<https://docs.aws.amazon.com/AmazonS3/latest/API/sig-v4-header-based-auth.html>). A
    /// repeated name would copy its field's value each time, and the error response returns it.
    #[test]
    fn signed_headers_are_in_order_and_unique() {
        for names in [
            "host;host;x-amz-content-sha256;x-amz-date",
            "x-amz-date;host;x-amz-content-sha256",
            "host;x-amz-content-sha256;x-amz-date;x-amz-date",
        ] {
            let authorization = format!(
                "AWS4-HMAC-SHA256 Credential=AKIAIOSFODNN7EXAMPLE/20130524/us-east-1/s3/aws4_request,\
                 SignedHeaders={names},Signature={}",
                "0".repeat(64)
            );
            let headers = headers(&[
                ("authorization", &authorization),
                ("x-amz-content-sha256", UNSIGNED),
                ("x-amz-date", "20130524T000000Z"),
            ]);
            let error = check("/", "cors", &headers, "20130524T000000Z").unwrap_err();
            assert_eq!(error.code, "AuthorizationHeaderMalformed", "{names}");
        }
    }

    #[test]
    fn our_own_signatures_are_accepted() {
        let now = at("20130524T001459Z");
        for (path, query) in [
            ("/policies/cors/a.xml", ""),
            ("/policies", "list-type=2&max-keys=1000&prefix=a%20b%2Fc"),
            ("/p/%2B%20%C3%A9", "continuation-token=a%3D%2B&list-type=2"),
        ] {
            let mut fields = headers(&[
                ("x-amz-date", "20130524T001459Z"),
                ("x-amz-content-sha256", EMPTY),
                ("if-match", "\"a\""),
            ]);
            let head = SignedHead {
                method: "GET",
                path,
                query,
                host: b"examplebucket.s3.amazonaws.com",
                headers: &fields,
            };
            let field = sign(&head, (KEY_ID, SECRET), "us-east-1", EMPTY, now);
            fields.insert("authorization", HeaderValue::from_str(&field).unwrap());
            assert_eq!(check(path, query, &fields, "20130524T001500Z"), Ok(()));
        }
    }

    #[test]
    fn the_example_of_a_signed_field_is_accepted() {
        let signature = "fea454ca298b7da1c68078a5d1bdbfbbe0d65c699e0f91ac7a200a0136783543";
        let signed = |signature: &str, region: &str, payload: &str| {
            headers(&[
                (
                    "authorization",
                    &format!(
                        "AWS4-HMAC-SHA256 Credential={KEY_ID}/20130524/{region}/s3/aws4_request,\
                         SignedHeaders=host;x-amz-content-sha256;x-amz-date,Signature={signature}"
                    ),
                ),
                ("x-amz-date", "20130524T000000Z"),
                ("x-amz-content-sha256", payload),
            ])
        };
        let good = signed(signature, "us-east-1", EMPTY);
        let now = "20130524T001459Z";
        assert_eq!(check("/", "lifecycle", &good, now), Ok(()));
        let code = |result: Result<(), ApiError>| result.unwrap_err().code;
        assert_eq!(
            code(check("/", "cors", &good, now)),
            "SignatureDoesNotMatch"
        );
        assert_eq!(
            code(check("/a", "lifecycle", &good, now)),
            "SignatureDoesNotMatch"
        );
        let late = "20130524T001501Z";
        assert_eq!(
            code(check("/", "lifecycle", &good, late)),
            "RequestTimeTooSkewed"
        );
        let early = "20130523T234459Z";
        assert_eq!(
            code(check("/", "lifecycle", &good, early)),
            "RequestTimeTooSkewed"
        );
        let upper = signed(&signature.to_uppercase(), "us-east-1", EMPTY);
        assert_eq!(
            code(check("/", "lifecycle", &upper, now)),
            "SignatureDoesNotMatch"
        );
        let region = check(
            "/",
            "lifecycle",
            &signed(signature, "eu-west-1", EMPTY),
            now,
        );
        let region = region.unwrap_err();
        assert_eq!(region.code, "AuthorizationHeaderMalformed");
        assert!(
            region
                .message
                .contains("the region 'eu-west-1' is wrong; expecting 'us-east-1'")
        );
        let streaming = "STREAMING-AWS4-HMAC-SHA256-PAYLOAD";
        let streaming = signed(signature, "us-east-1", streaming);
        assert_eq!(
            code(check("/", "lifecycle", &streaming, now)),
            "NotImplemented"
        );
        let mut more = good.clone();
        more.insert("x-amz-acl", HeaderValue::from_static("private"));
        let error = check("/", "lifecycle", &more, now).unwrap_err();
        assert_eq!(
            (error.code, error.status),
            ("AccessDenied", StatusCode::FORBIDDEN)
        );
        assert_eq!(
            error.details,
            [("HeadersNotSigned", "x-amz-acl".to_owned())]
        );
    }

    /// AWS's own example of a presigned URL
    /// (<https://docs.aws.amazon.com/AmazonS3/latest/API/sigv4-query-string-auth.html>).
    #[test]
    fn the_example_of_a_presigned_url_is_accepted() {
        let query = "X-Amz-Algorithm=AWS4-HMAC-SHA256\
             &X-Amz-Credential=AKIAIOSFODNN7EXAMPLE%2F20130524%2Fus-east-1%2Fs3%2Faws4_request\
             &X-Amz-Date=20130524T000000Z&X-Amz-Expires=86400&X-Amz-SignedHeaders=host\
             &X-Amz-Signature=aeeed9bbccd4d02ee5c0109b86d86835f995330da4c265957d157751f604d404";
        let none = HeaderMap::new();
        let check = |query: &str, now| check("/test.txt", query, &none, now);
        assert_eq!(check(query, "20130524T235959Z"), Ok(()));
        let error = check(query, "20130525T000001Z").unwrap_err();
        assert_eq!(
            (error.code, &*error.message),
            ("AccessDenied", "Request has expired")
        );
        let error = check(query, "20130523T234459Z").unwrap_err();
        assert_eq!(error.message, "Request is not yet valid");
        let longer = query.replace("86400", "86401");
        let code = |query: &str| check(query, "20130524T000000Z").unwrap_err().code;
        assert_eq!(code(&longer), "SignatureDoesNotMatch");
        for (from, to) in [
            ("=86400", "=604801"),
            ("=86400", "=-1"),
            ("=86400", "=soon"),
            ("&X-Amz-Expires=86400", ""),
            ("us-east-1", "us-east-2"),
            ("20130524%2F", "20130525%2F"),
        ] {
            let query = query.replacen(from, to, 1);
            assert_eq!(code(&query), "AuthorizationQueryParametersError", "{to}");
        }
        assert_eq!(code(&query.replace("AKIA", "AKIB")), "InvalidAccessKeyId");
    }

    #[test]
    fn an_invalid_signature_is_refused_as_in_s3() {
        let field = |value: &str| headers(&[("authorization", value)]);
        let cases = [
            (headers(&[]), "", "AccessDenied"),
            (field("AWS AKID:signature"), "", "InvalidRequest"),
            (
                headers(&[]),
                "AWSAccessKeyId=a&Signature=b&Expires=1",
                "InvalidRequest",
            ),
            (field("Basic YTpi"), "", "InvalidArgument"),
            (
                field("AWS4-HMAC-SHA256 Credential=a"),
                "",
                "AuthorizationHeaderMalformed",
            ),
            (
                field("AWS4-HMAC-SHA256 Credential=a, SignedHeaders=host, Signature=0"),
                "",
                "AuthorizationHeaderMalformed",
            ),
            (
                field(
                    "AWS4-HMAC-SHA256 Credential=a/20130524/us-east-1/s3/aws4_request, SignedHeaders=host, Signature=0",
                ),
                "",
                "AccessDenied",
            ),
            (
                field(
                    "AWS4-HMAC-SHA256 Credential=a/20130524/us-east-1/sts/aws4_request, SignedHeaders=host, Signature=0",
                ),
                "",
                "AuthorizationHeaderMalformed",
            ),
            (
                field("AWS4-HMAC-SHA256 x"),
                "X-Amz-Algorithm=AWS4-HMAC-SHA256",
                "InvalidArgument",
            ),
        ];
        for (headers, query, code) in cases {
            let error = check("/", query, &headers, "20130524T000000Z").unwrap_err();
            assert_eq!(error.code, code, "{headers:?} {query}");
        }
    }

    proptest! {
        /// Any input is refused and causes no internal error.
        #[test]
        fn no_unsigned_request_is_accepted(
            path in "[/a%\\PC]{0,12}",
            query in "(X-Amz-(Algorithm|Credential|Date|Expires|SignedHeaders|Signature)=[A-Z0-9/%;=-]{0,70}&?){0,6}",
            field in option::of("(AWS4-HMAC-SHA256 )?(Credential|SignedHeaders|Signature|=|,|/|;|[a-z0-9]{0,4}){0,12}"),
            date in option::of("[0-9TZ]{0,17}"),
        ) {
            let mut headers = HeaderMap::new();
            for (name, value) in [("authorization", &field), ("x-amz-date", &date)] {
                if let Some(value) = value {
                    headers.insert(name, value.parse().unwrap());
                }
            }
            prop_assert!(check(&path, &query, &headers, "20130524T000000Z").is_err());
        }
    }
}
