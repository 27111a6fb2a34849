//! The metrics of a route's traffic: bytes, requests in flight, retries, time to the first byte.

use super::cells::Totals;
use super::family::Family;
use super::traffic::{RetryReason, Transfer};

/// The traffic metrics, under construction.
pub(super) struct TrafficFamilies {
    /// In the order of [`Transfer`].
    bytes: [Family; Transfer::COUNT],
    in_flight: Family,
    first_byte: Family,
    retries: Family,
}

impl TrafficFamilies {
    pub(super) fn new() -> Self {
        Self {
            bytes: [
                Family::counter(
                    "s3cors_client_received_bytes_total",
                    "Bytes of request bodies received from clients, without framing.",
                ),
                Family::counter(
                    "s3cors_client_sent_bytes_total",
                    "Bytes of response bodies sent to clients, without framing.",
                ),
                Family::counter(
                    "s3cors_upstream_sent_bytes_total",
                    "Bytes of request bodies sent to upstreams, without framing.",
                ),
                Family::counter(
                    "s3cors_upstream_received_bytes_total",
                    "Bytes of response bodies received from upstreams, without framing.",
                ),
            ],
            in_flight: Family::gauge(
                "s3cors_requests_in_flight",
                "Forwarded requests whose response has not ended.",
            ),
            first_byte: Family::histogram_of(
                "s3cors_upstream_first_byte_seconds",
                "Time from the end of a request to the head of the upstream's response.",
            ),
            retries: Family::counter(
                "s3cors_upstream_retries_total",
                "Requests that were sent to an upstream again, by reason.",
            ),
        }
    }

    pub(super) fn add(&mut self, route: &str, totals: &Totals) {
        let labels = [("route", route)];
        for (family, bytes) in self.bytes.iter_mut().zip(totals.bytes) {
            family.count(&labels, bytes);
        }
        self.in_flight.value(&labels, totals.in_flight as f64);
        self.first_byte.histogram(&labels, &totals.first_byte);
        for (reason, count) in RetryReason::ALL.iter().zip(totals.retries) {
            let labels = [("route", route), ("reason", reason.as_str())];
            self.retries.count(&labels, count);
        }
    }

    pub(super) fn families(self) -> impl Iterator<Item = Family> {
        let Self {
            bytes,
            in_flight,
            first_byte,
            retries,
        } = self;
        bytes.into_iter().chain([in_flight, first_byte, retries])
    }
}
