//! Verifies a body's digests: the signed one, `Content-MD5` and `x-amz-checksum-…`.

use aws_lc_rs::digest::{SHA1_FOR_LEGACY_USE_ONLY, SHA256, digest};
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use crc::{CRC_32_ISCSI, CRC_32_ISO_HDLC, CRC_64_NVME, Crc};
use http::{HeaderMap, HeaderValue};
use md5::{Digest as _, Md5};

use super::error::ApiError;
use super::sigv4::{Claims, hex};

const CONTENT_MD5: &str = "content-md5";
const PREFIX: &str = "x-amz-checksum-";

/// Fields with that prefix that are not checksums.
const ABOUT_CHECKSUMS: [&str; 3] = ["algorithm", "mode", "type"];

static CRC32: Crc<u32> = Crc::<u32>::new(&CRC_32_ISO_HDLC);
static CRC32C: Crc<u32> = Crc::<u32>::new(&CRC_32_ISCSI);
static CRC64NVME: Crc<u64> = Crc::<u64>::new(&CRC_64_NVME);

/// Checks that the body is the signed one.
pub(super) fn check_signed(claims: &Claims, body: &[u8]) -> Result<(), ApiError> {
    let computed = digest(&SHA256, body);
    match claims.payload {
        Some(signed) if signed != *computed.as_ref() => {
            let message = "The provided 'x-amz-content-sha256' header does not match what was \
                           computed.";
            Err(ApiError::bad_request("XAmzContentSHA256Mismatch", message)
                .with("ClientComputedContentSHA256", hex(&signed))
                .with("S3ComputedContentSHA256", hex(computed.as_ref())))
        }
        _ => Ok(()),
    }
}

/// Verifies `Content-MD5` and the checksum of a document, one of which S3 requires. If the body's
/// digest is not signed, one of them must be.
pub(super) fn check_document(
    claims: &Claims,
    headers: &HeaderMap,
    body: &[u8],
) -> Result<(), ApiError> {
    let md5 = one(headers, CONTENT_MD5)?;
    let mut names = headers.keys().filter_map(|name| {
        let algorithm = name.as_str().strip_prefix(PREFIX)?;
        (!ABOUT_CHECKSUMS.contains(&algorithm)).then_some((name.as_str(), algorithm))
    });
    let checksum = names.next();
    if names.next().is_some() {
        let message = "Expecting a single x-amz-checksum- header. Multiple checksum Types are not \
                       allowed.";
        return Err(ApiError::bad_request("InvalidRequest", message));
    }
    if let Some(value) = md5 {
        check_md5(value, body)?;
    }
    if let Some((name, algorithm)) = checksum {
        check_checksum(one(headers, name)?, algorithm, body)?;
    }
    if md5.is_none() && checksum.is_none() {
        let announced = ["x-amz-sdk-checksum-algorithm", "x-amz-checksum-algorithm"];
        let message = match announced.iter().find(|name| headers.contains_key(**name)) {
            Some(name) => format!(
                "{name} specified, but no corresponding x-amz-checksum-* or x-amz-trailer headers were \
                 found."
            ),
            None => {
                "Missing required header for this request: Content-MD5 OR x-amz-checksum-*".into()
            }
        };
        return Err(ApiError::bad_request("InvalidRequest", message));
    }
    let is_signed = claims.payload.is_some()
        || checksum.is_some_and(|(name, _)| claims.signs(name))
        || md5.is_some() && claims.signs(CONTENT_MD5);
    if !is_signed {
        let message = "There were headers present in the request which were not signed";
        return Err(ApiError::access_denied(message).with("HeadersNotSigned", CONTENT_MD5));
    }
    Ok(())
}

/// The value of a field that may occur once.
fn one<'h>(headers: &'h HeaderMap, name: &str) -> Result<Option<&'h HeaderValue>, ApiError> {
    let mut values = headers.get_all(name).iter();
    let value = values.next();
    match values.next() {
        None => Ok(value),
        Some(_) => {
            let message = format!("The {name} header is there more than once.");
            Err(ApiError::bad_request("InvalidRequest", message))
        }
    }
}

fn check_md5(value: &HeaderValue, body: &[u8]) -> Result<(), ApiError> {
    let given = BASE64_STANDARD.decode(value).ok();
    let Some(given) = given.filter(|given| given.len() == 16) else {
        let message = "The Content-MD5 you specified was invalid.";
        let written = String::from_utf8_lossy(value.as_bytes());
        return Err(ApiError::bad_request("InvalidDigest", message).with("Content-MD5", written));
    };
    let computed = Md5::digest(body);
    if given == computed.as_slice() {
        return Ok(());
    }
    let message = "The Content-MD5 you specified did not match what we received.";
    Err(ApiError::bad_request("BadDigest", message)
        .with("ExpectedDigest", hex(&given))
        .with("CalculatedDigest", BASE64_STANDARD.encode(computed)))
}

fn check_checksum(
    value: Option<&HeaderValue>,
    algorithm: &str,
    body: &[u8],
) -> Result<(), ApiError> {
    let computed: Vec<u8> = match algorithm {
        "crc32" => CRC32.checksum(body).to_be_bytes().into(),
        "crc32c" => CRC32C.checksum(body).to_be_bytes().into(),
        "crc64nvme" => CRC64NVME.checksum(body).to_be_bytes().into(),
        "sha1" => digest(&SHA1_FOR_LEGACY_USE_ONLY, body).as_ref().into(),
        "sha256" => digest(&SHA256, body).as_ref().into(),
        _ => {
            let message = "The algorithm type you specified in x-amz-checksum- header is invalid.";
            return Err(ApiError::bad_request("InvalidRequest", message));
        }
    };
    let value = value.map(HeaderValue::as_bytes).unwrap_or_default();
    let given = BASE64_STANDARD.decode(value).ok();
    match given.filter(|given| given.len() == computed.len()) {
        None => {
            let message = format!("Value for x-amz-checksum-{algorithm} header is invalid.");
            Err(ApiError::bad_request("InvalidRequest", message))
        }
        Some(given) if given == computed => Ok(()),
        Some(_) => {
            let name = algorithm.to_ascii_uppercase();
            let message =
                format!("The {name} you specified did not match the calculated checksum.");
            Err(ApiError::bad_request("BadDigest", message))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The check values of the CRC catalogue (<https://reveng.sourceforge.io/crc-catalogue/all.htm>), and
    /// the digests of RFC 1321, FIPS 180-2.
    #[test]
    fn a_checksum_is_the_one_of_its_name() {
        let cases: [(&str, &[u8], &[u8]); 5] = [
            ("crc32", b"123456789", &0xcbf4_3926_u32.to_be_bytes()),
            ("crc32c", b"123456789", &0xe306_9283_u32.to_be_bytes()),
            (
                "crc64nvme",
                b"123456789",
                &0xae8b_1486_0a79_9888_u64.to_be_bytes(),
            ),
            (
                "sha1",
                b"abc",
                b"\xa9\x99\x3e\x36\x47\x06\x81\x6a\xba\x3e\x25\x71\x78\x50\xc2\x6c\x9c\xd0\xd8\x9d",
            ),
            (
                "sha256",
                b"abc",
                b"\xba\x78\x16\xbf\x8f\x01\xcf\xea\x41\x41\x40\xde\x5d\xae\x22\x23\
                  \xb0\x03\x61\xa3\x96\x17\x7a\x9c\xb4\x10\xff\x61\xf2\x00\x15\xad",
            ),
        ];
        for (algorithm, body, digest) in cases {
            let value = HeaderValue::from_str(&BASE64_STANDARD.encode(digest)).unwrap();
            assert_eq!(check_checksum(Some(&value), algorithm, body), Ok(()));
            let error = check_checksum(Some(&value), algorithm, b"other").unwrap_err();
            assert_eq!(error.code, "BadDigest", "{algorithm}");
            let short = HeaderValue::from_static("AAA=");
            let error = check_checksum(Some(&short), algorithm, body).unwrap_err();
            assert_eq!(error.code, "InvalidRequest", "{algorithm}");
        }
        let md5 = HeaderValue::from_static("kAFQmDzST7DWlj99KOF/cg==");
        assert_eq!(check_md5(&md5, b"abc"), Ok(()));
        assert_eq!(check_md5(&md5, b"abd").unwrap_err().code, "BadDigest");
        let md5 = HeaderValue::from_static("900150983cd24fb0d6963f7d28e17f72");
        assert_eq!(check_md5(&md5, b"abc").unwrap_err().code, "InvalidDigest");
    }
}
