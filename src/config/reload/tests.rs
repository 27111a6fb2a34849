//! Failed reads: the readable files are in force, and the rest follows once it can be read.

use std::fs;
use std::sync::atomic::{AtomicU32, Ordering};

use http::{HeaderMap, Method};
use rustix::io::Errno;

use crate::config::load;
use crate::config::read::failures::inject;
use crate::cors::Decision;
use crate::routing::snapshot::RoutePolicy;

use super::*;

/// A folder with a config, and its served snapshot.
struct Served {
    folder: PathBuf,
    current: Arc<Current>,
    metrics: Arc<Metrics>,
    reloads: Reloads,
    reloader: Reloader,
}

const CONFIG: &str = "[[route]]\nhost = 'a.example'\nupstream = 'http://127.0.0.1:9000'\n\
     cors = 'a.xml'\nbuckets = { directory = 'buckets' }\n\
     [[route]]\nhost = 'b.example'\nupstream = 'http://127.0.0.1:9000'\ncors = 'b.xml'\n";

fn policy(origin: &str) -> String {
    format!(
        "<CORSConfiguration><CORSRule><AllowedOrigin>{origin}</AllowedOrigin>\
         <AllowedMethod>GET</AllowedMethod></CORSRule></CORSConfiguration>"
    )
}

fn write(folder: &Path, name: &str, origin: &str) {
    fs::write(folder.join(name), policy(origin)).unwrap();
}

const POLICIES: [&str; 3] = ["a.xml", "b.xml", "buckets/photos.xml"];

impl Served {
    fn start() -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let name = format!("s3cors-reload-{}-{number}", std::process::id());
        let folder = std::env::temp_dir().join(name);
        fs::create_dir_all(folder.join("buckets")).unwrap();
        fs::write(folder.join("s3cors.toml"), CONFIG).unwrap();
        for name in POLICIES {
            write(&folder, name, "https://old.example");
        }
        let input = Input::file(folder.join("s3cors.toml"));
        let loaded = load(&input);
        let metrics = Metrics::new(1);
        let snapshot = loaded.snapshot(&metrics, None, 1, false).unwrap();
        let current = Arc::new(Current::new(snapshot));
        let (to, of) = (Arc::clone(&current), Arc::clone(&metrics));
        let reloads = Reloads::default();
        let reloader = Reloader::new(input, false, loaded, to, of, reloads.clone()).unwrap();
        Self {
            folder,
            current,
            metrics,
            reloads,
            reloader,
        }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }

    /// Whether the policy of this file allows an origin.
    fn allows(&self, file: &str, origin: &str) -> bool {
        let snapshot = self.current.get();
        let [a, b] = &snapshot.routes[..] else {
            panic!("two routes");
        };
        let policy: &RoutePolicy = match file {
            "a.xml" => a.policies.route.as_ref().unwrap(),
            "b.xml" => b.policies.route.as_ref().unwrap(),
            _ => &a.policies.buckets.as_ref().unwrap().policies["photos"],
        };
        let fields = HeaderMap::from_iter([(http::header::ORIGIN, origin.parse().unwrap())]);
        let decision = policy.policy.decide(&Method::GET, &fields);
        matches!(decision, Decision::Actual(Ok(_)))
    }

    fn out_of_date(&self) -> Vec<PathBuf> {
        let state = self.reloads.state();
        let files = state.out_of_date.into_iter();
        files.map(|file| file.file).collect()
    }

    fn metric(&self, name: &str) -> Option<f64> {
        let text = self.metrics.encode();
        let mut lines = text.lines();
        let value = lines.find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        value.map(|value| value.parse().unwrap())
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.folder);
    }
}

const ERRORS: [Errno; 5] = [
    Errno::MFILE,
    Errno::NFILE,
    Errno::ACCESS,
    Errno::IO,
    Errno::NOMEM,
];

#[test]
fn each_failed_read_leaves_the_other_files_in_force_and_is_retried_until_it_succeeds() {
    for error in ERRORS {
        for failing in [
            "s3cors.toml",
            "a.xml",
            "b.xml",
            "buckets/photos.xml",
            "buckets",
        ] {
            let mut served = Served::start();
            let path = served.path(failing);
            inject(&path, Some(error));
            for name in POLICIES {
                write(&served.folder, name, "https://new.example");
            }
            assert_eq!(served.reloader.reload(false), Outcome::InPart, "{failing}");
            for name in POLICIES {
                let is_new = !name.starts_with(failing);
                let is_served = served.allows(name, "https://new.example");
                assert_eq!(is_served, is_new, "{failing}: {name}");
            }
            assert_eq!(served.out_of_date(), std::slice::from_ref(&path));
            assert_eq!(served.metric("s3cors_config_out_of_date"), Some(1.0));
            assert!(served.reloader.may_pass());

            // While the failure lasts, nothing is logged or counted again.
            assert_eq!(served.reloader.reload(false), Outcome::Unchanged);
            assert!(served.reloader.may_pass());

            inject(&path, None);
            assert_eq!(served.reloader.reload(false), Outcome::Applied, "{failing}");
            for name in POLICIES {
                assert!(
                    served.allows(name, "https://new.example"),
                    "{failing}: {name}"
                );
            }
            assert!(served.out_of_date().is_empty());
            assert_eq!(served.metric("s3cors_config_out_of_date"), Some(0.0));
            assert!(!served.reloader.may_pass());
        }
    }
}

#[test]
fn a_config_that_could_not_be_read_once_does_not_end_the_watch_of_the_policies() {
    let mut served = Served::start();
    let config = served.path("s3cors.toml");
    inject(&config, Some(Errno::MFILE));
    assert_eq!(served.reloader.reload(true), Outcome::Rejected);
    inject(&config, None);
    assert_eq!(served.reloader.reload(false), Outcome::Applied);
    let followed: Vec<_> = served.reloader.files().followed().collect();
    assert!(followed.contains(&&*served.path("a.xml")), "{followed:?}");
    assert!(followed.contains(&&*served.path("buckets")), "{followed:?}");
}

#[test]
fn the_time_out_of_date_runs_from_the_first_failure_and_not_from_the_last() {
    let mut served = Served::start();
    fs::write(served.path("a.xml"), "<").unwrap();
    served.reloader.reload(false);
    let first = served.reloads.state().out_of_date[0].clone();
    let since = served.metric("s3cors_config_out_of_date_since_timestamp_seconds");
    fs::write(served.path("a.xml"), "<CORSConfiguration>").unwrap();
    served.reloader.reload(false);
    let second = served.reloads.state().out_of_date[0].clone();
    assert_eq!(second.since, first.since);
    assert_ne!(second.error, first.error);
    let name = "s3cors_config_out_of_date_since_timestamp_seconds";
    assert_eq!(served.metric(name), since);
    write(&served.folder, "a.xml", "https://new.example");
    served.reloader.reload(false);
    assert_eq!(
        served.metric(name),
        None,
        "absent while everything is in force"
    );
}

#[test]
fn a_reload_that_panicked_is_shown_and_tried_again() {
    let mut served = Served::start();
    served.reloader.panicked();
    assert_eq!(served.out_of_date(), [served.path("s3cors.toml")]);
    assert!(served.reloader.may_pass());
    assert_eq!(served.reloader.reload(false), Outcome::Applied);
    assert!(served.out_of_date().is_empty() && !served.reloader.may_pass());
}

#[test]
fn a_change_of_trusted_proxies_beside_a_bad_policy_is_a_new_generation() {
    let mut served = Served::start();
    fs::write(served.path("a.xml"), "<").unwrap();
    let config = format!("trusted_proxies = ['192.0.2.0/24']\n{CONFIG}");
    fs::write(served.path("s3cors.toml"), config).unwrap();
    assert_eq!(served.reloader.reload(false), Outcome::InPart);
    assert_eq!(served.metric("s3cors_config_generation"), Some(2.0));
    let partial = "s3cors_config_reloads_total{result=\"partial\"}";
    assert_eq!(served.metric(partial), Some(1.0));
    let rejected = "s3cors_config_reloads_total{result=\"rejected\"}";
    assert_eq!(served.metric(rejected), Some(0.0));
}

#[test]
fn replicas_that_serve_the_same_have_the_same_hash_and_others_do_not() {
    let hash = |served: &Served| served.reloads.state().hash;
    let (mut one, mut other) = (Served::start(), Served::start());
    let first = hash(&one);
    assert_eq!(first, hash(&other));
    write(&one.folder, "buckets/photos.xml", "https://new.example");
    one.reloader.reload(false);
    let second = hash(&one);
    assert_ne!(second, first);
    write(&other.folder, "buckets/photos.xml", "https://new.example");
    other.reloader.reload(false);
    assert_eq!(second, hash(&other));
    assert!(
        one.metrics
            .encode()
            .contains(&format!("s3cors_config_info{{hash=\"{second}\"}} 1"))
    );

    // Files that are not in force do not count.
    fs::write(one.path("b.xml"), "<").unwrap();
    fs::write(one.path("s3cors.toml"), "[").unwrap();
    one.reloader.reload(false);
    assert_eq!(second, hash(&one));
    // Any change of the config counts.
    fs::write(other.path("s3cors.toml"), format!("{CONFIG}# more\n")).unwrap();
    other.reloader.reload(false);
    assert_ne!(second, hash(&other));
}

#[test]
fn keys_that_wait_for_a_restart_are_shown_until_they_have_their_initial_values() {
    let mut served = Served::start();
    let write = |served: &Served, text: &str| {
        fs::write(served.path("s3cors.toml"), format!("{text}{CONFIG}")).unwrap();
    };
    write(&served, "workers = 7\n[limits]\nconnections = 9\n");
    served.reloader.reload(false);
    assert_eq!(served.metric("s3cors_config_restart_needed"), Some(1.0));
    let keys = served.reloads.state().restart_needed_for;
    assert_eq!(keys, ["workers", "limits"]);
    assert_eq!(served.metric("s3cors_config_out_of_date"), Some(0.0));
    // An invalid config does not clear it.
    fs::write(served.path("s3cors.toml"), "[").unwrap();
    served.reloader.reload(false);
    assert_eq!(served.metric("s3cors_config_restart_needed"), Some(1.0));
    write(&served, "");
    served.reloader.reload(false);
    assert_eq!(served.metric("s3cors_config_restart_needed"), Some(0.0));
}

/// Without events from the system (a file server, no watches left), a change within one tick of
/// the file system's clock must still be found.
#[test]
fn a_file_that_was_just_written_is_read_once_more_but_not_an_unreadable_one() {
    let mut served = Served::start();
    assert!(served.reloader.may_differ(), "all files are new");

    // Old files, as far as the program can know; only the unreadable ones are left.
    let file = |name: &str| {
        served
            .reloader
            .files()
            .policy(&served.path(name), &[])
            .cloned()
    };
    assert!(POLICIES.iter().all(|name| file(name).unwrap().may_differ()));
    fs::remove_file(served.path("a.xml")).unwrap();
    fs::create_dir(served.path("a.xml")).unwrap();
    fs::remove_file(served.path("b.xml")).unwrap();
    served.reloader.reload(false);
    let file = |name: &str| {
        served
            .reloader
            .files()
            .policy(&served.path(name), &[])
            .cloned()
    };
    assert!(!file("a.xml").unwrap().may_differ() && !file("b.xml").unwrap().may_differ());
    assert!(!served.reloader.may_pass());
}
