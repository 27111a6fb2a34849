//! The fuzz targets' functions on seeds and on generated input, for a bounded time.

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::{Index, select};

use crate::support::vectors::load;

#[path = "../fuzz/src/lib.rs"]
#[allow(unreachable_pub, reason = "public in the crate it is shared with")]
mod targets;

/// Every configuration of S3's vectors, good and bad.
fn documents() -> Vec<String> {
    let vectors = load().vectors.into_iter();
    vectors.filter_map(|vector| vector.config_xml).collect()
}

#[test]
fn seeds() {
    for document in documents() {
        targets::xml(document.as_bytes());
        // Cut anywhere, it does not panic.
        for end in 0..document.len().min(400) {
            targets::xml(&document.as_bytes()[..end]);
        }
    }
    for vector in load().vectors {
        for request in &vector.requests {
            let mut input = vector.config_xml.clone().unwrap_or_default().into_bytes();
            input.push(0);
            input.extend_from_slice(request.method.as_bytes());
            for (name, value) in &request.headers {
                let mark = match name.to_ascii_lowercase().as_str() {
                    "origin" => "o",
                    "access-control-request-method" => "m",
                    "access-control-request-headers" => "h",
                    _ => continue,
                };
                input.extend_from_slice(format!("\n{mark}{value}").as_bytes());
            }
            targets::decide(&input);
        }
    }
}

/// A seed with some bytes replaced by pieces of XML syntax.
fn mutated() -> impl Strategy<Value = Vec<u8>> {
    let pieces = select(
        &[
            "<",
            ">",
            "&",
            ";",
            "\"",
            "'",
            "]]>",
            "<![CDATA[",
            "<!--",
            "-->",
            "<?",
            "?>",
            "<!DOCTYPE",
            "&#x2a;",
            "&amp;",
            "*",
            "\0",
            "\u{feff}",
            "</CORSRule>",
            "<CORSRule>",
            "<ID/>",
            " ",
            "\r\n",
            "\u{e9}",
            "<MaxAgeSeconds>",
            "=",
            "/",
        ][..],
    );
    let changes = vec((any::<Index>(), 0..12_usize, pieces), 0..5);
    let raw = vec(any::<u8>(), 0..3);
    (select(documents()), changes, raw).prop_map(|(document, changes, raw)| {
        let mut bytes = document.into_bytes();
        for (place, cut, piece) in changes {
            let start = place.index(bytes.len() + 1);
            let end = (start + cut).min(bytes.len());
            bytes.splice(start..end, piece.bytes());
        }
        let middle = bytes.len() / 2;
        bytes.splice(middle..middle, raw);
        bytes
    })
}

/// Every shipped config and every faulty one.
fn configs() -> Vec<Vec<u8>> {
    let folders = ["config", "tests/data/diagnostics"];
    let entries = folders
        .into_iter()
        .flat_map(|folder| std::fs::read_dir(folder).unwrap());
    entries
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|there| there == "toml"))
        .map(|path| std::fs::read(path).unwrap())
        .collect()
}

#[test]
fn config_seeds() {
    for config in configs() {
        targets::config(&config);
        // Cut anywhere, it does not panic.
        for end in (0..config.len()).step_by(7) {
            targets::config(&config[..end]);
        }
    }
}

/// A config with some bytes replaced by pieces of TOML syntax.
fn mutated_config() -> impl Strategy<Value = Vec<u8>> {
    let pieces = select(
        &[
            "[",
            "]",
            "[[",
            "]]",
            "{",
            "}",
            "=",
            "\"",
            "'''",
            "\"\"\"",
            "#",
            ",",
            ".",
            "\n",
            "\r",
            "\\u001b",
            "\0",
            "\u{feff}",
            "1_000",
            "-1",
            "1e9",
            "inf",
            "nan",
            "true",
            "1979-05-27",
            "host",
            "route",
            "listen",
            "\u{e9}",
            "*",
        ][..],
    );
    let changes = vec((any::<Index>(), 0..12_usize, pieces), 1..5);
    (select(configs()), changes).prop_map(|(mut bytes, changes)| {
        for (place, cut, piece) in changes {
            let start = place.index(bytes.len() + 1);
            let end = (start + cut).min(bytes.len());
            bytes.splice(start..end, piece.bytes());
        }
        bytes
    })
}

/// Settings of every dialect that can be imported.
fn settings() -> Vec<Vec<u8>> {
    let entries = std::fs::read_dir("tests/data/import").unwrap();
    let paths = entries.map(|entry| entry.unwrap().path());
    paths
        .filter(|path| path.extension().is_some_and(|there| there != "expected"))
        .map(|path| std::fs::read(path).unwrap())
        .collect()
}

#[test]
fn import_seeds() {
    for settings in settings() {
        targets::import(&settings);
        // Cut anywhere, it does not panic.
        for end in (0..settings.len()).step_by(13) {
            targets::import(&settings[..end]);
        }
    }
}

/// Settings with some bytes replaced by pieces of JSON, YAML, XML and the systems' own syntax.
fn mutated_settings() -> impl Strategy<Value = Vec<u8>> {
    let pieces = select(
        &[
            "[",
            "]",
            "{",
            "}",
            ":",
            ": ",
            ",",
            "\"",
            "'",
            "\n",
            "\n  ",
            "- ",
            "? ",
            "|\n",
            "&a ",
            "*a",
            "*",
            "**",
            "!!str ",
            "---\n",
            "%",
            "#",
            "<",
            ">",
            "</Cors>",
            "<CorsRule>",
            "&amp;",
            "&#0;",
            "<!DOCTYPE a>",
            "<![CDATA[",
            "\\ud800",
            "\\u0000",
            "\0",
            "\u{feff}",
            "\u{85}",
            "\u{e9}",
            "null",
            "-1",
            "1e9",
            "true",
            "cors",
            "items",
            "allowOrigins",
            "CORSRules",
            "nginx.ingress.kubernetes.io/",
            "cors_allow_origin=",
            "OPTIONS",
            "https://*.a.*",
        ][..],
    );
    let changes = vec((any::<Index>(), 0..12_usize, pieces), 1..5);
    (select(settings()), changes).prop_map(|(mut bytes, changes)| {
        for (place, cut, piece) in changes {
            let start = place.index(bytes.len() + 1);
            let end = (start + cut).min(bytes.len());
            bytes.splice(start..end, piece.bytes());
        }
        bytes
    })
}

/// Combines pieces that are read before a request.
fn pieces_of(pieces: &'static [&'static [u8]]) -> impl Strategy<Value = Vec<u8>> {
    vec(select(pieces), 0..12).prop_map(|pieces| pieces.concat())
}

const HOST_PIECES: &[&[u8]] = &[
    b"a",
    b"B",
    b".",
    b"..",
    b"example",
    b".com",
    b":",
    b"80",
    b"65535",
    b"65536",
    b"[",
    b"]",
    b"::1",
    b"*",
    b"*.",
    b"\n",
    b"@",
    b"/",
    b"-",
    b"_",
    b"%2e",
    b"\xc3",
    b" ",
    b"\n*.example.com",
    b"\n*",
];

const MESSAGE_PIECES: &[&[u8]] = &[
    b"\0",
    b"\x07",
    b"\x2f",
    b"\x40",
    b"\xc0",
    b"GET ",
    b"OPTIONS ",
    b"CONNECT ",
    b"/k?q",
    b"*",
    b"http://a.example/",
    b"\nhost:a.example",
    b"\nconnection:",
    b"upgrade",
    b"close",
    b", ",
    b"x-private",
    b"\nx-private:1",
    b"\nupgrade:",
    b"h2c",
    b"websocket",
    b"\nte:trailers",
    b"\nx-forwarded-for:",
    b"192.0.2.1",
    b"\nforwarded:for=x",
    b"\nx-s3cors-a:1",
    b"\nvary:",
    b"origin",
    b"Origin",
    b"\norigin:https://a.test",
    b"\naccess-control-allow-origin:*",
    b"\nexpect:100-continue",
    b"\nvia:1.1 b",
    b"\nx-forwarded-proto:https",
];

const HEADER_PIECES: &[&[u8]] = &[
    b"PROXY ",
    b"TCP4 ",
    b"TCP6 ",
    b"UNKNOWN",
    b" ",
    b"192.0.2.1 ",
    b"2001:db8::1 ",
    b"::ffff:192.0.2.1 ",
    b"80 ",
    b"443",
    b"0",
    b"65536",
    b"\r\n",
    b"\r",
    b"\n",
    b"GET /",
    b"\r\n\r\n\0\r\nQUIT\n",
    b"\x21\x11",
    b"\x21\x21",
    b"\x20\0",
    b"\0\x0c",
    b"\0\x24",
    b"\0\0",
    b"\xff\xff",
    b"abcdefghijkl",
    b"PROXY TCP4 192.0.2.1 192.0.2.2 1 2\r\n",
];

proptest! {
    #![proptest_config(ProptestConfig::with_cases(800))]

    #[test]
    fn host(bytes in pieces_of(HOST_PIECES)) {
        targets::host(&bytes);
    }

    #[test]
    fn forward(bytes in pieces_of(MESSAGE_PIECES)) {
        targets::forward(&bytes);
    }

    #[test]
    fn proxy_protocol(bytes in pieces_of(HEADER_PIECES)) {
        targets::proxy_protocol(&bytes);
    }

    #[test]
    fn import(bytes in mutated_settings()) {
        targets::import(&bytes);
    }

    #[test]
    fn config(bytes in mutated_config()) {
        targets::config(&bytes);
    }

    #[test]
    fn xml(bytes in mutated()) {
        targets::xml(&bytes);
    }

    #[test]
    fn decide(
        rules in vec((
            vec(select(&["*", "https://a.test", "https://*.a.test", "http*", "null", "a*b", "https://a.test/"][..]), 1..3),
            vec(select(&["GET", "PUT", "HEAD", "DELETE"][..]), 1..3),
            vec(select(&["*", "x-*", "a", "Content-Type"][..]), 0..3),
        ), 0..4),
        method in select(&["OPTIONS", "GET", "PUT", "PATCH"][..]),
        lines in vec((
            select(&["o", "o", "m", "h"][..]),
            "(https://a\\.test|https://b\\.a\\.test|null|GET|PUT|get|a|x-1|content-type|[ -~]{0,6}|[ ,a-z*]{0,9})",
        ), 0..5),
    ) {
        let mut input = String::from("<CORSConfiguration>");
        for (origins, methods, headers) in rules {
            input.push_str("<CORSRule>");
            for (name, values) in [
                ("AllowedOrigin", origins), ("AllowedMethod", methods), ("AllowedHeader", headers),
            ] {
                for value in values {
                    input.push_str(&format!("<{name}>{value}</{name}>"));
                }
            }
            input.push_str("</CORSRule>");
        }
        input.push_str("</CORSConfiguration>\0");
        input.push_str(method);
        for (mark, value) in lines {
            input.push_str(&format!("\n{mark}{value}"));
        }
        targets::decide(input.as_bytes());
    }
}

/// A nearly valid head, followed by a body.
fn heads() -> impl Strategy<Value = Vec<u8>> {
    let line = select(&[
        "GET / HTTP/1.1",
        "POST /k HTTP/1.1",
        "GET /# HTTP/1.0",
        "GET  / HTTP/1.1",
        "\r\nGET / HTTP/1.1",
    ]);
    let field = select(&[
        "Host: a",
        "content-length: 3",
        "Content-Length:\t03",
        "transfer-encoding: chunked",
        "Transfer-Encoding : chunked",
        "x: \u{e9} ",
        " folded",
        "Connection: close",
        "a:",
        ": b",
        "",
    ]);
    let end = select(&["\r\n", "\r\n", "\r\n", "\r\n", "\n", "\r", "\r\n\r\n"]);
    let body = select(&[
        "",
        "abc",
        "3\r\nabc\r\n0\r\n\r\n",
        "3;x\r\nabc\r\n0\r\na: b\r\n\r\nGET",
        "x\r\n",
    ]);
    (line, vec((field, end), 0..5), body).prop_map(|(line, fields, body)| {
        let mut head = format!("{line}\r\n");
        for (field, end) in fields {
            head.push_str(field);
            head.push_str(end);
        }
        format!("{head}\r\n{body}").into_bytes()
    })
}

proptest! {
    #[test]
    fn heads_and_chunks(bytes in heads(), any in vec(any::<u8>(), 0..40), at in any::<Index>()) {
        targets::wire(&bytes);
        let mut spoilt = bytes;
        let at = at.index(spoilt.len());
        spoilt.splice(at..at, any);
        targets::wire(&spoilt);
    }
}
