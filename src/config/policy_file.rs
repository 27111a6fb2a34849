//! A policy file: read, checked and compiled, unless an earlier load has done so.

use std::path::Path;
use std::sync::Arc;
use std::time::SystemTime;

use crate::cors;
use crate::cors::{Grants, MALFORMED_XML, Options, Policy};
use crate::routing::snapshot::PolicySource;
use crate::tls::digest::{ContentHash, sha256};

use super::diagnostic::Diagnostic;
use super::public_suffix;
use super::read::Stamp;
use super::source::SourceFile;

/// A policy file that was read. Loads that find it unchanged share it, and so do their snapshots.
#[derive(Clone, Debug)]
pub(super) struct PolicyFile {
    pub(super) path: Arc<Path>,
    /// `Err`: its first error, in one line.
    pub(super) document: Result<Document, Box<str>>,
    /// All its diagnostics, which every load reports again.
    pub(super) problems: Box<[Diagnostic]>,
    /// The stamp of the path's target; `None` if there is no target.
    pub(crate) stamp: Option<Stamp>,
    /// Whether an equal stamp guarantees equal contents.
    pub(super) is_settled: bool,
    /// Whether it could not be read and a retry may succeed although the file is unchanged.
    pub(super) may_pass: bool,
    /// Whether it could not be read.
    pub(crate) failed_read: bool,
}

/// The contents of a valid policy file.
#[derive(Clone, Debug)]
pub(super) struct Document {
    /// Compiled with the options of the route that it was first read for.
    pub(super) policy: Arc<Policy>,
    pub(super) source: Arc<PolicySource>,
}

impl PolicyFile {
    /// A policy without a file.
    pub(super) fn inline(path: &Path, text: &str) -> Self {
        Self::of_bytes(path, text.as_bytes(), &Options::default())
    }

    /// The same policy, for a route with these options.
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

    /// Whether its path's target has changed since it was read.
    pub(super) fn has_changed(&self) -> bool {
        Stamp::of(&self.path) != self.stamp
    }

    /// A fingerprint of its contents: equal for files with equal meaning.
    pub(super) fn contents(&self) -> Result<Option<ContentHash>, &str> {
        match &self.document {
            Ok(document) => Ok(document.source.content_hash),
            Err(error) => Err(error),
        }
    }

    /// Whether it may have changed since it was read although its stamp is the same: within one
    /// tick of the file system's clock.
    pub(super) fn may_differ(&self) -> bool {
        let was_read = self.stamp.is_some() && !self.failed_read;
        was_read && !self.is_settled
    }

    /// Whether it is valid and its contents have this hash.
    pub(crate) fn has_contents(&self, hash: ContentHash) -> bool {
        let document = self.document.as_ref();
        document.is_ok_and(|document| document.source.content_hash == Some(hash))
    }
}

/// The contents of a file or its first error, and all its diagnostics.
pub(super) fn check(
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
            source: Arc::new(PolicySource {
                file: Some(Arc::clone(path)),
                content_hash: Some(hash),
                loaded_at: Some(SystemTime::now()),
                last_error: None,
                from_state: false,
            }),
        }),
        None => Err(problems.iter().find(|there| there.is_error()).map_or_else(
            || format!("{}: {MALFORMED_XML}", path.display()).into(),
            |error| error.to_string().into(),
        )),
    };
    (document, problems.into())
}
