//! Keys whose values are numbers: integers, seconds and ratios, each with its range.

use std::time::Duration;

use toml::Spanned;
use toml::de::DeValue;

use super::file::Reader;
use super::shape::Kind;
use super::table::Table;

impl Table<'_> {
    /// An integer in a range, both ends included.
    pub(crate) fn integer(
        &mut self,
        key: &'static str,
        least: u64,
        most: u64,
        reader: &mut Reader<'_>,
    ) -> Option<Spanned<u64>> {
        let value = self.value(key, || Kind::Integer { least, most }, reader)?;
        let Some(written) = value.get_ref().as_integer() else {
            reader.wrong_type(key, "an integer", value);
            return None;
        };
        let integer = u64::from_str_radix(written.as_str(), written.radix()).ok();
        let integer = integer.filter(|integer| (least..=most).contains(integer));
        if integer.is_none() {
            let message = format!("`{key}` must be an integer from {least} to {most}");
            reader.error("out-of-range", value.span(), message);
        }
        Some(Spanned::new(value.span(), integer?))
    }

    /// A number of seconds, whole or fractional, from `least` to a year.
    pub(crate) fn seconds(
        &mut self,
        key: &'static str,
        least: Duration,
        reader: &mut Reader<'_>,
    ) -> Option<Duration> {
        const YEAR: Duration = Duration::from_secs(365 * 24 * 60 * 60);
        let kind = || Kind::Number {
            least: least.as_secs_f64(),
            most: YEAR.as_secs_f64(),
        };
        let value = self.value(key, kind, reader)?;
        let duration = match value.get_ref() {
            DeValue::Integer(written) => u64::from_str_radix(written.as_str(), written.radix())
                .ok()
                .map(Duration::from_secs),
            DeValue::Float(written) => written
                .as_str()
                .parse()
                .ok()
                .and_then(|seconds| Duration::try_from_secs_f64(seconds).ok()),
            _ => {
                reader.wrong_type(key, "a number of seconds", value);
                return None;
            }
        };
        let duration = duration.filter(|duration| (least..=YEAR).contains(duration));
        if duration.is_none() {
            let (least, most) = (least.as_secs_f64(), YEAR.as_secs());
            let message = format!("`{key}` must be a number of seconds from {least} to {most}");
            reader.error("out-of-range", value.span(), message);
        }
        duration
    }

    /// A number from 0 to 1, both included.
    pub(crate) fn ratio(
        &mut self,
        key: &'static str,
        reader: &mut Reader<'_>,
    ) -> Option<Spanned<f64>> {
        let kind = || Kind::Number {
            least: 0.0,
            most: 1.0,
        };
        let value = self.value(key, kind, reader)?;
        let written = match value.get_ref() {
            DeValue::Integer(written) => written.as_str(),
            DeValue::Float(written) => written.as_str(),
            _ => {
                reader.wrong_type(key, "a number from 0 to 1", value);
                return None;
            }
        };
        let ratio = written.parse().ok();
        let ratio = ratio.filter(|ratio| (0.0..=1.0).contains(ratio));
        if ratio.is_none() {
            let message = format!("`{key}` must be a number from 0 to 1");
            reader.error("out-of-range", value.span(), message);
        }
        Some(Spanned::new(value.span(), ratio?))
    }
}

pub(crate) fn usize_of(value: u64) -> usize {
    usize::try_from(value).unwrap_or(usize::MAX)
}
