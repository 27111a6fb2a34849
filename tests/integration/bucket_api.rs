//! GetBucketCors, PutBucketCors and DeleteBucketCors through a route with `cors_api`.

use std::fs;
use std::time::{SystemTime, UNIX_EPOCH};

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use md5::{Digest as _, Md5};
use rustix::fs::{FlockOperation, flock};

use crate::support::binary::run;
use crate::support::client::{RawClient, RawResponse};
use crate::support::configured::Configured;
use crate::support::folder::Folder;
use crate::support::sigv4::{Unsigned, checksum};
use crate::support::upstream::MockUpstream;

const APP: &str = "https://app.example";
const DOCUMENT: &str = "<CORSConfiguration><CORSRule><AllowedOrigin>https://app.example</AllowedOrigin>\
     <AllowedMethod>GET</AllowedMethod></CORSRule></CORSConfiguration>";
const KEYS: &str =
    "[[key]]\nid = \"AKIA/1+2\"\nsecret = \"s/e+c\"\nbuckets = [\"photos\", \"logs-*\"]\n";

fn config(upstream: &MockUpstream) -> String {
    format!(
        "[[listen]]\naddress = \"127.0.0.1:0\"\n[admin]\naddress = \"off\"\n\
         [[route]]\nname = \"s3\"\nhost = [\"s3.example\", \"*.s3.example\"]\nupstream = \"http://{}\"\n\
         buckets = {{ directory = \"buckets\", address = \"both\" }}\n\
         [route.cors_api]\nauthorize = \"keys\"\nkeys = \"keys.toml\"\nowner = \"123456789012\"\n",
        upstream.address
    )
}

struct Api {
    proxy: Configured,
    upstream: MockUpstream,
    folder: Folder,
}

impl Api {
    fn start() -> Self {
        let upstream = MockUpstream::answering("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n");
        let folder = Folder::new();
        fs::create_dir(folder.path("buckets")).unwrap();
        folder.write("keys.toml", KEYS);
        folder.write("s3cors.toml", &config(&upstream));
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

    fn preflight_status(&self, bucket: &str) -> u16 {
        let request = format!(
            "OPTIONS /{bucket}/k HTTP/1.1\r\nHost: s3.example\r\nOrigin: {APP}\r\n\
             Access-Control-Request-Method: GET\r\n\r\n"
        );
        self.send("OPTIONS", request).status
    }

    fn file(&self, bucket: &str) -> Option<String> {
        fs::read_to_string(self.folder.path(&format!("buckets/{bucket}.xml"))).ok()
    }
}

/// The current time, shifted by this many seconds.
pub(crate) fn time(offset: i64) -> String {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    let then = now.as_secs().checked_add_signed(offset).unwrap();
    let date = httpdate::HttpDate::from(UNIX_EPOCH + std::time::Duration::from_secs(then));
    // `Fri, 24 May 2013 00:00:00 GMT`
    let text = date.to_string();
    let words: Vec<&str> = text.split([' ', ':']).collect();
    let months = "JanFebMarAprMayJunJulAugSepOctNovDec";
    let month = months.find(words[2]).unwrap() / 3 + 1;
    format!(
        "{}{month:02}{}T{}{}{}Z",
        words[3], words[1], words[4], words[5], words[6]
    )
}

fn put<'r>(body: &'r [u8], time: &'r str, fields: &'r [(&'r str, &'r str)]) -> Unsigned<'r> {
    Unsigned {
        method: "PUT",
        host: "s3.example",
        path: "/photos",
        query: "cors",
        body,
        key_id: "AKIA/1+2",
        secret: "s/e+c",
        region: "us-east-1",
        time,
        signs_body: true,
        fields,
    }
}

#[test]
fn a_document_is_put_applied_read_and_removed() {
    let mut api = Api::start();
    let (now, sum) = (time(0), checksum(DOCUMENT.as_bytes()));
    let fields = [("x-amz-checksum-sha256", &*sum)];
    let request = put(DOCUMENT.as_bytes(), &now, &fields);
    assert_eq!(api.preflight_status("photos"), 403);

    let response = api.send("PUT", request.sign());
    assert_eq!(response.status, 200, "{}", response.text());
    assert_eq!(api.file("photos").as_deref(), Some(DOCUMENT));
    api.proxy.reloader.reload(false);
    assert_eq!(api.preflight_status("photos"), 200);

    let get = Unsigned {
        method: "GET",
        body: b"",
        fields: &[],
        ..request.clone()
    };
    let response = api.send("GET", get.sign());
    assert_eq!(response.status, 200);
    assert_eq!(response.values("content-type"), ["application/xml"]);
    let document = response.text();
    assert!(
        document.contains("<AllowedOrigin>https://app.example</AllowedOrigin>"),
        "{document}"
    );
    assert!(
        document.contains("xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\""),
        "{document}"
    );
    // The same bucket by its host.
    let by_host = Unsigned {
        host: "photos.s3.example",
        path: "/",
        query: "cors=",
        ..get.clone()
    };
    assert_eq!(api.send("GET", by_host.sign()).text(), document);

    let delete = Unsigned {
        method: "DELETE",
        ..get.clone()
    };
    for _ in 0..2 {
        let response = api.send("DELETE", delete.sign());
        assert_eq!(response.status, 204);
        assert!(response.values("content-length").is_empty());
    }
    assert_eq!(api.file("photos"), None);
    api.proxy.reloader.reload(false);
    assert_eq!(api.preflight_status("photos"), 403);
    let response = api.send("GET", get.sign());
    assert_eq!(response.status, 404);
    let document = response.text();
    for part in [
        "<Code>NoSuchCORSConfiguration</Code>",
        "<BucketName>photos</BucketName>",
    ] {
        assert!(document.contains(part), "{document}");
    }
    assert!(api.upstream.requests().is_empty());
    let metrics = api.proxy.metrics.encode();
    for series in [
        "s3cors_cors_api_requests_total{route=\"s3\",operation=\"PutBucketCors\",code=\"OK\"} 1",
        "s3cors_cors_api_requests_total{route=\"s3\",operation=\"DeleteBucketCors\",code=\"OK\"} 2",
        "s3cors_cors_api_requests_total{route=\"s3\",operation=\"GetBucketCors\",code=\"NoSuchCORSConfiguration\"} 1",
    ] {
        assert!(metrics.contains(series), "{series}\n{metrics}");
    }
}

#[test]
fn a_refused_request_changes_nothing() {
    let api = Api::start();
    // A minute beyond the limit in the future, which a slow run does not use up.
    let (now, old, soon) = (time(0), time(-901), time(960));
    let sum = checksum(DOCUMENT.as_bytes());
    let fields = [("x-amz-checksum-sha256", &*sum)];
    let good = put(DOCUMENT.as_bytes(), &now, &fields);
    let wrong_sum = checksum(b"other");
    let wrong_fields = [("x-amz-checksum-sha256", &*wrong_sum)];
    let invalid = DOCUMENT.replace("GET", "get");
    let invalid_sum = checksum(invalid.as_bytes());
    let invalid_fields = [("x-amz-checksum-sha256", &*invalid_sum)];
    let large = DOCUMENT.replace("https://app", &"a".repeat(70_000));
    let large_sum = checksum(large.as_bytes());
    let large_fields = [("x-amz-checksum-sha256", &*large_sum)];
    let owner = |owner| {
        [
            ("x-amz-checksum-sha256", &*sum),
            ("x-amz-expected-bucket-owner", owner),
        ]
    };
    let (other_owner, no_owner) = (owner("210987654321"), owner("me"));
    let cases = [
        (
            Unsigned {
                secret: "other",
                ..good.clone()
            },
            403,
            "SignatureDoesNotMatch",
        ),
        (
            Unsigned {
                key_id: "nobody",
                ..good.clone()
            },
            403,
            "InvalidAccessKeyId",
        ),
        (
            Unsigned {
                path: "/secret",
                ..good.clone()
            },
            403,
            "AccessDenied",
        ),
        (
            Unsigned {
                path: "/",
                ..good.clone()
            },
            405,
            "MethodNotAllowed",
        ),
        (
            Unsigned {
                path: "/Photos",
                ..good.clone()
            },
            400,
            "InvalidBucketName",
        ),
        (
            Unsigned {
                path: "/photos-",
                ..good.clone()
            },
            400,
            "InvalidBucketName",
        ),
        (
            Unsigned {
                region: "eu-west-1",
                ..good.clone()
            },
            400,
            "AuthorizationHeaderMalformed",
        ),
        (
            Unsigned {
                time: &old,
                ..good.clone()
            },
            403,
            "RequestTimeTooSkewed",
        ),
        (
            Unsigned {
                time: &soon,
                ..good.clone()
            },
            403,
            "RequestTimeTooSkewed",
        ),
        (
            Unsigned {
                fields: &[],
                ..good.clone()
            },
            400,
            "InvalidRequest",
        ),
        (
            Unsigned {
                fields: &wrong_fields,
                ..good.clone()
            },
            400,
            "BadDigest",
        ),
        (
            Unsigned {
                fields: &other_owner,
                ..good.clone()
            },
            403,
            "AccessDenied",
        ),
        (
            Unsigned {
                fields: &no_owner,
                ..good.clone()
            },
            400,
            "InvalidBucketOwnerAWSAccountID",
        ),
        (
            Unsigned {
                body: invalid.as_bytes(),
                fields: &invalid_fields,
                ..good.clone()
            },
            400,
            "InvalidRequest",
        ),
        (
            Unsigned {
                body: large.as_bytes(),
                fields: &large_fields,
                ..good.clone()
            },
            400,
            "MalformedXML",
        ),
    ];
    for (request, status, code) in cases {
        let response = api.send("PUT", request.sign());
        let document = response.text();
        assert_eq!(response.status, status, "{code}: {document}");
        assert!(
            document.contains(&format!("<Code>{code}</Code>")),
            "{document}"
        );
    }
    // The received body differs from the signed one, with the same length.
    let mut request = good.sign();
    let last = request.len() - 1;
    request[last] = b' ';
    let response = api.send("PUT", request);
    assert!(
        response.text().contains("XAmzContentSHA256Mismatch"),
        "{}",
        response.text()
    );
    // Not signed at all.
    let request = "DELETE /photos?cors HTTP/1.1\r\nHost: s3.example\r\n\r\n";
    assert_eq!(api.send("DELETE", request).status, 403);
    let files = fs::read_dir(api.folder.path("buckets")).unwrap();
    assert_eq!(files.count(), 0);
    assert!(api.upstream.requests().is_empty());
    // The owner in the config is the correct one.
    let fields = owner("123456789012");
    let request = Unsigned {
        fields: &fields,
        ..good
    };
    assert_eq!(api.send("PUT", request.sign()).status, 200);
}

#[test]
fn a_held_lock_is_answered_with_slow_down_after_a_few_seconds() {
    let api = Api::start();
    let (now, sum) = (time(0), checksum(DOCUMENT.as_bytes()));
    let fields = [("x-amz-checksum-sha256", &*sum)];
    let request = put(DOCUMENT.as_bytes(), &now, &fields);
    let delete = Unsigned {
        method: "DELETE",
        body: b"",
        fields: &[],
        ..request.clone()
    };
    let lock = fs::File::create(api.folder.path("buckets/.s3cors-lock")).unwrap();
    flock(&lock, FlockOperation::NonBlockingLockExclusive).unwrap();
    std::thread::scope(|scope| {
        let others = [("PUT", request.sign()), ("DELETE", delete.sign())];
        let others = others.map(|(method, request)| {
            let api = &api;
            scope.spawn(move || api.send(method, request))
        });
        for other in others {
            let response = other.join().unwrap();
            let document = response.text();
            assert_eq!(response.status, 503, "{document}");
            assert!(document.contains("<Code>SlowDown</Code>"), "{document}");
        }
    });
    assert_eq!(api.file("photos"), None);

    // The lock is released while a request waits for it.
    let mut client = RawClient::connect(api.proxy.address());
    client.send(request.sign());
    flock(&lock, FlockOperation::Unlock).unwrap();
    let response = client.receive("PUT");
    assert_eq!(response.status, 200, "{}", response.text());
    assert_eq!(api.file("photos").as_deref(), Some(DOCUMENT));
}

#[test]
fn a_fifo_in_place_of_a_policy_is_answered_with_an_error() {
    let api = Api::start();
    let fifo = api.folder.path("buckets/photos.xml");
    let made = std::process::Command::new("mkfifo").arg(&fifo).status();
    assert!(made.unwrap().success());
    let (now, sum) = (time(0), checksum(DOCUMENT.as_bytes()));
    let fields = [("x-amz-checksum-sha256", &*sum)];
    let request = put(DOCUMENT.as_bytes(), &now, &fields);
    for method in ["GET", "PUT", "DELETE"] {
        let is_put = method == "PUT";
        let request = Unsigned {
            method,
            body: if is_put { request.body } else { b"" },
            fields: if is_put { &fields } else { &[] },
            ..request.clone()
        };
        let response = api.send(method, request.sign());
        let document = response.text();
        assert_eq!(response.status, 500, "{method}: {document}");
        assert!(document.contains("InternalError"), "{document}");
    }
    fs::remove_file(fifo).unwrap();
    assert_eq!(api.send("PUT", request.sign()).status, 200);
}

/// The route's own policy must not be changeable with `PUT /own?cors` and a key for all buckets.
#[test]
fn a_policy_or_keys_in_a_directory_that_clients_write_to_are_refused() {
    let folder = Folder::new();
    let upstream = MockUpstream::answering("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n");
    for directory in ["buckets", "other", "buckets/below"] {
        fs::create_dir(folder.path(directory)).unwrap();
    }
    for name in ["buckets/own.xml", "other/own.xml", "buckets/below/own.xml"] {
        folder.write(name, DOCUMENT);
    }
    for name in ["keys.toml", "buckets/keys.xml"] {
        folder.write(name, KEYS);
    }
    let link = |target: &str, name: &str| {
        std::os::unix::fs::symlink(target, folder.path(name)).unwrap();
    };
    link("buckets/own.xml", "link.xml");
    link("link.xml", "links.xml");
    link("../other/own.xml", "buckets/out.xml");
    link("buckets/out.xml", "through.xml");
    link("buckets", "alias");
    let path = folder.path("s3cors.toml").display().to_string();
    let base = config(&upstream);
    let check = |config: &str| {
        folder.write("s3cors.toml", config);
        let (code, out, said) = run(&["check", "--config", &path]);
        (code, out + &said)
    };
    let with_root = |root: &str| {
        base.replace(
            "address = \"both\" }",
            &format!("address = \"both\", root = \"{root}\" }}"),
        )
    };
    let with_cors =
        |cors: &str| base.replace("buckets =", &format!("cors = \"{cors}\"\nbuckets ="));
    let other_route = |cors: &str| {
        format!(
            "{base}[[route]]\nhost = \"b.example\"\nupstream = \"http://{}\"\ncors = \"{cors}\"\n",
            upstream.address
        )
    };
    let inside = [
        "buckets/own.xml",
        "other/../buckets/own.xml",
        "alias/own.xml",
        "link.xml",
        "links.xml",
        "buckets/out.xml",
        "through.xml",
        "buckets/missing.xml",
    ];
    for file in inside {
        for (key, config) in [
            ("buckets.root", with_root(file)),
            ("cors", with_cors(file)),
            ("cors", other_route(file)),
        ] {
            let (code, said) = check(&config);
            assert_ne!(code, 0, "{key} {file}: {said}");
            let line = config.lines().position(|line| line.contains(file)).unwrap() + 1;
            for expected in [
                &*format!("`{key}` is in"),
                "move `",
                &format!("s3cors.toml:{line}:"),
            ] {
                assert!(said.contains(expected), "{key} {file}: {said}");
            }
        }
    }
    let keys = base.replace("keys.toml", "buckets/keys.xml");
    let (code, said) = check(&keys);
    assert!(
        code != 0 && said.contains("`cors_api.keys` is in"),
        "{said}"
    );
    for file in ["other/own.xml", "buckets/below/own.xml"] {
        for config in [with_root(file), with_cors(file), other_route(file)] {
            let (_, said) = check(&config);
            assert!(
                !said.contains("which clients can write to"),
                "{file}: {said}"
            );
        }
    }
}

#[test]
fn a_reload_that_lets_clients_change_a_routes_own_policy_changes_nothing() {
    let mut api = Api::start();
    api.folder.write("buckets/own.xml", DOCUMENT);
    let config =
        config(&api.upstream).replace("buckets =", "cors = \"buckets/own.xml\"\nbuckets =");
    api.folder.write("s3cors.toml", &config);
    api.proxy.reloader.reload(false);
    assert_eq!(api.preflight_status("other"), 403);
    assert_eq!(api.preflight_status("own"), 200);
}

/// A control character from a decoded query must not appear in the error document.
#[test]
fn an_error_document_is_xml_whatever_the_query_decodes_to() {
    let api = Api::start();
    let now = time(0);
    let credential = "a%01%00%1b%EF%BF%BF/20260101/us-east-1/s3/aws4_request";
    let request = format!(
        "GET /photos?cors&X-Amz-Algorithm=AWS4-HMAC-SHA256&X-Amz-Credential={credential}\
         &X-Amz-Date={now}&X-Amz-Expires=60&X-Amz-SignedHeaders=host&X-Amz-Signature=00 HTTP/1.1\r\n\
         Host: s3.example\r\n\r\n"
    );
    let response = api.send("GET", request.replace("20260101", &now[..8]));
    let document = response.text();
    assert!(
        document.contains("a\u{fffd}\u{fffd}\u{fffd}\u{fffd}"),
        "{document}"
    );
    let is_forbidden = |character: char| character.is_control() && character != '\n';
    assert!(!document.contains(is_forbidden), "{document}");
}

/// `mc` sends `?cors=`, signs `UNSIGNED-PAYLOAD`, and protects the body with `Content-MD5`.
#[test]
fn an_unsigned_body_needs_a_signed_digest() {
    let api = Api::start();
    let now = time(0);
    let md5 = "AAAAAAAAAAAAAAAAAAAAAA==";
    let sum = checksum(DOCUMENT.as_bytes());
    let signed = [("x-amz-checksum-sha256", &*sum)];
    let wrong = [("content-md5", md5)];
    let request = Unsigned {
        query: "cors=",
        signs_body: false,
        ..put(DOCUMENT.as_bytes(), &now, &signed)
    };
    let without = Unsigned {
        fields: &[],
        ..request.clone()
    };
    let response = api.send("PUT", without.sign());
    assert!(response.text().contains("Content-MD5 OR x-amz-checksum-*"));
    let wrong = Unsigned {
        fields: &wrong,
        ..request.clone()
    };
    let response = api.send("PUT", wrong.sign());
    assert!(
        response.text().contains("<Code>BadDigest</Code>"),
        "{}",
        response.text()
    );
    // Signed without a digest, which an attacker adds together with another body.
    let other = DOCUMENT.replace("app", "evil");
    let text = String::from_utf8(without.sign()).unwrap();
    let (head, _) = text.split_once("\r\n\r\n").unwrap();
    let head = head.replace(
        &format!("content-length: {}", DOCUMENT.len()),
        &format!(
            "content-length: {}\r\ncontent-md5: {}",
            other.len(),
            md5_of(&other)
        ),
    );
    let response = api.send("PUT", format!("{head}\r\n\r\n{other}"));
    assert_eq!(response.status, 403, "{}", response.text());
    assert!(response.text().contains("<HeadersNotSigned>content-md5<"));
    assert_eq!(api.file("photos"), None);
    assert_eq!(api.send("PUT", request.sign()).status, 200);
    let md5 = md5_of(DOCUMENT);
    let fields = [("content-md5", &*md5)];
    let by_md5 = Unsigned {
        fields: &fields,
        ..request
    };
    assert_eq!(api.send("PUT", by_md5.sign()).status, 200);
}

/// As recorded from minio-go 7.0.89 (`mc cors set` of Debian 13's `minio-client` 20250403).
#[test]
fn the_request_of_minio_go_is_accepted() {
    let api = Api::start();
    let (now, md5) = (time(0), md5_of(DOCUMENT));
    let fields = [("content-md5", &*md5)];
    let request = Unsigned {
        path: "/photos/",
        query: "cors=",
        signs_body: false,
        ..put(DOCUMENT.as_bytes(), &now, &fields)
    };
    let text = String::from_utf8(request.sign()).unwrap();
    let unsigned = "User-Agent: MinIO (linux; amd64) minio-go/v7.0.89\r\nAccept-Encoding: zstd,gzip\r\ncontent-length:";
    let response = api.send("PUT", text.replacen("content-length:", unsigned, 1));
    assert_eq!(response.status, 200, "{}", response.text());
    assert_eq!(api.file("photos").as_deref(), Some(DOCUMENT));
}

fn md5_of(text: &str) -> String {
    BASE64_STANDARD.encode(Md5::digest(text))
}

#[test]
fn changed_keys_are_in_force_after_a_reload_and_invalid_ones_are_not() {
    let mut api = Api::start();
    let (now, sum) = (time(0), checksum(DOCUMENT.as_bytes()));
    let fields = [("x-amz-checksum-sha256", &*sum)];
    let first = put(DOCUMENT.as_bytes(), &now, &fields);
    let second = Unsigned {
        key_id: "second",
        secret: "2",
        ..first.clone()
    };
    assert_eq!(api.send("PUT", first.sign()).status, 200);
    assert_eq!(api.send("PUT", second.sign()).status, 403);
    api.folder.write("keys.toml", "[[key]]\nid = ");
    api.proxy.reloader.reload(false);
    assert_eq!(api.send("PUT", first.sign()).status, 200);
    let keys = "[[key]]\nid = \"second\"\nsecret = \"2\"\nbuckets = [\"*\"]\n";
    api.folder.write("keys.toml", keys);
    api.proxy.reloader.reload(false);
    assert_eq!(api.send("PUT", first.sign()).status, 403);
    assert_eq!(api.send("PUT", second.sign()).status, 200);
}

#[test]
fn a_start_without_keys_is_refused_with_advice() {
    let folder = Folder::new();
    let upstream = MockUpstream::answering("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n");
    fs::create_dir(folder.path("buckets")).unwrap();
    folder.write("s3cors.toml", &config(&upstream));
    let config = folder.path("s3cors.toml").display().to_string();
    let (code, _, said) = run(&["run", "--config", &config]);
    assert_eq!(code, 2);
    assert!(
        said.contains("keys.toml") && said.contains("keys = "),
        "{said}"
    );
    folder.write("keys.toml", "[[key]]\nid = \"a\"\nsecret = \"hidden\"\n");
    let (code, _, said) = run(&["run", "--config", &config]);
    assert_eq!(code, 2);
    assert!(said.contains("line 1: missing field `buckets`"), "{said}");
    assert!(!said.contains("hidden"), "{said}");
}

#[test]
fn an_ambiguous_request_is_refused_with_the_reason() {
    let api = Api::start();
    let (now, sum) = (time(0), checksum(DOCUMENT.as_bytes()));
    let fields = [("x-amz-checksum-sha256", &*sum)];
    let request = put(DOCUMENT.as_bytes(), &now, &fields);
    for (host, path, query) in [
        ("s3.example", "/photos//", "cors"),
        ("s3.example", "//photos", "cors"),
        ("s3.example", "/%2fphotos", "cors"),
        ("s3.example", "/x/../photos", "cors"),
        ("photos.s3.example", "/;a", "cors"),
        ("Photos.s3.example", "/", "cors"),
        ("s3.example", "/photos", "x;cors"),
        ("s3.example", "/photos", "cors%3Dx"),
    ] {
        let request = Unsigned {
            host,
            path,
            query,
            ..request.clone()
        };
        let response = api.send("PUT", request.sign());
        assert_eq!(response.status, 400, "{host}{path}?{query}");
        let document = response.text();
        assert!(document.contains("<Code>InvalidURI</Code>"), "{document}");
        assert!(
            document.contains("stores can read it differently"),
            "{document}"
        );
    }
    assert_eq!(api.file("photos"), None);
    assert!(api.upstream.requests().is_empty());
}
