//! The PROXY protocol, versions 1 and 2: a load balancer sends the client's address first.
//!
//! Reads exactly the header, so that the following bytes (TLS, HTTP) start where they should.
//! Anything but a header in [the specification]'s exact form ends the connection: with a guess,
//! bytes of a header could be taken for a request.
//!
//! [the specification]: https://www.haproxy.org/download/3.2/doc/proxy-protocol.txt

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use tokio::io::{AsyncRead, AsyncReadExt};

/// The start of version 2; version 1 is never shorter.
const SIGNATURE: &[u8; 12] = b"\r\n\r\n\0\r\nQUIT\n";

/// The longest line of version 1, including its line end.
const LONGEST_LINE: usize = 107;

/// The longest version 2 header, without its first 16 bytes: the addresses, and some extensions,
/// which are ignored.
const LONGEST_BLOCK: usize = 4096;

/// The source of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ProxySource {
    /// The balancer itself (a health check) or unknown: the socket's address applies.
    Socket,
    /// This client.
    Address(IpAddr),
    /// A client on the balancer's machine, over a Unix socket.
    Unix,
}

/// Reads a header.
///
/// # Errors
///
/// The socket's error, or [`io::ErrorKind::InvalidData`] for an invalid header.
pub(super) async fn read<S: AsyncRead + Unpin>(stream: &mut S) -> io::Result<ProxySource> {
    let mut start = [0; SIGNATURE.len()];
    stream.read_exact(&mut start).await?;
    if start == *SIGNATURE {
        let [command, family, high, low] = {
            let mut rest = [0; 4];
            stream.read_exact(&mut rest).await?;
            rest
        };
        let length = usize::from(u16::from_be_bytes([high, low]));
        if length > LONGEST_BLOCK {
            return Err(invalid());
        }
        let mut block = vec![0; length];
        stream.read_exact(&mut block).await?;
        return version_2(command, family, &block).ok_or_else(invalid);
    }
    if !start.starts_with(b"PROXY ") {
        return Err(invalid());
    }
    let mut line = Vec::with_capacity(LONGEST_LINE);
    line.extend_from_slice(&start);
    while !line.ends_with(b"\r\n") {
        // Unless the line ends with CR, at least two bytes are missing.
        let mut next = [0; 2];
        let missing = if line.ends_with(b"\r") { 1 } else { 2 };
        let next = next.get_mut(..missing).unwrap_or_default();
        stream.read_exact(next).await?;
        line.extend_from_slice(next);
        if line.len() > LONGEST_LINE {
            return Err(invalid());
        }
    }
    version_1(&line).ok_or_else(invalid)
}

fn invalid() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, "not a PROXY protocol header")
}

/// `PROXY TCP4 192.0.2.1 198.51.100.1 56324 443`, with its CRLF.
fn version_1(line: &[u8]) -> Option<ProxySource> {
    let line = std::str::from_utf8(line).ok()?.strip_suffix("\r\n")?;
    if line.contains(['\r', '\n']) {
        return None;
    }
    let line = line.strip_prefix("PROXY ")?;
    if line == "UNKNOWN" || line.starts_with("UNKNOWN ") {
        // The rest of the line is ignored.
        return Some(ProxySource::Socket);
    }
    let mut words = line.split(' ');
    let family = words.next()?;
    let (source, destination) = (words.next()?, words.next()?);
    let (from, to) = (words.next()?, words.next()?);
    if words.next().is_some() || !is_port(from) || !is_port(to) {
        return None;
    }
    let address = match family {
        "TCP4" => {
            destination.parse::<Ipv4Addr>().ok()?;
            source.parse::<Ipv4Addr>().ok()?.into()
        }
        "TCP6" => {
            destination.parse::<Ipv6Addr>().ok()?;
            source.parse::<Ipv6Addr>().ok()?.into()
        }
        _ => return None,
    };
    Some(ProxySource::Address(address))
}

fn is_port(text: &str) -> bool {
    let digits = text.bytes().all(|byte| byte.is_ascii_digit());
    let plain = text == "0" || !text.starts_with('0');
    digits && plain && text.parse::<u16>().is_ok()
}

/// Parses a command and version, a family and transport, and the addresses that they require.
fn version_2(command: u8, family: u8, block: &[u8]) -> Option<ProxySource> {
    match command {
        // LOCAL: the rest is ignored.
        0x20 => return Some(ProxySource::Socket),
        0x21 => {}
        _ => return None,
    }
    match family {
        0x00 => Some(ProxySource::Socket),
        0x11 => {
            let (addresses, _) = block.split_first_chunk::<12>()?;
            let source = addresses.first_chunk::<4>()?;
            Some(ProxySource::Address(Ipv4Addr::from(*source).into()))
        }
        0x21 => {
            let (addresses, _) = block.split_first_chunk::<36>()?;
            let source = addresses.first_chunk::<16>()?;
            Some(ProxySource::Address(Ipv6Addr::from(*source).into()))
        }
        0x31 => block.split_first_chunk::<216>().map(|_| ProxySource::Unix),
        // Datagrams do not come over a stream; the other values are unassigned.
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Parses a header; also returns the remaining bytes.
    fn read_all(mut bytes: &[u8]) -> (io::Result<ProxySource>, &[u8]) {
        let runtime = tokio::runtime::Builder::new_current_thread().build();
        let result = runtime.unwrap().block_on(read(&mut bytes));
        (result, bytes)
    }

    fn version_2_of(command: u8, family: u8, block: &[u8]) -> Vec<u8> {
        let length = u16::try_from(block.len()).unwrap().to_be_bytes();
        let mut header = SIGNATURE.to_vec();
        header.extend([command, family]);
        header.extend(length);
        header.extend(block);
        header
    }

    #[test]
    fn headers_are_read_to_their_last_byte() {
        let four = ProxySource::Address("192.0.2.1".parse().unwrap());
        let six = ProxySource::Address("2001:db8::1".parse().unwrap());
        let mut block_6 = [0; 36];
        block_6[..4].copy_from_slice(&[0x20, 0x01, 0x0d, 0xb8]);
        block_6[15] = 1;
        let block_4 = [192, 0, 2, 1, 198, 51, 100, 1, 0, 80, 1, 187];
        let extended = [&block_4[..], &[0x04, 0, 1, 0]].concat();
        let longest = format!("PROXY UNKNOWN {}\r\n", "x".repeat(LONGEST_LINE - 16));
        for (header, expected) in [
            (
                b"PROXY TCP4 192.0.2.1 198.51.100.1 56324 443\r\n".to_vec(),
                four,
            ),
            (b"PROXY TCP6 2001:db8::1 ::1 0 65535\r\n".to_vec(), six),
            (b"PROXY UNKNOWN\r\n".to_vec(), ProxySource::Socket),
            (
                b"PROXY UNKNOWN ffff::1 ffff::2 1 2\r\n".to_vec(),
                ProxySource::Socket,
            ),
            (longest.into_bytes(), ProxySource::Socket),
            (version_2_of(0x21, 0x11, &block_4), four),
            (version_2_of(0x21, 0x11, &extended), four),
            (version_2_of(0x21, 0x21, &block_6), six),
            (version_2_of(0x21, 0x31, &[b'/'; 216]), ProxySource::Unix),
            (version_2_of(0x21, 0x00, &[]), ProxySource::Socket),
            (version_2_of(0x20, 0x00, &[]), ProxySource::Socket),
            (version_2_of(0x20, 0x11, &block_4), ProxySource::Socket),
            (
                version_2_of(0x20, 0xff, &[0; LONGEST_BLOCK]),
                ProxySource::Socket,
            ),
        ] {
            let bytes = [&header[..], b"GET /"].concat();
            let (found, rest) = read_all(&bytes);
            let shown = String::from_utf8_lossy(&header);
            assert_eq!(found.unwrap(), expected, "{shown}");
            assert_eq!(rest, b"GET /", "{shown}");
            for length in 0..header.len() {
                let error = read_all(&header[..length]).0.unwrap_err();
                assert_eq!(error.kind(), io::ErrorKind::UnexpectedEof, "{shown}");
            }
        }
    }

    #[test]
    fn anything_but_an_exact_header_is_rejected() {
        let block = [192, 0, 2, 1, 198, 51, 100, 1, 0, 80, 1, 187];
        let too_long = format!("PROXY UNKNOWN {}\r\n", "x".repeat(LONGEST_LINE - 15));
        let mut damaged = version_2_of(0x21, 0x11, &block);
        damaged[4] = 1;
        for header in [
            b"GET / HTTP/1.1\r\nHost: a\r\n\r\n".to_vec(),
            b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\x00".to_vec(),
            b"proxy TCP4 192.0.2.1 198.51.100.1 1 2\r\n".to_vec(),
            b"PROXY  TCP4 192.0.2.1 198.51.100.1 1 2\r\n".to_vec(),
            b"PROXY TCP4 192.0.2.1 198.51.100.1 1 2 \r\n".to_vec(),
            b"PROXY TCP4 192.0.2.1 198.51.100.1 1 2 3\r\n".to_vec(),
            b"PROXY TCP4 192.0.2.1 198.51.100.1 1\r\n".to_vec(),
            b"PROXY TCP4 192.0.2.1 198.51.100.1 1 65536\r\n".to_vec(),
            b"PROXY TCP4 192.0.2.1 198.51.100.1 +1 2\r\n".to_vec(),
            b"PROXY TCP4 192.0.2.1 198.51.100.1 01 2\r\n".to_vec(),
            b"PROXY TCP4 192.0.2.01 198.51.100.1 1 2\r\n".to_vec(),
            b"PROXY TCP4 192.0.2.256 198.51.100.1 1 2\r\n".to_vec(),
            b"PROXY TCP4 ::1 ::1 1 2\r\n".to_vec(),
            b"PROXY TCP6 192.0.2.1 198.51.100.1 1 2\r\n".to_vec(),
            b"PROXY TCP6 fe80::1%eth0 ::1 1 2\r\n".to_vec(),
            b"PROXY TCP4 evil.example 198.51.100.1 1 2\r\n".to_vec(),
            b"PROXY UDP4 192.0.2.1 198.51.100.1 1 2\r\n".to_vec(),
            b"PROXY UNKNOWNX 1 1 1 1\r\n".to_vec(),
            b"PROXY TCP4 192.0.2.1 198.51.100.1 1 2\n\r\n".to_vec(),
            b"PROXY UNKNOWN \n GET / HTTP/1.1\r\n".to_vec(),
            b"PROXY TCP4 192.0.2.1 198.51.100.1 1 2\xff\r\n".to_vec(),
            too_long.into_bytes(),
            "PROXY ".repeat(30).into_bytes(),
            damaged,
            version_2_of(0x11, 0x11, &block),
            version_2_of(0x22, 0x11, &block),
            version_2_of(0x21, 0x12, &block),
            version_2_of(0x21, 0x41, &block),
            version_2_of(0x21, 0x11, &block[..11]),
            version_2_of(0x21, 0x21, &block),
            version_2_of(0x21, 0x31, &block),
            version_2_of(0x21, 0x11, &[0; LONGEST_BLOCK + 1]),
        ] {
            let error = read_all(&header).0.unwrap_err();
            let shown = String::from_utf8_lossy(&header);
            assert_eq!(error.kind(), io::ErrorKind::InvalidData, "{shown}");
        }
    }

    proptest! {
        #[test]
        fn no_bytes_cause_a_panic(
            start in prop_oneof![Just(&b""[..]), Just(&b"PROXY TCP4 "[..]), Just(&SIGNATURE[..])],
            bytes in proptest::collection::vec(any::<u8>(), 0..300),
        ) {
            let bytes = [start, &bytes].concat();
            let (found, rest) = read_all(&bytes);
            if found.is_ok() {
                prop_assert!(rest.len() + 15 <= bytes.len());
            }
        }

        #[test]
        fn every_address_is_parsed(four: [u8; 4], six: [u8; 16], port: u16) {
            let (four, six) = (Ipv4Addr::from(four), Ipv6Addr::from(six));
            let line = format!("PROXY TCP4 {four} {four} {port} {port}\r\n");
            prop_assert_eq!(read_all(line.as_bytes()).0.unwrap(), ProxySource::Address(four.into()));
            let line = format!("PROXY TCP6 {six} {six} {port} {port}\r\n");
            prop_assert_eq!(read_all(line.as_bytes()).0.unwrap(), ProxySource::Address(six.into()));
        }
    }
}
