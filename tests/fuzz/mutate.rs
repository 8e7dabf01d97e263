//! Changes to inputs: bits, bytes, ranges, numbers in binary and in text.

use rand::rngs::StdRng;
use rand::seq::SliceRandom;
use rand::Rng;

/// Words that texts are changed to.
const WORDS: [&str; 24] = [
    "-1",
    "0",
    "1",
    "2",
    "NaN",
    "inf",
    "-inf",
    "1e309",
    "1e-400",
    "18446744073709551615",
    "18446744073709551616",
    "9223372036854775807",
    "-9223372036854775808",
    "4294967295",
    "0.5",
    ",",
    ";",
    "=",
    "\n",
    "\"",
    "{",
    "[",
    "\u{fffd}",
    "\0",
];

/// A changed copy of one of `seeds`, no longer than 16 KiB more.
pub fn mutate(rng: &mut StdRng, seeds: &[Vec<u8>]) -> Vec<u8> {
    let mut bytes = seeds.choose(rng).cloned().unwrap_or_default();
    let limit = bytes.len() + (16 << 10);
    for _ in 0..1 << rng.gen_range(0..4) {
        step(rng, &mut bytes, seeds);
        bytes.truncate(limit);
    }
    bytes
}

fn range(rng: &mut StdRng, len: usize) -> std::ops::Range<usize> {
    let start = rng.gen_range(0..=len);
    let most = match rng.gen_range(0..3) {
        0 => 4,
        1 => 64,
        _ => len,
    };
    start..start + rng.gen_range(0..=most.min(len - start))
}

fn step(rng: &mut StdRng, bytes: &mut Vec<u8>, seeds: &[Vec<u8>]) {
    if bytes.is_empty() {
        bytes.push(rng.gen());
        return;
    }
    let at = rng.gen_range(0..bytes.len());
    // Half of the time near the beginning, where headers are.
    let at = if rng.gen() {
        at.min(rng.gen_range(0..64))
    } else {
        at
    };
    match rng.gen_range(0..11) {
        0 => bytes[at] ^= 1 << rng.gen_range(0..8),
        1 => bytes[at] = rng.gen(),
        2 => bytes[at] = *[0, 1, 0x7f, 0x80, 0xff, b' '].choose(rng).unwrap(),
        3 => {
            let new: Vec<u8> = (0..rng.gen_range(1..16)).map(|_| rng.gen()).collect();
            bytes.splice(at..at, new);
        }
        4 => drop(bytes.drain(range(rng, bytes.len()))),
        5 => bytes.truncate(at),
        6 => {
            let part = bytes[range(rng, bytes.len())].to_vec();
            bytes.splice(at..at, part);
        }
        7 => {
            let other = seeds.choose(rng).unwrap();
            let part = other[range(rng, other.len())].to_vec();
            let place = range(rng, bytes.len());
            bytes.splice(place, part);
        }
        // A length field.
        8 => {
            let width = *[1, 2, 4, 8].choose(rng).unwrap();
            let len = bytes.len() as u64;
            let numbers = [
                0,
                1,
                len,
                len + 1,
                0x7fff,
                0xffff,
                1 << 31,
                u64::MAX >> 1,
                u64::MAX,
            ];
            let number = numbers
                .choose(rng)
                .unwrap()
                .wrapping_sub(rng.gen_range(0..3));
            let little = number.to_le_bytes();
            let mut field = little[..width].to_vec();
            if rng.gen() {
                field.reverse();
            }
            let end = (at + width).min(bytes.len());
            bytes.splice(at..end, field);
        }
        // A number in a text.
        9 => {
            let digit = |&i: &usize| bytes[i].is_ascii_digit();
            if let Some(start) = (at..bytes.len()).find(digit) {
                let end = (start..bytes.len())
                    .find(|i| !digit(i))
                    .unwrap_or(bytes.len());
                let word = WORDS.choose(rng).unwrap();
                bytes.splice(start..end, word.bytes());
            }
        }
        _ => {
            let word = WORDS.choose(rng).unwrap();
            bytes.splice(at..at, word.bytes());
        }
    }
}
