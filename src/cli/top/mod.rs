//! `s3cors top`: shows CORS requests in a terminal as they happen.

mod feed;
mod screen;
mod terminal;
mod view;

use std::time::{Duration, Instant};

use clap::Args;

use super::admin_client::{DEFAULT, connect};
use super::manual::Manual;
use super::output::{Failure, NO, YES, complain, print};

use feed::Feed;
use view::View;

pub(super) const MANUAL: Manual = Manual {
    examples: &[
        ("The process on this machine", "s3cors top"),
        (
            "Once, for a script or a ticket",
            "s3cors top --once --admin unix:/run/s3cors/admin.sock",
        ),
    ],
    exit_codes: &[
        ("0", "quit with q, or printed"),
        (
            "1",
            "the admin listener is unreachable, already has 8 viewers, or closed the stream",
        ),
        ("2", "bad usage"),
    ],
    environment: &[],
    files: &[],
};

/// The time limit for the first answer.
const PATIENCE: Duration = Duration::from_secs(5);

/// Show refused CORS requests as they happen.
///
/// Follows /cors/live of the admin listener: refused requests with their reasons, allowed
/// origins, outcomes per minute, and files that are not in force. Keys: up and down select a
/// group of refused requests, whose reason is shown below; p pauses; q quits.
#[derive(Debug, Args)]
pub(super) struct Top {
    /// The admin listener: ADDRESS:PORT, NAME:PORT or unix:PATH.
    #[arg(
        long,
        env = "S3CORS_ADMIN",
        value_name = "ADDRESS",
        default_value = DEFAULT
    )]
    admin: String,
    /// Print the current state, and exit.
    #[arg(long)]
    once: bool,
}

impl Top {
    pub(super) fn execute(self) -> Result<u8, Failure> {
        let admin = self.admin.trim();
        let deadline = Instant::now() + PATIENCE;
        let stream = connect(admin, deadline)?;
        let joined = stream.and_then(|stream| Feed::join(stream, deadline));
        let (feed, snapshot) = match joined {
            Ok(joined) => joined,
            Err(error) => {
                complain(&format!("s3cors: cannot watch {admin}: {error}\n"));
                return Ok(NO);
            }
        };
        let mut view = View::new(admin);
        view.take(&snapshot);
        if self.once {
            print(&view.to_text())?;
            return Ok(YES);
        }
        match terminal::show(&mut view, feed) {
            Ok(()) => Ok(YES),
            Err(error) => {
                complain(&format!("s3cors: {admin}: {error}\n"));
                Ok(NO)
            }
        }
    }
}
