//! Which chunks of a stream are known from the trace of an earlier one.
//!
//! A cut depends only on the bytes since the cut before it, and on how many follow up to the largest
//! size of a chunk or to the end of the group. So where the stream has a cut at which the earlier one had one too, and the same
//! bytes follow, the chunk that follows is the same.

use std::collections::HashMap;

use puzzlefs_core::limits::CHUNK_MAX;
use puzzlefs_core::tables::ContentRow;

use crate::known::Known;
use crate::status::UNKNOWN;
use crate::trace::TraceFile;

/// A run of files, one after another, that are one after another in the earlier stream too.
#[derive(Clone, Copy)]
struct Span {
    /// Where it starts in the stream.
    start: u64,
    /// Where it starts in the earlier one.
    earlier: u64,
    /// Its bytes.
    length: u64,
}

/// The known chunks of a stream. It is asked about ever later positions.
pub struct Plan<'a> {
    known: &'a Known,
    /// Where groups of files begin.
    groups: &'a [u64],
    spans: Vec<Span>,
    /// Where each chunk of the earlier stream starts, and its end.
    starts: Vec<u64>,
    total: u64,
    /// Spans that lie behind.
    passed: usize,
}

impl<'a> Plan<'a> {
    /// Compares the files of a stream, those with content, with the trace of an earlier one. Groups
    /// of files begin at the positions `groups`, ascending.
    pub fn new(known: &'a Known, files: &[TraceFile], groups: &'a [u64]) -> Self {
        let trace = known.trace();
        let lengths = trace
            .stream
            .iter()
            .map(|&row| trace.length(row).unwrap_or(0));
        let add = |total: u64, file: &TraceFile| total.saturating_add(file.size);
        Self {
            known,
            groups,
            spans: spans(&trace.files, files),
            starts: positions(lengths),
            total: files.iter().fold(0, add),
            passed: 0,
        }
    }

    /// Returns the chunk that begins at `at`, a cut of the stream, if it is known and stored.
    pub fn chunk_at(&mut self, at: u64) -> Option<&'a ContentRow> {
        let span = self.span_at(at)?;
        let earlier = at.checked_sub(span.start)? + span.earlier;
        let number = self.starts.binary_search(&earlier).ok()?;
        let end = *self.starts.get(number + 1)?;
        let reach = |from: u64, end: u64| (end - from).min(CHUNK_MAX as u64);
        let group_end = group_end(&self.known.trace().groups, earlier).min(*self.starts.last()?);
        let same_reach = reach(earlier, group_end) == reach(at, self.group_end(at).min(self.total));
        let inside = end <= span.earlier.saturating_add(span.length);
        (same_reach && inside).then(|| self.known.chunk(number))?
    }

    /// Returns where the group of files that goes on at `at` ends; the last one has no end.
    pub fn group_end(&self, at: u64) -> u64 {
        group_end(self.groups, at)
    }

    /// Tells whether known bytes begin before `end`: then reading less may be enough.
    pub fn is_near(&mut self, at: u64, end: u64) -> bool {
        self.span_at(at).is_some_and(|span| span.start < end)
    }

    /// Returns the span at or after `at`.
    fn span_at(&mut self, at: u64) -> Option<Span> {
        while let Some(span) = self.spans.get(self.passed) {
            if at < span.start.saturating_add(span.length) {
                break;
            }
            self.passed += 1;
        }
        self.spans.get(self.passed).copied()
    }
}

fn group_end(groups: &[u64], at: u64) -> u64 {
    let next = groups.partition_point(|&start| start <= at);
    groups.get(next).copied().unwrap_or(u64::MAX)
}

/// Returns where parts of these lengths start, and where the last one ends.
fn positions(lengths: impl Iterator<Item = u64>) -> Vec<u64> {
    let ends = lengths.scan(0_u64, |end, length| {
        *end = length.saturating_add(*end);
        Some(*end)
    });
    std::iter::once(0).chain(ends).collect()
}

fn spans(earlier: &[TraceFile], files: &[TraceFile]) -> Vec<Span> {
    let key =
        |file: &TraceFile| u64::from_le_bytes(*file.identity.first_chunk().unwrap_or(&[0; 8]));
    let known = earlier
        .iter()
        .enumerate()
        .filter(|(_, file)| file.identity != UNKNOWN);
    let places: HashMap<u64, usize> = known.map(|(place, file)| (key(file), place)).collect();
    let starts = positions(earlier.iter().map(|file| file.size));
    let mut spans: Vec<Span> = Vec::new();
    let (mut at, mut next) = (0_u64, usize::MAX);
    for file in files {
        let place = places
            .get(&key(file))
            .copied()
            .filter(|&place| earlier[place] == *file);
        match (place, spans.last_mut()) {
            (Some(place), Some(span)) if place == next => {
                span.length = file.size.saturating_add(span.length);
            }
            (Some(place), _) => spans.push(Span {
                start: at,
                earlier: starts[place],
                length: file.size,
            }),
            (None, _) => {}
        }
        next = place.map_or(usize::MAX, |place| place + 1);
        at = file.size.saturating_add(at);
    }
    spans
}
