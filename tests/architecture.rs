//! The dependency rule: a room uses only the rooms above it, and no files import each other in a
//! cycle.

#![allow(
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    reason = "a failing test may panic"
)]

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

use syn::visit::{self, Visit};
use syn::{Attribute, File, Item, ItemMod, ItemUse, UseTree, Visibility};

/// The rooms, from the lowest to the highest.
const ROOMS: [&str; 17] = [
    "cors",
    "import",
    "text",
    "net",
    "tls",
    "metrics",
    "http1",
    "upstream",
    "routing",
    "telemetry",
    "proxy",
    "bucket_api",
    "explain",
    "server",
    "admin",
    "config",
    "cli",
];

/// The maximum number of lines in a file, without its tests.
const MAX_LINES: usize = 400;

/// A module's path, without `crate`.
type Module = Vec<String>;

/// The paths in a module's file.
#[derive(Debug, Default)]
struct Uses {
    /// The paths that it uses, from the crate's root.
    paths: Vec<Vec<String>>,
    /// What it re-exports, by name.
    reexports: BTreeMap<String, Vec<String>>,
}

/// Collects the paths in one file. `modules` are all modules.
struct Collector<'m> {
    module: Module,
    modules: &'m BTreeSet<Module>,
    uses: Uses,
}

impl Collector<'_> {
    /// A path in the file, from the crate's root; `None`: it leads out of the crate.
    fn absolute(&self, path: &[String]) -> Option<Vec<String>> {
        let mut base = self.module.clone();
        let mut rest = path;
        match path.first()?.as_str() {
            "crate" => {
                base.clear();
                rest = rest.get(1..)?;
            }
            "self" => rest = rest.get(1..)?,
            "super" => {
                while rest.first().is_some_and(|segment| segment == "super") {
                    base.pop();
                    rest = rest.get(1..)?;
                }
            }
            child => {
                base.push(child.to_owned());
                if !self.modules.contains(&base) {
                    return None;
                }
                base.pop();
            }
        }
        base.extend_from_slice(rest);
        Some(base)
    }

    fn add_tree(&mut self, tree: &UseTree, before: &[String], is_reexport: bool) {
        let with = |name: &str| [before, &[name.to_owned()]].concat();
        let (path, name) = match tree {
            UseTree::Path(path) => {
                return self.add_tree(&path.tree, &with(&path.ident.to_string()), is_reexport);
            }
            UseTree::Group(group) => {
                for tree in &group.items {
                    self.add_tree(tree, before, is_reexport);
                }
                return;
            }
            UseTree::Name(name) if name.ident == "self" => {
                (before.to_vec(), before.last().cloned())
            }
            UseTree::Name(name) => (with(&name.ident.to_string()), Some(name.ident.to_string())),
            UseTree::Rename(name) => (with(&name.ident.to_string()), Some(name.rename.to_string())),
            UseTree::Glob(_) => (before.to_vec(), None),
        };
        let Some(path) = self.absolute(&path) else {
            return;
        };
        match name.filter(|_| is_reexport) {
            Some(name) => drop(self.uses.reexports.insert(name, path)),
            None => self.uses.paths.push(path),
        }
    }
}

fn is_for_tests(attributes: &[Attribute]) -> bool {
    attributes.iter().any(|attribute| {
        attribute.path().is_ident("cfg")
            && attribute
                .parse_args::<syn::Ident>()
                .is_ok_and(|word| word == "test")
    })
}

impl<'ast> Visit<'ast> for Collector<'_> {
    fn visit_item(&mut self, item: &'ast Item) {
        let attributes = match item {
            Item::Mod(item) => &item.attrs,
            Item::Use(item) => &item.attrs,
            Item::Fn(item) => &item.attrs,
            _ => return visit::visit_item(self, item),
        };
        if !is_for_tests(attributes) {
            visit::visit_item(self, item);
        }
    }

    fn visit_item_mod(&mut self, item: &'ast ItemMod) {
        if let Some((_, items)) = &item.content {
            self.module.push(item.ident.to_string());
            for item in items {
                self.visit_item(item);
            }
            self.module.pop();
        }
    }

    fn visit_item_use(&mut self, item: &'ast ItemUse) {
        let is_reexport = !matches!(item.vis, Visibility::Inherited);
        self.add_tree(&item.tree, &[], is_reexport);
    }

    fn visit_path(&mut self, path: &'ast syn::Path) {
        let segments = path
            .segments
            .iter()
            .map(|segment| segment.ident.to_string());
        let segments: Vec<String> = segments.collect();
        if segments.len() > 1 && segments.first().is_some_and(|first| first != "Self") {
            self.uses.paths.extend(self.absolute(&segments));
        }
        visit::visit_path(self, path);
    }
}

/// The module of a file below `src`: `proxy/mod.rs` is `proxy`.
fn module_of(file: &str) -> Module {
    let path = file.trim_end_matches(".rs").trim_end_matches("/mod");
    match path {
        "lib" => Vec::new(),
        path => path.split('/').map(str::to_owned).collect(),
    }
}

/// Which files of a crate use which others, by module.
fn graph(files: &BTreeMap<String, String>) -> BTreeMap<Module, BTreeSet<Module>> {
    let modules: BTreeSet<Module> = files.keys().map(|file| module_of(file)).collect();
    let mut uses = BTreeMap::new();
    for (file, text) in files {
        let parsed: File = syn::parse_file(text).unwrap_or_else(|error| panic!("{file}: {error}"));
        let mut collector = Collector {
            module: module_of(file),
            modules: &modules,
            uses: Uses::default(),
        };
        collector.visit_file(&parsed);
        uses.insert(module_of(file), collector.uses);
    }
    uses.iter()
        .map(|(module, of_module)| {
            let used = of_module.paths.iter().map(|path| home(path, &uses));
            (module.clone(), used.filter(|used| used != module).collect())
        })
        .collect()
}

/// The module that defines the target of a path, following re-exports.
fn home(path: &[String], uses: &BTreeMap<Module, Uses>) -> Module {
    let mut path = path.to_vec();
    // More than enough: no re-export passes through this many others.
    for _ in 0..8 {
        let length = (0..=path.len())
            .rev()
            .find(|length| uses.contains_key(&path[..*length]));
        let (module, rest) = path.split_at(length.unwrap_or_default());
        let reexport = rest
            .first()
            .and_then(|name| uses.get(module)?.reexports.get(name));
        match reexport {
            Some(target) => path = [target, &rest[1..]].concat(),
            None => return module.to_vec(),
        }
    }
    panic!("{} is re-exported in a cycle", path.join("::"));
}

/// Every cycle of files in which each uses the next, once.
fn circles(graph: &BTreeMap<Module, BTreeSet<Module>>) -> Vec<String> {
    fn reaches(
        graph: &BTreeMap<Module, BTreeSet<Module>>,
        from: &Module,
        to: &Module,
    ) -> Option<Vec<Module>> {
        let mut before: BTreeMap<&Module, &Module> = BTreeMap::new();
        let mut left = vec![from];
        while let Some(module) = left.pop() {
            for next in graph.get(module).into_iter().flatten() {
                if next == to {
                    let mut way = vec![to.clone(), module.clone()];
                    let mut at = module;
                    while at != from {
                        at = before[at];
                        way.push(at.clone());
                    }
                    way.reverse();
                    return Some(way);
                }
                if next != from && !before.contains_key(next) {
                    before.insert(next, module);
                    left.push(next);
                }
            }
        }
        None
    }
    let mut found = Vec::new();
    let mut seen = BTreeSet::new();
    for module in graph.keys() {
        if seen.contains(module) {
            continue;
        }
        if let Some(circle) = reaches(graph, module, module) {
            seen.extend(circle.iter().cloned());
            let names = circle.iter().map(|module| module.join("::"));
            found.push(names.collect::<Vec<_>>().join(" uses "));
        }
    }
    found
}

/// The violations of the dependency rule in the files of a crate.
fn violations(files: &BTreeMap<String, String>) -> Vec<String> {
    let graph = graph(files);
    let rank = |module: &Module| {
        let room = module.first()?;
        ROOMS.iter().position(|one| one == room)
    };
    let mut found = circles(&graph);
    for (module, used) in &graph {
        for used in used {
            if let (Some(from), Some(to)) = (rank(module), rank(used))
                && to > from
            {
                let (module, used) = (module.join("::"), used.join("::"));
                found.push(format!("{module} uses {used}, which is of a higher room"));
            }
        }
    }
    found
}

fn read(folder: &Path, below: &Path, files: &mut BTreeMap<String, String>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            read(&path, below, files);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            let name = path.strip_prefix(below).unwrap().to_str().unwrap();
            files.insert(name.to_owned(), fs::read_to_string(&path).unwrap());
        }
    }
}

fn sources() -> BTreeMap<String, String> {
    let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut files = BTreeMap::new();
    read(&src, &src, &mut files);
    // The binary uses the library like any other user.
    files.remove("main.rs");
    files
}

#[test]
fn rooms_use_only_rooms_above_them_and_files_have_no_cycles() {
    let files = sources();
    assert!(files.len() > 200, "{}", files.len());
    let found = violations(&files);
    assert!(found.is_empty(), "{}", found.join("\n"));
}

/// The data plane's HTTP/1.1 is our own. hyper serves the admin listener and the demo, and makes
/// the requests of `s3cors probe`: nothing is forwarded there, and the probe must read what
/// browsers read.
#[test]
fn hyper_has_no_http1_in_the_data_plane() {
    let allowed = ["admin/mod.rs", "cli/demo/site.rs", "cli/probe/client.rs"];
    let mut found: Vec<String> = Vec::new();
    for (file, text) in sources() {
        let words: String = text.split_whitespace().collect();
        let is_used = ["server", "client"].iter().any(|side| {
            let path = format!("hyper::{side}::conn::");
            words.match_indices(&path).any(|(at, _)| {
                let rest = &words[at + path.len()..];
                let end = rest.find(';').unwrap_or(rest.len());
                rest.starts_with("http1")
                    || (rest.starts_with('{') && rest[..end].contains("http1"))
            })
        });
        if is_used {
            found.push(file);
        }
    }
    assert_eq!(found, allowed);
}

#[test]
fn every_room_is_in_the_table() {
    let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut rooms = BTreeSet::new();
    for entry in fs::read_dir(src).unwrap() {
        let entry = entry.unwrap();
        if entry.path().is_dir() {
            rooms.insert(entry.file_name().into_string().unwrap());
        }
    }
    assert_eq!(rooms, ROOMS.map(str::to_owned).into());
}

#[test]
fn no_file_is_too_long() {
    let mut found = Vec::new();
    for (file, text) in sources() {
        let code = text.split("#[cfg(test)]\nmod tests {").next();
        let code = code.and_then(|code| code.split("#[cfg(test)]\npub(crate) mod tests {").next());
        let code = code.unwrap_or_default();
        let lines = code.lines().count();
        if lines > MAX_LINES && !file.ends_with("tests.rs") {
            found.push(format!("{file}: {lines} lines"));
        }
    }
    assert!(found.is_empty(), "{}", found.join("\n"));
}

fn planted(files: &[(&str, &str)]) -> Vec<String> {
    let mut sources: BTreeMap<String, String> = [
        ("lib.rs", "pub mod cors; pub mod http1; pub mod proxy;"),
        ("cors/mod.rs", "mod policy; pub use policy::Policy;"),
        ("cors/policy.rs", "pub struct Policy;"),
        (
            "http1/mod.rs",
            "pub(crate) mod fields; pub(crate) mod head;",
        ),
        ("http1/fields.rs", "pub struct Fields;"),
        (
            "http1/head.rs",
            "use super::fields::Fields; pub struct Head(Fields);",
        ),
        (
            "proxy/mod.rs",
            "pub(crate) mod carry; pub(crate) mod state; pub use state::State;",
        ),
        (
            "proxy/state.rs",
            "use crate::cors::Policy; pub struct State(Policy);",
        ),
        (
            "proxy/carry.rs",
            "use super::State; fn carry(_: State, _: crate::http1::head::Head) {}",
        ),
    ]
    .map(|(file, text)| (file.to_owned(), text.to_owned()))
    .into();
    assert_eq!(violations(&sources), Vec::<String>::new());
    for (file, text) in files {
        sources.insert((*file).to_owned(), (*text).to_owned());
    }
    violations(&sources)
}

#[test]
fn a_planted_cycle_is_found() {
    for (file, text) in [
        (
            "http1/fields.rs",
            "use super::head::Head; pub struct Fields(Head);",
        ),
        (
            "http1/fields.rs",
            "pub struct Fields(crate::http1::head::Head);",
        ),
        ("http1/fields.rs", "fn f() { super::head::Head::new(); }"),
        (
            "http1/fields.rs",
            "use super::{head::{self, Head as Other}}; fn f(_: Other) {}",
        ),
        (
            "proxy/state.rs",
            "use crate::proxy::carry; fn f() { carry::carry(); }",
        ),
        (
            "cors/policy.rs",
            "mod inner { use crate::http1::head::Head; }",
        ),
    ] {
        let found = planted(&[(file, text)]);
        assert!(!found.is_empty(), "{text}");
    }
    // Through the code in a room's own mod.rs.
    let found = planted(&[
        (
            "proxy/mod.rs",
            "pub(crate) mod carry; pub(crate) mod state; pub struct Limits; fn f() { carry::carry(); }",
        ),
        (
            "proxy/carry.rs",
            "use super::Limits; pub fn carry(_: Limits) {}",
        ),
    ]);
    assert_eq!(found, ["proxy uses proxy::carry uses proxy"]);
}

#[test]
fn a_planted_use_of_a_higher_room_is_found() {
    for text in [
        "use crate::proxy::State; pub struct Fields(State);",
        "use crate::{proxy, cors}; pub struct Fields;",
        "pub struct Fields(crate::proxy::state::State);",
        "fn f() -> impl Into<crate::proxy::State> { loop {} }",
    ] {
        let found = planted(&[("http1/fields.rs", text)]);
        assert!(
            found.iter().any(|one| one.ends_with("of a higher room")),
            "{text}: {found:?}"
        );
    }
}

#[test]
fn tests_may_use_any_room() {
    let text = "pub struct Fields; #[cfg(test)] mod tests { use crate::proxy::State; }";
    assert_eq!(planted(&[("http1/fields.rs", text)]), Vec::<String>::new());
}
