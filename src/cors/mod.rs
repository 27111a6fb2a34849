//! The S3 CORS engine: a bucket's CORS configuration in, a decision out.
//!
//! Pure: it reads no clock, file or socket, and does not depend on routes or upstreams. It may use
//! `http`, `quick-xml` and `strsim`, and nothing else in this crate.
//!
//! ```
//! use http::{HeaderMap, Method, header};
//! use s3cors::cors::{Decision, Options, check_document};
//!
//! let document = br#"<CORSConfiguration>
//!   <CORSRule>
//!     <AllowedOrigin>https://*.example.com</AllowedOrigin>
//!     <AllowedMethod>GET</AllowedMethod>
//!     <ExposeHeader>ETag</ExposeHeader>
//!   </CORSRule>
//! </CORSConfiguration>"#;
//! let checked = check_document(document, Options::default());
//! let policy = checked.policy.expect("S3 accepts this document");
//!
//! // A script's GET is forwarded, and its response gets CORS fields.
//! let mut request = HeaderMap::new();
//! request.insert(header::ORIGIN, "https://app.example.com".parse()?);
//! let decision = policy.decide(&Method::GET, &request);
//! assert!(matches!(decision, Decision::Actual(Ok(_))));
//! let mut response = HeaderMap::new();
//! policy.mark(decision, &mut response);
//! assert_eq!(response[header::ACCESS_CONTROL_ALLOW_ORIGIN], "https://app.example.com");
//! assert_eq!(response[header::ACCESS_CONTROL_EXPOSE_HEADERS], "ETag");
//!
//! // A preflight for more than the rule allows is refused, like S3 does.
//! request.insert(header::ACCESS_CONTROL_REQUEST_METHOD, "PUT".parse()?);
//! let decision = policy.decide(&Method::OPTIONS, &request);
//! let denial = decision.denial().expect("no rule allows PUT");
//! assert_eq!(denial.status(), 403);
//! assert_eq!(denial.reason().as_str(), "method");
//! # Ok::<(), http::header::InvalidHeaderValue>(())
//! ```

mod advice;
mod change;
mod check;
mod configuration;
mod decision;
mod doubtful_origin;
mod explain;
mod extension;
pub mod fetch;
#[cfg(feature = "proxy")]
mod fields;
#[cfg(feature = "proxy")]
#[doc(hidden)]
pub mod fuzzing;
mod grant;
mod impossible_origin;
mod lint;
mod note;
mod options;
mod origin;
mod origin_form;
mod origin_repair;
mod outcome;
mod pattern;
mod policy;
mod punycode;
mod request;
mod rule;
mod rule_hint;
mod s3_error;
mod spelling;
mod suggestion;
mod unmatched;
mod validation;
mod wide_origin;
mod xml;

pub use advice::{Advice, RequestFix};
pub use change::{Edit, LetsIn, Origins, SuggestedChange};
#[cfg(feature = "proxy")]
pub(crate) use check::check_document_sharing;
pub use check::{CheckedDocument, Problem, Severity, check_document};
pub use configuration::{CorsConfiguration, CorsRule, Element, ElementPath};
pub use decision::{Allowance, Cause, Decision, Denial, Reason, VARY};
#[cfg(feature = "proxy")]
pub(crate) use decision::{REASON_FIELD, is_cors_field, merged_vary};
pub use explain::Explanation;
#[cfg(feature = "proxy")]
pub(crate) use extension::ReplacedFields;
pub use extension::{EXTENSION_NAMESPACE, RESOURCE_POLICIES};

#[cfg(feature = "proxy")]
pub(crate) use fields::AllowedFields;
#[cfg(feature = "proxy")]
pub(crate) use grant::Grants;
pub use lint::{LINTS, Lint, lint};
pub use note::Note;
pub use options::{Options, Semantics};
#[cfg(feature = "proxy")]
pub(crate) use origin::as_browsers_write;
pub use origin::{ClosestOrigin, OriginDifference};
#[cfg(feature = "proxy")]
pub(crate) use origin_form::is_invisible;
pub use outcome::Outcome;
pub use outcome::{Failure, Match, Refusal, RuleAnswer};
pub use pattern::{TooManyWildcards, Wildcard};
pub use policy::Policy;
#[cfg(feature = "proxy")]
pub(crate) use punycode::ascii_host;
#[cfg(feature = "proxy")]
pub(crate) use request::{CorsRequest, RequestedHeaders, is_origin, is_token};
pub use request::{Kind, is_preflight};
pub use rule::Condition;
#[cfg(feature = "proxy")]
pub(crate) use s3_error::error_document;
pub use s3_error::{NOT_ALLOWED, ResourceType, S3Error};
#[cfg(feature = "proxy")]
pub(crate) use spelling::nearest;
pub use validation::{
    InvalidConfiguration, MALFORMED_XML, MAX_ID, MAX_RULES, RuleError, RuleErrorKind, S3_METHODS,
};
pub use xml::{MAX_DOCUMENT, NAMESPACE, XmlError, locate};
