//! The most frequent texts: Space-Saving (Metwally, Agrawal and El Abbadi, 2005) with pruning in groups.
//!
//! A bounded number of texts have a counter. Of all others one number is known, the *floor*: none of them has come
//! more often. A text without a counter gets one that begins at the floor, which is then also the bound of its error.
//! Space-Saving replaces the lowest counter each time; here up to twice the capacity are kept, and when they are full the
//! lower half is dropped at once and the floor raised to the highest dropped count. So a text costs O(1) on average,
//! however many counters there are.
//!
//! # Invariants
//!
//! 1. For a text with a counter: `count − error ≤ true count ≤ count`, and `error ≤ floor`. For all others: `true count ≤ floor`.
//! 2. `floor ≤ weight / (capacity + 1)`, where weight is the sum of all that was added. For `Σ (count − floor)` grows by at most
//!    the weight that is added, and falls by `capacity + 1` times what a pruning raises the floor by. Merging adds both sides of it
//!    (Agarwal et al., "Mergeable summaries", 2012). So a text with a greater share than 1 / (capacity + 1) has a counter.
//! 3. Fewer than twice the capacity have a counter after an operation. A full sketch holds as many texts, however long:
//!    their length is for the caller to bound.

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::sync::Arc;

use hashbrown::HashTable;
use xxhash_rust::xxh3::xxh3_64;

use super::codec::{Reader, put_number};
use crate::SchemaError;

/// The most texts that a sketch can be asked for.
pub const K_MAX: u32 = 1_000;

const COUNTERS_PER_K: usize = 10;
const CAPACITY_MIN: usize = 100;
/// Up to here counters are looked through one by one, beyond it there is an index.
const UNINDEXED_MAX: usize = 8;
const ENCODING: u8 = 1;

/// The most frequent texts of those that were added, by the sum of their weights.
///
/// ```
/// use streamgauge_schemas::sketch::Top;
/// let mut pages = Top::new(2);
/// [("/", 7), ("/docs", 2), ("/about", 1)].iter().for_each(|(page, views)| pages.add(page, *views));
/// assert_eq!(pages.top(2), [("/".into(), 7, 0), ("/docs".into(), 2, 0)]);
/// ```
#[derive(Clone, Debug)]
pub struct Top {
    k: u32,
    floor: u64,
    counters: Vec<Counter>,
    /// Places in `counters` by the hash of the text; empty while [`UNINDEXED_MAX`] suffices.
    index: HashTable<u32>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Counter {
    text: Arc<str>,
    count: u64,
    error: u64,
}

impl Top {
    /// Makes an empty sketch that can be asked for `k` texts; `k` is taken to be from 1 to [`K_MAX`].
    ///
    /// Sketches merge well if they are made for the same `k`.
    #[must_use]
    pub fn new(k: u32) -> Self {
        Top { k: k.clamp(1, K_MAX), floor: 0, counters: Vec::new(), index: HashTable::new() }
    }

    /// Adds to the weight of a text.
    pub fn add(&mut self, text: &str, weight: u64) {
        if weight == 0 {
            return;
        }
        match self.place(text) {
            Some(at) => self.counters[at].count = self.counters[at].count.saturating_add(weight),
            None => {
                self.push(Counter { text: text.into(), count: self.floor.saturating_add(weight), error: self.floor });
                if self.counters.len() >= 2 * self.capacity() {
                    self.prune();
                }
            }
        }
    }

    /// Adds all of `other`. The capacity becomes the smaller of both.
    pub fn merge(&mut self, other: &Self) {
        self.k = self.k.min(other.k);
        let floor = self.floor;
        for counter in &mut self.counters {
            let (count, error) = other.bounds(&counter.text);
            counter.count = counter.count.saturating_add(count);
            counter.error = counter.error.saturating_add(error);
        }
        for counter in &other.counters {
            if self.place(&counter.text).is_none() {
                self.push(Counter {
                    text: counter.text.clone(),
                    count: counter.count.saturating_add(floor),
                    error: counter.error.saturating_add(floor),
                });
            }
        }
        self.floor = floor.saturating_add(other.floor);
        if self.counters.len() >= 2 * self.capacity() {
            self.prune();
        }
    }

    /// The `k` texts with the highest counts, highest first, equal ones by text: the text, its count, and by how much that is too high
    /// at most.
    #[must_use]
    pub fn top(&self, k: usize) -> Vec<(Arc<str>, u64, u64)> {
        let mut counters: Vec<&Counter> = self.counters.iter().collect();
        counters.sort_unstable_by(|a, b| a.rank().cmp(&b.rank()));
        counters.into_iter().take(k).map(|c| (c.text.clone(), c.count, c.error)).collect()
    }

    /// The bytes held outside of the sketch itself, texts included; a text that other sketches share counts in each.
    #[must_use]
    pub fn heap_bytes(&self) -> usize {
        let texts: usize = self.counters.iter().map(|counter| counter.text.len() + 2 * size_of::<usize>()).sum();
        texts + self.counters.capacity() * size_of::<Counter>() + self.index.allocation_size()
    }

    /// Appends the encoding: the byte 1, `k`, the floor and the number of counters, then a counter, in the order of texts, the
    /// length of its text, the text, its count and its error; numbers in LEB128.
    pub fn encode(&self, out: &mut Vec<u8>) {
        out.push(ENCODING);
        put_number(out, u64::from(self.k));
        put_number(out, self.floor);
        put_number(out, self.counters.len() as u64);
        for (text, counter) in self.sorted() {
            put_number(out, text.len() as u64);
            out.extend_from_slice(text.as_bytes());
            put_number(out, counter.count);
            put_number(out, counter.error);
        }
    }

    /// Reads an encoding.
    ///
    /// # Errors
    ///
    /// [`SchemaError::Encoding`] if the bytes are not what [`Top::encode`] writes.
    pub fn decode(bytes: &[u8]) -> Result<Self, SchemaError> {
        let mut from = Reader::new("a sketch of the most frequent texts", bytes);
        if from.byte()? != ENCODING {
            return Err(from.error("the form is not known; it was written by a newer version"));
        }
        let mut sketch = match from.count(K_MAX as usize)? {
            0 => return Err(from.error("k is 0")),
            k => Top::new(k as u32),
        };
        sketch.floor = from.number()?;
        let length = from.count(2 * sketch.capacity() - 1)?;
        sketch.counters.reserve_exact(length.min(from.remaining() / 3));
        for _ in 0..length {
            let text_bytes = from.count(from.remaining())?;
            let text = std::str::from_utf8(from.take(text_bytes)?).map_err(|_| from.error("a text is not UTF-8"))?;
            if sketch.counters.last().is_some_and(|last| *last.text >= *text) {
                return Err(from.error("texts are not ascending"));
            }
            let (count, error) = (from.number()?, from.number()?);
            if count < sketch.floor || error > sketch.floor {
                return Err(from.error("a count is below the floor, or an error above it"));
            }
            sketch.push(Counter { text: text.into(), count, error });
        }
        from.end()?;
        Ok(sketch)
    }

    fn capacity(&self) -> usize {
        (self.k as usize * COUNTERS_PER_K).max(CAPACITY_MIN)
    }

    /// The count and its error: those of the counter, or the floor (invariant 1).
    fn bounds(&self, text: &str) -> (u64, u64) {
        self.place(text).map_or((self.floor, self.floor), |at| (self.counters[at].count, self.counters[at].error))
    }

    fn place(&self, text: &str) -> Option<usize> {
        if self.index.is_empty() {
            return self.counters.iter().position(|counter| *counter.text == *text);
        }
        let same = |at: &u32| *self.counters[*at as usize].text == *text;
        self.index.find(xxh3_64(text.as_bytes()), same).map(|at| *at as usize)
    }

    fn push(&mut self, counter: Counter) {
        self.counters.push(counter);
        let indexed = self.index.len();
        if self.counters.len() > UNINDEXED_MAX {
            let hash = |at: &u32| xxh3_64(self.counters[*at as usize].text.as_bytes());
            for at in indexed as u32..self.counters.len() as u32 {
                self.index.insert_unique(hash(&at), at, hash);
            }
        }
    }

    /// Keeps the capacity with the highest counts and raises the floor to the highest of the others.
    fn prune(&mut self) {
        let capacity = self.capacity();
        let (_, highest_dropped, _) = self.counters.select_nth_unstable_by(capacity, |a, b| a.rank().cmp(&b.rank()));
        self.floor = self.floor.max(highest_dropped.count);
        self.counters.truncate(capacity);
        self.index.clear();
        let last = self.counters.pop();
        last.into_iter().for_each(|last| self.push(last)); // which makes the index of all
    }

    fn sorted(&self) -> BTreeMap<&str, &Counter> {
        self.counters.iter().map(|counter| (&*counter.text, counter)).collect()
    }
}

impl Counter {
    /// The highest count first, equal ones by text, so that what is kept does not depend on the order of coming.
    fn rank(&self) -> (Reverse<u64>, &str) {
        (Reverse(self.count), &self.text)
    }
}

impl PartialEq for Top {
    fn eq(&self, other: &Self) -> bool {
        self.k == other.k && self.floor == other.floor && self.sorted() == other.sorted()
    }
}

impl Eq for Top {}
