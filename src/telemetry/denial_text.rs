//! Explains why a CORS request was refused, in one sentence for the log, with the command that
//! shows it.

use std::fmt;

use http::HeaderValue;

use crate::cors::{Cause, Condition, CorsRequest, Failure};
use crate::routing::snapshot::RoutePolicy;
use crate::text::escape::Percent;

use super::denial::{DenialRecord, DeniedRequest};

/// The most bytes shown of one value.
const MAX_VALUE: usize = 100;

/// The most bytes of a field value.
const MAX_HEADER: usize = 500;

/// The most values shown of a list.
const MAX_VALUES: usize = 8;

/// Why a request was refused: which value fails which rule, in which file.
pub(crate) struct Why<'r>(pub(crate) &'r DenialRecord<'r>);

impl fmt::Display for Why<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let source = self.0.policy.map(|policy| &policy.source);
        let file = source.and_then(|source| source.file.as_ref());
        let file = file.map(|file| file.display().to_string());
        write_why(f, self.0, file.as_deref())
    }
}

/// The same for the refused client, as a field value: without the folders of the file.
pub(crate) fn header_value(refusal: &DenialRecord<'_>) -> Option<HeaderValue> {
    let text = format!(
        "{}; {}",
        refusal.denial.reason().as_str(),
        PublicWhy(refusal)
    );
    let text = Percent::new(text.as_bytes(), MAX_HEADER).to_string();
    HeaderValue::try_from(text).ok()
}

struct PublicWhy<'r>(&'r DenialRecord<'r>);

impl fmt::Display for PublicWhy<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let source = self.0.policy.map(|policy| &policy.source);
        let file = source.and_then(|source| source.file.as_ref()?.file_name());
        let file = file.map(|name| name.to_string_lossy().into_owned());
        write_why(f, self.0, file.as_deref())
    }
}

/// Writes why a request was refused; `file` is the policy's file, as displayed.
fn write_why(
    f: &mut fmt::Formatter<'_>,
    refusal: &DenialRecord<'_>,
    file: Option<&str>,
) -> fmt::Result {
    let DenialRecord {
        denied,
        denial,
        policy,
        ..
    } = refusal;
    match denial.cause() {
        Cause::MissingOrigin => f.write_str("the preflight has no Origin"),
        Cause::MalformedOrigin => f.write_str("the Origin is not in the form that browsers send"),
        Cause::BucketNotFound => f.write_str("no route serves the host"),
        Cause::NotEnabled => f.write_str("no CORS configuration applies to the request"),
        Cause::InvalidMethod if denied.method.is_empty() => {
            f.write_str("the preflight has no Access-Control-Request-Method")
        }
        Cause::InvalidMethod => write!(
            f,
            "method {} is neither an S3 method (GET, PUT, POST, DELETE, HEAD) nor in extra_methods",
            value(denied.method)
        ),
        Cause::InvalidHeaders(Some(name)) => write!(
            f,
            "{} in Access-Control-Request-Headers is not a header name",
            value(name.as_bytes())
        ),
        Cause::InvalidHeaders(None) => {
            f.write_str("Access-Control-Request-Headers has too many names")
        }
        Cause::NoRule(_) => match policy.map(|policy| nearest(policy, denied)) {
            Some(Some((rule, failures))) => write_failures(f, rule, &failures, file),
            _ => f.write_str("no rule allows it"),
        },
    }
}

/// The nearest rule, counted from 0, and what it lacks.
pub(crate) fn nearest(
    policy: &RoutePolicy,
    denied: &DeniedRequest<'_>,
) -> Option<(usize, Vec<Failure>)> {
    let request = CorsRequest {
        kind: denied.kind,
        origin: denied.origin,
        method: denied.method,
        headers: denied.headers,
    };
    policy.policy.nearest_rule(&request)
}

/// `header x-amz-date is not in AllowedHeader (content-type) of rule 1, cors/photos.xml`. An origin
/// that no rule has is reported with the closest one.
fn write_failures(
    f: &mut fmt::Formatter<'_>,
    rule: usize,
    failures: &[Failure],
    file: Option<&str>,
) -> fmt::Result {
    let rule = rule + 1;
    let origin = failures
        .iter()
        .find(|failure| failure.condition == Condition::Origin);
    if let Some(failure) = origin {
        write!(
            f,
            "origin {} is not in any AllowedOrigin",
            ValueList(&failure.actual)
        )?;
        if let Some(file) = file {
            write!(f, " of {file}")?;
        }
        let Some(closest) = &failure.closest else {
            return write!(f, "; rule {rule} has {}", ValueList(&failure.expected));
        };
        write!(
            f,
            "; closest: {} of rule {rule}",
            value(closest.pattern.as_bytes())
        )?;
        let differences = closest.differences.iter();
        let differences: Vec<_> = differences.map(ToString::to_string).collect();
        return match differences.is_empty() {
            true => Ok(()),
            false => write!(f, " ({})", differences.join(", ")),
        };
    }
    for (index, failure) in failures.iter().enumerate() {
        let separator = if index == 0 { "" } else { "; " };
        write!(f, "{separator}{} of rule {rule}", Missed(failure))?;
    }
    match file {
        Some(file) => write!(f, ", {file}"),
        None => Ok(()),
    }
}

/// A value that does not match: `header x-amz-date is not in AllowedHeader (content-type)`.
struct Missed<'f>(&'f Failure);

impl fmt::Display for Missed<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Failure {
            condition,
            expected,
            actual,
            ..
        } = self.0;
        let (what, verb) = match (condition, actual.len()) {
            (Condition::Header, 2..) => ("headers", "are"),
            (Condition::Header, _) => ("header", "is"),
            (Condition::Method, _) => ("method", "is"),
            (Condition::Origin, _) => ("origin", "is"),
        };
        write!(
            f,
            "{what} {} {verb} not in {}",
            ValueList(actual),
            condition.element()
        )?;
        match expected.is_empty() {
            true => f.write_str(" (none)"),
            false => write!(f, " ({})", ValueList(expected)),
        }
    }
}

/// The first values of a list, and how many more there are.
struct ValueList<'l>(&'l [String]);

impl fmt::Display for ValueList<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, one) in self.0.iter().take(MAX_VALUES).enumerate() {
            let separator = if index == 0 { "" } else { ", " };
            write!(f, "{separator}{}", value(one.as_bytes()))?;
        }
        match self.0.len().saturating_sub(MAX_VALUES) {
            0 => Ok(()),
            more => write!(f, ", and {more} more"),
        }
    }
}

fn value(bytes: &[u8]) -> Percent<'_> {
    Percent::new(bytes, MAX_VALUE)
}

/// The command that explains a refusal by its policy's file.
///
/// `None` unless every value is literal in a shell *and* in the log, because origins are hostile
/// input: the log escapes quotation marks with backslashes, which would change how a shell reads
/// them.
pub(crate) fn command(refusal: &DenialRecord<'_>) -> Option<String> {
    let denied = &refusal.denied;
    let file = refusal.policy?.source.file.as_ref()?.to_str()?;
    // A policy from flags has no file.
    if file.starts_with('-') {
        return None;
    }
    let mut command = "s3cors explain".to_owned();
    argument(&mut command, "--cors", file.as_bytes())?;
    argument(&mut command, "--origin", denied.origin)?;
    argument(&mut command, "--method", denied.method)?;
    for (index, name) in denied.headers.names().enumerate() {
        if index >= MAX_VALUES {
            return None;
        }
        argument(&mut command, "--header", name)?;
    }
    Some(command)
}

/// Adds an argument in single quotes.
fn argument(command: &mut String, flag: &str, value: &[u8]) -> Option<()> {
    let is_plain =
        |byte: &u8| byte.is_ascii_alphanumeric() || b":/.-_~*[]%+@,=!#&()".contains(byte);
    let is_safe = !value.is_empty() && value.len() <= MAX_VALUE && value.iter().all(is_plain);
    let value = std::str::from_utf8(value).ok().filter(|_| is_safe)?;
    command.push_str(&format!(" {flag}='{value}'"));
    Some(())
}
