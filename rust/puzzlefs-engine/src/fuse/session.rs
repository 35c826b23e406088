//! One connection: the handshake, then requests until the mount ends.

use std::os::fd::{BorrowedFd, OwnedFd};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, OnceLock};

use puzzlefs_core::index::Index;
use rustix::io::{Errno, retry_on_intr};

use super::ahead::{Ahead, Run};
use super::faults::Faults;
use super::filesystem::{Filesystem, Refusal};
use super::protocol::{
    CACHE_DIR, KEEP_CACHE, LARGEST, MAJOR, MINOR, OLDEST_MINOR, Request, flag, opcode,
};
use super::push::Pusher;
use super::reply::Reply;
use super::turn::Turn;
use super::worker::REQUEST;

/// Bytes that the kernel may write at once; it takes no less.
const MAX_WRITE: u32 = 4096;
/// Pages of the largest read.
const MAX_PAGES: u32 = (LARGEST / 4096) as u32;
/// Reads ahead and direct reads that may wait for answers at a time.
const MAX_BACKGROUND: u32 = 64;
/// Flags of open(2) that would change a file: all but O_RDONLY of O_ACCMODE, and O_TRUNC.
const CHANGES: u32 = 0o1003;

/// Told to whoever waits: the kernel has begun to talk; an error waits to be taken.
const ANSWERING: u8 = b'i';
const ERROR: u8 = b'e';

/// One mount, served by several threads.
pub struct Session {
    filesystem: Filesystem,
    faults: Arc<Faults>,
    /// A byte is written here for each thing to tell; it closes with the session.
    notices: OwnedFd,
    /// What the kernel offered.
    offered: OnceLock<u32>,
    ahead: Ahead,
    pusher: Pusher,
    /// Who waits for requests.
    pub turn: Turn,
}

impl Session {
    /// Makes the session of a filesystem; what goes wrong is noted in `faults`.
    pub fn new(filesystem: Filesystem, faults: Arc<Faults>, notices: OwnedFd) -> Self {
        Self {
            filesystem,
            faults,
            notices,
            offered: OnceLock::new(),
            ahead: Ahead::default(),
            pusher: Pusher::default(),
            turn: Turn::default(),
        }
    }

    /// Agrees with the kernel on how to talk; says whether that came about.
    pub fn begin(&self, device: BorrowedFd<'_>) -> bool {
        let mut buffer = vec![0; REQUEST];
        let mut reply = Reply::new();
        while let Some(bytes) = receive(device, &mut buffer) {
            let Some(request) = Request::parse(bytes) else {
                continue;
            };
            reply.clear();
            let agreed = self.negotiate(&request, &mut reply);
            let error = agreed.map_or_else(Errno::raw_os_error, |_| 0);
            if agreed.is_err() {
                reply.clear();
            }
            send(device, &mut reply, request.unique, -error);
            match agreed {
                Ok(true) => {
                    self.tell(ANSWERING);
                    return true;
                }
                Ok(false) => {}
                Err(_) => return false,
            }
        }
        false
    }

    /// Answers INIT; says whether the kernel speaks this major version, else it will ask again.
    fn negotiate(&self, request: &Request<'_>, reply: &mut Reply) -> Result<bool, Errno> {
        if request.opcode != opcode::INIT {
            return Err(Errno::PROTO);
        }
        let (major, minor) = (request.word(0)?, request.word(4)?);
        if major > MAJOR {
            reply.words(&[MAJOR, MINOR])?;
            reply.space(56)?.fill(0);
            return Ok(false);
        }
        if major < MAJOR || minor < OLDEST_MINOR {
            return Err(Errno::PROTO);
        }
        let (read_ahead, offered) = (request.word(8)?, request.word(12)?);
        let flags = offered & wanted(&self.filesystem.index);
        // Set once: later handshakes are refused.
        let _ = self.offered.set(flags);
        reply.words(&[MAJOR, minor.min(MINOR), read_ahead, flags])?;
        let background = halves(MAX_BACKGROUND, MAX_BACKGROUND * 3 / 4);
        reply.words(&[background, MAX_WRITE, 1, halves(MAX_PAGES, 0)])?;
        reply.space(32)?.fill(0);
        Ok(true)
    }

    /// Answers a request.
    pub fn respond(&self, device: BorrowedFd<'_>, request: &Request<'_>, reply: &mut Reply) {
        if matches!(request.opcode, opcode::FORGET | opcode::BATCH_FORGET) {
            return;
        }
        reply.clear();
        // A fault of this program must not leave a reader waiting for ever.
        let answer = catch_unwind(AssertUnwindSafe(|| self.answer(request, reply)));
        let errno = match answer.unwrap_or(Err(Refusal::Errno(Errno::IO))) {
            Ok(()) => 0,
            Err(Refusal::Errno(errno)) => errno.raw_os_error(),
            Err(Refusal::Fault(error)) => {
                if self.faults.note(&error) {
                    self.tell(ERROR);
                }
                Errno::IO.raw_os_error()
            }
        };
        if errno != 0 {
            reply.clear();
        }
        send(device, reply, request.unique, -errno);
    }

    fn answer(&self, request: &Request<'_>, reply: &mut Reply) -> Result<(), Refusal> {
        let kept = match request.opcode {
            opcode::OPEN if request.word(0)? & CHANGES != 0 => return Err(Errno::ROFS.into()),
            opcode::OPEN => (flag::NO_OPEN_SUPPORT, KEEP_CACHE),
            opcode::OPENDIR => (flag::NO_OPENDIR_SUPPORT, KEEP_CACHE | CACHE_DIR),
            _ => return self.filesystem.answer(request, reply),
        };
        if self.offered.get().is_some_and(|flags| flags & kept.0 != 0) {
            // The kernel opens everything by itself from now on, and keeps all that it reads.
            return Err(Errno::NOSYS.into());
        }
        reply.longs(&[0])?;
        Ok(reply.words(&[kept.1, 0])?)
    }

    /// Returns what will probably be asked for next, after a request was answered.
    pub fn expected(&self, request: &Request<'_>) -> Option<Run> {
        if !request.long(8).is_ok_and(|offset| offset == 0) {
            return None;
        }
        match request.opcode {
            opcode::READDIRPLUS => self.ahead.expect(&self.filesystem.index, request.node),
            opcode::READ => return self.ahead.follow(request.node),
            _ => {}
        }
        None
    }

    /// Sends what is expected into the kernel's cache, unless another thread is at that.
    pub fn send_ahead(&self, device: BorrowedFd<'_>, run: &Run) {
        self.pusher.push(&self.filesystem, &self.ahead, run, device);
    }

    /// Tells whether reads have left frames decoded in part.
    pub fn has_begun(&self) -> bool {
        self.filesystem.reader.has_begun()
    }

    /// Decodes the rest of them, unless another thread is at that: what else they hold is wanted soon.
    pub fn finish(&self) {
        self.filesystem.reader.finish();
    }

    /// Writes one byte for whoever waits. It must not block: who does not listen misses it.
    fn tell(&self, what: u8) {
        let _ = retry_on_intr(|| rustix::io::write(&self.notices, &[what]));
    }
}

/// Returns the next request; `None` when there will be no more.
fn receive<'b>(device: BorrowedFd<'_>, buffer: &'b mut [u8]) -> Option<&'b [u8]> {
    loop {
        match rustix::io::read(device, &mut *buffer) {
            Ok(0) => return None,
            Ok(length) => return buffer.get(..length),
            // ENOENT: it was taken back.
            Err(Errno::INTR | Errno::AGAIN | Errno::NOENT) => {}
            Err(_) => return None,
        }
    }
}

/// Sends an answer; where the kernel does not take it, an error in its place.
fn send(device: BorrowedFd<'_>, reply: &mut Reply, unique: u64, error: i32) {
    let write = |bytes: &[u8]| retry_on_intr(|| rustix::io::write(device, bytes));
    match write(reply.finish(unique, error)) {
        // ENOENT: nobody waits for it any more. ENODEV: nor for anything else.
        Ok(_) | Err(Errno::NOENT | Errno::NODEV) => {}
        Err(_) => {
            reply.clear();
            let _ = write(reply.finish(unique, -Errno::IO.raw_os_error()));
        }
    }
}

/// Returns two numbers of 16 bits in the order in which they lie in memory.
fn halves(first: u32, second: u32) -> u32 {
    let [a, b] = (first as u16).to_ne_bytes();
    let [c, d] = (second as u16).to_ne_bytes();
    u32::from_ne_bytes([a, b, c, d])
}

/// Returns what is wanted of the kernel for an image.
fn wanted(index: &Index) -> u32 {
    let flags = flag::ASYNC_READ
        | flag::EXPORT_SUPPORT
        | flag::DO_READDIRPLUS
        | flag::ASYNC_DIO
        | flag::NO_OPEN_SUPPORT
        | flag::PARALLEL_DIROPS
        | flag::MAX_PAGES
        | flag::CACHE_SYMLINKS
        | flag::NO_OPENDIR_SUPPORT;
    if index.has_xattrs() {
        // Access lists are attributes; without any the kernel need not ask for them.
        flags | flag::POSIX_ACL
    } else {
        flags
    }
}
