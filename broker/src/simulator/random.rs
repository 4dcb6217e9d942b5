//! The simulator's own generator of random numbers: small, fast, and the same on every machine.
//!
//! Everything that a simulated run leaves to chance is drawn from here, so that the seed is all
//! that is needed to run it again. The algorithm is xoshiro256++, seeded through SplitMix64.

/// A stream of random numbers that its seed determines.
#[derive(Debug, Clone)]
pub struct Random {
    state: [u64; 4],
}

impl Random {
    /// The stream that belongs to `seed`.
    pub fn new(seed: u64) -> Self {
        let mut mixer = seed;
        let mut state = [0; 4];
        for word in &mut state {
            mixer = mixer.wrapping_add(0x9e37_79b9_7f4a_7c15);
            *word = mix(mixer);
        }
        Self { state }
    }

    /// A stream of its own for one part of the simulation, so that drawing more numbers there does
    /// not shift what the other parts draw.
    pub fn fork(&mut self, label: u64) -> Self {
        Self::new(self.bits() ^ mix(label))
    }

    /// The next 64 bits.
    pub fn bits(&mut self) -> u64 {
        let state = &mut self.state;
        let result = state[0].wrapping_add(state[3]).rotate_left(23).wrapping_add(state[0]);
        let shifted = state[1] << 17;
        state[2] ^= state[0];
        state[3] ^= state[1];
        state[1] ^= state[2];
        state[0] ^= state[3];
        state[2] ^= shifted;
        state[3] = state[3].rotate_left(45);
        result
    }

    /// A number below `bound`, which is not 0. The bias of taking the high half of a product is far
    /// below what a simulation could notice.
    pub fn below(&mut self, bound: u64) -> u64 {
        assert!(bound > 0, "there is no number below 0");
        ((u128::from(self.bits()) * u128::from(bound)) >> 64) as u64
    }

    /// A number from `low` to `high`, both possible.
    pub fn between(&mut self, low: u64, high: u64) -> u64 {
        assert!(low <= high, "an empty range");
        match (high - low).checked_add(1) {
            Some(width) => low + self.below(width),
            None => self.bits(),
        }
    }

    /// A number from `low` to `high` of which small ones are likelier: each doubling of the
    /// distance from `low` is about as likely as the one before.
    pub fn skewed(&mut self, low: u64, high: u64) -> u64 {
        let bits = 64 - (high - low).leading_zeros();
        let width = 1_u64.checked_shl(self.below(u64::from(bits) + 1) as u32).unwrap_or(u64::MAX);
        low + self.below(width).min(high - low)
    }

    /// True `parts` times out of `of`.
    pub fn chance(&mut self, parts: u64, of: u64) -> bool {
        self.below(of) < parts
    }

    /// One of `choices`, which is not empty.
    pub fn pick<'a, T>(&mut self, choices: &'a [T]) -> &'a T {
        &choices[self.below(choices.len() as u64) as usize]
    }

    /// An index into `weights`, each as likely as its weight; `None` where all are 0.
    pub fn weighted(&mut self, weights: &[u32]) -> Option<usize> {
        let total: u64 = weights.iter().map(|weight| u64::from(*weight)).sum();
        if total == 0 {
            return None;
        }
        let mut left = self.below(total);
        weights.iter().position(|weight| {
            let found = left < u64::from(*weight);
            left = left.wrapping_sub(u64::from(*weight));
            found
        })
    }
}

/// Spreads the bits of a number over all of the result (the finisher of SplitMix64).
pub fn mix(number: u64) -> u64 {
    let number = (number ^ (number >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let number = (number ^ (number >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    number ^ (number >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_gives_the_same_numbers_and_another_gives_others() {
        let draw = |seed| {
            let mut random = Random::new(seed);
            (0..100).map(|_| random.bits()).collect::<Vec<_>>()
        };
        assert_eq!(draw(7), draw(7));
        assert_ne!(draw(7), draw(8));
    }

    #[test]
    fn numbers_stay_in_their_ranges_and_reach_both_ends() {
        let mut random = Random::new(1);
        let drawn: Vec<u64> = (0..1000).map(|_| random.between(3, 6)).collect();
        assert_eq!((drawn.iter().min(), drawn.iter().max()), (Some(&3), Some(&6)));
        let drawn: Vec<u64> = (0..1000).map(|_| random.skewed(10, 1000)).collect();
        assert!(drawn.iter().all(|number| (10..=1000).contains(number)));
        assert!(drawn.iter().filter(|number| **number < 100).count() > 500);
    }

    #[test]
    fn weights_of_zero_are_never_picked() {
        let mut random = Random::new(2);
        assert!((0..100).all(|_| random.weighted(&[0, 3, 0, 1]).is_some_and(|index| index % 2 == 1)));
        assert_eq!(random.weighted(&[0, 0]), None);
    }
}
