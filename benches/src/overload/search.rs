//! Looking for the rate that is just kept up with.

use std::io;

/// Of what was offered, this share has to be done.
const KEPT_MIN: f64 = 0.97;

/// Where to begin.
const FIRST: u64 = 20_000;

/// Nothing is faster.
const MOST: u64 = 100_000_000;

/// How near the answer is to what is not kept up with any more.
const STEP: f64 = 1.06;

/// Whether so much done means that one keeps up with what was offered.
pub(super) fn is_kept(offered: f64, done: f64) -> bool {
    done >= KEPT_MIN * offered
}

/// The most that is kept up with, as far as can be told by trying: a twice as high rate each time, and then between
/// the last that was kept up with and the first that was not.
pub(super) fn most_kept(mut keeps_up: impl FnMut(u64) -> io::Result<bool>) -> io::Result<u64> {
    let mut kept = 0;
    let mut missed = FIRST;
    while missed < MOST && keeps_up(missed)? {
        kept = missed;
        missed *= 2;
    }
    // Whoever cannot do the first rate can do less, down to one a second.
    kept = kept.max(1);
    while missed as f64 > kept as f64 * STEP && missed > kept + 1 {
        let between = ((kept as f64 * missed as f64).sqrt() as u64).clamp(kept + 1, missed - 1);
        if keeps_up(between)? {
            kept = between;
        } else {
            missed = between;
        }
    }
    Ok(kept)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What is found for a broker that keeps up with `most`, and in how many tries.
    fn found(most: u64) -> (u64, usize) {
        let mut tries = 0;
        let kept = most_kept(|rate| {
            tries += 1;
            Ok(rate <= most)
        });
        (kept.expect("nothing fails"), tries)
    }

    #[test]
    fn the_rate_is_found_from_below() {
        for most in [1, 30, 1_999, 20_000, 34_567, 1_234_567] {
            let (kept, tries) = found(most);
            assert!(kept <= most && most as f64 <= kept as f64 * STEP + 1.0, "{kept} for {most}");
            assert!(tries <= 18, "{tries} tries for {most}");
        }
    }

    #[test]
    fn what_is_never_enough_ends_the_search() {
        assert!(found(u64::MAX).0 >= MOST / 2);
    }

    #[test]
    fn a_failure_is_passed_on() {
        assert!(most_kept(|_| Err(io::Error::other("gone"))).is_err());
    }
}
