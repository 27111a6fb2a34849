//! What to do about an error that keeps the process from starting.

use std::error::Error;
use std::io;

use crate::admin::BindError;
use crate::server::{Bind, StartError};

/// What to do next, where that is known.
pub(super) fn after(error: &(dyn Error + 'static)) -> Option<&'static str> {
    let address = match error.downcast_ref() {
        Some(StartError::Bind { address, .. }) => address,
        Some(StartError::Thread(_)) => return None,
        None => error.downcast_ref::<BindError>()?.address(),
    };
    let kind = error.source()?.downcast_ref::<io::Error>()?.kind();
    if let Bind::Unix(_) = address {
        return match kind {
            io::ErrorKind::AddrInUse => Some(
                "`ss -lxp` names the process that has it; what is there and is no socket has to go",
            ),
            io::ErrorKind::NotFound | io::ErrorKind::PermissionDenied => Some(
                "its folder has to be there, and the user that s3cors runs as has to be able to \
                 write to it",
            ),
            _ => None,
        };
    }
    match kind {
        io::ErrorKind::AddrInUse => Some(
            "`ss -ltnp` names the process that has it; --listen and --admin choose other addresses",
        ),
        io::ErrorKind::AddrNotAvailable => {
            Some("`ip address` lists this machine's addresses; 0.0.0.0 and [::] are all of them")
        }
        io::ErrorKind::PermissionDenied => Some(
            "take a port above 1023, or have systemd open it: \"systemd:NAME\" (`man s3cors-run`)",
        ),
        _ => None,
    }
}
