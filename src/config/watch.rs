//! Notices changes of the files that a config names.
//!
//! The kernel tells of changes in the *folders* that the files are in: editors rename, Kubernetes
//! swaps a link, and a watch on a file would follow the old one. A slow look at every file stands
//! beside it, for what the kernel does not tell of: folders that were replaced, file systems of
//! other machines, watches that could not be had.

use std::collections::{HashMap, HashSet};
use std::convert::Infallible;
use std::ffi::OsStr;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use notify::{EventKind, RecommendedWatcher, RecursiveMode, Watcher};
use tokio::sync::Notify;

use super::files::Files;
use super::read::{COARSEST_CLOCK, Stamp};
use super::reload::Reloader;

/// How long nothing must change before files are read: who writes one file often writes another.
const QUIET: Duration = Duration::from_millis(100);

/// How long is waited for quiet at most.
const PATIENCE: Duration = Duration::from_millis(400);

/// How often files are looked at at most.
const SHORTEST_POLL: Duration = Duration::from_millis(400);

/// How long after a failed read it is tried again for the first time; after that twice as long each
/// time, up to the interval at which files are looked at.
const FIRST_RETRY: Duration = Duration::from_millis(50);

/// How long after a read a file's next change shows in its stamp, and a little more.
const SETTLED: Duration = COARSEST_CLOCK.saturating_add(Duration::from_millis(100));

/// How often files are looked at at least.
const LONGEST_POLL: Duration = Duration::from_secs(30);

/// What part of the time is spent looking: one in so many.
const POLL_SHARE: u32 = 50;

/// The most links that are followed to a file, as the kernel has it.
const MAX_LINKS: usize = 40;

/// Reloads whenever a file changed, and at each `forced` even if none did. Ends with its future.
pub async fn watch(mut reloader: Reloader, forced: Arc<Notify>) -> Infallible {
    let mut watches = Watches::new();
    let mut is_armed = false;
    let mut schedule = Schedule::new();
    schedule.reloaded(Instant::now(), &reloader);
    loop {
        // Armed first, looked at then: nothing falls between. Where all was watched already, a look
        // would find nothing that was not told.
        let must_poll = is_armed && schedule.is_poll_due(Instant::now());
        let (changed, took);
        (reloader, watches, changed, took) = blocking(move || {
            let was_told = is_armed || watches.arm(reloader.files());
            let is_stale = watches.are_stale();
            if is_stale {
                watches.arm(reloader.files());
            }
            let must_look = is_stale || must_poll || !was_told;
            let start = Instant::now();
            let changed = must_look.then(|| reloader.files().have_changed());
            (reloader, watches, changed, start.elapsed())
        })
        .await;
        is_armed = true;
        if changed.is_some() {
            schedule.looked(Instant::now(), took);
        }
        let is_changed = changed == Some(true) && !reloader.has_panicked();
        let retry = schedule.retry;
        let cause = tokio::select! {
            biased;
            () = forced.notified() => Cause::Forced,
            () = std::future::ready(()), if is_changed => Cause::Changed,
            () = watches.events.notified() => Cause::Changed,
            () = sleep_until(retry), if retry.is_some() => Cause::Retry,
            () = tokio::time::sleep(SHORTEST_POLL) => continue,
        };
        if cause == Cause::Changed {
            quiet(&watches.events).await;
        }
        reloader = blocking(move || {
            let is_forced = cause == Cause::Forced;
            let result = catch_unwind(AssertUnwindSafe(|| reloader.reload(is_forced)));
            if result.is_err() {
                tracing::error!("a reload panicked; what was in force stays so");
                reloader.panicked();
            }
            reloader
        })
        .await;
        schedule.reloaded(Instant::now(), &reloader);
        is_armed = false;
    }
}

/// Why files are loaded.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Cause {
    Forced,
    Changed,
    /// Something could not be read before, or may have changed without a trace.
    Retry,
}

/// When files are polled, and when a failed read is retried.
struct Schedule {
    /// How often files are looked at.
    poll: Duration,
    looked_at: Instant,
    /// How long to wait before the next retry.
    back_off: Duration,
    /// `None`: nothing is to be retried.
    retry: Option<Instant>,
}

impl Schedule {
    fn new() -> Self {
        Self {
            poll: SHORTEST_POLL,
            looked_at: Instant::now(),
            back_off: FIRST_RETRY,
            retry: None,
        }
    }

    fn is_poll_due(&self, now: Instant) -> bool {
        now >= self.looked_at + self.poll
    }

    /// Files were looked at, which took so long.
    fn looked(&mut self, now: Instant, took: Duration) {
        self.poll = (took * POLL_SHARE).clamp(SHORTEST_POLL, LONGEST_POLL);
        self.looked_at = now;
    }

    /// Files were loaded: another attempt may be needed although no change is reported.
    fn reloaded(&mut self, now: Instant, reloader: &Reloader) {
        if reloader.may_pass() {
            self.retry = Some(now + self.back_off);
            self.back_off = (self.back_off * 2).min(self.poll);
            return;
        }
        self.back_off = FIRST_RETRY;
        self.retry = reloader.may_differ().then(|| now + SETTLED);
    }
}

async fn sleep_until(instant: Option<Instant>) {
    match instant {
        Some(instant) => tokio::time::sleep_until(instant.into()).await,
        None => std::future::pending().await,
    }
}

/// Runs what reads files, away from the thread that serves the operator.
async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    match tokio::task::spawn_blocking(work).await {
        Ok(result) => result,
        // It did not panic, so the runtime is going away, and with it this future.
        Err(_) => std::future::pending().await,
    }
}

/// Waits until nothing changes any more, but not for ever.
async fn quiet(events: &Notify) {
    let end = tokio::time::Instant::now() + PATIENCE;
    while tokio::time::Instant::now() < end {
        let next = tokio::time::timeout(QUIET, events.notified());
        if next.await.is_err() {
            return;
        }
    }
}

/// The folders that the kernel tells about.
#[derive(Debug)]
struct Watches {
    /// `None`: the system gives none, so all is found by looking.
    watcher: Option<RecommendedWatcher>,
    /// Which folder each path was when its watch was set.
    armed: HashMap<PathBuf, Option<Stamp>>,
    interesting: Arc<ArcSwap<Interesting>>,
    /// Something interesting changed.
    events: Arc<Notify>,
}

/// The paths whose changes matter.
#[derive(Debug, Default, PartialEq)]
struct Interesting {
    /// Files, and the links on the way to them.
    paths: HashSet<PathBuf>,
    /// Folders whose files matter.
    folders: HashSet<PathBuf>,
}

impl Watches {
    fn new() -> Self {
        let interesting = Arc::new(ArcSwap::from_pointee(Interesting::default()));
        let events = Arc::new(Notify::new());
        let (filter, tell) = (Arc::clone(&interesting), Arc::clone(&events));
        let watcher = notify::recommended_watcher(move |event: notify::Result<notify::Event>| {
            // An error may be an event that was lost.
            if event.is_err() || event.is_ok_and(|event| filter.load().concerns(&event)) {
                tell.notify_one();
            }
        });
        let watcher = watcher.inspect_err(
            |error| tracing::warn!(%error, "no notice of changed files: they are looked at instead"),
        );
        Self {
            watcher: watcher.ok(),
            armed: HashMap::new(),
            interesting,
            events,
        }
    }

    /// Watches the folders that these files are in now. True: they were watched before, for these
    /// same paths.
    fn arm(&mut self, files: &Files) -> bool {
        let Some(watcher) = &mut self.watcher else {
            return false;
        };
        let mut trail = Trail::default();
        files.followed().for_each(|path| trail.follow(path));
        let buckets = files
            .folders()
            .filter_map(|path| trail.folder(&absolute(path)));
        let buckets: HashSet<PathBuf> = buckets.collect();
        let mut folders = trail.folders;
        folders.extend(buckets.iter().cloned());
        let interesting = Interesting {
            paths: trail.paths,
            folders: buckets,
        };
        let mut was_told = **self.interesting.load() == interesting;
        self.interesting.store(Arc::new(interesting));

        self.armed.retain(|folder, _| {
            let stays = folders.contains(folder);
            if !stays {
                // Gone already is as good.
                let _ = watcher.unwatch(folder);
            }
            stays
        });
        for folder in folders {
            let now = Stamp::of(&folder);
            let armed = self.armed.get(&folder);
            if armed.is_some_and(|armed| is_same_folder(armed, &now)) {
                continue;
            }
            was_told = false;
            if armed.is_some() {
                let _ = watcher.unwatch(&folder);
            }
            let watched = watcher.watch(&folder, RecursiveMode::NonRecursive);
            if let Err(error) = &watched
                && now.is_some()
                && armed.is_none()
            {
                tracing::warn!(%error, folder = %folder.display(), "no notice of changes in a folder: its files are looked at instead");
            }
            let armed = now.filter(|_| watched.is_ok());
            self.armed.insert(folder, armed);
        }
        was_told
    }

    /// Whether a folder is not the one any more that is watched under its name.
    fn are_stale(&self) -> bool {
        let mut armed = self.armed.iter();
        armed.any(|(folder, armed)| {
            let now = Stamp::of(folder);
            (armed.is_some() || now.is_some()) && !is_same_folder(armed, &now)
        })
    }
}

fn is_same_folder(before: &Option<Stamp>, now: &Option<Stamp>) -> bool {
    match (before, now) {
        (Some(before), Some(now)) => before.is_same_file(now),
        _ => false,
    }
}

impl Interesting {
    fn concerns(&self, event: &notify::Event) -> bool {
        if matches!(event.kind, EventKind::Access(_)) {
            return event.kind
                == EventKind::Access(notify::event::AccessKind::Close(
                    notify::event::AccessMode::Write,
                ))
                && self.concerns_any(&event.paths);
        }
        event.need_rescan() || self.concerns_any(&event.paths)
    }

    fn concerns_any(&self, paths: &[PathBuf]) -> bool {
        paths.iter().any(|path| {
            let is_bucket = || {
                path.extension() == Some(OsStr::new("xml"))
                    && path
                        .parent()
                        .is_some_and(|folder| self.folders.contains(folder))
            };
            self.paths.contains(path) || is_bucket()
        })
    }
}

/// Follows paths: every link on the way to a file and the file itself, whose change leads
/// elsewhere; and the folders that these are in.
#[derive(Debug, Default)]
struct Trail {
    paths: HashSet<PathBuf>,
    folders: HashSet<PathBuf>,
    /// Which folder a path leads to; many files are in one.
    known: HashMap<PathBuf, Option<PathBuf>>,
}

impl Trail {
    fn follow(&mut self, path: &Path) {
        let mut next = absolute(path);
        for _ in 0..MAX_LINKS {
            let (Some(folder), Some(name)) = (next.parent(), next.file_name()) else {
                return;
            };
            let Some(folder) = self.folder(folder) else {
                return;
            };
            let path = folder.join(name);
            let target = std::fs::read_link(&path);
            self.paths.insert(path);
            self.folders.insert(folder.clone());
            match target {
                Ok(target) => next = folder.join(target),
                Err(_) => return,
            }
        }
    }

    /// The folder that a path leads to, without links; `None`: in a circle.
    fn folder(&mut self, path: &Path) -> Option<PathBuf> {
        if let Some(known) = self.known.get(path) {
            return known.clone();
        }
        let found = self.walk(path.to_owned(), 0);
        self.known.insert(path.to_owned(), found.clone());
        found
    }

    fn walk(&mut self, path: PathBuf, links: usize) -> Option<PathBuf> {
        if links > MAX_LINKS {
            return None;
        }
        let mut walked = PathBuf::new();
        let mut components = path.components();
        while let Some(component) = components.next() {
            match component {
                Component::ParentDir => {
                    walked.pop();
                    continue;
                }
                Component::CurDir => continue,
                Component::Prefix(_) | Component::RootDir | Component::Normal(_) => {}
            }
            let folder = walked.clone();
            walked.push(component);
            if let Ok(target) = std::fs::read_link(&walked) {
                self.paths.insert(walked);
                self.folders.insert(folder.clone());
                return self.walk(folder.join(target).join(components.as_path()), links + 1);
            }
        }
        Some(walked)
    }
}

fn absolute(path: &Path) -> PathBuf {
    std::path::absolute(path).unwrap_or_else(|_| path.to_owned())
}
