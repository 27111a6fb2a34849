//! `s3cors verdict`: exchanges in, verdicts out, one per line.

use std::io::Write;
use std::process::Stdio;

use serde_json::{Value, json};

use crate::support::binary::{Folder, run, s3cors};

/// Runs it with `input` on standard input.
fn verdict(arguments: &[&str], input: &[u8]) -> (i32, String, String) {
    let mut command = s3cors(&[&["verdict"], arguments].concat());
    let command = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    let mut stdin = child.stdin.take().unwrap();
    let input = input.to_vec();
    let writer = std::thread::spawn(move || {
        // The program may have exited at an invalid line.
        let _ = stdin.write_all(&input);
    });
    let output = child.wait_with_output().unwrap();
    writer.join().unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    (
        output.status.code().unwrap(),
        text(output.stdout),
        text(output.stderr),
    )
}

fn exchange() -> Value {
    json!({
        "request": {"origin": "https://app.example", "url": "https://s3.example/b/k", "method": "PUT",
                    "headers": [["x-a", "1"]], "credentials": "omit", "mode": "cors"},
        "preflight": {"status": 200, "headers": [["Access-Control-Allow-Origin", "*"]]},
        "response": {"status": 200, "headers": [["Access-Control-Allow-Origin", "*"], ["Content-Type", "text/plain"]]},
    })
}

#[test]
fn each_line_gets_a_verdict_in_the_documented_form() {
    let mut readable = exchange();
    readable["request"]["method"] = "GET".into();
    readable["request"]["headers"] = json!([]);
    let input = format!("{}\n\n{readable}\n", exchange());
    let (code, output, complaint) = verdict(&["--format", "json"], input.as_bytes());
    assert_eq!((code, &*complaint), (1, ""));
    let lines: Vec<Value> = output
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    let [blocked, readable] = &*lines else {
        panic!("{output}");
    };
    assert_eq!(blocked["outcome"], "blocked");
    assert_eq!(blocked["error"], "MethodDisallowedByPreflightResponse");
    assert_eq!(blocked["parameter"], "PUT");
    assert_eq!(blocked["preflight_sent"], true);
    for engine in ["chromium", "firefox", "webkit"] {
        assert!(blocked["messages"][engine].is_string(), "{engine}");
    }
    assert_eq!(blocked.get("differs"), None);
    let expected = json!({
        "preflight_sent": false, "outcome": "readable", "error": null, "parameter": "",
        "readable_headers": ["content-type"], "messages": {},
    });
    assert_eq!(*readable, expected);

    let (code, output, _) = verdict(&["-"], format!("{readable}\n").as_bytes());
    assert_eq!((code, &*output), (2, ""), "a verdict is not an exchange");
}

#[test]
fn the_text_format_has_the_console_messages() {
    let (code, output, _) = verdict(&[], exchange().to_string().as_bytes());
    assert_eq!(code, 1);
    assert!(
        output.starts_with("line 1: blocked, with a preflight: PUT https://s3.example/b/k"),
        "{output}"
    );
    assert!(output.contains("Chromium: Access to fetch at"), "{output}");
    assert!(
        output.contains("Firefox: Cross-Origin Request Blocked"),
        "{output}"
    );
    assert!(
        output.contains("WebKit: Method PUT is not allowed"),
        "{output}"
    );
}

#[test]
fn a_line_that_is_not_an_exchange_is_named_and_earlier_verdicts_stand() {
    let changed = |change: fn(&mut Value)| {
        let mut value = exchange();
        change(&mut value);
        value.to_string()
    };
    let cases = [
        ("{".to_owned(), "is not JSON"),
        ("[]".to_owned(), "exchange: is not an object"),
        ("{}".to_owned(), "request: is missing"),
        (
            changed(|value| value["request"]["origin"] = "not an origin".into()),
            "isn't an origin",
        ),
        (
            changed(|value| value["request"]["url"] = "/b/k".into()),
            "isn't an absolute http or https URL",
        ),
        (
            changed(|value| value["request"]["method"] = "P T".into()),
            "isn't a valid method",
        ),
        (
            changed(|value| value["request"]["mode"] = "navigate".into()),
            "is not one of cors and no-cors",
        ),
        (
            changed(|value| value["request"]["credentials"] = 1.into()),
            "request.credentials: is not a string",
        ),
        (
            changed(|value| value["request"]["headers"][0] = json!(["x-a"])),
            "request.headers[0]: is not a pair",
        ),
        (
            changed(|value| value["request"]["headers"][0][1] = "a\nb".into()),
            "control characters",
        ),
        (
            changed(|value| value["preflight"]["status"] = 99.into()),
            "preflight.status: is not a status",
        ),
        (
            changed(|value| value["reponse"] = json!(null)),
            "has an unknown member `reponse`",
        ),
        (
            changed(|value| value["redirected"] = json!([{"status": 200}])),
            "redirected[0]: has an unknown member `status`",
        ),
        ("x".repeat(9 << 20), "is longer than 8 MiB"),
    ];
    for (line, why) in cases {
        let input = format!("{}\n{line}\n{}\n", exchange(), exchange());
        let (code, output, complaint) = verdict(&["--format", "json"], input.as_bytes());
        assert_eq!((code, output.lines().count()), (2, 1), "{why}: {complaint}");
        assert!(
            complaint.starts_with("s3cors: <stdin>: line 2: "),
            "{complaint}"
        );
        assert!(complaint.contains(why), "{complaint}");
    }
    let (code, _, complaint) = verdict(&["no-such-file"], b"");
    assert_eq!(code, 2);
    assert!(
        complaint.contains("cannot read no-such-file"),
        "{complaint}"
    );
}

/// The result of `explain` for a policy: the exit code, and the JSON.
fn explained(cors: &str, more: &[&str]) -> (i32, Value) {
    let fixed = [
        "explain",
        "--cors",
        cors,
        "--origin",
        "https://app.example",
        "--format",
        "json",
    ];
    let (code, output, complaint) = run(&[&fixed[..], more].concat());
    (
        code,
        serde_json::from_str(&output).unwrap_or_else(|error| panic!("{error}: {complaint}")),
    )
}

#[test]
fn explain_allows_only_requests_that_give_the_script_everything_it_wants() {
    let folder = Folder::new("explain-browser");
    let file = |name: &str, rules: &str| {
        let path = folder.path(name);
        std::fs::write(
            &path,
            format!("<CORSConfiguration>{rules}</CORSConfiguration>"),
        )
        .unwrap();
        path.display().to_string()
    };
    let any = file(
        "any.xml",
        "<CORSRule><AllowedOrigin>*</AllowedOrigin><AllowedMethod>GET</AllowedMethod>\
         <ExposeHeader>ETag</ExposeHeader></CORSRule>",
    );
    let named = file(
        "named.xml",
        "<CORSRule><AllowedOrigin>https://app.example</AllowedOrigin><AllowedMethod>GET</AllowedMethod></CORSRule>",
    );
    let get = ["--method", "GET"];
    let cases: [(&str, &[&str], i32); 9] = [
        (&any, &[], 0),
        (&any, &["--credentials", "omit", "--read", "etag"], 0),
        (&any, &["--credentials", "include"], 1),
        (&any, &["--read", "ETag,x-amz-request-id"], 1),
        (&named, &["--credentials", "include"], 0),
        (
            &named,
            &["--credentials", "include", "--read", "Content-Type"],
            0,
        ),
        (&named, &["--read", "etag"], 1),
        (&named, &["--read", "set-cookie"], 1),
        (&named, &["--header", "content-type"], 1),
    ];
    for (policy, more, expected) in cases {
        let (code, document) = explained(policy, &[&get, more].concat());
        assert_eq!(code, expected, "{policy} {more:?}");
        let verdict = if code == 0 { "allowed" } else { "refused" };
        assert_eq!(document["verdict"], verdict);
    }

    let (_, document) = explained(&any, &[&get[..], &["--credentials", "include"]].concat());
    assert_eq!(document["browser"]["error"], "WildcardOriginNotAllowed");
    let advice = &document["actual"]["advice"];
    assert_eq!(advice["edits"][0]["text"], "add a rule before rule 1");
    let xml = advice["xml"].as_str().unwrap();
    assert!(
        xml.contains("<AllowedOrigin>https://app.example</AllowedOrigin>"),
        "{xml}"
    );
    // The advice is correct.
    let rules = std::fs::read_to_string(folder.path("any.xml")).unwrap();
    let changed = rules.replacen(
        "<CORSConfiguration>",
        &format!("<CORSConfiguration>{xml}"),
        1,
    );
    std::fs::write(folder.path("changed.xml"), changed).unwrap();
    let changed = folder.path("changed.xml").display().to_string();
    assert_eq!(
        explained(
            &changed,
            &[&get[..], &["--credentials", "include"]].concat()
        )
        .0,
        0
    );

    let (_, document) = explained(&named, &[&get[..], &["--read", "etag"]].concat());
    assert_eq!(document["unreadable"], json!(["etag"]));
    assert_eq!(
        document["actual"]["advice"]["xml"],
        "<ExposeHeader>etag</ExposeHeader>"
    );

    let (code, _, complaint) = run(&[
        "explain",
        "--cors",
        &any,
        "--origin",
        "https://a",
        "--method",
        "GET",
        "--read",
        "a b",
    ]);
    assert_eq!(code, 2);
    assert!(complaint.contains("a b"), "{complaint}");
}
