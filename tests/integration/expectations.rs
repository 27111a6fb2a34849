//! `s3cors test`: tests of a config or a policy.

use std::fs;
use std::io::Write as _;
use std::path::Path;

use serde::Deserialize;
use serde_json::{Value, json};

use crate::support::binary::{Folder, run};

fn test(arguments: &[&str]) -> (i32, String, String) {
    run(&[&["test"], arguments].concat())
}

#[test]
fn the_example_passes_and_a_planted_mistake_fails_with_a_difference() {
    let (code, output, _) = test(&["config/tests.toml"]);
    assert_eq!((code, &*output), (0, "5 passed, 0 failed\n"));

    let folder = Folder::new("expectations-example");
    let policy = Path::new("config/cors/spa-upload.xml")
        .canonicalize()
        .unwrap();
    let example = fs::read_to_string("config/tests.toml").unwrap();
    let planted = example
        .replace("cors/spa-upload.xml", &policy.display().to_string())
        .replace(
            "method = \"DELETE\"",
            "method = \"DELETE\"\nread = [\"x-amz-meta-a\"]",
        );
    assert_ne!(planted, example);
    let file = folder.path("planted.toml");
    fs::write(&file, planted).unwrap();
    let (code, output, _) = test(&[&file.display().to_string()]);
    assert_eq!(code, 1);
    let expected = [
        "FAIL the app deletes with cookies (",
        "planted.toml:",
        "\n  - expected: readable\n  + actual:   blocked, unreadable\n",
        "the script cannot read x-amz-meta-a\n4 passed, 1 failed\n",
    ];
    for part in expected {
        assert!(output.contains(part), "{part}: {output}");
    }

    let (code, output, _) = test(&["--format", "json", &file.display().to_string()]);
    let document: Value = serde_json::from_str(&output).unwrap();
    assert_eq!(
        (code, &document["passed"], &document["failed"]),
        (1, &json!(4), &json!(1))
    );
    let failed = &document["tests"][1];
    assert_eq!(
        (&failed["passed"], &failed["actual"]),
        (&json!(false), &json!("blocked, unreadable"))
    );

    let (code, output, _) = test(&["--format", "junit", &file.display().to_string()]);
    assert_eq!(code, 1);
    assert!(
        output.contains("<testsuites tests=\"5\" failures=\"1\">"),
        "{output}"
    );
    assert!(
        output.contains("name=\"the app uploads parts and reads each part&apos;s ETag\""),
        "{output}"
    );
    assert!(
        output.contains("<failure message=\"expected readable, but it is blocked, unreadable\">"),
        "{output}"
    );
    let mut reader = quick_xml::Reader::from_str(&output);
    while !matches!(reader.read_event().unwrap(), quick_xml::events::Event::Eof) {}
}

#[test]
fn routes_are_found_by_their_url() {
    let folder = Folder::new("expectations-routes");
    let rule = "<CORSConfiguration><CORSRule><AllowedOrigin>https://app.example</AllowedOrigin>\
                <AllowedMethod>GET</AllowedMethod></CORSRule></CORSConfiguration>";
    fs::write(folder.path("photos.xml"), rule).unwrap();
    let config = "[[listen]]\naddress = \"127.0.0.1:0\"\n\
                  [[route]]\nhost = [\"photos.example\"]\nupstream = [\"http://127.0.0.1:1\"]\ncors = \"photos.xml\"\n\
                  [[route]]\nhost = [\"plain.example\"]\nupstream = [\"http://127.0.0.1:1\"]\n";
    fs::write(folder.path("s3cors.toml"), config).unwrap();
    let file = folder.path("tests.toml");
    let with = |test: &str| {
        fs::write(&file, format!("config = \"s3cors.toml\"\n[[test]]\nname = \"it\"\norigin = \"https://app.example\"\n{test}")).unwrap();
        test_file(&file)
    };
    assert_eq!(
        with("url = \"https://photos.example/a\"\nexpect = \"readable\"").0,
        0
    );
    assert_eq!(with("url = \"https://photos.example/a\"\nmethod = \"put\"\nexpect = \"blocked\"\nreason = \"method\"").0, 0);
    assert_eq!(
        with("url = \"https://other.example/a\"\nexpect = \"blocked\"\nreason = \"no_cors\"").0,
        0
    );
    let (code, _, complaint) = with("url = \"https://plain.example/a\"\nexpect = \"readable\"");
    assert_eq!(code, 2);
    assert!(
        complaint.contains("tests.toml:3: the route has no policy"),
        "{complaint}"
    );
    let (code, _, complaint) = with("expect = \"readable\"");
    assert_eq!(code, 2);
    assert!(complaint.contains("needs a `url`"), "{complaint}");
}

fn test_file(file: &Path) -> (i32, String, String) {
    test(&[&file.display().to_string()])
}

#[test]
fn an_invalid_file_is_named_with_its_error() {
    let folder = Folder::new("expectations-mistakes");
    fs::write(folder.path("bad.xml"), "<CORSConfiguration/>").unwrap();
    let file = folder.path("tests.toml");
    let one = "[[test]]\nname = \"it\"\norigin = \"https://a.example\"\n";
    let cases = [
        ("cors = \"bad.xml\"".to_owned(), "no [[test]] found"),
        (
            format!("{one}expect = \"readable\""),
            "set either `config` or `cors`",
        ),
        (
            format!("cors = \"a\"\nconfig = \"b\"\n{one}expect = \"readable\""),
            "set either",
        ),
        (
            format!("cors = \"bad.xml\"\n{one}expect = \"readable\""),
            "has errors",
        ),
        (
            format!("cors = \"no.xml\"\n{one}expect = \"readable\""),
            "no.xml",
        ),
        (
            format!("cors = \"bad.xml\"\n{one}expect = \"allowed\""),
            "unknown variant `allowed`",
        ),
        (
            format!("cors = \"bad.xml\"\n{one}"),
            "missing field `expect`",
        ),
        (
            format!("cors = \"bad.xml\"\n{one}expect = \"blocked\"\nreason = \"bad\""),
            "unknown variant `bad`",
        ),
        (
            format!("cors = \"bad.xml\"\n{one}expects = \"blocked\""),
            "unknown field `expects`",
        ),
    ];
    for (text, why) in cases {
        fs::write(&file, &text).unwrap();
        let (code, output, complaint) = test_file(&file);
        assert_eq!((code, &*output), (2, ""), "{text}");
        assert!(complaint.contains(why), "{why}: {complaint}");
    }
    assert_eq!(test(&["no-such-file"]).0, 2);
    assert_eq!(test(&[]).0, 2);
}

#[derive(Deserialize)]
struct Corpus {
    case: Vec<Case>,
}

/// A case of `tests/data/explain`, as far as it is a script's request.
#[derive(Deserialize)]
struct Case {
    name: String,
    rules: String,
    #[serde(default)]
    no_cors: bool,
    origin: String,
    method: String,
    #[serde(default)]
    headers: Vec<String>,
    reason: String,
    fix: Option<String>,
}

#[test]
fn the_corpus_of_explain_passes() {
    let folder = Folder::new("expectations-corpus");
    let mut ran = 0;
    for entry in fs::read_dir("tests/data/explain").unwrap() {
        let corpus: Corpus =
            toml::from_str(&fs::read_to_string(entry.unwrap().path()).unwrap()).unwrap();
        for case in corpus.case {
            // A policy file implies CORS; a browser does not send requests that need a fix.
            if case.no_cors || case.fix.is_some() {
                continue;
            }
            let xml = format!("<CORSConfiguration>{}</CORSConfiguration>", case.rules);
            fs::write(folder.path("policy.xml"), xml).unwrap();
            let quoted = |text: &str| serde_json::to_string(text).unwrap();
            let headers: Vec<_> = case.headers.iter().map(|name| quoted(name)).collect();
            let file = folder.path("tests.toml");
            let text = format!(
                "cors = \"policy.xml\"\n[[test]]\nname = {}\norigin = {}\nmethod = {}\nheaders = [{}]\nexpect = \"blocked\"\nreason = {}\n",
                quoted(&case.name),
                quoted(&case.origin),
                quoted(&case.method),
                headers.join(", "),
                quoted(&case.reason),
            );
            fs::write(&file, text).unwrap();
            let (code, output, complaint) = test_file(&file);
            assert_eq!(code, 0, "{}: {output}{complaint}", case.name);
            ran += 1;
        }
    }
    assert!(ran >= 30, "{ran}");
}

#[test]
fn an_endless_file_is_refused() {
    let (code, _, error) = test(&["/dev/zero"]);
    assert_eq!(code, 2);
    assert!(
        error.contains("/dev/zero has more than 16777216 bytes"),
        "{error}"
    );
}

#[test]
fn errors_about_a_file_contain_no_terminal_control_characters() {
    let folder = Folder::new("expectations-escapes");
    let file = folder.path("escapes.toml");
    for text in [
        "x = \u{1b}]0;title\u{7}\u{1b}[31m\n",
        "\"\\u001b[31m\" = 1\n",
        "cors = \"a.xml\"\n[[test]]\nname = \"a\"\nexpect = \"\\u001b[31m\\u202e\"\n",
    ] {
        fs::write(&file, text).unwrap();
        let (code, output, error) = test(&[&file.display().to_string()]);
        assert_eq!(code, 2, "{output}");
        let obeyed = |character: char| {
            character.is_control() && character != '\n' || character == '\u{202e}'
        };
        assert!(!error.contains(obeyed), "{error:?}");
    }
}

const LOG: &str = r#"{"method":"OPTIONS","host":"photos.example","target":"/cats/1","origin":"https://app.example","cors":{"request":"preflight","outcome":"allowed","reason":"matched","verdict":"passed","method":"PUT","headers":"x-b,x-a"}}
{"method":"OPTIONS","host":"photos.example","target":"/cats/2","origin":"https://app.example","cors":{"request":"preflight","outcome":"allowed","reason":"matched","verdict":"passed","method":"PUT","headers":"X-A, x-b"}}
{"method":"GET","host":"photos.example","target":"/a?X-Amz-Signature=-","origin":"https://evil.example","cors":{"request":"actual","outcome":"denied","reason":"origin","verdict":"blocked","error":"MissingAllowOriginHeader"}}
{"method":"GET","host":"photos.example","target":"/dogs/1","origin":"https://app.example","cors":{"request":"actual","outcome":"denied","reason":"origin"}}
{"method":"GET","host":"plain.example","target":"/","origin":"https://app.example"}
{"method":"GET","host":"photos.example","target":"/a"}
nonsense
"#;

const RULE: &str = "<CORSConfiguration><CORSRule><AllowedOrigin>https://app.example</AllowedOrigin>\
    <AllowedMethod>PUT</AllowedMethod><AllowedHeader>x-*</AllowedHeader></CORSRule></CORSConfiguration>";

#[test]
fn a_log_is_recorded_as_tests_that_pass_until_the_policy_changes() {
    let folder = Folder::new("expectations-write");
    folder.write("cors.xml", RULE);
    fs::create_dir(folder.path("buckets")).unwrap();
    fs::write(folder.path("buckets/cats.xml"), RULE).unwrap();
    let config = folder.write(
        "s3cors.toml",
        "[[route]]\nhost = 'photos.example'\nupstream = 'http://127.0.0.1:9'\ncors = 'cors.xml'\n\
         buckets = { directory = 'buckets', address = 'path' }\n\
         [[route]]\nhost = 'plain.example'\nupstream = 'http://127.0.0.1:9'\n",
    );
    let log = folder.write("access.json", LOG);
    let recorded = folder.path("recorded.toml").display().to_string();
    let write = || test(&["--write", &recorded, "--config", &config, "--log", &log]);
    let (code, output, complaints) = write();
    assert_eq!((code, &*output), (0, ""), "{complaints}");
    for part in [
        "not recorded:",
        "\n  1 requests without an Origin",
        "\n  1 lines that are cut or not from an access log",
        "\n  1 requests without a policy",
    ] {
        assert!(complaints.contains(part), "{part}: {complaints}");
    }
    let text = fs::read_to_string(&recorded).unwrap();
    assert!(text.contains("\nconfig = \"s3cors.toml\"\n"), "{text}");
    let preflight = "# Requests: 2\n[[test]]\n\
        name = \"PUT from https://app.example with x-a, x-b to http://photos.example/cats/1\"\n\
        url = \"http://photos.example/cats/1\"\norigin = \"https://app.example\"\nmethod = \"PUT\"\n\
        headers = [\"x-a\", \"x-b\"]\nexpect = \"readable\"\n";
    assert!(text.contains(preflight), "{text}");
    assert!(
        text.contains(
            "origin = \"https://evil.example\"\nexpect = \"blocked\"\nreason = \"origin\"\n"
        ),
        "{text}"
    );

    let (code, output, _) = test(&[&recorded]);
    assert_eq!((code, &*output), (0, "3 passed, 0 failed\n"));
    fs::write(folder.path("buckets/cats.xml"), RULE.replace("x-*", "x-a")).unwrap();
    let (code, output, _) = test(&[&recorded]);
    assert_eq!(code, 1);
    for part in [
        "FAIL PUT from https://app.example with x-a, x-b",
        "+ actual:   blocked, header",
        "2 passed, 1 failed",
    ] {
        assert!(output.contains(part), "{part}: {output}");
    }

    let (code, _, complaints) = write();
    assert_eq!(code, 2);
    assert!(
        complaints.contains("recorded.toml exists: remove it, or name another file"),
        "{complaints}"
    );
}

#[test]
fn a_combined_log_is_recorded_for_a_policy_and_other_files_are_refused() {
    let folder = Folder::new("expectations-combined");
    let cors = folder.write("cors.xml", &RULE.replace("PUT", "GET"));
    let line = |method: &str, referer: &str| {
        format!(
            "192.0.2.7 - - [10/Oct/2000:13:55:36 +0000] \"{method} /a HTTP/1.1\" 200 1 \"{referer}\" \"x\"\n"
        )
    };
    let lines = [
        line("GET", "https://app.example/album?a"),
        line("GET", "https://evil.example/"),
        line("GET", "-"),
        line("OPTIONS", "https://app.example/"),
    ];
    let log = folder.write("access.log", &lines.concat());
    let (code, output, complaints) = test(&["--write", "-", "--cors", &cors, "--log", &log]);
    assert_eq!(code, 0, "{complaints}");
    assert!(
        output.contains("origin = \"https://app.example\"\nexpect = \"readable\"\n"),
        "{output}"
    );
    assert!(
        output.contains(
            "origin = \"https://evil.example\"\nexpect = \"blocked\"\nreason = \"origin\"\n"
        ),
        "{output}"
    );
    assert!(
        complaints.contains("1 preflights whose requested method is not in the log"),
        "{complaints}"
    );
    let file = folder.write("printed.toml", &output);
    assert_eq!(test(&[&file]).0, 0);

    // As logrotate leaves it, and two such files put together: the same tests.
    for (members, name) in [(vec![lines.concat()], "one"), (lines.to_vec(), "several")] {
        let path = folder.path(name);
        let members: Vec<u8> = members
            .iter()
            .flat_map(|text| gzip(text.as_bytes()))
            .collect();
        fs::write(&path, members).unwrap();
        let log = path.display().to_string();
        let (code, again, _) = test(&["--write", "-", "--cors", &cors, "--log", &log]);
        assert_eq!((code, &*again), (0, &*output), "{name}");
    }
    let mut broken = gzip(lines.concat().as_bytes());
    broken.truncate(broken.len() - 9);
    fs::write(folder.path("cut.gz"), broken).unwrap();

    fs::write(folder.path("log.gz"), b"\x1f\x8b\x08rest").unwrap();
    fs::write(folder.path("endless"), vec![b'a'; 100_000]).unwrap();
    for (log, expected) in [
        ("log.gz", "cannot read "),
        ("cut.gz", "cannot read "),
        (
            "endless",
            "has a line of more than 65536 bytes, so it is not an access log",
        ),
        ("missing", "cannot read "),
        ("cors.xml", "no request to record in the log:"),
    ] {
        let path = folder.path(log).display().to_string();
        let (code, _, complaints) = test(&["--write", "-", "--cors", &cors, "--log", &path]);
        assert_eq!(code, 2, "{log}");
        assert!(complaints.contains(expected), "{log}: {complaints}");
    }
    for wrong in [
        &["--write", "-"][..],
        &["--write", "-", "--log", "x"],
        &["--log", "x", "tests.toml"],
        &[],
    ] {
        assert_eq!(test(wrong).0, 2, "{wrong:?}");
    }
}

/// A gzip file of one member.
fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}
