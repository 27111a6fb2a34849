//! The S3 CORS engine: a bucket's CORS configuration in, a decision out.
//!
//! Pure: it reads no clock, file or socket, and knows nothing of routes or upstreams. It may use
//! `http`, `quick-xml` and `thiserror`; nothing else in this crate.

mod advice;
mod change;
mod check;
mod configuration;
mod decision;
mod explain;
mod lint;
mod mending;
mod note;
mod origin;
mod pattern;
mod policy;
mod preflight;
mod request;
mod rule;
mod s3_error;
mod spelling;
mod validation;
mod xml;

pub use advice::{Advice, RequestFix};
pub use change::{Edit, LetsIn, Origins, SuggestedChange};
pub use check::{CheckedDocument, Problem, Severity, check_document};
pub use configuration::{CorsConfiguration, CorsRule, Element, ElementPath};
pub use decision::{Allowance, Cause, Condition, Decision, Denial, Reason, VARY};
pub use explain::{Explanation, Failure, Match, Outcome, Refusal, RuleAnswer};
pub use lint::{LINTS, Lint, lint};
pub use note::Note;
pub use origin::{ClosestOrigin, OriginDifference};
pub use pattern::{TooManyWildcards, Wildcard};
pub use policy::{Options, Policy, Semantics};
pub use preflight::PreflightFields;
pub use request::{CorsRequest, Kind, Names, RequestedHeaders, is_preflight};
pub use rule::Mismatch;
pub use s3_error::{NOT_ALLOWED, ResourceType, S3Error};
#[cfg(feature = "proxy")]
pub(crate) use spelling::nearest;
pub use validation::{MALFORMED_XML, MAX_ID, MAX_RULES, RuleError, RuleErrorKind, S3_METHODS};
pub use xml::{MAX_DOCUMENT, NAMESPACE, XmlError, locate};
