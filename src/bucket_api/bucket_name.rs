//! Validates bucket names.

use std::net::Ipv4Addr;

use super::error::ApiError;

/// Rejects an invalid bucket name.
pub(super) fn check_name(bucket: &str) -> Result<(), ApiError> {
    if is_bucket_name(bucket) {
        return Ok(());
    }
    let message = "The specified bucket is not valid.";
    Err(ApiError::bad_request("InvalidBucketName", message).with("BucketName", bucket))
}

/// Whether a name is a valid bucket name, and therefore a valid file name.
///
/// [S3's rules], except that old buckets may be longer than 63 bytes and contain `_` or `..`.
/// Capitals, which old buckets may also have, are rejected: a load warns about such files.
///
/// [S3's rules]: https://docs.aws.amazon.com/AmazonS3/latest/userguide/bucketnamingrules.html
pub(super) fn is_bucket_name(name: &str) -> bool {
    let is_end = |byte: &u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    let is_part = |byte: &u8| is_end(byte) || matches!(byte, b'.' | b'-' | b'_');
    let bytes = name.as_bytes();
    (3..=250).contains(&bytes.len())
        && bytes.first().is_some_and(is_end)
        && bytes.last().is_some_and(is_end)
        && bytes.iter().all(is_part)
        && name.parse::<Ipv4Addr>().is_err()
}

#[cfg(test)]
mod tests {
    use super::is_bucket_name;

    #[test]
    fn a_bucket_has_a_name_that_s3_allows() {
        let (longest, too_long) = ("a".repeat(250), "a".repeat(251));
        let cases = [
            ("photos", true),
            ("my-photos.2024_old", true),
            ("007", true),
            ("1.2.3", true),
            ("pho..tos", true),
            (&*longest, true),
            ("Photos", false),
            ("photoS", false),
            ("PHOTOS", false),
            ("ab", false),
            (&*too_long, false),
            (".photos", false),
            ("-photos", false),
            ("photos-", false),
            ("photos.", false),
            ("_photos", false),
            ("192.168.5.4", false),
            ("phötos", false),
            ("pho tos", false),
            ("pho/tos", false),
            ("pho\0tos", false),
            ("", false),
        ];
        for (name, expected) in cases {
            assert_eq!(is_bucket_name(name), expected, "{name:?}");
        }
    }
}
