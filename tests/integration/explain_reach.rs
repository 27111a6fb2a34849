//! Applies a suggestion of `explain` to its files: every route and bucket that changes must have
//! been named.
//!
//! `PROPTEST_CASES` sets how many configs are tried; the default is [`CASES`].

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};

use http::header::{ACCESS_CONTROL_REQUEST_HEADERS, ACCESS_CONTROL_REQUEST_METHOD, ORIGIN};
use http::{HeaderMap, Method};
use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;
use proptest::sample::{select, subsequence};
use s3cors::config::{Input, load};
use s3cors::cors::{
    Advice, CorsConfiguration, CorsRule, Decision, LetsIn, Outcome, Policy, SuggestedChange,
    Wildcard,
};
use s3cors::explain::{Effect, Exchange, Hypothetical, Place, RouteExplanation, Scope};
use s3cors::metrics::Metrics;
use s3cors::routing::snapshot::Snapshot;

use crate::support::folder::Folder;

/// Each writes and loads a config twice.
const CASES: u32 = 64;

const ORIGINS: [&str; 4] = [
    "https://a.test",
    "https://x.a.test",
    "http://a.test",
    "https://b.test",
];
const PATTERNS: [&str; 6] = [
    "https://a.test",
    "https://*.a.test",
    "http://a.test",
    "https://a.test/",
    "https://b.test",
    "*",
];
const METHODS: [&str; 4] = ["GET", "PUT", "DELETE", "PATCH"];
const PATHS: [&str; 4] = ["/", "/album/x", "/raw/x", "/payroll/x"];
const LABELS: [&str; 3] = ["", "album.", "payroll."];

/// The files that routes may use: the second may be a link to the first, the last is a bucket's.
const FILES: [&str; 4] = ["one.xml", "two.xml", "three.xml", "north/raw.xml"];
const FOLDERS: [&str; 2] = ["north", "south"];

#[derive(Clone, Debug)]
struct RouteSetUp {
    file: Option<&'static str>,
    buckets: Option<(&'static str, &'static str)>,
    /// The file of the service root's policy, on a route with buckets.
    root: Option<&'static str>,
    extra_methods: bool,
    exact: bool,
}

#[derive(Clone, Debug)]
struct SetUp {
    routes: Vec<RouteSetUp>,
    /// Rules for each of [`FILES`], and optionally for the buckets of both folders.
    rules: Vec<Vec<CorsRule>>,
    albums: [Option<Vec<CorsRule>>; 2],
    is_linked: bool,
}

#[derive(Clone, Debug)]
struct Asked {
    route: usize,
    path: &'static str,
    label: &'static str,
    origin: &'static str,
    method: &'static str,
    with_header: bool,
}

fn some(all: &'static [&'static str], least: usize) -> impl Strategy<Value = Vec<String>> {
    subsequence(all, least..=all.len().min(2))
        .prop_map(|values| values.into_iter().map(Into::into).collect())
}

prop_compose! {
    fn any_rule()(
        allowed_origins in some(&PATTERNS, 1),
        allowed_methods in some(&METHODS[..3], 1),
        allowed_headers in some(&["x-a"], 0),
    ) -> CorsRule {
        CorsRule { allowed_origins, allowed_methods, allowed_headers, ..CorsRule::default() }
    }
}

fn any_rules() -> impl Strategy<Value = Vec<CorsRule>> {
    vec(any_rule(), 1..3)
}

prop_compose! {
    fn any_route()(
        file in option::of(select(&FILES[..])),
        buckets in option::of((select(&FOLDERS[..]), select(&["path", "host", "both"][..]))),
        root in option::of(select(&FILES[..])),
        extra_methods in any::<bool>(),
        exact in any::<bool>(),
    ) -> RouteSetUp {
        RouteSetUp { file, buckets, root, extra_methods, exact }
    }
}

prop_compose! {
    fn any_set_up()(
        routes in vec(any_route(), 1..=4),
        rules in vec(any_rules(), FILES.len()),
        north in option::of(any_rules()),
        south in option::of(any_rules()),
        is_linked in any::<bool>(),
    ) -> SetUp {
        SetUp { routes, rules, albums: [north, south], is_linked }
    }
}

prop_compose! {
    fn any_request()(
        route in 0..4_usize,
        path in select(&PATHS[..]),
        label in select(&LABELS[..]),
        origin in select(&ORIGINS[..]),
        method in select(&METHODS[..]),
        with_header in any::<bool>(),
    ) -> Asked {
        Asked { route, path, label, origin, method, with_header }
    }
}

fn write(path: &Path, rules: &[CorsRule]) {
    let rules = rules.to_vec();
    fs::write(path, CorsConfiguration { rules }.to_xml()).unwrap();
}

impl SetUp {
    fn write(&self, folder: &Path) {
        for name in FOLDERS {
            fs::create_dir(folder.join(name)).unwrap();
        }
        for (file, rules) in FILES.iter().zip(&self.rules) {
            write(&folder.join(file), rules);
        }
        if self.is_linked {
            fs::remove_file(folder.join("two.xml")).unwrap();
            std::os::unix::fs::symlink("one.xml", folder.join("two.xml")).unwrap();
        }
        for (name, rules) in FOLDERS.iter().zip(&self.albums) {
            if let Some(rules) = rules {
                write(&folder.join(name).join("album.xml"), rules);
            }
        }
        self.write_config(folder);
    }

    fn write_config(&self, folder: &Path) {
        let mut config = String::new();
        for (index, route) in self.routes.iter().enumerate() {
            write!(
                config,
                "[[route]]\nname = \"r{index}\"\nhost = [\"r{index}.test\", \"*.r{index}.test\"]\n\
                 upstream = \"http://127.0.0.1:1\"\n"
            )
            .unwrap();
            if let Some(file) = route.file {
                writeln!(config, "cors = \"{file}\"").unwrap();
            }
            if let Some((folder, address)) = route.buckets {
                let root = route.root.map(|root| format!(", root = \"{root}\""));
                writeln!(
                    config,
                    "buckets = {{ directory = \"{folder}\", address = \"{address}\"{} }}",
                    root.unwrap_or_default()
                )
                .unwrap();
            }
            if route.extra_methods {
                config += "extra_methods = [\"PATCH\"]\n";
            }
            if route.exact {
                config += "semantics = \"s3-exact\"\n";
            }
        }
        fs::write(folder.join("s3cors.toml"), config).unwrap();
    }

    fn urls(&self) -> Vec<String> {
        let mut urls = Vec::new();
        for index in 0..self.routes.len() {
            for label in LABELS {
                urls.extend(PATHS.map(|path| format!("http://{label}r{index}.test{path}")));
            }
        }
        urls
    }
}

fn snapshot(folder: &Path, previous: Option<&Snapshot>) -> Snapshot {
    let loaded = load(&Input::file(folder.join("s3cors.toml")));
    let text = loaded.report.only_errors().render(false);
    assert!(previous.is_some() || !loaded.has_errors(), "{text}");
    let snapshot = loaded.snapshot(&Metrics::new(1), previous, 1, true);
    snapshot.unwrap_or_else(|| panic!("{text}"))
}

fn preflight(origin: &str, method: &str, with_header: bool) -> HeaderMap {
    let mut fields = HeaderMap::new();
    fields.insert(ORIGIN, origin.parse().unwrap());
    fields.insert(ACCESS_CONTROL_REQUEST_METHOD, method.parse().unwrap());
    if with_header {
        fields.insert(ACCESS_CONTROL_REQUEST_HEADERS, "x-a".parse().unwrap());
    }
    fields
}

fn explain(snapshot: &Snapshot, url: &str, origin: &str, method: &str) -> RouteExplanation {
    let request = Hypothetical {
        url: url.to_owned(),
        origin: origin.to_owned(),
        method: method.to_owned(),
        headers: Vec::new(),
        ..Hypothetical::default()
    };
    snapshot.explain(&request).unwrap()
}

/// `None`: the route is transparent.
fn is_allowed(policy: Option<&Policy>, fields: &HeaderMap) -> Option<bool> {
    match policy?.decide(&Method::OPTIONS, fields) {
        Decision::Preflight(decision) => Some(decision.is_ok()),
        other => panic!("{other:?}"),
    }
}

/// Applies the advice; `false` if there is nothing to do.
fn apply(set_up: &mut SetUp, folder: &Path, explained: &RouteExplanation, asked: &Asked) -> bool {
    let exchange = explained.exchange.as_ref().unwrap();
    let Outcome::Refused(refusal) = &exchange.deciding().outcome else {
        return false;
    };
    let change: &SuggestedChange = match &refusal.advice {
        Advice::Change(change) => change,
        Advice::ExtraMethod {
            change: Some(change),
            ..
        } => {
            set_up.routes[asked.route].extra_methods = true;
            set_up.write_config(folder);
            change
        }
        _ => return false,
    };
    let served = explained.served.as_ref().unwrap();
    let policy = served.policy.as_ref().unwrap();
    let before = policy.policy.configuration();
    let json = explained.to_json();
    let advice = [&json["preflight"]["advice"], &json["actual"]["advice"]];
    let advice = advice.into_iter().find(|advice| !advice.is_null()).unwrap();
    let file: PathBuf = match (&before, advice["file"].as_str()) {
        (Some(_), _) => policy.source.file.as_deref().unwrap().to_owned(),
        (None, Some(file)) => file.into(),
        (None, None) => {
            let route = &mut set_up.routes[asked.route];
            let is_root = served.bucket.as_ref().is_some_and(|bucket| bucket.is_root);
            match is_root {
                true => route.root = Some("new.xml"),
                false => route.file = Some("new.xml"),
            }
            set_up.write_config(folder);
            folder.join("new.xml")
        }
    };
    let changed = change.apply(&before.unwrap_or_default());
    fs::write(file, changed.to_xml()).unwrap();
    true
}

/// Whether one of the lines about additionally allowed requests covers a request.
fn is_let_in(explained: &RouteExplanation, fields: &HeaderMap) -> bool {
    let exchange = explained.exchange.as_ref().unwrap();
    let Outcome::Refused(refusal) = &exchange.deciding().outcome else {
        return false;
    };
    let change = match &refusal.advice {
        Advice::Change(change) => change,
        Advice::ExtraMethod { change, .. } => change.as_ref().unwrap(),
        _ => return false,
    };
    let field = |name| fields.get(name).map_or("", |value| value.to_str().unwrap());
    let (origin, method) = (field(ORIGIN), field(ACCESS_CONTROL_REQUEST_METHOD));
    let asked = field(ACCESS_CONTROL_REQUEST_HEADERS);
    change.lets_in.iter().any(|lets_in| match lets_in {
        LetsIn::Origin { pattern, .. } => {
            let pattern = Wildcard::parse(pattern).unwrap();
            pattern.matches(origin.as_bytes())
        }
        LetsIn::Method { method: more, .. } => more == method,
        LetsIn::Header { name, .. } => asked == name,
        LetsIn::Request {
            origin: one,
            method: more,
            headers,
        } => one == origin && more == method && (asked.is_empty() || headers == &[asked]),
        _ => false,
    })
}

/// The place that covers a URL.
fn place_of<'p>(places: &'p [Place], before: &RouteExplanation, path: &str) -> Option<&'p Place> {
    let served = before.served.as_ref().unwrap();
    let bucket = served.bucket.as_ref();
    let bucket = bucket.and_then(|bucket| bucket.name.as_deref());
    places.iter().find(|place| {
        place.route.name == served.route.name
            && match place.bucket.as_deref() {
                Some("") => served.bucket.as_ref().is_some_and(|bucket| bucket.is_root),
                Some(name) if place.shadows_paths && bucket.is_none() => path
                    .strip_prefix('/')
                    .is_some_and(|path| path.starts_with(name)),
                Some(name) => Some(name) == bucket,
                None => matches!(served.scope, Scope::Route | Scope::NotEnabled),
            }
    })
}

fn check(mut set_up: SetUp, mut asked: Asked) -> Result<(), TestCaseError> {
    asked.route %= set_up.routes.len();
    let folder = Folder::new();
    let folder = &folder.path("");
    set_up.write(folder);
    let before = snapshot(folder, None);
    let request = Hypothetical {
        url: format!("http://{}r{}.test{}", asked.label, asked.route, asked.path),
        origin: asked.origin.to_owned(),
        method: asked.method.to_owned(),
        headers: asked
            .with_header
            .then(|| "x-a".into())
            .into_iter()
            .collect(),
        ..Hypothetical::default()
    };
    let explained = before.explain(&request).unwrap();
    let ambiguous = |exchange: &Exchange| exchange.ambiguity.is_some();
    if explained.exchange.as_ref().is_none_or(ambiguous)
        || !apply(&mut set_up, folder, &explained, &asked)
    {
        return Ok(());
    }
    prop_assert!(!explained.places.is_empty());
    let after = snapshot(folder, Some(&before));
    let asked_fields = preflight(asked.origin, asked.method, asked.with_header);
    for url in set_up.urls() {
        let old = explain(&before, &url, ORIGINS[0], "GET");
        let new = explain(&after, &url, ORIGINS[0], "GET");
        let policies = [&old, &new].map(|one| one.served.as_ref().unwrap().policy());
        let path = &url[url.rfind(".test").unwrap() + ".test".len()..];
        let place = place_of(&explained.places, &old, path);
        let is_shadow = |place: &&Place| {
            let bucket = old.served.as_ref().unwrap().bucket.as_ref();
            place.shadows_paths && bucket.is_some_and(|bucket| bucket.name.is_none())
        };
        if let Some(place) = place.filter(|place| !is_shadow(place)) {
            let is_in = is_allowed(policies[1], &asked_fields) == Some(true);
            let is_refused = matches!(place.effect, Effect::Refused(_));
            let was_in = is_allowed(policies[0], &asked_fields) == Some(true);
            prop_assert_eq!(is_in, was_in || !is_refused, "{} {}", url, place);
        }
        for origin in ORIGINS {
            for (method, with_header) in METHODS.iter().flat_map(|one| [(one, false), (one, true)])
            {
                let fields = preflight(origin, method, with_header);
                let [was, is] = policies.map(|policy| is_allowed(policy, &fields));
                if was == is {
                    continue;
                }
                let what = format!(
                    "{url} {fields:?} {was:?} {is:?}\n{:#?}",
                    explained.to_json()
                );
                let Some(place) = place else {
                    return Err(TestCaseError::fail(format!("unnamed: {what}")));
                };
                let is_said = match (is, &place.effect) {
                    (Some(true), Effect::Decides | Effect::Replaces(_)) => {
                        is_let_in(&explained, &fields)
                    }
                    (Some(false), Effect::Replaces(_)) => true,
                    (Some(false), _) => is_shadow(&place),
                    _ => false,
                };
                prop_assert!(is_said, "{}", what);
            }
        }
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: match std::env::var_os("PROPTEST_CASES") {
            Some(_) => ProptestConfig::default().cases,
            None => CASES,
        },
        max_shrink_iters: 200,
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    #[test]
    fn a_suggestion_names_every_route_and_bucket_that_it_changes(
        set_up in any_set_up(),
        asked in any_request(),
    ) {
        check(set_up, asked)?;
    }
}
