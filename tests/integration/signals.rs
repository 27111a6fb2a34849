//! Signals, from the start to the end of the drain.

use std::fs;
use std::io::BufReader;
use std::net::TcpStream;
use std::process::{Command, Stdio};
use std::sync::Mutex;
use std::sync::mpsc;
use std::thread;

use rustix::process::{Pid, Signal, kill_process};

use crate::support::binary::{Folder, Process, line_with, s3cors};
use crate::support::client::{RawClient, ask};
use crate::support::upstream::MockUpstream;

/// Signals that end a process by default and that init systems, log rotation, timers, profilers,
/// terminals and container runtimes send, and signals that do nothing by default.
const HARMLESS: [Signal; 15] = [
    Signal::HUP,
    Signal::USR1,
    Signal::USR2,
    Signal::ALARM,
    Signal::VTALARM,
    Signal::PROF,
    Signal::IO,
    Signal::PIPE,
    Signal::WINCH,
    Signal::XFSZ,
    Signal::POWER,
    Signal::STKFLT,
    Signal::CONT,
    Signal::URG,
    Signal::CHILD,
];

/// systemd stops a container with SIGRTMIN+3, 37; others set the log levels of its daemons.
const REAL_TIME: [i32; 3] = [37, 56, 64];

fn send_all(process: Pid) {
    for signal in HARMLESS {
        kill_process(process, signal).unwrap();
    }
    let pid = process.as_raw_nonzero().to_string();
    for number in REAL_TIME {
        let sent = Command::new("kill")
            .args(["-s", &number.to_string(), &pid])
            .status();
        assert!(sent.unwrap().success(), "{number}");
    }
}

fn config(folder: &Folder, upstream: &str) -> String {
    format!(
        "[[listen]]\naddress = \"127.0.0.1:0\"\n[admin]\naddress = \"127.0.0.1:0\"\n\
         [access_log]\nformat = \"json\"\npath = \"{}\"\n\
         [[route]]\nhost = [\"*\"]\nupstream = [\"{upstream}\"]\n",
        folder.path("access.log").display()
    )
}

#[test]
fn term_int_and_quit_drain() {
    let folder = Folder::new("signals-stop");
    let file = folder.write("s3cors.toml", &config(&folder, "http://127.0.0.1:1"));
    for signal in [Signal::TERM, Signal::INT, Signal::QUIT] {
        let mut proxy = Process::start(&["run", "--config", &file]);
        proxy.signals(&[signal]);
        proxy.logged("drained");
        assert_eq!(proxy.exit_code(), 0, "{signal:?}");
    }
}

#[test]
fn no_other_signal_ends_a_proxy_that_serves() {
    let folder = Folder::new("signals-serving");
    let upstream = MockUpstream::answering("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n");
    let file = config(&folder, &format!("http://{}", upstream.address));
    let file = folder.write("s3cors.toml", &file);
    let mut proxy = Process::start(&["run", "--config", &file]);
    for _ in 0..3 {
        send_all(Pid::from_child(&proxy.child));
        assert_eq!(ask(proxy.address, "GET", "/", &[]).status, 200);
    }
    proxy.signals(&[Signal::TERM]);
    assert_eq!(proxy.exit_code(), 0);
}

#[test]
fn usr1_reopens_the_access_log_while_serving_and_while_draining() {
    let folder = Folder::new("signals-usr1");
    let (go, gone) = mpsc::channel::<()>();
    let gone = Mutex::new(gone);
    let upstream = MockUpstream::scripted(true, move |exchange| {
        let _ = gone.lock().unwrap().recv();
        exchange.send("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n");
        true
    });
    let file = config(&folder, &format!("http://{}", upstream.address));
    let file = folder.write("s3cors.toml", &file);
    let mut proxy = Process::start(&["run", "--config", &file]);
    let log = folder.path("access.log");
    let rotate = |name: &str| fs::rename(&log, folder.path(name)).unwrap();
    let reopened = || {
        while !log.exists() {
            thread::yield_now();
        }
    };

    rotate("access.log.1");
    proxy.signals(&[Signal::USR1]);
    proxy.logged("SIGUSR1");
    reopened();

    let mut client = RawClient::over(TcpStream::connect(proxy.address).unwrap());
    client.send("GET /last HTTP/1.1\r\nHost: x\r\n\r\n");
    upstream.wait_for_request();
    proxy.signals(&[Signal::TERM]);
    proxy.logged("draining");
    for (name, signal) in [
        ("access.log.2", Signal::USR1),
        ("access.log.3", Signal::HUP),
    ] {
        rotate(name);
        proxy.signals(&[signal]);
        reopened();
    }
    send_all(Pid::from_child(&proxy.child));
    go.send(()).unwrap();
    assert_eq!(client.receive("GET").status, 200);
    assert_eq!(proxy.exit_code(), 0);
    assert!(fs::read_to_string(&log).unwrap().contains("/last"));
}

#[test]
fn signals_during_the_start_do_not_end_it_and_a_stop_is_kept() {
    let folder = Folder::new("signals-start");
    let file = folder.write("s3cors.toml", &config(&folder, "http://127.0.0.1:1"));
    let mut child = s3cors(&["run", "--config", &file])
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let process = Pid::from_child(&child);
    // The signals are caught before the config is read; the last of them is SIGRTMAX, bit 63.
    let status = format!("/proc/{}/status", child.id());
    loop {
        let status = fs::read_to_string(&status).unwrap();
        let caught = status.lines().find_map(|line| line.strip_prefix("SigCgt:"));
        let caught = u64::from_str_radix(caught.unwrap().trim(), 16).unwrap();
        if caught >> 63 == 1 {
            break;
        }
        thread::yield_now();
    }
    send_all(process);
    kill_process(process, Signal::TERM).unwrap();
    let mut log = BufReader::new(child.stderr.take().unwrap());
    line_with(&mut log, "draining");
    line_with(&mut log, "drained");
    assert_eq!(child.wait().unwrap().code(), Some(0));
}
