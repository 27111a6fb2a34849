//! Whether the process serves requests: the state behind `/readyz`.

use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};

/// The phase of the process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// Listeners are bound, but not served yet.
    Starting,
    /// Requests are served.
    Serving,
    /// Connections end; new requests should go elsewhere.
    Draining,
}

impl Phase {
    /// The phase's name in `/readyz` and `/status`.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Starting => "starting",
            Self::Serving => "serving",
            Self::Draining => "draining",
        }
    }
}

/// The phase of the process; clones share it.
#[derive(Clone, Debug)]
pub struct Health(Arc<AtomicU8>);

impl Health {
    /// A starting process.
    #[must_use]
    pub fn new() -> Self {
        Self(Arc::new(AtomicU8::new(Phase::Starting as u8)))
    }

    /// Enters a phase.
    pub fn set(&self, phase: Phase) {
        self.0.store(phase as u8, Ordering::Release);
    }

    /// The phase.
    #[must_use]
    pub fn phase(&self) -> Phase {
        let phase = self.0.load(Ordering::Acquire);
        [Phase::Starting, Phase::Serving]
            .into_iter()
            .find(|known| *known as u8 == phase)
            .unwrap_or(Phase::Draining)
    }
}

impl Default for Health {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_clones_see_the_latest_phase() {
        let health = Health::new();
        assert_eq!(health.phase(), Phase::Starting);
        for phase in [Phase::Serving, Phase::Draining] {
            health.clone().set(phase);
            assert_eq!(health.phase(), phase);
        }
    }
}
