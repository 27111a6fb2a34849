//! The times of Signature V4: `20130524T000000Z`.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// A time in the basic format of ISO 8601, and as system time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct BasicTime {
    text: String,
    pub(super) time: SystemTime,
}

impl BasicTime {
    /// Reads `YYYYMMDDTHHMMSSZ`, from 1970 on.
    pub(super) fn parse(text: &str) -> Option<Self> {
        let bytes = text.as_bytes();
        let is_digit = |at: usize| bytes.get(at).is_some_and(u8::is_ascii_digit);
        let shape =
            bytes.len() == 16 && bytes.get(8) == Some(&b'T') && bytes.get(15) == Some(&b'Z');
        if !shape || !(0..8).chain(9..15).all(is_digit) {
            return None;
        }
        let number = |from: usize, to: usize| -> Option<u64> { text.get(from..to)?.parse().ok() };
        let (year, month, day) = (number(0, 4)?, number(4, 6)?, number(6, 8)?);
        let (hour, minute, second) = (number(9, 11)?, number(11, 13)?, number(13, 15)?);
        let is_date =
            year >= 1970 && (1..=12).contains(&month) && (1..=days(year, month)).contains(&day);
        if !is_date || hour > 23 || minute > 59 || second > 60 {
            return None;
        }
        let before: u64 = (1970..year)
            .map(|year| 365 + u64::from(is_leap(year)))
            .sum();
        let before = before + (1..month).map(|month| days(year, month)).sum::<u64>() + day - 1;
        let seconds = before * 86_400 + hour * 3600 + minute * 60 + second;
        Some(Self {
            text: text.to_owned(),
            time: UNIX_EPOCH + Duration::from_secs(seconds),
        })
    }

    /// Parses a `Date` field.
    pub(super) fn parse_http_date(text: &str) -> Option<Self> {
        Some(Self::of(httpdate::parse_http_date(text).ok()?))
    }

    /// `time`, truncated to its second.
    pub(super) fn of(time: SystemTime) -> Self {
        let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
        let (mut rest, seconds) = (since.as_secs() / 86_400, since.as_secs() % 86_400);
        let mut year = 1970;
        while rest >= 365 + u64::from(is_leap(year)) {
            rest -= 365 + u64::from(is_leap(year));
            year += 1;
        }
        let mut month = 1;
        while rest >= days(year, month) {
            rest -= days(year, month);
            month += 1;
        }
        let (hour, minute, second) = (seconds / 3600, seconds / 60 % 60, seconds % 60);
        Self {
            text: format!(
                "{year:04}{month:02}{:02}T{hour:02}{minute:02}{second:02}Z",
                rest + 1
            ),
            time: UNIX_EPOCH + Duration::from_secs(since.as_secs()),
        }
    }

    /// `20130524T000000Z`
    pub(super) fn as_str(&self) -> &str {
        &self.text
    }

    /// `20130524`
    pub(super) fn date(&self) -> &str {
        self.text.get(..8).unwrap_or_default()
    }

    /// In the form of S3's error documents: `2013-05-24T00:00:00Z`.
    pub(super) fn extended(&self) -> String {
        let part = |from, to| self.text.get(from..to).unwrap_or_default();
        format!(
            "{}-{}-{}T{}:{}:{}Z",
            part(0, 4),
            part(4, 6),
            part(6, 8),
            part(9, 11),
            part(11, 13),
            part(13, 15)
        )
    }
}

fn is_leap(year: u64) -> bool {
    year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400))
}

fn days(year: u64, month: u64) -> u64 {
    match month {
        2 => 28 + u64::from(is_leap(year)),
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn only_existing_dates_are_parsed() {
        let time = BasicTime::parse("20130524T000000Z").unwrap();
        assert_eq!(time.time, UNIX_EPOCH + Duration::from_secs(1_369_353_600));
        assert_eq!(time.extended(), "2013-05-24T00:00:00Z");
        assert_eq!(
            BasicTime::parse_http_date("Fri, 24 May 2013 00:00:00 GMT"),
            Some(time)
        );
        for wrong in [
            "",
            "20130524",
            "20130524T000000",
            "20130524T000000z",
            "20130524 000000Z",
            "20131324T000000Z",
            "20130230T000000Z",
            "20130524T240000Z",
            "2013052aT000000Z",
            "+0130524T000000Z",
            "19691231T235959Z",
        ] {
            assert_eq!(BasicTime::parse(wrong), None, "{wrong}");
        }
    }

    proptest! {
        #[test]
        fn a_formatted_time_parses_back(seconds in 0..253_402_300_800_u64) {
            let time = BasicTime::of(UNIX_EPOCH + Duration::from_secs(seconds));
            prop_assert_eq!(BasicTime::parse(time.as_str()), Some(time));
        }
    }
}
