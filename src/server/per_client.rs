//! How many connections each client has.

use std::cell::RefCell;
use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::net::IpAddr;

use crate::routing::client::Client;

/// One worker's count of each client's connections. It knows the clients that have one, so that
/// it is no larger than there are connections.
#[derive(Debug)]
pub(super) struct PerClient {
    most: usize,
    open: RefCell<HashMap<IpAddr, usize>>,
}

/// One of a client's connections, counted until it is dropped.
#[derive(Debug)]
pub(super) struct Counted<'c> {
    clients: &'c PerClient,
    /// `None`: a client that is not counted.
    client: Option<IpAddr>,
}

impl PerClient {
    /// Lets each client have `most` connections.
    pub(super) fn new(most: usize) -> Self {
        Self {
            most,
            open: RefCell::default(),
        }
    }

    /// Counts one more; `None`: the client has as many as it may. Listed proxies, which speak for
    /// many, and who comes over a Unix socket may have any number.
    pub(super) fn count(&self, client: Client) -> Option<Counted<'_>> {
        let address = client.counted();
        if let Some(address) = address {
            let mut open = self.open.borrow_mut();
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
        let mut open = self.clients.open.borrow_mut();
        if let Some(Entry::Occupied(mut count)) = self.client.map(|client| open.entry(client)) {
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

    fn client(address: Option<&str>, trusted: bool) -> Client {
        Client {
            address: address.map(|address| address.parse().unwrap()),
            tls: false,
            trusted,
            listener: Default::default(),
        }
    }

    #[test]
    fn a_client_has_so_many_connections_and_no_more() {
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
        assert!(clients.open.borrow().is_empty());
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
        assert_eq!(clients.open.borrow().len(), 1);
    }
}
