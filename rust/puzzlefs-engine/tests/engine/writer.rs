//! A build gives the same whatever the number of jobs, and leaves nothing half done.

use std::collections::HashSet;
use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::thread;
use std::time::Duration;

use crate::scratch::{Scratch, noise, shapes, text};
use puzzlefs_core::chunk::chunks;
use puzzlefs_core::digest::{Hex, sha256};
use puzzlefs_core::pack::PackRule;
use puzzlefs_core::verity::verity_digest;
use puzzlefs_core::{Error, Result};
use puzzlefs_engine::{Compression, Form, Stored, codec};

const EVERY: [Compression; 3] = [
    Compression::None,
    Compression::Upstream,
    Compression::Frames(32 << 10),
];

/// The chunk that a stored blob holds.
fn chunk_of(scratch: &Scratch, stored: &Stored, row: usize) -> Vec<u8> {
    let bytes = fs::read(scratch.blob_path(stored, row)).unwrap();
    let blob = stored.blobs[row];
    assert_eq!(
        (sha256(&bytes), bytes.len() as u64),
        (blob.digest, blob.size)
    );
    let chunk = if blob.flags == 0 {
        bytes
    } else {
        codec::decompress(&bytes).unwrap()
    };
    assert_eq!(chunk.len() as u64, blob.raw_size);
    chunk
}

#[test]
fn blobs_are_the_chunks_and_rows_cover_the_files() {
    for compression in EVERY {
        let scratch = Scratch::new(shapes());
        let stored = scratch.build(compression, 3).unwrap();
        let stream = scratch.contents().concat();
        let wanted: Vec<&[u8]> = chunks(&stream).collect();
        let blobs: Vec<Vec<u8>> = (0..stored.blobs.len())
            .map(|row| chunk_of(&scratch, &stored, row))
            .collect();
        let found: Vec<&[u8]> = stored
            .stream
            .iter()
            .map(|&row| blobs[row as usize].as_slice())
            .collect();
        assert!(found == wanted, "{compression:?}");
        let distinct: HashSet<&[u8]> = wanted.iter().copied().collect();
        assert_eq!(distinct.len(), blobs.len());
        let mut rows = stored.chunks.iter();
        for (content, &count) in scratch.contents().iter().zip(&stored.counts) {
            let parts = rows.by_ref().take(count as usize).map(|row| {
                assert_eq!(row.flags, stored.blobs[row.blob as usize].flags);
                &blobs[row.blob as usize][row.offset as usize..][..row.length as usize]
            });
            assert!(parts.collect::<Vec<_>>().concat() == *content);
        }
        assert_eq!(rows.next(), None);
        assert!(scratch.is_clean());
    }
}

#[test]
fn verity_is_of_the_stored_bytes_except_as_the_original_has_it() {
    let chunk = noise(5, 10_000);
    let scratch = Scratch::new(vec![chunk.clone()]);
    let verity = |compression| scratch.build(compression, 1).unwrap().blobs[0].verity;
    assert_eq!(verity(Compression::None), verity_digest(&chunk));
    assert_eq!(verity(Compression::Frames(4096)), verity_digest(&chunk));
    let compressed = codec::compress_upstream(&chunk).unwrap();
    assert_eq!(verity(Compression::Upstream), verity_digest(&compressed));
}

/// Every compression without packs, and packs raw and compressed.
fn forms() -> Vec<Form> {
    let packs = PackRule::new(256 << 10);
    let plain = EVERY.map(|compression| Form {
        compression,
        packs: None,
    });
    let packed = [64 << 10, 512 << 10].map(|size| Form {
        compression: Compression::Frames(size),
        packs,
    });
    let raw = Form {
        compression: Compression::None,
        packs,
    };
    [&plain[..], &packed, &[raw]].concat()
}

#[test]
fn any_number_of_jobs_gives_the_same() {
    let mut contents = shapes();
    contents.extend((0..8).map(|seed| text(seed % 5, 100_000)));
    contents.extend((0..3).map(|seed| noise(seed + 40, 200_000)));
    for form in forms() {
        let results: Vec<(Stored, [u64; 6])> = [1, 2, 8]
            .map(|jobs| {
                let scratch = Scratch::new(contents.clone());
                let writer = scratch.writer_of(form, jobs);
                let stored = scratch.run(&writer, &scratch.rows()).unwrap();
                assert!(scratch.is_clean());
                (stored, writer.progress())
            })
            .into();
        assert_eq!(results[0], results[1]);
        assert_eq!(results[0], results[2]);
        let [files, bytes, chunks, repeated, written, _] = results[0].1;
        assert_eq!(files as usize, contents.len());
        assert_eq!(bytes as usize, contents.concat().len());
        assert_eq!(chunks as usize, results[0].0.stream.len());
        let unique: u64 = results[0].0.blobs.iter().map(|blob| blob.raw_size).sum();
        assert_eq!(repeated, bytes - unique);
        assert_eq!(
            written,
            results[0].0.blobs.iter().map(|blob| blob.size).sum::<u64>()
        );
    }
}

#[test]
fn packs_give_the_files_back() {
    let mut contents = shapes();
    contents.extend((0..8).map(|seed| text(seed, 200_000)));
    for form in forms() {
        let scratch = Scratch::new(contents.clone());
        let stored = scratch
            .run(&scratch.writer_of(form, 2), &scratch.rows())
            .unwrap();
        let blobs: Vec<Vec<u8>> = (0..stored.blobs.len())
            .map(|row| chunk_of(&scratch, &stored, row))
            .collect();
        let mut rows = stored.chunks.iter();
        for (content, &count) in scratch.contents().iter().zip(&stored.counts) {
            let parts = rows
                .by_ref()
                .take(count as usize)
                .map(|row| &blobs[row.blob as usize][row.offset as usize..][..row.length as usize]);
            assert!(parts.collect::<Vec<_>>().concat() == *content);
        }
        if let Some(rule) = form.packs {
            assert!(blobs.len() * 2 < stored.stream.len());
            assert!(
                blobs
                    .iter()
                    .all(|blob| blob.len() as u64 <= rule.greatest())
            );
        }
    }
}

#[test]
fn a_stream_may_be_longer_than_all_blocks() {
    let scratch = Scratch::new(vec![vec![0; 24 << 20], text(1, 100_000)]);
    let stored = scratch.build(Compression::None, 2).unwrap();
    let zeros = 96;
    assert!(stored.stream[..zeros].iter().all(|&row| row == 0));
    assert_eq!(stored.chunks[0].length, 256 << 10);
    assert!(stored.blobs.len() > 1);
}

#[test]
fn what_is_stored_is_kept_and_what_has_another_size_replaced() {
    let scratch = Scratch::new(shapes());
    let stored = scratch.build(Compression::None, 2).unwrap();
    let inode = |row| fs::metadata(scratch.blob_path(&stored, row)).unwrap().ino();
    let before = inode(0);
    fs::write(scratch.blob_path(&stored, 1), b"cut short").unwrap();
    let writer = scratch.writer(Compression::None, 2);
    assert_eq!(scratch.run(&writer, &scratch.rows()).unwrap(), stored);
    assert_eq!(inode(0), before);
    assert_eq!(writer.progress()[4], stored.blobs[1].size);
    chunk_of(&scratch, &stored, 1);
}

#[test]
fn a_changed_file_stops_the_build() {
    let mut contents = shapes();
    contents.extend((0..20).map(|seed| noise(seed, 100_000)));
    for victim in [0, 2, 45] {
        for jobs in [1, 4] {
            let scratch = Scratch::new(contents.clone());
            let rows = scratch.rows();
            let path = format!("file{victim:05}");
            fs::write(scratch.path("root").join(&path), b"longer than nothing").unwrap();
            let error = scratch.run(&scratch.writer(Compression::None, jobs), &rows);
            assert_eq!(
                error,
                Err(Error::SourceChanged {
                    path: path.into_bytes()
                })
            );
            assert!(scratch.is_clean());
        }
    }
}

#[test]
fn the_first_error_of_the_stream_is_told() {
    for jobs in [1, 2, 8] {
        let scratch = Scratch::new((0..30).map(|seed| noise(seed, 400_000)).collect());
        let stored = scratch.build(Compression::None, 2).unwrap();
        let rows = scratch.rows();
        let blocked = |number: usize| {
            let path = scratch.blob_path(&stored, number);
            fs::remove_file(&path).unwrap();
            fs::create_dir(&path).unwrap();
            path.into_os_string().into_encoded_bytes()
        };
        fs::remove_file(scratch.path("root/file00025")).unwrap();
        blocked(60);
        let first = blocked(40);
        blocked(41);
        let error = scratch.run(&scratch.writer(Compression::None, jobs), &rows);
        assert_eq!(
            error,
            Err(Error::Store {
                path: first,
                errno: 21
            }),
            "{jobs} jobs"
        );
        fs::remove_file(scratch.path("root/file00000")).unwrap();
        let error = scratch.run(&scratch.writer(Compression::None, jobs), &rows);
        assert_eq!(
            error,
            Err(Error::Source {
                path: b"file00000".into(),
                errno: 2
            })
        );
        assert!(scratch.is_clean());
    }
}

#[test]
fn a_build_that_cannot_succeed_reads_no_more() {
    let total = 24 << 20;
    let scratch = Scratch::new(vec![vec![0; total]]);
    let path = scratch
        .path("blobs")
        .join(Hex(&sha256(&[0; 256 << 10])).to_string());
    fs::create_dir(&path).unwrap();
    let writer = scratch.writer(Compression::None, 1);
    let error = scratch.run(&writer, &scratch.rows());
    let path = path.into_os_string().into_encoded_bytes();
    assert_eq!(error, Err(Error::Store { path, errno: 21 }));
    assert!(writer.progress()[1] < total as u64);
}

#[test]
fn a_cancelled_build_leaves_nothing_unfinished() {
    let scratch = Scratch::new((0..60).map(|seed| noise(seed, 1 << 20)).collect());
    let rows = scratch.rows();
    let writer = scratch.writer(Compression::Frames(4096), 3);
    let result: Result<Stored> = thread::scope(|scope| {
        let build = scope.spawn(|| scratch.run(&writer, &rows));
        while writer.progress()[2] == 0 {
            thread::sleep(Duration::from_micros(50));
        }
        writer.cancel();
        build.join().unwrap()
    });
    assert_eq!(result, Err(Error::Cancelled));
    assert!(writer.progress()[0] < 60);
    assert!(scratch.is_clean());
}

#[test]
fn missing_directories_are_named() {
    let scratch = Scratch::new(vec![b"x".to_vec()]);
    fs::remove_dir(scratch.path("temporary")).unwrap();
    let path = scratch
        .path("temporary")
        .into_os_string()
        .into_encoded_bytes();
    let error = scratch.build(Compression::None, 1);
    assert_eq!(error, Err(Error::Store { path, errno: 2 }));
    let rows = scratch.rows();
    fs::remove_dir_all(scratch.path("root")).unwrap();
    let error = scratch.run(&scratch.writer(Compression::None, 1), &rows);
    assert_eq!(
        error,
        Err(Error::Source {
            path: b".".into(),
            errno: 2
        })
    );
}
