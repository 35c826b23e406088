//! The engine from outside: builds, reads, compressed blobs.

mod codec;
mod reader;
mod scratch;
mod writer;
