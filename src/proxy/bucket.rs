//! Which bucket a request addresses, by path or by host, and what of it.

use std::borrow::Cow;

use crate::cors::ResourceType;

/// How requests name their bucket ([S3, «Virtual hosting of buckets»]).
///
/// [S3, «Virtual hosting of buckets»]: https://docs.aws.amazon.com/AmazonS3/latest/userguide/VirtualHosting.html
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Addressing {
    /// The first segment of the path.
    Path,
    /// What the wildcard of the route's host stands for.
    Host,
    /// By host where the host was matched by a wildcard, else by path.
    Both,
}

/// The bucket that a request addresses.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Addressed<'r> {
    /// Its name; `None` where the request is for the service (a list of buckets).
    pub bucket: Option<Cow<'r, str>>,
    /// Whether the path names a key in it.
    pub resource: ResourceType,
}

impl Addressing {
    /// Finds the bucket of a request for `path`, whose host stood `below` a wildcard.
    #[must_use]
    pub fn find<'r>(self, path: &'r str, below: Option<&'r str>) -> Addressed<'r> {
        match (self, below) {
            (Self::Host, below) => in_host(path, below),
            (Self::Both, Some(below)) => in_host(path, Some(below)),
            (Self::Both, None) | (Self::Path, _) => in_path(path),
        }
    }
}

fn in_host<'r>(path: &str, bucket: Option<&'r str>) -> Addressed<'r> {
    Addressed {
        bucket: bucket.map(Cow::Borrowed),
        resource: resource_in_host(path),
    }
}

/// What a path names where the host is the bucket: `/` is the bucket, anything else a key.
#[must_use]
pub fn resource_in_host(path: &str) -> ResourceType {
    if matches!(path, "" | "/" | "*") {
        ResourceType::Bucket
    } else {
        ResourceType::Object
    }
}

fn in_path(path: &str) -> Addressed<'_> {
    let path = path.strip_prefix('/').unwrap_or(path);
    let (bucket, key) = path.split_once('/').unwrap_or((path, ""));
    Addressed {
        bucket: Some(percent_decoded(bucket)).filter(|bucket| !bucket.is_empty()),
        resource: if key.is_empty() {
            ResourceType::Bucket
        } else {
            ResourceType::Object
        },
    }
}

/// The upstream reads `%2D` as `-`, so we do too. A segment that does not decode to UTF-8 stays as
/// it came.
pub(super) fn percent_decoded(segment: &str) -> Cow<'_, str> {
    let decoded = percent_encoding::percent_decode_str(segment).decode_utf8();
    decoded.unwrap_or(Cow::Borrowed(segment))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_bucket_is_in_the_path_or_in_the_host() {
        use Addressing::{Both, Host, Path};
        use ResourceType::{Bucket, Object};
        let cases = [
            (Path, "/photos/a.jpg", None, Some("photos"), Object),
            (Path, "/photos/", None, Some("photos"), Bucket),
            (Path, "/photos", Some("x"), Some("photos"), Bucket),
            (Path, "/", None, None, Bucket),
            (Path, "//photos/a", None, None, Object),
            (Path, "/my%2Dphotos/a", None, Some("my-photos"), Object),
            (Path, "/%ff%2", None, Some("%ff%2"), Bucket),
            (Host, "/a.jpg", Some("photos"), Some("photos"), Object),
            (Host, "/", Some("photos"), Some("photos"), Bucket),
            (Host, "/photos/a", None, None, Object),
            (Both, "/a", Some("photos"), Some("photos"), Object),
            (Both, "/photos/a", None, Some("photos"), Object),
        ];
        for (addressing, path, below, bucket, resource) in cases {
            let found = addressing.find(path, below);
            assert_eq!(found.bucket.as_deref(), bucket, "{addressing:?} {path}");
            assert_eq!(found.resource, resource, "{addressing:?} {path}");
        }
    }
}
