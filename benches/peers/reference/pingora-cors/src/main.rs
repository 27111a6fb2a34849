//! The smallest CORS reverse proxy on Pingora's `ProxyHttp`.

use async_trait::async_trait;
use http::{HeaderValue, Method};
use pingora::http::ResponseHeader;
use pingora::listeners::tls::TlsSettings;
use pingora::prelude::*;
use pingora::server::configuration::ServerConf;

struct Cors {
    upstream: String,
}

#[async_trait]
impl ProxyHttp for Cors {
    /// The origin of this request, if it is allowed.
    type CTX = Option<HeaderValue>;

    fn new_ctx(&self) -> Self::CTX {
        None
    }

    async fn upstream_peer(&self, _: &mut Session, _: &mut Self::CTX) -> Result<Box<HttpPeer>> {
        Ok(Box::new(HttpPeer::new(
            self.upstream.as_str(),
            false,
            String::new(),
        )))
    }

    async fn request_filter(&self, session: &mut Session, allowed: &mut Self::CTX) -> Result<bool> {
        let request = session.req_header();
        let Some(origin) = request.headers.get("origin") else {
            return Ok(false);
        };
        if is_allowed(origin.as_bytes()) {
            *allowed = Some(origin.clone());
        }
        if request.method != Method::OPTIONS
            || !request
                .headers
                .contains_key("access-control-request-method")
        {
            return Ok(false);
        }
        let names = request
            .headers
            .get("access-control-request-headers")
            .cloned();
        let response = match allowed.take() {
            Some(origin) => preflight(origin, names)?,
            None => {
                let mut response = ResponseHeader::build(403, Some(1))?;
                response.insert_header("Content-Length", "0")?;
                response
            }
        };
        session
            .write_response_header(Box::new(response), true)
            .await?;
        Ok(true)
    }

    async fn response_filter(
        &self,
        _: &mut Session,
        response: &mut ResponseHeader,
        allowed: &mut Self::CTX,
    ) -> Result<()> {
        if let Some(origin) = allowed.take() {
            response.insert_header("Access-Control-Allow-Origin", origin)?;
            response.insert_header("Access-Control-Allow-Credentials", "true")?;
            response.insert_header("Access-Control-Expose-Headers", "ETag, x-amz-request-id")?;
        }
        response.append_header("Vary", "Origin")?;
        Ok(())
    }
}

fn preflight(origin: HeaderValue, names: Option<HeaderValue>) -> Result<ResponseHeader> {
    let mut response = ResponseHeader::build(204, Some(8))?;
    response.insert_header("Access-Control-Allow-Origin", origin)?;
    response.insert_header(
        "Access-Control-Allow-Methods",
        "GET, PUT, POST, DELETE, HEAD",
    )?;
    if let Some(names) = names {
        response.insert_header("Access-Control-Allow-Headers", names)?;
    }
    response.insert_header("Access-Control-Allow-Credentials", "true")?;
    response.insert_header("Access-Control-Max-Age", "3000")?;
    response.insert_header(
        "Vary",
        "Origin, Access-Control-Request-Headers, Access-Control-Request-Method",
    )?;
    Ok(response)
}

/// Whether an origin is `https://*.example.com`.
fn is_allowed(origin: &[u8]) -> bool {
    let below = origin.strip_prefix(b"https://");
    let below = below.and_then(|host| host.strip_suffix(b".example.com"));
    below.is_some_and(|label| !label.is_empty())
}

fn argument(name: &str) -> Option<String> {
    let mut arguments = std::env::args();
    arguments.find(|argument| argument == name)?;
    arguments.next()
}

fn main() {
    let threads = argument("--threads").map_or(2, |count| count.parse().expect("a number"));
    let conf = ServerConf {
        threads,
        upstream_keepalive_pool_size: 512,
        ..Default::default()
    };
    let mut server = Server::new_with_opt_and_conf(None, conf);
    server.bootstrap();
    let upstream = argument("--upstream").expect("--upstream ADDRESS:PORT");
    let mut service = http_proxy_service(&server.configuration, Cors { upstream });
    if let Some(address) = argument("--listen") {
        service.add_tcp(&address);
    }
    if let (Some(address), Some(certificate), Some(key)) = (
        argument("--tls-listen"),
        argument("--cert"),
        argument("--key"),
    ) {
        let mut tls = TlsSettings::intermediate(&certificate, &key).expect("a pair");
        tls.enable_h2();
        service.add_tls_with_settings(&address, None, tls);
    }
    server.add_service(service);
    server.run_forever();
}
