//! A route's `cors_api`: who may change its buckets' CORS configurations through S3's API.

use std::fs;
use std::path::Path;
use std::sync::Arc;

use rustix::fs::{Access, access};
use serde::Deserialize;
use toml::Spanned;

use crate::bucket_api::{BucketApi, Key, Keys, PolicyDirectory};
use crate::cors::{Options, Wildcard};
use crate::metrics::Metrics;
use crate::routing::cors_api::CorsApi;
use crate::tls::digest::{ContentHash, sha256};

use super::diagnostic::Diagnostic;
use super::file::Reader;
use super::files::Files;
use super::named_path::NamedPath;
use super::read::readable;
use super::report::Report;
use super::source::SourceFile;
use super::table::Table;

/// The largest file of keys, in bytes.
const MAX_KEYS: u64 = 1 << 20;

/// How many links the system follows.
const MAX_LINKS: usize = 40;

const DEFAULT_REGION: &str = "us-east-1";

/// What the config says of the API.
#[derive(Clone, Debug)]
pub(super) struct CorsApiConfig {
    keys: NamedPath,
    region: Box<str>,
    owner: Option<Box<str>>,
    directory: NamedPath,
    /// What the file of keys says; `None`: it is invalid.
    loaded: Option<LoadedKeys>,
}

#[derive(Clone, Debug)]
struct LoadedKeys {
    keys: Arc<Keys>,
    content: ContentHash,
}

/// Reads and checks a route's `cors_api`.
pub(super) fn read(
    table: &mut Table<'_>,
    base: &Path,
    directory: Option<&NamedPath>,
    reader: &mut Reader<'_>,
) -> Option<CorsApiConfig> {
    let mut table = table.table("cors_api", reader)?;
    let place = table.span();
    let authorize = table.choice("authorize", &[("keys", ())], reader);
    if authorize.is_none() && table.key_span("authorize").is_none() {
        let diagnostic = Diagnostic::error("missing-key", "`cors_api` has an `authorize`");
        let help = "authorize = \"keys\": Signature V4 is checked with the keys of the file `keys`";
        reader.push(diagnostic.help(help), place.clone());
    }
    let _ = table.choice("store", &[("directory", ())], reader);
    let region = table.string("region", reader);
    let owner = table.string("owner", reader);
    let keys = table.string("keys", reader);
    if keys.is_none() && table.key_span("keys").is_none() {
        let diagnostic = Diagnostic::error("missing-key", "`cors_api` has a file of `keys`");
        let help = "keys = \"keys.toml\", with [[key]] id = \"…\" secret = \"…\" buckets = [\"*\"]";
        reader.push(diagnostic.help(help), place.clone());
    }
    table.finish(reader);
    if let Some(owner) = owner.as_ref().filter(|owner| !is_account(owner.get_ref())) {
        let message = format!("`{}` is not an account id", owner.get_ref());
        let diagnostic = Diagnostic::error("invalid-owner", message);
        let help = "an account id has 12 digits; clients send it as x-amz-expected-bucket-owner";
        reader.push(diagnostic.help(help), owner.span());
    }
    let Some(directory) = directory else {
        let message = "`cors_api` needs `buckets`: it writes their files";
        let diagnostic = Diagnostic::error("missing-key", message);
        let help = "buckets = { directory = \"cors/buckets\", address = \"path\" }";
        reader.push(diagnostic.help(help), place);
        return None;
    };
    Some(CorsApiConfig {
        keys: NamedPath::new(&keys?, base),
        region: region.map_or(DEFAULT_REGION, Spanned::into_inner).into(),
        owner: owner.map(|owner| owner.into_inner().into()),
        directory: directory.clone(),
        loaded: None,
    })
}

fn is_account(text: &str) -> bool {
    text.len() == 12 && text.bytes().all(|byte| byte.is_ascii_digit())
}

/// Refuses a route's own policy, or a file of keys, that clients could change through the API because
/// it is in the directory of an API's buckets.
pub(super) fn check_reach<'c>(
    apis: impl Iterator<Item = &'c CorsApiConfig> + Clone,
    policies: impl Iterator<Item = (&'static str, &'c NamedPath)>,
    reader: &mut Reader<'_>,
) {
    let keys = apis.clone().map(|api| ("cors_api.keys", &api.keys));
    for (key, file) in policies.chain(keys) {
        let Some((api, name)) = apis.clone().find_map(|api| {
            let name = name_within(&file.path, &api.directory.path)?;
            Some((api, name))
        }) else {
            continue;
        };
        let directory = api.directory.path.display();
        let message = format!("`{key}` is in `{directory}`, which clients write to by `cors_api`");
        let help = format!(
            "move `{name}` to another directory: a key for all buckets could change it as a bucket's policy"
        );
        let mut problem = Diagnostic::error("writable-by-clients", message).help(help);
        if let Some(span) = api.directory.span.clone() {
            problem = problem.also(reader.file, span, "clients write here");
        }
        reader.push(problem, file.span.clone().unwrap_or_default());
    }
}

/// The name that a file, or a link on the way to it, has in a directory; `None`: none is there.
fn name_within(file: &Path, directory: &Path) -> Option<String> {
    let directory = fs::canonicalize(directory).ok()?;
    let mut file = file.to_owned();
    for _ in 0..MAX_LINKS {
        let parent = match file.parent()? {
            parent if parent.as_os_str().is_empty() => Path::new("."),
            parent => parent,
        };
        let parent = fs::canonicalize(parent).ok()?;
        if parent == directory {
            return Some(file.file_name()?.to_string_lossy().into_owned());
        }
        file = parent.join(fs::read_link(&file).ok()?);
    }
    None
}

/// Reads the files of keys, and checks that policies can be written.
pub(super) fn load<'c>(
    apis: impl Iterator<Item = &'c mut CorsApiConfig>,
    config: Option<&Arc<SourceFile>>,
    files: &mut Files,
    report: &mut Report,
) {
    let mut loader = Loader {
        config,
        files,
        report,
    };
    for api in apis {
        api.loaded = loader.keys(&api.keys);
        loader.check_directory(&api.directory);
    }
}

/// Reads keys; what is wrong with them goes to the report.
struct Loader<'l> {
    config: Option<&'l Arc<SourceFile>>,
    files: &'l mut Files,
    report: &'l mut Report,
}

impl Loader<'_> {
    fn keys(&mut self, file: &NamedPath) -> Option<LoadedKeys> {
        let path = file.path.display();
        let bytes = match self.files.read(&file.path, MAX_KEYS) {
            Ok(bytes) => bytes,
            Err(error) => {
                let message = format!("`{path}` {error}");
                let diagnostic = Diagnostic::error("unreadable-file", message);
                self.report(readable(diagnostic, &error), file);
                return None;
            }
        };
        let parsed = std::str::from_utf8(&bytes)
            .map_err(|_| "it is not UTF-8".to_owned())
            .and_then(parse);
        match parsed {
            Ok(keys) => Some(LoadedKeys {
                keys: Arc::new(keys),
                content: sha256(&bytes),
            }),
            Err(error) => {
                let message = format!("`{path}`: {error}");
                self.report(Diagnostic::error("invalid-keys", message), file);
                None
            }
        }
    }

    fn check_directory(&mut self, directory: &NamedPath) {
        let access = access(&directory.path, Access::WRITE_OK | Access::EXEC_OK);
        if let Err(error) = access {
            let path = directory.path.display();
            let message = format!("`cors_api` cannot write to the directory `{path}`");
            let diagnostic = Diagnostic::error("read-only-directory", message);
            let help = "make it writable for the user that runs s3cors, or remove `cors_api`";
            let error = std::io::Error::from(error).to_string();
            self.report(diagnostic.detail(error).help(help), directory);
        }
    }

    /// At the place where the config names the file: a key's own lines are never shown.
    fn report(&mut self, diagnostic: Diagnostic, file: &NamedPath) {
        let diagnostic = match (self.config, file.span.clone()) {
            (Some(config), Some(span)) => diagnostic.at(config, span),
            _ => diagnostic.of(&SourceFile::unread(&file.path)),
        };
        self.files.reject(&file.path, diagnostic.to_string());
        self.report.push(diagnostic);
    }
}

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

/// Reads a file of keys. An error names its line and no value.
fn parse(text: &str) -> Result<Keys, String> {
    let line = |at: usize| {
        let before = text.get(..at).unwrap_or_default();
        before.matches('\n').count() + 1
    };
    let file: KeysFile = toml::from_str(text).map_err(|error| {
        let at = error.span().map_or(0, |span| span.start);
        let message = error.message();
        // What is found in place of something else is shown by its value.
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
            return Err(format!("line {at}: a key has an `id` and a `secret`"));
        }
        if buckets.is_empty() {
            return Err(format!(
                "line {at}: the key may configure no bucket; buckets = [\"*\"] means all of them"
            ));
        }
        let patterns = buckets.iter().map(|bucket| Wildcard::parse(bucket));
        let patterns = patterns
            .collect::<Result<Vec<_>, _>>()
            .map_err(|_| format!("line {at}: a name in `buckets` has at most one `*`"))?;
        if !keys.add(&id, Key::new(&secret, patterns)) {
            return Err(format!("line {at}: the id is there twice"));
        }
    }
    match keys.is_empty() {
        true => Err("it has no [[key]]".to_owned()),
        false => Ok(keys),
    }
}

impl CorsApiConfig {
    /// The API; `before` where it is the same, or where the file of keys is invalid.
    pub(super) fn build(
        &self,
        route: &str,
        options: &Options,
        metrics: &Metrics,
        before: Option<&CorsApi>,
    ) -> Option<CorsApi> {
        let Some(loaded) = &self.loaded else {
            return before.cloned();
        };
        let description = format!(
            "{} {} {:?} {} {options:?} {route}",
            loaded.content,
            self.region,
            self.owner,
            self.directory.path.display()
        );
        let version = sha256(description.as_bytes());
        if let Some(before) = before.filter(|before| before.version == version) {
            return Some(before.clone());
        }
        let api = BucketApi {
            route: route.into(),
            keys: Arc::clone(&loaded.keys),
            region: self.region.clone(),
            owner: self.owner.clone(),
            store: PolicyDirectory::new(&self.directory.path),
            options: options.clone(),
            requests: metrics.bucket_cors_requests(route),
        };
        Some(CorsApi {
            handler: Arc::new(api),
            version,
        })
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
                "no bucket",
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
                "line 5: the id is there twice",
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
