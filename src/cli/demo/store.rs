//! A small object store in memory: the upstream of `demo`.
//!
//! GET, HEAD, PUT and DELETE of objects, and a list of them at `/`. It sends no CORS fields.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;

use bytes::Bytes;
use http::header::{
    ACCEPT_RANGES, ALLOW, CONTENT_LENGTH, CONTENT_RANGE, CONTENT_TYPE, ETAG, IF_NONE_MATCH, RANGE,
};
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode};
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Incoming;

use crate::tls::digest::sha256;

use super::site::Site;

/// The largest object, in bytes.
const MAX_OBJECT: usize = 16 * 1024 * 1024;

/// The most that all objects have together, in bytes.
const MAX_STORED: usize = 128 * 1024 * 1024;

/// What is kept under a key.
#[derive(Clone, Debug)]
struct Object {
    content: Bytes,
    content_type: HeaderValue,
    etag: HeaderValue,
}

/// Objects by path.
#[derive(Clone, Debug, Default)]
pub(super) struct Store(Rc<RefCell<BTreeMap<String, Object>>>);

impl Store {
    /// Keeps an object; says whether there was room for it.
    pub(super) fn put(
        &self,
        path: &str,
        content: impl Into<Bytes>,
        content_type: HeaderValue,
    ) -> bool {
        let content = content.into();
        let mut objects = self.0.borrow_mut();
        let others = objects.iter().filter(|(other, _)| *other != path);
        let stored: usize = others.map(|(_, object)| object.content.len()).sum();
        if stored + content.len() > MAX_STORED {
            return false;
        }
        let etag = HeaderValue::try_from(format!("\"{}\"", sha256(&content)));
        let object = Object {
            etag: etag.expect("hexadecimal digits in quotation marks make a value"),
            content,
            content_type,
        };
        objects.insert(path.to_owned(), object);
        true
    }
}

impl Site for Store {
    async fn answer(&self, request: Request<Incoming>) -> Response<Full<Bytes>> {
        let path = request.uri().path().to_owned();
        match *request.method() {
            Method::GET | Method::HEAD if path == "/" => self.list(),
            Method::GET | Method::HEAD => match self.0.borrow().get(&path) {
                Some(object) => object.answer(request.headers()),
                None => plain(StatusCode::NOT_FOUND, "no such object\n"),
            },
            Method::PUT if path != "/" => self.receive(&path, request).await,
            Method::DELETE if path != "/" => {
                self.0.borrow_mut().remove(&path);
                status(StatusCode::NO_CONTENT)
            }
            _ => {
                let mut response =
                    plain(StatusCode::METHOD_NOT_ALLOWED, "GET, HEAD, PUT or DELETE\n");
                let allowed = HeaderValue::from_static("GET, HEAD, PUT, DELETE");
                response.headers_mut().insert(ALLOW, allowed);
                response
            }
        }
    }
}

impl Store {
    async fn receive(&self, path: &str, request: Request<Incoming>) -> Response<Full<Bytes>> {
        let (parts, body) = request.into_parts();
        let Ok(body) = Limited::new(body, MAX_OBJECT).collect().await else {
            return plain(
                StatusCode::PAYLOAD_TOO_LARGE,
                "an object has at most 16 MiB here\n",
            );
        };
        let bytes = HeaderValue::from_static("application/octet-stream");
        let content_type = parts.headers.get(CONTENT_TYPE).cloned().unwrap_or(bytes);
        if !self.put(path, body.to_bytes(), content_type) {
            return plain(StatusCode::INSUFFICIENT_STORAGE, "the store is full\n");
        }
        let mut response = status(StatusCode::OK);
        if let Some(object) = self.0.borrow().get(path) {
            response.headers_mut().insert(ETAG, object.etag.clone());
        }
        response
    }

    fn list(&self) -> Response<Full<Bytes>> {
        let objects = self.0.borrow();
        let lines = objects
            .iter()
            .map(|(path, object)| format!("{:>9} {path}\n", object.content.len()));
        plain(StatusCode::OK, lines.collect::<String>())
    }
}

impl Object {
    fn answer(&self, fields: &HeaderMap) -> Response<Full<Bytes>> {
        let is_known = fields
            .get(IF_NONE_MATCH)
            .is_some_and(|known| known == self.etag);
        let length = self.content.len();
        let range = fields.get(RANGE).and_then(|range| range.to_str().ok());
        let mut response =
            match range.map_or(StoreRequest::Whole, |range| StoreRequest::of(range, length)) {
                _ if is_known => status(StatusCode::NOT_MODIFIED),
                StoreRequest::Whole => Response::new(Full::new(self.content.clone())),
                StoreRequest::Nothing => {
                    let mut response = status(StatusCode::RANGE_NOT_SATISFIABLE);
                    insert(&mut response, CONTENT_RANGE, &format!("bytes */{length}"));
                    return response;
                }
                StoreRequest::Part(first, last) => {
                    let part = self.content.slice(first..=last);
                    let mut response = Response::new(Full::new(part));
                    *response.status_mut() = StatusCode::PARTIAL_CONTENT;
                    insert(
                        &mut response,
                        CONTENT_RANGE,
                        &format!("bytes {first}-{last}/{length}"),
                    );
                    response
                }
            };
        let headers = response.headers_mut();
        headers.insert(ETAG, self.etag.clone());
        headers.insert(CONTENT_TYPE, self.content_type.clone());
        headers.insert(ACCEPT_RANGES, HeaderValue::from_static("bytes"));
        response
    }
}

/// What of an object a request asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum StoreRequest {
    /// All of it.
    Whole,
    /// From one byte to another, both included.
    Part(usize, usize),
    /// Bytes that it does not have.
    Nothing,
}

impl StoreRequest {
    /// Reads one range of bytes ([RFC 9110 §14.1.2]); any other `Range` may be ignored.
    ///
    /// [RFC 9110 §14.1.2]: https://www.rfc-editor.org/rfc/rfc9110#section-14.1.2
    fn of(range: &str, length: usize) -> Self {
        let Some((first, last)) = range
            .strip_prefix("bytes=")
            .and_then(|range| range.split_once('-'))
        else {
            return Self::Whole;
        };
        let number = |text: &str| text.parse::<usize>().ok();
        let (first, last) = match (number(first), number(last)) {
            (Some(first), Some(last)) if first <= last => (first, last),
            (Some(first), None) if last.is_empty() => (first, usize::MAX),
            (None, Some(0)) if first.is_empty() => return Self::Nothing,
            (None, Some(count)) if first.is_empty() => (length.saturating_sub(count), usize::MAX),
            _ => return Self::Whole,
        };
        if first < length {
            Self::Part(first, last.min(length - 1))
        } else {
            Self::Nothing
        }
    }
}

fn plain(status: StatusCode, text: impl Into<Bytes>) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(text.into()));
    *response.status_mut() = status;
    let text = HeaderValue::from_static("text/plain; charset=utf-8");
    response.headers_mut().insert(CONTENT_TYPE, text);
    response
}

fn status(status: StatusCode) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::default());
    *response.status_mut() = status;
    if status != StatusCode::NO_CONTENT && status != StatusCode::NOT_MODIFIED {
        let headers = response.headers_mut();
        headers.insert(CONTENT_LENGTH, HeaderValue::from_static("0"));
    }
    response
}

fn insert(response: &mut Response<Full<Bytes>>, name: http::HeaderName, value: &str) {
    if let Ok(value) = HeaderValue::from_str(value) {
        response.headers_mut().insert(name, value);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_range_is_answered_and_any_other_ignored() {
        for (range, expected) in [
            ("bytes=0-3", StoreRequest::Part(0, 3)),
            ("bytes=2-", StoreRequest::Part(2, 9)),
            ("bytes=5-99", StoreRequest::Part(5, 9)),
            ("bytes=-4", StoreRequest::Part(6, 9)),
            ("bytes=-99", StoreRequest::Part(0, 9)),
            ("bytes=-0", StoreRequest::Nothing),
            ("bytes=10-", StoreRequest::Nothing),
            ("bytes=3-2", StoreRequest::Whole),
            ("bytes=0-1,3-4", StoreRequest::Whole),
            ("bytes=-", StoreRequest::Whole),
            ("lines=1-2", StoreRequest::Whole),
        ] {
            assert_eq!(StoreRequest::of(range, 10), expected, "{range}");
        }
        assert_eq!(StoreRequest::of("bytes=0-", 0), StoreRequest::Nothing);
    }

    #[test]
    fn a_full_store_takes_no_more_but_a_smaller_version_of_what_it_has() {
        let store = Store::default();
        let kind = || HeaderValue::from_static("text/plain");
        assert!(store.put("/a", vec![0; MAX_STORED], kind()));
        assert!(!store.put("/b", vec![0; 1], kind()));
        assert!(store.put("/a", vec![0; 1], kind()));
        assert!(store.put("/b", vec![0; 1], kind()));
    }
}
