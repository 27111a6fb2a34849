//! `s3cors demo`: an object store in memory, the proxy before it, and three lines to try.

use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;

use clap::Args;
use http::HeaderValue;
use tokio::task::LocalSet;

use crate::admin::Reloads;
use crate::config::{Input, Overrides, Source, load};
use crate::metrics::{DroppedLines, Metrics};
use crate::routing::snapshot::Current;
use crate::server::Bind;
use crate::server::socket::Claim;

use super::log::Log;
use super::manual::Manual;
use super::output::{Failure, print};
use super::process;
use super::process::Process;
use super::signals::Signals;
use super::store::Store;

/// The policy that the demonstration is under.
const POLICY: &str = include_str!("../../config/cors/spa-upload.xml");

pub(super) const MANUAL: Manual = Manual {
    examples: &[
        ("Start it, and try the lines that it prints", "s3cors demo"),
        ("Without the log between them", "s3cors demo --log off"),
    ],
    exit_codes: &[
        ("0", "drained after a signal"),
        ("1", "an address is taken"),
        ("2", "bad usage"),
    ],
    environment: &[],
    files: &[],
};

/// Serve an object store in memory behind a policy, to try things out.
///
/// It needs nothing installed and writes nothing. Ctrl-C ends it.
#[derive(Debug, Args)]
pub(super) struct Demo {
    /// Where clients connect to [default: 127.0.0.1:8080, or where there is room].
    #[arg(long, value_name = "ADDRESS")]
    listen: Option<String>,
    /// Where the operator connects to [default: 127.0.0.1:9901, or where there is room].
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
        let store = Store::default();
        let text = HeaderValue::from_static("text/plain; charset=utf-8");
        store.put("/photos/hello.txt", "Hello from behind the proxy.\n", text);
        let store = store.listen().await?;
        let upstream = store.address()?;
        let serving = tokio::task::spawn_local(store.serve());

        let input = Input {
            source: Source::Inline {
                upstreams: vec![format!("http://{upstream}")],
                cors: POLICY.to_owned(),
                name: "the demo's policy",
            },
            overrides: Overrides {
                listen: Some(self.listen.unwrap_or_else(|| free("127.0.0.1:8080"))),
                admin: Some(self.admin.unwrap_or_else(|| free("127.0.0.1:9901"))),
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
        let process = Process::start(config, current, metrics, reloads, Claim::Free)?;
        print(&introduction(&process, upstream))?;
        let result = process.until_stopped(signals, false, None).await;
        serving.abort();
        result
    }
}

/// This address where it is free, else one that the system chooses.
fn free(address: &str) -> String {
    match TcpListener::bind(address) {
        Ok(_) => address.to_owned(),
        Err(_) => "127.0.0.1:0".to_owned(),
    }
}

fn introduction(process: &Process, upstream: SocketAddr) -> String {
    let address = process.addresses.first();
    let (curl, url) = match address {
        Some(Bind::Unix(path)) => (
            format!("curl --unix-socket {} -i", path.display()),
            "http://localhost".to_owned(),
        ),
        Some(Bind::Tcp(address)) => ("curl -i".to_owned(), format!("http://{address}")),
        // Started by hand, it was passed none.
        Some(Bind::Systemd(_)) | None => return String::new(),
    };
    let object = format!("{url}/photos/hello.txt");
    let proxy = address.map(ToString::to_string).unwrap_or_default();
    let admin = match &process.admin_address {
        Some(Bind::Tcp(address)) => {
            format!("http://{address}/cors in a browser; also /metrics, /status")
        }
        Some(address) => address.to_string(),
        None => "off".to_owned(),
    };
    format!(
        "\
s3cors, with an object store in memory behind it. Ctrl-C ends it.

  proxy     {proxy}
  operator  {admin}
  store     http://{upstream}, which knows nothing of CORS
  policy    https://app.example.com may do everything, any other page may read

A preflight that is allowed, answered by the proxy:

  {curl} -X OPTIONS {object} -H 'Origin: https://app.example.com' -H 'Access-Control-Request-Method: PUT' -H 'Access-Control-Request-Headers: content-type'

A request, answered by the store and marked by the proxy:

  {curl} {object} -H 'Origin: https://app.example.com'

A preflight that is refused:

  {curl} -X OPTIONS {object} -H 'Origin: https://evil.example' -H 'Access-Control-Request-Method: DELETE'
"
    )
}
