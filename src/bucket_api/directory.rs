//! The directory of policies as a store: one file for each bucket, written as a whole or not at all.
//!
//! A document is written to a file beside the others, flushed, and renamed over the bucket's; then the
//! directory is flushed. Whoever reads sees the old document or the new one. One writer works at a time,
//! in this process or another: it holds a lock on [`LOCK`].

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, flock};

/// The file that writers lock. Its name is no bucket's, and it is no policy.
const LOCK: &str = ".s3cors-lock";

/// A directory of `<bucket>.xml`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PolicyDirectory(PathBuf);

impl PolicyDirectory {
    /// The store in a directory that exists.
    #[must_use]
    pub fn new(directory: &Path) -> Self {
        Self(directory.to_owned())
    }

    /// A bucket's document; `None`: it has none.
    pub(super) fn read(&self, bucket: &str) -> io::Result<Option<Vec<u8>>> {
        match fs::read(self.file(bucket)) {
            Ok(document) => Ok(Some(document)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Writes a bucket's document, or removes it. Gives the one that was there.
    pub(super) fn replace(
        &self,
        bucket: &str,
        document: Option<&[u8]>,
    ) -> io::Result<Option<Vec<u8>>> {
        let _lock = self.lock()?;
        let before = self.read(bucket)?;
        let path = self.file(bucket);
        match document {
            Some(document) => {
                // Only the holder of the lock writes it; what is left of a writer that was killed is
                // overwritten. No policy is read from it: it does not end in `.xml`.
                let new = self.0.join(".s3cors-new");
                let mut file = File::create(&new)?;
                file.write_all(document)?;
                file.sync_all()?;
                fs::rename(&new, &path)?;
            }
            None if before.is_none() => return Ok(None),
            None => fs::remove_file(&path)?,
        }
        File::open(&self.0)?.sync_all()?;
        Ok(before)
    }

    fn file(&self, bucket: &str) -> PathBuf {
        self.0.join(format!("{bucket}.xml"))
    }

    /// The lock, until dropped.
    fn lock(&self) -> io::Result<File> {
        let file = OpenOptions::new()
            .create(true)
            .truncate(false)
            .write(true)
            .open(self.0.join(LOCK))?;
        flock(&file, FlockOperation::LockExclusive)?;
        Ok(file)
    }
}

#[cfg(test)]
mod tests {
    use std::thread;

    use super::*;

    struct Folder(PathBuf);

    impl Folder {
        fn new(name: &str) -> Self {
            let name = format!("s3cors-bucket-api-{name}-{}", std::process::id());
            let path = std::env::temp_dir().join(name);
            fs::create_dir(&path).unwrap();
            Self(path)
        }
    }

    impl Drop for Folder {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.0);
        }
    }

    #[test]
    fn a_document_is_replaced_and_removed_as_a_whole() {
        let folder = Folder::new("whole");
        let store = PolicyDirectory::new(&folder.0);
        assert_eq!(store.read("a").unwrap(), None);
        assert_eq!(store.replace("a", None).unwrap(), None);
        assert_eq!(store.replace("a", Some(b"one")).unwrap(), None);
        assert_eq!(
            store.replace("a", Some(b"two")).unwrap().as_deref(),
            Some(&b"one"[..])
        );
        assert_eq!(store.read("a").unwrap().as_deref(), Some(&b"two"[..]));
        assert_eq!(
            store.replace("a", None).unwrap().as_deref(),
            Some(&b"two"[..])
        );
        assert_eq!(store.read("a").unwrap(), None);
        let left = fs::read_dir(&folder.0).unwrap();
        let left: Vec<_> = left.map(|entry| entry.unwrap().file_name()).collect();
        assert_eq!(left, [LOCK]);
    }

    #[test]
    fn two_writers_never_mix_their_documents() {
        let folder = Folder::new("writers");
        let store = PolicyDirectory::new(&folder.0);
        let documents = [vec![b'a'; 60_000], vec![b'b'; 60_000]];
        thread::scope(|scope| {
            for document in &documents {
                let store = store.clone();
                scope.spawn(move || {
                    for _ in 0..50 {
                        let before = store.replace("x", Some(document)).unwrap();
                        if let Some(before) = before {
                            assert!(documents_contain(&before));
                        }
                    }
                });
            }
            for _ in 0..200 {
                if let Some(read) = store.read("x").unwrap() {
                    assert!(documents_contain(&read));
                }
            }
        });
    }

    fn documents_contain(document: &[u8]) -> bool {
        document.len() == 60_000 && document.iter().all(|byte| *byte == document[0])
    }

    #[test]
    fn a_file_that_a_killed_writer_left_is_no_obstacle() {
        let folder = Folder::new("killed");
        fs::write(folder.0.join(".s3cors-new"), "half a docu").unwrap();
        let store = PolicyDirectory::new(&folder.0);
        store.replace("a", Some(b"whole")).unwrap();
        assert_eq!(store.read("a").unwrap().as_deref(), Some(&b"whole"[..]));
    }
}
