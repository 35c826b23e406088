//! A stand-in for the kernel: the other end of a connection, with handmade requests.

use std::os::fd::{AsFd as _, OwnedFd};
use std::sync::Arc;

use puzzlefs_core::index::Index;
use puzzlefs_engine::Reader;
use puzzlefs_engine::fuse::Server;
use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType};
use rustix::pipe::{PipeFlags, pipe_with};

pub const INIT: u32 = 26;
/// What a current kernel offers.
pub const OFFERED: u32 = 0xFFFF_FFFF;

/// An answer: the error number (0 for none) and the body.
pub type Answer = (i32, Vec<u8>);

pub struct Kernel {
    socket: OwnedFd,
    notices: OwnedFd,
    unique: u64,
    pub server: Server,
    /// What was put into the page cache: (inode, bytes).
    pub stores: Vec<(u64, Vec<u8>)>,
}

impl Kernel {
    /// Starts a server that has not heard a request yet.
    pub fn new(index: &Arc<Index>, reader: Reader, threads: usize) -> Self {
        let (socket, theirs) = rustix::net::socketpair(
            AddressFamily::UNIX,
            SocketType::SEQPACKET,
            SocketFlags::CLOEXEC,
            None,
        )
        .unwrap();
        let (notices, telling) = pipe_with(PipeFlags::CLOEXEC).unwrap();
        let (index, reader) = (Arc::clone(index), Arc::new(reader));
        let server = Server::start(index, reader, theirs, telling, threads).unwrap();
        Self {
            socket,
            notices,
            unique: 1,
            server,
            stores: Vec::new(),
        }
    }

    /// Starts a server and agrees with it on everything that it wants.
    pub fn agreed(index: &Arc<Index>, reader: Reader, threads: usize) -> Self {
        let mut kernel = Self::new(index, reader, threads);
        assert_eq!(kernel.ask(INIT, 0, &init(7, 44, OFFERED)).0, 0);
        assert_eq!(kernel.notice(), Some(b'i'));
        kernel
    }

    /// Sends bytes as they are.
    pub fn send(&self, bytes: &[u8]) {
        rustix::net::send(&self.socket, bytes, SendFlags::empty()).unwrap();
    }

    /// Sends a request and returns the answer to it.
    pub fn ask(&mut self, opcode: u32, node: u64, body: &[u8]) -> Answer {
        self.unique += 2;
        self.send(&request(opcode, self.unique, node, body));
        loop {
            let message = self.receive();
            if let Some(answer) = self.taken(&message) {
                return answer;
            }
        }
    }

    /// Waits for one message that puts pages into the cache.
    pub fn wait_for_store(&mut self) {
        let message = self.receive();
        assert_eq!(self.taken(&message), None);
    }

    /// Waits for what the server tells; `None` at its end.
    pub fn notice(&self) -> Option<u8> {
        let mut byte = [0];
        let count = rustix::io::read(&self.notices, &mut byte).unwrap();
        (count == 1).then_some(byte[0])
    }

    /// Ends the mount.
    pub fn close(&self) {
        rustix::net::shutdown(&self.socket, rustix::net::Shutdown::Both).unwrap();
    }

    fn receive(&self) -> Vec<u8> {
        let mut message = vec![0; 2 << 20];
        let received = rustix::net::recv(self.socket.as_fd(), &mut message, RecvFlags::empty());
        let (length, _) = received.unwrap();
        message.truncate(length);
        assert_eq!(word(&message, 0) as usize, length, "the length it states");
        message
    }

    /// Takes a message: an answer to the last request, or pages.
    fn taken(&mut self, message: &[u8]) -> Option<Answer> {
        let (error, unique) = (word(message, 4).cast_signed(), long(message, 8));
        if unique == 0 {
            assert_eq!(error, 4, "a message that puts pages into the cache");
            assert_eq!(long(message, 24), 0, "from the start");
            assert_eq!(word(message, 32) as usize, message.len() - 40);
            self.stores
                .push((long(message, 16), message[40..].to_vec()));
            return None;
        }
        assert_eq!(unique, self.unique);
        assert!(error <= 0 && (error == 0 || message.len() == 16));
        Some((-error, message[16..].to_vec()))
    }
}

/// Returns a request's bytes.
pub fn request(opcode: u32, unique: u64, node: u64, body: &[u8]) -> Vec<u8> {
    let length = (40 + body.len()) as u32;
    let words = [length, opcode];
    let mut bytes: Vec<u8> = words.iter().flat_map(|word| word.to_ne_bytes()).collect();
    bytes.extend([unique, node].iter().flat_map(|long| long.to_ne_bytes()));
    bytes.extend([0; 16]);
    bytes.extend(body);
    bytes
}

/// Returns the body of an INIT.
pub fn init(major: u32, minor: u32, flags: u32) -> Vec<u8> {
    let mut body = words(&[major, minor, 1 << 17, flags]);
    body.extend([0; 48]);
    body
}

/// Returns 32-bit numbers as they lie in memory.
pub fn words(numbers: &[u32]) -> Vec<u8> {
    let bytes = numbers.iter().flat_map(|number| number.to_ne_bytes());
    bytes.collect()
}

/// Returns the body of a READ or READDIR.
pub fn range(offset: u64, size: u32) -> Vec<u8> {
    let mut body = [0, offset].iter().flat_map(|n| n.to_ne_bytes()).collect();
    Vec::extend(&mut body, words(&[size, 0, 0, 0, 0, 0]));
    body
}

pub fn word(bytes: &[u8], at: usize) -> u32 {
    u32::from_ne_bytes(*bytes[at..].first_chunk().unwrap())
}

pub fn long(bytes: &[u8], at: usize) -> u64 {
    u64::from_ne_bytes(*bytes[at..].first_chunk().unwrap())
}
