//! Text with at most one `*`: S3's format for allowed origins and allowed headers.

use std::error::Error;
use std::fmt;
use std::num::NonZeroUsize;

/// Text with at most one `*`, which stands for any run of bytes, the empty run included.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Wildcard {
    text: Box<str>,
    /// Where the suffix after the `*` begins; `None`: there is no `*`.
    suffix: Option<NonZeroUsize>,
}

/// The pattern has more than one `*`, which S3 refuses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TooManyWildcards;

impl Error for TooManyWildcards {}

impl fmt::Display for TooManyWildcards {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("more than one wildcard")
    }
}

impl Wildcard {
    /// Parses a pattern.
    ///
    /// # Errors
    ///
    /// [`TooManyWildcards`] if `text` has more than one `*`.
    pub fn parse(text: &str) -> Result<Self, TooManyWildcards> {
        Self::check(text)?;
        let suffix = text.find('*').and_then(|star| NonZeroUsize::new(star + 1));
        let text = text.into();
        Ok(Self { text, suffix })
    }

    /// Whether `text` is a valid pattern.
    pub(super) fn check(text: &str) -> Result<(), TooManyWildcards> {
        let stars = text.bytes().filter(|byte| *byte == b'*').take(2).count();
        if stars > 1 {
            return Err(TooManyWildcards);
        }
        Ok(())
    }

    /// The original text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// The text before and after the `*`; without one, the whole text.
    fn ends(&self) -> (&[u8], Option<&[u8]>) {
        let text = self.text.as_bytes();
        let Some(suffix) = self.suffix else {
            return (text, None);
        };
        let (head, suffix) = text.split_at_checked(suffix.get()).unwrap_or_default();
        let prefix = head.split_last().map_or(head, |(_, prefix)| prefix);
        (prefix, Some(suffix))
    }

    /// Whether the pattern is a lone `*`.
    #[must_use]
    pub fn is_any(&self) -> bool {
        &*self.text == "*"
    }

    /// Whether the whole of `value` matches, byte for byte.
    #[must_use]
    pub fn matches(&self, value: &[u8]) -> bool {
        match self.ends() {
            (whole, None) => value == whole,
            // The prefix and the suffix must not overlap. The suffix is checked first, because
            // origins usually differ at the end.
            (prefix, Some(suffix)) => {
                value.len() >= prefix.len() + suffix.len()
                    && value.ends_with(suffix)
                    && value.starts_with(prefix)
            }
        }
    }

    /// Like [`matches`](Self::matches), but ignores the case of A to Z.
    #[must_use]
    pub fn matches_ignore_ascii_case(&self, value: &[u8]) -> bool {
        match self.ends() {
            (whole, None) => value.eq_ignore_ascii_case(whole),
            (prefix, Some(suffix)) => {
                let middle = value.len().checked_sub(suffix.len());
                middle.is_some_and(|middle| {
                    let head = value.get(..prefix.len());
                    middle >= prefix.len()
                        && head.is_some_and(|head| head.eq_ignore_ascii_case(prefix))
                        && value
                            .get(middle..)
                            .is_some_and(|tail| tail.eq_ignore_ascii_case(suffix))
                })
            }
        }
    }

    /// Whether this matches everything that `other` matches.
    #[must_use]
    pub fn covers(&self, other: &Self) -> bool {
        match (self.ends(), other.ends()) {
            (_, (whole, None)) => self.matches(whole),
            ((_, None), (_, Some(_))) => false,
            // Only the ends of the other pattern are certain, whatever its `*` matches.
            ((prefix, Some(suffix)), (other_prefix, Some(other_suffix))) => {
                other_prefix.starts_with(prefix) && other_suffix.ends_with(suffix)
            }
        }
    }

    /// Whether any text matches both.
    #[must_use]
    pub fn overlaps(&self, other: &Self) -> bool {
        let agree = |a: &[u8], b: &[u8]| a.starts_with(b) || b.starts_with(a);
        let agree_backwards = |a: &[u8], b: &[u8]| a.ends_with(b) || b.ends_with(a);
        match (self.ends(), other.ends()) {
            (_, (whole, None)) => self.matches(whole),
            ((whole, None), _) => other.matches(whole),
            ((prefix, Some(suffix)), (other_prefix, Some(other_suffix))) => {
                agree(prefix, other_prefix) && agree_backwards(suffix, other_suffix)
            }
        }
    }
}

impl std::fmt::Display for Wildcard {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_star_may_match_nothing_but_prefix_and_suffix_never_overlap() {
        let cases = [
            ("start*end", "startend", true), // ceph/s3-tests, test_cors_origin_response
            ("start*end", "start1end", true),
            ("start*end", "startend1", false),
            ("aba*ba", "aba", false),
            ("aba*ba", "ababa", true),
            ("*", "", true),
            ("", "", true),
            ("", "a", false),
            ("https://*", "https://a.example:8443", true),
            ("https://*", "http://a.example", false),
        ];
        for (pattern, value, expected) in cases {
            let wildcard = Wildcard::parse(pattern).unwrap();
            assert_eq!(
                wildcard.matches(value.as_bytes()),
                expected,
                "{pattern} ~ {value}"
            );
        }
    }

    #[test]
    fn two_stars_are_refused() {
        assert_eq!(Wildcard::parse("a*b*"), Err(TooManyWildcards));
        assert_eq!(Wildcard::parse("**"), Err(TooManyWildcards));
    }

    /// The obvious matcher: tries every split of `value` into prefix and suffix.
    fn matches_by_trying_every_split(pattern: &str, value: &str) -> bool {
        match pattern.split_once('*') {
            None => pattern == value,
            Some((prefix, suffix)) => (0..=value.len()).any(|from| {
                (from..=value.len()).any(|to| &value[..from] == prefix && &value[to..] == suffix)
            }),
        }
    }

    proptest! {
        #[test]
        fn agrees_with_trying_every_split(pattern in "[ab]{0,3}\\*?[ab]{0,3}", value in "[ab]{0,8}") {
            let wildcard = Wildcard::parse(&pattern).unwrap();
            prop_assert_eq!(
                wildcard.matches(value.as_bytes()),
                matches_by_trying_every_split(&pattern, &value)
            );
        }

        #[test]
        fn ignoring_case_equals_matching_in_lower_case(
            pattern in "[aAbB]{0,3}\\*?[aAbB]{0,3}", value in "[aAbB]{0,8}",
        ) {
            let lower = Wildcard::parse(&pattern.to_lowercase()).unwrap();
            prop_assert_eq!(
                Wildcard::parse(&pattern).unwrap().matches_ignore_ascii_case(value.as_bytes()),
                lower.matches(value.to_lowercase().as_bytes())
            );
        }

        /// Words of up to five letters, one of which occurs in no pattern, are enough for short
        /// patterns.
        #[test]
        fn covering_and_overlapping_agree_with_matching_all_words(
            one in "[ab]{0,2}\\*?[ab]{0,2}", other in "[ab]{0,2}\\*?[ab]{0,2}",
        ) {
            let (one, other) = (Wildcard::parse(&one).unwrap(), Wildcard::parse(&other).unwrap());
            let mut words = vec![String::new()];
            let mut from = 0;
            for _ in 0..5 {
                let to = words.len();
                for index in from..to {
                    for letter in ["a", "b", "c"] {
                        words.push(format!("{}{letter}", words[index]));
                    }
                }
                from = to;
            }
            let matched = |pattern: &Wildcard| -> Vec<bool> {
                words.iter().map(|word| pattern.matches(word.as_bytes())).collect()
            };
            let (left, right) = (matched(&one), matched(&other));
            let both = || left.iter().zip(&right);
            prop_assert_eq!(one.covers(&other), both().all(|(left, right)| *left || !right));
            prop_assert_eq!(one.overlaps(&other), both().any(|(left, right)| *left && *right));
        }

        #[test]
        fn display_writes_the_parsed_text(pattern in "[a-c]{0,3}\\*?[a-c]{0,3}") {
            prop_assert_eq!(Wildcard::parse(&pattern).unwrap().to_string(), pattern);
        }
    }
}
