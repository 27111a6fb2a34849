//! A path in the config.

use std::ops::Range;
use std::path::{Path, PathBuf};

use toml::Spanned;

/// A path and its place in the config.
#[derive(Clone, Debug)]
pub struct NamedPath {
    /// The path; a relative one is joined to the config's folder.
    pub path: PathBuf,
    /// Its place in the config; `None` if from a flag.
    pub(crate) span: Option<Range<usize>>,
}

impl NamedPath {
    pub(crate) fn new(text: &Spanned<&str>, base: &Path) -> Self {
        Self {
            path: base.join(text.get_ref()),
            span: Some(text.span()),
        }
    }
}
