//! `s3cors demo`: an object store in memory, the proxy in front of it, and a web page that asks both.

mod page;
mod site;
mod store;

use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener};
use std::sync::Arc;

use clap::Args;
use http::HeaderValue;
use tokio::task::{LocalSet, spawn_local};

use crate::admin::Reloads;
use crate::config::{Input, Overrides, Source, load};
use crate::metrics::{DroppedLines, Metrics};
use crate::net::abort_on_drop::AbortOnDrop;
use crate::routing::snapshot::Current;
use crate::server::Bind;
use crate::server::socket::Claim;

use super::log::Log;
use super::manual::Manual;
use super::output::{Failure, print};
use super::process;
use super::process::Process;
use super::signals::Signals;

use page::Page;
use site::Endpoint;
use store::Store;

/// The policy of the demo, to which the page's origins are added.
const POLICY: &str = include_str!("../../../config/cors/spa-upload.xml");

/// The origin that the policy lets write.
const APP: &str = "<AllowedOrigin>https://app.example.com</AllowedOrigin>";

/// What the page reads.
const OBJECT: &str = "/photos/hello.txt";

const PAGE: Endpoint = Endpoint {
    what: "demo's page",
    flag: "--page",
    port: 8000,
};

const STORE: Endpoint = Endpoint {
    what: "demo's store",
    flag: "--store",
    port: 0,
};

/// The store's port with `--bind`, which has no free port to choose: a container publishes it.
const STORE_PORT: u16 = 9000;

const PROXY_PORT: u16 = 8080;

const ADMIN_PORT: u16 = 9901;

pub(super) const MANUAL: Manual = Manual {
    examples: &[
        (
            "Start it, and open the address that it prints",
            "s3cors demo",
        ),
        ("Without log lines in between", "s3cors demo --log off"),
        ("In a container", "s3cors demo --bind 0.0.0.0"),
    ],
    exit_codes: &[
        ("0", "drained after a signal"),
        ("1", "an address is in use"),
        ("2", "bad usage"),
    ],
    environment: &[],
    files: &[],
};

/// Serve an object store in memory and a web page, to see what CORS does.
///
/// The page reads from the store twice: directly, which the browser blocks, and through s3cors, which works.
/// The address of the page is the first line printed. Nothing has to be installed, and nothing is written to
/// disk. Ctrl-C stops the demo.
#[derive(Debug, Args)]
pub(super) struct Demo {
    /// Listen on this IP address and on ports 8000 (page), 8080 (proxy), 9000 (store) and 9901 (admin)
    /// [default: 127.0.0.1, with free ports instead of those in use].
    ///
    /// For containers, whose ports are published. The flags below take precedence.
    #[arg(long, value_name = "IP")]
    bind: Option<IpAddr>,
    /// Address of the web page [default: 127.0.0.1:8000, or a free port].
    #[arg(long, value_name = "ADDRESS")]
    page: Option<SocketAddr>,
    /// Address of the proxy [default: 127.0.0.1:8080, or a free port].
    #[arg(long, value_name = "ADDRESS")]
    listen: Option<String>,
    /// Address of the object store [default: 127.0.0.1, on a free port].
    #[arg(long, value_name = "ADDRESS")]
    store: Option<SocketAddr>,
    /// Address of the admin listener, which has the console [default: 127.0.0.1:9901, or a free port].
    #[arg(long, value_name = "ADDRESS")]
    admin: Option<String>,
    #[command(flatten)]
    log: Log,
}

impl Demo {
    pub(super) fn execute(self) -> Result<u8, Failure> {
        let log = self.log.start()?;
        let serve = self.serve(log.dropped.clone());
        process::run(LocalSet::new().run_until(serve))?
    }

    async fn serve(self, log_drops: DroppedLines) -> Result<u8, Failure> {
        let signals = Signals::catch()?;
        let at = |port| self.bind.map(|ip| SocketAddr::new(ip, port));
        let store = Store::default();
        let text = HeaderValue::from_static("text/plain; charset=utf-8");
        store.put(OBJECT, "Hello from behind the proxy.\n", text);
        let store_listener = STORE.listen(self.store.or_else(|| at(STORE_PORT)))?;
        let page_listener = PAGE.listen(self.page.or_else(|| at(PAGE.port)))?;
        let (store_address, page_address) =
            (store_listener.local_addr()?, page_listener.local_addr()?);
        let policy = policy(&page::origins(page_address));

        let address = |port| at(port).map_or_else(|| free(port), |address| address.to_string());
        let input = Input {
            source: Source::Inline {
                upstreams: vec![here(store_address)],
                cors: policy.clone(),
                name: "the demo's policy",
            },
            overrides: Overrides {
                listen: Some(self.listen.unwrap_or_else(|| address(PROXY_PORT))),
                admin: Some(self.admin.unwrap_or_else(|| address(ADMIN_PORT))),
                ..Overrides::default()
            },
        };
        let loaded = load(&input);
        let config = loaded.config.as_ref().filter(|_| !loaded.has_errors());
        let Some(config) = config else {
            return Err(Failure::Usage(loaded.report.render(false)));
        };
        let metrics = Metrics::new(config.server.workers);
        metrics.show_log_drops(log_drops);
        let snapshot = loaded
            .snapshot(&metrics, None, 1, false)
            .unwrap_or_default();
        let current = Arc::new(Current::new(snapshot));
        let reloads = Reloads::default();
        // Before the log's first line, which says that the proxy listens.
        print(&format!("{}/\n", here(page_address)))?;
        let process = Process::start(config, current, metrics, reloads, Claim::Free)?;
        let lines = lines(&process);
        print(&introduction(&process, store_address, &lines))?;
        let page = Page {
            page: page_address,
            proxy: process.addresses.first().and_then(tcp),
            store: store_address,
            admin: process.admin_address.as_ref().and_then(tcp),
            object: OBJECT,
            policy,
            lines,
        };
        let _store = AbortOnDrop::from(spawn_local(site::serve(store_listener, store)));
        let _page = AbortOnDrop::from(spawn_local(site::serve(page_listener, page)));
        process.until_stopped(signals, false, None).await
    }
}

/// The demo's policy, with the page among the origins that may write.
fn policy(origins: &[String]) -> String {
    let pages = origins
        .iter()
        .map(|origin| format!("\n    <AllowedOrigin>{origin}</AllowedOrigin>"));
    let allowed = format!("{APP}{}", pages.collect::<String>());
    POLICY.replacen(APP, &allowed, 1)
}

fn tcp(address: &Bind) -> Option<SocketAddr> {
    match address {
        Bind::Tcp(address) => Some(*address),
        Bind::Unix(_) | Bind::Systemd(_) => None,
    }
}

/// An address as a URL on this machine.
fn here(address: SocketAddr) -> String {
    page::url(address, "127.0.0.1")
}

/// This port of the loopback address where it is free, else one that the system chooses.
fn free(port: u16) -> String {
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    match TcpListener::bind(address) {
        Ok(_) => address.to_string(),
        Err(_) => "127.0.0.1:0".to_owned(),
    }
}

/// The requests to try with curl: a title and a line each.
fn lines(process: &Process) -> Vec<(&'static str, String)> {
    let (curl, url) = match process.addresses.first() {
        Some(Bind::Unix(path)) => (
            format!("curl --unix-socket {} -i", path.display()),
            "http://localhost".to_owned(),
        ),
        Some(Bind::Tcp(address)) => ("curl -i".to_owned(), here(*address)),
        // Only a process that systemd starts has such a socket.
        Some(Bind::Systemd(_)) | None => return Vec::new(),
    };
    let object = format!("{url}{OBJECT}");
    vec![
        (
            "A preflight that is allowed; s3cors answers it",
            format!(
                "{curl} -X OPTIONS {object} -H 'Origin: https://app.example.com' -H 'Access-Control-Request-Method: PUT' -H 'Access-Control-Request-Headers: content-type'"
            ),
        ),
        (
            "A request; the store answers it, and s3cors adds the CORS headers",
            format!("{curl} {object} -H 'Origin: https://app.example.com'"),
        ),
        (
            "A preflight that is refused",
            format!(
                "{curl} -X OPTIONS {object} -H 'Origin: https://evil.example' -H 'Access-Control-Request-Method: DELETE'"
            ),
        ),
    ]
}

fn introduction(process: &Process, store: SocketAddr, lines: &[(&'static str, String)]) -> String {
    let proxy = match process.addresses.first() {
        Some(Bind::Tcp(address)) => here(*address),
        Some(address) => address.to_string(),
        None => "off".to_owned(),
    };
    let admin = match &process.admin_address {
        Some(Bind::Tcp(address)) => format!("{}/cors", here(*address)),
        Some(address) => address.to_string(),
        None => "off".to_owned(),
    };
    let mut text = format!(
        "
Open this page in a browser: it reads from an object store, directly and through s3cors.
Ctrl-C stops the demo. Nothing is written to disk.

  proxy    {proxy}
  console  {admin}
  store    {}, which sends no CORS headers
  policy   the page and https://app.example.com may read and write, other pages may read
",
        here(store)
    );
    for (title, line) in lines {
        text.push_str(&format!("\n{title}:\n\n  {line}\n"));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_page_is_added_to_the_origins_that_may_write() {
        let page = SocketAddr::from(([127, 0, 0, 1], 8000));
        let text = policy(&page::origins(page));
        for origin in [
            "https://app.example.com",
            "http://127.0.0.1:8000",
            "http://localhost:8000",
        ] {
            let element = format!("<AllowedOrigin>{origin}</AllowedOrigin>");
            assert_eq!(text.matches(&element).count(), 1, "{origin}: {text}");
        }
        assert_eq!(text.matches("<AllowedOrigin>").count(), 4);
    }
}
