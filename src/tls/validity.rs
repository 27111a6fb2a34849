//! Reads a certificate's validity period, which no dependency exposes.

use std::time::SystemTime;

use crate::text::timestamp;

const SEQUENCE: u8 = 0x30;
const UTC_TIME: u8 = 0x17;
const GENERALIZED_TIME: u8 = 0x18;
/// `[0] EXPLICIT Version`.
const VERSION: u8 = 0xa0;

/// The start and end of a certificate's validity; `None` if the bytes are not a certificate.
///
/// It reads `Certificate`, then `TBSCertificate`, then skips version, serial number, signature and
/// issuer ([RFC 5280 §4.1]).
///
/// [RFC 5280 §4.1]: https://www.rfc-editor.org/rfc/rfc5280#section-4.1
pub(crate) fn of(der: &[u8]) -> Option<(SystemTime, SystemTime)> {
    let (certificate, _) = inside(SEQUENCE, der)?;
    let (mut fields, _) = inside(SEQUENCE, certificate)?;
    if let Some((_, rest)) = inside(VERSION, fields) {
        fields = rest;
    }
    for _ in ["serialNumber", "signature", "issuer"] {
        (_, _, fields) = element(fields)?;
    }
    let (validity, _) = inside(SEQUENCE, fields)?;
    let (tag, from, validity) = element(validity)?;
    let from = time(tag, from)?;
    let (tag, until, _) = element(validity)?;
    Some((from, time(tag, until)?))
}

/// The value of an element with this tag, and what follows it.
fn inside(tag: u8, der: &[u8]) -> Option<(&[u8], &[u8])> {
    let (found, value, rest) = element(der)?;
    (found == tag).then_some((value, rest))
}

/// An element's tag and value, and what follows it. Lengths of more than four bytes are refused.
fn element(der: &[u8]) -> Option<(u8, &[u8], &[u8])> {
    let (&tag, rest) = der.split_first()?;
    let (&first, rest) = rest.split_first()?;
    let (length, rest) = match first {
        0..=0x7f => (usize::from(first), rest),
        0x81..=0x84 => {
            let (bytes, rest) = rest.split_at_checked(usize::from(first & 0x7f))?;
            let length = bytes
                .iter()
                .fold(0, |sum, byte| sum << 8 | u64::from(*byte));
            (usize::try_from(length).ok()?, rest)
        }
        _ => return None,
    };
    let (value, rest) = rest.split_at_checked(length)?;
    Some((tag, value, rest))
}

/// `YYMMDDHHMMSSZ` (of 1950 to 2049) or `YYYYMMDDHHMMSSZ` ([RFC 5280 §4.1.2.5]).
///
/// [RFC 5280 §4.1.2.5]: https://www.rfc-editor.org/rfc/rfc5280#section-4.1.2.5
fn time(tag: u8, value: &[u8]) -> Option<SystemTime> {
    let digits = std::str::from_utf8(value).ok()?.strip_suffix('Z')?;
    if !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let (year, rest) = match tag {
        UTC_TIME => {
            let (year, rest) = digits.split_at_checked(2)?;
            let year: u16 = year.parse().ok()?;
            (if year < 50 { 2000 + year } else { 1900 + year }, rest)
        }
        GENERALIZED_TIME => {
            let (year, rest) = digits.split_at_checked(4)?;
            (year.parse().ok()?, rest)
        }
        _ => return None,
    };
    let rest: u64 = rest.parse().ok().filter(|_| rest.len() == 10)?;
    let part = |place: u32| u32::try_from(rest / 100_u64.pow(place) % 100).ok();
    let second_of_day = part(2)? * 3600 + part(1)? * 60 + part(0)?;
    timestamp::from_date(year, part(4)?, part(3)?, second_of_day)
}

#[cfg(test)]
mod tests {
    use std::time::UNIX_EPOCH;

    use proptest::prelude::*;

    use super::*;

    fn seconds(tag: u8, text: &str) -> Option<i64> {
        let time = time(tag, text.as_bytes())?;
        Some(match time.duration_since(UNIX_EPOCH) {
            Ok(after) => i64::try_from(after.as_secs()).unwrap(),
            Err(before) => -i64::try_from(before.duration().as_secs()).unwrap(),
        })
    }

    #[test]
    fn times_are_read_in_both_standard_formats() {
        for (tag, text, expected) in [
            (UTC_TIME, "700101000000Z", Some(0)),
            (UTC_TIME, "000301000000Z", Some(951_868_800)),
            (UTC_TIME, "491231235959Z", Some(2_524_607_999)),
            (UTC_TIME, "500101000000Z", Some(-631_152_000)),
            (GENERALIZED_TIME, "20240229120000Z", Some(1_709_208_000)),
            (GENERALIZED_TIME, "99991231235959Z", Some(253_402_300_799)),
            (GENERALIZED_TIME, "240229120000Z", None),
            (UTC_TIME, "20240229120000Z", None),
            (UTC_TIME, "241301000000Z", None),
            (UTC_TIME, "2401010000Z", None),
            (UTC_TIME, "240101000000", None),
            (UTC_TIME, "24010100000+Z", None),
            (0x02, "240101000000Z", None),
        ] {
            assert_eq!(seconds(tag, text), expected, "{text}");
        }
    }

    #[test]
    fn the_validity_of_a_real_certificate_is_read() {
        let mut params = rcgen::CertificateParams::new(["a.example".to_owned()]).unwrap();
        params.not_before = rcgen::date_time_ymd(2020, 2, 29);
        params.not_after = rcgen::date_time_ymd(2051, 1, 1);
        let key = rcgen::KeyPair::generate().unwrap();
        let certificate = params.self_signed(&key).unwrap();
        let (from, until) = of(certificate.der()).unwrap();
        let since = |time: SystemTime| time.duration_since(UNIX_EPOCH).unwrap().as_secs();
        assert_eq!((since(from), since(until)), (1_582_934_400, 2_556_144_000));
        for length in 0..certificate.der().len() {
            assert_eq!(of(&certificate.der()[..length]), None);
        }
    }

    proptest! {
        #[test]
        fn no_bytes_cause_a_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            of(&bytes);
        }
    }
}
