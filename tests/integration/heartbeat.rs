//! `/livez` and systemd's watchdog notice a blocked worker.
//!
//! Debug builds block their first worker on a named pipe if `S3CORS_TEST_BLOCK_WORKER` names one.
#![cfg(debug_assertions)]

use std::fs::File;
use std::io::Read;
use std::os::unix::net::UnixDatagram;
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use crate::support::binary::{Folder, Process, s3cors};
use crate::support::client::ask;
use crate::support::upstream::refusing;

const PATIENCE: Duration = Duration::from_secs(20);

#[test]
fn a_blocked_worker_fails_livez_and_the_watchdog_until_it_continues() {
    let folder = Folder::new("heartbeat");
    let cors = folder.write("cors.xml", include_str!("../../config/cors/spa-upload.xml"));
    let pipe = folder.path("block");
    assert!(
        Command::new("mkfifo")
            .arg(&pipe)
            .status()
            .unwrap()
            .success()
    );
    let notices = UnixDatagram::bind(folder.path("notify")).unwrap();
    let upstream = format!("http://{}", refusing());
    let mut command = s3cors(&["run", "--upstream", &upstream, "--cors", &cors]);
    command
        .env("S3CORS_TEST_BLOCK_WORKER", &pipe)
        .env("NOTIFY_SOCKET", folder.path("notify"))
        .env("WATCHDOG_USEC", "200000");
    let mut proxy = Process::spawn(command);
    // Opened once the worker waits in its read.
    let blocked = File::options().write(true).open(&pipe).unwrap();

    let livez = |proxy: &Process| ask(proxy.admin, "GET", "/livez", &[("host", "localhost")]);
    let until = |proxy: &Process, status: u16| {
        let start = Instant::now();
        loop {
            let response = livez(proxy);
            if response.status == status {
                return response.text();
            }
            assert!(start.elapsed() < PATIENCE, "{}", response.text());
            thread::yield_now();
        }
    };
    let text = until(&proxy, 503);
    assert!(text.starts_with("1 worker"), "{text}");
    proxy.logged("the watchdog is not notified");
    // Everything sent before is read; then there is nothing more.
    notices.set_nonblocking(true).unwrap();
    let mut notice = [0; 1024];
    while notices.recv(&mut notice).is_ok() {}
    proxy.logged("the watchdog is not notified");
    assert!(notices.recv(&mut notice).is_err(), "a notice was sent");

    drop(blocked);
    assert_eq!(until(&proxy, 200), "ok\n");
    notices.set_nonblocking(false).unwrap();
    notices.set_read_timeout(Some(PATIENCE)).unwrap();
    let length = notices.recv(&mut notice).unwrap();
    assert_eq!(&notice[..length], b"WATCHDOG=1\n");
    assert_eq!(ask(proxy.address, "GET", "/", &[]).status, 502);
    proxy.signal("TERM");
    assert_eq!(proxy.exit_code(), 0);
}

#[test]
fn a_blocked_worker_does_not_hold_up_a_stop() {
    let folder = Folder::new("heartbeat-stop");
    let pipe = folder.path("block");
    assert!(
        Command::new("mkfifo")
            .arg(&pipe)
            .status()
            .unwrap()
            .success()
    );
    let config = folder.write(
        "s3cors.toml",
        "workers = 1\n[drain]\ndeadline_seconds = 1\n[[route]]\nhost = [\"*\"]\n\
         upstream = [\"http://127.0.0.1:1\"]\n",
    );
    let mut command = s3cors(&["run", "--config", &config]);
    command.env("S3CORS_TEST_BLOCK_WORKER", &pipe);
    let mut proxy = Process::spawn(command);
    let _blocked = File::options().write(true).open(&pipe).unwrap();
    proxy.signal("TERM");
    proxy.logged("a worker thread is blocked");
    assert_eq!(proxy.exit_code(), 0);
    let mut rest = String::new();
    proxy.log.read_to_string(&mut rest).unwrap();
    assert!(rest.contains("drained"), "{rest}");
}
