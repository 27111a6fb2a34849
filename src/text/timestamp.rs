//! Points in time as logs and status pages show them: UTC, without a time zone database.

use std::fmt;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// A point in time, in UTC.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timestamp {
    year: i64,
    month: i64,
    day: i64,
    hour: u64,
    minute: u64,
    second: u64,
    millisecond: u32,
}

const MONTHS: [&str; 12] = [
    "Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec",
];

impl Timestamp {
    /// Splits `time` into its parts. Times before 1970 become the start of 1970.
    #[must_use]
    pub fn new(time: SystemTime) -> Self {
        let since = time.duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO);
        let seconds = since.as_secs();
        let (year, month, day) = civil((seconds / 86_400).cast_signed());
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

/// A point in time in the common log format: `10/Oct/2000:13:55:36 +0000`.
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

/// The time `second_of_day` seconds after midnight of a date in UTC; `None` if the month or the day
/// is out of range or the system cannot represent the time.
#[must_use]
pub fn from_date(year: u16, month: u32, day: u32, second_of_day: u32) -> Option<SystemTime> {
    if !(1..=12).contains(&month) || !(1..=31).contains(&day) {
        return None;
    }
    let midnight = days_since_1970(year.into(), month.into(), day.into()) * 86_400;
    let seconds = midnight + i64::from(second_of_day);
    let distance = Duration::from_secs(seconds.unsigned_abs());
    if seconds < 0 {
        UNIX_EPOCH.checked_sub(distance)
    } else {
        UNIX_EPOCH.checked_add(distance)
    }
}

/// Days from 0000-03-01 to 1970-01-01. Both functions below count years from March, so that the
/// leap day is the last day of a year.
const DAYS_TO_1970: i64 = 719_468;

/// Year, month and day of a day counted from 1970-01-01, by Howard Hinnant's [`civil_from_days`].
///
/// [`civil_from_days`]: https://howardhinnant.github.io/date_algorithms.html#civil_from_days
fn civil(days: i64) -> (i64, i64, i64) {
    let shifted = days + DAYS_TO_1970;
    let era = shifted.div_euclid(146_097);
    let day_of_era = shifted.rem_euclid(146_097);
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

/// The inverse of [`civil`].
fn days_since_1970(year: i64, month: i64, day: i64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let month = (month + 9) % 12;
    let leap_days = year.div_euclid(4) - year.div_euclid(100) + year.div_euclid(400);
    year * 365 + leap_days + (month * 153 + 2) / 5 + day - 1 - DAYS_TO_1970
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        /// Over 20,000 years around 1970.
        #[test]
        fn a_day_and_its_date_are_converted_both_ways(day in -3_650_000..3_650_000_i64) {
            let (year, month, of_month) = civil(day);
            prop_assert!((1..=12).contains(&month) && (1..=31).contains(&of_month));
            prop_assert_eq!(days_since_1970(year, month, of_month), day);
        }
    }

    #[test]
    fn a_date_out_of_range_is_refused() {
        for (year, month, day) in [(2024, 0, 1), (2024, 13, 1), (2024, 1, 0), (2024, 1, 32)] {
            assert_eq!(from_date(year, month, day, 0), None, "{year}-{month}-{day}");
        }
        let leap_day = UNIX_EPOCH + Duration::from_secs(951_782_401);
        assert_eq!(from_date(2000, 2, 29, 1), Some(leap_day));
    }

    #[test]
    fn days_match_the_calendar() {
        // Expected values from `date --utc --date=@SECONDS`.
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
