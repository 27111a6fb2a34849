//! Where the CORS configuration would be that a request did not find.

use std::fmt;
use std::path::{Path, PathBuf};

use super::{Scope, Served};

/// Where the CORS configuration would be that there is not.
pub(crate) enum Home {
    /// In the bucket's file, in the route's folder of buckets.
    Bucket {
        /// The bucket.
        name: String,
        /// The file.
        file: PathBuf,
    },
    /// In a file that the route would have to name.
    Route(Box<str>),
    /// In a file that the route would have to name for the service root.
    Root(Box<str>),
    /// In a file (or a folder of them) that is there, but does not check out.
    Broken {
        /// The file.
        file: PathBuf,
        /// Why.
        error: String,
    },
}

impl Home {
    /// `None`: there is a configuration, or CORS is the upstream's business.
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

    /// The file; `None`: it has no name yet.
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
                "bucket {name} has no CORS configuration: write one, as {}",
                file.display()
            ),
            Self::Route(name) => write!(
                f,
                "route {name} has no CORS configuration: write one, and name its file in the \
                 route's `cors`"
            ),
            Self::Root(name) => write!(
                f,
                "the service root of route {name} has no CORS configuration: write one, and name \
                 its file in `root` of the route's `buckets`"
            ),
            Self::Broken { file, error } => {
                write!(
                    f,
                    "mend {}, which is not in force ({error})",
                    file.display()
                )
            }
        }
    }
}

/// Whether a bucket of this name would be looked for in a file: the name comes from a request.
fn can_be_file(name: &str) -> bool {
    !name.starts_with('.') && !name.contains(['/', '\\'])
}
