//! What changes in a request on its way to the upstream, each rule written once: for heads as bytes
//! (HTTP/1.1) and as header maps (HTTP/2).
//!
//! An edit decides for each field whether it stays (`keeps`), then adds fields to a [`FieldSink`]
//! (`add`). Everything else stays as it came, byte for byte, because SigV4 signs path, query and
//! `Host`.

use std::io::Write as _;
use std::net::IpAddr;

use http::header::{
    CONNECTION, EXPECT, FORWARDED, HOST, MAX_FORWARDS, TE, TRANSFER_ENCODING, UPGRADE, VIA,
};
use http::{HeaderMap, HeaderName, Version};

use crate::http1::claims::is_claim;
use crate::http1::connection_fields::{includes, removed_by_connection};
use crate::http1::fields::{Fields, is_named};
use crate::http1::response_edit::{Added, FieldSink, add_via};
use crate::routing::client::{
    Client, TrustedProxies, X_FORWARDED_FOR, X_FORWARDED_HOST, X_FORWARDED_PROTO, X_REAL_IP,
    address_behind,
};
use crate::routing::snapshot::Forwarding;
use crate::telemetry::trace_context::TRACEPARENT;
use crate::telemetry::traces::OpenSpan;

/// The changes to an upstream's request.
#[derive(Clone, Copy, Debug)]
pub(super) struct RequestEdit<'r> {
    pub(super) client: Client,
    pub(super) forwarding: Forwarding,
    /// The trusted proxies, for `X-Real-IP`.
    pub(super) proxies: &'r TrustedProxies,
    /// The version in which the request was received.
    pub(super) received: Version,
    /// The host of the request, for `Forwarded` and `X-Forwarded-Host`.
    pub(super) host: &'r [u8],
    /// Whether `Host` is replaced.
    pub(super) replaces_host: bool,
    /// Whether `Connection` may list fields.
    pub(super) has_lists: bool,
    /// Whether the client takes trailers (`TE: trailers`).
    pub(super) accepts_trailers: bool,
    /// The protocol to switch to.
    pub(super) upgrade: Option<&'r [u8]>,
    /// The remaining `Max-Forwards`.
    pub(super) max_forwards: Option<u64>,
    /// Whether the body is sent in chunks.
    pub(super) is_chunked: bool,
    /// The proxy's span, between the client's and the upstream's.
    pub(super) span: Option<&'r OpenSpan>,
}

impl RequestEdit<'_> {
    /// Applies the edit to a header map.
    pub(super) fn apply(&self, fields: &mut HeaderMap) {
        let mut added = Added::default();
        self.add(fields, &mut added);
        added.replace(fields, |name, fields| self.keeps(name, fields));
    }

    /// Whether a field stays as it came.
    pub(super) fn keeps(&self, name: &str, fields: &(impl Fields + ?Sized)) -> bool {
        let is = |other: &HeaderName| is_named(name, other.as_str());
        let forwarding = self.forwarding;
        !(includes(name)
            || !self.client.trusted && is_claim(name)
            || self.replaces_host && is(&HOST)
            || forwarding.x_forwarded && self.client.address.is_some() && is(&X_FORWARDED_FOR)
            || forwarding.forwarded && is(&FORWARDED)
            || self.has_lists && removed_by_connection(name, fields)
            || self.received == Version::HTTP_10 && is(&EXPECT)
            || self.max_forwards.is_some() && is(&MAX_FORWARDS)
            || self.span.is_some_and(|span| span.replaces(name)))
    }

    /// Adds the proxy's fields; `fields` are those that the request arrived with.
    pub(super) fn add(&self, fields: &(impl Fields + ?Sized), out: &mut impl FieldSink) {
        if self.is_chunked {
            out.constant(&TRANSFER_ENCODING, "chunked");
        }
        if let Some(protocol) = self.upgrade {
            out.field(&UPGRADE, |out| out.extend_from_slice(protocol));
            out.constant(&CONNECTION, "upgrade");
        } else if self.accepts_trailers {
            out.constant(&TE, "trailers");
            out.constant(&CONNECTION, "te");
        }
        if let Some(hops) = self.max_forwards {
            // Writing to memory cannot fail.
            out.field(&MAX_FORWARDS, |out| drop(write!(out, "{hops}")));
        }
        if let Some(span) = self.span.filter(|span| span.replaces(TRACEPARENT.as_str())) {
            out.field(&TRACEPARENT, |out| span.write_parent(out));
        }
        if self.forwarding.via {
            add_via(self.received, out);
        }
        if self.forwarding.forwarded {
            self.add_forwarded(fields, out);
        }
        if self.forwarding.x_forwarded {
            self.add_x_forwarded(fields, out);
        }
        if self.forwarding.x_real_ip {
            self.add_x_real_ip(fields, out);
        }
    }

    /// Adds `Forwarded` ([RFC 7239]): with IPv6 addresses in brackets and quotes (§6).
    ///
    /// [RFC 7239]: https://www.rfc-editor.org/rfc/rfc7239
    fn add_forwarded(&self, fields: &(impl Fields + ?Sized), out: &mut impl FieldSink) {
        out.field(&FORWARDED, |out| {
            self.write_list(fields.field_values(&FORWARDED), out);
            out.extend_from_slice(b"for=");
            match self.client.address {
                Some(address @ IpAddr::V6(_)) => {
                    out.extend_from_slice(b"\"[");
                    write_address(address, out);
                    out.extend_from_slice(b"]\"");
                }
                Some(address) => write_address(address, out),
                None => out.extend_from_slice(b"unknown"),
            }
            out.extend_from_slice(b";proto=");
            out.extend_from_slice(self.proto().as_bytes());
            if !self.host.is_empty() {
                out.extend_from_slice(b";host=\"");
                out.extend_from_slice(self.host);
                out.push(b'"');
            }
        });
    }

    /// Adds `X-Forwarded-For`, and the others unless a trusted proxy sent them.
    fn add_x_forwarded(&self, fields: &(impl Fields + ?Sized), out: &mut impl FieldSink) {
        let said =
            |name: &HeaderName| self.client.trusted && fields.field_values(name).next().is_some();
        if let Some(address) = self.client.address {
            out.field(&X_FORWARDED_FOR, |out| {
                self.write_list(fields.field_values(&X_FORWARDED_FOR), out);
                write_address(address, out);
            });
        }
        if !said(&X_FORWARDED_PROTO) {
            out.constant(&X_FORWARDED_PROTO, self.proto());
        }
        if !self.host.is_empty() && !said(&X_FORWARDED_HOST) {
            out.field(&X_FORWARDED_HOST, |out| out.extend_from_slice(self.host));
        }
    }

    /// Adds `X-Real-IP`, the client's address, unless a trusted proxy sent it.
    fn add_x_real_ip(&self, fields: &(impl Fields + ?Sized), out: &mut impl FieldSink) {
        if self.client.trusted && fields.field_values(&X_REAL_IP).next().is_some() {
            return;
        }
        let lines = fields.field_values(&X_FORWARDED_FOR);
        if let Some(address) = address_behind(lines, self.client, self.proxies) {
            out.field(&X_REAL_IP, |out| write_address(address, out));
        }
    }

    /// Writes what a trusted proxy sent, followed by this proxy's own element.
    fn write_list<'f>(&self, lines: impl Iterator<Item = &'f [u8]>, out: &mut Vec<u8>) {
        for line in lines.filter(|_| self.client.trusted) {
            out.extend_from_slice(line);
            out.extend_from_slice(b", ");
        }
    }

    fn proto(&self) -> &'static str {
        match self.client.tls {
            true => "https",
            false => "http",
        }
    }
}

/// Whether a request loops: its `Via` lists this proxy more often than any chain of proxies would.
pub(crate) fn has_looped(fields: &(impl Fields + ?Sized)) -> bool {
    const MAX_HOPS: usize = 8;
    let elements = fields
        .field_values(&VIA)
        .flat_map(|value| value.split(|byte| *byte == b','));
    let ours = elements.filter(|element| {
        let mut words = element
            .split(|byte| matches!(byte, b' ' | b'\t'))
            .filter(|word| !word.is_empty());
        words.nth(1) == Some(b"s3cors")
    });
    ours.count() >= MAX_HOPS
}

/// Writes an address. IPv4, the usual case, avoids the cost of `fmt`.
fn write_address(address: IpAddr, out: &mut Vec<u8>) {
    let IpAddr::V4(address) = address else {
        // Writing to memory cannot fail.
        return drop(write!(out, "{address}"));
    };
    for (index, octet) in address.octets().into_iter().enumerate() {
        if index > 0 {
            out.push(b'.');
        }
        if octet >= 100 {
            out.push(b'0' + octet / 100);
        }
        if octet >= 10 {
            out.push(b'0' + octet / 10 % 10);
        }
        out.push(b'0' + octet % 10);
    }
}

/// Makes a span the parent of the upstream's span.
pub(super) fn insert_span(fields: &mut HeaderMap, span: &OpenSpan) {
    let mut added = Added::default();
    if span.replaces(TRACEPARENT.as_str()) {
        added.field(&TRACEPARENT, |out| span.write_parent(out));
    }
    added.replace(fields, |name, _| !span.replaces(name));
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::HeaderValue;
    use proptest::prelude::*;

    fn client(address: Option<&str>, trusted: bool) -> Client {
        Client {
            address: address.map(|address| address.parse().unwrap()),
            tls: true,
            trusted,
            listener: Default::default(),
        }
    }

    fn edit<'r>(
        client: Client,
        forwarding: Forwarding,
        host: &'r [u8],
        proxies: &'r TrustedProxies,
    ) -> RequestEdit<'r> {
        RequestEdit {
            client,
            forwarding,
            proxies,
            received: Version::HTTP_11,
            host,
            replaces_host: false,
            has_lists: true,
            accepts_trailers: false,
            upgrade: None,
            max_forwards: None,
            is_chunked: false,
            span: None,
        }
    }

    #[test]
    fn a_request_loops_after_eight_hops_through_this_proxy() {
        let seven = "1.1 s3cors,1.1 nginx, 2.0 s3cors , 1.0\ts3cors,1.1 s3cors, 1.1 s3cors";
        for (lines, expected) in [
            (vec![("via", seven)], false),
            (vec![("via", seven), ("via", "1.1 s3cors (a)")], false),
            (
                vec![
                    ("via", seven),
                    ("via", "1.1 s3cors, 1.1 s3cors, 1.1 s3cors"),
                ],
                true,
            ),
            (vec![("via", "1.1 s3cors-a, 1.1 cdn (s3cors)"); 8], false),
            (vec![], false),
        ] {
            assert_eq!(has_looped(&fields(&lines)), expected, "{lines:?}");
        }
    }

    fn fields(lines: &[(&'static str, &'static str)]) -> HeaderMap {
        let mut fields = HeaderMap::new();
        for (name, value) in lines {
            fields.append(*name, HeaderValue::from_static(value));
        }
        fields
    }

    #[test]
    fn claims_are_kept_only_from_trusted_proxies() {
        let said = [
            ("host", "a.example"),
            ("x-forwarded-for", "192.0.2.1"),
            ("x-forwarded-for", "10.0.0.2"),
            ("x-forwarded-proto", "http"),
            ("x-forwarded-anything", "1"),
            ("forwarded", "for=192.0.2.1"),
            ("x-s3cors-anything", "1"),
            ("x-forward", "not ours"),
        ];
        let told = |trusted, x_forwarded, forwarded| {
            let mut fields = fields(&said);
            let forwarding = Forwarding {
                via: false,
                x_forwarded,
                forwarded,
                x_real_ip: false,
            };
            let (client, proxies) = (client(Some("10.0.0.1"), trusted), TrustedProxies::default());
            edit(client, forwarding, b"a.example", &proxies).apply(&mut fields);
            let mut lines: Vec<_> = fields
                .iter()
                .map(|(name, value)| format!("{name}: {}", value.to_str().unwrap()))
                .collect();
            lines.sort();
            lines.join("\n")
        };
        assert_eq!(
            told(false, false, false),
            "host: a.example\nx-forward: not ours"
        );
        assert_eq!(
            told(false, true, true),
            "forwarded: for=10.0.0.1;proto=https;host=\"a.example\"\n\
             host: a.example\n\
             x-forward: not ours\n\
             x-forwarded-for: 10.0.0.1\n\
             x-forwarded-host: a.example\n\
             x-forwarded-proto: https"
        );
        assert_eq!(
            told(true, true, true),
            "forwarded: for=192.0.2.1, for=10.0.0.1;proto=https;host=\"a.example\"\n\
             host: a.example\n\
             x-forward: not ours\n\
             x-forwarded-anything: 1\n\
             x-forwarded-for: 192.0.2.1, 10.0.0.2, 10.0.0.1\n\
             x-forwarded-host: a.example\n\
             x-forwarded-proto: http\n\
             x-s3cors-anything: 1"
        );
        let mut kept: Vec<_> = said
            .iter()
            .map(|(name, value)| format!("{name}: {value}"))
            .collect();
        kept.sort();
        assert_eq!(told(true, false, false), kept.join("\n"));
    }

    #[test]
    fn a_client_without_an_address_is_described_as_far_as_known() {
        let mut fields = HeaderMap::new();
        let forwarding = Forwarding {
            via: false,
            x_forwarded: true,
            forwarded: true,
            x_real_ip: true,
        };
        let proxies = TrustedProxies::default();
        edit(client(None, false), forwarding, b"", &proxies).apply(&mut fields);
        assert_eq!(fields[FORWARDED], "for=unknown;proto=https");
        assert!(!fields.contains_key(&X_FORWARDED_FOR));
        assert!(!fields.contains_key(&X_REAL_IP));
        // What a trusted proxy on a Unix socket sends stays.
        let mut fields = HeaderMap::new();
        fields.append(&X_FORWARDED_FOR, HeaderValue::from_static("192.0.2.9"));
        edit(client(None, true), forwarding, b"", &proxies).apply(&mut fields);
        assert_eq!(fields[&X_FORWARDED_FOR], "192.0.2.9");
        let mut fields = HeaderMap::new();
        edit(
            client(Some("2001:db8::1"), false),
            forwarding,
            b"",
            &proxies,
        )
        .apply(&mut fields);
        assert_eq!(fields[FORWARDED], "for=\"[2001:db8::1]\";proto=https");
        assert_eq!(fields[&X_FORWARDED_FOR], "2001:db8::1");
        assert_eq!(fields[&X_REAL_IP], "2001:db8::1");
    }

    #[test]
    fn x_real_ip_is_the_client_of_the_trusted_proxies_unless_one_sends_it() {
        let proxies = ["10.0.0.0/8".parse().unwrap()].into_iter().collect();
        let forwarding = Forwarding {
            via: false,
            x_real_ip: true,
            ..Forwarding::default()
        };
        let real_ip = |peer, trusted, lines: &[_]| {
            let mut fields = fields(lines);
            edit(client(Some(peer), trusted), forwarding, b"", &proxies).apply(&mut fields);
            let values = fields.get_all(&X_REAL_IP).iter();
            let values: Vec<_> = values.map(|value| value.to_str().unwrap()).collect();
            values.join(" and ")
        };
        let said = [
            ("x-real-ip", "192.0.2.9"),
            ("x-forwarded-for", "192.0.2.1, 10.0.0.2"),
        ];
        assert_eq!(real_ip("192.0.2.5", false, &said), "192.0.2.5");
        assert_eq!(real_ip("192.0.2.5", false, &[]), "192.0.2.5");
        assert_eq!(real_ip("10.0.0.1", true, &said), "192.0.2.9");
        assert_eq!(real_ip("10.0.0.1", true, &said[1..]), "192.0.2.1");
        assert_eq!(real_ip("10.0.0.1", true, &[]), "10.0.0.1");
    }

    #[test]
    fn fields_listed_in_connection_are_removed_except_deciding_ones() {
        let mut fields = fields(&[
            ("connection", "close, X-Private, Origin, host"),
            ("connection", "Authorization"),
            ("x-private", "1"),
            ("keep-alive", "timeout=5"),
            ("te", "trailers"),
            ("transfer-encoding", "chunked"),
            ("origin", "https://a.example"),
            ("host", "a"),
            ("authorization", "AWS4-HMAC-SHA256"),
            ("etag", "\"1\""),
        ]);
        let nothing = Forwarding {
            via: false,
            ..Forwarding::default()
        };
        edit(
            client(None, true),
            nothing,
            b"a",
            &TrustedProxies::default(),
        )
        .apply(&mut fields);
        let mut left: Vec<_> = fields.keys().map(HeaderName::as_str).collect();
        left.sort_unstable();
        assert_eq!(left, ["authorization", "etag", "host", "origin"]);
    }

    proptest! {
        #[test]
        fn an_address_is_written_like_its_display(address: IpAddr) {
            let mut written = Vec::new();
            write_address(address, &mut written);
            prop_assert_eq!(written, address.to_string().into_bytes());
        }
    }
}
