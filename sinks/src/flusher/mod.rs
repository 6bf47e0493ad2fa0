//! The flusher: writes what changed to ClickHouse, each item at its own pace, and never gives up.
//!
//! ```text
//!              every interval, or when due
//!  FlushSource ───────begin──────▶ unit ──write──▶ ClickHouse ──commit──▶ streamgauge_flushed ──▶ confirm
//!                                   ▲        │
//!                                   └ retry ─┘  the same unit, with back-off and jitter, for as long as it takes
//!                                        │
//!                       refused for good └─▶ narrowed: good rows are written, refused ones set aside in files
//! ```
//!
//! # Layout
//!
//! - `source`: what is asked of the engine.
//! - `item`: the loop of one item.
//! - `narrow`: finds the rows that ClickHouse refuses.
//! - `restore`: tries again what was set aside.
//!
//! # Invariants
//!
//! 1. A unit is written before its epoch is committed, and committed before it is confirmed.
//! 2. Events of a stream, and rows of a view, are written only when the change that made it is flushed.
//! 3. At most [`WRITES_MAX`] units are written at a time; an item has at most one unit.
//! 4. Tables are made and dropped while nothing else is written, and a stream or view is written only while it is an item.
//!    So nothing ever arrives in the table of another stream or view that has got the same name.
//!
//! # Failure
//!
//! An attempt has a time limit; the number of attempts has none, since the log cannot be cut before the flush. While
//! ClickHouse is away the engine's own bounds push back on producers. The wait before the next attempt doubles up to a
//! quarter of a minute, and each is drawn from its upper half, so that items and programs do not come back in step.
//!
//! An error that cannot heal by itself is in [`FlushStatus::last_error`] and in the log of the program. If ClickHouse
//! refuses the rows themselves ([`SinkError::refuses_rows`]) [`ASIDE_AFTER`] times, what it refuses is
//! [set aside](crate::aside) and the rest goes on: one bad row must not hold up its stream, and with it the log of all.
//! Rows set aside are missing from answers until they are restored; the log of the program says what to do, the gauge
//! `streamgauge_aside_files` is the alarm. Anything else (a missing right or table) is tried again slowly. Meanwhile only
//! that item waits.

mod item;
mod narrow;
mod restore;
mod source;

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use streamgauge_schemas::{Epoch, EventTime, View};
use tokio::sync::{Notify, RwLock, RwLockReadGuard, Semaphore, SemaphorePermit, watch};
use tokio::task::{JoinHandle, JoinSet};

pub use source::{
    BoxError, CATALOG_ITEM, FlushItem, FlushKind, FlushSource, FlushUnit, StreamTable, stream_item, view_item,
};

#[cfg(doc)]
use crate::SinkError;
use crate::flushed::Committer;
use crate::{Aside, AsideFile, ClickHouse};

/// How many units are written at a time.
pub const WRITES_MAX: usize = 2;
/// So many refusals of a unit make it be narrowed.
pub const ASIDE_AFTER: u32 = 5;
/// How often the set of items is looked at.
const ITEMS_INTERVAL: Duration = Duration::from_millis(250);

/// How the flushing of an item goes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FlushStatus {
    /// The item's name.
    pub item: String,
    /// Its flushed epoch.
    pub flushed_epoch: Epoch,
    /// Why the last attempt failed; `None` after a success.
    pub last_error: Option<String>,
    /// How many rows were written since the start of the program.
    pub rows_total: u64,
    /// How many flushes succeeded since then, and the last of them that wrote rows.
    pub flushes_total: u64,
    /// See `flushes_total`.
    pub last: Option<LastFlush>,
    /// How many attempts failed since the start of the program, and when the last did.
    pub failures_total: u64,
    /// See `failures_total`.
    pub failed_at: Option<EventTime>,
}

/// A flush that wrote rows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LastFlush {
    /// When it was done.
    pub at: EventTime,
    /// How many rows it wrote.
    pub rows: u64,
    /// How long it took, attempts that failed included.
    pub took: Duration,
}

/// What the tasks of all items share.
struct Shared {
    clickhouse: ClickHouse,
    source: Arc<dyn FlushSource>,
    boot: Epoch,
    committer: Committer,
    aside: Arc<Aside>,
    /// Held while restoring.
    restoring: tokio::sync::Mutex<restore::Tries>,
    writes: Semaphore,
    /// Written by whoever makes and drops tables (invariant 4).
    tables: RwLock<()>,
    status: Mutex<BTreeMap<String, FlushStatus>>,
    /// The flushed epoch of the catalog (invariant 2), and a way to ask for a flush of it.
    catalog: watch::Sender<Epoch>,
    catalog_wanted: Notify,
    /// Becomes true when every item is to be flushed once more, and then no more.
    stopping: watch::Sender<bool>,
}

/// The right to write to the table of an item.
struct Turn<'a> {
    _permit: SemaphorePermit<'a>,
    _tables: RwLockReadGuard<'a, ()>,
}

/// The right to write to the table of a view outside of its flushes.
///
/// Let go of it after each insert: meanwhile no table is made or dropped, and one write fewer is done at a time.
pub struct Hold<'a> {
    _turn: Turn<'a>,
}

impl Shared {
    /// Waits for one of the [`WRITES_MAX`] (invariant 3).
    async fn permit(&self) -> SemaphorePermit<'_> {
        self.writes.acquire().await.expect("the semaphore is never closed")
    }

    /// Waits until the item may be written; `None` when it is no more (invariant 4).
    async fn turn(&self, item: &str) -> Option<Turn<'_>> {
        let turn = Turn { _permit: self.permit().await, _tables: self.tables.read().await };
        self.source.items().iter().any(|found| found.name == item).then_some(turn)
    }

    /// Waits until the change at `made_at` is flushed (invariant 2).
    async fn wait_for_catalog(&self, made_at: Epoch) {
        let mut catalog = self.catalog.subscribe();
        if *catalog.borrow() < made_at {
            self.catalog_wanted.notify_one();
            let _ = catalog.wait_for(|flushed| *flushed >= made_at).await; // the sender lives in here
        }
    }

    /// The flushed epoch of an item.
    fn flushed(&self, item: &str) -> Epoch {
        self.status.lock().get(item).map_or(Epoch::ZERO, |status| status.flushed_epoch)
    }
}

/// The running flush loops.
pub struct Flusher {
    shared: Arc<Shared>,
    task: Mutex<Option<JoinHandle<()>>>,
}

impl Flusher {
    /// Starts a loop for each item of the source. Must be called within a Tokio runtime.
    ///
    /// `boot` tells this start of the program from every other; `flushed` are the epochs that
    /// [`recover`](crate::recover) found; `aside` takes what ClickHouse refuses.
    #[must_use]
    pub fn start(
        clickhouse: ClickHouse,
        source: Arc<dyn FlushSource>,
        boot: Epoch,
        flushed: &HashMap<String, Epoch>,
        aside: Arc<Aside>,
    ) -> Self {
        let status = |(item, epoch): (&String, &Epoch)| {
            (item.clone(), FlushStatus { item: item.clone(), flushed_epoch: *epoch, ..FlushStatus::default() })
        };
        let shared = Arc::new(Shared {
            committer: Committer::start(clickhouse.clone()),
            clickhouse,
            source,
            boot,
            aside,
            restoring: tokio::sync::Mutex::default(),
            tables: RwLock::default(),
            writes: Semaphore::new(WRITES_MAX),
            status: Mutex::new(flushed.iter().map(status).collect()),
            catalog: watch::Sender::new(flushed.get(CATALOG_ITEM).copied().unwrap_or_default()),
            catalog_wanted: Notify::new(),
            stopping: watch::Sender::new(false),
        });
        let task = tokio::spawn(keep_items(shared.clone()));
        Flusher { shared, task: Mutex::new(Some(task)) }
    }

    /// How the flushing of each item goes, by name.
    #[must_use]
    pub fn status(&self) -> Vec<FlushStatus> {
        let items: Vec<String> = self.shared.source.items().into_iter().map(|item| item.name).collect();
        let status = self.shared.status.lock();
        items
            .into_iter()
            .map(|item| status.get(&item).cloned().unwrap_or(FlushStatus { item, ..FlushStatus::default() }))
            .collect()
    }

    /// Waits until the tables of a view are there, and keeps them until the answer is dropped (invariants 2 and 4); `None`
    /// when the view is no more.
    pub async fn hold(&self, view: &View) -> Option<Hold<'_>> {
        self.shared.wait_for_catalog(view.id.created()).await;
        Some(Hold { _turn: self.shared.turn(&view_item(view)).await? })
    }

    /// What ClickHouse refused and is missing from answers, oldest first.
    #[must_use]
    pub fn aside(&self) -> Vec<AsideFile> {
        self.shared.aside.files()
    }

    /// Tries now to restore all that was set aside, also what is left alone for a while since it was refused; returns
    /// how many files were restored.
    pub async fn restore(&self) -> usize {
        restore::restore(&self.shared, restore::Which::All).await
    }

    /// Flushes everything once more, the catalog first, and stops. Returns whether all of it was done in time.
    ///
    /// A second call has nothing left to do.
    pub async fn flush_now_and_stop(&self, timeout: Duration) -> bool {
        self.shared.stopping.send_replace(true);
        let Some(mut task) = self.task.lock().take() else { return true };
        let done = tokio::time::timeout(timeout, &mut task).await.is_ok();
        task.abort(); // and with it, the tasks of the items
        done
    }
}

impl Drop for Flusher {
    fn drop(&mut self) {
        if let Some(task) = self.task.lock().take() {
            task.abort();
        }
    }
}

/// Keeps a task for each item: starts one for a new item, ends that of an item that is gone.
async fn keep_items(shared: Arc<Shared>) {
    let mut stopping = shared.stopping.subscribe();
    let mut tasks = JoinSet::new();
    tasks.spawn(restore::run(shared.clone()));
    let mut running = HashMap::new();
    loop {
        let stop = *stopping.borrow_and_update();
        let items = shared.source.items();
        running.retain(|name: &String, task: &mut tokio::task::AbortHandle| {
            let there = items.iter().any(|item| item.name == *name);
            if !there {
                task.abort();
                shared.status.lock().remove(name);
            }
            there
        });
        for item in items {
            if !running.contains_key(&item.name) {
                running.insert(item.name.clone(), tasks.spawn(item::run(shared.clone(), item)));
            }
        }
        if stop {
            break;
        }
        tokio::select! {
            _ = stopping.changed() => {}
            () = tokio::time::sleep(ITEMS_INTERVAL) => {}
        }
    }
    while tasks.join_next().await.is_some() {}
}
