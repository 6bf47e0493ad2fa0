//! The timely workers: threads that run the dataflow and answer commands in the order they were given.
//!
//! Every worker gets every command, in one order. That order is the whole protocol: a read that stands between two
//! epochs sees all of the first and nothing of the second, on every worker, without a lock.
//!
//! No other thread touches a worker's state, and Tokio never runs here.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use crossbeam_channel::{Receiver, Sender, TryRecvError};
use futures_channel::mpsc;
use parking_lot::Mutex;
use streamgauge_schemas::{Epoch, EventTime, Key, Rows, SeriesId, View, ViewId};
use timely::worker::Worker;

use crate::dataflow::{Family, Feeding, Groups, Held, Plan, Scan, ViewFlow, feeders};
use crate::keys::ViewKeys;
use crate::pending::Ticket;
use crate::program::{Failed, Prepared, Program};
use crate::recovery::ViewHistory;
use crate::snapshot::{KeyFilter, ViewRead};

/// What a worker can be told.
#[derive(Clone)]
pub(crate) enum Command {
    /// The events of an epoch arrived, as far as there are views over their streams.
    Events { epoch: Epoch, batches: Arc<[Arc<Prepared>]>, ticket: Arc<Ticket> },
    /// No event at or below this epoch will come any more.
    Advance { epoch: Epoch },
    /// Maintain a view from now on.
    AddView(AddView),
    /// Forget a view.
    DropView { view: ViewId },
    /// Answer with rows, as of all that came before.
    Read { views: Arc<[ViewRead]>, reply: mpsc::UnboundedSender<Vec<Part>> },
    /// Answer with the rows changed since the flushed epoch.
    Flush { view: ViewId, reply: mpsc::UnboundedSender<Part> },
    /// ClickHouse has everything of the view up to an epoch; the next flush takes rows up to the horizon out of memory.
    Flushed { view: ViewId, epoch: Epoch, horizon: Epoch },
    /// What ClickHouse has of the time before the view's flow has no newer bucket than this.
    History { view: ViewId, newest: Option<EventTime> },
    /// Answer when all that came before is processed.
    Settle { reply: mpsc::UnboundedSender<()> },
}

/// A view to maintain.
#[derive(Clone)]
pub(crate) struct AddView {
    pub(crate) view: Arc<View>,
    pub(crate) program: Arc<dyn Program>,
    pub(crate) keys: ViewKeys,
    pub(crate) counters: Arc<ViewCounters>,
    /// What ClickHouse has above the horizon; their keys are known already.
    pub(crate) rows: Arc<Rows>,
    /// Its flushed epoch.
    pub(crate) flushed: Epoch,
    pub(crate) history: ViewHistory,
}

/// What is counted of a view, over all workers.
#[derive(Debug, Default)]
pub(crate) struct ViewCounters {
    /// Rows in memory.
    pub(crate) rows: AtomicUsize,
    /// About how many bytes these and their keys take.
    pub(crate) bytes: AtomicUsize,
    /// Events that its expressions could not be computed of, since its creation.
    pub(crate) failed_events: AtomicU64,
    /// Such events of the time before, as its back-fill counted them.
    pub(crate) failed_before: AtomicU64,
    /// Why, of one of the newest of them.
    pub(crate) failure: Mutex<Option<String>>,
}

impl ViewCounters {
    /// Counts events that the view does not.
    pub(crate) fn fail(&self, failed: &Failed) {
        self.failed_events.fetch_add(failed.events, Ordering::Relaxed);
        self.explain(failed);
    }

    /// Says how many events of the time before its creation the view does not count.
    pub(crate) fn set_before(&self, failed: &Failed) {
        self.failed_before.store(failed.events, Ordering::Relaxed);
        self.explain(failed);
    }

    fn explain(&self, failed: &Failed) {
        if failed.events > 0 {
            *self.failure.lock() = Some(failed.reason.clone());
        }
    }
}

/// One worker's part of an answer about one view.
#[derive(Debug, Default)]
pub(crate) struct Part {
    pub(crate) horizon: Epoch,
    /// The newest bucket at or below the horizon, as far as this worker knows.
    pub(crate) newest: Option<EventTime>,
    pub(crate) rows: Rows,
    /// The keys of `rows`.
    pub(crate) keys: std::collections::HashMap<SeriesId, Key>,
    /// Of a flush: what of the worker's batches the view could not be computed of, since the start.
    pub(crate) failed: Failed,
}

/// The running workers.
pub(crate) struct Workers {
    senders: Vec<Sender<Command>>,
    join: Option<std::thread::JoinHandle<()>>,
}

impl Workers {
    /// Starts `count` workers, without views.
    pub(crate) fn start(count: usize, state_bytes: Arc<AtomicUsize>) -> std::io::Result<Self> {
        let (senders, receivers): (Vec<_>, Vec<_>) = (0..count).map(|_| crossbeam_channel::unbounded()).unzip();
        let main = move || {
            let config = timely::Config {
                communication: if count == 1 {
                    timely::CommunicationConfig::Thread
                } else {
                    timely::CommunicationConfig::Process(count)
                },
                worker: timely::WorkerConfig::default().idle_spin(std::time::Duration::ZERO),
            };
            let guards = timely::execute(config, move |worker| {
                let receiver = receivers[worker.index()].clone();
                run(worker, &receiver, &state_bytes);
            });
            match guards {
                Ok(guards) => {
                    for result in guards.join() {
                        if let Err(reason) = result {
                            tracing::error!(reason, "a worker died");
                        }
                    }
                }
                Err(reason) => tracing::error!(reason, "the workers did not start"),
            }
        };
        let join = std::thread::Builder::new().name("workers".into()).spawn(main)?;
        Ok(Workers { senders, join: Some(join) })
    }

    /// How many workers.
    pub(crate) fn len(&self) -> usize {
        self.senders.len()
    }

    /// Gives a command to every worker; `false` when one is gone.
    ///
    /// The queue has no bound of its own: events are admitted by [`Pending`](crate::pending::Pending) before they get
    /// here, and reads by the limit of concurrent queries.
    pub(crate) fn broadcast(&self, command: &Command) -> bool {
        self.senders.iter().all(|sender| sender.send(command.clone()).is_ok())
    }
}

impl Drop for Workers {
    fn drop(&mut self) {
        self.senders.clear(); // each worker finishes what it was given, then ends
        if let Some(join) = self.join.take() {
            let _ = join.join();
        }
    }
}

/// How many epochs a worker takes in before it lets the dataflow run,
const EPOCHS_PER_STEP_MAX: usize = 32;
/// or about how many partial states: so many still lie in the processor's caches when they are merged into their rows.
const GROUPS_PER_STEP: usize = 8_192;

fn run(worker: &mut Worker, commands: &Receiver<Command>, state_bytes: &Arc<AtomicUsize>) {
    let mut state = WorkerState {
        index: worker.index(),
        workers: worker.peers(),
        views: BTreeMap::new(),
        plan: Plan::default(),
        tickets: Vec::new(),
        groups_given: 0,
        all_bytes: state_bytes.clone(),
    };
    loop {
        let mut connected = true;
        state.groups_given = 0;
        for _ in 0..EPOCHS_PER_STEP_MAX {
            if state.groups_given >= GROUPS_PER_STEP {
                break;
            }
            // A worker that is done with everything sleeps until the next command; others only look.
            let command = if state.caught_up() {
                commands.recv().map_err(|_| TryRecvError::Disconnected)
            } else {
                commands.try_recv()
            };
            match command {
                Ok(command) => state.handle(worker, command),
                Err(TryRecvError::Empty) => break,
                Err(TryRecvError::Disconnected) => {
                    connected = false;
                    break;
                }
            }
        }
        if !connected {
            break;
        }
        state.step(worker);
    }
    state.catch_up(worker);
    drop(state);
    while worker.has_dataflows() {
        worker.step_or_park(Some(std::time::Duration::from_millis(1)));
    }
}

struct WorkerState {
    index: usize,
    workers: usize,
    /// In the order in which they were made.
    views: BTreeMap<ViewId, Maintained>,
    plan: Plan,
    /// Tickets of epochs that the dataflow has not finished.
    tickets: Vec<Arc<Ticket>>,
    /// Partial states given to the dataflow since it ran last.
    groups_given: usize,
    /// Where the bytes of all views on all workers are counted.
    all_bytes: Arc<AtomicUsize>,
}

/// A view as one worker maintains it.
struct Maintained {
    feeding: Feeding,
    flow: ViewFlow,
    /// `F`.
    flushed: Epoch,
    /// Rows at or below it were taken out of the table; up to the next one they will be with the next flush.
    horizon: Epoch,
    next_horizon: Epoch,
    /// The newest bucket at or below the horizon: of the rows that were there before the flow began, and of those that this
    /// worker took out.
    newest_before: Option<EventTime>,
    newest_removed: Option<EventTime>,
    counted: Counted,
    /// What of this worker's batches it could not be computed of.
    failed: Failed,
}

/// What this worker holds of a view, as part of what all workers hold.
struct Counted {
    bytes: usize,
    rows: usize,
    view: Arc<ViewCounters>,
    all_bytes: Arc<AtomicUsize>,
}

impl Counted {
    fn set(&mut self, rows: usize, bytes: usize) {
        let change = |counter: &AtomicUsize, old: usize, new: usize| {
            if new >= old {
                counter.fetch_add(new - old, Ordering::Relaxed);
            } else {
                counter.fetch_sub(old - new, Ordering::Relaxed);
            }
        };
        change(&self.view.rows, self.rows, rows);
        change(&self.view.bytes, self.bytes, bytes);
        change(&self.all_bytes, self.bytes, bytes);
        (self.rows, self.bytes) = (rows, bytes);
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.set(0, 0);
    }
}

impl Maintained {
    fn count(&mut self, worker: usize) {
        let waiting = self.flow.family().as_ref().map_or(0, Family::bytes);
        let others = self.feeding.keys.bytes(worker) + waiting;
        self.counted.set(self.flow.arrangement.rows(), self.flow.arrangement.bytes() + others);
    }

    /// The keys of rows.
    fn keys(&self, rows: &Rows) -> std::collections::HashMap<SeriesId, Key> {
        let mut keys = std::collections::HashMap::new();
        let mut last = None;
        for id in &rows.series {
            if last != Some(*id) {
                keys.entry(*id).or_insert_with(|| {
                    self.feeding.keys.get(*id).expect("a row in memory has a known key: keys, invariants 1 and 2")
                });
            }
            last = Some(*id);
        }
        keys
    }
}

impl WorkerState {
    fn caught_up(&self) -> bool {
        self.views.values().all(|view| view.flow.is_caught_up())
    }

    fn step(&mut self, worker: &mut Worker) {
        worker.step_or_park(Some(std::time::Duration::from_micros(500)));
        if self.caught_up() {
            self.views.values_mut().for_each(|view| view.flow.arrangement.compact());
            self.count();
            self.tickets.clear();
        }
    }

    fn catch_up(&mut self, worker: &mut Worker) {
        while !self.caught_up() {
            self.step(worker);
        }
    }

    fn handle(&mut self, worker: &mut Worker, command: Command) {
        match command {
            Command::Events { epoch, batches, ticket } => {
                self.events(epoch, &batches);
                self.tickets.push(ticket);
            }
            Command::Advance { epoch } => {
                // All views, on all workers: a frontier is that of the slowest, and only some may have rows to put in.
                self.views.values_mut().for_each(|view| view.flow.advance(epoch));
            }
            Command::AddView(add) => {
                self.catch_up(worker); // no partial state is on its way to a view that will be fed
                self.bring_all();
                self.add_view(worker, add);
            }
            Command::DropView { view } => {
                self.catch_up(worker);
                self.bring_all();
                if let Some(gone) = self.views.remove(&view) {
                    // At once. Its input closes, and the dataflow ends by itself: not as the end of views that it fed.
                    gone.flow.arrangement.held().borrow_mut().followers.end();
                    *gone.flow.family() = None;
                }
                self.plan_anew();
            }
            Command::Read { views, reply } => {
                self.catch_up(worker);
                let parts = views.iter().map(|read| self.read(read)).collect();
                let _ = reply.unbounded_send(parts); // the asker may be gone
            }
            Command::Flush { view, reply } => {
                self.catch_up(worker);
                let _ = reply.unbounded_send(self.flush(view));
                self.trim_family(view);
            }
            Command::Flushed { view, epoch, horizon } => {
                if let Some(view) = self.views.get_mut(&view) {
                    view.flushed = view.flushed.max(epoch);
                    view.next_horizon = view.next_horizon.max(horizon);
                }
            }
            Command::History { view, newest } => {
                if let Some(view) = self.views.get_mut(&view) {
                    view.newest_before = newest;
                }
            }
            Command::Settle { reply } => {
                self.catch_up(worker);
                self.bring_all();
                let _ = reply.unbounded_send(());
            }
        }
    }

    /// Makes the partial states of this worker's batches, and tells every view over their streams that the epoch is in.
    fn events(&mut self, epoch: Epoch, batches: &[Arc<Prepared>]) {
        let (plan, views, workers) = (&mut self.plan, &mut self.views, self.workers);
        let given = &mut self.groups_given;
        for (place, events) in batches.iter().enumerate() {
            // Whichever worker: the result is the same. The epoch spreads epochs of a single batch.
            if (epoch.0 as usize).wrapping_add(place) % workers != self.index {
                continue;
            }
            let mut failures: Vec<(ViewId, Failed)> = Vec::new();
            let mut give = |view: ViewId, groups: Groups| {
                *given += groups.keys.len();
                if let Some(view) = views.get_mut(&view) {
                    view.flow.send(epoch, place as u32, groups, workers);
                }
            };
            plan.run(epoch, events, &mut give, &mut |view, failed| failures.push((view, failed)));
            for (view, failed) in failures {
                if let Some(view) = views.get_mut(&view) {
                    view.counted.view.fail(&failed);
                    view.failed.add(&failed);
                }
            }
        }
        let streams: std::collections::BTreeSet<_> = batches.iter().map(|events| events.batch().stream()).collect();
        for view in views.values_mut().filter(|view| streams.contains(&view.feeding.view.definition.stream)) {
            view.flow.advance(epoch);
        }
    }

    fn add_view(&mut self, worker: &mut Worker, add: AddView) {
        let AddView { view, program, keys, counters, rows, flushed, history } = add;
        let layout = Arc::new(view.layout());
        let mut flow = ViewFlow::build(worker, &view, layout.clone());
        let mine = rows.iter().filter(|(key, _)| key.series.owner(self.workers) == self.index);
        let known = rows.version.iter().max().copied().unwrap_or(flushed);
        flow.arrangement.load(flushed, known, mine);
        let id = view.id;
        let feeding = Feeding { view, layout, program, keys, skip: flushed };
        let counted = Counted { bytes: 0, rows: 0, view: counters, all_bytes: self.all_bytes.clone() };
        let ViewHistory { horizon, newest } = history;
        let maintained = Maintained {
            feeding,
            flow,
            flushed,
            horizon,
            next_horizon: horizon,
            newest_before: newest,
            newest_removed: None,
            counted,
            failed: Failed::default(),
        };
        self.views.insert(id, maintained);
        self.plan_anew();
    }

    /// Plans all views anew; nothing is on its way to any, and nothing waits for one.
    fn plan_anew(&mut self) {
        let views: Vec<&Feeding> = self.views.values().map(|view| &view.feeding).collect();
        let feeders = feeders(views.iter().map(|feeding| &*feeding.view));
        self.plan = Plan::new(&views, &feeders);
        let held = |view: ViewId| -> Rc<RefCell<Held>> { self.views[&view].flow.arrangement.held().clone() };
        for view in self.views.values() {
            let is_fed = feeders.contains_key(&view.feeding.view.id);
            let before = view.flow.family().take();
            if !is_fed {
                view.flow.arrangement.held().borrow_mut().give_slots();
                *view.flow.family() = Family::new(before, &view.feeding, &views, &feeders, &held);
            }
        }
    }

    /// Brings what waits for a view to it: of these series, or of all.
    fn bring(&mut self, view: ViewId, series: Option<&[SeriesId]>) {
        let Some(root) = self.plan.root_of(view).and_then(|root| self.views.get(&root)) else { return };
        let brought = root.flow.family().as_mut().is_some_and(|family| family.bring(view, series));
        if brought {
            self.count();
        }
    }

    /// Brings what waits for any view.
    fn bring_all(&mut self) {
        let families = self.views.values().filter_map(|view| Some(view.flow.family().as_mut()?.bring_all()));
        if families.fold(false, |brought, family| brought | family) {
            self.count();
        }
    }

    fn count(&mut self) {
        self.views.values_mut().for_each(|view| view.count(self.index));
    }

    fn read(&mut self, read: &ViewRead) -> Part {
        let Some(view) = self.views.get(&read.view) else { return Part::default() };
        let horizon = view.horizon;
        let (index, workers) = (self.index, self.workers);
        let mine =
            |ids: Vec<SeriesId>| -> Vec<SeriesId> { ids.into_iter().filter(|id| id.owner(workers) == index).collect() };
        let series = match (&read.filter.keys, &view.feeding.keys) {
            (KeyFilter::All, _) => None,
            (KeyFilter::Name(name), ViewKeys::Series(registry)) => {
                Some(mine(registry.select(Some(name), &[], |_| true)))
            }
            (KeyFilter::NameAnd(name, test), ViewKeys::Series(registry)) => {
                Some(mine(registry.select(Some(name), &test.has, |series| (test.passes)(series))))
            }
            (KeyFilter::Predicate(test), ViewKeys::Series(registry)) => {
                Some(mine(registry.select(None, &test.has, |series| (test.passes)(series))))
            }
            (KeyFilter::Only(ids), _) => {
                let mut ids = mine(ids.to_vec());
                ids.sort_unstable();
                ids.dedup(); // a question may name a group twice, and its rows are there once
                Some(ids)
            }
            _ => Some(Vec::new()), // a filter of another kind than the view's keys matches none
        };
        let scan = Scan {
            series: series.as_deref(),
            lower: read.filter.lower.unwrap_or(EventTime(i64::MIN)),
            upper: read.filter.upper.unwrap_or(EventTime(i64::MAX)),
            above: horizon,
        };
        // Who follows gets what comes from now on, so that nothing may wait.
        self.bring(read.view, scan.series.filter(|_| read.follow.is_none()));
        let root = self.plan.root_of(read.view).and_then(|root| self.views.get(&root));
        let family = root.map(|root| root.flow.shared_family()).unwrap_or_default();
        let Some(view) = self.views.get_mut(&read.view) else { return Part::default() };
        let mut rows = Rows::default();
        view.flow.arrangement.scan(&scan, family.borrow().as_ref(), &mut rows);
        if let Some(sender) = &read.follow {
            let held = &mut view.flow.arrangement.held().borrow_mut();
            held.followers.add(read.filter.clone(), sender.clone(), view.feeding.keys.clone());
        }
        let keys = view.keys(&rows);
        Part { horizon, newest: view.newest_before.max(view.newest_removed), rows, keys, failed: Failed::default() }
    }

    fn flush(&mut self, view: ViewId) -> Part {
        self.bring(view, None);
        let Some(view) = self.views.get_mut(&view) else { return Part::default() };
        let horizon = view.next_horizon;
        let mut rows = Rows::default();
        let newest = view.flow.arrangement.flush(view.flushed, horizon, &mut rows);
        (view.horizon, view.newest_removed) = (horizon, view.newest_removed.max(newest));
        let held = view.flow.arrangement.rows();
        let keys = view.keys(&rows);
        view.feeding.keys.forget(self.index, horizon);
        let name = view.feeding.view.definition.name.clone();
        metrics::gauge!("streamgauge_view_rows", "view" => name, "worker" => self.index.to_string()).set(held as f64);
        Part { horizon, newest: None, rows, keys, failed: view.failed.clone() }
    }

    /// A flush has taken rows out: series without any need no number.
    fn trim_family(&mut self, view: ViewId) {
        let rows = self.plan.family_of(view).filter_map(|view| Some(self.views.get(&view)?.flow.arrangement.rows()));
        let (rows, root) = (rows.max().unwrap_or(0), self.plan.root_of(view).unwrap_or(view));
        let Some(root) = self.views.get(&root) else { return };
        if let Some(family) = root.flow.family().as_mut() {
            family.trim(rows);
        }
    }
}
