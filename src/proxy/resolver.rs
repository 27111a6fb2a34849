//! An upstream's name and its addresses: looked up off the request path, and anew before they are
//! too old. Until a new answer is there, the last one is used, and where there is none, it stays
//! in use.
//!
//! There is one look-up at a time, however many ask: a resolver that is dead from the start would
//! be asked by every request anew, each with a thread of its own.

use std::fs::File;
use std::io;
use std::net::{SocketAddr, ToSocketAddrs};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use arc_swap::ArcSwapOption;
use tokio::sync::Notify;

use super::stream::is_about_descriptors;

/// After how long a name is looked up anew. The system's resolver tells no time to live.
const MAX_AGE: Duration = Duration::from_secs(10);

/// The addresses of one name, shared by all workers.
#[derive(Debug, Default)]
pub(crate) struct Names(Arc<Known>);

#[derive(Debug, Default)]
struct Known {
    last: ArcSwapOption<Answer>,
    /// Why the last look-up failed that did.
    failure: ArcSwapOption<io::Error>,
    is_looking: AtomicBool,
    /// Wakes whoever waits for a look-up.
    looked: Notify,
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
        match self.0.addresses() {
            Some(addresses) => Ok(addresses),
            None => {
                let host = host.to_owned();
                self.ask(move || look_up(&host, port)).await
            }
        }
    }

    /// Looks the name up anew where that is due; nobody waits for it.
    pub(super) fn refresh(&self, host: &str, port: u16) {
        let is_old = |last: &Arc<Answer>| last.at.elapsed() >= MAX_AGE;
        if self.0.last.load().as_ref().is_some_and(is_old) {
            let host = host.to_owned();
            self.look(move || {
                let what = "a name cannot be looked up: its last addresses are used";
                look_up(&host, port).inspect_err(|error| tracing::warn!(%error, host, "{what}"))
            });
        }
    }

    /// What comes of the look-up that is under way, or of one that `resolve` is.
    async fn ask(&self, resolve: impl Resolve) -> io::Result<Arc<[SocketAddr]>> {
        // From here on, the end of a look-up is noticed.
        let looked = self.0.looked.notified();
        self.look(resolve);
        looked.await;
        self.0.addresses().ok_or_else(|| {
            let failure = self.0.failure.load();
            failure.as_ref().map_or_else(
                || io::ErrorKind::NotFound.into(),
                |failure| copy_of(failure),
            )
        })
    }

    /// Has the name looked up, unless it is already. On a thread of its own: it comes to its end
    /// even if nobody waits any longer.
    fn look(&self, resolve: impl Resolve) {
        if self.0.is_looking.swap(true, Ordering::AcqRel) {
            return;
        }
        let looking = Looking(Arc::clone(&self.0));
        tokio::task::spawn_blocking(move || looking.0.learn(resolve()));
    }
}

/// A look-up that is under way, and ends with this: even one that panics or is never begun, or
/// there would be no other.
struct Looking(Arc<Known>);

impl Drop for Looking {
    fn drop(&mut self) {
        self.0.is_looking.swap(false, Ordering::AcqRel);
        self.0.looked.notify_waiters();
    }
}

/// A way to ask for addresses, which may take its time.
trait Resolve: FnOnce() -> io::Result<Vec<SocketAddr>> + Send + 'static {}

impl<F: FnOnce() -> io::Result<Vec<SocketAddr>> + Send + 'static> Resolve for F {}

impl Known {
    fn addresses(&self) -> Option<Arc<[SocketAddr]>> {
        let last = self.last.load();
        last.as_ref().map(|last| Arc::clone(&last.addresses))
    }

    fn learn(&self, outcome: io::Result<Vec<SocketAddr>>) {
        match outcome {
            Ok(addresses) => self.last.store(Some(Arc::new(Answer {
                addresses: addresses.into(),
                at: Instant::now(),
            }))),
            Err(error) => self.failure.store(Some(Arc::new(error))),
        }
    }
}

/// Asks the system's resolver.
fn look_up(host: &str, port: u16) -> io::Result<Vec<SocketAddr>> {
    let nothing = || io::Error::new(io::ErrorKind::NotFound, "the name has no address");
    let found = (host, port).to_socket_addrs().and_then(|found| {
        let addresses: Vec<_> = found.collect();
        (!addresses.is_empty())
            .then_some(addresses)
            .ok_or_else(nothing)
    });
    // Without a descriptor to ask with, the system's resolver may say that there is no such name.
    found.map_err(|error| match File::open("/dev/null") {
        Err(shortage) if is_about_descriptors(&shortage) => shortage,
        _ => error,
    })
}

/// One error for all who wait.
fn copy_of(error: &io::Error) -> io::Error {
    match error.raw_os_error() {
        Some(code) => io::Error::from_raw_os_error(code),
        None => io::Error::new(error.kind(), error.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use std::pin::pin;
    use std::sync::atomic::AtomicUsize;
    use std::sync::mpsc;
    use std::task::{Context, Waker};

    use super::*;

    fn answer(addresses: &[&str]) -> io::Result<Vec<SocketAddr>> {
        Ok(addresses.iter().map(|one| one.parse().unwrap()).collect())
    }

    #[tokio::test]
    async fn an_answer_is_kept_and_a_failed_look_up_changes_nothing() {
        let names = Names::default();
        let failure = || Err(io::Error::other("no resolver"));
        let error = names.ask(failure).await.unwrap_err();
        assert_eq!(error.to_string(), "no resolver");
        let addresses = ["10.0.0.1:80", "10.0.0.2:80"];
        names.ask(move || answer(&addresses)).await.unwrap();
        // A name that no resolver knows: only what was told before can be the answer.
        let kept = names.addresses("name.invalid", 80).await.unwrap();
        assert_eq!(kept[..], answer(&addresses).unwrap());
        assert_eq!(names.ask(failure).await.unwrap(), kept);
        assert_eq!(names.addresses("name.invalid", 80).await.unwrap(), kept);
    }

    #[tokio::test]
    async fn a_look_up_that_panics_is_followed_by_another() {
        let names = Names::default();
        let panics = names.ask(|| panic!("as it should"));
        let told = tokio::time::timeout(Duration::from_secs(20), panics).await;
        let error = told.unwrap().unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::NotFound);
        let addresses = ["10.0.0.1:80"];
        let found = names.ask(move || answer(&addresses)).await.unwrap();
        assert_eq!(found[..], answer(&addresses).unwrap());
    }

    #[tokio::test]
    async fn all_who_wait_share_one_look_up_even_if_the_first_has_left() {
        for outcome in ["10.0.0.1:80", ""] {
            let names = Names::default();
            let (go, going) = mpsc::channel::<()>();
            let looked = Arc::new(AtomicUsize::new(0));
            let ask = |going: Option<mpsc::Receiver<()>>| {
                let looked = Arc::clone(&looked);
                names.ask(move || {
                    looked.fetch_add(1, Ordering::SeqCst);
                    going.unwrap().recv().unwrap();
                    match outcome {
                        "" => Err(io::Error::from_raw_os_error(24)),
                        address => answer(&[address]),
                    }
                })
            };
            let mut cx = Context::from_waker(Waker::noop());
            {
                let first = pin!(ask(Some(going)));
                assert!(first.poll(&mut cx).is_pending());
            }
            let mut waiting: Vec<_> = (0..100).map(|_| Box::pin(ask(None))).collect();
            for one in &mut waiting {
                assert!(one.as_mut().poll(&mut cx).is_pending());
            }
            go.send(()).unwrap();
            for one in waiting {
                match one.await {
                    Ok(addresses) => assert_eq!(addresses[..], answer(&[outcome]).unwrap()),
                    Err(error) => assert_eq!(error.raw_os_error(), Some(24)),
                }
            }
            assert_eq!(looked.load(Ordering::SeqCst), 1);
        }
    }
}
