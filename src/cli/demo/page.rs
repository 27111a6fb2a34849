//! The demo's web page: an origin of its own, whose script asks the store directly and through the
//! proxy.

use std::net::SocketAddr;

use bytes::Bytes;
use http::header::{ALLOW, HOST};
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode};
use http_body_util::Full;
use hyper::body::Incoming;
use serde_json::{Value, json};

use crate::admin::answer::{HTML, JSON, SCRIPT, STYLE, TEXT, protect};
use crate::admin::host;
use crate::cors::fetch::{Answers, Credentials, Engine, Exchange, Mode, ScriptRequest, judge};
use crate::routing::host::Host;

use super::site::Site;

/// The page, and the addresses that it names.
#[derive(Debug)]
pub(super) struct Page {
    /// Its own address.
    pub(super) page: SocketAddr,
    /// Where clients connect to the proxy; `None`: on a Unix socket, which no browser reaches.
    pub(super) proxy: Option<SocketAddr>,
    /// The store.
    pub(super) store: SocketAddr,
    /// The admin listener, if it listens on TCP.
    pub(super) admin: Option<SocketAddr>,
    /// The object that the page reads.
    pub(super) object: &'static str,
    /// The policy in force.
    pub(super) policy: String,
    /// What to type instead: a title and a line each.
    pub(super) lines: Vec<(&'static str, String)>,
}

/// The origins under which a browser opens the page, as a policy lists them.
pub(super) fn origins(page: SocketAddr) -> Vec<String> {
    let port = page.port();
    if page.ip().is_unspecified() {
        // Published by a container, under whatever name the host has.
        return vec![format!("http://*:{port}")];
    }
    let mut origins = vec![format!("http://{page}")];
    if page.ip().is_loopback() {
        origins.push(format!("http://localhost:{port}"));
    }
    origins
}

/// `address` as a URL, with `host` in place of "every address of this machine".
pub(super) fn url(address: SocketAddr, host: &str) -> String {
    if address.ip().is_unspecified() {
        format!("http://{host}:{}", address.port())
    } else {
        format!("http://{address}")
    }
}

impl Site for Page {
    async fn answer(&self, request: Request<Incoming>) -> Response<Full<Bytes>> {
        self.respond(&request)
    }
}

impl Page {
    fn respond<B>(&self, request: &Request<B>) -> Response<Full<Bytes>> {
        // As for the admin listener: a name that resolves to this machine could be any site's.
        if let Err(status) = host::check(request, host::Local::Tcp, &[]) {
            let text = "this is the demo of s3cors: open it by its IP address or as localhost\n";
            return answer(status, TEXT, text, &self.policy_for("127.0.0.1"));
        }
        let authority = match request.uri().authority() {
            Some(authority) => authority.as_str().as_bytes(),
            None => request
                .headers()
                .get(HOST)
                .map_or(&b""[..], HeaderValue::as_bytes),
        };
        let own = self.page.to_string();
        let authority = std::str::from_utf8(authority).unwrap_or_default();
        let authority = if authority.is_empty() {
            &own
        } else {
            authority
        };
        let name = Host::parse(authority.as_bytes());
        let name = name.as_ref().map_or("127.0.0.1", Host::as_str);
        let (media_type, body): (_, Bytes) = match request.uri().path() {
            "/" => (HTML, include_str!("page/page.html").into()),
            "/demo.js" => (SCRIPT, include_str!("page/script.js").into()),
            "/demo.css" => (STYLE, include_str!("page/style.css").into()),
            // Colours, type and helpers are the console's.
            "/console.css" => (STYLE, include_str!("../../admin/console/style.css").into()),
            "/console/dom.js" => (SCRIPT, include_str!("../../admin/console/dom.js").into()),
            "/demo.json" => (JSON, format!("{:#}\n", self.facts(authority, name)).into()),
            _ => {
                return answer(
                    StatusCode::NOT_FOUND,
                    TEXT,
                    "s3cors demo: /\n",
                    &self.policy_for(name),
                );
            }
        };
        if matches!(*request.method(), Method::GET | Method::HEAD) {
            return answer(StatusCode::OK, media_type, body, &self.policy_for(name));
        }
        let mut refused = answer(
            StatusCode::METHOD_NOT_ALLOWED,
            TEXT,
            "GET or HEAD\n",
            &self.policy_for(name),
        );
        let allowed = HeaderValue::from_static("GET, HEAD");
        refused.headers_mut().insert(ALLOW, allowed);
        refused
    }

    /// What the page may do: load its own files, and ask the proxy and the store.
    fn policy_for(&self, host: &str) -> String {
        let servers = match host {
            "127.0.0.1" | "localhost" => {
                let servers = [self.proxy, Some(self.store)].into_iter().flatten();
                servers
                    .map(|address| url(address, host))
                    .collect::<Vec<_>>()
                    .join(" ")
            }
            // A host source cannot be any other IP address (CSP 3, "host-part matches").
            _ => "http:".to_owned(),
        };
        format!(
            "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self' {servers}; img-src data:; \
             form-action 'none'; base-uri 'none'; frame-ancestors 'none'"
        )
    }

    /// What the script needs: addresses, and what browsers print where there is no CORS.
    fn facts(&self, authority: &str, host: &str) -> Value {
        let page = format!("http://{}", authority.to_ascii_lowercase());
        let store = url(self.store, host);
        let messages = blocked(&page, &format!("{store}{}", self.object));
        let messages = messages.into_iter().map(|(engine, text)| {
            let name = match engine {
                Engine::Chromium => "Chrome, Edge",
                Engine::Firefox => "Firefox",
                Engine::Webkit => "Safari",
            };
            json!({"engine": engine.as_str(), "name": name, "text": text})
        });
        let lines = self.lines.iter();
        let lines = lines.map(|(title, line)| json!({"title": title, "line": line}));
        json!({
            "page": page,
            "proxy": self.proxy.map(|address| url(address, host)),
            "store": store,
            "console": self.admin.map(|address| format!("{}/cors", url(address, host))),
            "object": self.object,
            "messages": messages.collect::<Vec<_>>(),
            "policy": self.policy,
            "curl": lines.collect::<Vec<_>>(),
        })
    }
}

/// What each engine prints when a script of `page` reads `url` from a server without CORS.
fn blocked(page: &str, url: &str) -> Vec<(Engine, String)> {
    let answer = crate::cors::fetch::Response {
        status: StatusCode::OK,
        headers: HeaderMap::new(),
    };
    let exchange = Exchange {
        request: ScriptRequest {
            origin: page.to_owned(),
            url: url.to_owned(),
            method: "GET".to_owned(),
            headers: Vec::new(),
            credentials: Credentials::default(),
            mode: Mode::Cors,
        },
        answers: Answers {
            preflight: None,
            response: Some(answer),
        },
        redirected: Vec::new(),
    };
    judge(&exchange).messages
}

fn answer(
    status: StatusCode,
    media_type: &'static str,
    body: impl Into<Bytes>,
    policy: &str,
) -> Response<Full<Bytes>> {
    let mut answer = Response::new(Full::new(body.into()));
    *answer.status_mut() = status;
    // Made of checked addresses and host names: always a value.
    let policy = HeaderValue::from_str(policy);
    protect(
        &mut answer,
        media_type,
        policy.unwrap_or_else(|_| HeaderValue::from_static("default-src 'none'")),
    );
    answer
}

#[cfg(test)]
mod tests {
    use super::*;

    fn page(ip: &str) -> Page {
        let at = |port: u16| SocketAddr::new(ip.parse().unwrap(), port);
        Page {
            page: at(8000),
            proxy: Some(at(8080)),
            store: at(9000),
            admin: None,
            object: "/photos/hello.txt",
            policy: String::new(),
            lines: Vec::new(),
        }
    }

    fn ask(page: &Page, method: Method, host: &str, path: &str) -> Response<Full<Bytes>> {
        let request = Request::builder().method(method).uri(path);
        page.respond(&request.header(HOST, host).body(()).unwrap())
    }

    fn policy_of(page: &Page, host: &str) -> String {
        let answer = ask(page, Method::GET, host, "/");
        let policy = &answer.headers()["content-security-policy"];
        policy.to_str().unwrap().to_owned()
    }

    #[test]
    fn a_page_may_ask_the_proxy_and_the_store_and_nothing_else() {
        let loopback = policy_of(&page("127.0.0.1"), "localhost:8000");
        assert!(
            loopback.contains("connect-src 'self' http://127.0.0.1:8080 http://127.0.0.1:9000;"),
            "{loopback}"
        );
        let any = policy_of(&page("0.0.0.0"), "localhost:8000");
        assert!(
            any.contains("'self' http://localhost:8080 http://localhost:9000;"),
            "{any}"
        );
        // What a host source cannot say.
        for host in ["192.0.2.7:8000", "[::1]:8000"] {
            let policy = policy_of(&page("0.0.0.0"), host);
            assert!(policy.contains("connect-src 'self' http:;"), "{policy}");
        }
        for never in ["unsafe", "*", "data: "] {
            assert!(!any.contains(never), "{any}");
        }
    }

    #[test]
    fn only_names_of_this_machine_and_methods_that_read_are_answered() {
        let page = page("127.0.0.1");
        for (method, host, path, status) in [
            (Method::GET, "127.0.0.1:8000", "/", 200),
            (Method::HEAD, "localhost", "/demo.js", 200),
            (Method::GET, "LOCALHOST:8000", "/demo.json", 200),
            (Method::GET, "192.0.2.7", "/demo.css", 200),
            (Method::GET, "evil.example", "/demo.json", 421),
            (Method::GET, "127.0.0.1.evil.example", "/", 421),
            (Method::GET, "user@127.0.0.1", "/", 400),
            (Method::GET, "127.0.0.1", "/other", 404),
            (Method::POST, "127.0.0.1", "/", 405),
            (Method::OPTIONS, "127.0.0.1", "/demo.json", 405),
        ] {
            let answer = ask(&page, method.clone(), host, path);
            assert_eq!(answer.status(), status, "{method} {host}{path}");
            assert!(answer.headers().contains_key("content-security-policy"));
            assert!(!answer.headers().contains_key("access-control-allow-origin"));
        }
    }

    #[test]
    fn the_facts_name_each_server_as_this_visitor_reaches_it() {
        let facts = page("0.0.0.0").facts("192.0.2.7:8000", "192.0.2.7");
        assert_eq!(facts["page"], "http://192.0.2.7:8000");
        assert_eq!(facts["proxy"], "http://192.0.2.7:8080");
        assert_eq!(facts["store"], "http://192.0.2.7:9000");
        assert!(facts["console"].is_null());
        let unix = Page {
            proxy: None,
            ..page("127.0.0.1")
        };
        assert!(unix.facts("localhost:8000", "localhost")["proxy"].is_null());
        assert!(
            unix.policy_for("localhost")
                .contains("connect-src 'self' http://127.0.0.1:9000;")
        );
        let messages = facts["messages"].as_array().unwrap();
        assert_eq!(messages.len(), 3);
        for message in messages {
            assert!(
                message["text"].as_str().unwrap().contains("192.0.2.7"),
                "{message}"
            );
        }
    }

    #[test]
    fn the_page_loads_only_its_own_files_and_makes_no_html_of_text() {
        let html = include_str!("page/page.html");
        let loaded: Vec<&str> = ["src=\"", "href=\""]
            .into_iter()
            .flat_map(|attribute| html.split(attribute).skip(1))
            .map(|rest| rest.split_once('"').unwrap().0)
            .filter(|target| !target.starts_with('#'))
            .collect();
        assert_eq!(loaded, ["/demo.js", "data:,", "/console.css", "/demo.css"]);
        assert!(!html.contains("style=\""));
        let script = include_str!("page/script.js");
        for never in [
            "innerHTML",
            "outerHTML",
            "insertAdjacentHTML",
            "document.write",
            "eval(",
            "\"style\"",
        ] {
            assert!(!script.contains(never), "{never}");
        }
    }
}
