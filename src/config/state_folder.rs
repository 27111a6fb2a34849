//! Where the last good policies are kept, what of them a start uses, and the thread that saves them.

use std::collections::{HashMap, HashSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use std::{env, io, thread};

use http::Method;
use thiserror::Error;
use tokio::sync::watch;
use tokio::time::timeout;

use crate::cors::{Grants, Options};
use crate::routing::snapshot::{PolicySource, SERVICE_ROOT};

use super::Loaded;
use super::policy_file::{Document, PolicyFile, check};
use super::policy_state::{Good, PolicyState, SavedHashes};
use super::state_setting::StateSetting;

/// The variable in which systemd passes the folders of `StateDirectory=`, with colons between.
const VARIABLE: &str = "STATE_DIRECTORY";

/// How long to wait before policies that could not be saved are saved again.
const RETRY: Duration = Duration::from_secs(60);

/// The state folder cannot be written.
#[derive(Debug, Error)]
#[error(
    "cannot write to the state folder `{}`, which {named_by}: {reason}; make it writable for the user that \
     runs s3cors, or set state_directory = \"off\"", folder.display()
)]
pub struct UnwritableState {
    folder: PathBuf,
    named_by: &'static str,
    reason: io::Error,
}

/// The state folder of a process that serves.
#[derive(Clone, Debug)]
pub struct StateFolder(PolicyState);

/// Saves policies on a thread of its own.
#[derive(Debug)]
pub(super) struct Saver(watch::Sender<Job>);

/// What is to be saved.
#[derive(Clone, Debug, Default)]
struct Job {
    good: Vec<Good>,
    /// The policy files that are there; `None`: some folder cannot be read.
    present: Option<HashSet<Arc<Path>>>,
}

impl StateFolder {
    /// Opens the folder of the config, or else systemd's; `None`: there is neither.
    ///
    /// # Errors
    ///
    /// [`UnwritableState`] if it cannot be written.
    pub fn open(setting: &StateSetting) -> Result<Option<Self>, UnwritableState> {
        let (folder, named_by) = match setting {
            StateSetting::Off => return Ok(None),
            StateSetting::Folder(folder) => (folder.clone(), "`state_directory` names"),
            StateSetting::Default => {
                let folders = env::var_os(VARIABLE).unwrap_or_default();
                let Some(first) = env::split_paths(&folders).find(|path| path.is_absolute()) else {
                    return Ok(None);
                };
                (first, "STATE_DIRECTORY names")
            }
        };
        match PolicyState::open(&folder) {
            Ok(state) => Ok(Some(Self(state))),
            Err(reason) => Err(UnwritableState {
                folder,
                named_by,
                reason,
            }),
        }
    }

    /// Starts the thread that saves policies. It ends when the saver is dropped.
    pub(super) fn saver(self) -> io::Result<Saver> {
        let (jobs, mut due) = watch::channel(Job::default());
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .build()?;
        let save = async move {
            let mut known = SavedHashes::default();
            let mut has_failed = false;
            loop {
                if has_failed {
                    // The newest job, or the same one once more.
                    if let Ok(Err(_)) = timeout(RETRY, due.changed()).await {
                        return;
                    }
                } else if due.changed().await.is_err() {
                    return;
                }
                // Only the newest job waits, so that memory stays bounded.
                let job = due.borrow_and_update().clone();
                let saved = self.0.save(&job.good, job.present.as_ref(), &mut known);
                if let Err(error) = &saved {
                    tracing::error!(%error, "cannot save the last good policies in the state folder; trying again");
                }
                has_failed = saved.is_err();
            }
        };
        thread::Builder::new()
            .name("s3cors-state".to_owned())
            .spawn(move || runtime.block_on(save))?;
        Ok(Saver(jobs))
    }
}

impl Saver {
    /// Has the good policies of a load saved, and the state of deleted ones deleted.
    pub(super) fn save(&self, loaded: &super::files::Files) {
        let mut good = Vec::new();
        let mut present = HashSet::new();
        for file in loaded.policy_files() {
            // What cannot be looked at may be there.
            if file.stamp.is_some() || file.may_pass {
                present.insert(Arc::clone(&file.path));
            }
            if let Ok(Some(hash)) = file.contents() {
                let path = Arc::clone(&file.path);
                good.push(Good { path, hash });
            }
        }
        self.0.send_replace(Job {
            good,
            present: (!loaded.has_unreadable_folder()).then_some(present),
        });
    }
}

impl Loaded {
    /// Puts the last good version of each invalid policy file, if the state folder has it, in the place of
    /// the file. Files that are not there are left out: a deleted policy stays deleted.
    pub fn restore(&mut self, folder: &StateFolder) {
        let Some(config) = &self.config else { return };
        let mut restoring = Restoring {
            folder,
            known: HashMap::new(),
            route_errors: 0,
        };
        for (route, policies) in config.routes.iter().zip(&mut self.policies) {
            let options = &route.options;
            if let Some(own) = &mut policies.own {
                restoring.replace(own, true, options);
            }
            let Some(Ok(buckets)) = &mut policies.buckets else {
                continue;
            };
            if buckets.iter().any(|(_, file)| file.document.is_err()) {
                for (name, file) in Arc::make_mut(buckets) {
                    restoring.replace(file, &**name == SERVICE_ROOT, options);
                }
            }
        }
        self.restored_errors = restoring.route_errors;
    }
}

/// A policy file's path, and the methods that its rules may name.
type FileKey = (Arc<Path>, Vec<Method>);

/// Looks for last good versions, once for each file.
struct Restoring<'r> {
    folder: &'r StateFolder,
    known: HashMap<FileKey, Option<Arc<PolicyFile>>>,
    /// How many errors the files of routes have that are replaced.
    route_errors: usize,
}

impl Restoring<'_> {
    fn replace(&mut self, file: &mut Arc<PolicyFile>, is_of_route: bool, options: &Options) {
        let Err(error) = &file.document else { return };
        let key = (Arc::clone(&file.path), options.extra_methods.clone());
        if let Some(known) = self.known.get(&key) {
            if let Some(known) = known {
                *file = Arc::clone(known);
            }
            return;
        }
        let restored = self.document(file, error, options).map(|document| {
            Arc::new(PolicyFile {
                document: Ok(document),
                ..PolicyFile::clone(file)
            })
        });
        self.known.insert(key, restored.clone());
        let Some(restored) = restored else { return };
        if is_of_route {
            let errors = file.problems.iter().filter(|problem| problem.is_error());
            self.route_errors += errors.count();
        }
        *file = restored;
    }

    fn document(&self, file: &PolicyFile, error: &str, options: &Options) -> Option<Document> {
        file.stamp?;
        let path = file.path.display();
        let state = self.folder.0.file_of(&file.path);
        let state = state.display();
        let saved = match self.folder.0.saved(&file.path) {
            Ok(saved) => saved?,
            Err(reason) => {
                tracing::warn!("ignoring {state}, the last good version of {path}: {reason}");
                return None;
            }
        };
        let grants = &mut Grants::default();
        let (document, _) = check(&file.path, &saved.contents, saved.hash, options, grants);
        let Ok(document) = document else {
            tracing::warn!(
                "ignoring {state}, the last good version of {path}: this config refuses it"
            );
            return None;
        };
        tracing::error!("{path} is invalid: serving its last good version from {state}");
        Some(Document {
            source: Arc::new(PolicySource {
                loaded_at: saved.at,
                last_error: Some(error.to_owned()),
                from_state: true,
                ..PolicySource::clone(&document.source)
            }),
            ..document
        })
    }
}
