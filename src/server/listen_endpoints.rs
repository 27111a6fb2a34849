//! The proxy's addresses, for the command lines in an explanation.

use crate::explain::{Entrance, EntranceAddress};

use super::{Bind, Bound, ListenerSettings};

impl ListenerSettings {
    /// The listener's address; `None` if only systemd knows it, or if the system chooses it.
    #[must_use]
    pub fn entrance(&self) -> Option<Entrance> {
        self.entrance_at(&self.address)
    }

    fn entrance_at(&self, address: &Bind) -> Option<Entrance> {
        let address = match address {
            Bind::Tcp(address) if address.port() == 0 => return None,
            Bind::Tcp(address) => EntranceAddress::Tcp(*address),
            Bind::Unix(path) => EntranceAddress::Unix(path.clone()),
            Bind::Systemd(_) => return None,
        };
        Some(Entrance {
            address,
            tls: self.tls.is_some(),
            proxy_protocol: self.proxy_protocol,
        })
    }
}

impl Bound {
    /// The listeners' addresses, with the ports that the system chose.
    #[must_use]
    pub fn entrances(&self) -> Vec<Entrance> {
        let listeners = self.listeners.iter();
        let entrances =
            listeners.filter_map(|(settings, bound)| settings.entrance_at(&bound.address));
        entrances.collect()
    }
}
