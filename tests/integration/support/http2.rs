//! A scripted upstream that speaks HTTP/2 frame by frame, so that it can send what no library
//! would.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::thread;

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

pub(crate) const DATA: u8 = 0;
pub(crate) const HEADERS: u8 = 1;
pub(crate) const RST_STREAM: u8 = 3;
pub(crate) const SETTINGS: u8 = 4;
pub(crate) const PING: u8 = 6;
pub(crate) const GOAWAY: u8 = 7;

/// On HEADERS and DATA.
pub(crate) const END_STREAM: u8 = 1;
/// On HEADERS.
pub(crate) const END_HEADERS: u8 = 4;
/// On SETTINGS and PING.
const ACK: u8 = 1;

/// A frame of a request, as received.
#[derive(Clone, Debug)]
pub(crate) struct Frame {
    /// The number of the upstream's connection, from 0 on.
    pub(crate) connection: usize,
    pub(crate) kind: u8,
    pub(crate) flags: u8,
    pub(crate) stream: u32,
    pub(crate) payload: Vec<u8>,
}

impl Frame {
    /// Whether the request ends with it.
    pub(crate) fn ends(&self) -> bool {
        self.flags & END_STREAM != 0
    }
}

/// The bytes of a frame.
pub(crate) fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
    let mut bytes = length[1..].to_vec();
    bytes.extend([kind, flags]);
    bytes.extend(stream.to_be_bytes());
    bytes.extend(payload);
    bytes
}

/// A head: a status and fields as literals (RFC 7541 §6.2.2).
pub(crate) fn head(flags: u8, stream: u32, status: &str, fields: &[(&str, &str)]) -> Vec<u8> {
    let mut block = Vec::new();
    for (name, value) in [(":status", status)].iter().chain(fields) {
        block.push(0);
        for text in [name, value] {
            block.push(u8::try_from(text.len()).unwrap());
            block.extend(text.as_bytes());
        }
    }
    frame(HEADERS, flags | END_HEADERS, stream, &block)
}

/// A complete response.
pub(crate) fn response(stream: u32, body: &str) -> Vec<u8> {
    let mut bytes = head(0, stream, "200", &[]);
    bytes.extend(frame(DATA, END_STREAM, stream, body.as_bytes()));
    bytes
}

pub(crate) fn reset(stream: u32, code: u32) -> Vec<u8> {
    frame(RST_STREAM, 0, stream, &code.to_be_bytes())
}

pub(crate) fn go_away(last: u32, code: u32) -> Vec<u8> {
    let payload = [last.to_be_bytes(), code.to_be_bytes()].concat();
    frame(GOAWAY, 0, 0, &payload)
}

/// Starts an upstream that responds to each frame of a request with the result of `script`; with
/// `None`, it closes the connection.
pub(crate) fn scripted(
    script: impl Fn(&Frame) -> Option<Vec<u8>> + Send + Sync + 'static,
) -> SocketAddr {
    writing(move |frame, stream| match script(frame) {
        Some(answer) => stream.write_all(&answer).map(|()| true),
        None => Ok(false),
    })
}

/// Starts an upstream whose `script` writes its responses itself; with false, it closes the
/// connection.
pub(crate) fn writing(
    script: impl Fn(&Frame, &mut TcpStream) -> io::Result<bool> + Send + Sync + 'static,
) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let script = Arc::new(script);
    thread::spawn(move || {
        for (connection, stream) in listener.incoming().flatten().enumerate() {
            let script = Arc::clone(&script);
            // The test notices if the proxy leaves.
            thread::spawn(move || serve(stream, connection, &*script));
        }
    });
    address
}

fn serve(
    mut stream: TcpStream,
    connection: usize,
    script: &dyn Fn(&Frame, &mut TcpStream) -> io::Result<bool>,
) -> io::Result<()> {
    let mut preface = [0; PREFACE.len()];
    stream.read_exact(&mut preface)?;
    assert_eq!(preface, PREFACE);
    stream.write_all(&frame(SETTINGS, 0, 0, b""))?;
    loop {
        let mut head = [0; 9];
        stream.read_exact(&mut head)?;
        let length = u32::from_be_bytes([0, head[0], head[1], head[2]]);
        let mut payload = vec![0; length as usize];
        stream.read_exact(&mut payload)?;
        let (kind, flags) = (head[3], head[4]);
        match kind {
            SETTINGS | PING if flags & ACK == 0 => {
                let echo = if kind == PING { &payload[..] } else { b"" };
                stream.write_all(&frame(kind, ACK, 0, echo))?;
            }
            HEADERS | DATA => {
                let asked = Frame {
                    connection,
                    kind,
                    flags,
                    stream: u32::from_be_bytes([head[5], head[6], head[7], head[8]]),
                    payload,
                };
                if !script(&asked, &mut stream)? {
                    return Ok(());
                }
            }
            _ => {}
        }
    }
}
