//! Arbitrary bytes as a rootfs blob: decoded, merged, looked through to the last chunk, written again.
#![no_main]

use libfuzzer_sys::fuzz_target;
use puzzlefs_core::decode::decode;
use puzzlefs_core::encode::encode;
use puzzlefs_core::index::Index;
use puzzlefs_core::metadata::Kind;

fuzz_target!(|blob: &[u8]| {
    match decode(blob) {
        Err(error) => assert_eq!(Index::new(blob).err(), Some(error)),
        Ok(tables) => {
            if let Ok(again) = encode(&tables) {
                assert_eq!(decode(&again).as_ref(), Ok(&tables));
            }
            if let Ok(index) = Index::new(blob) {
                look_through(&index);
            }
        }
    }
});

fn look_through(index: &Index) {
    let mut content = 0_u128;
    assert_eq!(index.inodes().len(), index.inode_count());
    for ino in index.inodes() {
        let stat = index.stat(ino).unwrap();
        assert!(ino <= index.highest_ino());
        match stat.kind {
            Kind::Dir => look_into(index, ino),
            Kind::File => content += u128::from(look_at_file(index, ino)),
            _ => assert!(index.entries(ino, 0, 1).is_err()),
        }
        assert!(index.has_xattrs() || index.xattrs(ino).unwrap().len() == 0);
        index.symlink(ino).unwrap();
    }
    assert_eq!(content, index.content_bytes());
}

/// Every entry is found by its name, and a directory among them knows where it hangs.
fn look_into(index: &Index, ino: u64) {
    let mut previous = None;
    for (name, child) in index.entries(ino, 0, usize::MAX).unwrap() {
        assert!(previous < Some(name));
        previous = Some(name);
        assert_eq!(index.lookup(ino, name).unwrap(), Some(child));
        if index.stat(child).unwrap().kind == Kind::Dir {
            assert_eq!(index.parent(child).unwrap(), ino);
        }
    }
}

/// The ranges of a file cover it from its start to its end. Returns its size.
fn look_at_file(index: &Index, ino: u64) -> u64 {
    let layout = index.layout(ino).unwrap();
    let mut covered = 0;
    for range in layout.ranges(0, u64::MAX) {
        assert!(range.length > 0 && (range.blob as usize) < index.blobs().len());
        covered += range.length;
    }
    assert_eq!(covered, layout.size());
    let middle = layout.ranges(covered / 2, 1);
    assert_eq!(
        middle.map(|range| range.length).sum::<u64>(),
        u64::from(covered > 0)
    );
    covered
}
