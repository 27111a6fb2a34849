//! Reads a named file, unless it is no file that could be one of ours.

use std::fs::{self, File, Metadata};
use std::io::{self, Read};
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::Path;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use thiserror::Error;

/// The coarsest clock that a file system stamps changes with (FAT's).
const COARSEST_CLOCK: Duration = Duration::from_secs(2);

/// What tells whether a file is still the one it was, without reading it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Stamp {
    device: u64,
    inode: u64,
    size: u64,
    modified: (i64, i64),
    changed: (i64, i64),
}

/// A file cannot be read, or is none to be read.
#[derive(Debug, Error)]
pub(super) enum ReadError {
    #[error("cannot be read: {0}")]
    Io(#[from] io::Error),
    #[error("is {0}, not a file")]
    NotAFile(&'static str),
    #[error("has {size} bytes, more than the {limit} that are read")]
    TooLarge { size: u64, limit: u64 },
    #[error("keeps changing while it is read")]
    Changing,
}

impl ReadError {
    /// Whether there is nothing at that path.
    pub(super) fn is_not_found(&self) -> bool {
        matches!(self, Self::Io(error) if error.kind() == io::ErrorKind::NotFound)
    }

    /// Whether the process may not read what is there.
    pub(super) fn is_denied(&self) -> bool {
        matches!(self, Self::Io(error) if error.kind() == io::ErrorKind::PermissionDenied)
    }
}

impl Stamp {
    /// Of what a path leads to now, through links; `None` where it leads nowhere.
    pub(super) fn of(path: &Path) -> Option<Self> {
        Some(Self::from(&fs::metadata(path).ok()?))
    }

    /// Whether every change after `now` gives the file another stamp. A file that was written just
    /// before may be written again within the same tick of its file system's clock.
    pub(super) fn is_settled(&self, now: SystemTime) -> bool {
        let since_epoch = now.duration_since(UNIX_EPOCH).unwrap_or_default();
        let (seconds, nanoseconds) = self.changed;
        let changed = u64::try_from(seconds).unwrap_or_default();
        let changed = Duration::new(changed, u32::try_from(nanoseconds).unwrap_or_default());
        changed + COARSEST_CLOCK < since_epoch
    }

    /// Whether it is one file, whatever became of its contents.
    pub(super) fn is_same_file(&self, other: &Self) -> bool {
        (self.device, self.inode) == (other.device, other.inode)
    }
}

impl From<&Metadata> for Stamp {
    fn from(metadata: &Metadata) -> Self {
        Self {
            device: metadata.dev(),
            inode: metadata.ino(),
            size: metadata.size(),
            modified: (metadata.mtime(), metadata.mtime_nsec()),
            changed: (metadata.ctime(), metadata.ctime_nsec()),
        }
    }
}

/// Reads a file of at most `limit` bytes.
///
/// Looks before it opens: opening a FIFO waits for a writer, reading a device may never end.
pub(super) fn read(path: &Path, limit: u64) -> Result<(Vec<u8>, Stamp), ReadError> {
    check(&fs::metadata(path)?, limit)?;
    let mut file = File::open(path)?;
    let before = file.metadata()?;
    check(&before, limit)?;
    let mut bytes = Vec::with_capacity(usize::try_from(before.len()).unwrap_or_default());
    // One more than was there, to notice that it grows.
    file.by_ref()
        .take(before.len().saturating_add(1))
        .read_to_end(&mut bytes)?;
    let stamp = Stamp::from(&before);
    // Whether it changed since is asked when all files are read.
    if bytes.len() as u64 != before.len() {
        return Err(ReadError::Changing);
    }
    Ok((bytes, stamp))
}

fn check(metadata: &Metadata, limit: u64) -> Result<(), ReadError> {
    let kind = metadata.file_type();
    if kind.is_file() {
        let size = metadata.len();
        return if size > limit {
            Err(ReadError::TooLarge { size, limit })
        } else {
            Ok(())
        };
    }
    Err(ReadError::NotAFile(if kind.is_dir() {
        "a directory"
    } else if kind.is_fifo() {
        "a FIFO"
    } else if kind.is_socket() {
        "a socket"
    } else {
        "a device"
    }))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;
    use std::os::unix::net::UnixListener;
    use std::path::PathBuf;
    use std::process::Command;

    use super::*;

    #[test]
    fn what_is_no_file_of_ours_is_refused_without_being_read() {
        let folder = std::env::temp_dir().join(format!("s3cors-read-{}", std::process::id()));
        fs::create_dir(&folder).unwrap();
        let path = |name: &str| folder.join(name);
        let _socket = UnixListener::bind(path("socket")).unwrap();
        let made = Command::new("mkfifo").arg(path("fifo")).status().unwrap();
        assert!(made.success());
        symlink("loop", path("loop")).unwrap();
        symlink("fifo", path("link")).unwrap();
        File::create(path("huge"))
            .unwrap()
            .set_len(1 << 40)
            .unwrap();
        fs::write(path("good"), "12345").unwrap();
        for (path, expected) in [
            (path("fifo"), "is a FIFO, not a file"),
            (path("link"), "is a FIFO, not a file"),
            (path("socket"), "is a socket, not a file"),
            (folder.clone(), "is a directory, not a file"),
            (PathBuf::from("/dev/zero"), "is a device, not a file"),
            (
                path("huge"),
                "has 1099511627776 bytes, more than the 5 that are read",
            ),
            (path("loop"), "cannot be read: Too many levels"),
            (path("missing"), "cannot be read: No such file"),
            (path("good/x"), "cannot be read: Not a directory"),
        ] {
            let error = read(&path, 5).unwrap_err().to_string();
            assert!(error.starts_with(expected), "{}: {error}", path.display());
        }
        assert_eq!(read(&path("good"), 5).unwrap().0, b"12345");
        fs::remove_dir_all(folder).unwrap();
    }

    #[test]
    fn a_stamp_is_trusted_once_the_clock_must_have_gone_on() {
        let stamp = Stamp {
            device: 1,
            inode: 2,
            size: 3,
            modified: (0, 0),
            changed: (1000, 500_000_000),
        };
        for (milliseconds, expected) in [
            (0, false),
            (1_000_000, false),
            (1_002_400, false),
            (1_002_501, true),
        ] {
            let now = UNIX_EPOCH + Duration::from_millis(milliseconds);
            assert_eq!(stamp.is_settled(now), expected, "{milliseconds}");
        }
    }
}
