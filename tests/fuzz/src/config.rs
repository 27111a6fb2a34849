//! Properties of configs, for any input.

use std::collections::HashSet;
use std::path::Path;

use s3cors::config::check_text;

/// A config: parsing never panics; it is either valid or has errors; every error has a place in it
/// and can be shown on a terminal; and a valid config has everything that a proxy needs.
pub fn config(bytes: &[u8]) {
    let (config, report) = check_text(Path::new("s3cors.toml"), bytes);
    assert_eq!(config.is_none(), report.errors() > 0);
    let shown = report.render(false);
    assert!(
        !shown.chars().any(|one| one.is_control() && one != '\n'),
        "{shown:?}"
    );
    let lines = bytes.split(|byte| *byte == b'\n').count();
    for diagnostic in report.diagnostics() {
        let position = diagnostic.position().expect("every problem has its place");
        assert!((1..=lines).contains(&position.line) && position.column > 0);
        assert!(!diagnostic.to_string().contains('\n'));
    }
    assert_eq!(
        report.json().as_array().map(Vec::len),
        Some(report.diagnostics().len())
    );
    let Some(config) = config else {
        return;
    };
    assert!(config.server.workers > 0 && !config.server.listeners.is_empty());
    let (mut hosts, mut names) = (HashSet::new(), HashSet::new());
    for route in &config.routes {
        assert!(!route.hosts.is_empty() && !route.upstreams.is_empty());
        assert!(names.insert(&route.name));
        assert!(route.hosts.iter().all(|host| hosts.insert(host)));
    }
}
