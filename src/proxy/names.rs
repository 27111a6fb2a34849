//! An upstream's name and its addresses: looked up off the request path, and anew before they are
//! too old. Until a new answer is there, the last one is used, and where there is none, it stays
//! in use.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use arc_swap::ArcSwapOption;

/// After how long a name is looked up anew. The system's resolver tells no time to live.
const MAX_AGE: Duration = Duration::from_secs(10);

/// The addresses of one name, shared by all workers.
#[derive(Debug, Default)]
pub(crate) struct Names {
    last: ArcSwapOption<Answer>,
    is_looking: AtomicBool,
}

#[derive(Debug)]
struct Answer {
    addresses: Arc<[SocketAddr]>,
    at: Instant,
}

impl Names {
    /// The addresses of `host`. Only the first time is a look-up waited for.
    ///
    /// # Errors
    ///
    /// What the resolver says, as long as there was no answer yet.
    pub(super) async fn addresses(&self, host: &str, port: u16) -> io::Result<Arc<[SocketAddr]>> {
        match &*self.last.load() {
            Some(answer) => Ok(Arc::clone(&answer.addresses)),
            None => self.ask(look_up(host, port)).await,
        }
    }

    /// Whether it is time to look the name up anew, and nobody does.
    pub(super) fn is_due(&self) -> bool {
        let last = self.last.load();
        let is_old = last
            .as_ref()
            .is_some_and(|last| last.at.elapsed() >= MAX_AGE);
        is_old && !self.is_looking.load(Ordering::Relaxed)
    }

    /// Looks the name up anew, unless somebody does.
    pub(super) async fn refresh(&self, host: &str, port: u16) {
        if self.is_looking.swap(true, Ordering::Relaxed) {
            return;
        }
        if let Err(error) = self.ask(look_up(host, port)).await {
            tracing::warn!(%error, host, "a name cannot be looked up: its last addresses are used");
        }
        self.is_looking.store(false, Ordering::Relaxed);
    }

    async fn ask(
        &self,
        answer: impl Future<Output = io::Result<Vec<SocketAddr>>>,
    ) -> io::Result<Arc<[SocketAddr]>> {
        let addresses: Arc<[_]> = answer.await?.into();
        self.last.store(Some(Arc::new(Answer {
            addresses: Arc::clone(&addresses),
            at: Instant::now(),
        })));
        Ok(addresses)
    }
}

/// Asks the system's resolver, on a thread of its own.
async fn look_up(host: &str, port: u16) -> io::Result<Vec<SocketAddr>> {
    let addresses: Vec<_> = tokio::net::lookup_host((host, port)).await?.collect();
    if addresses.is_empty() {
        return Err(io::Error::new(
            io::ErrorKind::NotFound,
            "the name has no address",
        ));
    }
    Ok(addresses)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(addresses: &[&str]) -> io::Result<Vec<SocketAddr>> {
        Ok(addresses.iter().map(|one| one.parse().unwrap()).collect())
    }

    #[tokio::test]
    async fn an_answer_is_kept_and_a_failed_look_up_changes_nothing() {
        let names = Names::default();
        let failure = || std::future::ready(Err(io::Error::other("no resolver")));
        assert!(names.ask(failure()).await.is_err());
        let first = answer(&["10.0.0.1:80", "10.0.0.2:80"]);
        names.ask(std::future::ready(first)).await.unwrap();
        assert!(names.ask(failure()).await.is_err());
        // A name that no resolver knows: only what was told before can be the answer.
        let kept = names.addresses("name.invalid", 80).await.unwrap();
        assert_eq!(kept[..], answer(&["10.0.0.1:80", "10.0.0.2:80"]).unwrap());
        names.refresh("name.invalid", 80).await;
        assert_eq!(kept, names.addresses("name.invalid", 80).await.unwrap());
    }
}
