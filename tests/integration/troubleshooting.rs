//! The troubleshooting page shows what its commands print.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("deploy/troubleshooting")
}

/// The output of this program's command in the page's folder.
fn run(command: &str) -> String {
    let arguments = command.strip_prefix("s3cors ").unwrap().split(' ');
    let done = Command::new(env!("CARGO_BIN_EXE_s3cors"))
        .args(arguments)
        .current_dir(folder())
        .output()
        .unwrap();
    let text = [done.stdout, done.stderr].concat();
    assert!(!text.is_empty(), "{command}");
    String::from_utf8(text).unwrap()
}

/// The page with the current outputs.
fn with_current_outputs(page: &str) -> String {
    let mut blocks = page.split("```console\n$ ");
    let mut written = blocks.next().unwrap().to_owned();
    for block in blocks {
        let (shown, after) = block.split_once("```\n").unwrap();
        let command = shown.lines().next().unwrap();
        let output = run(command);
        written += &format!(
            "```console\n$ {command}\n{}\n```\n{after}",
            output.trim_end()
        );
    }
    written
}

#[test]
fn every_command_prints_the_output_on_the_page() {
    let path = folder().join("README.md");
    let page = fs::read_to_string(&path).unwrap();
    assert!(page.matches("$ s3cors explain").count() >= 9);
    let expected = with_current_outputs(&page);
    if std::env::var_os("UPDATE_README").is_some() {
        fs::write(path, expected).unwrap();
    } else {
        assert_eq!(page, expected, "UPDATE_README=1 rewrites it");
    }
}

#[test]
fn every_message_in_the_table_links_to_a_section() {
    let page = fs::read_to_string(folder().join("README.md")).unwrap();
    let anchor = |title: &str| {
        let kept = |letter: &char| letter.is_alphanumeric() || " -".contains(*letter);
        let plain: String = title.chars().filter(kept).collect();
        plain.to_lowercase().replace(' ', "-")
    };
    let titles = page.lines().filter_map(|line| line.strip_prefix("## "));
    let anchors: Vec<String> = titles.map(anchor).collect();
    let links = page.split("](#").skip(1).map(|rest| rest.split(')').next());
    let links: Vec<&str> = links.map(Option::unwrap).collect();
    assert!(links.len() > anchors.len());
    for link in &links {
        assert!(
            anchors.iter().any(|known| known == link),
            "{link}: {anchors:?}"
        );
    }
    for anchor in &anchors {
        assert!(links.contains(&&**anchor), "nothing leads to {anchor}");
    }
}
