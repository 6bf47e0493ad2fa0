//! Many states of one layout, in two vectors: no allocation a state, but for what its parts hold.

use super::{Layout, Part, State};

/// States side by side.
#[derive(Clone, Debug, Default)]
pub struct States {
    len: usize,
    /// Cells of each.
    width: usize,
    /// Parts of each.
    parts_each: usize,
    cells: Vec<u64>,
    parts: Vec<Part>,
}

impl States {
    /// None yet, of a layout.
    #[must_use]
    pub fn new(layout: &Layout) -> Self {
        States { width: layout.cells, parts_each: layout.parts, ..States::default() }
    }

    /// None yet, of the same layout as `other`, with room for `count`.
    #[must_use]
    pub fn like(other: &States, count: usize) -> Self {
        let (width, parts_each) = (other.width, other.parts_each);
        let (cells, parts) = (Vec::with_capacity(count * width), Vec::with_capacity(count * parts_each));
        States { len: 0, width, parts_each, cells, parts }
    }

    /// How many.
    #[must_use]
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Makes room for `count` more, and no more than that.
    pub fn reserve_exact(&mut self, count: usize) {
        self.cells.reserve_exact(count * self.width);
        self.parts.reserve_exact(count * self.parts_each);
    }

    /// The state at a place.
    #[must_use]
    pub fn get(&self, at: usize) -> State {
        let mut state = State::of_cells(self.cells(at));
        if self.parts_each > 0 {
            state.parts = Some(self.parts(at).into());
        }
        state
    }

    /// All of them, in order.
    pub fn iter(&self) -> impl Iterator<Item = State> + '_ {
        (0..self.len).map(|at| self.get(at))
    }

    /// Appends one of `other`, which has the same layout.
    #[inline]
    pub fn push(&mut self, other: &States, at: usize) {
        self.cells.extend_from_slice(other.cells(at));
        self.parts.extend_from_slice(other.parts(at));
        self.len += 1;
    }

    /// Appends one of `other`, which has the same layout and lets go of it: it is not to be read there before it is set.
    pub fn push_taken(&mut self, other: &mut States, at: usize) {
        self.cells.extend_from_slice(other.cells(at));
        let parts = &mut other.parts[at * other.parts_each..(at + 1) * other.parts_each];
        self.parts.extend(parts.iter_mut().map(|part| std::mem::replace(part, Part::Extreme(None))));
        self.len += 1;
    }

    /// Puts one of `other`, which has the same layout and lets go of it, in place of what is there: it is not to be read in
    /// `other` before it is set.
    pub fn set_taken(&mut self, at: usize, other: &mut States, from: usize) {
        self.cells[at * self.width..(at + 1) * self.width].copy_from_slice(other.cells(from));
        let parts = &mut other.parts[from * other.parts_each..(from + 1) * other.parts_each];
        let mine = &mut self.parts[at * self.parts_each..(at + 1) * self.parts_each];
        mine.iter_mut().zip(parts).for_each(|(mine, part)| *mine = std::mem::replace(part, Part::Extreme(None)));
    }

    /// Makes it as long as that, if it is shorter; what is added is not to be read before it is set.
    pub fn grow(&mut self, len: usize) {
        self.len = self.len.max(len);
        self.cells.resize(self.len * self.width, 0);
        self.parts.resize(self.len * self.parts_each, Part::Extreme(None));
    }

    /// Puts one of `other` in place of what is there.
    pub fn set(&mut self, at: usize, other: &States, from: usize) {
        self.cells[at * self.width..(at + 1) * self.width].copy_from_slice(other.cells(from));
        self.parts[at * self.parts_each..(at + 1) * self.parts_each].clone_from_slice(other.parts(from));
    }

    /// Appends a state that is not empty.
    pub fn push_state(&mut self, state: &State) {
        debug_assert_eq!(state.cells.len(), self.width, "states: invariant 2");
        self.cells.extend_from_slice(&state.cells);
        self.parts.extend(state.parts.iter().flat_map(|parts| parts.iter().cloned()));
        self.len += 1;
    }

    /// Lets go of what the parts of a state hold; it is not to be read again before it is set.
    pub fn release(&mut self, at: usize) {
        self.parts[at * self.parts_each..(at + 1) * self.parts_each].fill(Part::Extreme(None));
    }

    /// Bytes that a state holds outside of these vectors.
    #[must_use]
    pub fn heap_bytes(&self, at: usize) -> usize {
        self.parts(at).iter().map(Part::heap_bytes).sum()
    }

    /// Reads a little of a state, so that it is at hand when it is merged; what it is means nothing.
    #[inline]
    #[must_use]
    pub fn touch(&self, at: usize) -> u64 {
        let cells = self.cells(at);
        cells.first().zip(cells.last()).map_or(0, |(first, last)| first ^ last)
    }

    /// Bytes of one state in these vectors.
    #[must_use]
    pub fn bytes_each(&self) -> usize {
        self.width * size_of::<u64>() + self.parts_each * size_of::<Part>()
    }

    #[inline]
    fn cells(&self, at: usize) -> &[u64] {
        &self.cells[at * self.width..(at + 1) * self.width]
    }

    #[inline]
    fn parts(&self, at: usize) -> &[Part] {
        &self.parts[at * self.parts_each..(at + 1) * self.parts_each]
    }

    /// Appends states of no events, as `cells` and `parts` of one are.
    pub(super) fn push_blank(&mut self, count: usize, cells: &[u64], parts: &[Part]) {
        for _ in 0..count {
            self.cells.extend_from_slice(cells);
            self.parts.extend_from_slice(parts);
        }
        self.len += count;
    }

    pub(super) fn cells_mut(&mut self) -> &mut [u64] {
        &mut self.cells
    }

    pub(super) fn parts_mut(&mut self) -> &mut [Part] {
        &mut self.parts
    }
}

impl Layout {
    /// Whether states have more than their cells.
    #[inline]
    #[must_use]
    pub fn has_parts(&self) -> bool {
        self.parts > 0
    }

    /// Adds the events of one of `other`, which came after those of the state at `at`.
    #[inline]
    pub fn merge_at(&self, into: &mut States, at: usize, other: &States, from: usize) {
        self.merge_cells(&mut into.cells[at * self.cells..(at + 1) * self.cells], other.cells(from));
        if self.parts > 0 {
            self.merge_parts(&mut into.parts[at * self.parts..(at + 1) * self.parts], other.parts(from));
        }
    }

    /// Some folds of all states of this layout, in the order given, as a layout of these alone has them.
    #[must_use]
    pub fn pick_all(&self, folds: &[usize], states: &States) -> States {
        use super::fold::Place;
        let (mut cells, mut parts) = (Vec::new(), Vec::new());
        for fold in folds {
            match self.slots[*fold].at() {
                Place::Cell(at) => cells.extend(at..at + self.slots[*fold].cells()),
                Place::Part(at) => parts.push(at),
            }
        }
        let mut picked = States { width: cells.len(), parts_each: parts.len(), len: states.len, ..States::default() };
        picked.cells.reserve_exact(states.len * cells.len());
        for at in 0..states.len {
            let (of_cells, of_parts) = (states.cells(at), states.parts(at));
            picked.cells.extend(cells.iter().map(|cell| of_cells[*cell]));
            picked.parts.extend(parts.iter().map(|part| of_parts[*part].clone()));
        }
        picked
    }
}
