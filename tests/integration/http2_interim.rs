//! Interim responses (1xx) to HTTP/2 clients.

use std::future::poll_fn;
use std::net::SocketAddr;

use bytes::Bytes;
use h2::client::{ResponseFuture, SendRequest};
use http::{HeaderMap, Method, Request, StatusCode};

use crate::http2::on_one_thread;
use crate::support::proxy::{TestProxy, TestRoute};
use crate::support::upstream::MockUpstream;

const POLICY: &str = "<CORSConfiguration><CORSRule><AllowedOrigin>https://app.example</AllowedOrigin>\
    <AllowedMethod>GET</AllowedMethod><AllowedMethod>PUT</AllowedMethod></CORSRule></CORSConfiguration>";

/// A response with its interim responses.
struct Answer {
    interim: Vec<(StatusCode, HeaderMap)>,
    status: StatusCode,
    fields: HeaderMap,
    body: Vec<u8>,
}

async fn connect(address: SocketAddr) -> SendRequest<Bytes> {
    let stream = tokio::net::TcpStream::connect(address).await.unwrap();
    let (client, connection) = h2::client::handshake(stream).await.unwrap();
    tokio::task::spawn_local(async move { drop(connection.await) });
    client.ready().await.unwrap()
}

async fn ask(client: &mut SendRequest<Bytes>, method: Method, body: &'static str) -> Answer {
    let request = Request::builder()
        .method(method)
        .uri("http://photos.example/k")
        .header("origin", "https://app.example");
    let request = request.body(()).unwrap();
    let (response, mut sender) = client.send_request(request, body.is_empty()).unwrap();
    if !body.is_empty() {
        sender
            .send_data(Bytes::from_static(body.as_bytes()), true)
            .unwrap();
    }
    read(response).await
}

async fn read(mut response: ResponseFuture) -> Answer {
    let mut interim = Vec::new();
    while let Some(response) = poll_fn(|cx| response.poll_informational(cx)).await {
        let (head, ()) = response.unwrap().into_parts();
        interim.push((head.status, head.headers));
    }
    let (head, mut stream) = response.await.unwrap().into_parts();
    let mut body = Vec::new();
    while let Some(data) = stream.data().await {
        let data = data.unwrap();
        stream.flow_control().release_capacity(data.len()).unwrap();
        body.extend_from_slice(&data);
    }
    Answer {
        interim,
        status: head.status,
        fields: head.headers,
        body,
    }
}

fn statuses(answer: &Answer) -> Vec<u16> {
    let statuses = answer.interim.iter();
    statuses.map(|(status, _)| status.as_u16()).collect()
}

#[test]
fn hints_reach_the_client_before_the_response() {
    on_one_thread(hints_reach_the_client());
}

async fn hints_reach_the_client() {
    let upstream = MockUpstream::answering(
        "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: </a.css>; rel=preload\r\n\
         Link: </b.css>; rel=preload\r\nConnection: x-hop\r\nX-Hop: 1\r\n\r\n\
         HTTP/1.1 102 Processing\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok",
    );
    let routes = [
        TestRoute::new(upstream.address, POLICY),
        TestRoute::transparent(upstream.address),
    ];
    for route in routes {
        let proxy = TestProxy::start(&[route]);
        let mut client = connect(proxy.address).await;
        for (method, body) in [(Method::GET, ""), (Method::PUT, "body")] {
            let answer = ask(&mut client, method.clone(), body).await;
            assert_eq!(statuses(&answer), [103, 102], "{method}");
            let hints = &answer.interim[0].1;
            assert_eq!(hints.get_all("link").iter().count(), 2);
            assert_eq!(hints.len(), 2, "{hints:?}");
            assert_eq!((answer.status.as_u16(), &*answer.body), (200, &b"ok"[..]));
            assert!(answer.fields.contains_key("date"));
            assert!(!answer.fields.contains_key("link"));
        }
    }
}

#[test]
fn streams_of_one_connection_get_their_own_hints() {
    on_one_thread(streams_get_their_own_hints());
}

async fn streams_get_their_own_hints() {
    let upstream = MockUpstream::scripted(true, |exchange| {
        let target = exchange.request.target().to_owned();
        exchange.send(format!(
            "HTTP/1.1 103 Early Hints\r\nLink: <{target}>\r\n\r\n\
             HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{target}",
            target.len()
        ));
        true
    });
    let proxy = TestProxy::start(&[TestRoute::transparent(upstream.address)]);
    let mut client = connect(proxy.address).await;
    let responses: Vec<_> = (0..50)
        .map(|number| {
            let uri = format!("http://photos.example/{number}");
            let request = Request::builder().uri(uri).body(()).unwrap();
            client.send_request(request, true).unwrap().0
        })
        .collect();
    for (number, response) in responses.into_iter().enumerate() {
        let answer = read(response).await;
        assert_eq!(statuses(&answer), [103]);
        assert_eq!(answer.interim[0].1["link"], format!("</{number}>"));
        assert_eq!(answer.body, format!("/{number}").as_bytes());
    }
}

/// Whether a request has a body shows only when its stream ends: with HEADERS, or with an empty frame.
#[test]
fn a_request_that_turns_out_to_be_empty_gets_its_hints() {
    on_one_thread(a_request_with_an_empty_frame_gets_its_hints());
}

async fn a_request_with_an_empty_frame_gets_its_hints() {
    let upstream = MockUpstream::answering(
        "HTTP/1.1 103 Early Hints\r\nLink: </a.css>\r\n\r\n\
         HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok",
    );
    let proxy = TestProxy::start(&[TestRoute::transparent(upstream.address)]);
    let mut client = connect(proxy.address).await;
    for length in [None, Some("0")] {
        let mut request = Request::builder()
            .method(Method::PUT)
            .uri("http://photos.example/k");
        if let Some(length) = length {
            request = request.header("content-length", length);
        }
        let request = request.body(()).unwrap();
        let (response, mut sender) = client.send_request(request, false).unwrap();
        sender.send_data(Bytes::new(), true).unwrap();
        let answer = read(response).await;
        assert_eq!(statuses(&answer), [103], "{length:?}");
        assert_eq!(answer.body, b"ok");
    }
}
