//! How large bodies are: all alike, any size between two, or some sizes with weights.

use std::fmt;
use std::str::FromStr;

use crate::payload::BODY_BYTES_MIN;
use crate::random::Random;

/// The largest body that the load sends: ten of them are within a frame.
pub const BODY_BYTES_MAX: usize = 100_000;

/// Sizes of bodies: `64`, `64-1024`, or `64:9,4096:1` for nine small ones to each large one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BodySizes {
    /// Least and most bytes, and the weight, which adds up: each is its own and those before.
    ranges: Vec<(usize, usize, u64)>,
    text: String,
}

impl BodySizes {
    /// All of one size.
    pub fn fixed(bytes: usize) -> Self {
        BodySizes { ranges: vec![(bytes, bytes, 1)], text: bytes.to_string() }
    }

    /// The most bytes that one may have.
    pub fn most(&self) -> usize {
        self.ranges.iter().map(|(_, most, _)| *most).max().unwrap_or(BODY_BYTES_MIN)
    }

    /// The size of the next body.
    #[inline]
    pub fn next(&self, random: &mut Random) -> usize {
        if let [(least, most, _)] = self.ranges[..]
            && least == most
        {
            return least;
        }
        let total = self.ranges.last().map_or(1, |(_, _, weight)| *weight);
        let chosen = random.below(total);
        let (least, most, _) = self.ranges[self.ranges.partition_point(|(_, _, weight)| *weight <= chosen)];
        least + random.below((most - least + 1) as u64) as usize
    }
}

impl fmt::Display for BodySizes {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.text)
    }
}

impl FromStr for BodySizes {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let mut ranges = Vec::new();
        let mut total = 0;
        for part in text.split(',') {
            let (sizes, weight) = part.split_once(':').unwrap_or((part, "1"));
            let (least, most) = sizes.split_once('-').unwrap_or((sizes, sizes));
            let size = |text: &str| match text.trim().parse() {
                Ok(bytes) if (BODY_BYTES_MIN..=BODY_BYTES_MAX).contains(&bytes) => Ok(bytes),
                _ => Err(format!("{text:?}: bodies have {BODY_BYTES_MIN} to {BODY_BYTES_MAX} bytes here")),
            };
            let (least, most) = (size(least)?, size(most)?);
            let weight = weight.trim().parse().ok().filter(|weight| (1..=1_000_000).contains(weight));
            let weight: u64 = weight.ok_or_else(|| format!("{part:?}: a weight is 1 to 1000000"))?;
            if least > most {
                return Err(format!("{part:?}: the smaller size comes first"));
            }
            total += weight;
            ranges.push((least, most, total));
        }
        Ok(BodySizes { ranges, text: text.to_owned() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_drawn_as_they_were_asked_for() {
        let mut random = Random::new(3);
        assert_eq!("64".parse::<BodySizes>().unwrap().next(&mut random), 64);
        let sizes: BodySizes = "64:9,100-200:1".parse().unwrap();
        let drawn: Vec<usize> = (0..10_000).map(|_| sizes.next(&mut random)).collect();
        let small = drawn.iter().filter(|bytes| **bytes == 64).count();
        assert!((8_700..9_300).contains(&small), "{small}");
        assert!(drawn.iter().all(|bytes| *bytes == 64 || (100..=200).contains(bytes)));
        assert_eq!((sizes.most(), sizes.to_string().as_str()), (200, "64:9,100-200:1"));
    }

    #[test]
    fn what_cannot_be_is_refused() {
        for text in ["", "23", "200-100", "64:0", "64:x", "100001"] {
            assert!(text.parse::<BodySizes>().is_err(), "{text:?}");
        }
    }
}
