//! Changes an input a little: bytes, words, numbers, pieces of itself and of others.

use std::ops::Range;

use crate::Target;
use crate::rng::Rng;

/// Changes at once, at most.
const CHANGES_MAX: usize = 6;
/// Numbers at which something might go over.
const NUMBERS: [&[u8]; 12] = [
    b"0",
    b"-1",
    b"1",
    b"127",
    b"256",
    b"65536",
    b"2147483648",
    b"9223372036854775807",
    b"18446744073709551615",
    b"18446744073709551616",
    b"1e309",
    b"0.1",
];
/// Pieces that many readers of text stumble over.
const PIECES: [&[u8]; 22] = [
    b"\0",
    b"\r\n",
    b"\n",
    b"\t",
    b" ",
    b"\"",
    b"\\",
    b"%",
    b"%00",
    b"%25",
    b"%3A",
    b":",
    b";",
    b",",
    b"=",
    b"\x1b[31m",
    b"\xc2\x9b",
    b"\xff\xfe",
    b"\xed\xa0\x80",
    b"\xe2\x80\xae",
    b"\xf0\x9f\x98\x80",
    b"\\ud800",
];

/// An input made of `from`; `others` lend pieces.
pub(crate) fn mutate(
    from: &[u8],
    others: &[Vec<u8>],
    target: &Target<'_>,
    rng: &mut Rng,
) -> Vec<u8> {
    let mut input = from.to_vec();
    for _ in 0..=rng.below(CHANGES_MAX) {
        change(&mut input, others, target, rng);
    }
    input.truncate(target.length_max);
    input
}

fn change(input: &mut Vec<u8>, others: &[Vec<u8>], target: &Target<'_>, rng: &mut Rng) {
    match rng.below(11) {
        0 => {
            if let Some(byte) = any_byte(input, rng) {
                *byte ^= 1 << rng.below(8);
            }
        }
        1 => {
            let new = rng.byte();
            if let Some(byte) = any_byte(input, rng) {
                *byte = new;
            }
        }
        2 => {
            let cut = range(input, rng);
            input.drain(cut);
        }
        3 => {
            let piece = input[range(input, rng)].to_vec();
            insert(input, &piece, rng);
        }
        4 => {
            // Once more and once more: what is deep or long.
            let piece = input[range(input, rng)].repeat(2 + rng.below(30));
            insert(input, &piece, rng);
        }
        5 => {
            let other = rng.one(others).map_or(&[][..], Vec::as_slice);
            let piece = other[range(other, rng)].to_vec();
            insert(input, &piece, rng);
        }
        6 => replace_number(input, rng),
        7 => insert(input, rng.one(&PIECES).copied().unwrap_or_default(), rng),
        8 => {
            let word = rng.one(target.words).copied().unwrap_or_default();
            let cut = range(input, rng);
            input.splice(cut, word.iter().copied());
        }
        9 => {
            let noise = [rng.byte(), rng.byte(), rng.byte()];
            insert(input, &noise[..=rng.below(3)], rng);
        }
        _ => insert(input, rng.one(target.words).copied().unwrap_or_default(), rng),
    }
}

fn any_byte<'a>(input: &'a mut [u8], rng: &mut Rng) -> Option<&'a mut u8> {
    let at = rng.below(input.len());
    input.get_mut(at)
}

/// A piece of it, mostly a short one.
fn range(of: &[u8], rng: &mut Rng) -> Range<usize> {
    let start = rng.below(of.len() + 1);
    let rest = of.len() - start;
    let length_max = if rng.below(4) == 0 { rest } else { rest.min(8) };
    start..start + rng.below(length_max + 1)
}

fn insert(input: &mut Vec<u8>, piece: &[u8], rng: &mut Rng) {
    let at = rng.below(input.len() + 1);
    input.splice(at..at, piece.iter().copied());
}

fn replace_number(input: &mut Vec<u8>, rng: &mut Rng) {
    let begins =
        |at: &usize| input[*at].is_ascii_digit() && (*at == 0 || !input[at - 1].is_ascii_digit());
    let starts: Vec<usize> = (0..input.len()).filter(begins).collect();
    let Some(start) = rng.one(&starts).copied() else { return };
    let length = input[start..].iter().take_while(|byte| byte.is_ascii_digit()).count();
    let number = rng.one(&NUMBERS).copied().unwrap_or_default();
    input.splice(start..start + length, number.iter().copied());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_seed_changes_alike_and_within_the_length() {
        let target = Target { name: "x", seeds: &[b"abc 12"], words: &[b"word"], length_max: 40 };
        let play = |seed| -> Vec<Vec<u8>> {
            let mut rng = Rng::new(seed);
            let others = [b"other".to_vec()];
            (0..500).map(|_| mutate(b"abc 12", &others, &target, &mut rng)).collect()
        };
        let inputs = play(1);
        assert_eq!(inputs, play(1));
        assert_ne!(inputs, play(2));
        assert!(inputs.iter().all(|input| input.len() <= 40));
        let holds = |piece: &[u8]| {
            inputs.iter().any(|input| input.windows(piece.len()).any(|window| window == piece))
        };
        assert!(holds(b"word") && holds(b"18446744073709551616") && holds(b"othe"));
        let mut rng = Rng::new(3);
        assert!((0..200).all(|_| mutate(b"", &[], &target, &mut rng).len() <= 40));
    }
}
