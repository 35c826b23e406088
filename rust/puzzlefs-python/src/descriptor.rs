//! File descriptors that Python holds.
//!
//! `unsafe` stands here alone in the glue: a number becomes a descriptor that Rust may use for the
//! length of a call.
#![allow(unsafe_code)]

use std::os::fd::{BorrowedFd, RawFd};

use pyo3::PyResult;
use pyo3::exceptions::PyValueError;

/// Borrows the descriptor of this number while its owner, Python, waits in the call that gave it.
pub(crate) fn borrow<'a>(number: RawFd) -> PyResult<BorrowedFd<'a>> {
    if number < 0 {
        return Err(PyValueError::new_err(format!(
            "{number} is no file descriptor"
        )));
    }
    // SAFETY: the number is not -1. Should Python close it meanwhile, system calls on it fail or
    // reach another of its files, as they would from Python; no memory depends on it.
    Ok(unsafe { BorrowedFd::borrow_raw(number) })
}
