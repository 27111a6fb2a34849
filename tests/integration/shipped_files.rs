//! The files under `config/` are valid and correct.

use std::fs;
use std::path::{Path, PathBuf};

use s3cors::config::{Config, Input, check_policy_file, load};
use s3cors::config::{Report, RouteConfig};
use s3cors::cors::Options;

fn shipped(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("config")
        .join(name)
}

fn config(path: &Path) -> Config {
    let loaded = load(&Input::file(path));
    assert_eq!(loaded.report.render(false), "", "{}", path.display());
    loaded.config.unwrap()
}

#[test]
fn they_have_no_diagnostics() {
    for name in ["s3cors.toml", "minimal.toml"] {
        config(&shipped(name));
    }
    let mut report = Report::default();
    for entry in fs::read_dir(shipped("cors")).unwrap() {
        let path = entry.unwrap().path();
        if path.is_file() {
            assert!(check_policy_file(&path, &Options::default(), &mut report).is_some());
        }
    }
    assert_eq!(report.render(false), "");
}

#[test]
fn the_minimal_config_has_two_routes_in_ten_lines() {
    let text = fs::read_to_string(shipped("minimal.toml")).unwrap();
    assert!(text.lines().count() <= 10);
    assert_eq!(config(&shipped("minimal.toml")).routes.len(), 2);
}

/// The defaults in `s3cors.toml` are the actual defaults.
#[test]
fn its_defaults_are_the_defaults() {
    let folder = std::env::temp_dir().join(format!("s3cors-defaults-{}", std::process::id()));
    fs::create_dir(&folder).unwrap();
    let bare = folder.join("bare.toml");
    let cors = shipped("cors/public-read.xml");
    let route = "[[route]]\nhost = 'photos.example.com'\nupstream = 'http://127.0.0.1:9000'\n";
    fs::write(&bare, format!("{route}cors = '{}'\n", cors.display())).unwrap();
    let bare = config(&bare);
    let full = config(&shipped("s3cors.toml"));
    fs::remove_dir_all(folder).unwrap();

    // One worker per core, whatever the file says for one machine.
    let cores = std::thread::available_parallelism().unwrap().get();
    assert_eq!(bare.server.workers, cores);
    assert_eq!(full.server.listeners, bare.server.listeners);
    assert_eq!(full.server.limits, bare.server.limits);
    assert_eq!(full.server.drain, bare.server.drain);
    assert_eq!(full.admin, bare.admin);
    assert_eq!(full.access_log, bare.access_log);
    let (full, bare): (&RouteConfig, &RouteConfig) = (&full.routes[0], &bare.routes[0]);
    assert_eq!(full.upstreams, bare.upstreams);
    assert_eq!(full.options, bare.options);
    assert_eq!(full.host_header, bare.host_header);
    assert_eq!(full.forwarding, bare.forwarding);
    assert_eq!(&*bare.name, "photos.example.com");
}
