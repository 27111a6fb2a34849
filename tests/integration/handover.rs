//! A socket that outlives the process: passed systemd-style from one to the next, under load.

use std::fs::File;
use std::io::{BufRead, BufReader};
use std::net::{SocketAddr, TcpListener};
use std::os::fd::OwnedFd;
use std::process::{Child, ChildStderr, Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;

use crate::support::client::ask;
use crate::support::upstream::MockUpstream;

const OK: &str = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";

/// A folder with a config, removed when dropped.
struct Config(std::path::PathBuf);

impl Config {
    fn new(name: &str, upstream: SocketAddr) -> Self {
        let file = format!("s3cors-handover-{name}-{}.toml", std::process::id());
        let path = std::env::temp_dir().join(file);
        let text = format!(
            "workers = 2\n[[listen]]\naddress = \"systemd:http\"\n[admin]\naddress = \"off\"\n\
             [[route]]\nhost = \"*\"\nupstream = \"http://{upstream}\"\n"
        );
        std::fs::write(&path, text).unwrap();
        Self(path)
    }
}

impl Drop for Config {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

/// A process that was passed a socket; killed when dropped.
struct Process {
    child: Child,
    log: BufReader<ChildStderr>,
}

impl Process {
    /// The shell puts the socket where systemd would, and knows the process's number beforehand.
    fn start(config: &Config, name: &str, socket: impl Into<OwnedFd>) -> Self {
        let script = "exec 3<&0 0</dev/null; \
             LISTEN_PID=$$ LISTEN_FDS=1 LISTEN_FDNAMES=\"$1\" exec \"$0\" run --config \"$2\"";
        let mut child = Command::new("sh")
            .args(["-c", script, env!("CARGO_BIN_EXE_s3cors"), name])
            .arg(&config.0)
            .env_remove("S3CORS_CONFIG")
            .stdin(Stdio::from(socket.into()))
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let log = BufReader::new(child.stderr.take().unwrap());
        Self { child, log }
    }

    /// Waits for a line of the log.
    fn logged(&mut self, what: &str) {
        let mut seen = String::new();
        while !seen.lines().any(|line| line.contains(what)) {
            let read = self.log.read_line(&mut seen).unwrap();
            assert!(read > 0, "no `{what}` in {seen}");
        }
    }

    /// Ends it as systemd does, and gives its exit code.
    fn stop(&mut self) -> i32 {
        let pid = self.child.id().to_string();
        let killed = Command::new("kill").args(["-s", "TERM", &pid]).status();
        assert!(killed.unwrap().success());
        self.child.wait().unwrap().code().unwrap()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn twenty_restarts_under_load_fail_no_request() {
    let upstream = MockUpstream::answering(OK);
    let config = Config::new("restarts", upstream.address);
    let socket = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = socket.local_addr().unwrap();
    let passed = || socket.try_clone().unwrap();
    let mut process = Process::start(&config, "http", passed());
    process.logged("listening address=systemd:http");
    let (stop, answered) = (AtomicBool::new(false), AtomicUsize::new(0));
    thread::scope(|scope| {
        for _ in 0..3 {
            scope.spawn(|| {
                while !stop.load(Ordering::Relaxed) {
                    let response = ask(address, "GET", "/k", &[]);
                    assert_eq!((response.status, response.text()), (200, "ok".into()));
                    answered.fetch_add(1, Ordering::Relaxed);
                }
            });
        }
        for _ in 0..20 {
            let before = answered.load(Ordering::Relaxed);
            while answered.load(Ordering::Relaxed) < before + 20 {
                thread::yield_now();
            }
            // As systemd restarts: the old one ends, then the new one begins; who connects between
            // waits in the socket.
            assert_eq!(process.stop(), 0);
            process = Process::start(&config, "http", passed());
        }
        process.logged("listening address=systemd:http");
        stop.store(true, Ordering::Relaxed);
    });
    assert_eq!(process.stop(), 0);
    assert!(answered.into_inner() >= 400);
}

#[test]
fn what_was_not_passed_is_told() {
    let upstream = MockUpstream::answering(OK);
    let config = Config::new("names", upstream.address);
    let socket = TcpListener::bind("127.0.0.1:0").unwrap();
    let mut process = Process::start(&config, "https", socket);
    process.logged("passed: https");
    assert_eq!(process.child.wait().unwrap().code(), Some(1));
    let mut process = Process::start(&config, "http", File::open("/dev/null").unwrap());
    process.logged("cannot listen on systemd:http");
    assert_eq!(process.child.wait().unwrap().code(), Some(1));
}
