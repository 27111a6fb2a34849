//! Everything that a load read: to notice changes, and to avoid reading unchanged files.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::ffi::OsStr;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::SystemTime;
use std::{fs, io};

use http::Method;

use super::policy_file::PolicyFile;
use super::read;
use super::read::{ReadError, Stamp};

/// The suffix of bucket policy files.
pub(super) const SUFFIX: &str = ".xml";

/// Everything that a load read.
#[derive(Debug, Default)]
pub(super) struct Files {
    /// The stamp of each path when it was read, policies excepted.
    seen: Vec<Seen>,
    /// The policy files, by the methods that their rules may use, because their errors depend on
    /// these; then by path.
    policies: HashMap<Vec<Method>, HashMap<Arc<Path>, Arc<PolicyFile>>>,
    /// The policy paths that may be behind links.
    links: Vec<Arc<Path>>,
    /// The folders of buckets.
    folders: Vec<PathBuf>,
    /// A hash of all contents and failures.
    digest: DefaultHasher,
    /// The number of non-policy files read.
    reads: usize,
    /// The policy files that this load read.
    read: Vec<Arc<PolicyFile>>,
    /// Whether a read failed that may succeed on retry although nothing changed.
    may_pass: bool,
    /// Whether a file may have changed since it was read although its stamp is the same.
    may_differ: bool,
    /// The non-policy files whose newest contents cannot be used, and why.
    rejected: Vec<Rejected>,
}

/// A path that was read.
#[derive(Debug)]
struct Seen {
    path: PathBuf,
    /// The stamp of its target; `None` if there is none.
    stamp: Option<Stamp>,
    /// A hash of the contents or of the read error; for a folder, of the error only.
    digest: u64,
}

/// A file whose newest contents cannot be used, and why.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Rejected {
    pub(super) path: PathBuf,
    pub(super) error: String,
}

/// What a load may reuse from an earlier one.
#[derive(Clone, Copy, Debug)]
pub(super) enum Before<'f> {
    /// Nothing: everything is read and checked.
    Nothing,
    /// The results for files with equal contents; all files are read.
    Contents(&'f Files),
    /// Unchanged files: they are not read.
    Files(&'f Files),
}

impl<'f> Before<'f> {
    /// The result of reading a policy file.
    pub(super) fn policy(self, path: &Path, methods: &[Method]) -> Option<&'f Arc<PolicyFile>> {
        match self {
            Self::Nothing => None,
            Self::Contents(files) | Self::Files(files) => files.policy(path, methods),
        }
    }

    /// Whether a policy file is unchanged, so that it need not be read.
    pub(super) fn trusts(self, file: &PolicyFile) -> bool {
        matches!(self, Self::Files(_)) && file.is_settled && !file.has_changed()
    }
}

impl Files {
    /// Reads a file of at most `limit` bytes.
    pub(super) fn read(&mut self, path: &Path, limit: u64) -> Result<Vec<u8>, ReadError> {
        self.reads += 1;
        let now = SystemTime::now();
        let read = read::read(path, limit);
        let (stamp, digest) = match &read {
            Ok((bytes, stamp)) => {
                self.may_differ |= !stamp.is_settled(now);
                (Some(*stamp), digest_of(bytes))
            }
            Err(error) => {
                self.may_pass |= error.may_pass();
                (Stamp::of(path), digest_of(&error.to_string()))
            }
        };
        self.see(path, stamp, digest);
        Ok(read?.0)
    }

    fn see(&mut self, path: &Path, stamp: Option<Stamp>, digest: u64) {
        (path, digest).hash(&mut self.digest);
        self.seen.push(Seen {
            path: path.to_owned(),
            stamp,
            digest,
        });
    }

    /// Records that the newest contents of a file cannot be used.
    pub(super) fn reject(&mut self, path: &Path, error: String) {
        let path = path.to_owned();
        let rejected = Rejected { path, error };
        rejected.hash(&mut self.digest);
        self.rejected.push(rejected);
    }

    /// Records that the next load may differ although no file changes.
    pub(super) fn expect_other(&mut self) {
        self.may_pass = true;
    }

    /// The earlier result for a policy file.
    pub(super) fn policy(&self, path: &Path, methods: &[Method]) -> Option<&Arc<PolicyFile>> {
        self.policies.get(methods)?.get(path)
    }

    /// Every policy file that was looked at.
    pub(super) fn policy_files(&self) -> impl Iterator<Item = &Arc<PolicyFile>> {
        self.policies.values().flat_map(HashMap::values)
    }

    /// Whether a folder of buckets could not be read, so that it is unknown which files it has.
    pub(super) fn has_unreadable_folder(&self) -> bool {
        let mut rejected = self.rejected.iter();
        rejected.any(|rejected| self.folders.contains(&rejected.path))
    }

    /// Notes that a policy file's path may lead through links.
    pub(super) fn follow(&mut self, path: &Path) {
        self.links.push(path.into());
    }

    /// Reserves space for this many more policy files.
    pub(super) fn reserve(&mut self, count: usize, methods: &[Method]) {
        self.with(methods).reserve(count);
    }

    /// Records the result for a policy file, new or from `before`.
    pub(super) fn keep(&mut self, file: &Arc<PolicyFile>, methods: &[Method], before: Before<'_>) {
        (&file.path, file.contents()).hash(&mut self.digest);
        self.may_pass |= file.may_pass;
        self.may_differ |= file.may_differ();
        let before = before.policy(&file.path, methods);
        if before.is_none_or(|before| !Arc::ptr_eq(before, file)) {
            self.read.push(Arc::clone(file));
        }
        let path = Arc::clone(&file.path);
        self.with(methods).insert(path, Arc::clone(file));
    }

    fn with(&mut self, methods: &[Method]) -> &mut HashMap<Arc<Path>, Arc<PolicyFile>> {
        if !self.policies.contains_key(methods) {
            self.policies.insert(methods.to_vec(), HashMap::new());
        }
        self.policies.get_mut(methods).expect("it is there now")
    }

    /// The buckets with files in a folder, sorted by name.
    pub(super) fn list(&mut self, folder: &Path) -> io::Result<Listed> {
        let stamp = Stamp::of(folder);
        self.folders.push(folder.to_owned());
        let listed = list(folder, &mut self.links);
        let failure = listed.as_ref().err();
        self.may_pass |= failure.is_some_and(|error| error.kind() != io::ErrorKind::NotFound);
        let digest = digest_of(&failure.map(io::Error::to_string));
        self.see(folder, stamp, digest);
        listed
    }

    /// Whether a path's target has changed since it was read.
    pub(super) fn have_changed(&self) -> bool {
        let mut policies = self.policies.values().flat_map(HashMap::values);
        self.seen.iter().any(Seen::has_changed) || policies.any(|file| file.has_changed())
    }

    /// Whether a read failed that may succeed on retry although nothing changed.
    pub(super) fn may_pass(&self) -> bool {
        self.may_pass
    }

    /// Whether a file may have changed since it was read although its stamp is the same: it must
    /// be read once more when the clock has advanced.
    pub(super) fn may_differ(&self) -> bool {
        self.may_differ
    }

    /// Every file whose newest contents cannot be used, and why; unique, sorted by path.
    pub(super) fn rejected(&self) -> BTreeMap<&Path, &str> {
        let others = self.rejected.iter();
        let others = others.map(|rejected| (&*rejected.path, &*rejected.error));
        let policies = self.policies.values().flat_map(HashMap::values);
        let policies = policies.filter_map(|file| Some((&*file.path, file.contents().err()?)));
        // Keeps the first error of a file.
        let mut all = BTreeMap::new();
        for (path, error) in others.chain(policies) {
            all.entry(path).or_insert(error);
        }
        all
    }

    /// The files that differ from `before`: changed, new, deleted or no longer named; sorted by
    /// path.
    pub(super) fn changed_since<'f>(&'f self, before: &'f Self) -> BTreeSet<&'f Path> {
        let differing = |one: &'f Self, other: &Self| {
            let known = |seen: &Seen| {
                let mut others = other.seen.iter();
                others.any(|other| other.path == seen.path && other.digest == seen.digest)
            };
            let seen: Vec<_> = one.seen.iter().filter(|seen| !known(seen)).collect();
            let policies = one.policies.iter().flat_map(|(methods, files)| {
                let others = other.policies.get(methods);
                files.values().filter(move |file| {
                    let other = others.and_then(|others| others.get(&file.path));
                    other.is_none_or(|other| {
                        !Arc::ptr_eq(file, other) && file.contents() != other.contents()
                    })
                })
            });
            let policies: Vec<_> = policies.map(|file| &*file.path).collect();
            (seen, policies)
        };
        let mut changed = BTreeSet::new();
        for (one, other) in [(self, before), (before, self)] {
            let (seen, policies) = differing(one, other);
            changed.extend(seen.iter().map(|seen| &*seen.path));
            changed.extend(policies);
        }
        changed
    }

    /// Whether something changed during this load: a file, a folder of files, or the target of a
    /// link.
    ///
    /// Files that were not read are left out, unless they are behind links: they were unchanged
    /// when they were checked, and a folder of plain files has no moment at which all of them
    /// change.
    pub(super) fn changed_meanwhile(&self) -> bool {
        let by_path = |path: &Arc<Path>| {
            let mut all = self.policies.values();
            all.find_map(|files| files.get(path))
        };
        let mut policies = self
            .read
            .iter()
            .chain(self.links.iter().filter_map(by_path));
        self.seen.iter().any(Seen::has_changed) || policies.any(|file| file.has_changed())
    }

    /// The folders of the files, with links resolved.
    pub(super) fn real_folders(&self) -> BTreeSet<PathBuf> {
        let real = |path: &Path| fs::canonicalize(path).ok();
        let folders = self.folders().filter_map(real);
        let paths = self.followed().filter_map(real);
        let parents = paths.filter_map(|path| Some(path.parent()?.to_owned()));
        parents.chain(folders).collect()
    }

    /// A hash of all contents and failures: equal for two loads with equal results.
    pub(super) fn digest(&self) -> u64 {
        self.digest.finish()
    }

    /// The number of files read; the others were unchanged.
    pub(super) fn reads(&self) -> usize {
        self.reads + self.read.len()
    }

    /// Every path that was read, except plain files in the folders of buckets.
    pub(super) fn followed(&self) -> impl Iterator<Item = &Path> {
        let seen = self.seen.iter().map(|seen| &*seen.path);
        seen.chain(self.links.iter().map(|path| &**path))
    }

    /// The folders of buckets.
    pub(super) fn folders(&self) -> impl Iterator<Item = &Path> {
        self.folders.iter().map(|path| &**path)
    }
}

impl Seen {
    /// Whether its path's target has changed since it was read.
    fn has_changed(&self) -> bool {
        Stamp::of(&self.path) != self.stamp
    }
}

fn digest_of(contents: &impl Hash) -> u64 {
    let mut digest = DefaultHasher::new();
    contents.hash(&mut digest);
    digest.finish()
}

/// The contents of a folder of buckets.
#[derive(Default)]
pub(super) struct Listed {
    /// The buckets with a file.
    pub(super) buckets: Vec<Box<str>>,
    /// Files that look like policies but belong to no bucket.
    pub(super) others: Vec<Box<str>>,
}

/// Suffixes of files that may have been meant as a policy.
const LIKELY: [&str; 6] = ["xml", "json", "yaml", "yml", "toml", "tf"];

/// The maximum number of such files to report.
const MOST_OTHERS: usize = 20;

/// The buckets with files in a folder; those behind links are added to `links`.
fn list(folder: &Path, links: &mut Vec<Arc<Path>>) -> io::Result<Listed> {
    #[cfg(test)]
    read::failures::injected(folder)?;
    let mut buckets = Vec::new();
    let mut others = Vec::new();
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let name = entry.file_name();
        // Skips dot files, which editors and Kubernetes create.
        let bucket = name
            .to_str()
            .filter(|name| !name.starts_with('.'))
            .and_then(|name| name.strip_suffix(SUFFIX));
        let Some(bucket) = bucket else {
            let looks_like_one = |name: &&str| {
                let extension = Path::new(name).extension().and_then(OsStr::to_str);
                extension.is_some_and(|extension| {
                    LIKELY.iter().any(|one| extension.eq_ignore_ascii_case(one))
                })
            };
            let other = name.to_str().filter(|name| !name.starts_with('.'));
            if others.len() < MOST_OTHERS {
                others.extend(other.filter(looks_like_one).map(Into::into));
            }
            continue;
        };
        if entry.file_type().is_ok_and(|kind| kind.is_symlink()) {
            links.push(entry.path().into());
        }
        buckets.push(bucket.into());
    }
    buckets.sort_unstable();
    others.sort_unstable();
    Ok(Listed { buckets, others })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Input, Loaded, load, load_changes};
    use crate::metrics::Metrics;
    use crate::routing::snapshot::Snapshot;

    impl Files {
        /// Pretends that the files were written long ago.
        fn settle(&mut self) {
            for file in self.policies.values_mut().flat_map(HashMap::values_mut) {
                let is_there = file.path.exists();
                Arc::make_mut(file).is_settled |= is_there;
            }
        }
    }

    /// A folder with a config and enough buckets to be read by several threads.
    struct Folder(PathBuf);

    impl Folder {
        const BUCKETS: usize = 1200;

        fn new(name: &str) -> Self {
            let name = format!("s3cors-files-{name}-{}", std::process::id());
            let folder = Self(std::env::temp_dir().join(name));
            fs::create_dir_all(folder.0.join("buckets")).unwrap();
            let config = "[[route]]\nhost = [\"*\"]\nupstream = [\"http://127.0.0.1:9000\"]\n\
                          buckets = { directory = \"buckets\" }\n";
            fs::write(folder.0.join("s3cors.toml"), config).unwrap();
            for bucket in 0..Self::BUCKETS {
                folder.write(bucket, "https://app.example");
            }
            folder
        }

        fn write(&self, bucket: usize, origin: &str) {
            let policy = format!(
                "<CORSConfiguration><CORSRule><AllowedOrigin>{origin}</AllowedOrigin>\
                 <AllowedMethod>GET</AllowedMethod></CORSRule></CORSConfiguration>"
            );
            fs::write(self.0.join(format!("buckets/b{bucket}.xml")), policy).unwrap();
        }

        fn again(&self, mut before: Loaded) -> Loaded {
            before.files.settle();
            load_changes(&self.input(), Before::Files(&before.files), None)
        }

        fn input(&self) -> Input {
            Input::file(self.0.join("s3cors.toml"))
        }
    }

    impl Drop for Folder {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.0);
        }
    }

    #[test]
    fn an_unchanged_file_is_not_read_again_but_its_problems_are_reported_again() {
        let folder = Folder::new("again");
        folder.write(7, "https://app.example/");
        folder.write(8, "**");
        let first = load(&folder.input());
        assert_eq!(first.files.reads(), 1 + Folder::BUCKETS);
        let (digest, problems) = (first.files.digest(), first.report.render(false));
        assert_eq!(first.policy_count(), Folder::BUCKETS - 1);
        assert!(!problems.is_empty());

        let second = folder.again(first);
        assert_eq!(second.files.reads(), 1, "the config");
        assert_eq!(second.files.digest(), digest);
        assert_eq!(second.report.render(false), problems);
        assert_eq!(second.policy_count(), Folder::BUCKETS - 1);

        folder.write(8, "https://one.example");
        fs::remove_file(folder.0.join("buckets/b9.xml")).unwrap();
        let third = folder.again(second);
        assert_eq!(third.files.reads(), 2, "the config and the bucket");
        assert_ne!(third.files.digest(), digest);
        assert_eq!(third.policy_count(), Folder::BUCKETS - 1);
        assert_eq!(third.report.errors(), 0);
    }

    #[test]
    fn unchanged_policies_are_the_same_object_in_every_snapshot() {
        let folder = Folder::new("shared");
        let metrics = Metrics::new(1);
        let mut loaded = load(&folder.input());
        let mut snapshot = loaded.snapshot(&metrics, None, 1, false).unwrap();
        let bucket = |snapshot: &Snapshot, name: &str| {
            let buckets = snapshot.routes[0].policies.buckets.as_ref().unwrap();
            Arc::clone(&buckets.policies[name])
        };
        let (same, changed) = (bucket(&snapshot, "b6"), bucket(&snapshot, "b7"));
        folder.write(7, "https://other.example");
        // First compared by stamps, then all read again, as on SIGHUP.
        loaded.files.settle();
        for forced in [false, true] {
            let before = if forced {
                Before::Contents(&loaded.files)
            } else {
                Before::Files(&loaded.files)
            };
            let next = load_changes(&folder.input(), before, None);
            let reads = if forced { 1 + Folder::BUCKETS } else { 2 };
            assert_eq!(next.files.reads(), reads);
            snapshot = next.snapshot(&metrics, Some(&snapshot), 2, false).unwrap();
            loaded = next;
            assert!(Arc::ptr_eq(&bucket(&snapshot, "b6"), &same));
            assert!(!Arc::ptr_eq(&bucket(&snapshot, "b7"), &changed));
        }
    }

    #[test]
    fn links_in_a_folder_of_buckets_are_followed_and_plain_files_are_not() {
        let folder = Folder::new("links");
        let buckets = folder.0.join("buckets");
        fs::rename(buckets.join("b9.xml"), folder.0.join("elsewhere")).unwrap();
        std::os::unix::fs::symlink("../elsewhere", buckets.join("b9.xml")).unwrap();
        let loaded = load(&folder.input());
        assert_eq!(loaded.policy_count(), Folder::BUCKETS);
        let followed: Vec<_> = loaded.files.followed().collect();
        let expected = [
            folder.0.join("s3cors.toml"),
            buckets.clone(),
            buckets.join("b9.xml"),
        ];
        assert_eq!(followed, expected);
        assert!(!loaded.files.changed_meanwhile());

        // Behind a link, an unread file may have changed while others were read.
        let mut loaded = folder.again(loaded);
        assert_eq!(loaded.files.reads(), 1);
        loaded.files.read.clear();
        fs::write(folder.0.join("elsewhere"), "").unwrap();
        assert!(loaded.files.changed_meanwhile() && loaded.files.have_changed());
    }
}
