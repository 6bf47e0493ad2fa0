//! The figures of a run.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Instant;

use crate::ledger::Ledger;
use crate::schedule::Schedule;

/// The figures.
pub(crate) struct Report {
    seed: u64,
    began: Instant,
    pub(crate) rounds: usize,
    /// SIGKILL, and deaths at fault points.
    pub(crate) program_kills: usize,
    pub(crate) clickhouse_kills: usize,
    /// Times that ClickHouse stood still.
    pub(crate) outages: usize,
    /// Times that the program was ended gracefully by the schedule.
    pub(crate) terminations: usize,
    /// Lives in which steps were refused.
    pub(crate) refusals: usize,
    pub(crate) torn: usize,
    /// By fault point: how often the program died there, and how often it did not come there.
    points: BTreeMap<String, (usize, usize)>,
    acknowledged: u64,
    sent: u64,
    refused: u64,
    replayed: u64,
    events: u64,
    rejects: usize,
    unknown: (u64, u64),
}

impl Report {
    /// Nothing has happened yet.
    pub(crate) fn new(schedule: &Schedule) -> Self {
        Report {
            seed: schedule.seed,
            began: Instant::now(),
            rounds: 0,
            program_kills: 0,
            clickhouse_kills: 0,
            outages: 0,
            terminations: 0,
            refusals: 0,
            torn: 0,
            points: BTreeMap::new(),
            acknowledged: 0,
            sent: 0,
            refused: 0,
            replayed: 0,
            events: 0,
            rejects: 0,
            unknown: (0, 0),
        }
    }

    /// Notes a life that was to end at a fault point.
    pub(crate) fn died_at(&mut self, point: &str, died: bool) {
        let (deaths, missed) = self.points.entry(point.to_owned()).or_default();
        *if died { deaths } else { missed } += 1;
    }

    /// How long it has taken so far.
    pub(crate) fn seconds(&self) -> u64 {
        self.began.elapsed().as_secs()
    }

    /// Takes over what the producers counted.
    pub(crate) fn take(&mut self, ledger: &Ledger) {
        (self.acknowledged, self.sent, self.refused) = (ledger.acknowledged, ledger.sent, ledger.refused);
        (self.replayed, self.events) = (ledger.replayed, ledger.events);
        (self.rejects, self.unknown) = (ledger.rejects_count(), ledger.unknown);
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut line = |what: &str, value: &dyn fmt::Display| writeln!(f, "  {what:<42}{value:>12}");
        line("seed", &self.seed)?;
        line("rounds", &self.rounds)?;
        line("kills of the program", &self.program_kills)?;
        line("kills of ClickHouse", &self.clickhouse_kills)?;
        line("times that ClickHouse stood still", &self.outages)?;
        line("graceful ends", &self.terminations)?;
        line("lives with refused steps", &self.refusals)?;
        line("torn tails of the log", &self.torn)?;
        for (point, (deaths, missed)) in &self.points {
            line(&format!("deaths at {point} (not reached: {missed})"), deaths)?;
        }
        line("requests acknowledged", &self.acknowledged)?;
        line("requests sent", &self.sent)?;
        line("answered as repeats", &self.replayed)?;
        line("answered 429 or 503", &self.refused)?;
        line("events acknowledged", &self.events)?;
        line("rejects", &self.rejects)?;
        line("without key and answer, found there", &self.unknown.0)?;
        line("without key and answer, not there", &self.unknown.1)?;
        line("seconds", &self.seconds())?;
        line("differences", &0)
    }
}
