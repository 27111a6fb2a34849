//! The store of documents: a directory, or a bucket of the object store.

use std::time::{Duration, Instant};

use bytes::Bytes;

use crate::routing::cors_api::StoreStatus;

use super::bucket_store::BucketStore;
use super::directory::{PolicyDirectory, StoreError, on_disk};

/// How long a change may wait for another writer of the directory.
const LOCK_TIME: Duration = Duration::from_secs(3);

/// The interval of attempts in that time.
const LOCK_RETRY: Duration = Duration::from_millis(20);

/// The store of documents.
#[derive(Debug)]
pub enum Store {
    /// In a directory.
    Directory(PolicyDirectory),
    /// In a bucket.
    Bucket {
        /// The bucket and its copy.
        store: Box<BucketStore>,
        /// Manually edited files, for buckets without a document in the store.
        defaults: Option<PolicyDirectory>,
    },
}

impl Store {
    /// A bucket's document; `None` if it has none.
    pub(super) async fn read(&self, bucket: &str) -> Result<Option<Vec<u8>>, StoreError> {
        let directory = match self {
            Self::Directory(directory) => Some(directory),
            Self::Bucket { store, defaults } => match store.read(bucket).await? {
                Some(document) => return Ok(Some(document)),
                None => defaults.as_ref(),
            },
        };
        let Some(directory) = directory.cloned() else {
            return Ok(None);
        };
        let name = bucket.to_owned();
        on_disk(move || directory.read(&name)).await
    }

    /// Writes a bucket's document, or removes it. Returns the previous one.
    pub(super) async fn replace(
        &self,
        bucket: &str,
        document: Option<Bytes>,
    ) -> Result<Option<Vec<u8>>, StoreError> {
        let directory = match self {
            Self::Directory(directory) => directory,
            Self::Bucket { store, .. } => return store.replace(bucket, document).await,
        };
        // Waits for the lock without blocking a thread.
        let deadline = Instant::now() + LOCK_TIME;
        loop {
            let (directory, name, document) =
                (directory.clone(), bucket.to_owned(), document.clone());
            match on_disk(move || directory.replace(&name, document.as_deref())).await {
                Err(StoreError::Busy(_)) if Instant::now() < deadline => {
                    tokio::time::sleep(LOCK_RETRY).await;
                }
                replaced => return replaced,
            }
        }
    }

    /// The bucket, if it is one.
    pub(super) fn bucket(&self) -> Option<&BucketStore> {
        match self {
            Self::Directory(_) => None,
            Self::Bucket { store, .. } => Some(store),
        }
    }

    /// Its background work.
    pub(super) async fn run(&self) {
        if let Some(store) = self.bucket() {
            store.run().await;
        }
    }

    pub(super) fn status(&self) -> Option<StoreStatus> {
        self.bucket().map(BucketStore::status)
    }
}
