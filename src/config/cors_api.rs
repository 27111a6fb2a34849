//! A route's `cors_api`: access to its buckets' CORS configurations through S3's API.

use std::fs;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustix::fs::{Access, access};
use toml::Spanned;

use crate::bucket_api::Keys;
use crate::tls::digest::{ContentHash, sha256};

use super::diagnostic::Diagnostic;
use super::file::Reader;
use super::files::Files;
use super::keys_file::parse;
use super::named_path::NamedPath;
use super::policy_store;
use super::policy_store::PolicyStoreConfig;
use super::read::readable;
use super::report::Report;
use super::source::SourceFile;
use super::table::Table;

/// The largest file of keys, in bytes.
const MAX_KEYS: u64 = 1 << 20;

/// The maximum number of links that the system follows.
const MAX_LINKS: usize = 40;

const DEFAULT_REGION: &str = "us-east-1";

/// The API's config.
#[derive(Clone, Debug)]
pub(super) struct CorsApiConfig {
    pub(super) authorize: AuthorizeBy,
    /// Only set if the file of keys authorizes.
    pub(super) keys: Option<NamedPath>,
    pub(super) region: Box<str>,
    pub(super) owner: Option<Box<str>>,
    /// The folder that clients write to.
    pub(super) directory: NamedPath,
    /// The folder of manually edited files.
    pub(super) defaults: Option<PathBuf>,
    /// `None` if policies are in the directory.
    pub(super) store: Option<PolicyStoreConfig>,
    /// The contents of the file of keys; `None` if it is invalid.
    pub(super) loaded: Option<LoadedKeys>,
}

/// The API's table, before its buckets are known.
pub(super) struct CorsApiTable {
    place: Range<usize>,
    authorize: AuthorizeBy,
    keys: Option<NamedPath>,
    region: Box<str>,
    owner: Option<Box<str>>,
    store: Option<PolicyStoreConfig>,
}

/// What authorizes requests to the API.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum AuthorizeBy {
    Keys,
    Upstream,
}

#[derive(Clone, Debug)]
pub(super) struct LoadedKeys {
    pub(super) keys: Arc<Keys>,
    pub(super) content: ContentHash,
}

/// Reads and checks a route's `cors_api`.
pub(super) fn read(
    table: &mut Table<'_>,
    base: &Path,
    reader: &mut Reader<'_>,
) -> Option<CorsApiTable> {
    let mut table = table.table("cors_api", reader)?;
    let place = table.span();
    let forms = [
        ("keys", AuthorizeBy::Keys),
        ("upstream", AuthorizeBy::Upstream),
    ];
    let authorize = table.choice("authorize", &forms, reader);
    let help = "authorize = \"keys\" checks Signature V4 with the keys in the file `keys`; authorize = \"upstream\" with upstream_kind = \"minio\" asks MinIO";
    table.require(
        "authorize",
        "`cors_api` needs an `authorize`",
        Some(help),
        reader,
    );
    let kind = table.choice("upstream_kind", &[("minio", ())], reader);
    let asks_upstream = authorize
        .as_ref()
        .filter(|it| *it.get_ref() == AuthorizeBy::Upstream);
    if let Some(authorize) = asks_upstream
        && kind.is_none()
        && table.key_span("upstream_kind").is_none()
    {
        let message = "`authorize = \"upstream\"` needs `upstream_kind`";
        let diagnostic = Diagnostic::error("missing-key", message);
        let help = "write upstream_kind = \"minio\" only if every upstream of the route is MinIO: another server may execute the forwarded request, and `rclone serve s3` deletes the bucket";
        reader.push(diagnostic.help(help), authorize.span());
    }
    let is_misplaced = authorize.is_some() && asks_upstream.is_none();
    if let Some(span) = table.key_span("upstream_kind").filter(|_| is_misplaced) {
        let message = "`upstream_kind` has no effect with `authorize = \"keys\"`";
        reader.push(Diagnostic::warning("no-effect", message), span);
    }
    let is_bucket = table.is_table("store");
    let store = match is_bucket {
        true => policy_store::read(&mut table, base, reader),
        false => {
            let _ = table.choice("store", &[("directory", ())], reader);
            None
        }
    };
    let region = table.string("region", reader);
    let owner = table.string("owner", reader);
    let keys = table.string("keys", reader);
    if let Some(keys) = keys.as_ref().filter(|_| asks_upstream.is_some()) {
        let message = "`keys` has no effect with `authorize = \"upstream\"`";
        reader.push(Diagnostic::warning("no-effect", message), keys.span());
    }
    if asks_upstream.is_none() && keys.is_none() && table.key_span("keys").is_none() {
        let diagnostic = Diagnostic::error("missing-key", "`cors_api` needs `keys`, a file");
        let help = "keys = \"keys.toml\", with [[key]] id = \"…\" secret = \"…\" buckets = [\"*\"]";
        reader.push(diagnostic.help(help), place.clone());
    }
    table.finish(reader);
    if let Some(owner) = owner.as_ref().filter(|owner| !is_account(owner.get_ref())) {
        let message = format!("`{}` isn't an account id", owner.get_ref());
        let diagnostic = Diagnostic::error("invalid-owner", message);
        let help = "write 12 digits; clients send the account id as x-amz-expected-bucket-owner";
        reader.push(diagnostic.help(help), owner.span());
    }
    let authorize = authorize?.into_inner();
    let keys = match authorize {
        AuthorizeBy::Keys => Some(NamedPath::new(&keys?, base)),
        AuthorizeBy::Upstream => {
            kind?;
            None
        }
    };
    if is_bucket && store.is_none() {
        return None;
    }
    Some(CorsApiTable {
        place,
        authorize,
        keys,
        region: region.map_or(DEFAULT_REGION, Spanned::into_inner).into(),
        owner: owner.map(|owner| owner.into_inner().into()),
        store,
    })
}

impl CorsApiTable {
    /// The local copy of a bucket of policies; `None` if policies are in the directory of
    /// `buckets`.
    pub(super) fn cache(&self) -> Option<&NamedPath> {
        self.store.as_ref().map(|store| &store.cache)
    }

    /// The API of the buckets with files in `directory`.
    pub(super) fn of_buckets(
        self,
        directory: Option<&NamedPath>,
        reader: &mut Reader<'_>,
    ) -> Option<CorsApiConfig> {
        let Some(directory) = directory else {
            let message = "`cors_api` needs `buckets`, whose files it writes";
            let diagnostic = Diagnostic::error("missing-key", message);
            let help = "buckets = { directory = \"cors/buckets\", address = \"path\" }";
            reader.push(diagnostic.help(help), self.place);
            return None;
        };
        let cache = self.store.as_ref().map(|store| store.cache.clone());
        let defaults = cache.as_ref().filter(|cache| cache.path != directory.path);
        Some(CorsApiConfig {
            authorize: self.authorize,
            keys: self.keys,
            region: self.region,
            owner: self.owner,
            defaults: defaults.map(|_| directory.path.clone()),
            directory: cache.unwrap_or_else(|| directory.clone()),
            store: self.store,
            loaded: None,
        })
    }
}

fn is_account(text: &str) -> bool {
    text.len() == 12 && text.bytes().all(|byte| byte.is_ascii_digit())
}

/// Rejects a route's own policy or a file of keys in the directory of an API's buckets, where
/// clients could change it through the API.
pub(super) fn check_reach<'c>(
    apis: impl Iterator<Item = &'c CorsApiConfig> + Clone,
    policies: impl Iterator<Item = (&'static str, &'c NamedPath)>,
    reader: &mut Reader<'_>,
) {
    let keys = apis
        .clone()
        .filter_map(|api| Some(("cors_api.keys", api.keys.as_ref()?)));
    for (key, file) in policies.chain(keys) {
        let Some((api, name)) = apis.clone().find_map(|api| {
            let name = name_within(&file.path, &api.directory.path)?;
            Some((api, name))
        }) else {
            continue;
        };
        let directory = api.directory.path.display();
        let message =
            format!("`{key}` is in `{directory}`, which clients can write to through `cors_api`");
        let help = format!(
            "move `{name}` to another directory: clients could change it as if it were a bucket's policy"
        );
        let mut problem = Diagnostic::error("writable-by-clients", message).help(help);
        if let Some(span) = api.directory.span.clone() {
            problem = problem.also(reader.file, span, "clients write here");
        }
        reader.push(problem, file.span.clone().unwrap_or_default());
    }
}

/// The name of a file in a directory, or of a link on the way to it; `None` if there is none.
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
        api.loaded = api.keys.as_ref().and_then(|keys| loader.keys(keys));
        match &mut api.store {
            None => loader.check_directory(&api.directory),
            Some(store) => store.load(loader.config, loader.files, loader.report),
        }
    }
}

/// Reads keys and reports errors.
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
            let help = "make it writable for the user that s3cors runs as, or remove `cors_api`";
            let error = std::io::Error::from(error).to_string();
            self.report(diagnostic.detail(error).help(help), directory);
        }
    }

    /// Reports at the config's reference to the file: a key's own lines are never shown.
    fn report(&mut self, diagnostic: Diagnostic, file: &NamedPath) {
        let diagnostic = match (self.config, file.span.clone()) {
            (Some(config), Some(span)) => diagnostic.at(config, span),
            _ => diagnostic.of(&SourceFile::unread(&file.path)),
        };
        self.files.reject(&file.path, diagnostic.to_string());
        self.report.push(diagnostic);
    }
}
