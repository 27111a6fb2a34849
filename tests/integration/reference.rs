//! The reference pages agree with the program: tables of keys and metrics, and the S3 conformance
//! matrix.

use std::collections::BTreeSet;
use std::fs;

use crate::support::vectors::load;
use crate::vectors::wrong_answers;

/// Keys, semantics and conformance.
const CONFIG: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/config/README.md");
/// Metrics and log fields.
pub(crate) const OBSERVABILITY: &str = concat!(
    env!("CARGO_MANIFEST_DIR"),
    "/deploy/observability/README.md"
);

pub(crate) fn read(page: &str) -> String {
    fs::read_to_string(page).unwrap()
}

/// The code in the first column of the table after a mark.
pub(crate) fn first_column(page: &str, mark: &str) -> BTreeSet<String> {
    let after = &page[page.find(mark).expect("the mark is there")..];
    after
        .lines()
        .skip_while(|line| !line.starts_with("| `"))
        .take_while(|line| line.starts_with("| `"))
        .flat_map(|line| {
            line.split('|')
                .nth(1)
                .unwrap()
                .split('`')
                .skip(1)
                .step_by(2)
        })
        .map(str::to_owned)
        .collect()
}

/// Every key of `config/s3cors.toml`, commented-out ones included.
fn keys() -> BTreeSet<String> {
    let toml =
        fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/config/s3cors.toml")).unwrap();
    let mut table = String::new();
    let mut keys = BTreeSet::new();
    for line in toml.lines() {
        let line = line.strip_prefix("# ").unwrap_or(line);
        if let Some(name) = line.strip_prefix('[') {
            table = format!("{}.", name.trim_matches(['[', ']']));
        } else if let Some((key, _)) = line.split_once(" = ")
            && key
                .chars()
                .all(|letter| letter.is_ascii_lowercase() || "_0123456789".contains(letter))
        {
            keys.insert(format!("{table}{key}"));
        }
    }
    keys
}

#[test]
fn the_table_of_keys_has_every_key() {
    assert_eq!(first_column(&read(CONFIG), "<!-- keys:"), keys());
}

#[test]
fn the_table_of_metrics_has_every_metric() {
    let metrics = s3cors::metrics::Metrics::new(1);
    let names: BTreeSet<_> = metrics
        .encode()
        .lines()
        .filter_map(|line| line.strip_prefix("# TYPE "))
        .map(|line| line.split(' ').next().unwrap().to_owned())
        .collect();
    let table = first_column(&read(OBSERVABILITY), "<!-- metrics:");
    let unknown: Vec<_> = names.difference(&table).collect();
    assert!(unknown.is_empty(), "not in the table: {unknown:?}");
    assert!(table.len() >= 14);
}

/// The matrix computed from the vectors.
fn matrix() -> String {
    let vectors = load();
    let wrong = wrong_answers();
    let mut families: Vec<&str> = Vec::new();
    for vector in &vectors.vectors {
        if !families.contains(&&*vector.family) {
            families.push(&vector.family);
        }
    }
    let mut matrix = String::from(
        "| family | vectors | exchanges | as S3 | evidence |\n| --- | --- | --- | --- | --- |\n",
    );
    for family in families {
        let of = || {
            vectors
                .vectors
                .iter()
                .filter(|vector| vector.family == family)
        };
        let exchanges: usize = of().map(|vector| vector.requests.len().max(1)).sum();
        let failed = wrong
            .iter()
            .filter(|name| of().any(|vector| vector.name == **name))
            .count();
        let strength = vectors
            .strengths
            .iter()
            .find(|known| of().any(|vector| vector.strength == **known));
        let passed = exchanges - failed;
        matrix += &format!(
            "| {family} | {} | {exchanges} | {passed} | {} |\n",
            of().count(),
            strength.unwrap()
        );
    }
    matrix
}

#[test]
fn the_conformance_matrix_matches_the_vectors() {
    let page = read(CONFIG);
    let start = page.find("<!-- conformance:").unwrap();
    let start = start + page[start..].find('\n').unwrap() + 1;
    let end = page.find("<!-- end of conformance -->").unwrap();
    let expected = format!("\n{}\n", matrix());
    if std::env::var_os("UPDATE_README").is_some() {
        fs::write(
            CONFIG,
            format!("{}{expected}{}", &page[..start], &page[end..]),
        )
        .unwrap();
    } else {
        assert_eq!(&page[start..end], expected);
    }
}
