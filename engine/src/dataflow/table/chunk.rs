//! Chunks of a table: some slots, each with a row or free.

use streamgauge_schemas::state::States;
use streamgauge_schemas::{Epoch, GroupKey, Layout};

/// Where a row lies.
pub(in super::super) type Slot = u32;

/// No slot.
pub(super) const NONE: Slot = u32::MAX;
/// Rows of a chunk, as a power of two.
pub(super) const CHUNK_BITS: u32 = 10;
pub(super) const CHUNK: usize = 1 << CHUNK_BITS;

/// Some slots.
pub(super) struct Chunk {
    pub(super) headers: Vec<Header>,
    pub(super) states: States,
    pub(super) free: Vec<u16>,
    /// No row of it was changed after this,
    pub(super) newest: Epoch,
    /// or has not been changed since before this.
    pub(super) oldest: Epoch,
}

/// What a row is besides its state.
#[derive(Clone, Copy)]
pub(super) struct Header {
    pub(super) key: GroupKey,
    pub(super) generation: Epoch,
    /// Zero of a free slot.
    pub(super) version: Epoch,
    /// The group's row of the generation before.
    pub(super) older: Slot,
}

impl Chunk {
    pub(super) fn new(layout: &Layout) -> Self {
        let mut states = States::new(layout);
        states.reserve_exact(CHUNK);
        Chunk { headers: Vec::with_capacity(CHUNK), states, ..Chunk::without_memory() }
    }

    pub(super) fn without_memory() -> Self {
        let (newest, oldest) = (Epoch::ZERO, Epoch(u64::MAX));
        Chunk { headers: Vec::new(), states: States::default(), free: Vec::new(), newest, oldest }
    }

    /// A row came with that version.
    pub(super) fn note(&mut self, version: Epoch) {
        (self.newest, self.oldest) = (self.newest.max(version), self.oldest.min(version));
    }

    pub(super) fn is_full(&self) -> bool {
        self.free.is_empty() && self.headers.len() == CHUNK
    }

    pub(super) fn is_empty(&self) -> bool {
        self.free.len() == self.headers.len()
    }
}

pub(super) fn place(slot: Slot) -> (usize, usize) {
    ((slot >> CHUNK_BITS) as usize, slot as usize & (CHUNK - 1))
}

/// Merges one of `states` into a row, and keeps count of what its parts hold.
#[inline]
pub(in super::super) fn merge(
    layout: &Layout,
    rows: &mut States,
    at: usize,
    states: &States,
    from: usize,
    heap_bytes: &mut usize,
) {
    if !layout.has_parts() {
        return layout.merge_at(rows, at, states, from);
    }
    let before = rows.heap_bytes(at);
    layout.merge_at(rows, at, states, from);
    *heap_bytes = *heap_bytes - before + rows.heap_bytes(at);
}

/// Puts one of `states` where a row has none, or behind the last, and keeps count of what its parts hold.
pub(super) fn put(rows: &mut States, at: usize, states: &States, from: usize, heap_bytes: &mut usize) {
    match at == rows.len() {
        true => rows.push(states, from),
        false => rows.set(at, states, from),
    }
    *heap_bytes += rows.heap_bytes(at);
}

/// Moves one of `states` to where a row has none, or behind the last.
pub(super) fn put_taken(rows: &mut States, at: usize, states: &mut States, from: usize) {
    match at == rows.len() {
        true => rows.push_taken(states, from),
        false => rows.set_taken(at, states, from),
    }
}

pub(super) fn key_of(chunks: &[Chunk], slot: Slot) -> GroupKey {
    let (chunk, at) = place(slot);
    chunks[chunk].headers[at].key
}
