//! The lookups before a decision: a host's route and a bucket's policy; and whole preflight
//! responses, from bytes to bytes. See `counted/mod.rs` for how it is run.

mod counted;

use std::hint::black_box;
use std::net::Ipv4Addr;
use std::sync::Arc;

use s3cors::config;
use s3cors::config::{Input, Overrides, Source};
use s3cors::http1::request_head::HeadLimits;
use s3cors::metrics::{Metrics, Worker};
use s3cors::proxy::Action;
use s3cors::proxy::Proxy;
use s3cors::routing::bucket::Addressing;
use s3cors::routing::client::Client;
use s3cors::routing::host::{Host, HostMap};
use s3cors::routing::snapshot::{Buckets, Current, Snapshot};

use counted::{Prepare, Work};

const POLICY: &str = "<CORSConfiguration><CORSRule>
  <AllowedOrigin>https://*.app.example</AllowedOrigin>
  <AllowedMethod>GET</AllowedMethod><AllowedMethod>PUT</AllowedMethod>
  <AllowedHeader>content-type</AllowedHeader><AllowedHeader>x-amz-*</AllowedHeader>
  <ExposeHeader>ETag</ExposeHeader><MaxAgeSeconds>3000</MaxAgeSeconds>
</CORSRule></CORSConfiguration>";

const MANY: usize = 100_000;

/// Finds the route of the host `asked` among `hosts`.
fn find_host(hosts: usize, asked: &'static str) -> Work {
    let mut map = HostMap::default();
    for host in 0..hosts {
        let below = format!("*.s{host}.example").parse().expect("a pattern");
        let exact = format!("h{host}.example").parse().expect("a pattern");
        map.insert(below, host).expect("it is new");
        map.insert(exact, host).expect("it is new");
    }
    Box::new(move |count| {
        for _ in 0..count {
            let host = Host::parse(black_box(asked).as_bytes()).expect("a host");
            assert!(map.get(&host).is_some());
        }
    })
}

/// A snapshot with one route, like that of `s3cors run --upstream --cors`.
fn snapshot(metrics: &Metrics) -> Snapshot {
    let input = Input {
        source: Source::Inline {
            upstreams: vec!["http://127.0.0.1:9000".to_owned()],
            cors: POLICY.to_owned(),
            name: "the bench's policy",
        },
        overrides: Overrides::default(),
    };
    let loaded = config::load(&input);
    loaded
        .snapshot(metrics, None, 1, false)
        .expect("a good config")
}

/// The same policy for `hosts`, and for `buckets` that are named in the path.
fn widened(mut snapshot: Snapshot, hosts: usize, buckets: usize) -> Snapshot {
    snapshot.hosts = HostMap::default();
    let mut route = snapshot.routes.pop().expect("a route");
    let changed = Arc::get_mut(&mut route).expect("no host holds it");
    let policy = changed.policies.route.clone().expect("a policy");
    let names = (0..buckets).map(|bucket| format!("b{bucket}").into_boxed_str());
    let policies = names.map(|name| (name, Arc::clone(&policy))).collect();
    let addressing = Addressing::Path;
    changed.policies.buckets = (buckets > 0).then_some(Buckets {
        directory: None,
        addressing,
        policies,
        ambiguous: Arc::clone(&policy),
    });
    for host in 0..hosts {
        let pattern = format!("h{host}.example").parse().expect("a pattern");
        snapshot.hosts.insert(pattern, 0).expect("it is new");
    }
    snapshot.routes.push(route);
    snapshot
}

/// Answers a preflight from its bytes.
fn answer(origin: &str, hosts: usize, buckets: usize) -> Work {
    let metrics = Metrics::new(1);
    let snapshot = widened(snapshot(&metrics), hosts, buckets);
    let limits = HeadLimits {
        uri_bytes: 32768,
        head_bytes: 65536,
        header_count: 100,
    };
    let current = Arc::new(Current::new(snapshot));
    let proxy = Proxy::new(Worker(0), limits, current, &metrics, None, None);
    let request = format!(
        "OPTIONS /b{}/cat.jpg HTTP/1.1\r\nHost: h{}.example\r\nUser-Agent: Mozilla/5.0\r\nAccept: */*\r\n\
         Accept-Encoding: gzip, deflate, br\r\nOrigin: {origin}\r\nAccess-Control-Request-Method: PUT\r\n\
         Access-Control-Request-Headers: content-type,x-amz-date\r\nSec-Fetch-Mode: cors\r\n\r\n",
        buckets.saturating_sub(1),
        hosts - 1,
    );
    let client = Client {
        address: Some(Ipv4Addr::LOCALHOST.into()),
        tls: false,
        trusted: false,
        listener: Default::default(),
    };
    let mut out = Vec::new();
    Box::new(move |count| {
        for _ in 0..count {
            out.clear();
            let action = proxy.handle_head(black_box(request.as_bytes()), client, false, &mut out);
            assert!(matches!(action, Action::Answered { close: false, .. }));
        }
    })
}

fn main() {
    const OURS: &str = "https://beta.app.example";
    let scenarios: Vec<(&str, Prepare)> = vec![
        ("host-of-1", Box::new(|| find_host(1, "h0.example"))),
        ("host-of-1000", Box::new(|| find_host(1000, "h999.example"))),
        (
            "host-of-100000",
            Box::new(|| find_host(MANY, "h99999.example")),
        ),
        (
            "host-below-of-100000",
            Box::new(|| find_host(MANY, "photos.s99999.example")),
        ),
        ("edge-allowed", Box::new(|| answer(OURS, 1, 0))),
        (
            "edge-refused",
            Box::new(|| answer("https://elsewhere.example", 1, 0)),
        ),
        ("edge-100000-hosts", Box::new(|| answer(OURS, MANY, 0))),
        ("edge-100000-buckets", Box::new(|| answer(OURS, 1, MANY))),
    ];
    counted::main(scenarios);
}
