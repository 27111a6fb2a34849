//! The state folder: the last good version of each policy file, for a start that finds the file invalid.
//!
//! One file for each policy, named by a hash of the policy file's absolute path, so that no name leads out
//! of the folder. It holds the path, a hash of the contents, and the contents; what does not agree with
//! itself is ignored with a warning. The state of a policy file that is gone is deleted: it is never used.

use std::collections::{HashMap, HashSet};
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::SystemTime;

use thiserror::Error;

use crate::tls::digest::{ContentHash, sha256};

use super::policy_reader::MAX_POLICY;
use super::read;

/// What the first line of every file begins with.
const MAGIC: &str = "s3cors-policy-1 ";

/// How the names of the files end.
const SUFFIX: &str = ".policy";

/// How the names of files begin that are being written.
const UNFINISHED: &str = ".new-";

/// The most that a file has besides the policy: its two lines.
const MAX_HEAD: u64 = 64 * 1024;

/// The folder that holds the state.
#[derive(Clone, Debug)]
pub(super) struct PolicyState {
    folder: PathBuf,
}

/// A policy as it was last good.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Saved {
    pub(super) contents: Vec<u8>,
    pub(super) hash: ContentHash,
    pub(super) at: Option<SystemTime>,
}

/// Why a saved policy is not used.
#[derive(Debug, Error)]
pub(super) enum UnusableState {
    #[error("it cannot be read: {0}")]
    Unreadable(String),
    #[error("it is not complete, or was changed by something else")]
    Damaged,
    #[error("it is of another file")]
    OfAnotherFile,
}

/// A policy file that is good, to be saved.
#[derive(Clone, Debug)]
pub(super) struct Good {
    pub(super) path: Arc<Path>,
    pub(super) hash: ContentHash,
}

/// What of the state has been saved already.
#[derive(Debug, Default)]
pub(super) struct SavedHashes(Option<HashMap<String, ContentHash>>);

impl PolicyState {
    /// Opens the folder, and creates it if needed. Fails if it cannot be written.
    pub(super) fn open(folder: &Path) -> io::Result<Self> {
        // One of its own: the folder may hold more than policies.
        let folder = folder.join("policies");
        fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(&folder)?;
        let probe = folder.join(format!("{UNFINISHED}{}", std::process::id()));
        // In a container, an earlier process that ended here had the same ID.
        ignore_missing(fs::remove_file(&probe))?;
        let created = create(&probe, b"");
        ignore_missing(fs::remove_file(&probe))?;
        created?;
        Ok(Self { folder })
    }

    /// The last good version of a policy file; `None`: there is none.
    pub(super) fn saved(&self, path: &Path) -> Result<Option<Saved>, UnusableState> {
        let file = self.folder.join(name_of(path));
        let at = fs::metadata(&file).and_then(|file| file.modified()).ok();
        let bytes = match read::read(&file, MAX_HEAD + MAX_POLICY) {
            Ok((bytes, _)) => bytes,
            Err(error) if error.is_not_found() => return Ok(None),
            Err(error) => return Err(UnusableState::Unreadable(error.to_string())),
        };
        let (hash, of, contents) = parse(&bytes).ok_or(UnusableState::Damaged)?;
        if of != shown(path).as_bytes() {
            return Err(UnusableState::OfAnotherFile);
        }
        if sha256(contents) != hash {
            return Err(UnusableState::Damaged);
        }
        Ok(Some(Saved {
            contents: contents.to_vec(),
            hash,
            at,
        }))
    }

    /// Where the last good version of a policy file is kept.
    pub(super) fn file_of(&self, path: &Path) -> PathBuf {
        self.folder.join(name_of(path))
    }

    /// Saves the policy files that are good, and deletes the state of those that are not `present`; `None`:
    /// it is not known which are.
    pub(super) fn save(
        &self,
        good: &[Good],
        present: Option<&HashSet<Arc<Path>>>,
        known: &mut SavedHashes,
    ) -> io::Result<()> {
        let known = match &mut known.0 {
            Some(known) => known,
            none => none.insert(self.hashes()?),
        };
        let mut has_changed = false;
        if let Some(present) = present {
            let names: HashSet<String> = present.iter().map(|path| name_of(path)).collect();
            let gone = known.keys().filter(|name| !names.contains(*name));
            let gone: Vec<_> = gone.cloned().collect();
            for name in gone {
                ignore_missing(fs::remove_file(self.folder.join(&name)))?;
                known.remove(&name);
                has_changed = true;
            }
        }
        for Good { path, hash } in good {
            let name = name_of(path);
            if known.get(&name) == Some(hash) {
                continue;
            }
            let Ok((contents, _)) = read::read(path, MAX_POLICY) else {
                continue;
            };
            // Changed since it was checked: the next reload sees to it.
            if sha256(&contents) != *hash {
                continue;
            }
            let mut bytes = format!("{MAGIC}{hash}\n{}\n", shown(path)).into_bytes();
            bytes.extend_from_slice(&contents);
            let new = self.folder.join(format!("{UNFINISHED}{name}"));
            ignore_missing(fs::remove_file(&new))?;
            create(&new, &bytes)?;
            fs::rename(&new, self.folder.join(&name))?;
            known.insert(name, *hash);
            has_changed = true;
        }
        if has_changed {
            File::open(&self.folder)?.sync_all()?;
        }
        Ok(())
    }

    /// What the folder has: each file with the hash in it. What was left unfinished is deleted.
    fn hashes(&self) -> io::Result<HashMap<String, ContentHash>> {
        let mut hashes = HashMap::new();
        for entry in fs::read_dir(&self.folder)? {
            let entry = entry?;
            let Ok(name) = entry.file_name().into_string() else {
                continue;
            };
            if name.starts_with(UNFINISHED) {
                ignore_missing(fs::remove_file(entry.path()))?;
            } else if is_name(&name) {
                let saved = read::read(&entry.path(), MAX_HEAD + MAX_POLICY).ok();
                let hash = saved.and_then(|(bytes, _)| {
                    let (hash, _, contents) = parse(&bytes)?;
                    (sha256(contents) == hash).then_some(hash)
                });
                // A damaged one is written again, or deleted.
                hashes.insert(name, hash.unwrap_or(ContentHash([0; 32])));
            }
        }
        Ok(hashes)
    }
}

/// The name of a policy file's state.
fn name_of(path: &Path) -> String {
    let path = absolute(path);
    format!("{}{SUFFIX}", sha256(path.as_os_str().as_bytes()))
}

fn is_name(name: &str) -> bool {
    let hash = name.strip_suffix(SUFFIX);
    hash.is_some_and(|hash| hash.len() == 64 && hash.bytes().all(|byte| byte.is_ascii_hexdigit()))
}

fn absolute(path: &Path) -> PathBuf {
    std::path::absolute(path).unwrap_or_else(|_| path.to_owned())
}

/// A path on one line.
fn shown(path: &Path) -> String {
    absolute(path)
        .as_os_str()
        .as_bytes()
        .escape_ascii()
        .to_string()
}

/// The hash, the path and the contents of a file of the state.
fn parse(bytes: &[u8]) -> Option<(ContentHash, &[u8], &[u8])> {
    let rest = bytes.strip_prefix(MAGIC.as_bytes())?;
    let (hash, rest) = rest.split_at_checked(rest.iter().position(|byte| *byte == b'\n')?)?;
    let rest = rest.get(1..)?;
    let (path, rest) = rest.split_at_checked(rest.iter().position(|byte| *byte == b'\n')?)?;
    Some((ContentHash::parse(hash)?, path, rest.get(1..)?))
}

fn create(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path)?;
    file.write_all(bytes)?;
    file.sync_all()
}

fn ignore_missing(result: io::Result<()>) -> io::Result<()> {
    match result {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        result => result,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Folder(PathBuf);

    impl Folder {
        fn new(name: &str) -> Self {
            let name = format!("s3cors-state-{name}-{}", std::process::id());
            let folder = Self(std::env::temp_dir().join(name));
            fs::create_dir_all(&folder.0).unwrap();
            folder
        }

        fn write(&self, name: &str, contents: &[u8]) -> Good {
            let path: Arc<Path> = self.0.join(name).into();
            fs::write(&path, contents).unwrap();
            Good {
                path,
                hash: sha256(contents),
            }
        }

        fn state(&self) -> PolicyState {
            PolicyState::open(&self.0.join("state")).unwrap()
        }

        fn names(&self) -> Vec<String> {
            let entries = fs::read_dir(self.0.join("state/policies")).unwrap();
            let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
            names.collect()
        }
    }

    impl Drop for Folder {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.0);
        }
    }

    fn present(all: &[&Good]) -> HashSet<Arc<Path>> {
        all.iter().map(|good| Arc::clone(&good.path)).collect()
    }

    #[test]
    fn the_last_good_version_is_kept_and_a_deleted_file_has_none() {
        let folder = Folder::new("kept");
        let state = folder.state();
        let mut known = SavedHashes::default();
        let (one, other) = (
            folder.write("one.xml", b"1"),
            folder.write("other.xml", b"2"),
        );
        let both = present(&[&one, &other]);
        let all = [one.clone(), other.clone()];
        state.save(&all, Some(&both), &mut known).unwrap();
        assert_eq!(state.saved(&one.path).unwrap().unwrap().contents, b"1");

        // A later version replaces it; one that is not good any more leaves it.
        let one = folder.write("one.xml", b"3");
        state
            .save(std::slice::from_ref(&one), Some(&both), &mut known)
            .unwrap();
        assert_eq!(state.saved(&one.path).unwrap().unwrap().contents, b"3");
        assert_eq!(state.saved(&other.path).unwrap().unwrap().hash, other.hash);

        // It is not known what is there: nothing is deleted.
        state.save(&[], None, &mut known).unwrap();
        assert_eq!(folder.names().len(), 2);
        state
            .save(&[], Some(&present(&[&one])), &mut known)
            .unwrap();
        assert_eq!(state.saved(&other.path).unwrap(), None);
        assert_eq!(folder.names(), [name_of(&one.path)]);
        // The same by a process that has just been started.
        state
            .save(&[], Some(&HashSet::new()), &mut SavedHashes::default())
            .unwrap();
        assert!(folder.names().is_empty());
    }

    #[test]
    fn a_process_that_ended_while_it_opened_the_folder_does_not_stop_the_next_one() {
        let folder = Folder::new("probe");
        folder.state();
        let probe = format!("{UNFINISHED}{}", std::process::id());
        fs::write(folder.0.join("state/policies").join(probe), b"").unwrap();
        folder.state();
        assert!(folder.names().is_empty());
    }

    #[test]
    fn a_deletion_that_failed_is_tried_again() {
        let folder = Folder::new("undeletable");
        let state = folder.state();
        let mut known = SavedHashes::default();
        let all = [
            folder.write("one.xml", b"1"),
            folder.write("other.xml", b"2"),
        ];
        state.save(&all, None, &mut known).unwrap();
        // Deleting a file fails if it is a directory, even for root.
        let files = all.each_ref().map(|good| state.file_of(&good.path));
        for file in &files {
            fs::remove_file(file).unwrap();
            fs::create_dir(file).unwrap();
        }
        let nothing = HashSet::new();
        assert!(state.save(&[], Some(&nothing), &mut known).is_err());
        for file in &files {
            fs::remove_dir(file).unwrap();
            fs::write(file, b"x").unwrap();
        }
        state.save(&[], Some(&nothing), &mut known).unwrap();
        assert!(folder.names().is_empty());
    }

    #[test]
    fn a_file_that_changed_since_it_was_checked_is_not_saved() {
        let folder = Folder::new("changed");
        let state = folder.state();
        let good = folder.write("one.xml", b"good");
        folder.write("one.xml", b"bad");
        state
            .save(
                std::slice::from_ref(&good),
                None,
                &mut SavedHashes::default(),
            )
            .unwrap();
        assert_eq!(state.saved(&good.path).unwrap(), None);
    }

    #[test]
    fn damaged_state_is_not_used_and_is_written_again() {
        let folder = Folder::new("damaged");
        let state = folder.state();
        let (one, other) = (
            folder.write("one.xml", b"one"),
            folder.write("other.xml", b"other"),
        );
        let all = [one.clone(), other.clone()];
        state.save(&all, None, &mut SavedHashes::default()).unwrap();
        let file = state.file_of(&one.path);
        let whole = fs::read(&file).unwrap();
        let mut changed = whole.clone();
        *changed.last_mut().unwrap() = b'x';
        let partial = |length| whole[..length].to_vec();
        let damages = (0..whole.len())
            .map(partial)
            .chain([changed, b"\n\n".to_vec()]);
        for damaged in damages {
            fs::write(&file, &damaged).unwrap();
            let error = state.saved(&one.path).unwrap_err();
            let is_expected =
                matches!(error, UnusableState::Damaged | UnusableState::OfAnotherFile);
            assert!(is_expected, "{damaged:?}: {error}");
        }
        // The state of another file, under this one's name.
        fs::copy(state.file_of(&other.path), &file).unwrap();
        let error = state.saved(&one.path).unwrap_err();
        assert!(matches!(error, UnusableState::OfAnotherFile), "{error}");
        fs::remove_file(&file).unwrap();
        fs::create_dir(&file).unwrap();
        let error = state.saved(&one.path).unwrap_err();
        assert!(matches!(error, UnusableState::Unreadable(_)), "{error}");
        fs::remove_dir(&file).unwrap();

        fs::write(&file, b"damaged").unwrap();
        fs::write(folder.0.join("state/policies/.new-1"), b"unfinished").unwrap();
        state.save(&all, None, &mut SavedHashes::default()).unwrap();
        assert_eq!(state.saved(&one.path).unwrap().unwrap().contents, b"one");
        assert_eq!(folder.names().len(), 2);
    }

    #[test]
    fn names_stay_in_the_folder_and_other_files_are_left_alone() {
        let folder = Folder::new("names");
        let state = folder.state();
        for path in ["../../etc/passwd", "/", "a\nb.xml", "..", "\u{1f600}.xml"] {
            let file = state.file_of(Path::new(path));
            assert_eq!(file.parent(), Some(&*state.folder), "{path}");
            assert!(is_name(file.file_name().unwrap().to_str().unwrap()));
            assert!(!shown(Path::new(path)).contains('\n'));
        }
        fs::write(folder.0.join("state/policies/notes.txt"), b"mine").unwrap();
        let none = HashSet::new();
        state
            .save(&[], Some(&none), &mut SavedHashes::default())
            .unwrap();
        assert_eq!(folder.names(), ["notes.txt"]);
    }

    #[test]
    fn a_folder_that_cannot_be_written_is_an_error() {
        let folder = Folder::new("unwritable");
        folder.write("file", b"");
        assert!(PolicyState::open(&folder.0.join("file")).is_err());
        assert!(PolicyState::open(&folder.0.join("file/below")).is_err());
    }
}
