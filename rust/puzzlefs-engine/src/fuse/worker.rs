//! One thread of a session: requests one after another until the mount ends.

use std::cell::Cell;
use std::os::fd::BorrowedFd;
use std::rc::Rc;
use std::sync::Arc;
use std::thread::available_parallelism;
use std::time::{Duration, Instant};

use rustix::fs::{OFlags, fcntl_getfl, fcntl_setfl};
use rustix::io::Errno;

use super::protocol::{Request, opcode};
use super::reply::Reply;
use super::session::Session;
use crate::waiting::before_waiting;

/// Bytes of the longest request: nothing is written, so two names or a list of forgotten inodes.
pub const REQUEST: usize = 16 << 10;
/// How long to look out for the next request before sleeping.
const PATIENCE: Duration = Duration::from_micros(50);

/// The thread's own part of the session.
pub struct Worker<'d> {
    session: Arc<Session>,
    device: BorrowedFd<'d>,
    /// Whether nobody else answers.
    alone: bool,
    has_turn: Rc<Cell<bool>>,
    /// Whether it has answered nothing in this turn: another thread is at work, and the reader needs the
    /// processor more than who looks out for it.
    is_fresh: bool,
    /// Whether the turn was kept through a read, so that a request may have waited.
    has_read: bool,
    /// How to look out; `None` where the thread would only keep the reader from running.
    lookout: Option<Lookout>,
}

/// A descriptor's flags, which say whether a read of it waits.
struct Lookout {
    flags: OFlags,
    waits: bool,
}

/// The next request, or why there is none.
enum Next {
    Request(usize),
    None,
    End,
}

impl<'d> Worker<'d> {
    /// Makes the thread's part; `alone` says that no other thread answers.
    pub fn new(session: Arc<Session>, device: BorrowedFd<'d>, alone: bool) -> Self {
        let several = available_parallelism().is_ok_and(|count| count.get() > 1);
        let flags = fcntl_getfl(device).ok().filter(|_| several);
        Self {
            session,
            device,
            alone,
            has_turn: Rc::default(),
            is_fresh: false,
            has_read: false,
            lookout: flags.map(|flags| Lookout { flags, waits: true }),
        }
    }

    /// Answers requests until the mount ends.
    pub fn run(mut self) {
        let (session, has_turn) = (Arc::clone(&self.session), Rc::clone(&self.has_turn));
        // Names and attributes are to be had while a disk is slow.
        before_waiting(move || pass(&session, &has_turn));
        let mut buffer = vec![0; REQUEST];
        let mut reply = Reply::new();
        loop {
            if !self.has_turn.get() {
                self.session.turn.take();
                self.has_turn.set(true);
                self.is_fresh = true;
            }
            let Some(length) = self.receive(&mut buffer) else {
                break;
            };
            if let Some(request) = buffer.get(..length).and_then(Request::parse) {
                self.answer(&request, &mut reply);
            }
        }
        self.pass();
    }

    fn answer(&mut self, request: &Request<'_>, reply: &mut Reply) {
        self.has_read = request.opcode == opcode::READ;
        if self.has_read && self.session.turn.is_crowded() {
            self.pass();
        }
        self.session.respond(self.device, request, reply);
        if self.alone {
            return;
        }
        if let Some(expected) = self.session.expected(request) {
            // Somebody must go on answering: the kernel may hold a page until the read that waits for it
            // is answered.
            self.pass();
            self.session.send_ahead(self.device, &expected);
        }
        if self.has_read && self.session.has_begun() {
            self.pass();
            self.session.finish();
        }
    }

    fn pass(&self) {
        pass(&self.session, &self.has_turn);
    }

    /// Returns the length of the next request; `None` when there will be no more.
    fn receive(&mut self, buffer: &mut [u8]) -> Option<usize> {
        let kept = std::mem::take(&mut self.has_read) && !self.is_fresh;
        if !std::mem::take(&mut self.is_fresh) && self.set_waits(false) {
            let start = Instant::now();
            let mut first = true;
            loop {
                match read(self.device, buffer) {
                    Next::Request(length) => {
                        if kept {
                            self.session.turn.note(first);
                        }
                        return Some(length);
                    }
                    Next::End => return None,
                    Next::None if start.elapsed() > PATIENCE => break,
                    Next::None => first = false,
                }
            }
        }
        self.set_waits(true);
        loop {
            match read(self.device, buffer) {
                Next::Request(length) => return Some(length),
                Next::End => return None,
                Next::None => {}
            }
        }
    }

    /// Makes reads wait for a request or return at once; says whether they do as wanted.
    fn set_waits(&mut self, waits: bool) -> bool {
        let Some(lookout) = &mut self.lookout else {
            return waits;
        };
        if lookout.waits != waits {
            let mut flags = lookout.flags;
            flags.set(OFlags::NONBLOCK, !waits);
            if fcntl_setfl(self.device, flags).is_err() {
                return false;
            }
            lookout.waits = waits;
        }
        true
    }
}

/// Lets another thread have the turn, if this one has it.
fn pass(session: &Session, has_turn: &Cell<bool>) {
    if has_turn.replace(false) {
        session.turn.pass();
    }
}

/// Takes a request from the kernel.
fn read(device: BorrowedFd<'_>, buffer: &mut [u8]) -> Next {
    match rustix::io::read(device, buffer) {
        Ok(0) => Next::End,
        Ok(length) => Next::Request(length),
        // ENOENT: it was taken back.
        Err(Errno::INTR | Errno::AGAIN | Errno::NOENT) => Next::None,
        Err(_) => Next::End,
    }
}
