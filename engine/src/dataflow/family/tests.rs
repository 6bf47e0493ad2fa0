//! Fed views against the rules, said plainly: each event goes to the row of each view at once.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use differential_dataflow::operators::arrange::TraceAgent;
use differential_dataflow::trace::Trace;
use futures_channel::mpsc::{self, Receiver};
use proptest::prelude::*;
use streamgauge_schemas::state::{Accumulator, States, accumulator::Events};
use streamgauge_schemas::view::rollup;
use streamgauge_schemas::{EventTime, GroupKey, Key, Layout, Rows, State, Summary, View};
use timely::dataflow::operators::generic::OperatorInfo;

use super::super::aggregate::Groups;
use super::super::arrangement::{Arrangement, RowSpine, Scan};
use super::super::table::Table;
use super::super::young::Young;
use super::*;
use crate::keys::{KeyRegistry, ViewKeys};
use crate::program::Rollup;
use crate::snapshot::{Delta, RowFilter};

/// The widths of the buckets in seconds, and after how many epochs a row is final. The first feeds the second and the third,
/// and the second the last two.
const VIEWS: [(i64, u64); 5] = [(1, 30), (2, 12), (3, 20), (4, 9), (12, 25)];
const SERIES: u64 = 5;
const SECONDS: i64 = 25;

fn id(view: usize) -> ViewId {
    ViewId(view as u64 + 1)
}

fn series(number: u64) -> SeriesId {
    SeriesId { high: number, low: 0 }
}

/// An event: its series, and its second.
type Event = (u64, i64);
/// Of each group its rows by generation, each with its version and how many events it has.
type Plain = BTreeMap<(GroupKey, u64), (u64, u64)>;

/// A family of views, and what each should have.
struct World {
    layout: Arc<Layout>,
    family: Family,
    views: Vec<Arrangement>,
    plain: Vec<Plain>,
    epoch: u64,
}

impl World {
    fn new() -> Self {
        let views: Vec<View> = VIEWS.iter().enumerate().map(|(at, (seconds, _))| view(at, *seconds)).collect();
        let layout = Arc::new(views[0].layout());
        let feedings: Vec<Feeding> = views
            .iter()
            .map(|view| Feeding {
                view: Arc::new(view.clone()),
                layout: layout.clone(),
                program: Arc::new(Rollup::of(view).unwrap()),
                keys: ViewKeys::Values(Arc::new(KeyRegistry::new(1))),
                skip: Epoch::ZERO,
            })
            .collect();
        let arrangements: Vec<Arrangement> =
            VIEWS.iter().map(|(_, idle_us)| arrangement(Table::new(layout.clone(), *idle_us))).collect();
        let feeders = super::super::feeders(views.iter());
        assert_eq!(
            feeders,
            HashMap::from([(id(1), id(0)), (id(2), id(0)), (id(3), id(1)), (id(4), id(3))]),
            "as the test wants them"
        );
        let all: Vec<&Feeding> = feedings.iter().collect();
        let held = |view: ViewId| arrangements[view.0 as usize - 1].held().clone();
        let family = Family::new(None, all[0], &all, &feeders, &held).unwrap();
        World { layout, family, views: arrangements, plain: vec![Plain::new(); VIEWS.len()], epoch: 100 }
    }

    /// A batch of the epoch that is now.
    fn batch(&mut self, events: &[Event]) {
        let epoch = self.epoch;
        let mut groups: BTreeMap<Event, u32> = BTreeMap::new();
        events.iter().for_each(|event| *groups.entry(*event).or_default() += 1);
        let mut states = States::new(&self.layout);
        groups.values().for_each(|count| states.push(&count_of(&self.layout, *count), 0));
        let groups = Groups {
            keys: groups.keys().map(|(number, second)| group(*number, *second, 1)).collect(),
            places: groups.keys().map(|(number, _)| *number as u32).collect(),
            places_len: SERIES as usize,
            states,
        };
        let parcel = Parcel { owner: 0, epoch: Epoch(epoch), batch: 0, groups };
        self.family.number(&parcel);
        self.family.feed(&parcel);
        self.family.passed(Epoch(epoch));
        for (plain, (seconds, idle_us)) in self.plain.iter_mut().zip(VIEWS).skip(1) {
            for (number, second) in events {
                let key = group(*number, *second, seconds);
                match plain.range_mut((key, 0)..=(key, epoch)).next_back() {
                    Some((_, (version, count))) if epoch - *version < idle_us || epoch == *version => {
                        (*version, *count) = (epoch, *count + 1);
                    }
                    _ => drop(plain.insert((key, epoch), (epoch, 1))),
                }
            }
        }
    }

    /// All rows of a view.
    fn all(&mut self, view: usize) -> Plain {
        self.rows(view, &Question::default())
    }

    /// The rows of a view, once its family has brought them.
    fn rows(&mut self, view: usize, question: &Question) -> Plain {
        let ids: Option<Vec<SeriesId>> = question.of.as_ref().map(|of| of.iter().map(|of| series(*of)).collect());
        self.family.bring(id(view), ids.as_deref());
        let ((lower, upper), above, mut rows) = (question.buckets(), Epoch(question.above), Rows::default());
        self.views[view].scan(&Scan { series: ids.as_deref(), lower, upper, above }, Some(&self.family), &mut rows);
        let mut read = Plain::new();
        for (key, row) in rows.iter() {
            let was = read.insert((key, row.generation.0), (row.version.0, events_of(&row.state)));
            assert_eq!(was, None, "a row is there once");
        }
        read
    }

    /// The rows that a view should have.
    fn wanted(&self, view: usize, question: &Question) -> Plain {
        let (lower, upper) = question.buckets();
        let wants = |((key, _), (version, _)): &(&(GroupKey, u64), &(u64, u64))| {
            question.of.as_ref().is_none_or(|of| of.contains(&key.series.high))
                && (lower..upper).contains(&key.bucket)
                && *version > question.above
        };
        self.plain[view].iter().filter(wants).map(|(row, value)| (*row, *value)).collect()
    }

    fn all_wanted(&self, view: usize) -> Plain {
        self.wanted(view, &Question::default())
    }
}

fn view(at: usize, seconds: i64) -> View {
    View { id: id(at), definition: rollup(&format!("by_{seconds}"), &format!("{seconds} seconds"), seconds) }
}

fn arrangement(table: Table) -> Arrangement {
    let info = OperatorInfo::new(0, 0, [0].into());
    let (reader, writer) = TraceAgent::new(RowSpine::new(info.clone(), None, None), info, None);
    Arrangement::new(reader, Rc::new(RefCell::new(Held::new(table, Young::new(writer)))))
}

fn group(number: u64, second: i64, width: i64) -> GroupKey {
    GroupKey { series: series(number), bucket: EventTime(second.div_euclid(width) * width * 1_000_000) }
}

/// The state of so many events of value 1.
fn count_of(layout: &Arc<Layout>, count: u32) -> States {
    let mut accumulator = Accumulator::new(layout.clone());
    let values = Arc::new(arrow::array::Float64Array::from(vec![1.0; count as usize]));
    accumulator.add(1, &Events { groups: &vec![0; count as usize], times: &[], arguments: &[values] });
    accumulator.take()
}

fn events_of(state: &State) -> u64 {
    Summary::of_rollup(state).count
}

/// A read: of these series or of all, in these seconds or in all, and of rows that changed after an epoch.
#[derive(Clone, Debug, Default)]
struct Question {
    of: Option<BTreeSet<u64>>,
    seconds: Option<(i64, i64)>,
    above: u64,
}

impl Question {
    fn buckets(&self) -> (EventTime, EventTime) {
        let of = |second: i64| EventTime(second.saturating_mul(1_000_000));
        self.seconds.map_or((EventTime(i64::MIN), EventTime(i64::MAX)), |(from, to)| (of(from), of(to)))
    }
}

#[derive(Clone, Debug)]
enum Step {
    Batch(Vec<Event>),
    Pass(u64),
    Read(usize, Question),
    Flush(usize, u64),
    Renumber,
    /// The view leaves the family and comes back, as one does when others come or go.
    Leave(usize),
}

fn step() -> impl Strategy<Value = Step> {
    let of = prop::option::of(prop::collection::btree_set(0..SERIES + 1, 0..3));
    let seconds = prop::option::of((0..SECONDS, 0..SECONDS + 12));
    let question = (of, seconds, prop_oneof![Just(0), 100u64..160]).prop_map(|(of, seconds, above)| Question {
        of,
        seconds,
        above,
    });
    prop_oneof![
        8 => prop::collection::vec((0..SERIES, 0..SECONDS), 1..8).prop_map(Step::Batch),
        2 => (1u64..15).prop_map(Step::Pass),
        2 => (1..VIEWS.len(), question).prop_map(|(view, question)| Step::Read(view, question)),
        1 => (1..VIEWS.len(), 0u64..10).prop_map(|(view, unflushed)| Step::Flush(view, unflushed)),
        1 => Just(Step::Renumber),
        1 => (1..VIEWS.len()).prop_map(Step::Leave),
    ]
}

proptest! {
    #[test]
    fn fed_views_are_those_to_which_each_event_goes_at_once(steps in prop::collection::vec(step(), 1..80)) {
        let mut world = World::new();
        for step in steps {
            match step {
                Step::Batch(events) => {
                    world.epoch += 1;
                    world.batch(&events);
                }
                Step::Pass(epochs) => world.epoch += epochs,
                Step::Read(view, question) => {
                    prop_assert_eq!(world.rows(view, &question), world.wanted(view, &question));
                }
                Step::Flush(view, unflushed) => {
                    let flushed = world.epoch - unflushed;
                    let horizon = flushed.saturating_sub(VIEWS[view].1);
                    world.family.bring(id(view), None);
                    let mut rows = Rows::default();
                    world.views[view].flush(Epoch(flushed), Epoch(horizon), &mut rows);
                    let changed: Plain = (rows.iter())
                        .map(|(key, row)| ((key, row.generation.0), (row.version.0, events_of(&row.state))))
                        .collect();
                    let wanted = world.plain[view].iter().filter(|(_, (version, _))| *version > flushed);
                    prop_assert_eq!(changed, wanted.map(|(row, value)| (*row, *value)).collect::<Plain>());
                    world.plain[view].retain(|_, (version, _)| *version > horizon);
                }
                Step::Renumber => {
                    world.family.bring_all();
                    world.family.series = Series::new();
                    world.family.branches.iter_mut().for_each(|branch| branch.feed.let_go());
                    world.family.number_rows();
                }
                Step::Leave(view) => {
                    world.family.bring_all();
                    world.views[view].held().borrow_mut().give_slots();
                    world.family.number_rows();
                }
            }
        }
        for view in 1..VIEWS.len() {
            prop_assert_eq!(world.all(view), world.all_wanted(view));
        }
    }
}

fn follow(world: &World, view: usize) -> Receiver<Delta> {
    let keys = ViewKeys::Values(Arc::new(KeyRegistry::new(1)));
    (0..SERIES).for_each(|number| keys.restore(series(number), &Key::Values(b"a"[..].into()), Epoch(1)));
    let (sender, deltas) = mpsc::channel(100);
    world.views[view].held().borrow_mut().followers.add(RowFilter::default(), sender, keys);
    deltas
}

#[test]
fn who_follows_a_fed_view_gets_every_batch_and_nothing_of_before() {
    let mut world = World::new();
    world.batch(&[(1, 3), (2, 4)]);
    world.all(3); // as a read that follows does
    let mut deltas = follow(&world, 3);
    for epoch in [101, 102] {
        world.epoch = epoch;
        world.batch(&[(1, 1), (1, 2), (1, 4), (3, 5)]);
        let delta = deltas.try_recv().unwrap();
        let changes: Vec<(i64, u64)> =
            delta.changes.iter().map(|(_, bucket, state)| (bucket.0 / 1_000_000, events_of(state))).collect();
        assert_eq!((delta.epoch, changes), (Epoch(epoch), vec![(0, 1), (0, 1), (4, 1), (4, 1)]));
        assert!(deltas.try_recv().is_err(), "one a batch");
    }
    drop(deltas);
    world.epoch = 103;
    world.batch(&[(1, 3)]); // nobody is there any more
    for view in 1..VIEWS.len() {
        assert_eq!(world.all(view), world.all_wanted(view));
    }
    world.batch(&[(4, 3)]);
    assert!(world.family.branches.iter().all(|branch| !branch.feed.is_empty()), "it waits again");
}

#[test]
fn a_fed_view_skips_what_its_loaded_rows_have() {
    let mut world = World::new();
    let row = |world: &World, version: u64, events| streamgauge_schemas::Row {
        generation: Epoch(95),
        version: Epoch(version),
        state: count_of(&world.layout, events).get(0),
    };
    // Of the view of four seconds epochs up to 101 are flushed; half of a flush brought one row up to 103.
    let rows = [(group(1, 4, 4), row(&world, 103, 7)), (group(2, 4, 4), row(&world, 101, 5))];
    world.views[3].load(Epoch(101), Epoch(103), rows.into_iter());
    world.views[2].load(Epoch(103), Epoch(103), std::iter::empty()); // and of another all up to then, of which no row may change
    for epoch in 100..106 {
        world.epoch = epoch;
        world.batch(&[(1, 5), (2, 5), (2, 6), (3, 5)]);
    }
    let wanted = [
        ((group(1, 4, 4), 95), (105, 7 + 2)),
        ((group(2, 4, 4), 95), (105, 5 + 2 * 4)),
        ((group(3, 4, 4), 102), (105, 4)),
    ];
    assert_eq!(world.all(3), Plain::from(wanted));
    assert_eq!(
        world.views[3].held().borrow().table.slots(),
        0,
        "loaded rows lie by number once their series is at them"
    );
    assert_eq!(world.all(2).values().map(|(_, events)| events).sum::<u64>(), 2 * 4);
    // The view above it has every event, and the one below what went through.
    assert_eq!(world.all(1), world.all_wanted(1));
    assert_eq!(world.all(4).values().map(|(_, events)| events).sum::<u64>(), 6 * 4);
}

/// Most series rest: their numbers and places are let go, and what waits is not lost.
#[test]
fn series_without_rows_lose_their_numbers() {
    let mut world = World::new();
    world.batch(&[(1, 3)]);
    for number in 0..2 * SERIES_MIN as u64 {
        world.family.series.number(&[group(100 + number, 0, 1)], &[0], 1, &mut Vec::new());
    }
    let before = world.family.bytes();
    world.family.trim(2 * SERIES_MIN);
    assert_eq!((world.family.bytes(), world.family.series.len()), (before, 2 * SERIES_MIN + 1));
    world.family.trim(1);
    assert!(world.family.bytes() < before / 100, "{} of {before}", world.family.bytes());
    assert_eq!(world.family.series.len(), 1, "that which has rows");
    world.batch(&[(1, 3)]);
    for view in 1..VIEWS.len() {
        assert_eq!(world.all(view), world.all_wanted(view));
    }
}
