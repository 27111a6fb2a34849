//! Requests for a bucket's CORS configuration: GetBucketCors, PutBucketCors, DeleteBucketCors.
//!
//! On a route with a policy, they never reach the upstream. It would store rules that nothing
//! applies, or misread the request: `rclone serve s3` ignores the query and deletes the bucket.

use std::path::Path;
use std::time::Instant;

use http::header::{AUTHORIZATION, ORIGIN};
use http::{HeaderName, Method, Response, request};
use percent_encoding::percent_decode_str;

use crate::cors::S3Error;
use crate::http1::fields::Fields;
use crate::routing::bucket::{Addressing, Ambiguity, MatchedHost, may_be_no_key};
use crate::routing::client::Client;
use crate::routing::cors_api::ApiRequest;
use crate::routing::snapshot::Scope;
use crate::telemetry::LogLimiter;
use crate::upstream::request_body::RequestBody;

use super::header_map;
use super::own_response;
use super::request_id::{RequestId, host_id};
use super::response_body::Body;
use super::state::{FoundRoute, Proxy};

const SEC_FETCH_MODE: HeaderName = HeaderName::from_static("sec-fetch-mode");

thread_local! {
    static LOG: LogLimiter<1> = LogLimiter::default();
}

/// Whether a request is for a bucket's CORS configuration: for S3, any `cors` in the query of a
/// bucket makes it one, whatever its value and place.
///
/// This includes requests that only some stores read that way, because no store may get them.
pub(super) fn is_requested(
    method: &Method,
    origin_form: &str,
    fields: &(impl Fields + ?Sized),
    found: &FoundRoute<'_>,
) -> bool {
    let Some((path, query)) = origin_form.split_once('?') else {
        return false;
    };
    if !is_api_method(method) || !has_cors(query) {
        return false;
    }
    match NamesBucket::of(path, found) {
        NamesBucket::Yes | NamesBucket::Unclear(_) => true,
        NamesBucket::No => false,
        NamesBucket::Perhaps => *method != Method::GET || !is_of_a_page(query, fields),
    }
}

/// GET, PUT or DELETE, in any letter case, because some servers ignore the case.
fn is_api_method(method: &Method) -> bool {
    let methods = [Method::GET, Method::PUT, Method::DELETE];
    methods.contains(method)
        || methods
            .iter()
            .any(|known| known.as_str().eq_ignore_ascii_case(method.as_str()))
}

/// Whether a path names a bucket without a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum NamesBucket {
    Yes,
    No,
    /// Yes if buckets are named in the path; no if they are named in the host.
    Perhaps,
    /// Ambiguous: some stores read it that way, or it names another bucket; with the reason.
    Unclear(&'static str),
}

const NO_KEY: &str = "only separators, dots or parameters follow the bucket name";

impl NamesBucket {
    fn of(path: &str, found: &FoundRoute<'_>) -> Self {
        if let Scope::Ambiguous(ambiguity) = found.scope {
            return Self::Unclear(ambiguity.as_str());
        }
        let addressing = found.route.policies.buckets.as_ref();
        let addressing = addressing.map(|buckets| buckets.addressing);
        Self::by(path, addressing, found.is_below)
    }

    /// `is_below`: the host names a bucket if `addressing` allows buckets in hosts.
    fn by(target: &str, addressing: Option<Addressing>, is_below: bool) -> Self {
        let path = target.strip_prefix('/').unwrap_or(target);
        if path.is_empty() {
            return Self::Yes;
        }
        match (addressing, is_below) {
            (Some(Addressing::Host | Addressing::Both), true) => match may_be_no_key(path) {
                true => Self::Unclear(NO_KEY),
                false => Self::No,
            },
            (Some(Addressing::Host), false) => match Self::in_path(path) {
                Self::Yes => Self::Unclear(Ambiguity::PathOrHost.as_str()),
                other => other,
            },
            (Some(Addressing::Path | Addressing::Both), _) => Self::in_path(path),
            (None, _) => match (Addressing::Path.find(target, ANY_HOST), Self::in_path(path)) {
                (Err(ambiguity), _) => Self::Unclear(ambiguity.as_str()),
                (Ok(_), Self::Yes) => Self::Perhaps,
                (Ok(_), other) => other,
            },
        }
    }

    /// If the path names the bucket.
    fn in_path(path: &str) -> Self {
        match path.split_once('/') {
            None | Some((_, "")) => Self::Yes,
            Some((_, key)) if may_be_no_key(key) => Self::Unclear(NO_KEY),
            Some(_) => Self::No,
        }
    }
}

/// A host that names no bucket.
const ANY_HOST: MatchedHost<'static> = MatchedHost {
    below: None,
    is_canonical: true,
};

/// Whether any store finds `cors` among the names of a query.
///
/// Stores decode names. Ceph does so before it looks for `=`, and ignores a second `?`. Old stores
/// also split at `;`.
fn has_cors(query: &str) -> bool {
    let query = query.trim_start_matches('?');
    query.split(['&', ';']).any(|pair| {
        let mut bytes = percent_decode_str(pair);
        let has_name = b"cors".iter().all(|letter| bytes.next() == Some(*letter));
        has_name && matches!(bytes.next(), None | Some(b'=' | 0))
    })
}

/// Whether a query has a parameter of this name, however it is encoded.
fn has_name(query: &str, name: &str) -> bool {
    query.split('&').any(|pair| {
        let written = pair.split('=').next().unwrap_or_default();
        percent_decode_str(written).eq(name.bytes())
    })
}

/// Whether a page reads an object, using `?cors` to bypass a cache. S3 clients sign their requests
/// and send none of these fields.
fn is_of_a_page(query: &str, fields: &(impl Fields + ?Sized)) -> bool {
    let has = |name: &HeaderName| fields.field_values(name).next().is_some();
    let is_signed = has(&AUTHORIZATION)
        || ["X-Amz-Signature", "Signature"]
            .iter()
            .any(|name| has_name(query, name));
    !is_signed && (has(&ORIGIN) || has(&SEC_FETCH_MODE))
}

impl Proxy {
    /// Answers a request for a bucket's CORS configuration.
    pub(super) async fn answer_bucket_cors(
        &self,
        found: &FoundRoute<'_>,
        parts: &request::Parts,
        mut body: RequestBody,
        client: Client,
    ) -> Response<Body> {
        let Some(api) = &found.route.cors_api else {
            return self.refuse_bucket_cors(&parts.method, found);
        };
        let id = self.ids.next();
        let host = header_map::authority(parts)
            .ok()
            .flatten()
            .unwrap_or_default();
        let path = parts.uri.path();
        let bucket = match NamesBucket::of(path, found) {
            NamesBucket::Unclear(reason) => Err(reason),
            _ => Ok(found.snapshot.bucket(host, path).ok().flatten()),
        };
        let mut forwarded = parts.clone();
        let proxies = &found.snapshot.trusted_proxies;
        let forwarding = found.route.forwarding;
        header_map::to_upstream(&mut forwarded, client, forwarding, proxies, false);
        let request = ApiRequest {
            method: &parts.method,
            path,
            query: parts.uri.query().unwrap_or_default(),
            host,
            headers: &parts.headers,
            forwarded: &forwarded.headers,
            bucket,
            body: &mut body,
            request_id: id.as_str(),
            host_id: &host_id(id),
        };
        let response = api.handler.respond(request).await;
        own_response::of_api(response.status, response.document, id)
    }

    /// The answer on a route without `cors_api`: where the configuration is, and how to enable the
    /// API.
    fn refuse_bucket_cors(&self, method: &Method, found: &FoundRoute<'_>) -> Response<Body> {
        let id = self.ids.next();
        let file = found
            .policy
            .and_then(|policy| policy.source.file.as_deref());
        let buckets = found.route.policies.buckets.as_ref();
        let directory = buckets.and_then(|buckets| buckets.directory.as_deref());
        LOG.with(|log| {
            let shows = log.take(0, Instant::now(), |suppressed| {
                tracing::warn!(suppressed, "more requests for CORS configurations refused");
            });
            if shows {
                tracing::warn!(
                    route = &*found.route.name,
                    id = id.as_str(),
                    %method,
                    file = file.map(tracing::field::debug),
                    "request for a bucket's CORS configuration refused: the route has no `cors_api`"
                );
            }
        });
        refusal(file, directory, id)
    }
}

/// A 405 response. The client learns the name of the file, but not its path.
fn refusal(file: Option<&Path>, directory: Option<&Path>, id: RequestId) -> Response<Body> {
    let name = |path: Option<&Path>| {
        let name = path.and_then(Path::file_name);
        name.map(|name| name.to_string_lossy().into_owned())
    };
    let place = match (name(file), name(directory)) {
        (Some(file), _) => format!("The CORS configuration is in the file {file} of s3cors."),
        (None, Some(directory)) => format!(
            "This bucket has no CORS configuration; s3cors reads one from <bucket>.xml in the \
             directory {directory}."
        ),
        (None, None) => "The route has no CORS configuration in s3cors.".to_owned(),
    };
    let message = format!(
        "{place} It cannot be read or changed through the S3 API unless the config of s3cors has \
         [route.cors_api] for this route."
    );
    let error = S3Error {
        code: "MethodNotAllowed",
        message: message.into(),
        resource: None,
    };
    own_response::not_allowed(&error, id)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn every_spelling_of_cors_is_recognised() {
        for (query, expected) in [
            ("cors", true),
            ("cors=", true),
            ("cors=null", true),
            ("%63or%73", true),
            ("cors%3D", true),
            ("cors%3dx", true),
            ("cors%00", true),
            ("?cors", true),
            ("a;cors", true),
            ("a=b;cors=c", true),
            ("&&cors&", true),
            ("cors=&x", true),
            ("x&cors", true),
            ("acl=&%63%6f%72%73=&x", true),
            ("x-id=GetBucketCors&cors", true),
            ("cors&X-Amz-Signature=0", true),
            ("", false),
            ("Cors", false),
            ("cors2", false),
            ("cor", false),
            ("a=cors", false),
            ("a%3Dcors", false),
            ("%2563ors", false),
        ] {
            assert_eq!(has_cors(query), expected, "{query}");
        }
    }

    #[test]
    fn methods_are_recognised_in_any_letter_case() {
        for (method, expected) in [
            ("GET", true),
            ("put", true),
            ("Delete", true),
            ("HEAD", false),
            ("POST", false),
            ("OPTIONS", false),
            ("PUTS", false),
        ] {
            let method = Method::from_bytes(method.as_bytes()).unwrap();
            assert_eq!(is_api_method(&method), expected, "{method}");
        }
    }

    #[test]
    fn a_path_that_only_some_stores_read_as_a_bucket_is_unclear() {
        use NamesBucket::{No, Perhaps, Yes};
        let unclear = NamesBucket::Unclear("");
        let (path, host, both) = (
            Some(Addressing::Path),
            Some(Addressing::Host),
            Some(Addressing::Both),
        );
        for (target, addressing, is_below, expected) in [
            ("/b", path, false, Yes),
            ("/b/", path, true, Yes),
            ("/b//", path, false, unclear),
            ("/b/./", path, false, unclear),
            ("/b/%2f", path, false, unclear),
            ("/b/;x", path, false, unclear),
            ("/b/%00k", path, false, unclear),
            ("/b/k", path, false, No),
            ("/b//k", path, false, No),
            ("/", both, true, Yes),
            ("/k", both, true, No),
            ("/;x", both, true, unclear),
            ("/%20", host, true, unclear),
            ("/b", both, false, Yes),
            ("/b//", both, false, unclear),
            ("/b", host, false, unclear),
            ("/b/", host, false, unclear),
            ("/b/k", host, false, No),
            ("/", host, false, Yes),
            ("/b", None, false, Perhaps),
            ("/b/", None, true, Perhaps),
            ("/b//", None, false, unclear),
            ("//b", None, false, unclear),
            ("/%2fb", None, false, unclear),
            ("/./b", None, false, unclear),
            ("/a/../b", None, false, unclear),
            ("/a/b", None, false, No),
        ] {
            let found = NamesBucket::by(target, addressing, is_below);
            let found = match found {
                NamesBucket::Unclear(_) => unclear,
                other => other,
            };
            assert_eq!(found, expected, "{target} {addressing:?} {is_below}");
        }
    }

    /// Whether a store that normalizes paths with these steps reads a bucket and no key.
    fn is_bucket_to_a_store(path: &str, merges: bool, resolves: bool) -> bool {
        let decoded: Vec<u8> = percent_decode_str(path).collect();
        let text = String::from_utf8_lossy(&decoded).replace('\\', "/");
        let mut segments: Vec<&str> = Vec::new();
        for segment in text.split('/').skip(1) {
            match segment {
                "" if merges => {}
                "." if resolves => {}
                ".." if resolves => drop(segments.pop()),
                segment => segments.push(segment),
            }
        }
        matches!(&*segments, [_] | [_, ""])
    }

    proptest! {
        /// Whatever a store's steps, no path to a bucket counts as an object.
        #[test]
        fn no_path_to_a_bucket_counts_as_an_object(
            pieces in proptest::collection::vec(
                proptest::sample::select(vec!["/", "b", "k", ".", "..", "%2f", "%5c", "%2e", "\\"]), 0..7),
            merges: bool,
            resolves: bool,
        ) {
            let path = format!("/{}", pieces.concat());
            for addressing in [None, Some(Addressing::Path), Some(Addressing::Both)] {
                let is_clear = addressing.is_none() || Addressing::Path.find(&path, ANY_HOST).is_ok();
                if is_clear && NamesBucket::by(&path, addressing, false) == NamesBucket::No {
                    prop_assert!(!is_bucket_to_a_store(&path, merges, resolves), "{}", path);
                }
            }
        }
    }
}
