//! The groups of a followed view: their merged states, and the row of each as the client has it.
//!
//! ```text
//!  history, memory ─▶ admit ─▶ merge ─┐
//!  deltas, in order ─▶ admit ─▶ merge ┴▶ touched groups ─▶ finish ─▶ HAVING ─▶ select list ─▶ where ─▶ compare ─▶ change
//!  time ─▶ forget the buckets that left ──────────────────────────────────────────────────────────────────────▲
//! ```
//!
//! # Invariants
//!
//! 1. `sent` of a group is its row as the client has it, and nothing when the client has none.
//! 2. The window's lower bound never goes back, so a bucket that left does not come again.
//! 3. A group is held only if the condition admits its name; so what is held is bounded by what may be shown.
//! 4. `bytes` counts every group held, and is what the reservation of the memory of all questions has.
//!
//! # Cost
//!
//! A change costs a merge, a finished row and a comparison a group that it touches, whatever is held. A group holds its
//! state, its dimension values and the text of its row.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use arrow::array::{BooleanArray, RecordBatch};
use arrow::compute::filter_record_batch;
use datafusion::error::DataFusionError;
use datafusion::execution::memory_pool::MemoryReservation;
use streamgauge_engine::snapshot::ViewSnapshot;
use streamgauge_engine::{Delta, Engine, RowFilter};
use streamgauge_schemas::value::key_id;
use streamgauge_schemas::{Duration, EventTime, GroupKey, Key, SeriesId, State};

use super::condition::Condition;
use super::view::{RowKey, ViewRow};
use crate::error::QueryError;
use crate::format::json_rows;
use crate::groups::GroupReader;
use crate::limits::QueryLimits;
use crate::predicate::{Comparison, Operand, Predicate, Value};
use crate::tables::write_conjuncts;

/// About how many bytes a group takes, besides its dimension values, what its state holds, and the text of its row.
const HELD_BYTES: usize = size_of::<(SeriesId, Held)>() + 48;
/// Groups that are finished at a time.
const BATCH_GROUPS: usize = 8_192;

/// See the module.
pub(super) struct Window {
    reader: GroupReader,
    condition: Condition,
    /// How far back it reaches, of a view with a bucket.
    range: Option<Duration>,
    /// Where it begins.
    lower: EventTime,
    buckets: BTreeMap<EventTime, HashMap<SeriesId, Held>>,
    groups: usize,
    bytes: usize,
    text_bytes: usize,
    limits: QueryLimits,
    reservation: MemoryReservation,
}

struct Held {
    key: Key,
    state: State,
    sent: Option<Arc<str>>,
}

/// The rows that changed, and those that are no more.
#[derive(Debug, Default)]
pub(super) struct Changed {
    pub(super) rows: Vec<ViewRow>,
    pub(super) removed: Vec<RowKey>,
}

impl Window {
    /// An empty one as of `now`.
    pub(super) fn new(
        reader: GroupReader,
        condition: Condition,
        range: Option<Duration>,
        now: EventTime,
        limits: QueryLimits,
        reservation: MemoryReservation,
    ) -> Self {
        let mut window = Window {
            reader,
            condition,
            range: None,
            lower: EventTime(i64::MIN),
            buckets: BTreeMap::new(),
            groups: 0,
            bytes: 0,
            text_bytes: 0,
            limits,
            reservation,
        };
        window.range = range.filter(|_| window.reader.has_bucket());
        window.lower = window.lower_at(now);
        window
    }

    pub(super) fn reader(&self) -> &GroupReader {
        &self.reader
    }

    /// The same without groups.
    pub(super) fn emptied(self) -> Self {
        self.reservation.resize(0);
        Window { buckets: BTreeMap::new(), groups: 0, bytes: 0, text_bytes: 0, ..self }
    }

    /// What the engine is asked for: a row too many is left out here.
    pub(super) fn filter(&self) -> RowFilter {
        let mut filter = self.condition.filter.clone();
        filter.lower = filter.lower.max(self.range.map(|_| self.lower));
        filter
    }

    /// What ClickHouse is asked for, as [`Window::filter`].
    pub(super) fn conjuncts(&self, engine: &Engine) -> String {
        let mut stored = self.condition.stored.clone();
        if let (Some(bucket), Some(_)) = (&self.reader.view.definition.bucket, self.range) {
            let column = Operand::Column(bucket.name.clone());
            stored.push(Predicate::Compare(column, Comparison::GreaterOrEqual, Value::Time(self.lower)));
        }
        let mut sql = String::new();
        write_conjuncts(&stored, "s", &mut sql);
        sql.push_str(&self.reader.of_series(engine, &self.condition.filter.keys));
        sql
    }

    /// Takes in rows of history.
    pub(super) fn add_history(&mut self, batch: &RecordBatch) -> Result<(), QueryError> {
        let fail = |error| QueryError::from_datafusion(error, self.limits.memory_bytes_max);
        let groups = self.reader.history_keys(batch).map_err(fail)?;
        let dimensions = self.reader.history_dimensions(batch).map_err(fail)?;
        let states = self.reader.history_states(batch).map_err(fail)?;
        let admitted = match self.condition.names() {
            Some(names) => {
                let names = self.reader.names(names.clone(), dimensions.clone(), &groups);
                names.and_then(|names| self.condition.admitted(&names)).map_err(fail)?
            }
            None => None,
        };
        for (row, (group, state)) in groups.iter().zip(&states).enumerate() {
            if group.bucket < self.lower || !is_set(&admitted, row) {
                continue;
            }
            if self.held(*group).is_none() {
                let key = self.reader.key(&dimensions, row);
                self.hold(*group, key)?;
            }
            self.merge(*group, state);
        }
        self.reserve()
    }

    /// Takes in what memory has.
    pub(super) fn add_memory(&mut self, snapshot: &ViewSnapshot) -> Result<(), QueryError> {
        let rows = &snapshot.rows;
        let groups = (0..rows.len()).map(|row| rows.key(row));
        let named = groups.clone().map(|group| (group, &snapshot.keys[&group.series]));
        self.admit(named)?;
        for (group, state) in groups.zip(&rows.state) {
            self.merge(group, state);
        }
        self.reserve()
    }

    /// Takes in what came, which is whole and in order, and lets go what left the window by `now`.
    pub(super) fn take_in(&mut self, deltas: &[Delta], now: EventTime) -> Result<Changed, QueryError> {
        let mut changed = Changed { removed: self.move_to(now), rows: Vec::new() };
        let identified: Vec<(GroupKey, &Key, &State)> = deltas
            .iter()
            .flat_map(|delta| &delta.changes)
            .map(|(key, bucket, state)| (GroupKey { series: identity(key), bucket: *bucket }, key, state))
            .collect();
        self.admit(identified.iter().map(|(group, key, _)| (*group, *key)))?;
        let mut touched = BTreeSet::new();
        for (group, _, state) in &identified {
            if self.merge(*group, state) {
                touched.insert(*group);
            }
        }
        self.compare(touched.into_iter().collect(), &mut changed)?;
        self.reserve()?;
        Ok(changed)
    }

    /// All rows, to a client that has none.
    pub(super) fn rows(&mut self) -> Result<Vec<ViewRow>, QueryError> {
        let groups = self
            .buckets
            .iter()
            .flat_map(|(bucket, groups)| groups.keys().map(|series| GroupKey { series: *series, bucket: *bucket }));
        let groups = groups.collect();
        let mut changed = Changed::default();
        self.compare(groups, &mut changed)?;
        self.reserve()?;
        Ok(changed.rows)
    }

    /// Whether a bucket has left the window by `now`.
    pub(super) fn has_left(&self, now: EventTime) -> bool {
        self.buckets.first_key_value().is_some_and(|(bucket, _)| *bucket < self.lower_at(now))
    }

    /// Where the window begins: with the bucket that holds the time of its range ago.
    fn lower_at(&self, now: EventTime) -> EventTime {
        let (Some(range), Some(bucket)) = (self.range, &self.reader.view.definition.bucket) else { return self.lower };
        let from = EventTime(now.0.saturating_sub(range.as_micros())).max(EventTime::EARLIEST);
        let bucket = match bucket.width {
            Some(width) => Some(from.floor(width)),
            None => self.reader.reading.bucket_at(from),
        };
        bucket.unwrap_or(EventTime::EARLIEST).max(EventTime::EARLIEST).max(self.lower) // invariant 2
    }

    /// Lets go the buckets that have left; the rows that the client had of them.
    fn move_to(&mut self, now: EventTime) -> Vec<RowKey> {
        self.lower = self.lower_at(now);
        let stay = self.buckets.split_off(&self.lower);
        let left = std::mem::replace(&mut self.buckets, stay);
        let mut removed = Vec::new();
        for (bucket, groups) in left {
            for (series, held) in groups {
                self.groups -= 1;
                self.bytes -= held.bytes();
                if let Some(text) = held.sent {
                    self.text_bytes -= text.len();
                    removed.push(self.row_key(GroupKey { series, bucket }));
                }
            }
        }
        removed
    }

    /// Holds those of these groups that are in the window, that the condition admits, and that are not held yet.
    fn admit<'a>(&mut self, groups: impl Iterator<Item = (GroupKey, &'a Key)>) -> Result<(), QueryError> {
        let unknown = groups.filter(|(group, _)| group.bucket >= self.lower && self.held(*group).is_none());
        let mut unknown: Vec<(GroupKey, &Key)> = unknown.collect();
        unknown.sort_unstable_by_key(|(group, _)| *group);
        unknown.dedup_by_key(|(group, _)| *group);
        for part in unknown.chunks(BATCH_GROUPS) {
            let admitted = self.admitted(part)?;
            for (place, (group, key)) in part.iter().enumerate() {
                if is_set(&admitted, place) {
                    self.hold(*group, (*key).clone())?;
                }
            }
        }
        Ok(())
    }

    fn admitted(&self, part: &[(GroupKey, &Key)]) -> Result<Option<BooleanArray>, QueryError> {
        let Some(schema) = self.condition.names() else { return Ok(None) };
        let groups: Vec<GroupKey> = part.iter().map(|(group, _)| *group).collect();
        let dimensions = self.reader.dimensions(part.iter().map(|(_, key)| *key));
        let names = dimensions.and_then(|dimensions| self.reader.names(schema.clone(), dimensions, &groups));
        let admitted = names.and_then(|names| self.condition.admitted(&names));
        admitted.map_err(|error| self.failed(error))
    }

    fn hold(&mut self, group: GroupKey, key: Key) -> Result<(), QueryError> {
        if self.groups >= self.limits.follow_groups_max {
            return Err(QueryError::Groups { max: self.limits.follow_groups_max });
        }
        let held = Held { key, state: State::empty(), sent: None };
        self.groups += 1;
        self.bytes += held.bytes();
        self.buckets.entry(group.bucket).or_default().insert(group.series, held);
        Ok(())
    }

    fn held(&self, group: GroupKey) -> Option<&Held> {
        self.buckets.get(&group.bucket)?.get(&group.series)
    }

    fn held_mut(&mut self, group: GroupKey) -> Option<&mut Held> {
        self.buckets.get_mut(&group.bucket)?.get_mut(&group.series)
    }

    /// Merges a state into that of a group; whether it is held.
    fn merge(&mut self, group: GroupKey, state: &State) -> bool {
        let held = self.buckets.get_mut(&group.bucket).and_then(|groups| groups.get_mut(&group.series));
        let Some(held) = held else { return false };
        self.bytes -= held.state.heap_bytes();
        self.reader.layout.merge(&mut held.state, state);
        self.bytes += held.state.heap_bytes();
        true
    }

    /// Finds out what the client does not have of these groups, and notes that it will (invariant 1).
    fn compare(&mut self, touched: Vec<GroupKey>, changed: &mut Changed) -> Result<(), QueryError> {
        for part in touched.chunks(BATCH_GROUPS) {
            let texts = self.finish(part).map_err(|error| self.failed(error))?;
            for (group, text) in part.iter().zip(texts) {
                let held = self.held_mut(*group).expect("a group that was finished is held");
                if held.sent == text {
                    continue;
                }
                let before = std::mem::replace(&mut held.sent, text.clone()).map_or(0, |text| text.len());
                let after = text.as_ref().map_or(0, |text| text.len());
                self.text_bytes = self.text_bytes - before + after;
                self.bytes = self.bytes - before + after;
                match text {
                    Some(json) => changed.rows.push(ViewRow { key: self.row_key(*group), json }),
                    None => changed.removed.push(self.row_key(*group)),
                }
            }
            if self.text_bytes > self.limits.json_bytes_max {
                return Err(QueryError::FollowedBytes { max: self.limits.json_bytes_max });
            }
        }
        Ok(())
    }

    /// The rows of groups, as they are now; nothing of one that does not pass `HAVING` or the condition.
    fn finish(&self, groups: &[GroupKey]) -> Result<Vec<Option<Arc<str>>>, DataFusionError> {
        let held: Vec<&Held> =
            groups.iter().map(|group| self.held(*group).expect("a group that was touched is held")).collect();
        let dimensions = self.reader.dimensions(held.iter().map(|held| &held.key))?;
        let mut places: Vec<usize> = (0..groups.len()).collect();
        let mut base = self.reader.finish(dimensions, groups, held.iter().map(|held| &held.state))?;
        if let Some(passed) = self.reader.reading.passed(&base)? {
            (base, places) = (filter_record_batch(&base, &passed)?, kept(&places, &passed));
        }
        let mut rows = self.reader.reading.columns_of(&base)?;
        if let Some(passed) = self.condition.passed(&rows)? {
            (rows, places) = (filter_record_batch(&rows, &passed)?, kept(&places, &passed));
        }
        let mut texts = vec![None; groups.len()];
        for (place, text) in places.into_iter().zip(json_rows(&rows)?) {
            texts[place] = Some(text.into());
        }
        Ok(texts)
    }

    /// The bound on the memory of all questions holds for what is held here too (invariant 4).
    fn reserve(&self) -> Result<(), QueryError> {
        self.reservation.try_resize(self.bytes).map_err(|error| self.failed(error))
    }

    fn failed(&self, error: DataFusionError) -> QueryError {
        QueryError::from_datafusion(error, self.limits.memory_bytes_max)
    }

    fn row_key(&self, group: GroupKey) -> RowKey {
        RowKey { series: group.series, bucket: self.reader.has_bucket().then_some(group.bucket) }
    }
}

impl Held {
    fn bytes(&self) -> usize {
        let key = match &self.key {
            Key::Values(bytes) => bytes.len(),
            Key::Series(series) => {
                series.name().len() + series.dimensions().iter().map(|(k, v)| k.len() + v.len() + 48).sum::<usize>()
            }
        };
        HELD_BYTES + key + self.state.heap_bytes() + self.sent.as_ref().map_or(0, |text| text.len())
    }
}

fn identity(key: &Key) -> SeriesId {
    match key {
        Key::Series(series) => series.id(),
        Key::Values(bytes) => key_id(bytes),
    }
}

fn is_set(mask: &Option<BooleanArray>, place: usize) -> bool {
    mask.as_ref().is_none_or(|mask| mask.value(place))
}

fn kept(places: &[usize], passed: &BooleanArray) -> Vec<usize> {
    places.iter().zip(passed.values()).filter(|(_, passed)| *passed).map(|(place, _)| *place).collect()
}
