//! `s3cors health`, `--admin-host` and `run --allow-origin`: a process without a config file.

use std::io::Read;
use std::net::TcpListener;
use std::thread;

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

use crate::support::binary::{Folder, Process, run, s3cors};
use crate::support::client::ask;
use crate::support::upstream::{MockUpstream, refusing};

const OK: &str = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";

#[test]
fn a_serving_process_is_healthy_and_a_draining_one_is_not() {
    let (go, gone) = std::sync::mpsc::channel::<()>();
    let gone = std::sync::Mutex::new(gone);
    let upstream = MockUpstream::scripted(true, move |exchange| {
        let _ = gone.lock().unwrap().recv();
        exchange.send(OK);
        true
    });
    let url = format!("http://{}", upstream.address);
    let folder = Folder::new("health");
    let admin = format!("unix:{}", folder.path("admin").display());
    let arguments = [
        "run",
        "--upstream",
        &url,
        "--allow-origin",
        "https://app.example",
    ];
    let mut proxy = Process::start(&arguments);
    let port = proxy.admin.port();
    for address in [
        format!("127.0.0.1:{port}"),
        format!("localhost:{port}"),
        format!("0.0.0.0:{port}"),
    ] {
        let (code, out, error) = run(&["health", "--admin", &address]);
        assert_eq!((code, &*out, &*error), (0, "serving\n", ""), "{address}");
    }
    let by_variable = s3cors(&["health"])
        .env("S3CORS_ADMIN", format!("127.0.0.1:{port}"))
        .output()
        .unwrap();
    assert_eq!(by_variable.status.code(), Some(0));

    let asking = thread::spawn({
        let address = proxy.address;
        move || ask(address, "GET", "/k", &[]).status
    });
    upstream.wait_for_request();
    proxy.signal("TERM");
    proxy.logged("draining");
    let (code, out, _) = run(&["health", "--admin", &format!("127.0.0.1:{port}")]);
    assert_eq!((code, &*out), (1, "503: draining\n"));
    go.send(()).unwrap();
    assert_eq!(asking.join().unwrap(), 200);
    assert_eq!(proxy.exit_code(), 0);
    let (code, _, error) = run(&["health", "--admin", &admin]);
    assert_eq!(code, 1);
    assert!(error.contains("cannot reach unix:"), "{error}");
}

#[test]
fn an_admin_listener_on_a_unix_socket_is_reached() {
    let folder = Folder::new("health-unix");
    let socket = folder.path("admin");
    let config = folder.write(
        "s3cors.toml",
        "[[listen]]\naddress = \"unix:http\"\n[admin]\naddress = \"unix:admin\"\n\
         [[route]]\nhost = [\"*\"]\nupstream = [\"http://127.0.0.1:1\"]\n",
    );
    let mut child = s3cors(&["run", "--config", &config, "--log", "off"])
        .spawn()
        .unwrap();
    let address = format!("unix:{}", socket.display());
    let start = std::time::Instant::now();
    while run(&["health", "--admin", &address]).0 != 0 {
        assert!(start.elapsed().as_secs() < 20);
        assert!(child.try_wait().unwrap().is_none());
    }
    kill_process(Pid::from_child(&child), Signal::TERM).unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(0));
}

#[test]
fn anything_but_an_admin_listener_is_unhealthy() {
    let closed = refusing();
    let other = MockUpstream::answering("SSH-2.0-x\r\n\r\n");
    let not_ready = MockUpstream::answering(
        "HTTP/1.1 421 Misdirected Request\r\nContent-Length: 0\r\nConnection: close\r\n\r\n",
    );
    for (address, expected) in [
        (closed.to_string(), "cannot reach"),
        (other.address.to_string(), ""),
        (not_ready.address.to_string(), ""),
    ] {
        let (code, out, error) = run(&["health", "--admin", &address]);
        assert_eq!(code, 1, "{address}");
        assert!(error.contains(expected), "{out}{error}");
    }
    // Accepts, and never responds.
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let (code, _, error) = run(&[
        "health",
        "--admin",
        &silent.local_addr().unwrap().to_string(),
    ]);
    assert_eq!(code, 1);
    assert!(error.contains("no answer within 5 seconds"), "{error}");
    for (address, expected) in [
        ("off", "needs an admin listener"),
        ("nonsense", "ADDRESS:PORT"),
    ] {
        let (code, _, error) = run(&["health", "--admin", address]);
        assert_eq!(code, 2, "{address}");
        assert!(error.contains(expected), "{error}");
    }
}

#[test]
fn an_admin_host_is_a_flag_or_a_variable() {
    let upstream = format!("http://{}", refusing());
    let arguments = [
        "run",
        "--upstream",
        &upstream,
        "--allow-origin",
        "https://a.example",
    ];
    let flags = [
        &arguments[..],
        &["--admin-host", "s3cors", "--admin-host", "Metrics.example"],
    ]
    .concat();
    let mut variable = s3cors(&arguments);
    variable.env("S3CORS_ADMIN_HOSTS", "s3cors, metrics.example");
    for command in [s3cors(&flags), variable] {
        let proxy = Process::spawn(command);
        for (host, expected) in [
            ("s3cors:9901", 200),
            ("metrics.example", 200),
            ("x.example", 421),
        ] {
            let status = ask(proxy.admin, "GET", "/metrics", &[("host", host)]).status;
            assert_eq!(status, expected, "{host}");
        }
    }
    for bad in ["http://s3cors", "a b", "*.example"] {
        let arguments = [&arguments[..], &["--admin-host", bad]].concat();
        let (code, _, error) = run(&arguments);
        assert_eq!(code, 2, "{bad}: {error}");
        assert!(error.contains("--admin-host"), "{error}");
    }
}

#[test]
fn an_allowed_origin_is_a_policy_without_a_file() {
    let upstream = MockUpstream::answering(OK);
    let url = format!("http://{}", upstream.address);
    let mut proxy = Process::start(&[
        "run",
        "--upstream",
        &url,
        "--allow-origin",
        "http://localhost:3000",
        "--allow-origin",
        "http://127.0.0.1:3000",
    ]);
    let address = proxy.address;
    let preflight = |origin: &str, method: &str| {
        let fields = [
            ("origin", origin),
            ("access-control-request-method", method),
            (
                "access-control-request-headers",
                "content-type,x-amz-meta-a",
            ),
        ];
        ask(address, "OPTIONS", "/k", &fields).status
    };
    for origin in ["http://localhost:3000", "http://127.0.0.1:3000"] {
        for method in ["GET", "PUT", "POST", "DELETE", "HEAD"] {
            assert_eq!(preflight(origin, method), 200, "{method} {origin}");
        }
    }
    assert_eq!(preflight("http://localhost:3001", "GET"), 403);
    let response = ask(
        proxy.address,
        "GET",
        "/k",
        &[("origin", "http://localhost:3000")],
    );
    assert_eq!(
        response.values("access-control-allow-origin"),
        ["http://localhost:3000"]
    );
    assert!(response.values("access-control-expose-headers")[0].contains("ETag"));
    // Flags only: nothing is read again.
    proxy.signal("HUP");
    proxy.logged("SIGHUP");
    assert_eq!(preflight("http://localhost:3000", "GET"), 200);
    let status: Value = proxy.status();
    assert_eq!(status["routes"].as_array().unwrap().len(), 1);
    proxy.signal("TERM");
    assert_eq!(proxy.exit_code(), 0);
}

#[test]
fn allowed_origins_and_a_policy_file_exclude_each_other_and_bad_origins_are_refused() {
    let both = [
        "run",
        "--upstream",
        "http://127.0.0.1:1",
        "--cors",
        "x.xml",
        "--allow-origin",
        "https://a.example",
    ];
    let config = [
        "run",
        "--config",
        "x.toml",
        "--allow-origin",
        "https://a.example",
    ];
    let alone = ["run", "--allow-origin", "https://a.example"];
    for (arguments, expected) in [
        (&both[..], "--cors"),
        (&config[..], "--config"),
        (&alone[..], "--upstream"),
    ] {
        let (code, _, error) = run(arguments);
        assert_eq!(code, 2, "{arguments:?}");
        assert!(error.contains(expected), "{error}");
    }
    for bad in ["https://*.*.example", "https://*x*"] {
        let (code, _, error) = run(&[
            "run",
            "--upstream",
            "http://127.0.0.1:1",
            "--allow-origin",
            bad,
        ]);
        assert_eq!(code, 2, "{bad}: {error}");
        assert!(error.contains("--allow-origin"), "{error}");
    }
}

#[test]
fn the_container_checks_its_health() {
    let root = env!("CARGO_MANIFEST_DIR");
    let mut text = String::new();
    for file in ["Dockerfile", "compose.yaml"] {
        let path = format!("{root}/deploy/container/{file}");
        text.clear();
        std::fs::File::open(path)
            .unwrap()
            .read_to_string(&mut text)
            .unwrap();
        assert!(text.contains("\"/s3cors\", \"health\""), "{file}");
    }
}
