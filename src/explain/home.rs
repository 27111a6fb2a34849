//! The file for a CORS configuration that is missing or broken.

use std::fmt;
use std::path::{Path, PathBuf};

use super::{Scope, Served};

/// The place of a missing or broken CORS configuration.
pub(crate) enum Home {
    /// The bucket's file, in the route's folder of buckets.
    Bucket {
        /// The bucket.
        name: String,
        /// The file.
        file: PathBuf,
    },
    /// A file that the route would have to name.
    Route(Box<str>),
    /// A file that the route would have to name for the service root.
    Root(Box<str>),
    /// An existing file (or folder of files) that is invalid.
    Broken {
        /// The file.
        file: PathBuf,
        /// The error.
        error: String,
    },
}

impl Home {
    /// `None` if there is a configuration, or the upstream handles CORS.
    pub(crate) fn of(served: &Served) -> Option<Self> {
        let policy = served.policy.as_ref()?;
        if policy.policy.configuration().is_some() {
            return None;
        }
        if served.scope != Scope::NotEnabled {
            return Some(Self::Broken {
                file: policy.source.file.as_deref()?.to_owned(),
                error: policy.source.last_error.clone()?,
            });
        }
        let buckets = served.route.policies.buckets.as_ref();
        let is_root = served.bucket.as_ref().is_some_and(|bucket| bucket.is_root);
        let directory = buckets.and_then(|buckets| buckets.directory.as_deref());
        let name = served
            .bucket
            .as_ref()
            .and_then(|bucket| bucket.name.as_deref())
            .filter(|name| can_be_file(name));
        Some(match directory.zip(name) {
            Some((directory, name)) => Self::Bucket {
                file: directory.join(format!("{name}.xml")),
                name: name.to_owned(),
            },
            None if is_root => Self::Root(served.route.name.clone()),
            None => Self::Route(served.route.name.clone()),
        })
    }

    /// The file; `None` if its name is still open.
    pub(crate) fn file(&self) -> Option<String> {
        let file: &Path = match self {
            Self::Bucket { file, .. } | Self::Broken { file, .. } => file,
            Self::Route(_) | Self::Root(_) => return None,
        };
        Some(file.display().to_string())
    }
}

impl fmt::Display for Home {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Bucket { name, file } => write!(
                f,
                "bucket {name} has no CORS configuration; create {}",
                file.display()
            ),
            Self::Route(name) => write!(
                f,
                "route {name} has no CORS configuration; create a file, and set the route's `cors` to it"
            ),
            Self::Root(name) => write!(
                f,
                "the service root of route {name} has no CORS configuration; create a file, and set `root` of the route's `buckets` to it"
            ),
            Self::Broken { file, error } => {
                write!(f, "fix {}, which is not in force ({error})", file.display())
            }
        }
    }
}

/// Whether a bucket of this name could have a file: the name comes from a request.
fn can_be_file(name: &str) -> bool {
    !name.starts_with('.') && !name.contains(['/', '\\'])
}
