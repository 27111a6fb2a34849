//! Reads and checks a policy file.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::SystemTime;

use crate::cors;
use crate::cors::{Grants, MALFORMED_XML, MAX_DOCUMENT, Options};
use crate::tls::digest::sha256;

use super::diagnostic::Diagnostic;
use super::files::Before;
use super::named_path::NamedPath;
use super::policy_file::{PolicyFile, check};
use super::read;
use super::read::{ReadError, Stamp};
use super::source::SourceFile;

/// The largest file passed to the engine, which rejects it as S3 does; larger files are not read.
pub(crate) const MAX_POLICY: u64 = 16 * MAX_DOCUMENT as u64;

/// Reads policy files.
#[derive(Debug)]
pub(crate) struct Reading<'r> {
    config: Option<&'r Arc<SourceFile>>,
    before: Before<'r>,
    grants: Grants,
}

impl<'r> Reading<'r> {
    /// Files unchanged since `before` are not read, or at least not checked again; `config` is
    /// the file that names them.
    pub(crate) fn new(config: Option<&'r Arc<SourceFile>>, before: Before<'r>) -> Self {
        let grants = Grants::default();
        Self {
            config,
            before,
            grants,
        }
    }

    /// The contents of a file; `named` is the config's reference to it.
    pub(crate) fn file(
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

    /// Reports a problem of a path at the config's reference to it, or else at the path itself.
    pub(crate) fn at(
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

pub(crate) fn unreadable(path: &Path, error: &ReadError) -> Diagnostic {
    if matches!(error, ReadError::TooLarge { .. }) {
        let diagnostic = Diagnostic::error("MalformedXML", MALFORMED_XML);
        return diagnostic.detail(format!(
            "`{}` {error}; S3 takes at most {MAX_DOCUMENT}",
            path.display()
        ));
    }
    let message = format!("`{}` {error}", path.display());
    let problem = super::read::readable(Diagnostic::error("unreadable-file", message), error);
    match neighbour(path).filter(|_| error.is_not_found()) {
        Some(meant) => problem.help(format!("did you mean `{}`?", meant.display())),
        None => problem,
    }
}

/// A file with a similar name next to a missing one.
pub(crate) fn neighbour(path: &Path) -> Option<PathBuf> {
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
