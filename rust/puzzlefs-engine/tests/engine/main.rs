//! The engine from outside: builds, reads, compressed blobs.

mod codec;
mod fuse;
mod fuse_image;
mod kernel;
mod reader;
mod scratch;
mod writer;
