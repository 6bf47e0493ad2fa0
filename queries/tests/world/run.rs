//! One seed: what happens, and that every view says what DataFusion says, in every world.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use rand::rngs::StdRng;
use rand::seq::IndexedRandom;
use rand::{Rng, SeedableRng};
use streamgauge_engine::Snapshot;
use streamgauge_schemas::EventBatch;

use super::engine::World;
use super::family::{MEMBERS, family};
use crate::generator::select;
use crate::stream::{assert_same, batches_of, plain, without_exactness};

const BATCHES: usize = 16;
const OTHERS: usize = 3;

/// Memory for rows of recent time: none, not enough, enough.
const RECENT_BYTES_MAX: [usize; 3] = [0, 600 << 10, 1 << 30];

/// A view that may be there: the first are a family.
struct Slot {
    name: String,
    select: String,
    live: Option<Live>,
}

/// A view that is there; batches are counted as they were acknowledged.
#[derive(Clone, Copy)]
struct Live {
    /// How many batches were before it.
    created: usize,
    /// How many of these are back-filled; `None` without a back-fill.
    filled: Option<usize>,
}

/// A query that has memory's part and reads history later.
struct Held {
    places: Vec<usize>,
    count: usize,
    snapshots: Vec<Snapshot>,
}

/// See the module. Told whole when it fails.
pub(crate) struct Run {
    seed: u64,
    rng: StdRng,
    clock: Arc<AtomicU64>,
    worlds: Vec<World>,
    slots: Vec<Slot>,
    coming: Vec<EventBatch>,
    acknowledged: Vec<EventBatch>,
    none: EventBatch,
    /// After how many batches no append was under way.
    ends: Vec<usize>,
    held: Vec<Held>,
    metrics: bool,
    told: Vec<String>,
}

impl Run {
    pub(crate) fn new(seed: u64, metrics: bool) -> Self {
        let mut rng = StdRng::seed_from_u64(seed);
        let counts = (0..BATCHES).map(|_| rng.random_range(1..30)).collect();
        let spread = if rng.random_bool(0.8) { 1 } else { 997 };
        let coming = batches_of(&mut rng, metrics, counts, spread);
        let none = batches_of(&mut rng, metrics, vec![0], 1).remove(0);
        let members = family(&mut rng, metrics).into_iter().enumerate().map(|(at, select)| (format!("f{at}"), select));
        let others = (0..OTHERS).map(|at| (format!("r{at}"), select(&mut rng, metrics)));
        let slots = members.chain(others).map(|(name, select)| Slot { name, select, live: None }).collect();
        let clock = Arc::new(AtomicU64::new(1_000_000));
        let world = |(index, workers): (usize, usize)| {
            let recent_bytes_max = RECENT_BYTES_MAX[(seed as usize + index) % RECENT_BYTES_MAX.len()];
            World::new(workers, metrics, recent_bytes_max, clock.clone())
        };
        let worlds = [1, 2, 4].into_iter().enumerate().map(world).collect();
        let (acknowledged, ends, held, told) = (Vec::new(), vec![0], Vec::new(), Vec::new());
        Run { seed, rng, clock, worlds, slots, coming, acknowledged, none, ends, held, metrics, told }
    }

    /// Takes steps until all batches are appended.
    pub(crate) fn finish_all(mut self) {
        for place in 0..self.slots.len() {
            if self.rng.random_bool(0.6) {
                self.create(place);
            }
        }
        if self.rng.random_bool(0.7) {
            self.flush(true);
        }
        while !self.coming.is_empty() {
            self.step();
        }
        self.fill(true);
        self.read_held();
        self.check_now();
        self.check_replays();
    }

    fn step(&mut self) {
        let place = self.rng.random_range(0..self.slots.len());
        let is_live = self.slots[place].live.is_some();
        match self.rng.random_range(0..32) {
            0..8 => self.append(),
            8..11 => self.create(place),
            11 if is_live => self.drop_view(place),
            12..17 => self.each("begin", |world, name| world.begin(name)),
            17..22 => self.each("finish", |world, name| world.finish(name, false)),
            22 => self.each("half", |world, name| world.finish(name, true)),
            23..26 => self.flush(true),
            26 => self.flush(false),
            27..29 => self.fill(false),
            29 => self.hold(),
            30 => self.restart(),
            _ => {}
        }
    }

    fn append(&mut self) {
        let after = [0..20, 30..400, 900..6_000].choose(&mut self.rng).unwrap().clone();
        self.clock.fetch_add(self.rng.random_range(after), Ordering::SeqCst);
        let count = self.rng.random_range(1..4);
        let batches = self.coming.split_off(self.coming.len().saturating_sub(count));
        self.told.push(format!("append {}", batches.len()));
        self.worlds.iter_mut().for_each(|world| world.append(&batches));
        self.acknowledged.extend(batches);
        self.ends.push(self.acknowledged.len());
        self.check_sometimes();
    }

    /// Makes a view; one that is there becomes another, if it is none of the family.
    fn create(&mut self, place: usize) {
        self.read_held();
        if self.slots[place].live.is_some() {
            if place < MEMBERS {
                return;
            }
            self.slots[place].select = select(&mut self.rng, self.metrics);
        }
        let (idle_us, backfill) = (*[40, 300, 1_000, 5_000].choose(&mut self.rng).unwrap(), self.rng.random_bool(0.6));
        let slot = &mut self.slots[place];
        self.told.push(format!("create {}, idle {idle_us}, backfill {backfill}: {}", slot.name, slot.select));
        self.worlds.iter_mut().for_each(|world| world.create(&slot.name, &slot.select, idle_us, backfill));
        slot.live = Some(Live { created: self.acknowledged.len(), filled: backfill.then_some(0) });
    }

    fn drop_view(&mut self, place: usize) {
        self.read_held();
        let slot = &mut self.slots[place];
        self.told.push(format!("drop {}", slot.name));
        slot.live = None;
        self.worlds.iter_mut().for_each(|world| world.drop_view(&slot.name));
    }

    /// Acts on about half of the views.
    fn each(&mut self, what: &str, act: impl Fn(&mut World, &str)) {
        for place in self.live() {
            if self.rng.random_bool(0.5) {
                let name = &self.slots[place].name;
                self.told.push(format!("{what} {name}"));
                self.worlds.iter_mut().for_each(|world| act(world, name));
            }
        }
    }

    /// Flushes the catalogue and the stream; the crash may come between write and commit.
    fn flush(&mut self, commit: bool) {
        self.told.push(format!("flush {commit}"));
        for world in &mut self.worlds {
            world.flush_catalog(commit);
            world.flush_stream(commit);
        }
    }

    /// Takes the next steps of back-fills, or all that are left.
    fn fill(&mut self, all: bool) {
        if all {
            self.flush(true);
        }
        for place in 0..self.slots.len() {
            let Some(Live { created, filled: Some(filled) }) = self.slots[place].live else { continue };
            let name = self.slots[place].name.clone();
            if filled == created || !self.worlds.iter().all(|world| world.can_fill(&name)) {
                continue;
            }
            let between: Vec<usize> =
                self.ends.iter().filter(|end| (filled + 1..=created).contains(end)).copied().collect();
            let end = if all { created } else { *between.choose(&mut self.rng).unwrap() };
            self.told.push(format!("fill {name} from {filled} to {end} of {created}"));
            let batches = &self.acknowledged[filled..end];
            self.worlds.iter_mut().for_each(|world| world.fill(&name, batches, end, end == created));
            self.slots[place].live = Some(Live { created, filled: Some(end) });
        }
    }

    fn live(&self) -> Vec<usize> {
        (0..self.slots.len()).filter(|place| self.slots[*place].live.is_some()).collect()
    }

    fn query(&self) -> Held {
        let places = self.live();
        let names = || places.iter().map(|place| self.slots[*place].name.as_str());
        let snapshots = self.worlds.iter().map(|world| world.snapshot(names())).collect();
        Held { places, count: self.acknowledged.len(), snapshots }
    }

    fn hold(&mut self) {
        self.told.push("query".into());
        let query = self.query();
        self.held.push(query);
    }

    /// Queries end before a view that they read does.
    fn read_held(&mut self) {
        for held in std::mem::take(&mut self.held) {
            self.check(&held);
        }
    }

    fn restart(&mut self) {
        self.read_held();
        self.told.push("restart".into());
        self.worlds.iter_mut().for_each(World::restart);
        self.check_sometimes();
    }

    /// What nobody reads waits: for the next read, or for a flush.
    fn check_sometimes(&mut self) {
        if self.rng.random_bool(0.4) {
            self.told.push("check".into());
            self.check_now();
        }
    }

    fn check_now(&self) {
        let finest = self.slots[0].live.is_some();
        for slot in self.slots[1..MEMBERS].iter().filter(|slot| finest && slot.live.is_some()) {
            assert!(self.worlds.iter().all(|world| world.is_fed(&slot.name)), "{} is fed: {}", slot.name, slot.select);
        }
        self.check(&self.query());
        for place in self.live() {
            self.worlds.iter().for_each(|world| world.check_since(&self.slots[place].name));
        }
    }

    fn check(&self, query: &Held) {
        for (index, place) in query.places.iter().enumerate() {
            let Slot { name, select, live } = &self.slots[*place];
            let live = live.expect("a query ends before its views");
            let counted = self.acknowledged[..live.filled.unwrap_or(0)].iter();
            let counted = counted.chain(&self.acknowledged[live.created..query.count]).chain([&self.none]);
            let wanted = plain(select, &counted.cloned().collect::<Vec<_>>());
            for (world, snapshot) in self.worlds.iter().zip(&query.snapshots) {
                let pieces = world.pieces(name, snapshot, index);
                let found = world.answer(name, &pieces, &self.acknowledged);
                let what = format!(
                    "seed {}, {} workers, {} batches, view {name}: {select}",
                    self.seed, world.workers, query.count
                );
                if found.1.is_empty() && !select.contains("GROUP BY") {
                    // Without groups, SQL has one row of no events; a view has none before the first.
                    let nothing = plain(select, std::slice::from_ref(&self.none));
                    assert_same(&what, nothing, wanted.clone());
                } else {
                    assert_same(&what, without_exactness(found), wanted.clone());
                }
            }
        }
    }

    /// Any number of workers makes the same states of the same log, to the last bit.
    ///
    /// Those that were made while it was written are of the same events, but floats may have been summed in another order:
    /// what a view is fed from follows the views that there are, and a restart knows those of the flushed catalogue at once.
    fn check_replays(&mut self) {
        let names: Vec<&str> = self.live().into_iter().map(|place| self.slots[place].name.as_str()).collect();
        for world in &mut self.worlds {
            let made = world.all_pieces(&names);
            let [one, two, four] = [1, 2, 4].map(|workers| world.replayed(workers).all_pieces(&names));
            let what = format!("seed {}, the log of {} workers", self.seed, world.workers);
            assert_eq!(one, made, "{what}, replayed"); // states take no part in it
            for (workers, many) in [(2, two), (4, four)] {
                assert_eq!(one, many, "{what}, replayed by {workers}");
                for ((name, group, row), (.., other)) in one.iter().zip(&many) {
                    assert_eq!(row.state, other.state, "{what}, replayed by {workers}, view {name}, {group:?}");
                }
            }
        }
    }
}

impl Drop for Run {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("seed {}, metrics {}, what happened:\n  {}", self.seed, self.metrics, self.told.join("\n  "));
        }
    }
}
