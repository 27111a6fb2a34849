//! Replaces traces in a program without the feature `otlp`: types without values.

use std::io;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use crate::http1::fields::Fields;
use crate::metrics::Metrics;
use crate::routing::client::Client;
use crate::telemetry::access_log::Record;

use super::settings::TracesSettings;

/// The traces of the process; has no value.
#[derive(Debug)]
pub enum Traces {}

/// One worker's end of the traces; has no value.
#[derive(Debug)]
pub enum Tracer {}

/// An open span; has no value.
#[derive(Debug)]
pub(crate) enum OpenSpan {}

impl Traces {
    /// Always fails.
    ///
    /// # Errors
    ///
    /// Always: the program was built without the feature.
    pub fn start(_: &TracesSettings, _: &Arc<Metrics>) -> io::Result<Self> {
        let reason = "this program was built without the feature `otlp`";
        Err(io::Error::new(io::ErrorKind::Unsupported, reason))
    }

    /// A worker's end.
    #[must_use]
    pub fn tracer(&self) -> Tracer {
        match *self {}
    }

    /// Waits until everything is sent.
    #[must_use]
    pub fn finish(self, _: Duration) -> bool {
        match self {}
    }
}

impl Tracer {
    pub(crate) fn begin(
        self: &Rc<Self>,
        _: &(impl Fields + ?Sized),
        _: &str,
        _: Client,
    ) -> Option<OpenSpan> {
        match **self {}
    }
}

impl OpenSpan {
    pub(crate) fn replaces(&self, _: &str) -> bool {
        match *self {}
    }

    pub(crate) fn write_parent(&self, _: &mut Vec<u8>) {
        match *self {}
    }

    pub(crate) fn end(&self, _: &Record<'_>) {
        match *self {}
    }
}
