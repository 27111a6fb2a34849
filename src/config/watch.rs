//! Notices changes of a config's files.
//!
//! The kernel reports changes in the *folders* of the files: editors rename, Kubernetes swaps a
//! link, and a watch on a file would follow the old one. Slow polling of every file finds what
//! the kernel does not report: replaced folders, network file systems, and folders without a
//! watch.

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

/// How long the files must be unchanged before they are read: a writer often writes several.
const QUIET: Duration = Duration::from_millis(100);

/// The maximum time to wait for that.
const PATIENCE: Duration = Duration::from_millis(400);

/// The minimum interval of polling.
const SHORTEST_POLL: Duration = Duration::from_millis(400);

/// The delay of the first retry after a failed read; it doubles each time, up to the polling
/// interval.
const FIRST_RETRY: Duration = Duration::from_millis(50);

/// How long after a read the file's next change surely shows in its stamp, plus a margin.
const SETTLED: Duration = COARSEST_CLOCK.saturating_add(Duration::from_millis(100));

/// The maximum interval of polling.
const LONGEST_POLL: Duration = Duration::from_secs(30);

/// The share of time spent polling: 1/POLL_SHARE.
const POLL_SHARE: u32 = 50;

/// The maximum number of links followed to a file: the kernel's limit.
const MAX_LINKS: usize = 40;

/// Reloads whenever a file changed, and at each `forced` even if none did. Ends when its future
/// is dropped.
pub async fn watch(mut reloader: Reloader, forced: Arc<Notify>) -> Infallible {
    let mut watches = Watches::new();
    let mut is_armed = false;
    let mut schedule = Schedule::new();
    schedule.reloaded(Instant::now(), &reloader);
    loop {
        // Watches first, then polls: no change is missed in between. If everything was already
        // watched, polling would find nothing new.
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
                tracing::error!("a reload panicked; the last good config stays in force");
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
    /// A read failed before, or a file may have changed without a new stamp.
    Retry,
}

/// When to poll the files and when to retry a failed read.
struct Schedule {
    /// The polling interval.
    poll: Duration,
    looked_at: Instant,
    /// The delay of the next retry.
    back_off: Duration,
    /// `None` if there is nothing to retry.
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

    /// Records that a poll took this long.
    fn looked(&mut self, now: Instant, took: Duration) {
        self.poll = (took * POLL_SHARE).clamp(SHORTEST_POLL, LONGEST_POLL);
        self.looked_at = now;
    }

    /// Records a load: a retry may be needed although no change is reported.
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

/// Runs blocking reads on another thread than the one that serves the admin listener.
async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    match tokio::task::spawn_blocking(work).await {
        Ok(result) => result,
        // It did not panic, so the runtime is shutting down, and this future ends too.
        Err(_) => std::future::pending().await,
    }
}

/// Waits until nothing changes any more, up to a limit.
async fn quiet(events: &Notify) {
    let end = tokio::time::Instant::now() + PATIENCE;
    while tokio::time::Instant::now() < end {
        let next = tokio::time::timeout(QUIET, events.notified());
        if next.await.is_err() {
            return;
        }
    }
}

/// The folders that the kernel watches.
#[derive(Debug)]
struct Watches {
    /// `None` if the system provides none, so that polling finds all changes.
    watcher: Option<RecommendedWatcher>,
    /// The folder's stamp when its watch was set.
    armed: HashMap<PathBuf, Option<Stamp>>,
    interesting: Arc<ArcSwap<Interesting>>,
    /// Signals a relevant change.
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
            // An error may be a lost event.
            if event.is_err() || event.is_ok_and(|event| filter.load().concerns(&event)) {
                tell.notify_one();
            }
        });
        let watcher = watcher.inspect_err(
            |error| tracing::warn!(%error, "file watching unavailable; polling instead"),
        );
        Self {
            watcher: watcher.ok(),
            armed: HashMap::new(),
            interesting,
            events,
        }
    }

    /// Watches the current folders of these files. Returns whether they were already watched, for
    /// the same paths.
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
                // A watch that is already gone is fine.
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
                tracing::warn!(%error, folder = %folder.display(), "cannot watch a folder; polling its files instead");
            }
            let armed = now.filter(|_| watched.is_ok());
            self.armed.insert(folder, armed);
        }
        was_told
    }

    /// Whether a folder has been replaced since its watch was set.
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

/// Resolves paths: every link on the way to a file and the file itself, whose change leads
/// elsewhere; and the folders that contain them.
#[derive(Debug, Default)]
struct Trail {
    paths: HashSet<PathBuf>,
    folders: HashSet<PathBuf>,
    /// The resolved folder of a path; many files share one.
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

    /// The resolved folder of a path; `None` if links form a loop.
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
