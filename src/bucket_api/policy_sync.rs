//! Keeps the copy of a bucket of policies in sync: polls, and this replica's changes.

use std::cell::RefCell;
use std::collections::HashSet;

use bytes::Bytes;
use tokio::sync::mpsc;

use super::directory::StoreError;
use super::policy_mirror::{Actor, Command, SUFFIX};
use super::s3_client::{ClientError, Condition, Session, StoredObject};

/// The maximum number of policies in a store.
const MAX_POLICIES: usize = 100_000;

/// The maximum number of attempts if other changes come first.
const ATTEMPTS: usize = 16;

/// A bucket whose object must be read, and the ETag in the list.
type Changed = (String, Option<String>);

impl Actor<'_> {
    pub(super) async fn keep_polling(&self) {
        loop {
            let polled = self.poll().await;
            self.note(&polled);
            tokio::select! {
                () = tokio::time::sleep(self.mirror.poll) => {}
                () = self.poll_now.notified() => {}
            }
        }
    }

    pub(super) async fn serve(&self, received: &mut mpsc::Receiver<Command>) {
        while let Some(command) = received.recv().await {
            match command {
                // The client is gone.
                Command::Read { reply, .. } if reply.is_closed() => {}
                Command::Replace { reply, .. } if reply.is_closed() => {}
                Command::Read { bucket, reply } => {
                    let read = async {
                        let mut session = self.mirror.client.open().await?;
                        self.fetch(&mut session, &bucket).await
                    };
                    let _ = reply.send(read.await.map(|found| found.map(|found| found.document)));
                }
                Command::Replace {
                    bucket,
                    document,
                    reply,
                } => {
                    let replaced = self.replace(&bucket, document.as_ref()).await;
                    if replaced.is_err() {
                        // The store may have carried it out anyway.
                        self.poll_now.notify_one();
                    }
                    let _ = reply.send(replaced);
                }
            }
        }
    }

    /// Updates the copy from the store.
    pub(super) async fn poll(&self) -> Result<(), ClientError> {
        let began = self.changes.get();
        let mut session = self.mirror.client.open().await?;
        let mut listed = HashSet::new();
        let mut changed = Vec::new();
        let mut after = None;
        loop {
            let page = session.list(after.as_deref()).await?;
            for (key, etag) in page.objects {
                let Some(bucket) = self.bucket_of(&key) else {
                    continue;
                };
                let is_known = self.etag_of(&bucket).is_some_and(|known| known == etag);
                if !is_known {
                    changed.push((bucket.clone(), Some(etag)));
                }
                listed.insert(bucket);
            }
            if listed.len() > MAX_POLICIES {
                return Err(ClientError::TooMany(MAX_POLICIES));
            }
            match page.next {
                Some(next) if after.as_ref() == Some(&next) => {
                    return Err(ClientError::Malformed("ListObjectsV2"));
                }
                Some(next) => after = Some(next),
                None => break,
            }
        }
        // Objects that this replica has changed meanwhile are newer than the list.
        self.entries.borrow_mut().retain(|bucket, entry| {
            entry.etag.is_some() || entry.changed_at > began || listed.contains(bucket)
        });
        changed.extend(self.gone(&listed, began));
        let left = RefCell::new(changed);
        let first = self.fetch_all(session, &left);
        let (first, second, third, fourth) = tokio::join!(
            first,
            self.fetch_more(&left),
            self.fetch_more(&left),
            self.fetch_more(&left)
        );
        first.and(second).and(third).and(fourth)
    }

    /// Removes buckets whose objects are missing from the list. An object that still exists
    /// stays.
    fn gone(&self, listed: &HashSet<String>, began: u64) -> Vec<Changed> {
        let entries = self.entries.borrow();
        let gone = entries.iter().filter(|(bucket, entry)| {
            !listed.contains(*bucket) && entry.etag.is_some() && entry.changed_at <= began
        });
        gone.map(|(bucket, _)| (bucket.clone(), None)).collect()
    }

    async fn fetch_more(&self, left: &RefCell<Vec<Changed>>) -> Result<(), ClientError> {
        if left.borrow().len() < 2 {
            return Ok(());
        }
        let session = self.mirror.client.open().await?;
        self.fetch_all(session, left).await
    }

    /// Reads the remaining objects. One failure does not hold up the others.
    async fn fetch_all(
        &self,
        mut session: Session<'_>,
        left: &RefCell<Vec<Changed>>,
    ) -> Result<(), ClientError> {
        let mut failure = Ok(());
        loop {
            let next = left.borrow_mut().pop();
            let Some((bucket, etag)) = next else {
                return failure;
            };
            match (self.fetch(&mut session, &bucket).await, etag) {
                (Ok(_), _) => {}
                (Err(error @ ClientError::Malformed(_)), Some(etag)) => {
                    self.reject(&bucket, etag, error.to_string());
                }
                (Err(error), _) if error.is_about_the_store() => return Err(error),
                (Err(error), _) => failure = failure.and(Err(error)),
            }
        }
    }

    /// Changes an object, then the copy. Returns the previous document.
    async fn replace(
        &self,
        bucket: &str,
        document: Option<&Bytes>,
    ) -> Result<Option<Bytes>, StoreError> {
        let name = format!("{bucket}{SUFFIX}");
        let mut session = self.mirror.client.open().await?;
        for _ in 0..ATTEMPTS {
            let before = session.get(&name).await?;
            let condition = match &before {
                _ if !self.knows_conditions.get() => Condition::Always,
                Some(before) => Condition::Is(&before.etag),
                None => Condition::Absent,
            };
            let written = match (document, &before) {
                (Some(document), _) => session.put(&name, document, condition).await.map(Some),
                (None, Some(_)) => session.delete(&name, condition).await.map(|()| None),
                (None, None) => Ok(None),
            };
            let etag = match written {
                Ok(etag) => etag,
                Err(ClientError::Changed) => continue,
                Err(ClientError::Unconditional) if self.knows_conditions.get() => {
                    tracing::info!(
                        route = &*self.mirror.route,
                        "the store of policies does not support conditional requests"
                    );
                    self.knows_conditions.set(false);
                    continue;
                }
                Err(error) => return Err(error.into()),
            };
            let _turn = self.turn.lock().await;
            self.changes.set(self.changes.get() + 1);
            let stored = document.zip(etag).map(|(document, etag)| StoredObject {
                document: document.clone(),
                etag,
            });
            self.copy(bucket, stored.as_ref()).await?;
            return Ok(before.map(|before| before.document));
        }
        Err(ClientError::Changed.into())
    }
}
