//! The ledger: what was acknowledged, folded into what every table must hold.

use std::collections::BTreeMap;

use anyhow::{bail, ensure};
use serde_json::Value;
use streamgauge_schemas::{Duration, EventTime, Summary};

use crate::requests::{Good, Naming, Request, UNNAMED};
use crate::tables::Table;

/// What became of a request that has no key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// Its events must be there once.
    Acknowledged,
    /// Its events must not be there.
    Refused,
    /// They must be there once, or not at all.
    Unknown,
}

/// What was acknowledged.
#[derive(Default)]
pub(crate) struct Ledger {
    /// By series and second.
    metrics: BTreeMap<(String, String), BTreeMap<EventTime, Summary>>,
    /// By stream and producer.
    streams: BTreeMap<(&'static str, String), Summary>,
    unnamed: BTreeMap<String, (Outcome, Vec<Good>)>,
    /// By stream and mark: the position.
    rejects: BTreeMap<(&'static str, String), u64>,
    /// By stream and key, or producer and sequence: how many were accepted, and how many rejected.
    requests: BTreeMap<(&'static str, String), (usize, usize)>,
    /// Streams that were made during faults, and acknowledged.
    pub(crate) made: Vec<String>,
    /// The newest epoch that was acknowledged.
    pub(crate) epoch: u64,
    /// Requests that were answered 200 for the first time.
    pub(crate) acknowledged: u64,
    /// Their events.
    pub(crate) events: u64,
    /// Requests that were sent, repeats included.
    pub(crate) sent: u64,
    /// Answers 429 and 503.
    pub(crate) refused: u64,
    /// Answers that said that they are of a repeat.
    pub(crate) replayed: u64,
    /// Requests without a key that turned out to be there, and not.
    pub(crate) unknown: (u64, u64),
}

impl Ledger {
    /// Checks the answer of a request, and notes what it added.
    pub(crate) fn acknowledge(&mut self, request: &Request, answer: &Value) -> anyhow::Result<()> {
        let rejected = answer["rejected"].as_array().map(Vec::as_slice).unwrap_or_default();
        let positions: Vec<Option<u64>> = rejected.iter().map(|reject| reject["index"].as_u64()).collect();
        let expected: Vec<Option<u64>> = request.bad.iter().map(|(position, _)| Some(*position)).collect();
        ensure!(
            answer["accepted"] == request.good.len() && positions == expected,
            "{:?}: expected {} accepted and {expected:?} rejected, not {answer}",
            request.naming,
            request.good.len()
        );
        self.epoch = self.epoch.max(answer["epoch"].as_u64().unwrap_or(0));
        self.acknowledged += 1;
        self.events += request.good.len() as u64;
        self.rejects.extend(request.bad.iter().map(|(at, mark)| ((request.stream, mark.clone()), *at)));
        let name = match &request.naming {
            Naming::Key(key) => key.clone(),
            Naming::Sequence { producer, sequence } => format!("{producer}/{sequence}"),
            Naming::Unnamed => return self.note_unnamed(request, Outcome::Acknowledged),
        };
        let before = self.requests.insert((request.stream, name), (request.good.len(), request.bad.len()));
        ensure!(before.is_none(), "{:?} was noted twice: a mistake of the harness", request.naming);
        for event in &request.good {
            self.add(request.stream, event);
        }
        Ok(())
    }

    /// Notes a request that has no key.
    pub(crate) fn note_unnamed(&mut self, request: &Request, outcome: Outcome) -> anyhow::Result<()> {
        let Some(first) = request.good.first() else { bail!("a request without a key has good events") };
        self.unnamed.insert(first.series.1.clone(), (outcome, request.good.clone()));
        Ok(())
    }

    fn add(&mut self, stream: &'static str, event: &Good) {
        if stream == "metrics" {
            let second = event.at.floor(Duration::from_secs(1));
            let buckets = self.metrics.entry(event.series.clone()).or_default();
            buckets.entry(second).or_default().add(event.value);
        } else {
            self.streams.entry((stream, event.series.0.clone())).or_default().add(event.value);
        }
    }

    /// Settles what became of requests without a key, from how many events of each are there: from now on they are
    /// there or not. Answers what cannot be.
    pub(crate) fn settle(&mut self, found: &BTreeMap<String, u64>) -> Vec<String> {
        let mut wrong = Vec::new();
        for (request, (outcome, events)) in std::mem::take(&mut self.unnamed) {
            let count = found.get(&request).copied().unwrap_or(0);
            let whole = count == events.len() as u64;
            let fits = match outcome {
                Outcome::Acknowledged => whole,
                Outcome::Refused => count == 0,
                Outcome::Unknown => whole || count == 0,
            };
            if !fits {
                wrong.push(format!("{UNNAMED} {request}: {count} of {} events ({outcome:?})", events.len()));
            }
            if outcome == Outcome::Unknown {
                self.unknown = (self.unknown.0 + u64::from(whole), self.unknown.1 + u64::from(!whole));
            }
            if count > 0 {
                events.iter().for_each(|event| self.add("metrics", event));
            }
        }
        wrong
    }

    /// Per series: count, sum, least and greatest.
    pub(crate) fn series(&self) -> Table {
        let whole = |buckets: &BTreeMap<EventTime, Summary>| {
            buckets.values().fold(Summary::EMPTY, |mut whole, state| {
                whole.merge(state);
                whole
            })
        };
        let row =
            |(series, buckets): (&(String, String), _)| (vec![series.0.clone(), series.1.clone()], whole(buckets));
        Table::of_states(self.metrics.iter().map(row))
    }

    /// Per bucket of that length and series: count, sum, least and greatest.
    pub(crate) fn buckets(&self, length: Duration) -> Table {
        let mut rows: BTreeMap<(EventTime, &(String, String)), Summary> = BTreeMap::new();
        for (series, buckets) in &self.metrics {
            for (second, state) in buckets {
                rows.entry((second.floor(length), series)).or_default().merge(state);
            }
        }
        let row = |((at, series), state): ((EventTime, &(String, String)), Summary)| {
            (vec![at.0.to_string(), series.0.clone(), series.1.clone()], state)
        };
        Table::of_states(rows.into_iter().map(row))
    }

    /// Per producer of a stream: count, sum, least and greatest.
    pub(crate) fn stream(&self, stream: &str) -> Table {
        let of_stream = self.streams.iter().filter(|((of, _), _)| *of == stream);
        Table::of_states(of_stream.map(|((_, producer), state)| (vec![producer.clone()], *state)))
    }

    /// Per stream and mark: how often, and the position.
    pub(crate) fn rejects(&self) -> Table {
        let row = |((stream, mark), at): (&(&str, String), &u64)| {
            (vec![(*stream).to_owned(), mark.clone()], vec![1.0, *at as f64])
        };
        Table::of_rows(self.rejects.iter().map(row))
    }

    /// Per stream and name: how often, how many were accepted, and how many rejected.
    pub(crate) fn requests(&self) -> Table {
        let row = |((stream, name), (accepted, rejected)): (&(&str, String), &(usize, usize))| {
            (vec![(*stream).to_owned(), name.clone()], vec![1.0, *accepted as f64, *rejected as f64])
        };
        Table::of_rows(self.requests.iter().map(row))
    }

    /// How many rejects there are.
    pub(crate) fn rejects_count(&self) -> usize {
        self.rejects.len()
    }
}
