//! The SQL questions that run, and the last ones that ended: what `system.queries` shows, and where one is cancelled.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::Mutex;
use streamgauge_schemas::{Epoch, EventTime, time};
use tokio::sync::watch;
use tokio::time::Instant;

use crate::asker::Asker;
use crate::client::{SessionNumber, number_of_question, question_id};
use crate::error::QueryError;
use crate::history::Waits;
use crate::memory::Pool;

/// Questions that ended and are still shown.
pub(crate) const ENDED_MAX: usize = 1_000;
/// So much of a text is kept.
const TEXT_BYTES_MAX: usize = 8 << 10;

/// See the module.
#[derive(Default)]
pub(crate) struct Activity {
    /// How many questions began.
    begun: AtomicU64,
    lists: Mutex<Lists>,
}

#[derive(Default)]
struct Lists {
    running: BTreeMap<u64, Arc<Record>>,
    ended: VecDeque<Arc<Record>>,
}

/// A question, and how far it is.
pub(crate) struct Record {
    pub(crate) id: u64,
    pub(crate) asker: Asker,
    /// The session that it was asked in; what is kept of a question does not keep its session.
    session: Option<SessionNumber>,
    pub(crate) sql: String,
    pub(crate) began_at: EventTime,
    pub(crate) memory: Arc<Pool>,
    pub(crate) waits: Waits,
    pub(crate) rows: AtomicU64,
    began: Instant,
    cancelled: watch::Sender<bool>,
    progress: Mutex<Progress>,
}

/// How far a question is.
#[derive(Clone, Debug, Default)]
pub(crate) struct Progress {
    pub(crate) state: State,
    /// When it had its turn, and when it ended.
    turn: Option<Instant>,
    ended: Option<Instant>,
    pub(crate) epoch: Option<Epoch>,
    pub(crate) partial: bool,
    pub(crate) error: Option<String>,
}

/// See the descriptions in the documentation of `system.queries`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum State {
    /// It waits for its turn.
    #[default]
    Waiting,
    Running,
    /// Its answer was read to the end.
    Finished,
    Failed,
    Cancelled,
    /// Nobody wanted more of its answer.
    Abandoned,
}

impl State {
    pub(crate) fn name(self) -> &'static str {
        match self {
            State::Waiting => "waiting",
            State::Running => "running",
            State::Finished => "finished",
            State::Failed => "failed",
            State::Cancelled => "cancelled",
            State::Abandoned => "abandoned",
        }
    }
}

/// A question that runs; it has ended when this is dropped.
pub(crate) struct Tracked {
    pub(crate) record: Arc<Record>,
    activity: Arc<Activity>,
}

impl Activity {
    /// A question begins.
    pub(crate) fn begin(self: &Arc<Self>, asker: &Asker, sql: &str, memory: Arc<Pool>) -> Tracked {
        let id = question_id(self.begun.fetch_add(1, Ordering::Relaxed));
        let record = Arc::new(Record {
            id,
            asker: Asker { session: None, ..asker.clone() },
            session: asker.session.as_ref().map(|session| session.number()),
            sql: shortened(sql),
            began_at: time::wall_clock(),
            memory,
            waits: Waits::default(),
            rows: AtomicU64::new(0),
            began: Instant::now(),
            cancelled: watch::Sender::new(false),
            progress: Mutex::default(),
        });
        self.lists.lock().running.insert(id, record.clone());
        Tracked { record, activity: self.clone() }
    }

    /// Cancels what runs under a number: the question with this `id`, or those of the session with this number;
    /// whether there is any.
    pub(crate) fn cancel(&self, number: i64) -> bool {
        let meant = self.meant(number);
        for record in &meant {
            record.cancelled.send_replace(true);
        }
        !meant.is_empty()
    }

    fn meant(&self, number: i64) -> Vec<Arc<Record>> {
        let lists = self.lists.lock();
        if SessionNumber::of(number).is_none()
            && let Some(record) = u64::try_from(number).ok().and_then(|id| lists.running.get(&id))
        {
            return vec![record.clone()];
        }
        lists.running.values().filter(|record| i64::from(record.number()) == number).cloned().collect()
    }

    /// Those that run, oldest first, and then those that ended, newest first.
    pub(crate) fn all(&self) -> Vec<Arc<Record>> {
        let lists = self.lists.lock();
        lists.running.values().chain(lists.ended.iter().rev()).cloned().collect()
    }

    /// Those that run, oldest first.
    pub(crate) fn running(&self) -> Vec<Arc<Record>> {
        self.lists.lock().running.values().cloned().collect()
    }

    fn end(&self, record: &Arc<Record>) {
        let mut lists = self.lists.lock();
        lists.running.remove(&record.id);
        if lists.ended.len() == ENDED_MAX {
            lists.ended.pop_front();
        }
        lists.ended.push_back(record.clone());
    }
}

impl Record {
    /// The number of the session that asks, or what stands for it: the `pid` of `pg_stat_activity`.
    pub(crate) fn number(&self) -> i32 {
        self.session.map_or_else(|| number_of_question(self.id), SessionNumber::get)
    }

    pub(crate) fn progress(&self) -> Progress {
        self.progress.lock().clone()
    }

    /// How long it waited for its turn, and how long it took in all so far, in milliseconds.
    pub(crate) fn times_ms(&self, progress: &Progress) -> (f64, f64) {
        let ended = progress.ended.unwrap_or_else(Instant::now);
        let ms = |until: Instant| until.duration_since(self.began).as_secs_f64() * 1e3;
        (ms(progress.turn.unwrap_or(ended)), ms(ended))
    }

    /// Done once it is cancelled.
    pub(crate) fn cancelled(&self) -> impl Future<Output = ()> + Send + Sync + use<> {
        let mut cancelled = self.cancelled.subscribe();
        async move {
            if cancelled.wait_for(|cancelled| *cancelled).await.is_err() {
                std::future::pending().await // it has ended
            }
        }
    }

    /// It has its turn.
    pub(crate) fn run(&self) {
        let mut progress = self.progress.lock();
        progress.state = State::Running;
        progress.turn = Some(Instant::now());
    }

    /// Its answer begins.
    pub(crate) fn answers(&self, epoch: Epoch, partial: bool) {
        let mut progress = self.progress.lock();
        progress.epoch = Some(epoch);
        progress.partial = partial;
    }

    pub(crate) fn finish(&self) {
        self.progress.lock().state = State::Finished;
    }

    pub(crate) fn fail(&self, error: &QueryError) {
        let mut progress = self.progress.lock();
        progress.state = if matches!(error, QueryError::Cancelled { .. }) { State::Cancelled } else { State::Failed };
        progress.error = Some(error.to_string());
    }
}

impl Drop for Tracked {
    fn drop(&mut self) {
        {
            let mut progress = self.record.progress.lock();
            progress.ended = Some(Instant::now());
            if matches!(progress.state, State::Waiting | State::Running) {
                progress.state = State::Abandoned;
            }
        }
        self.activity.end(&self.record);
    }
}

fn shortened(sql: &str) -> String {
    if sql.len() <= TEXT_BYTES_MAX {
        return sql.to_owned();
    }
    format!("{}…", &sql[..sql.floor_char_boundary(TEXT_BYTES_MAX)])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn begin(activity: &Arc<Activity>, sql: &str) -> Tracked {
        activity.begin(&Asker::default(), sql, Pool::new(Vec::new()))
    }

    #[test]
    fn those_that_ended_are_shown_newest_first_and_bounded() {
        let activity = Arc::new(Activity::default());
        let held = begin(&activity, "SELECT 0");
        for id in 0..=ENDED_MAX {
            let tracked = begin(&activity, &format!("SELECT {id}"));
            tracked.record.finish();
        }
        let all: Vec<(u64, State)> = activity.all().iter().map(|record| (record.id, record.progress().state)).collect();
        assert_eq!((all.len(), all[0], all[1]), (ENDED_MAX + 1, (1, State::Waiting), (1_002, State::Finished)));
        assert_eq!(all[ENDED_MAX].0, 3);
        drop(held);
        assert_eq!((activity.running().len(), activity.all()[0].progress().state), (0, State::Abandoned));
        let long = begin(&activity, &"é".repeat(TEXT_BYTES_MAX));
        assert!(long.record.sql.len() <= TEXT_BYTES_MAX + 3 && long.record.sql.ends_with("é…"));
    }

    #[tokio::test]
    async fn one_that_runs_is_cancelled_by_its_number() {
        let activity = Arc::new(Activity::default());
        let (one, other) = (begin(&activity, "SELECT 1"), begin(&activity, "SELECT 2"));
        assert!(activity.cancel(one.record.id.cast_signed()) && !activity.cancel(99) && !activity.cancel(-1));
        one.record.cancelled().await;
        assert!(futures::FutureExt::now_or_never(other.record.cancelled()).is_none());
        let id = one.record.id;
        drop(one);
        assert!(!activity.cancel(id.cast_signed()));
    }
}
