//! Connecting to the kernel: mount(2) and umount2(2) for a FUSE filesystem.

use std::ffi::CString;
use std::os::fd::{AsRawFd as _, BorrowedFd};

use puzzlefs_core::{Error, Result};
use rustix::io::Errno;
use rustix::mount::{MountFlags, UnmountFlags};

/// What the table of mounts calls the type.
const TYPE: &str = "fuse.puzzlefs";

/// Mounts on a directory; the kernel's first request waits on `connection`, a fresh descriptor of
/// `/dev/fuse`.
///
/// `source` is what the table of mounts shows, `flags` are those of mount(2), `options` the
/// filesystem's own, to which the connection's number and the caller's identity are added. Fails with
/// `Os`.
pub fn mount(
    connection: BorrowedFd<'_>,
    source: &[u8],
    target: &[u8],
    flags: u32,
    options: &[u8],
) -> Result<()> {
    let (user, group) = (rustix::process::geteuid(), rustix::process::getegid());
    let fixed = format!(
        "fd={},rootmode=40000,user_id={user},group_id={group},",
        connection.as_raw_fd()
    );
    let invalid = |_| os(Errno::INVAL);
    let data = CString::new([fixed.as_bytes(), options].concat()).map_err(invalid)?;
    let flags = MountFlags::from_bits_retain(flags);
    let data = Some(data.as_c_str());
    rustix::mount::mount(source, target, TYPE, flags, data).map_err(os)
}

/// Unmounts what is mounted at a path, which is not followed. With `lazy` it leaves the tree at once
/// and ends when its last user does. Fails with `Os`.
pub fn unmount(target: &[u8], lazy: bool) -> Result<()> {
    let mut flags = UnmountFlags::NOFOLLOW;
    flags.set(UnmountFlags::DETACH, lazy);
    rustix::mount::unmount(target, flags).map_err(os)
}

fn os(errno: Errno) -> Error {
    Error::Os(errno.raw_os_error())
}
