//! Applies hints about origins: the result passes the lint and matches the intended origin, or
//! there is no hint.
//!
//! `PROPTEST_CASES` sets how many mistakes are tried.

use http::header::ORIGIN;
use http::{HeaderMap, HeaderValue, Method};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::{Index, select};
use s3cors::cors::{
    Advice, CorsConfiguration, CorsRule, Options, Outcome, Policy, RequestFix, Wildcard,
    check_document,
};

const GOOD: [&str; 11] = [
    "https://app.example.com",
    "https://app.example.com:8443",
    "https://example.com",
    "https://www.example.org",
    "https://a.b.example.co.uk",
    "https://deploy-1--site.netlify.app",
    "https://xn--mnchen-3ya.example.com",
    "http://localhost:3000",
    "http://127.0.0.1:5173",
    "http://[::1]:3000",
    "capacitor://localhost",
];

const INVISIBLE: [char; 9] = [
    '\u{feff}', '\u{200b}', '\u{200d}', '\u{200e}', '\u{202e}', '\u{2060}', '\u{2066}', '\u{ad}',
    '\u{a0}',
];

/// A mistake that turns an origin into something that S3 accepts but no browser sends.
#[derive(Clone, Debug)]
enum Mistake {
    Before(&'static str),
    After(&'static str),
    Around(&'static str, &'static str),
    Listed(&'static str, &'static str),
    Replaced(&'static str, &'static str),
    Inserted(Index, char),
    Dropped(Index),
    Doubled(Index),
    Swapped(Index),
    Upper(Index),
    AllUpper,
    FirstLabel(&'static str),
    Regex(&'static str, &'static str),
    PaddedPort,
}

impl Mistake {
    fn make(&self, origin: &str) -> String {
        let at = |index: &Index| {
            let places: Vec<usize> = origin.char_indices().map(|(at, _)| at).collect();
            places[index.index(places.len())]
        };
        match self {
            _ if origin.is_empty() => String::new(),
            Self::Before(text) => format!("{text}{origin}"),
            Self::After(text) => format!("{origin}{text}"),
            Self::Around(before, after) => format!("{before}{origin}{after}"),
            Self::Listed(separator, other) => format!("{origin}{separator}{other}"),
            Self::Replaced(from, to) => origin.replacen(from, to, 1),
            Self::Inserted(index, one) => {
                let mut text = origin.to_owned();
                text.insert(at(index), *one);
                text
            }
            Self::Dropped(index) => {
                let mut text = origin.to_owned();
                text.remove(at(index));
                text
            }
            Self::Doubled(index) => {
                let mut text = origin.to_owned();
                let one = text[at(index)..].chars().next().unwrap();
                text.insert(at(index), one);
                text
            }
            Self::Swapped(index) => {
                let mut letters: Vec<char> = origin.chars().collect();
                let place = index.index(letters.len());
                if place > 0 {
                    letters.swap(place - 1, place);
                }
                letters.into_iter().collect()
            }
            Self::Upper(index) => {
                let at = at(index);
                let (head, tail) = origin.split_at(at);
                format!("{head}{}", tail.to_ascii_uppercase())
            }
            Self::AllUpper => origin.to_ascii_uppercase(),
            Self::FirstLabel(any) => match origin.split_once("://") {
                Some((scheme, host)) => match host.split_once('.') {
                    Some((_, parent)) => format!("{scheme}://{any}.{parent}"),
                    None => origin.to_owned(),
                },
                None => origin.to_owned(),
            },
            Self::Regex(before, after) => {
                format!("{before}{}{after}", origin.replace('.', "\\."))
            }
            Self::PaddedPort => match origin.rsplit_once(':') {
                Some((head, port)) if port.parse::<u16>().is_ok() => format!("{head}:0{port}"),
                _ => origin.to_owned(),
            },
        }
    }

    /// Whether, to a reader, another origin was intended.
    fn changes_the_host(&self, origin: &str) -> bool {
        let is_web = origin.to_lowercase().contains("http");
        let scheme = if is_web {
            origin.find("://").unwrap_or(0)
        } else {
            0
        };
        match self {
            Self::Dropped(_) | Self::Doubled(_) | Self::Swapped(_) if !is_web => true,
            Self::Dropped(index) | Self::Doubled(index) | Self::Swapped(index) => {
                index.index(origin.chars().count().max(1)) > scheme
            }
            Self::After(":443" | ":80") => !is_web,
            Self::After(":*") => true,
            Self::Listed("", other) => !other.contains("://"),
            Self::Replaced(_, to) => ["://*.", ".*", "*", "http*"].contains(to),
            // These lead to a shorter host.
            Self::Inserted(..) if !is_web => true,
            Self::Inserted(_, one) => ['@', '/', '#', 'ü', '_'].contains(one),
            _ => false,
        }
    }
}

fn any_mistake() -> impl Strategy<Value = Mistake> {
    use Mistake::*;
    let any_index = any::<Index>;
    prop_oneof![
        select(vec![
            " ", "//", "*", "*.", ".", "^", "/", "http:", "Origin: ", "-", "\t"
        ])
        .prop_map(Before),
        select(vec![
            "/",
            "/*",
            "/login",
            "?a=1",
            "#top",
            "/login?next=https://b.example",
            ":443",
            ":80",
            ":",
            "*",
            ".",
            ";",
            ",",
            " ",
            "\n",
            "$",
            "/**",
            ":*",
            "?",
            "/?",
            ".*",
            "|",
            "\\",
            "/a,b",
        ])
        .prop_map(After),
        select(vec![
            ("\"", "\""),
            ("'", "'"),
            ("`", "`"),
            ("“", "”"),
            ("\"", ""),
            ("<", ">"),
            ("[", "]"),
            ("(", ")"),
            ("[\"", "\"]"),
            ("{", "}"),
            ("\"", "\","),
        ])
        .prop_map(|(before, after)| Around(before, after)),
        (
            select(vec![
                ",", ";", " ", "|", "\n", ", ", "; ", "，", " and ", "", "\t"
            ]),
            select(vec![
                "https://b.example.net",
                "http://localhost:1",
                "b.example.net",
                "*"
            ]),
        )
            .prop_map(|(separator, other)| Listed(separator, other)),
        select(vec![
            ("https://", ""),
            ("http://", ""),
            ("://", ":/"),
            ("://", "//"),
            ("://", ":"),
            ("://", ":\\\\"),
            ("://", ":///"),
            ("https://", "//"),
            ("://", "://."),
            ("://", "://*."),
            ("://", "://*"),
            ("://", "://me@"),
            ("https://", "wss://"),
            ("://", "%3A%2F%2F"),
            (".", ".."),
            (".", "?."),
            (".", "*."),
            (".", ",."),
            ("https", "https?"),
            ("app", "{a,b}"),
            ("example", "*"),
            (".com", ".*"),
            ("https://", "*://"),
            ("https", "http*"),
        ])
        .prop_map(|(from, to)| Replaced(from, to)),
        (any_index(), select(&INVISIBLE[..])).prop_map(|(index, one)| Inserted(index, one)),
        (
            any_index(),
            select(vec!['"', ' ', '\\', '?', '+', '@', '#', 'ü', '/', '_'])
        )
            .prop_map(|(index, one)| Inserted(index, one)),
        any_index().prop_map(Dropped),
        any_index().prop_map(Doubled),
        any_index().prop_map(Swapped),
        any_index().prop_map(Upper),
        Just(AllUpper),
        Just(PaddedPort),
        select(vec![
            ".*",
            "[^.]+",
            "[a-z0-9-]+",
            "\\w+",
            "(.*)",
            "(.+)",
            "[a-z]*",
            "(www|app)",
            "**",
            "?*",
            "[\\w-]+",
            ".+?",
            "",
        ])
        .prop_map(FirstLabel),
        select(vec![
            ("", ""),
            ("^", "$"),
            ("/", "/"),
            ("/^", "$/"),
            ("/^", "$/i"),
            ("^", ""),
            ("", "$"),
            ("(", ")"),
            ("^(", ")$"),
            ("(?i)", ""),
            ("~^", "$"),
        ])
        .prop_map(|(before, after)| Regex(before, after)),
    ]
}

fn configuration(origin: &str) -> CorsConfiguration {
    CorsConfiguration {
        rules: vec![CorsRule {
            allowed_origins: vec![origin.to_owned()],
            allowed_methods: vec!["GET".to_owned()],
            ..CorsRule::default()
        }],
    }
}

/// The diagnostics of an origin: code and hint.
fn said(origin: &str) -> Vec<(&'static str, String)> {
    let xml = configuration(origin).to_xml();
    let problems = check_document(xml.as_bytes(), Options::default()).problems;
    let said = problems.into_iter();
    said.map(|one| (one.code, one.hint.unwrap_or_default()))
        .collect()
}

/// The values that a hint says to write.
fn to_write(hint: &str) -> Vec<&str> {
    let Some(at) = hint.find("write `") else {
        return Vec::new();
    };
    hint[at..].split('`').skip(1).step_by(2).collect()
}

fn check(good: &str, mistakes: &[Mistake]) -> Result<(), TestCaseError> {
    let mut origin = good.to_owned();
    // Two mistakes that change different parts may together have another meaning.
    let structural = |one: &&Mistake| {
        matches!(one, Mistake::Replaced(..) | Mistake::FirstLabel(_))
            || matches!(one, Mistake::Before(text) | Mistake::After(text) if text.contains(['*', '.']))
    };
    let mut is_other = mistakes.len() > 1 && mistakes.iter().any(|one| structural(&one));
    for mistake in mistakes {
        is_other |= mistake.changes_the_host(&origin);
        origin = mistake.make(&origin);
        let matches = Wildcard::parse(&origin).is_ok_and(|one| one.matches(good.as_bytes()));
        is_other |= !matches && said(&origin).is_empty();
        is_other |= good.starts_with("https:") && origin.to_lowercase().contains("http:");
    }
    let is_xml = |one: char| one >= ' ' || matches!(one, '\t' | '\n');
    if !origin.chars().all(is_xml) {
        return Ok(());
    }
    for (code, hint) in said(&origin) {
        let values = to_write(&hint);
        for value in &values {
            let again = said(value);
            prop_assert!(again.is_empty(), "{origin:?} {code}: {hint}\n{again:?}");
        }
        let matches = |value: &&str| {
            let pattern = Wildcard::parse(value).unwrap();
            pattern.matches(good.as_bytes())
        };
        prop_assert!(
            values.is_empty() || is_other || values.iter().any(matches),
            "{good} as {origin:?}: {code}: {hint}"
        );
    }
    let Ok(value) = HeaderValue::from_bytes(origin.as_bytes()) else {
        return Ok(());
    };
    let policy = Policy::compile(&configuration("https://other.test"), Options::default()).unwrap();
    let fields = HeaderMap::from_iter([(ORIGIN, value)]);
    if let Outcome::Refused(refusal) = policy.explain(&Method::GET, &fields).outcome
        && let Advice::Request(RequestFix::Origin(sent)) = refusal.advice
    {
        prop_assert!(is_other || sent == good, "{good} as {origin:?}: {sent}");
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig {
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    #[test]
    fn a_hint_leads_to_the_intended_origin(
        good in select(&GOOD[..]),
        mistakes in vec(any_mistake(), 1..=2),
    ) {
        check(good, &mistakes)?;
    }
}

#[test]
fn good_origins_need_no_hint() {
    for origin in GOOD {
        assert_eq!(said(origin), [], "{origin}");
    }
}

#[test]
fn hints_for_known_mistakes() {
    for (origin, expected) in [
        ("https://app.example.com:", Some("https://app.example.com")),
        (
            "https://app.example.com:0443",
            Some("https://app.example.com"),
        ),
        (
            "\u{feff}https://app.example.com",
            Some("https://app.example.com"),
        ),
        (
            "https://app.exa\u{200b}mple.com",
            Some("https://app.example.com"),
        ),
        (
            "/https?:\\/\\/.*\\.example\\.com/",
            Some("https://*.example.com"),
        ),
        ("https://*.example.com/*", Some("https://*.example.com")),
        ("https://app.example.com/*", Some("https://app.example.com")),
        ("https://*--mysite.netlify.app", None),
        ("https://a.example.com;https://b.example.com", None),
        (".example.com", None),
        ("moz-extension://*", None),
    ] {
        let said = said(origin);
        assert!(!said.is_empty(), "{origin}");
        let values = to_write(&said[0].1);
        assert_eq!(values.first().copied(), expected, "{origin}: {said:?}");
    }
}
