//! How many connections each client has, over all workers.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::hash::BuildHasher;
use std::net::IpAddr;
#[expect(
    clippy::disallowed_types,
    reason = "locked once when a connection begins and once when it ends, never by a request"
)]
use std::sync::Mutex;
use std::sync::{Arc, MutexGuard, PoisonError};

use foldhash::fast::RandomState;

use crate::routing::client::Client;

/// The number of locks that clients are spread over, so that workers seldom wait for each other.
const SHARDS: usize = 64;

type Counts = HashMap<IpAddr, usize, RandomState>;

/// The connections of each client, counted for all workers together. Only clients with an open connection
/// have an entry.
#[derive(Debug)]
pub(super) struct PerClient {
    most: usize,
    hasher: RandomState,
    #[expect(clippy::disallowed_types, reason = "as above")]
    shards: [Mutex<Counts>; SHARDS],
}

/// One of a client's connections; it counts until dropped.
#[derive(Debug)]
pub(super) struct Counted<'c> {
    clients: &'c PerClient,
    /// `None` for a client that is not counted.
    client: Option<IpAddr>,
}

impl PerClient {
    /// Lets each client have `most` connections.
    pub(super) fn new(most: usize) -> Arc<Self> {
        Arc::new(Self {
            most,
            hasher: RandomState::default(),
            shards: std::array::from_fn(|_| Default::default()),
        })
    }

    /// The counts of some clients, this one's among them.
    fn shard(&self, client: IpAddr) -> Option<MutexGuard<'_, Counts>> {
        let hash = usize::try_from(self.hasher.hash_one(client) % SHARDS as u64).ok()?;
        let shard = self.shards.get(hash)?;
        Some(shard.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Counts another connection; `None` if the client has reached its limit. Listed proxies and
    /// clients on Unix sockets have no limit.
    pub(super) fn count(&self, client: Client) -> Option<Counted<'_>> {
        let address = client.counted();
        if let Some(address) = address {
            let mut open = self.shard(address)?;
            let count = open.entry(address).or_default();
            if *count >= self.most {
                return None;
            }
            *count += 1;
        }
        Some(Counted {
            clients: self,
            client: address,
        })
    }
}

impl Drop for Counted<'_> {
    fn drop(&mut self) {
        let Some(client) = self.client else { return };
        let Some(mut open) = self.clients.shard(client) else {
            return;
        };
        if let Entry::Occupied(mut count) = open.entry(client) {
            *count.get_mut() -= 1;
            if *count.get() == 0 {
                count.remove();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    impl PerClient {
        /// How many clients are known.
        fn known(&self) -> usize {
            let shards = self.shards.iter();
            shards.map(|shard| shard.lock().unwrap().len()).sum()
        }
    }

    #[test]
    fn workers_that_compete_admit_exactly_as_many_as_a_client_may_have() {
        let clients = PerClient::new(7);
        let admit = || {
            let addresses = (0..100).map(|number| format!("192.0.2.{}", number % 10));
            let admitted = addresses.filter_map(|it| clients.count(client(Some(&it), false)));
            admitted.collect::<Vec<_>>()
        };
        let admitted: Vec<_> = std::thread::scope(|scope| {
            let workers: Vec<_> = (0..4).map(|_| scope.spawn(admit)).collect();
            let admitted = workers
                .into_iter()
                .flat_map(|worker| worker.join().unwrap());
            admitted.collect()
        });
        assert_eq!(admitted.len(), 7 * 10);
        assert_eq!(clients.known(), 10);
        drop(admitted);
        assert_eq!(clients.known(), 0);
    }

    fn client(address: Option<&str>, trusted: bool) -> Client {
        Client {
            address: address.map(|address| address.parse().unwrap()),
            tls: false,
            trusted,
            listener: Default::default(),
        }
    }

    #[test]
    fn a_client_has_a_limited_number_of_connections() {
        let clients = PerClient::new(2);
        let one = client(Some("192.0.2.1"), false);
        let first = clients.count(one);
        let second = clients.count(one);
        assert!(first.is_some() && second.is_some());
        assert!(clients.count(one).is_none());
        let other = clients.count(client(Some("192.0.2.2"), false));
        assert!(other.is_some());
        drop(second);
        let again = clients.count(one);
        assert!(again.is_some());
        assert!(clients.count(one).is_none());
        drop((first, again, other));
        assert_eq!(clients.known(), 0);
    }

    #[test]
    fn an_ipv6_client_is_its_network_and_proxies_are_not_counted() {
        let clients = PerClient::new(1);
        let one = clients.count(client(Some("2001:db8::1"), false));
        assert!(one.is_some());
        assert!(
            clients
                .count(client(Some("2001:db8::ffff:2"), false))
                .is_none()
        );
        assert!(
            clients
                .count(client(Some("2001:db8:0:1::1"), false))
                .is_some()
        );
        let proxies = [client(Some("2001:db8::3"), true), client(None, false)];
        let uncounted: Vec<_> = proxies
            .iter()
            .flat_map(|proxy| [clients.count(*proxy), clients.count(*proxy)])
            .collect();
        assert!(uncounted.iter().all(Option::is_some));
        assert_eq!(clients.known(), 1);
    }
}
