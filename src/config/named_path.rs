//! A path that the config names.

use std::ops::Range;
use std::path::{Path, PathBuf};

use toml::Spanned;

/// A path, and where the config names it.
#[derive(Clone, Debug)]
pub struct NamedPath {
    /// The path, with the config's folder before it where it was relative.
    pub path: PathBuf,
    /// Where the config names it; `None`: a flag did.
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
