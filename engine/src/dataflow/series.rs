//! Series of a family: views that are fed from one another have the same dimension values, so these have numbers.
//!
//! ```text
//!  dimension values of a batch ──hash──▶ number of the series      once a batch, by the worker that owns the series
//!  number ──▶ slot of the row that took an event of it last        in the table of the finest view
//!         ├─▶ its current row                                      in the table of each other view
//!         └─▶ what waits to be fed to other views                  in the feeds
//! ```
//!
//! # Invariants
//!
//! 1. A series keeps its number as long as the numbering lasts; another numbering has another name.

use std::sync::atomic::{AtomicU64, Ordering};

use hashbrown::HashTable;
use streamgauge_schemas::{GroupKey, SeriesId};

/// No number.
pub(super) const NONE: u32 = u32::MAX;

/// The numbers of the series of some groups.
#[derive(Clone, Copy)]
pub(super) struct Numbers<'a> {
    /// Of which numbering they are.
    pub(super) numbering: u64,
    /// All are below.
    pub(super) end: usize,
    /// Per group.
    pub(super) of: &'a [u32],
}

/// The series that have a number.
pub(super) struct Series {
    numbering: u64,
    numbers: HashTable<(SeriesId, u32)>,
    by_number: Vec<SeriesId>,
    /// Kept from batch to batch for its room.
    of_place: Vec<u32>,
}

impl Series {
    /// None yet, in a numbering of its own.
    pub(super) fn new() -> Self {
        static MADE: AtomicU64 = AtomicU64::new(0);
        Series {
            numbering: MADE.fetch_add(1, Ordering::Relaxed),
            numbers: HashTable::new(),
            by_number: Vec::new(),
            of_place: Vec::new(),
        }
    }

    /// The name of the numbering.
    pub(super) fn numbering(&self) -> u64 {
        self.numbering
    }

    /// How many.
    pub(super) fn len(&self) -> usize {
        self.by_number.len()
    }

    /// About how many bytes they take.
    pub(super) fn bytes(&self) -> usize {
        // Of a hash table's slots no more than 7/8 are taken, and each has a byte more.
        let index = self.numbers.capacity() * 8 / 7 * (size_of::<(SeriesId, u32)>() + 1);
        index + self.by_number.capacity() * size_of::<SeriesId>() + self.of_place.capacity() * size_of::<u32>()
    }

    /// The series of a number.
    pub(super) fn of(&self, number: u32) -> SeriesId {
        self.by_number[number as usize]
    }

    /// The number of a series, if it has one.
    pub(super) fn find(&self, series: SeriesId) -> Option<u32> {
        self.numbers.find(hash_of(series), |(known, _)| *known == series).map(|(_, number)| *number)
    }

    /// Numbers the groups of a batch into `of`, by their places, which are below `places_len`.
    ///
    /// Cost: a look-up for each dimension value of the batch.
    pub(super) fn number(&mut self, keys: &[GroupKey], places: &[u32], places_len: usize, of: &mut Vec<u32>) {
        let mut of_place = std::mem::take(&mut self.of_place);
        of_place.clear();
        of_place.resize(places_len, NONE);
        of.clear();
        of.extend(keys.iter().zip(places).map(|(key, place)| {
            let number = &mut of_place[*place as usize];
            if *number == NONE {
                *number = self.number_of(key.series);
            }
            *number
        }));
        self.of_place = of_place;
    }

    /// These numbers, as tables take them.
    pub(super) fn numbers<'a>(&self, of: &'a [u32]) -> Numbers<'a> {
        Numbers { numbering: self.numbering, end: self.len(), of }
    }

    /// The number of a series, which gets one if it has none.
    pub(super) fn number_of(&mut self, series: SeriesId) -> u32 {
        let next = self.by_number.len() as u32;
        let entry = self.numbers.entry(hash_of(series), |(known, _)| *known == series, |(known, _)| hash_of(*known));
        let (_, number) = *entry.or_insert((series, next)).get();
        if number == next {
            self.by_number.push(series);
        }
        number
    }
}

/// An identity is a hash already; its lower half says who owns the series, and is much the same for all of a worker.
fn hash_of(series: SeriesId) -> u64 {
    series.high
}

#[cfg(test)]
mod tests {
    use streamgauge_schemas::EventTime;

    use super::*;

    /// A group of each of these series.
    fn number(series: &mut Series, of: impl Iterator<Item = u64>) -> Vec<u32> {
        let key = |high| GroupKey { series: SeriesId { high, low: 0 }, bucket: EventTime(0) };
        let keys: Vec<GroupKey> = of.map(key).collect();
        let (places, mut numbers): (Vec<u32>, _) = ((0..keys.len() as u32).collect(), Vec::new());
        series.number(&keys, &places, keys.len(), &mut numbers);
        numbers
    }

    #[test]
    fn a_series_keeps_its_number() {
        let mut series = Series::new();
        assert_eq!(number(&mut series, [3, 5].into_iter()), [0, 1]);
        assert_eq!(number(&mut series, [9, 5, 3].into_iter()), [2, 1, 0]);
        let all = number(&mut series, 0..5_000);
        assert_eq!(all.iter().collect::<std::collections::HashSet<_>>().len(), 5_000);
        for (high, number) in all.into_iter().enumerate() {
            let id = SeriesId { high: high as u64, low: 0 };
            assert_eq!((series.of(number), series.find(id)), (id, Some(number)));
        }
        assert_eq!((series.len(), series.find(SeriesId { high: 5_000, low: 0 })), (5_000, None));
        assert_ne!(series.numbers(&[]).numbering, Series::new().numbers(&[]).numbering);
    }

    #[test]
    fn a_dimension_value_with_several_buckets_has_one_number() {
        let key = |high, bucket| GroupKey { series: SeriesId { high, low: 0 }, bucket: EventTime(bucket) };
        let (mut series, mut numbers) = (Series::new(), vec![7]);
        series.number(&[key(4, 0), key(8, 0), key(4, 60)], &[0, 2, 0], 3, &mut numbers);
        assert_eq!(numbers, [0, 1, 0]);
    }
}
