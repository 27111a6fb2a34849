//! The diagnostics of `check`: each `tests/data/diagnostics/x.toml` has its `x.expected`.
//!
//! With `UPDATE_EXPECTED` in the environment, the expected files are rewritten.

use std::fs;
use std::path::Path;

use s3cors::config::{Input, load};

const FOLDER: &str = "tests/data/diagnostics";

#[test]
fn every_problem_is_reported_with_its_place_and_a_hint() {
    let mut configs: Vec<_> = fs::read_dir(FOLDER)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| {
            path.extension()
                .is_some_and(|extension| extension == "toml")
        })
        .collect();
    configs.sort();
    assert!(configs.len() >= 14, "{}", configs.len());
    for config in configs {
        let loaded = load(&Input::file(&config));
        let said = loaded.report.render(false);
        let expected = config.with_extension("expected");
        if std::env::var_os("UPDATE_EXPECTED").is_some() {
            fs::write(&expected, &said).unwrap();
        }
        let expected = fs::read_to_string(&expected).unwrap_or_default();
        assert_eq!(said, expected, "{}", config.display());
        assert!(loaded.has_errors(), "{}", config.display());
    }
}

#[cfg(not(feature = "otlp"))]
#[test]
fn traces_in_a_build_without_them_are_an_error_with_a_hint() {
    let path = std::env::temp_dir().join(format!("s3cors-traces-{}.toml", std::process::id()));
    let route = "[[route]]\nhost = '*'\nupstream = 'http://127.0.0.1:9000'\n";
    let traces = "[traces]\nendpoint = 'http://127.0.0.1:4318'\n";
    fs::write(&path, format!("{route}{traces}")).unwrap();
    let loaded = load(&Input::file(&path));
    fs::remove_file(&path).unwrap();
    let said = loaded.report.render(false);
    assert!(loaded.has_errors() && said.contains(":4:2"), "{said}");
    assert!(said.contains("--features otlp"), "{said}");
}

#[test]
fn programs_get_the_same_as_json() {
    let loaded = load(&Input::file(Path::new(FOLDER).join("policies.toml")));
    let report = loaded.report.json();
    let unsupported = report
        .as_array()
        .unwrap()
        .iter()
        .find(|there| there["code"] == "InvalidRequest")
        .unwrap();
    assert_eq!(
        unsupported["file"],
        "tests/data/diagnostics/policies/broken.xml"
    );
    assert_eq!(unsupported["line"], 3);
    assert_eq!(unsupported["column"], 20);
    assert_eq!(unsupported["severity"], "error");
    assert_eq!(
        unsupported["message"],
        "AllowedOrigin \"https://*.example.*\" can not have more than one wildcard."
    );
    let all = report.as_array().unwrap();
    for there in all {
        for key in [
            "file", "line", "column", "severity", "code", "message", "detail", "help",
        ] {
            assert!(there.get(key).is_some(), "{key} in {there}");
        }
    }
    // A file that two routes share is reported once.
    let broken = all
        .iter()
        .filter(|there| there["file"] == unsupported["file"]);
    assert_eq!(broken.count(), 3);
}
