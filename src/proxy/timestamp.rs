//! Points in time as logs and status pages write them: UTC, without a time zone database.

use std::fmt;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// A point in time, in UTC.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timestamp {
    year: u64,
    month: u64,
    day: u64,
    hour: u64,
    minute: u64,
    second: u64,
    millisecond: u32,
}

const MONTHS: [&str; 12] = [
    "Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec",
];

impl Timestamp {
    /// The parts of `time`; what is before 1970 counts as its first moment.
    #[must_use]
    pub fn new(time: SystemTime) -> Self {
        let since = time.duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO);
        let seconds = since.as_secs();
        let (year, month, day) = civil(seconds / 86_400);
        Self {
            year,
            month,
            day,
            hour: seconds / 3600 % 24,
            minute: seconds / 60 % 60,
            second: seconds % 60,
            millisecond: since.subsec_millis(),
        }
    }
}

/// A point in time as the common log format has it: `10/Oct/2000:13:55:36 +0000`.
#[derive(Clone, Copy, Debug)]
pub struct CommonLog(pub Timestamp);

impl fmt::Display for CommonLog {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self(time) = self;
        let month = usize::try_from(time.month - 1).ok();
        write!(
            f,
            "{:02}/{}/{}:{:02}:{:02}:{:02} +0000",
            time.day,
            month.and_then(|month| MONTHS.get(month)).unwrap_or(&"???"),
            time.year,
            time.hour,
            time.minute,
            time.second,
        )
    }
}

/// RFC 3339, with milliseconds: `2000-10-10T13:55:36.000Z`.
impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{:04}-{:02}-{:02}T{:02}:{:02}:{:02}.{:03}Z",
            self.year, self.month, self.day, self.hour, self.minute, self.second, self.millisecond,
        )
    }
}

/// Year, month and day of a day counted from 1970-01-01, by Howard Hinnant's [`civil_from_days`].
///
/// [`civil_from_days`]: https://howardhinnant.github.io/date_algorithms.html#civil_from_days
fn civil(days: u64) -> (u64, u64, u64) {
    let shifted = days + 719_468;
    let era = shifted / 146_097;
    let day_of_era = shifted % 146_097;
    let year_of_era =
        (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted_month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted_month + 2) / 5 + 1;
    let (month, next_year) = match shifted_month {
        0..=9 => (shifted_month + 3, 0),
        _ => (shifted_month - 9, 1),
    };
    (year_of_era + era * 400 + next_year, month, day)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn days_are_counted_as_the_calendar_does() {
        // As `date --utc --date=@SECONDS` says.
        let cases = [
            (0, "1970-01-01T00:00:00.000Z"),
            (951_782_399, "2000-02-28T23:59:59.000Z"),
            (951_782_400, "2000-02-29T00:00:00.000Z"),
            (971_186_136, "2000-10-10T13:55:36.000Z"),
            (1_704_067_199, "2023-12-31T23:59:59.000Z"),
            (4_107_542_400, "2100-03-01T00:00:00.000Z"),
        ];
        for (seconds, expected) in cases {
            let time = UNIX_EPOCH + Duration::from_secs(seconds);
            assert_eq!(Timestamp::new(time).to_string(), expected);
        }
        let before = UNIX_EPOCH - Duration::from_secs(1);
        assert_eq!(Timestamp::new(before), Timestamp::new(UNIX_EPOCH));
    }

    #[test]
    fn the_common_log_format_names_the_month() {
        let time = UNIX_EPOCH + Duration::from_millis(971_186_136_789);
        let timestamp = Timestamp::new(time);
        assert_eq!(
            CommonLog(timestamp).to_string(),
            "10/Oct/2000:13:55:36 +0000"
        );
        assert_eq!(timestamp.to_string(), "2000-10-10T13:55:36.789Z");
    }
}
