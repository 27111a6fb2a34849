//! One policy file: read, checked and compiled, unless all that was done before.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::SystemTime;

use crate::cors;
use crate::cors::Grants;
use crate::cors::MALFORMED_XML;
use crate::cors::MAX_DOCUMENT;
use crate::cors::Options;
use crate::cors::Policy;
use crate::proxy::digest::sha256;
use crate::proxy::snapshot::{ContentHash, Source};

use super::diagnostic::Diagnostic;
use super::files::Before;
use super::public_suffix;
use super::read::{self, ReadError, Stamp};
use super::route::NamedPath;
use super::source::SourceFile;

/// The largest file that is handed to the engine, which then refuses it as S3 does; what is
/// larger is not even read.
const MAX_POLICY: u64 = 16 * MAX_DOCUMENT as u64;

/// A policy file that was read. Loads that find it as it was share it, and so do the snapshots that
/// they make.
#[derive(Clone, Debug)]
pub(super) struct PolicyFile {
    pub(super) path: Arc<Path>,
    /// `Err`: the first thing that is wrong with it, in one line.
    pub(super) document: Result<Document, Box<str>>,
    /// All there is to say of it, said again by every load.
    pub(super) problems: Box<[Diagnostic]>,
    /// What the path led to; `None`: nowhere.
    stamp: Option<Stamp>,
    /// Whether as long as it has this stamp it has these contents.
    pub(super) is_settled: bool,
    /// Whether it could not be read, and the next read may succeed although the file is the same.
    pub(super) may_pass: bool,
    /// Whether it could not be read at all.
    failed_read: bool,
}

/// What a policy file that checks out says.
#[derive(Clone, Debug)]
pub(super) struct Document {
    /// Compiled with the options of the route that it was first read for.
    pub(super) policy: Arc<Policy>,
    pub(super) source: Arc<Source>,
}

/// Reads policy files.
#[derive(Debug)]
pub(super) struct Reading<'r> {
    config: Option<&'r Arc<SourceFile>>,
    before: Before<'r>,
    grants: Grants,
}

impl PolicyFile {
    /// A policy that is in no file.
    pub(super) fn inline(path: &Path, text: &str) -> Self {
        Self::of_bytes(path, text.as_bytes(), &Options::default())
    }

    /// The same, for a route with these options.
    pub(super) fn of_bytes(path: &Path, bytes: &[u8], options: &Options) -> Self {
        let (path, grants) = (path.into(), &mut Grants::default());
        let (document, problems) = check(&path, bytes, sha256(bytes), options, grants);
        Self {
            path,
            document,
            problems,
            stamp: None,
            is_settled: true,
            may_pass: false,
            failed_read: false,
        }
    }

    /// Whether its path leads to something else than when it was read.
    pub(super) fn has_changed(&self) -> bool {
        Stamp::of(&self.path) != self.stamp
    }

    /// What it says, in short: equal for files that say the same.
    pub(super) fn contents(&self) -> Result<Option<ContentHash>, &str> {
        match &self.document {
            Ok(document) => Ok(document.source.content_hash),
            Err(error) => Err(error),
        }
    }

    /// Whether it may have been written again since it was read, within one tick of its file system's
    /// clock, so that its stamp is the same.
    pub(super) fn may_differ(&self) -> bool {
        let was_read = self.stamp.is_some() && !self.failed_read;
        was_read && !self.is_settled
    }

    /// Whether it checks out and has the contents of this hash.
    fn has_contents(&self, hash: ContentHash) -> bool {
        let document = self.document.as_ref();
        document.is_ok_and(|document| document.source.content_hash == Some(hash))
    }
}

impl<'r> Reading<'r> {
    /// What is as it was `before` is not read, or at least not checked again; `config` is the file
    /// that names the files.
    pub(super) fn new(config: Option<&'r Arc<SourceFile>>, before: Before<'r>) -> Self {
        let grants = Grants::default();
        Self {
            config,
            before,
            grants,
        }
    }

    /// What a file says; `named` is where the config names it.
    pub(super) fn file(
        &mut self,
        path: &Path,
        named: Option<&NamedPath>,
        options: &Options,
    ) -> Arc<PolicyFile> {
        let before = self.before.policy(path, &options.extra_methods);
        if let Some(same) = before.filter(|before| self.before.trusts(before)) {
            return Arc::clone(same);
        }
        let shared = before.map_or_else(|| path.into(), |before| Arc::clone(&before.path));
        let now = SystemTime::now();
        Arc::new(match read::read(path, MAX_POLICY) {
            Ok((bytes, stamp)) => {
                let hash = sha256(&bytes);
                let (document, problems) = match before.filter(|before| before.has_contents(hash)) {
                    Some(before) => (before.document.clone(), before.problems.clone()),
                    None => check(&shared, &bytes, hash, options, &mut self.grants),
                };
                PolicyFile {
                    path: shared,
                    document,
                    problems,
                    stamp: Some(stamp),
                    is_settled: stamp.is_settled(now),
                    may_pass: false,
                    failed_read: false,
                }
            }
            Err(error) => {
                let problem = self.at(named, path, unreadable(path, &error));
                PolicyFile {
                    path: shared,
                    document: Err(problem.to_string().into()),
                    problems: [problem].into(),
                    stamp: Stamp::of(path),
                    is_settled: false,
                    may_pass: error.may_pass(),
                    failed_read: true,
                }
            }
        })
    }

    /// Says a problem of a path where the config names it, or else of the path itself.
    pub(super) fn at(
        &self,
        named: Option<&NamedPath>,
        path: &Path,
        problem: Diagnostic,
    ) -> Diagnostic {
        let span = named.and_then(|named| named.span.clone());
        match (self.config, span) {
            (Some(config), Some(span)) => problem.at(config, span),
            _ => problem.of(&SourceFile::unread(path)),
        }
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
    let problem = super::readable(Diagnostic::error("unreadable-file", message), error);
    match neighbour(path).filter(|_| error.is_not_found()) {
        Some(meant) => problem.help(format!("did you mean `{}`?", meant.display())),
        None => problem,
    }
}

/// A file beside a missing one, with nearly its name.
fn neighbour(path: &Path) -> Option<PathBuf> {
    let name = path.file_name()?.to_str()?;
    let folder = path.parent()?;
    let here = match folder.as_os_str().is_empty() {
        true => Path::new("."),
        false => folder,
    };
    let entries = std::fs::read_dir(here).ok()?.flatten().take(1000);
    let names: Vec<String> = entries
        .filter_map(|entry| entry.file_name().into_string().ok())
        .collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    Some(folder.join(cors::nearest(name, &names)?))
}

/// What a file says, or the first thing that is wrong with it; and all there is to say of it.
fn check(
    path: &Arc<Path>,
    bytes: &[u8],
    hash: ContentHash,
    options: &Options,
    grants: &mut Grants,
) -> (Result<Document, Box<str>>, Box<[Diagnostic]>) {
    let mut checked = cors::check_document_sharing(bytes, options.clone(), grants);
    let more = public_suffix::warnings(bytes, &checked);
    checked.problems.extend(more);
    let mut problems = Vec::new();
    if !checked.problems.is_empty() {
        let file = SourceFile::new(path, bytes);
        let each = checked.problems.into_iter();
        problems.extend(each.map(|problem| Diagnostic::problem(&file, problem)));
    }
    let document = match checked.policy {
        Some(policy) => Ok(Document {
            policy: Arc::new(policy),
            source: Arc::new(Source {
                file: Some(Arc::clone(path)),
                content_hash: Some(hash),
                loaded_at: Some(SystemTime::now()),
                last_error: None,
            }),
        }),
        None => Err(problems.iter().find(|there| there.is_error()).map_or_else(
            || format!("{}: {MALFORMED_XML}", path.display()).into(),
            |error| error.to_string().into(),
        )),
    };
    (document, problems.into())
}
