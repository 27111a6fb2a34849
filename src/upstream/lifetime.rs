//! How long a connection to an upstream may be used: by the config's limits, the upstream's
//! announcement, and whether its host name still has the address.

use std::time::{Duration, Instant};

use super::endpoint::Upstream;
use super::resolver::ResolvedAddress;

/// The limits on the use of one connection.
#[derive(Clone, Debug)]
pub(crate) struct Lifetime {
    opened: Instant,
    /// `None`: the upstream has no host name.
    resolved: Option<ResolvedAddress>,
    /// How long the upstream announced to keep an idle connection open.
    announced_idle: Option<Duration>,
}

impl Lifetime {
    pub(crate) fn new(resolved: Option<ResolvedAddress>) -> Self {
        Self {
            opened: Instant::now(),
            resolved,
            announced_idle: None,
        }
    }

    /// Whether the connection may carry another request, apart from its idle time.
    ///
    /// Reads the clock only if `upstream_max_age_seconds` is set.
    pub(crate) fn allows_use(&mut self, upstream: &Upstream) -> bool {
        let is_young = match upstream.settings.timeouts.upstream_max_age {
            None => true,
            Some(age) => self.opened.elapsed() < age,
        };
        is_young
            && match (upstream.resolver(), &mut self.resolved) {
                (Some(resolver), Some(resolved)) => resolver.still_has(resolved),
                (None, _) | (_, None) => true,
            }
    }

    /// Whether a connection that has been idle since then may be used.
    ///
    /// Does not read the clock if the pool's eviction, once a second, is precise enough.
    pub(crate) fn allows_use_after(&mut self, idle_since: Instant, upstream: &Upstream) -> bool {
        const SHORT: Duration = Duration::from_secs(5);
        let limit = self.idle_limit(upstream);
        (limit > SHORT || idle_since.elapsed() < limit) && self.allows_use(upstream)
    }

    /// Likewise, with an exact idle time, for eviction.
    pub(crate) fn allows_keeping(&mut self, idle_since: Instant, upstream: &Upstream) -> bool {
        idle_since.elapsed() < self.idle_limit(upstream) && self.allows_use(upstream)
    }

    fn idle_limit(&self, upstream: &Upstream) -> Duration {
        let configured = upstream.settings.timeouts.upstream_idle;
        let announced = self.announced_idle.unwrap_or(configured);
        configured.min(announced)
    }

    /// Reads the value of a response's `Keep-Alive` ([RFC 2068 §19.7.1.1]). The connection is
    /// closed a little earlier than announced, so that a request never races with the upstream's
    /// close.
    ///
    /// [RFC 2068 §19.7.1.1]: https://www.rfc-editor.org/rfc/rfc2068#section-19.7.1.1
    pub(crate) fn read_keep_alive(&mut self, value: &[u8]) {
        const MARGIN: Duration = Duration::from_secs(1);
        if let Some(timeout) = timeout(value) {
            let limit = timeout.saturating_sub(MARGIN.min(timeout / 2));
            self.announced_idle = Some(limit);
        }
    }
}

/// `timeout=N` among a field's parameters.
fn timeout(value: &[u8]) -> Option<Duration> {
    let value = std::str::from_utf8(value).ok()?;
    let parameters = value.split([',', ';']);
    let mut seconds = parameters.filter_map(|parameter| {
        let (name, seconds) = parameter.split_once('=')?;
        let is_timeout = name.trim().eq_ignore_ascii_case("timeout");
        let seconds = seconds.trim().trim_matches('"').parse().ok();
        seconds.filter(|_| is_timeout)
    });
    seconds.next().map(Duration::from_secs)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::upstream::endpoint::{Address, UpstreamSettings};

    #[test]
    fn the_timeout_of_a_keep_alive_field_is_parsed() {
        for (value, seconds) in [
            ("timeout=5", Some(5)),
            ("timeout=5, max=100", Some(5)),
            ("max=100, Timeout = 15", Some(15)),
            ("timeout=\"30\"", Some(30)),
            ("timeout=0", Some(0)),
            ("max=5", None),
            ("timeout=-1", None),
            ("timeout=5s", None),
            ("timeout=99999999999999999999", None),
            ("5", None),
            ("", None),
        ] {
            let expected = seconds.map(Duration::from_secs);
            assert_eq!(timeout(value.as_bytes()), expected, "{value}");
        }
    }

    #[test]
    fn the_shortest_limit_wins() {
        let mut settings = UpstreamSettings::plain(Address::Unix("/none".into()));
        settings.timeouts.upstream_idle = Duration::from_secs(20);
        let upstream = Upstream::new(settings.clone()).unwrap();
        settings.timeouts.upstream_max_age = Some(Duration::from_secs(7));
        let aging = Upstream::new(settings).unwrap();
        let ago = |seconds| {
            Instant::now()
                .checked_sub(Duration::from_secs(seconds))
                .unwrap()
        };
        for (keep_alive, idle, is_kept) in [
            ("", 19, true),
            ("", 21, false),
            ("timeout=5", 3, true),
            ("timeout=5", 5, false),
            ("timeout=1", 1, false),
            ("timeout=60", 19, true),
            ("timeout=60", 21, false),
        ] {
            let mut lifetime = Lifetime::new(None);
            lifetime.read_keep_alive(keep_alive.as_bytes());
            let kept = lifetime.allows_keeping(ago(idle), &upstream);
            assert_eq!(kept, is_kept, "{keep_alive} {idle}");
            if idle < 6 {
                assert_eq!(lifetime.allows_use_after(ago(idle), &upstream), is_kept);
            }
        }
        for (age, is_used) in [(6, true), (8, false)] {
            let mut lifetime = Lifetime::new(None);
            lifetime.opened = ago(age);
            assert!(lifetime.allows_use(&upstream));
            assert_eq!(lifetime.allows_use(&aging), is_used);
        }
    }
}
