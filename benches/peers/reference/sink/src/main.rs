//! The upstream for uploads: discards bodies in the kernel, where that avoids copies, and answers
//! 204. One thread per connection, at most 512.

use std::io::{self, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::fd::AsRawFd;
use std::sync::Arc;

const MAX_HEAD: usize = 1 << 16;
const MAX_CONNECTIONS: usize = 512;
const ANSWER: &[u8] =
    b"HTTP/1.1 204 No Content\r\nServer: sink\r\nETag: \"0\"\r\nX-Upstream: sink\r\n\r\n";

/// A connection, and what was read beyond the last message.
struct Connection {
    stream: TcpStream,
    read: Vec<u8>,
}

#[derive(Default)]
struct Framing {
    length: u64,
    is_chunked: bool,
    waits_for_continue: bool,
}

impl Connection {
    /// `None`: the client has left.
    fn serve_one(&mut self) -> io::Result<Option<()>> {
        let Some(head) = self.read_until(b"\r\n\r\n")? else {
            return Ok(None);
        };
        let framing = Framing::of(&head);
        if framing.waits_for_continue {
            self.stream.write_all(b"HTTP/1.1 100 Continue\r\n\r\n")?;
        }
        if framing.is_chunked {
            self.discard_chunks()?;
        } else {
            self.discard(framing.length)?;
        }
        self.stream.write_all(ANSWER)?;
        Ok(Some(()))
    }

    fn discard_chunks(&mut self) -> io::Result<()> {
        loop {
            let line = self.read_until(b"\r\n")?.unwrap_or_default();
            let line = String::from_utf8_lossy(&line).into_owned();
            let size = line.split(';').next().unwrap_or_default().trim();
            let size = u64::from_str_radix(size, 16).map_err(io::Error::other)?;
            self.discard(size + 2)?;
            if size == 0 {
                return Ok(());
            }
        }
    }

    fn discard(&mut self, length: u64) -> io::Result<()> {
        let known = length.min(self.read.len() as u64);
        self.read.drain(..known as usize);
        let mut left = length - known;
        while left > 0 {
            let wanted = left.min(1 << 20) as usize;
            // SAFETY: with MSG_TRUNC, TCP discards the bytes and never writes to the buffer
            // (tcp(7)).
            let got = unsafe {
                let null = std::ptr::null_mut();
                libc::recv(self.stream.as_raw_fd(), null, wanted, libc::MSG_TRUNC)
            };
            match got {
                0 => return Err(io::ErrorKind::UnexpectedEof.into()),
                got if got < 0 => return Err(io::Error::last_os_error()),
                got => left -= got as u64,
            }
        }
        Ok(())
    }

    fn read_until(&mut self, end: &[u8]) -> io::Result<Option<Vec<u8>>> {
        let mut buffer = [0; 16 * 1024];
        loop {
            if let Some(at) = self.read.windows(end.len()).position(|bytes| bytes == end) {
                return Ok(Some(self.read.drain(..at + end.len()).collect()));
            }
            match self.stream.read(&mut buffer)? {
                0 => return Ok(None),
                _ if self.read.len() > MAX_HEAD => return Err(io::ErrorKind::InvalidData.into()),
                got => self.read.extend_from_slice(&buffer[..got]),
            }
        }
    }
}

impl Framing {
    fn of(head: &[u8]) -> Self {
        let mut framing = Self::default();
        for line in String::from_utf8_lossy(head).to_ascii_lowercase().lines() {
            match line.split_once(':') {
                Some(("content-length", value)) => {
                    framing.length = value.trim().parse().unwrap_or(0)
                }
                Some(("transfer-encoding", value)) => {
                    framing.is_chunked = value.contains("chunked")
                }
                Some(("expect", value)) => framing.waits_for_continue = value.contains("100"),
                _ => {}
            }
        }
        framing
    }
}

fn main() {
    let address = std::env::args().nth(1).expect("usage: sink ADDRESS:PORT");
    let listener = TcpListener::bind(address).expect("the address can be bound");
    let places = Arc::new(());
    for stream in listener.incoming().flatten() {
        if Arc::strong_count(&places) > MAX_CONNECTIONS {
            continue;
        }
        let place = Arc::clone(&places);
        std::thread::spawn(move || {
            let _place = place;
            let _ = stream.set_nodelay(true);
            let read = Vec::with_capacity(MAX_HEAD);
            let mut connection = Connection { stream, read };
            while let Ok(Some(())) = connection.serve_one() {}
        });
    }
}
