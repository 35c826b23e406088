//! Rootfs blobs that the original wrote: read, written again, and looked at as trees.

use puzzlefs_core::decode::decode;
use puzzlefs_core::encode::encode;
use puzzlefs_core::index::Index;
use puzzlefs_core::metadata::Kind;
use puzzlefs_core::tables::{COMPRESSED, Record, Vector};

const EMPTY: &[u8] = include_bytes!("data/empty.rootfs");
const KINDS: &[u8] = include_bytes!("data/kinds.rootfs");
/// Two layers, the upper one with whiteouts that its directories still list.
const DELTA: &[u8] = include_bytes!("data/delta.rootfs");
/// Compressed chunks, several segments.
const TEXT: &[u8] = include_bytes!("data/text.rootfs");

#[test]
fn decoding_and_encoding_gives_the_same_bytes() {
    for (name, blob) in [
        ("empty", EMPTY),
        ("kinds", KINDS),
        ("delta", DELTA),
        ("text", TEXT),
    ] {
        let tables = decode(blob).unwrap_or_else(|error| panic!("{name}: {error}"));
        let again = encode(&tables).unwrap_or_else(|error| panic!("{name}: {error}"));
        assert!(again == blob, "{name}: other bytes");
    }
}

/// Tables as they cross to Python and back are the same tables.
#[test]
fn packing_and_unpacking_gives_the_same_tables() {
    for vector in decode(DELTA).unwrap().vectors {
        let again = Vector {
            inodes: Record::unpack(&Record::pack(&vector.inodes)).unwrap(),
            entries: Record::unpack(&Record::pack(&vector.entries)).unwrap(),
            chunks: Record::unpack(&Record::pack(&vector.chunks)).unwrap(),
            xattrs: Record::unpack(&Record::pack(&vector.xattrs)).unwrap(),
            heap: vector.heap.clone(),
        };
        assert_eq!(again, vector);
    }
}

fn names(index: &Index, ino: u64) -> Vec<String> {
    let entries = index.entries(ino, 0, usize::MAX).unwrap();
    entries
        .map(|(name, _)| String::from_utf8_lossy(name).into_owned())
        .collect()
}

#[test]
fn an_empty_tree_is_a_root() {
    let index = Index::new(EMPTY).unwrap();
    assert_eq!(index.inodes().collect::<Vec<_>>(), [1]);
    let root = index.stat(1).unwrap();
    assert_eq!((root.kind, root.nlink, root.size), (Kind::Dir, 2, 0));
    assert_eq!(index.parent(1), Ok(1));
    assert!(names(&index, 1).is_empty() && index.blobs().is_empty());
}

#[test]
fn whiteouts_hide_names() {
    let (base, delta) = (Index::new(KINDS).unwrap(), Index::new(DELTA).unwrap());
    let (before, after) = (names(&base, 1), names(&delta, 1));
    assert!(before.contains(&"null".into()) && !after.contains(&"null".into()));
    assert!(!before.contains(&"hello2".into()) && after.contains(&"hello2".into()));
    let a = delta.lookup(1, b"a").unwrap().unwrap();
    assert_eq!(delta.lookup(a, b"b").unwrap(), None);
    assert!(delta.highest_ino() > base.highest_ino());
}

#[test]
fn a_file_lies_in_its_chunks() {
    let index = Index::new(TEXT).unwrap();
    let files = index
        .inodes()
        .filter(|&ino| index.stat(ino).unwrap().kind == Kind::File);
    let mut total = 0;
    for ino in files {
        let layout = index.layout(ino).unwrap();
        assert_eq!(
            layout
                .ranges(0, u64::MAX)
                .map(|range| range.length)
                .sum::<u64>(),
            layout.size()
        );
        assert!(
            layout
                .chunks()
                .iter()
                .any(|chunk| chunk.flags & COMPRESSED != 0)
        );
        total += u128::from(layout.size());
    }
    assert_eq!(total, index.content_bytes());
    assert!(index.blobs().iter().all(|blob| blob.verity != [0; 32]));
}
