//! Where the proxy of a config can be reached.

use crate::proxy::explain::{Entrance, EntranceAddress};
use crate::server::{Bind, ListenerSettings};

/// Where clients connect to a listener; `None`: only systemd knows, or the system chooses.
pub(super) fn entrance(listener: &ListenerSettings) -> Option<Entrance> {
    let address = match &listener.address {
        Bind::Tcp(address) if address.port() == 0 => return None,
        Bind::Tcp(address) => EntranceAddress::Tcp(*address),
        Bind::Unix(path) => EntranceAddress::Unix(path.clone()),
        Bind::Systemd(_) => return None,
    };
    Some(Entrance {
        address,
        tls: listener.tls.is_some(),
        proxy_protocol: listener.proxy_protocol,
    })
}
