//! The origins that a route refuses most often.

use std::hash::{BuildHasher, RandomState};
use std::sync::TryLockError;
use std::sync::atomic::{AtomicU64, Ordering};

use super::heavy_hitters::HeavyHitters;

#[expect(
    clippy::disallowed_types,
    reason = "only tried, never waited for: if it is locked, the refusal counts as other"
)]
use std::sync::Mutex;

/// The label for all origins that are not among the heaviest.
pub(super) const OTHER: &str = "other";

/// How often taking the lock is tried before the origin counts as [`OTHER`].
const TRIES: usize = 64;

/// The refused origins of one route: the heaviest by name, the rest in one count.
#[derive(Debug, Default)]
pub(super) struct DeniedOrigins {
    #[expect(clippy::disallowed_types, reason = "as above")]
    heaviest: Mutex<HeavyHitters>,
    /// Keyed, so that clients cannot craft two origins with the same hash.
    hash: RandomState,
    /// Refusals counted without an origin: the lock was taken, or the origin has no name.
    unnamed: AtomicU64,
}

impl DeniedOrigins {
    pub(super) fn count(&self, origin: &[u8]) {
        let label = OriginLabel::new(origin);
        let text = label.as_str();
        if !text.is_empty() && text != OTHER {
            let hash = self.hash.hash_one(text);
            for _ in 0..TRIES {
                match self.heaviest.try_lock() {
                    Ok(mut heaviest) => return heaviest.count(text, hash),
                    Err(TryLockError::Poisoned(poisoned)) => {
                        return poisoned.into_inner().count(text, hash);
                    }
                    Err(TryLockError::WouldBlock) => std::hint::spin_loop(),
                }
            }
        }
        self.unnamed.fetch_add(1, Ordering::Relaxed);
    }

    /// The counts: the heaviest first, then the rest under [`OTHER`].
    pub(super) fn counts(&self) -> Vec<(String, u64)> {
        let heaviest = match self.heaviest.lock() {
            Ok(heaviest) => heaviest,
            Err(poisoned) => poisoned.into_inner(),
        };
        let mut counts: Vec<_> = heaviest
            .exported()
            .map(|(origin, count)| (origin.to_owned(), count))
            .collect();
        counts.sort_by(|(a, a_count), (b, b_count)| b_count.cmp(a_count).then_with(|| a.cmp(b)));
        let other = heaviest.other() + self.unnamed.load(Ordering::Relaxed);
        counts.push((OTHER.to_owned(), other));
        counts
    }
}

/// The longest origin label, in bytes.
const MAX_LABEL: usize = 128;

/// An origin as a label: lower case, visible ASCII, at most 128 bytes. Other bytes are
/// percent-encoded, so that a client cannot break a label, log line or page.
struct OriginLabel {
    bytes: [u8; MAX_LABEL],
    length: usize,
}

impl OriginLabel {
    fn new(origin: &[u8]) -> Self {
        let mut label = Self {
            bytes: [0; MAX_LABEL],
            length: 0,
        };
        for byte in origin {
            let written = match byte {
                b'"' | b'\\' | b'<' | b'>' | b'%' => label.push(&percent_encoded(*byte)),
                byte if byte.is_ascii_graphic() => label.push(&[byte.to_ascii_lowercase()]),
                byte => label.push(&percent_encoded(*byte)),
            };
            if written.is_none() {
                break;
            }
        }
        label
    }

    /// Adds all of `bytes`, or nothing if they do not fit.
    fn push(&mut self, bytes: &[u8]) -> Option<()> {
        let end = self.length + bytes.len();
        self.bytes.get_mut(self.length..end)?.copy_from_slice(bytes);
        self.length = end;
        Some(())
    }

    fn as_str(&self) -> &str {
        let bytes = self.bytes.get(..self.length).unwrap_or_default();
        std::str::from_utf8(bytes).unwrap_or_default()
    }
}

fn percent_encoded(byte: u8) -> [u8; 3] {
    let digit = |value: u8| match value {
        0..=9 => b'0' + value,
        _ => b'a' + value - 10,
    };
    [b'%', digit(byte >> 4), digit(byte & 15)]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_origin_is_shown_in_lower_case_visible_ascii_of_bounded_length() {
        let long = format!("https://{}\u{e9}", "a".repeat(119));
        let cases = [
            ("https://App.Example:443", "https://app.example:443"),
            ("null", "null"),
            ("a\"b\\c\nd\te", "a%22b%5cc%0ad%09e"),
            ("<script>%3c", "%3cscript%3e%253c"),
            ("h\u{e9}", "h%c3%a9"),
            ("\u{1b}[31m", "%1b[31m"),
            (&long, long.trim_end_matches('\u{e9}')),
        ];
        for (origin, shown) in cases {
            assert_eq!(OriginLabel::new(origin.as_bytes()).as_str(), shown);
        }
        let endless = vec![b'a'; 100_000];
        assert_eq!(OriginLabel::new(&endless).as_str().len(), MAX_LABEL);
    }

    #[test]
    fn unnamed_origins_and_one_named_other_share_a_count() {
        let denied = DeniedOrigins::default();
        for origin in ["", "other", "OTHER", "https://a.example"] {
            denied.count(origin.as_bytes());
        }
        assert_eq!(
            denied.counts(),
            [("https://a.example".to_owned(), 1), (OTHER.to_owned(), 3)]
        );
    }

    #[test]
    fn a_taken_lock_is_not_waited_for() {
        let denied = DeniedOrigins::default();
        let taken = denied.heaviest.lock().unwrap();
        denied.count(b"https://a.example");
        drop(taken);
        assert_eq!(denied.counts(), [(OTHER.to_owned(), 1)]);
    }

    #[test]
    fn concurrent_workers_lose_no_counts() {
        let denied = DeniedOrigins::default();
        std::thread::scope(|scope| {
            for worker in 0..4 {
                let denied = &denied;
                scope.spawn(move || {
                    for number in 0..2000 {
                        denied.count(
                            format!("https://{}.example", number % (worker + 30)).as_bytes(),
                        );
                    }
                });
            }
        });
        let counts = denied.counts();
        assert_eq!(counts.iter().map(|(_, count)| count).sum::<u64>(), 8000);
        assert!(counts.len() <= 21);
    }
}
