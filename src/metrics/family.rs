//! One metric and its samples, converted to Prometheus' text format.

use std::time::Duration;

use prometheus::proto;

use super::histogram::{HistogramTotals, bounds};

pub(super) type Labels<'l> = &'l [(&'static str, &'l str)];

/// One metric under construction.
pub(super) struct Family {
    family: proto::MetricFamily,
    kind: proto::MetricType,
}

impl Family {
    pub(super) fn new(name: &str, help: &str, kind: proto::MetricType) -> Self {
        let mut family = proto::MetricFamily::default();
        family.set_name(name.to_owned());
        family.set_help(help.to_owned());
        family.set_field_type(kind);
        Self { family, kind }
    }

    pub(super) fn counter(name: &str, help: &str) -> Self {
        Self::new(name, help, proto::MetricType::COUNTER)
    }

    pub(super) fn gauge(name: &str, help: &str) -> Self {
        Self::new(name, help, proto::MetricType::GAUGE)
    }

    pub(super) fn histogram_of(name: &str, help: &str) -> Self {
        Self::new(name, help, proto::MetricType::HISTOGRAM)
    }

    /// Counts above 2⁵³ are inexact; no process gets that far.
    pub(super) fn count(&mut self, labels: Labels<'_>, count: u64) {
        self.value(labels, count as f64);
    }

    pub(super) fn maybe(&mut self, value: Option<f64>) {
        if let Some(value) = value {
            self.value(&[], value);
        }
    }

    pub(super) fn value(&mut self, labels: Labels<'_>, value: f64) {
        let mut metric = metric(labels);
        if self.kind == proto::MetricType::COUNTER {
            let mut counter = proto::Counter::default();
            counter.set_value(value);
            metric.set_counter(counter);
        } else {
            let mut gauge = proto::Gauge::default();
            gauge.set_value(value);
            metric.set_gauge(gauge);
        }
        self.family.mut_metric().push(metric);
    }

    pub(super) fn histogram(&mut self, labels: Labels<'_>, totals: &HistogramTotals) {
        let mut histogram = proto::Histogram::default();
        let mut seen = 0;
        let bucket = |(bound, count): (Duration, &u64)| {
            seen += count;
            let mut bucket = proto::Bucket::default();
            bucket.set_upper_bound(bound.as_secs_f64());
            bucket.set_cumulative_count(seen);
            bucket
        };
        histogram.set_bucket(bounds().zip(&totals.buckets).map(bucket).collect());
        histogram.set_sample_count(totals.buckets.iter().sum());
        histogram.set_sample_sum(totals.sum.as_secs_f64());
        let mut metric = metric(labels);
        metric.set_histogram(histogram);
        self.family.mut_metric().push(metric);
    }

    pub(super) fn finish(self) -> proto::MetricFamily {
        self.family
    }
}

fn metric(labels: Labels<'_>) -> proto::Metric {
    let pairs = labels.iter().map(|(name, value)| {
        let mut pair = proto::LabelPair::default();
        pair.set_name((*name).to_owned());
        pair.set_value((*value).to_owned());
        pair
    });
    proto::Metric::from_label(pairs.collect())
}
