//! Putting pages into the kernel's cache before anybody asks for them.

use std::os::fd::BorrowedFd;
use std::sync::Mutex;

use puzzlefs_core::metadata::Kind;
use rustix::io::retry_on_intr;

use super::ahead::{Ahead, Run};
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
    /// Sends the contents of a run, unless another thread is sending: as many whole inodes as fit its
    /// window, up to the first that the kernel does not know or that cannot be read.
    pub fn push(&self, filesystem: &Filesystem, ahead: &Ahead, run: &Run, device: BorrowedFd<'_>) {
        let Ok(mut buffer) = self.0.try_lock() else {
            return;
        };
        let reply = buffer.get_or_insert_with(Reply::new);
        let (mut left, mut sent) = (run.window, 0);
        let mut skipped = 0;
        while let Some(ino) = ahead.advance(run, sent) {
            sent = ino;
            let size = match content_size(filesystem, run.kind, ino) {
                Some(0) => continue,
                Some(size) if size <= left && size <= LARGEST - STORE_OUT => size,
                Some(_) => return,
                None if skipped < super::ahead::GAP => {
                    skipped += 1;
                    continue;
                }
                None => return,
            };
            skipped = 0;
            if store(filesystem, run.kind, ino, size, reply, device).is_none() {
                return;
            }
            left -= size.next_multiple_of(PAGE).min(left);
        }
    }
}

/// Returns the bytes of an inode of a kind; `None` where it is of another, or nothing.
fn content_size(filesystem: &Filesystem, kind: Kind, ino: u64) -> Option<usize> {
    let stat = filesystem.index.stat(ino).ok()?;
    (stat.kind == kind).then(|| usize::try_from(stat.size).unwrap_or(usize::MAX))
}

fn store(
    filesystem: &Filesystem,
    kind: Kind,
    ino: u64,
    size: usize,
    reply: &mut Reply,
    device: BorrowedFd<'_>,
) -> Option<()> {
    reply.clear();
    reply.longs(&[ino, 0]).ok()?;
    reply.words(&[size as u32, 0]).ok()?;
    let content = reply.space(size).ok()?;
    if kind == Kind::File {
        filesystem.reader.read_into(ino, 0, content).ok()?;
    } else {
        content.copy_from_slice(filesystem.index.symlink(ino).ok()?);
    }
    let message = reply.finish(0, NOTIFY_STORE);
    retry_on_intr(|| rustix::io::write(device, message)).ok()?;
    Some(())
}
