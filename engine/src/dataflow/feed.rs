//! A feed: what waits to be merged into a view that is fed from a finer one.
//!
//! ```text
//!  partial state @ epoch ─┬─▶ (of the series' bucket) ─▶ open, by series ─▶ (a read, a flush, a follower) ─▶ rows
//!                         │                                │
//!                         └─▶ (the first of another) ─▶ closed, with what was open ─▶ (some of them) ─▶ rows
//! ```
//!
//! A coarse bucket takes many partial states of each fine one. They are merged here first, where a series has its place by
//! number, so that the rows of all coarser views are touched once for many of them, and only when somebody wants to see them.
//! The first one of a bucket does not stay: it begins a row, and rows are not to begin all at once when somebody reads.
//!
//! # Invariants
//!
//! 1. For each series, what is closed comes before what is open.
//! 2. All that waits is of epochs closer to each other than the least `idle` of the views that it is for: a row that may take the first of
//!    merged partial states may take all of them.

use std::collections::VecDeque;
use std::sync::Arc;

use streamgauge_schemas::state::States;
use streamgauge_schemas::{Epoch, EventTime, GroupKey, Layout, SeriesId};

use super::coarsen::Coarsen;
use super::partials::{Merged, Span};
use super::series::Series;
use super::table::merge;

/// So many closed partial states wait at most; few where a test would not come to many.
const CLOSED_MAX: usize = if cfg!(test) { 4 } else { 8_192 };
/// For so many rows of all views partial states wait at most: who reads waits until they are merged.
const ROWS_MAX: usize = if cfg!(test) { 16 } else { 1 << 21 };
/// So many places are read ahead of their merging,
const BLOCK: usize = 128;
/// unless there are so few that they lie in the processor's caches anyway.
const NEAR: usize = if cfg!(test) { 2 } else { 4_096 };

/// See the module.
pub(super) struct Feed {
    coarsen: Coarsen,
    /// How many views what waits is for.
    views: usize,
    /// See invariant 2.
    idle_us: u64,
    /// By number of series.
    open: Vec<Open>,
    /// Their states.
    states: States,
    /// The numbers of those that are open, and of some that are not any more, by age.
    opened: VecDeque<u32>,
    closed: Closed,
    /// The first epoch of what waits; zero when nothing does.
    begun: Epoch,
    heap_bytes: usize,
}

/// What waits of a series; nothing while its first epoch is zero.
#[derive(Clone, Copy)]
struct Open {
    /// The bucket of its newest partial state; there was none while its last epoch is zero.
    bucket: EventTime,
    span: Span,
}

/// Partial states to which nothing is merged any more.
struct Closed {
    keys: Vec<GroupKey>,
    spans: Vec<Span>,
    numbers: Vec<u32>,
    states: States,
}

impl Open {
    const NEW: Open = Open { bucket: EventTime(0), span: Span { first: Epoch::ZERO, last: Epoch::ZERO } };

    fn waits(&self) -> bool {
        self.span.first != Epoch::ZERO
    }

    fn is_of(&self, bucket: EventTime) -> bool {
        self.bucket == bucket && self.span.last != Epoch::ZERO
    }
}

impl Closed {
    fn new(layout: &Layout) -> Self {
        Closed { keys: Vec::new(), spans: Vec::new(), numbers: Vec::new(), states: States::new(layout) }
    }

    /// Takes out all, and leaves as much room if that is wanted.
    fn take(&mut self, leave_room: bool) -> Self {
        let room = if leave_room { self.keys.len() } else { 0 };
        let empty = Closed {
            keys: Vec::with_capacity(room),
            spans: Vec::with_capacity(room),
            numbers: Vec::with_capacity(room),
            states: States::like(&self.states, room),
        };
        std::mem::replace(self, empty)
    }

    /// Takes the group of a partial state, whose state is to follow.
    fn push(&mut self, key: GroupKey, span: Span, number: u32) {
        self.keys.push(key);
        self.spans.push(span);
        self.numbers.push(number);
    }
}

impl Feed {
    /// For so many views of which one is fed with `coarsen` and others by it, the least `idle` of all being `idle_us`.
    pub(super) fn new(coarsen: Coarsen, views: usize, idle_us: u64) -> Self {
        let layout = coarsen.layout().clone();
        Feed {
            views,
            idle_us: idle_us.max(1),
            open: Vec::new(),
            states: States::new(&layout),
            opened: VecDeque::new(),
            closed: Closed::new(&layout),
            begun: Epoch::ZERO,
            heap_bytes: 0,
            coarsen,
        }
    }

    /// Whether nothing waits.
    pub(super) fn is_empty(&self) -> bool {
        self.begun == Epoch::ZERO
    }

    /// Takes out what is closed, and the oldest of what is open, if that is much.
    pub(super) fn take_excess(&mut self, series: &Series) -> Option<Merged> {
        if self.opened.len() * self.views > ROWS_MAX {
            let excess = self.opened.len() - ROWS_MAX / self.views;
            let oldest = excess.max(CLOSED_MAX).min(self.opened.len());
            let opened = std::mem::take(&mut self.opened);
            opened.iter().take(oldest).for_each(|number| self.close_open(*number, series));
            self.opened = opened;
            self.opened.drain(..oldest);
        }
        (self.closed.keys.len() >= CLOSED_MAX).then(|| self.take_closed(true))
    }

    /// Whether all that waits is to be taken before something of this epoch may come (invariant 2); whichever of the series there are.
    pub(super) fn is_due(&self, epoch: Epoch) -> bool {
        !self.is_empty() && epoch.0 / self.idle_us != self.begun.0 / self.idle_us
    }

    /// About how many bytes it takes.
    pub(super) fn bytes(&self) -> usize {
        let each = size_of::<Open>() + self.states.bytes_each();
        self.open.capacity() * each + self.opened.capacity() * size_of::<u32>() + self.heap_bytes
    }

    /// Takes the finer view's partial states of an epoch, whose series have numbers below `end`.
    pub(super) fn add(&mut self, epoch: Epoch, keys: &[GroupKey], states: &States, numbers: &[u32], end: usize) {
        let picked = self.coarsen.pick(states);
        let states = picked.as_ref().unwrap_or(states);
        if end > self.open.len() {
            self.open.resize(end, Open::NEW);
            self.states.grow(end);
        }
        if self.is_empty() && !keys.is_empty() {
            self.begun = epoch;
        }
        for begin in (0..keys.len()).step_by(BLOCK) {
            let block = begin..keys.len().min(begin + BLOCK);
            if end > NEAR {
                self.touch(&numbers[block.clone()]);
            }
            for at in block {
                let (number, bucket) = (numbers[at], self.coarsen.bucket(keys[at].bucket));
                let place = number as usize;
                let open = &mut self.open[place];
                if !open.is_of(bucket) {
                    self.close_open_of(number, keys[at].series); // invariant 1
                    self.open[place] = Open { bucket, span: Span { first: Epoch::ZERO, last: epoch } };
                    self.closed.push(GroupKey { series: keys[at].series, bucket }, Span::of(epoch), number);
                    self.closed.states.push(states, at);
                    self.heap_bytes += self.closed.states.heap_bytes(self.closed.states.len() - 1);
                } else if open.waits() {
                    open.span.last = epoch;
                    merge(self.coarsen.layout(), &mut self.states, place, states, at, &mut self.heap_bytes);
                } else {
                    open.span = Span::of(epoch);
                    self.opened.push_back(number);
                    self.states.set(place, states, at);
                    self.heap_bytes += self.states.heap_bytes(place);
                }
            }
        }
    }

    /// Takes out what is closed.
    fn take_closed(&mut self, leave_room: bool) -> Merged {
        let Closed { keys, spans, numbers, states } = self.closed.take(leave_room);
        self.heap_bytes -= (0..states.len()).map(|at| states.heap_bytes(at)).sum::<usize>();
        Merged { keys, spans: Arc::new(spans), numbers: Arc::new(numbers), states: Arc::new(states) }
    }

    /// Takes out all that waits.
    pub(super) fn take(&mut self, series: &Series) -> Merged {
        let opened = std::mem::take(&mut self.opened);
        opened.iter().for_each(|number| self.close_open(*number, series));
        self.opened = opened;
        self.opened.clear();
        self.begun = Epoch::ZERO;
        self.take_closed(false)
    }

    /// Takes out what waits of some series, and what is closed.
    pub(super) fn take_of(&mut self, numbers: impl Iterator<Item = u32>, series: &Series) -> Merged {
        numbers.for_each(|number| self.close_open(number, series));
        self.take_closed(false)
    }

    fn close_open(&mut self, number: u32, series: &Series) {
        self.close_open_of(number, series.of(number));
    }

    /// Moves what is open of a series to what is closed, if anything is; its number may stay among those that are open.
    fn close_open_of(&mut self, number: u32, series: SeriesId) {
        let Some(open) = self.open.get_mut(number as usize).filter(|open| open.waits()) else { return };
        self.closed.push(GroupKey { series, bucket: open.bucket }, open.span, number);
        open.span.first = Epoch::ZERO;
        self.closed.states.push_taken(&mut self.states, number as usize);
    }

    /// Lets go of all memory, when nothing waits: the series are numbered anew.
    pub(super) fn let_go(&mut self) {
        debug_assert!(self.is_empty() && self.heap_bytes == 0, "what waits would be lost");
        (self.open, self.opened) = (Vec::new(), VecDeque::new());
        self.states = States::new(self.coarsen.layout());
    }

    /// Reads something of what is open of these series, so that it is at hand: nothing waits for what is read.
    fn touch(&self, numbers: &[u32]) {
        let touch = |number: &u32| self.open[*number as usize].bucket.0 as u64 ^ self.states.touch(*number as usize);
        std::hint::black_box(numbers.iter().fold(0, |read, number| read ^ touch(number)));
    }
}

#[cfg(test)]
mod tests {
    use arrow::array::Float64Array;
    use streamgauge_schemas::ValueType;
    use streamgauge_schemas::state::{Accumulator, Fold, Function, accumulator::Events};
    use streamgauge_schemas::view::rollup;

    use super::*;

    /// Sketches hold memory of their own, a clone another size than its original: what comes in goes out in the books as well.
    #[test]
    fn bytes_of_sketches_are_counted_in_and_out() {
        let with_sketch = |name: &str, text: &str, seconds| {
            let mut definition = rollup(name, text, seconds);
            definition.folds.push(Fold::of(Function::Quantiles, 0, ValueType::F64));
            definition
        };
        let (fine, coarse) = (with_sketch("fine", "1 second", 1), with_sketch("coarse", "1 minute", 60));
        let layout = Arc::new(Layout::new(&fine.folds).unwrap());
        let mut feed = Feed::new(Coarsen::new(&coarse, layout.clone(), &fine, layout.clone()), 1, 1_000);
        let mut series = Series::new();
        for epoch in 1..20u64 {
            let mut accumulator = Accumulator::new(layout.clone());
            let values: Vec<f64> = (0..70 * epoch).map(|value| 1.03f64.powi(value as i32 % 90)).chain([-1e9]).collect();
            let (groups, column) = (vec![0; values.len()], Arc::new(Float64Array::from(values)));
            accumulator.add(1, &Events { groups: &groups, times: &[], arguments: &[column] });
            let bucket = EventTime(epoch as i64 / 3 * 60_000_000);
            let (keys, mut numbers) = ([GroupKey { series: SeriesId { high: 1, low: 0 }, bucket }], Vec::new());
            series.number(&keys, &[0], 1, &mut numbers);
            feed.add(Epoch(epoch), &keys, &accumulator.take(), &numbers, series.len());
            assert!(feed.heap_bytes > 0);
            if epoch % 5 == 0 {
                let merged = feed.take(&series);
                assert_eq!((feed.heap_bytes, merged.keys.is_empty()), (0, false), "epoch {epoch}");
            }
        }
        feed.take(&series);
        feed.let_go();
    }
}
