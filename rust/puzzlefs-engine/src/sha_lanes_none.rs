//! What stands for `sha_lanes` where there are no instructions for it.

/// The eight words of an unfinished SHA-256.
pub type State = [u32; 8];
/// What one step of SHA-256 takes in.
pub type Block = [u8; 64];

/// Proof that this CPU has the instructions: there is none.
#[derive(Clone, Copy, Debug)]
pub enum Lanes {}

impl Lanes {
    /// Returns `None`.
    pub fn detect() -> Option<Self> {
        None
    }

    /// Cannot be called.
    pub fn add<const N: usize, const M: usize>(
        self,
        _states: &mut [State; N],
        _messages: [&[Block]; M],
    ) {
        match self {}
    }
}
