//! The rows of one view that one worker holds in memory, changed in place.
//!
//! ```text
//!  group ──hash──▶ slot of its newest row ──▶ slot of the one before ──▶ …
//!  slot  ──▶ chunk: [header: group, generation, version, the one before] [state]
//! ```
//!
//! Events are merged where a row lies, without a search among others and without a copy. Slots are given out from the lowest
//! chunk that has a free one, and a chunk without rows holds no memory.
//!
//! Where a row of the group lay last is remembered by the number of its series, if it has one ([`Numbers`]): most events come
//! to a row that has just had another, and it need not be found by hash. Of a view that is fed most rows lie by that number
//! ([`current`]), and have no slot.
//!
//! # Invariants
//!
//! 1. A group's rows have distinct generations; from its newest row the others are found in falling order of generation.
//! 2. A row's version grows. A row that was loaded has every epoch up to the version that it came with, and skips these
//!    (replay after a restart).
//! 3. **Idle rule.** A row last changed `K` or more epochs ago is never touched; the event begins a new generation.
//! 4. Only rows at or below the horizon are removed, and such a row is never touched again (3, as `H ≤ now − K`).

use std::collections::BTreeSet;
use std::sync::Arc;

use foldhash::fast::FixedState;
use hashbrown::{HashMap, HashTable};
use streamgauge_schemas::state::States;
use streamgauge_schemas::{Epoch, GroupKey, Layout, Row};

use super::partials::{Partials, Span};
use super::series::Numbers;
use chunk::{CHUNK, CHUNK_BITS, Chunk, Header, NONE, key_of, place, put};
use current::Current;

pub(super) use chunk::{Slot, merge};

mod chunk;
mod current;
mod fed;

/// So many rows are read ahead of their merging: as many as the processor's nearest caches hold.
const BLOCK: usize = 128;
/// Tables of so many rows lie in these caches anyway.
const NEAR_ROWS: usize = 4 * CHUNK;

/// See the module.
pub(super) struct Table {
    layout: Arc<Layout>,
    idle_us: u64,
    /// Of each group the slot of its newest row.
    newest: HashTable<Newest>,
    chunks: Vec<Chunk>,
    /// Chunks with a free slot.
    open: BTreeSet<u32>,
    /// Of loaded rows the version that they came with, as long as such epochs may come; and the smallest of these.
    loaded: HashMap<Slot, Epoch, FixedState>,
    loaded_least: Epoch,
    /// Those with a slot.
    rows: usize,
    /// Those by number, of a view that is fed.
    current: Option<Current>,
    /// Chunks that hold memory.
    held: usize,
    /// Bytes that the parts of all rows hold.
    heap_bytes: usize,
    /// Kept from call to call for its room.
    found: Vec<Slot>,
    /// By the number of a series the slot of a row of it, and the mark of that row's bucket.
    last: Vec<(Slot, u32)>,
    /// The numbering that these numbers are of.
    numbering: u64,
}

/// Where a group's newest row lies; its hash is beside it, so that most groups that are not there, and all when the index
/// grows, need no look at a row.
#[derive(Clone, Copy)]
struct Newest {
    hash: u32,
    slot: Slot,
}

/// What became of a partial state.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Applied {
    /// A row has it, or had it already.
    Merged,
    /// It is a row of its own.
    Began(Slot),
}

impl Newest {
    #[inline]
    fn is_of(&self, hash: u32, key: GroupKey, chunks: &[Chunk]) -> bool {
        self.hash == hash && key_of(chunks, self.slot) == key
    }
}

impl Table {
    /// An empty one, of a view whose rows are final after `idle_us`.
    pub(super) fn new(layout: Arc<Layout>, idle_us: u64) -> Self {
        Table {
            layout,
            idle_us,
            newest: HashTable::new(),
            chunks: Vec::new(),
            open: BTreeSet::new(),
            loaded: HashMap::default(),
            loaded_least: Epoch(u64::MAX),
            rows: 0,
            current: None,
            held: 0,
            heap_bytes: 0,
            found: Vec::new(),
            last: Vec::new(),
            numbering: u64::MAX,
        }
    }

    /// After how many µs a row is final.
    pub(super) fn idle_us(&self) -> u64 {
        self.idle_us
    }

    /// How many rows.
    pub(super) fn len(&self) -> usize {
        self.rows + self.current.as_ref().map_or(0, Current::len)
    }

    /// How many of them have a slot.
    pub(super) fn slots(&self) -> usize {
        self.rows
    }

    /// About how many bytes it takes, whether rows are in them or not.
    pub(super) fn bytes(&self) -> usize {
        let current = self.current.as_ref().map_or(0, Current::bytes);
        let chunk = CHUNK * (size_of::<Header>() + States::new(&self.layout).bytes_each());
        // Of a hash table's slots no more than 7/8 are taken, and each has a byte more.
        let index = self.newest.capacity() * 8 / 7 * (size_of::<Newest>() + 1);
        self.held * chunk + index + self.heap_bytes + self.last.capacity() * size_of::<(Slot, u32)>() + current
    }

    /// Merges partial states into the rows of their groups, which may lie where their numbers say; `changed` is told of slots
    /// that got a row (1), or lost it (-1).
    pub(super) fn apply_all(&mut self, partials: &Partials<'_>, mut changed: impl FnMut(GroupKey, Slot, isize)) {
        if self.current.is_some() {
            return self.apply_fed(partials, changed);
        }
        self.take_numbering(partials.numbers.as_ref());
        let (keys, states) = (partials.keys, partials.states);
        let mut found = std::mem::take(&mut self.found);
        for begin in (0..keys.len()).step_by(BLOCK) {
            let block = begin..keys.len().min(begin + BLOCK);
            // All are looked up first: the look-ups wait for memory side by side, and not one after the other.
            found.extend(block.clone().map(|at| self.last_of(partials.number(at), &keys[at])));
            if self.rows > NEAR_ROWS {
                self.touch(&found);
            }
            for (at, slot) in block.clone().zip(&mut found) {
                if !self.has(*slot, &keys[at]) {
                    *slot = self.find(hash_of(keys[at]), keys[at]);
                }
            }
            for (at, slot) in block.zip(found.drain(..)) {
                let (key, number, span) = (keys[at], partials.number(at), partials.span(at));
                if slot != NONE && self.loaded.is_empty() {
                    let (chunk, row) = place(slot);
                    let chunk = &mut self.chunks[chunk];
                    let header = &mut chunk.headers[row];
                    // A row that may take it is the newest one, though another of this group came since: that would be idle.
                    if span.may_follow(header.version, self.idle_us) {
                        header.version = span.last;
                        chunk.newest = chunk.newest.max(span.last);
                        merge(&self.layout, &mut chunk.states, row, states, at, &mut self.heap_bytes);
                        self.set_last(number, &key, slot);
                        continue;
                    }
                }
                if let Applied::Began(slot) = self.apply(span, key, states, at) {
                    if self.loaded.is_empty() {
                        self.set_last(number, &key, slot); // else there may be a newer one
                    }
                    changed(key, slot, 1);
                }
            }
        }
        self.found = found;
    }

    /// Merges a partial state of a group into its rows.
    fn apply(&mut self, span: Span, key: GroupKey, states: &States, from: usize) -> Applied {
        let newest = self.find(hash_of(key), key);
        self.apply_from(newest, span, key, states, from)
    }

    /// As [`Table::apply`], where the group's newest row is known.
    fn apply_from(&mut self, newest: Slot, span: Span, key: GroupKey, states: &States, from: usize) -> Applied {
        let (mut slot, mut newer) = (newest, NONE);
        while slot != NONE {
            let (chunk, at) = place(slot);
            let chunk = &mut self.chunks[chunk];
            let header = &mut chunk.headers[at];
            if header.generation <= span.first {
                // The last that began at or before this epoch is the one that may take it.
                if !self.loaded.is_empty() && self.loaded.get(&slot).is_some_and(|known| span.last <= *known) {
                    return Applied::Merged; // invariant 2
                }
                debug_assert!(span.first >= header.version, "invariant 2: epochs come in order");
                if span.may_follow(header.version, self.idle_us) {
                    header.version = span.last;
                    chunk.newest = chunk.newest.max(span.last);
                    merge(&self.layout, &mut chunk.states, at, states, from, &mut self.heap_bytes);
                    return Applied::Merged;
                }
                break;
            }
            (newer, slot) = (slot, header.older);
        }
        let began = self.allocate(Header { key, generation: span.first, version: span.last, older: slot });
        let (chunk, at) = place(began);
        let chunk = &mut self.chunks[chunk];
        put(&mut chunk.states, at, states, from, &mut self.heap_bytes);
        self.link(hash_of(key), newer, began);
        Applied::Began(began) // invariant 3
    }

    /// Puts in a row that ClickHouse has, before any event; epochs up to its version are in it.
    pub(super) fn load(&mut self, key: GroupKey, row: &Row) -> Slot {
        let hash = hash_of(key);
        let (mut slot, mut newer) = (self.find(hash, key), NONE);
        while slot != NONE && self.header(slot).generation > row.generation {
            (newer, slot) = (slot, self.header(slot).older);
        }
        let header = Header { key, generation: row.generation, version: row.version, older: slot };
        let loaded = self.allocate(header);
        let (chunk, at) = place(loaded);
        let chunk = &mut self.chunks[chunk];
        let mut states = States::new(&self.layout);
        states.push_state(&row.state);
        put(&mut chunk.states, at, &states, 0, &mut self.heap_bytes);
        self.link(hash, newer, loaded);
        self.loaded.insert(loaded, row.version);
        self.loaded_least = self.loaded_least.min(row.version);
        loaded
    }

    /// No epoch at or below this one comes any more.
    pub(super) fn passed(&mut self, epoch: Epoch) {
        if epoch >= self.loaded_least {
            self.loaded.retain(|_, known| *known > epoch);
            self.loaded_least = self.loaded.values().min().copied().unwrap_or(Epoch(u64::MAX));
        }
    }

    /// The row of a slot, with its group, if it is there and was changed after `above`.
    pub(super) fn get(&self, slot: Slot, above: Epoch) -> Option<Row> {
        let (chunk, at) = place(slot);
        let chunk = self.chunks.get(chunk)?;
        let Header { generation, version, .. } = *chunk.headers.get(at)?;
        (version > above).then(|| Row { generation, version, state: chunk.states.get(at) })
    }

    /// Visits every row changed after `flushed`, and removes every row at or below `horizon` (invariant 4); `removed` is
    /// told of these, with their slots if they had one.
    ///
    /// Cost: a look at every chunk, and at each version of those in which a row changed or is to be removed.
    pub(super) fn flush(
        &mut self,
        flushed: Epoch,
        horizon: Epoch,
        mut changed: impl FnMut(GroupKey, Row),
        mut removed: impl FnMut(GroupKey, Option<Slot>),
    ) {
        if let Some(current) = &mut self.current {
            current.flush(flushed, horizon, &mut self.heap_bytes, &mut changed, |key| removed(key, None));
        }
        for number in 0..self.chunks.len() {
            let Chunk { newest, oldest, .. } = self.chunks[number];
            if newest <= flushed && oldest > horizon {
                continue; // so it is with most, where rows stay after they are flushed
            }
            let mut oldest = Epoch(u64::MAX);
            for at in 0..self.chunks[number].headers.len() {
                let chunk = &self.chunks[number];
                let Header { key, generation, version, .. } = chunk.headers[at];
                if version == Epoch::ZERO {
                    continue; // free
                }
                if version > flushed {
                    changed(key, Row { generation, version, state: chunk.states.get(at) });
                }
                if version <= horizon {
                    let slot = (number << CHUNK_BITS | at) as Slot;
                    self.remove(slot);
                    removed(key, Some(slot));
                } else {
                    oldest = oldest.min(version);
                }
            }
            self.chunks[number].oldest = oldest;
        }
        self.give_back();
    }

    fn find(&self, hash: u32, key: GroupKey) -> Slot {
        let newest = self.newest.find(spread(hash), |newest| newest.is_of(hash, key, &self.chunks));
        newest.map_or(NONE, |newest| newest.slot)
    }

    /// Forgets what is known by numbers of another numbering, and makes room for more of this one.
    fn take_numbering(&mut self, numbers: Option<&Numbers<'_>>) {
        let Some(Numbers { numbering, end, .. }) = numbers else {
            self.last = Vec::new(); // of a view that is in no family any more
            return;
        };
        if *numbering != self.numbering {
            (self.numbering, self.last) = (*numbering, Vec::new());
        }
        if *end > self.last.len() {
            self.last.resize(*end, (NONE, 0));
        }
    }

    /// The slot that is known by the number of a series, if it is likely that of a row of the group.
    #[inline]
    fn last_of(&self, number: u32, key: &GroupKey) -> Slot {
        match self.last.get(number as usize) {
            Some((slot, mark)) if *mark == mark_of(key) => *slot,
            _ => NONE,
        }
    }

    /// Whether a row of the group is in that slot.
    #[inline]
    fn has(&self, slot: Slot, key: &GroupKey) -> bool {
        let (chunk, at) = place(slot);
        let header = self.chunks.get(chunk).and_then(|chunk| chunk.headers.get(at));
        header.is_some_and(|header| header.key == *key && header.version != Epoch::ZERO)
    }

    /// Reads something of every row in these slots, so that they are at hand: nothing waits for what is read.
    fn touch(&self, slots: &[Slot]) {
        let read = slots.iter().fold(0, |read, slot| {
            let (chunk, at) = place(*slot);
            let chunk = self.chunks.get(chunk).filter(|chunk| at < chunk.headers.len());
            read ^ chunk.map_or(0, |chunk| {
                let header = &chunk.headers[at];
                header.key.series.low ^ header.version.0 ^ chunk.states.touch(at)
            })
        });
        std::hint::black_box(read);
    }

    #[inline]
    fn set_last(&mut self, number: u32, key: &GroupKey, slot: Slot) {
        if let Some(last) = self.last.get_mut(number as usize) {
            *last = (slot, mark_of(key));
        }
    }

    fn header(&self, slot: Slot) -> &Header {
        let (chunk, at) = place(slot);
        &self.chunks[chunk].headers[at]
    }

    /// Makes `slot` known, as the group's newest row or as the one before `newer`.
    fn link(&mut self, hash: u32, newer: Slot, slot: Slot) {
        if newer != NONE {
            let (chunk, at) = place(newer);
            self.chunks[chunk].headers[at].older = slot;
            return;
        }
        let (key, older) = (self.header(slot).key, self.header(slot).older);
        let chunks = &self.chunks;
        if older == NONE {
            self.newest.insert_unique(spread(hash), Newest { hash, slot }, |newest| spread(newest.hash));
        } else if let Some(known) = self.newest.find_mut(spread(hash), |newest| newest.is_of(hash, key, chunks)) {
            known.slot = slot;
        }
    }

    fn allocate(&mut self, header: Header) -> Slot {
        let number = match self.open.first() {
            Some(number) => *number as usize,
            None => {
                self.chunks.push(Chunk::without_memory());
                self.open.insert(self.chunks.len() as u32 - 1);
                self.chunks.len() - 1
            }
        };
        let chunk = &mut self.chunks[number];
        if chunk.headers.is_empty() {
            *chunk = Chunk::new(&self.layout);
            self.held += 1;
        }
        let at = match chunk.free.pop() {
            Some(at) => {
                chunk.headers[usize::from(at)] = header;
                usize::from(at)
            }
            None => {
                chunk.headers.push(header);
                chunk.headers.len() - 1
            }
        };
        chunk.note(header.version);
        if chunk.is_full() {
            self.open.remove(&(number as u32));
        }
        self.rows += 1;
        (number << CHUNK_BITS | at) as Slot
    }

    /// Frees a slot; what its state holds is taken from the books.
    fn remove(&mut self, slot: Slot) {
        let Header { key, older, .. } = *self.header(slot);
        let hash = hash_of(key);
        let mut newer = self.find(hash, key);
        if newer != slot {
            while self.header(newer).older != slot {
                newer = self.header(newer).older; // invariant 1: it is among them
            }
            let (chunk, at) = place(newer);
            self.chunks[chunk].headers[at].older = older;
        } else {
            let chunks = &self.chunks;
            if let Ok(mut entry) = self.newest.find_entry(spread(hash), |newest| newest.is_of(hash, key, chunks)) {
                match older {
                    NONE => drop(entry.remove()),
                    older => entry.get_mut().slot = older,
                }
            }
        }
        let (number, at) = place(slot);
        let chunk = &mut self.chunks[number];
        self.heap_bytes -= chunk.states.heap_bytes(at);
        chunk.headers[at].version = Epoch::ZERO;
        chunk.states.release(at);
        chunk.free.push(at as u16);
        self.open.insert(number as u32);
        self.loaded.remove(&slot);
        self.rows -= 1;
    }

    /// Lets go of the memory of empty chunks, and of an index that has become far too large.
    fn give_back(&mut self) {
        for chunk in self.chunks.iter_mut().filter(|chunk| chunk.is_empty() && !chunk.headers.is_empty()) {
            *chunk = Chunk::without_memory();
            self.held -= 1;
        }
        while self.chunks.last().is_some_and(Chunk::is_empty) {
            self.chunks.pop();
            self.open.remove(&(self.chunks.len() as u32));
        }
        if self.newest.capacity() > 8 * self.newest.len().max(CHUNK) {
            self.newest.shrink_to(2 * self.newest.len(), |newest| spread(newest.hash));
        }
    }
}

/// Mixes a series, which is a hash already, with a bucket; the lower half of the hash says who owns the series, and is much
/// the same for all in a table. The constants are odd, and have about as many ones as zeros.
fn hash_of(key: GroupKey) -> u32 {
    let bucket = (key.bucket.0 as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    ((key.series.high ^ bucket).wrapping_mul(0xd6e8_feb8_6659_fd93) >> 32) as u32
}

/// A hash as the index takes it: it looks at the highest and at the lowest bits.
#[inline]
fn spread(hash: u32) -> u64 {
    u64::from(hash) << 32 | u64::from(hash)
}

/// Tells the buckets of a series apart, mostly.
#[inline]
fn mark_of(key: &GroupKey) -> u32 {
    ((key.bucket.0 as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32) as u32
}

#[cfg(test)]
mod tests;
