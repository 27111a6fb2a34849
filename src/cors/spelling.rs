//! Finds the known name that a misspelled one probably means.

/// The longest text that is compared letter by letter; anything longer is not a misspelling.
const LONGEST: usize = 64;

/// The name in `known` that `written` probably misspells.
pub(crate) fn nearest<'k>(written: &str, known: &[&'k str]) -> Option<&'k str> {
    if written.is_empty() || written.len() > LONGEST {
        return None;
    }
    let written = written.to_ascii_lowercase();
    known
        .iter()
        .filter_map(|candidate| {
            let name = candidate.to_ascii_lowercase();
            let distance = distance(&written, &name);
            let cut_short = written.len() >= 3 && name.starts_with(&written);
            (cut_short || distance <= 1 + name.len() / 5).then_some((distance, *candidate))
        })
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, candidate)| candidate)
}

/// The edit distance of two texts (Levenshtein). Texts longer than [`LONGEST`] are compared only by
/// their common prefix and suffix, in linear time.
pub(super) fn distance(a: &str, b: &str) -> usize {
    if a.len() <= LONGEST && b.len() <= LONGEST {
        return strsim::levenshtein(a, b);
    }
    let (a, b) = (a.as_bytes(), b.as_bytes());
    let common = |a: &mut dyn Iterator<Item = &u8>, b: &mut dyn Iterator<Item = &u8>| {
        a.zip(b).take_while(|(a, b)| a == b).count()
    };
    let shorter = a.len().min(b.len());
    let head = common(&mut a.iter(), &mut b.iter());
    let tail = common(&mut a.iter().rev(), &mut b.iter().rev()).min(shorter - head);
    a.len().max(b.len()) - head - tail
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_misspelling_is_recognised_but_not_a_different_word() {
        let known = [
            "AllowedOrigin",
            "AllowedHeader",
            "ExposeHeader",
            "MaxAgeSeconds",
            "ID",
        ];
        for (written, expected) in [
            ("ExposedHeader", Some("ExposeHeader")),
            ("AllowedOrigins", Some("AllowedOrigin")),
            ("AllowOrigin", Some("AllowedOrigin")),
            ("allowedheader", Some("AllowedHeader")),
            ("MaxAge", Some("MaxAgeSeconds")),
            ("Id", Some("ID")),
            ("Filter", None),
            ("", None),
        ] {
            assert_eq!(nearest(written, &known), expected, "{written}");
        }
    }

    proptest! {
        #[test]
        fn long_texts_have_a_distance_too(a in "[ab]{0,200}", b in "[ab]{0,200}") {
            prop_assert_eq!(distance(&a, &b) == 0, a == b);
            prop_assert_eq!(distance(&a, &b), distance(&b, &a));
        }
    }
}
