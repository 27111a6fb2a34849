//! S3's conformance vectors: the file, and comparison with a response.
//!
//! A caller (the engine alone, the running proxy) puts its result into an [`Answer`] and calls
//! [`Expect::differences`].

use std::collections::BTreeMap;
use std::fmt;

use http::{HeaderMap, HeaderName};
use quick_xml::Reader;
use quick_xml::events::Event;
use s3cors::cors::VARY;
use serde::Deserialize;

/// `tests/data/s3-cors-vectors.json`; its fields are described next to the original.
#[derive(Debug, Deserialize)]
pub(crate) struct Vectors {
    pub(crate) schema_version: u32,
    pub(crate) upstream: Upstream,
    pub(crate) constants: Constants,
    /// The grades of evidence, strongest first.
    pub(crate) strengths: Vec<String>,
    pub(crate) vectors: Vec<Vector>,
}

/// The upstream's responses.
#[derive(Debug, Deserialize)]
pub(crate) struct Upstream {
    pub(crate) status: u16,
    pub(crate) body: String,
    pub(crate) headers: BTreeMap<String, String>,
}

/// The upstream's status for `path`: the code in `/__status/<code>/...`, or else the `usual` one.
pub(crate) fn status_of(path: &str, usual: u16) -> u16 {
    path.strip_prefix("/__status/")
        .and_then(|rest| rest.split(['/', '?']).next())
        .map_or(usual, |code| code.parse().unwrap())
}

#[derive(Debug, Deserialize)]
pub(crate) struct Constants {
    pub(crate) error_element_order: Vec<String>,
    pub(crate) preflight_header_order: Vec<String>,
}

/// A configuration, and requests while it is in force.
#[derive(Debug, Deserialize)]
pub(crate) struct Vector {
    pub(crate) name: String,
    /// The group of behaviour that it belongs to.
    pub(crate) family: String,
    /// The grade of the evidence.
    pub(crate) strength: String,
    /// `None`: the host is served but has no CORS configuration.
    pub(crate) config_xml: Option<String>,
    pub(crate) config_error: bool,
    /// The error for a rejected configuration.
    pub(crate) expected: Option<ConfigError>,
    pub(crate) requests: Vec<Request>,
}

#[derive(Debug, Deserialize)]
pub(crate) struct ConfigError {
    pub(crate) code: String,
    pub(crate) message: Option<String>,
    pub(crate) message_prefix: Option<String>,
}

impl ConfigError {
    /// Whether this is S3's error.
    pub(crate) fn is(&self, code: &str, message: &str) -> bool {
        code == self.code
            && self.message.as_deref().is_none_or(|text| message == text)
            && self
                .message_prefix
                .as_deref()
                .is_none_or(|prefix| message.starts_with(prefix))
    }
}

#[derive(Debug, Deserialize)]
pub(crate) struct Request {
    pub(crate) method: String,
    pub(crate) path: String,
    /// In this order and exactly as written, without `Host`.
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) expect: Expect,
}

impl Request {
    /// Whether it is a browser's preflight, with both fields.
    pub(crate) fn is_preflight(&self) -> bool {
        let has = |name: &str| {
            let mut fields = self.headers.iter();
            fields.any(|(field, value)| field.eq_ignore_ascii_case(name) && !value.is_empty())
        };
        self.method == "OPTIONS" && has("origin") && has("access-control-request-method")
    }
}

#[derive(Debug, Deserialize)]
pub(crate) struct Expect {
    pub(crate) kind: String,
    pub(crate) status: u16,
    /// Present exactly once with exactly this value.
    pub(crate) headers: BTreeMap<String, String>,
    pub(crate) absent_headers: Vec<String>,
    /// Fields that S3 does not send here, but a proxy may.
    #[serde(default)]
    pub(crate) s3_exact_absent_headers: Vec<String>,
    pub(crate) body: Option<String>,
    /// The elements of the error document.
    #[serde(default)]
    pub(crate) error: BTreeMap<String, String>,
    #[serde(default)]
    pub(crate) error_absent: Vec<String>,
    pub(crate) forwarded: bool,
}

/// The response to a request.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Vec<u8>,
    /// Whether the upstream saw the request.
    pub(crate) forwarded: bool,
}

/// A difference between a response and the expectation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Difference {
    Status {
        expected: u16,
        actual: u16,
    },
    Forwarded(bool),
    Body(String),
    /// A required field with one value.
    Field {
        name: String,
        expected: String,
        actual: Vec<String>,
    },
    /// A forbidden field.
    Present {
        name: String,
        actual: Vec<String>,
    },
    /// A field that S3 does not send, but that is allowed.
    BeyondS3 {
        name: String,
        actual: Vec<String>,
    },
    Error(String),
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self:?}")
    }
}

/// The intended differences between `safe` and S3; each must occur.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Meant {
    /// A forwarded response that no rule allowed varies by Origin, so that no cache keeps it for
    /// a page that needs CORS fields.
    VaryByOrigin,
    /// A refused preflight varies by every field that was read, for the same reason.
    VaryOfRefusedPreflight,
    /// `OPTIONS` without Origin or without Access-Control-Request-Method is not a preflight: it
    /// is forwarded, while S3 answers 400 or 403.
    OptionsIsForwarded,
}

impl Meant {
    pub(crate) const ALL: [Self; 3] = [
        Self::VaryByOrigin,
        Self::VaryOfRefusedPreflight,
        Self::OptionsIsForwarded,
    ];

    /// The intended difference, if it is one.
    pub(crate) fn of(request: &Request, difference: &Difference) -> Option<Self> {
        let forwarded_options = request.method == "OPTIONS" && !request.is_preflight();
        match difference {
            Difference::BeyondS3 { name, actual } if name == "vary" => {
                let by_origin = actual == &["Origin"];
                let by_all = actual == &[VARY];
                match request.expect.kind.as_str() {
                    "actual_without_cors" if by_origin => Some(Self::VaryByOrigin),
                    _ if forwarded_options && by_origin => Some(Self::OptionsIsForwarded),
                    "preflight_forbidden" | "bad_request" if by_all => {
                        Some(Self::VaryOfRefusedPreflight)
                    }
                    _ => None,
                }
            }
            Difference::Status { actual: 200, .. } | Difference::Forwarded(true)
                if forwarded_options =>
            {
                Some(Self::OptionsIsForwarded)
            }
            // The upstream's response instead of S3's error document.
            Difference::Field { name, .. } if name == "content-type" && forwarded_options => {
                Some(Self::OptionsIsForwarded)
            }
            Difference::Error(_) if forwarded_options => Some(Self::OptionsIsForwarded),
            _ => None,
        }
    }
}

/// Parses the vectors.
pub(crate) fn load() -> Vectors {
    let path = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/tests/data/s3-cors-vectors.json"
    );
    let vectors: Vectors = serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap();
    assert_eq!(vectors.schema_version, 1);
    assert!(!vectors.vectors.is_empty());
    vectors
}

impl Expect {
    /// All differences of `answer` from the expectation and from S3.
    pub(crate) fn differences(&self, answer: &Answer, constants: &Constants) -> Vec<Difference> {
        let mut found = Vec::new();
        if answer.status != self.status {
            found.push(Difference::Status {
                expected: self.status,
                actual: answer.status,
            });
        }
        if answer.forwarded != self.forwarded {
            found.push(Difference::Forwarded(answer.forwarded));
        }
        let body = String::from_utf8_lossy(&answer.body).into_owned();
        if self.body.as_ref().is_some_and(|expected| *expected != body) {
            found.push(Difference::Body(body.clone()));
        }
        for (name, expected) in &self.headers {
            let actual = values(&answer.headers, name);
            if actual != [expected.as_str()] {
                found.push(Difference::Field {
                    name: name.to_ascii_lowercase(),
                    expected: expected.clone(),
                    actual,
                });
            }
        }
        let absent = |names: &[String], difference: fn(String, Vec<String>) -> Difference| {
            let mut present = Vec::new();
            for name in names {
                let actual = values(&answer.headers, name);
                if !actual.is_empty() {
                    present.push(difference(name.to_ascii_lowercase(), actual));
                }
            }
            present
        };
        found.extend(absent(&self.absent_headers, |name, actual| {
            Difference::Present { name, actual }
        }));
        found.extend(absent(&self.s3_exact_absent_headers, |name, actual| {
            Difference::BeyondS3 { name, actual }
        }));
        if !self.error.is_empty() {
            found.extend(self.error_differences(&body, constants));
        }
        found
    }

    fn error_differences(&self, body: &str, constants: &Constants) -> Vec<Difference> {
        let elements = match error_document(body) {
            Ok(elements) => elements,
            Err(what) => return vec![Difference::Error(what)],
        };
        let mut found = Vec::new();
        let value = |name: &str| {
            let mut elements = elements.iter();
            elements
                .find(|(n, _)| n == name)
                .map(|(_, value)| value.as_str())
        };
        for (name, expected) in &self.error {
            let fits = match name.strip_suffix("Prefix") {
                Some(name) => value(name).is_some_and(|value| value.starts_with(expected)),
                None => value(name) == Some(expected),
            };
            if !fits {
                found.push(Difference::Error(format!("{name} of {body}")));
            }
        }
        for name in &self.error_absent {
            if value(name).is_some() {
                found.push(Difference::Error(format!("{name} in {body}")));
            }
        }
        let order: Vec<Option<usize>> = elements
            .iter()
            .map(|(name, _)| constants.error_element_order.iter().position(|n| n == name))
            .collect();
        if !order.is_sorted() || order.contains(&None) {
            found.push(Difference::Error(format!(
                "elements or their order in {body}"
            )));
        }
        found
    }
}

/// The values of a field; of `Content-Type` without parameters.
fn values(headers: &HeaderMap, name: &str) -> Vec<String> {
    let name: HeaderName = name.parse().unwrap();
    let values = headers.get_all(&name).iter();
    values
        .map(|value| {
            let text = String::from_utf8_lossy(value.as_bytes()).into_owned();
            match name.as_str() {
                "content-type" => text.split(';').next().unwrap().trim().to_owned(),
                _ => text,
            }
        })
        .collect()
}

/// The elements of S3's error document, in order.
fn error_document(body: &str) -> Result<Vec<(String, String)>, String> {
    let mut reader = Reader::from_str(body);
    let mut open = Vec::new();
    let mut elements = Vec::new();
    loop {
        let event = reader
            .read_event()
            .map_err(|error| format!("{error} in {body}"))?;
        match event {
            Event::Eof => break,
            Event::Start(tag) => {
                let name = tag.name().into_inner().to_owned();
                if open.is_empty() && (name != "Error" || !tag.attributes_raw().trim().is_empty()) {
                    return Err(format!("root of {body}"));
                }
                if open.len() == 1 {
                    elements.push((name.clone(), String::new()));
                }
                open.push(name);
            }
            Event::End(_) => {
                open.pop();
            }
            Event::Text(text) if open.len() == 2 => {
                elements.last_mut().unwrap().1.push_str(&text);
            }
            Event::GeneralRef(name) if open.len() == 2 => {
                let text = quick_xml::escape::resolve_xml_entity(&name).unwrap();
                elements.last_mut().unwrap().1.push_str(text);
            }
            Event::Decl(_) => {}
            Event::Text(text) if text.trim().is_empty() => {}
            other => return Err(format!("{other:?} in {body}")),
        }
    }
    if elements.is_empty() || !open.is_empty() {
        return Err(format!("no error document: {body}"));
    }
    Ok(elements)
}
