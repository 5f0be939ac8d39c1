//! The hash under the number of a state.

use std::hash::Hasher;

/// Two lanes of a multiply-and-fold hash: one pass over the state, and 128 bits of it.
#[derive(Debug)]
pub struct Lanes([u64; 2]);

const ODD: [u64; 2] = [0x9e37_79b9_7f4a_7c15, 0xd6e8_feb8_6659_fd93];

/// Nothing was put in yet.
pub const START: Lanes = Lanes(ODD);

impl Lanes {
    /// What was put in, as one number.
    pub fn number(&self) -> u128 {
        (u128::from(self.0[0]) << 64) | u128::from(self.0[1])
    }

    /// The same in two halves.
    pub fn both(&self) -> (u64, u64) {
        (self.0[0], self.0[1])
    }
}

#[expect(clippy::cast_possible_truncation, reason = "both halves of the product are folded")]
fn fold(lane: u64, word: u64, odd: u64) -> u64 {
    let product = u128::from(lane ^ word) * u128::from(odd);
    (product as u64 ^ (product >> 64) as u64).rotate_left(23).wrapping_add(odd)
}

impl Hasher for Lanes {
    fn finish(&self) -> u64 {
        self.0[0]
    }
    fn write(&mut self, bytes: &[u8]) {
        for chunk in bytes.chunks(8) {
            let mut word = [0; 8];
            word[..chunk.len()].copy_from_slice(chunk);
            self.write_u64(u64::from_le_bytes(word));
        }
    }
    fn write_u8(&mut self, value: u8) {
        self.write_u64(u64::from(value));
    }
    fn write_u32(&mut self, value: u32) {
        self.write_u64(u64::from(value));
    }
    fn write_u64(&mut self, value: u64) {
        self.0 = [fold(self.0[0], value, ODD[0]), fold(self.0[1], value, ODD[1])];
    }
    fn write_usize(&mut self, value: usize) {
        self.write_u64(value as u64);
    }
}
