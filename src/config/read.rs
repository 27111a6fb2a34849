//! Reads a named file; refuses folders, devices, and files that are too large or keep changing.

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rustix::fs::{FileType, Mode, OFlags, Stat};
use rustix::io::Errno;
use thiserror::Error;

use super::diagnostic::Diagnostic;

/// The coarsest clock of a file system's timestamps (FAT's).
pub(super) const COARSEST_CLOCK: Duration = Duration::from_secs(2);

/// Shows whether a file has changed, without reading it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Stamp {
    device: u64,
    inode: u64,
    size: u64,
    modified: (i64, i64),
    changed: (i64, i64),
}

/// Why a file is not read.
#[derive(Debug, Error)]
pub(super) enum ReadError {
    #[error("cannot be read: {0}")]
    Io(#[from] io::Error),
    #[error("is {0}, not a file")]
    NotAFile(&'static str),
    #[error("has {size} bytes, more than the limit of {limit}")]
    TooLarge { size: u64, limit: u64 },
    #[error("keeps changing while it is read")]
    Changing,
}

impl ReadError {
    /// Whether the path does not exist.
    pub(super) fn is_not_found(&self) -> bool {
        matches!(self, Self::Io(error) if error.kind() == io::ErrorKind::NotFound)
    }

    /// Whether the same read may succeed later although the file is unchanged: no descriptor was
    /// left, a disk or file server did not answer, or the file was being written.
    ///
    /// A missing path gets a new [`Stamp`] once it exists, so it needs no retry.
    pub(super) fn may_pass(&self) -> bool {
        match self {
            Self::Io(_) => !self.is_not_found(),
            Self::Changing => true,
            Self::NotAFile(_) | Self::TooLarge { .. } => false,
        }
    }

    /// Whether the process lacks permission to read it.
    pub(super) fn is_denied(&self) -> bool {
        matches!(self, Self::Io(error) if error.kind() == io::ErrorKind::PermissionDenied)
    }
}

impl Stamp {
    /// The stamp of a path's target, following links; `None` if there is no target.
    pub(super) fn of(path: &Path) -> Option<Self> {
        Some(Self::from(&rustix::fs::stat(path).ok()?))
    }

    /// Whether every change after `now` gives the file another stamp. A file that was just
    /// written may be written again within the same tick of its file system's clock.
    pub(super) fn is_settled(&self, now: SystemTime) -> bool {
        let since_epoch = now.duration_since(UNIX_EPOCH).unwrap_or_default();
        let (seconds, nanoseconds) = self.changed;
        let changed = u64::try_from(seconds).unwrap_or_default();
        let changed = Duration::new(changed, u32::try_from(nanoseconds).unwrap_or_default());
        changed + COARSEST_CLOCK < since_epoch
    }

    /// Whether it is the same file, whatever its contents.
    pub(super) fn is_same_file(&self, other: &Self) -> bool {
        (self.device, self.inode) == (other.device, other.inode)
    }
}

#[expect(
    clippy::cast_sign_loss,
    clippy::unnecessary_cast,
    reason = "the types of these numbers differ from system to system; files have no negative size"
)]
impl From<&Stat> for Stamp {
    fn from(stat: &Stat) -> Self {
        Self {
            device: stat.st_dev as u64,
            inode: stat.st_ino as u64,
            size: stat.st_size as u64,
            modified: (stat.st_mtime as i64, stat.st_mtime_nsec as i64),
            changed: (stat.st_ctime as i64, stat.st_ctime_nsec as i64),
        }
    }
}

/// Reads a file of at most `limit` bytes.
///
/// Opens without blocking, because a FIFO waits for a writer, and checks the type before it
/// reads, because reading a device may never end.
pub(super) fn read(path: &Path, limit: u64) -> Result<(Vec<u8>, Stamp), ReadError> {
    #[cfg(test)]
    failures::injected(path)?;
    let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK | OFlags::NOCTTY;
    let opened = rustix::fs::open(path, flags, Mode::empty());
    if opened.as_ref().err() == Some(&Errno::NXIO) {
        // A socket, or a missing device.
        check(&rustix::fs::stat(path).map_err(io::Error::from)?, limit)?;
    }
    let mut file = File::from(opened.map_err(io::Error::from)?);
    let stat = rustix::fs::fstat(&file).map_err(io::Error::from)?;
    check(&stat, limit)?;
    let stamp = Stamp::from(&stat);
    let size = usize::try_from(stamp.size).unwrap_or_default();
    // Leaves room for one more byte, to notice growth: a shorter read has reached the end.
    let mut bytes = vec![0; size + 1];
    let mut filled = 0;
    while let Some(room) = bytes.get_mut(filled..) {
        let count = match file.read(room) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            result => result?,
        };
        filled += count;
        if count == 0 || filled == size {
            break;
        }
    }
    // Changes meanwhile are checked after all files are read.
    if filled != size {
        return Err(ReadError::Changing);
    }
    bytes.truncate(size);
    Ok((bytes, stamp))
}

fn check(stat: &Stat, limit: u64) -> Result<(), ReadError> {
    let size = Stamp::from(stat).size;
    Err(ReadError::NotAFile(
        match FileType::from_raw_mode(stat.st_mode) {
            FileType::RegularFile if size > limit => {
                return Err(ReadError::TooLarge { size, limit });
            }
            FileType::RegularFile => return Ok(()),
            FileType::Directory => "a directory",
            FileType::Fifo => "a FIFO",
            FileType::Socket => "a socket",
            _ => "a device",
        },
    ))
}

/// Injects read errors for tests: tests that run as root cannot provoke them otherwise.
#[cfg(test)]
#[expect(clippy::disallowed_types, reason = "of tests only")]
pub(super) mod failures {
    use std::collections::HashMap;
    use std::io;
    use std::path::{Path, PathBuf};
    use std::sync::{Mutex, PoisonError};

    use rustix::io::Errno;

    static INJECTED: Mutex<Option<HashMap<PathBuf, Errno>>> = Mutex::new(None);

    /// Makes every read of `path` fail; `None` ends it.
    pub(in super::super) fn inject(path: &Path, error: Option<Errno>) {
        let mut injected = INJECTED.lock().unwrap_or_else(PoisonError::into_inner);
        let injected = injected.get_or_insert_default();
        match error {
            Some(error) => injected.insert(path.to_owned(), error),
            None => injected.remove(path),
        };
    }

    pub(in super::super) fn injected(path: &Path) -> io::Result<()> {
        let injected = INJECTED.lock().unwrap_or_else(PoisonError::into_inner);
        let error = injected.as_ref().and_then(|injected| injected.get(path));
        error.map_or(Ok(()), |error| Err((*error).into()))
    }
}

/// Adds advice for a file that the process may not read.
pub(crate) fn readable(diagnostic: Diagnostic, error: &ReadError) -> Diagnostic {
    if error.is_denied() {
        diagnostic.help(
            "the user that s3cors runs as needs permission to read it and to enter its folders",
        )
    } else if error.is_not_found() && diagnostic.to_string().contains("${") {
        diagnostic.help("variables are not expanded; write the path itself")
    } else {
        diagnostic
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;
    use std::os::unix::net::UnixListener;
    use std::path::PathBuf;
    use std::process::Command;

    use super::*;

    #[test]
    fn anything_but_a_readable_regular_file_is_refused_without_being_read() {
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
                "has 1099511627776 bytes, more than the limit of 5",
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
    fn a_stamp_is_trusted_once_the_clock_must_have_advanced() {
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
