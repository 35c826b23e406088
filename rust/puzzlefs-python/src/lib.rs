//! `puzzlefs._rust`: what `puzzlefs._native.Backend` asks for, over the core and the engine.
//!
//! One file per concept; each converts its arguments, detaches from the interpreter, and converts
//! the result back.

use pyo3::prelude::*;

mod chunk;
mod detach;
mod error;
mod verity;

/// The compiled backend of PuzzleFS; `puzzlefs._native` says what each name means.
#[pymodule]
fn _rust(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add("__version__", env!("CARGO_PKG_VERSION"))?;
    module.add_function(wrap_pyfunction!(chunk::cut_lengths, module)?)?;
    module.add_function(wrap_pyfunction!(verity::verity_digest, module)?)?;
    Ok(())
}
