//! What PuzzleFS does with files: builds blobs in parallel, stores them, decodes and serves them.
//!
//! The format itself is the core crate's; here are threads, system calls and Zstandard.

mod ahead;
mod assemble;
mod blob;
mod blobs;
mod block;
mod buffers;
mod cache;
pub mod codec;
mod cut;
mod cutter;
mod decoder;
mod encoder;
mod extract;
mod extract_place;
mod extract_plan;
mod extract_restore;
mod extract_tree;
mod form;
mod frame;
mod frames;
mod fsverity;
pub mod fuse;
mod glob;
mod hash;
pub mod hashing;
mod known;
mod listing;
mod look;
mod lru;
mod offered;
mod packer;
mod part;
mod pipe;
mod plan;
mod progress;
mod put;
mod reader;
mod runs;
mod scan;
mod scan_rules;
mod scan_xattrs;
mod seek_table;
mod sha_each;
#[cfg(target_arch = "x86_64")]
mod sha_lanes;
#[cfg(not(target_arch = "x86_64"))]
#[path = "sha_lanes_none.rs"]
mod sha_lanes;
mod snapshot;
mod source;
mod status;
mod stream;
mod sync;
mod trace;
mod waiting;
mod worker;
mod writer;

pub use assemble::Stored;
pub use blob::Verify;
pub use cut::cut_lengths;
pub use extract_tree::{Skipped, Unpacked, Unpacking};
pub use form::{Compression, Form};
pub use frames::check_frames;
pub use hash::hash_file;
pub use look::Look;
pub use offered::Offered;
pub use reader::Reader;
pub use runs::digest_runs;
pub use scan::{Scanned, scan};
pub use scan_rules::{ScanRules, Times};
pub use sync::sync_filesystem;
pub use writer::{StreamWriter, WriterOptions};
