//! Secrets: made of the system's randomness, kept as a hash, compared without telling how far they
//! are alike.
//!
//! They need no slow hash: what has 128 bits and more of randomness can't be found by trying.

use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;
use turnkeep_core::ports::keys::SecretHash;

use super::AccessError;

/// Small letters and digits without those that are taken for one another.
const ALPHABET: &[u8; 32] = b"abcdefghjkmnpqrstuvwxyz123456789";

/// A secret of 256 bits, for programs.
pub(super) fn long() -> Result<String, AccessError> {
    random::<32>()
}

/// A secret of 128 bits, short enough to be pasted, for what is used once and soon.
pub(super) fn short() -> Result<String, AccessError> {
    random::<16>()
}

/// A name of 40 bits; no secret.
pub(crate) fn name() -> Result<String, AccessError> {
    random::<5>()
}

/// What is kept of a secret.
pub(super) fn hash(secret: &str) -> SecretHash {
    Sha256::digest(secret.as_bytes()).into()
}

/// Whether two hashes are the same; takes equally long wherever they differ.
pub(crate) fn are_equal(one: &SecretHash, other: &SecretHash) -> bool {
    one.ct_eq(other).into()
}

/// Whether a text has only letters that secrets have.
pub(crate) fn is_spelled(text: &str) -> bool {
    text.bytes().all(|letter| ALPHABET.contains(&letter))
}

fn random<const N: usize>() -> Result<String, AccessError> {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes).map_err(|_| AccessError::Randomness)?;
    Ok(spell(&bytes))
}

/// Five bits a letter.
fn spell(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len() * 8 / 5 + 1);
    let (mut held, mut bits) = (0_u16, 0_u32);
    for byte in bytes {
        held = held << 8 | u16::from(*byte);
        bits += 8;
        while bits >= 5 {
            bits -= 5;
            text.push(letter(held >> bits));
        }
    }
    if bits > 0 {
        text.push(letter(held << (5 - bits)));
    }
    text
}

fn letter(bits: u16) -> char {
    char::from(ALPHABET[usize::from(bits & 31)])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_bit_is_spelled() {
        assert_eq!(spell(&[0, 0, 0, 0, 0]), "aaaaaaaa");
        assert_eq!(spell(&[255; 5]), "99999999");
        assert_eq!(spell(&[0b0000_1000, 0b1000_0111]), "bcdt");
        for place in 0..256 {
            let mut bytes = [0; 32];
            bytes[place / 8] = 1 << (place % 8);
            assert_ne!(spell(&bytes), spell(&[0; 32]), "{place}");
        }
        assert_eq!(
            [spell(&[1; 32]).len(), spell(&[1; 16]).len(), spell(&[1; 5]).len()],
            [52, 26, 8]
        );
    }

    #[test]
    fn no_two_are_alike() {
        let mut all: Vec<String> = (0..100).map(|_| long().unwrap()).collect();
        all.sort();
        all.dedup();
        assert_eq!(all.len(), 100);
        assert!(are_equal(&hash(&all[0]), &hash(&all[0])));
        assert!(!are_equal(&hash(&all[0]), &hash(&all[1])));
    }
}
