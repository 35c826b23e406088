//! A FUSE server for one image: the kernel's requests in, answers out, on threads of its own.
//!
//! The image never changes, so the kernel may keep names, absent names, attributes and pages for
//! ever; nothing is opened, and how often the kernel looked an inode up means nothing here.

mod ahead;
mod attributes;
mod device;
mod directory;
mod faults;
mod filesystem;
mod mount;
mod protocol;
mod push;
mod reply;
mod server;
mod session;
mod turn;
mod worker;

pub use mount::{mount, unmount};
pub use server::Server;
