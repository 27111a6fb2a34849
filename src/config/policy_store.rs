//! A route's `cors_api.store`, if it is a bucket of the object store.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use rustix::fs::{Access, access};
use toml::Spanned;

use crate::bucket_api::StoreKey;
use crate::tls::digest::{ContentHash, sha256};

use super::diagnostic::Diagnostic;
use super::file::Reader;
use super::files::Files;
use super::named_path::NamedPath;
use super::read::readable;
use super::report::Report;
use super::source::SourceFile;
use super::table::Table;

/// The largest key file, in bytes.
const MAX_KEY: u64 = 64 * 1024;

const DEFAULT_PREFIX: &str = "cors/";

const DEFAULT_POLL: Duration = Duration::from_secs(2);

const LEAST_POLL: Duration = Duration::from_secs(1);

/// The maximum of S3 for an object's name, less a bucket's name.
const MAX_PREFIX: usize = 700;

/// The store's config.
#[derive(Clone, Debug)]
pub(super) struct PolicyStoreConfig {
    pub(super) bucket: Box<str>,
    pub(super) prefix: Box<str>,
    pub(super) poll: Duration,
    pub(super) cache: NamedPath,
    key: NamedPath,
    /// The contents of the key's file; `None` if it is invalid.
    pub(super) loaded: Option<(StoreKey, ContentHash)>,
}

/// Reads `store`, which is a table.
pub(super) fn read(
    table: &mut Table<'_>,
    base: &Path,
    reader: &mut Reader<'_>,
) -> Option<PolicyStoreConfig> {
    let mut table = table.table("store", reader)?;
    let bucket = table.string("bucket", reader);
    let prefix = table.string("prefix", reader);
    let key = table.string("key", reader);
    let poll = table.seconds("poll_seconds", LEAST_POLL, reader);
    let cache = table.string("cache", reader);
    for (name, help) in [
        (
            "bucket",
            "the bucket that holds the policies; s3cors does not create it",
        ),
        (
            "key",
            "key = \"store-key.toml\", a file with `id` and `secret`",
        ),
        (
            "cache",
            "cache = \"/var/lib/s3cors/cors\", a directory for the last good copy",
        ),
    ] {
        table.require(
            name,
            format!("`store` needs a `{name}`"),
            Some(help),
            reader,
        );
    }
    table.finish(reader);
    let is_name = |name: &str| {
        (3..=63).contains(&name.len())
            && name.bytes().all(|byte| {
                byte.is_ascii_lowercase() || byte.is_ascii_digit() || b".-_".contains(&byte)
            })
    };
    if let Some(bucket) = bucket.as_ref().filter(|bucket| !is_name(bucket.get_ref())) {
        let message = format!("`{}` isn't a valid bucket name", bucket.get_ref());
        reader.error("invalid-value", bucket.span(), message);
        return None;
    }
    if let Some(prefix) = prefix.as_ref()
        && (prefix.get_ref().len() > MAX_PREFIX
            || prefix.get_ref().starts_with('/')
            || prefix.get_ref().chars().any(char::is_control))
    {
        let message =
            format!("`prefix` can have at most {MAX_PREFIX} bytes and cannot begin with `/`");
        reader.error("invalid-value", prefix.span(), message);
        return None;
    }
    Some(PolicyStoreConfig {
        bucket: (*bucket?.get_ref()).into(),
        prefix: prefix.map_or(DEFAULT_PREFIX, Spanned::into_inner).into(),
        poll: poll.unwrap_or(DEFAULT_POLL),
        cache: NamedPath::new(&cache?, base),
        key: NamedPath::new(&key?, base),
        loaded: None,
    })
}

impl PolicyStoreConfig {
    /// Reads the key's file, and checks that the cache is writable.
    pub(super) fn load(
        &mut self,
        config: Option<&Arc<SourceFile>>,
        files: &mut Files,
        report: &mut Report,
    ) {
        self.loaded = None;
        let path = self.key.path.display();
        let problem = match files.read(&self.key.path, MAX_KEY) {
            Err(error) => {
                let message = format!("`{path}` {error}");
                Some(readable(
                    Diagnostic::error("unreadable-file", message),
                    &error,
                ))
            }
            Ok(bytes) => match parse(&bytes) {
                Ok(key) => {
                    self.loaded = Some((key, sha256(&bytes)));
                    None
                }
                Err(error) => {
                    let message = format!("`{path}`: {error}");
                    let problem = Diagnostic::error("invalid-keys", message);
                    Some(problem.help("write two lines: id = \"…\" and secret = \"…\""))
                }
            },
        };
        let cache = self.unwritable_cache();
        let problems = [(problem, &self.key), (cache, &self.cache)];
        for (problem, named) in problems {
            let Some(problem) = problem else { continue };
            let problem = match (config, named.span.clone()) {
                (Some(config), Some(span)) => problem.at(config, span),
                _ => problem.of(&SourceFile::unread(&named.path)),
            };
            files.reject(&named.path, problem.to_string());
            report.push(problem);
        }
    }

    /// A missing directory is created at a start.
    fn unwritable_cache(&self) -> Option<Diagnostic> {
        let path = &self.cache.path;
        let existing = path.ancestors().find(|path| path.exists());
        let existing = existing.unwrap_or(Path::new("."));
        let error = access(existing, Access::WRITE_OK | Access::EXEC_OK).err()?;
        let message = format!("cannot write to `store.cache`: `{}`", path.display());
        let problem = Diagnostic::error("read-only-directory", message);
        let error = std::io::Error::from(error).to_string();
        let help = "make it writable for the user that s3cors runs as; it holds the last good copy of the policies";
        Some(problem.detail(error).help(help))
    }
}

/// Parses `id` and `secret`, at the top level or in a table `key`. Errors never show a value.
fn parse(bytes: &[u8]) -> Result<StoreKey, &'static str> {
    let text = std::str::from_utf8(bytes).map_err(|_| "it is not UTF-8")?;
    let table: toml::Table = toml::from_str(text).map_err(|_| "it is not TOML")?;
    let inner = match table.get("key") {
        Some(toml::Value::Table(key)) => key,
        Some(toml::Value::Array(keys)) => match keys.as_slice() {
            [toml::Value::Table(key)] => key,
            _ => return Err("it has more than one [[key]]"),
        },
        _ => &table,
    };
    let text = |name| inner.get(name).and_then(toml::Value::as_str);
    let is_id = |id: &&str| {
        !id.is_empty()
            && id
                .bytes()
                .all(|byte| byte.is_ascii_graphic() && byte != b',')
    };
    let id = text("id").filter(is_id).ok_or("it has no `id`")?;
    let secret = text("secret").filter(|secret| !secret.is_empty());
    Ok(StoreKey {
        id: id.into(),
        secret: secret.ok_or("it has no `secret`")?.into(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_file_of_a_key_is_read_and_an_error_shows_no_secret() {
        for text in [
            "id = \"a/b\"\nsecret = \"s\"\n",
            "[[key]]\nid = \"a/b\"\nsecret = \"s\"\nbuckets = [\"*\"]\n",
            "[key]\nid = \"a/b\"\nsecret = \"s\"\n",
        ] {
            let key = parse(text.as_bytes()).unwrap();
            assert_eq!((&*key.id, &*key.secret), ("a/b", "s"));
            assert!(!format!("{key:?}").contains("\"s\""));
        }
        for text in [
            "",
            "id = \"a\"",
            "secret = \"hidden\"",
            "id = \"a b\"\nsecret = \"hidden\"",
            "id = \"a\"\nsecret = \"\"",
            "id = \"a\"\nsecret = hidden",
            "[[key]]\nid='a'\nsecret='hidden'\n[[key]]\nid='b'\nsecret='hidden'",
        ] {
            let error = parse(text.as_bytes()).unwrap_err();
            assert!(!error.contains("hidden"), "{error}");
        }
    }
}
