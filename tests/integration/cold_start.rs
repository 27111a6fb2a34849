//! A start with invalid files: an invalid bucket file does not prevent it, an invalid route
//! policy or config does.

use std::fs;
use std::os::unix::fs::symlink;
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::support::binary::{Folder, Process, run, s3cors};
use crate::support::client::ask;
use crate::support::upstream::MockUpstream;

const ORIGIN: &str = "https://app.example.com";

fn policy(origin: &str) -> String {
    format!(
        "<CORSConfiguration><CORSRule><AllowedOrigin>{origin}</AllowedOrigin>\
         <AllowedMethod>GET</AllowedMethod></CORSRule></CORSConfiguration>"
    )
}

/// A folder with a config of one route, whose policy allows everyone, and 200 buckets.
fn folder(name: &str, upstream: &MockUpstream) -> (Folder, String) {
    let folder = Folder::new(name);
    fs::create_dir(folder.path("buckets")).unwrap();
    for number in 0..200 {
        folder.write(&format!("buckets/b{number}.xml"), &policy(ORIGIN));
    }
    folder.write("route.xml", &policy("*"));
    let config = format!(
        "[[route]]\nname = 'store'\nhost = '*'\nupstream = 'http://{}'\ncors = 'route.xml'\n\
         buckets = {{ directory = 'buckets' }}\n",
        upstream.address
    );
    let config = folder.write("s3cors.toml", &config);
    (folder, config)
}

/// The origin that can read a bucket's object.
fn readable_for(process: &Process, bucket: &str) -> Vec<String> {
    let path = format!("/{bucket}/object");
    let response = ask(process.address, "GET", &path, &[("origin", ORIGIN)]);
    assert_eq!(response.status, 200);
    let values = response.values("access-control-allow-origin");
    values.iter().map(|value| (*value).to_owned()).collect()
}

fn metric(process: &Process, series: &str) -> f64 {
    let text = ask(process.admin, "GET", "/metrics", &[("host", "localhost")]).text();
    let value = text.lines().find_map(|line| line.strip_prefix(series));
    let value = value.unwrap_or_else(|| panic!("{series} in {text}"));
    value.trim().parse().unwrap()
}

fn names(files: &Value) -> Vec<String> {
    let files = files.as_array().unwrap().iter();
    let name = |file: &Value| {
        file["file"]
            .as_str()
            .unwrap()
            .rsplit('/')
            .next()
            .unwrap()
            .to_owned()
    };
    files.map(name).collect()
}

#[test]
fn invalid_bucket_files_do_not_stop_a_start_and_are_named() {
    let upstream = MockUpstream::answering("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n");
    let (folder, config) = folder("cold", &upstream);
    folder.write("buckets/bad.xml", "<CORSConfiguration>");
    folder.write("buckets/empty.xml", "");
    folder.write("buckets/huge.xml", &" ".repeat(3_000_000));
    fs::create_dir(folder.path("buckets/folder.xml")).unwrap();
    symlink("nowhere", folder.path("buckets/unreadable.xml")).unwrap();
    let invalid = ["bad", "empty", "folder", "huge", "unreadable"];

    let mut process = Process::start(&["run", "--config", &config]);
    assert_eq!(readable_for(&process, "b0"), [ORIGIN]);
    assert_eq!(readable_for(&process, "b199"), [ORIGIN]);
    assert_eq!(readable_for(&process, "without-a-file"), ["*"]);
    for bucket in invalid {
        let path = format!("/{bucket}/object");
        // Never the route's wider policy instead of the bucket's own.
        assert!(readable_for(&process, bucket).is_empty(), "{bucket}");
        let fields = [("origin", ORIGIN), ("access-control-request-method", "GET")];
        let preflight = ask(process.address, "OPTIONS", &path, &fields);
        assert_eq!(preflight.status, 403, "{bucket}");
        assert!(preflight.text().contains("CORS is not enabled"), "{bucket}");
    }
    let status = process.status();
    let files = invalid.map(|bucket| format!("{bucket}.xml"));
    assert_eq!(names(&status["out_of_date"]), files);
    assert_eq!(names(&status["problems"]), files);
    assert_eq!(
        metric(&process, "s3cors_buckets_without_policy{route=\"store\"}"),
        5.0
    );
    assert_eq!(metric(&process, "s3cors_config_out_of_date"), 1.0);

    // One file is fixed: its policy is in force, the others are unchanged.
    folder.write("buckets/bad.xml", &policy(ORIGIN));
    let line = process.logged("config partly reloaded");
    assert!(line.contains("buckets/bad.xml changed"), "{line}");
    assert!(line.contains("buckets/empty.xml"), "{line}");
    assert_eq!(readable_for(&process, "bad"), [ORIGIN]);
    assert!(readable_for(&process, "empty").is_empty());
    assert_eq!(
        metric(&process, "s3cors_buckets_without_policy{route=\"store\"}"),
        4.0
    );

    process.signal("TERM");
    process.logged("drained");
    assert_eq!(process.exit_code(), 0);
}

#[test]
fn a_start_logs_which_bucket_files_are_invalid() {
    let upstream = MockUpstream::answering("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n");
    let (folder, config) = folder("cold-log", &upstream);
    let bad = folder.write("buckets/bad.xml", "<CORSConfiguration>");
    let mut command = crate::support::binary::s3cors(&["run", "--config", &config]);
    let mut child = command
        .args(["--listen", "127.0.0.1:0", "--admin", "off"])
        .stderr(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    let mut log = std::io::BufReader::new(child.stderr.take().unwrap());
    let line = crate::support::binary::line_with(&mut log, "bad.xml");
    assert!(
        line.contains("ERROR") && line.contains(&format!("{bad}:1:")),
        "{line}"
    );
    crate::support::binary::line_with(&mut log, "served without CORS until");
    child.kill().unwrap();
    child.wait().unwrap();
}

#[test]
fn an_invalid_config_route_policy_or_folder_of_buckets_stops_a_start() {
    let upstream = MockUpstream::answering("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n");
    type Break = fn(&Folder);
    let breaks: [(&str, Break); 3] = [
        ("s3cors.toml", |folder| {
            fs::write(folder.path("s3cors.toml"), "[").unwrap();
        }),
        ("route.xml", |folder| {
            fs::write(folder.path("route.xml"), "<").unwrap();
        }),
        ("elsewhere", |folder| {
            fs::rename(folder.path("buckets"), folder.path("elsewhere")).unwrap();
        }),
    ];
    for (name, break_it) in breaks {
        let (folder, config) = folder(&format!("cold-{name}"), &upstream);
        // A bucket's file is also invalid, and does not hide the more serious error.
        folder.write("buckets/bad.xml", "<");
        break_it(&folder);
        let (code, _, stderr) = run(&["run", "--config", &config, "--admin", "off"]);
        assert_eq!(code, 2, "{name}: {stderr}");
        assert_eq!(run(&["check", "--config", &config]).0, 1, "{name}");
    }
    let (folder, config) = folder("cold-check", &upstream);
    folder.write("buckets/bad.xml", "<");
    let (code, stdout, _) = run(&["check", "--config", &config]);
    assert_eq!(code, 1, "{stdout}");
    assert!(stdout.contains("bad.xml"), "{stdout}");
}

/// The names of what the state folder has of policies.
fn saved(folder: &Folder) -> Vec<String> {
    let Ok(entries) = fs::read_dir(folder.path("state/policies")) else {
        return Vec::new();
    };
    let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    names.filter(|name| !name.starts_with('.')).collect()
}

/// Waits until so many policies are saved.
fn wait_for_saved(folder: &Folder, count: usize) {
    let end = Instant::now() + Duration::from_secs(30);
    while saved(folder).len() != count {
        let found = saved(folder).len();
        assert!(Instant::now() < end, "{found} of {count} saved");
        std::thread::yield_now();
    }
}

fn stop(mut process: Process) {
    process.signal("TERM");
    assert_eq!(process.exit_code(), 0);
}

#[test]
fn a_start_serves_the_last_good_version_of_invalid_policy_files() {
    let upstream = MockUpstream::answering("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n");
    let (folder, config) = folder("state", &upstream);
    let with_state = format!(
        "state_directory = 'state'\n{}",
        fs::read_to_string(&config).unwrap()
    );
    folder.write("s3cors.toml", &with_state);
    let invalid = ["bad", "empty", "huge", "unreadable"];
    for bucket in invalid.into_iter().chain(["deleted"]) {
        folder.write(&format!("buckets/{bucket}.xml"), &policy(ORIGIN));
    }
    let first = Process::start(&["run", "--config", &config]);
    wait_for_saved(&folder, 206);
    assert_eq!(
        metric(&first, "s3cors_policies_from_state{route=\"store\"}"),
        0.0
    );
    stop(first);

    folder.write("buckets/bad.xml", "<CORSConfiguration>");
    folder.write("buckets/empty.xml", "");
    folder.write("buckets/huge.xml", &" ".repeat(3_000_000));
    fs::remove_file(folder.path("buckets/unreadable.xml")).unwrap();
    fs::create_dir(folder.path("buckets/unreadable.xml")).unwrap();
    fs::remove_file(folder.path("buckets/deleted.xml")).unwrap();
    // Without the state, an invalid policy of a route stops a start.
    folder.write("route.xml", "<");
    let mut second = Process::start(&["run", "--config", &config]);
    for bucket in invalid.into_iter().chain(["b0", "b199"]) {
        assert_eq!(readable_for(&second, bucket), [ORIGIN], "{bucket}");
    }
    // The route's policy: the bucket's own was deleted.
    assert_eq!(readable_for(&second, "deleted"), ["*"]);
    let status = second.status();
    let names_of_files = invalid.map(|bucket| format!("{bucket}.xml"));
    assert_eq!(
        names(&status["out_of_date"]),
        [&names_of_files[..], &["route.xml".to_owned()]].concat()
    );
    assert_eq!(
        status["routes"][0]["buckets"]["policies"]["bad"]["from_state"],
        true
    );
    assert_eq!(
        metric(&second, "s3cors_policies_from_state{route=\"store\"}"),
        5.0
    );
    assert_eq!(
        metric(&second, "s3cors_buckets_without_policy{route=\"store\"}"),
        0.0
    );
    // The state of the deleted one is deleted, that of the invalid ones stays.
    wait_for_saved(&folder, 205);

    folder.write("buckets/bad.xml", &policy("https://new.example"));
    second.logged("config partly reloaded");
    assert!(readable_for(&second, "bad").is_empty());
    assert_eq!(
        metric(&second, "s3cors_policies_from_state{route=\"store\"}"),
        4.0
    );
    stop(second);
}

#[test]
fn damaged_state_is_ignored_and_a_folder_that_cannot_be_written_is_an_error() {
    let upstream = MockUpstream::answering("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n");
    let (folder, config) = folder("state-damaged", &upstream);
    let plain = fs::read_to_string(&config).unwrap();
    folder.write(
        "s3cors.toml",
        &format!("state_directory = 'state'\n{plain}"),
    );
    let first = Process::start(&["run", "--config", &config]);
    wait_for_saved(&folder, 201);
    stop(first);
    for name in saved(&folder) {
        let path = folder.path("state/policies").join(name);
        let mut bytes = fs::read(&path).unwrap();
        let last = bytes.last_mut().unwrap();
        *last = b' ';
        fs::write(path, bytes).unwrap();
    }
    // Before a start that succeeds, which writes the damaged state again.
    folder.write("route.xml", "<");
    assert_eq!(run(&["run", "--config", &config, "--admin", "off"]).0, 2);
    folder.write("route.xml", &policy("*"));
    folder.write("buckets/b7.xml", "<");
    let second = Process::start(&["run", "--config", &config]);
    assert!(readable_for(&second, "b7").is_empty());
    assert_eq!(readable_for(&second, "b8"), [ORIGIN]);
    assert_eq!(
        metric(&second, "s3cors_buckets_without_policy{route=\"store\"}"),
        1.0
    );
    stop(second);

    folder.write("file", "");
    folder.write("s3cors.toml", &format!("state_directory = 'file'\n{plain}"));
    let (code, _, stderr) = run(&["run", "--config", &config, "--admin", "off"]);
    assert_eq!(code, 1, "{stderr}");
    let path = folder.path("file").display().to_string();
    for part in ["`state_directory`", &path, "make it writable"] {
        assert!(stderr.contains(part), "{stderr}");
    }
}

#[test]
fn systemd_names_the_state_folder_unless_the_config_does() {
    let upstream = MockUpstream::answering("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n");
    let (folder, config) = folder("state-systemd", &upstream);
    let start = || {
        let mut command = s3cors(&["run", "--config", &config]);
        let state = folder.path("state").display().to_string();
        command.env("STATE_DIRECTORY", format!("{state}:{state}/buckets"));
        Process::spawn(command)
    };
    let process = start();
    wait_for_saved(&folder, 201);
    stop(process);
    fs::remove_dir_all(folder.path("state")).unwrap();
    let plain = fs::read_to_string(&config).unwrap();
    folder.write("s3cors.toml", &format!("state_directory = 'off'\n{plain}"));
    stop(start());
    assert!(!folder.path("state").exists());
}
