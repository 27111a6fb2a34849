//! Tracks which names belong to the namespace of s3cors; all other namespaces are ignored.

use crate::cors::extension::EXTENSION_NAMESPACE;

/// The namespace declarations in scope.
#[derive(Debug, Default)]
pub(super) struct Namespaces(Vec<Declaration>);

#[derive(Debug)]
struct Declaration {
    /// The number of elements open around the declaring one.
    depth: usize,
    /// Empty for the default namespace.
    prefix: Box<str>,
    is_ours: bool,
}

impl Namespaces {
    /// Handles an attribute of an element with `depth` elements open around it.
    pub(super) fn attribute(&mut self, name: &str, value: &str, depth: usize) {
        let prefix = match name.strip_prefix("xmlns") {
            Some("") => "",
            Some(rest) if rest.starts_with(':') => rest.get(1..).unwrap_or_default(),
            _ => return,
        };
        let is_ours = value == EXTENSION_NAMESPACE;
        // Other declarations matter only if they override one of ours.
        if is_ours || !self.0.is_empty() {
            self.0.push(Declaration {
                depth,
                prefix: prefix.into(),
                is_ours,
            });
        }
    }

    /// Ends the scope of an element's declarations; `depth` elements are still open.
    pub(super) fn end(&mut self, depth: usize) {
        while self.0.last().is_some_and(|last| last.depth >= depth) {
            self.0.pop();
        }
    }

    /// The name without its prefix, if it belongs to the namespace of s3cors.
    pub(super) fn local_name<'n>(&self, name: &'n str) -> Option<&'n str> {
        if self.0.is_empty() {
            return None;
        }
        let (prefix, local) = name.split_once(':').unwrap_or(("", name));
        let mut declared = self.0.iter().rev();
        let found = declared.find(|declared| *declared.prefix == *prefix)?;
        found.is_ours.then_some(local)
    }
}
