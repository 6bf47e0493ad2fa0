//! Families: views that are fed from one another have the same dimension values, so these are looked up once for all.
//!
//! ```text
//!  dimension values of a batch ──hash──▶ number of the series      once a batch, by the worker that owns the series
//!  number ──▶ slot of the row that took an event of it last        in the table of each view
//! ```
//!
//! A number is a hint and nothing else: the row in that slot may be of another bucket, or gone. A table looks whether it is the
//! group's, and finds the row by hash if not.
//!
//! # Invariants
//!
//! 1. All views of a family have the same places among the dimension values of a batch.
//! 2. A series keeps its number as long as the numbering lasts; another numbering has another name.

use std::collections::HashMap;
use std::sync::OnceLock;

use hashbrown::HashTable;
use streamgauge_schemas::{GroupKey, SeriesId, ViewId};

use super::aggregate::Groups;

/// No number: of groups that are looked up by themselves.
pub(super) const NONE: u32 = u32::MAX;
/// So many series have numbers before it is asked whether they still have rows.
const SERIES_MIN: usize = 1_024;

/// The dimension values of a batch, which the groups of several views refer to by place.
#[derive(Debug)]
pub(super) struct Places {
    /// How many.
    pub(super) len: usize,
    /// Of which family the views are; `None` of a view by itself.
    family: Option<ViewId>,
    /// What each worker found out about those that it owns.
    numbered: Box<[OnceLock<Numbered>]>,
}

/// The numbers of a batch's dimension values that one worker owns.
#[derive(Debug)]
struct Numbered {
    /// Of which numbering they are.
    numbering: u64,
    /// All are below.
    end: usize,
    of_place: Box<[u32]>,
}

/// Where a table may have the rows of the groups of a batch.
#[derive(Clone, Copy)]
pub(super) struct Hints<'a> {
    numbered: Option<&'a Numbered>,
    places: &'a [u32],
}

/// The families whose series one worker numbers.
#[derive(Default)]
pub(crate) struct Families {
    of_first: HashMap<ViewId, Family>,
    /// Numberings made so far.
    made: u64,
}

/// See the module.
struct Family {
    numbering: u64,
    series: HashTable<(SeriesId, u32)>,
}

impl Places {
    /// Those of a view by itself.
    pub(super) fn alone(len: usize) -> Self {
        Places { len, family: None, numbered: Box::default() }
    }

    /// Those of the family of the view that is fed by no other, for so many workers.
    pub(super) fn shared(len: usize, family: ViewId, workers: usize) -> Self {
        Places { len, family: Some(family), numbered: (0..workers).map(|_| OnceLock::new()).collect() }
    }
}

impl Hints<'_> {
    /// Which numbering the numbers are of, and what they are below; `None` without numbers.
    pub(super) fn numbering(&self) -> Option<(u64, usize)> {
        self.numbered.map(|numbered| (numbered.numbering, numbered.end))
    }

    /// The number of the series of the group at `index`.
    #[inline]
    pub(super) fn number(&self, index: usize) -> u32 {
        self.numbered.map_or(NONE, |numbered| numbered.of_place[self.places[index] as usize])
    }
}

impl Families {
    /// Keeps these families, each named after the view that is fed by no other, and forgets all others.
    pub(crate) fn set(&mut self, families: impl Iterator<Item = ViewId>) {
        let mut before = std::mem::take(&mut self.of_first);
        for first in families {
            let family = before.remove(&first).unwrap_or_else(|| self.make());
            self.of_first.insert(first, family);
        }
    }

    /// What is known of the groups of a batch that worker `owner` owns, whichever view of the family asks first.
    ///
    /// Cost: a look-up for each dimension value of the batch, once.
    pub(super) fn hints<'a>(&mut self, groups: &'a Groups, owner: usize) -> Hints<'a> {
        let known = groups.batch.family.and_then(|family| {
            let family = self.of_first.get_mut(&family)?;
            let numbered = groups.batch.numbered[owner].get_or_init(|| family.number(groups));
            (numbered.numbering == family.numbering).then_some(numbered)
        });
        Hints { numbered: known, places: &groups.places }
    }

    /// Begins to number anew when most of the series that have a number have no row, where no view of the family has more
    /// than `rows` rows.
    pub(crate) fn trim(&mut self, first: ViewId, rows: usize) {
        let fresh = self.of_first.get(&first).is_some_and(|family| family.series.len() > 2 * rows.max(SERIES_MIN));
        if fresh {
            let family = self.make();
            self.of_first.insert(first, family);
        }
    }

    /// About how many bytes the numbers of a family take.
    pub(crate) fn bytes(&self, first: ViewId) -> usize {
        // Of a hash table's slots no more than 7/8 are taken, and each has a byte more.
        let each = size_of::<(SeriesId, u32)>() + 1;
        self.of_first.get(&first).map_or(0, |family| family.series.capacity() * 8 / 7 * each)
    }

    fn make(&mut self) -> Family {
        self.made += 1;
        Family { numbering: self.made, series: HashTable::new() }
    }
}

impl Family {
    fn number(&mut self, groups: &Groups) -> Numbered {
        let mut of_place = vec![NONE; groups.batch.len].into_boxed_slice();
        for (GroupKey { series, .. }, place) in groups.keys.iter().zip(&groups.places) {
            let number = &mut of_place[*place as usize];
            if *number == NONE {
                *number = self.number_of(*series);
            }
        }
        Numbered { numbering: self.numbering, end: self.series.len(), of_place }
    }

    fn number_of(&mut self, series: SeriesId) -> u32 {
        let next = self.series.len() as u32;
        let entry = self.series.entry(hash_of(series), |(known, _)| *known == series, |(known, _)| hash_of(*known));
        entry.or_insert((series, next)).get().1
    }
}

/// An identity is a hash already; its lower half says who owns the series, and is much the same for all of a worker.
fn hash_of(series: SeriesId) -> u64 {
    series.high
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use streamgauge_schemas::state::States;
    use streamgauge_schemas::{EventTime, Layout};

    use super::*;

    const FIRST: ViewId = ViewId(7);

    fn families() -> Families {
        let mut families = Families::default();
        families.set([FIRST].into_iter());
        families
    }

    /// A group of each of these series, as two workers see them.
    fn groups(series: impl Iterator<Item = u64>) -> Groups {
        let key = |number| GroupKey { series: SeriesId { high: number, low: 0 }, bucket: EventTime(0) };
        let keys: Vec<GroupKey> = series.map(key).collect();
        let states = Arc::new(States::new(&Layout::new(&[]).unwrap()));
        let batch = Arc::new(Places::shared(keys.len(), FIRST, 2));
        Groups { places: (0..keys.len() as u32).collect(), keys, batch, states }
    }

    fn numbers(families: &mut Families, groups: &Groups) -> Option<Vec<u32>> {
        let hints = families.hints(groups, 0);
        hints.numbering().map(|_| (0..groups.keys.len()).map(|at| hints.number(at)).collect())
    }

    #[test]
    fn a_series_keeps_its_number_until_all_are_numbered_anew() {
        let (mut families, many) = (families(), 2 * SERIES_MIN as u64 + 1);
        assert_eq!(numbers(&mut families, &groups([3, 5].into_iter())), Some(vec![0, 1]));
        assert_eq!(numbers(&mut families, &groups([9, 5, 3].into_iter())), Some(vec![2, 1, 0]));
        families.set([FIRST, ViewId(8)].into_iter());
        let before = groups([5].into_iter());
        assert_eq!(numbers(&mut families, &before), Some(vec![1]), "other families come and go");
        let all = numbers(&mut families, &groups(0..many)).unwrap();
        assert_eq!(all.iter().collect::<std::collections::HashSet<_>>().len(), all.len());
        families.trim(FIRST, all.len() / 2 + 1);
        assert_eq!(numbers(&mut families, &groups([5].into_iter())), Some(vec![1]), "about half of them have rows");
        families.trim(FIRST, 0);
        assert_eq!(families.bytes(FIRST), 0);
        assert_eq!(numbers(&mut families, &before), None, "what was found out before is not used");
        assert_eq!(numbers(&mut families, &groups([5].into_iter())), Some(vec![0]));
    }

    #[test]
    fn views_of_no_family_have_no_numbers() {
        let mut families = Families::default();
        assert_eq!(numbers(&mut families, &groups([3].into_iter())), None, "the owner knows of no such family yet");
        let alone = Groups { batch: Arc::new(Places::alone(1)), ..groups([3].into_iter()) };
        assert_eq!(numbers(&mut families, &alone), None);
        assert_eq!(families.hints(&alone, 0).number(0), NONE);
    }

    #[test]
    fn each_worker_numbers_what_it_owns() {
        let (mut one, mut other, groups) = (families(), families(), groups(0..3));
        let part = |keep: fn(&u32) -> bool| Groups {
            keys: groups
                .keys
                .iter()
                .zip(&groups.places)
                .filter(|(_, place)| keep(place))
                .map(|(key, _)| *key)
                .collect(),
            places: groups.places.iter().copied().filter(keep).collect(),
            ..groups.clone()
        };
        let (first, rest) = (part(|place| *place == 1), part(|place| *place != 1));
        let (hints, others) = (one.hints(&first, 0), other.hints(&rest, 1));
        assert_eq!((hints.number(0), others.number(0), others.number(1)), (0, 0, 1));
        assert_eq!((hints.numbering(), others.numbering()), (Some((1, 1)), Some((1, 2))));
    }
}
