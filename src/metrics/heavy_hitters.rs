//! The most frequent values of an unbounded set, in constant space.

/// How many values have their own count.
pub(super) const EXPORTED: usize = 20;

/// How many more values are watched as candidates for an exported place.
const WATCHED: usize = 108;

/// The most frequent values of a stream, each with its count, and one count for the rest.
///
/// This is Space-Saving (Metwally, Agrawal, El Abbadi, 2005) with two changes for time series. An
/// exported value keeps its place until another one is *certainly* more frequent, so that a flood
/// of values seen once never displaces it. And only exported values keep their text.
///
/// Each occurrence counts exactly once: in the value's own count while it is exported, otherwise in
/// [`other`](Self::other). A value that loses its place adds its count to `other`, so no count ever
/// decreases, and the sum is always the number of occurrences.
///
/// If a value makes up more than 1 in 108 of a stream whose other values occur once each, it is
/// exported by the end. The smallest count among the watched is at most a 108th of the stream, so
/// the value is not replaced between its two closest occurrences, and at the second of these it is
/// certainly more frequent than values seen once.
#[derive(Debug, Default)]
pub(super) struct HeavyHitters {
    exported: Vec<Exported>,
    watched: Vec<Watched>,
    other: u64,
    /// How often a watched place changed its value.
    changes: u64,
}

#[derive(Debug)]
struct Exported {
    text: Box<str>,
    hash: u64,
    /// Occurrences since it was exported: the value of its series.
    count: u64,
    /// Occurrences that are certain.
    sure: u64,
    /// Further occurrences that are possible.
    unsure: u64,
}

#[derive(Debug)]
struct Watched {
    hash: u64,
    sure: u64,
    unsure: u64,
    /// Among equal counts, the oldest is replaced first.
    since: u64,
}

impl HeavyHitters {
    /// Counts `text`, whose hash is `hash`. Different texts must have different hashes.
    pub(super) fn count(&mut self, text: &str, hash: u64) {
        if let Some(exported) = self.exported.iter_mut().find(|value| value.hash == hash) {
            exported.count += 1;
            exported.sure += 1;
        } else if self.exported.len() < EXPORTED {
            self.exported.push(Exported {
                text: text.into(),
                hash,
                count: 1,
                sure: 1,
                unsure: 0,
            });
        } else if !self.watch_and_promote(text, hash) {
            self.other += 1;
        }
    }

    /// The exported values and their counts.
    pub(super) fn exported(&self) -> impl Iterator<Item = (&str, u64)> {
        self.exported
            .iter()
            .map(|value| (&*value.text, value.count))
    }

    /// The count of all other values.
    pub(super) fn other(&self) -> u64 {
        self.other
    }

    /// Watches the value; returns whether it displaced an exported one.
    fn watch_and_promote(&mut self, text: &str, hash: u64) -> bool {
        let lightest = self.exported.iter_mut().min_by_key(|value| value.sure);
        let (Some(lightest), Some(watched)) =
            (lightest, watch(&mut self.watched, &mut self.changes, hash))
        else {
            return false;
        };
        if watched.sure <= lightest.sure {
            return false;
        }
        self.other += lightest.count;
        let promoted = Exported {
            text: text.into(),
            hash,
            count: 1,
            sure: watched.sure,
            unsure: watched.unsure,
        };
        let demoted = std::mem::replace(lightest, promoted);
        self.changes += 1;
        *watched = Watched {
            hash: demoted.hash,
            sure: demoted.sure,
            unsure: demoted.unsure,
            since: self.changes,
        };
        true
    }
}

/// Counts a watched value. A new value takes the place of the least frequent one and inherits its
/// count as the number of occurrences it may have had before.
fn watch<'w>(
    watched: &'w mut Vec<Watched>,
    changes: &mut u64,
    hash: u64,
) -> Option<&'w mut Watched> {
    if let Some(place) = watched.iter().position(|value| value.hash == hash) {
        let value = watched.get_mut(place)?;
        value.sure += 1;
        return Some(value);
    }
    *changes += 1;
    let value = Watched {
        hash,
        sure: 1,
        unsure: 0,
        since: *changes,
    };
    if watched.len() < WATCHED {
        watched.push(value);
        return watched.last_mut();
    }
    let lightest = watched
        .iter_mut()
        .min_by_key(|value| (value.sure + value.unsure, value.since))?;
    let unsure = lightest.sure + lightest.unsure;
    *lightest = Watched { unsure, ..value };
    Some(lightest)
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use super::*;
    use proptest::prelude::*;

    /// Maps small numbers one-to-one to well-spread hashes.
    fn hash(value: u64) -> u64 {
        value.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ 0x55
    }

    fn count(hitters: &mut HeavyHitters, value: u64) {
        hitters.count(&value.to_string(), hash(value));
    }

    fn total(hitters: &HeavyHitters) -> u64 {
        hitters.other() + hitters.exported().map(|(_, count)| count).sum::<u64>()
    }

    #[test]
    fn the_first_twenty_values_are_exported_at_once() {
        let mut hitters = HeavyHitters::default();
        (0..20).for_each(|value| count(&mut hitters, value));
        assert_eq!(hitters.exported().count(), 20);
        assert_eq!(hitters.other(), 0);
        count(&mut hitters, 20);
        assert_eq!((hitters.exported().count(), hitters.other()), (20, 1));
    }

    #[test]
    fn a_certainly_more_frequent_value_replaces_the_least_frequent() {
        let mut hitters = HeavyHitters::default();
        (0..19).for_each(|value| (0..5).for_each(|_| count(&mut hitters, value)));
        count(&mut hitters, 19);
        count(&mut hitters, 100);
        assert!(hitters.exported().all(|(text, _)| text != "100"));
        count(&mut hitters, 100);
        let exported: HashMap<_, _> = hitters.exported().collect();
        assert_eq!(
            exported.get("100"),
            Some(&1),
            "it counts from its promotion"
        );
        assert_eq!(exported.get("19"), None);
        assert_eq!(hitters.other(), 2, "one of 100, one of 19");
        assert_eq!(total(&hitters), 98);
    }

    const MILLION: u64 = 1_000_000;

    /// `heavy` values of 1 % each, among others that occur once; `total` occurrences in all.
    fn flood(total: u64, heavy: u64, order: impl Fn(u64) -> u64) -> HeavyHitters {
        let mut hitters = HeavyHitters::default();
        for place in 0..total {
            let place = order(place);
            let value = if place < heavy * total / 100 {
                place % heavy
            } else {
                total + place
            };
            count(&mut hitters, value);
        }
        assert_eq!(super::tests::total(&hitters), total);
        assert!(hitters.exported.len() == EXPORTED && hitters.watched.len() == WATCHED);
        hitters
    }

    fn assert_exported(hitters: &HeavyHitters, heavy: u64) {
        for value in 0..heavy {
            let text = value.to_string();
            assert!(
                hitters.exported().any(|(exported, _)| exported == text),
                "{value}"
            );
        }
    }

    #[test]
    fn one_in_a_hundred_is_exported_if_it_comes_first() {
        assert_exported(&flood(MILLION / 10, 20, |place| place), 20);
    }

    #[test]
    fn one_in_a_hundred_is_exported_if_it_comes_last() {
        assert_exported(
            &flood(MILLION / 10, 20, |place| MILLION / 10 - 1 - place),
            20,
        );
    }

    #[test]
    fn one_in_a_hundred_among_a_million_is_exported_if_it_comes_now_and_then() {
        // 700,001 and 1,000,000 are coprime, so every place occurs once.
        assert_exported(&flood(MILLION, 1, |place| place * 700_001 % MILLION), 1);
    }

    #[test]
    fn exactly_every_hundredth_is_exported() {
        assert_exported(
            &flood(MILLION, 1, |place| place % 100 * 10_000 + place / 100),
            1,
        );
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn every_value_is_counted_once_and_no_count_falls(
            values in proptest::collection::vec((0_u64..400, 0_u64..40), 0..800)
        ) {
            let mut hitters = HeavyHitters::default();
            let mut before: HashMap<String, u64> = HashMap::new();
            let mut other = 0;
            for (seen, (wide, narrow)) in (1..).zip(values) {
                count(&mut hitters, wide.min(narrow * narrow));
                prop_assert_eq!(total(&hitters), seen);
                prop_assert!(hitters.other() >= other);
                other = hitters.other();
                let now: HashMap<String, u64> =
                    hitters.exported().map(|(text, count)| (text.to_owned(), count)).collect();
                prop_assert!(now.len() <= EXPORTED && hitters.watched.len() <= WATCHED);
                prop_assert_eq!(now.len(), hitters.exported.len(), "a text is exported once");
                for (text, count) in &now {
                    prop_assert!(before.get(text).is_none_or(|before| before <= count));
                }
                before = now;
            }
        }

        #[test]
        fn up_to_twenty_values_are_counted_exactly(
            values in proptest::collection::vec(0_u64..20, 0..200)
        ) {
            let mut hitters = HeavyHitters::default();
            let mut exact: HashMap<String, u64> = HashMap::new();
            for value in values {
                count(&mut hitters, value);
                *exact.entry(value.to_string()).or_default() += 1;
            }
            let counted: HashMap<String, u64> =
                hitters.exported().map(|(text, count)| (text.to_owned(), count)).collect();
            prop_assert_eq!(counted, exact);
        }
    }
}
