//! `s3cors verdict`: exchanges in, verdicts out, one a line.

use std::io::Write;
use std::process::Stdio;

use serde_json::{Value, json};

use crate::support::binary::s3cors;

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
        // The program may have ended at a line that it refuses.
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
fn for_people_it_shows_the_sentences_of_the_consoles() {
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
            "is not an origin",
        ),
        (
            changed(|value| value["request"]["url"] = "/b/k".into()),
            "is not an absolute URL",
        ),
        (
            changed(|value| value["request"]["method"] = "P T".into()),
            "is not a method",
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
            "has no member `reponse`",
        ),
        (
            changed(|value| value["redirected"] = json!([{"status": 200}])),
            "redirected[0]: has no member `status`",
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
