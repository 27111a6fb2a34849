//! What somebody probably meant by a name that is not one of those there are.

/// The longest text that is compared letter by letter: what is longer is no slip of the pen.
const LONGEST: usize = 64;

/// The one of `known` that `written` is probably a misspelling of.
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

/// How many bytes to add, to drop or to change make `b` of `a` (Levenshtein). Texts longer than
/// [`LONGEST`] are compared by the ends they have in common, which takes linear time.
pub(super) fn distance(a: &str, b: &str) -> usize {
    let (a, b) = (a.as_bytes(), b.as_bytes());
    if a.len() > LONGEST || b.len() > LONGEST {
        let common = |a: &mut dyn Iterator<Item = &u8>, b: &mut dyn Iterator<Item = &u8>| {
            a.zip(b).take_while(|(a, b)| a == b).count()
        };
        let shorter = a.len().min(b.len());
        let head = common(&mut a.iter(), &mut b.iter());
        let tail = common(&mut a.iter().rev(), &mut b.iter().rev()).min(shorter - head);
        return a.len().max(b.len()) - head - tail;
    }
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, left) in a.iter().enumerate() {
        // `corner` is the cell above and to the left, `before` the one to the left.
        let mut corner = i;
        let mut before = i + 1;
        for (cell, right) in row.iter_mut().skip(1).zip(b) {
            let above = *cell;
            *cell = (corner + usize::from(left != right)).min(1 + above.min(before));
            corner = above;
            before = *cell;
        }
        if let Some(first) = row.first_mut() {
            *first = i + 1;
        }
    }
    row.last().copied().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_slip_is_recognised_and_a_different_word_is_not() {
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
        fn distance_is_what_the_recursion_says(a in "[ab]{0,5}", b in "[ab]{0,5}") {
            fn obvious(a: &[u8], b: &[u8]) -> usize {
                match (a, b) {
                    ([], rest) | (rest, []) => rest.len(),
                    ([x, a @ ..], [y, b @ ..]) if x == y => obvious(a, b),
                    ([_, left @ ..], [_, right @ ..]) => {
                        1 + obvious(left, right).min(obvious(a, right)).min(obvious(left, b))
                    }
                }
            }
            prop_assert_eq!(distance(&a, &b), obvious(a.as_bytes(), b.as_bytes()));
        }

        #[test]
        fn long_texts_have_a_distance_too(a in "[ab]{0,200}", b in "[ab]{0,200}") {
            prop_assert_eq!(distance(&a, &b) == 0, a == b);
            prop_assert_eq!(distance(&a, &b), distance(&b, &a));
        }
    }
}
