//! Policies in a bucket of the object store: one object for each bucket, `<prefix><bucket>.xml`.
//!
//! Each replica serves from a copy in a directory on disk, the cache. It lists the objects every
//! few seconds and reads those whose ETag differs from its copy. So a replica that starts or
//! comes back needs only the list, and it serves its last good copy while the store is down. A
//! change goes to the store first, on the condition that the object has not changed since it was
//! read (`If-Match`, `If-None-Match`) if the store supports conditions, and then to the copy. An
//! invalid document changes nothing, and neither does an object that is only missing from the
//! list.
//!
//! Everything runs as one task on the control thread, so that nothing shares a lock with the
//! request path. Workers send it their changes.

use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use arc_swap::ArcSwap;
use bytes::Bytes;
use tokio::sync::{Mutex, mpsc, oneshot};

use crate::cors::Options;
use crate::metrics::BucketCorsRequests;
use crate::routing::cors_api::StoreStatus;

use super::directory::{PolicyDirectory, StoreError, on_disk};
use super::policy_mirror::{Actor, Command, Mirror};
use super::s3_client::{ClientError, S3Client};

/// How long a client waits for its change.
const WRITE_TIME: Duration = Duration::from_secs(15);

/// How long a start waits for the store.
const START_TIME: Duration = Duration::from_secs(10);

/// The maximum number of queued changes.
const MAX_WAITING: usize = 64;

/// Policies in a bucket, and their copy on disk.
#[derive(Debug)]
pub struct BucketStore {
    mirror: Mirror,
    commands: mpsc::Sender<Command>,
    /// Held by the running task.
    received: Mutex<mpsc::Receiver<Command>>,
}

/// The settings of a store.
#[derive(Debug)]
pub struct BucketStoreSettings {
    /// The `route` label.
    pub route: Box<str>,
    /// The client of the object store.
    pub client: S3Client,
    /// The directory of the copy.
    pub cache: PathBuf,
    /// How often the objects are listed.
    pub poll: Duration,
    /// The options for checking documents.
    pub options: Options,
    /// Shows how long the copy has been out of date.
    pub requests: BucketCorsRequests,
}

impl BucketStore {
    /// A store that has not been read yet.
    #[must_use]
    pub fn new(settings: BucketStoreSettings) -> Self {
        let (commands, received) = mpsc::channel(MAX_WAITING);
        let bucket = settings.client.bucket.to_string();
        let mirror = Mirror {
            route: settings.route,
            cache: PolicyDirectory::cache(&settings.cache),
            cache_path: settings.cache,
            client: settings.client,
            poll: settings.poll,
            options: settings.options,
            requests: settings.requests,
            status: ArcSwap::from_pointee(StoreStatus {
                bucket,
                ..StoreStatus::default()
            }),
        };
        Self {
            mirror,
            commands,
            received: Mutex::new(received),
        }
    }

    /// A bucket's document: the store's, or the copy while the store is unreachable.
    pub(super) async fn read(&self, bucket: &str) -> Result<Option<Vec<u8>>, StoreError> {
        let (reply, answer) = oneshot::channel();
        let command = Command::Read {
            bucket: bucket.to_owned(),
            reply,
        };
        let asked = match self.commands.try_send(command) {
            Ok(()) => tokio::time::timeout(WRITE_TIME, answer)
                .await
                .ok()
                .and_then(Result::ok),
            Err(_) => None,
        };
        if let Some(Ok(document)) = asked {
            return Ok(document.map(|document| document.to_vec()));
        }
        let (cache, name) = (self.mirror.cache.clone(), bucket.to_owned());
        on_disk(move || cache.read(&name)).await
    }

    /// Writes a bucket's document, or removes it. Returns the previous one.
    pub(super) async fn replace(
        &self,
        bucket: &str,
        document: Option<Bytes>,
    ) -> Result<Option<Vec<u8>>, StoreError> {
        let (reply, answer) = oneshot::channel();
        let bucket = bucket.to_owned();
        let command = Command::Replace {
            bucket,
            document,
            reply,
        };
        self.commands
            .try_send(command)
            .map_err(|_| StoreError::Full)?;
        match tokio::time::timeout(WRITE_TIME, answer).await {
            Ok(Ok(replaced)) => Ok(replaced?.map(|document| document.to_vec())),
            Ok(Err(_)) | Err(_) => Err(StoreError::Full),
        }
    }

    /// Reads the store once before serving. If it is unreachable, the copy is served.
    ///
    /// # Errors
    ///
    /// What to do about a store that rejects the key or the bucket.
    pub(super) async fn prepare(&self) -> Result<(), String> {
        let path = self.mirror.cache_path.display();
        fs::create_dir_all(&self.mirror.cache_path).map_err(|error| {
            format!("cannot create the directory `{path}` of `store.cache`: {error}; create it, writable for the user that s3cors runs as")
        })?;
        let actor = Actor::of(&self.mirror).await.map_err(|error| {
            format!("cannot read the directory `{path}` of `store.cache`: {error}; make it readable for the user that s3cors runs as")
        })?;
        let polled = tokio::time::timeout(START_TIME, actor.poll()).await;
        let Ok(polled) = polled else {
            let error = format!("no answer within {} seconds", START_TIME.as_secs());
            actor.note(&Err(ClientError::Unreachable(error)));
            return Ok(());
        };
        actor.note(&polled);
        let (bucket, key) = (&self.mirror.client.bucket, &self.mirror.client.key.id);
        match polled {
            Err(ClientError::Denied { call, code }) => Err(format!(
                "the store of policies refused {call} on the bucket `{bucket}` for the key `{key}` with 403 {code}; \
                 check the key's secret and the clock, and allow the key s3:ListBucket on the bucket, and \
                 s3:GetObject, s3:PutObject and s3:DeleteObject on its objects"
            )),
            Err(ClientError::NoSuchBucket) => Err(format!(
                "the bucket `{bucket}` of the store of policies does not exist; create it, or correct `store.bucket`"
            )),
            _ => Ok(()),
        }
    }

    /// Polls and carries out changes. Never returns.
    pub(super) async fn run(&self) {
        let mut received = self.received.lock().await;
        let actor = loop {
            match Actor::of(&self.mirror).await {
                Ok(actor) => break actor,
                Err(error) => {
                    let path = self.mirror.cache_path.display();
                    tracing::error!(route = &*self.mirror.route, %path, %error, "cannot read the cache of policies");
                    tokio::time::sleep(self.mirror.poll).await;
                }
            }
        };
        tokio::join!(actor.keep_polling(), actor.serve(&mut received));
    }

    /// Its state, for `/status`.
    pub(super) fn status(&self) -> StoreStatus {
        StoreStatus::clone(&self.mirror.status.load())
    }
}
