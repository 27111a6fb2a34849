//! What to do about an error that keeps the process from starting.

use std::error::Error;
use std::io;

use crate::admin::BindError;
use crate::server::StartError;

/// What to do next, where that is known.
pub(super) fn after(error: &(dyn Error + 'static)) -> Option<&'static str> {
    if !error.is::<StartError>() && !error.is::<BindError>() {
        return None;
    }
    match error.source()?.downcast_ref::<io::Error>()?.kind() {
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
