//! The system's limit on open files, which every connection counts against.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use crate::proxy::descriptors;

/// What a connection takes: the client's side and the upstream's.
const A_CONNECTION: u64 = 2;

/// What a process has open beside its connections, amply: listeners, epoll, logs, config watches.
const BESIDE: u64 = 100;

/// Raises the limit on open files as far as the process itself may, and warns where that is not
/// enough for as many `connections`.
///
/// The soft limit is what counts, and is as low as 1024 for the sake of programs that use
/// select(2) (setrlimit(2)); this one does not.
pub(super) fn raise_limit(connections: usize) {
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit {
        current: limit.maximum,
        ..limit
    };
    let current = match setrlimit(Resource::Nofile, raised) {
        Ok(()) => raised.current,
        Err(error) => {
            tracing::debug!(%error, "the limit on open files stays as it is");
            limit.current
        }
    };
    descriptors::set_limit(current);
    if let Some((allowed, needed)) = shortfall(current, connections) {
        tracing::warn!(
            allowed,
            needed,
            "fewer files may be open than `limits.connections` needs, two for each connection: \
             raise LimitNOFILE= of the unit, or `ulimit -Hn`, or lower `limits.connections`"
        );
    }
}

/// How many files may be open, and how many have to, where the first is less. `None` for a limit
/// is none.
fn shortfall(limit: Option<u64>, connections: usize) -> Option<(u64, u64)> {
    let connections = u64::try_from(connections).unwrap_or(u64::MAX);
    let needed = connections
        .saturating_mul(A_CONNECTION)
        .saturating_add(BESIDE);
    limit
        .filter(|allowed| *allowed < needed)
        .map(|allowed| (allowed, needed))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_connection_needs_two_files() {
        assert_eq!(shortfall(Some(1024), 20_000), Some((1024, 40_100)));
        assert_eq!(shortfall(Some(40_099), 20_000), Some((40_099, 40_100)));
        assert_eq!(shortfall(Some(40_100), 20_000), None);
        assert_eq!(shortfall(None, usize::MAX), None);
    }
}
