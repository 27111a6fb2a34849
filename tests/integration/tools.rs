//! What `check` and `explain` report about unusual files and names; the commands that they print
//! work as printed.

use std::io::Write;
use std::path::Path;
use std::process::{Command, Output, Stdio};

use serde_json::Value;

use crate::support::binary::Process;
use crate::support::configured::Configured;
use crate::support::folder::Folder;

const RULE: &str = "<CORSConfiguration><CORSRule><AllowedOrigin>https://app.example</AllowedOrigin>\
                    <AllowedMethod>GET</AllowedMethod></CORSRule></CORSConfiguration>";

fn s3cors(arguments: &[&str], folder: &Path, input: &[u8]) -> (i32, String) {
    let mut child = Command::new(env!("CARGO_BIN_EXE_s3cors"))
        .args(arguments)
        .current_dir(folder)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut stdin = child.stdin.take().unwrap();
    // A command that reads nothing closes the pipe.
    let _ = stdin.write_all(input);
    drop(stdin);
    let Output {
        status,
        stdout,
        stderr,
    } = child.wait_with_output().unwrap();
    let text = String::from_utf8([stdout, stderr].concat()).unwrap();
    (status.code().unwrap(), text)
}

/// The diagnostics of a config with one route, whose other lines are `route`.
fn check_route(folder: &Folder, route: &str) -> String {
    let config =
        format!("[[route]]\nhost = \"a.example\"\nupstream = \"http://127.0.0.1:1\"\n{route}");
    folder.write("s3cors.toml", &config);
    s3cors(&["check", "--config", "s3cors.toml"], &folder.path(""), b"").1
}

#[test]
fn check_reads_standard_input() {
    let folder = Folder::new();
    let (code, said) = s3cors(&["check", "-"], &folder.path(""), RULE.as_bytes());
    assert_eq!((code, &*said), (0, "ok: 1 policy\n"));
    let (code, said) = s3cors(&["check", "-"], &folder.path(""), b"<CORSConfiguration>");
    assert_eq!(code, 1, "{said}");
    assert!(said.contains("<stdin>:1:"), "{said}");
    let huge = vec![b' '; 1 << 17];
    let (code, said) = s3cors(&["check", "-"], &folder.path(""), &huge);
    assert_eq!(code, 1, "{said}");
}

#[test]
fn a_document_of_another_kind_is_named_once() {
    let utf16 =
        |text: &str| -> Vec<u8> { text.encode_utf16().flat_map(u16::to_le_bytes).collect() };
    let cases: [(&[u8], &str); 7] = [
        (b"<!DOCTYPE html><html></html>", "is an HTML page"),
        (b"\n<html lang=en><body>", "is an HTML page"),
        (
            b"<?xml version=\"1.0\"?>\n<Error><Code>NoSuchBucket</Code></Error>",
            "is an error response from S3",
        ),
        (
            b"<Error><Code>AccessDenied</Code></Error>",
            "is an error response from S3",
        ),
        (
            b"&lt;CORSConfiguration&gt;\n&lt;CORSRule&gt;&lt;/CORSRule&gt;",
            "has `&lt;` instead of `<`",
        ),
        (&utf16("[{\"AllowedOrigins\": []}]"), "is UTF-16"),
        (&utf16("{\"CORSRules\": []}"), "is UTF-16"),
    ];
    for (document, expected) in cases {
        let (code, said) = s3cors(&["check", "-"], &Folder::new().path(""), document);
        assert_eq!(code, 1);
        assert!(said.contains(expected), "{said}");
        assert!(said.ends_with("\n1 error\n"), "{said}");
    }
}

#[test]
fn an_unclosed_bracket_is_the_only_error() {
    let folder = Folder::new();
    for (config, place) in [
        (
            "[[route]]\nhost = [\"a.example\", \"b.example\"\nupstream = \"http://127.0.0.1:1\"\ncors = \"a.xml\"\n",
            "s3cors.toml:2:8",
        ),
        (
            "[[listen]]\naddress = \"127.0.0.1:0\"\ntls = [{ certificate = \"a\", key = \"b\" }\n[[route]]\nhost = \"a\"\n",
            "s3cors.toml:3:7",
        ),
        (
            "trusted_proxies = [\n  \"192.0.2.1\", # [\n[admin]\naddress = \"off\"\n",
            "s3cors.toml:1:19",
        ),
    ] {
        folder.write("s3cors.toml", config);
        let (_, said) = s3cors(&["check", "-c", "s3cors.toml"], &folder.path(""), b"");
        assert!(said.contains("this `[` is never closed"), "{said}");
        assert!(said.contains(place), "{said}");
        assert_eq!(said.matches("error[toml]").count(), 1, "{said}");
    }
}

#[test]
fn a_missing_policy_next_to_a_similar_name_gets_a_suggestion() {
    let folder = Folder::new();
    folder.write("cors.xml", RULE);
    for (name, meant) in [("corz.xml", "cors.xml"), ("cors.xm", "cors.xml")] {
        let said = check_route(&folder, &format!("cors = \"{name}\"\n"));
        assert!(said.contains("did you mean `"), "{said}");
        assert!(said.contains(&format!("{meant}`?")), "{said}");
    }
    let said = check_route(&folder, "cors = \"policies/photos.xml\"\n");
    assert!(!said.contains("did you mean"), "{said}");
}

#[test]
fn files_in_a_bucket_folder_without_a_bucket_get_a_warning() {
    let folder = Folder::new();
    for name in [
        "photos.xml",
        "NewBucket.xml",
        "upper.XML",
        "README",
        ".hidden.json",
    ] {
        folder.write(&format!("buckets/{name}"), RULE);
    }
    folder.write("buckets/data.json", "[]");
    let said = check_route(
        &folder,
        "buckets = { directory = \"buckets\", address = \"path\" }\n",
    );
    for expected in [
        "`NewBucket.xml` in the folder of buckets is never used",
        "rename it to newbucket.xml",
        "`data.json` in the folder of buckets is ignored",
        "s3cors import data.json > data.xml",
        "`upper.XML` in the folder of buckets is ignored",
        "rename it to upper.xml",
    ] {
        assert!(said.contains(expected), "{expected}\n{said}");
    }
    assert_eq!(
        said.matches("warning[bucket-file-name]").count(),
        3,
        "{said}"
    );
}

#[test]
fn a_pattern_below_a_public_suffix_gets_one_warning() {
    let folder = Folder::new();
    for (origin, code) in [
        ("https://*.vercel.app", "origin-public-suffix"),
        ("https://*.co.uk", "origin-public-suffix"),
        ("https://my-app-*.vercel.app", "origin-public-suffix"),
        ("https://*.com", "origin-top-level-domain"),
        ("https://*-team.vercel.app", "origin-wildcard-inside-label"),
    ] {
        let document = RULE.replace("https://app.example", origin);
        let (_, said) = s3cors(&["check", "-"], &folder.path(""), document.as_bytes());
        assert!(said.contains(&format!("warning[{code}]")), "{said}");
        assert!(said.ends_with("ok: 1 policy; 1 warning\n"), "{said}");
        assert!(said.contains("<stdin>:1:"), "{said}");
    }
}

#[test]
fn the_default_config_leaves_the_number_of_workers_to_the_machine() {
    let (_, config) = s3cors(&["config", "defaults"], &Folder::new().path(""), b"");
    assert!(
        !config.lines().any(|line| line.starts_with("workers")),
        "{config}"
    );
}

/// Each command line that `explain` prints, run by a shell, gets the expected response.
#[test]
fn the_commands_that_explain_prints_reach_the_proxy() {
    let folder = Folder::new();
    folder.write("cors.xml", RULE);
    let route = "[[route]]\nhost = \"photos.example.com\"\nupstream = \"http://127.0.0.1:1\"\n\
                 cors = \"cors.xml\"\n";
    folder.write("s3cors.toml", route);
    let config = folder.path("s3cors.toml");
    let by_port = Process::start(&["run", "--config", config.to_str().unwrap()]);
    let listen = format!("[[listen]]\naddress = \"{}\"\n", by_port.address);
    folder.write("s3cors.toml", &(listen + route));
    let socket = folder.path("proxy.sock");
    let listen = format!("[[listen]]\naddress = \"unix:{}\"\n", socket.display());
    folder.write("socket.toml", &(listen + route));
    let _by_socket = Configured::start(&folder.path("socket.toml"));
    for config in ["s3cors.toml", "socket.toml"] {
        for (url, method, verdict, expected) in [
            (
                "http://photos.example.com/a",
                "PUT",
                "refused",
                "HTTP/1.1 403",
            ),
            (
                "https://photos.example.com/a?b=[c]",
                "GET",
                "allowed",
                "HTTP/1.1 502",
            ),
            (
                "http://photos.example.com:8000/a'b",
                "HEAD",
                "refused",
                "HTTP/1.1 502",
            ),
        ] {
            let arguments = [
                "explain",
                "-c",
                config,
                "--url",
                url,
                "--origin",
                "https://app.example",
                "--method",
                method,
                "--format",
                "json",
            ];
            let (_, said) = s3cors(&arguments, &folder.path(""), b"");
            let said: Value = serde_json::from_str(&said).unwrap();
            assert_eq!(said["verdict"], verdict);
            let asked = if method == "PUT" {
                "preflight"
            } else {
                "actual"
            };
            let command = said[asked]["curl"].as_str().unwrap();
            let output = Command::new("sh").args(["-c", command]).output().unwrap();
            let answer = String::from_utf8(output.stdout).unwrap();
            assert!(answer.starts_with(expected), "{command}\n{answer}");
        }
    }
}

/// `buckets.root` is the policy of the service root only.
#[test]
fn the_service_root_has_its_own_policy() {
    let folder = Folder::new();
    folder.write("root.xml", RULE);
    folder.write(
        "buckets/photos.xml",
        &RULE.replace("app.example", "photos.example"),
    );
    for (address, url, verdict) in [
        ("path", "http://a.example/", "allowed"),
        ("path", "http://a.example", "allowed"),
        ("path", "http://a.example/payroll/x", "refused"),
        ("path", "http://a.example/photos", "refused"),
        ("both", "http://a.example/?list", "allowed"),
        ("both", "http://b.a.example/", "refused"),
        ("host", "http://a.example/", "allowed"),
        ("host", "http://a.example/payroll", "refused"),
        ("host", "http://photos.a.example/", "refused"),
    ] {
        let config = format!(
            "[[route]]\nhost = [\"a.example\", \"*.a.example\"]\nupstream = \"http://127.0.0.1:1\"\n\
             buckets = {{ directory = \"buckets\", address = \"{address}\", root = \"root.xml\" }}\n"
        );
        folder.write("s3cors.toml", &config);
        let (_, said) = s3cors(&["check", "-c", "s3cors.toml"], &folder.path(""), b"");
        assert!(said.contains("ok: 1 route, 2 policies"), "{said}");
        let arguments = [
            "explain",
            "-c",
            "s3cors.toml",
            "--url",
            url,
            "--origin",
            "https://app.example",
            "--method",
            "GET",
            "--format",
            "json",
        ];
        let (_, said) = s3cors(&arguments, &folder.path(""), b"");
        let said: Value = serde_json::from_str(&said).unwrap();
        assert_eq!(said["verdict"], verdict, "{address} {url}");
    }
    folder.write("root.xml", "<CORSConfiguration>");
    let (code, said) = s3cors(&["check", "-c", "s3cors.toml"], &folder.path(""), b"");
    assert_eq!(code, 1, "{said}");
    assert!(said.contains("root.xml:1:"), "{said}");
}
