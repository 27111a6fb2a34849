//! The policy files that a config names: read, checked, and remembered with what was read.

use std::collections::HashMap;
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
use super::files::{Files, PolicyKey, ReadPolicy};
use super::read::ReadError;
use super::report::Report;
use super::route::{BucketsConfig, NamedPath, RouteConfig};
use super::source::SourceFile;

/// The largest file that is handed to the engine, which then refuses it as S3 does; what is
/// larger is not even read.
const MAX_POLICY: u64 = 16 * MAX_DOCUMENT as u64;

/// How many files it takes to be worth a thread.
const FILES_A_THREAD: usize = 500;

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
    pub(super) path: Arc<Path>,
    /// `Err`: the first thing that is wrong with it, in one line.
    pub(super) document: Result<Arc<Document>, String>,
}

/// A policy file that checks out.
#[derive(Debug)]
pub(super) struct Document {
    pub(super) configuration: Arc<CorsConfiguration>,
    pub(super) content_hash: String,
    pub(super) read_at: SystemTime,
}

impl RoutePolicies {
    /// A policy that is in no file.
    pub(super) fn inline(path: &Path, cors: &str, report: &mut Report) -> Self {
        let (document, problems) = check(path, cors.as_bytes(), &Options::default());
        report.push_all(&problems);
        let path = path.into();
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

/// Reads and checks the policies of every route; `config` is the file that names them. What is as
/// it was in `before` is not read again.
pub(super) fn load(
    routes: &[RouteConfig],
    config: Option<&Arc<SourceFile>>,
    before: Option<&Files>,
    files: &mut Files,
    report: &mut Report,
) -> Vec<RoutePolicies> {
    let mut loader = Loader::new(config, before, files, report);
    routes.iter().map(|route| loader.route(route)).collect()
}

/// Reads policies, each file once.
struct Loader<'l> {
    config: Option<&'l Arc<SourceFile>>,
    before: Option<&'l Files>,
    files: &'l mut Files,
    report: &'l mut Report,
    /// By path, and by the methods that rules may name.
    known_folders: HashMap<(PathBuf, Vec<Method>), Arc<BucketFiles>>,
}

impl<'l> Loader<'l> {
    fn new(
        config: Option<&'l Arc<SourceFile>>,
        before: Option<&'l Files>,
        files: &'l mut Files,
        report: &'l mut Report,
    ) -> Self {
        Self {
            config,
            before,
            files,
            report,
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
        let before = self.before;
        let read = |share| {
            let (mut files, mut report) = (Files::default(), Report::default());
            let read = Loader::new(None, before, &mut files, &mut report).each(share, options);
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
        let key = PolicyKey::new(path, &options.extra_methods);
        if let Some(known) = self.files.policy(&key) {
            return known.clone();
        }
        if let Some(same) = self.before.and_then(|before| before.unchanged(&key)) {
            self.report.push_all(&same.problems);
            return self.files.keep(key, same.clone());
        }
        let read = self.files.open(path, MAX_POLICY);
        let (document, problems) = match &read.contents {
            Ok(bytes) => check(path, bytes, options),
            Err(error) => (
                Err(self.refuse(unreadable(path, error), named, path)),
                Vec::new(),
            ),
        };
        self.report.push_all(&problems);
        let path = Arc::clone(&key.path);
        let policy = PolicyFile { path, document };
        self.files
            .keep(key, ReadPolicy::new(&read, policy, problems))
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

/// What a file says, or the first thing that is wrong with it; and all there is to say of it.
fn check(
    path: &Path,
    bytes: &[u8],
    options: &Options,
) -> (Result<Arc<Document>, String>, Vec<Diagnostic>) {
    let checked = cors::check_document(bytes, options.clone());
    let mut problems = Vec::new();
    if !checked.problems.is_empty() {
        let file = SourceFile::new(path, bytes);
        let each = checked.problems.into_iter();
        problems.extend(each.map(|problem| Diagnostic::problem(&file, problem)));
    }
    let document = match checked.configuration {
        Some(configuration) => Ok(Arc::new(Document {
            configuration: Arc::new(configuration),
            content_hash: sha256(bytes),
            read_at: SystemTime::now(),
        })),
        None => Err(problems.iter().find(|there| there.is_error()).map_or_else(
            || format!("{}: {MALFORMED_XML}", path.display()),
            Diagnostic::to_string,
        )),
    };
    (document, problems)
}

/// Reads and checks one policy file, as `s3cors check FILE.xml` does.
pub fn check_policy_file(
    path: &Path,
    options: &Options,
    report: &mut Report,
) -> Option<CorsConfiguration> {
    let mut files = Files::default();
    let read = Loader::new(None, None, &mut files, report).policy(path, None, options);
    let document = read.document.ok()?;
    Some(CorsConfiguration::clone(&document.configuration))
}
