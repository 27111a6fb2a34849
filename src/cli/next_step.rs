//! Advice for errors that prevent a start.

use std::error::Error;
use std::io;

use crate::admin::BindError;
use crate::server::{Bind, StartError};

/// The next step, if it is known.
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
                "`ss -lxp` shows the process that uses it; if the file is not a socket, remove it",
            ),
            io::ErrorKind::NotFound | io::ErrorKind::PermissionDenied => Some(
                "its folder must exist, and the user that s3cors runs as must be able to write to it",
            ),
            _ => None,
        };
    }
    match kind {
        io::ErrorKind::AddrInUse => Some(
            "`ss -ltnp` shows the process that uses it; --listen and --admin set other addresses",
        ),
        io::ErrorKind::AddrNotAvailable => Some(
            "`ip address` lists this machine's addresses; 0.0.0.0 and [::] stand for all of them",
        ),
        io::ErrorKind::PermissionDenied => Some(
            "use a port above 1023, or let systemd open it: \"systemd:NAME\" (`man s3cors-run`)",
        ),
        _ => None,
    }
}
