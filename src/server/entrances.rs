//! Where the proxy can be reached, for the command lines that an explanation shows.

use crate::explain::{Entrance, EntranceAddress};

use super::{Bind, Bound, ListenerSettings};

impl ListenerSettings {
    /// Where clients connect to the listener; `None`: only systemd knows, or the system chooses.
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
    /// Where clients connect to, with the ports that the system chose.
    #[must_use]
    pub fn entrances(&self) -> Vec<Entrance> {
        let listeners = self.listeners.iter();
        let entrances =
            listeners.filter_map(|(settings, bound)| settings.entrance_at(&bound.address));
        entrances.collect()
    }
}
