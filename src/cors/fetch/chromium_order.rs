//! The order in which Chromium checks a request's fields, which decides which one it reports.
//!
//! Chromium keeps the fields in a hash table and checks them in slot order. The hash is
//! [rapidhash](https://github.com/Nicoshev/rapidhash) over the name in UTF-16
//! (`platform/wtf/text/case_folding_hash.h`), the table that of `platform/wtf/hash_table.h`.

/// Fields that Chromium adds before it sends a request.
const ALWAYS: &str = "user-agent";

/// Fields that it adds if the URL is potentially trustworthy.
const HINTS: [&str; 3] = ["sec-ch-ua-platform", "sec-ch-ua", "sec-ch-ua-mobile"];

const SEED: u64 = 0xbdd8_9aa9_8270_4029;
const SECRET: [u64; 3] = [
    0x2d35_8dcc_aa6c_78a5,
    0x8bb8_4b93_962e_acc9,
    0x4b33_a62e_d433_d4a3,
];

/// The slots of a new table.
const SLOTS: usize = 8;

/// Sorts `asked` into Chromium's order; `names` are all fields that the script sets.
pub(super) fn in_order<'n>(
    names: impl Iterator<Item = &'n str>,
    asked: &[&'n str],
    is_trustworthy: bool,
) -> Vec<&'n str> {
    let mut inserted: Vec<&str> = names.collect();
    inserted.sort_unstable();
    let hints = if is_trustworthy {
        HINTS.as_slice()
    } else {
        &[]
    };
    for added in [ALWAYS].iter().chain(hints) {
        if !inserted.contains(added) {
            inserted.push(added);
        }
    }
    let mut slots = vec![None; SLOTS];
    for (count, name) in (1..).zip(inserted) {
        place(&mut slots, name);
        // A table doubles when half of its slots are used.
        if count * 2 >= slots.len() {
            let old = std::mem::take(&mut slots);
            slots = vec![None; old.len() * 2];
            old.into_iter()
                .flatten()
                .for_each(|name| place(&mut slots, name));
        }
    }
    slots
        .into_iter()
        .flatten()
        .filter(|name| asked.contains(name))
        .collect()
}

fn place<'n>(slots: &mut [Option<&'n str>], name: &'n str) {
    // Only the lowest 24 bits are kept.
    let mask = slots.len() - 1;
    let mut at = usize::try_from(hash(name) & 0x00ff_ffff).unwrap_or_default() & mask;
    for step in 1..=slots.len() {
        match slots.get_mut(at) {
            Some(slot @ None) => {
                *slot = Some(name);
                return;
            }
            _ => at = (at + step) & mask,
        }
    }
}

/// rapidhash of a name in UTF-16, least significant byte first.
fn hash(name: &str) -> u64 {
    let bytes: Vec<u8> = name.encode_utf16().flat_map(u16::to_le_bytes).collect();
    let length = bytes.len();
    let mut seed = SEED ^ mix(SEED ^ SECRET[0], SECRET[1]) ^ length as u64;
    let (a, b) = if length <= 16 {
        short(&bytes)
    } else {
        let mut rest = bytes.as_slice();
        if rest.len() > 48 {
            let (mut second, mut third) = (seed, seed);
            while rest.len() >= 48 {
                seed = mix(read64(rest, 0) ^ SECRET[0], read64(rest, 8) ^ seed);
                second = mix(read64(rest, 16) ^ SECRET[1], read64(rest, 24) ^ second);
                third = mix(read64(rest, 32) ^ SECRET[2], read64(rest, 40) ^ third);
                rest = rest.get(48..).unwrap_or_default();
            }
            seed ^= second ^ third;
        }
        if rest.len() > 16 {
            seed = mix(
                read64(rest, 0) ^ SECRET[2],
                read64(rest, 8) ^ seed ^ SECRET[1],
            );
            if rest.len() > 32 {
                seed = mix(read64(rest, 16) ^ SECRET[2], read64(rest, 24) ^ seed);
            }
        }
        (read64(&bytes, length - 16), read64(&bytes, length - 8))
    };
    let (a, b) = multiplied(a ^ SECRET[1], b ^ seed);
    mix(a ^ SECRET[0] ^ length as u64, b ^ SECRET[1])
}

/// The two words of up to 16 bytes.
fn short(bytes: &[u8]) -> (u64, u64) {
    let length = bytes.len();
    match length {
        0 => (0, 0),
        // One character.
        1..4 => (read64(bytes, 0), 0),
        _ => {
            let last = length - 4;
            let delta = (length & 24) >> (length >> 3);
            let pair = |first, second| (read32(bytes, first) << 32) | read32(bytes, second);
            (pair(0, last), pair(delta, last - delta))
        }
    }
}

/// Up to eight bytes starting at `at`, least significant first.
fn read64(bytes: &[u8], at: usize) -> u64 {
    let eight = bytes.iter().skip(at).take(8);
    eight
        .rev()
        .fold(0, |word, byte| (word << 8) | u64::from(*byte))
}

fn read32(bytes: &[u8], at: usize) -> u64 {
    read64(bytes, at) & 0xffff_ffff
}

/// Low and high half of a product.
fn multiplied(a: u64, b: u64) -> (u64, u64) {
    let product = u128::from(a) * u128::from(b);
    #[expect(clippy::cast_possible_truncation, reason = "both halves are used")]
    let halves = (product as u64, (product >> 64) as u64);
    halves
}

fn mix(a: u64, b: u64) -> u64 {
    let (low, high) = multiplied(a, b);
    low ^ high
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The field that Chromium 156 reported first, among fields that a response did not allow.
    #[test]
    fn fields_are_checked_in_the_order_of_chromiums_hash_table() {
        let cases = [
            (&["content-language", "x-amz-date"][..], "x-amz-date"),
            (&["authorization", "if-none-match", "x-a"], "if-none-match"),
            (&["accept-language", "if-none-match"], "if-none-match"),
            (&["cache-control", "x-a", "x-amz-date"], "x-amz-date"),
            (&["x-a", "x-b"], "x-a"),
        ];
        for (names, first) in cases {
            let order = in_order(names.iter().copied(), names, true);
            assert_eq!(order.first(), Some(&first), "{names:?}");
            assert_eq!(order.len(), names.len());
        }
    }
}
