//! S3's document as written: rules of strings, unchecked.

use std::fmt;

/// A bucket's CORS configuration, S3's `CORSConfiguration`.
///
/// Read from XML by [`from_xml`](Self::from_xml); [`Policy::compile`](super::Policy::compile)
/// says whether S3 would accept it.
///
/// The feature `serde` reads and writes it in the form of `aws s3api put-bucket-cors
/// --cors-configuration` and `get-bucket-cors`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(deny_unknown_fields))]
pub struct CorsConfiguration {
    /// `CORSRule`s, in document order.
    #[cfg_attr(feature = "serde", serde(rename = "CORSRules"))]
    pub rules: Vec<CorsRule>,
}

/// One `CORSRule`, with its values as they are in the document.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(
    feature = "serde",
    serde(default, deny_unknown_fields, rename_all = "PascalCase")
)]
pub struct CorsRule {
    /// `ID`: a name for people; at most 255 characters.
    #[cfg_attr(
        feature = "serde",
        serde(rename = "ID", skip_serializing_if = "Option::is_none")
    )]
    pub id: Option<String>,
    /// `AllowedOrigin`: origins, each with at most one `*`.
    pub allowed_origins: Vec<String>,
    /// `AllowedMethod`: of `GET`, `PUT`, `HEAD`, `POST`, `DELETE`.
    pub allowed_methods: Vec<String>,
    /// `AllowedHeader`: field names, each with at most one `*`.
    #[cfg_attr(feature = "serde", serde(skip_serializing_if = "Vec::is_empty"))]
    pub allowed_headers: Vec<String>,
    /// `ExposeHeader`: field names.
    #[cfg_attr(feature = "serde", serde(skip_serializing_if = "Vec::is_empty"))]
    pub expose_headers: Vec<String>,
    /// `MaxAgeSeconds`: how long a browser may keep a preflight's answer, 0 to 2147483647.
    #[cfg_attr(feature = "serde", serde(skip_serializing_if = "Option::is_none"))]
    pub max_age_seconds: Option<u32>,
    /// `TimingAllowOrigin` of the namespace [`EXTENSION_NAMESPACE`](super::EXTENSION_NAMESPACE):
    /// the origins whose scripts may read a response's timing, or `*`. One empty value means the
    /// origin that matched the rule. Not part of the AWS CLI's form.
    #[cfg_attr(feature = "serde", serde(skip))]
    pub timing_allow_origins: Vec<String>,
    /// `CrossOriginResourcePolicy` of the same namespace: which sites may embed a response. One of
    /// [`RESOURCE_POLICIES`](super::RESOURCE_POLICIES). Not part of the AWS CLI's form.
    #[cfg_attr(feature = "serde", serde(skip))]
    pub cross_origin_resource_policy: Option<String>,
}

/// The path of a value in a document, to locate it for a message ([`locate`](super::locate)).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ElementPath {
    /// The root, `CORSConfiguration`.
    Root,
    /// A `CORSRule`, counted from 0.
    Rule(usize),
    /// An element of a rule.
    Value {
        /// The rule, counted from 0.
        rule: usize,
        /// The element.
        element: Element,
        /// The index among the elements of that name, from 0.
        index: usize,
    },
}

/// Counts from 1, for people: `rule 1, AllowedOrigin 2`.
impl fmt::Display for ElementPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Root => f.write_str("CORSConfiguration"),
            Self::Rule(rule) => write!(f, "rule {}", rule + 1),
            Self::Value {
                rule,
                element,
                index,
            } => write!(f, "rule {}, {element} {}", rule + 1, index + 1),
        }
    }
}

/// The elements of a `CORSRule`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Element {
    /// `ID`
    Id,
    /// `AllowedOrigin`
    AllowedOrigin,
    /// `AllowedMethod`
    AllowedMethod,
    /// `AllowedHeader`
    AllowedHeader,
    /// `ExposeHeader`
    ExposeHeader,
    /// `MaxAgeSeconds`
    MaxAgeSeconds,
    /// `TimingAllowOrigin`, of the namespace `urn:s3cors`
    TimingAllowOrigin,
    /// `CrossOriginResourcePolicy`, of the namespace `urn:s3cors`
    CrossOriginResourcePolicy,
}

impl Element {
    /// Every element that S3 defines for a rule.
    pub const ALL: [Self; 6] = [
        Self::Id,
        Self::AllowedOrigin,
        Self::AllowedMethod,
        Self::AllowedHeader,
        Self::ExposeHeader,
        Self::MaxAgeSeconds,
    ];

    /// The elements of the namespace [`EXTENSION_NAMESPACE`](super::EXTENSION_NAMESPACE).
    pub const EXTENSIONS: [Self; 2] = [Self::TimingAllowOrigin, Self::CrossOriginResourcePolicy];

    /// Whether it is an extension of s3cors that S3 does not have.
    #[must_use]
    pub fn is_extension(self) -> bool {
        Self::EXTENSIONS.contains(&self)
    }

    /// The element's name in the document.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Id => "ID",
            Self::AllowedOrigin => "AllowedOrigin",
            Self::AllowedMethod => "AllowedMethod",
            Self::AllowedHeader => "AllowedHeader",
            Self::ExposeHeader => "ExposeHeader",
            Self::MaxAgeSeconds => "MaxAgeSeconds",
            Self::TimingAllowOrigin => "TimingAllowOrigin",
            Self::CrossOriginResourcePolicy => "CrossOriginResourcePolicy",
        }
    }
}

impl fmt::Display for Element {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_is_displayed_counting_from_1() {
        let value = ElementPath::Value {
            rule: 0,
            element: Element::AllowedOrigin,
            index: 1,
        };
        for (path, expected) in [
            (ElementPath::Root, "CORSConfiguration"),
            (ElementPath::Rule(2), "rule 3"),
            (value, "rule 1, AllowedOrigin 2"),
        ] {
            assert_eq!(path.to_string(), expected);
        }
    }

    /// The example of `aws s3api put-bucket-cors`, and a shorter one without the optional members
    /// (<https://docs.aws.amazon.com/cli/latest/reference/s3api/put-bucket-cors.html>).
    #[cfg(feature = "proxy")]
    #[test]
    fn serde_reads_and_writes_the_form_of_the_aws_cli() {
        let text = r#"{"CORSRules":[{"ID":"app","AllowedOrigins":["http://www.example.com"],"AllowedMethods":["PUT","POST","DELETE"],"AllowedHeaders":["*"],"ExposeHeaders":["x-amz-server-side-encryption"],"MaxAgeSeconds":3000},{"AllowedOrigins":["*"],"AllowedMethods":["GET"]}]}"#;
        let configuration: CorsConfiguration = serde_json::from_str(text).unwrap();
        assert_eq!(configuration.rules[0].max_age_seconds, Some(3000));
        assert_eq!(configuration.rules[1].allowed_methods, ["GET"]);
        assert_eq!(serde_json::to_string(&configuration).unwrap(), text);
        for wrong in [
            r#"{"Rules":[]}"#,
            r#"{"CORSRules":[{"AllowedOrigin":["*"]}]}"#,
        ] {
            let read = serde_json::from_str::<CorsConfiguration>(wrong);
            assert!(read.is_err(), "{wrong}");
        }
    }
}
