//! Which listener a request came over, in a form that is compared on the request path.

/// A listener by its name in the config, or one without a name.
///
/// It is made of the name alone, so that a route keeps its listeners when a reload reorders them;
/// a change of a listener itself needs a restart.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct ListenerId(u64);

impl ListenerId {
    /// The listener of a name; all without one are equal, and equal to none that has one.
    #[must_use]
    pub fn of(name: Option<&str>) -> Self {
        let Some(name) = name else { return Self(0) };
        // FNV-1a. The config has few names, and `check` refuses two that come to the same.
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
    fn listeners_are_told_apart_by_name() {
        let ids = [None, Some("public"), Some("internal"), Some("")].map(ListenerId::of);
        for (index, one) in ids.iter().enumerate() {
            assert_eq!(ids.iter().position(|other| other == one), Some(index));
        }
        assert_eq!(ListenerId::of(Some("public")), ids[1]);
    }
}
