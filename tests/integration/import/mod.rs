//! `s3cors import`: its output for real settings, and each importer against a model of its
//! system.
//!
//! With `UPDATE_EXPECTED` in the environment, the expected files are rewritten.

mod azure;
mod browser;
mod gateway_api;
mod gcs;
mod ingress_nginx;
mod minio;
mod model;
mod s3_json;

use std::collections::BTreeSet;
use std::fs;
use std::io::Write;
use std::path::PathBuf;
use std::process::{Command, Output, Stdio};

use s3cors::cors::{Options, check_document};
use s3cors::import::{CODES, Dialect, import};
use serde_json::Value;

const FOLDER: &str = "tests/data/import";

/// Every source file of the folder.
fn sources() -> Vec<PathBuf> {
    let entries = fs::read_dir(FOLDER).unwrap();
    let mut sources: Vec<_> = entries.map(|entry| entry.unwrap().path()).collect();
    sources.retain(|path| path.extension().is_some_and(|there| there != "expected"));
    sources.sort();
    sources
}

fn s3cors(arguments: &[&str]) -> (i32, String, String) {
    let Output {
        status,
        stdout,
        stderr,
    } = Command::new(env!("CARGO_BIN_EXE_s3cors"))
        .args(arguments)
        .stdin(Stdio::null())
        .output()
        .unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    (status.code().unwrap(), text(stdout), text(stderr))
}

/// Each source has an expected file: the exit code, the XML, and the notes.
#[test]
fn every_difference_is_noted_at_its_place() {
    let sources = sources();
    assert!(sources.len() >= 18, "{}", sources.len());
    for source in sources {
        let (code, xml, said) = s3cors(&["import", source.to_str().unwrap()]);
        let is = format!("exit {code}\n\n{xml}\n{said}");
        let expected = format!("{}.expected", source.display());
        if std::env::var_os("UPDATE_EXPECTED").is_some() {
            fs::write(&expected, &is).unwrap();
        }
        let expected = fs::read_to_string(&expected).unwrap_or_default();
        assert_eq!(is, expected, "{}", source.display());
    }
}

#[test]
fn the_result_passes_check() {
    for source in sources() {
        let Ok(imported) = import(&fs::read(&source).unwrap(), None, &Options::default()) else {
            continue;
        };
        if imported.configuration.rules.is_empty() {
            continue;
        }
        let xml = imported.configuration.to_xml();
        let checked = check_document(xml.as_bytes(), Options::default());
        assert_eq!(
            checked.configuration.as_ref(),
            Some(&imported.configuration)
        );
    }
}

#[test]
fn the_exit_code_says_whether_anything_was_lost() {
    for (arguments, expected) in [
        (&["tests/data/import/s3-console.json"][..], 0),
        (&["tests/data/import/minio.env"], 1),
        // No page loses anything.
        (&["tests/data/import/minio-default.env"], 1),
        (&["tests/data/import/minio-named.env"], 0),
        (&["tests/data/import/minio-variable.env"], 1),
        (&["tests/data/import/azure-terraform.tf"], 0),
        (&["tests/data/import/unreadable-two-dialects.json"], 2),
        (
            &[
                "--from",
                "s3-json",
                "tests/data/import/unreadable-two-dialects.json",
            ],
            1,
        ),
        (&["--lossy", "tests/data/import/minio.env"], 0),
        (&["--lossy", "tests/data/import/nothing-ingress.yaml"], 1),
        (
            &["--from", "gcs", "tests/data/import/unreadable-empty.json"],
            1,
        ),
        (&["--from", "azure", "tests/data/import/gcs.json"], 2),
        (&["--from", "swift", "tests/data/import/gcs.json"], 2),
        (&["no-such-file"], 2),
        (&["tests"], 2),
        (&["/dev/zero"], 2),
        (&[], 2),
    ] {
        let (code, xml, said) = s3cors(&[&["import"], arguments].concat());
        assert_eq!(code, expected, "{arguments:?}: {said}");
        assert_eq!(
            xml.is_empty(),
            code == 2 || said.contains("CORS is not configured"),
            "{arguments:?}"
        );
    }
}

#[test]
fn extra_methods_of_the_route_are_not_lost() {
    let source = "tests/data/import/ingress.yaml";
    let (_, xml, said) = s3cors(&["import", "--extra-method", "PATCH", source]);
    assert!(
        xml.contains("<AllowedMethod>PATCH</AllowedMethod>"),
        "{xml}"
    );
    assert!(
        !said.contains("PATCH, OPTIONS`") && !said.contains("cannot allow PATCH"),
        "{said}"
    );
    assert!(said.contains("ignored OPTIONS"), "{said}");
}

#[test]
fn programs_get_the_notes_as_json() {
    let (code, xml, said) = s3cors(&[
        "import",
        "--format",
        "json",
        "tests/data/import/ingress.yaml",
    ]);
    assert_eq!(code, 1);
    assert!(xml.starts_with("<?xml"));
    let said: Value = serde_json::from_str(&said).unwrap();
    assert_eq!(said["from"], "ingress-nginx");
    let notes = said["notes"].as_array().unwrap();
    let patch = notes
        .iter()
        .find(|note| note["subject"] == "PATCH")
        .unwrap();
    assert_eq!(patch["code"], "method-unsupported");
    assert_eq!(patch["effect"], "lost");
    assert_eq!((&patch["line"], &patch["column"]), (&8.into(), &78.into()));
    assert_eq!(said["rules"], 1);
    assert!(
        patch["help"]
            .as_str()
            .unwrap()
            .contains("--extra-method PATCH")
    );
}

#[test]
fn programs_get_an_error_as_json() {
    let source = "tests/data/import/unreadable-twice.json";
    let (code, xml, said) = s3cors(&["import", "--format", "json", source]);
    assert_eq!((code, &*xml), (2, ""));
    let said: Value = serde_json::from_str(&said).unwrap();
    assert_eq!(said["error"]["message"], "duplicate key `method`");
    assert_eq!(
        (&said["error"]["line"], &said["error"]["column"]),
        (&1.into(), &55.into())
    );
}

#[test]
fn settings_can_be_piped() {
    let mut child = Command::new(env!("CARGO_BIN_EXE_s3cors"))
        .args(["import", "--from", "minio", "--lossy", "-"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut input = child.stdin.take().unwrap();
    input.write_all(b"https://a.example\n").unwrap();
    drop(input);
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success());
    let xml = String::from_utf8(output.stdout).unwrap();
    assert!(
        xml.contains("<AllowedOrigin>https://a.example</AllowedOrigin>"),
        "{xml}"
    );
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(said.contains("--> <stdin>:1:1"), "{said}");
}

/// Every source is detected as its own dialect.
#[test]
fn every_dialect_and_every_code_has_a_source() {
    let (mut dialects, mut codes) = (BTreeSet::new(), BTreeSet::new());
    for source in sources() {
        if let Ok(imported) = import(&fs::read(&source).unwrap(), None, &Options::default()) {
            let file = source.file_name().unwrap().to_str().unwrap();
            let name = imported.dialect.as_str();
            let begins = [
                "s3",
                "gcs",
                "azure",
                "ingress",
                "httproute",
                "minio",
                "nothing",
            ];
            assert!(begins.iter().any(|begin| file.starts_with(begin)), "{file}");
            dialects.insert(name);
            codes.extend(imported.notes.iter().map(|note| note.code));
        }
    }
    let all: BTreeSet<_> = Dialect::ALL
        .iter()
        .map(|dialect| dialect.as_str())
        .collect();
    assert_eq!(dialects, all);
    let all: BTreeSet<_> = CODES.iter().map(|(code, _)| *code).collect();
    assert_eq!(codes, all);
}
