//! Everything that a load looked at: how a change is noticed, and what need not be read again.

use std::collections::{BTreeSet, HashMap};
use std::fs;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::SystemTime;

use http::Method;

use super::diagnostic::Diagnostic;
use super::policies::PolicyFile;
use super::read::{self, ReadError, Stamp};

/// Everything that a load looked at.
#[derive(Debug, Default)]
pub(super) struct Files {
    /// What each path but those of policies led to when it was read; `None`: nowhere.
    seen: Vec<(PathBuf, Option<Stamp>)>,
    /// What policy files were read to.
    policies: HashMap<PolicyKey, ReadPolicy>,
    /// The folders of buckets.
    folders: Vec<PathBuf>,
    /// Of all contents and failures.
    digest: DefaultHasher,
    /// How many files were opened.
    reads: usize,
}

/// What a policy file is known by: what is wrong with one depends on the methods that its rules
/// may name.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct PolicyKey {
    pub(super) path: Arc<Path>,
    extra_methods: Vec<Method>,
}

/// What a policy file was read to.
#[derive(Clone, Debug)]
pub(super) struct ReadPolicy {
    policy: PolicyFile,
    /// All there is to say of it, said again by every load.
    pub(super) problems: Vec<Diagnostic>,
    /// What the path led to; `None`: nowhere.
    stamp: Option<Stamp>,
    /// Of its contents, or of why they cannot be had.
    digest: u64,
    /// Whether as long as it has this stamp it has these contents.
    is_settled: bool,
}

/// A file's bytes, or why there are none.
pub(super) struct ReadFile {
    pub(super) contents: Result<Vec<u8>, ReadError>,
    stamp: Option<Stamp>,
    is_settled: bool,
}

impl PolicyKey {
    pub(super) fn new(path: &Path, extra_methods: &[Method]) -> Self {
        Self {
            path: path.into(),
            extra_methods: extra_methods.to_vec(),
        }
    }
}

impl ReadPolicy {
    pub(super) fn new(read: &ReadFile, policy: PolicyFile, problems: Vec<Diagnostic>) -> Self {
        let mut digest = DefaultHasher::new();
        digest_of(&read.contents, &mut digest);
        Self {
            policy,
            problems,
            stamp: read.stamp,
            digest: digest.finish(),
            is_settled: read.is_settled,
        }
    }
}

impl Files {
    /// Reads a file of at most `limit` bytes.
    pub(super) fn read(&mut self, path: &Path, limit: u64) -> Result<Vec<u8>, ReadError> {
        let read = self.open(path, limit);
        self.seen.push((path.to_owned(), read.stamp));
        path.hash(&mut self.digest);
        digest_of(&read.contents, &mut self.digest);
        read.contents
    }

    /// Reads a file that is not remembered yet; what a policy file was read to goes to
    /// [`keep`](Self::keep).
    pub(super) fn open(&mut self, path: &Path, limit: u64) -> ReadFile {
        self.reads += 1;
        let now = SystemTime::now();
        match read::read(path, limit) {
            Ok((bytes, stamp)) => ReadFile {
                contents: Ok(bytes),
                stamp: Some(stamp),
                is_settled: stamp.is_settled(now),
            },
            Err(error) => ReadFile {
                contents: Err(error),
                stamp: Stamp::of(path),
                is_settled: false,
            },
        }
    }

    /// What a policy file was read to in this load.
    pub(super) fn policy(&self, key: &PolicyKey) -> Option<&PolicyFile> {
        self.policies.get(key).map(|read| &read.policy)
    }

    /// What a policy file was read to in this load, where it is still that file as it was.
    pub(super) fn unchanged(&self, key: &PolicyKey) -> Option<&ReadPolicy> {
        let read = self.policies.get(key)?;
        let is_same = read.is_settled && Stamp::of(&key.path) == read.stamp;
        is_same.then_some(read)
    }

    /// Remembers what a policy file was read to.
    pub(super) fn keep(&mut self, key: PolicyKey, read: ReadPolicy) -> PolicyFile {
        (&key.path, read.digest).hash(&mut self.digest);
        let policy = read.policy.clone();
        self.policies.insert(key, read);
        policy
    }

    /// Adds what another thread looked at.
    pub(super) fn extend(&mut self, other: Self) {
        self.seen.extend(other.seen);
        self.policies.extend(other.policies);
        self.folders.extend(other.folders);
        self.reads += other.reads;
        other.digest.finish().hash(&mut self.digest);
    }

    /// The buckets that a folder has files of, in the order of their names.
    pub(super) fn list(&mut self, folder: &Path) -> io::Result<Vec<(Box<str>, PathBuf)>> {
        self.seen.push((folder.to_owned(), Stamp::of(folder)));
        self.folders.push(folder.to_owned());
        let listed = list(folder);
        match &listed {
            Ok(buckets) => buckets.hash(&mut self.digest),
            Err(error) => error.to_string().hash(&mut self.digest),
        }
        listed
    }

    /// A path that leads to something else than when it was read.
    pub(super) fn changed(&self) -> Option<&Path> {
        let mut looked_at = self.looked_at();
        let (path, _) = looked_at.find(|(path, stamp)| Stamp::of(path) != **stamp)?;
        Some(path)
    }

    /// The folders that the files are in, links followed.
    pub(super) fn real_folders(&self) -> BTreeSet<PathBuf> {
        let real = self.paths().filter_map(|path| fs::canonicalize(path).ok());
        real.filter_map(|path| Some(path.parent()?.to_owned()))
            .collect()
    }

    /// Of all contents and failures: equal for two loads that found the same.
    pub(super) fn digest(&self) -> u64 {
        self.digest.finish()
    }

    /// How many files were opened; the others are as they were.
    pub(super) fn reads(&self) -> usize {
        self.reads
    }

    /// Every path that was looked at.
    pub(super) fn paths(&self) -> impl Iterator<Item = &Path> {
        self.looked_at().map(|(path, _)| path)
    }

    /// The folders of buckets.
    pub(super) fn folders(&self) -> impl Iterator<Item = &Path> {
        self.folders.iter().map(|path| &**path)
    }

    fn looked_at(&self) -> impl Iterator<Item = (&Path, &Option<Stamp>)> {
        let seen = self.seen.iter().map(|(path, stamp)| (&**path, stamp));
        let policies = self.policies.iter();
        seen.chain(policies.map(|(key, read)| (&*key.path, &read.stamp)))
    }
}

fn digest_of(contents: &Result<Vec<u8>, ReadError>, digest: &mut DefaultHasher) {
    match contents {
        Ok(bytes) => bytes.hash(digest),
        Err(error) => error.to_string().hash(digest),
    }
}

fn list(folder: &Path) -> io::Result<Vec<(Box<str>, PathBuf)>> {
    let mut buckets = Vec::new();
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        // Editors' and Kubernetes' own files begin with a dot.
        let bucket = path
            .file_name()
            .and_then(|name| name.to_str())
            .filter(|name| !name.starts_with('.'))
            .and_then(|name| name.strip_suffix(".xml"));
        if let Some(bucket) = bucket {
            buckets.push((bucket.into(), path));
        }
    }
    buckets.sort();
    Ok(buckets)
}

#[cfg(test)]
mod tests {
    use super::super::{Input, Loaded, load, load_changes};
    use super::*;

    impl Files {
        /// As if what was read had been written long ago.
        fn settle(&mut self) {
            for read in self.policies.values_mut() {
                read.is_settled |= read.policy.document.is_ok() || !read.problems.is_empty();
            }
        }
    }

    /// A folder with a config and as many buckets as it takes to be read on several threads.
    struct Folder(PathBuf);

    impl Folder {
        const BUCKETS: usize = 1200;

        fn new() -> Self {
            let name = format!("s3cors-files-{}", std::process::id());
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
            load_changes(&self.input(), Some(&before.files))
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
    fn a_file_that_did_not_change_is_not_read_again_and_its_problems_are_said_again() {
        let folder = Folder::new();
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
}
