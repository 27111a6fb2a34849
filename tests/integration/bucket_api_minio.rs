//! `authorize = "upstream"`: MinIO decides who may change a bucket's CORS configuration.

use std::fs;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::bucket_api::time;
use crate::support::binary::{Process, run};
use crate::support::client::{RawClient, RawResponse};
use crate::support::configured::Configured;
use crate::support::folder::Folder;
use crate::support::sigv4::{Unsigned, checksum};
use crate::support::upstream::{MockUpstream, Recorded};

const DOCUMENT: &str = "<CORSConfiguration><CORSRule><AllowedOrigin>https://app.example</AllowedOrigin>\
     <AllowedMethod>GET</AllowedMethod></CORSRule></CORSConfiguration>";

/// How a server answers `?cors` requests.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Kind {
    /// A MinIO that first verifies signature and policy.
    Minio,
    /// A MinIO that answers 501 to everyone.
    OldMinio,
    /// Its policy lets everyone configure the bucket `photos`.
    PublicBucket,
    /// It names another bucket than the path.
    OtherBucket,
    /// Not S3's XML.
    PlainText,
    /// A 501 with another code.
    OtherCode,
    /// It answers 501 for any signature to one of three requests: several servers behind one
    /// address.
    Mixed,
    /// An old server answers each signed request, a new one all others.
    OldForSigned,
    /// The same, and the old server does not identify itself.
    OldForSignedUnnamed,
    /// It executes every request.
    Careless,
}

fn answer(status: u16, code: &str, elements: &str, fields: &str) -> String {
    let body = format!(
        "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<Error><Code>{code}</Code><Message>m</Message>{elements}</Error>"
    );
    format!(
        "HTTP/1.1 {status} x\r\nContent-Type: application/xml\r\n{fields}Content-Length: {}\r\n\r\n{body}",
        body.len()
    )
}

/// Like a MinIO with the key `good` and the buckets `photos` and `logs`.
fn respond(kind: Kind, request: &Recorded, count: usize) -> String {
    let path = request.target().split('?').next().unwrap();
    let host = request.values("host")[0].trim_end_matches(".s3.example");
    let bucket = match path.trim_matches('/') {
        "" => host.to_owned(),
        bucket => bucket.to_owned(),
    };
    let told = match kind {
        Kind::OtherBucket => "other",
        _ => &*bucket,
    };
    let elements = format!("<BucketName>{told}</BucketName><Resource>{path}</Resource>");
    let yes = answer(501, "NotImplemented", &elements, "x-amz-id-2: new\r\n");
    let refused = |code: &str| answer(403, code, &elements, "x-amz-id-2: new\r\n");
    match kind {
        Kind::OldMinio => return yes,
        Kind::Careless => return "HTTP/1.1 204 x\r\n\r\n".to_owned(),
        Kind::Mixed if count % 3 == 2 => {
            return answer(501, "NotImplemented", &elements, "x-amz-id-2: old\r\n");
        }
        _ => {}
    }
    let is_signed = !request.values("authorization").is_empty();
    match kind {
        Kind::OldForSigned if is_signed => {
            return answer(501, "NotImplemented", &elements, "x-amz-id-2: old\r\n");
        }
        Kind::OldForSignedUnnamed if is_signed => {
            return answer(501, "NotImplemented", &elements, "");
        }
        _ => {}
    }
    // Every release rejects these first.
    if request.target().contains("website") {
        return yes;
    }
    let authorization = request.values("authorization");
    let is_presigned = request.target().contains("X-Amz-Signature=");
    let Some(authorization) = authorization
        .first()
        .copied()
        .or(is_presigned.then_some(""))
    else {
        return match kind {
            Kind::PublicBucket if bucket == "photos" => yes,
            _ => refused("AccessDenied"),
        };
    };
    // The mock does not compute signatures: an invalid one is marked.
    if authorization.contains("Credential=bad/") || request.target().contains("bad%2F") {
        return refused("SignatureDoesNotMatch");
    }
    if authorization.contains("Credential=weak/") {
        return refused("AccessDenied");
    }
    if !["photos", "logs", ""].contains(&&*bucket) {
        return answer(404, "NoSuchBucket", &elements, "");
    }
    match kind {
        Kind::PlainText => "HTTP/1.1 501 x\r\nContent-Length: 14\r\n\r\nNotImplemented".to_owned(),
        Kind::OtherCode => answer(501, "InternalError", &elements, ""),
        _ if request.method() == "GET" => answer(
            404,
            "NoSuchCORSConfiguration",
            &elements,
            "x-amz-id-2: new\r\n",
        ),
        _ => yes,
    }
}

struct Api {
    proxy: Configured,
    upstream: MockUpstream,
    folder: Folder,
}

fn config(upstream: SocketAddr, kind: &str) -> String {
    format!(
        "[[listen]]\naddress = \"127.0.0.1:0\"\n[admin]\naddress = \"off\"\n\
         [[route]]\nname = \"s3\"\nhost = [\"s3.example\", \"*.s3.example\"]\nupstream = \"http://{upstream}\"\n\
         buckets = {{ directory = \"buckets\", address = \"both\" }}\n\
         [route.cors_api]\nauthorize = \"upstream\"\n{kind}"
    )
}

impl Api {
    fn start(kind: Kind) -> Self {
        let count = AtomicUsize::new(0);
        let upstream = MockUpstream::scripted(true, move |exchange| {
            let count = count.fetch_add(1, Ordering::Relaxed);
            exchange.send(respond(kind, &exchange.request, count));
            true
        });
        let folder = Folder::new();
        fs::create_dir(folder.path("buckets")).unwrap();
        let text = config(upstream.address, "upstream_kind = \"minio\"\n");
        folder.write("s3cors.toml", &text);
        let proxy = Configured::start(&folder.path("s3cors.toml"));
        Self {
            proxy,
            upstream,
            folder,
        }
    }

    fn send(&self, method: &str, request: impl AsRef<[u8]>) -> RawResponse {
        let mut client = RawClient::connect(self.proxy.address());
        client.send(request);
        client.receive(method)
    }

    fn files(&self) -> Vec<String> {
        let files = fs::read_dir(self.folder.path("buckets")).unwrap();
        let names = files.map(|file| file.unwrap().file_name().into_string().unwrap());
        let mut names: Vec<_> = names.filter(|name| name.ends_with(".xml")).collect();
        names.sort();
        names
    }
}

fn put<'r>(time: &'r str, fields: &'r [(&'r str, &'r str)]) -> Unsigned<'r> {
    Unsigned {
        method: "PUT",
        host: "s3.example",
        path: "/photos",
        query: "cors",
        body: DOCUMENT.as_bytes(),
        key_id: "good",
        secret: "known to MinIO alone",
        region: "us-east-1",
        time,
        signs_body: true,
        fields,
    }
}

#[test]
fn clients_that_minio_permits_may_put_read_and_remove() {
    let api = Api::start(Kind::Minio);
    let (now, sum) = (time(0), checksum(DOCUMENT.as_bytes()));
    let fields = [("x-amz-checksum-sha256", &*sum)];
    let request = put(&now, &fields);
    let response = api.send("PUT", request.sign());
    assert_eq!(response.status, 200, "{}", response.text());
    assert_eq!(api.files(), ["photos.xml"]);
    // The last request is the client's, unchanged.
    let seen = api.upstream.requests();
    let last = seen.last().unwrap();
    assert_eq!(last.line(), "PUT /photos?cors HTTP/1.1");
    assert_eq!(last.values("host"), ["s3.example"]);
    assert_eq!(last.values("authorization").len(), 1);
    assert!(
        seen[..seen.len() - 1]
            .iter()
            .all(|request| request.values("authorization").is_empty())
    );

    let by_host = Unsigned {
        method: "GET",
        body: b"",
        fields: &[],
        path: "/",
        host: "photos.s3.example",
        ..request.clone()
    };
    let response = api.send("GET", by_host.sign());
    assert_eq!(response.status, 200, "{}", response.text());
    assert!(response.text().contains("https://app.example"));
    let delete = Unsigned {
        method: "DELETE",
        body: b"",
        fields: &[],
        ..request.clone()
    };
    let response = api.send("DELETE", delete.sign());
    assert_eq!(response.status, 204, "{}", response.text());
    assert!(api.files().is_empty());
}

/// Status and code of the response to a PutBucketCors changed by `change`; nothing must be
/// stored.
#[track_caller]
fn refused(kind: Kind, change: impl FnOnce(&mut Unsigned<'_>)) -> (u16, String) {
    let api = Api::start(kind);
    let (now, sum) = (time(0), checksum(DOCUMENT.as_bytes()));
    let fields = [("x-amz-checksum-sha256", &*sum)];
    let mut request = put(&now, &fields);
    change(&mut request);
    let response = api.send("PUT", request.sign());
    assert!(api.files().is_empty(), "{kind:?}");
    let document = response.text();
    let code = document.split("<Code>").nth(1).unwrap_or_default();
    (
        response.status,
        code.split("</Code>").next().unwrap().to_owned(),
    )
}

#[test]
fn only_the_501_of_a_minio_that_authenticates_is_a_permission() {
    let is = |status: u16, code: &str| (status, code.to_owned());
    assert_eq!(refused(Kind::OldMinio, |_| {}), is(501, "NotImplemented"));
    assert_eq!(refused(Kind::Careless, |_| {}), is(501, "NotImplemented"));
    assert_eq!(refused(Kind::PublicBucket, |_| {}), is(403, "AccessDenied"));
    assert_eq!(refused(Kind::OtherBucket, |_| {}), is(403, "AccessDenied"));
    assert_eq!(refused(Kind::PlainText, |_| {}), is(501, "NotImplemented"));
    assert_eq!(refused(Kind::OtherCode, |_| {}), is(403, "AccessDenied"));
    assert_eq!(refused(Kind::Mixed, |_| {}), is(403, "AccessDenied"));
    for kind in [Kind::OldForSigned, Kind::OldForSignedUnnamed] {
        assert_eq!(refused(kind, |_| {}), is(503, "ServiceUnavailable"));
    }
}

#[test]
fn a_client_that_minio_refuses_gets_its_code() {
    let is = |status: u16, code: &str| (status, code.to_owned());
    let code = |change: fn(&mut Unsigned<'_>)| refused(Kind::Minio, change);
    assert_eq!(
        code(|it| it.key_id = "bad"),
        is(403, "SignatureDoesNotMatch")
    );
    assert_eq!(code(|it| it.key_id = "weak"), is(403, "AccessDenied"));
    assert_eq!(code(|it| it.path = "/absent"), is(404, "NoSuchBucket"));
    assert_eq!(
        code(|it| it.query = "cors&website"),
        is(400, "InvalidArgument")
    );
    assert_eq!(
        code(|it| it.query = "cors&versionId=1"),
        is(400, "InvalidArgument")
    );
    assert_eq!(code(|it| it.query = "cors=;website"), is(400, "InvalidURI"));
    let unsigned_body = code(|it| (it.signs_body, it.fields) = (false, &[]));
    assert_eq!(unsigned_body, is(400, "InvalidRequest"));
}

#[test]
fn an_unsigned_document_is_refused_although_minio_allowed_the_request() {
    let api = Api::start(Kind::Minio);
    let (now, sum) = (time(0), checksum(DOCUMENT.as_bytes()));
    let fields = [("x-amz-checksum-sha256", &*sum)];
    for signs_body in [true, false] {
        let request = Unsigned {
            signs_body,
            ..put(&now, &fields)
        };
        let mut bytes = request.sign();
        let at = bytes.len() - 60;
        bytes[at] ^= 1;
        let response = api.send("PUT", &bytes);
        assert_eq!(response.status, 400, "{}", response.text());
    }
    assert!(api.files().is_empty());
    // UNSIGNED-PAYLOAD with a signed digest, as mc sends it.
    let request = Unsigned {
        signs_body: false,
        ..put(&now, &fields)
    };
    assert_eq!(api.send("PUT", request.sign()).status, 200);
}

#[test]
fn a_request_without_a_signature_of_version_4_is_not_forwarded() {
    let api = Api::start(Kind::Minio);
    let (now, old) = (time(0), time(-16 * 60));
    let signed = |time: &str| String::from_utf8(put(time, &[]).sign()).unwrap();
    let without = |text: &str, name: &str| {
        let lines = text.split_inclusive("\r\n");
        lines
            .filter(|line| !line.starts_with(name))
            .collect::<String>()
    };
    let cases = [
        without(&signed(&now), "authorization"),
        without(&signed(&now), "x-amz-date"),
        signed(&old),
        signed(&now).replace("AWS4-HMAC-SHA256", "AWS good:"),
        signed(&now).replace("/s3/", "/sts/"),
        signed(&now).replace("SignedHeaders=host;", "SignedHeaders="),
        signed(&now).replace("x-amz-content-sha256: ", "x-amz-content-sha256: STREAMING-"),
        signed(&now).replacen("?cors", "?cors&X-Amz-Content-Sha256=UNSIGNED-PAYLOAD", 1),
    ];
    for request in cases {
        let response = api.send("PUT", &request);
        assert!(
            [400, 403, 501].contains(&response.status),
            "{request}\n{}",
            response.text()
        );
    }
    assert!(api.upstream.requests().is_empty());
    assert!(api.files().is_empty());
}

#[test]
fn no_hostile_request_changes_a_policy() {
    const TRIES: usize = 1000;
    let kinds = [
        Kind::Minio,
        Kind::OldMinio,
        Kind::Mixed,
        Kind::Careless,
        Kind::PublicBucket,
    ];
    let apis = kinds.map(Api::start);
    let (now, sum) = (time(0), checksum(DOCUMENT.as_bytes()));
    let fields = [("x-amz-checksum-sha256", &*sum)];
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut random = |below: usize| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        usize::try_from(state % below as u64).unwrap()
    };
    let paths = [
        "/photos",
        "/photos/",
        "//photos",
        "/photos//",
        "/%70hotos",
        "/absent",
        "/",
    ];
    let hosts = [
        "s3.example",
        "photos.s3.example",
        "Photos.s3.example",
        "logs.s3.example",
    ];
    let queries = [
        "cors",
        "cors=",
        "cors&website",
        "website&cors",
        "cors&x-id=PutBucketCors",
        "%63ors",
        "cors&acl",
        "cors=;website",
        "cors&cors",
    ];
    for _ in 0..TRIES {
        let api = &apis[random(apis.len())];
        let methods = ["PUT", "DELETE", "GET", "put"];
        let request = Unsigned {
            method: methods[random(methods.len())],
            host: hosts[random(hosts.len())],
            path: paths[random(paths.len())],
            query: queries[random(queries.len())],
            // Never one that MinIO permits.
            key_id: ["bad", "weak"][random(2)],
            signs_body: random(2) == 0,
            ..put(&now, &fields)
        };
        let mut text = String::from_utf8(request.sign()).unwrap();
        match random(6) {
            0 => text = text.replacen("authorization:", "x-authorization:", 1),
            1 => text = text.replacen("Signature=", "Signature=0", 1),
            2 => text = text.replacen("host:", "connection: authorization\r\nhost:", 1),
            3 => text = text.replacen("authorization:", "authorization: a\r\nauthorization:", 1),
            4 => text = text.replacen("?cors", "?X-Amz-Signature=0&cors", 1),
            _ => {}
        }
        api.send(request.method, &text);
    }
    for api in &apis {
        assert!(api.files().is_empty());
    }
    // Permitted clients still can.
    let permitted = put(&now, &fields).sign();
    let response = apis[0].send("PUT", permitted);
    assert_eq!(response.status, 200, "{}", response.text());
    assert_eq!(apis[0].files(), ["photos.xml"]);
}

#[test]
fn an_upstream_whose_kind_is_not_declared_is_refused_by_check() {
    let folder = Folder::new();
    fs::create_dir(folder.path("buckets")).unwrap();
    let upstream = "127.0.0.1:1".parse().unwrap();
    for (kind, expected) in [
        ("", "needs `upstream_kind`"),
        ("upstream_kind = \"rclone\"\n", "\"minio\""),
    ] {
        folder.write("s3cors.toml", &config(upstream, kind));
        let path = folder.path("s3cors.toml");
        for command in ["check", "run"] {
            let (code, found, error) = run(&[command, "--config", path.to_str().unwrap()]);
            assert_eq!(code, if command == "check" { 1 } else { 2 }, "{error}");
            let said = found + &error;
            assert!(said.contains(expected), "{said}");
        }
    }
}

/// The probe is neither signed nor sent by a client; a config with another upstream is probed
/// again.
#[test]
fn a_start_and_a_change_of_the_upstream_are_probed_and_the_result_is_shown() {
    let minio = |kind| {
        MockUpstream::scripted(true, move |exchange| {
            exchange.send(respond(kind, &exchange.request, 0));
            true
        })
    };
    let (old, new) = (minio(Kind::OldMinio), minio(Kind::Minio));
    let folder = Folder::new();
    fs::create_dir(folder.path("buckets")).unwrap();
    let declared = "upstream_kind = \"minio\"\n";
    // The command line sets the admin address.
    let text = |upstream| config(upstream, declared).replace("[admin]\naddress = \"off\"\n", "");
    folder.write("s3cors.toml", &text(old.address));
    let path = folder.path("s3cors.toml");
    let mut process = Process::start(&["run", "--config", path.to_str().unwrap()]);
    let line = process.logged("the CORS API is off");
    assert!(line.contains("upgrade MinIO"), "{line}");
    let status = process.status()["routes"][0]["cors_api"].clone();
    assert_eq!(status["authorize"], "upstream");
    assert_eq!(status["upstreams"][0]["state"], "off");
    assert!(
        status["upstreams"][0]["reason"]
            .as_str()
            .unwrap()
            .contains("501")
    );
    let probe = old.request();
    assert_eq!(probe.line(), "PUT /s3cors-probe?cors HTTP/1.1");
    assert!(probe.values("authorization").is_empty());

    folder.write("s3cors.toml", &text(new.address));
    process.logged("the CORS API is on");
    let status = process.status()["routes"][0]["cors_api"].clone();
    assert_eq!(status["upstreams"][0]["state"], "on");
    assert_eq!(status["upstreams"][0]["reason"], serde_json::Value::Null);
}
