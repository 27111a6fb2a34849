//! The lower bound: a TCP relay that copies bytes without inspecting them. It opens one upstream
//! connection for each client connection, so it does less than any proxy. Not a product.

use std::cell::RefCell;
use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;

const BUFFER: usize = 512 * 1024;

thread_local! {
    /// Borrowed for a single poll, so that connections hold no buffers.
    static BUFFER_OF_THREAD: RefCell<Vec<u8>> = RefCell::new(vec![0; BUFFER]);
}

/// Relays in both directions until either side ends.
async fn relay(mut client: TcpStream) -> io::Result<()> {
    let mut server = TcpStream::connect(forwarders::upstream()).await?;
    server.set_nodelay(true)?;
    let (mut to_server, mut to_client) = (Vec::new(), Vec::new());
    poll_fn(|context| {
        BUFFER_OF_THREAD.with_borrow_mut(|buffer| {
            let up = pump(&mut client, &mut server, &mut to_server, buffer, context)?;
            let down = pump(&mut server, &mut client, &mut to_client, buffer, context)?;
            if up.is_ready() || down.is_ready() {
                return Poll::Ready(Ok(()));
            }
            Poll::Pending
        })
    })
    .await
}

/// Moves what is available; ready when `from` has ended. `waiting` is what `to` has not accepted
/// yet.
fn pump(
    from: &mut TcpStream,
    to: &mut TcpStream,
    waiting: &mut Vec<u8>,
    buffer: &mut [u8],
    context: &mut Context<'_>,
) -> Poll<io::Result<()>> {
    while !waiting.is_empty() {
        let written = ready!(Pin::new(&mut *to).poll_write(context, waiting))?;
        waiting.drain(..written);
    }
    loop {
        let mut read = ReadBuf::new(buffer);
        ready!(Pin::new(&mut *from).poll_read(context, &mut read))?;
        let mut bytes = read.filled();
        if bytes.is_empty() {
            return Poll::Ready(Ok(()));
        }
        while !bytes.is_empty() {
            match Pin::new(&mut *to).poll_write(context, bytes)? {
                Poll::Ready(written) => bytes = &bytes[written..],
                Poll::Pending => {
                    waiting.extend_from_slice(bytes);
                    return Poll::Pending;
                }
            }
        }
    }
}

async fn worker() {
    let serve = |stream| {
        tokio::task::spawn_local(relay(stream));
    };
    forwarders::accept_each("--listen", serve).await;
}

fn main() {
    forwarders::on_each_core(worker);
}
