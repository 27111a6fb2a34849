//! The file of keys of a route's `cors_api`.

use serde::Deserialize;
use toml::Spanned;

use crate::bucket_api::{Key, Keys};
use crate::cors::Wildcard;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct KeysFile {
    #[serde(default)]
    key: Vec<Spanned<KeyTable>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct KeyTable {
    id: String,
    secret: String,
    buckets: Vec<String>,
}

/// Parses a file of keys. Errors name a line and never show a value.
pub(super) fn parse(text: &str) -> Result<Keys, String> {
    let line = |at: usize| {
        let before = text.get(..at).unwrap_or_default();
        before.matches('\n').count() + 1
    };
    let file: KeysFile = toml::from_str(text).map_err(|error| {
        let at = error.span().map_or(0, |span| span.start);
        let message = error.message();
        // The library's message would show the value.
        let message = match message.starts_with("invalid type") {
            true => "a value has the wrong type",
            false => message,
        };
        format!("line {}: {message}", line(at))
    })?;
    let mut keys = Keys::default();
    for table in file.key {
        let at = line(table.span().start);
        let KeyTable {
            id,
            secret,
            buckets,
        } = table.into_inner();
        let is_id = !id.is_empty()
            && id
                .bytes()
                .all(|byte| byte.is_ascii_graphic() && byte != b',');
        if !is_id || secret.is_empty() {
            return Err(format!("line {at}: a key needs an `id` and a `secret`"));
        }
        if buckets.is_empty() {
            return Err(format!(
                "line {at}: the key has no buckets; buckets = [\"*\"] means all of them"
            ));
        }
        let patterns = buckets.iter().map(|bucket| Wildcard::parse(bucket));
        let patterns = patterns
            .collect::<Result<Vec<_>, _>>()
            .map_err(|_| format!("line {at}: a name in `buckets` can have at most one `*`"))?;
        if !keys.add(&id, Key::new(&secret, patterns)) {
            return Err(format!("line {at}: duplicate id"));
        }
    }
    match keys.is_empty() {
        true => Err("it has no [[key]]".to_owned()),
        false => Ok(keys),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_of_keys_is_read_and_an_error_shows_no_secret() {
        let keys = parse(
            "[[key]]\nid = \"AKIA/1\"\nsecret = \"a/b+c\"\nbuckets = [\"*\"]\n\
             [[key]]\nid = \"two\"\nsecret = \"s\"\nbuckets = [\"photos\", \"logs-*\"]\n",
        );
        assert_eq!(keys.unwrap().len(), 2);
        let cases = [
            ("", "no [[key]]"),
            (
                "[[key]]\nid = \"a\"\nsecret = \"hidden\"\n",
                "line 1: missing field `buckets`",
            ),
            (
                "[[key]]\nid = \"a\"\nsecret = 12345\nbuckets = [\"*\"]\n",
                "line 3: a value has",
            ),
            (
                "[[key]]\nid = \"a\"\nsecret = \"hidden\"\nbuckets = []\n",
                "no buckets",
            ),
            (
                "[[key]]\nid = \"\"\nsecret = \"hidden\"\nbuckets = [\"*\"]\n",
                "an `id`",
            ),
            (
                "[[key]]\nid = \"a\"\nsecret = \"\"\nbuckets = [\"*\"]\n",
                "a `secret`",
            ),
            (
                "[[key]]\nid = \"a\"\nsecret = \"hidden\"\nbuckets = [\"**\"]\n",
                "at most one",
            ),
            (
                "[[key]]\nid = \"a\"\nsecrets = \"hidden\"\nbuckets = [\"*\"]\n",
                "`secrets`",
            ),
            (
                "[[key]]\nid = \"a\"\nsecret = \"hidden\"\nbuckets = [\"*\"]\n\
                 [[key]]\nid = \"a\"\nsecret = \"hidden\"\nbuckets = [\"*\"]\n",
                "line 5: duplicate id",
            ),
            ("[[key]]\nsecret = \"hidden\n", "line 2"),
        ];
        for (text, expected) in cases {
            let error = parse(text).unwrap_err();
            assert!(error.contains(expected), "{text}: {error}");
            assert!(
                !error.contains("hidden") && !error.contains("12345"),
                "{error}"
            );
        }
        assert!(
            !format!(
                "{:?}",
                parse("[[key]]\nid='a'\nsecret='hidden'\nbuckets=['*']")
            )
            .contains("hidden")
        );
    }
}
