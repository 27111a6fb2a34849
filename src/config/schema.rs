//! The JSON Schema of the config, for editors.
//!
//! Types and limits come from the parser itself (`shape`); descriptions and defaults from
//! `config/s3cors.toml`.

use serde_json::{Map, Value, json};

use super::check;
use super::shape::{KeyShape, Kind, ROOT, Shape};

/// Every key with its default and a comment.
const REFERENCE: &str = include_str!("../../config/s3cors.toml");

/// The JSON Schema of a config, in the dialect 2020-12.
#[must_use]
pub fn schema() -> Value {
    let shape = check::shape();
    let keys = keys(REFERENCE);
    let mut schema = table(&shape, ROOT, "", &keys);
    if let Some(root) = schema.as_object_mut() {
        root.insert(
            "$schema".into(),
            "https://json-schema.org/draft/2020-12/schema".into(),
        );
        root.insert("title".into(), "s3cors.toml".into());
        root.insert(
            "description".into(),
            concat!("The config of s3cors ", env!("CARGO_PKG_VERSION"), ".").into(),
        );
        // A config without a route has its own kind of error.
        root.insert("required".into(), json!(["route"]));
    }
    schema
}

/// A key, as documented in the reference.
struct Documented {
    /// The dotted path of its tables and its name.
    path: String,
    comment: String,
    /// `None` for a table.
    value: Option<Value>,
}

/// The keys of the reference, commented-out ones included.
fn keys(reference: &str) -> Vec<Documented> {
    let mut keys = Vec::new();
    let mut comment = String::new();
    let mut table = String::new();
    for line in reference.lines() {
        let body = line.strip_prefix("# ").unwrap_or(line);
        if let Some(name) = header(body) {
            table = format!("{name}.");
            keys.push(Documented {
                path: name.to_owned(),
                comment: std::mem::take(&mut comment),
                value: None,
            });
        } else if let Some((name, value)) = assignment(body) {
            keys.push(Documented {
                path: format!("{table}{name}"),
                comment: std::mem::take(&mut comment),
                value: Some(value),
            });
        } else if line.is_empty() {
            comment.clear();
        } else {
            let space = if comment.is_empty() { "" } else { " " };
            comment = format!("{comment}{space}{body}");
        }
    }
    keys
}

fn header(line: &str) -> Option<&str> {
    let line = line.strip_prefix('[')?.strip_suffix(']')?;
    let inner = line
        .strip_prefix('[')
        .and_then(|line| line.strip_suffix(']'));
    Some(inner.unwrap_or(line))
}

fn assignment(line: &str) -> Option<(&str, Value)> {
    let (name, _) = line.split_once(" = ")?;
    let is_key = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_';
    if !name.bytes().all(is_key) {
        return None;
    }
    let table: toml::Table = toml::from_str(line).ok()?;
    let value = serde_json::to_value(table.get(name)?).ok()?;
    Some((name, value))
}

fn table(shape: &Shape, number: usize, prefix: &str, documented: &[Documented]) -> Value {
    let keys = shape.table(number).map_or(&[][..], |table| &table.keys);
    let properties: Map<_, _> = keys
        .iter()
        .map(|key| {
            let path = format!("{prefix}{}", key.name);
            (key.name.to_owned(), property(shape, key, &path, documented))
        })
        .collect();
    let required = keys.iter().filter(|key| key.is_required);
    let required: Vec<_> = required.map(|key| key.name).collect();
    let mut schema = json!({
        "type": "object",
        "properties": properties,
        "additionalProperties": false,
    });
    if let Some(schema) = schema.as_object_mut().filter(|_| !required.is_empty()) {
        schema.insert("required".into(), json!(required));
    }
    schema
}

fn property(shape: &Shape, key: &KeyShape, path: &str, documented: &[Documented]) -> Value {
    let kinds = key.kinds.iter();
    let mut kinds: Vec<_> = kinds
        .map(|kind| of_kind(shape, kind, key.is_filled, path, documented))
        .collect();
    let mut schema = match (kinds.len(), kinds.pop()) {
        (1, Some(only)) => only,
        (_, last) => {
            kinds.extend(last);
            json!({ "anyOf": kinds })
        }
    };
    let written = documented.iter().filter(|known| known.path == path);
    let Some(schema_keys) = schema.as_object_mut() else {
        return schema;
    };
    for known in written {
        schema_keys
            .entry("description")
            .or_insert_with(|| known.comment.clone().into());
        let Some(value) = &known.value else { continue };
        let is_example = ["Default:", "Required"]
            .iter()
            .any(|mark| known.comment.contains(mark));
        if is_example {
            schema_keys.insert("examples".into(), json!([value]));
        } else {
            schema_keys.insert("default".into(), value.clone());
        }
    }
    schema
}

fn of_kind(
    shape: &Shape,
    kind: &Kind,
    is_filled: bool,
    path: &str,
    documented: &[Documented],
) -> Value {
    let below = |number| table(shape, number, &format!("{path}."), documented);
    let list = |items: Value| {
        let mut list = json!({ "type": "array", "items": items });
        if let Some(list) = list.as_object_mut().filter(|_| is_filled) {
            list.insert("minItems".into(), 1.into());
        }
        list
    };
    let text = || json!({ "type": "string" });
    match kind {
        Kind::Text => text(),
        Kind::Pattern(pattern) => json!({ "type": "string", "pattern": pattern }),
        Kind::Choice(names) => json!({ "type": "string", "enum": names }),
        Kind::Boolean => json!({ "type": "boolean" }),
        Kind::Integer { least, most } => {
            json!({ "type": "integer", "minimum": least, "maximum": most })
        }
        Kind::Number { least, most } => {
            json!({ "type": "number", "minimum": least, "maximum": most })
        }
        Kind::Texts => json!({ "anyOf": [text(), list(text())] }),
        Kind::Choices(names) => {
            let choice = || json!({ "type": "string", "enum": names });
            json!({ "anyOf": [choice(), list(choice())] })
        }
        Kind::TextsOrIntegers => {
            let one = || json!({ "type": ["string", "integer"] });
            json!({ "anyOf": [one(), { "type": "array", "items": one(), "minItems": 1 }] })
        }
        Kind::Table(number) => below(*number),
        Kind::Tables(number) => list(below(*number)),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::fs;
    use std::path::{Path, PathBuf};

    use crate::config::{Input, check_text, load};

    use super::*;

    /// Every key below `table`, by its path.
    fn known(shape: &Shape, table: usize, prefix: &str, found: &mut BTreeSet<String>) {
        for key in &shape.table(table).unwrap().keys {
            let path = format!("{prefix}{}", key.name);
            for kind in &key.kinds {
                if let Kind::Table(below) | Kind::Tables(below) = kind {
                    known(shape, *below, &format!("{path}."), found);
                }
            }
            found.insert(path);
        }
    }

    /// Every key with a description, by its path.
    fn described(schema: &Value, prefix: &str, found: &mut BTreeSet<String>) {
        let alternatives = schema["anyOf"].as_array().into_iter().flatten();
        for schema in alternatives.chain([schema, &schema["items"]]) {
            for (name, below) in schema["properties"].as_object().into_iter().flatten() {
                let path = format!("{prefix}{name}");
                let description = below["description"].as_str().unwrap_or_default();
                assert!(!description.is_empty(), "{path} has no description");
                described(below, &format!("{path}."), found);
                found.insert(path);
            }
        }
    }

    fn validator() -> jsonschema::Validator {
        let schema = schema();
        jsonschema::meta::validate(&schema).unwrap();
        jsonschema::draft202012::new(&schema).unwrap()
    }

    fn as_json(text: &str) -> Value {
        serde_json::to_value(toml::from_str::<toml::Table>(text).unwrap()).unwrap()
    }

    #[test]
    fn the_parser_the_schema_and_the_reference_have_the_same_keys() {
        let (mut parser, mut editor) = (BTreeSet::new(), BTreeSet::new());
        known(&check::shape(), ROOT, "", &mut parser);
        described(&schema(), "", &mut editor);
        assert_eq!(parser, editor);
        let reference: BTreeSet<_> = keys(REFERENCE).into_iter().map(|key| key.path).collect();
        assert_eq!(parser, reference);
        assert!(parser.contains("route.cors_api.store.poll_seconds"));
    }

    /// The configs of a folder and its subfolders.
    fn configs(folder: &Path, found: &mut Vec<PathBuf>) {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                configs(&path, found);
            } else if path
                .extension()
                .is_some_and(|extension| extension == "toml")
            {
                found.push(path);
            }
        }
    }

    #[test]
    fn every_shipped_config_that_is_accepted_is_valid() {
        let validator = validator();
        let here = Path::new(env!("CARGO_MANIFEST_DIR"));
        let mut all = Vec::new();
        for folder in ["config", "deploy", "tests/data"] {
            configs(&here.join(folder), &mut all);
        }
        let mut accepted = 0;
        for path in all {
            let bytes = fs::read(&path).unwrap();
            let is_config =
                std::str::from_utf8(&bytes).is_ok_and(|text| text.contains("[[route]]"));
            if !is_config || check_text(&path, &bytes).1.errors() > 0 {
                continue;
            }
            accepted += 1;
            let config = as_json(std::str::from_utf8(&bytes).unwrap());
            let errors: Vec<_> = validator.iter_errors(&config).collect();
            assert!(errors.is_empty(), "{}: {errors:?}", path.display());
        }
        assert!(accepted >= 10, "{accepted}");
    }

    #[test]
    fn defaults_and_examples_are_valid_values() {
        fn check(schema: &Value, path: &str) {
            let validator = jsonschema::draft202012::new(schema).unwrap();
            let examples = schema["examples"].as_array().into_iter().flatten();
            for value in schema.get("default").into_iter().chain(examples) {
                assert!(validator.is_valid(value), "{path}: {value}");
            }
            let alternatives = schema["anyOf"].as_array().into_iter().flatten();
            for schema in alternatives.chain([schema, &schema["items"]]) {
                for (name, below) in schema["properties"].as_object().into_iter().flatten() {
                    check(below, &format!("{path}.{name}"));
                }
            }
        }
        let schema = schema();
        check(&schema, "");
        let limits = &schema["properties"]["limits"]["properties"];
        assert_eq!(limits["header_count"]["default"], 100);
        assert_eq!(limits["connections"].get("default"), None);
    }

    /// A config with one text before its route and one inside it.
    fn config(before: &str, inside: &str) -> String {
        format!(
            "{before}\n[[route]]\nhost = \"a.example\"\nupstream = \"http://127.0.0.1:9000\"\n{inside}\n"
        )
    }

    #[test]
    fn the_schema_rejects_what_the_parser_rejects() {
        let validator = validator();
        let refused = |text: &str| {
            let errors = check_text(Path::new("s3cors.toml"), text.as_bytes())
                .1
                .errors();
            (errors > 0, !validator.is_valid(&as_json(text)))
        };
        for (before, inside) in [
            // Unknown keys, at every depth.
            ("colour = 1", ""),
            ("[limits]\nconnection = 1", ""),
            ("[[listen]]\naddress = \"127.0.0.1:1\"\nport = 1", ""),
            ("", "hosts = [\"a.example\"]"),
            (
                "",
                "[route.cors_api]\nauthorize = \"keys\"\nkeys = \"k\"\ntoken = 1",
            ),
            ("", "buckets = { directory = \"b\", suffix = \".xml\" }"),
            ("", "upstream_tls = { verify = false }"),
            // Wrong types.
            ("workers = \"two\"", ""),
            ("workers = 1.5", ""),
            ("version = 1", ""),
            ("trusted_proxies = [1]", ""),
            ("limits = 5", ""),
            ("[admin]\nhosts = { a = 1 }", ""),
            ("[[listen]]\naddress = 8080", ""),
            ("[[admin]]\naddress = \"off\"", ""),
            ("[listen]\naddress = \"127.0.0.1:1\"", ""),
            ("", "via = \"yes\""),
            ("", "cors = [\"a.xml\"]"),
            ("", "buckets = \"buckets\""),
            ("", "timeouts = { connect_seconds = \"5s\" }"),
            ("", "health = { check_status = [200.5] }"),
            ("", "health = { check_status = [] }"),
            // Values out of range.
            ("workers = 0", ""),
            ("workers = 1025", ""),
            ("workers = -1", ""),
            ("[limits]\nrequest_head_bytes = 8191", ""),
            ("[limits]\nuri_bytes = 65535", ""),
            ("[limits]\nhandshake_seconds = 0.05", ""),
            ("[limits]\nunfinished_head_bytes = 1", ""),
            ("[drain]\ndelay_seconds = -1", ""),
            ("[drain]\ndeadline_seconds = 31536001", ""),
            (
                "[traces]\nendpoint = \"http://127.0.0.1:4318\"\nsample_ratio = 1.1",
                "",
            ),
            ("", "limits = { client_share_percent = 101 }"),
            ("", "timeouts = { queue_seconds = 0 }"),
            // Words that are not among the choices.
            ("[access_log]\nformat = \"xml\"", ""),
            ("", "semantics = \"exact\""),
            ("", "forwarded = [\"x-forwarded\", \"via\"]"),
            ("", "health = { check_method = \"get\" }"),
            ("", "cors_api = { authorize = \"nobody\" }"),
            ("version = \"one\"", ""),
            // Missing keys and empty lists.
            ("[[listen]]\nname = \"a\"", ""),
            (
                "[[listen]]\naddress = \"127.0.0.1:1\"\ntls = [{ key = \"k\" }]",
                "",
            ),
            ("[traces]\nservice_name = \"a\"", ""),
            ("", "listen = []"),
            ("", "[[route]]\nhost = \"b.example\""),
            ("", "[[route]]\nupstream = \"http://127.0.0.1:9000\""),
            (
                "",
                "[[route]]\nhost = []\nupstream = \"http://127.0.0.1:9000\"",
            ),
            ("", "[[route]]\nhost = \"b.example\"\nupstream = []"),
            (
                "",
                "cors_api = { authorize = \"keys\", keys = \"k\", store = { bucket = \"abc\" } }",
            ),
            (
                "",
                "cors_api = { authorize = \"keys\", keys = \"k\", store = \"memory\" }",
            ),
        ] {
            let text = config(before, inside);
            assert_eq!(refused(&text), (true, true), "{text}");
        }
        for (before, inside) in [
            ("", ""),
            (
                "version = \"999.1\"\nworkers = 1024\ntrusted_proxies = \"unix\"",
                "",
            ),
            ("[limits]\nhandshake_seconds = 0.1\nuri_bytes = 65534", ""),
            ("", "health = { check_status = [200, \"300-399\"] }"),
            ("", "forwarded = \"both\"\nlimits = { queue = 0 }"),
        ] {
            let text = config(before, inside);
            assert_eq!(refused(&text), (false, false), "{text}");
        }
        assert_eq!(refused(""), (true, true));
    }

    #[test]
    fn the_reference_is_accepted_where_it_is() {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("config/s3cors.toml");
        assert_eq!(load(&Input::file(path)).report.render(false), "");
    }
}
