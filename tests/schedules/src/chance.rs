//! Chance as a function of what it is about, so that leaving one thing out shifts nothing else.
//!
//! **May touch:** its arguments.

/// A number that follows from `parts` alone.
#[must_use]
pub fn mix(parts: &[u64]) -> u64 {
    parts.iter().fold(0x243F_6A88_85A3_08D3, |state, part| {
        let mut z = (state ^ part).wrapping_add(0x9E37_79B9_7F4A_7C15);
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    })
}

/// Numbers that follow from what they are about, one after the other.
#[derive(Clone, Debug)]
pub struct Chance(u64);

impl Chance {
    /// The numbers about `parts`.
    #[must_use]
    pub fn about(parts: &[u64]) -> Self {
        Self(mix(parts))
    }

    /// The next number.
    pub fn number(&mut self) -> u64 {
        self.0 = mix(&[self.0, 1]);
        self.0
    }

    /// The next one from 0 up to and without `end`; 0 if that is 0.
    pub fn below(&mut self, end: u64) -> u64 {
        self.number() % end.max(1)
    }

    /// Whether something of that likelihood happens.
    pub fn percent(&mut self, likely: u64) -> bool {
        self.below(100) < likely
    }

    /// One of these.
    pub fn pick<T: Clone>(&mut self, of: &[T], otherwise: T) -> T {
        let at = usize::try_from(self.below(of.len() as u64)).unwrap_or(0);
        of.get(at).cloned().unwrap_or(otherwise)
    }
}
