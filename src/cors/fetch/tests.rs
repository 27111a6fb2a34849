//! Verdicts, case by case; `tests/clients/browser` compares thousands with the browsers themselves.

use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use proptest::prelude::*;

use super::*;

const PAGE: &str = "https://app.example";

fn fields(lines: &[&str]) -> Vec<(HeaderName, HeaderValue)> {
    let pair = |line: &&str| {
        let (name, value) = line.split_once(':').unwrap();
        (name.parse().unwrap(), value.trim().parse().unwrap())
    };
    lines.iter().map(pair).collect()
}

fn answer(status: u16, lines: &[&str]) -> Option<Response> {
    let mut headers = HeaderMap::new();
    for (name, value) in fields(lines) {
        headers.append(name, value);
    }
    Some(Response {
        status: StatusCode::from_u16(status).unwrap(),
        headers,
    })
}

/// A request of [`PAGE`]; each test changes the parts that it is about.
fn put(headers: &[&str]) -> Exchange {
    Exchange {
        request: ScriptRequest {
            origin: PAGE.to_owned(),
            url: "https://s3.example/b/k".to_owned(),
            method: "PUT".to_owned(),
            headers: fields(headers),
            credentials: Credentials::Omit,
            mode: Mode::Cors,
        },
        answers: Answers {
            preflight: answer(
                200,
                &[
                    "Access-Control-Allow-Origin: *",
                    "Access-Control-Allow-Methods: PUT",
                    "Access-Control-Allow-Headers: *",
                ],
            ),
            response: answer(
                200,
                &[
                    "Access-Control-Allow-Origin: *",
                    "ETag: x",
                    "Content-Type: text/plain",
                ],
            ),
        },
        redirected: Vec::new(),
    }
}

fn error(verdict: &Verdict) -> (&str, &str) {
    verdict
        .error
        .as_ref()
        .map_or(("", ""), |error| (error.name, &error.parameter))
}

fn message(verdict: &Verdict, engine: Engine) -> &str {
    let found = verdict.messages.iter().find(|(other, _)| *other == engine);
    found.map_or("", |(_, message)| message)
}

#[test]
fn a_response_shows_what_is_safelisted_and_what_it_exposes() {
    let cases: [(&[&str], Credentials, &[&str]); 6] = [
        (&[], Credentials::Omit, &["content-type"]),
        (
            &["Access-Control-Expose-Headers: ETag"],
            Credentials::Omit,
            &["content-type", "etag"],
        ),
        (
            &["Access-Control-Expose-Headers: *"],
            Credentials::Omit,
            &[
                "access-control-allow-origin",
                "access-control-expose-headers",
                "content-type",
                "etag",
            ],
        ),
        // With credentials, `*` is an ordinary name.
        (
            &["Access-Control-Expose-Headers: *"],
            Credentials::Include,
            &["content-type"],
        ),
        // An invalid list exposes nothing.
        (
            &["Access-Control-Expose-Headers: etag, bad name"],
            Credentials::Omit,
            &["content-type"],
        ),
        (
            &[
                "Access-Control-Expose-Headers: set-cookie",
                "Set-Cookie: a=b",
            ],
            Credentials::Omit,
            &["content-type"],
        ),
    ];
    for (lines, credentials, readable) in cases {
        let mut exchange = put(&[]);
        exchange.request.method = "GET".to_owned();
        exchange.request.credentials = credentials;
        let origin = if credentials == Credentials::Include {
            PAGE
        } else {
            "*"
        };
        let allow = format!("Access-Control-Allow-Origin: {origin}");
        let allow_credentials = "Access-Control-Allow-Credentials: true";
        let mut all = vec![&*allow, "ETag: x", "Content-Type: text/plain"];
        if credentials == Credentials::Include {
            all.push(allow_credentials);
        }
        all.extend(lines);
        exchange.answers.response = answer(200, &all);
        let verdict = judge(&exchange);
        assert_eq!(
            (verdict.outcome, verdict.preflight_sent),
            (Outcome::Readable, false),
            "{lines:?}"
        );
        assert_eq!(verdict.readable_headers, readable, "{lines:?}");
    }
}

#[test]
fn each_check_of_an_answer_has_its_name_and_its_parameter() {
    let allow = "Access-Control-Allow-Origin";
    let with = |value: &str| vec![format!("{allow}: {value}")];
    let cases = [
        (vec![], "MissingAllowOriginHeader", ""),
        (with("*"), "WildcardOriginNotAllowed", ""),
        (with("null"), "AllowOriginMismatch", "null"),
        (
            with("https://other.example"),
            "AllowOriginMismatch",
            "https://other.example",
        ),
        (
            with("https://app.example/"),
            "AllowOriginMismatch",
            "https://app.example/",
        ),
        (
            with("app.example"),
            "InvalidAllowOriginValue",
            "app.example",
        ),
        (
            with("http://x:99999"),
            "InvalidAllowOriginValue",
            "http://x:99999",
        ),
        (
            with("https://app.example, *"),
            "MultipleAllowOriginValues",
            "https://app.example, *",
        ),
        (with(PAGE), "InvalidAllowCredentials", ""),
        (
            [
                with(PAGE),
                vec!["Access-Control-Allow-Credentials: TRUE".to_owned()],
            ]
            .concat(),
            "InvalidAllowCredentials",
            "TRUE",
        ),
    ];
    for (lines, name, parameter) in cases {
        let lines: Vec<&str> = lines.iter().map(String::as_str).collect();
        let mut exchange = put(&[]);
        exchange.request.credentials = Credentials::Include;
        exchange.answers.preflight = answer(200, &lines);
        let verdict = judge(&exchange);
        assert_eq!(verdict.outcome, Outcome::Blocked);
        assert!(
            verdict.differs.is_empty(),
            "{lines:?}: {:?}",
            verdict.differs
        );
        assert_eq!(
            error(&verdict),
            (&*format!("Preflight{name}"), parameter),
            "{lines:?}"
        );

        exchange.request.method = "GET".to_owned();
        exchange.answers.response = answer(200, &lines);
        assert_eq!(error(&judge(&exchange)), (name, parameter), "{lines:?}");
    }
}

#[test]
fn each_check_of_a_preflight_has_its_name_and_its_parameter() {
    let cases: [(u16, &[&str], &str, &str); 8] = [
        (403, &[], "PreflightInvalidStatus", ""),
        (307, &["Location: /x"], "PreflightDisallowedRedirect", ""),
        (307, &[], "PreflightInvalidStatus", ""),
        (200, &[], "MethodDisallowedByPreflightResponse", "PUT"),
        (
            200,
            &["Access-Control-Allow-Methods: put"],
            "MethodDisallowedByPreflightResponse",
            "PUT",
        ),
        (
            200,
            &["Access-Control-Allow-Methods: PUT;GET"],
            "InvalidAllowMethodsPreflightResponse",
            "",
        ),
        (
            200,
            &["Access-Control-Allow-Methods: PUT"],
            "HeaderDisallowedByPreflightResponse",
            "x-a",
        ),
        (
            200,
            &[
                "Access-Control-Allow-Methods: PUT",
                "Access-Control-Allow-Headers: x-a, y z",
            ],
            "InvalidAllowHeadersPreflightResponse",
            "",
        ),
    ];
    for (status, lines, name, parameter) in cases {
        let mut exchange = put(&["X-A: 1"]);
        let all = [&["Access-Control-Allow-Origin: *"], lines].concat();
        exchange.answers.preflight = answer(status, &all);
        let verdict = judge(&exchange);
        assert_eq!(error(&verdict), (name, parameter), "{status} {lines:?}");
        assert_eq!(
            (verdict.outcome, verdict.preflight_sent),
            (Outcome::Blocked, true)
        );
    }
}

#[test]
fn every_console_has_its_own_sentence() {
    let mut exchange = put(&["Authorization: x"]);
    exchange.answers.preflight = answer(
        200,
        &[
            "Access-Control-Allow-Origin: *",
            "Access-Control-Allow-Methods: PUT",
        ],
    );
    let verdict = judge(&exchange);
    assert_eq!(
        message(&verdict, Engine::Chromium),
        "Access to fetch at 'https://s3.example/b/k' from origin 'https://app.example' has been blocked by CORS policy: \
         Request header field authorization is not allowed by Access-Control-Allow-Headers in preflight response."
    );
    assert_eq!(
        message(&verdict, Engine::Firefox),
        "Cross-Origin Request Blocked: The Same Origin Policy disallows reading the remote resource at \
         https://s3.example/b/k. (Reason: header ‘authorization’ is not allowed according to header \
         ‘Access-Control-Allow-Headers’ from CORS preflight response)."
    );
    assert_eq!(
        message(&verdict, Engine::Webkit),
        "Request header field Authorization is not allowed by Access-Control-Allow-Headers."
    );
}

#[test]
fn engines_check_a_failed_preflight_in_different_orders() {
    let mut exchange = put(&[]);
    exchange.answers.preflight = answer(403, &[]);
    let verdict = judge(&exchange);
    assert_eq!(error(&verdict).0, "PreflightMissingAllowOriginHeader");
    assert!(message(&verdict, Engine::Firefox).ends_with("missing). Status code: 403."));
    assert_eq!(
        message(&verdict, Engine::Webkit),
        "Preflight response is not successful. Status code: 403"
    );
}

#[test]
fn the_verdict_follows_all_engines_against_the_standard() {
    // A `*` covers `Authorization` everywhere, although the standard says otherwise.
    let verdict = judge(&put(&["Authorization: x"]));
    assert_eq!(verdict.outcome, Outcome::Readable);
    assert!(verdict.differs.is_empty());
    let standard = verdict.standard.expect("the standard blocks it");
    assert_eq!(standard.outcome, Outcome::Blocked);

    // Not with credentials, where `*` is a name.
    let mut exchange = put(&["Authorization: x"]);
    exchange.request.credentials = Credentials::Include;
    let allow = "Access-Control-Allow-Origin: https://app.example";
    let preflight = [
        allow,
        "Access-Control-Allow-Credentials: true",
        "Access-Control-Allow-Methods: PUT",
        "Access-Control-Allow-Headers: *",
    ];
    exchange.answers.preflight = answer(200, &preflight);
    assert_eq!(
        error(&judge(&exchange)),
        ("HeaderDisallowedByPreflightResponse", "authorization")
    );
}

#[test]
fn a_deviating_engine_is_listed() {
    // Chromium sends client hints without a preflight.
    let mut exchange = put(&["DPR: 2.0"]);
    exchange.request.method = "GET".to_owned();
    exchange.answers.preflight = None;
    let verdict = judge(&exchange);
    assert_eq!(verdict.outcome, Outcome::Blocked);
    let engines: Vec<_> = verdict
        .differs
        .iter()
        .map(|(engine, other)| (*engine, other.outcome))
        .collect();
    assert_eq!(engines, [(Engine::Chromium, Outcome::Readable)]);

    // WebKit accepts the unit of a range in any letter case.
    let mut exchange = put(&["Range: BYTES=0-1"]);
    exchange.request.method = "GET".to_owned();
    exchange.answers.preflight = None;
    let engines: Vec<_> = judge(&exchange)
        .differs
        .into_iter()
        .map(|(engine, _)| engine)
        .collect();
    assert_eq!(engines, [Engine::Webkit]);
}

#[test]
fn no_cors_is_opaque_and_drops_what_a_form_could_not_send() {
    let mut exchange = put(&["X-A: 1", "Accept: */*"]);
    exchange.request.mode = Mode::NoCors;
    exchange.request.method = "POST".to_owned();
    exchange.answers.response = answer(200, &[]);
    let verdict = judge(&exchange);
    assert_eq!(
        (verdict.outcome, verdict.preflight_sent),
        (Outcome::Opaque, false)
    );

    exchange.request.method = "PUT".to_owned();
    let verdict = judge(&exchange);
    assert_eq!(
        (verdict.outcome, error(&verdict)),
        (Outcome::Blocked, ("", ""))
    );
}

#[test]
fn a_page_reads_everything_of_its_own_origin_but_cookies() {
    let mut exchange = put(&["X-A: 1"]);
    exchange.request.url = "https://APP.example:443/k".to_owned();
    exchange.answers.response = answer(200, &["ETag: x", "Set-Cookie: a=b"]);
    let verdict = judge(&exchange);
    assert_eq!(
        (verdict.outcome, verdict.preflight_sent),
        (Outcome::Readable, false)
    );
    assert_eq!(verdict.readable_headers, ["etag"]);
}

#[test]
fn a_redirect_to_another_origin_makes_the_origin_null() {
    let mut exchange = put(&[]);
    exchange.request.method = "GET".to_owned();
    exchange.answers.response = answer(
        307,
        &[
            "Access-Control-Allow-Origin: *",
            "Location: https://cdn.example/k",
        ],
    );
    let next = |origin: &str| Answers {
        preflight: None,
        response: answer(200, &[&*format!("Access-Control-Allow-Origin: {origin}")]),
    };
    for (origin, outcome) in [
        ("null", Outcome::Readable),
        ("*", Outcome::Readable),
        (PAGE, Outcome::Blocked),
    ] {
        exchange.redirected = vec![next(origin)];
        assert_eq!(judge(&exchange).outcome, outcome, "{origin}");
    }
    exchange.redirected = vec![next(PAGE)];
    let verdict = judge(&exchange);
    assert_eq!(error(&verdict), ("AllowOriginMismatch", PAGE));
    assert!(
        message(&verdict, Engine::Chromium)
            .contains("'https://cdn.example/k' (redirected from 'https://s3.example/b/k')")
    );
    assert_eq!(
        message(&verdict, Engine::Webkit),
        "Origin null is not allowed by Access-Control-Allow-Origin. Status code: 200"
    );
}

/// URL Standard, «URL serializing»: an empty user name and password are no credentials.
#[test]
fn a_redirect_with_an_empty_user_name_and_password_is_followed() {
    let mut exchange = put(&[]);
    exchange.request.method = "GET".to_owned();
    let last = exchange.answers.clone();
    exchange.redirected = vec![last];
    let mut judged = |userinfo: &str| {
        let location = format!("Location: https://{userinfo}s3.example/k");
        exchange.answers.response = answer(302, &["Access-Control-Allow-Origin: *", &location]);
        judge(&exchange)
    };
    for userinfo in ["@", ":@"] {
        assert_eq!(judged(userinfo).outcome, Outcome::Readable, "{userinfo}");
    }
    for userinfo in ["user@", "user:@", ":secret@", "user:secret@", "::@"] {
        assert_eq!(judged(userinfo).outcome, Outcome::Blocked, "{userinfo}");
    }
    let verdict = judged("user:@");
    let sentence = message(&verdict, Engine::Webkit);
    assert!(sentence.contains("https://user@s3.example/k"), "{sentence}");
}

#[test]
fn chromium_treats_a_407_as_a_failed_connection() {
    let refused = put(&[]);
    let mut exchange = refused.clone();
    exchange.answers.preflight = answer(407, &["Access-Control-Allow-Origin: *"]);
    let verdict = judge(&exchange);
    assert_eq!(verdict.outcome, Outcome::Blocked);
    assert_eq!(verdict.error, None);
    assert!(message(&verdict, Engine::Firefox).contains("407"));

    let mut exchange = refused;
    exchange.answers.response = answer(407, &["Access-Control-Allow-Origin: *"]);
    let verdict = judge(&exchange);
    assert_eq!(verdict.outcome, Outcome::Readable);
    let [(Engine::Chromium, difference)] = &*verdict.differs else {
        panic!("{:?}", verdict.differs);
    };
    assert_eq!(difference.outcome, Outcome::Blocked);
}

#[test]
fn no_browser_follows_more_than_twenty_redirects() {
    let mut exchange = put(&[]);
    exchange.request.method = "GET".to_owned();
    let away = answer(302, &["Access-Control-Allow-Origin: *", "Location: k"]);
    let hop = Answers {
        preflight: None,
        response: away.clone(),
    };
    let last = exchange.answers.clone();
    exchange.answers.response = away;
    exchange.redirected = vec![hop.clone(); 19];
    exchange.redirected.push(last.clone());
    assert_eq!(judge(&exchange).outcome, Outcome::Readable);
    exchange.redirected = vec![hop; 20];
    exchange.redirected.push(last);
    let verdict = judge(&exchange);
    assert_eq!(
        verdict.failure.map(|failure| failure.reason),
        Some(Reason::TooManyRedirects)
    );
}

#[test]
fn each_engine_caches_a_preflight_for_its_own_time() {
    let seconds = |value: Option<&'static str>| {
        let headers: HeaderMap = value
            .map(|value| {
                (
                    http::header::ACCESS_CONTROL_MAX_AGE,
                    HeaderValue::from_static(value),
                )
            })
            .into_iter()
            .collect();
        Engine::ALL.map(|engine| preflight_cache_seconds(engine, &headers))
    };
    let cases = [
        (None, [5, 5, 5]),
        (Some("0"), [0, 0, 0]),
        (Some("60"), [60, 60, 60]),
        (Some("99999999999999999999"), [7200, 86_400, 600]),
        (Some("100000"), [7200, 86_400, 600]),
        (Some("x"), [5, 0, 5]),
        (Some(""), [5, 5, 5]),
        (Some("-1"), [0, 0, 0]),
    ];
    for (value, expected) in cases {
        assert_eq!(seconds(value), expected, "{value:?}");
    }
}

/// Like in browsers: `tests/clients/browser/verdict.test.js` counts their preflights.
#[test]
fn after_a_redirect_the_preflight_that_expires_first_decides() {
    let preflight = |age: &str| {
        answer(
            200,
            &[
                "Access-Control-Allow-Origin: *",
                "Access-Control-Allow-Methods: PUT",
                &format!("Access-Control-Max-Age: {age}"),
            ],
        )
    };
    let redirected = |to: &str, first: &str, second: &str| {
        let mut exchange = put(&[]);
        exchange.answers.preflight = preflight(first);
        let location = format!("Location: {to}");
        let fields = ["Access-Control-Allow-Origin: *", &location];
        exchange.redirected = vec![Answers {
            preflight: preflight(second),
            response: exchange.answers.response.take(),
        }];
        exchange.answers.response = answer(307, &fields);
        exchange
    };
    let seconds = |exchange: &Exchange| -> Vec<u64> {
        let cached = judge(exchange).cache_seconds;
        cached.iter().map(|(_, seconds)| *seconds).collect()
    };
    assert_eq!(seconds(&redirected("/b/l", "60", "30")), [30, 30, 30]);
    assert_eq!(seconds(&redirected("/b/l", "0", "30")), [0, 0, 0]);
    // To another origin, Chromium and WebKit send `null` and do not cache the response.
    let elsewhere = redirected("https://other.example/", "60", "30");
    assert_eq!(seconds(&elsewhere), [0, 30, 0]);
    // A redirect by the page's own server has no preflight before it.
    let mut home = redirected("https://s3.example/b/k", "60", "30");
    home.request.url = format!("{PAGE}/k");
    home.answers.preflight = None;
    assert_eq!(seconds(&home), [30, 30, 30]);
    // A failed preflight is not cached, and the next request sends another.
    let mut failed = redirected("/b/l", "60", "30");
    failed.redirected[0].preflight = answer(403, &[]);
    assert_eq!(seconds(&failed), [0_u64; 0]);
}

#[test]
fn firefox_does_not_cache_preflights_of_ip_addresses() {
    let mut exchange = put(&[]);
    let seconds = |exchange: &Exchange| judge(exchange).cache_seconds;
    let all = |firefox| {
        [
            (Engine::Chromium, 5),
            (Engine::Firefox, firefox),
            (Engine::Webkit, 5),
        ]
    };
    assert_eq!(seconds(&exchange), all(5));
    exchange.request.url = "https://192.0.2.7:9000/b/k".to_owned();
    assert_eq!(seconds(&exchange), all(0));
    exchange.request.url = "https://[2001:db8::7]/b/k".to_owned();
    assert_eq!(seconds(&exchange), all(0));
    // A failed preflight is not cached.
    exchange.answers.preflight = answer(403, &[]);
    assert_eq!(seconds(&exchange), []);
}

proptest! {
    /// Any responses give a verdict, and never one that is both readable and explained as blocked.
    #[test]
    fn every_exchange_has_one_verdict(
        origin in "(\\*|null|https://app\\.example|[ -~]{0,12})",
        methods in "[ -~]{0,12}",
        location in "[ -~]{0,16}",
        status in 200_u16..600,
        credentials in prop_oneof![Just(Credentials::Omit), Just(Credentials::SameOrigin), Just(Credentials::Include)],
    ) {
        let mut exchange = put(&["X-A: 1"]);
        exchange.request.credentials = credentials;
        let lines = [
            format!("Access-Control-Allow-Origin: {origin}"),
            format!("Access-Control-Allow-Methods: {methods}"),
            "Access-Control-Allow-Headers: x-a".to_owned(),
            format!("Location: {location}"),
        ];
        let lines: Vec<&str> = lines.iter().map(String::as_str).collect();
        exchange.answers = Answers { preflight: answer(status, &lines), response: answer(status, &lines) };
        let verdict = judge(&exchange);
        prop_assert_eq!(verdict.outcome == Outcome::Blocked, verdict.failure.is_some());
        prop_assert!(verdict.error.is_none() || verdict.outcome == Outcome::Blocked);
        prop_assert!(verdict.outcome != Outcome::Opaque);
    }
}
