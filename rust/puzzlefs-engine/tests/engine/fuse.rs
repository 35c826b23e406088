//! The server's answers, byte by byte, to requests that a kernel makes and to some that none would.

use puzzlefs_core::Error;
use puzzlefs_core::digest::sha256;

use crate::fuse_image::{DIRECTORY, FILES, Image, LINK, content};
use crate::kernel::{INIT, Kernel, OFFERED, init, long, range, request, word, words};
use crate::scratch::noise;

const LOOKUP: u32 = 1;
const GETATTR: u32 = 3;
const READLINK: u32 = 5;
const OPEN: u32 = 14;
const READ: u32 = 15;
const STATFS: u32 = 17;
const GETXATTR: u32 = 22;
const LISTXATTR: u32 = 23;
const OPENDIR: u32 = 27;
const READDIR: u32 = 28;
const READDIRPLUS: u32 = 44;

const EIO: i32 = 5;
const ENOTDIR: i32 = 20;
const EISDIR: i32 = 21;
const EINVAL: i32 = 22;
const EROFS: i32 = 30;
const ERANGE: i32 = 34;
const ENOSYS: i32 = 38;
const ENODATA: i32 = 61;
const EPROTO: i32 = 71;
const EOVERFLOW: i32 = 75;
const ESTALE: i32 = 116;

/// The (position after it, number, type, name) of each entry of a listing.
fn entries(mut page: &[u8], plus: bool) -> Vec<(u64, u64, u32, String)> {
    let mut found = Vec::new();
    while !page.is_empty() {
        let entry = if plus { &page[128..] } else { page };
        let length = word(entry, 16) as usize;
        let name = String::from_utf8(entry[24..24 + length].to_vec()).unwrap();
        found.push((long(entry, 8), long(entry, 0), word(entry, 20), name));
        page = &entry[(24 + length).next_multiple_of(8)..];
    }
    found
}

#[test]
fn both_sides_agree_on_a_version_and_on_what_is_wanted() {
    let image = Image::new();
    let mut kernel = Kernel::new(&image.index, image.reader(), 2);
    let (error, body) = kernel.ask(INIT, 0, &init(8, 0, OFFERED));
    assert_eq!((error, word(&body, 0), body.len()), (0, 7, 64));
    let (error, body) = kernel.ask(INIT, 0, &init(7, 31, OFFERED & !(1 << 23)));
    assert_eq!((error, body.len()), (0, 64));
    assert_eq!(
        [word(&body, 0), word(&body, 4), word(&body, 8)],
        [7, 31, 1 << 17]
    );
    let flags = word(&body, 12);
    assert_eq!(
        flags & (1 << 13 | 1 << 17 | 1 << 24),
        1 << 13 | 1 << 17 | 1 << 24
    );
    assert_eq!(
        flags & (1 << 23 | 1 << 16 | 1 << 12),
        0,
        "not offered, or not wanted"
    );
    assert_eq!(
        u16::from_ne_bytes([body[28], body[29]]),
        256,
        "pages in a request"
    );
    assert_eq!(kernel.notice(), Some(b'i'));
    assert_eq!(
        kernel.ask(INIT, 0, &init(7, 31, OFFERED)).0,
        ENOSYS,
        "once is enough"
    );
    kernel.close();
    assert_eq!(kernel.notice(), None);
}

#[test]
fn a_kernel_of_another_age_is_refused() {
    let image = Image::new();
    for body in [init(6, 44, OFFERED), init(7, 8, OFFERED), vec![7]] {
        let mut kernel = Kernel::new(&image.index, image.reader(), 2);
        let (error, _) = kernel.ask(INIT, 0, &body);
        assert_eq!(error, if body.len() == 1 { EINVAL } else { EPROTO });
        assert_eq!(kernel.notice(), None);
    }
}

#[test]
fn names_and_attributes() {
    let image = Image::new();
    let mut kernel = image.agreed(1);
    let (error, body) = kernel.ask(LOOKUP, 1, b"f05\0");
    assert_eq!(
        (error, body.len(), long(&body, 0), long(&body, 40)),
        (0, 128, 5, 5)
    );
    assert_eq!(
        (
            long(&body, 48),
            long(&body, 56),
            long(&body, 64).cast_signed()
        ),
        (5000, 10, -3)
    );
    assert_eq!(
        (word(&body, 88), word(&body, 100), word(&body, 104)),
        (5, 0o100_751, 1)
    );
    assert_eq!(
        (word(&body, 108), word(&body, 112), word(&body, 116)),
        (7, 8, 0)
    );
    let (error, body) = kernel.ask(LOOKUP, 1, b"absent\0");
    assert_eq!(
        (error, long(&body, 0), body.len()),
        (0, 0, 128),
        "an absent name is remembered"
    );
    assert!(long(&body, 16) > 1 << 30, "for long");
    assert_eq!(long(&kernel.ask(LOOKUP, DIRECTORY, b"..\0").1, 0), 1);
    assert_eq!(long(&kernel.ask(LOOKUP, DIRECTORY, b".\0").1, 0), DIRECTORY);
    assert_eq!(kernel.ask(LOOKUP, 5, b".\0").0, ENOTDIR);
    assert_eq!(kernel.ask(LOOKUP, 5, b"x\0").0, ENOTDIR);
    assert_eq!(kernel.ask(LOOKUP, 99, b"x\0").0, ESTALE);
    assert_eq!(kernel.ask(LOOKUP, 1, b"dev\0").0, EOVERFLOW);
    let (error, body) = kernel.ask(GETATTR, DIRECTORY, &[0; 16]);
    assert_eq!((error, body.len(), word(&body, 76)), (0, 104, 0o040_751));
    assert_eq!(kernel.ask(GETATTR, 99, &[0; 16]).0, ESTALE);
    assert_eq!(kernel.ask(READLINK, LINK, &[]), (0, b"target".to_vec()));
    assert_eq!(kernel.ask(READLINK, 5, &[]).0, EINVAL);
    let (_, body) = kernel.ask(STATFS, 1, &[]);
    assert_eq!(
        (body.len(), long(&body, 0), long(&body, 24), word(&body, 40)),
        (80, 62, 24, 4096)
    );
}

#[test]
fn listings_of_any_room() {
    let image = Image::new();
    let mut names = vec![".".to_owned(), "..".to_owned(), "dir".to_owned()];
    names.extend(FILES.map(|ino| format!("f{ino:02}")));
    names.push("link".to_owned());
    let mut kernel = image.agreed(1);
    for (opcode, plus) in [(READDIR, false), (READDIRPLUS, true)] {
        for room in [160, 400, 4096, u32::MAX] {
            let (mut position, mut found) = (0, Vec::new());
            loop {
                let (error, page) = kernel.ask(opcode, 1, &range(position, room));
                assert!(error == 0 && page.len() <= room as usize);
                let Some((next, ..)) = entries(&page, plus).last().cloned() else {
                    break;
                };
                assert!(next > position);
                position = next;
                found.extend(entries(&page, plus));
            }
            let found_names: Vec<_> = found.iter().map(|entry| entry.3.clone()).collect();
            assert_eq!(found_names, names, "without the device that cannot be");
            assert_eq!((found[3].1, found[3].2, found[2].2), (3, 0o10, 0o4));
        }
        assert_eq!(kernel.ask(opcode, 5, &range(0, 4096)).0, ENOTDIR);
        assert_eq!(kernel.ask(opcode, 1, &range(u64::MAX, 4096)), (0, vec![]));
    }
    let (_, page) = kernel.ask(READDIRPLUS, 1, &range(0, 4096));
    assert_eq!(long(&page, 0), 0, "dots carry no attributes");
    assert_eq!(long(&page, 2 * 160), DIRECTORY);
}

#[test]
fn contents_are_those_of_the_image() {
    let image = Image::new();
    let mut kernel = image.agreed(1);
    for ino in FILES {
        let content = content(ino);
        for (offset, size) in [
            (0, 1 << 20),
            (0, 1),
            (1000, 999),
            (2999, 9),
            (5000, 0),
            (1 << 40, 5),
        ] {
            let start = content.len().min(offset as usize);
            let end = content.len().min(start + size as usize);
            assert_eq!(
                kernel.ask(READ, ino, &range(offset, size)),
                (0, content[start..end].to_vec())
            );
        }
    }
    assert_eq!(kernel.ask(READ, 1, &range(0, 1)).0, EISDIR);
    assert_eq!(kernel.ask(READ, LINK, &range(0, 1)).0, EINVAL);
    assert_eq!(kernel.ask(READ, 99, &range(0, 1)).0, ESTALE);
}

#[test]
fn attributes_by_name() {
    let image = Image::new();
    let mut kernel = image.agreed(1);
    let named = |size: u32, name: &[u8]| [words(&[size, 0]), name.to_vec()].concat();
    assert_eq!(
        kernel.ask(GETXATTR, 3, &named(9, b"user.key\0")),
        (0, b"value".to_vec())
    );
    assert_eq!(
        kernel.ask(GETXATTR, 3, &named(0, b"user.key\0")),
        (0, words(&[5, 0]))
    );
    assert_eq!(kernel.ask(GETXATTR, 3, &named(4, b"user.key\0")).0, ERANGE);
    assert_eq!(kernel.ask(GETXATTR, 3, &named(9, b"user.k\0")).0, ENODATA);
    assert_eq!(kernel.ask(GETXATTR, 99, &named(9, b"user.key\0")).0, ESTALE);
    assert_eq!(
        kernel.ask(LISTXATTR, 3, &words(&[9, 0])),
        (0, b"user.key\0".to_vec())
    );
    assert_eq!(
        kernel.ask(LISTXATTR, 3, &words(&[0, 0])),
        (0, words(&[9, 0]))
    );
    assert_eq!(kernel.ask(LISTXATTR, 3, &words(&[8, 0])).0, ERANGE);
    assert_eq!(kernel.ask(LISTXATTR, 4, &words(&[8, 0])), (0, vec![]));
}

#[test]
fn opening_costs_nothing_where_the_kernel_can_do_without() {
    let image = Image::new();
    let mut kernel = image.agreed(1);
    assert_eq!(kernel.ask(OPEN, 3, &words(&[0, 0])).0, ENOSYS);
    assert_eq!(kernel.ask(OPENDIR, 1, &words(&[0, 0])).0, ENOSYS);
    let mut old = Kernel::new(&image.index, image.reader(), 1);
    old.ask(INIT, 0, &init(7, 23, 0));
    let (error, body) = old.ask(OPEN, 3, &words(&[0o100_000, 0]));
    assert_eq!(
        (error, body.len(), word(&body, 8)),
        (0, 16, 2),
        "pages are kept"
    );
    assert_eq!(
        word(&old.ask(OPENDIR, 1, &words(&[0, 0])).1, 8),
        2 | 8,
        "entries too"
    );
    for flags in [1, 2, 0o1000] {
        assert_eq!(old.ask(OPEN, 3, &words(&[flags, 0])).0, EROFS);
    }
}

#[test]
fn nothing_changes_and_nothing_unknown_is_done() {
    let image = Image::new();
    let mut kernel = image.agreed(1);
    for opcode in [4, 6, 8, 9, 10, 11, 12, 13, 16, 21, 24, 35, 43, 45, 47, 51] {
        assert_eq!(kernel.ask(opcode, 1, &[0; 64]).0, EROFS, "{opcode}");
    }
    for opcode in [
        0,
        20,
        25,
        31,
        34,
        36,
        37,
        39,
        40,
        46,
        48,
        52,
        4096,
        u32::MAX,
    ] {
        assert_eq!(kernel.ask(opcode, 1, &[0; 64]).0, ENOSYS, "{opcode}");
    }
    assert_eq!(kernel.ask(18, 3, &[0; 24]), (0, vec![]));
    assert_eq!(kernel.ask(29, 1, &[0; 24]), (0, vec![]));
}

#[test]
fn requests_that_no_kernel_makes_do_no_harm() {
    let image = Image::new();
    let mut kernel = image.agreed(2);
    for length in [0, 3, 39, 41, 9000] {
        let mut bytes = noise(length, length as usize);
        bytes.push(0);
        kernel.send(&bytes);
    }
    kernel.send(&request(2, 9, 1, &[0; 8]));
    kernel.send(&request(42, 9, 0, &[0xff; 16]));
    for seed in 0..3000 {
        let chance = noise(seed, 40);
        let opcode = u32::from(chance[0]) % 53;
        if matches!(opcode, 2 | 42) {
            continue;
        }
        let node = [u64::from(chance[1]) % 30, long(&chance, 2)][usize::from(chance[10]) % 2];
        kernel.ask(opcode, node, &chance[11..11 + usize::from(chance[11]) % 29]);
    }
    assert_eq!(kernel.ask(READ, 3, &range(0, 9999)), (0, content(3)));
}

#[test]
fn a_damaged_blob_is_told_of_once() {
    let image = Image::new();
    image.damage(7);
    let mut kernel = image.agreed(1);
    for _ in 0..3 {
        assert_eq!(kernel.ask(READ, 7, &range(0, 9)).0, EIO);
    }
    assert_eq!(kernel.notice(), Some(b'e'));
    let errors = kernel.server.take_errors();
    assert!(matches!(errors[..], [Error::Blob { digest, .. }] if digest == sha256(&content(7))));
    assert_eq!(kernel.ask(READ, 7, &range(0, 9)).0, EIO);
    assert!(kernel.server.take_errors().is_empty());
    kernel.close();
    assert_eq!(kernel.notice(), None);
}

#[test]
fn who_reads_in_order_gets_the_rest_before_asking() {
    let image = Image::new();
    let mut kernel = image.agreed(2);
    kernel.ask(READDIRPLUS, 1, &range(0, 4096));
    kernel.ask(READ, 3, &range(0, 4096));
    kernel.wait_for_store();
    kernel.wait_for_store();
    assert_eq!(kernel.stores[..2], [(4, content(4)), (5, content(5))]);
    let mut other = image.agreed(2);
    for ino in [20, 4, 11] {
        other.ask(READ, ino, &range(0, 4096));
    }
    assert!(
        other.stores.is_empty(),
        "who reads here and there gets what was asked for"
    );
}
