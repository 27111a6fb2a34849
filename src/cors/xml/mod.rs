//! S3's XML: parses a `CORSConfiguration`, writes one, and locates values in it.
//!
//! quick-xml splits the text into events. The structure is checked here, because quick-xml silently
//! accepts two roots, unclosed elements, stray text and unknown entities.

mod characters;
mod hints;
mod namespaces;
mod other_format;
mod read;
mod seconds;
mod values;
mod well_formed;
mod write;

use std::error::Error;
use std::fmt;
use std::ops::Range;

use super::configuration::{CorsConfiguration, ElementPath};
use super::validation::MALFORMED_XML;

pub(super) use characters::is_xml_character;
pub(super) use read::read;
pub use write::NAMESPACE;
pub(super) use write::{rule_snippet, value_snippet};

/// The largest document that S3 accepts, in bytes.
pub const MAX_DOCUMENT: usize = 65_536;

/// A document is not a valid `CORSConfiguration`. `Display` is [`detail`](Self::detail).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct XmlError {
    /// The place, in bytes of the document.
    pub span: Range<usize>,
    /// What is wrong, in this crate's words.
    pub detail: String,
    /// How to fix it, if known.
    pub hint: Option<String>,
}

impl Error for XmlError {}

impl fmt::Display for XmlError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.detail)
    }
}

impl XmlError {
    /// S3's error code.
    pub const CODE: &'static str = "MalformedXML";
    /// S3's message.
    pub const MESSAGE: &'static str = MALFORMED_XML;
}

impl CorsConfiguration {
    /// Parses S3's XML.
    ///
    /// The namespace, attributes, comments, processing instructions and the order of elements do
    /// not matter. Everything that S3 accepts is accepted. A document type, entities other than
    /// XML's five, and names with a prefix are refused. Takes linear time for any input.
    ///
    /// # Errors
    ///
    /// The first error; [`check_document`](super::check_document) returns all of them.
    pub fn from_xml(bytes: &[u8]) -> Result<Self, XmlError> {
        let document = read(bytes);
        match document.errors.into_iter().next() {
            Some(error) => Err(error),
            None => Ok(document.configuration),
        }
    }

    /// Writes S3's XML, indented like S3's own samples.
    ///
    /// The output of a parsed document parses to the same configuration.
    #[must_use]
    pub fn to_xml(&self) -> String {
        write::document(self)
    }
}

/// Locates a value in a document: the bytes of its text, or of its element's start tag if there is
/// no text; for a rule and for the root, the start tag.
///
/// `None`: it does not exist, or comes after the place where the document stops being XML.
#[must_use]
pub fn locate(text: &str, path: ElementPath) -> Option<Range<usize>> {
    let places = read(text.as_bytes()).places;
    let mut places = places.into_iter();
    Some(places.find(|(there, _)| *there == path)?.1)
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::option;
    use proptest::prelude::*;

    use super::*;
    use crate::cors::configuration::{CorsRule, Element};

    fn rule(inner: &str) -> String {
        format!("<CORSConfiguration><CORSRule>{inner}</CORSRule></CORSConfiguration>")
    }

    #[test]
    fn everything_that_s3_accepts_is_accepted() {
        let plain = CorsConfiguration {
            rules: vec![CorsRule {
                allowed_origins: vec!["https://a.example".into()],
                allowed_methods: vec!["GET".into()],
                ..CorsRule::default()
            }],
        };
        let inner =
            "<AllowedOrigin>https://a.example</AllowedOrigin><AllowedMethod>GET</AllowedMethod>";
        let documents = [
            rule(inner),
            format!(
                "\u{feff}<?xml version='1.0' encoding='utf-8'?>\r\n{}\n",
                rule(inner)
            ),
            plain.to_xml(),
            plain
                .to_xml()
                .replace(NAMESPACE, "https://s3.amazonaws.com/doc/2006-03-01/"),
            "<CORSConfiguration a='&lt;' xmlns:x=\"y\"><!-- a --><?b c?><CORSRule>
               <AllowedMethod>G<!-- no -->E<![CDATA[T]]></AllowedMethod>
               <AllowedOrigin>https:&#47;&#x2f;a.example</AllowedOrigin >
             </CORSRule></CORSConfiguration><!-- end -->"
                .into(),
        ];
        for document in documents {
            assert_eq!(
                CorsConfiguration::from_xml(document.as_bytes()).as_ref(),
                Ok(&plain),
                "{document}"
            );
        }
    }

    #[test]
    fn values_are_kept_unchanged() {
        let document = rule(
            "<ID/><AllowedOrigin> a\t</AllowedOrigin><AllowedOrigin></AllowedOrigin>\
             <AllowedHeader>X-&amp;\r\n</AllowedHeader><MaxAgeSeconds>0600</MaxAgeSeconds>",
        );
        let read = CorsConfiguration::from_xml(document.as_bytes()).unwrap();
        assert_eq!(read.rules[0].id.as_deref(), Some(""));
        assert_eq!(read.rules[0].allowed_origins, [" a\t", ""]);
        assert_eq!(read.rules[0].allowed_headers, ["X-&\n"]);
        assert_eq!(read.rules[0].max_age_seconds, Some(600));
    }

    #[test]
    fn invalid_documents_are_refused_at_the_right_place() {
        let max_age = |text: &str| rule(&format!("<MaxAgeSeconds>{text}</MaxAgeSeconds>"));
        // The document, the bytes that are located, and a part of the message.
        let cases: &[(&str, &str, &str)] = &[
            ("", "", "is empty"),
            (" \n", "", "is empty"),
            (
                "allow everything, please",
                "allow everything, please",
                "instead of",
            ),
            (" {\"CORSRules\": []}", "{", "JSON"),
            ("<a/>", "<a/>", "root element is `a`"),
            ("<!-- a -->", "", "`CORSConfiguration` is missing"),
            ("<CORSConfiguration>", "<CORSConfiguration>", "never closed"),
            (
                "<CORSConfiguration><CORSRule>",
                "<CORSRule>",
                "never closed",
            ),
            (
                "<CORSConfiguration/><CORSConfiguration/>",
                "<CORSConfiguration/>",
                "second root",
            ),
            ("<CORSConfiguration/> x ", "x", "after"),
            ("<CORSConfiguration/>&amp;", "&amp;", "after"),
            ("<CORSConfiguration/><![CDATA[]]>", "<![CDATA[]]>", "CDATA"),
            (
                "<CORSConfiguration></CORSRule>",
                "</CORSRule>",
                "instead of",
            ),
            ("</CORSRule>", "</CORSRule>", "has no start tag"),
            (
                " <?xml version='1.0'?><CORSConfiguration/>",
                "<?xml version='1.0'?>",
                "beginning",
            ),
            (
                "<?xml version='9'?><CORSConfiguration/>",
                "<?xml version='9'?>",
                "version",
            ),
            (
                "<?xml version='1.0' encoding='utf-16'?><CORSConfiguration/>",
                "<?xml version='1.0' encoding='utf-16'?>",
                "utf-16",
            ),
            (
                "<!DOCTYPE a [<!ENTITY b 'c'>]><CORSConfiguration/>",
                "<!DOCTYPE a [<!ENTITY b 'c'>]>",
                "document type",
            ),
            ("<!DOCTYPE a", "<!DOCTYPE a", "document type"),
            (
                "<CORSConfiguration a='1' a='2'/>",
                "<CORSConfiguration a='1' a='2'/>",
                "twice",
            ),
            (
                "<CORSConfiguration a/>",
                "<CORSConfiguration a/>",
                "not well-formed",
            ),
            (
                "<CORSConfiguration a='<'/>",
                "<CORSConfiguration a='<'/>",
                "not well-formed",
            ),
            (
                "<CORSConfiguration a='&b;'/>",
                "<CORSConfiguration a='&b;'/>",
                "not well-formed",
            ),
            ("<CORSConfiguration", "<CORSConfiguration", "closing `>`"),
            (
                "<CORSConfiguration><!-- -- --></CORSConfiguration>",
                "-- -->",
                "`--`",
            ),
            ("<CORSConfiguration>a</CORSConfiguration>", "a", "between"),
            (
                "<CORSConfiguration>&#32;</CORSConfiguration>",
                "&#32;",
                "between",
            ),
            (
                "<CORSConfiguration><AllowedOrigin/></CORSConfiguration>",
                "<AllowedOrigin/>",
                "no element",
            ),
            (
                "<CORSConfiguration>\u{1}</CORSConfiguration>",
                "\u{1}",
                "U+0001",
            ),
            (&rule("\n  a &amp;"), "a", "between"),
            (
                &rule("<ExposedHeader>ETag</ExposedHeader>"),
                "<ExposedHeader>",
                "ExposedHeader",
            ),
            (&rule("<s3:ID/>"), "<s3:ID/>", "s3:ID"),
            (&rule("<ID>a</ID><ID>b</ID>"), "<ID>", "second ID"),
            (
                &rule("<MaxAgeSeconds>1</MaxAgeSeconds><MaxAgeSeconds/>"),
                "<MaxAgeSeconds/>",
                "second MaxAgeSeconds",
            ),
            (
                &rule("<AllowedOrigin>a<b>c</b></AllowedOrigin>"),
                "<b>",
                "not elements",
            ),
            (
                &rule("<AllowedOrigin>a & b</AllowedOrigin>"),
                "& b</AllowedOrigin>",
                "`;`",
            ),
            (
                &rule("<AllowedOrigin>a&b;</AllowedOrigin>"),
                "&b;",
                "unknown entity",
            ),
            (
                &rule("<AllowedOrigin>a&#0;</AllowedOrigin>"),
                "&#0;",
                "not a valid XML character",
            ),
            (
                &rule("<AllowedOrigin>a&#x110000;</AllowedOrigin>"),
                "&#x110000;",
                "not a valid XML character",
            ),
            (&rule("<AllowedOrigin>a]]></AllowedOrigin>"), "]]>", "CDATA"),
            (&max_age("a"), "a", "whole number"),
            (&max_age(""), "<MaxAgeSeconds>", "whole number"),
            (&max_age("-1"), "-1", "whole number"),
            (&max_age("+1"), "+1", "whole number"),
            (&max_age(" 1"), " 1", "whole number"),
            (&max_age("1.5"), "1.5", "whole number"),
            (&max_age("2147483648"), "2147483648", "whole number"),
            (
                &max_age("99999999999999999999"),
                "99999999999999999999",
                "whole number",
            ),
        ];
        for (document, place, said) in cases {
            for mark in ["", "\u{feff}"] {
                let document = format!("{mark}{document}");
                let error = CorsConfiguration::from_xml(document.as_bytes()).unwrap_err();
                let XmlError { span, detail, .. } = &error;
                assert!(detail.contains(said), "{document}: {detail}");
                assert_eq!(&document[span.clone()], *place, "{document}: {detail}");
            }
        }
    }

    #[test]
    fn the_nesting_of_elements_is_limited() {
        let deep = format!("<CORSConfiguration>{}", "<a>".repeat(100));
        let errors = read(deep.as_bytes()).errors;
        assert_eq!(errors.len(), 2);
        assert!(errors[1].detail.contains("nested"), "{:?}", errors[1]);
    }

    #[test]
    fn other_encodings_and_large_documents_are_refused() {
        for text in ["\u{feff}<CORSConfiguration/>", "<CORSConfiguration/>"] {
            for order in [u16::to_le_bytes, u16::to_be_bytes] {
                let utf16: Vec<u8> = text.encode_utf16().flat_map(order).collect();
                let error = CorsConfiguration::from_xml(&utf16).unwrap_err();
                assert!(error.detail.contains("UTF-16"), "{}", error.detail);
            }
        }
        let latin1 = b"<CORSConfiguration>\xe9</CORSConfiguration>";
        assert_eq!(
            CorsConfiguration::from_xml(latin1).unwrap_err().span,
            19..20
        );

        let mut document = "<CORSConfiguration/>".to_owned();
        document.push_str(&" ".repeat(MAX_DOCUMENT - document.len()));
        assert!(CorsConfiguration::from_xml(document.as_bytes()).is_ok());
        document.push(' ');
        let error = CorsConfiguration::from_xml(document.as_bytes()).unwrap_err();
        assert!(error.detail.contains("65536"), "{error}");
    }

    #[test]
    fn every_error_is_reported() {
        let document = rule("<ID/>a<ID/><Foo/><MaxAgeSeconds>b</MaxAgeSeconds><Bar></Bar>");
        let errors = read(document.as_bytes()).errors;
        let places: Vec<&str> = errors
            .iter()
            .map(|error| &document[error.span.clone()])
            .collect();
        assert_eq!(places, ["a", "<ID/>", "<Foo/>", "b", "<Bar>"]);
    }

    /// Documents that take a naive parser quadratic time.
    #[test]
    fn hostile_documents_take_linear_time() {
        let fill = |head: &str, part: &dyn Fn(usize) -> String, tail: &str| {
            let mut document = head.to_owned();
            for index in 0.. {
                let part = part(index);
                if document.len() + part.len() + tail.len() > MAX_DOCUMENT {
                    break;
                }
                document.push_str(&part);
            }
            document + tail
        };
        let documents = [
            fill("<CORSConfiguration", &|index| format!(" a{index}=''"), "/>"),
            fill("<CORSConfiguration>", &|_| "<a>".into(), ""),
            fill(
                "<CORSConfiguration>",
                &|_| "<a/>".into(),
                "</CORSConfiguration>",
            ),
            fill(
                "<CORSConfiguration>",
                &|_| "&amp;".into(),
                "</CORSConfiguration>",
            ),
            fill("<CORSConfiguration>", &|_| "&".into(), ""),
            fill(
                "<CORSConfiguration><CORSRule><ID>",
                &|_| "&lt;".into(),
                "</ID></CORSRule></CORSConfiguration>",
            ),
            fill("", &|_| "<!--".into(), ""),
            fill("", &|_| "<![CDATA[".into(), ""),
            fill("<!DOCTYPE a [", &|_| "<!ENTITY a '&a;'>".into(), ""),
            fill("", &|_| "[".into(), ""),
        ];
        let start = std::time::Instant::now();
        for document in &documents {
            let _ = read(document.as_bytes());
        }
        // 640 KiB in a debug build take about 0.1 s; quadratic time would take minutes.
        assert!(start.elapsed().as_secs() < 10, "{:?}", start.elapsed());
    }

    #[test]
    fn a_value_is_located_at_its_text_or_start_tag() {
        let document = "\u{feff}<CORSConfiguration x='1'><CORSRule><ID/><AllowedOrigin>a</AllowedOrigin>\
             <AllowedMethod>GET</AllowedMethod><AllowedOrigin>b&amp;</AllowedOrigin></CORSRule>\
             <CORSRule ><AllowedOrigin></AllowedOrigin></CORSRule></CORSConfiguration>";
        let value = |rule, element, index| ElementPath::Value {
            rule,
            element,
            index,
        };
        for (path, expected) in [
            (ElementPath::Root, Some("<CORSConfiguration x='1'>")),
            (ElementPath::Rule(0), Some("<CORSRule>")),
            (ElementPath::Rule(1), Some("<CORSRule >")),
            (ElementPath::Rule(2), None),
            (value(0, Element::Id, 0), Some("<ID/>")),
            (value(0, Element::AllowedOrigin, 0), Some("a")),
            (value(0, Element::AllowedOrigin, 1), Some("b&amp;")),
            (value(0, Element::AllowedOrigin, 2), None),
            (value(0, Element::AllowedMethod, 0), Some("GET")),
            (value(1, Element::AllowedOrigin, 0), Some("<AllowedOrigin>")),
        ] {
            let place = locate(document, path).map(|span| &document[span]);
            assert_eq!(place, expected, "{path:?}");
        }
    }

    #[test]
    fn extension_elements_are_recognised_by_their_namespace() {
        const OURS: &str = "xmlns=\"urn:s3cors\"";
        let timing = |start: &str, end: &str| format!("<{start}>*</{end}>");
        let plain = timing(&format!("TimingAllowOrigin {OURS}"), "TimingAllowOrigin");
        let prefixed = timing("x:TimingAllowOrigin", "x:TimingAllowOrigin");
        let root = |attributes: &str, rule: &str| {
            format!(
                "<CORSConfiguration {attributes}><CORSRule>{rule}</CORSRule></CORSConfiguration>"
            )
        };
        let prefix = "xmlns:x='urn:s3cors'";
        let ours = [
            root("", &plain),
            root(prefix, &prefixed),
            root(
                "",
                &prefixed.replacen('>', " xmlns:x=\"urn:s3&#99;ors\">", 1),
            ),
            // The whole document is in the namespace, because S3 accepts any default namespace.
            root(OURS, &timing("TimingAllowOrigin", "TimingAllowOrigin")),
            root(
                OURS,
                "<AllowedOrigin>a</AllowedOrigin><TimingAllowOrigin>*</TimingAllowOrigin>",
            ),
        ];
        for document in ours {
            let read = CorsConfiguration::from_xml(document.as_bytes());
            let read = read.unwrap_or_else(|error| panic!("{document}: {error:?}"));
            assert_eq!(read.rules[0].timing_allow_origins, ["*"], "{document}");
        }
        let bare = "<TimingAllowOrigin>*</TimingAllowOrigin>";
        let others = [
            (
                root("", bare),
                "write `<TimingAllowOrigin xmlns=\"urn:s3cors\">`",
            ),
            (
                root("", &prefixed),
                "write `<TimingAllowOrigin xmlns=\"urn:s3cors\">`",
            ),
            (
                root("xmlns:x='urn:other'", &prefixed),
                "xmlns=\"urn:s3cors\"",
            ),
            // A declaration's scope ends with its element.
            (root("", &format!("{plain}{bare}")), "xmlns=\"urn:s3cors\""),
            (
                root(OURS, &bare.replace("n>", "n xmlns='y'>")),
                "xmlns=\"urn:s3cors\"",
            ),
            (root(prefix, "<x:AllowedOrigin/>"), "without a prefix"),
            (
                root(prefix, "<x:TimingAllowOrigins/>"),
                "did you mean `TimingAllowOrigin`?",
            ),
            (
                format!("<CORSConfiguration {prefix}>{prefixed}</CORSConfiguration>"),
                "into a `CORSRule`",
            ),
        ];
        for (document, hint) in others {
            let error = CorsConfiguration::from_xml(document.as_bytes()).unwrap_err();
            let said = error.hint.unwrap_or_default();
            assert!(said.contains(hint), "{document}: {} {said}", error.detail);
        }
    }

    prop_compose! {
        fn any_rule()(
            id in option::of("[a-z<>&\"'\\]\r\n é]{0,8}"),
            allowed_origins in vec("[a-z*<>&\"'\\]\r\n\t é]{0,8}", 0..3),
            allowed_methods in vec("[A-Z]{0,5}", 0..3),
            allowed_headers in vec("[ -~]{0,8}", 0..3),
            expose_headers in vec("[ -~]{0,8}", 0..3),
            max_age_seconds in option::of(0..=2_147_483_647_u32),
            timing_allow_origins in vec("[a-z*<&\r é]{0,8}", 0..3),
            cross_origin_resource_policy in option::of("[a-z<&\r é-]{0,8}"),
        ) -> CorsRule {
            CorsRule {
                id,
                allowed_origins,
                allowed_methods,
                allowed_headers,
                expose_headers,
                max_age_seconds,
                timing_allow_origins,
                cross_origin_resource_policy,
            }
        }
    }

    proptest! {
        #[test]
        fn written_documents_parse_to_the_same_configuration(rules in vec(any_rule(), 0..4)) {
            let configuration = CorsConfiguration { rules };
            let xml = configuration.to_xml();
            prop_assert_eq!(CorsConfiguration::from_xml(xml.as_bytes()), Ok(configuration));
        }

        #[test]
        fn any_bytes_are_parsed_or_refused_at_a_valid_place(
            rules in vec(any_rule(), 0..3),
            changes in vec((any::<prop::sample::Index>(), "[<>&/!\\[\\]?;#x\\-'\"= a\r\u{0}\u{feff}]{0,3}"), 0..6),
        ) {
            let mut document = CorsConfiguration { rules }.to_xml();
            for (place, text) in changes {
                let mut at = place.index(document.len());
                while !document.is_char_boundary(at) {
                    at -= 1;
                }
                let cut = document[at..].chars().next().map_or(0, char::len_utf8);
                document.replace_range(at..at + cut, &text);
            }
            let read = read(document.as_bytes());
            for error in &read.errors {
                prop_assert!(document.get(error.span.clone()).is_some(), "{error:?}");
            }
            for (_, place) in &read.places {
                prop_assert!(document.get(place.clone()).is_some());
            }
        }
    }
}
