//! Properties of the changes to forwarded messages, for any input.

use std::net::IpAddr;

use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Response, Uri, Version, request};
use s3cors::cors::{Decision, Options, Policy};
use s3cors::proxy::fuzzing::{to_client, to_upstream};
use s3cors::routing::client::Client;
use s3cors::routing::snapshot::Forwarding;

/// A field as a pair, with its name in lower case.
type Field = (String, Vec<u8>);

/// A message: a byte that selects options, then `METHOD target` and field lines. As a request, it
/// reaches the upstream in the form that a simple reference implementation gives it; the same holds
/// for its fields as a response to the client.
pub fn forward(bytes: &[u8]) {
    let Some((choices, message)) = bytes.split_first() else {
        return;
    };
    let mut lines = message.split(|byte| *byte == b'\n');
    let request_line = lines.next().unwrap_or_default();
    let mut fields = HeaderMap::new();
    for line in lines.take(100) {
        let mut parts = line.splitn(2, |byte| *byte == b':');
        let (Some(name), Some(value)) = (parts.next(), parts.next()) else {
            continue;
        };
        let name = HeaderName::from_bytes(name);
        if let (Ok(name), Ok(value)) = (name, HeaderValue::from_bytes(value)) {
            fields.append(name, value);
        }
    }
    let chosen = |bit: u8| choices & bit != 0;
    let forwarding = Forwarding {
        via: chosen(1),
        x_forwarded: chosen(2),
        forwarded: chosen(4),
        x_real_ip: false,
    };
    let client = Client {
        address: chosen(8).then_some(IpAddr::from([192, 0, 2, 1])),
        tls: chosen(16),
        trusted: chosen(32),
        listener: Default::default(),
    };
    let version = match (chosen(64), chosen(128)) {
        (true, false) => Version::HTTP_10,
        (true, true) => Version::HTTP_2,
        (false, _) => Version::HTTP_11,
    };
    answered(&fields, forwarding);

    let mut words = request_line.splitn(2, |byte| *byte == b' ');
    let method = Method::from_bytes(words.next().unwrap_or_default());
    let target = Uri::try_from(words.next().unwrap_or_default());
    let (Ok(method), Ok(target)) = (method, target) else {
        return;
    };
    let mut request = Request::new(()).into_parts().0;
    request.method = method;
    request.uri = target;
    request.version = version;
    request.headers = fields;
    asked(request, client, forwarding);
}

fn asked(mut request: request::Parts, client: Client, forwarding: Forwarding) {
    let before = request.clone();
    let hosts: Vec<_> = before.headers.get_all("host").iter().collect();
    if to_upstream(&mut request, client, forwarding).is_err() {
        return;
    }
    // A forwarded request has a single host, and keeps its method and target.
    assert!(hosts.len() <= 1);
    let host = match before.uri.authority() {
        Some(authority) => authority.as_str().as_bytes().to_vec(),
        None => hosts
            .first()
            .map_or_else(Vec::new, |host| host.as_bytes().to_vec()),
    };
    let has_host = before.uri.authority().is_some() || !hosts.is_empty();
    // Only HTTP/1.0 requests may have no host.
    assert!(has_host || before.version == Version::HTTP_10);
    assert_eq!(request.method, before.method);
    assert_eq!(request.uri, before.uri);
    assert_eq!(request.version, Version::HTTP_11);
    assert_ne!(request.method, Method::CONNECT);

    let mut fields = hop_by_hop_removed(&pairs(&before.headers));
    fields.retain(|(name, _)| name != "host");
    if has_host {
        fields.push(("host".into(), host.clone()));
    }
    if before.version == Version::HTTP_10 {
        fields.retain(|(name, _)| name != "expect");
    }
    if before.version == Version::HTTP_2 {
        let (crumbs, others): (Vec<_>, Vec<_>) =
            fields.into_iter().partition(|(name, _)| name == "cookie");
        fields = others;
        let crumbs: Vec<_> = crumbs.into_iter().map(|(_, value)| value).collect();
        if !crumbs.is_empty() {
            fields.push(("cookie".into(), crumbs.join(&b"; "[..])));
        }
    }
    let upgrades = listed(&before.headers, "upgrade");
    let upgrade = before.headers.get("upgrade").filter(|_| {
        before.version == Version::HTTP_11
            && !upgrades.iter().any(|protocol| protocol.starts_with(b"h2c"))
            && listed(&before.headers, "connection").contains(&b"upgrade".to_vec())
    });
    if let Some(upgrade) = upgrade {
        fields.push(("upgrade".into(), upgrade.as_bytes().to_vec()));
        fields.push(("connection".into(), b"upgrade".to_vec()));
    } else if listed(&before.headers, "te").contains(&b"trailers".to_vec()) {
        fields.push(("te".into(), b"trailers".to_vec()));
        fields.push(("connection".into(), b"te".to_vec()));
    }
    if forwarding.via {
        let version = match before.version {
            Version::HTTP_10 => "1.0",
            Version::HTTP_2 => "2.0",
            _ => "1.1",
        };
        fields.push(("via".into(), format!("{version} s3cors").into_bytes()));
    }
    tell(&mut fields, &host, client, forwarding);
    fields.sort_by(by_name);
    assert_eq!(pairs(&request.headers), fields);
}

/// Fields that only trusted proxies may send, as CGI variables.
const CLAIMS: &[&str] = &[
    "CF_CONNECTING_IP",
    "CF_CONNECTING_IPV6",
    "CF_PSEUDO_IPV4",
    "CF_VISITOR",
    "CLIENT_CERT",
    "CLIENT_CERT_CHAIN",
    "CLIENT_IP",
    "CLOUDFRONT_FORWARDED_PROTO",
    "CLOUDFRONT_VIEWER_ADDRESS",
    "DO_CONNECTING_IP",
    "FASTLY_CLIENT_IP",
    "FLY_CLIENT_IP",
    "FORWARDED",
    "FORWARDED_FOR",
    "FRONT_END_HTTPS",
    "PROXY_CLIENT_IP",
    "REMOTE_ADDR",
    "TRUE_CLIENT_IP",
    "WL_PROXY_CLIENT_IP",
    "X_APPENGINE_USER_IP",
    "X_AZURE_CLIENTIP",
    "X_AZURE_SOCKETIP",
    "X_CLIENT_IP",
    "X_CLUSTER_CLIENT_IP",
    "X_ENVOY_EXTERNAL_ADDRESS",
    "X_FORWARDED",
    "X_HOST",
    "X_HTTP_HOST_OVERRIDE",
    "X_PROXYUSER_IP",
    "X_REAL_IP",
    "X_REMOTE_ADDR",
    "X_REMOTE_IP",
    "X_REWRITE_URL",
    "X_SCHEME",
    "X_URL_SCHEME",
    "X_VERCEL_FORWARDED_FOR",
];

/// Reference implementation of recognising a claim, by the CGI variable of the field.
fn is_claim(name: &str) -> bool {
    let folded = |byte: char| match byte.is_ascii_alphanumeric() {
        true => byte.to_ascii_uppercase(),
        false => '_',
    };
    let variable: String = name.chars().map(folded).collect();
    let variable = match variable.strip_prefix("HTTP_") {
        Some(rest) if !rest.starts_with('H') => rest,
        _ => &variable,
    };
    CLAIMS.contains(&variable)
        || ["X_FORWARDED_", "X_ORIGINAL_", "X_S3CORS_"]
            .iter()
            .any(|prefix| variable.starts_with(prefix))
}

/// Reference implementation of the fields that say where a request comes from.
fn tell(fields: &mut Vec<Field>, host: &[u8], client: Client, forwarding: Forwarding) {
    fields.retain(|(name, _)| client.trusted || !is_claim(name));
    let proto = if client.tls { "https" } else { "http" };
    let mut add = |name: &str, element: String| {
        let mut elements = Vec::new();
        fields.retain(|(known, value)| {
            let is_other = known != name;
            if !is_other {
                elements.push(value.clone());
            }
            is_other
        });
        elements.push(element.into_bytes());
        fields.push((name.into(), elements.join(&b", "[..])));
    };
    if forwarding.forwarded {
        let node = client
            .address
            .map_or("unknown".into(), |address| address.to_string());
        let host = std::str::from_utf8(host).unwrap();
        let host = match host {
            "" => String::new(),
            host => format!(";host=\"{host}\""),
        };
        add("forwarded", format!("for={node};proto={proto}{host}"));
    }
    if forwarding.x_forwarded {
        if let Some(address) = client.address {
            add("x-forwarded-for", address.to_string());
        }
        for (name, value) in [
            ("x-forwarded-proto", proto.as_bytes()),
            ("x-forwarded-host", host),
        ] {
            if !value.is_empty() && !fields.iter().any(|(known, _)| known == name) {
                fields.push((name.into(), value.to_vec()));
            }
        }
    }
}

/// A response's fields: connection fields are removed, the policy sets CORS, and `Vary` is added
/// to.
fn answered(fields: &HeaderMap, forwarding: Forwarding) {
    let mut response = Response::new(()).into_parts().0;
    response.headers = fields.clone();
    to_client(&mut response, forwarding);
    let mut expected = hop_by_hop_removed(&pairs(fields));
    if forwarding.via {
        expected.push(("via".into(), b"1.1 s3cors".to_vec()));
        expected.sort_by(by_name);
    }
    assert_eq!(pairs(&response.headers), expected);

    let policy = Policy::not_enabled(Options::default());
    policy.mark(Decision::NotCors, &mut response.headers);
    let varied = listed(&response.headers, "vary");
    let varied_before: Vec<_> = expected
        .iter()
        .filter(|(name, _)| name == "vary")
        .flat_map(|(_, value)| elements(value))
        .collect();
    let by_anything = varied_before.contains(&b"*".to_vec());
    for name in &varied_before {
        assert!(by_anything || varied.contains(name), "{name:?} is lost");
    }
    assert!(varied.contains(&b"origin".to_vec()) || by_anything);
    let mut once = varied.clone();
    once.sort();
    once.dedup();
    assert_eq!(once.len(), varied.len(), "{varied:?}");
    expected.retain(|(name, _)| name != "vary" && !name.starts_with("access-control-"));
    response.headers.remove("vary");
    assert_eq!(pairs(&response.headers), expected);
}

/// Reference implementation of what every intermediary must do (RFC 9110 §7.6.1), except for fields
/// that affect decisions.
fn hop_by_hop_removed(fields: &[Field]) -> Vec<Field> {
    let of_the_connection = [
        "connection",
        "http2-settings",
        "keep-alive",
        "proxy-connection",
        "te",
        "transfer-encoding",
        "upgrade",
    ];
    let decides = [
        "authorization",
        "content-length",
        "cookie",
        "host",
        "origin",
        "via",
    ];
    let decide = ["access-control-", "x-amz-"];
    let named: Vec<_> = fields
        .iter()
        .filter(|(name, _)| name == "connection")
        .flat_map(|(_, value)| elements(value))
        .collect();
    let goes = |name: &str| {
        let stays = decides.contains(&name)
            || decide.iter().any(|start| name.starts_with(start))
            || is_claim(name);
        of_the_connection.contains(&name) || named.contains(&name.as_bytes().to_vec()) && !stays
    };
    let left = fields.iter().filter(|(name, _)| !goes(name));
    left.cloned().collect()
}

/// Fields in an order independent of their storage; lines of the same field keep their order.
fn pairs(fields: &HeaderMap) -> Vec<Field> {
    let pairs = fields.iter();
    let mut pairs: Vec<_> = pairs
        .map(|(name, value)| (name.to_string(), value.as_bytes().to_vec()))
        .collect();
    pairs.sort_by(by_name);
    pairs
}

fn by_name(one: &Field, other: &Field) -> std::cmp::Ordering {
    one.0.cmp(&other.0)
}

/// The elements of a list field, over all its lines, in lower case.
fn listed(fields: &HeaderMap, name: &str) -> Vec<Vec<u8>> {
    let lines = fields.get_all(name).iter();
    lines.flat_map(|line| elements(line.as_bytes())).collect()
}

fn elements(value: &[u8]) -> Vec<Vec<u8>> {
    let elements = value.split(|byte| *byte == b',');
    let elements = elements.map(|element| element.trim_ascii().to_ascii_lowercase());
    elements.filter(|element| !element.is_empty()).collect()
}
