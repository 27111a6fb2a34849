//! Standard error and the access log may be closed, full or stuck: requests, reloads and the
//! drain continue, and lost lines are counted.

use std::any::Any;
use std::fs::{self, File};
use std::io::{BufReader, ErrorKind, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use rustix::fs::{OFlags, fcntl_getfl, fcntl_setfl};
use rustix::pipe::pipe;
use rustix::process::{Pid, Signal, kill_process};

use crate::support::binary::{Folder, Process, line_with, s3cors};
use crate::support::client::{RawClient, RawResponse, ask};
use crate::support::upstream::refusing;

const POLICY: &str = "<CORSConfiguration><CORSRule><AllowedOrigin>https://app.example</AllowedOrigin>\
     <AllowedMethod>GET</AllowedMethod></CORSRule></CORSConfiguration>";

/// An upper limit for every step.
const PATIENCE: Duration = Duration::from_secs(20);

/// The target of standard error and standard output.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Output {
    ClosedReader,
    FullPipe,
    FullNonBlockingPipe,
    FullDevice,
    FullDisk,
    FileSizeLimit,
}

/// A file system with one page, if this process may mount one.
struct SmallDisk(String);

impl SmallDisk {
    fn mount(folder: &Folder) -> Option<Self> {
        let path = folder.path("disk");
        fs::create_dir(&path).unwrap();
        let path = path.to_str().unwrap().to_owned();
        let mounted = Command::new("mount")
            .args(["-t", "tmpfs", "-o", "size=4k", "tmpfs", &path])
            .stderr(Stdio::null())
            .status();
        mounted
            .is_ok_and(|status| status.success())
            .then(|| Self(path))
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = Command::new("umount").args(["-l", &self.0]).status();
    }
}

/// Starts `command` with standard error and output connected as in `output`. The additional value
/// must live as long as the child. `None` if this system does not permit it.
fn spawn(mut command: Command, output: Output, folder: &Folder) -> Option<(Child, Box<dyn Any>)> {
    let into_file = |command: &mut Command, path: &str| {
        let open = || {
            File::options()
                .append(true)
                .create(true)
                .open(path)
                .unwrap()
        };
        command.stdout(open()).stderr(open()).spawn().unwrap()
    };
    Some(match output {
        Output::ClosedReader => {
            let (reading, writing) = pipe().unwrap();
            drop(reading);
            command.stdout(writing.try_clone().unwrap()).stderr(writing);
            (command.spawn().unwrap(), Box::new(()))
        }
        Output::FullPipe | Output::FullNonBlockingPipe => {
            let (reading, writing) = pipe().unwrap();
            let flags = fcntl_getfl(&writing).unwrap();
            fcntl_setfl(&writing, flags | OFlags::NONBLOCK).unwrap();
            let mut writing = File::from(writing);
            while writing.write(&[b'x'; 1024]).is_ok() {}
            if output == Output::FullPipe {
                fcntl_setfl(&writing, flags).unwrap();
            }
            command.stdout(writing.try_clone().unwrap()).stderr(writing);
            (command.spawn().unwrap(), Box::new(reading))
        }
        Output::FullDevice => (into_file(&mut command, "/dev/full"), Box::new(())),
        Output::FullDisk => {
            let disk = SmallDisk::mount(folder)?;
            let path = format!("{}/log", disk.0);
            let mut file = File::create(&path).unwrap();
            while file.write(&[b'x'; 1024]).is_ok() {}
            (into_file(&mut command, &path), Box::new(disk))
        }
        Output::FileSizeLimit => {
            let mut limited = Command::new("sh");
            limited.args(["-c", "ulimit -f 0 && exec \"$@\"", "sh"]);
            limited.arg(command.get_program()).args(command.get_args());
            let path = folder.path("log");
            (
                into_file(&mut limited, path.to_str().unwrap()),
                Box::new(()),
            )
        }
    })
}

/// A proxy on Unix sockets, so that its addresses are known.
struct Proxy {
    child: Child,
    /// Dropped before the folder, which may contain a mounted disk.
    _output: Box<dyn Any>,
    folder: Folder,
}

impl Proxy {
    fn start(output: Output) -> Option<Self> {
        let name = format!("log-output-{output:?}").to_lowercase();
        let folder = Folder::new(&name);
        folder.write("cors.xml", POLICY);
        let config = folder.write(
            "s3cors.toml",
            &format!(
                "workers = 1\n[[listen]]\naddress = \"unix:http\"\n[admin]\naddress = \"unix:admin\"\n\
                 [access_log]\nformat = \"json\"\npath = \"-\"\n[[route]]\nhost = [\"*\"]\n\
                 upstream = [\"http://{}\"]\ncors = \"cors.xml\"\n",
                refusing()
            ),
        );
        let command = s3cors(&["run", "--config", &config, "--log", "trace"]);
        let (child, kept) = spawn(command, output, &folder)?;
        let proxy = Self {
            child,
            folder,
            _output: kept,
        };
        let start = Instant::now();
        while !proxy.is_ready() {
            assert!(start.elapsed() < PATIENCE, "{output:?}: not ready");
            thread::yield_now();
        }
        Some(proxy)
    }

    fn is_ready(&self) -> bool {
        match UnixStream::connect(self.folder.path("admin")) {
            Ok(stream) => request(stream, "GET", "/readyz", "").status == 200,
            Err(error) => {
                let expected = [ErrorKind::NotFound, ErrorKind::ConnectionRefused];
                assert!(expected.contains(&error.kind()), "{error}");
                false
            }
        }
    }

    fn ask(&self, method: &str, fields: &str) -> RawResponse {
        let stream = UnixStream::connect(self.folder.path("http")).unwrap();
        request(stream, method, "/k", fields)
    }

    /// HTTP/2's preface, an empty SETTINGS frame and its acknowledgement: many lines at level
    /// `trace`.
    fn begin_http2(&self) {
        let mut stream = UnixStream::connect(self.folder.path("http")).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        let settings = b"\0\0\0\x04\0\0\0\0\0";
        let preface = [&b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"[..], settings].concat();
        stream.write_all(&preface).unwrap();
        stream.read_exact(&mut [0; 9]).unwrap();
    }

    fn admin(&self, path: &str) -> RawResponse {
        let stream = UnixStream::connect(self.folder.path("admin")).unwrap();
        request(stream, "GET", path, "")
    }

    fn metric(&self, name: &str) -> u64 {
        let text = self.admin("/metrics").text();
        let value = text.lines().find_map(|line| line.strip_prefix(name));
        let value = value.unwrap_or_else(|| panic!("no {name} in {text}"));
        value.trim().parse().unwrap()
    }

    fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).unwrap();
    }

    fn exit_code(&mut self) -> Option<i32> {
        let start = Instant::now();
        while start.elapsed() < PATIENCE {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status.code();
            }
            thread::yield_now();
        }
        panic!("the process does not end");
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn request(stream: UnixStream, method: &str, path: &str, fields: &str) -> RawResponse {
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    let head = format!("{method} {path} HTTP/1.1\r\nHost: localhost\r\n{fields}\r\n");
    RawClient::over(stream).send(head).receive(method)
}

/// Sends requests, reloads and drains with output that cannot be written.
fn survives(output: Output) {
    let Some(mut proxy) = Proxy::start(output) else {
        return eprintln!("skipped: this system does not let a test mount a file system");
    };
    let preflight = "Origin: https://evil.example\r\nAccess-Control-Request-Method: GET\r\n";
    let mut rounds = 0;
    loop {
        assert_eq!(proxy.ask("OPTIONS", preflight).status, 403, "{output:?}");
        assert_eq!(proxy.ask("GET", "").status, 502, "{output:?}");
        proxy.begin_http2();
        rounds += 1;
        let is_enough = rounds % 50 == 0 && proxy.metric("s3cors_log_dropped_lines_total ") > 0;
        if is_enough {
            break;
        }
        assert!(rounds < 5000, "{output:?}: no line was dropped");
    }

    proxy
        .folder
        .write("cors.xml", &POLICY.replace("GET", "PUT"));
    proxy.signal(Signal::HUP);
    let applied = "s3cors_config_reloads_total{result=\"applied\"} ";
    let start = Instant::now();
    while proxy.metric(applied) == 0 {
        assert!(start.elapsed() < PATIENCE, "{output:?}: not reloaded");
        thread::yield_now();
    }
    assert_eq!(proxy.ask("OPTIONS", preflight).status, 403, "{output:?}");
    assert_eq!(proxy.metric("s3cors_panics_total "), 0, "{output:?}");
    assert_eq!(proxy.admin("/livez").status, 200, "{output:?}");

    proxy.signal(Signal::TERM);
    assert_eq!(proxy.exit_code(), Some(0), "{output:?}");
}

#[test]
fn a_closed_reader_of_the_log_costs_lines_only() {
    survives(Output::ClosedReader);
}

#[test]
fn a_full_pipe_for_the_log_costs_lines_only() {
    survives(Output::FullPipe);
}

#[test]
fn a_full_non_blocking_pipe_for_the_log_costs_lines_only() {
    survives(Output::FullNonBlockingPipe);
}

#[test]
fn a_full_device_for_the_log_costs_lines_only() {
    survives(Output::FullDevice);
}

#[test]
fn a_full_disk_for_the_log_costs_lines_only() {
    survives(Output::FullDisk);
}

#[test]
fn a_limit_on_file_sizes_costs_lines_only() {
    survives(Output::FileSizeLimit);
}

/// A config whose access log is `path`, next to it.
fn config_with_access_log(folder: &Folder, path: &str) -> String {
    folder.write(
        "s3cors.toml",
        &format!(
            "[access_log]\nformat = \"json\"\npath = \"{path}\"\n\
             [[listen]]\naddress = \"127.0.0.1:0\"\n\
             [admin]\naddress = \"127.0.0.1:0\"\n\
             [[route]]\nhost = [\"*\"]\nupstream = [\"http://{}\"]\n",
            refusing()
        ),
    )
}

fn make_pipe(path: &Path) {
    let made = Command::new("mkfifo").arg(path).status().unwrap();
    assert!(made.success());
}

#[test]
fn an_access_log_without_a_reader_is_an_error_of_start_and_check() {
    let folder = Folder::new("log-output-unreadable");
    make_pipe(&folder.path("pipe"));
    std::os::unix::fs::symlink(folder.path("pipe"), folder.path("link")).unwrap();
    let _socket = std::os::unix::net::UnixListener::bind(folder.path("socket")).unwrap();
    std::fs::create_dir(folder.path("folder")).unwrap();
    for (name, cause) in [
        (
            "pipe",
            "no process reads this named pipe: start its reader first",
        ),
        (
            "link",
            "no process reads this named pipe: start its reader first",
        ),
        ("socket", "this is a socket: write to a file"),
        ("folder", "Is a directory"),
    ] {
        let config = config_with_access_log(&folder, name);
        for command in ["run", "check"] {
            let output = s3cors(&[command, "--config", &config]).output().unwrap();
            let said = String::from_utf8(output.stdout).unwrap()
                + &String::from_utf8(output.stderr).unwrap();
            assert_eq!(output.status.code(), Some(1), "{command} {name}: {said}");
            for part in [
                folder.path(name).to_str().unwrap(),
                "`access_log.path`",
                cause,
            ] {
                assert!(said.contains(part), "{command} {name}: {said}");
            }
        }
    }
}

#[test]
fn a_writable_access_log_is_not_an_error() {
    let folder = Folder::new("log-output-readable");
    make_pipe(&folder.path("pipe"));
    let _reader = File::options()
        .read(true)
        .write(true)
        .open(folder.path("pipe"))
        .unwrap();
    for name in ["pipe", "/dev/full", "/dev/null", "new.log"] {
        let config = config_with_access_log(&folder, name);
        let output = s3cors(&["check", "--config", &config]).output().unwrap();
        assert_eq!(output.status.code(), Some(0), "{name}: {output:?}");
        let mut proxy = Process::start(&["run", "--config", &config]);
        assert_eq!(ask(proxy.address, "GET", "/logged", &[]).status, 502);
        proxy.signal("TERM");
        assert_eq!(proxy.exit_code(), 0, "{name}");
    }
}

#[test]
fn a_named_pipe_without_a_reader_loses_lines_until_it_has_another() {
    let folder = Folder::new("log-output-fifo");
    let path = folder.path("access.log");
    make_pipe(&path);
    let config = config_with_access_log(&folder, "access.log");
    let first = File::options().read(true).write(true).open(&path).unwrap();
    let mut proxy = Process::start(&["run", "--config", &config]);
    let mut first = BufReader::new(first);
    assert_eq!(ask(proxy.address, "GET", "/first", &[]).status, 502);
    assert!(line_with(&mut first, "/first").starts_with('{'));
    drop(first);
    assert_eq!(ask(proxy.address, "GET", "/lost", &[]).status, 502);
    proxy.logged("cannot write the access log");
    let mut second = BufReader::new(File::open(&path).unwrap());
    assert_eq!(ask(proxy.address, "GET", "/second", &[]).status, 502);
    assert!(line_with(&mut second, "/second").starts_with('{'));
    proxy.signal("TERM");
    assert_eq!(proxy.exit_code(), 0);
}

#[test]
fn a_log_rotation_to_a_named_pipe_without_a_reader_keeps_the_old_file() {
    let folder = Folder::new("log-output-rotation");
    let config = config_with_access_log(&folder, "access.log");
    let mut proxy = Process::start(&["run", "--config", &config]);
    let old = folder.path("access.log.1");
    std::fs::rename(folder.path("access.log"), &old).unwrap();
    make_pipe(&folder.path("access.log"));
    proxy.signal("USR1");
    let said = proxy.logged("cannot reopen the access log");
    assert!(said.contains("no process reads this named pipe"), "{said}");
    assert!(
        said.contains("access_log.path")
            && said.contains(folder.path("access.log").to_str().unwrap())
    );
    assert_eq!(ask(proxy.address, "GET", "/kept", &[]).status, 502);
    // A reload does not change this.
    proxy.signal("HUP");
    assert_eq!(ask(proxy.address, "GET", "/after", &[]).status, 502);
    proxy.signal("TERM");
    assert_eq!(proxy.exit_code(), 0);
    let lines = std::fs::read_to_string(old).unwrap();
    assert!(
        lines.contains("/kept") && lines.contains("/after"),
        "{lines}"
    );
}

#[test]
fn a_command_whose_reader_leaves_prints_nothing_and_does_not_panic() {
    let example = |name: &str| format!("{}/config/{name}", env!("CARGO_MANIFEST_DIR"));
    let (config, cors) = (example("s3cors.toml"), example("cors/spa-upload.xml"));
    let minio = r#"[{"AllowedOrigins": ["https://a.example"], "AllowedMethods": ["GET"]}]"#;
    let folder = Folder::new("log-output-commands");
    let json = folder.write("cors.json", minio);
    let explain = [
        "explain",
        "--cors",
        &cors,
        "--origin",
        "https://evil.example",
        "--method",
        "PUT",
    ];
    let explain_json = [&explain[..], &["--format", "json"]].concat();
    let commands: [&[&str]; 10] = [
        &["--help"],
        &["run", "--help"],
        &["--version"],
        &["check", "--config", &config],
        &["check", &cors, "--format", "json"],
        &explain,
        &explain_json,
        &["import", &json],
        &["config", "defaults"],
        &["completions", "bash"],
    ];
    for arguments in commands {
        let expected = s3cors(arguments).output().unwrap();
        let (reading, writing) = pipe().unwrap();
        drop(reading);
        let output = s3cors(arguments)
            .stdout(writing)
            .stderr(Stdio::piped())
            .spawn()
            .unwrap()
            .wait_with_output()
            .unwrap();
        let stderr = String::from_utf8(output.stderr).unwrap();
        assert_eq!(
            output.status.code(),
            expected.status.code(),
            "{arguments:?}"
        );
        assert_eq!(stderr.as_bytes(), expected.stderr, "{arguments:?}");
        assert!(!stderr.contains("panicked"), "{arguments:?}: {stderr}");

        // And with a closed standard error.
        let (reading, writing) = pipe().unwrap();
        drop(reading);
        let status = s3cors(arguments)
            .stdout(writing.try_clone().unwrap())
            .stderr(writing)
            .status()
            .unwrap();
        assert_eq!(status.code(), expected.status.code(), "{arguments:?}");
    }
}

#[test]
fn output_to_a_non_blocking_pipe_is_complete() {
    let (reading, writing) = pipe().unwrap();
    let flags = fcntl_getfl(&writing).unwrap();
    fcntl_setfl(&writing, flags | OFlags::NONBLOCK).unwrap();
    let arguments = ["completions", "zsh"];
    let expected = s3cors(&arguments).output().unwrap().stdout;
    // The pipe is almost full at the start, so that writing must wait.
    let filling = vec![b'x'; 60 * 1024];
    let mut writing = File::from(writing);
    writing.write_all(&filling).unwrap();
    assert!(expected.len() > 8 * 1024);
    let mut child = s3cors(&arguments).stdout(writing).spawn().unwrap();
    let mut all = Vec::new();
    File::from(reading).read_to_end(&mut all).unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(0));
    assert!(all[filling.len()..] == expected);
}

#[test]
fn a_failed_start_exits_even_if_nothing_reads_the_error() {
    let (reading, writing) = pipe().unwrap();
    let flags = fcntl_getfl(&writing).unwrap();
    fcntl_setfl(&writing, flags | OFlags::NONBLOCK).unwrap();
    let mut writing = File::from(writing);
    while writing.write(&[b'x'; 1024]).is_ok() {}
    fcntl_setfl(&writing, flags).unwrap();
    let status = s3cors(&["run", "--config", "/nowhere/s3cors.toml"])
        .stderr(writing)
        .status()
        .unwrap();
    assert_eq!(status.code(), Some(2));
    drop(reading);
}
