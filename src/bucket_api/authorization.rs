//! Parses a request's signature: the `Authorization` field, or the parameters of a presigned URL.

use std::time::Duration;

use http::header::{AUTHORIZATION, DATE};
use http::{HeaderMap, HeaderName};

use super::error::ApiError;
use super::query::Query;
use super::time::BasicTime;

pub(super) const ALGORITHM: &str = "AWS4-HMAC-SHA256";
pub(super) const X_AMZ_DATE: HeaderName = HeaderName::from_static("x-amz-date");

/// The maximum validity of a presigned URL, in seconds.
const MAX_EXPIRES: u64 = 604_800;

/// A signature and what it covers.
#[derive(Debug)]
pub(super) struct Authorization {
    pub(super) credential: Credential,
    /// In signing order.
    pub(super) signed_headers: Vec<String>,
    /// Lower-case hexadecimal.
    pub(super) signature: String,
    pub(super) time: BasicTime,
    /// The validity of a presigned URL; `None` for an `Authorization` field.
    pub(super) expires: Option<Duration>,
}

/// `AKID/20130524/us-east-1/s3/aws4_request`
#[derive(Debug)]
pub(super) struct Credential {
    pub(super) key_id: String,
    pub(super) date: String,
    pub(super) region: String,
}

impl Credential {
    /// `20130524/us-east-1/s3/aws4_request`
    pub(super) fn scope(&self) -> String {
        format!("{}/{}/s3/aws4_request", self.date, self.region)
    }
}

/// How an unusable credential is answered: the two places have different error codes.
#[derive(Clone, Copy)]
enum Place {
    Field,
    Query,
}

impl Place {
    fn malformed(self, what: &str) -> ApiError {
        match self {
            Self::Field => {
                let message = format!("The authorization header is malformed; {what}");
                ApiError::bad_request("AuthorizationHeaderMalformed", message)
            }
            Self::Query => {
                let message = format!("Error parsing the X-Amz-Credential parameter; {what}");
                ApiError::bad_request("AuthorizationQueryParametersError", message)
            }
        }
    }

    fn credential(self, text: &str, region: Option<&str>) -> Result<Credential, ApiError> {
        // A key's id may contain slashes.
        let mut parts = text.rsplitn(5, '/');
        let parts = [(); 5].map(|()| parts.next().unwrap_or_default());
        let [terminator, service, in_region, date, key_id] = parts;
        if key_id.is_empty() || terminator != "aws4_request" {
            let what = "the Credential is mal-formed; expecting \
                        \"<YOUR-AKID>/YYYYMMDD/REGION/SERVICE/aws4_request\".";
            return Err(self.malformed(what));
        }
        if date.len() != 8 || !date.bytes().all(|byte| byte.is_ascii_digit()) {
            let what = format!(
                "incorrect date format \"{date}\". This date in the credential must be in the format \
                 \"yyyyMMdd\"."
            );
            return Err(self.malformed(&what));
        }
        if let Some(region) = region
            && in_region != region
        {
            let what = format!("the region '{in_region}' is wrong; expecting '{region}'");
            return Err(self.malformed(&what).with("Region", region));
        }
        if service != "s3" {
            let what = format!("incorrect service \"{service}\". This endpoint belongs to \"s3\".");
            return Err(self.malformed(&what));
        }
        Ok(Credential {
            key_id: key_id.to_owned(),
            date: date.to_owned(),
            region: in_region.to_owned(),
        })
    }
}

impl Authorization {
    /// Parses a request's signature; `region` is the required one, if known.
    pub(super) fn of(
        headers: &HeaderMap,
        query: &Query,
        region: Option<&str>,
    ) -> Result<Self, ApiError> {
        let mut fields = headers.get_all(AUTHORIZATION).iter();
        let is_presigned = query.has("X-Amz-Algorithm");
        match (fields.next(), fields.next(), is_presigned) {
            (None, _, false) if query.has("Signature") => Err(old_version()),
            (None, _, false) => Err(ApiError::access_denied("Access Denied")),
            (None, _, true) => Self::of_query(query, region),
            (Some(field), None, false) => {
                let text = field.to_str().unwrap_or_default();
                Self::of_field(text, headers, region)
            }
            (Some(_), Some(_), _) | (Some(_), None, true) => {
                let message = "Only one auth mechanism allowed; only the X-Amz-Algorithm query \
                               parameter, Signature query string parameter or the Authorization \
                               header should be specified";
                Err(ApiError::bad_request("InvalidArgument", message))
            }
        }
    }

    fn of_field(text: &str, headers: &HeaderMap, region: Option<&str>) -> Result<Self, ApiError> {
        let Some(rest) = text.strip_prefix(ALGORITHM) else {
            return Err(match text.starts_with("AWS ") {
                true => old_version(),
                false => {
                    let message = "Unsupported Authorization Type";
                    ApiError::bad_request("InvalidArgument", message)
                        .with("ArgumentName", "Authorization")
                        .with("ArgumentValue", text)
                }
            });
        };
        let place = Place::Field;
        let [mut credential, mut signed_headers, mut signature] = [None; 3];
        for part in rest.split(',') {
            let (name, value) = part.trim().split_once('=').unwrap_or((part.trim(), ""));
            let known = match name {
                "Credential" => &mut credential,
                "SignedHeaders" => &mut signed_headers,
                "Signature" => &mut signature,
                _ => return Err(place.malformed("it has a part that is not known.")),
            };
            if known.replace(value).is_some() {
                return Err(place.malformed(&format!("it has {name} twice.")));
            }
        }
        let missing = |name: &str| {
            place.malformed(&format!(
                "the authorization header requires three components: Credential, SignedHeaders, and \
                 Signature; {name} is missing."
            ))
        };
        let credential = credential.ok_or_else(|| missing("Credential"))?;
        let signed_headers = signed_headers.ok_or_else(|| missing("SignedHeaders"))?;
        let signature = signature.ok_or_else(|| missing("Signature"))?;
        let credential = place.credential(credential, region)?;
        let time = time_of(headers)?;
        Self {
            signed_headers: names(signed_headers),
            signature: signature.to_owned(),
            credential,
            time,
            expires: None,
        }
        .of_one_day(place)
    }

    fn of_query(query: &Query, region: Option<&str>) -> Result<Self, ApiError> {
        let error =
            |message: &str| ApiError::bad_request("AuthorizationQueryParametersError", message);
        let get = |name: &str| {
            query.one(name).ok_or_else(|| {
                error(
                    "Query-string authentication version 4 requires the X-Amz-Algorithm, \
                     X-Amz-Credential, X-Amz-Signature, X-Amz-Date, X-Amz-SignedHeaders, and \
                     X-Amz-Expires parameters.",
                )
            })
        };
        if get("X-Amz-Algorithm")? != ALGORITHM {
            let message =
                "X-Amz-Algorithm only supports \"AWS4-HMAC-SHA256 and AWS4-ECDSA-P256-SHA256\"";
            return Err(error(message));
        }
        let signature = get("X-Amz-Signature")?.to_owned();
        let signed_headers = names(get("X-Amz-SignedHeaders")?);
        let (date, expires) = (get("X-Amz-Date")?, get("X-Amz-Expires")?);
        let credential = Place::Query.credential(get("X-Amz-Credential")?, region)?;
        let time = BasicTime::parse(date).ok_or_else(|| {
            error("X-Amz-Date must be in the ISO8601 Long Format \"yyyyMMdd'T'HHmmss'Z'\"")
        })?;
        if expires.starts_with('-') {
            return Err(error("X-Amz-Expires must be non-negative"));
        }
        let is_number = !expires.is_empty() && expires.bytes().all(|byte| byte.is_ascii_digit());
        if !is_number {
            return Err(error("X-Amz-Expires should be a number"));
        }
        let expires = expires
            .parse()
            .ok()
            .filter(|seconds| *seconds <= MAX_EXPIRES);
        let Some(expires) = expires else {
            let message = "X-Amz-Expires must be less than a week (in seconds); that is, the given \
                           X-Amz-Expires must be less than 604800 seconds";
            return Err(error(message));
        };
        Self {
            credential,
            signed_headers,
            signature,
            time,
            expires: Some(Duration::from_secs(expires)),
        }
        .of_one_day(Place::Query)
    }

    /// Checks that the credential is for the day of the request.
    fn of_one_day(self, place: Place) -> Result<Self, ApiError> {
        let (date, day) = (&self.credential.date, self.time.date());
        if date == day {
            return Ok(self);
        }
        Err(place.malformed(&format!(
            "Invalid credential date \"{date}\". This date is not the same as X-Amz-Date: \"{day}\"."
        )))
    }
}

fn names(list: &str) -> Vec<String> {
    list.split(';').map(str::to_owned).collect()
}

/// The time of signing: `X-Amz-Date`, or else `Date`.
fn time_of(headers: &HeaderMap) -> Result<BasicTime, ApiError> {
    let one = |name: &HeaderName| {
        let mut values = headers.get_all(name).iter();
        let value = values.next()?.to_str().ok()?;
        values.next().is_none().then_some(value)
    };
    let time = match headers.contains_key(X_AMZ_DATE) {
        true => one(&X_AMZ_DATE).and_then(BasicTime::parse),
        false => one(&DATE).and_then(BasicTime::parse_http_date),
    };
    time.ok_or_else(|| {
        ApiError::access_denied("AWS authentication requires a valid Date or x-amz-date header")
    })
}

fn old_version() -> ApiError {
    let message = "The authorization mechanism you have provided is not supported. Please use \
                   AWS4-HMAC-SHA256.";
    ApiError::bad_request("InvalidRequest", message)
}
