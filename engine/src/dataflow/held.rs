//! What one worker holds of a view: its rows, and who follows them.

use streamgauge_schemas::{Epoch, EventTime, GroupKey, Row, Rows};

use super::followers::Followers;
use super::partials::Partials;
use super::series::Series;
use super::table::{Slot, Table};
use super::young::Young;

/// See the module.
pub(crate) struct Held {
    pub(super) table: Table,
    /// Which of its rows are not in the index yet.
    pub(super) young: Young,
    pub(crate) followers: Followers,
    /// Epochs up to this one are in ClickHouse, or were before the view: they change nothing.
    pub(super) skip: Epoch,
    /// Above this one no row, of any worker, has an epoch that is still to come.
    pub(super) known: Epoch,
}

impl Held {
    pub(super) fn new(table: Table, young: Young) -> Self {
        Held { table, young, followers: Followers::default(), skip: Epoch::ZERO, known: Epoch::ZERO }
    }

    /// Merges partial states into rows, and hands them to the followers if they are of one batch; those with several epochs
    /// are all above `skip`.
    pub(super) fn take(&mut self, partials: &Partials<'_>, batch: Option<(Epoch, u32)>) {
        let Held { table, young, followers, skip, .. } = self;
        if partials.keys.is_empty() || partials.span(0).last <= *skip {
            return;
        }
        if let Some(batch) = batch {
            followers.send(batch, partials.keys, partials.states);
        }
        table.apply_all(partials, |key, slot, change| young.push((key, slot), change));
        young.reach(table.slots());
    }

    /// From now on partial states come from a family, and rows lie by the numbers of its series.
    pub(super) fn number_rows(&mut self, series: &mut Series) {
        self.table.number_rows(series.numbering(), |id| series.number_of(id));
    }

    /// From now on partial states come through the view's own flow, and all rows have slots.
    pub(crate) fn give_slots(&mut self) {
        let Held { table, young, .. } = self;
        table.give_slots(|key, slot| young.push((key, slot), 1));
        young.reach(table.slots());
    }

    /// No epoch at or below this one comes any more, unless the view is fed: then its family says so.
    pub(super) fn passed(&mut self, epoch: Epoch) {
        if !self.table.is_fed() {
            self.table.passed(epoch);
        }
        self.young.reach(self.table.slots()); // also of rows that a start put in, or a flush took out
    }

    /// Puts in rows that ClickHouse has, with every event up to `flushed` that they do not have above their versions; `known`
    /// is the newest version of all workers' rows.
    pub(super) fn load(&mut self, flushed: Epoch, known: Epoch, rows: impl Iterator<Item = (GroupKey, Row)>) {
        (self.skip, self.known) = (flushed, known.max(flushed));
        for (key, row) in rows {
            let slot = self.table.load(key, &row);
            self.young.push((key, slot), 1);
        }
    }

    /// Reads every row changed after `flushed`, and removes every row at or below `horizon`; returns the newest bucket of
    /// those.
    pub(super) fn flush(&mut self, flushed: Epoch, horizon: Epoch, out: &mut Rows) -> Option<EventTime> {
        let Held { table, young, .. } = self;
        let mut newest = None;
        let removed = |key: GroupKey, slot: Option<Slot>| {
            newest = newest.max(Some(key.bucket));
            slot.into_iter().for_each(|slot| young.push((key, slot), -1));
        };
        table.flush(flushed, horizon, |key, row| out.push(key, row), removed);
        newest
    }
}
