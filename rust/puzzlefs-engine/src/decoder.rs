//! Decoding a frame step by step, from its start to where its bytes are wanted.
//!
//! Zstandard writes into the frame's own buffer, in which it also looks up what it repeats: nothing is
//! copied, and a decoder that stopped goes on where it was.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use puzzlefs_core::Rule;
use zstd_safe::{
    DCtx, DParameter, InBuffer, OutBuffer, ResetDirective, find_frame_compressed_size,
    get_frame_content_size,
};

use crate::codec::decode_frame;

/// `Result` of decoding.
type Result<T> = std::result::Result<T, Rule>;

/// Frames that may be unfinished at a time.
const OPEN_LIMIT: usize = 8;
/// Bytes of the largest frame that is decoded by steps, and of what is stored of it.
const SIZE_LIMIT: usize = 2 << 20;
/// Bytes of a step: a frame without more is decoded at once.
const STEP: usize = 128 << 10;
/// Bytes that a context takes, about.
pub const CONTEXT: usize = 256 << 10;
/// Bytes that tell how long a frame's header is.
const HEADER_START: usize = 5;
/// The largest window that Zstandard takes here; in memory it is never larger than the frame's buffer.
const ANY_WINDOW: u32 = 31;

/// A frame, decoded as far as somebody wanted it.
pub struct Decoder {
    lease: Lease,
    stored: Vec<u8>,
    /// Bytes of `stored` that were taken.
    taken: usize,
    /// How many Zstandard wants next; 0 when the frame has ended.
    wanted: usize,
    content: Vec<u8>,
    size: usize,
}

/// What becomes of a frame.
pub enum Decoded {
    /// All of it.
    Whole(Vec<u8>),
    /// The start of it.
    Part(Box<Decoder>),
}

impl Decoder {
    /// Decodes a frame of `size` bytes, at least the first `until` of them.
    ///
    /// It is decoded whole where that is not much more, where too many are unfinished already, and where it
    /// is not plainly one frame of that size.
    pub fn start(
        contexts: &Arc<Contexts>,
        stored: Vec<u8>,
        size: usize,
        until: usize,
    ) -> Result<Decoded> {
        let fits = size <= SIZE_LIMIT && stored.len() <= SIZE_LIMIT;
        if !fits || until.saturating_add(STEP) > size || !is_one_frame(&stored, size) {
            return decode_frame(&stored, size).map(Decoded::Whole);
        }
        let Some(lease) = Lease::take(contexts) else {
            return decode_frame(&stored, size).map(Decoded::Whole);
        };
        let mut content = Vec::new();
        content
            .try_reserve_exact(size)
            .map_err(|_| Rule::FrameDamaged)?;
        let decoder = Self {
            lease,
            stored,
            taken: 0,
            wanted: HEADER_START,
            content,
            size,
        };
        Box::new(decoder).advance(until)
    }

    /// Goes on, at least to the first `until` bytes.
    pub fn advance(mut self: Box<Self>, until: usize) -> Result<Decoded> {
        let until = until.min(self.size);
        while self.wanted > 0 && (self.content.len() < until || self.content.len() == self.size) {
            if self.step().is_none() {
                // Whether this is an error, and which, is for the whole to say.
                return decode_frame(&self.stored, self.size).map(Decoded::Whole);
            }
        }
        if self.wanted > 0 {
            return Ok(Decoded::Part(self));
        }
        if self.content.len() == self.size && self.taken == self.stored.len() {
            return Ok(Decoded::Whole(self.content));
        }
        decode_frame(&self.stored, self.size).map(Decoded::Whole)
    }

    /// Decodes up to one block more; `None` where that cannot be.
    fn step(&mut self) -> Option<()> {
        let end = self.taken.saturating_add(self.wanted);
        let mut input = InBuffer::around(self.stored.get(self.taken..end)?);
        let position = self.content.len();
        let mut output = OutBuffer::around_pos(&mut self.content, position);
        let context = self.lease.context.as_mut()?;
        self.wanted = context.decompress_stream(&mut output, &mut input).ok()?;
        self.taken += input.pos();
        (self.content.len() <= self.size).then_some(())
    }

    /// Returns the bytes there are.
    pub fn content(&self) -> &[u8] {
        &self.content
    }

    /// Returns the bytes of memory that it takes beside the frame's own.
    pub fn weight(&self) -> usize {
        self.stored.len() + CONTEXT
    }
}

/// Tells whether the stored bytes have the form of a single frame of that size, whatever is in it.
fn is_one_frame(stored: &[u8], size: usize) -> bool {
    find_frame_compressed_size(stored) == Ok(stored.len())
        && get_frame_content_size(stored).is_ok_and(|found| found == Some(size as u64))
}

/// Contexts of unfinished frames: a bounded number, used again and again.
#[derive(Default)]
pub struct Contexts(Mutex<Pool>);

#[derive(Default)]
struct Pool {
    made: usize,
    free: Vec<DCtx<'static>>,
}

impl Contexts {
    fn lock(&self) -> MutexGuard<'_, Pool> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A context until the frame is finished.
struct Lease {
    /// Absent only while it is given back.
    context: Option<DCtx<'static>>,
    contexts: Arc<Contexts>,
}

impl Lease {
    /// Returns a context that is ready for a frame; `None` where there are too many.
    fn take(contexts: &Arc<Contexts>) -> Option<Self> {
        let mut pool = contexts.lock();
        let mut context = pool.free.pop();
        if context.is_none() && pool.made < OPEN_LIMIT {
            context = make_context();
            pool.made += usize::from(context.is_some());
        }
        let context = Some(context?);
        Some(Self {
            context,
            contexts: Arc::clone(contexts),
        })
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        let ready = |context: &mut DCtx| context.reset(ResetDirective::SessionOnly).is_ok();
        let context = self.context.take();
        let mut pool = self.contexts.lock();
        match context.and_then(|mut context| ready(&mut context).then_some(context)) {
            Some(context) => pool.free.push(context),
            None => pool.made -= 1,
        }
    }
}

fn make_context() -> Option<DCtx<'static>> {
    let mut context = DCtx::try_create()?;
    let parameters = [
        DParameter::StableOutBuffer(true),
        DParameter::WindowLogMax(ANY_WINDOW),
    ];
    for parameter in parameters {
        context.set_parameter(parameter).ok()?;
    }
    Some(context)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SIZE: usize = 640 << 10;

    /// Returns words of a small language, which compress about as text does, from the seed on.
    fn text(mut seed: u64) -> Vec<u8> {
        let mut content = Vec::new();
        while content.len() < SIZE {
            seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            content.extend_from_slice(format!("{:x} ", (seed >> 33) % 5000).as_bytes());
        }
        content.truncate(SIZE);
        content
    }

    fn stored(content: &[u8]) -> Vec<u8> {
        let mut stored = vec![0; zstd_safe::compress_bound(content.len())];
        let length = zstd_safe::compress(stored.as_mut_slice(), content, 3).expect("compressed");
        stored.truncate(length);
        stored
    }

    /// Decodes in steps of so many bytes to the end.
    fn by_steps(stored: &[u8], step: usize) -> Result<Vec<u8>> {
        let mut until = step;
        let mut decoded = Decoder::start(&Arc::default(), stored.to_vec(), SIZE, until)?;
        loop {
            match decoded {
                Decoded::Whole(content) => return Ok(content),
                Decoded::Part(decoder) => {
                    until += step;
                    decoded = decoder.advance(until)?;
                }
            }
        }
    }

    #[test]
    fn a_frame_is_decoded_as_far_as_it_is_wanted() {
        let content = text(1);
        let contexts = Arc::default();
        let mut decoded = Decoder::start(&contexts, stored(&content), SIZE, 1).expect("good");
        for until in [1, 200_000, 300_000] {
            let Decoded::Part(decoder) = decoded else {
                panic!("all of it is more than was wanted");
            };
            decoded = decoder.advance(until).expect("good");
            let Decoded::Part(decoder) = &decoded else {
                panic!("all of it is more than was wanted");
            };
            let length = decoder.content().len();
            assert!(
                (until..until + STEP).contains(&length),
                "{length} for {until}"
            );
            assert!(decoder.content() == &content[..length]);
        }
    }

    #[test]
    fn steps_come_to_what_the_whole_comes_to_damaged_or_not() {
        let content = text(2);
        let good = stored(&content);
        assert!(by_steps(&good, 50_000).is_ok_and(|found| found == content));
        let mut refused = 0;
        for number in 0..200 {
            let mut damaged = good.clone();
            let place = number * 7919 % damaged.len();
            match number % 4 {
                0 => damaged.truncate(place),
                1 => damaged.extend_from_within(..20),
                _ => damaged[place] ^= 1 << (number % 8),
            }
            let whole = decode_frame(&damaged, SIZE);
            refused += usize::from(whole.is_err());
            assert!(by_steps(&damaged, 100_000) == whole, "damage {number}");
        }
        assert!(refused > 100);
    }

    #[test]
    fn only_so_many_frames_are_unfinished() {
        let stored = stored(&text(3));
        let contexts = Arc::default();
        let start = || Decoder::start(&contexts, stored.clone(), SIZE, 1).expect("good");
        let mut open: Vec<_> = (0..OPEN_LIMIT).map(|_| start()).collect();
        assert!(
            open.iter()
                .all(|decoded| matches!(decoded, Decoded::Part(_)))
        );
        assert!(matches!(start(), Decoded::Whole(_)));
        open.pop();
        assert!(matches!(start(), Decoded::Part(_)));
    }
}
