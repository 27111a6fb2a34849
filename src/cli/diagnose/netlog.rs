//! Reads Chrome's NetLog as a stream: one event at a time, whatever its size
//! (<https://chromium.googlesource.com/chromium/src/+/HEAD/net/docs/net-log.md>).

use std::collections::HashMap;
use std::fmt;

use serde::Deserialize;
use serde::de::{DeserializeSeed, Deserializer, SeqAccess, Visitor};

use super::bounded::Budget;
use super::loose::Loose;

/// The meaning of the numbers in events.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct Constants {
    log_event_types: HashMap<String, i64>,
    net_error: HashMap<String, i64>,
    load_flag: HashMap<String, i64>,
}

/// An event.
#[derive(Debug, Deserialize)]
pub(super) struct Event {
    #[serde(default)]
    pub(super) params: Option<Params>,
    #[serde(default)]
    pub(super) phase: Loose,
    #[serde(default)]
    pub(super) source: Option<Source>,
    #[serde(rename = "type", default)]
    pub(super) kind: Loose,
}

/// The object that an event belongs to.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Source {
    pub(super) id: Loose,
}

/// The parameters that are used, of all events.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Params {
    pub(super) url: Loose,
    pub(super) location: Loose,
    pub(super) method: Loose,
    pub(super) initiator: Loose,
    pub(super) headers: Loose,
    pub(super) request_headers: Option<RequestHeaders>,
    pub(super) source_dependency: Option<Source>,
    pub(super) load_flags: Loose,
    pub(super) net_error: Loose,
    #[serde(rename = "cors-error")]
    pub(super) cors_error: Loose,
    #[serde(rename = "failed-parameter")]
    pub(super) failed_parameter: Loose,
}

/// A request's head.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct RequestHeaders {
    pub(super) line: Loose,
    pub(super) headers: Loose,
}

/// The kinds of events that are used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    CorsRequest,
    PreflightRequest,
    PreflightError,
    StartJob,
    Redirected,
    RequestHead,
    ResponseHead,
    Cancelled,
    Alive,
}

impl Kind {
    fn of(name: &str) -> Option<Self> {
        Some(match name {
            "CORS_REQUEST" => Self::CorsRequest,
            "CORS_PREFLIGHT_URL_REQUEST" => Self::PreflightRequest,
            "CORS_PREFLIGHT_ERROR" => Self::PreflightError,
            "URL_REQUEST_START_JOB" => Self::StartJob,
            "URL_REQUEST_REDIRECTED" => Self::Redirected,
            "HTTP_TRANSACTION_SEND_REQUEST_HEADERS"
            | "HTTP_TRANSACTION_HTTP2_SEND_REQUEST_HEADERS"
            | "HTTP_TRANSACTION_QUIC_SEND_REQUEST_HEADERS" => Self::RequestHead,
            "HTTP_TRANSACTION_READ_RESPONSE_HEADERS"
            | "URL_REQUEST_FAKE_RESPONSE_HEADERS_CREATED"
            | "IN_MEMORY_CACHE_READ_RESPONSE_HEADERS" => Self::ResponseHead,
            "CANCELLED" => Self::Cancelled,
            "REQUEST_ALIVE" => Self::Alive,
            _ => return None,
        })
    }
}

impl Constants {
    /// The numbers of the events that are used.
    pub(super) fn kinds(&self) -> HashMap<i64, Kind> {
        let kinds = self.log_event_types.iter();
        kinds
            .filter_map(|(name, number)| Some((*number, Kind::of(name)?)))
            .collect()
    }

    pub(super) fn net_error(&self, number: i64) -> Option<&str> {
        let mut errors = self.net_error.iter();
        errors
            .find(|(_, value)| **value == number)
            .map(|(name, _)| name.as_str())
    }

    /// The flag of requests without credentials.
    pub(super) fn no_credentials(&self) -> i64 {
        const SINCE_2015: i64 = 64;
        *self
            .load_flag
            .get("DO_NOT_SAVE_COOKIES")
            .unwrap_or(&SINCE_2015)
    }
}

/// Receives the contents of a NetLog in order.
pub(super) trait Sink {
    fn constants(&mut self, constants: Constants);
    fn event(&mut self, event: Event);
}

/// Reads the events one by one.
pub(super) struct Events<'s, S> {
    pub(super) sink: &'s mut S,
    pub(super) budget: &'s Budget,
}

impl<'de, S: Sink> DeserializeSeed<'de> for Events<'_, S> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_seq(self)
    }
}

impl<'de, S: Sink> Visitor<'de> for Events<'_, S> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a list of events")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut events: A) -> Result<(), A::Error> {
        self.budget.renew();
        while let Some(event) = events.next_element()? {
            self.sink.event(event);
            self.budget.renew();
        }
        Ok(())
    }
}
