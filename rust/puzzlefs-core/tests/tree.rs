//! The merged tree, and what the writer refuses.

use puzzlefs_core::encode::encode;
use puzzlefs_core::index::Index;
use puzzlefs_core::metadata::Kind;
use puzzlefs_core::tables::{
    ChunkRow, EntryRow, HAS_ADDITIONAL, InodeRow, Tables, Vector, VerityRow, XattrRow,
};
use puzzlefs_core::{Error, Rule};

/// An inode of a layer, written short.
enum Node {
    Dir(u64, Vec<(&'static str, u64)>),
    File(u64, Vec<u64>),
    Plain(u64, Kind),
}

fn add(vector: &mut Vector, node: Node) {
    let (ino, kind, first, count) = match node {
        Node::Plain(ino, kind) => (ino, kind, 0, 0),
        Node::File(ino, lengths) => {
            let first = vector.chunks.len();
            let row = |&length: &u64| ChunkRow {
                blob: 0,
                flags: 0,
                offset: 1,
                length,
            };
            vector.chunks.extend(lengths.iter().map(row));
            (ino, Kind::File, first as u64, lengths.len() as u64)
        }
        Node::Dir(ino, entries) => {
            let first = vector.entries.len();
            for (name, child) in &entries {
                let (name_offset, name_length) = (vector.heap.len() as u64, name.len() as u32);
                vector.heap.extend(name.as_bytes());
                vector.entries.push(EntryRow {
                    ino: *child,
                    name_offset,
                    name_length,
                    reserved: 0,
                });
            }
            (ino, Kind::Dir, first as u64, entries.len() as u64)
        }
    };
    vector.inodes.push(InodeRow {
        ino,
        kind: kind as u16,
        permissions: 0o644,
        uid: 1,
        gid: 2,
        first,
        count,
        ..InodeRow::default()
    });
}

/// Tables of these layers, uppermost first; all chunks are of one blob.
fn tables(layers: Vec<Vec<Node>>) -> Tables {
    let vector = |nodes: Vec<Node>| {
        let mut vector = Vector::default();
        nodes.into_iter().for_each(|node| add(&mut vector, node));
        vector
    };
    let verity = vec![
        VerityRow {
            digest: [1; 32],
            verity: [2; 32],
        },
        VerityRow {
            digest: [1; 32],
            verity: [3; 32],
        },
    ];
    let vectors = layers.into_iter().map(vector).collect();
    Tables {
        digests: vec![[1; 32]],
        verity,
        vectors,
    }
}

fn index(layers: Vec<Vec<Node>>) -> Result<Index, Error> {
    Index::new(&encode(&tables(layers)).expect("the tables agree"))
}

fn names(index: &Index, ino: u64) -> Vec<(String, u64)> {
    let entries = index.entries(ino, 0, usize::MAX).expect("a directory");
    entries
        .map(|(name, ino)| (String::from_utf8_lossy(name).into_owned(), ino))
        .collect()
}

use Node::{Dir, File, Plain};

#[test]
fn rules_of_the_tree() {
    let cases = [
        (vec![], Rule::NoRootDirectory),
        (vec![vec![Dir(2, vec![])]], Rule::NoRootDirectory),
        (vec![vec![File(1, vec![])]], Rule::NoRootDirectory),
        (
            vec![vec![Plain(1, Kind::Wht)], vec![Dir(1, vec![])]],
            Rule::NoRootDirectory,
        ),
        (
            vec![vec![Dir(1, vec![("a", 2)])]],
            Rule::EntryOfMissingInode,
        ),
        (
            vec![vec![Dir(1, vec![("a", 0)])]],
            Rule::EntryOfMissingInode,
        ),
        (
            vec![vec![Dir(1, vec![("a", 1)])]],
            Rule::DirectoryWithTwoParents,
        ),
        (
            vec![vec![Dir(1, vec![("a", 2), ("b", 2)]), Dir(2, vec![])]],
            Rule::DirectoryWithTwoParents,
        ),
        (
            vec![vec![Dir(1, vec![("a", 2)]), Dir(2, vec![("b", 2)])]],
            Rule::DirectoryWithTwoParents,
        ),
        (
            vec![vec![
                Dir(1, vec![("a", 2), ("b", 2), ("a", 2)]),
                Plain(2, Kind::Fifo),
            ]],
            Rule::DuplicateName,
        ),
    ];
    for (row, (layers, rule)) in cases.into_iter().enumerate() {
        assert_eq!(
            index(layers).err(),
            Some(Error::Corrupt(rule)),
            "case {row}"
        );
    }
}

#[test]
fn layers_cover_each_other() {
    let upper = vec![
        Dir(
            1,
            vec![("gone", 3), ("z", 2), ("b", 4), ("a", 5), ("again", 5)],
        ),
        Plain(3, Kind::Wht),
        File(5, vec![10, 0, 20]),
        Plain(9, Kind::Wht),
    ];
    // The root below is covered whole; number 6 is in no directory that is left.
    let lower = vec![
        Dir(1, vec![("gone", 3), ("lost", 6)]),
        Dir(2, vec![("c", 4)]),
        File(3, vec![1]),
        Plain(4, Kind::Sock),
        Plain(5, Kind::Fifo),
        Plain(6, Kind::Fifo),
    ];
    let index = index(vec![upper, lower]).expect("a sound image");
    let wanted = [("a", 5), ("again", 5), ("b", 4), ("z", 2)].map(|(name, ino)| (name.into(), ino));
    assert_eq!(names(&index, 1), wanted);
    assert_eq!(index.inodes().collect::<Vec<_>>(), [1, 2, 4, 5]);
    let links = [1, 2, 4, 5].map(|ino| index.stat(ino).map(|stat| stat.nlink));
    assert_eq!(links, [Ok(3), Ok(2), Ok(2), Ok(2)]);
    assert_eq!((index.highest_ino(), index.content_bytes()), (9, 30));
    assert_eq!(
        index.stat(5).map(|stat| (stat.kind, stat.size)),
        Ok((Kind::File, 30))
    );
    assert_eq!(index.lookup(1, b"again"), Ok(Some(5)));
    assert_eq!(index.lookup(1, b"gone"), Ok(None));
    assert_eq!((index.parent(2), index.parent(1)), (Ok(1), Ok(1)));
    for hidden in [0, 3, 6, 9, u64::MAX] {
        assert_eq!(index.stat(hidden), Err(Error::NoInode(hidden)));
    }
    assert_eq!(index.lookup(5, b"x"), Err(Error::NotDirectory(5)));
    assert_eq!(index.layout(4).err(), Some(Error::NoInode(4)));
    // Of two verity entries of one blob, the first counts.
    assert_eq!(
        index.blobs(),
        [VerityRow {
            digest: [1; 32],
            verity: [2; 32]
        }]
    );
}

#[test]
fn a_large_directory_out_of_order() {
    let count = 100_000_u64;
    let mut tables = tables(vec![vec![Dir(1, vec![])]]);
    let vector = &mut tables.vectors[0];
    for row in 0..count {
        // A multiplier without a common factor puts every number once, far from its neighbours.
        let name = format!("{:06}", row * 77_777 % count);
        let name_offset = vector.heap.len() as u64;
        vector.heap.extend(name.as_bytes());
        vector.entries.push(EntryRow {
            ino: row + 2,
            name_offset,
            name_length: 6,
            reserved: 0,
        });
        add(vector, Plain(row + 2, Kind::Fifo));
    }
    vector.inodes[0].count = count;
    let index = Index::new(&encode(&tables).expect("the tables agree")).expect("a sound image");
    assert_eq!(index.inode_count(), count as usize + 1);
    let part: Vec<_> = index.entries(1, 50_000, 2).expect("a directory").collect();
    assert_eq!((part[0].0, part[1].0), (&b"050000"[..], &b"050001"[..]));
    let row = (0..count)
        .find(|row| row * 77_777 % count == 50_000)
        .expect("every number is there");
    assert_eq!(index.lookup(1, b"050000"), Ok(Some(row + 2)));
    assert_eq!(
        index
            .entries(1, count as usize, 1)
            .expect("a directory")
            .len(),
        0
    );
}

#[test]
fn segments_grow_as_the_original_grows_them() {
    let mut tables = tables(vec![vec![]]);
    let vector = &mut tables.vectors[0];
    for ino in 1..=3000 {
        add(vector, File(ino, vec![1; 3]));
    }
    let blob = encode(&tables).expect("the tables agree");
    let (halves, _) = blob.as_chunks();
    let words: Vec<u32> = halves
        .iter()
        .map(|half| u32::from_le_bytes(*half))
        .collect();
    let count = words[0] as usize + 1;
    // Room for 1,024; for the list of inodes alone; for all before and 1,024; for twice that.
    assert_eq!(words[1..=count], [1021, 15_002, 17_048, 34_098, 34_864]);
}

#[test]
fn tables_that_contradict_themselves() {
    type Change = fn(&mut Vector);
    let broken = |change: Change| {
        let mut tables = tables(vec![vec![Dir(1, vec![("a", 2)]), File(2, vec![3])]]);
        let xattr = XattrRow {
            key_offset: 0,
            value_offset: 0,
            key_length: 1,
            value_length: 1,
        };
        tables.vectors[0].xattrs.push(xattr);
        change(&mut tables.vectors[0]);
        encode(&tables).err()
    };
    let cases: [(&str, Change); 11] = [
        ("unknown inode kind", |vector| vector.inodes[0].kind = 9),
        ("an inode selects rows outside its table", |vector| {
            vector.inodes[0].count = 2
        }),
        ("an inode selects rows outside its table", |vector| {
            vector.inodes[1].first = u64::MAX
        }),
        ("an inode selects rows outside its table", |vector| {
            vector.inodes[1].xattr_count = 2
        }),
        ("a record points outside the heap", |vector| {
            vector.inodes[0].link_length = 2
        }),
        (
            "attributes or a link target without HAS_ADDITIONAL",
            |vector| {
                vector.inodes[0].xattr_count = 1;
            },
        ),
        ("inode numbers do not ascend", |vector| {
            vector.inodes[1].ino = 1
        }),
        ("inode numbers do not ascend", |vector| {
            vector.inodes[0].ino = 0
        }),
        ("a chunk names a blob outside the digest table", |vector| {
            vector.chunks[0].blob = 1
        }),
        ("a record points outside the heap", |vector| {
            vector.entries[0].name_offset = u64::MAX
        }),
        ("a record points outside the heap", |vector| {
            vector.xattrs[0].value_length = 2
        }),
    ];
    for (text, change) in cases {
        assert_eq!(broken(change), Some(Error::Contradiction(text)));
    }
    assert_eq!(
        broken(|vector| vector.inodes[0].flags = HAS_ADDITIONAL),
        None
    );
}

#[test]
fn times_make_inodes_longer() {
    let mut tables = tables(vec![vec![Dir(1, vec![])], vec![Dir(1, vec![])]]);
    let plain = encode(&tables).expect("the tables agree");
    tables.vectors[1].inodes[0].mtime_sec = -5;
    tables.vectors[1].inodes[0].mtime_nsec = 7;
    let timed = encode(&tables).expect("the tables agree");
    assert_eq!(timed.len(), plain.len() + 8);
    let decoded = puzzlefs_core::decode::decode(&timed).expect("a sound image");
    assert_eq!(decoded.vectors[1].inodes[0].mtime_sec, -5);
    assert_eq!(decoded.vectors[1].inodes[0].mtime_nsec, 7);
}
