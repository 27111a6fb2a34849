//! Fields that claim where a request comes from or what it asks for, and that an upstream may
//! trust.
//!
//! Any client can send them, so they are kept only from trusted proxies. The separators in their
//! names do not matter: CGI and WSGI pass `X-Real-IP` and `X_Real_IP` to a program as one variable
//! (`HTTP_X_REAL_IP`, [RFC 3875 §4.1.18]), and lighttpd does the same with any character that is
//! not a letter or a digit. They replace characters one by one, so a doubled separator makes
//! another name, which passes: `X--Real-IP` is `HTTP_X__REAL_IP` (checked with Python's wsgiref).
//!
//! [RFC 3875 §4.1.18]: https://www.rfc-editor.org/rfc/rfc3875#section-4.1.18

/// Prefixes of claims.
const PREFIXES: [&str; 3] = ["x-forwarded-", "x-original-", "x-s3cors-"];

/// Claims by their first letter; those that begin with `x-`, by the letter after it.
///
/// Sources: RFC 7239 (Forwarded), RFC 9440 §2 (Client-Cert, which proxies must remove), nginx' realip
/// module and MinIO (X-Real-IP), Akamai and Cloudflare (True-Client-IP, CF-*), Fastly, Fly.io,
/// DigitalOcean, CloudFront, Azure Front Door, App Engine, Envoy, ingress-nginx (X-Original-*,
/// X-Scheme), IIS and Symfony (X-Original-URL, X-Rewrite-URL: CVE-2018-14773), the npm package
/// request-ip (X-Client-IP, X-Cluster-Client-IP, X-Forwarded, Forwarded-For), and WebLogic
/// (Proxy-Client-IP, WL-Proxy-Client-IP).
const C: &[&str] = &[
    "cf-connecting-ip",
    "cf-connecting-ipv6",
    "cf-pseudo-ipv4",
    "cf-visitor",
    "client-cert",
    "client-cert-chain",
    "client-ip",
    "cloudfront-forwarded-proto",
    "cloudfront-viewer-address",
];
const D: &[&str] = &["do-connecting-ip"];
const F: &[&str] = &[
    "fastly-client-ip",
    "fly-client-ip",
    "forwarded",
    "forwarded-for",
    "front-end-https",
];
const P: &[&str] = &["proxy-client-ip"];
const R: &[&str] = &["remote-addr"];
const T: &[&str] = &["true-client-ip"];
const W: &[&str] = &["wl-proxy-client-ip"];
const X_A: &[&str] = &[
    "x-appengine-user-ip",
    "x-azure-clientip",
    "x-azure-socketip",
];
const X_C: &[&str] = &["x-client-ip", "x-cluster-client-ip"];
const X_E: &[&str] = &["x-envoy-external-address"];
const X_F: &[&str] = &["x-forwarded"];
const X_H: &[&str] = &["x-host", "x-http-host-override"];
const X_P: &[&str] = &["x-proxyuser-ip"];
const X_R: &[&str] = &["x-real-ip", "x-remote-addr", "x-remote-ip", "x-rewrite-url"];
const X_S: &[&str] = &["x-scheme"];
const X_U: &[&str] = &["x-url-scheme"];
const X_V: &[&str] = &["x-vercel-forwarded-for"];

/// Whether only a trusted proxy, or this one, may send a field to the upstream.
///
/// Called for each field of each request: the first letters rule out nearly all names.
pub(crate) fn is_claim(name: &str) -> bool {
    let (names, prefixes): (&[&str], &[&str]) = match name.as_bytes() {
        [b'x' | b'X', separator, third, ..] if !separator.is_ascii_alphanumeric() => {
            match third.to_ascii_lowercase() {
                // Most fields of S3 requests are x-amz-*.
                b'a' => (X_A, &[]),
                b'c' => (X_C, &[]),
                b'e' => (X_E, &[]),
                b'f' => (X_F, &PREFIXES),
                b'h' => (X_H, &[]),
                b'o' => (&[], &PREFIXES),
                b'p' => (X_P, &[]),
                b'r' => (X_R, &[]),
                b's' => (X_S, &PREFIXES),
                b'u' => (X_U, &[]),
                b'v' => (X_V, &[]),
                _ => return false,
            }
        }
        [first, ..] => match first.to_ascii_lowercase() {
            b'c' => (C, &[]),
            b'd' => (D, &[]),
            b'f' => (F, &[]),
            b'p' => (P, &[]),
            b'r' => (R, &[]),
            b't' => (T, &[]),
            b'w' => (W, &[]),
            // Java programs look up CGI variables as if they were fields.
            b'h' => return cgi_variable(name).is_some_and(is_claim),
            _ => return false,
        },
        [] => return false,
    };
    names.iter().any(|claim| is_read_as(name, claim))
        || prefixes.iter().any(|prefix| {
            let start = name.get(..prefix.len());
            start.is_some_and(|start| is_read_as(start, prefix))
        })
}

/// Why a request with such a field is refused.
pub(crate) const IMITATED_FRAMING: &str =
    "a field name equals Content-Length or Transfer-Encoding except for its separator";

/// Whether an upstream might read a field as framing the body although a proxy does not.
pub(crate) fn imitates_framing(name: &str) -> bool {
    let imitates = |field| is_read_as(name, field) && !name.eq_ignore_ascii_case(field);
    match name.len() {
        14 => imitates("content-length"),
        17 => imitates("transfer-encoding"),
        _ => false,
    }
}

/// The field whose CGI variable has this name: `HTTP_X_REAL_IP` is that of `X-Real-IP`.
fn cgi_variable(name: &str) -> Option<&str> {
    let (prefix, field) = name.split_at_checked("http-".len())?;
    // `http-http-` would be the variable of a variable.
    (is_read_as(prefix, "http-") && !field.starts_with(['h', 'H'])).then_some(field)
}

/// Whether a program that gets field names without letter case and separators reads `name` as
/// `field` (in lower case).
fn is_read_as(name: &str, field: &str) -> bool {
    let folded = |byte: u8| match byte.is_ascii_alphanumeric() {
        true => byte.to_ascii_lowercase(),
        false => b'-',
    };
    name.len() == field.len()
        && name
            .bytes()
            .zip(field.bytes())
            .all(|(byte, expected)| folded(byte) == expected)
}

#[cfg(test)]
mod tests {
    use super::*;

    const NAMES: [&[&str]; 18] = [
        C,
        D,
        F,
        P,
        R,
        T,
        W,
        X_A,
        X_C,
        X_E,
        X_F,
        X_H,
        X_P,
        X_R,
        X_S,
        X_U,
        X_V,
        &[],
    ];

    fn claims() -> impl Iterator<Item = String> {
        let names = NAMES.into_iter().flatten().map(ToString::to_string);
        let prefixed = PREFIXES.iter().map(|prefix| format!("{prefix}for"));
        names.chain(prefixed)
    }

    /// The name in upper case, as browsers write it, with other separators, and as a CGI variable.
    fn spellings(name: &str) -> Vec<String> {
        let mut spelled = vec![
            name.to_owned(),
            name.to_ascii_uppercase(),
            name.replace('-', "_"),
            name.replacen('-', "_", 1),
            name.replace('-', "."),
            name.to_ascii_uppercase().replace('-', "~"),
        ];
        if !name.starts_with('h') {
            spelled.push(format!(
                "HTTP_{}",
                name.to_ascii_uppercase().replace('-', "_")
            ));
        }
        spelled
    }

    #[test]
    fn a_claim_is_recognised_in_every_spelling() {
        let mut tried = 0;
        for claim in claims() {
            for name in spellings(&claim) {
                assert!(is_claim(&name), "{name}");
                tried += 1;
            }
        }
        assert!(tried >= 200, "{tried}");
    }

    #[test]
    fn other_fields_are_not_claims() {
        for name in [
            "",
            "x",
            "x-",
            "x-amz-date",
            "x-amz-content-sha256",
            "x-amz-security-token",
            "x-request-id",
            "x-requested-with",
            "x-forwardedfor",
            // Other variables of CGI and WSGI.
            "x--real-ip",
            "x-_real_ip",
            "x--forwarded-for",
            "true--client-ip",
            "x-originality",
            "xforwarded-for",
            "http-referer",
            "http2-settings",
            "host",
            "origin",
            "cookie",
            "content-type",
            "content-length",
            "cache-control",
            "connection",
            "date",
            "from",
            "pragma",
            "range",
            "referer",
            "te",
            "traceparent",
            "transfer-encoding",
            "via",
            "forwardedx",
            "client-ip-hint",
        ] {
            assert!(!is_claim(name), "{name}");
        }
    }

    #[test]
    fn imitated_framing_fields_are_recognised() {
        for name in [
            "content_length",
            "Content_Length",
            "CONTENT.LENGTH",
            "transfer_encoding",
            "Transfer_Encoding",
            "TRANSFER~ENCODING",
        ] {
            assert!(imitates_framing(name), "{name}");
        }
        for name in [
            "content-length",
            "Content-Length",
            "Transfer-Encoding",
            "content_lengths",
            "contentxlength",
            "content_type",
            "accept_encoding",
        ] {
            assert!(!imitates_framing(name), "{name}");
        }
    }

    /// `config/README.md` lists exactly the claims.
    #[test]
    fn the_reference_lists_exactly_the_claims() {
        let reference = include_str!("../../config/README.md");
        let (_, list) = reference.split_once("<!-- claims").unwrap();
        let (_, list) = list.split_once("-->").unwrap();
        let (list, _) = list.trim_start().split_once("\n\n").unwrap();
        let mut listed: Vec<String> = list
            .split('`')
            .skip(1)
            .step_by(2)
            .map(str::to_ascii_lowercase)
            .collect();
        listed.sort();
        let mut known: Vec<String> = NAMES
            .into_iter()
            .flatten()
            .map(ToString::to_string)
            .collect();
        known.extend(PREFIXES.iter().map(|prefix| format!("{prefix}*")));
        known.sort();
        assert_eq!(listed, known);
    }
}
