//! S3's conformance vectors: run against the engine alone, and through a running proxy.

use http::{HeaderMap, HeaderName, HeaderValue, Method};
use s3cors::cors::{
    Decision, Options, Policy, ResourceType, S3Error, Semantics, Severity, check_document,
};

use crate::support::client::ask;
use crate::support::proxy::{TestProxy, TestRoute};
use crate::support::upstream::MockUpstream;
use crate::support::vectors::{Answer, Meant, Request, Upstream, Vector, Vectors, load, status_of};

fn options(semantics: Semantics) -> Options {
    Options {
        semantics,
        ..Options::default()
    }
}

fn policy(vector: &Vector, semantics: Semantics) -> Policy {
    let Some(xml) = &vector.config_xml else {
        return Policy::not_enabled(options(semantics));
    };
    let checked = check_document(xml.as_bytes(), options(semantics));
    let errors: Vec<_> = checked
        .problems
        .iter()
        .filter(|problem| problem.severity == Severity::Error)
        .collect();
    checked
        .policy
        .unwrap_or_else(|| panic!("{}: {errors:#?}", vector.name))
}

/// The responses of a proxy around the engine.
fn answer(policy: &Policy, request: &Request, upstream: &Upstream) -> Answer {
    let method = Method::from_bytes(request.method.as_bytes()).unwrap();
    let mut fields = HeaderMap::new();
    for (name, value) in &request.headers {
        let name = HeaderName::from_bytes(name.as_bytes()).unwrap();
        fields.append(name, HeaderValue::from_str(value).unwrap());
    }
    let decision = policy.decide(&method, &fields);

    let mut headers = HeaderMap::new();
    let path = request.path.split('?').next().unwrap();
    let (status, body, forwarded) = match &decision {
        Decision::Preflight(Ok(_)) => {
            headers.insert("content-length", HeaderValue::from_static("0"));
            (200, String::new(), false)
        }
        Decision::Preflight(Err(denial)) => {
            headers.insert("content-type", HeaderValue::from_static("application/xml"));
            let resource = match path {
                "/" => ResourceType::Bucket,
                _ => ResourceType::Object,
            };
            let document = S3Error::of(denial, resource).to_xml("request", "host");
            (denial.status().as_u16(), document, false)
        }
        Decision::Actual(_) | Decision::NotCors => {
            for (name, value) in &upstream.headers {
                let name = HeaderName::from_bytes(name.as_bytes()).unwrap();
                headers.append(name, value.parse().unwrap());
            }
            let body = match method {
                Method::HEAD => String::new(),
                _ => upstream.body.clone(),
            };
            (status_of(&request.path, upstream.status), body, true)
        }
    };
    policy.mark(decision, &mut headers);
    Answer {
        status,
        headers,
        body: body.into_bytes(),
        forwarded,
    }
}

#[test]
fn every_rejected_configuration_is_rejected_as_in_s3() {
    let mut count = 0;
    for vector in &load().vectors {
        let Some(expected) = &vector.expected else {
            continue;
        };
        let xml = vector.config_xml.as_deref().unwrap();
        let checked = check_document(xml.as_bytes(), options(Semantics::S3Exact));
        assert!(
            vector.config_error && checked.policy.is_none(),
            "{}",
            vector.name
        );
        let first = &checked.problems[0];
        assert!(
            first.severity == Severity::Error && expected.is(first.code, &first.message),
            "{}: {first:?}",
            vector.name
        );
        let span = first.span.clone().expect("each error has its place");
        assert!(xml.get(span).is_some(), "{}", vector.name);
        count += 1;
    }
    assert!(count > 20, "{count}");
}

#[test]
fn the_engine_answers_exactly_like_s3() {
    assert_s3_exact(|vector, upstream| {
        let policy = policy(vector, Semantics::S3Exact);
        move |request| answer(&policy, request, upstream)
    });
}

#[test]
fn the_engines_safe_semantics_differ_only_as_intended() {
    assert_safe(|vector, upstream| {
        let policy = policy(vector, Semantics::Safe);
        move |request| answer(&policy, request, upstream)
    });
}

#[test]
fn the_running_proxy_answers_exactly_like_s3() {
    assert_s3_exact(|vector, upstream| running_proxy(vector, upstream, Semantics::S3Exact));
}

#[test]
fn the_running_proxys_safe_semantics_differ_only_as_intended() {
    assert_safe(|vector, upstream| running_proxy(vector, upstream, Semantics::Safe));
}

/// A proxy with the vector's configuration; each request uses its own connection.
fn running_proxy(
    vector: &Vector,
    upstream: &Upstream,
    semantics: Semantics,
) -> impl FnMut(&Request) -> Answer + use<> {
    let (status, body) = (upstream.status, upstream.body.clone());
    let fields: String = upstream
        .headers
        .iter()
        .map(|(name, value)| format!("{name}: {value}\r\n"))
        .collect();
    let mock = MockUpstream::scripted(true, move |exchange| {
        let status = status_of(exchange.request.target(), status);
        let length = body.len();
        let head = format!("HTTP/1.1 {status} X\r\n{fields}Content-Length: {length}\r\n\r\n");
        exchange.send(head);
        if exchange.request.method() != "HEAD" {
            exchange.send(&body);
        }
        true
    });
    let mut route = TestRoute::new(mock.address, "");
    route.cors = vector.config_xml.clone();
    route.options = options(semantics);
    let proxy = TestProxy::start(&[route]);
    move |request| {
        let seen = mock.requests().len();
        let mut fields: Vec<_> = request
            .headers
            .iter()
            .map(|(name, value)| (name.as_str(), value.as_str()))
            .collect();
        if matches!(&*request.method, "PUT" | "POST") {
            fields.push(("Content-Length", "0"));
        }
        let running = &proxy;
        let response = ask(running.address, &request.method, &request.path, &fields);
        Answer {
            status: response.status,
            headers: response.headers,
            body: response.body,
            forwarded: mock.requests().len() > seen,
        }
    }
}

/// Every response under `s3-exact` is S3's.
fn assert_s3_exact<F: FnMut(&Request) -> Answer>(under: impl Fn(&Vector, &'static Upstream) -> F) {
    let wrong = s3_exact_differences(under);
    assert!(wrong.is_empty(), "{wrong:#?}");
}

/// The differences from S3: the vector's name, and the difference.
fn s3_exact_differences<F: FnMut(&Request) -> Answer>(
    under: impl Fn(&Vector, &'static Upstream) -> F,
) -> Vec<(String, String)> {
    let vectors: &'static Vectors = Box::leak(Box::new(load()));
    let mut wrong = Vec::new();
    let mut count = 0;
    for vector in vectors.vectors.iter().filter(|vector| !vector.config_error) {
        let mut answer = under(vector, &vectors.upstream);
        let mut note = |difference| wrong.push((vector.name.clone(), difference));
        for (index, request) in vector.requests.iter().enumerate() {
            let answer = answer(request);
            for difference in request.expect.differences(&answer, &vectors.constants) {
                note(format!("{index}: {difference}"));
            }
            let order: Vec<_> = answer
                .headers
                .keys()
                .filter_map(|name| {
                    let names = &vectors.constants.preflight_header_order;
                    names.iter().position(|known| name == known.as_str())
                })
                .collect();
            if !order.is_sorted() {
                note(format!("{index}: order of fields"));
            }
            count += 1;
        }
    }
    assert!(count >= 200, "{count}");
    wrong
}

/// The names of the vectors to which the engine or the running proxy responds differently than
/// S3.
pub(crate) fn wrong_answers() -> Vec<String> {
    let engine = s3_exact_differences(|vector, upstream| {
        let policy = policy(vector, Semantics::S3Exact);
        move |request| answer(&policy, request, upstream)
    });
    let proxy = s3_exact_differences(|vector, upstream| {
        running_proxy(vector, upstream, Semantics::S3Exact)
    });
    let names = engine.into_iter().chain(proxy).map(|(name, _)| name);
    names.chain(refused_otherwise()).collect()
}

/// The names of the vectors whose configuration is not rejected as in S3.
fn refused_otherwise() -> Vec<String> {
    let vectors = load();
    let wrong = vectors.vectors.iter().filter(|vector| {
        vector.expected.as_ref().is_some_and(|expected| {
            let xml = vector.config_xml.as_deref().unwrap();
            let checked = check_document(xml.as_bytes(), options(Semantics::S3Exact));
            let first = checked.problems.first();
            checked.policy.is_some()
                || first.is_none_or(|first| !expected.is(first.code, &first.message))
        })
    });
    wrong.map(|vector| vector.name.clone()).collect()
}

/// Every response under `safe` is S3's except for the intended differences, and those occur.
fn assert_safe<F: FnMut(&Request) -> Answer>(under: impl Fn(&Vector, &'static Upstream) -> F) {
    let vectors: &'static Vectors = Box::leak(Box::new(load()));
    let mut wrong = Vec::new();
    let mut seen = Vec::new();
    for vector in vectors.vectors.iter().filter(|vector| !vector.config_error) {
        let mut answer = under(vector, &vectors.upstream);
        for (index, request) in vector.requests.iter().enumerate() {
            let answer = answer(request);
            for difference in request.expect.differences(&answer, &vectors.constants) {
                match Meant::of(request, &difference) {
                    Some(meant) => seen.push(meant),
                    None => wrong.push(format!("{} {index}: {difference}", vector.name)),
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    for meant in Meant::ALL {
        assert!(seen.contains(&meant), "{meant:?} never occurs");
    }
}
