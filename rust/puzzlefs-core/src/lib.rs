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
#[cfg(feature = "alloc")]
pub mod decode;
#[cfg(feature = "alloc")]
mod delta;
pub mod digest;
#[cfg(feature = "alloc")]
pub mod encode;
pub mod error;
mod gear;
#[cfg(feature = "alloc")]
pub mod index;
#[cfg(feature = "alloc")]
pub mod layout;
pub mod limits;
#[cfg(feature = "alloc")]
mod merge;
pub mod message;
pub mod metadata;
pub mod object;
#[cfg(feature = "alloc")]
pub mod owners;
pub mod pack;
#[cfg(feature = "alloc")]
mod segments;
#[cfg(feature = "alloc")]
pub mod tables;
#[cfg(feature = "alloc")]
pub mod tree;
pub mod verity;

pub use digest::Digest;
pub use error::{BlobFault, Error, Result, Rule, Unsupported};
