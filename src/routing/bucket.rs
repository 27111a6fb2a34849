//! Which bucket a request addresses, by path or by host, and when that is ambiguous.

use std::borrow::Cow;
use std::fmt;

use crate::cors::ResourceType;

/// How requests name their bucket ([S3, «Virtual hosting of buckets»]).
///
/// [S3, «Virtual hosting of buckets»]: https://docs.aws.amazon.com/AmazonS3/latest/userguide/VirtualHosting.html
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Addressing {
    /// In the first segment of the path.
    Path,
    /// In the host: what the wildcard of the route's host matched.
    Host,
    /// In the host if a wildcard matched it, otherwise in the path.
    Both,
}

/// The part of a request's host that may name its bucket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MatchedHost<'r> {
    /// What the wildcard of the route's host matched; `None`: the host has no wildcard.
    pub below: Option<&'r str>,
    /// Whether the host is in the form that browsers send: [`Host::is_canonical`].
    ///
    /// [`Host::is_canonical`]: super::host::Host::is_canonical
    pub is_canonical: bool,
}

/// The bucket that a request addresses.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Addressed<'r> {
    /// Its name; `None` if the request addresses the service (a list of buckets).
    pub bucket: Option<Cow<'r, str>>,
    /// Under [`Addressing::Host`], if the host names no bucket: the bucket that a store finds if it
    /// also reads paths.
    pub in_path: Option<Cow<'r, str>>,
    /// Whether the path names a key in the bucket.
    pub resource: ResourceType,
}

/// Why two stores could find different buckets in one request. No policy applies to it.
///
/// `Display` completes the sentence «stores can read it differently: …».
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Ambiguity {
    /// A store that compares hosts byte by byte does not find the bucket in this host, and reads
    /// the path instead.
    Host,
    /// The path begins with `//`: some stores merge slashes.
    EmptySegment,
    /// The first segment is or decodes to `.` or `..`: some stores resolve them.
    DotSegment,
    /// The first segment decodes to a separator or another character that ends or changes a
    /// bucket's name in some stores.
    BucketName,
    /// A segment is or decodes to `..`, which leads out of the bucket in some stores.
    ParentSegment,
    /// The host names no bucket, but the path begins with the name of one that has a policy.
    PathOrHost,
}

impl Ambiguity {
    /// Completes the sentence «stores can read it differently: …».
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Host => {
                "the host is not in lower case, ends with a dot, has an empty label, or has a port \
                 in an unusual form"
            }
            Self::EmptySegment => "the path begins with an empty segment (`//`)",
            Self::DotSegment => "the path's first segment is `.` or `..`",
            Self::BucketName => {
                "the path's first segment has a character that no bucket name has, such as an \
                 encoded slash"
            }
            Self::ParentSegment => "the path has a `..` segment",
            Self::PathOrHost => {
                "the host names no bucket, but the path begins with the name of one"
            }
        }
    }
}

impl fmt::Display for Ambiguity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl Addressing {
    /// Finds the bucket of a request for `path`.
    ///
    /// It must be the bucket that every store finds, whether a store splits the path before or
    /// after decoding it, merges slashes, or resolves dot segments.
    ///
    /// # Errors
    ///
    /// Why stores could find different buckets.
    pub fn find<'r>(
        self,
        path: &'r str,
        host: MatchedHost<'r>,
    ) -> Result<Addressed<'r>, Ambiguity> {
        match (self, host.below) {
            (Self::Path, _) => in_path(path),
            (Self::Host | Self::Both, _) if !host.is_canonical => Err(Ambiguity::Host),
            (Self::Both, None) => in_path(path),
            (Self::Host | Self::Both, Some(bucket)) => in_host(path, bucket),
            (Self::Host, None) => in_path(path).map(|found| Addressed {
                bucket: None,
                in_path: found.bucket,
                resource: resource_in_host(path),
            }),
        }
    }
}

fn in_host<'r>(path: &str, bucket: &'r str) -> Result<Addressed<'r>, Ambiguity> {
    let rest = path.strip_prefix('/').unwrap_or(path);
    let first = rest.split('/').next().unwrap_or_default();
    // Only such a segment can begin with a separator or be a dot segment, however often it is
    // decoded.
    let decoded = match first.starts_with(['%', '.', '\\']) {
        true => fully_decoded(first),
        false => Vec::new(),
    };
    match decoded.as_slice() {
        // A URL parser reads a host after `//` or `/\` (RFC 3986 §4.2).
        [] if first.is_empty() && !rest.is_empty() => return Err(Ambiguity::EmptySegment),
        [b'/' | b'\\', ..] => return Err(Ambiguity::EmptySegment),
        b"." | b".." => return Err(Ambiguity::DotSegment),
        _ => {}
    }
    if has_parent_segment(path) {
        return Err(Ambiguity::ParentSegment);
    }
    Ok(Addressed {
        bucket: Some(Cow::Borrowed(bucket)),
        in_path: None,
        resource: resource_in_host(path),
    })
}

/// What a path names if the host names the bucket: `/` is the bucket, anything else a key.
#[must_use]
pub fn resource_in_host(path: &str) -> ResourceType {
    if matches!(path, "" | "/" | "*") {
        ResourceType::Bucket
    } else {
        ResourceType::Object
    }
}

fn in_path(path: &str) -> Result<Addressed<'_>, Ambiguity> {
    let path = path.strip_prefix('/').unwrap_or(path);
    let (first, key) = match path.split_once('/') {
        Some(("", _)) => return Err(Ambiguity::EmptySegment),
        Some(parts) => parts,
        None => (path, ""),
    };
    let bucket = percent_decoded(first);
    if matches!(&*bucket, "." | "..") {
        return Err(Ambiguity::DotSegment);
    }
    if !may_name_bucket(&bucket) {
        return Err(Ambiguity::BucketName);
    }
    if has_parent_segment(key) {
        return Err(Ambiguity::ParentSegment);
    }
    Ok(Addressed {
        bucket: Some(bucket).filter(|bucket| !bucket.is_empty()),
        in_path: None,
        resource: if key.is_empty() {
            ResourceType::Bucket
        } else {
            ResourceType::Object
        },
    })
}

/// Whether every store reads the same name from a decoded first segment.
///
/// A remaining `%` means that it was encoded twice, not at all, or not as UTF-8. After `;`, servlet
/// containers expect a parameter (`/..;/` in CVE-2020-5902). Windows removes dots and spaces at the
/// end.
fn may_name_bucket(name: &str) -> bool {
    let is_plain = |byte: u8| {
        !(byte.is_ascii_control() || matches!(byte, b'/' | b'\\' | b'%' | b';' | b'?' | b'#'))
    };
    name.bytes().all(is_plain) && !name.ends_with(['.', ' '])
}

/// Whether a segment is `..` for some store, however often that store decodes the path.
fn has_parent_segment(path: &str) -> bool {
    // Hardly any path has two dots, and most that do have them apart and no escapes.
    let (mut dots, mut has_escape, mut is_nested) = (0_u32, false, false);
    let mut rest = path.as_bytes();
    while let [first, after @ ..] = rest {
        rest = after;
        match first {
            b'.' => dots += 1,
            b'%' => {
                has_escape = true;
                match after {
                    [b'2', b'e' | b'E', ..] => dots += 1,
                    [b'2', b'5', ..] => is_nested = true,
                    [high, low, ..] if high.is_ascii_hexdigit() && low.is_ascii_hexdigit() => {}
                    _ => is_nested = true,
                }
            }
            _ => {}
        }
    }
    if dots < 2 && !is_nested || !has_escape && !path.contains("..") {
        return false;
    }
    any_parent_segment(&fully_decoded(path))
}

/// Decodes a path until no escape is left, in one pass: a decoded character may complete another
/// escape.
fn fully_decoded(path: &str) -> Vec<u8> {
    let mut decoded = Vec::with_capacity(path.len());
    for &byte in path.as_bytes() {
        decoded.push(byte);
        while let [.., b'%', high, low] = decoded.as_slice()
            && let Some((high, low)) = hex(*high).zip(hex(*low))
        {
            decoded.truncate(decoded.len() - 3);
            decoded.push(high * 16 + low);
        }
    }
    decoded
}

/// Whether a decoded path has a `..` segment for stores that split at backslashes, ignore control
/// characters and spaces, or end a segment at a parameter or NUL.
fn any_parent_segment(decoded: &[u8]) -> bool {
    // The dots in the segment so far; `None`: it has other characters.
    let mut dots = Some(0);
    for byte in decoded {
        match byte {
            b'/' | b'\\' | b';' | b'?' | b'#' | 0 if dots == Some(2) => return true,
            b'/' | b'\\' => dots = Some(0),
            b'.' => dots = dots.map(|dots| dots + 1),
            0..=b' ' | 0x7f => {}
            _ => dots = None,
        }
    }
    dots == Some(2)
}

/// Whether some store reads this key as empty: it has only separators, `.` segments, path
/// parameters, and bytes that end a key or are dropped from it.
pub(crate) fn may_be_no_key(key: &str) -> bool {
    let decoded = fully_decoded(key);
    let mut segments = decoded.split(|byte| matches!(byte, b'/' | b'\\'));
    loop {
        let Some(segment) = segments.next() else {
            return true;
        };
        let mut dots = 0;
        for byte in segment {
            match byte {
                // The rest is a parameter of this segment.
                b';' => break,
                // Ends a C string or a URL's path.
                0 | b'?' | b'#' => return true,
                b'.' if dots == 0 => dots = 1,
                0..=b' ' | 0x7f => {}
                _ => return false,
            }
        }
    }
}

/// Decodes `%2D` as `-`, like the upstream does. A segment that is not UTF-8 after decoding stays
/// unchanged.
pub(crate) fn percent_decoded(segment: &str) -> Cow<'_, str> {
    let decoded = percent_encoding::percent_decode_str(segment).decode_utf8();
    decoded.unwrap_or(Cow::Borrowed(segment))
}

fn hex(digit: u8) -> Option<u8> {
    let value = char::from(digit).to_digit(16)?;
    u8::try_from(value).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn canonical(below: Option<&str>) -> MatchedHost<'_> {
        MatchedHost {
            below,
            is_canonical: true,
        }
    }

    #[test]
    fn the_bucket_is_found_in_the_path_or_the_host() {
        use Addressing::{Both, Host, Path};
        use ResourceType::{Bucket, Object};
        let cases = [
            (Path, "/photos/a.jpg", None, Some("photos"), Object),
            (Path, "/photos/", None, Some("photos"), Bucket),
            (Path, "/photos", Some("x"), Some("photos"), Bucket),
            (Path, "/", None, None, Bucket),
            (Path, "/my%2Dphotos/a", None, Some("my-photos"), Object),
            (Path, "/b%C3%BCcher/a", None, Some("b\u{fc}cher"), Object),
            (Host, "/a.jpg", Some("photos"), Some("photos"), Object),
            (Host, "/", Some("photos"), Some("photos"), Bucket),
            (Host, "/photos/a", None, None, Object),
            (Both, "/a", Some("photos"), Some("photos"), Object),
            (Both, "/photos/a", None, Some("photos"), Object),
        ];
        for (addressing, path, below, bucket, resource) in cases {
            let found = addressing.find(path, canonical(below)).unwrap();
            assert_eq!(found.bucket.as_deref(), bucket, "{addressing:?} {path}");
            assert_eq!(found.resource, resource, "{addressing:?} {path}");
        }
        // If the host names no bucket, the path may.
        let found = Host.find("/photos/a", canonical(None)).unwrap();
        assert_eq!(found.in_path.as_deref(), Some("photos"));
    }

    #[test]
    fn keys_may_contain_slashes_escapes_and_dots() {
        let keys = [
            "a%2Fb",
            "a//b",
            "/a",
            "a/",
            "a%2F%2Fb//c",
            "..a/b",
            "a../b..",
            "a/.../b",
            "....",
            "./a/./b",
            ".hidden/.a",
            "a%2eb%2e%2ec",
            "v1..v2",
            "a%252Fb",
            "100%25",
            "100%",
            "caf%E9",
            "%E3%83%86%E3%82%B9%E3%83%88.txt",
            "a;b=1",
            "a%00b",
            "a%5Cb",
            "a+b%20c&d='e'(1)!.txt",
        ];
        for key in keys {
            for addressing in [Addressing::Path, Addressing::Both] {
                let path = format!("/photos/{key}");
                let found = addressing.find(&path, canonical(None));
                let bucket = found.unwrap().bucket;
                assert_eq!(bucket.as_deref(), Some("photos"), "{path}");
            }
            let path = format!("/{key}");
            let found = Addressing::Both.find(&path, canonical(Some("photos")));
            match key {
                "/a" => assert_eq!(found, Err(Ambiguity::EmptySegment)),
                "./a/./b" => assert_eq!(found, Err(Ambiguity::DotSegment)),
                _ => assert_eq!(found.unwrap().bucket.as_deref(), Some("photos"), "{path}"),
            }
        }
    }

    #[test]
    fn an_ambiguous_path_names_no_bucket() {
        use Ambiguity::{BucketName, DotSegment, EmptySegment, ParentSegment};
        let cases = [
            ("//secret/a", EmptySegment),
            ("//", EmptySegment),
            ("///secret/a", EmptySegment),
            ("/./secret/a", DotSegment),
            ("/../secret/a", DotSegment),
            ("/%2e/secret/a", DotSegment),
            ("/.%2E/secret/a", DotSegment),
            ("/..", DotSegment),
            ("/secret%2fa", BucketName),
            ("/%2fsecret/a", BucketName),
            ("/open%2f..%2fsecret/a", BucketName),
            ("/..%2fsecret/a", BucketName),
            ("/open\\..\\secret/a", BucketName),
            ("/open%5C..%5csecret/a", BucketName),
            ("/secret%00/a", BucketName),
            ("/secret%252fa", BucketName),
            ("/%252e%252e/secret/a", BucketName),
            ("/secret;x=1/a", BucketName),
            ("/..;/secret/a", BucketName),
            ("/secret%3b/a", BucketName),
            ("/secret%3fa", BucketName),
            ("/secret%23a", BucketName),
            ("/secret%/a", BucketName),
            ("/secret%ff/a", BucketName),
            ("/secret./a", BucketName),
            ("/secret%20/a", BucketName),
            ("/open/../secret/a", ParentSegment),
            ("/open/..", ParentSegment),
            ("/open/a/../b", ParentSegment),
            ("/open/%2e%2e/secret/a", ParentSegment),
            ("/open/%2E./secret/a", ParentSegment),
            ("/open/..%2fsecret/a", ParentSegment),
            ("/open/..%5csecret/a", ParentSegment),
            ("/open/..\\secret/a", ParentSegment),
            ("/open/a%2f..%2f..%2fsecret/a", ParentSegment),
            ("/open/%252e%252e/secret/a", ParentSegment),
            ("/open/%25252e./secret/a", ParentSegment),
            ("/open/..%252fsecret/a", ParentSegment),
            ("/open/%%32%65%2%65/secret/a", ParentSegment),
            ("/open/..;/secret/a", ParentSegment),
            ("/open/..;a=b/secret/a", ParentSegment),
            ("/open/..%3b/secret/a", ParentSegment),
            ("/open/..%00/secret/a", ParentSegment),
            ("/open/..%00a/secret/a", ParentSegment),
            ("/open/.%0a./secret/a", ParentSegment),
            ("/open/..%20/secret/a", ParentSegment),
        ];
        for (path, ambiguity) in cases {
            for addressing in [Addressing::Path, Addressing::Both, Addressing::Host] {
                let found = addressing.find(path, canonical(None));
                assert_eq!(found, Err(ambiguity), "{addressing:?} {path}");
            }
        }
    }

    /// If the host names the bucket, the path must not lead out of it, nor begin like a URL with
    /// another host.
    #[test]
    fn a_path_cannot_lead_out_of_the_bucket_in_the_host() {
        use Ambiguity::{DotSegment, EmptySegment, ParentSegment};
        let cases = [
            ("//secret.s3.example/a", EmptySegment),
            ("/\\secret.s3.example/a", EmptySegment),
            ("/%2fsecret.s3.example/a", EmptySegment),
            ("/%252Fsecret.s3.example/a", EmptySegment),
            ("/%5csecret.s3.example/a", EmptySegment),
            ("/./a", DotSegment),
            ("/../secret/a", DotSegment),
            ("/%2e%2e/secret/a", DotSegment),
            ("/..%2fsecret/a", ParentSegment),
            ("/..;/secret/a", ParentSegment),
            ("/a/..%2f..%2fsecret/a", ParentSegment),
            ("/a%2f..%2f..%2fsecret/a", ParentSegment),
        ];
        for (path, ambiguity) in cases {
            let found = Addressing::Both.find(path, canonical(Some("open")));
            assert_eq!(found, Err(ambiguity), "{path}");
        }
    }

    #[test]
    fn a_key_that_some_store_drops_is_recognised() {
        for key in [
            "", "/", "//", "./", "/.", "%2f", "%252F", "%5c", "\\", ";x", ";x/;y", "%00a", "%3fa",
            "%23", "%20", "%09/", "%2e", "/%2e/",
        ] {
            assert!(may_be_no_key(key), "{key}");
        }
        for key in [
            "a", "/a", "./a", "a/", "..a", "...", "%2fa", ";x/a", "%ff", "a%00", "%20a",
        ] {
            assert!(!may_be_no_key(key), "{key}");
        }
    }

    #[test]
    fn only_a_canonical_host_names_a_bucket() {
        for below in [Some("open"), None] {
            let host = MatchedHost {
                below,
                is_canonical: false,
            };
            for addressing in [Addressing::Host, Addressing::Both] {
                let found = addressing.find("/secret/a", host);
                assert_eq!(found, Err(Ambiguity::Host), "{addressing:?} {below:?}");
            }
            let found = Addressing::Path.find("/open/a", host).unwrap();
            assert_eq!(found.bucket.as_deref(), Some("open"));
        }
    }

    /// The ways in which stores may find the bucket in a path.
    mod stores {
        /// A step between the target and its segments.
        pub(crate) type Step = fn(Vec<u8>) -> Vec<u8>;

        pub(crate) fn decoded(path: Vec<u8>) -> Vec<u8> {
            let digit = |byte: u8| char::from(byte).to_digit(16);
            let mut out = Vec::new();
            let mut at = 0;
            while at < path.len() {
                let escape = (path[at] == b'%' && at + 2 < path.len())
                    .then(|| digit(path[at + 1]).zip(digit(path[at + 2])))
                    .flatten();
                match escape {
                    Some((high, low)) => {
                        out.push(u8::try_from(high * 16 + low).unwrap());
                        at += 3;
                    }
                    None => {
                        out.push(path[at]);
                        at += 1;
                    }
                }
            }
            out
        }

        pub(crate) fn with_slashes(path: Vec<u8>) -> Vec<u8> {
            path.into_iter()
                .map(|byte| if byte == b'\\' { b'/' } else { byte })
                .collect()
        }

        pub(crate) fn collapsed(path: Vec<u8>) -> Vec<u8> {
            let mut out: Vec<u8> = Vec::new();
            for byte in path {
                if !(byte == b'/' && out.last() == Some(&b'/')) {
                    out.push(byte);
                }
            }
            out
        }

        /// RFC 3986 §5.2.4, with a stack of segments.
        pub(crate) fn without_dot_segments(path: Vec<u8>) -> Vec<u8> {
            let mut kept: Vec<&[u8]> = Vec::new();
            let mut is_folder = false;
            for segment in path.split(|byte| *byte == b'/').skip(1) {
                is_folder = matches!(segment, b"." | b"..");
                match segment {
                    b"." => {}
                    b".." => {
                        kept.pop();
                    }
                    _ => kept.push(segment),
                }
            }
            if is_folder {
                kept.push(b"");
            }
            [b"/".as_slice(), &kept.join(&b'/')].concat()
        }

        /// Servlets: what follows `;` in a segment is a parameter.
        pub(crate) fn without_parameters(path: Vec<u8>) -> Vec<u8> {
            let segments = path.split(|byte| *byte == b'/');
            let names = segments.map(|segment| segment.split(|byte| *byte == b';').next().unwrap());
            names.collect::<Vec<_>>().join(&b'/')
        }

        /// C: a string ends at NUL.
        pub(crate) fn up_to_nul(path: Vec<u8>) -> Vec<u8> {
            let end = path.iter().position(|byte| *byte == 0);
            path[..end.unwrap_or(path.len())].to_vec()
        }

        pub(crate) const STEPS: [Step; 6] = [
            decoded,
            with_slashes,
            collapsed,
            without_dot_segments,
            without_parameters,
            up_to_nul,
        ];

        /// The bucket in a path after `steps`.
        pub(crate) fn bucket(path: &str, steps: &[Step]) -> Vec<u8> {
            let path = steps
                .iter()
                .fold(path.as_bytes().to_vec(), |path, step| step(path));
            let first = path.split(|byte| *byte == b'/').nth(1);
            decoded(first.unwrap_or_default().to_vec())
        }
    }

    fn path() -> impl Strategy<Value = String> {
        let piece = prop_oneof![
            4 => Just("/"),
            2 => Just("open"),
            2 => Just("secret"),
            1 => Just("a.txt"),
            2 => Just(".."),
            1 => Just("."),
            1 => proptest::sample::select(vec![
                "%2f", "%2F", "%5c", "\\", "%2e", "%2E", "%2e%2e", "%252f", "%252e", "%25", "%",
                "%2", "%00", "%3b", ";", ";x", "%20", "%3f", "%ff", "2e", "2f", "c", "//", "/./",
                "/../", "+",
            ]),
        ];
        proptest::collection::vec(piece, 0..10).prop_map(|pieces| format!("/{}", pieces.concat()))
    }

    proptest! {
        /// `find` returns the bucket that every store finds, whatever it does to the path and in
        /// whatever order. `PROPTEST_CASES=1000000` tries that many paths.
        #[test]
        fn every_store_finds_the_same_bucket(
            path in path(),
            steps in proptest::collection::vec(proptest::sample::select(&stores::STEPS[..]), 0..6),
        ) {
            let Ok(found) = Addressing::Path.find(&path, canonical(None)) else {
                return Ok(());
            };
            let bucket = found.bucket.unwrap_or_default();
            let fixed: [&[stores::Step]; 8] = [
                &[],
                &[stores::decoded],
                &[stores::collapsed],
                &[stores::without_dot_segments],
                &[stores::decoded, stores::without_dot_segments],
                &[stores::collapsed, stores::without_dot_segments],
                &[stores::decoded, stores::with_slashes, stores::collapsed, stores::without_dot_segments],
                &steps,
            ];
            for steps in fixed {
                let theirs = stores::bucket(&path, steps);
                prop_assert_eq!(String::from_utf8_lossy(&theirs), bucket.as_ref(), "{}", path);
            }
        }

        /// Decoding the result again changes nothing, and decoding repeatedly gives the same
        /// result.
        #[test]
        fn one_pass_decodes_every_level(path in "/[%25eEfF./a\\x80]{0,40}") {
            let mut again = path.clone().into_bytes();
            loop {
                let next = stores::decoded(again.clone());
                if next == again {
                    break;
                }
                again = next;
            }
            prop_assert_eq!(fully_decoded(&path), again);
        }

        /// If the fast check passes a path, the slow one finds no `..` segment either.
        #[test]
        fn the_fast_check_misses_no_parent_segment(path in path()) {
            prop_assert_eq!(has_parent_segment(&path), any_parent_segment(&fully_decoded(&path)));
        }

        /// A bucket's plain name before a key without `..` is found.
        #[test]
        fn ordinary_paths_keep_their_policy(
            bucket in "[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]",
            key in proptest::collection::vec("[a-zA-Z0-9!_'()*+,=:@&$ -]{1,9}|%2F|//|\\.[a-z]|%C3%A9", 0..6),
        ) {
            let path = format!("/{bucket}/{}", key.concat());
            let found = Addressing::Path.find(&path, canonical(None)).unwrap();
            prop_assert_eq!(found.bucket.as_deref(), Some(&*bucket));
        }
    }
}
