//! The admin listener, over real sockets.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use s3cors::admin::{Admin, Health, OutOfDate, Phase, ReloadState, Reloads, Settings, State};
use s3cors::cors::{CorsConfiguration, CorsRule, Options, Policy};
use s3cors::explain::{Entrance, EntranceAddress};
use s3cors::metrics::{Metrics, ReloadResult, Worker};
use s3cors::routing::bucket::Addressing;
use s3cors::routing::host::HostMap;
use s3cors::routing::snapshot::{
    Buckets, Current, Forwarding, HostHeader, Policies, PolicySource, Route, RoutePolicy, Snapshot,
};
use s3cors::server::socket::Claim;
use s3cors::server::{Bind, Heartbeats};
use s3cors::telemetry::live::LiveFeed;
use s3cors::tls::digest::ContentHash;
use s3cors::upstream::endpoint::{Address, Upstream, UpstreamSettings};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpStream, UnixStream};
use tokio::task::JoinHandle;

struct TestAdmin {
    address: Bind,
    state: Arc<State>,
    serving: JoinHandle<()>,
}

impl TestAdmin {
    fn start(bind: Bind, routes: Vec<Route>) -> Self {
        let settings = Settings {
            address: Some(bind),
            hosts: vec!["Admin.example".to_owned()],
        };
        let admin = Admin::bind(&settings, Claim::Free).unwrap().unwrap();
        let address = admin.address().unwrap();
        let metrics = Metrics::new(2);
        let state = Arc::new(State {
            current: Arc::new(Current::new(snapshot(routes))),
            live: LiveFeed::new(&metrics),
            metrics,
            health: Health::new(),
            heartbeats: Heartbeats::new(0),
            reloads: Reloads::default(),
            entrances: vec![Entrance {
                address: EntranceAddress::Tcp("0.0.0.0:8443".parse().unwrap()),
                tls: true,
                proxy_protocol: true,
            }],
        });
        let serving = admin.serve(Arc::clone(&state));
        let serving = tokio::task::spawn_local(async move {
            serving.await.unwrap();
        });
        Self {
            address,
            state,
            serving,
        }
    }

    fn on_any_port(routes: Vec<Route>) -> Self {
        Self::start(Bind::Tcp("127.0.0.1:0".parse().unwrap()), routes)
    }

    async fn get(&self, path: &str) -> Response {
        self.send(&format!("GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n"))
            .await
    }

    async fn send(&self, request: &str) -> Response {
        match &self.address {
            Bind::Tcp(address) => {
                exchange(TcpStream::connect(address).await.unwrap(), request).await
            }
            Bind::Unix(path) => exchange(UnixStream::connect(path).await.unwrap(), request).await,
            Bind::Systemd(name) => panic!("nothing was passed as {name}"),
        }
    }
}

impl Drop for TestAdmin {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

struct Response {
    status: u16,
    head: String,
    body: String,
}

impl Response {
    fn field(&self, name: &str) -> Option<&str> {
        let mut lines = self.head.lines();
        lines.find_map(|line| {
            let (field, value) = line.split_once(": ")?;
            field.eq_ignore_ascii_case(name).then_some(value)
        })
    }

    fn json(&self) -> serde_json::Value {
        assert_eq!(self.field("content-type"), Some("application/json"));
        serde_json::from_str(&self.body).unwrap()
    }
}

async fn exchange(mut stream: impl AsyncRead + AsyncWrite + Unpin, request: &str) -> Response {
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut bytes = Vec::new();
    // The listener serves one request per connection.
    stream.read_to_end(&mut bytes).await.unwrap();
    let text = String::from_utf8(bytes).unwrap();
    let (head, body) = text.split_once("\r\n\r\n").unwrap();
    Response {
        status: head.split(' ').nth(1).unwrap().parse().unwrap(),
        head: head.to_owned(),
        body: body.to_owned(),
    }
}

fn local<F: Future<Output = ()>>(test: F) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    tokio::task::LocalSet::new().block_on(&runtime, test);
}

fn snapshot(routes: Vec<Route>) -> Snapshot {
    let mut hosts = HostMap::default();
    let routes: Vec<_> = routes.into_iter().map(Arc::new).collect();
    for (index, route) in routes.iter().enumerate() {
        for host in &route.hosts {
            hosts.insert(host.clone(), index).unwrap();
        }
    }
    Snapshot {
        generation: 7,
        hosts,
        routes,
        trusted_proxies: Default::default(),
    }
}

fn route(name: &str, hosts: &[&str], policies: Policies) -> Route {
    let upstream = UpstreamSettings::plain(Address::Tcp {
        host: "127.0.0.1".to_owned(),
        port: 9000,
    });
    Route {
        name: name.into(),
        hosts: hosts.iter().map(|host| host.parse().unwrap()).collect(),
        policies,
        upstreams: [Arc::new(Upstream::new(upstream).unwrap())].into(),
        listeners: None,
        host_header: HostHeader::default(),
        forwarding: Forwarding::default(),
        explain_header: false,
        cors_api: None,
        metrics: Metrics::new(1).route(name),
    }
}

fn policy(file: &str, last_error: Option<&str>) -> Arc<RoutePolicy> {
    let configuration = CorsConfiguration {
        rules: vec![CorsRule {
            allowed_origins: vec!["https://app.example".to_owned()],
            allowed_methods: vec!["GET".to_owned(), "PUT".to_owned()],
            allowed_headers: vec!["x-amz-*".to_owned()],
            max_age_seconds: Some(600),
            ..CorsRule::default()
        }],
    };
    Arc::new(RoutePolicy {
        policy: Arc::new(Policy::compile(&configuration, Options::default()).unwrap()),
        allowed: Box::default(),
        source: Arc::new(PolicySource {
            file: Some(Path::new(file).into()),
            content_hash: Some(ContentHash([0xab; 32])),
            loaded_at: Some(UNIX_EPOCH + Duration::from_secs(971_186_136)),
            last_error: last_error.map(str::to_owned),
            from_state: false,
        }),
    })
}

fn not_enabled() -> Arc<RoutePolicy> {
    let (options, source) = (Options::default(), PolicySource::default());
    Arc::new(RoutePolicy::not_enabled(options, source))
}

fn photos() -> Route {
    let policies = Policies {
        route: Some(policy("cors/photos.xml", None)),
        buckets: Some(Buckets {
            addressing: Addressing::Path,
            directory: None,
            policies: [(
                "raw".into(),
                policy("cors/buckets/raw.xml", Some("line 3: no rule")),
            )]
            .into_iter()
            .collect(),
            ambiguous: not_enabled(),
        }),
        not_enabled: None,
    };
    route("photos", &["photos.example", "*.photos.example"], policies)
}

#[test]
fn readiness_follows_the_phase_and_liveness_does_not() {
    local(async {
        let admin = TestAdmin::on_any_port(vec![]);
        let phases = [
            (Phase::Starting, 503),
            (Phase::Serving, 200),
            (Phase::Draining, 503),
        ];
        for (phase, expected) in phases {
            admin.state.enter(phase);
            let ready = admin.get("/readyz").await;
            assert_eq!(
                (ready.status, ready.body.trim_end()),
                (expected, phase.as_str())
            );
            assert_eq!(admin.get("/livez").await.status, 200);
            let metrics = admin.get("/metrics").await.body;
            let shown = format!("\ns3cors_ready {}\n", u8::from(expected == 200));
            assert!(metrics.contains(&shown), "{metrics}");
        }
    });
}

#[test]
fn every_response_restricts_what_browsers_may_do_with_it() {
    local(async {
        let admin = TestAdmin::on_any_port(vec![photos()]);
        for path in [
            "/", "/livez", "/readyz", "/metrics", "/status", "/cors", "/none",
        ] {
            let origin = "Origin: https://app.example";
            let answer = admin
                .send(&format!(
                    "GET {path} HTTP/1.1\r\nHost: localhost\r\n{origin}\r\n\r\n"
                ))
                .await;
            assert_eq!(
                answer.field("x-content-type-options"),
                Some("nosniff"),
                "{path}"
            );
            assert_eq!(answer.field("cache-control"), Some("no-store"), "{path}");
            assert_eq!(
                answer.field("referrer-policy"),
                Some("no-referrer"),
                "{path}"
            );
            assert_eq!(answer.field("x-frame-options"), Some("DENY"), "{path}");
            let policy = answer.field("content-security-policy").unwrap();
            assert!(policy.starts_with("default-src 'none'"), "{path}");
            assert!(policy.contains("frame-ancestors 'none'"), "{path}");
            assert!(
                !answer.head.to_lowercase().contains("access-control-"),
                "{path}"
            );
        }
    });
}

#[test]
fn a_request_for_another_host_is_refused() {
    local(async {
        let admin = TestAdmin::on_any_port(vec![photos()]);
        let cases = [
            ("localhost", 200),
            ("127.0.0.1:9901", 200),
            ("[::1]", 200),
            ("admin.EXAMPLE:80", 200),
            ("evil.example", 421),
            ("photos.example", 421),
            ("192.0.2.1", 200),
            ("192.0.2.1.evil.example", 421),
            ("a b", 400),
        ];
        for (host, status) in cases {
            let answer = admin
                .send(&format!("GET /status HTTP/1.1\r\nHost: {host}\r\n\r\n"))
                .await;
            assert_eq!(answer.status, status, "{host}");
            assert_eq!(answer.body.contains("photos"), status == 200, "{host}");
        }
        let none = admin.send("GET /status HTTP/1.1\r\n\r\n").await;
        assert_eq!(none.status, 400);
    });
}

/// Checks of HAProxy and older load balancers.
#[test]
fn a_probe_of_http_1_0_needs_no_host() {
    local(async {
        let admin = TestAdmin::on_any_port(vec![photos()]);
        admin.state.enter(Phase::Serving);
        for method in ["GET", "HEAD"] {
            for path in ["/livez", "/readyz", "/metrics", "/status"] {
                let answer = admin
                    .send(&format!("{method} {path} HTTP/1.0\r\n\r\n"))
                    .await;
                assert_eq!(answer.status, 200, "{method} {path}");
            }
        }
        let rebound = "GET /status HTTP/1.0\r\nHost: evil.example\r\n\r\n";
        assert_eq!(admin.send(rebound).await.status, 421);
    });
}

/// A probe is answered at once however many silent connections there are: it replaces one.
#[test]
fn silent_connections_do_not_keep_a_probe_out() {
    local(async {
        let admin = TestAdmin::on_any_port(vec![]);
        let Bind::Tcp(address) = admin.address else {
            panic!("a port");
        };
        let connect = || {
            let stream = std::net::TcpStream::connect(address).unwrap();
            stream.set_nonblocking(true).unwrap();
            stream
        };
        let silent: Vec<_> = (0..300).map(|_| connect()).collect();
        for _ in 0..10 {
            assert_eq!(admin.get("/livez").await.status, 200);
        }
        // It did not wait until they timed out: the newest are still open.
        let is_open = |stream: &&std::net::TcpStream| {
            let peeked = stream.peek(&mut [0]);
            peeked.is_err_and(|error| error.kind() == std::io::ErrorKind::WouldBlock)
        };
        let open = silent.iter().filter(is_open).count();
        assert!((50..=100).contains(&open), "{open}");
    });
}

#[test]
fn it_is_read_only() {
    local(async {
        let admin = TestAdmin::on_any_port(vec![]);
        for method in ["POST", "PUT", "DELETE", "OPTIONS", "PATCH", "TRACE", "BREW"] {
            let answer = admin
                .send(&format!(
                    "{method} /status HTTP/1.1\r\nHost: localhost\r\n\r\n"
                ))
                .await;
            assert_eq!(
                (answer.status, answer.field("allow")),
                (405, Some("GET, HEAD")),
                "{method}"
            );
        }
        assert_eq!(admin.get("/nothing").await.status, 404);
        let head = admin
            .send("HEAD /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n")
            .await;
        assert_eq!((head.status, head.body.as_str()), (200, ""));
        assert!(
            head.field("content-length")
                .unwrap()
                .parse::<usize>()
                .unwrap()
                > 100
        );
    });
}

#[test]
fn metrics_are_prometheus_text() {
    local(async {
        let admin = TestAdmin::on_any_port(vec![]);
        let photos = admin.state.metrics.route("photos");
        photos.request(
            Worker(1),
            &http::Method::GET,
            http::StatusCode::OK,
            Duration::ZERO,
        );
        let answer = admin.get("/metrics").await;
        assert_eq!(
            answer.field("content-type"),
            Some("text/plain; version=0.0.4")
        );
        let line = r#"s3cors_requests_total{route="photos",method="GET",status="200"} 1"#;
        assert!(
            answer.body.lines().any(|there| there == line),
            "{}",
            answer.body
        );
    });
}

#[test]
fn the_status_names_what_is_in_force_and_what_is_not() {
    local(async {
        let transparent = route("static", &["static.example"], Policies::default());
        let admin = TestAdmin::on_any_port(vec![photos(), transparent]);
        admin.state.health.set(Phase::Serving);

        let status = admin.get("/status").await.json();
        assert_eq!(status["version"], env!("CARGO_PKG_VERSION"));
        assert_eq!(status["phase"], "serving");
        assert_eq!(status["generation"], 7);
        assert!(status["last_reload"].is_null());
        assert_eq!(status["route_count"], 2);
        let photos = &status["routes"][0];
        assert_eq!(photos["name"], "photos");
        assert_eq!(photos["hosts"][1], "*.photos.example");
        assert_eq!(photos["upstreams"][0], "127.0.0.1:9000");
        let healthy = serde_json::json!([{
            "upstream": "http://127.0.0.1:9000",
            "healthy": true,
            "consecutive_failures": 0,
            "ejected_until": null,
            "failing_checks": false,
            "failed_check": null,
        }]);
        assert_eq!(photos["upstream_health"], healthy);
        assert_eq!(photos["policy"]["file"], "cors/photos.xml");
        assert_eq!(photos["policy"]["content_hash"], "ab".repeat(32));
        assert_eq!(photos["policy"]["loaded_at"], "2000-10-10T13:55:36.000Z");
        assert!(photos["policy"]["last_error"].is_null());
        assert_eq!(photos["buckets"]["count"], 1);
        let raw = &photos["buckets"]["policies"]["raw"];
        assert_eq!(raw["last_error"], "line 3: no rule");
        assert_eq!(status["problems"][0]["bucket"], "raw");
        assert_eq!(status["problems"][0]["error"], "line 3: no rule");
        assert_eq!(status["routes"][1]["transparent"], true);

        let one = admin.get("/status?route=static").await.json();
        assert_eq!(one["routes"][0]["name"], "static");
        assert!(one["routes"][1].is_null());

        let reloads = &admin.state.reloads;
        for (result, error) in [
            (ReloadResult::Rejected, Some("s3cors.toml:3: no")),
            (ReloadResult::Partial, Some("cors/raw.xml: no")),
            (ReloadResult::Applied, None),
        ] {
            reloads.ended(result, error.map(str::to_owned));
            let status = admin.get("/status").await.json();
            let last = &status["last_reload"];
            assert_eq!(last["applied"], result == ReloadResult::Applied);
            assert_eq!(last["result"], result.as_str());
            assert_eq!(last["error"].as_str(), error);
        }
        let status = admin.get("/status").await.json();
        assert_eq!(status["restart_needed_for"], serde_json::json!([]));
        assert_eq!(status["out_of_date"], serde_json::json!([]));
        reloads.set(ReloadState {
            out_of_date: vec![OutOfDate {
                file: "cors/raw.xml".into(),
                error: "no rule".to_owned(),
                since: SystemTime::now() - Duration::from_secs(100),
            }],
            restart_needed_for: vec!["workers", "listen"],
            hash: "c0ffee".to_owned(),
        });
        let status = admin.get("/status").await.json();
        assert_eq!(status["out_of_date_count"], 1);
        let file = &status["out_of_date"][0];
        assert_eq!(
            (&file["file"], &file["error"]),
            (&"cors/raw.xml".into(), &"no rule".into())
        );
        assert!(
            (100..200).contains(&file["seconds"].as_u64().unwrap()),
            "{file}"
        );
        assert_eq!(status["config_hash"], "c0ffee");
        let status = admin.get("/status").await.json();
        assert_eq!(status["restart_needed_for"][1], "listen");
    });
}

#[test]
fn a_status_of_very_many_buckets_is_cut_and_has_their_number() {
    local(async {
        let one = policy("cors/all.xml", None);
        let buckets = (0..1500).map(|number| (format!("b{number:04}").into(), Arc::clone(&one)));
        let policies = Policies {
            buckets: Some(Buckets {
                addressing: Addressing::Both,
                directory: None,
                policies: buckets.collect(),
                ambiguous: not_enabled(),
            }),
            ..Policies::default()
        };
        let admin = TestAdmin::on_any_port(vec![route("many", &["*"], policies)]);
        let status = admin.get("/status").await.json();
        let buckets = &status["routes"][0]["buckets"];
        assert_eq!(buckets["count"], 1500);
        assert_eq!(buckets["policies"].as_object().unwrap().len(), 1000);
        assert!(buckets["policies"]["b0999"].is_object());
    });
}

#[test]
fn a_unix_socket_serves_any_host_and_leaves_no_file_behind() {
    let path = std::env::temp_dir().join(format!("s3cors-admin-{}", std::process::id()));
    local(async {
        let admin = TestAdmin::start(Bind::Unix(path.clone()), vec![]);
        let answer = admin.send("GET /livez HTTP/1.1\r\nHost: x\r\n\r\n").await;
        assert_eq!(answer.status, 200);
    });
    assert!(!path.exists());
}

#[test]
fn an_oversized_head_is_refused() {
    local(async {
        let admin = TestAdmin::on_any_port(vec![]);
        let long = "a".repeat(20_000);
        let answer = admin
            .send(&format!(
                "GET /livez HTTP/1.1\r\nHost: localhost\r\nX-Long: {long}\r\n\r\n"
            ))
            .await;
        assert_eq!(answer.status, 431);
    });
}

#[test]
fn an_address_in_use_is_named() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap();
    let settings = Settings {
        address: Some(Bind::Tcp(address)),
        hosts: vec![],
    };
    let error = Admin::bind(&settings, Claim::Free).unwrap_err();
    assert!(error.to_string().contains(&address.to_string()), "{error}");
    assert!(
        Admin::bind(&Settings::default(), Claim::Free)
            .unwrap()
            .is_none()
    );
}

#[test]
fn a_program_gets_the_explanation_as_json() {
    local(async {
        let admin = TestAdmin::on_any_port(vec![photos()]);
        let refused = admin
            .get("/cors?url=http%3A%2F%2Fphotos.example%2Fa&origin=https://app.example&method=DELETE&header=x-amz-date")
            .await;
        assert_eq!(refused.status, 200);
        let answer = refused.json();
        assert_eq!(answer["verdict"], "refused");
        assert_eq!(answer["route"]["name"], "photos");
        assert_eq!(answer["preflight"]["reason"], "method");
        let curl = answer["preflight"]["curl"].as_str().unwrap();
        let options = "--connect-to '::127.0.0.1:8443' --haproxy-protocol";
        assert!(curl.contains(options), "{curl}");
        assert!(curl.ends_with("'https://photos.example/a'"), "{curl}");
        let url = "/cors?url=http://photos.example/a&origin=https://app.example&method=PUT";
        assert_eq!(admin.get(url).await.json()["verdict"], "allowed");
        for bad in [
            "/cors",
            "/cors?url=a&origin=null",
            "/cors?uri=http://a/",
            "/cors?url=http://a/",
        ] {
            let answer = admin.get(bad).await;
            assert_eq!(answer.status, 400, "{bad}");
            assert!(answer.json()["error"].is_string(), "{bad}");
        }
    });
}

/// Clients other than browsers send such preflights, and the page shows them as they came.
#[test]
fn a_preflight_that_no_browser_sends_is_explained_as_it_is_decided() {
    local(async {
        let admin = TestAdmin::on_any_port(vec![photos()]);
        let of = "url=http://photos.example/a&origin=https://app.example";
        let cases = [
            ("method=P%20UT", "malformed", 400),
            ("method=%3Cb%3E", "malformed", 400),
            ("method=PUT&header=x-%3Cb%3E", "malformed", 400),
            ("method=PUT&header=a%20b", "malformed", 400),
        ];
        for (request, reason, status) in cases {
            let answer = admin.get(&format!("/cors?{of}&{request}")).await;
            assert_eq!(answer.status, 200, "{request}");
            let answer = answer.json();
            assert_eq!(answer["verdict"], "refused", "{request}");
            assert_eq!(answer["preflight"]["reason"], reason, "{request}");
            assert_eq!(answer["preflight"]["status"], status, "{request}");
            assert!(answer["actual"].is_null() && answer["preflight"]["curl"].is_null());
        }
        let elsewhere =
            "/cors?url=http://unknown.example/&origin=https://app.example&method=P%20UT";
        assert_eq!(admin.get(elsewhere).await.json()["verdict"], "unknown_host");
        // No client can send it, or only what the script wants to read is wrong.
        for bad in ["method=P%00UT", "method=PUT&read=a%20b"] {
            let answer = admin.get(&format!("/cors?{of}&{bad}")).await;
            assert_eq!(answer.status, 400, "{bad}");
        }
    });
}

#[test]
fn a_browser_gets_the_console_without_any_part_of_the_request() {
    local(async {
        let admin = TestAdmin::on_any_port(vec![photos()]);
        let as_browser = |path: &str| {
            let accept = "Accept: text/html,application/xhtml+xml,*/*;q=0.8";
            format!("GET {path} HTTP/1.1\r\nHost: localhost\r\n{accept}\r\n\r\n")
        };
        let hostile = "/cors?url=http://a/&origin=%3Cscript%3Ealert(1)%3C/script%3E&method=GET";
        let page = admin.send(&as_browser(hostile)).await;
        assert_eq!(page.status, 200);
        assert_eq!(page.field("content-type"), Some("text/html; charset=utf-8"));
        assert!(page.body.starts_with("<!doctype html>") && !page.body.contains("alert(1)"));
        for (path, media_type) in [
            ("/console.js", "text/javascript; charset=utf-8"),
            ("/console.css", "text/css; charset=utf-8"),
            ("/console/dom.js", "text/javascript; charset=utf-8"),
        ] {
            assert!(page.body.contains(path) || path.starts_with("/console/"));
            let part = admin.get(path).await;
            assert_eq!(
                (part.status, part.field("content-type")),
                (200, Some(media_type))
            );
        }
        assert_eq!(admin.get("/console/none.js").await.status, 404);
        let root = admin.send(&as_browser("/")).await;
        assert_eq!((root.status, root.field("location")), (303, Some("/cors")));
        assert_eq!(admin.get("/").await.status, 200);
    });
}

#[test]
fn the_status_lists_the_most_refused_origins() {
    local(async {
        let admin = TestAdmin::on_any_port(vec![photos()]);
        let route = &admin.state.current.get().routes[0];
        for origin in [
            "https://a.example",
            "https://b.example",
            "https://b.example",
        ] {
            route.metrics.denied_origin(origin.as_bytes());
        }
        let status = admin.get("/status").await.json();
        let denied = &status["routes"][0]["denied_origins"];
        assert_eq!(denied[0]["origin"], "https://b.example");
        assert_eq!(denied[0]["count"], 2);
        assert_eq!(denied[2]["origin"], "other");
    });
}
