//! MD5 of several texts side by side. Each step of MD5 waits for the one before it, so a processor has most of its
//! units idle with one text; with a lane for each text, a step is done for all of them in hardly more time.

use std::arch::x86_64::*;

/// Texts side by side: as many as a batch has, in whole vectors of four.
const LANES: usize = 12;

/// What a block costs in all lanes, in blocks that are done one by one. With fewer to do it does not pay.
const COST_OF_ALL_LANES: usize = 4;

const BLOCK_BYTES: usize = 64;

/// The digests of as many texts as there are lanes, or fewer; `None` where they are rather done one by one.
pub(super) fn digests(texts: &[&[u8]]) -> Option<[[u8; 16]; LANES]> {
    let blocks = |text: &&[u8]| (text.len() + 9).div_ceil(BLOCK_BYTES);
    let most = texts.iter().map(blocks).max()?;
    let all: usize = texts.iter().map(blocks).sum();
    if texts.len() > LANES || all <= most * COST_OF_ALL_LANES {
        return None;
    }
    // SAFETY: every processor of this architecture has SSE2.
    Some(unsafe { digests_of_lanes(texts, most) })
}

/// The digests of texts that have so many blocks at most.
#[target_feature(enable = "sse2")]
fn digests_of_lanes(texts: &[&[u8]], most: usize) -> [[u8; 16]; LANES] {
    let mut lasts = [[[0; BLOCK_BYTES]; 2]; LANES];
    let mut lanes = [Lane::default(); LANES];
    for ((lane, last), text) in lanes.iter_mut().zip(&mut lasts).zip(texts) {
        *lane = Lane::new(text, last);
    }
    let mut state = [0x6745_2301, 0xefcd_ab89, 0x98ba_dcfe, 0x1032_5476].map(|number| Numbers::all(number));
    for place in 0..most {
        let mut next = state;
        compress(&mut next, &words(&lanes, place));
        // A lane that is at its end keeps what it has.
        let goes_on = lanes.each_ref().map(|lane| if place < lane.blocks() { u32::MAX } else { 0 });
        let goes_on = Numbers::new(&goes_on);
        for (number, next) in state.iter_mut().zip(next) {
            *number = goes_on.choose(next, *number);
        }
    }
    let state = state.map(|numbers| numbers.lanes());
    let mut digests = [[0; 16]; LANES];
    for (lane, digest) in digests.iter_mut().enumerate() {
        for (bytes, numbers) in digest.as_chunks_mut().0.iter_mut().zip(&state) {
            *bytes = numbers[lane].to_le_bytes();
        }
    }
    digests
}

/// A text in blocks.
#[derive(Clone, Copy, Default)]
struct Lane<'t> {
    whole: &'t [[u8; BLOCK_BYTES]],
    /// What is behind the whole ones: the rest, a mark, and how long the text is.
    last: &'t [[u8; BLOCK_BYTES]],
}

impl<'t> Lane<'t> {
    /// A text, whose last blocks are made in zeros.
    fn new(text: &'t [u8], last: &'t mut [[u8; BLOCK_BYTES]; 2]) -> Self {
        let (whole, rest) = text.as_chunks();
        let blocks = (rest.len() + 9).div_ceil(BLOCK_BYTES);
        let last = &mut last[..blocks];
        let bytes = last.as_flattened_mut();
        bytes[..rest.len()].copy_from_slice(rest);
        bytes[rest.len()] = 0x80;
        let place_of_length = bytes.len() - 8;
        bytes[place_of_length..].copy_from_slice(&(text.len() as u64 * 8).to_le_bytes());
        Self { whole, last }
    }

    fn blocks(&self) -> usize {
        self.whole.len() + self.last.len()
    }

    /// The block at a place; zeros where it has none.
    fn block(&self, place: usize) -> &[u8; BLOCK_BYTES] {
        const NONE: &[u8; BLOCK_BYTES] = &[0; BLOCK_BYTES];
        match self.whole.get(place) {
            Some(block) => block,
            None => self.last.get(place - self.whole.len()).unwrap_or(NONE),
        }
    }
}

/// The words of all lanes' blocks at a place, each of all lanes together.
#[target_feature(enable = "sse2")]
fn words(lanes: &[Lane<'_>; LANES], place: usize) -> [Numbers; 16] {
    let mut words = [Numbers::all(0); 16];
    for (vector, lanes) in lanes.as_chunks::<4>().0.iter().enumerate() {
        let blocks = lanes.each_ref().map(|lane| lane.block(place).as_chunks::<16>().0);
        for (quarter, words) in words.as_chunks_mut::<4>().0.iter_mut().enumerate() {
            let [one, two, three, four] = blocks.map(|block| load(&block[quarter]));
            let (low, also_low) = (_mm_unpacklo_epi32(one, two), _mm_unpacklo_epi32(three, four));
            let (high, also_high) = (_mm_unpackhi_epi32(one, two), _mm_unpackhi_epi32(three, four));
            words[0].0[vector] = _mm_unpacklo_epi64(low, also_low);
            words[1].0[vector] = _mm_unpackhi_epi64(low, also_low);
            words[2].0[vector] = _mm_unpacklo_epi64(high, also_high);
            words[3].0[vector] = _mm_unpackhi_epi64(high, also_high);
        }
    }
    words
}

#[target_feature(enable = "sse2")]
#[inline]
fn load(bytes: &[u8; 16]) -> __m128i {
    let number = u128::from_le_bytes(*bytes);
    _mm_set_epi64x((number >> 64) as i64, number as i64)
}

/// Four rounds of sixteen steps.
#[target_feature(enable = "sse2")]
fn compress(state: &mut [Numbers; 4], words: &[Numbers; 16]) {
    let before = *state;
    round::<7, 25, 12, 20, 17, 15, 22, 10>(state, 0, words, |step| step, |b, c, d| b.choose(c, d));
    round::<5, 27, 9, 23, 14, 18, 20, 12>(
        state,
        1,
        words,
        |step| (5 * step + 1) % 16,
        |b, c, d| d.choose(b, c),
    );
    round::<4, 28, 11, 21, 16, 16, 23, 9>(
        state,
        2,
        words,
        |step| (3 * step + 5) % 16,
        |b, c, d| b.xor(c).xor(d),
    );
    round::<6, 26, 10, 22, 15, 17, 21, 11>(
        state,
        3,
        words,
        |step| 7 * step % 16,
        |b, c, d| c.xor(b.or_not(d)),
    );
    for (number, before) in state.iter_mut().zip(before) {
        *number = number.add(before);
    }
}

/// Sixteen steps, of which each four rotate by the same four numbers of bits: each to the left, as the other
/// to the right.
#[target_feature(enable = "sse2")]
#[inline]
fn round<
    const A: i32,
    const A_RIGHT: i32,
    const B: i32,
    const B_RIGHT: i32,
    const C: i32,
    const C_RIGHT: i32,
    const D: i32,
    const D_RIGHT: i32,
>(
    [a, b, c, d]: &mut [Numbers; 4],
    number: usize,
    words: &[Numbers; 16],
    word_of: impl Fn(usize) -> usize,
    mix: impl Fn(Numbers, Numbers, Numbers) -> Numbers,
) {
    for place in (0..16).step_by(4) {
        let given = |step: usize| {
            words[word_of(place + step)].add(Numbers::all(CONSTANTS[16 * number + place + step]))
        };
        *a = b.add(a.add(given(0)).add(mix(*b, *c, *d)).rotate::<A, A_RIGHT>());
        *d = a.add(d.add(given(1)).add(mix(*a, *b, *c)).rotate::<B, B_RIGHT>());
        *c = d.add(c.add(given(2)).add(mix(*d, *a, *b)).rotate::<C, C_RIGHT>());
        *b = c.add(b.add(given(3)).add(mix(*c, *d, *a)).rotate::<D, D_RIGHT>());
    }
}

/// A number for each lane, in vectors of four.
#[derive(Clone, Copy)]
struct Numbers([__m128i; LANES / 4]);

impl Numbers {
    #[target_feature(enable = "sse2")]
    #[inline]
    fn new(lanes: &[u32; LANES]) -> Self {
        let mut vectors = [_mm_setzero_si128(); LANES / 4];
        for (vector, lanes) in vectors.iter_mut().zip(lanes.as_chunks::<4>().0) {
            let [first, second, third, fourth] = lanes.map(u32::cast_signed);
            *vector = _mm_setr_epi32(first, second, third, fourth);
        }
        Self(vectors)
    }

    #[target_feature(enable = "sse2")]
    #[inline]
    fn all(number: u32) -> Self {
        Self([_mm_set1_epi32(number.cast_signed()); LANES / 4])
    }

    #[target_feature(enable = "sse2")]
    fn lanes(self) -> [u32; LANES] {
        let mut lanes = [0; LANES];
        for (lanes, vector) in lanes.as_chunks_mut::<4>().0.iter_mut().zip(self.0) {
            let (low, high) =
                (_mm_cvtsi128_si64(vector), _mm_cvtsi128_si64(_mm_unpackhi_epi64(vector, vector)));
            *lanes = [low as u32, (low >> 32) as u32, high as u32, (high >> 32) as u32];
        }
        lanes
    }

    #[target_feature(enable = "sse2")]
    #[inline]
    fn with(self, other: Self, each: impl Fn(__m128i, __m128i) -> __m128i) -> Self {
        let mut vectors = self.0;
        for (vector, other) in vectors.iter_mut().zip(other.0) {
            *vector = each(*vector, other);
        }
        Self(vectors)
    }

    #[target_feature(enable = "sse2")]
    #[inline]
    fn add(self, other: Self) -> Self {
        self.with(other, |one, other| _mm_add_epi32(one, other))
    }

    #[target_feature(enable = "sse2")]
    #[inline]
    fn xor(self, other: Self) -> Self {
        self.with(other, |one, other| _mm_xor_si128(one, other))
    }

    #[target_feature(enable = "sse2")]
    #[inline]
    fn or_not(self, other: Self) -> Self {
        self.with(other, |one, other| _mm_or_si128(one, _mm_xor_si128(other, _mm_set1_epi32(-1))))
    }

    /// The bits of `ones` where its own are set, those of `zeros` where not.
    #[target_feature(enable = "sse2")]
    #[inline]
    fn choose(self, ones: Self, zeros: Self) -> Self {
        zeros.xor(self.with(ones.xor(zeros), |one, other| _mm_and_si128(one, other)))
    }

    #[target_feature(enable = "sse2")]
    #[inline]
    fn rotate<const LEFT: i32, const RIGHT: i32>(self) -> Self {
        const { assert!(LEFT + RIGHT == 32) };
        self.with(self, |one, _| _mm_or_si128(_mm_slli_epi32::<LEFT>(one), _mm_srli_epi32::<RIGHT>(one)))
    }
}

/// What each step adds: the sines of its number, as MD5 has them.
const CONSTANTS: [u32; 64] = [
    0xd76a_a478,
    0xe8c7_b756,
    0x2420_70db,
    0xc1bd_ceee,
    0xf57c_0faf,
    0x4787_c62a,
    0xa830_4613,
    0xfd46_9501,
    0x6980_98d8,
    0x8b44_f7af,
    0xffff_5bb1,
    0x895c_d7be,
    0x6b90_1122,
    0xfd98_7193,
    0xa679_438e,
    0x49b4_0821,
    0xf61e_2562,
    0xc040_b340,
    0x265e_5a51,
    0xe9b6_c7aa,
    0xd62f_105d,
    0x0244_1453,
    0xd8a1_e681,
    0xe7d3_fbc8,
    0x21e1_cde6,
    0xc337_07d6,
    0xf4d5_0d87,
    0x455a_14ed,
    0xa9e3_e905,
    0xfcef_a3f8,
    0x676f_02d9,
    0x8d2a_4c8a,
    0xfffa_3942,
    0x8771_f681,
    0x6d9d_6122,
    0xfde5_380c,
    0xa4be_ea44,
    0x4bde_cfa9,
    0xf6bb_4b60,
    0xbebf_bc70,
    0x289b_7ec6,
    0xeaa1_27fa,
    0xd4ef_3085,
    0x0488_1d05,
    0xd9d4_d039,
    0xe6db_99e5,
    0x1fa2_7cf8,
    0xc4ac_5665,
    0xf429_2244,
    0x432a_ff97,
    0xab94_23a7,
    0xfc93_a039,
    0x655b_59c3,
    0x8f0c_cc92,
    0xffef_f47d,
    0x8584_5dd1,
    0x6fa8_7e4f,
    0xfe2c_e6e0,
    0xa301_4314,
    0x4e08_11a1,
    0xf753_7e82,
    0xbd3a_f235,
    0x2ad7_d2bb,
    0xeb86_d391,
];

#[cfg(test)]
mod tests {
    use md5::{Digest as _, Md5};

    use super::*;

    #[test]
    fn digests_of_any_lengths_are_those_of_md5() {
        let bytes: Vec<u8> = (0..300_u32).map(|place| (place * 7 % 251) as u8).collect();
        // Around the ends of blocks, and all of other lengths than their neighbours.
        for length in 0..260 {
            let lengths: [usize; 10] = std::array::from_fn(|lane| length + 3 * lane % 40);
            let texts = lengths.map(|length| &bytes[..length]);
            let digests = digests(&texts).expect("it pays");
            for (text, digest) in texts.iter().zip(digests) {
                assert_eq!(digest, <[u8; 16]>::from(Md5::digest(text)), "{}", text.len());
            }
        }
    }

    #[test]
    fn few_or_unlike_texts_are_done_one_by_one() {
        assert_eq!(digests(&[]), None);
        assert_eq!(digests(&[b"one", b"two"]), None);
        let long = vec![0; 10_000];
        assert_eq!(digests(&[b"", b"", b"", b"", b"", &long]), None);
        assert!(digests(&[b"", b"", b"", b"", b""]).is_some());
        assert_eq!(digests(&[b"".as_slice(); LANES + 1]), None);
    }
}
