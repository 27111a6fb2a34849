//! The memory of unfinished request heads: a budget for all clients together, and for each.
//!
//! A head has to be kept until its end comes, for which a client may take its time. Many clients with
//! large heads that do not end would use up the memory. So the oldest heads are refused when there is
//! no room for more.
//!
//! All workers share the budget. A head that arrives whole does not touch it.

use std::collections::hash_map::Entry;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::IpAddr;
#[expect(
    clippy::disallowed_types,
    reason = "locked only while a head is unfinished, never by a request that arrives whole"
)]
use std::sync::Mutex;
use std::sync::{Arc, MutexGuard, PoisonError};
use std::task::{Context, Waker};

/// The budget of all workers.
#[derive(Debug)]
pub(super) struct HeadBudget {
    /// The limit for all heads, in bytes.
    most: usize,
    /// The limit for one client's heads, in bytes.
    most_of_client: usize,
    #[expect(clippy::disallowed_types, reason = "as above")]
    heads: Mutex<Heads>,
}

#[derive(Debug, Default)]
struct Heads {
    bytes: usize,
    /// The number of the newest head.
    newest: u64,
    by_age: BTreeMap<u64, Head>,
    clients: HashMap<IpAddr, ClientHeads>,
}

#[derive(Debug)]
struct Head {
    bytes: usize,
    client: Option<IpAddr>,
    /// Wakes its connection when the head is refused.
    waker: Waker,
}

/// The heads of one client.
#[derive(Debug, Default)]
struct ClientHeads {
    bytes: usize,
    by_age: BTreeSet<u64>,
}

/// A connection's unfinished head, if any. It counts until it is complete or dropped.
#[derive(Debug)]
pub(super) struct UnfinishedHead {
    budget: Arc<HeadBudget>,
    /// Its number in the order of age.
    number: Option<u64>,
}

impl HeadBudget {
    /// A budget of so many bytes, for all clients and for each.
    pub(super) fn new(most: usize, most_of_client: usize) -> Arc<Self> {
        Arc::new(Self {
            most,
            most_of_client,
            heads: Default::default(),
        })
    }

    /// A connection without a head.
    pub(super) fn connection(self: &Arc<Self>) -> UnfinishedHead {
        UnfinishedHead {
            budget: Arc::clone(self),
            number: None,
        }
    }

    fn heads(&self) -> MutexGuard<'_, Heads> {
        self.heads.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl UnfinishedHead {
    /// Sets the head's size. Refuses the oldest heads beyond the budget: the client's own if it
    /// exceeds its share, otherwise anyone's. `client` is `None` if it is not counted.
    pub(super) fn hold(&mut self, bytes: usize, client: Option<IpAddr>, cx: &Context<'_>) {
        let heads = &mut *self.budget.heads();
        let number = *self.number.get_or_insert_with(|| {
            heads.newest += 1;
            let head = Head {
                bytes: 0,
                client,
                waker: cx.waker().clone(),
            };
            heads.by_age.insert(heads.newest, head);
            heads.newest
        });
        heads.set(number, bytes);
        while client.is_some_and(|client| heads.of_client(client) > self.budget.most_of_client) {
            let oldest = client.and_then(|client| heads.clients.get(&client));
            let oldest = oldest.and_then(|heads| heads.by_age.first().copied());
            heads.refuse(oldest);
        }
        while heads.bytes > self.budget.most {
            let oldest = heads.by_age.keys().next().copied();
            heads.refuse(oldest);
        }
    }

    /// Whether the head has been refused.
    pub(super) fn is_refused(&self) -> bool {
        self.number
            .is_some_and(|number| !self.budget.heads().by_age.contains_key(&number))
    }

    /// The head is complete, or discarded.
    pub(super) fn finish(&mut self) {
        if let Some(number) = self.number.take() {
            let heads = &mut *self.budget.heads();
            heads.set(number, 0);
            heads.by_age.remove(&number);
        }
    }
}

impl Drop for UnfinishedHead {
    fn drop(&mut self) {
        self.finish();
    }
}

impl Heads {
    fn of_client(&self, client: IpAddr) -> usize {
        self.clients.get(&client).map_or(0, |heads| heads.bytes)
    }

    /// Changes a head's size.
    fn set(&mut self, number: u64, bytes: usize) {
        let Some(head) = self.by_age.get_mut(&number) else {
            return;
        };
        let before = std::mem::replace(&mut head.bytes, bytes);
        self.bytes = self.bytes - before + bytes;
        let Some(client) = head.client else {
            return;
        };
        match self.clients.entry(client) {
            Entry::Occupied(mut heads) => {
                let of_client = heads.get_mut();
                of_client.bytes = of_client.bytes - before + bytes;
                if bytes == 0 {
                    of_client.by_age.remove(&number);
                } else {
                    of_client.by_age.insert(number);
                }
                if of_client.by_age.is_empty() {
                    heads.remove();
                }
            }
            Entry::Vacant(heads) if bytes > 0 => {
                let by_age = BTreeSet::from([number]);
                heads.insert(ClientHeads { bytes, by_age });
            }
            Entry::Vacant(_) => {}
        }
    }

    /// Removes a head from the budget, and wakes its connection.
    fn refuse(&mut self, number: Option<u64>) {
        let Some(number) = number else {
            // Every counted head is listed.
            self.bytes = 0;
            return;
        };
        self.set(number, 0);
        if let Some(head) = self.by_age.remove(&number) {
            head.waker.wake();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hold(head: &mut UnfinishedHead, bytes: usize, client: Option<u8>) {
        let client = client.map(|last| IpAddr::from([192, 0, 2, last]));
        head.hold(bytes, client, &Context::from_waker(Waker::noop()));
    }

    #[test]
    fn the_oldest_heads_are_refused_when_there_are_too_many() {
        let budget = HeadBudget::new(100, 1000);
        let mut heads: Vec<_> = (0..4).map(|_| budget.connection()).collect();
        for (head, client) in heads.iter_mut().zip([Some(1), None, Some(2), Some(3)]) {
            hold(head, 30, client);
        }
        let refused: Vec<_> = heads.iter().map(UnfinishedHead::is_refused).collect();
        assert_eq!(refused, [true, false, false, false]);
        // A head that grows keeps its age.
        hold(&mut heads[3], 65, Some(3));
        let refused: Vec<_> = heads.iter().map(UnfinishedHead::is_refused).collect();
        assert_eq!(refused, [true, true, false, false]);
        hold(&mut heads[3], 101, Some(3));
        assert!(heads.iter().all(UnfinishedHead::is_refused));
        heads.iter_mut().for_each(UnfinishedHead::finish);
        hold(&mut heads[0], 100, Some(1));
        assert!(!heads[0].is_refused());
        drop(heads);
        let left = budget.heads();
        assert!(left.bytes == 0 && left.by_age.is_empty() && left.clients.is_empty());
    }

    #[test]
    fn a_client_with_too_much_loses_its_own_heads() {
        let budget = HeadBudget::new(1000, 50);
        let mut other = budget.connection();
        hold(&mut other, 50, Some(1));
        let mut heads: Vec<_> = (0..3).map(|_| budget.connection()).collect();
        for head in &mut heads {
            hold(head, 25, Some(2));
        }
        let refused: Vec<_> = heads.iter().map(UnfinishedHead::is_refused).collect();
        assert_eq!(refused, [true, false, false]);
        hold(&mut heads[2], 51, Some(2));
        assert!(heads.iter().all(UnfinishedHead::is_refused));
        assert!(!other.is_refused());
        // A client that is not counted can use the whole budget.
        let mut proxy = budget.connection();
        hold(&mut proxy, 900, None);
        assert!(!proxy.is_refused() && !other.is_refused());
    }
}
