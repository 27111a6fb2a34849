//! Changed files come into force, however they are changed, if they are valid.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use http::{HeaderMap, Method};
use s3cors::admin::Reloads;
use s3cors::config::reload::{Outcome, Progress, Reloader};
use s3cors::config::{Input, Loaded, load, watch};
use s3cors::cors::Decision;
use s3cors::metrics::Metrics;
use s3cors::routing::host::Host;
use s3cors::routing::snapshot::{Current, Route, RoutePolicy};
use s3cors::server::tls::Certificate;
use tokio::sync::Notify;
use tokio::task::LocalSet;

use crate::support::certificates::{Authority, Pair};
use crate::support::folder::Folder;

/// The source of a proxy's config, and its reloads.
struct Served {
    current: Arc<Current>,
    metrics: Arc<Metrics>,
    reloads: Reloads,
}

impl Served {
    fn start(config: &Path, keep_going: bool) -> (Self, Reloader) {
        let input = Input::file(config);
        Self::of(load(&input), input, keep_going)
    }

    fn of(loaded: Loaded, input: Input, keep_going: bool) -> (Self, Reloader) {
        let metrics = Metrics::new(1);
        let snapshot = loaded.snapshot(&metrics, None, 1, keep_going);
        let current = Arc::new(Current::new(snapshot.unwrap()));
        let (to, of) = (Arc::clone(&current), Arc::clone(&metrics));
        let reloads = Reloads::default();
        let reloader = Reloader::new(input, keep_going, loaded, to, of, reloads.clone());
        let served = Self {
            current,
            metrics,
            reloads,
        };
        (served, reloader.unwrap())
    }

    /// The files whose newest contents are not in force.
    fn out_of_date(&self) -> Vec<PathBuf> {
        let files = self.reloads.state().out_of_date.into_iter();
        files.map(|file| file.file).collect()
    }

    fn route(&self, host: &str) -> Option<Arc<Route>> {
        let host = Host::parse(host.as_bytes()).unwrap();
        let snapshot = self.current.get();
        snapshot
            .hosts
            .get(&host)
            .map(|found| Arc::clone(&snapshot.routes[*found.value]))
    }

    /// Whether the route of a host allows an origin.
    fn allows(&self, host: &str, origin: &str) -> bool {
        let route = self.route(host).unwrap();
        allows(
            route
                .policies
                .route
                .as_ref()
                .or(route.policies.not_enabled.as_ref()),
            origin,
        )
    }

    fn bucket(&self, host: &str, bucket: &str) -> Option<Arc<RoutePolicy>> {
        let route = self.route(host).unwrap();
        route
            .policies
            .buckets
            .as_ref()
            .unwrap()
            .policies
            .get(bucket)
            .cloned()
    }

    fn generation(&self) -> u64 {
        self.current.get().generation
    }

    fn metric(&self, line: &str) -> u64 {
        let text = self.metrics.encode();
        let value = text.lines().find_map(|there| there.strip_prefix(line));
        value
            .unwrap_or_else(|| panic!("{line} in {text}"))
            .trim()
            .parse()
            .unwrap()
    }
}

fn allows(policy: Option<&Arc<RoutePolicy>>, origin: &str) -> bool {
    let mut fields = HeaderMap::new();
    fields.insert("origin", origin.parse().unwrap());
    let decision = policy.unwrap().policy.decide(&Method::GET, &fields);
    matches!(decision, Decision::Actual(Ok(_)))
}

/// A policy that allows one origin.
fn policy(origin: &str) -> String {
    format!(
        "<CORSConfiguration><CORSRule><AllowedOrigin>{origin}</AllowedOrigin>\
         <AllowedMethod>GET</AllowedMethod></CORSRule></CORSConfiguration>\n"
    )
}

fn origin(number: u32) -> String {
    format!("https://n{number}.example")
}

fn config(routes: &[(&str, &str)]) -> String {
    let routes = routes.iter().map(|(host, rest)| {
        format!("[[route]]\nhost = \"{host}\"\nupstream = \"http://127.0.0.1:9000\"\n{rest}\n")
    });
    routes.collect()
}

/// How long to wait for a change. The time is printed, not checked, because other tests run at
/// the same time. `tests/clients/test_reload.py` requires a second of the release build.
const PATIENCE: Duration = Duration::from_secs(20);

/// Changes something 20 times and waits each time until it is in force.
async fn twenty_times(folder: &Folder, mut change: impl FnMut(u32, &str)) {
    let (served, reloader) = Served::start(&folder.path("s3cors.toml"), false);
    let mut progress = reloader.progress();
    let local = LocalSet::new();
    local.spawn_local(watch(reloader, Arc::new(Notify::new())));
    local
        .run_until(async {
            let mut slowest = Duration::ZERO;
            for number in 1..=20 {
                let origin = origin(number);
                let start = Instant::now();
                change(number, &origin);
                let live = progress.wait_for(|_| served.allows("a.example", &origin));
                let live = tokio::time::timeout(PATIENCE, live).await;
                assert!(live.is_ok(), "change {number} is never live");
                slowest = slowest.max(start.elapsed());
            }
            println!("live after {slowest:?} at most");
        })
        .await;
}

#[tokio::test]
async fn a_file_rewritten_in_place_is_live() {
    let folder = Folder::new();
    folder.write("s3cors.toml", &config(&[("a.example", "cors = 'a.xml'")]));
    folder.write("a.xml", &policy(&origin(0)));
    twenty_times(&folder, |_, origin| folder.write("a.xml", &policy(origin))).await;
}

#[tokio::test]
async fn a_file_renamed_over_is_live() {
    let folder = Folder::new();
    folder.write("s3cors.toml", &config(&[("a.example", "cors = 'a.xml'")]));
    folder.write("a.xml", &policy(&origin(0)));
    twenty_times(&folder, |_, origin| {
        folder.replace("a.xml", &policy(origin))
    })
    .await;
}

#[tokio::test]
async fn a_file_deleted_and_created_again_is_live() {
    let folder = Folder::new();
    folder.write("s3cors.toml", &config(&[("a.example", "cors = 'a.xml'")]));
    folder.write("a.xml", &policy(&origin(0)));
    twenty_times(&folder, |_, origin| {
        fs::remove_file(folder.path("a.xml")).unwrap();
        folder.write("a.xml", &policy(origin));
    })
    .await;
}

#[tokio::test]
async fn a_swap_of_kubernetes_link_is_live() {
    let folder = Folder::new();
    let toml = config(&[("a.example", "cors = 'a.xml'")]);
    folder.swap(0, &[("s3cors.toml", &toml), ("a.xml", &policy(&origin(0)))]);
    twenty_times(&folder, |number, origin| {
        folder.swap(
            number,
            &[("s3cors.toml", &toml), ("a.xml", &policy(origin))],
        );
    })
    .await;
}

#[tokio::test]
async fn a_folder_that_is_replaced_is_live() {
    let folder = Folder::new();
    folder.write(
        "s3cors.toml",
        &config(&[("a.example", "cors = 'cors/a.xml'")]),
    );
    folder.write("cors/a.xml", &policy(&origin(0)));
    twenty_times(&folder, |number, origin| {
        fs::rename(folder.path("cors"), folder.path(&format!("old{number}"))).unwrap();
        folder.write("cors/a.xml", &policy(origin));
    })
    .await;
}

#[tokio::test]
async fn the_config_itself_is_live() {
    let folder = Folder::new();
    let toml = |number: u32| config(&[("a.example", &format!("cors = '{number}.xml'"))]);
    for number in 0..=20 {
        folder.write(&format!("{number}.xml"), &policy(&origin(number)));
    }
    folder.write("s3cors.toml", &toml(0));
    twenty_times(&folder, |number, _| {
        folder.write("s3cors.toml", &toml(number))
    })
    .await;
}

#[tokio::test]
async fn a_file_that_keeps_changing_does_not_block_the_others() {
    let folder = Folder::new();
    let routes = [
        ("a.example", "cors = 'a.xml'"),
        ("b.example", "buckets = { directory = 'buckets' }"),
    ];
    folder.write("s3cors.toml", &config(&routes));
    folder.write("a.xml", &policy(&origin(0)));
    folder.write("buckets/noise.xml", &policy(&origin(0)));
    let stop = Arc::new(AtomicBool::new(false));
    let noise = {
        let (stop, path) = (Arc::clone(&stop), folder.path("buckets/noise.xml"));
        std::thread::spawn(move || {
            for number in 0.. {
                if stop.load(Ordering::Relaxed) {
                    return;
                }
                fs::write(&path, policy(&origin(number))).unwrap();
                std::thread::yield_now();
            }
        })
    };
    twenty_times(&folder, |_, origin| {
        folder.replace("a.xml", &policy(origin))
    })
    .await;
    stop.store(true, Ordering::Relaxed);
    noise.join().unwrap();
}

/// Files of different generations of a folder are never mixed.
#[test]
fn a_swap_during_a_load_mixes_nothing() {
    let folder = Folder::new();
    let toml = config(&[
        ("a.example", "cors = 'a.xml'"),
        ("b.example", "cors = 'b.xml'"),
    ]);
    let swap = |folder: &Folder, number: u32| {
        let policy = policy(&origin(number));
        let files = [
            ("s3cors.toml", &*toml),
            ("a.xml", &policy),
            ("b.xml", &policy),
        ];
        folder.swap(number, &files);
    };
    swap(&folder, 0);
    let (served, mut reloader) = Served::start(&folder.path("s3cors.toml"), false);
    let mut applied = 0;
    std::thread::scope(|scope| {
        let swapping = scope.spawn(|| (1..=300).for_each(|number| swap(&folder, number)));
        while !swapping.is_finished() {
            if reloader.reload(false) == Outcome::Applied {
                applied += 1;
            }
            let snapshot = served.current.get();
            let [a, b] = &snapshot.routes[..] else {
                panic!("two routes");
            };
            let hash = |route: &Route| route.policies.route.as_ref().unwrap().source.content_hash;
            assert_eq!(hash(a), hash(b));
        }
    });
    reloader.reload(false);
    assert!(served.allows("a.example", &origin(300)));
    assert!(applied > 0);
}

#[tokio::test]
async fn a_forced_reload_is_applied_although_nothing_changed() {
    let folder = Folder::new();
    folder.write("s3cors.toml", &config(&[("a.example", "cors = 'a.xml'")]));
    folder.write("a.xml", &policy(&origin(0)));
    let (served, reloader) = Served::start(&folder.path("s3cors.toml"), false);
    let before = served.route("a.example").unwrap();
    let mut progress = reloader.progress();
    let forced = Arc::new(Notify::new());
    let local = LocalSet::new();
    local.spawn_local(watch(reloader, Arc::clone(&forced)));
    forced.notify_one();
    local.run_until(progress.changed()).await.unwrap();
    let expected = Progress {
        reloads: 1,
        forced: 1,
        generation: 2,
        last: Outcome::Applied,
    };
    assert_eq!(*progress.borrow(), expected);
    assert_eq!(served.metric("s3cors_config_generation"), 2);
    let after = served.route("a.example").unwrap();
    assert!(Arc::ptr_eq(&before.upstreams[0], &after.upstreams[0]));
    let (before, after) = (&before.policies.route, &after.policies.route);
    assert!(Arc::ptr_eq(
        before.as_ref().unwrap(),
        after.as_ref().unwrap()
    ));
}

#[test]
fn an_invalid_policy_leaves_its_route_unchanged_and_other_routes_change() {
    let folder = Folder::new();
    let toml = config(&[
        ("a.example", "cors = 'a.xml'"),
        ("b.example", "cors = 'b.xml'"),
    ]);
    folder.write("s3cors.toml", &toml);
    folder.write("a.xml", &policy(&origin(0)));
    folder.write("b.xml", &policy(&origin(0)));
    let (served, mut reloader) = Served::start(&folder.path("s3cors.toml"), false);
    assert_eq!(reloader.reload(false), Outcome::Unchanged);

    folder.write("a.xml", "<CORSConfiguration>");
    folder.write("b.xml", &policy(&origin(1)));
    assert_eq!(reloader.reload(false), Outcome::InPart);
    assert!(served.allows("a.example", &origin(0)));
    assert!(served.allows("b.example", &origin(1)));
    assert_eq!(served.generation(), 2);
    for (result, count) in [("applied", 0), ("partial", 1), ("rejected", 0)] {
        let series = format!("s3cors_config_reloads_total{{result=\"{result}\"}}");
        assert_eq!(served.metric(&series), count, "{result}");
    }
    assert_eq!(served.metric("s3cors_config_last_reload_successful"), 0);
    let last_error = |host: &str| {
        let route = served.route(host).unwrap();
        route
            .policies
            .route
            .as_ref()
            .unwrap()
            .source
            .last_error
            .clone()
    };
    assert!(last_error("a.example").unwrap().contains("a.xml:1:"));
    assert_eq!(last_error("b.example"), None);

    // The same error again is not reported.
    assert_eq!(reloader.reload(false), Outcome::Unchanged);

    // A missing file is no better than an invalid one.
    fs::remove_file(folder.path("a.xml")).unwrap();
    assert_eq!(reloader.reload(false), Outcome::Rejected);
    assert!(served.allows("a.example", &origin(0)));
    assert_eq!(served.generation(), 2);
    assert!(last_error("a.example").unwrap().contains("No such file"));

    folder.write("a.xml", &policy(&origin(2)));
    assert_eq!(reloader.reload(false), Outcome::Applied);
    assert!(served.allows("a.example", &origin(2)));
    assert!(!served.allows("a.example", &origin(0)));
    assert_eq!(last_error("a.example"), None);
    assert_eq!(served.metric("s3cors_config_last_reload_successful"), 1);
}

#[test]
fn an_invalid_config_changes_nothing() {
    let folder = Folder::new();
    folder.write("s3cors.toml", &config(&[("a.example", "cors = 'a.xml'")]));
    folder.write("a.xml", &policy(&origin(0)));
    let (served, mut reloader) = Served::start(&folder.path("s3cors.toml"), false);
    for broken in ["", "[[route]]", "\u{0}", "workers = 0"] {
        folder.write(
            "s3cors.toml",
            &format!(
                "{}{broken}",
                if broken.is_empty() {
                    String::new()
                } else {
                    config(&[("b.example", "")]) + "\n"
                }
            ),
        );
        assert_eq!(reloader.reload(false), Outcome::Rejected, "{broken}");
        assert!(served.allows("a.example", &origin(0)));
        assert!(served.route("b.example").is_none());
        assert_eq!(served.generation(), 1);
    }
    fs::remove_file(folder.path("s3cors.toml")).unwrap();
    assert_eq!(reloader.reload(false), Outcome::Rejected);
    assert_eq!(
        served.metric("s3cors_config_reloads_total{result=\"rejected\"}"),
        5
    );
}

/// Ways to make a path unreadable, for a test that may run as root.
fn make_unreadable(path: &Path, way: usize) {
    remove(path);
    match way % 4 {
        0 => fs::create_dir(path).unwrap(),
        1 => std::os::unix::fs::symlink("nowhere", path).unwrap(),
        2 => {
            let made = std::process::Command::new("mkfifo").arg(path).status();
            assert!(made.unwrap().success());
        }
        _ => {}
    }
}

fn remove(path: &Path) {
    if path.is_dir() {
        fs::remove_dir(path).unwrap();
    } else if path.symlink_metadata().is_ok() {
        fs::remove_file(path).unwrap();
    }
}

/// Runs a test with a watcher.
async fn watched<F: Future>(folder: &Folder, test: impl FnOnce(Watched) -> F) -> F::Output {
    let (served, reloader) = Served::start(&folder.path("s3cors.toml"), false);
    let progress = reloader.progress();
    let local = LocalSet::new();
    local.spawn_local(watch(reloader, Arc::new(Notify::new())));
    local.run_until(test(Watched { served, progress })).await
}

struct Watched {
    served: Served,
    progress: tokio::sync::watch::Receiver<Progress>,
}

impl Watched {
    /// Waits until the condition holds after some reload.
    async fn until(&mut self, is_so: impl Fn(&Served) -> bool, what: &str) {
        let served = &self.served;
        let so = self.progress.wait_for(|_| is_so(served));
        let so = tokio::time::timeout(PATIENCE, so).await;
        assert!(
            so.is_ok(),
            "{what}: did not happen; {:?}",
            served.reloads.state()
        );
    }
}

#[tokio::test]
async fn a_policy_is_live_whatever_the_state_of_the_config() {
    let broken: [fn(&Path); 7] = [
        |path| fs::write(path, "[").unwrap(),
        |path| fs::write(path, "[[route]]\nhost = 'b.example'\n").unwrap(),
        |path| fs::write(path, [0xff, 0xfe, 0]).unwrap(),
        |path| make_unreadable(path, 0),
        |path| make_unreadable(path, 1),
        |path| make_unreadable(path, 2),
        |path| make_unreadable(path, 3),
    ];
    for (number, break_it) in broken.into_iter().enumerate() {
        let folder = Folder::new();
        let rest = "cors = 'a.xml'\nbuckets = { directory = 'buckets' }";
        let toml = config(&[("a.example", rest)]);
        folder.write("s3cors.toml", &toml);
        folder.write("a.xml", &policy(&origin(0)));
        folder.write("buckets/photos.xml", &policy(&origin(0)));
        watched(&folder, async |mut watched| {
            let path = folder.path("s3cors.toml");
            break_it(&path);
            let is_noticed = |served: &Served| served.out_of_date() == [path.clone()];
            watched.until(is_noticed, &format!("broken {number}")).await;

            folder.write("a.xml", &policy(&origin(1)));
            let is_live = |served: &Served| served.allows("a.example", &origin(1));
            watched.until(is_live, &format!("policy {number}")).await;
            folder.write("buckets/new.xml", &policy(&origin(2)));
            let is_live = |served: &Served| served.bucket("a.example", "new").is_some();
            watched
                .until(is_live, &format!("new bucket {number}"))
                .await;
            fs::remove_file(folder.path("buckets/photos.xml")).unwrap();
            let is_live = |served: &Served| served.bucket("a.example", "photos").is_none();
            watched
                .until(is_live, &format!("bucket gone {number}"))
                .await;
            assert_eq!(watched.served.out_of_date(), std::slice::from_ref(&path));

            remove(&path);
            folder.write(
                "s3cors.toml",
                &format!("{toml}{}", config(&[("c.example", "")])),
            );
            let is_live = |served: &Served| served.route("c.example").is_some();
            watched.until(is_live, &format!("config {number}")).await;
            assert!(watched.served.out_of_date().is_empty());
            assert_eq!(watched.served.metric("s3cors_config_out_of_date"), 0);
        })
        .await;
    }
}

#[tokio::test]
async fn a_folder_that_is_deleted_and_comes_back_is_live() {
    let folder = Folder::new();
    let rest = "cors = 'cors/a.xml'\nbuckets = { directory = 'buckets' }";
    folder.write("s3cors.toml", &config(&[("a.example", rest)]));
    folder.write("cors/a.xml", &policy(&origin(0)));
    folder.write("buckets/photos.xml", &policy(&origin(0)));
    watched(&folder, async |mut watched| {
        for number in 1..=5 {
            let origin = origin(number);
            fs::remove_dir_all(folder.path("buckets")).unwrap();
            fs::remove_dir_all(folder.path("cors")).unwrap();
            let expected = [folder.path("buckets"), folder.path("cors/a.xml")];
            let is_noticed = |served: &Served| served.out_of_date() == expected;
            watched.until(is_noticed, "gone").await;
            // The last good policy stays in force.
            let photos = watched.served.bucket("a.example", "photos");
            assert!(allows(photos.as_ref(), &self::origin(number - 1)));

            // Another folder with the same name, and files in it with old timestamps.
            folder.write("new/photos.xml", &policy(&origin));
            fs::rename(folder.path("new"), folder.path("buckets")).unwrap();
            folder.write("cors/a.xml", &policy(&origin));
            let is_live = |served: &Served| {
                let photos = served.bucket("a.example", "photos");
                allows(photos.as_ref(), &origin)
                    && served.allows("a.example", &origin)
                    && served.out_of_date().is_empty()
            };
            watched.until(is_live, "back").await;
        }
    })
    .await;
}

/// A test's changes of the files, and the expected result.
#[derive(Default)]
struct Model {
    is_config_bad: bool,
    /// The number of the config's last good version.
    config: u32,
    policies: [PolicyModel; 2],
}

#[derive(Default)]
struct PolicyModel {
    is_bad: bool,
    /// The number of the last good version.
    in_force: u32,
}

const NAMES: [&str; 2] = ["a.xml", "b.xml"];
const HOSTS: [&str; 2] = ["a.example", "b.example"];

impl Model {
    /// Changes a file, selected by `random`.
    fn change(&mut self, folder: &Folder, step: u32, random: usize) -> String {
        let (way, which) = (random / 16, random / 8 % 2);
        let config_path = folder.path("s3cors.toml");
        let name = NAMES[which];
        let path = folder.path(name);
        match random % 8 {
            0 => {
                remove(&config_path);
                folder.write("s3cors.toml", "[[route]]\n");
                self.is_config_bad = true;
                "break the config".to_owned()
            }
            1 => {
                make_unreadable(&config_path, way);
                self.is_config_bad = true;
                format!("make the config unreadable {}", way % 4)
            }
            2 | 3 => {
                remove(&config_path);
                folder.write("s3cors.toml", &Self::toml(step));
                self.is_config_bad = false;
                self.config = step;
                "fix the config".to_owned()
            }
            4 => {
                remove(&path);
                folder.write(name, "<CORSConfiguration>");
                self.policies[which].is_bad = true;
                format!("break {name}")
            }
            5 => {
                make_unreadable(&path, way);
                self.policies[which].is_bad = true;
                format!("make {name} unreadable {}", way % 4)
            }
            _ => {
                remove(&path);
                folder.write(name, &policy(&origin(step)));
                self.policies[which] = PolicyModel {
                    is_bad: false,
                    in_force: step,
                };
                format!("edit {name}")
            }
        }
    }

    fn toml(step: u32) -> String {
        config(&[
            (HOSTS[0], "cors = 'a.xml'"),
            (HOSTS[1], "cors = 'b.xml'"),
            (&format!("n{step}.example"), ""),
        ])
    }

    fn is_in_force(&self, served: &Served, folder: &Folder) -> bool {
        let mut out_of_date = Vec::new();
        let mut are_live = served.route(&format!("n{}.example", self.config)).is_some();
        for (number, policy) in self.policies.iter().enumerate() {
            are_live &= served.allows(HOSTS[number], &origin(policy.in_force));
            if policy.is_bad {
                out_of_date.push(folder.path(NAMES[number]));
            }
        }
        if self.is_config_bad {
            out_of_date.push(folder.path("s3cors.toml"));
        }
        let flag = served.metric("s3cors_config_out_of_date");
        are_live
            && served.out_of_date() == out_of_date
            && flag == u64::from(!out_of_date.is_empty())
    }
}

/// Breaks, fixes, edits and makes files unreadable in 100 random orders: after each step the last
/// readable versions are in force, and `/status` names exactly the rest.
#[tokio::test]
async fn every_change_is_live_in_any_order_of_changes_and_failures() {
    const ORDERS: u32 = 100;
    const AT_ONCE: u32 = 25;
    const STEPS: u32 = 8;
    let one = |seed: u32| async move {
        let folder = Folder::new();
        folder.write("s3cors.toml", &Model::toml(0));
        for name in NAMES {
            folder.write(name, &policy(&origin(0)));
        }
        watched(&folder, async |mut watched| {
            let mut model = Model::default();
            let mut done = Vec::new();
            let mut random = u64::from(seed) + 1;
            for step in 1..=STEPS {
                // xorshift64 (Marsaglia, «Xorshift RNGs», 2003).
                random ^= random << 13;
                random ^= random >> 7;
                random ^= random << 17;
                let random = usize::try_from(random >> 32).unwrap();
                done.push(model.change(&folder, step, random));
                let what = format!("order {seed}: {}", done.join(", "));
                let is_so = |served: &Served| model.is_in_force(served, &folder);
                watched.until(is_so, &what).await;
            }
        })
        .await;
    };
    let seeds: Vec<u32> = (0..ORDERS).collect();
    for some in seeds.chunks(usize::try_from(AT_ONCE).unwrap()) {
        let mut running = LocalSet::new();
        for seed in some {
            let seed = *seed;
            running.spawn_local(one(seed));
        }
        (&mut running).await;
    }
}

#[test]
fn buckets_come_and_go_with_their_files() {
    let folder = Folder::new();
    let buckets = "cors = 'route.xml'\nbuckets = { directory = 'buckets' }";
    folder.write("s3cors.toml", &config(&[("a.example", buckets)]));
    folder.write("route.xml", &policy(&origin(0)));
    folder.write("buckets/photos.xml", &policy(&origin(1)));
    folder.write("buckets/.hidden.xml", "none of ours");
    folder.write("buckets/README", "none of ours");
    let (served, mut reloader) = Served::start(&folder.path("s3cors.toml"), false);
    let photos = served.bucket("a.example", "photos").unwrap();
    assert!(allows(Some(&photos), &origin(1)));

    folder.write("buckets/videos.xml", &policy(&origin(2)));
    assert_eq!(reloader.reload(false), Outcome::Applied);
    assert!(allows(
        served.bucket("a.example", "videos").as_ref(),
        &origin(2)
    ));
    assert!(Arc::ptr_eq(
        &photos,
        &served.bucket("a.example", "photos").unwrap()
    ));

    fs::remove_file(folder.path("buckets/videos.xml")).unwrap();
    assert_eq!(reloader.reload(false), Outcome::Applied);
    assert!(served.bucket("a.example", "videos").is_none());

    // New and invalid: nothing changes for the bucket. Known and invalid: the last good one
    // stays.
    folder.write("buckets/music.xml", "<");
    assert_eq!(reloader.reload(false), Outcome::Rejected);
    assert!(served.bucket("a.example", "music").is_none());
    folder.write("buckets/photos.xml", "<");
    assert_eq!(reloader.reload(false), Outcome::Rejected);
    let photos = served.bucket("a.example", "photos").unwrap();
    assert!(allows(Some(&photos), &origin(1)));
    assert!(photos.source.last_error.is_some());

    // The whole folder is gone: the newest files are missing, but the policies stay in force.
    fs::rename(folder.path("buckets"), folder.path("elsewhere")).unwrap();
    assert_eq!(reloader.reload(false), Outcome::Rejected);
    assert!(allows(
        served.bucket("a.example", "photos").as_ref(),
        &origin(1)
    ));
}

/// Enough to be read by several threads.
#[test]
fn thousands_of_buckets_are_all_read_in_order() {
    let folder = Folder::new();
    let route = "buckets = { directory = 'buckets' }";
    let routes = [("a.example", route), ("b.example", route)];
    folder.write("s3cors.toml", &config(&routes));
    for number in 0..5000 {
        folder.write(&format!("buckets/b{number}.xml"), &policy(&origin(number)));
    }
    folder.write("buckets/b1500.xml", "<");
    folder.write("buckets/b4500.xml", "<");
    let loaded = load(&Input::file(folder.path("s3cors.toml")));
    let broken = loaded
        .report
        .diagnostics()
        .iter()
        .map(|there| there.file().unwrap());
    let broken: Vec<_> = broken
        .map(|path| path.file_stem().unwrap().to_owned())
        .collect();
    // Two routes share the folder, and its problems are reported once.
    assert_eq!(broken, ["b1500", "b4500"]);
    assert_eq!(loaded.policy_count(), 2 * 4998);

    folder.write("buckets/b1500.xml", &policy(&origin(1500)));
    folder.write("buckets/b4500.xml", &policy(&origin(4500)));
    let (served, mut reloader) = Served::start(&folder.path("s3cors.toml"), false);
    for number in [0, 1500, 4500, 4999] {
        let bucket = served.bucket("b.example", &format!("b{number}"));
        assert!(allows(bucket.as_ref(), &origin(number)), "{number}");
    }
    assert_eq!(reloader.reload(false), Outcome::Unchanged);
    folder.write("buckets/b4999.xml", &policy(&origin(0)));
    assert_eq!(reloader.reload(false), Outcome::Applied);
    assert!(allows(
        served.bucket("a.example", "b4999").as_ref(),
        &origin(0)
    ));
}

#[test]
fn a_new_route_with_an_invalid_policy_is_omitted() {
    let folder = Folder::new();
    folder.write("s3cors.toml", &config(&[("a.example", "cors = 'a.xml'")]));
    folder.write("a.xml", &policy(&origin(0)));
    let (served, mut reloader) = Served::start(&folder.path("s3cors.toml"), false);
    folder.write("b.xml", "<");
    let toml = config(&[
        ("a.example", "cors = 'a.xml'"),
        ("b.example", "cors = 'b.xml'"),
    ]);
    folder.write("s3cors.toml", &toml);
    assert_eq!(reloader.reload(false), Outcome::Rejected);
    assert!(served.route("b.example").is_none());
    folder.write("b.xml", &policy(&origin(0)));
    assert_eq!(reloader.reload(false), Outcome::Applied);
    assert!(served.allows("b.example", &origin(0)));
}

#[test]
fn a_renamed_route_with_an_invalid_policy_continues_unchanged() {
    let folder = Folder::new();
    folder.write(
        "s3cors.toml",
        &config(&[("a.example", "name = 'one'\ncors = 'a.xml'")]),
    );
    folder.write("a.xml", &policy(&origin(0)));
    let (served, mut reloader) = Served::start(&folder.path("s3cors.toml"), false);
    folder.write("a.xml", "<");
    folder.write(
        "s3cors.toml",
        &config(&[("a.example", "name = 'two'\ncors = 'a.xml'")]),
    );
    assert_eq!(reloader.reload(false), Outcome::InPart);
    assert!(served.allows("a.example", &origin(0)));
    let route = served.route("a.example").unwrap();
    assert_eq!(&*route.name, "two");
}

#[test]
fn with_keep_going_an_invalid_policy_at_the_start_serves_without_cors_and_is_reported() {
    let folder = Folder::new();
    let toml = config(&[
        ("a.example", "cors = 'a.xml'"),
        (
            "b.example",
            "cors = 'b.xml'\nbuckets = { directory = 'buckets' }",
        ),
        (
            "c.example",
            "cors = 'b.xml'\nbuckets = { directory = 'missing' }",
        ),
    ]);
    folder.write("s3cors.toml", &toml);
    folder.write("a.xml", "<");
    folder.write("b.xml", &policy("*"));
    folder.write("buckets/photos.xml", "<");
    let (served, mut reloader) = Served::start(&folder.path("s3cors.toml"), true);
    assert!(!served.allows("a.example", &origin(0)));
    assert!(served.allows("b.example", &origin(0)));
    // Never the route's wider policy instead of a bucket's own.
    let photos = served.bucket("b.example", "photos").unwrap();
    assert!(!allows(Some(&photos), &origin(0)));
    assert!(photos.source.last_error.is_some());
    assert!(!served.allows("c.example", &origin(0)));
    for host in ["a.example", "c.example"] {
        let route = served.route(host).unwrap();
        assert!(
            route
                .policies
                .route
                .as_ref()
                .unwrap()
                .source
                .last_error
                .is_some()
        );
    }

    folder.write("a.xml", &policy(&origin(0)));
    assert_eq!(reloader.reload(false), Outcome::InPart);
    assert!(served.allows("a.example", &origin(0)));
    folder.write("buckets/photos.xml", &policy(&origin(1)));
    fs::create_dir(folder.path("missing")).unwrap();
    assert_eq!(reloader.reload(false), Outcome::Applied);
    assert!(served.allows("c.example", &origin(0)));
    assert!(allows(
        served.bucket("b.example", "photos").as_ref(),
        &origin(1)
    ));
}

/// Certificates follow their files, pair by pair; an invalid pair changes nothing.
#[test]
fn certificates_are_swapped_with_their_files_and_a_broken_pair_keeps_the_last_good_one() {
    let authority = Authority::new();
    let folder = Folder::new();
    let write = |name: &str, pair: &Pair| {
        folder.write(&format!("{name}.crt"), &pair.certificate);
        folder.write(&format!("{name}.key"), &pair.key);
    };
    let [first, second, third] = [(); 3].map(|()| authority.sign(&["a.example"]));
    let other = authority.sign(&["b.example"]);
    write("a", &first);
    write("b", &other);
    let tls = "[[listen]]\naddress = \"127.0.0.1:0\"\n\
         tls = [{ certificate = 'a.crt', key = 'a.key' }, { certificate = 'b.crt', key = 'b.key' }]\n";
    let toml = format!("{tls}{}", config(&[("a.example", "")]));
    folder.write("s3cors.toml", &toml);
    let input = Input::file(folder.path("s3cors.toml"));
    let loaded = load(&input);
    let listener = loaded.config.as_ref().unwrap().server.listeners[0].clone();
    let cell = listener.tls.unwrap();
    let (served, mut reloader) = Served::of(loaded, input, false);
    let chains = || {
        let certificates = cell.current().certificates;
        let chain = |one: &Certificate| one.chain()[0].to_vec();
        certificates.iter().map(chain).collect::<Vec<_>>()
    };
    let expected = |pairs: [&Pair; 2]| pairs.map(|pair| pair.der().to_vec());
    assert_eq!(reloader.reload(false), Outcome::Unchanged);
    assert_eq!(chains(), expected([&first, &other]));

    write("a", &second);
    assert_eq!(reloader.reload(false), Outcome::Applied);
    assert_eq!(chains(), expected([&second, &other]));
    assert_eq!(served.generation(), 2);

    // Half of a change: the new chain with the old key.
    folder.write("a.crt", &third.certificate);
    assert_eq!(reloader.reload(false), Outcome::Rejected);
    assert_eq!(chains(), expected([&second, &other]));
    // Meanwhile the other pair changes.
    let newer = authority.sign(&["b.example"]);
    write("b", &newer);
    assert_eq!(reloader.reload(false), Outcome::InPart);
    assert_eq!(chains(), expected([&second, &newer]));
    folder.write("a.key", &third.key);
    assert_eq!(reloader.reload(false), Outcome::Applied);
    assert_eq!(chains(), expected([&third, &newer]));

    // Unreadable authorities never weaken the check.
    folder.write(
        "s3cors.toml",
        &toml.replace("tls =", "client_ca = 'ca.pem'\ntls ="),
    );
    assert_eq!(reloader.reload(false), Outcome::Rejected);
    assert!(cell.current().clients.is_none());
    folder.write("ca.pem", &authority.pem());
    assert_eq!(reloader.reload(false), Outcome::Applied);
    assert!(cell.current().clients == Some(authority.of_clients()));
    folder.write("ca.pem", "");
    write("b", &other);
    assert_eq!(reloader.reload(false), Outcome::InPart);
    assert!(cell.current().clients == Some(authority.of_clients()));
    assert_eq!(chains(), expected([&third, &other]));
}

#[test]
fn certificates_change_whatever_the_state_of_the_config_and_after_failed_reads() {
    let authority = Authority::new();
    let folder = Folder::new();
    let write = |pair: &Pair| {
        folder.write("a.crt", &pair.certificate);
        folder.write("a.key", &pair.key);
    };
    let [first, second, third] = [(); 3].map(|()| authority.sign(&["a.example"]));
    write(&first);
    folder.write("ca.pem", &authority.pem());
    let tls = "[[listen]]\naddress = \"127.0.0.1:0\"\nclient_ca = 'ca.pem'\n\
         tls = [{ certificate = 'a.crt', key = 'a.key' }]\n";
    let toml = format!("{tls}{}", config(&[("a.example", "")]));
    folder.write("s3cors.toml", &toml);
    let input = Input::file(folder.path("s3cors.toml"));
    let loaded = load(&input);
    let cell = loaded.config.as_ref().unwrap().server.listeners[0]
        .clone()
        .tls
        .unwrap();
    let (served, mut reloader) = Served::of(loaded, input, false);
    let serves =
        |pair: &Pair| cell.current().certificates[0].chain()[0].to_vec() == pair.der().to_vec();

    folder.write("s3cors.toml", "[");
    assert_eq!(reloader.reload(false), Outcome::Rejected);
    write(&second);
    assert_eq!(reloader.reload(false), Outcome::InPart);
    assert!(serves(&second));
    assert_eq!(served.out_of_date(), [folder.path("s3cors.toml")]);

    for name in ["a.crt", "a.key", "ca.pem"] {
        let text = fs::read_to_string(folder.path(name)).unwrap();
        for way in 0..4 {
            make_unreadable(&folder.path(name), way);
            reloader.reload(false);
            assert!(
                serves(&second) && cell.current().clients.is_some(),
                "{name} {way}"
            );
            let expected = [folder.path(name), folder.path("s3cors.toml")];
            assert_eq!(served.out_of_date(), expected, "{way}");
            remove(&folder.path(name));
            folder.write(name, &text);
            reloader.reload(false);
            assert_eq!(served.out_of_date(), [folder.path("s3cors.toml")]);
        }
    }
    write(&third);
    assert_eq!(reloader.reload(false), Outcome::InPart);
    assert!(serves(&third));
    folder.write("s3cors.toml", &toml);
    assert_eq!(reloader.reload(false), Outcome::Applied);
    assert!(served.out_of_date().is_empty());
}

/// With `run --keep-going`, an invalid certificate at the start serves no client.
#[test]
fn a_start_without_readable_authorities_serves_no_certificate() {
    let authority = Authority::new();
    let folder = Folder::new();
    let pair = authority.sign(&["a.example"]);
    folder.write("a.crt", &pair.certificate);
    folder.write("a.key", &pair.key);
    let tls = "[[listen]]\naddress = \"127.0.0.1:0\"\nclient_ca = 'ca.pem'\n\
         tls = [{ certificate = 'a.crt', key = 'a.key' }]\n";
    folder.write(
        "s3cors.toml",
        &format!("{tls}{}", config(&[("a.example", "")])),
    );
    let loaded = load(&Input::file(folder.path("s3cors.toml")));
    assert!(loaded.has_errors());
    let listener = loaded.config.as_ref().unwrap().server.listeners[0].clone();
    assert!(listener.tls.unwrap().current().certificates.is_empty());
}
