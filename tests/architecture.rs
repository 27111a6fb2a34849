//! The dependency rule: a module uses only what stands before it.

#![allow(
    clippy::panic,
    clippy::unwrap_used,
    reason = "a test that goes wrong shall say so"
)]

use std::fs;
use std::path::{Path, PathBuf};

/// The rooms in order, and what each may use of this crate.
const ROOMS: [(&str, &[&str]); 9] = [
    ("cors", &[]),
    ("import", &["cors"]),
    ("metrics", &["cors"]),
    ("telemetry", &["metrics"]),
    ("proxy", &["cors", "metrics", "telemetry"]),
    ("server", &["metrics", "proxy", "telemetry"]),
    ("admin", &["cors", "metrics", "proxy", "server"]),
    ("config", &["admin", "cors", "metrics", "proxy", "server"]),
    (
        "cli",
        &[
            "admin",
            "config",
            "cors",
            "import",
            "metrics",
            "proxy",
            "server",
            "telemetry",
        ],
    ),
];

fn sources(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(sources(&path));
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
    found
}

/// What a line of code says of other rooms.
fn complaint(room: &str, may_use: &[&str], line: &str) -> Option<String> {
    let code = line.split("//").next().unwrap_or_default();
    for (_, after) in code
        .match_indices("crate::")
        .map(|(at, text)| (at, &code[at + text.len()..]))
    {
        if after.starts_with('{') {
            return Some(
                "one `use crate::…;` line a room, so that a file's head lists them".into(),
            );
        }
        let used: String = after
            .chars()
            .take_while(|c| c.is_alphanumeric() || *c == '_')
            .collect();
        if used != room && !may_use.contains(&used.as_str()) {
            return Some(format!("{room} may not use {used}"));
        }
    }
    None
}

#[test]
fn a_room_uses_only_what_stands_before_it() {
    let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut complaints = Vec::new();
    let mut looked_at = 0;
    for (room, may_use) in ROOMS {
        for path in sources(&src.join(room)) {
            let text = fs::read_to_string(&path).unwrap();
            looked_at += 1;
            for (number, line) in text.lines().enumerate() {
                if let Some(complaint) = complaint(room, may_use, line) {
                    let path = path.strip_prefix(&src).unwrap().display();
                    complaints.push(format!("{path}:{}: {complaint}", number + 1));
                }
            }
        }
    }
    assert!(complaints.is_empty(), "{}", complaints.join("\n"));
    assert!(looked_at > 30, "{looked_at}");
}

#[test]
fn every_room_is_in_the_table() {
    let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    for entry in fs::read_dir(src).unwrap() {
        let entry = entry.unwrap();
        if entry.path().is_dir() {
            let name = entry.file_name().into_string().unwrap();
            assert!(ROOMS.iter().any(|(room, _)| *room == name), "{name}");
        }
    }
}

#[test]
fn a_wrong_use_is_noticed() {
    assert!(complaint("cors", &[], "use crate::config::load;").is_some());
    assert!(complaint("proxy", &["cors"], "use crate::{cors, metrics};").is_some());
    assert!(
        complaint(
            "proxy",
            &["cors"],
            "    crate::server::run(crate::cors::x());"
        )
        .is_some()
    );
    assert!(
        complaint(
            "proxy",
            &["cors"],
            "use crate::cors::Policy; // crate::config"
        )
        .is_none()
    );
}
