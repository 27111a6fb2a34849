//! The copy of a bucket of policies on disk, and the state of each object.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};
use std::{fs, io};

use arc_swap::ArcSwap;
use bytes::Bytes;
use md5::{Digest as _, Md5};
use tokio::sync::{Mutex, Notify, oneshot};

use crate::cors::{Options, Severity, check_document};
use crate::metrics::BucketCorsRequests;
use crate::routing::cors_api::StoreStatus;

use super::bucket_name::is_bucket_name;
use super::directory::{PolicyDirectory, StoreError, on_disk};
use super::s3_client::{ClientError, S3Client, Session, StoredObject};
use super::sigv4::hex;

/// The maximum number of invalid objects in `/status`.
const MAX_SHOWN: usize = 20;

/// The interval of attempts to lock the cache.
const LOCK_RETRY: Duration = Duration::from_millis(20);

/// The maximum time to wait for the lock.
const LOCK_TIME: Duration = Duration::from_secs(10);

pub(super) const SUFFIX: &str = ".xml";

/// A bucket of policies, and the place of its copy.
#[derive(Debug)]
pub(super) struct Mirror {
    pub(super) route: Box<str>,
    pub(super) client: S3Client,
    pub(super) cache: PolicyDirectory,
    pub(super) cache_path: PathBuf,
    pub(super) poll: Duration,
    pub(super) options: Options,
    pub(super) requests: BucketCorsRequests,
    pub(super) status: ArcSwap<StoreStatus>,
}

/// A worker's request.
#[derive(Debug)]
pub(super) enum Command {
    Read {
        bucket: String,
        reply: oneshot::Sender<Result<Option<Bytes>, ClientError>>,
    },
    Replace {
        bucket: String,
        document: Option<Bytes>,
        reply: oneshot::Sender<Result<Option<Bytes>, StoreError>>,
    },
}

/// The state of a bucket's object.
pub(super) struct Entry {
    /// The ETag of the copied object; `None` if it was removed.
    pub(super) etag: Option<String>,
    /// The number of this replica's last change of it.
    pub(super) changed_at: u64,
}

/// The task.
pub(super) struct Actor<'s> {
    pub(super) mirror: &'s Mirror,
    pub(super) entries: RefCell<HashMap<String, Entry>>,
    /// The number of this replica's changes.
    pub(super) changes: Cell<u64>,
    /// Invalid objects and their errors.
    invalid: RefCell<BTreeMap<String, String>>,
    /// Whether the store supports conditional requests, as far as known.
    pub(super) knows_conditions: Cell<bool>,
    /// Held while a bucket's copy is changed.
    pub(super) turn: Mutex<()>,
    pub(super) poll_now: Notify,
}

impl<'s> Actor<'s> {
    /// Starts from the copy. Most stores use an object's MD5 as its ETag; with others, each
    /// object is read once.
    pub(super) async fn of(mirror: &'s Mirror) -> io::Result<Self> {
        let path = mirror.cache_path.clone();
        let copies = tokio::task::spawn_blocking(move || copies(&path)).await;
        let copies = copies.map_err(io::Error::other)??;
        let entries = copies.into_iter().map(|(bucket, etag)| {
            let etag = Some(etag);
            (
                bucket,
                Entry {
                    etag,
                    changed_at: 0,
                },
            )
        });
        Ok(Self {
            mirror,
            entries: RefCell::new(entries.collect()),
            changes: Cell::new(0),
            invalid: RefCell::default(),
            knows_conditions: Cell::new(true),
            turn: Mutex::new(()),
            poll_now: Notify::new(),
        })
    }

    /// Reads an object and updates the copy.
    pub(super) async fn fetch(
        &self,
        session: &mut Session<'_>,
        bucket: &str,
    ) -> Result<Option<StoredObject>, ClientError> {
        let began = self.changes.get();
        let found = session.get(&format!("{bucket}{SUFFIX}")).await?;
        let _turn = self.turn.lock().await;
        let is_old = {
            let entries = self.entries.borrow();
            let entry = entries.get(bucket);
            entry.is_some_and(|entry| {
                let etag = found.as_ref().map(|found| &*found.etag);
                entry.changed_at > began || etag.is_some() && entry.etag.as_deref() == etag
            })
        };
        if !is_old && let Err(error) = self.copy(bucket, found.as_ref()).await {
            tracing::error!(route = &*self.mirror.route, bucket, %error, "cannot copy a policy from the store");
            return Err(ClientError::Unreachable(error.to_string()));
        }
        Ok(found)
    }

    /// Updates the copy. An invalid document leaves the last good one.
    pub(super) async fn copy(
        &self,
        bucket: &str,
        found: Option<&StoredObject>,
    ) -> Result<(), StoreError> {
        let error = found.and_then(|found| self.error_in(&found.document));
        if let (Some(error), Some(found)) = (error, found) {
            self.reject(bucket, found.etag.clone(), error);
            return Ok(());
        }
        let document = found.map(|found| found.document.clone());
        self.write(bucket, document).await?;
        self.invalid.borrow_mut().remove(bucket);
        let changed_at = self.changes.get();
        let etag = found.map(|found| found.etag.clone());
        self.entries
            .borrow_mut()
            .insert(bucket.to_owned(), Entry { etag, changed_at });
        Ok(())
    }

    /// Keeps the last good copy until the object has another ETag.
    pub(super) fn reject(&self, bucket: &str, etag: String, error: String) {
        tracing::warn!(
            route = &*self.mirror.route,
            bucket,
            error,
            "a policy in the store is invalid; the last good one stays in force"
        );
        self.invalid.borrow_mut().insert(bucket.to_owned(), error);
        let entry = Entry {
            etag: Some(etag),
            changed_at: self.changes.get(),
        };
        self.entries.borrow_mut().insert(bucket.to_owned(), entry);
    }

    /// Writes a copy to disk.
    async fn write(&self, bucket: &str, document: Option<Bytes>) -> Result<(), StoreError> {
        let deadline = Instant::now() + LOCK_TIME;
        loop {
            let (cache, name, document) = (
                self.mirror.cache.clone(),
                bucket.to_owned(),
                document.clone(),
            );
            match on_disk(move || cache.replace(&name, document.as_deref())).await {
                Err(StoreError::Busy(_)) if Instant::now() < deadline => {
                    tokio::time::sleep(LOCK_RETRY).await;
                }
                written => return written.map(|_| ()),
            }
        }
    }

    fn error_in(&self, document: &[u8]) -> Option<String> {
        let checked = check_document(document, self.mirror.options.clone());
        let mut errors = checked.problems.into_iter();
        let error = errors.find(|problem| problem.severity == Severity::Error)?;
        Some(error.message.to_string())
    }

    /// The bucket of a policy object.
    pub(super) fn bucket_of(&self, key: &str) -> Option<String> {
        let name = key.strip_prefix(&*self.mirror.client.prefix)?;
        let bucket = name.strip_suffix(SUFFIX)?;
        is_bucket_name(bucket).then(|| bucket.to_owned())
    }

    pub(super) fn etag_of(&self, bucket: &str) -> Option<String> {
        self.entries.borrow().get(bucket)?.etag.clone()
    }

    /// Shows the result of a poll, and logs a change.
    pub(super) fn note(&self, polled: &Result<(), ClientError>) {
        let before = self.mirror.status.load();
        let now = SystemTime::now();
        let route = &*self.mirror.route;
        let error = polled.as_ref().err().map(ToString::to_string);
        match (&error, &before.error) {
            (Some(error), None) => {
                tracing::error!(
                    route,
                    error,
                    "cannot read the store of policies; serving the last good copy"
                );
            }
            (None, Some(_)) => tracing::info!(route, "the store of policies can be read again"),
            _ => {}
        }
        let polled_at = if error.is_none() {
            Some(now)
        } else {
            before.polled_at
        };
        let out_of_date_since = match &error {
            None => None,
            Some(_) => before.out_of_date_since.or(before.polled_at).or(Some(now)),
        };
        self.mirror.requests.show_store(out_of_date_since);
        let invalid = self.invalid.borrow();
        let invalid = invalid.iter().take(MAX_SHOWN);
        let policies = self
            .entries
            .borrow()
            .values()
            .filter(|entry| entry.etag.is_some())
            .count();
        self.mirror.status.store(Arc::new(StoreStatus {
            bucket: before.bucket.clone(),
            policies,
            polled_at,
            out_of_date_since,
            error,
            invalid: invalid
                .map(|(bucket, error)| (bucket.clone(), error.clone()))
                .collect(),
        }));
    }
}

/// The buckets in a copy, with the MD5 of their documents.
fn copies(directory: &Path) -> io::Result<Vec<(String, String)>> {
    let mut found = Vec::new();
    let entries = match fs::read_dir(directory) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(found),
        Err(error) => return Err(error),
    };
    let cache = PolicyDirectory::cache(directory);
    for entry in entries {
        let name = entry?.file_name();
        let bucket = name.to_str().and_then(|name| name.strip_suffix(SUFFIX));
        let Some(bucket) = bucket.filter(|bucket| is_bucket_name(bucket)) else {
            continue;
        };
        // An unreadable copy is read from the store again.
        if let Ok(Some(document)) = cache.read(bucket) {
            found.push((bucket.to_owned(), hex(&Md5::digest(document))));
        }
    }
    Ok(found)
}
