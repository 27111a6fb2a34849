//! The policy files that a config names: read, checked, and remembered with what was read.

use std::collections::{BTreeSet, HashMap};
use std::fs;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::SystemTime;

use http::Method;

use crate::cors;
use crate::cors::CorsConfiguration;
use crate::cors::MALFORMED_XML;
use crate::cors::MAX_DOCUMENT;
use crate::cors::Options;

use super::diagnostic::{Diagnostic, Report, SourceFile};
use super::digest::sha256;
use super::read::{self, ReadError, Stamp};
use super::route::{BucketsConfig, NamedPath, RouteConfig};

/// The largest file that is handed to the engine, which then refuses it as S3 does; what is
/// larger is not even read.
const MAX_POLICY: u64 = 16 * MAX_DOCUMENT as u64;

/// Everything that was looked at, so that a change is noticed.
#[derive(Debug, Default)]
pub(super) struct Files {
    /// What each path led to when it was read; `None`: nowhere.
    seen: Vec<(PathBuf, Option<Stamp>)>,
    /// The folders of buckets.
    folders: Vec<PathBuf>,
    /// Of all contents and failures.
    digest: DefaultHasher,
}

/// The policies of a route.
#[derive(Debug, Default)]
pub(super) struct RoutePolicies {
    /// The route's own.
    pub(super) own: Option<PolicyFile>,
    /// By bucket, in the order of their names; `Err`: why the folder cannot be read.
    pub(super) buckets: Option<Result<BucketFiles, String>>,
}

/// The policy files of a folder, each with its bucket.
pub(super) type BucketFiles = Vec<(Box<str>, PolicyFile)>;

/// A policy file that was read.
#[derive(Clone, Debug)]
pub(super) struct PolicyFile {
    pub(super) path: PathBuf,
    /// `Err`: the first thing that is wrong with it, in one line.
    pub(super) document: Result<Arc<Document>, String>,
}

/// A policy file that checks out.
#[derive(Debug)]
pub(super) struct Document {
    pub(super) configuration: CorsConfiguration,
    pub(super) content_hash: String,
    pub(super) read_at: SystemTime,
}

impl Files {
    /// Reads a file of at most `limit` bytes.
    pub(super) fn read(&mut self, path: &Path, limit: u64) -> Result<Vec<u8>, ReadError> {
        let result = read::read(path, limit);
        let stamp = match &result {
            Ok((_, stamp)) => Some(*stamp),
            Err(_) => Stamp::of(path),
        };
        self.seen.push((path.to_owned(), stamp));
        path.hash(&mut self.digest);
        match &result {
            Ok((bytes, _)) => bytes.hash(&mut self.digest),
            Err(error) => error.to_string().hash(&mut self.digest),
        }
        result.map(|(bytes, _)| bytes)
    }

    /// The buckets that a folder has files of, in the order of their names.
    fn list(&mut self, folder: &Path) -> io::Result<Vec<(Box<str>, PathBuf)>> {
        self.seen.push((folder.to_owned(), Stamp::of(folder)));
        self.folders.push(folder.to_owned());
        let listed = list(folder);
        match &listed {
            Ok(buckets) => buckets.hash(&mut self.digest),
            Err(error) => error.to_string().hash(&mut self.digest),
        }
        listed
    }

    /// A path that leads to something else than when it was read.
    pub(super) fn changed(&self) -> Option<&Path> {
        let mut seen = self.seen.iter();
        let (path, _) = seen.find(|(path, stamp)| Stamp::of(path) != *stamp)?;
        Some(path)
    }

    /// The folders that the files are in, links followed.
    pub(super) fn real_folders(&self) -> BTreeSet<PathBuf> {
        let real = self.paths().filter_map(|path| fs::canonicalize(path).ok());
        real.filter_map(|path| Some(path.parent()?.to_owned()))
            .collect()
    }

    /// Of all contents and failures: equal for two loads that read the same.
    pub(super) fn digest(&self) -> u64 {
        self.digest.finish()
    }

    /// Every path that was looked at.
    pub(super) fn paths(&self) -> impl Iterator<Item = &Path> {
        self.seen.iter().map(|(path, _)| &**path)
    }

    /// The folders of buckets.
    pub(super) fn folders(&self) -> impl Iterator<Item = &Path> {
        self.folders.iter().map(|path| &**path)
    }
}

impl RoutePolicies {
    /// A policy that is in no file.
    pub(super) fn inline(path: &Path, cors: &str, report: &mut Report) -> Self {
        let document = check(path, cors.as_bytes(), &Options::default(), report);
        let path = path.to_owned();
        Self {
            own: Some(PolicyFile { path, document }),
            buckets: None,
        }
    }

    pub(super) fn count(&self) -> usize {
        let buckets = self
            .buckets
            .iter()
            .flatten()
            .flatten()
            .map(|(_, policy)| policy);
        let all = self.own.iter().chain(buckets);
        all.filter(|policy| policy.document.is_ok()).count()
    }
}

fn list(folder: &Path) -> io::Result<Vec<(Box<str>, PathBuf)>> {
    let mut buckets = Vec::new();
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        // Editors' and Kubernetes' own files begin with a dot.
        let bucket = path
            .file_name()
            .and_then(|name| name.to_str())
            .filter(|name| !name.starts_with('.'))
            .and_then(|name| name.strip_suffix(".xml"));
        if let Some(bucket) = bucket {
            buckets.push((bucket.into(), path));
        }
    }
    buckets.sort();
    Ok(buckets)
}

/// Reads and checks the policies of every route; `config` is the file that names them.
pub(super) fn load(
    routes: &[RouteConfig],
    config: Option<&Arc<SourceFile>>,
    files: &mut Files,
    report: &mut Report,
) -> Vec<RoutePolicies> {
    let mut loader = Loader {
        config,
        files,
        report,
        known: HashMap::new(),
    };
    routes.iter().map(|route| loader.route(route)).collect()
}

/// Reads policies, each file once.
struct Loader<'l> {
    config: Option<&'l Arc<SourceFile>>,
    files: &'l mut Files,
    report: &'l mut Report,
    /// By path, and by the methods that its rules may name.
    known: HashMap<(PathBuf, Vec<Method>), PolicyFile>,
}

impl Loader<'_> {
    fn route(&mut self, route: &RouteConfig) -> RoutePolicies {
        let own = route.cors.as_ref();
        let buckets = route.buckets.as_ref();
        RoutePolicies {
            own: own.map(|named| self.policy(&named.path, Some(named), &route.options)),
            buckets: buckets.map(|buckets| self.buckets(buckets, &route.options)),
        }
    }

    fn buckets(
        &mut self,
        buckets: &BucketsConfig,
        options: &Options,
    ) -> Result<BucketFiles, String> {
        let folder = &buckets.directory.path;
        match self.files.list(folder) {
            Ok(listed) => Ok(listed
                .into_iter()
                .map(|(bucket, path)| (bucket, self.policy(&path, None, options)))
                .collect()),
            Err(error) => {
                let message = format!(
                    "the folder of buckets `{}` cannot be read",
                    folder.display()
                );
                let diagnostic =
                    Diagnostic::error("unreadable-folder", message).detail(error.to_string());
                Err(self.refuse(diagnostic, Some(&buckets.directory), folder))
            }
        }
    }

    /// `named` is where the config names it.
    fn policy(&mut self, path: &Path, named: Option<&NamedPath>, options: &Options) -> PolicyFile {
        let key = (path.to_owned(), options.extra_methods.clone());
        if let Some(known) = self.known.get(&key) {
            return known.clone();
        }
        let document = match self.files.read(path, MAX_POLICY) {
            Ok(bytes) => check(path, &bytes, options, self.report),
            Err(error) => Err(self.refuse(unreadable(path, &error), named, path)),
        };
        let policy = PolicyFile {
            path: path.to_owned(),
            document,
        };
        self.known.insert(key, policy.clone());
        policy
    }

    /// Reports an error where the config names the file, or else at the file itself.
    fn refuse(&mut self, diagnostic: Diagnostic, named: Option<&NamedPath>, path: &Path) -> String {
        let span = named.and_then(|named| named.span.clone());
        let diagnostic = match (self.config, span) {
            (Some(config), Some(span)) => diagnostic.at(config, span),
            _ => diagnostic.of(&SourceFile::unread(path)),
        };
        let line = diagnostic.to_string();
        self.report.push(diagnostic);
        line
    }
}

fn unreadable(path: &Path, error: &ReadError) -> Diagnostic {
    if matches!(error, ReadError::TooLarge { .. }) {
        let diagnostic = Diagnostic::error("MalformedXML", MALFORMED_XML);
        return diagnostic.detail(format!(
            "`{}` {error}; S3 takes at most {MAX_DOCUMENT}",
            path.display()
        ));
    }
    Diagnostic::error("unreadable-file", format!("`{}` {error}", path.display()))
}

fn check(
    path: &Path,
    bytes: &[u8],
    options: &Options,
    report: &mut Report,
) -> Result<Arc<Document>, String> {
    let checked = cors::check_document(bytes, options.clone());
    let mut first_error = None;
    if !checked.problems.is_empty() {
        let file = SourceFile::new(path, bytes);
        for problem in checked.problems {
            let diagnostic = Diagnostic::problem(&file, problem);
            if diagnostic.is_error() && first_error.is_none() {
                first_error = Some(diagnostic.to_string());
            }
            report.push(diagnostic);
        }
    }
    match checked.configuration {
        Some(configuration) => Ok(Arc::new(Document {
            configuration,
            content_hash: sha256(bytes),
            read_at: SystemTime::now(),
        })),
        None => Err(first_error.unwrap_or_else(|| format!("{}: {MALFORMED_XML}", path.display()))),
    }
}

/// Reads and checks one policy file, as `s3cors check FILE.xml` does.
pub fn check_policy_file(
    path: &Path,
    options: &Options,
    report: &mut Report,
) -> Option<CorsConfiguration> {
    let mut files = Files::default();
    let mut loader = Loader {
        config: None,
        files: &mut files,
        report,
        known: HashMap::new(),
    };
    let document = loader.policy(path, None, options).document.ok()?;
    drop(loader);
    Arc::into_inner(document).map(|document| document.configuration)
}
