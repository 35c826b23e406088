//! Further descriptors of one FUSE connection.
//!
//! `unsafe` stands here alone in the server: no safe wrapper offers this ioctl.
#![allow(unsafe_code)]

use std::os::fd::{AsFd as _, AsRawFd as _, BorrowedFd, OwnedFd};

use rustix::fs::{CWD, Mode, OFlags};
use rustix::io::Result;
use rustix::ioctl::{Opcode, Setter, ioctl, opcode};

/// Where a connection begins.
const DEVICE: &str = "/dev/fuse";
/// FUSE_DEV_IOC_CLONE: makes a fresh descriptor one more of a connection.
const CLONE: Opcode = opcode::read::<u32>(229, 0);

/// Opens another descriptor of the connection, with a queue of its own for what is being answered.
pub fn clone(connection: BorrowedFd<'_>) -> Result<OwnedFd> {
    let flags = OFlags::RDWR | OFlags::CLOEXEC;
    let fresh = rustix::fs::openat(CWD, DEVICE, flags, Mode::empty())?;
    let number = connection.as_raw_fd().cast_unsigned();
    // SAFETY: the kernel reads the `u32` that the argument points to, a descriptor of this process.
    unsafe { ioctl(fresh.as_fd(), Setter::<CLONE, u32>::new(number))? };
    Ok(fresh)
}
