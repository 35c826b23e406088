//! The PuzzleFS format without an operating system: no allocation in readers, no I/O, no `unsafe`.
//!
//! Whatever reads bytes of an image here treats them as hostile: it answers with an [`Error`], and
//! never panics. What needs memory (the writer, the tables, the merged index) stands behind the
//! feature `alloc`. The format itself is described in `docs/format.md`.
#![no_std]
#![forbid(unsafe_code)]

#[cfg(feature = "alloc")]
extern crate alloc;
#[cfg(test)]
extern crate std;

pub mod chunk;
pub mod digest;
pub mod error;
mod gear;
pub mod limits;
pub mod verity;

pub use digest::Digest;
pub use error::{BlobFault, Error, Result, Rule, Unsupported};
