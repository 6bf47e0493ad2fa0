//! Requests that named themselves: what became of each, so that a repeat is answered and not counted again.
//!
//! ```text
//!  begin(name, hash) ─▶ new: a claim ─▶ log, with a row of the stream `requests` ─▶ settled at its epoch
//!          │                 └─ dropped without an epoch: the name is free again
//!          ├─▶ running: wait, begin again
//!          ├─▶ settled with the same body: its answer
//!          └─▶ settled with another body, or too old to be known: refused
//! ```
//!
//! The row stands in the log in the same group as the events it speaks of, so either both are there or neither. After
//! a restart the rows come back from ClickHouse and from the log, and are settled by the same code.
//!
//! # Time
//!
//! A request is known for a window of time, counted in epochs, as one of so many newest, and of so many bytes. No clock is read.
//!
//! # Invariants
//!
//! 1. A name has at most one claim at a time, and no claim while it is settled and known.
//! 2. A row is settled when its epoch is committed, in order of epochs, whether somebody waits or not.
//! 3. Of the producers that are known, as many as requests are, no sequence number at or below one that was forgotten
//!    begins anew.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray, Int64Array, RecordBatch, StringArray, TimestampMicrosecondArray};
use arrow::datatypes::Int64Type;
use futures_channel::oneshot;
use parking_lot::Mutex;
use streamgauge_schemas::{Duration, Epoch, EventBatch, EventTime, Reject, StreamId, TableBatch, stream};

/// The most memory, about, that known requests take: their rejects are part of the answer, and may be many.
pub const BYTES_MAX: usize = 256 << 20;

/// About what a known request takes in memory. Whoever reads the window back counts the same, or a little more.
fn bytes_of(known: &KnownRequest) -> usize {
    300 + known.rejected.iter().map(|reject| 40 + reject.reason.len()).sum::<usize>()
}

/// What a producer calls a request, so that a repeat of it is known.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum RequestName {
    /// A key that the producer made up for this one request.
    Key(Arc<str>),
    /// The number of the request among those of a producer.
    Sequence {
        /// The producer.
        producer: Arc<str>,
        /// Rises from request to request.
        sequence: u64,
    },
}

/// A request that is known: by restart from ClickHouse, and by the rows of the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KnownRequest {
    /// Its epoch.
    pub epoch: Epoch,
    /// What its producer calls it.
    pub name: RequestName,
    /// See [`body_hash`].
    pub body_hash: u128,
    /// How many events were accepted.
    pub accepted: u64,
    /// The others.
    pub rejected: Arc<[Reject]>,
}

/// What is known of the requests of a producer that are not known one by one any more.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ForgottenSequence {
    /// The producer.
    pub producer: String,
    /// The largest sequence number among them.
    pub sequence: u64,
    /// The epoch of the newest of them.
    pub epoch: Epoch,
}

/// What the engine answers to a request's name.
#[derive(Debug)]
pub enum Claimed {
    /// Nobody has sent it before: send it with this.
    New(Claim),
    /// It was sent before; this became of it.
    Repeat(KnownRequest),
}

/// The stream and the body of a request in one number (XXH3-128).
#[must_use]
pub fn body_hash(stream: &str, body: &[u8]) -> u128 {
    let mut hasher = xxhash_rust::xxh3::Xxh3::new();
    hasher.update(stream.as_bytes());
    hasher.update(&[0]); // no name of a stream holds it
    hasher.update(body);
    hasher.digest128()
}

/// Why a request is not begun.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum NotBegun {
    /// The name was used with another stream or body.
    Reused,
    /// The sequence number lies at or below this one, and what became of it is no longer known.
    TooOld { forgotten: u64 },
}

pub(crate) enum Begun {
    New(Claim),
    Repeat(KnownRequest),
    Running(oneshot::Receiver<()>),
}

/// The window of known requests; clones share it.
#[derive(Clone, Debug)]
pub(crate) struct Requests {
    inner: Arc<Mutex<Inner>>,
}

#[derive(Debug)]
struct Inner {
    window: Duration,
    keys_max: usize,
    by_name: HashMap<RequestName, Entry>,
    /// Settled requests, oldest first. A name may stand here twice; then only the newer one counts.
    settled: VecDeque<(Epoch, RequestName)>,
    /// About what the settled requests take in memory.
    bytes: usize,
    /// Per producer the largest sequence number that was forgotten, and when.
    forgotten: HashMap<Arc<str>, (u64, Epoch)>,
    claims: u64,
}

#[derive(Debug)]
enum Entry {
    Running { claim: u64, body_hash: u128, waiting: Vec<oneshot::Sender<()>> },
    Settled(KnownRequest),
}

/// The right to send a request under its name; without an epoch it ends when this is dropped.
#[derive(Debug)]
pub struct Claim {
    requests: Requests,
    name: RequestName,
    body_hash: u128,
    claim: u64,
}

impl Claim {
    /// What the producer calls the request.
    #[must_use]
    pub fn name(&self) -> &RequestName {
        &self.name
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        let mut inner = self.requests.inner.lock();
        let mine = |entry: &Entry| matches!(entry, Entry::Running { claim, .. } if *claim == self.claim);
        if inner.by_name.get(&self.name).is_some_and(mine) {
            inner.by_name.remove(&self.name); // and whoever waits begins again
        }
    }
}

impl Requests {
    pub(crate) fn new(window: Duration, keys_max: usize) -> Self {
        let inner = Inner {
            window,
            keys_max: keys_max.max(1),
            by_name: HashMap::new(),
            settled: VecDeque::new(),
            bytes: 0,
            forgotten: HashMap::new(),
            claims: 0,
        };
        Requests { inner: Arc::new(Mutex::new(inner)) }
    }

    /// Looks a name up as of `now`, and claims it if it is new.
    pub(crate) fn begin(&self, name: &RequestName, body_hash: u128, now: Epoch) -> Result<Begun, NotBegun> {
        let mut guard = self.inner.lock();
        let inner = &mut *guard;
        inner.forget(now);
        match inner.by_name.get_mut(name) {
            Some(Entry::Settled(known)) if known.body_hash == body_hash => Ok(Begun::Repeat(known.clone())),
            Some(Entry::Running { body_hash: of, waiting, .. }) if *of == body_hash => {
                let (sender, receiver) = oneshot::channel();
                waiting.push(sender);
                Ok(Begun::Running(receiver))
            }
            Some(_) => Err(NotBegun::Reused),
            None => {
                if let RequestName::Sequence { producer, sequence } = name
                    && let Some((forgotten, _)) = inner.forgotten.get(producer)
                    && sequence <= forgotten
                {
                    return Err(NotBegun::TooOld { forgotten: *forgotten }); // invariant 3
                }
                inner.claims += 1;
                let claim = inner.claims;
                inner.by_name.insert(name.clone(), Entry::Running { claim, body_hash, waiting: Vec::new() });
                Ok(Begun::New(Claim { requests: self.clone(), name: name.clone(), body_hash, claim }))
            }
        }
    }

    /// Settles the requests of an epoch (invariant 2).
    pub(crate) fn settle(&self, epoch: Epoch, rows: &TableBatch) -> Result<(), String> {
        for known in read_rows(epoch, rows)? {
            self.restore(known);
        }
        Ok(())
    }

    /// Settles a request; in order of epochs.
    pub(crate) fn restore(&self, known: KnownRequest) {
        let mut inner = self.inner.lock();
        let epoch = known.epoch;
        let last = inner.settled.back().map_or(Epoch::ZERO, |(last, _)| *last);
        assert!(epoch >= last, "invariant 2: a request of {epoch} is settled after one of {last}");
        inner.settled.push_back((epoch, known.name.clone()));
        inner.bytes += bytes_of(&known);
        let replaced = inner.by_name.insert(known.name.clone(), Entry::Settled(known)); // whoever waited begins again
        if let Some(Entry::Settled(replaced)) = replaced {
            inner.bytes -= bytes_of(&replaced);
        }
        inner.forget(epoch);
    }

    /// Notes the largest sequence number of a producer's requests that are no longer known.
    pub(crate) fn restore_forgotten(&self, forgotten: &ForgottenSequence) {
        let ForgottenSequence { producer, sequence, epoch } = forgotten;
        let mut inner = self.inner.lock();
        inner.forgotten.insert(producer.as_str().into(), (*sequence, *epoch));
        inner.forget_producers();
    }

    /// How many requests are known.
    pub(crate) fn len(&self) -> usize {
        self.inner.lock().settled.len()
    }
}

impl Inner {
    /// Forgets what the window does not hold as of `now`.
    fn forget(&mut self, now: Epoch) {
        let from = now.minus(self.window.as_micros() as u64);
        while let Some((epoch, _)) = self.settled.front() {
            if *epoch > from && self.settled.len() <= self.keys_max && self.bytes <= BYTES_MAX {
                break;
            }
            let Some((epoch, name)) = self.settled.pop_front() else { break };
            let is_it = |entry: &Entry| matches!(entry, Entry::Settled(known) if known.epoch == epoch);
            if !self.by_name.get(&name).is_some_and(is_it) {
                continue;
            }
            if let Some(Entry::Settled(known)) = self.by_name.remove(&name) {
                self.bytes -= bytes_of(&known);
            }
            if let RequestName::Sequence { producer, sequence } = name {
                let largest = self.forgotten.entry(producer).or_insert((sequence, epoch));
                *largest = (largest.0.max(sequence), epoch);
            }
        }
        self.forget_producers();
    }

    /// Forgets the older half of the producers, by their newest forgotten request, when they are too many.
    fn forget_producers(&mut self) {
        if self.forgotten.len() > self.keys_max {
            let mut epochs: Vec<Epoch> = self.forgotten.values().map(|(_, epoch)| *epoch).collect();
            let middle = epochs.len() / 2;
            let middle = *epochs.select_nth_unstable(middle).1;
            self.forgotten.retain(|_, (_, epoch)| *epoch > middle);
        }
    }
}

/// What became of a request, as the row that the log and ClickHouse keep of it.
pub(crate) fn row(claim: &Claim, stream_name: &str, at: EventTime, accepted: u64, rejected: &[Reject]) -> EventBatch {
    let (key, producer, sequence) = match &claim.name {
        RequestName::Key(key) => (Some(&**key), None, None),
        RequestName::Sequence { producer, sequence } => (None, Some(&**producer), Some(*sequence as i64)),
    };
    let text = |value: Option<&str>| Arc::new(StringArray::from(vec![value])) as ArrayRef;
    let number = |value: Option<i64>| Arc::new(Int64Array::from(vec![value])) as ArrayRef;
    let rejected = serde_json::to_string(rejected).expect("positions and texts are JSON");
    let columns: Vec<ArrayRef> = vec![
        Arc::new(TimestampMicrosecondArray::from(vec![at.0]).with_timezone("UTC")),
        text(Some(stream_name)),
        text(key),
        text(producer),
        number(sequence),
        text(Some(&format!("{:032x}", claim.body_hash))),
        number(Some(accepted as i64)),
        text(Some(&rejected)),
    ];
    let stream = stream::requests();
    let rows = RecordBatch::try_new(stream.definition.schema(), columns).expect("the columns follow the definition");
    EventBatch::Table(Arc::new(TableBatch { stream: StreamId::REQUESTS, rows }))
}

/// Reads rows of the stream `requests`.
fn read_rows(epoch: Epoch, batch: &TableBatch) -> Result<Vec<KnownRequest>, String> {
    let text = |name: &str| {
        let column = batch.rows.column_by_name(name).and_then(|column| column.as_string_opt::<i32>());
        column.ok_or_else(|| format!("the stream requests has no text column {name:?}"))
    };
    let number = |name: &str| {
        let column = batch.rows.column_by_name(name).and_then(|column| column.as_primitive_opt::<Int64Type>());
        column.ok_or_else(|| format!("the stream requests has no i64 column {name:?}"))
    };
    let (keys, producers, hashes, rejected) = (text("key")?, text("producer")?, text("body_hash")?, text("rejected")?);
    let (sequences, accepted) = (number("sequence")?, number("accepted")?);
    let one = |at: usize| {
        let name = RequestName::read(
            keys.iter().nth(at).flatten(),
            producers.iter().nth(at).flatten(),
            sequences.iter().nth(at).flatten().map(|sequence| sequence as u64),
        )?;
        KnownRequest::read(epoch, name, hashes.value(at), accepted.value(at) as u64, rejected.value(at))
    };
    (0..batch.rows.num_rows()).map(|at| one(at).ok_or_else(|| format!("row {at} of requests makes no sense"))).collect()
}

impl RequestName {
    /// The name that a row has; `None` when it has none.
    #[must_use]
    pub fn read(key: Option<&str>, producer: Option<&str>, sequence: Option<u64>) -> Option<Self> {
        match (key, producer, sequence) {
            (Some(key), None, None) => Some(RequestName::Key(key.into())),
            (None, Some(producer), Some(sequence)) => {
                Some(RequestName::Sequence { producer: producer.into(), sequence })
            }
            _ => None,
        }
    }
}

impl KnownRequest {
    /// A request from the texts of its row; `None` when they make no sense.
    #[must_use]
    pub fn read(epoch: Epoch, name: RequestName, body_hash: &str, accepted: u64, rejected: &str) -> Option<Self> {
        let body_hash = u128::from_str_radix(body_hash, 16).ok()?;
        let rejected: Vec<Reject> = serde_json::from_str(rejected).ok()?;
        Some(KnownRequest { epoch, name, body_hash, accepted, rejected: rejected.into() })
    }
}

#[cfg(test)]
mod tests;
