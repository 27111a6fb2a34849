//! A small object store: the part of S3 that a store of policies needs, with faults.

use std::collections::BTreeMap;
use std::net::{SocketAddr, TcpListener};
use std::sync::{Arc, Mutex};

use md5::{Digest as _, Md5};

use super::upstream::{MockUpstream, Recorded};

pub(crate) const BUCKET: &str = "s3cors-policies";

/// The fault.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Fault {
    Nothing,
    /// Each request gets this response.
    Answer(u16, &'static str),
    /// The connection closes at the request with this number, before or after it is executed.
    Close {
        at: usize,
        is_done: bool,
    },
    /// The store is down: no request is answered.
    Down,
}

#[derive(Debug)]
pub(crate) struct State {
    pub(crate) objects: BTreeMap<String, Vec<u8>>,
    pub(crate) fault: Fault,
    pub(crate) knows_conditions: bool,
    /// The number of requests since the fault was set.
    pub(crate) count: usize,
}

/// The store; it stops when dropped.
pub(crate) struct ObjectStore {
    pub(crate) address: SocketAddr,
    state: Arc<Mutex<State>>,
    _upstream: MockUpstream,
}

impl ObjectStore {
    pub(crate) fn start() -> Self {
        let state = Arc::new(Mutex::new(State {
            objects: BTreeMap::new(),
            fault: Fault::Nothing,
            knows_conditions: true,
            count: 0,
        }));
        let shared = Arc::clone(&state);
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let upstream = MockUpstream::on(listener, true, move |exchange| {
            let answer = shared.lock().unwrap().answer(&exchange.request);
            match answer {
                Some(answer) => exchange.try_send(answer),
                None => false,
            }
        });
        Self {
            address,
            state,
            _upstream: upstream,
        }
    }

    pub(crate) fn set(&self, fault: Fault) {
        let mut state = self.state.lock().unwrap();
        (state.fault, state.count) = (fault, 0);
    }

    pub(crate) fn with<T>(&self, change: impl FnOnce(&mut State) -> T) -> T {
        change(&mut self.state.lock().unwrap())
    }

    pub(crate) fn object(&self, bucket: &str) -> Option<String> {
        let key = format!("cors/{bucket}.xml");
        let object = self.with(|state| state.objects.get(&key).cloned());
        object.map(|object| String::from_utf8(object).unwrap())
    }
}

impl State {
    fn answer(&mut self, request: &Recorded) -> Option<Vec<u8>> {
        let (path, query) = request
            .target()
            .split_once('?')
            .unwrap_or((request.target(), ""));
        let Some(key) = path.strip_prefix(&format!("/{BUCKET}")) else {
            return Some(response(200, "", b""));
        };
        let key = key.trim_start_matches('/').to_owned();
        let number = self.count;
        self.count += 1;
        match self.fault {
            Fault::Down => return None,
            Fault::Answer(status, code) => return Some(error(status, code)),
            Fault::Close { at, is_done } if at == number => {
                if is_done {
                    self.carry_out(request, &key, query);
                }
                return None;
            }
            _ => {}
        }
        let authorization = request.values("authorization");
        let is_signed = authorization
            .iter()
            .any(|field| field.contains("Credential=store-id/"));
        if !is_signed {
            return Some(error(403, "AccessDenied"));
        }
        Some(self.carry_out(request, &key, query))
    }

    fn carry_out(&mut self, request: &Recorded, key: &str, query: &str) -> Vec<u8> {
        if key.is_empty() {
            return self.list(query);
        }
        let current = self.objects.get(key).map(|object| etag(object));
        let is_conditional = ["if-match", "if-none-match"]
            .iter()
            .any(|name| !request.values(name).is_empty());
        if is_conditional && !self.knows_conditions {
            return error(501, "NotImplemented");
        }
        let expected = request.values("if-match");
        if let Some(expected) = expected.first()
            && current.as_deref() != Some(expected)
        {
            return error(412, "PreconditionFailed");
        }
        if !request.values("if-none-match").is_empty() && current.is_some() {
            return error(412, "PreconditionFailed");
        }
        match (request.method(), current) {
            ("PUT", _) => {
                self.objects.insert(key.to_owned(), request.body.clone());
                response(200, &format!("ETag: {}\r\n", etag(&request.body)), b"")
            }
            ("DELETE", _) => {
                self.objects.remove(key);
                "HTTP/1.1 204 x\r\n\r\n".into()
            }
            ("GET", Some(current)) => {
                response(200, &format!("ETag: {current}\r\n"), &self.objects[key])
            }
            _ => error(404, "NoSuchKey"),
        }
    }

    /// Two objects per page.
    fn list(&self, query: &str) -> Vec<u8> {
        let after = query
            .split('&')
            .find_map(|pair| pair.strip_prefix("continuation-token="));
        let after: usize = after.map_or(0, |after| after.parse().unwrap());
        let prefix = query
            .split('&')
            .find_map(|pair| pair.strip_prefix("prefix="))
            .unwrap();
        let prefix = prefix.replace("%2F", "/");
        let all = self
            .objects
            .iter()
            .filter(|(key, _)| key.starts_with(&prefix));
        let page: Vec<_> = all.clone().skip(after).take(2).collect();
        let entries: String = page
            .iter()
            .map(|(key, object)| {
                let etag = etag(object).replace('"', "&quot;");
                format!("<Contents><Key>{key}</Key><ETag>{etag}</ETag></Contents>")
            })
            .collect();
        let next = match all.count() > after + 2 {
            true => format!(
                "<IsTruncated>true</IsTruncated><NextContinuationToken>{}</NextContinuationToken>",
                after + 2
            ),
            false => "<IsTruncated>false</IsTruncated>".to_owned(),
        };
        let document = format!("<ListBucketResult>{entries}{next}</ListBucketResult>");
        response(200, "", document.as_bytes())
    }
}

fn etag(object: &[u8]) -> String {
    let hex: String = Md5::digest(object)
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect();
    format!("\"{hex}\"")
}

fn error(status: u16, code: &str) -> Vec<u8> {
    let body = format!("<Error><Code>{code}</Code><Message>m</Message></Error>");
    response(status, "", body.as_bytes())
}

fn response(status: u16, fields: &str, body: &[u8]) -> Vec<u8> {
    let head = format!(
        "HTTP/1.1 {status} x\r\n{fields}Content-Length: {}\r\n\r\n",
        body.len()
    );
    [head.as_bytes(), body].concat()
}
