//! Quantiles within 1 % of the value: a DDSketch (Masson, Rim and Lee, VLDB 2019) over all of `f64`.
//!
//! Values are counted in bins, 35 to the octave and evenly spaced in logarithm, so that the ends of a bin differ by
//! 2^(1/35) = 1.01999 and the value in its middle is within 0.990 % of all others. The bin of a value is found from its
//! bits: the exponent gives the octave, and a table over the mantissa the bin in it; no logarithm is computed.
//! Negative values mirror positive ones, zero (either sign) and each infinity have a bin of their own, and NaN is left
//! out, as NULL is: it has no place in an order.
//!
//! ```text
//! value ──▶ key: −∞ … −2 −1 │ 0 │ 1 2 … +∞ ──▶ bins: (key, count), sorted by key
//!                negative      0   positive           few or scattered: sparse; many and close together: dense
//! ```
//!
//! # Invariants
//!
//! 1. At most [`BINS_MAX`] bins are occupied. Beyond it the lowest are collapsed into the lowest that stays, which is the
//!    `BINS_MAX`-th highest of all keys ever added: so the result depends on the set of values, not on their order.
//!    Contiguous bins reach over 35 decades before this happens; then quantiles below the collapsed bin are too high.
//! 2. Sparse bins are sorted by key, each key once, each count from 1 to [`COUNT_MAX`], where it stays.
//! 3. A dense window holds the keys of one sign, and its length is bounded by its occupied bins, hence by `BINS_MAX`.
//! 4. Equality and encoding look at the bins only, not at how they are held.

use super::codec::{Reader, put_number};
use super::{SmallSorted, spilled_bytes};
use crate::SchemaError;

/// How many bins may be occupied.
pub const BINS_MAX: usize = 4_096;

/// How much a bin counts at most: 7 × 10^13.
pub const COUNT_MAX: u64 = (1 << COUNT_BITS) - 1;

const COUNT_BITS: u32 = 46;
/// How many bins an octave has.
pub const BINS_PER_OCTAVE: i32 = 35;
const MANTISSA_BITS: u32 = 52;
/// The exponent of the smallest subnormal.
pub const EXPONENT_MIN: i32 = -1_074;
/// The key of the bin of infinity, and the number of bins on each side of that of zero.
pub const KEY_INFINITY: i32 = (1_024 - EXPONENT_MIN) * BINS_PER_OCTAVE + 1;
/// A dense window begins and ends at a multiple of this.
const WINDOW_STEP: i32 = 64;
const DENSE_BINS_MIN: usize = 64;
/// No change to dense beyond it, so that a sketch that collapses (invariant 1) does not change its form to and fro.
const DENSE_BINS_MAX: usize = BINS_MAX / 2;
const ENCODING: u8 = 1;

/// The lower ends of the bins of an octave as mantissas: (2^(i/35) − 1) × 2^52, to the nearest.
#[rustfmt::skip]
const EDGES: [u64; BINS_PER_OCTAVE as usize] = [
    0x0000000000000, 0x051ed35254d7b, 0x0a57de9c16bc7, 0x0faba81d4e5df, 0x151ab8c56eea2,
    0x1aa59c4115e7d, 0x204ce10811781, 0x2611186bae675, 0x2bf2d6a54f7da, 0x31f2b2e54f85d,
    0x381147622f886, 0x3e4f316812c30, 0x44ad116889e7b, 0x4b2b8b0aaf3c7, 0x51cb453b9536c,
    0x588cea3f093be, 0x5f7127c0ac32a, 0x6678aee5629f8, 0x6da4345d1e0ad, 0x74f47075017a0,
    0x7c6a1f29e2ce6, 0x8406003b2ae5c, 0x8bc8d73e16610, 0x93b36bb158fff, 0x9bc68911258c0,
    0xa402feeb9c533, 0xac69a0f5a241c, 0xb4fb472022b1a, 0xbdb8cdadbe120, 0xc6a31548e794d,
    0xcfbb031a741a5, 0xd90180e09c9e4, 0xe2777d0676770, 0xec1deabbe3c14, 0xf5f5c20dfe5f2,
];

/// By the upper six bits of a mantissa: the bin at the begin of that slot, and where the next bin begins. A slot is
/// narrower than any bin (1/64 against 0.0200), so at most one edge is in it.
const SLOTS: [(u64, u8); 64] = slots();

const fn slots() -> [(u64, u8); 64] {
    let mut slots = [(u64::MAX, 0u8); 64];
    let (mut slot, mut bin) = (0, 0);
    while slot < slots.len() {
        while bin + 1 < EDGES.len() && EDGES[bin + 1] <= (slot as u64) << (MANTISSA_BITS - 6) {
            bin += 1;
        }
        slots[slot] = (if bin + 1 < EDGES.len() { EDGES[bin + 1] } else { u64::MAX }, bin as u8);
        slot += 1;
    }
    slots
}

/// The values of the bins of the octave from 1 to 2: the harmonic mean of the ends, equally far from both in relation.
pub const MIDDLES: [f64; BINS_PER_OCTAVE as usize] = middles();

const fn middles() -> [f64; BINS_PER_OCTAVE as usize] {
    let mut middles = [0.0; BINS_PER_OCTAVE as usize];
    let mut bin = 0;
    while bin < middles.len() {
        let lower = f64::from_bits(1.0f64.to_bits() + EDGES[bin]);
        let upper = if bin + 1 < EDGES.len() { f64::from_bits(1.0f64.to_bits() + EDGES[bin + 1]) } else { 2.0 };
        middles[bin] = 2.0 * lower * upper / (lower + upper);
        bin += 1;
    }
    middles
}

/// The key of a value that is not NaN; keys are in the order of values.
#[inline]
pub(super) fn key_of(value: f64) -> i32 {
    let bits = value.to_bits() & !(1 << 63);
    let (exponent, mantissa) = match (bits >> MANTISSA_BITS) as i32 {
        0 if bits == 0 => return 0,
        0 => {
            let shift = bits.leading_zeros() - (63 - MANTISSA_BITS); // brings the first bit to that of 1.0
            (EXPONENT_MIN + (MANTISSA_BITS - shift) as i32, (bits << shift) & ((1 << MANTISSA_BITS) - 1))
        }
        biased => (biased - 1_023, bits & ((1 << MANTISSA_BITS) - 1)),
    };
    let (next_edge, bin) = SLOTS[(mantissa >> (MANTISSA_BITS - 6)) as usize];
    let bin = i32::from(bin) + i32::from(mantissa >= next_edge);
    let magnitude = if exponent > 1_023 { KEY_INFINITY } else { (exponent - EXPONENT_MIN) * BINS_PER_OCTAVE + bin + 1 };
    if value.is_sign_negative() { -magnitude } else { magnitude }
}

/// The value that stands for a bin.
pub(super) fn value_of(key: i32) -> f64 {
    let magnitude = match key.abs() {
        0 => 0.0,
        KEY_INFINITY => f64::INFINITY,
        key => {
            let octave = (key - 1) / BINS_PER_OCTAVE + EXPONENT_MIN;
            let middle = MIDDLES[((key - 1) % BINS_PER_OCTAVE) as usize];
            // Two powers of two, each a normal number: the first product is exact, the second rounds if subnormal.
            let first = octave.max(-1_000);
            middle * power_of_two(first) * power_of_two(octave - first)
        }
    };
    if key < 0 { -magnitude } else { magnitude }
}

fn power_of_two(exponent: i32) -> f64 {
    f64::from_bits(((exponent + 1_023) as u64) << MANTISSA_BITS)
}

/// A bin in one number, in the order of keys: the key, moved above zero, over [`COUNT_BITS`] of count.
fn bin(key: i32, count: u64) -> u64 {
    ((key + KEY_INFINITY) as u64) << COUNT_BITS | count.min(COUNT_MAX)
}

fn key(bin: u64) -> i32 {
    (bin >> COUNT_BITS) as i32 - KEY_INFINITY
}

fn count(bin: u64) -> u64 {
    bin & COUNT_MAX
}

fn increase(bin: &mut u64, by: u64) {
    *bin += by.min(COUNT_MAX - count(*bin));
}

/// The distribution of a set of numbers; quantiles come within 1 % of the exact value.
///
/// 40 bytes, and none on the heap for up to three bins. For subnormal numbers the error is up to 1 % and half the
/// smallest of them, 2.5 × 10^−324.
///
/// ```
/// use streamgauge_schemas::sketch::Quantiles;
/// let mut latencies = Quantiles::default();
/// (1..=1_000).for_each(|milliseconds| latencies.add(f64::from(milliseconds)));
/// let p99 = latencies.quantile(0.99).unwrap();
/// assert!((p99 - 990.0).abs() <= 9.9);
/// ```
#[derive(Clone, Debug, Default)]
pub struct Quantiles {
    bins: Bins,
}

#[derive(Clone, Debug)]
enum Bins {
    Sparse(SmallSorted),
    Dense(Box<Dense>),
}

/// The counts of a window of keys of one sign, and beside it the count of zeros, which come with values of any size.
#[derive(Clone, Debug)]
struct Dense {
    zeros: u64,
    /// The key of the first count, a multiple of [`WINDOW_STEP`].
    first: i32,
    counts: Vec<u64>,
    /// How many counts of the window are not 0.
    occupied: usize,
}

impl Default for Bins {
    fn default() -> Self {
        Bins::Sparse(SmallSorted::new())
    }
}

impl Quantiles {
    /// Adds one value; NaN is left out. A few nanoseconds, up to a microsecond where it opens a bin among thousands.
    #[inline]
    pub fn add(&mut self, value: f64) {
        if !value.is_nan() {
            self.add_bin(key_of(value), 1);
        }
    }

    /// Adds all values of `other`.
    pub fn merge(&mut self, other: &Self) {
        let (mine, theirs) = (self.bins_held(), other.bins_held());
        if mine < theirs {
            let small = std::mem::replace(self, other.clone());
            return self.merge(&small);
        }
        match (&mut self.bins, &other.bins) {
            (Bins::Sparse(into), from) if theirs > 8 => {
                *into = match from {
                    Bins::Sparse(from) => union(into, from),
                    Bins::Dense(from) => union(into, &from.to_sparse()),
                };
                self.settle();
            }
            _ => other.for_each(|key, count| self.add_bin(key, count)),
        }
    }

    /// How many values were added, without NaN.
    #[must_use]
    pub fn count(&self) -> u64 {
        let mut sum = 0u64;
        self.for_each(|_, count| sum = sum.saturating_add(count));
        sum
    }

    /// The value at rank `⌊q (count − 1)⌋` of the sorted values, within 1 %; `None` of no values, or of a `q` outside `[0, 1]`.
    #[must_use]
    pub fn quantile(&self, q: f64) -> Option<f64> {
        let count = self.count();
        if count == 0 || !(0.0..=1.0).contains(&q) {
            return None;
        }
        let rank = ((q * (count - 1) as f64) as u64).min(count - 1); // the product may round up
        let (mut before, mut found) = (0u64, None);
        self.for_each(|key, count| {
            before = before.saturating_add(count);
            if found.is_none() && before > rank {
                found = Some(value_of(key));
            }
        });
        found
    }

    /// The bytes held outside of the sketch itself.
    #[must_use]
    pub fn heap_bytes(&self) -> usize {
        match &self.bins {
            Bins::Sparse(bins) => spilled_bytes(bins),
            Bins::Dense(dense) => size_of::<Dense>() + dense.counts.capacity() * size_of::<u64>(),
        }
    }

    /// Appends the encoding: the byte 1, the number of bins, then a bin the distance of its key to the one before
    /// (to that of −∞ for the first) and its count; numbers in LEB128.
    pub fn encode(&self, out: &mut Vec<u8>) {
        out.push(ENCODING);
        let mut bins = 0;
        self.for_each(|_, _| bins += 1);
        put_number(out, bins);
        let mut last = -KEY_INFINITY;
        self.for_each(|key, count| {
            put_number(out, (key - last) as u64);
            put_number(out, count);
            last = key;
        });
    }

    /// Reads an encoding.
    ///
    /// # Errors
    ///
    /// [`SchemaError::Encoding`] if the bytes are not what [`Quantiles::encode`] writes.
    pub fn decode(bytes: &[u8]) -> Result<Self, SchemaError> {
        let mut from = Reader::new("a sketch of quantiles", bytes);
        if from.byte()? != ENCODING {
            return Err(from.error("the form is not known; it was written by a newer version"));
        }
        let length = from.count(BINS_MAX)?;
        let mut bins = SmallSorted::with_capacity(length.min(from.remaining() / 2));
        let mut last = -KEY_INFINITY;
        for at in 0..length {
            let distance = from.number()?;
            if distance > (KEY_INFINITY - last) as u64 || (at > 0 && distance == 0) {
                return Err(from.error("a bin is not above the one before, or beyond the last"));
            }
            last += distance as i32;
            match from.number()? {
                count @ 1..=COUNT_MAX => bins.push(bin(last, count)),
                _ => return Err(from.error("a bin's count is 0 or too large")),
            }
        }
        from.end()?;
        let mut sketch = Quantiles { bins: Bins::Sparse(bins) };
        sketch.settle();
        Ok(sketch)
    }

    #[inline]
    fn add_bin(&mut self, key_added: i32, by: u64) {
        match &mut self.bins {
            Bins::Sparse(bins) => {
                let at = bins.partition_point(|held| key(*held) < key_added);
                match bins.get_mut(at) {
                    Some(held) if key(*held) == key_added => increase(held, by),
                    _ => {
                        bins.insert(at, bin(key_added, by));
                        if bins.len() >= DENSE_BINS_MIN {
                            self.settle();
                        }
                    }
                }
            }
            Bins::Dense(dense) => {
                if !dense.add(key_added, by) {
                    self.bins = Bins::Sparse(dense.to_sparse());
                    self.add_bin(key_added, by);
                }
            }
        }
    }

    /// Restores invariant 1, and changes to a dense window where that is small and quick.
    fn settle(&mut self) {
        let Bins::Sparse(bins) = &mut self.bins else { return };
        if let Some(excess) = bins.len().checked_sub(BINS_MAX + 1) {
            let collapsed = bins[..=excess].iter().fold(0, |sum, bin| (sum + count(*bin)).min(COUNT_MAX));
            increase(&mut bins[excess + 1], collapsed);
            bins.drain(..=excess);
        }
        if let Some(dense) = Dense::of(bins) {
            self.bins = Bins::Dense(Box::new(dense));
        }
    }

    /// The number of bins that a walk over the sketch sees, vacant ones of a window included.
    fn bins_held(&self) -> usize {
        match &self.bins {
            Bins::Sparse(bins) => bins.len(),
            Bins::Dense(dense) => dense.counts.len(),
        }
    }

    /// Visits the occupied bins in the order of their keys.
    fn for_each(&self, mut visit: impl FnMut(i32, u64)) {
        match &self.bins {
            Bins::Sparse(bins) => bins.iter().for_each(|bin| visit(key(*bin), count(*bin))),
            Bins::Dense(dense) => {
                let mut visit = |key, count| {
                    if count > 0 {
                        visit(key, count)
                    }
                };
                if dense.first >= 0 {
                    visit(0, dense.zeros);
                }
                (dense.first..).zip(&dense.counts).for_each(|(key, count)| visit(key, *count));
                if dense.first < 0 {
                    visit(0, dense.zeros);
                }
            }
        }
    }
}

impl PartialEq for Quantiles {
    fn eq(&self, other: &Self) -> bool {
        if let (Bins::Sparse(one), Bins::Sparse(two)) = (&self.bins, &other.bins) {
            return one == two;
        }
        let bins = |sketch: &Self| {
            let mut bins = Vec::with_capacity(sketch.bins_held() + 1);
            sketch.for_each(|key, count| bins.push(bin(key, count)));
            bins
        };
        bins(self) == bins(other)
    }
}

impl Eq for Quantiles {}

/// The bins of both, sorted, counts of equal keys added.
fn union(one: &[u64], two: &[u64]) -> SmallSorted {
    let mut bins = SmallSorted::with_capacity(one.len() + two.len());
    let (mut one, mut two) = (one.iter().copied().peekable(), two.iter().copied().peekable());
    while let (Some(a), Some(b)) = (one.peek(), two.peek()) {
        let mut next = if key(*a) <= key(*b) { *a } else { *b };
        if key(*a) == key(*b) {
            increase(&mut next, count(*b));
            one.next();
            two.next();
        } else if next == *a {
            one.next();
        } else {
            two.next();
        }
        bins.push(next);
    }
    bins.extend(one);
    bins.extend(two);
    bins
}

impl Dense {
    /// The window over sparse bins, if they are many, close together and of one sign (zero aside).
    fn of(bins: &[u64]) -> Option<Self> {
        if !(DENSE_BINS_MIN..=DENSE_BINS_MAX).contains(&bins.len()) {
            return None;
        }
        let zero = bins.partition_point(|held| key(*held) < 0);
        let zeros = bins.get(zero).filter(|held| key(**held) == 0).map_or(0, |held| count(*held));
        let (negative, positive) = (&bins[..zero], &bins[zero + usize::from(zeros > 0)..]);
        let signed = match (negative, positive) {
            ([], signed) | (signed, []) => signed,
            _ => return None,
        };
        let (first, after) = window(key(*signed.first()?), key(*signed.last()?));
        let length = (after - first) as usize;
        if length > 2 * signed.len() {
            return None;
        }
        let mut counts = vec![0; length];
        signed.iter().for_each(|held| counts[(key(*held) - first) as usize] = count(*held));
        Some(Dense { zeros, first, counts, occupied: signed.len() })
    }

    /// Counts in a bin; false, and nothing done, if that would break an invariant that sparse bins can keep.
    #[inline]
    fn add(&mut self, key: i32, by: u64) -> bool {
        let full = self.occupied + 1 >= BINS_MAX; // with the zeros
        let held = if key == 0 {
            &mut self.zeros
        } else {
            let last = self.first + self.counts.len() as i32 - 1;
            if (key < self.first || key > last) && !self.widen(key) {
                return false;
            }
            let held = &mut self.counts[(key - self.first) as usize];
            if *held == 0 {
                if full {
                    return false;
                }
                self.occupied += 1;
            }
            held
        };
        *held = (*held + by.min(COUNT_MAX)).min(COUNT_MAX);
        true
    }

    /// Makes the window reach to `key`, which is outside of it; false if it would become too long or have both signs.
    #[cold]
    fn widen(&mut self, key: i32) -> bool {
        let last = self.first + self.counts.len() as i32 - 1;
        let (first, after) = window(self.first.min(key), last.max(key));
        let length = (after - first) as usize;
        if (key < 0) != (self.first < 0) || length > 2 * self.occupied + 2 * WINDOW_STEP as usize {
            return false;
        }
        let mut counts = vec![0; length];
        counts[(self.first - first) as usize..][..self.counts.len()].copy_from_slice(&self.counts);
        (self.first, self.counts) = (first, counts);
        true
    }

    fn to_sparse(&self) -> SmallSorted {
        let mut bins = SmallSorted::with_capacity(self.occupied + 2);
        let signed = (self.first..).zip(&self.counts).filter(|(_, count)| **count > 0);
        bins.extend(signed.map(|(key, count)| bin(key, *count)));
        if self.zeros > 0 {
            let at = if self.first < 0 { bins.len() } else { 0 };
            bins.insert(at, bin(0, self.zeros));
        }
        bins
    }
}

/// The window around the keys from `lowest` to `highest`, `[first, after)`.
fn window(lowest: i32, highest: i32) -> (i32, i32) {
    let step = WINDOW_STEP;
    (lowest.div_euclid(step) * step, (highest.div_euclid(step) + 1) * step)
}
