//! The directory of policies as a store: one file per bucket, written atomically.
//!
//! A document is written to a temporary file, flushed, and renamed to the bucket's file; then the
//! directory is flushed. A reader sees the old document or the new one. Only one writer works at
//! a time, in this process or another: it holds a lock on [`LOCK`]. Nothing here waits for
//! another process: a held lock is [`StoreError::Busy`], and files are opened without blocking.

use std::fs::{self, File};
use std::io::{self, Read as _, Write as _};
use std::path::{Path, PathBuf};

use rustix::fs::{FileType, FlockOperation, Mode, OFlags, fchmod, flock, fstat, open};
use rustix::io::Errno;
use thiserror::Error;

use crate::cors::MAX_DOCUMENT;

use super::s3_client::ClientError;

/// The file that writers lock. It is not a valid bucket name, and never read as a policy.
const LOCK: &str = ".s3cors-lock";

/// The temporary file of a new document. It is never read as a policy, because it does not end in
/// `.xml`.
const NEW: &str = ".s3cors-new";

/// The largest file that is read, in bytes. A file edited by hand may be larger than S3 allows.
const MAX_FILE: u64 = 16 * MAX_DOCUMENT as u64;

/// A directory of `<bucket>.xml`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PolicyDirectory {
    path: PathBuf,
    /// Whether a change is flushed to disk before it is reported.
    flushes: bool,
}

/// Why a document cannot be read or written.
#[derive(Debug, Error)]
pub(super) enum StoreError {
    /// Another writer holds the lock.
    #[error("another writer holds the lock `{0}`")]
    Busy(PathBuf),
    /// Reading it might never end.
    #[error("`{0}` is not a regular file; remove it")]
    NotAFile(PathBuf),
    #[error("`{0}` has more than {MAX_FILE} bytes; remove it or make it smaller")]
    TooLarge(PathBuf),
    #[error("cannot access `{0}`: {1}")]
    Io(PathBuf, #[source] io::Error),
    /// The queue of the store is full, or a change took too long.
    #[error("the store of policies is too slow")]
    Full,
    #[error(transparent)]
    Store(#[from] ClientError),
    /// The runtime is shutting down.
    #[error(transparent)]
    Stopped(#[from] tokio::task::JoinError),
}

/// A bucket's file.
struct Stored {
    document: Vec<u8>,
    mode: Mode,
}

impl PolicyDirectory {
    /// The store in an existing directory.
    #[must_use]
    pub fn new(directory: &Path) -> Self {
        Self {
            path: directory.to_owned(),
            flushes: true,
        }
    }

    /// A copy of a store: data lost in a system crash is read again.
    pub(super) fn cache(directory: &Path) -> Self {
        Self {
            path: directory.to_owned(),
            flushes: false,
        }
    }

    /// A bucket's document; `None` if it has none.
    pub(super) fn read(&self, bucket: &str) -> Result<Option<Vec<u8>>, StoreError> {
        Ok(read(&self.file(bucket))?.map(|stored| stored.document))
    }

    /// Writes a bucket's document, or removes it. Returns the previous one.
    pub(super) fn replace(
        &self,
        bucket: &str,
        document: Option<&[u8]>,
    ) -> Result<Option<Vec<u8>>, StoreError> {
        let _lock = self.lock()?;
        let path = self.file(bucket);
        let before = read(&path)?;
        match document {
            Some(document) => {
                let new = self.path.join(NEW);
                let mode = before.as_ref().map(|stored| stored.mode);
                create(&new, document, mode, self.flushes)
                    .and_then(|()| fs::rename(&new, &path))
                    .map_err(|error| StoreError::Io(new, error))?;
            }
            None if before.is_none() => return Ok(None),
            None => fs::remove_file(&path).map_err(|error| StoreError::Io(path, error))?,
        }
        if self.flushes {
            let flushed = File::open(&self.path).and_then(|directory| directory.sync_all());
            flushed.map_err(|error| StoreError::Io(self.path.clone(), error))?;
        }
        Ok(before.map(|stored| stored.document))
    }

    fn file(&self, bucket: &str) -> PathBuf {
        self.path.join(format!("{bucket}.xml"))
    }

    /// A lock that is released when dropped.
    fn lock(&self) -> Result<File, StoreError> {
        let path = self.path.join(LOCK);
        // Not read-only: NFS only locks files exclusively that are open for writing (flock(2)).
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::NOFOLLOW | OFlags::NONBLOCK;
        let locked = open(&path, flags | OFlags::CLOEXEC, Mode::from_raw_mode(0o666))
            .and_then(|file| flock(&file, FlockOperation::NonBlockingLockExclusive).map(|()| file));
        match locked {
            Ok(file) => Ok(File::from(file)),
            Err(Errno::WOULDBLOCK) => Err(StoreError::Busy(path)),
            Err(error) => Err(StoreError::Io(path, error.into())),
        }
    }
}

/// Runs disk operations on a blocking thread.
pub(super) async fn on_disk<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, StoreError> + Send + 'static,
) -> Result<T, StoreError> {
    match tokio::task::spawn_blocking(work).await {
        Ok(result) => result,
        Err(error) => Err(StoreError::Stopped(error)),
    }
}

/// Reads a regular file, following links; `None` if there is no file.
///
/// Opens without blocking, because a FIFO waits for a writer.
fn read(path: &Path) -> Result<Option<Stored>, StoreError> {
    let failed = |error: io::Error| StoreError::Io(path.to_owned(), error);
    let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK | OFlags::NOCTTY;
    let file = match open(path, flags, Mode::empty()) {
        Ok(file) => File::from(file),
        Err(Errno::NOENT) => return Ok(None),
        // A socket, or a missing device.
        Err(Errno::NXIO) => return Err(StoreError::NotAFile(path.to_owned())),
        Err(error) => return Err(failed(error.into())),
    };
    let stat = fstat(&file).map_err(|error| failed(error.into()))?;
    if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
        return Err(StoreError::NotAFile(path.to_owned()));
    }
    let mut document = Vec::new();
    let mut limited = file.take(MAX_FILE + 1);
    limited.read_to_end(&mut document).map_err(failed)?;
    if document.len() as u64 > MAX_FILE {
        return Err(StoreError::TooLarge(path.to_owned()));
    }
    let mode = Mode::from_raw_mode(stat.st_mode);
    Ok(Some(Stored { document, mode }))
}

/// Creates a file with a mode, or with the default one, and flushes it.
///
/// The path may be left over from a killed writer, or be a link to another file: it is removed,
/// and only a new file is written.
fn create(path: &Path, document: &[u8], mode: Option<Mode>, flushes: bool) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let mut file = File::from(open(path, flags, Mode::from_raw_mode(0o666))?);
    if let Some(mode) = mode {
        fchmod(&file, mode)?;
    }
    file.write_all(document)?;
    match flushes {
        true => file.sync_all(),
        false => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use std::fs::Permissions;
    use std::os::unix::fs::{PermissionsExt as _, symlink};
    use std::process::Command;
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
                        let before = loop {
                            match store.replace("x", Some(document)) {
                                Err(StoreError::Busy(_)) => thread::yield_now(),
                                before => break before.unwrap(),
                            }
                        };
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
    fn a_killed_writers_file_does_not_block_others() {
        let folder = Folder::new("killed");
        fs::write(folder.0.join(".s3cors-new"), "half a docu").unwrap();
        let store = PolicyDirectory::new(&folder.0);
        store.replace("a", Some(b"whole")).unwrap();
        assert_eq!(store.read("a").unwrap().as_deref(), Some(&b"whole"[..]));
    }

    #[test]
    fn a_held_lock_is_reported_at_once() {
        let folder = Folder::new("lock");
        let store = PolicyDirectory::new(&folder.0);
        let lock = store.lock().unwrap();
        for document in [Some(&b"one"[..]), None] {
            let error = store.replace("a", document).unwrap_err();
            assert!(matches!(error, StoreError::Busy(_)), "{error}");
        }
        assert_eq!(store.read("a").unwrap(), None);
        drop(lock);
        store.replace("a", Some(b"one")).unwrap();
    }

    #[test]
    fn only_regular_files_of_a_limited_size_are_read() {
        let folder = Folder::new("special");
        let store = PolicyDirectory::new(&folder.0);
        let path = |name: &str| folder.0.join(name);
        let made = Command::new("mkfifo").arg(path("fifo.xml")).status();
        assert!(made.unwrap().success());
        symlink("fifo.xml", path("link.xml")).unwrap();
        symlink("/dev/zero", path("device.xml")).unwrap();
        fs::create_dir(path("directory.xml")).unwrap();
        let large = File::create(path("large.xml")).unwrap();
        large.set_len(1 << 40).unwrap();
        for (bucket, expected) in [
            ("fifo", "not a regular file"),
            ("link", "not a regular file"),
            ("device", "not a regular file"),
            ("directory", "not a regular file"),
            ("large", "more than 1048576 bytes"),
        ] {
            let read = store.read(bucket).unwrap_err().to_string();
            let replaced = store.replace(bucket, Some(b"new")).unwrap_err().to_string();
            let removed = store.replace(bucket, None).unwrap_err().to_string();
            for error in [read, replaced, removed] {
                assert!(error.contains(expected), "{bucket}: {error}");
                assert!(error.contains(&format!("{bucket}.xml")), "{error}");
            }
        }
        fs::write(path("data"), "linked").unwrap();
        symlink("data", path("good.xml")).unwrap();
        assert_eq!(store.read("good").unwrap().as_deref(), Some(&b"linked"[..]));
    }

    #[test]
    fn a_link_or_fifo_in_place_of_our_own_files_is_never_followed() {
        let folder = Folder::new("links");
        let store = PolicyDirectory::new(&folder.0);
        let path = |name: &str| folder.0.join(name);
        fs::write(path("other"), "precious").unwrap();
        symlink("other", path(NEW)).unwrap();
        store.replace("a", Some(b"one")).unwrap();
        let made = Command::new("mkfifo").arg(path(NEW)).status();
        assert!(made.unwrap().success());
        store.replace("b", Some(b"two")).unwrap();
        assert_eq!(fs::read(path("other")).unwrap(), b"precious");
        assert!(path("a.xml").symlink_metadata().unwrap().is_file());
        assert_eq!(store.read("b").unwrap().as_deref(), Some(&b"two"[..]));

        fs::remove_file(path(LOCK)).unwrap();
        symlink("created", path(LOCK)).unwrap();
        store.replace("a", Some(b"three")).unwrap_err();
        assert!(!path("created").exists());
        fs::remove_file(path(LOCK)).unwrap();
        let made = Command::new("mkfifo").arg(path(LOCK)).status();
        assert!(made.unwrap().success());
        store.replace("a", Some(b"three")).unwrap_err();
        assert_eq!(store.read("a").unwrap().as_deref(), Some(&b"one"[..]));
    }

    #[test]
    fn a_replaced_file_keeps_its_mode() {
        let folder = Folder::new("mode");
        let store = PolicyDirectory::new(&folder.0);
        let file = folder.0.join("a.xml");
        for mode in [0o640, 0o600, 0o444, 0o666] {
            fs::write(&file, "old").unwrap();
            fs::set_permissions(&file, Permissions::from_mode(mode)).unwrap();
            store.replace("a", Some(b"new")).unwrap();
            assert_eq!(fs::read(&file).unwrap(), b"new");
            let is = fs::metadata(&file).unwrap().permissions().mode();
            assert_eq!(is & 0o7777, mode);
            fs::remove_file(&file).unwrap();
        }
    }
}
