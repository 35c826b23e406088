//! Telling somebody before a thread waits for a disk, or works long: others need not wait for it.

use std::cell::RefCell;
use std::os::fd::BorrowedFd;

use rustix::fs::fstatfs;
use rustix::io::{Errno, IoSliceMut, ReadWriteFlags, Result, preadv2, retry_on_intr};

/// Types of filesystems in memory, which do not say what a read of them would wait for: tmpfs, ramfs.
const IN_MEMORY: [u64; 2] = [0x0102_1994, 0x8584_58f6];

thread_local! {
    static TELL: RefCell<Option<Box<dyn Fn()>>> = const { RefCell::new(None) };
}

/// Has this thread call `tell` each time before it may wait or work long.
pub fn before_waiting(tell: impl Fn() + 'static) {
    TELL.set(Some(Box::new(tell)));
}

/// Bytes to hash or to decompress for which others need not wait either: half a millisecond's work. To wake
/// another thread for less, and then this one again, takes longer than it gains.
const MUCH: u64 = 512 << 10;

/// Does what [`expect`] does where so many bytes take long to hash or to decompress.
pub fn expect_work(bytes: u64) {
    if bytes > MUCH {
        expect();
    }
}

/// Says that this thread is about to wait: for a disk, or for a thread that may wait for one.
pub fn expect() {
    TELL.with_borrow(|tell| {
        if let Some(tell) = tell {
            tell();
        }
    });
}

/// Reads from a file by position, at once where what is wanted is in memory.
pub fn read(file: BorrowedFd<'_>, buffer: &mut [u8], offset: u64) -> Result<usize> {
    if TELL.with_borrow(Option::is_none) {
        return retry_on_intr(|| rustix::io::pread(file, &mut *buffer, offset));
    }
    let now = |buffer: &mut [u8]| {
        let parts = &mut [IoSliceMut::new(buffer)];
        preadv2(file, parts, offset, ReadWriteFlags::NOWAIT)
    };
    match retry_on_intr(|| now(&mut *buffer)) {
        Err(Errno::OPNOTSUPP) if is_in_memory(file) => {}
        Err(Errno::AGAIN | Errno::OPNOTSUPP) => expect(),
        result => return result,
    }
    retry_on_intr(|| rustix::io::pread(file, &mut *buffer, offset))
}

fn is_in_memory(file: BorrowedFd<'_>) -> bool {
    fstatfs(file).is_ok_and(|filesystem| {
        u64::try_from(filesystem.f_type).is_ok_and(|kind| IN_MEMORY.contains(&kind))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::cell::Cell;
    use std::fs::File;
    use std::io::Write as _;
    use std::os::fd::AsFd as _;
    use std::rc::Rc;

    #[test]
    fn what_is_in_memory_is_read_without_a_word() {
        let told = Rc::new(Cell::new(0));
        let count = Rc::clone(&told);
        before_waiting(move || count.set(count.get() + 1));
        let mut file = tempfile::tempfile().expect("a file");
        file.write_all(b"content").expect("written");
        let mut buffer = [0; 9];
        assert_eq!(read(file.as_fd(), &mut buffer, 2), Ok(5));
        assert_eq!((&buffer[..5], told.get()), (&b"ntent"[..], 0));
    }

    #[test]
    fn before_a_read_that_may_wait_the_word_is_given() {
        let told = Rc::new(Cell::new(0));
        let count = Rc::clone(&told);
        before_waiting(move || count.set(count.get() + 1));
        // The kernel makes this file's content when it is read; it takes no flag not to wait.
        let file = File::open("/proc/self/cmdline").expect("a file");
        assert!(read(file.as_fd(), &mut [0; 4], 0).is_ok_and(|length| length == 4));
        assert_eq!(told.get(), 1);
    }

    #[test]
    fn work_is_announced_where_it_is_long() {
        let told = Rc::new(Cell::new(0));
        let count = Rc::clone(&told);
        before_waiting(move || count.set(count.get() + 1));
        expect_work(MUCH);
        assert_eq!(told.get(), 0);
        expect_work(MUCH + 1);
        assert_eq!(told.get(), 1);
    }
}
