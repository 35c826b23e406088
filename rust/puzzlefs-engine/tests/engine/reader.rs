//! A reader gives what was built, and never bytes that are not what their digest says.

use std::fs::{self, File, OpenOptions};
use std::io::Read as _;
use std::os::fd::AsFd as _;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{FileExt as _, MetadataExt as _, symlink};
use std::thread;

use crate::scratch::{FIRST_INO, Scratch, shapes, text};
use puzzlefs_core::digest::sha256;
use puzzlefs_core::tables::{BlobRow, ChunkRow};
use puzzlefs_core::{BlobFault, Error, Result, Rule};
use puzzlefs_engine::{Compression, Reader, Stored, Verify};

const EVERY: [Compression; 3] = [
    Compression::None,
    Compression::Upstream,
    Compression::Frames(64 << 10),
];
const MODES: [Verify; 3] = [Verify::Never, Verify::Once, Verify::Always];

fn reader(scratch: &Scratch, stored: &Stored, verify: Verify, cache: usize) -> Reader {
    let directory = scratch.path("blobs");
    Reader::new(
        scratch.index(stored),
        directory.as_os_str().as_bytes(),
        verify,
        cache,
    )
}

/// The fault of reading the first file, or `None`.
fn fault(result: Result<Vec<u8>>) -> Option<BlobFault> {
    match result {
        Ok(_) => None,
        Err(Error::Blob { fault, .. }) => Some(fault),
        Err(error) => panic!("{error}"),
    }
}

#[test]
fn any_range_of_any_file() {
    let scratch = Scratch::new(shapes());
    for compression in EVERY {
        let stored = scratch.build(compression, 2).unwrap();
        for (verify, cache) in [
            (Verify::Never, 0),
            (Verify::Once, 1 << 16),
            (Verify::Always, 1 << 26),
        ] {
            let reader = reader(&scratch, &stored, verify, cache);
            for (ino, content) in (FIRST_INO..).zip(scratch.contents()) {
                assert!(reader.read(ino, 0, u64::MAX).unwrap() == *content);
                let size = content.len();
                for (offset, length) in [
                    (0, 1),
                    (size / 3, 70_000),
                    (size.saturating_sub(5), 9),
                    (size, 1),
                    (size + 9, 1),
                ] {
                    let end = size.min(offset + length);
                    let part = content.get(offset..end).unwrap_or(&[]);
                    assert!(reader.read(ino, offset as u64, length as u64).unwrap() == *part);
                }
            }
            assert_eq!(reader.read(1, 0, 1), Err(Error::NoInode(1)));
            assert_eq!(reader.read(999, 0, 1), Err(Error::NoInode(999)));
        }
    }
}

#[test]
fn many_threads_read_the_same() {
    let scratch = Scratch::new(shapes());
    let stored = scratch.build(Compression::Frames(16 << 10), 2).unwrap();
    for verify in MODES {
        let reader = reader(&scratch, &stored, verify, 1 << 18);
        thread::scope(|scope| {
            for start in 0..4 {
                let (reader, scratch) = (&reader, &scratch);
                scope.spawn(move || {
                    for turn in 0..scratch.contents().len() {
                        let number = (turn * 7 + start * 13) % scratch.contents().len();
                        let content = reader.read(FIRST_INO + number as u64, 0, u64::MAX);
                        assert!(content.unwrap() == scratch.contents()[number]);
                    }
                });
            }
        });
    }
}

#[test]
fn extracted_files_are_the_same_with_holes() {
    let scratch = Scratch::new(shapes());
    let stored = scratch.build(Compression::Frames(64 << 10), 2).unwrap();
    let reader = reader(&scratch, &stored, Verify::Once, 1 << 20);
    let mut saved = 0;
    for (ino, content) in (FIRST_INO..).zip(scratch.contents()) {
        let mut file = tempfile::tempfile().unwrap();
        reader.extract(ino, file.as_fd()).unwrap();
        let mut found = Vec::new();
        file.read_to_end(&mut found).unwrap();
        assert!(found == *content);
        saved += content.len() as i64 - file.metadata().unwrap().blocks() as i64 * 512;
    }
    assert!(saved > 800_000, "{saved} bytes of holes");
    let read_only = File::open(scratch.path("root/file00002")).unwrap();
    assert_eq!(
        reader.extract(FIRST_INO + 2, read_only.as_fd()),
        Err(Error::Os(9))
    );
}

/// Does something to the only blob of a small image and tells the fault that each mode finds.
fn damaged(compression: Compression, damage: impl Fn(&std::path::Path)) -> [Option<BlobFault>; 3] {
    MODES.map(|verify| {
        let scratch = Scratch::new(vec![text(1, 15_000)]);
        let stored = scratch.build(compression, 1).unwrap();
        damage(&scratch.blob_path(&stored, 0));
        let reader = reader(&scratch, &stored, verify, 1 << 20);
        let first = fault(reader.read(FIRST_INO, 0, u64::MAX));
        assert_eq!(fault(reader.read(FIRST_INO, 0, u64::MAX)), first);
        first
    })
}

fn cut(path: &std::path::Path, length: u64) {
    OpenOptions::new()
        .write(true)
        .open(path)
        .unwrap()
        .set_len(length)
        .unwrap();
}

fn flip(path: &std::path::Path, offset: u64) {
    let file = OpenOptions::new()
        .read(true)
        .write(true)
        .open(path)
        .unwrap();
    let mut byte = [0];
    file.read_exact_at(&mut byte, offset).unwrap();
    file.write_all_at(&[byte[0] ^ 1], offset).unwrap();
}

#[test]
fn every_damage_has_its_fault() {
    let wrong = Some(BlobFault::WrongContent);
    let rule = |rule| Some(BlobFault::Corrupt(rule));
    let (raw, frames) = (Compression::None, Compression::Frames(8192));
    let size = |path: &std::path::Path| fs::metadata(path).unwrap().len();
    assert_eq!(
        damaged(raw, |path| cut(path, 14_999)),
        [Some(BlobFault::Short), wrong, wrong]
    );
    assert_eq!(damaged(raw, |path| cut(path, 15_001)), [None, wrong, wrong]);
    assert_eq!(damaged(raw, |path| flip(path, 7)), [None, wrong, wrong]);
    let missing = Some(BlobFault::Missing);
    assert_eq!(
        damaged(raw, |path| fs::remove_file(path).unwrap()),
        [missing; 3]
    );
    let directory = Some(BlobFault::CannotBeRead(21));
    let replace = |path: &std::path::Path| {
        fs::remove_file(path).unwrap();
        fs::create_dir(path).unwrap();
    };
    assert_eq!(damaged(raw, replace), [directory; 3]);
    let no_table = rule(Rule::SeekTableMissing);
    assert_eq!(
        damaged(frames, |path| cut(path, size(path) - 1)),
        [no_table, wrong, wrong]
    );
    assert_eq!(
        damaged(frames, |path| cut(path, 0)),
        [no_table, wrong, wrong]
    );
    let damage = rule(Rule::FrameDamaged);
    assert_eq!(
        damaged(frames, |path| flip(path, 1)),
        [damage, wrong, wrong]
    );
    let mismatch = rule(Rule::SeekTableMismatch);
    assert_eq!(
        damaged(frames, |path| flip(path, size(path) - 9 - 16)),
        [mismatch, wrong, wrong]
    );
}

#[test]
fn a_change_after_the_check_is_noticed_only_by_always() {
    for compression in [Compression::None, Compression::Frames(4096)] {
        for (verify, wanted) in [
            (Verify::Once, None),
            (Verify::Always, Some(BlobFault::WrongContent)),
        ] {
            let scratch = Scratch::new(vec![text(1, 15_000)]);
            let stored = scratch.build(compression, 1).unwrap();
            let reader = reader(&scratch, &stored, verify, 0);
            assert_eq!(fault(reader.read(FIRST_INO, 0, 10)), None);
            flip(&scratch.blob_path(&stored, 0), 5000);
            assert_eq!(fault(reader.read(FIRST_INO, 0, 10)), None);
            let seen = fault(reader.read(FIRST_INO, 14_000, 1000));
            if compression == Compression::None {
                assert_eq!(seen, None, "another block");
            }
            let seen = fault(reader.read(FIRST_INO, 0, 15_000));
            assert!(seen == wanted || verify == Verify::Once);
            flip(&scratch.blob_path(&stored, 0), 5000);
            let again = fault(reader.read(FIRST_INO, 0, 10));
            assert_eq!(again, wanted, "a bad blob stays bad");
        }
    }
}

#[test]
fn a_blob_keeps_its_leaves_when_it_is_opened_again() {
    // More blobs than stay open, each a file's only chunk.
    let scratch = Scratch::new((0..600).map(|seed| text(seed, 5000)).collect());
    let mut stored = Stored::default();
    for (row, content) in scratch.contents().iter().enumerate() {
        let (digest, size) = (sha256(content), content.len() as u64);
        let verity = [0; 32];
        stored.blobs.push(BlobRow {
            digest,
            verity,
            size,
            raw_size: size,
            flags: 0,
            reserved: 0,
        });
        stored.chunks.push(ChunkRow {
            blob: row as u32,
            flags: 0,
            offset: 0,
            length: size,
        });
        stored.counts.push(1);
        fs::write(scratch.blob_path(&stored, row), content).unwrap();
    }
    let reader = reader(&scratch, &stored, Verify::Always, 0);
    for (ino, content) in (FIRST_INO..).zip(scratch.contents()) {
        assert!(reader.read(ino, 0, u64::MAX).unwrap() == *content);
    }
    flip(&scratch.blob_path(&stored, 0), 4500);
    assert_eq!(
        fault(reader.read(FIRST_INO, 0, 4000)),
        None,
        "another block"
    );
    assert_eq!(
        fault(reader.read(FIRST_INO, 4400, 50)),
        Some(BlobFault::WrongContent)
    );
}

#[test]
fn links_to_blobs_are_followed() {
    let scratch = Scratch::new(vec![text(1, 15_000)]);
    let stored = scratch.build(Compression::None, 1).unwrap();
    let blob = scratch.blob_path(&stored, 0);
    fs::rename(&blob, scratch.path("elsewhere")).unwrap();
    symlink(scratch.path("elsewhere"), &blob).unwrap();
    symlink(scratch.path("blobs"), scratch.path("link")).unwrap();
    let directory = scratch.path("link");
    let index = scratch.index(&stored);
    let reader = Reader::new(index, directory.as_os_str().as_bytes(), Verify::Once, 0);
    assert!(reader.read(FIRST_INO, 0, u64::MAX).unwrap() == scratch.contents()[0]);
}

#[test]
fn a_chunk_must_fit_its_blob_even_where_it_is_not_read() {
    for compression in [Compression::None, Compression::Frames(4096)] {
        let scratch = Scratch::new(vec![text(1, 15_000)]);
        let mut stored = scratch.build(compression, 1).unwrap();
        stored.chunks[0].length += 1;
        for verify in MODES {
            let reader = reader(&scratch, &stored, verify, 0);
            assert_eq!(fault(reader.read(FIRST_INO, 0, 1)), Some(BlobFault::Short));
        }
    }
}
