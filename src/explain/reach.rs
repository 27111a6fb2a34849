//! The routes and buckets that a suggested change applies to: one policy file may decide for
//! many.

use std::fmt;
use std::path::Path;
use std::sync::Arc;

use crate::cors::{Advice, CorsConfiguration, Policy, SuggestedChange};
use crate::routing::bucket::Addressing;
use crate::routing::snapshot::{PolicySource, Route, RoutePolicy, SERVICE_ROOT, Snapshot};

use super::Served;
use super::home::Home;

/// The maximum number of buckets listed by name.
const NAMED_BUCKETS: usize = 5;

/// A part of a route that the changed file applies to.
#[derive(Clone, Debug)]
pub struct Place {
    /// The route.
    pub route: Arc<Route>,
    /// The bucket; `None` for the whole route except buckets with their own file.
    pub bucket: Option<Box<str>>,
    /// The side effect of the change there.
    pub effect: Effect,
    /// Whether paths that begin with the bucket's name lose the route's policy at hosts without a
    /// bucket name, because storage servers could read either from them.
    pub shadows_paths: bool,
}

/// The effect of a changed file on a place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Effect {
    /// It decides.
    Decides,
    /// It replaces another policy: requests that only the other one allows are refused.
    Replaces(String),
    /// The route rejects the file, because it does not know these methods.
    Refused(Vec<String>),
}

impl Place {
    /// Everything that the change in `advice` applies to.
    pub(crate) fn of(snapshot: &Snapshot, served: &Served, advice: &Advice) -> Vec<Self> {
        let (change, extra_method) = match advice {
            Advice::Change(change) => (change, None),
            Advice::ExtraMethod {
                change: Some(change),
                method,
            } => (change, Some(method.as_str())),
            Advice::ExtraMethod { change: None, .. } | Advice::Request(_) | Advice::Nothing => {
                return Vec::new();
            }
        };
        let changed = Changed::new(served, change, extra_method);
        match Home::of(served) {
            None => changed.wherever_its_file_decides(snapshot),
            Some(Home::Bucket { name, .. }) => changed.in_every_folder(snapshot, &name),
            Some(Home::Route(_)) => vec![changed.place(&served.route, None, None)],
            Some(Home::Root(_)) => vec![changed.place(&served.route, Some(SERVICE_ROOT), None)],
            // The contents of the file are unknown.
            Some(Home::Broken { .. }) => Vec::new(),
        }
    }

    /// Whether only one bucket, or a route without buckets, is affected.
    fn is_narrow(&self) -> bool {
        self.bucket.is_some() || self.route.policies.buckets.is_none()
    }
}

/// Whether a change stays within one bucket, or one route without buckets.
pub(crate) fn is_narrow(places: &[Place]) -> bool {
    match places {
        [] => true,
        [only] => only.is_narrow(),
        _ => false,
    }
}

/// The configuration after the change, while its places are collected.
struct Changed<'s> {
    served: &'s Served,
    configuration: CorsConfiguration,
    extra_method: Option<&'s str>,
}

impl<'s> Changed<'s> {
    fn new(served: &'s Served, change: &SuggestedChange, extra_method: Option<&'s str>) -> Self {
        let before = served.policy().and_then(Policy::configuration);
        Self {
            served,
            configuration: change.apply(&before.unwrap_or_default()),
            extra_method,
        }
    }

    fn wherever_its_file_decides(&self, snapshot: &Snapshot) -> Vec<Place> {
        let Some(changed) = &self.served.policy else {
            return Vec::new();
        };
        let mut places = Vec::new();
        for route in &snapshot.routes {
            let has_file = |policy: &&Arc<RoutePolicy>| {
                Arc::ptr_eq(policy, changed) || is_same_file(&policy.source, &changed.source)
            };
            if route.policies.route.as_ref().filter(has_file).is_some() {
                places.push(self.place(route, None, None));
            }
            let buckets = route.policies.buckets.iter();
            let buckets = buckets.flat_map(|buckets| &buckets.policies);
            let mut names: Vec<&str> = buckets
                .filter(|(_, policy)| has_file(policy))
                .map(|(name, _)| &**name)
                .collect();
            names.sort_unstable();
            places.extend(
                names
                    .into_iter()
                    .map(|name| self.place(route, Some(name), None)),
            );
        }
        places
    }

    /// Every route that uses the folder reads a new file in it.
    fn in_every_folder(&self, snapshot: &Snapshot, bucket: &str) -> Vec<Place> {
        let folder = |route: &'s Route| route.policies.buckets.as_ref()?.directory.as_deref();
        let Some(own) = folder(&self.served.route) else {
            return Vec::new();
        };
        let routes = snapshot.routes.iter().filter(|route| {
            let buckets = route.policies.buckets.as_ref();
            let other = buckets.and_then(|buckets| buckets.directory.as_deref());
            other.is_some_and(|other| is_same_path(own, other))
        });
        routes
            .map(|route| {
                let own = route.policies.route.as_deref();
                let buckets = route.policies.buckets.as_ref();
                let by_host = buckets.is_some_and(|one| one.addressing == Addressing::Host);
                let place = self.place(route, Some(bucket), own);
                Place {
                    shadows_paths: by_host && own.is_some(),
                    ..place
                }
            })
            .collect()
    }

    fn place(
        &self,
        route: &Arc<Route>,
        bucket: Option<&str>,
        replaced: Option<&RoutePolicy>,
    ) -> Place {
        let unknown = self.unknown_methods(route);
        let effect = match replaced {
            _ if !unknown.is_empty() => Effect::Refused(unknown),
            Some(policy) => Effect::Replaces(match &policy.source.file {
                Some(file) => file.display().to_string(),
                None => "the route's policy".to_owned(),
            }),
            None => Effect::Decides,
        };
        Place {
            route: Arc::clone(route),
            bucket: bucket.map(Into::into),
            effect,
            shadows_paths: false,
        }
    }

    /// The methods in the changed file that `route` would reject.
    fn unknown_methods(&self, route: &Arc<Route>) -> Vec<String> {
        let policies = &route.policies;
        let buckets = policies.buckets.iter();
        let mut any = policies
            .route
            .iter()
            .chain(&policies.not_enabled)
            .chain(buckets.flat_map(|buckets| buckets.policies.values()));
        let Some(any) = any.next() else {
            return Vec::new();
        };
        // The advice already says that its own route must allow the method.
        let is_own = route.name == self.served.route.name;
        let rules = self.configuration.rules.iter();
        let mut unknown: Vec<String> = rules
            .flat_map(|rule| &rule.allowed_methods)
            .filter(|method| !any.policy.knows_method(method.as_bytes()))
            .filter(|method| !(is_own && self.extra_method == Some(method.as_str())))
            .cloned()
            .collect();
        unknown.sort();
        unknown.dedup();
        unknown
    }
}

fn is_same_file(one: &PolicySource, other: &PolicySource) -> bool {
    let (Some(path), Some(other_path)) = (&one.file, &other.file) else {
        return false;
    };
    // Links are followed only if the contents could be equal: a folder may have thousands of
    // files.
    path == other_path || (one.content_hash == other.content_hash && is_same_path(path, other_path))
}

/// Whether two paths are the same file, even through a link.
fn is_same_path(one: &Path, other: &Path) -> bool {
    let real = |path: &Path| path.canonicalize().ok();
    one == other || real(one).is_some_and(|one| real(other) == Some(one))
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let route = &self.route;
        if self.bucket.as_deref() == Some(SERVICE_ROOT) {
            write!(f, "the service root of route {}", route.name)?;
        } else if let Some(bucket) = &self.bucket {
            write!(f, "bucket {bucket} of route {}", route.name)?;
        } else {
            let hosts: Vec<_> = route.hosts.iter().map(ToString::to_string).collect();
            write!(f, "route {} ({})", route.name, hosts.join(", "))?;
            if let Some(buckets) = &route.policies.buckets {
                f.write_str(match buckets.policies.contains_key(SERVICE_ROOT) {
                    true => ": every bucket",
                    false => ": the service root and every bucket",
                })?;
                let names = buckets.policies.keys().map(|name| &**name);
                let mut own: Vec<&str> = names.filter(|name| *name != SERVICE_ROOT).collect();
                own.sort_unstable();
                match own.len() {
                    0 => {}
                    1..=NAMED_BUCKETS => write!(f, " except {}", own.join(", "))?,
                    count => write!(f, " except the {count} with their own file")?,
                }
            }
        }
        if let Some(bucket) = self.bucket.as_deref().filter(|_| self.shadows_paths) {
            write!(
                f,
                " (and /{bucket} no longer has a policy at hosts without a bucket name)"
            )?;
        }
        match &self.effect {
            Effect::Decides => Ok(()),
            Effect::Replaces(policy) => write!(
                f,
                ", where {policy} decides today: requests that only it allows would be refused"
            ),
            Effect::Refused(methods) => write!(
                f,
                ", which rejects the changed file until its extra_methods has {}",
                methods.join(", ")
            ),
        }
    }
}
