//! The timely workers: threads that run the dataflow and answer commands in the order they were given.
//!
//! Every worker gets every command, in one order. That order is the whole protocol: a read that stands between two
//! epochs sees all of the first and nothing of the second, on every worker, without a lock.
//!
//! No other thread touches a worker's state, and Tokio never runs here.

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use crossbeam_channel::{Receiver, Sender, TryRecvError};
use futures_channel::mpsc;
use streamgauge_schemas::{Epoch, EventTime, GroupKey, MetricsBatch, Row, Rows, SeriesId, ViewDefinition};
use timely::worker::Worker;

use crate::dataflow::{self, Arrived, Dataflow, Scan, Share};
use crate::pending::Ticket;
use crate::registry::SeriesRegistry;
use crate::snapshot::{SeriesFilter, ViewRead};

/// What a worker can be told.
#[derive(Clone)]
pub(crate) enum Command {
    /// The metrics of an epoch arrived.
    Events { epoch: Epoch, batches: Arc<[Arc<MetricsBatch>]>, ticket: Arc<Ticket> },
    /// No event at or below this epoch will come any more.
    Advance { epoch: Epoch },
    /// Put rows in, that ClickHouse had at start, and take the view as flushed up to an epoch.
    Load { view: usize, rows: Arc<Rows>, flushed: Epoch },
    /// Answer with rows, as of all that came before.
    Read { views: Arc<[ViewRead]>, reply: mpsc::UnboundedSender<Vec<Part>> },
    /// Answer with the rows changed since the flushed epoch.
    Flush { view: usize, reply: mpsc::UnboundedSender<Part> },
    /// ClickHouse has everything of the view up to an epoch.
    Flushed { view: usize, epoch: Epoch },
    /// Answer when all that came before is processed.
    Settle { reply: mpsc::UnboundedSender<()> },
}

/// One worker's part of an answer about one view.
#[derive(Debug, Default)]
pub(crate) struct Part {
    pub(crate) horizon: Epoch,
    pub(crate) rows: Rows,
}

/// The running workers.
pub(crate) struct Workers {
    senders: Vec<Sender<Command>>,
    join: Option<std::thread::JoinHandle<()>>,
}

impl Workers {
    /// Starts `count` workers with the views' dataflows.
    pub(crate) fn start(
        count: usize,
        views: Arc<[Arc<ViewDefinition>]>,
        registry: Arc<SeriesRegistry>,
        state_bytes: Arc<AtomicUsize>,
    ) -> std::io::Result<Self> {
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
                let share = Share { index: worker.index(), workers: worker.peers() };
                let receiver = receivers[share.index].clone();
                run(worker, share, &receiver, &views, (&registry, &state_bytes));
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

/// What an update of an arrangement takes in memory, about: key, row, time and difference, and the offsets between them.
const UPDATE_BYTES: usize = size_of::<(GroupKey, Row, u64, isize)>() + 16;

/// How many epochs a worker takes in before it lets the dataflow run.
const EPOCHS_PER_STEP_MAX: usize = 32;

fn run(
    worker: &mut Worker,
    share: Share,
    commands: &Receiver<Command>,
    views: &[Arc<ViewDefinition>],
    (registry, state_bytes): (&Arc<SeriesRegistry>, &Arc<AtomicUsize>),
) {
    let dataflow = worker.dataflow(|scope| dataflow::build(scope, share, views));
    let flushed = vec![Epoch::ZERO; views.len()];
    let mut state = WorkerState {
        share,
        dataflow,
        flushed,
        registry: registry.clone(),
        tickets: Rc::default(),
        counted: Counted { bytes: 0, all: state_bytes.clone() },
    };
    loop {
        let mut connected = true;
        for _ in 0..EPOCHS_PER_STEP_MAX {
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
    share: Share,
    dataflow: Dataflow,
    /// `F` of each view.
    flushed: Vec<Epoch>,
    registry: Arc<SeriesRegistry>,
    /// Tickets of epochs that the dataflow has not finished.
    tickets: Rc<RefCell<Vec<Arc<Ticket>>>>,
    counted: Counted,
}

/// The bytes of rows that this worker holds, as part of those of all workers.
struct Counted {
    bytes: usize,
    all: Arc<AtomicUsize>,
}

impl Counted {
    fn set(&mut self, bytes: usize) {
        if bytes >= self.bytes {
            self.all.fetch_add(bytes - self.bytes, Ordering::Relaxed);
        } else {
            self.all.fetch_sub(self.bytes - bytes, Ordering::Relaxed);
        }
        self.bytes = bytes;
    }
}

impl WorkerState {
    fn caught_up(&self) -> bool {
        !self.dataflow.probe.less_than(self.dataflow.input.time())
    }

    fn step(&mut self, worker: &mut Worker) {
        worker.step_or_park(Some(std::time::Duration::from_micros(500)));
        if self.caught_up() {
            let frontier = *self.dataflow.input.time();
            self.dataflow.views.iter_mut().for_each(|view| view.arrangement.compact(frontier));
            let updates: usize = self.dataflow.views.iter_mut().map(|view| view.arrangement.updates()).sum();
            self.counted.set(updates * UPDATE_BYTES);
            self.tickets.borrow_mut().clear();
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
                self.dataflow.input.advance_to(epoch.0);
                self.dataflow.input.send(Arrived { epoch, batches });
                self.dataflow.input.advance_to(epoch.0 + 1);
                self.tickets.borrow_mut().push(ticket);
            }
            Command::Advance { epoch } => {
                self.dataflow.input.advance_to((epoch.0 + 1).max(*self.dataflow.input.time()))
            }
            Command::Load { view, rows, flushed } => self.load(view, &rows, flushed),
            Command::Read { views, reply } => {
                self.catch_up(worker);
                let parts = views.iter().map(|read| self.read(read)).collect();
                let _ = reply.unbounded_send(parts); // the asker may be gone
            }
            Command::Flush { view, reply } => {
                self.catch_up(worker);
                let _ = reply.unbounded_send(self.flush(view));
            }
            Command::Flushed { view, epoch } => self.flushed[view] = self.flushed[view].max(epoch),
            Command::Settle { reply } => {
                self.catch_up(worker);
                let _ = reply.unbounded_send(());
            }
        }
    }

    fn load(&mut self, view: usize, rows: &Rows, flushed: Epoch) {
        let share = self.share;
        self.flushed[view] = flushed;
        let arrangement = &mut self.dataflow.views[view].arrangement;
        arrangement.load(flushed, rows.iter().filter(|(key, _)| key.series.owner(share.workers) == share.index));
    }

    fn horizon(&self, view: usize) -> Epoch {
        self.dataflow.views[view].definition.horizon(self.flushed[view])
    }

    fn read(&mut self, read: &ViewRead) -> Part {
        let horizon = self.horizon(read.view);
        let mine = |ids: Vec<SeriesId>| -> Vec<SeriesId> {
            ids.into_iter().filter(|id| id.owner(self.share.workers) == self.share.index).collect()
        };
        let series = match &read.filter.series {
            SeriesFilter::All => None,
            SeriesFilter::Name(name) => Some(mine(self.registry.select(name, |_| true))),
            SeriesFilter::NameAnd(name, test) => Some(mine(self.registry.select(name, |series| test(series)))),
            SeriesFilter::Predicate(test) => Some(mine(self.registry.select_all(|series| test(series)))),
        };
        let scan = Scan {
            series: series.as_deref(),
            lower: read.filter.lower.unwrap_or(EventTime(i64::MIN)),
            upper: read.filter.upper.unwrap_or(EventTime(i64::MAX)),
            above: horizon,
        };
        let mut rows = Rows::default();
        let view = &mut self.dataflow.views[read.view];
        view.arrangement.scan(&scan, &mut rows);
        if let Some(sender) = &read.follow {
            view.followers.borrow_mut().add(read.filter.clone(), sender.clone(), self.registry.clone());
        }
        Part { horizon, rows }
    }

    fn flush(&mut self, view: usize) -> Part {
        let horizon = self.horizon(view);
        let mut rows = Rows::default();
        let held = self.dataflow.views[view].arrangement.flush(self.flushed[view], horizon, &mut rows);
        let name = self.dataflow.views[view].definition.name.clone();
        metrics::gauge!("streamgauge_view_rows", "view" => name, "worker" => self.share.index.to_string())
            .set(held as f64);
        Part { horizon, rows }
    }
}
