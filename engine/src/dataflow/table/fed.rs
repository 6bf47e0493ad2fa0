//! The table of a view that is fed: most of its rows lie by the number of their series.

use std::sync::Arc;

use streamgauge_schemas::state::States;
use streamgauge_schemas::{GroupKey, Row, SeriesId};

use super::super::arrangement::Scan;
use super::super::family::Family;
use super::super::partials::{Partials, Span};
use super::chunk::{Header, NONE, Slot, place, put_taken};
use super::current::{Current, Header as CurrentHeader};
use super::{Applied, BLOCK, NEAR_ROWS, Table, hash_of};

impl Table {
    /// Whether rows lie by the numbers of a family's series.
    pub(in super::super) fn is_fed(&self) -> bool {
        self.current.is_some()
    }

    /// From now on partial states come from a family, and rows lie by the numbers that it gives to series, in a numbering of
    /// that name.
    pub(in super::super) fn number_rows(&mut self, numbering: u64, mut number_of: impl FnMut(SeriesId) -> u32) {
        if self.current.as_ref().is_some_and(|current| current.numbering() == numbering) {
            return;
        }
        let before = self.current.take();
        let mut current = Current::new(Arc::clone(&self.layout), numbering);
        if let Some(mut before) = before {
            before.drain(|header, states, at| current.put(number_of(header.key.series), header, states, at));
        }
        self.current = Some(current);
        self.last = Vec::new(); // rows move from now on
    }

    /// From now on partial states come without numbers, or with those of rows with slots: all have slots. `began` is told of
    /// new ones.
    pub(in super::super) fn give_slots(&mut self, mut began: impl FnMut(GroupKey, Slot)) {
        if let Some(mut before) = self.current.take() {
            before.drain(|header, states, at| began(header.key, self.put_in(header, states, at)));
        }
    }

    /// As [`Table::apply_all`], of a view that is fed.
    pub(super) fn apply_fed(&mut self, partials: &Partials<'_>, mut changed: impl FnMut(GroupKey, Slot, isize)) {
        let Some(mut current) = self.current.take() else { return };
        let (keys, states) = (partials.keys, partials.states);
        debug_assert!(
            partials.numbers.is_some_and(|numbers| numbers.numbering == current.numbering()),
            "current: invariant 2"
        );
        for begin in (0..keys.len()).step_by(BLOCK) {
            let block = begin..keys.len().min(begin + BLOCK);
            if current.len() > NEAR_ROWS {
                current.touch(block.clone().map(|at| partials.number(at)));
            }
            for at in block {
                let (key, number, span) = (keys[at], partials.number(at), partials.span(at));
                let header = current.header(number);
                if header.is_some_and(|header| header.key == key && span.may_follow(header.version, self.idle_us)) {
                    current.merge(number, span.last, states, at, &mut self.heap_bytes);
                    continue;
                }
                let is_late = header.is_some_and(|header| header.key.bucket > key.bucket);
                if !is_late {
                    self.move_out(&mut current, number, &mut changed);
                }
                let newest = self.find(hash_of(key), key);
                if !is_late && newest == NONE {
                    let header = CurrentHeader { key, generation: span.first, version: span.last };
                    current.begin(number, header, states, at, &mut self.heap_bytes);
                } else if !is_late && self.is_alone(newest, span) {
                    self.move_in(&mut current, number, newest);
                    changed(key, newest, -1);
                    current.merge(number, span.last, states, at, &mut self.heap_bytes);
                } else if let Applied::Began(slot) = self.apply_from(newest, span, key, states, at) {
                    changed(key, slot, 1);
                }
            }
        }
        self.current = Some(current);
    }

    /// Visits the current rows that a read wants; `family` is that of the view.
    pub(in super::super) fn visit_current(
        &self,
        scan: &Scan<'_>,
        family: Option<&Family>,
        mut visit: impl FnMut(GroupKey, Row),
    ) {
        let Some((current, family)) = self.current.as_ref().zip(family) else { return };
        let wanted = |header: &CurrentHeader| header.version > scan.above && scan.holds(header.key.bucket);
        match scan.series {
            None => current.each(wanted, visit),
            Some(series) => {
                let numbers = series.iter().filter_map(|id| Some((*id, family.number_of(*id)?)));
                let rows = numbers.filter_map(|(id, number)| current.get(number, id, wanted));
                rows.for_each(|(key, row)| visit(key, row));
            }
        }
    }

    /// Gives a slot to the current row of a series, if it has one.
    fn move_out(&mut self, current: &mut Current, number: u32, changed: &mut impl FnMut(GroupKey, Slot, isize)) {
        let Some(header) = current.header(number).copied() else { return };
        let slot = self.slot_for(header);
        let (chunk, at) = place(slot);
        current.take(number, &mut self.chunks[chunk].states, at);
        self.link(hash_of(header.key), NONE, slot); // current: invariant 1
        changed(header.key, slot, 1);
    }

    /// Gives a slot to a row that was current, with its state.
    fn put_in(&mut self, header: CurrentHeader, states: &mut States, from: usize) -> Slot {
        let slot = self.slot_for(header);
        let (chunk, at) = place(slot);
        put_taken(&mut self.chunks[chunk].states, at, states, from);
        self.link(hash_of(header.key), NONE, slot); // current: invariant 1
        slot
    }

    /// A slot for a row that was current, without its state.
    fn slot_for(&mut self, CurrentHeader { key, generation, version }: CurrentHeader) -> Slot {
        self.allocate(Header { key, generation, version, older: NONE })
    }

    /// Whether the row in a slot is the only one of its group, may take partial states of these epochs, and has none of them.
    fn is_alone(&self, slot: Slot, span: Span) -> bool {
        let header = self.header(slot);
        header.older == NONE && !self.loaded.contains_key(&slot) && span.may_follow(header.version, self.idle_us)
    }

    /// Makes the row in a slot the current one of its series, which has none.
    fn move_in(&mut self, current: &mut Current, number: u32, slot: Slot) {
        let Header { key, generation, version, .. } = *self.header(slot);
        let (chunk, at) = place(slot);
        current.put(number, CurrentHeader { key, generation, version }, &mut self.chunks[chunk].states, at);
        self.remove(slot);
    }
}
