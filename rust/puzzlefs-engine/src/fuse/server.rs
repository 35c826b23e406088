//! The threads of a mount.

use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::thread::Builder;

use puzzlefs_core::index::Index;
use puzzlefs_core::{Error, Result};
use rustix::io::Errno;

use super::device;
use super::faults::Faults;
use super::filesystem::Filesystem;
use super::session::Session;
use super::worker::Worker;
use crate::reader::Reader;

/// A mount that is being served; it goes on by itself until it is unmounted.
pub struct Server(Arc<Faults>);

impl Server {
    /// Begins to serve an image on a connection to the kernel, with so many threads.
    ///
    /// Into the pipe `notices`, which must not block, `i` is written when the kernel has begun to talk,
    /// and `e` when there is something for [`Server::take_errors`]; it is closed when the mount has
    /// ended. Fails with `Os`.
    pub fn start(
        index: Arc<Index>,
        reader: Arc<Reader>,
        connection: OwnedFd,
        notices: OwnedFd,
        threads: usize,
    ) -> Result<Self> {
        let faults = Arc::new(Faults::default());
        let filesystem = Filesystem { index, reader };
        let session = Arc::new(Session::new(filesystem, Arc::clone(&faults), notices));
        spawn(move || {
            if session.begin(connection.as_fd()) {
                let others = start_others(&session, connection.as_fd(), threads.saturating_sub(1));
                Worker::new(session, connection.as_fd(), others == 0).run();
            }
        })?;
        Ok(Self(faults))
    }

    /// Returns the errors that came up since the last call, of each damaged blob the first only.
    pub fn take_errors(&self) -> Vec<Error> {
        self.0.take()
    }
}

/// Starts further threads, each with a descriptor of its own; returns how many.
fn start_others(session: &Arc<Session>, connection: BorrowedFd<'_>, count: usize) -> usize {
    let start = |_: &usize| {
        // Without a queue of its own a thread shares that of the first.
        let own =
            device::clone(connection).or_else(|_| rustix::io::fcntl_dupfd_cloexec(connection, 0));
        let Ok(own) = own else {
            return false;
        };
        let session = Arc::clone(session);
        spawn(move || Worker::new(session, own.as_fd(), false).run()).is_ok()
    };
    (0..count).filter(start).count()
}

fn spawn(work: impl FnOnce() + Send + 'static) -> Result<()> {
    let thread = Builder::new().name("puzzlefs-fuse".into()).spawn(work);
    let failed = |error: std::io::Error| {
        let errno = error.raw_os_error();
        Error::Os(errno.unwrap_or(Errno::AGAIN.raw_os_error()))
    };
    thread.map(drop).map_err(failed)
}
