//! Every rule about a rootfs blob, broken by a blob that breaks no other before it.

use puzzlefs_core::decode::decode;
use puzzlefs_core::error::Error::{self, Corrupt};
use puzzlefs_core::error::Unsupported;
use puzzlefs_core::index::Index;
use puzzlefs_core::{Rule, encode};

const KINDS: &[u8] = include_bytes!("data/kinds.rootfs");

/// Frames segments of words as a message.
fn framed(segments: &[&[u64]]) -> Vec<u8> {
    let mut halves = vec![segments.len() as u32 - 1];
    halves.extend(segments.iter().map(|segment| segment.len() as u32));
    if halves.len() % 2 == 1 {
        halves.push(0);
    }
    let mut blob: Vec<u8> = halves.iter().flat_map(|half| half.to_le_bytes()).collect();
    blob.extend(segments.concat().iter().flat_map(|word| word.to_le_bytes()));
    blob
}

/// A pointer to a struct `offset` words after it.
const fn structure(offset: i32, data: u16, pointers: u16) -> u64 {
    (offset as u32 as u64) << 2 & 0xffff_fffc | (data as u64) << 32 | (pointers as u64) << 48
}

/// A pointer to a list with this element code and count.
const fn list(offset: i32, code: u64, count: u64) -> u64 {
    (offset as u32 as u64) << 2 & 0xffff_fffc | 1 | code << 32 | count << 35
}

const fn far(segment: u64, word: u64, double: bool) -> u64 {
    2 | (double as u64) << 2 | word << 3 | segment << 32
}

/// A struct list's tag.
const fn tag(count: u64, data: u16, pointers: u16) -> u64 {
    count << 2 | (data as u64) << 32 | (pointers as u64) << 48
}

/// A message of one segment whose root has version 3 and this pointer to its layers, then `rest`.
/// The pointer is word 2, so that an offset of 0 means `rest`.
fn rooted(layers: u64, rest: &[u64]) -> Vec<u8> {
    let mut words = vec![structure(0, 1, 1), 3, layers];
    words.extend(rest);
    framed(&[&words])
}

fn failure(blob: &[u8]) -> Error {
    decode(blob).expect_err("the blob is malformed")
}

#[test]
fn framing() {
    let cases: [(&[u8], Rule); 7] = [
        (&[], Rule::TruncatedSegmentTable),
        (&[0; 7], Rule::TruncatedSegmentTable),
        (&[1, 0, 0, 0, 0, 0, 0, 0], Rule::TruncatedSegmentTable),
        (&[0, 2, 0, 0, 0, 0, 0, 0], Rule::TooManySegments),
        (&[255; 8], Rule::TooManySegments),
        (&[0, 0, 0, 0, 1, 0, 0, 0], Rule::SegmentsDoNotFill),
        (&[0, 0, 0, 0, 0, 0, 0, 0, 9], Rule::SegmentsDoNotFill),
    ];
    for (blob, rule) in cases {
        assert_eq!(failure(blob), Corrupt(rule), "{blob:?}");
    }
    assert_eq!(failure(&vec![0; (1 << 30) + 1]), Corrupt(Rule::TooLarge));
}

#[test]
fn the_root_pointer() {
    let cases: [(&[&[u64]], Rule); 9] = [
        (&[&[]], Rule::ObjectOutOfBounds),
        (&[&[list(0, 7, 0), 0]], Rule::WrongPointerKind),
        (&[&[3]], Rule::WrongPointerKind),
        (&[&[structure(0, 1, 0)]], Rule::ObjectOutOfBounds),
        (&[&[structure(-2, 0, 0)]], Rule::ObjectOutOfBounds),
        (&[&[far(1, 0, false)]], Rule::FarPointerOutOfBounds),
        (&[&[far(0, 1, false)]], Rule::FarPointerOutOfBounds),
        (
            &[&[far(1, 0, false)], &[far(0, 0, false)]],
            Rule::NestedFarPointer,
        ),
        (&[&[structure(-1, 1, 0)]], Rule::ObjectsOverlap),
    ];
    for (segments, rule) in cases {
        assert_eq!(failure(&framed(segments)), Corrupt(rule), "{segments:x?}");
    }
}

#[test]
fn double_far_pointers() {
    let pad = |first, second| failure(&framed(&[&[far(1, 0, true)], &[first, second, 3]]));
    let version = Unsupported::ManifestVersion;
    let cases = [
        (
            far(1, 2, false),
            structure(0, 2, 0),
            Corrupt(Rule::ObjectOutOfBounds),
        ),
        (
            far(1, 2, false),
            far(1, 2, false),
            Corrupt(Rule::NestedFarPointer),
        ),
        (
            far(1, 2, true),
            structure(0, 1, 0),
            Corrupt(Rule::FarPointerOutOfBounds),
        ),
        (
            structure(0, 1, 0),
            structure(0, 1, 0),
            Corrupt(Rule::FarPointerOutOfBounds),
        ),
        (
            far(2, 0, false),
            structure(0, 1, 0),
            Corrupt(Rule::FarPointerOutOfBounds),
        ),
        (
            far(1, 4, false),
            structure(0, 1, 0),
            Corrupt(Rule::FarPointerOutOfBounds),
        ),
        // An object of no words may stand at the very end; the offset in the tag means nothing.
        (far(1, 3, false), structure(77, 0, 0), version(0).into()),
    ];
    for (first, second, wanted) in cases {
        assert_eq!(pad(first, second), wanted, "{first:x} {second:x}");
    }
    let short = framed(&[&[far(1, 0, true)], &[far(1, 0, false)]]);
    assert_eq!(failure(&short), Corrupt(Rule::FarPointerOutOfBounds));
    let sound = framed(&[
        &[far(1, 0, true)],
        &[far(1, 2, false), structure(0, 1, 0), 3],
    ]);
    assert!(decode(&sound).is_ok());
}

#[test]
fn the_list_of_layers() {
    let cases: [(u64, &[u64], Rule); 8] = [
        (structure(-1, 0, 0), &[], Rule::WrongPointerKind),
        (list(0, 6, 0), &[0], Rule::WrongElementSize),
        (list(0, 7, 0), &[], Rule::ObjectOutOfBounds),
        (list(0, 7, 1), &[tag(1, 0, 1)], Rule::ObjectOutOfBounds),
        (list(0, 7, 0), &[tag(0, 0, 1) | 1], Rule::WrongElementSize),
        (list(0, 7, 1), &[tag(2, 0, 1), 0], Rule::ObjectOutOfBounds),
        // Elements of no words cost one each, so that they cannot be many.
        (list(0, 7, 0), &[tag(1 << 29, 0, 0)], Rule::ObjectsOverlap),
        (
            list(0, 7, 4097),
            &[&[tag(4097, 0, 1)][..], &[0; 4097]].concat(),
            Rule::TooManyLayers,
        ),
    ];
    for (pointer, rest, rule) in cases {
        assert_eq!(
            failure(&rooted(pointer, rest)),
            Corrupt(rule),
            "{pointer:x}"
        );
    }
    // Two lists in one place: each is paid for, and the words do not last.
    let vector = list(1, 7, 3);
    let again = list(0, 7, 3);
    let rest = [tag(2, 0, 1), vector, again, tag(1, 3, 0), 1, 1, 0];
    assert_eq!(
        failure(&rooted(list(0, 7, 2), &rest)),
        Corrupt(Rule::ObjectsOverlap)
    );
}

#[test]
fn version_and_features() {
    let version = framed(&[&[structure(0, 1, 0), 4]]);
    assert_eq!(failure(&version), Unsupported::ManifestVersion(4).into());
    let features = framed(&[&[structure(0, 2, 0), 4, 0x1f]]);
    assert_eq!(
        failure(&features),
        Unsupported::RequiredFeatures(0x1f).into()
    );
    let text = failure(&features).to_string();
    assert_eq!(text, "rootfs: required feature bits 0x1f are not known");
}

/// One layer of one inode of four data words and two pointers, which stand before `rest`.
fn inode(words: [u64; 4], pointers: [u64; 2], rest: &[u64]) -> Vec<u8> {
    let mut all = vec![tag(1, 0, 1), list(0, 7, 6), tag(1, 4, 2)];
    all.extend(words);
    all.extend(pointers);
    all.extend(rest);
    rooted(list(0, 7, 1), &all)
}

/// Number 1 of this kind.
const fn kind(kind: u64) -> [u64; 4] {
    [1, kind, 0, 0]
}

#[test]
fn fields_of_an_inode() {
    let cases = [
        ([0, 1, 0, 0], Rule::InodeZero),
        (kind(0), Rule::UnknownKind),
        (kind(9), Rule::UnknownKind),
        (kind(1 | 0o10000 << 16), Rule::PermissionsOutOfRange),
        ([1, 1, 1_000_000_000 << 32, 0], Rule::NanosecondsOutOfRange),
        (kind(6), Rule::BadLinkTarget),
    ];
    for (words, rule) in cases {
        assert_eq!(
            failure(&inode(words, [0, 0], &[])),
            Corrupt(rule),
            "{words:x?}"
        );
    }
    let rest = [tag(1, 0, 1), list(0, 7, 4), tag(2, 2, 0), 5, 1, 5, 1];
    assert_eq!(
        failure(&rooted(list(0, 7, 1), &rest)),
        Corrupt(Rule::InodesDoNotAscend)
    );
    assert!(
        decode(&inode(
            [1, 1 | 0o7777 << 16, 999_999_999 << 32, 0],
            [0, 0],
            &[]
        ))
        .is_ok()
    );
}

/// A directory with one entry, its name of `length` bytes in `name`.
fn named(length: u64, name: &[u64]) -> Vec<u8> {
    let mut rest = vec![0, list(0, 7, 2), tag(1, 1, 1), 1, list(0, 2, length)];
    rest.extend(name);
    inode(kind(3), [structure(1, 1, 1), 0], &rest)
}

#[test]
fn names() {
    let word = |text: &[u8; 8]| u64::from_le_bytes(*text);
    let cases = [
        (0, vec![]),
        (1, vec![word(b".\0\0\0\0\0\0\0")]),
        (2, vec![word(b"..\0\0\0\0\0\0")]),
        (3, vec![word(b"a/b\0\0\0\0\0")]),
        (3, vec![word(b"a\0b\0\0\0\0\0")]),
        (256, vec![word(b"aaaaaaaa"); 32]),
    ];
    for (length, name) in cases {
        assert_eq!(
            failure(&named(length, &name)),
            Corrupt(Rule::BadEntryName),
            "{length}"
        );
    }
    assert!(decode(&named(3, &[word(b"...\0\0\0\0\0")])).is_ok());
    assert!(decode(&named(255, &[word(b"aaaaaaaa"); 32])).is_ok());
    let below = inode(kind(3), [structure(1, 1, 0), 0], &[1]);
    assert_eq!(failure(&below), Unsupported::LookBelow.into());
}

/// A file of chunks (offset, length), each with a digest of `digest` bytes.
fn file(chunks: &[(u64, u64)], digest: u64) -> Vec<u8> {
    let count = chunks.len();
    let mut rest = vec![tag(count as u64, 1, 1)];
    for (row, &(_, length)) in chunks.iter().enumerate() {
        // Past the list's other rows, and what the rows before hold: three words and four of digest.
        let offset = 2 * (count - row - 1) + 7 * row;
        rest.extend([length, structure(offset as i32, 2, 1)]);
    }
    for &(offset, _) in chunks {
        rest.extend([offset, 0, list(0, 2, digest), 1, 2, 3, 4]);
    }
    inode(kind(5), [list(1, 7, 2 * count as u64), 0], &rest)
}

#[test]
fn files() {
    let limit = (1 << 63) - 1;
    let cases = [
        (&[(0, 1)][..], 31, Rule::BadDigestLength),
        (&[(0, 1)], 0, Rule::BadDigestLength),
        (&[(0, limit + 1)], 32, Rule::FileTooLarge),
        (&[(1, limit)], 32, Rule::FileTooLarge),
        (&[(u64::MAX, 1)], 32, Rule::FileTooLarge),
        (&[(0, limit), (0, 1)], 32, Rule::FileTooLarge),
    ];
    for (chunks, digest, rule) in cases {
        assert_eq!(failure(&file(chunks, digest)), Corrupt(rule), "{chunks:?}");
    }
    assert!(decode(&file(&[(0, limit)], 32)).is_ok());
    let index = Index::new(&file(&[(5, 1), (7, 2)], 32));
    assert_eq!(index.err(), Some(Corrupt(Rule::NoRootDirectory)));
}

#[test]
fn additional() {
    let word = |text: &[u8; 8]| u64::from_le_bytes(*text);
    let xattr = |key: u64, value: u64, rest: &[u64]| {
        let mut all = vec![list(1, 7, 2), 0, tag(1, 0, 2), list(1, 2, key)];
        all.push(list(key.div_ceil(8) as i32, 2, value));
        all.extend(rest);
        failure(&inode(kind(1), [0, structure(0, 0, 2)], &all))
    };
    assert_eq!(xattr(0, 0, &[]), Corrupt(Rule::BadAttributeKey));
    assert_eq!(
        xattr(2, 0, &[word(b"a\0\0\0\0\0\0\0")]),
        Corrupt(Rule::BadAttributeKey)
    );
    assert_eq!(
        xattr(256, 0, &[word(b"aaaaaaaa"); 32]),
        Corrupt(Rule::BadAttributeKey)
    );
    let long = [&[word(b"aaaaaaaa")][..], &[0; 8193]].concat();
    assert_eq!(xattr(8, 65_537, &long), Corrupt(Rule::BadAttributeValue));
    let link = |length: u64, rest: &[u64]| {
        let all = [&[0, list(0, 2, length)][..], rest].concat();
        decode(&inode(kind(6), [0, structure(0, 0, 2)], &all)).map(drop)
    };
    assert_eq!(
        link(2, &[word(b"a\0\0\0\0\0\0\0")]),
        Err(Corrupt(Rule::BadLinkTarget))
    );
    assert_eq!(
        link(4096, &[word(b"aaaaaaaa"); 512]),
        Err(Corrupt(Rule::BadLinkTarget))
    );
    assert_eq!(link(4095, &[word(b"aaaaaaaa"); 512]), Ok(()));
    let entry = [tag(1, 0, 2), list(1, 2, 31), list(4, 2, 32)];
    let verity = [&[3, 0, list(0, 7, 2)][..], &entry, &[0; 8]].concat();
    let blob = framed(&[&[&[structure(0, 1, 2)][..], &verity].concat()]);
    assert_eq!(failure(&blob), Corrupt(Rule::BadVerityEntry));
}

#[test]
fn a_cut_or_flipped_blob_never_panics() {
    for length in 0..KINDS.len() {
        assert!(decode(&KINDS[..length]).is_err(), "{length} bytes");
    }
    for bit in 0..KINDS.len() * 8 {
        let mut blob = KINDS.to_vec();
        blob[bit / 8] ^= 1 << (bit % 8);
        if let Ok(tables) = decode(&blob) {
            encode::encode(&tables).unwrap_or_else(|error| panic!("bit {bit}: {error}"));
        }
        drop(Index::new(&blob));
    }
}
