//! An address outlives the process: its socket is passed on like systemd does, or shared for a
//! moment, under load.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::fd::OwnedFd;
use std::process::{Child, ChildStderr, Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use crate::support::client::ask;
use crate::support::upstream::MockUpstream;

const OK: &str = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";

/// A folder with a config, removed when dropped.
struct Config(std::path::PathBuf);

impl Config {
    fn new(name: &str, listen: &str, upstream: SocketAddr) -> Self {
        let file = format!("s3cors-handover-{name}-{}.toml", std::process::id());
        let path = std::env::temp_dir().join(file);
        let text = format!(
            "workers = 2\n[[listen]]\naddress = \"{listen}\"\n[admin]\naddress = \"off\"\n\
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

/// A process with a passed socket; killed when dropped.
struct Process {
    child: Child,
    log: BufReader<ChildStderr>,
}

impl Process {
    /// The shell places the socket where systemd would, and knows its process id in advance.
    fn start(config: &Config, name: &str, socket: impl Into<OwnedFd>) -> Self {
        let script = "exec 3<&0 0</dev/null; \
             LISTEN_PID=$$ LISTEN_FDS=1 LISTEN_FDNAMES=\"$1\" exec \"$0\" run --config \"$2\"";
        let mut command = Command::new("sh");
        command
            .args(["-c", script, env!("CARGO_BIN_EXE_s3cors"), name])
            .arg(&config.0)
            .stdin(Stdio::from(socket.into()));
        Self::spawn(command)
    }

    /// Starts a process that takes over the addresses of another, if there is one.
    fn taking_over(config: &Config) -> Self {
        let mut command = Command::new(env!("CARGO_BIN_EXE_s3cors"));
        command
            .args(["run", "--takeover", "--config"])
            .arg(&config.0)
            .stdin(Stdio::null());
        Self::spawn(command)
    }

    fn spawn(mut command: Command) -> Self {
        command.env_remove("S3CORS_CONFIG").stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let log = BufReader::new(child.stderr.take().unwrap());
        Self { child, log }
    }

    /// Waits for a log line.
    fn logged(&mut self, what: &str) {
        let mut seen = String::new();
        while !seen.lines().any(|line| line.contains(what)) {
            let read = self.log.read_line(&mut seen).unwrap();
            assert!(read > 0, "no `{what}` in {seen}");
        }
    }

    /// Stops it like systemd, and returns its exit code.
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
    let config = Config::new("restarts", "systemd:http", upstream.address);
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
            // Restarts like systemd: the old process ends, then the new one starts; clients that
            // connect in between wait in the socket.
            assert_eq!(process.stop(), 0);
            process = Process::start(&config, "http", passed());
        }
        process.logged("listening address=systemd:http");
        stop.store(true, Ordering::Relaxed);
    });
    assert_eq!(process.stop(), 0);
    assert!(answered.into_inner() >= 400);
}

/// How many requests twenty takeovers may lose, one each: see below.
const MOST_LOST: usize = 20;

/// The kernel distributes connections over the sockets of a port by address, and never
/// redistributes them: a client that connects to a socket between its last accept and its close
/// is reset. The window is a few microseconds per worker's socket. (`net.ipv4.tcp_migrate_req`
/// closes it.)
#[test]
fn twenty_takeovers_under_load_lose_at_most_one_request_each() {
    let upstream = MockUpstream::answering(OK);
    let address = TcpListener::bind("127.0.0.1:0").unwrap().local_addr();
    let address = address.unwrap();
    let config = Config::new("takeovers", &address.to_string(), upstream.address);
    let listening = format!("listening address={address}");
    let mut process = Process::taking_over(&config);
    process.logged(&listening);
    let (stop, answered) = (AtomicBool::new(false), AtomicUsize::new(0));
    let lost = AtomicUsize::new(0);
    thread::scope(|scope| {
        for _ in 0..3 {
            scope.spawn(|| {
                while !stop.load(Ordering::Relaxed) {
                    match exchange(address) {
                        Ok(response) => {
                            assert!(response.starts_with("HTTP/1.1 200 "), "{response}");
                            assert!(response.ends_with("ok"), "{response}");
                            answered.fetch_add(1, Ordering::Relaxed);
                        }
                        Err(error) => {
                            assert_eq!(error.kind(), io::ErrorKind::ConnectionReset);
                            lost.fetch_add(1, Ordering::Relaxed);
                        }
                    }
                }
            });
        }
        for _ in 0..20 {
            let before = answered.load(Ordering::Relaxed);
            while answered.load(Ordering::Relaxed) < before + 20 {
                thread::yield_now();
            }
            let mut new = Process::taking_over(&config);
            new.logged(&listening);
            let mut old = std::mem::replace(&mut process, new);
            assert_eq!(old.stop(), 0);
        }
        stop.store(true, Ordering::Relaxed);
    });
    assert_eq!(process.stop(), 0);
    let (answered, lost) = (answered.into_inner(), lost.into_inner());
    println!("{answered} answered, {lost} lost");
    assert!(answered >= 400 && lost <= MOST_LOST, "{answered}, {lost}");
}

/// One request on its own connection.
fn exchange(address: SocketAddr) -> io::Result<String> {
    let mut stream = TcpStream::connect(address)?;
    stream.set_read_timeout(Some(Duration::from_secs(20)))?;
    stream.write_all(b"GET /k HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")?;
    let mut response = String::new();
    stream.read_to_string(&mut response)?;
    Ok(response)
}

#[test]
fn an_address_is_taken_over_only_on_request() {
    let upstream = MockUpstream::answering(OK);
    let address = TcpListener::bind("127.0.0.1:0").unwrap().local_addr();
    let address = address.unwrap().to_string();
    let config = Config::new("refused", &address, upstream.address);
    let mut first = Process::taking_over(&config);
    first.logged("listening address=");
    let mut command = Command::new(env!("CARGO_BIN_EXE_s3cors"));
    command.args(["run", "--config"]).arg(&config.0);
    let mut second = Process::spawn(command);
    second.logged(&format!("cannot listen on {address}"));
    assert_eq!(second.child.wait().unwrap().code(), Some(1));
    assert_eq!(first.stop(), 0);
}

#[test]
fn a_missing_systemd_socket_is_reported() {
    let upstream = MockUpstream::answering(OK);
    let config = Config::new("names", "systemd:http", upstream.address);
    let socket = TcpListener::bind("127.0.0.1:0").unwrap();
    let mut process = Process::start(&config, "https", socket);
    process.logged("passed: https");
    assert_eq!(process.child.wait().unwrap().code(), Some(1));
    let mut process = Process::start(&config, "http", File::open("/dev/null").unwrap());
    process.logged("cannot listen on systemd:http");
    assert_eq!(process.child.wait().unwrap().code(), Some(1));
}
