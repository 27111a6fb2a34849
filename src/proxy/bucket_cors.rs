//! Requests for a bucket's CORS configuration: GetBucketCors, PutBucketCors, DeleteBucketCors.
//!
//! On a route with a policy they never reach the upstream: its store would keep rules that nothing
//! applies, or read the request as another one. `rclone serve s3` ignores the query and deletes the
//! bucket.

use std::path::Path;
use std::time::Instant;

use http::header::{AUTHORIZATION, ORIGIN};
use http::{HeaderName, Method, Response, request};
use percent_encoding::percent_decode_str;

use crate::cors::{ResourceType, S3Error};
use crate::http1::fields::Fields;
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

/// Whether a request is for the CORS configuration of a bucket: S3 reads a `cors` in the query of a
/// bucket as that, whatever its value and place.
pub(super) fn is_asked_for(
    method: &Method,
    origin_form: &str,
    fields: &(impl Fields + ?Sized),
    found: &FoundRoute<'_>,
) -> bool {
    let Some((path, query)) = origin_form.split_once('?') else {
        return false;
    };
    if !matches!(*method, Method::GET | Method::PUT | Method::DELETE) || !has_name(query, "cors") {
        return false;
    }
    match NamesBucket::of(path, found) {
        NamesBucket::Yes => true,
        NamesBucket::No => false,
        NamesBucket::Perhaps => *method != Method::GET || !is_of_a_page(query, fields),
    }
}

/// Whether a path names a bucket and no key.
enum NamesBucket {
    Yes,
    No,
    /// It does where the path names the bucket, and not where the host does.
    Perhaps,
}

impl NamesBucket {
    fn of(path: &str, found: &FoundRoute<'_>) -> Self {
        let is_known =
            found.route.policies.buckets.is_some() && !matches!(found.scope, Scope::Ambiguous(_));
        if is_known {
            return match found.resource {
                ResourceType::Bucket => Self::Yes,
                ResourceType::Object => Self::No,
            };
        }
        let mut segments = path.split('/').filter(|segment| !segment.is_empty());
        match (segments.next(), segments.next()) {
            (None, _) => Self::Yes,
            (Some(_), None) => Self::Perhaps,
            (Some(_), Some(_)) => Self::No,
        }
    }
}

/// Whether a query has a parameter of this name, however it is encoded.
fn has_name(query: &str, name: &str) -> bool {
    query.split('&').any(|pair| {
        let written = pair.split('=').next().unwrap_or_default();
        percent_decode_str(written).eq(name.bytes())
    })
}

/// Whether a page reads an object, with `?cors` to get past a cache: S3's clients sign, and send
/// none of these fields.
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
        let bucket = found.snapshot.bucket(host, path);
        let request = ApiRequest {
            method: &parts.method,
            path,
            query: parts.uri.query().unwrap_or_default(),
            host,
            headers: &parts.headers,
            bucket: bucket.ok().flatten(),
            body: &mut body,
            request_id: id.as_str(),
            host_id: &host_id(id),
        };
        let response = api.handler.respond(request).await;
        own_response::of_api(response.status, response.document, id)
    }

    /// The answer where a route has no `cors_api`: where the configuration is, and how to enable the API.
    fn refuse_bucket_cors(&self, method: &Method, found: &FoundRoute<'_>) -> Response<Body> {
        let id = self.ids.next();
        let file = found
            .policy
            .and_then(|policy| policy.source.file.as_deref());
        let buckets = found.route.policies.buckets.as_ref();
        let directory = buckets.and_then(|buckets| buckets.directory.as_deref());
        LOG.with(|log| {
            let shows = log.take(0, Instant::now(), |suppressed| {
                tracing::warn!(suppressed, "more requests for CORS configurations were refused");
            });
            if shows {
                tracing::warn!(
                    route = &*found.route.name,
                    id = id.as_str(),
                    %method,
                    file = file.map(tracing::field::debug),
                    "a request for a bucket's CORS configuration was refused: the route has no `cors_api`"
                );
            }
        });
        refusal(file, directory, id)
    }
}

/// 405: the client learns the name of the file, and not where it is.
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
    use super::*;

    #[test]
    fn a_parameter_is_known_by_its_name_in_any_place_and_encoding() {
        for (query, expected) in [
            ("cors", true),
            ("cors=", true),
            ("cors=null", true),
            ("%63or%73", true),
            ("x-id=GetBucketCors&cors", true),
            ("cors&X-Amz-Signature=0", true),
            ("", false),
            ("Cors", false),
            ("cors2", false),
            ("a=cors", false),
            ("a=b;cors", false),
            ("%2563ors", false),
        ] {
            assert_eq!(has_name(query, "cors"), expected, "{query}");
        }
    }
}
