//! Chunks into packs: what comes out of order is put in order, told from what came before, and given
//! a place.

use std::collections::{BTreeMap, HashMap};

use crossbeam_channel::Sender;
use puzzlefs_core::tables::{BlobRow, COMPRESSED, ContentRow};
use puzzlefs_core::{Digest, Result};

use crate::block::Chunk;
use crate::buffers::Buffers;
use crate::encoder::Encoded;
use crate::form::Form;
use crate::known::Known;
use crate::offered::Offered;
use crate::part::{Part, Stored};
use crate::progress::Progress;

/// Marks in the reserved field of a [`BlobRow`], in traces alone, that another image offered the blob.
pub const OFFERED: u32 = 1;

/// A chunk of the stream that was hashed, or is known.
pub struct Item {
    /// Its SHA-256.
    pub content: Digest,
    /// Bytes in it.
    pub length: u32,
    /// The chunk itself, if it was read.
    pub chunk: Option<Chunk>,
}

/// What became of one pack.
pub struct Pack {
    /// The number of its first chunk in the stream.
    pub first: usize,
    /// The SHA-256 of its chunk, if it has no other.
    sole: Option<Digest>,
    parts: Vec<Option<Encoded>>,
    missing: usize,
    is_closed: bool,
    /// Its blob, when it is stored.
    pub blob: Option<Result<BlobRow>>,
}

/// A pack that is complete: what is left is to hash and to store it.
pub struct Complete {
    /// Its number.
    pub pack: usize,
    /// The SHA-256 of its chunk, if it has no other.
    pub sole: Option<Digest>,
    /// Its parts.
    pub parts: Vec<Encoded>,
}

/// A pack that takes further chunks.
struct Open {
    number: usize,
    size: u64,
    part: Part,
    part_size: usize,
    /// The place after the chunks of an earlier pack that are all this one has so far.
    follows: Option<usize>,
    /// Parts that need no work if the pack is that earlier one.
    held: Vec<Part>,
}

/// The chunks of a build and their packs.
pub struct Packer<'a> {
    form: &'a Form,
    known: &'a Known,
    progress: &'a Progress,
    queue: Option<Sender<Part>>,
    buffers: Buffers,
    /// Where in the stream groups of files begin that it has not come to, and where it is.
    groups: &'a [u64],
    at: u64,
    early: BTreeMap<usize, Item>,
    /// How many chunks there are, and whether they are all of the stream.
    end: Option<(usize, bool)>,
    offered: &'a Offered,
    /// The numbers of the packs that stand for offered blobs, by their rows.
    offered_packs: HashMap<u32, u32>,
    rows: HashMap<Digest, u32>,
    open: Option<Open>,
    /// The distinct chunks in order of first use; for the blob, the number of the pack.
    pub chunks: Vec<ContentRow>,
    /// For each chunk in stream order its row in `chunks`.
    pub stream: Vec<u32>,
    /// The packs in order of first use.
    pub packs: Vec<Pack>,
}

impl<'a> Packer<'a> {
    /// Makes a packer that hands parts to `queue`. No pack goes on where a group of files begins.
    pub fn new(
        form: &'a Form,
        known: &'a Known,
        groups: &'a [u64],
        offered: &'a Offered,
        progress: &'a Progress,
        queue: Sender<Part>,
        buffers: Buffers,
    ) -> Self {
        Self {
            form,
            known,
            progress,
            queue: Some(queue),
            buffers,
            groups,
            at: 0,
            early: BTreeMap::new(),
            end: None,
            offered,
            offered_packs: HashMap::new(),
            rows: HashMap::new(),
            open: None,
            chunks: Vec::new(),
            stream: Vec::new(),
            packs: Vec::new(),
        }
    }

    /// Takes chunk `number` of the stream.
    pub fn take(&mut self, number: usize, item: Item) {
        self.early.insert(number, item);
        while let Some(item) = self.early.remove(&self.stream.len()) {
            self.add(item);
        }
        self.end_if_complete();
    }

    /// Says how many chunks there are, and whether they are all of the stream: else packs stay open.
    pub fn end(&mut self, count: usize, is_all: bool) {
        self.end = Some((count, is_all));
        self.end_if_complete();
    }

    /// Takes an encoded part; returns its pack if that is complete now.
    pub fn encoded(
        &mut self,
        pack: usize,
        number: usize,
        result: Result<Encoded>,
    ) -> Option<Complete> {
        let state = &mut self.packs[pack];
        match result {
            Ok(encoded) => state.parts[number] = Some(encoded),
            Err(error) => {
                self.settle(pack, Err(error));
                return None;
            }
        }
        state.missing -= 1;
        (state.is_closed && state.missing == 0 && state.blob.is_none()).then(|| Complete {
            pack,
            sole: state.sole,
            parts: state.parts.drain(..).flatten().collect(),
        })
    }

    /// Notes what became of a pack; of several errors the first counts.
    pub fn settle(&mut self, pack: usize, blob: Result<BlobRow>) {
        let state = &mut self.packs[pack];
        if blob.is_err() {
            self.progress.fail(state.first);
        }
        state.blob.get_or_insert(blob);
    }

    fn end_if_complete(&mut self) {
        let Some((_, is_all)) = self.end.filter(|end| end.0 == self.stream.len()) else {
            return;
        };
        self.end = None;
        if is_all {
            self.close();
        }
        self.queue = None;
    }

    fn add(&mut self, item: Item) {
        if let Some((start, rest)) = self.groups.split_first()
            && *start == self.at
        {
            self.groups = rest;
            self.close();
        }
        self.at += u64::from(item.length);
        let next = self.chunks.len() as u32;
        let row = *self.rows.entry(item.content).or_insert(next);
        self.stream.push(row);
        if row < next {
            self.progress.bytes_repeated(item.length as usize);
            return;
        }
        self.progress.chunk_new();
        if let Some(chunk) = self.offered.find(&item.content) {
            let blob = self.offered_pack(chunk.blob);
            self.chunks.push(ContentRow { blob, ..*chunk });
            return;
        }
        let (content, length) = (item.content, u64::from(item.length));
        let size = self.place(item);
        if self
            .form
            .packs
            .is_none_or(|rule| rule.ends(size, &content, length))
        {
            self.close();
        }
    }

    /// Returns the number of the pack that stands for an offered blob.
    fn offered_pack(&mut self, row: u32) -> u32 {
        let next = self.packs.len() as u32;
        let number = *self.offered_packs.entry(row).or_insert(next);
        if number == next {
            let blob = BlobRow {
                reserved: OFFERED,
                ..self.offered.blob(row)
            };
            self.packs.push(Pack {
                first: self.stream.len() - 1,
                sole: None,
                parts: Vec::new(),
                missing: 0,
                is_closed: true,
                blob: Some(Ok(blob)),
            });
        }
        number
    }

    /// Appends a new chunk to the open pack; returns the size of that.
    fn place(&mut self, item: Item) -> u64 {
        let length = u64::from(item.length);
        let size = self.open.as_ref().map_or(0, |open| open.size);
        if self
            .form
            .packs
            .is_some_and(|rule| size + length > rule.greatest())
        {
            self.close();
        }
        let mut open = match self.open.take() {
            Some(open) => open,
            None => self.start(&item),
        };
        self.chunks.push(ContentRow {
            content: item.content,
            blob: open.number as u32,
            length: item.length,
            offset: open.size,
        });
        open.size += length;
        if open.part_size > 0 && open.part_size + item.length as usize > open.part.frame_size {
            self.end_part(&mut open);
        }
        open.part_size += item.length as usize;
        self.append(&mut open, item);
        let size = open.size;
        self.open = Some(open);
        size
    }

    fn start(&mut self, item: &Item) -> Open {
        let number = self.packs.len();
        let first = self.stream.len() - 1;
        self.packs.push(Pack {
            first,
            sole: Some(item.content),
            parts: Vec::new(),
            missing: 0,
            is_closed: false,
            blob: None,
        });
        Open {
            number,
            size: 0,
            part: self.part(number),
            part_size: 0,
            follows: self.known.begin(&item.content),
            held: Vec::new(),
        }
    }

    fn part(&self, pack: usize) -> Part {
        Part {
            pack,
            number: 0,
            chunk: self.stream.len() - 1,
            frame_size: self.form.frame_size(),
            pieces: Vec::new(),
        }
    }

    /// Appends a chunk to the open part. Its bytes are dropped where an earlier pack goes on with them.
    fn append(&mut self, open: &mut Open, item: Item) {
        if open.size > u64::from(item.length) {
            self.packs[open.number].sole = None;
        }
        if let Some(place) = open.follows {
            let next = self
                .known
                .at(place)
                .filter(|next| next.content == item.content);
            open.follows = next.map(|_| place + 1);
            if next.is_none() {
                std::mem::take(&mut open.held)
                    .into_iter()
                    .for_each(|part| self.send(part));
            }
        }
        match item.chunk {
            Some(chunk) if open.follows.is_none() => open.part.push(chunk, &self.buffers),
            _ => {
                if let Some(known) = self.known.find(&item.content) {
                    open.part.push_stored(self.stored(known), &self.buffers);
                }
            }
        }
    }

    fn stored(&self, known: &ContentRow) -> Stored {
        let blob = &self.known.trace().blobs[known.blob as usize];
        Stored {
            blob: known.blob,
            is_compressed: blob.flags & COMPRESSED != 0,
            is_own: blob.reserved != OFFERED,
            offset: known.offset,
            length: u64::from(known.length),
        }
    }

    /// Ends the open part and begins the next one.
    fn end_part(&mut self, open: &mut Open) {
        let next = self.part(open.number);
        let part = std::mem::replace(&mut open.part, next);
        open.part_size = 0;
        if open.follows.is_some() {
            open.held.push(part);
        } else {
            self.send(part);
        }
    }

    /// Closes the open pack, if there is one.
    fn close(&mut self) {
        let Some(open) = self.open.take() else {
            return;
        };
        if let Some(blob) = open.follows.and_then(|place| self.known.ended(place)) {
            self.packs[open.number].blob = Some(Ok(*blob));
            return;
        }
        open.held.into_iter().for_each(|part| self.send(part));
        self.packs[open.number].is_closed = true;
        self.send(open.part);
    }

    fn send(&mut self, part: Part) {
        let Some(queue) = &self.queue else {
            return;
        };
        let pack = &mut self.packs[part.pack];
        let part = Part {
            number: pack.parts.len(),
            ..part
        };
        pack.parts.push(None);
        pack.missing += 1;
        // The workers go before the packer only when the build is over.
        let _ = queue.send(part);
    }
}
