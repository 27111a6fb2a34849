//! The binary: exit codes, output and signals.

use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::net::TcpListener;
use std::path::Path;
use std::process::{Command, Stdio};

use rustix::process::Signal;
use serde_json::{Value, json};

use crate::support::binary::{Folder, Process, line_with, run, s3cors};
use crate::support::client::{RawClient, ask};
use crate::support::upstream::MockUpstream;

const GOOD: &str = "config/cors/spa-upload.xml";

#[test]
fn bad_usage_exits_with_two() {
    for (arguments, said) in [
        (&[][..], "Usage"),
        (&["serve"], "unrecognized"),
        (&["run"], "--config"),
        (
            &["run", "--config", "a", "--upstream", "b", "--cors", "c"],
            "cannot be used with",
        ),
        (&["run", "--upstream", "http://127.0.0.1:1"], "--cors"),
        (&["run", "--config", "no-such-file"], "No such file"),
        (
            &["run", "--config", "config/minimal.toml", "--log", "x=y=z"],
            "--log",
        ),
        (&["check"], "nothing to check"),
        (&["check", "--config", "a", "b.xml"], "cannot be used with"),
        (&["explain", "--cors", GOOD, "--method", "GET"], "--origin"),
        (
            &[
                "explain",
                "--config",
                "config/minimal.toml",
                "--origin",
                "a",
                "--method",
                "GET",
            ],
            "--url",
        ),
        (
            &[
                "explain", "--cors", GOOD, "--origin", "a", "--method", "G T",
            ],
            "is not a method",
        ),
        (
            &[
                "explain",
                "--cors",
                "no-such-file",
                "--origin",
                "a",
                "--method",
                "GET",
            ],
            "No such file",
        ),
    ] {
        let (code, _, stderr) = run(arguments);
        assert_eq!(code, 2, "{arguments:?}: {stderr}");
        assert!(stderr.contains(said), "{arguments:?}: {stderr}");
    }
    for arguments in [&["--help"][..], &["--version"], &["run", "--help"]] {
        let (code, stdout, _) = run(arguments);
        assert_eq!(code, 0);
        assert!(!stdout.is_empty());
    }
}

#[test]
fn flags_override_environment_variables() {
    let url = ["--upstream", "http://127.0.0.1:1"];
    let flags = [&["run", "--admin", "nowhere"][..], &url, &["--cors", GOOD]].concat();
    let config = ["run", "--admin", "nowhere", "--config", "no-such-file"];
    let variables = [
        ("S3CORS_CONFIG", "no-such-file"),
        ("S3CORS_UPSTREAM", "http://127.0.0.1:1"),
        ("S3CORS_CORS", GOOD),
    ];
    let said = |arguments: &[&str], variables: &[(&str, &str)]| {
        let mut command = s3cors(arguments);
        let output = command.envs(variables.iter().copied()).output().unwrap();
        assert_eq!(output.status.code(), Some(2), "{arguments:?}");
        String::from_utf8(output.stderr).unwrap()
    };
    // The error shows which of them was used.
    for (arguments, variables, expected) in [
        (&flags[..], &variables[..], "`nowhere` isn't an address"),
        (&config, &variables, "No such file"),
        (&flags[..5], &variables, "`nowhere` isn't an address"),
        (&config[..3], &variables[1..], "`nowhere` isn't an address"),
        (&config[..3], &variables, "both are set in the environment"),
        (&config[..3], &variables[1..2], "S3CORS_CORS"),
        (
            &flags,
            &[("S3CORS_CONFIG", "")],
            "`nowhere` isn't an address",
        ),
        (
            &flags,
            &[("S3CORS_LOG", ""), ("S3CORS_LOG_FORMAT", "")],
            "`nowhere` isn't an address",
        ),
        (
            &flags,
            &[("S3CORS_TAKEOVER", "")],
            "`nowhere` isn't an address",
        ),
        (&flags, &[("S3CORS_TAKEOVER", "maybe")], "--takeover"),
        (&config, &[("S3CORS_UPSTREAM", "")], "No such file"),
        (&config[..3], &[("S3CORS_CONFIG", "")], "nothing to serve"),
        (&[&config[..4], &[""]].concat(), &[], "a value is required"),
    ] {
        let stderr = said(arguments, variables);
        assert!(stderr.contains(expected), "{arguments:?}: {stderr}");
    }
}

#[test]
fn explain_uses_the_config_from_the_environment() {
    let explain = |more: &[&str]| {
        let request = [
            "explain",
            "--origin",
            "https://a.example",
            "--method",
            "GET",
        ];
        let mut command = s3cors(&[&request[..], more].concat());
        let output = command.env("S3CORS_CONFIG", "config/minimal.toml").output();
        let output = output.unwrap();
        let text = [output.stdout, output.stderr].concat();
        (output.status.code(), String::from_utf8(text).unwrap())
    };
    let (code, text) = explain(&["--url", "http://photos.example.net/"]);
    assert_eq!(code, Some(0), "{text}");
    assert!(text.contains("route    * "), "{text}");
    let (code, text) = explain(&[]);
    assert_eq!(code, Some(2));
    assert!(
        text.contains("--url") && text.contains("S3CORS_CONFIG"),
        "{text}"
    );
    let (_, text) = explain(&["--cors", GOOD]);
    assert!(!text.contains("route    "), "{text}");
}

#[test]
fn a_file_of_another_kind_is_distinguished_from_a_broken_one() {
    let folder = Folder::new("kinds");
    let toml = folder.write("s3cors.toml", "# Ours.\n\n[[route]]\nhost = '*'\n");
    let json = folder.write("cors.json", "[\n  {\"AllowedMethods\": [\"GET\"]}\n]");
    let xml = folder.write("cors.xml", &fs::read_to_string(GOOD).unwrap());
    let wide = folder.path("wide.toml");
    let utf16 = |order: fn(u16) -> [u8; 2]| -> Vec<u8> {
        "workers = 1\n".encode_utf16().flat_map(order).collect()
    };
    for (arguments, said) in [
        (&["check", &toml][..], "`s3cors check --config`"),
        (&["check", &json], "`s3cors import`"),
        (&["check", "--config", &xml], "`s3cors check FILE`"),
    ] {
        let (code, stdout, _) = run(arguments);
        assert_eq!(code, 1);
        assert!(stdout.contains(said), "{arguments:?}: {stdout}");
        assert!(stdout.ends_with("\n1 error\n"), "{arguments:?}: {stdout}");
    }
    for bytes in [utf16(u16::to_le_bytes), utf16(u16::to_be_bytes)] {
        fs::write(&wide, bytes).unwrap();
        let (_, stdout, _) = run(&["check", "--config", wide.to_str().unwrap()]);
        assert!(stdout.contains("UTF-16, not UTF-8"), "{stdout}");
        assert!(
            stdout.contains("iconv") && stdout.ends_with("\n1 error\n"),
            "{stdout}"
        );
    }
}

#[test]
fn a_missing_config_gets_advice() {
    let (code, _, stderr) = run(&["run", "--config", "no-such-file"]);
    assert_eq!(code, 2);
    assert!(
        stderr.contains("help: `s3cors config defaults` prints one to start with"),
        "{stderr}"
    );
    assert!(stderr.contains("then run `s3cors check`"), "{stderr}");
}

#[test]
fn the_defaults_are_the_shipped_config() {
    let (code, stdout, _) = run(&["config", "defaults"]);
    assert_eq!(code, 0);
    assert_eq!(stdout, fs::read_to_string("config/s3cors.toml").unwrap());
    // They work as a start, wherever they are copied.
    let folder = Folder::new("defaults");
    let (code, stdout, stderr) = run(&["check", "--config", &folder.write("s3cors.toml", &stdout)]);
    assert_eq!(code, 0, "{stdout}{stderr}");
}

#[test]
fn help_has_examples_and_exit_codes() {
    for (arguments, line) in [
        (&["--help"][..], "s3cors demo"),
        (&["run", "--help"], "s3cors run --config s3cors.toml"),
        (
            &["check", "--help"],
            "s3cors check cors.xml buckets/photos.xml",
        ),
        (
            &["config", "defaults", "--help"],
            "s3cors config defaults > s3cors.toml",
        ),
    ] {
        let (code, stdout, _) = run(arguments);
        assert_eq!(code, 0);
        for part in ["\nExamples:\n", line, "\nExit codes:\n"] {
            assert!(
                stdout.contains(part),
                "{arguments:?} has no {part}: {stdout}"
            );
        }
    }
}

/// The rule of <https://no-color.org> and <https://bixense.com/clicolors>, for every output.
#[test]
fn colours_are_for_terminals_or_on_request() {
    let folder = Folder::new("colours");
    let bad = &folder.write("bad.xml", "<");
    let origin = ["--origin", "https://a.example", "--method", "GET"];
    let explain = [&["explain", "--cors", GOOD][..], &origin].concat();
    // It logs a warning about the policy, and exits because the admin address is missing.
    let doubtful = "<CORSConfiguration><CORSRule><AllowedOrigin>https://a.example/</AllowedOrigin>\
                    <AllowedMethod>GET</AllowedMethod></CORSRule></CORSConfiguration>";
    let doubtful = &folder.write("doubtful.xml", doubtful);
    let logs = [
        "run",
        "--upstream",
        "http://127.0.0.1:9",
        "--cors",
        doubtful,
    ];
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let taken = listener.local_addr().unwrap().to_string();
    let addresses = ["--listen", "127.0.0.1:0", "--admin", &taken];
    let logs = [&logs[..], &addresses].concat();
    for arguments in [
        &["--help"][..],
        &["run", "--help"],
        &["check", bad],
        &explain,
        &logs,
    ] {
        let is_coloured = |variables: &[(&str, &str)]| {
            let output = s3cors(arguments)
                .env_remove("NO_COLOR")
                .env_remove("CLICOLOR_FORCE")
                .envs(variables.iter().copied())
                .output()
                .unwrap();
            [output.stdout, output.stderr].concat().contains(&0x1b)
        };
        assert!(!is_coloured(&[]), "{arguments:?}");
        let insists = ("CLICOLOR_FORCE", "1");
        assert!(is_coloured(&[insists]), "{arguments:?}");
        assert!(!is_coloured(&[insists, ("NO_COLOR", "1")]), "{arguments:?}");
    }
}

#[test]
fn a_closed_pipe_is_not_a_failure() {
    for arguments in [
        &["--help"][..],
        &["config", "defaults"],
        &["completions", "bash"],
        &["man", "run"],
        &["check", GOOD],
        &["check", "--format", "json", GOOD],
    ] {
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        let output = s3cors(arguments).stdout(writer).output().unwrap();
        assert_eq!(output.status.code(), Some(0), "{arguments:?}");
        assert_eq!(String::from_utf8_lossy(&output.stderr), "", "{arguments:?}");
    }
}

#[test]
fn bash_completes_commands_flags_and_values() {
    let (code, script, _) = run(&["completions", "bash"]);
    assert_eq!(code, 0);
    for (words, expected) in [
        (&["s3cors", "ch"][..], "check"),
        (&["s3cors", "run", "--ups"], "--upstream"),
        (&["s3cors", "check", "--format", "j"], "json"),
        (&["s3cors", "config", "d"], "defaults"),
    ] {
        let last = words.len() - 1;
        let ask = format!(
            "{script}\nCOMP_WORDS=({}) COMP_CWORD={last}\n_s3cors s3cors '{}' '{}'\n\
             printf '%s\\n' \"${{COMPREPLY[@]}}\"",
            words.join(" "),
            words[last],
            words[last - 1],
        );
        let output = Command::new("bash").args(["-c", &ask]).output().unwrap();
        let completed = String::from_utf8(output.stdout).unwrap();
        assert_eq!(completed.trim(), expected, "{words:?}");
    }
}

#[test]
fn zsh_and_fish_have_scripts_too() {
    for (shell, start) in [("zsh", "#compdef s3cors"), ("fish", "# Print")] {
        let (code, script, _) = run(&["completions", shell]);
        assert_eq!(code, 0);
        assert!(script.starts_with(start), "{script}");
        assert!(script.contains("keep-going"));
    }
    assert_eq!(run(&["completions", "cmd.exe"]).0, 2);
}

#[test]
fn every_command_has_a_manual_page() {
    let folder = Folder::new("man");
    let path = folder.0.to_str().unwrap();
    assert_eq!(
        run(&["man", "--all", path]),
        (0, String::new(), String::new())
    );
    let mut names: Vec<_> = fs::read_dir(path)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    assert!(names.contains(&"s3cors.1".to_owned()), "{names:?}");
    assert!(
        names.contains(&"s3cors-config-defaults.1".to_owned()),
        "{names:?}"
    );
    for name in &names {
        let page = fs::read_to_string(folder.0.join(name)).unwrap();
        for section in [
            "NAME",
            "SYNOPSIS",
            "DESCRIPTION",
            "\"EXIT STATUS\"",
            "EXAMPLES",
        ] {
            assert!(
                page.contains(&format!(".SH {section}\n")),
                "{name}: {section}"
            );
        }
    }
    let (code, page, _) = run(&["man", "run"]);
    assert_eq!(code, 0);
    assert_eq!(
        page,
        fs::read_to_string(folder.0.join("s3cors-run.1")).unwrap()
    );

    let (code, _, stderr) = run(&["man", "serve"]);
    assert_eq!(code, 2);
    assert!(stderr.contains("unknown command `serve`"), "{stderr}");
    let (code, _, stderr) = run(&["man", "--all", "no-such-folder"]);
    assert_eq!(code, 1);
    assert!(
        stderr.contains("cannot write no-such-folder/s3cors.1: "),
        "{stderr}"
    );
}

#[test]
fn check_distinguishes_valid_invalid_and_doubtful_files() {
    let folder = Folder::new("check");
    let doubtful = "<CORSConfiguration><CORSRule><AllowedOrigin>https://a.example/</AllowedOrigin>\
                    <AllowedMethod>GET</AllowedMethod></CORSRule></CORSConfiguration>";
    let doubtful = &folder.write("doubtful.xml", doubtful);
    let bad = "<CORSConfiguration>\n  <CORSRule>\n    <AllowedMethod>GET</AllowedMethod>\n  \
               </CORSRule>\n</CORSConfiguration>";
    let bad = &folder.write("bad.xml", bad);

    assert_eq!(run(&["check", "--config", "config/s3cors.toml"]).0, 0);
    let (code, stdout, _) = run(&["check", GOOD]);
    assert_eq!((code, &*stdout), (0, "ok: 1 policy\n"));
    assert_eq!(run(&["check", "--deny-warnings", GOOD]).0, 0);

    let (code, stdout, _) = run(&["check", doubtful]);
    assert_eq!(code, 0);
    assert!(stdout.contains("warning["), "{stdout}");
    assert_eq!(run(&["check", "--deny-warnings", doubtful]).0, 1);

    let (code, stdout, _) = run(&["check", GOOD, doubtful, bad]);
    assert_eq!(code, 1);
    assert!(stdout.contains("error[MalformedXML]"), "{stdout}");
    // No colours without a terminal.
    assert!(!stdout.contains('\u{1b}'));

    let (code, stdout, _) = run(&["check", "--format", "json", bad]);
    assert_eq!(code, 1);
    let report: Value = serde_json::from_str(&stdout).unwrap();
    assert_eq!(report[0]["code"], "MalformedXML");
    assert_eq!(
        (&report[0]["line"], &report[0]["column"]),
        (&2.into(), &3.into())
    );
    let (_, stdout, _) = run(&["check", "--format", "json", GOOD]);
    assert_eq!(stdout, "[]\n");

    let config = s3cors(&["check"])
        .env("S3CORS_CONFIG", "config/minimal.toml")
        .status();
    assert_eq!(config.unwrap().code(), Some(0));
}

#[test]
fn explain_distinguishes_allowed_from_refused() {
    let by_policy = |origin: &str, method: &str, format: &str| {
        run(&[
            "explain", "--cors", GOOD, "--origin", origin, "--method", method, "--format", format,
        ])
    };
    let (code, stdout, _) = by_policy("https://app.example.com", "PUT", "human");
    assert_eq!(code, 0);
    assert!(stdout.starts_with("ALLOWED: rule 1 allows it"), "{stdout}");
    assert!(stdout.contains("Access-Control-Allow-Origin: https://app.example.com"));
    assert!(stdout.contains("rule 2 (everybody) does not match:"));

    let (code, stdout, _) = by_policy("https://app.example.com.evil.example", "PUT", "human");
    assert_eq!(code, 1);
    for part in [
        "REFUSED: the preflight is refused",
        "rule 1 (application) does not match",
        "answer: 403 AccessForbidden",
        "To allow it: ",
        "<AllowedOrigin>https://app.example.com.evil.example</AllowedOrigin>",
        "That lets in:",
    ] {
        assert!(stdout.contains(part), "{part} in {stdout}");
    }
    let (code, stdout, _) = by_policy("https://evil.example\u{1b}[31m", "PUT", "human");
    assert!(code == 2 && !stdout.contains('\u{1b}'));

    let (code, stdout, _) = by_policy("https://evil.example", "PUT", "json");
    assert_eq!(code, 1);
    let document: Value = serde_json::from_str(&stdout).unwrap();
    assert_eq!(document["verdict"], "refused");

    let by_config = |url: &str| {
        let request = ["--origin", "https://app.example.com", "--method", "DELETE"];
        run(&[
            &["explain", "--config", "config/minimal.toml", "--url", url],
            &request[..],
        ]
        .concat())
    };
    let (code, stdout, _) = by_config("http://photos.example.com/cat.jpg");
    assert_eq!(code, 1);
    for part in [
        "route    photos.example.com",
        "public-read.xml",
        "curl -s -i -X OPTIONS",
    ] {
        assert!(stdout.contains(part), "{part} in {stdout}");
    }
    let (code, stdout, _) = by_config("https://app.example.com/cat.jpg");
    assert_eq!(code, 0);
    for part in [
        "does not use CORS",
        "does not matter for a page of the same origin:\n  rule 1 (application) matches",
        "response fields:\n    Access-Control-Allow-Origin: ",
    ] {
        assert!(stdout.contains(part), "{part} in {stdout}");
    }
    assert_eq!(by_config("http://anything.example/cat.jpg").0, 0);
    assert_eq!(by_config("gopher://a").0, 2);
}

#[test]
fn a_port_in_use_is_named() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    for flags in [
        ["--listen", &address, "--admin", "off"],
        ["--listen", "127.0.0.1:0", "--admin", &address],
    ] {
        let (code, _, stderr) =
            run(&[&["run", "--config", "config/minimal.toml"], &flags[..]].concat());
        assert_eq!(code, 1, "{stderr}");
        assert!(stderr.contains(&address), "{stderr}");
        assert!(stderr.contains("Address already in use"), "{stderr}");
        assert!(stderr.contains("help: `ss -ltnp` shows"), "{stderr}");
    }
}

#[test]
fn a_port_that_another_proxy_serves_is_in_use_too() {
    let running = Process::start(&["run", "--config", "config/minimal.toml"]);
    let address = running.address.to_string();
    let minimal = ["run", "--config", "config/minimal.toml", "--admin", "off"];
    let (code, _, stderr) = run(&[&minimal[..], &["--listen", &address]].concat());
    assert_eq!(code, 1, "{stderr}");
    assert!(stderr.contains(&address), "{stderr}");
}

#[test]
fn an_invalid_config_prevents_a_start_and_every_problem_is_reported() {
    let (code, _, stderr) = run(&[
        "run",
        "--config",
        "tests/data/diagnostics/every_kind_at_once.toml",
    ]);
    assert_eq!(code, 2);
    let errors = stderr.matches("error[").count();
    assert!(errors > 15, "{stderr}");
    assert!(
        stderr.contains(&format!("s3cors: {errors} errors: not started")),
        "{stderr}"
    );
}

/// S3 accepts documents of 64 KiB and 100 rules (PutBucketCors).
#[test]
fn the_largest_policy_works_and_a_larger_one_is_rejected_as_in_s3() {
    let folder = Folder::new("largest");
    let document = |rules: usize, bytes: usize| {
        let rules: String = (1..=rules)
            .map(|number| {
                format!(
                    "<CORSRule><AllowedOrigin>https://r{number}.example</AllowedOrigin>\
                     <AllowedMethod>GET</AllowedMethod></CORSRule>"
                )
            })
            .collect();
        let ends = ("<CORSConfiguration>", "</CORSConfiguration>");
        let room = bytes - ends.0.len() - ends.1.len();
        format!("{}{rules:room$}{}", ends.0, ends.1)
    };
    const KIB_64: usize = 64 * 1024;
    let largest = folder.write("largest.xml", &document(100, KIB_64));
    let upstream = MockUpstream::answering("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi");
    let url = format!("http://{}", upstream.address);
    let mut process = Process::start(&["run", "--upstream", &url, "--cors", &largest]);
    let last = [("origin", "https://r100.example")];
    let response = ask(process.address, "GET", "/", &last);
    assert_eq!(
        response.values("access-control-allow-origin"),
        ["https://r100.example"]
    );
    process.signal("TERM");
    assert_eq!(process.exit_code(), 0);

    for (rules, bytes, error) in [
        (
            101,
            KIB_64,
            "error[InvalidRequest]: The number of CORS rules should not exceed",
        ),
        (100, KIB_64 + 1, "error[MalformedXML]"),
    ] {
        let refused = folder.write("refused.xml", &document(rules, bytes));
        let (code, _, stderr) = run(&["run", "--upstream", &url, "--cors", &refused]);
        assert_eq!(code, 2);
        assert!(stderr.contains(error), "{stderr}");
        assert_eq!(run(&["check", &refused]).0, 1);
    }
}

#[test]
fn a_proxy_with_flags_serves_reloads_and_drains() {
    let folder = Folder::new("flags");
    let cors = folder.write("cors.xml", &fs::read_to_string(GOOD).unwrap());
    let upstream = MockUpstream::answering("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi");
    let url = format!("http://{}", upstream.address);
    let mut process = Process::start(&["run", "--upstream", &url, "--cors", &cors]);
    let origin = [("origin", "https://app.example.com")];
    let response = ask(
        process.address,
        "PUT",
        "/a",
        &[&origin[..], &[("content-length", "0")]].concat(),
    );
    assert_eq!(response.text(), "hi");
    assert_eq!(
        response.values("access-control-allow-origin"),
        ["https://app.example.com"]
    );
    assert_eq!(
        ask(process.admin, "GET", "/readyz", &[("host", "localhost")]).status,
        200
    );

    fs::copy("config/cors/public-read.xml", &cors).unwrap();
    let line = process.logged("config reloaded");
    assert!(line.contains(&format!("{cors} changed")), "{line}");
    let response = ask(process.address, "GET", "/a", &origin);
    assert_eq!(response.values("access-control-allow-origin"), ["*"]);
    assert_eq!(process.status()["generation"], 2);

    fs::write(&cors, "<").unwrap();
    let line = process.logged("config not reloaded");
    assert!(line.contains(&format!("{cors}:1:")), "{line}");
    assert_eq!(process.status()["last_reload"]["applied"], false);
    assert_eq!(process.status()["last_reload"]["result"], "rejected");
    assert_eq!(process.status()["out_of_date"][0]["file"], cors);
    let response = ask(process.address, "GET", "/a", &origin);
    assert_eq!(response.values("access-control-allow-origin"), ["*"]);

    fs::copy(GOOD, &cors).unwrap();
    process.logged("config reloaded");
    process.signal("HUP");
    process.logged("config reloaded");
    assert_eq!(process.status()["generation"], 4);

    process.signal("TERM");
    process.logged("drained");
    assert_eq!(process.exit_code(), 0);
}

#[test]
fn a_start_logs_its_settings() {
    let folder = Folder::new("starting");
    let route =
        |hosts: &str| format!("[[route]]\nhost = {hosts}\nupstream = 'http://127.0.0.1:9'\n");
    let path = folder.write(
        "s3cors.toml",
        &(route("'a.example'") + &route("['b.example', '*']")),
    );
    let mut command = s3cors(&["run", "--config", &path, "--log-format", "json"]);
    let mut child = command
        .args(["--listen", "127.0.0.1:0", "--admin", "off"])
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let line = line_with(
        &mut BufReader::new(child.stderr.take().unwrap()),
        "starting",
    );
    child.kill().unwrap();
    child.wait().unwrap();
    let line: Value = serde_json::from_str(&line).unwrap();
    assert_eq!(line["version"], env!("CARGO_PKG_VERSION"));
    assert_eq!((&line["routes"], &line["hosts"]), (&json!(2), &json!(3)));
}

#[test]
fn an_unavailable_unix_socket_gets_its_own_advice() {
    let folder = Folder::new("socket");
    let config = "[[route]]\nhost = '*'\nupstream = 'http://127.0.0.1:9'\n";
    let config = folder.write("s3cors.toml", config);
    let taken = folder.write("taken.sock", "");
    for (path, help) in [
        (taken, "`ss -lxp`"),
        (format!("{config}.d/http.sock"), "its folder must exist"),
    ] {
        let listen = format!("unix:{path}");
        let (code, _, stderr) = run(&["run", "--config", &config, "--listen", &listen]);
        assert_eq!(code, 1);
        assert!(stderr.contains(help), "{stderr}");
    }
}

#[test]
fn keys_that_wait_for_a_restart_are_in_the_status() {
    let folder = Folder::new("restart");
    let config = |workers: &str| {
        format!("workers = {workers}\n[[route]]\nhost = '*'\nupstream = 'http://127.0.0.1:9'\n")
    };
    let path = folder.write("s3cors.toml", &config("1"));
    let mut process = Process::start(&["run", "--config", &path]);
    assert_eq!(process.status()["restart_needed_for"], json!([]));

    fs::write(&path, config("2")).unwrap();
    process.logged("need a restart");
    assert_eq!(process.status()["restart_needed_for"], json!(["workers"]));

    fs::write(&path, config("'two'")).unwrap();
    let line = process.logged("config not reloaded");
    assert!(line.contains("s3cors.toml:1:"), "{line}");
    assert_eq!(process.status()["last_reload"]["applied"], false);

    // Restores the initial settings.
    fs::write(&path, config("1")).unwrap();
    process.logged("config reloaded");
    process.signal("HUP");
    process.logged("config reloaded");
    assert_eq!(process.status()["restart_needed_for"], json!([]));
}

#[test]
fn a_second_signal_does_not_wait() {
    let folder = Folder::new("second");
    let upstream = MockUpstream::scripted(true, |_| {
        std::thread::park();
        false
    });
    let config = format!(
        "[[route]]\nhost = '*'\nupstream = 'http://{}'\n[drain]\ndeadline_seconds = 600\n",
        upstream.address
    );
    let config = folder.write("s3cors.toml", &config);
    let mut process = Process::start(&["run", "--config", &config]);
    let mut client = RawClient::connect(process.address);
    client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    upstream.wait_for_request();
    process.signal("INT");
    process.logged("draining");
    assert_eq!(
        ask(process.admin, "GET", "/readyz", &[("host", "localhost")]).status,
        503
    );
    // Signals right after the first count as the same.
    loop {
        process.signal("TERM");
        let mut line = String::new();
        process.log.read_line(&mut line).unwrap();
        if line.contains("second signal") {
            break;
        }
        // The check of the upstreams may log that the start is complete only now.
        let is_start = line.contains("ready: ");
        assert!(is_start || line.contains("counts as the same"), "{line}");
    }
    assert_eq!(process.exit_code(), 1);
}

/// Like timeout(1): the process, then its group.
#[test]
fn a_signal_that_comes_twice_counts_once() {
    let folder = Folder::new("twice");
    let (go, gone) = std::sync::mpsc::channel::<()>();
    let gone = std::sync::Mutex::new(gone);
    let upstream = MockUpstream::scripted(true, move |exchange| {
        gone.lock().unwrap().recv().unwrap();
        exchange.try_send("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi")
    });
    let config = format!(
        "[[route]]\nhost = '*'\nupstream = 'http://{}'\n[drain]\ndeadline_seconds = 600\n",
        upstream.address
    );
    let config = folder.write("s3cors.toml", &config);
    let mut process = Process::start(&["run", "--config", &config]);
    let mut client = RawClient::connect(process.address);
    client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    upstream.wait_for_request();
    process.signals(&[Signal::INT, Signal::TERM]);
    process.logged("draining; another signal stops at once");
    process.logged("counts as the same");
    go.send(()).unwrap();
    assert_eq!(client.receive("GET").text(), "hi");
    process.logged("drained");
    assert_eq!(process.exit_code(), 0);
}

#[test]
fn keep_going_serves_a_broken_route_without_cors_and_reports_it() {
    let folder = Folder::new("keep-going");
    folder.write("broken.xml", "<");
    let upstream = MockUpstream::answering("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi");
    let route = |host: &str, cors: &str| {
        let address = upstream.address;
        format!("[[route]]\nhost = '{host}'\nupstream = 'http://{address}'\ncors = '{cors}'\n")
    };
    let good = Path::new(env!("CARGO_MANIFEST_DIR")).join(GOOD);
    let text = route("a.example", "broken.xml") + &route("b.example", good.to_str().unwrap());
    let config = folder.write("s3cors.toml", &text);
    assert_eq!(run(&["run", "--config", &config]).0, 2);

    let keep_going = |value| {
        let mut command = s3cors(&["run", "--config", &config]);
        command.env("S3CORS_KEEP_GOING", value);
        command
    };
    for value in ["", "no"] {
        let status = keep_going(value).status().unwrap();
        assert_eq!(status.code(), Some(2), "{value}");
    }
    let mut process = Process::spawn(keep_going("1"));
    process.signal("TERM");
    assert_eq!(process.exit_code(), 0);

    let mut process = Process::start(&["run", "--config", &config, "--keep-going"]);
    let origin = |host: &'static str| [("host", host), ("origin", "https://app.example.com")];
    let response = ask(process.address, "GET", "/", &origin("a.example"));
    assert_eq!(response.text(), "hi");
    assert!(response.values("access-control-allow-origin").is_empty());
    let response = ask(process.address, "GET", "/", &origin("b.example"));
    assert_eq!(response.values("access-control-allow-origin").len(), 1);
    let problems = process.status()["problems"].clone();
    assert_eq!(problems[0]["route"], "a.example");
    assert!(
        problems[0]["error"]
            .as_str()
            .unwrap()
            .contains("broken.xml:1:")
    );
    process.signal("TERM");
    assert_eq!(process.exit_code(), 0);
}

#[test]
fn the_environment_can_replace_flags() {
    let upstream = MockUpstream::answering("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi");
    let mut child = s3cors(&["run"])
        .env("S3CORS_UPSTREAM", format!("http://{}", upstream.address))
        .env("S3CORS_CORS", GOOD)
        .env("S3CORS_LISTEN", "127.0.0.1:0")
        .env("S3CORS_ADMIN", "off")
        .env("S3CORS_LOG", "info")
        .env("S3CORS_LOG_FORMAT", "json")
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut log = BufReader::new(child.stderr.take().unwrap());
    let line = line_with(&mut log, "listening");
    let line: Value = serde_json::from_str(&line).unwrap();
    let address = line["address"].as_str().unwrap().parse().unwrap();
    assert_eq!(ask(address, "GET", "/", &[]).text(), "hi");
    child.kill().unwrap();
    child.wait().unwrap();
}

#[test]
fn a_demo_whose_address_is_taken_names_the_flag() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    for flag in ["--page", "--store"] {
        let (code, _, error) = run(&["demo", flag, &address]);
        assert_eq!(code, 1, "{error}");
        assert!(error.contains(&address) && error.contains(flag), "{error}");
    }
}

#[test]
fn the_demo_does_what_it_prints() {
    let mut process = Process::start(&["demo", "--page", "127.0.0.1:0"]);
    let mut stdout = BufReader::new(process.child.stdout.take().unwrap());
    let mut first = String::new();
    stdout.read_line(&mut first).unwrap();
    let page = first.trim().strip_prefix("http://").unwrap();
    let page = page.strip_suffix('/').unwrap();
    let ask_page = |path| ask(page.parse().unwrap(), "GET", path, &[("Host", page)]);
    let answer = ask_page("/");
    assert_eq!(answer.status, 200);
    assert!(answer.text().contains("Straight to the storage"));
    assert!(answer.values("access-control-allow-origin").is_empty());
    let facts: Value = serde_json::from_str(&ask_page("/demo.json").text()).unwrap();
    assert_eq!(facts["page"], format!("http://{page}"));
    assert_eq!(facts["proxy"], format!("http://{}", process.address));

    let mut lines = Vec::new();
    while lines.len() < 3 {
        let line = line_with(&mut stdout, "  curl ");
        lines.push(line);
    }
    let mut answers = Vec::new();
    for line in &lines {
        // Parses a curl line: its URL, its method, its fields.
        let words: Vec<&str> = line.trim().split('\'').collect();
        let options: Vec<&str> = words[0].split(' ').collect();
        let url = options
            .iter()
            .find(|word| word.starts_with("http://"))
            .unwrap();
        let address = url.strip_prefix("http://").unwrap();
        let (address, _) = address.split_once('/').unwrap();
        let path = url.split_once(address).unwrap().1;
        let fields: Vec<(&str, &str)> = words
            .iter()
            .filter_map(|word| word.split_once(": "))
            .collect();
        let method = if options.contains(&"OPTIONS") {
            "OPTIONS"
        } else {
            "GET"
        };
        answers.push(ask(address.parse().unwrap(), method, path, &fields));
    }
    let statuses: Vec<u16> = answers.iter().map(|answer| answer.status).collect();
    assert_eq!(statuses, [200, 200, 403]);
    let allowed = |index: usize| answers[index].values("access-control-allow-origin");
    assert_eq!(allowed(0), ["https://app.example.com"]);
    assert_eq!(allowed(1), ["https://app.example.com"]);
    assert!(allowed(2).is_empty());
    assert_eq!(answers[1].text(), "Hello from behind the proxy.\n");

    let mut client = RawClient::connect(process.address);
    let put = "PUT /b HTTP/1.1\r\nHost: a\r\nContent-Type: text/x\r\nContent-Length: 3\r\n\r\nabc";
    assert_eq!(client.send(put).receive("PUT").status, 200);
    let stored = ask(process.address, "GET", "/b", &[("range", "bytes=1-")]);
    assert_eq!((stored.status, &*stored.text()), (206, "bc"));
    assert_eq!(stored.values("content-type"), ["text/x"]);
    assert_eq!(ask(process.address, "DELETE", "/b", &[]).status, 204);
    assert_eq!(ask(process.address, "HEAD", "/b", &[]).status, 404);
    drop(client);

    process.signal("INT");
    assert_eq!(process.exit_code(), 0);
    let mut rest = String::new();
    process.log.read_to_string(&mut rest).unwrap();
    assert!(rest.contains("drained"), "{rest}");
}
