//! The table of a view that is fed: most of its rows lie by the number of their series.

use std::sync::Arc;

use streamgauge_schemas::{GroupKey, Row};

use super::super::arrangement::Scan;
use super::super::family::Family;
use super::super::partials::Partials;
use super::current::{Current, Header as CurrentHeader};
use super::{Applied, BLOCK, Header, NEAR_ROWS, NONE, Slot, Table, hash_of, place};

impl Table {
    /// Whether rows lie by the numbers of a family's series.
    pub(in super::super) fn is_fed(&self) -> bool {
        self.current.is_some()
    }

    /// From now on rows lie by numbers of that numbering, or all have slots; `began` is told of new slots.
    pub(in super::super) fn renumber(&mut self, numbering: Option<u64>, mut began: impl FnMut(GroupKey, Slot)) {
        if self.current.as_ref().map(Current::numbering) == numbering {
            return;
        }
        if let Some(mut current) = self.current.take() {
            for number in current.numbers() {
                self.move_out(&mut current, number, &mut began);
            }
        }
        self.current = numbering.map(|numbering| Current::new(Arc::clone(&self.layout), numbering));
        self.last = Vec::new(); // rows move from now on
    }

    /// As [`Table::apply_all`], of a view that is fed.
    pub(super) fn apply_fed(&mut self, partials: &Partials<'_>, mut began: impl FnMut(GroupKey, Slot)) {
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
                    self.move_out(&mut current, number, &mut began);
                }
                let newest = self.find(hash_of(key), key);
                if newest == NONE && !is_late {
                    current.begin(number, key, span, states, at, &mut self.heap_bytes);
                } else if let Applied::Began(slot) = self.apply_from(newest, span, key, states, at) {
                    began(key, slot);
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
    fn move_out(&mut self, current: &mut Current, number: u32, began: &mut impl FnMut(GroupKey, Slot)) {
        let Some(CurrentHeader { key, generation, version }) = current.header(number).copied() else { return };
        let slot = self.allocate(Header { key, generation, version, older: NONE });
        let (chunk, at) = place(slot);
        current.take(number, &mut self.chunks[chunk].states, at, &mut self.heap_bytes);
        self.link(hash_of(key), NONE, slot); // current: invariant 1
        began(key, slot);
    }
}
