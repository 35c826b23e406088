//! The kernel's fs-verity measurement of a file.
//!
//! `unsafe` stands here alone in the engine: no safe wrapper offers this ioctl.
#![allow(unsafe_code)]

use std::os::fd::BorrowedFd;

use puzzlefs_core::Digest;
use rustix::ioctl::{Opcode, Updater, ioctl, opcode};

/// The kernel's number for SHA-256.
const SHA256: u16 = 1;
/// FS_IOC_MEASURE_VERITY; its number counts the fixed fields alone.
const MEASURE: Opcode = opcode::read_write::<[u16; 2]>(b'f', 134);

/// `struct fsverity_digest` with room for a SHA-256.
#[repr(C)]
struct Measured {
    algorithm: u16,
    size: u16,
    digest: Digest,
}

/// Returns the fs-verity digest that the kernel enforces on reads of `file`; `None` where fs-verity is
/// not enabled on it, or uses another hash.
pub fn measure(file: BorrowedFd<'_>) -> Option<Digest> {
    let mut measured = Measured {
        algorithm: 0,
        size: size_of::<Digest>() as u16,
        digest: [0; 32],
    };
    // SAFETY: the kernel reads `size` and writes the two fixed fields and at most `size` bytes of
    // digest; `Measured` has the layout of its structure and that much room.
    let done = unsafe { ioctl(file, Updater::<MEASURE, Measured>::new(&mut measured)) };
    let sha256 = measured.algorithm == SHA256 && usize::from(measured.size) == size_of::<Digest>();
    (done.is_ok() && sha256).then_some(measured.digest)
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsFd as _;

    #[test]
    fn an_ordinary_file_is_not_measured() {
        let file = tempfile::tempfile().unwrap();
        assert_eq!(super::measure(file.as_fd()), None);
    }
}
