//! The policy files that a config names: read, checked, and remembered with what was read.

use std::collections::{BTreeSet, HashMap};
use std::fs;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io;
use std::panic::resume_unwind;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread;
use std::time::SystemTime;

use http::Method;

use crate::cors;
use crate::cors::CorsConfiguration;
use crate::cors::MALFORMED_XML;
use crate::cors::MAX_DOCUMENT;
use crate::cors::Options;

use super::diagnostic::Diagnostic;
use super::digest::sha256;
use super::read::{self, ReadError, Stamp};
use super::report::Report;
use super::route::{BucketsConfig, NamedPath, RouteConfig};
use super::source::SourceFile;

/// The largest file that is handed to the engine, which then refuses it as S3 does; what is
/// larger is not even read.
const MAX_POLICY: u64 = 16 * MAX_DOCUMENT as u64;

/// How many files it takes to be worth a thread.
const FILES_A_THREAD: usize = 500;

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
    pub(super) buckets: Option<Result<Arc<BucketFiles>, String>>,
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

    fn extend(&mut self, other: Self) {
        self.seen.extend(other.seen);
        self.folders.extend(other.folders);
        other.digest.finish().hash(&mut self.digest);
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
        let buckets = self.buckets.iter().flatten();
        let buckets = buckets.flat_map(|files| files.iter().map(|(_, policy)| policy));
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
    let mut loader = Loader::new(config, files, report);
    routes.iter().map(|route| loader.route(route)).collect()
}

/// Reads policies, each file once.
struct Loader<'l> {
    config: Option<&'l Arc<SourceFile>>,
    files: &'l mut Files,
    report: &'l mut Report,
    /// By path, and by the methods that its rules may name.
    known: HashMap<(PathBuf, Vec<Method>), PolicyFile>,
    /// As above.
    known_folders: HashMap<(PathBuf, Vec<Method>), Arc<BucketFiles>>,
}

impl<'l> Loader<'l> {
    fn new(
        config: Option<&'l Arc<SourceFile>>,
        files: &'l mut Files,
        report: &'l mut Report,
    ) -> Self {
        Self {
            config,
            files,
            report,
            known: HashMap::new(),
            known_folders: HashMap::new(),
        }
    }

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
    ) -> Result<Arc<BucketFiles>, String> {
        let folder = &buckets.directory.path;
        let key = (folder.clone(), options.extra_methods.clone());
        if let Some(known) = self.known_folders.get(&key) {
            return Ok(Arc::clone(known));
        }
        let listed = self.files.list(folder).map_err(|error| {
            let folder_name = folder.display();
            let message = format!("the folder of buckets `{folder_name}` cannot be read");
            let diagnostic = Diagnostic::error("unreadable-folder", message);
            let diagnostic = diagnostic.detail(error.to_string());
            self.refuse(diagnostic, Some(&buckets.directory), folder)
        })?;
        let files = Arc::new(self.folder(&listed, options));
        self.known_folders.insert(key, Arc::clone(&files));
        Ok(files)
    }

    /// Reads the files of a folder; many of them on several threads.
    fn folder(&mut self, listed: &[(Box<str>, PathBuf)], options: &Options) -> BucketFiles {
        let cores = thread::available_parallelism().map_or(1, usize::from);
        let threads = cores.min(listed.len() / FILES_A_THREAD);
        if threads < 2 {
            return self.each(listed, options);
        }
        let shares = listed.chunks(listed.len().div_ceil(threads));
        let read = |share| {
            let (mut files, mut report) = (Files::default(), Report::default());
            let read = Loader::new(None, &mut files, &mut report).each(share, options);
            (read, files, report)
        };
        let parts: Vec<_> = thread::scope(|scope| {
            let started: Vec<_> = shares
                .map(|share| scope.spawn(move || read(share)))
                .collect();
            let parts = started.into_iter().map(thread::ScopedJoinHandle::join);
            parts
                .map(|part| part.unwrap_or_else(|panic| resume_unwind(panic)))
                .collect()
        });
        let mut all = Vec::with_capacity(listed.len());
        for (read, files, report) in parts {
            all.extend(read);
            self.files.extend(files);
            self.report.extend(report);
        }
        all
    }

    fn each(&mut self, listed: &[(Box<str>, PathBuf)], options: &Options) -> BucketFiles {
        let listed = listed.iter();
        listed
            .map(|(bucket, path)| (bucket.clone(), self.policy(path, None, options)))
            .collect()
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
    let message = format!("`{}` {error}", path.display());
    super::readable(Diagnostic::error("unreadable-file", message), error)
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
    let read = Loader::new(None, &mut files, report).policy(path, None, options);
    let document = read.document.ok()?;
    Arc::into_inner(document).map(|document| document.configuration)
}
