//! The limit on open files: raised as far as possible, and its exhaustion affects only new
//! connections.

use std::fs;
use std::net::TcpStream;
use std::process::{Command, Stdio};
use std::sync::{Mutex, mpsc};
use std::thread;

use rustix::process::{Pid, Resource, Rlimit, prlimit};

use crate::support::binary::{Folder, Process};
use crate::support::client::{RawClient, ask};
use crate::support::upstream::MockUpstream;

const GET: &str = "GET / HTTP/1.1\r\nHost: a\r\n\r\n";

/// Starts a proxy with one worker after this `ulimit`.
fn start(ulimit: &str, host: &str, upstream: &MockUpstream, folder: &Folder) -> Process {
    let config = format!(
        "workers = 1\n[limits]\nconnections = 20000\n[[route]]\nhost = '*'\nupstream = 'http://{host}:{}'\n",
        upstream.address.port()
    );
    let config = folder.write("s3cors.toml", &config);
    let mut command = Command::new("sh");
    let limited = format!("ulimit {ulimit} && exec \"$0\" \"$@\"");
    command
        .args(["-c", &limited, env!("CARGO_BIN_EXE_s3cors")])
        .args(["run", "--config", &config])
        .stdin(Stdio::null());
    Process::spawn(command)
}

#[test]
fn as_many_files_may_be_open_as_the_system_allows() {
    let folder = Folder::new("soft-limit");
    let upstream = MockUpstream::answering("HTTP/1.1 204 No Content\r\n\r\n");
    let process = start("-Sn 64", "127.0.0.1", &upstream, &folder);
    let limits = fs::read_to_string(format!("/proc/{}/limits", process.child.id())).unwrap();
    let open_files = limits.lines().find(|line| line.starts_with("Max open"));
    let words: Vec<&str> = open_files.unwrap().split_whitespace().collect();
    assert_eq!(words[3], words[4], "{limits}");
}

#[test]
fn a_missing_descriptor_is_not_the_upstreams_failure() {
    // A name lookup needs descriptors, too.
    for host in ["127.0.0.1", "localhost"] {
        check_without_descriptors(host);
    }
}

fn check_without_descriptors(host: &str) {
    let folder = Folder::new(&format!("hard-limit-{host}"));
    let upstream = MockUpstream::answering("HTTP/1.1 204 No Content\r\n\r\n");
    let mut process = start("-n 64", host, &upstream, &folder);
    let mut client = RawClient::connect(process.address);
    let connect = || TcpStream::connect(process.address).unwrap();
    let crowd: Vec<_> = (0..100).map(|_| connect()).collect();
    process.logged("cannot accept connections");
    // As many consecutive failures as would exclude an upstream.
    for _ in 0..3 {
        let answer = client.send(GET).receive("GET");
        assert_eq!(answer.status, 503);
        assert_eq!(answer.values("retry-after"), ["1"]);
    }
    drop(crowd);
    // Their places are free once it is noticed that they left.
    while client.send(GET).receive("GET").status == 503 {}
    let host = [("host", "localhost")];
    let counted = ask(process.admin, "GET", "/metrics", &host).text();
    for reason in ["connect", "dns"] {
        let none = format!("s3cors_upstream_errors_total{{route=\"*\",reason=\"{reason}\"}} 0\n");
        assert!(counted.contains(&none), "{counted}");
    }
    assert!(counted.contains("reason=\"busy\"} "), "{counted}");
}

/// Prevents a process from opening more files; with `false`, restores its initial limit.
fn use_up_descriptors(process: &Process, use_up: bool) {
    // Descriptors from 1 up are refused; open ones stay open.
    limit_descriptors(process, use_up.then_some(1));
}

/// Limits the open files of a process; `None` restores its initial limit.
fn limit_descriptors(process: &Process, limit: Option<u64>) {
    let limits = fs::read_to_string(format!("/proc/{}/limits", process.child.id())).unwrap();
    let line = limits.lines().find(|line| line.starts_with("Max open"));
    let hard = line.unwrap().split_whitespace().nth(4).unwrap();
    let hard = hard.parse().unwrap();
    let limit = Rlimit {
        current: Some(limit.unwrap_or(hard)),
        maximum: Some(hard),
    };
    let pid = Pid::from_child(&process.child);
    prlimit(Some(pid), Resource::Nofile, limit).unwrap();
}

/// The highest descriptor of a process's connections.
fn highest_descriptor(process: &Process) -> u64 {
    let folder = format!("/proc/{}/fd", process.child.id());
    let open = fs::read_dir(folder).unwrap().map(Result::unwrap);
    let is_socket = |entry: &fs::DirEntry| {
        let target = fs::read_link(entry.path());
        target.is_ok_and(|target| target.to_str().unwrap().starts_with("socket:"))
    };
    let number = |entry: fs::DirEntry| entry.file_name().to_str().unwrap().parse().unwrap();
    open.filter(is_socket).map(number).max().unwrap()
}

#[test]
fn files_that_were_unreadable_without_descriptors_are_in_force_once_there_are_some() {
    let folder = Folder::new("reload-descriptors");
    let upstream = MockUpstream::answering("HTTP/1.1 204 No Content\r\n\r\n");
    let policy = |origin: &str| {
        format!(
            "<CORSConfiguration><CORSRule><AllowedOrigin>{origin}</AllowedOrigin>\
             <AllowedMethod>GET</AllowedMethod></CORSRule></CORSConfiguration>"
        )
    };
    let cors = folder.write("cors.xml", &policy("https://old.example"));
    let toml = format!(
        "workers = 1\n[[route]]\nhost = '*'\nupstream = 'http://{}'\ncors = 'cors.xml'\n",
        upstream.address
    );
    let config = folder.write("s3cors.toml", &toml);
    let mut process = Process::start(&["run", "--config", &config]);
    let allowed = |process: &Process, origin: &str| {
        let fields = [("origin", origin), ("access-control-request-method", "GET")];
        ask(process.address, "OPTIONS", "/", &fields).status == 200
    };
    assert!(allowed(&process, "https://old.example"));

    for number in 0..3 {
        use_up_descriptors(&process, true);
        let origin = format!("https://new{number}.example");
        fs::write(&cors, policy(&origin)).unwrap();
        let line = process.logged("config not reloaded");
        assert!(line.contains("Too many open files"), "{line}");

        // No file is touched again: neither the config nor the policy.
        use_up_descriptors(&process, false);
        process.logged("config reloaded");
        assert!(allowed(&process, &origin));
        assert_eq!(process.status()["out_of_date_count"], 0);
    }
}

/// Clients leave a reserve of descriptors for the admin listener, reloads and logs.
#[test]
fn the_admin_listener_and_reloads_work_while_clients_use_up_all_descriptors() {
    let folder = Folder::new("reserve");
    let upstream = MockUpstream::answering("HTTP/1.1 204 No Content\r\n\r\n");
    let mut process = start("-n 64", "127.0.0.1", &upstream, &folder);
    let connect = |address| TcpStream::connect(address).unwrap();
    let _crowd: Vec<_> = (0..100).map(|_| connect(process.address)).collect();
    process.logged("cannot accept connections");
    for round in 0..3 {
        let _silent: Vec<_> = (0..100).map(|_| connect(process.admin)).collect();
        for path in ["/livez", "/readyz", "/metrics", "/status"] {
            let answer = ask(process.admin, "GET", path, &[("host", "localhost")]);
            assert_eq!(answer.status, 200, "{round} {path}");
        }
        let config = folder.path("s3cors.toml");
        let text = fs::read_to_string(&config).unwrap();
        fs::write(&config, format!("{text}# {round}\n")).unwrap();
        process.logged("config reloaded");
    }
}

/// The reserve also holds after the limit was lowered below the clients' use, and when they reach
/// the lower limit.
#[test]
fn the_admin_listener_works_after_the_limit_was_lowered() {
    let folder = Folder::new("lowered");
    let upstream = MockUpstream::answering("HTTP/1.1 204 No Content\r\n\r\n");
    let mut process = start("-n 1024", "127.0.0.1", &upstream, &folder);
    let check = |process: &Process, when: &str| {
        for path in ["/livez", "/metrics", "/status"] {
            let answer = ask(process.admin, "GET", path, &[("host", "localhost")]);
            assert_eq!(answer.status, 200, "{when} {path}");
        }
    };
    let mut crowd: Vec<_> = (0..200)
        .map(|_| {
            let mut client = RawClient::connect(process.address);
            assert_eq!(client.send(GET).receive("GET").status, 204);
            client
        })
        .collect();
    for limit in [150, 100] {
        limit_descriptors(&process, Some(limit));
        let line = process.logged("the limit on open files was lowered");
        assert!(line.contains(&format!("limit={limit}")), "{line}");
        check(&process, "lowered");
    }
    crowd.extend((0..200).map(|_| RawClient::connect(process.address)));
    process.logged("cannot accept connections");
    check(&process, "used up");
    let config = folder.path("s3cors.toml");
    let text = fs::read_to_string(&config).unwrap();
    fs::write(&config, format!("{text}# again\n")).unwrap();
    process.logged("config reloaded");

    // As many as before, once the limit is restored.
    drop(crowd);
    limit_descriptors(&process, None);
    let crowd: Vec<_> = (0..200)
        .map(|_| {
            let mut client = RawClient::connect(process.address);
            assert_eq!(client.send(GET).receive("GET").status, 204);
            client
        })
        .collect();
    check(&process, "raised");
    drop(crowd);
}

/// A current request completes on a connection with a descriptor in the reserve.
#[test]
fn a_current_request_completes_after_the_limit_was_lowered() {
    let folder = Folder::new("lowered-busy");
    let (go, gone) = mpsc::channel();
    let gone = Mutex::new(gone);
    let upstream = MockUpstream::scripted(true, move |exchange| {
        if exchange.request.target() == "/slow" {
            exchange.send("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\no");
            gone.lock().unwrap().recv().unwrap();
            exchange.send("k");
        } else {
            exchange.send("HTTP/1.1 204 No Content\r\n\r\n");
        }
        true
    });
    let mut process = start("-n 1024", "127.0.0.1", &upstream, &folder);
    let crowd: Vec<_> = (0..60)
        .map(|_| {
            let mut client = RawClient::connect(process.address);
            assert_eq!(client.send(GET).receive("GET").status, 204);
            client
        })
        .collect();
    let mut busy = RawClient::connect(process.address);
    let mut partial = RawClient::connect(process.address);
    // The bytes to the second have been read once those to the first have.
    partial.send("GET / HTTP/1.1\r\nHos");
    busy.send("GET /slow HTTP/1.1\r\nHost: a\r\n\r\n");
    while upstream
        .requests()
        .iter()
        .all(|request| request.target() != "/slow")
    {
        thread::yield_now();
    }
    limit_descriptors(&process, Some(highest_descriptor(&process) + 1));
    let line = process.logged("the limit on open files was lowered");
    assert!(line.contains("closing=2"), "{line}");

    go.send(()).unwrap();
    assert_eq!(busy.receive("GET").text(), "ok");
    assert!(busy.is_closed());
    let answer = partial.send("t: a\r\n\r\n").receive("GET");
    assert_eq!(answer.status, 204);
    assert_eq!(answer.values("connection"), ["close"]);
    drop(crowd);
}

#[test]
fn a_request_that_takes_too_long_is_cut_after_the_limit_was_lowered() {
    let folder = Folder::new("lowered-slow");
    let (_go, gone) = mpsc::channel::<()>();
    let gone = Mutex::new(gone);
    let upstream = MockUpstream::scripted(true, move |_| {
        let _ = gone.lock().unwrap().recv();
        false
    });
    let mut process = start("-n 1024", "127.0.0.1", &upstream, &folder);
    let mut busy: Vec<_> = (0..40)
        .map(|_| RawClient::connect(process.address))
        .collect();
    let last = busy.last_mut().unwrap();
    last.send(GET);
    upstream.wait_for_request();
    limit_descriptors(&process, Some(highest_descriptor(&process) + 1));
    process.logged("the limit on open files was lowered");
    process.logged("connections were closed during a request");
    assert!(busy.last_mut().unwrap().is_closed());
}
