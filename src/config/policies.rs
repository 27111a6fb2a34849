//! The policy files in a config: read, checked, and remembered with their contents.

use std::collections::{BTreeMap, HashMap};
use std::io;
use std::panic::resume_unwind;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread;

use http::Method;

use crate::cors::{CorsConfiguration, Options};
use crate::routing::snapshot::SERVICE_ROOT;

use super::diagnostic::Diagnostic;
use super::files::{Before, Files, Listed, SUFFIX};
use super::named_path::NamedPath;
use super::policy_file::PolicyFile;
use super::policy_reader::Reading;
use super::report::Report;
use super::route::{BucketsConfig, RouteConfig};
use super::source::SourceFile;

/// The number of files that justifies another thread.
const FILES_A_THREAD: usize = 500;

/// The policies of a route.
#[derive(Debug, Default)]
pub(super) struct RoutePolicies {
    /// The route's own.
    pub(super) own: Option<Arc<PolicyFile>>,
    /// By bucket, sorted by name; `Err`: why the folder cannot be read.
    pub(super) buckets: Option<Result<Arc<BucketFiles>, String>>,
}

/// The policy files of a folder, with their buckets.
pub(super) type BucketFiles = Vec<(Box<str>, Arc<PolicyFile>)>;

impl RoutePolicies {
    /// A policy without a file.
    pub(super) fn inline(path: &Path, cors: &str, report: &mut Report) -> Self {
        let file = PolicyFile::inline(path, cors);
        report.push_all(&file.problems);
        Self {
            own: Some(Arc::new(file)),
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

/// Reads and checks the policies of every route; `config` is the file that names them. Also
/// returns how many of the errors are in the files of buckets.
pub(super) fn load(
    routes: &[RouteConfig],
    config: Option<&Arc<SourceFile>>,
    before: Before<'_>,
    files: &mut Files,
    report: &mut Report,
) -> (Vec<RoutePolicies>, usize) {
    let mut loader = Loader {
        reading: Reading::new(config, before),
        before,
        files,
        report,
        known_folders: HashMap::new(),
        bucket_errors: 0,
    };
    let policies = routes.iter().map(|route| loader.route(route)).collect();
    (policies, loader.bucket_errors)
}

/// Reads policies, each file once.
struct Loader<'l> {
    reading: Reading<'l>,
    before: Before<'l>,
    files: &'l mut Files,
    report: &'l mut Report,
    /// By path, and by the methods that rules may use.
    known_folders: HashMap<(PathBuf, Vec<Method>), Arc<BucketFiles>>,
    /// The number of errors in the files of buckets.
    bucket_errors: usize,
}

impl Loader<'_> {
    fn route(&mut self, route: &RouteConfig) -> RoutePolicies {
        let buckets = route.buckets.as_ref();
        RoutePolicies {
            own: self.own(route),
            buckets: buckets.map(|buckets| self.with_root(buckets, &route.options)),
        }
    }

    fn own(&mut self, route: &RouteConfig) -> Option<Arc<PolicyFile>> {
        Some(self.named(route.cors.as_ref()?, &route.options))
    }

    /// Reads a file that the config names.
    fn named(&mut self, named: &NamedPath, options: &Options) -> Arc<PolicyFile> {
        if let Some(known) = self.files.policy(&named.path, &options.extra_methods) {
            return Arc::clone(known);
        }
        let file = self.reading.file(&named.path, Some(named), options);
        self.files.follow(&named.path);
        self.keep(&file, options);
        file
    }

    /// The policies of a folder of buckets, and of the service root.
    fn with_root(
        &mut self,
        buckets: &BucketsConfig,
        options: &Options,
    ) -> Result<Arc<BucketFiles>, String> {
        let files = self.with_cache(buckets, options)?;
        let Some(root) = &buckets.root else {
            return Ok(files);
        };
        let root = self.named(root, options);
        let mut all = BucketFiles::with_capacity(files.len() + 1);
        all.push((SERVICE_ROOT.into(), root));
        all.extend(files.iter().cloned());
        Ok(Arc::new(all))
    }

    /// The files of the directory and of a cache; those of the cache take precedence.
    fn with_cache(
        &mut self,
        buckets: &BucketsConfig,
        options: &Options,
    ) -> Result<Arc<BucketFiles>, String> {
        let is_cache = |directory: &NamedPath| {
            let cache = buckets.cache.as_ref();
            cache.is_some_and(|cache| cache.path == directory.path)
        };
        let files = self.buckets(&buckets.directory, is_cache(&buckets.directory), options)?;
        let Some(cache) = buckets
            .cache
            .as_ref()
            .filter(|_| !is_cache(&buckets.directory))
        else {
            return Ok(files);
        };
        let copies = self.buckets(cache, true, options)?;
        let mut all: BTreeMap<_, _> = files.iter().cloned().collect();
        all.extend(copies.iter().cloned());
        Ok(Arc::new(all.into_iter().collect()))
    }

    /// The files of a directory; a missing one is fine with `may_be_missing`.
    fn buckets(
        &mut self,
        directory: &NamedPath,
        may_be_missing: bool,
        options: &Options,
    ) -> Result<Arc<BucketFiles>, String> {
        let folder = &directory.path;
        let key = (folder.clone(), options.extra_methods.clone());
        if let Some(known) = self.known_folders.get(&key) {
            return Ok(Arc::clone(known));
        }
        let listed = match self.files.list(folder) {
            Err(error) if may_be_missing && error.kind() == io::ErrorKind::NotFound => {
                Ok(Listed::default())
            }
            listed => listed,
        };
        let listed = listed.map_err(|error| {
            let folder_name = folder.display();
            let message = format!("cannot read the folder of buckets `{folder_name}`");
            let problem = Diagnostic::error("unreadable-folder", message);
            let problem = problem.detail(error.to_string());
            let problem = self.reading.at(Some(directory), folder, problem);
            let line = problem.to_string();
            self.files.reject(folder, line.clone());
            self.report.push(problem);
            line
        })?;
        self.misnamed(folder, &listed);
        let listed = listed.buckets;
        let read = self.folder(folder, &listed, options);
        self.files.reserve(read.len(), &options.extra_methods);
        for file in &read {
            self.keep(file, options);
            let errors = file.problems.iter().filter(|problem| problem.is_error());
            self.bucket_errors += errors.count();
        }
        let files = Arc::new(listed.into_iter().zip(read).collect());
        self.known_folders.insert(key, Arc::clone(&files));
        Ok(files)
    }

    /// Warns about files that no request can reach.
    fn misnamed(&mut self, folder: &Path, listed: &Listed) {
        let mut warn = |name: String, why: &str, help: String| {
            let message = format!("`{name}` in the folder of buckets {why}");
            let problem = Diagnostic::warning("bucket-file-name", message);
            let file = SourceFile::unread(&folder.join(&name));
            self.report.push(problem.of(&file).help(help));
        };
        for name in &listed.others {
            let stem = name.split('.').next().unwrap_or_default();
            let why = format!("is ignored: a bucket's policy must be named NAME{SUFFIX}");
            let help = if name.to_ascii_lowercase().ends_with(SUFFIX) {
                format!("rename it to {stem}{SUFFIX}")
            } else {
                format!("s3cors import {name} > {stem}{SUFFIX}")
            };
            warn(name.to_string(), &why, help);
        }
        let names = listed.buckets.iter().map(|name| &**name);
        let has_capitals = |name: &&str| name.bytes().any(|byte| byte.is_ascii_uppercase());
        for name in names.filter(has_capitals).take(20) {
            let why = "is never used: bucket names have no capital letters";
            let help = format!("rename it to {}{SUFFIX}", name.to_ascii_lowercase());
            warn(format!("{name}{SUFFIX}"), why, help);
        }
    }

    /// Reads the files of a folder's buckets; large folders with several threads.
    fn folder(
        &mut self,
        folder: &Path,
        buckets: &[Box<str>],
        options: &Options,
    ) -> Vec<Arc<PolicyFile>> {
        let cores = thread::available_parallelism().map_or(1, usize::from);
        let threads = cores.min(buckets.len() / FILES_A_THREAD);
        if threads < 2 {
            return each(&mut self.reading, folder, buckets, options);
        }
        let shares = buckets.chunks(buckets.len().div_ceil(threads));
        let before = self.before;
        thread::scope(|scope| {
            let read = |share| each(&mut Reading::new(None, before), folder, share, options);
            let started: Vec<_> = shares
                .map(|share| scope.spawn(move || read(share)))
                .collect();
            let mut all = Vec::with_capacity(buckets.len());
            for part in started {
                all.extend(part.join().unwrap_or_else(|panic| resume_unwind(panic)));
            }
            all
        })
    }

    fn keep(&mut self, file: &Arc<PolicyFile>, options: &Options) {
        self.report.push_all(&file.problems);
        self.files.keep(file, &options.extra_methods, self.before);
    }
}

fn each(
    reading: &mut Reading<'_>,
    folder: &Path,
    buckets: &[Box<str>],
    options: &Options,
) -> Vec<Arc<PolicyFile>> {
    let mut path = folder.join("bucket");
    let names = buckets.iter().map(|bucket| format!("{bucket}{SUFFIX}"));
    names
        .map(|name| {
            path.set_file_name(name);
            reading.file(&path, None, options)
        })
        .collect()
}

/// Checks a policy that is not from a file; `name` stands for it in messages.
pub fn check_policy(
    name: &Path,
    bytes: &[u8],
    options: &Options,
    report: &mut Report,
) -> Option<CorsConfiguration> {
    let read = PolicyFile::of_bytes(name, bytes, options);
    report.push_all(&read.problems);
    read.document.as_ref().ok()?.policy.configuration()
}

/// Reads and checks one policy file, as `s3cors check FILE.xml` does.
pub fn check_policy_file(
    path: &Path,
    options: &Options,
    report: &mut Report,
) -> Option<CorsConfiguration> {
    let read = Reading::new(None, Before::Nothing).file(path, None, options);
    report.push_all(&read.problems);
    read.document.as_ref().ok()?.policy.configuration()
}
