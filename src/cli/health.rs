//! `s3cors health`: asks a running process whether it is ready.

use std::io;
use std::io::{Read as _, Write as _};
use std::time::{Duration, Instant};

use clap::Args;

use super::admin_client;
use super::admin_client::{AdminStream, DEFAULT, left, too_late};
use super::manual::Manual;
use super::output::{Failure, NO, YES, complain, print};

pub(super) const MANUAL: Manual = Manual {
    examples: &[
        (
            "The health check of a container, or ExecStartPost of a service",
            "s3cors health",
        ),
        (
            "An admin listener on a Unix socket",
            "s3cors health --admin unix:/run/s3cors/admin.sock",
        ),
    ],
    exit_codes: &[
        ("0", "ready: `/readyz` answers 200"),
        ("1", "starting, draining, or no answer within 5 seconds"),
        ("2", "bad usage"),
    ],
    environment: &[],
    files: &[],
};

/// The time limit for the whole exchange.
const PATIENCE: Duration = Duration::from_secs(5);

/// The longest answer that is read, in bytes.
const MAX_ANSWER: u64 = 4096;

/// Ask a running s3cors whether it serves requests.
///
/// Requests `/readyz` from the admin listener. Use it as the health check of a container without a
/// shell or curl, or as the ExecStartPost of a service.
#[derive(Debug, Args)]
pub(super) struct Health {
    /// The admin listener: ADDRESS:PORT, NAME:PORT or unix:PATH. For an unspecified address such
    /// as 0.0.0.0, the loopback address is used.
    #[arg(
        long,
        env = "S3CORS_ADMIN",
        value_name = "ADDRESS",
        default_value = DEFAULT
    )]
    admin: String,
}

impl Health {
    pub(super) fn execute(self) -> Result<u8, Failure> {
        let admin = self.admin.trim();
        let deadline = Instant::now() + PATIENCE;
        let stream = admin_client::connect(admin, deadline)?;
        let answer = stream.and_then(|stream| ask(stream, deadline));
        let (is_ready, text) = match answer {
            Ok(answer) => answer,
            Err(error) => {
                complain(&format!("s3cors: cannot reach {admin}: {error}\n"));
                return Ok(NO);
            }
        };
        print(&format!("{text}\n"))?;
        Ok(if is_ready { YES } else { NO })
    }
}

/// Sends the request. Returns whether `/readyz` answered 200, and the answer's text.
fn ask(mut stream: Box<dyn AdminStream>, deadline: Instant) -> io::Result<(bool, String)> {
    stream.write_all(b"GET /readyz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")?;
    let mut answer = Vec::new();
    let mut piece = [0; 1024];
    loop {
        stream.limit_reads(Some(left(deadline)?))?;
        let read = match stream.read(&mut piece) {
            Ok(read) => read,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Err(too_late()),
            Err(error) => return Err(error),
        };
        answer.extend_from_slice(piece.get(..read).unwrap_or_default());
        if read == 0 || answer.len() as u64 > MAX_ANSWER {
            break;
        }
    }
    let answer = String::from_utf8_lossy(&answer);
    let (head, body) = answer.split_once("\r\n\r\n").unwrap_or((&answer, ""));
    let status = head
        .strip_prefix("HTTP/1.1 ")
        .and_then(|rest| rest.get(..3));
    match status {
        Some("200") => Ok((true, body.trim().to_owned())),
        Some(status) => Ok((false, format!("{status}: {}", body.trim()))),
        None => Err(io::Error::other(
            "the answer is not from an admin listener of s3cors",
        )),
    }
}
