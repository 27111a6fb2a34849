//! `/cors`: explains a request, as JSON for programs and as a page for people.

use http::header::ACCEPT;
use http::{HeaderMap, Request, StatusCode};
use serde_json::json;

use crate::cors::fetch::Credentials;
use crate::explain::Hypothetical;

use super::answer::{AdminAnswer, HTML, SCRIPT, STYLE};
use super::{State, answer};

/// Explains the request in the query; returns the page to clients that prefer HTML.
pub(super) fn cors<B>(request: &Request<B>, state: &State) -> AdminAnswer {
    if prefers_html(request.headers()) {
        return answer::with(StatusCode::OK, HTML, include_str!("console/page.html"));
    }
    let hypothetical = match hypothetical(request.uri().query().unwrap_or_default()) {
        Ok(hypothetical) => hypothetical,
        Err(error) => return bad(&error),
    };
    match state.current.get().explain_as_sent(&hypothetical) {
        Ok(mut explanation) => {
            explanation.entrances.clone_from(&state.entrances);
            answer::json(StatusCode::OK, &explanation.to_json())
        }
        Err(error) => bad(&error.to_string()),
    }
}

/// The page's script, which imports [`MODULES`].
pub(super) fn script() -> AdminAnswer {
    answer::with(StatusCode::OK, SCRIPT, include_str!("console/script.js"))
}

/// A module of the script, `/console/NAME.js`.
pub(super) fn module(path: &str) -> Option<AdminAnswer> {
    let name = path.strip_prefix("/console/")?;
    let (_, text) = MODULES.iter().find(|(module, _)| *module == name)?;
    Some(answer::with(StatusCode::OK, SCRIPT, *text))
}

/// The modules of the script, by name.
const MODULES: [(&str, &str); 12] = [
    ("answer.js", include_str!("console/answer.js")),
    (
        "browser_message.js",
        include_str!("console/browser_message.js"),
    ),
    ("chart.js", include_str!("console/chart.js")),
    ("dom.js", include_str!("console/dom.js")),
    ("events.js", include_str!("console/events.js")),
    ("explain.js", include_str!("console/explain.js")),
    ("feed.js", include_str!("console/feed.js")),
    ("form.js", include_str!("console/form.js")),
    ("now.js", include_str!("console/now.js")),
    ("policies.js", include_str!("console/policies.js")),
    ("recheck.js", include_str!("console/recheck.js")),
    ("words.js", include_str!("console/words.js")),
];

pub(super) fn style() -> AdminAnswer {
    answer::with(StatusCode::OK, STYLE, include_str!("console/style.css"))
}

fn bad(error: &str) -> AdminAnswer {
    answer::json(StatusCode::BAD_REQUEST, &json!({ "error": error }))
}

fn hypothetical(query: &str) -> Result<Hypothetical, String> {
    const USAGE: &str = "?url=http://HOST/PATH&origin=ORIGIN&method=METHOD&header=NAME&credentials=include&read=NAME";
    let mut request = Hypothetical {
        method: "GET".to_owned(),
        ..Hypothetical::default()
    };
    for (name, value) in form_urlencoded::parse(query.as_bytes()) {
        match &*name {
            "url" => request.url = value.into_owned(),
            "origin" => request.origin = value.into_owned(),
            "method" => request.method = value.into_owned(),
            "header" => request.headers.push(value.into_owned()),
            "credentials" => {
                let mode = Credentials::from_name(&value);
                request.credentials = mode.ok_or_else(|| {
                    format!("unknown credentials mode `{value}`; use omit, same-origin or include")
                })?;
            }
            "read" => request.read.push(value.into_owned()),
            _ => return Err(format!("unknown parameter `{name}`; use {USAGE}")),
        }
    }
    if request.url.is_empty() {
        return Err(format!("no URL; use {USAGE}"));
    }
    Ok(request)
}

/// Whether a client prefers HTML to JSON ([RFC 9110 §12.5.1]); without a preference it gets JSON.
///
/// [RFC 9110 §12.5.1]: https://www.rfc-editor.org/rfc/rfc9110#section-12.5.1
pub(super) fn prefers_html(fields: &HeaderMap) -> bool {
    let ranges: Vec<_> = fields
        .get_all(ACCEPT)
        .iter()
        .filter_map(|line| line.to_str().ok())
        .flat_map(|line| line.split(','))
        .map(media_range)
        .collect();
    // The most specific range that covers the type determines its weight.
    let weight = |covering: [&str; 3]| {
        covering.iter().find_map(|name| {
            let found = ranges.iter().find(|(range, _)| range == name);
            found.map(|(_, weight)| *weight)
        })
    };
    let html = weight(["text/html", "text/*", "*/*"]);
    let json = weight(["application/json", "application/*", "*/*"]);
    html > json
}

/// A media range in lower case, and its weight in thousandths.
fn media_range(text: &str) -> (String, u16) {
    let mut parts = text.split(';');
    let range = parts.next().unwrap_or_default().trim().to_ascii_lowercase();
    let weight = parts.find_map(|parameter| {
        let (name, value) = parameter.split_once('=')?;
        let weight: f32 = value.trim().parse().ok()?;
        let is_weight = name.trim().eq_ignore_ascii_case("q") && (0.0..=1.0).contains(&weight);
        is_weight.then_some((weight * 1000.0) as u16)
    });
    (range, weight.unwrap_or(1000))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_browser_gets_the_page_and_a_program_json() {
        let cases = [
            (
                "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8",
                true,
            ),
            ("text/html", true),
            ("text/html;q=0.5, application/json;q=0.4", true),
            ("*/*", false),
            ("", false),
            ("application/json", false),
            ("application/json, text/html;q=0.9", false),
            ("text/html;q=0, */*", false),
            ("text/*;q=0.9, */*;q=0.1", true),
        ];
        for (accept, expected) in cases {
            let fields = HeaderMap::from_iter([(ACCEPT, accept.parse().unwrap())]);
            assert_eq!(prefers_html(&fields), expected, "{accept}");
        }
        assert!(!prefers_html(&HeaderMap::new()));
    }

    #[test]
    fn a_query_describes_a_whole_request() {
        let request =
            hypothetical("url=http://a/&origin=null&method=PUT&header=a&header=b").unwrap();
        assert_eq!(request.url, "http://a/");
        assert_eq!((request.method.as_str(), request.headers.len()), ("PUT", 2));
        assert_eq!(hypothetical("url=http://a/").unwrap().method, "GET");
        assert!(hypothetical("origin=null").unwrap_err().contains("no URL"));
        assert!(
            hypothetical("url=a&headers=b")
                .unwrap_err()
                .contains("`headers`")
        );
    }

    #[test]
    fn the_page_loads_only_its_own_files_and_never_parses_text_as_html() {
        let page = include_str!("console/page.html");
        assert!(!page.contains("http-equiv") && !page.contains("style=\""));
        let main = [("script.js", include_str!("console/script.js"))];
        for (name, script) in main.iter().chain(&MODULES) {
            for never in [
                "innerHTML",
                "outerHTML",
                "insertAdjacentHTML",
                "document.write",
                "eval(",
                "import(",
                "http:",
                "\"style\"",
            ] {
                let script = script.replace("\"http://www.w3.org/2000/svg\"", "");
                assert!(!script.contains(never), "{name}: {never}");
            }
        }
        assert!(page.contains("<script src=\"/console.js\" type=\"module\"></script>"));
        let loads = |text: &str| text.matches("src=\"").count() + text.matches("href=\"").count();
        let links = page.matches("href=\"#").count();
        assert_eq!(
            loads(page) - links,
            3,
            "its script, its style, and an empty icon"
        );
    }

    #[test]
    fn every_module_that_a_script_imports_is_served_and_imported() {
        let imports = |script: &'static str, from: &'static str| {
            script.lines().filter_map(move |line| {
                let (_, name) = line.strip_prefix("import ")?.split_once(from)?;
                name.strip_suffix("\";")
            })
        };
        let mut imported: Vec<_> =
            imports(include_str!("console/script.js"), "from \"./console/").collect();
        for (_, script) in MODULES {
            imported.extend(imports(script, "from \"./"));
        }
        for name in &imported {
            assert!(module(&format!("/console/{name}")).is_some(), "{name}");
        }
        for (name, _) in MODULES {
            assert!(imported.contains(&name), "{name}");
        }
        for unknown in [
            "/console/",
            "/console/script",
            "/console/../dom.js",
            "/console/dom.js/",
        ] {
            assert!(module(unknown).is_none(), "{unknown}");
        }
    }
}
