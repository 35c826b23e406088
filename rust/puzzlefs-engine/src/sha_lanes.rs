//! SHA-256 of several inputs side by side, by the CPU's SHA instructions (SHA-NI).
//!
//! Each of their rounds waits for the one before it, and the CPU can start the next one sooner. So a
//! second input costs little: two to four of them together fill the unit. `unsafe` stands here for
//! the instructions, which a CPU may lack, for unaligned loads, and to keep the lanes side by side.
#![allow(unsafe_code)]

use core::arch::asm;
use core::arch::x86_64::{
    __m128i, _mm_add_epi32, _mm_alignr_epi8, _mm_blend_epi16, _mm_loadu_si128, _mm_set_epi64x,
    _mm_sha256msg1_epu32, _mm_sha256msg2_epu32, _mm_sha256rnds2_epu32, _mm_shuffle_epi8,
    _mm_shuffle_epi32, _mm_storeu_si128,
};

/// The eight words of an unfinished SHA-256.
pub type State = [u32; 8];
/// What one step of SHA-256 takes in.
pub type Block = [u8; 64];

/// The constants of the 64 rounds.
#[rustfmt::skip]
static ROUNDS: [u32; 64] = [
    0x428a_2f98, 0x7137_4491, 0xb5c0_fbcf, 0xe9b5_dba5, 0x3956_c25b, 0x59f1_11f1, 0x923f_82a4,
    0xab1c_5ed5, 0xd807_aa98, 0x1283_5b01, 0x2431_85be, 0x550c_7dc3, 0x72be_5d74, 0x80de_b1fe,
    0x9bdc_06a7, 0xc19b_f174, 0xe49b_69c1, 0xefbe_4786, 0x0fc1_9dc6, 0x240c_a1cc, 0x2de9_2c6f,
    0x4a74_84aa, 0x5cb0_a9dc, 0x76f9_88da, 0x983e_5152, 0xa831_c66d, 0xb003_27c8, 0xbf59_7fc7,
    0xc6e0_0bf3, 0xd5a7_9147, 0x06ca_6351, 0x1429_2967, 0x27b7_0a85, 0x2e1b_2138, 0x4d2c_6dfc,
    0x5338_0d13, 0x650a_7354, 0x766a_0abb, 0x81c2_c92e, 0x9272_2c85, 0xa2bf_e8a1, 0xa81a_664b,
    0xc24b_8b70, 0xc76c_51a3, 0xd192_e819, 0xd699_0624, 0xf40e_3585, 0x106a_a070, 0x19a4_c116,
    0x1e37_6c08, 0x2748_774c, 0x34b0_bcb5, 0x391c_0cb3, 0x4ed8_aa4a, 0x5b9c_ca4f, 0x682e_6ff3,
    0x748f_82ee, 0x78a5_636f, 0x84c8_7814, 0x8cc7_0208, 0x90be_fffa, 0xa450_6ceb, 0xbef9_a3f7,
    0xc671_78f2,
];

/// Proof that this CPU has the instructions.
#[derive(Clone, Copy, Debug)]
pub struct Lanes(());

impl Lanes {
    /// Returns the proof, if this CPU has them.
    pub fn detect() -> Option<Self> {
        let has = is_x86_feature_detected!("sha")
            && is_x86_feature_detected!("sse4.1")
            && is_x86_feature_detected!("ssse3");
        has.then_some(Self(()))
    }

    /// Adds blocks to `N` states: to state `i` those of message `i % M`. All messages must have as
    /// many blocks as the first. States of one message share half of its work.
    #[inline]
    pub fn add<const N: usize, const M: usize>(
        self,
        states: &mut [State; N],
        messages: [&[Block]; M],
    ) {
        // SAFETY: a `Lanes` exists only where `detect` found the features that `add` is compiled for.
        unsafe { add(states, messages) }
    }
}

/// A state as the instructions take it: words A, B, E, F and C, D, G, H, the first uppermost.
#[derive(Clone, Copy)]
struct Lane {
    abef: __m128i,
    cdgh: __m128i,
}

#[target_feature(enable = "sha,sse4.1,ssse3")]
fn add<const N: usize, const M: usize>(states: &mut [State; N], messages: [&[Block]; M]) {
    let mut lanes = states.map(|state| load_state(&state));
    for number in 0..messages[0].len() {
        let before = lanes;
        let mut words = messages.map(|blocks| load_block(&blocks[number]));
        for place in 0..4 {
            four_rounds(&mut lanes, words.map(|words| words[place]), place);
        }
        // The places are constants in the inner loop, so that the words stay in registers.
        for turn in 1..4 {
            for place in 0..4 {
                let next = words.each_mut().map(|words| schedule(words, place));
                four_rounds(&mut lanes, next, 4 * turn + place);
            }
        }
        for (lane, before) in lanes.iter_mut().zip(before) {
            lane.abef = _mm_add_epi32(lane.abef, before.abef);
            lane.cdgh = _mm_add_epi32(lane.cdgh, before.cdgh);
        }
    }
    *states = lanes.map(|lane| store_state(lane));
}

/// Does rounds `4 * group` to `4 * group + 3` of every lane with the message words for them.
#[inline]
#[target_feature(enable = "sha,sse4.1,ssse3")]
fn four_rounds<const N: usize, const M: usize>(
    lanes: &mut [Lane; N],
    words: [__m128i; M],
    group: usize,
) {
    let constants = load_words(&ROUNDS, group);
    let inputs = words.map(|words| _mm_add_epi32(words, constants));
    for (number, lane) in lanes.iter_mut().enumerate() {
        lane.cdgh = _mm_sha256rnds2_epu32(lane.cdgh, lane.abef, inputs[number % M]);
    }
    for (number, lane) in lanes.iter_mut().enumerate() {
        let upper = _mm_shuffle_epi32(inputs[number % M], 0x0E);
        lane.abef = _mm_sha256rnds2_epu32(lane.abef, lane.cdgh, upper);
    }
    keep_abreast(lanes);
}

/// Keeps the compiler from doing the rounds of one lane after those of another, which the CPU could
/// not undo: none moves past this point.
#[inline]
#[target_feature(enable = "sha,sse4.1,ssse3")]
fn keep_abreast<const N: usize>(lanes: &mut [Lane; N]) {
    for number in 1..N {
        let [mut one, mut two] = [lanes[number - 1], lanes[number]];
        // SAFETY: it is no instruction, only a use of the registers.
        unsafe {
            asm!(
                "/* {} {} {} {} */",
                inout(xmm_reg) one.abef,
                inout(xmm_reg) one.cdgh,
                inout(xmm_reg) two.abef,
                inout(xmm_reg) two.cdgh,
                options(pure, nomem, nostack, preserves_flags),
            );
        }
        [lanes[number - 1], lanes[number]] = [one, two];
    }
}

/// Replaces the oldest four of the last 16 message words, at `place`, with the next four, and
/// returns these.
#[inline]
#[target_feature(enable = "sha,sse4.1,ssse3")]
fn schedule(words: &mut [__m128i; 4], place: usize) -> __m128i {
    let [a, b, c, d] = [0, 1, 2, 3].map(|next| words[(place + next) % 4]);
    let sum = _mm_add_epi32(_mm_sha256msg1_epu32(a, b), _mm_alignr_epi8(d, c, 4));
    let next = _mm_sha256msg2_epu32(sum, d);
    words[place] = next;
    next
}

/// Loads a block as 16 big-endian words.
#[inline]
#[target_feature(enable = "sha,sse4.1,ssse3")]
fn load_block(block: &Block) -> [__m128i; 4] {
    let order = _mm_set_epi64x(0x0C0D_0E0F_0809_0A0B, 0x0405_0607_0001_0203);
    let mut words = [order; 4];
    for (words, bytes) in words.iter_mut().zip(block.as_chunks::<16>().0) {
        // SAFETY: `bytes` has the 16 bytes that are read; they need no alignment.
        let loaded = unsafe { _mm_loadu_si128(bytes.as_ptr().cast()) };
        *words = _mm_shuffle_epi8(loaded, order);
    }
    words
}

/// Loads words `4 * group` to `4 * group + 3`.
#[inline]
#[target_feature(enable = "sha,sse4.1,ssse3")]
fn load_words<const N: usize>(words: &[u32; N], group: usize) -> __m128i {
    let words = &words.as_chunks::<4>().0[group];
    // SAFETY: `words` has the 16 bytes that are read; they need no alignment.
    unsafe { _mm_loadu_si128(words.as_ptr().cast()) }
}

#[inline]
#[target_feature(enable = "sha,sse4.1,ssse3")]
fn load_state(state: &State) -> Lane {
    let cdab = _mm_shuffle_epi32(load_words(state, 0), 0xB1);
    let efgh = _mm_shuffle_epi32(load_words(state, 1), 0x1B);
    Lane {
        abef: _mm_alignr_epi8(cdab, efgh, 8),
        cdgh: _mm_blend_epi16(efgh, cdab, 0xF0),
    }
}

#[inline]
#[target_feature(enable = "sha,sse4.1,ssse3")]
fn store_state(lane: Lane) -> State {
    let feba = _mm_shuffle_epi32(lane.abef, 0x1B);
    let dchg = _mm_shuffle_epi32(lane.cdgh, 0xB1);
    let halves = [
        _mm_blend_epi16(feba, dchg, 0xF0),
        _mm_alignr_epi8(dchg, feba, 8),
    ];
    let mut state = [0; 8];
    for (half, words) in halves.into_iter().zip(state.as_chunks_mut::<4>().0) {
        // SAFETY: `words` has the 16 bytes that are written; they need no alignment.
        unsafe { _mm_storeu_si128(words.as_mut_ptr().cast(), half) };
    }
    state
}
