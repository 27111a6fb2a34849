//! The files and addresses that a start opens: `check` tests them too, errors name the file and
//! the key, and a signal ends a hanging start.

use std::fs;
use std::os::unix::net::UnixListener;
use std::process::{Command, Stdio};

use crate::support::binary::{Folder, line_with, run, s3cors};

const ROUTE: &str = "[[route]]\nhost = '*'\nupstream = 'http://127.0.0.1:9'\n";

/// A config, its faulty key, and the path.
const WRONG: [(&str, &str, &str); 9] = [
    (
        "[access_log]\nformat = 'json'\npath = 'gone/a.log'\n",
        "access_log.path",
        "gone/a.log",
    ),
    (
        "[access_log]\nformat = 'json'\npath = 'file/a.log'\n",
        "access_log.path",
        "file/a.log",
    ),
    (
        "[access_log]\nformat = 'json'\npath = 'folder'\n",
        "access_log.path",
        "folder",
    ),
    (
        "[[listen]]\naddress = 'unix:gone/a.sock'\n",
        "listen.address",
        "gone/a.sock",
    ),
    (
        "[[listen]]\naddress = 'unix:file'\n",
        "listen.address",
        "file",
    ),
    (
        "[[listen]]\naddress = 'unix:file/a.sock'\n",
        "listen.address",
        "file/a.sock",
    ),
    (
        "[admin]\naddress = 'unix:gone/a.sock'\n",
        "admin.address",
        "gone/a.sock",
    ),
    (
        "[admin]\naddress = 'unix:folder'\n",
        "admin.address",
        "folder",
    ),
    (
        "[admin]\naddress = 'unix:folder/a.sock'\n[access_log]\nformat = 'combined'\npath = 'gone/b'\n",
        "access_log.path",
        "gone/b",
    ),
];

#[test]
fn check_and_start_name_the_file_and_key_that_cannot_be_opened() {
    let folder = Folder::new("start-check");
    folder.write("file", "");
    fs::create_dir(folder.path("folder")).unwrap();
    for (text, key, path) in WRONG {
        let listen = if text.contains("[[listen]]") {
            ""
        } else {
            "[[listen]]\naddress = '127.0.0.1:0'\n"
        };
        let admin = if text.contains("[admin]") {
            ""
        } else {
            "[admin]\naddress = '127.0.0.1:0'\n"
        };
        let config = folder.write("s3cors.toml", &format!("{listen}{admin}{text}{ROUTE}"));
        let path = folder.path(path);
        let path = path.to_str().unwrap();
        let (code, stdout, _) = run(&["check", "--config", &config]);
        assert_eq!(code, 1, "{text}: {stdout}");
        let names_both = |said: &str| said.contains(key) && said.contains(path);
        assert!(names_both(&stdout), "{text}: {stdout}");
        let (code, _, stderr) = run(&["run", "--config", &config]);
        assert_eq!(code, 1, "{text}: {stderr}");
        assert!(names_both(&stderr), "{text}: {stderr}");
    }
}

#[test]
fn check_changes_nothing_and_accepts_addresses_of_a_running_proxy() {
    let folder = Folder::new("start-check-good");
    let _live = UnixListener::bind(folder.path("live.sock")).unwrap();
    folder.write("old.log", "a line\n");
    for (socket, log) in [("new.sock", "new.log"), ("live.sock", "old.log")] {
        let text = format!(
            "[[listen]]\naddress = 'unix:{socket}'\n[access_log]\nformat = 'json'\npath = '{log}'\n{ROUTE}"
        );
        let config = folder.write("s3cors.toml", &text);
        let (code, stdout, _) = run(&["check", "--config", &config]);
        assert_eq!((code, &*stdout), (0, "ok: 1 route, 0 policies\n"));
    }
    assert!(!folder.path("new.sock").exists() && !folder.path("new.log").exists());
    assert_eq!(
        fs::read_to_string(folder.path("old.log")).unwrap(),
        "a line\n"
    );
}

#[test]
fn an_address_of_another_machine_is_a_warning() {
    let folder = Folder::new("start-check-address");
    // TEST-NET-1 (RFC 5737): no machine has it.
    let text = format!("[[listen]]\naddress = '192.0.2.1:80'\n{ROUTE}");
    let config = folder.write("s3cors.toml", &text);
    let (code, stdout, _) = run(&["check", "--config", &config]);
    assert_eq!(code, 0, "{stdout}");
    assert!(
        stdout.contains("listen.address") && stdout.contains("192.0.2.1"),
        "{stdout}"
    );
}

/// A named pipe, which a debug build reads at its start, stands for a hanging file system.
#[test]
fn a_signal_ends_a_start_that_hangs() {
    let folder = Folder::new("start-hangs");
    let config = folder.write("s3cors.toml", ROUTE);
    let pipe = folder.path("pipe");
    assert!(
        Command::new("mkfifo")
            .arg(&pipe)
            .status()
            .unwrap()
            .success()
    );
    for signal in ["TERM", "INT"] {
        let mut child = s3cors(&["run", "--config", &config, "--admin", "off"])
            .env("S3CORS_TEST_BLOCK_START", &pipe)
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        // Opened once the start reads it.
        let _hangs = fs::OpenOptions::new().write(true).open(&pipe).unwrap();
        let pid = child.id().to_string();
        let killed = Command::new("kill").args(["-s", signal, &pid]).status();
        assert!(killed.unwrap().success());
        let mut log = std::io::BufReader::new(child.stderr.take().unwrap());
        line_with(&mut log, "before the start was complete");
        assert_eq!(child.wait().unwrap().code(), Some(0));
    }
}
