//! Putting pages into the kernel's cache before anybody asks for them.

use std::os::fd::BorrowedFd;
use std::sync::Mutex;

use puzzlefs_core::metadata::Kind;
use rustix::io::retry_on_intr;

use super::ahead::{Ahead, GAP, Run};
use super::filesystem::Filesystem;
use super::protocol::{LARGEST, NOTIFY_STORE};
use super::reply::Reply;

/// Bytes of a `fuse_notify_store_out`.
const STORE_OUT: usize = 24;
/// What a page costs, however little of it is used.
const PAGE: usize = 4096;

/// Sends one run at a time.
#[derive(Default)]
pub struct Pusher(Mutex<Option<Reply>>);

impl Pusher {
    /// Sends the contents of a run, unless another thread is sending: as many whole files as fit its
    /// window, up to the first that the kernel does not know or that cannot be read.
    pub fn push(&self, filesystem: &Filesystem, ahead: &Ahead, run: &Run, device: BorrowedFd<'_>) {
        let Ok(mut buffer) = self.0.try_lock() else {
            return;
        };
        let reply = buffer.get_or_insert_with(Reply::new);
        let (mut left, mut others) = (run.window, 0);
        let mut ino = ahead.advance(run, 0);
        while others <= GAP {
            match file_size(filesystem, ino) {
                None | Some(0) => others += 1,
                Some(size) if size > left || size > LARGEST - STORE_OUT => return,
                Some(size) => {
                    if store(filesystem, ino, size, reply, device).is_none() {
                        return;
                    }
                    left -= size.next_multiple_of(PAGE).min(left);
                    others = 0;
                }
            }
            ino = ahead.advance(run, ino);
        }
    }
}

/// Returns the bytes of a file; `None` for anything else.
fn file_size(filesystem: &Filesystem, ino: u64) -> Option<usize> {
    let stat = filesystem.index.stat(ino).ok()?;
    (stat.kind == Kind::File).then(|| usize::try_from(stat.size).unwrap_or(usize::MAX))
}

/// Puts a whole file into the page cache; `None` where that cannot be.
fn store(
    filesystem: &Filesystem,
    ino: u64,
    size: usize,
    reply: &mut Reply,
    device: BorrowedFd<'_>,
) -> Option<()> {
    reply.clear();
    reply.longs(&[ino, 0]).ok()?;
    reply.words(&[size as u32, 0]).ok()?;
    let content = reply.space(size).ok()?;
    filesystem.reader.read_into(ino, 0, content).ok()?;
    let message = reply.finish(0, NOTIFY_STORE);
    retry_on_intr(|| rustix::io::write(device, message)).ok()?;
    Some(())
}
