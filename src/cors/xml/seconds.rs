//! Parses `MaxAgeSeconds`, and durations that people write instead.

/// Parses a number of seconds that S3 accepts: an XML schema `int` that is not negative.
pub(super) fn seconds(text: &str) -> Option<u32> {
    let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    let seconds = text.parse().ok()?;
    (digits && i32::try_from(seconds).is_ok()).then_some(seconds)
}

/// Converts a duration with a unit to seconds; `None`: it is unclear.
pub(super) fn duration(text: &str) -> Option<u32> {
    let text = text.trim().to_ascii_lowercase();
    let grouped = text.replace(['\'', '_'], "");
    let unit_at = grouped.find(|one: char| !one.is_ascii_digit());
    let unit_at = unit_at.unwrap_or(grouped.len());
    let (number, unit) = grouped.split_at(unit_at);
    let factor: u32 = match unit.trim() {
        "" | "s" | "sec" | "secs" | "second" | "seconds" => 1,
        "m" | "min" | "mins" | "minute" | "minutes" => 60,
        "h" | "hr" | "hour" | "hours" => 3_600,
        "d" | "day" | "days" => 86_400,
        _ => return None,
    };
    let number: u32 = number.parse().ok()?;
    number
        .checked_mul(factor)
        .filter(|total| i32::try_from(*total).is_ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_duration_with_a_unit_is_converted_to_seconds() {
        for (text, expected) in [
            ("1h", Some(3_600)),
            ("60 s", Some(60)),
            ("10min", Some(600)),
            ("1 day", Some(86_400)),
            ("3'600", Some(3_600)),
            ("1.5h", None),
            ("1e3", None),
            ("1,000", None),
            ("soon", None),
            ("99999999999h", None),
            ("", None),
        ] {
            assert_eq!(duration(text), expected, "{text}");
        }
    }
}
