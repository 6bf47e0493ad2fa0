//! Current rows: of a view that is fed, the row of each series to which its partial states go.
//!
//! ```text
//!  number of the series ─▶ [header: group, generation, version] [state]
//!                              │
//!                              └─▶ (the series goes on to another bucket, or rested) ─▶ table
//! ```
//!
//! A coarse bucket stays for long, so most partial states of a series come to one row. That row lies where its series' number
//! says: it needs no hash and no index, and to begin it is to write behind those of the series before. When the series goes
//! on, its row moves to the table, where it waits for late events and for its removal. A row that is in the table for another
//! reason, such as a start, comes from there when its series is at it.
//!
//! # Invariants
//!
//! 1. The rows of a group are here, and then there is one, or in the table.
//! 2. The numbers are those of one numbering: when another one comes, all rows change places.

use std::sync::Arc;

use streamgauge_schemas::state::States;
use streamgauge_schemas::{Epoch, EventTime, GroupKey, Layout, Row, SeriesId};

use super::chunk::{merge, put_taken};

/// Rows of a chunk, as a power of two; few where a test would not come to several chunks.
const CHUNK_BITS: u32 = if cfg!(test) { 1 } else { 8 };
const CHUNK: usize = 1 << CHUNK_BITS;

/// See the module.
pub(super) struct Current {
    layout: Arc<Layout>,
    numbering: u64,
    /// By number.
    chunks: Vec<Chunk>,
    rows: usize,
}

/// The current rows of some series with numbers next to each other.
struct Chunk {
    headers: Vec<Header>,
    states: States,
    rows: usize,
    /// No row of it was changed after this,
    newest: Epoch,
    /// or has not been changed since before this.
    oldest: Epoch,
}

/// What a row is besides its state.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Header {
    pub(super) key: GroupKey,
    pub(super) generation: Epoch,
    /// Zero where there is no row.
    pub(super) version: Epoch,
}

impl Header {
    const NONE: Header = Header {
        key: GroupKey { series: SeriesId { high: 0, low: 0 }, bucket: EventTime(0) },
        generation: Epoch::ZERO,
        version: Epoch::ZERO,
    };

    fn is_row(&self) -> bool {
        self.version != Epoch::ZERO
    }

    /// Reads its beginning and its end, which may lie in two lines of the processor's caches.
    #[inline]
    fn touch(&self) -> u64 {
        self.key.series.low ^ self.version.0
    }
}

impl Chunk {
    fn new() -> Self {
        let (headers, states) = (Vec::new(), States::default());
        Chunk { headers, states, rows: 0, newest: Epoch::ZERO, oldest: Epoch(u64::MAX) }
    }

    /// Has a place `at`.
    fn reach(&mut self, at: usize, layout: &Layout) {
        if self.headers.is_empty() {
            self.headers.reserve_exact(CHUNK);
            self.states = States::new(layout);
            self.states.reserve_exact(CHUNK);
        }
        if at >= self.headers.len() {
            self.headers.resize(at + 1, Header::NONE);
            self.states.grow(at + 1);
        }
    }

    /// Its rows, with their places.
    fn rows(&self) -> impl Iterator<Item = (usize, Header)> + '_ {
        self.headers.iter().copied().enumerate().filter(|(_, header)| header.is_row())
    }

    fn remove(&mut self, at: usize) {
        self.headers[at].version = Epoch::ZERO;
        self.states.release(at);
        self.rows -= 1;
    }

    fn row(&self, at: usize) -> Row {
        let Header { generation, version, .. } = self.headers[at];
        Row { generation, version, state: self.states.get(at) }
    }
}

fn place(number: u32) -> (usize, usize) {
    ((number >> CHUNK_BITS) as usize, number as usize & (CHUNK - 1))
}

impl Current {
    /// None yet, by the numbers of that numbering.
    pub(super) fn new(layout: Arc<Layout>, numbering: u64) -> Self {
        Current { layout, numbering, chunks: Vec::new(), rows: 0 }
    }

    /// Of which numbering the numbers are.
    pub(super) fn numbering(&self) -> u64 {
        self.numbering
    }

    /// How many rows.
    pub(super) fn len(&self) -> usize {
        self.rows
    }

    /// About how many bytes they take, without what their parts hold.
    pub(super) fn bytes(&self) -> usize {
        let each = size_of::<Header>() + States::new(&self.layout).bytes_each();
        let held = self.chunks.iter().filter(|chunk| !chunk.headers.is_empty()).count();
        held * CHUNK * each + self.chunks.capacity() * size_of::<Chunk>()
    }

    /// The row of a series, if it has one.
    #[inline]
    pub(super) fn header(&self, number: u32) -> Option<&Header> {
        let (chunk, at) = place(number);
        self.chunks.get(chunk)?.headers.get(at).filter(|header| header.is_row())
    }

    /// Takes out all rows: what they are, and their states with where in these they lie. Chunk by chunk it lets go of their memory.
    pub(super) fn drain(&mut self, mut visit: impl FnMut(Header, &mut States, usize)) {
        self.rows = 0;
        for mut chunk in std::mem::take(&mut self.chunks) {
            let headers = std::mem::take(&mut chunk.headers);
            let rows = headers.into_iter().enumerate().filter(|(_, header)| header.is_row());
            rows.for_each(|(at, header)| visit(header, &mut chunk.states, at));
        }
    }

    /// Reads something of the rows of these series, so that they are at hand: nothing waits for what is read.
    pub(super) fn touch(&self, numbers: impl Iterator<Item = u32>) {
        let read = numbers.fold(0, |read, number| {
            let (chunk, at) = place(number);
            let chunk = self.chunks.get(chunk).filter(|chunk| at < chunk.headers.len());
            read ^ chunk.map_or(0, |chunk| chunk.headers[at].touch() ^ chunk.states.touch(at))
        });
        std::hint::black_box(read);
    }

    /// Merges a partial state into the row of a series, which is there and may take it.
    #[inline]
    pub(super) fn merge(&mut self, number: u32, last: Epoch, states: &States, from: usize, heap_bytes: &mut usize) {
        let (chunk, at) = place(number);
        let chunk = &mut self.chunks[chunk];
        chunk.headers[at].version = last;
        chunk.newest = chunk.newest.max(last);
        merge(&self.layout, &mut chunk.states, at, states, from, heap_bytes);
    }

    /// Begins the row of a series that has none.
    pub(super) fn begin(&mut self, number: u32, header: Header, states: &States, from: usize, heap_bytes: &mut usize) {
        let (states_here, at) = self.reach(number, header);
        states_here.set(at, states, from);
        *heap_bytes += states_here.heap_bytes(at);
    }

    /// Puts in the row of a series that has none; its state comes out of `states`.
    pub(super) fn put(&mut self, number: u32, header: Header, states: &mut States, from: usize) {
        let (states_here, at) = self.reach(number, header);
        states_here.set_taken(at, states, from);
    }

    /// Makes a place for a row; its state belongs where it says.
    fn reach(&mut self, number: u32, header: Header) -> (&mut States, usize) {
        let (chunk, at) = place(number);
        if chunk >= self.chunks.len() {
            self.chunks.resize_with(chunk + 1, Chunk::new);
        }
        let chunk = &mut self.chunks[chunk];
        chunk.reach(at, &self.layout);
        debug_assert!(!chunk.headers[at].is_row(), "a row would be lost");
        chunk.headers[at] = header;
        (chunk.newest, chunk.oldest) = (chunk.newest.max(header.version), chunk.oldest.min(header.version));
        (chunk.rows, self.rows) = (chunk.rows + 1, self.rows + 1);
        (&mut chunk.states, at)
    }

    /// Takes out a series' row, which is there; its state goes to a place of `out` or behind its last.
    pub(super) fn take(&mut self, number: u32, out: &mut States, to: usize) {
        let (chunk, at) = place(number);
        let chunk = &mut self.chunks[chunk];
        put_taken(out, to, &mut chunk.states, at);
        chunk.remove(at);
        self.rows -= 1;
    }

    /// The row of a series, if it is of this one and `wanted` is true of it.
    pub(super) fn get(
        &self,
        number: u32,
        series: SeriesId,
        wanted: impl Fn(&Header) -> bool,
    ) -> Option<(GroupKey, Row)> {
        let header = self.header(number).filter(|header| header.key.series == series && wanted(header))?;
        let (chunk, at) = place(number);
        Some((header.key, self.chunks[chunk].row(at)))
    }

    /// Visits every row of which `wanted` is true.
    pub(super) fn each(&self, wanted: impl Fn(&Header) -> bool, mut visit: impl FnMut(GroupKey, Row)) {
        for chunk in self.chunks.iter().filter(|chunk| chunk.rows > 0) {
            let rows = chunk.rows().filter(|(_, header)| wanted(header));
            rows.for_each(|(at, header)| visit(header.key, chunk.row(at)));
        }
    }

    /// Visits every row changed after `flushed`, and removes every row at or below `horizon`; `removed` is told of these.
    pub(super) fn flush(
        &mut self,
        flushed: Epoch,
        horizon: Epoch,
        heap_bytes: &mut usize,
        mut changed: impl FnMut(GroupKey, Row),
        mut removed: impl FnMut(GroupKey),
    ) {
        for chunk in &mut self.chunks {
            if chunk.rows > 0 && chunk.newest <= flushed && chunk.oldest > horizon {
                continue; // so it is with most, where rows stay after they are flushed
            }
            let mut oldest = Epoch(u64::MAX);
            for at in 0..chunk.headers.len() {
                let Header { key, version, .. } = chunk.headers[at];
                if version == Epoch::ZERO {
                    continue;
                }
                if version > flushed {
                    changed(key, chunk.row(at));
                }
                if version <= horizon {
                    *heap_bytes -= chunk.states.heap_bytes(at);
                    chunk.remove(at);
                    self.rows -= 1;
                    removed(key);
                } else {
                    oldest = oldest.min(version);
                }
            }
            chunk.oldest = oldest;
            if chunk.rows == 0 {
                *chunk = Chunk::new();
            }
        }
    }
}
