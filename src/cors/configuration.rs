//! S3's document as it was written: rules of strings, unchecked.

use std::fmt;

/// A bucket's CORS configuration, S3's `CORSConfiguration`.
///
/// Read from XML by [`from_xml`](Self::from_xml); [`Policy::compile`](super::Policy::compile)
/// says whether S3 would accept it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CorsConfiguration {
    /// `CORSRule`s, in document order.
    pub rules: Vec<CorsRule>,
}

/// One `CORSRule`, its values as they stand in the document.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CorsRule {
    /// `ID`: a name for people; at most 255 characters.
    pub id: Option<String>,
    /// `AllowedOrigin`: origins, each with at most one `*`.
    pub allowed_origins: Vec<String>,
    /// `AllowedMethod`: of `GET`, `PUT`, `HEAD`, `POST`, `DELETE`.
    pub allowed_methods: Vec<String>,
    /// `AllowedHeader`: field names, each with at most one `*`.
    pub allowed_headers: Vec<String>,
    /// `ExposeHeader`: field names.
    pub expose_headers: Vec<String>,
    /// `MaxAgeSeconds`: how long a browser may keep a preflight's answer, 0 to 2147483647.
    pub max_age_seconds: Option<u32>,
}

/// Where a value stands in a document, so that it can be found again when there is something to
/// say of it ([`locate`](super::locate)).
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
        /// Which of its elements.
        element: Element,
        /// Which of the elements of that name, counted from 0.
        index: usize,
    },
}

/// The elements of a `CORSRule`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
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
}

impl Element {
    /// Every element a rule may have.
    pub const ALL: [Self; 6] = [
        Self::Id,
        Self::AllowedOrigin,
        Self::AllowedMethod,
        Self::AllowedHeader,
        Self::ExposeHeader,
        Self::MaxAgeSeconds,
    ];

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
        }
    }
}

impl fmt::Display for Element {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}
