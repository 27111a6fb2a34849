//! Identifies the listener that a request arrived on, cheap to compare on the request path.

/// A listener's name in the config, or none.
///
/// Depends on the name alone, so that a route keeps its listeners when a reload reorders them.
/// Changing a listener itself needs a restart.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct ListenerId(u64);

impl ListenerId {
    /// The ID for a name. All listeners without a name share one ID, which no name has.
    #[must_use]
    pub fn of(name: Option<&str>) -> Self {
        let Some(name) = name else { return Self(0) };
        // FNV-1a. The config has few names, and `check` refuses two with the same hash.
        let hash = name.bytes().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
            (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3)
        });
        Self(hash | 1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn listeners_are_distinguished_by_name() {
        let ids = [None, Some("public"), Some("internal"), Some("")].map(ListenerId::of);
        for (index, one) in ids.iter().enumerate() {
            assert_eq!(ids.iter().position(|other| other == one), Some(index));
        }
        assert_eq!(ListenerId::of(Some("public")), ids[1]);
    }
}
