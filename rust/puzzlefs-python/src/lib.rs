//! `puzzlefs._rust`: what `puzzlefs._native.Backend` asks for, over the core and the engine.
//!
//! One file per concept; each converts its arguments, detaches from the interpreter, and converts
//! the result back.

use pyo3::prelude::*;

mod chunk;
mod codec;
mod descriptor;
mod detach;
mod error;
mod fuse;
mod hash;
mod index;
mod interrupt;
mod json;
mod metadata;
mod reader;
mod sync;
mod tree;
mod verity;
mod writer;

/// The compiled backend of PuzzleFS; `puzzlefs._native` says what each name means.
#[pymodule]
fn _rust(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add("__version__", env!("CARGO_PKG_VERSION"))?;
    module.add_function(wrap_pyfunction!(chunk::cut_lengths, module)?)?;
    module.add_function(wrap_pyfunction!(verity::verity_digest, module)?)?;
    module.add_function(wrap_pyfunction!(metadata::decode_rootfs, module)?)?;
    module.add_function(wrap_pyfunction!(metadata::encode_rootfs, module)?)?;
    module.add_class::<index::Index>()?;
    module.add_function(wrap_pyfunction!(hash::hash_bytes, module)?)?;
    module.add_function(wrap_pyfunction!(hash::hash_file, module)?)?;
    module.add_function(wrap_pyfunction!(hash::digest_runs, module)?)?;
    module.add_function(wrap_pyfunction!(sync::sync_filesystem, module)?)?;
    module.add_function(wrap_pyfunction!(codec::compress, module)?)?;
    module.add_function(wrap_pyfunction!(codec::compress_upstream, module)?)?;
    module.add_function(wrap_pyfunction!(codec::decompress, module)?)?;
    module.add_function(wrap_pyfunction!(codec::check_frames, module)?)?;
    module.add_function(wrap_pyfunction!(json::parse_json, module)?)?;
    module.add_class::<reader::Reader>()?;
    module.add_class::<fuse::FuseServer>()?;
    module.add_function(wrap_pyfunction!(tree::scan_tree, module)?)?;
    module.add_class::<tree::Look>()?;
    module.add_class::<tree::Tree>()?;
    module.add_class::<writer::StreamWriter>()?;
    Ok(())
}
