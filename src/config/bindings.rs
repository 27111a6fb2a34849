//! Checks which routes are reachable over which listeners.

use std::ops::Range;

use toml::Spanned;

use crate::cors;
use crate::net::listener_id::ListenerId;
use crate::server::Bind;

use super::diagnostic::Diagnostic;
use super::file::Reader;
use super::table::Table;

/// A listener, reduced to what route bindings need.
pub(super) struct Known {
    pub(super) name: Option<Box<str>>,
    pub(super) address: Bind,
    /// Whether clients must present a certificate.
    pub(super) has_client_ca: bool,
}

/// The listeners that a route names; `None` for all.
pub(super) type Bindings = Option<Vec<Spanned<Box<str>>>>;

/// Checks that listeners' names differ.
pub(super) fn check_name(
    name: &Spanned<&str>,
    known: &[(Box<str>, Range<usize>)],
    reader: &mut Reader<'_>,
) {
    if name.get_ref().is_empty() {
        reader.error(
            "invalid-name",
            name.span(),
            "a listener's name must not be empty",
        );
    }
    let id = ListenerId::of(Some(name.get_ref()));
    let same = |(known, _): &&(Box<str>, _)| ListenerId::of(Some(known)) == id;
    if let Some((_, first)) = known.iter().find(same) {
        let message = format!("two listeners are named `{}`", name.get_ref());
        let diagnostic = Diagnostic::error("duplicate-name", message)
            .help("routes select listeners by name; give each its own name")
            .also(reader.file, first.clone(), "first here");
        reader.push(diagnostic, name.span());
    }
}

/// Reads which listeners a route is bound to.
pub(super) fn read(
    table: &mut Table<'_>,
    listeners: &[Known],
    reader: &mut Reader<'_>,
) -> Bindings {
    let place = table.key_span("listen").unwrap_or_else(|| table.span());
    let written = table.strings("listen", reader);
    let message = "a route needs at least one listener";
    let problem = Diagnostic::error("missing-listener", message);
    table.fill("listen", written.as_ref(), problem, reader);
    let bindings: Bindings = written.map(|written| {
        let names = written.into_inner().into_iter();
        names
            .map(|name| Spanned::new(name.span(), (*name.get_ref()).into()))
            .collect()
    });
    check_names(&bindings, listeners, reader);
    warn_of_two_ways(&bindings, place, listeners, reader);
    bindings
}

fn check_names(bindings: &Bindings, listeners: &[Known], reader: &mut Reader<'_>) {
    let names: Vec<&str> = listeners
        .iter()
        .filter_map(|listener| listener.name.as_deref())
        .collect();
    for binding in bindings.iter().flatten() {
        let name = &**binding.get_ref();
        if names.contains(&name) {
            continue;
        }
        let message = format!("no listener is named `{name}`");
        let diagnostic = Diagnostic::error("unknown-listener", message);
        let help = match cors::nearest(name, &names) {
            Some(near) => format!("did you mean `{near}`?"),
            None => format!("add name = \"{name}\" to the listener's [[listen]]"),
        };
        reader.push(diagnostic.help(help), binding.span());
    }
}

/// Warns if a route can be reached with and without a client certificate.
fn warn_of_two_ways(
    bindings: &Bindings,
    place: Range<usize>,
    listeners: &[Known],
    reader: &mut Reader<'_>,
) {
    let is_bound = |listener: &&Known| match bindings {
        None => true,
        Some(names) => names
            .iter()
            .any(|name| listener.name.as_deref() == Some(name.get_ref())),
    };
    let reached = listeners.iter().filter(is_bound);
    let (with, without): (Vec<_>, Vec<_>) = reached.partition(|listener| listener.has_client_ca);
    if let (Some(with), Some(without)) = (with.first(), without.first()) {
        let message = format!(
            "the route is reachable without a client certificate over `{}`, although `{}` requires one",
            without.address, with.address
        );
        let diagnostic = Diagnostic::warning("client-authentication-bypassed", message);
        let help = "give the listeners names, and bind the route to one: listen = [\"NAME\"]";
        reader.push(diagnostic.help(help), place);
    }
}
