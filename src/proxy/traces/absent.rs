//! What stands for traces in a program without the feature `otlp`: types that have no value.

use std::io;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use crate::metrics::Metrics;

use super::super::access_log::Record;
use super::super::client::Client;
use super::super::wire::Fields;
use super::TracesSettings;

/// The traces of the process: none.
#[derive(Debug)]
pub enum Traces {}

/// One worker's end of the traces: none.
#[derive(Debug)]
pub enum Tracer {}

/// A span that has begun: none.
#[derive(Debug)]
pub(in super::super) enum OpenSpan {}

impl Traces {
    /// Starts nothing.
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

    /// Waits until all is sent.
    #[must_use]
    pub fn finish(self, _: Duration) -> bool {
        match self {}
    }
}

impl Tracer {
    pub(in super::super) fn begin(
        self: &Rc<Self>,
        _: &(impl Fields + ?Sized),
        _: &str,
        _: Client,
    ) -> Option<OpenSpan> {
        match **self {}
    }
}

impl OpenSpan {
    pub(in super::super) fn replaces(&self, _: &str) -> bool {
        match *self {}
    }

    pub(in super::super) fn write_parent(&self, _: &mut Vec<u8>) {
        match *self {}
    }

    pub(in super::super) fn end(&self, _: &Record<'_>) {
        match *self {}
    }
}
