//! The figures of a run.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Instant;

use streamgauge_schemas::fault;

use crate::disk::{Losses, Passages};
use crate::ledger::Ledger;
use crate::refusals::SetAside;
use crate::schedule::Schedule;
use crate::site::Site;

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
    /// Times that a table was made to refuse rows.
    pub(crate) row_refusals: usize,
    /// Files and rows that were set aside when a comparison began, all of which came back.
    restored: (usize, u64),
    pub(crate) power_failures: usize,
    losses: Losses,
    /// By fault point: how often the program was to die there and did not come there.
    missed: BTreeMap<String, usize>,
    points: BTreeMap<String, Passages>,
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
            row_refusals: 0,
            restored: (0, 0),
            power_failures: 0,
            losses: Losses::default(),
            missed: BTreeMap::new(),
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
    pub(crate) fn planned(&mut self, point: &str, died: bool) {
        *self.missed.entry(point.to_owned()).or_default() += usize::from(!died);
    }

    /// Notes what was set aside and came back.
    pub(crate) fn restored(&mut self, was: &SetAside) {
        self.restored = (self.restored.0 + was.files.len(), self.restored.1 + was.rows);
    }

    /// Fault points at which no program died.
    pub(crate) fn unmet(&self) -> Vec<&'static str> {
        let met = |point: &&str| self.points.get(*point).is_some_and(|passages| passages.killed > 0);
        fault::POINTS.iter().copied().filter(|point| !met(point)).collect()
    }

    /// How long it has taken so far.
    pub(crate) fn seconds(&self) -> u64 {
        self.began.elapsed().as_secs()
    }

    /// Takes over what the producers and the disk counted.
    pub(crate) fn take(&mut self, ledger: &Ledger, site: &Site) {
        (self.points, self.losses) = (site.disk().points().clone(), site.disk().losses());
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
        line("times that a table was made to refuse rows", &self.row_refusals)?;
        line("files set aside and restored at checks", &self.restored.0)?;
        line("rows in them", &self.restored.1)?;
        line("power failures", &self.power_failures)?;
        line("files torn by them", &self.losses.torn)?;
        line("files and folders that were gone", &self.losses.unmade)?;
        line("files that were not renamed", &self.losses.unnamed)?;
        line("removed files that were back", &self.losses.back)?;
        line("requests acknowledged", &self.acknowledged)?;
        line("requests sent", &self.sent)?;
        line("answered as repeats", &self.replayed)?;
        line("answered 429 or 503", &self.refused)?;
        line("events acknowledged", &self.events)?;
        line("rejects", &self.rejects)?;
        line("without key and answer, found there", &self.unknown.0)?;
        line("without key and answer, not there", &self.unknown.1)?;
        line("seconds", &self.seconds())?;
        line("differences", &0)?;
        writeln!(f, "  {:<24}{:>10}{:>10}{:>10}{:>12}", "fault point", "passed", "killed", "refused", "not reached")?;
        for point in fault::POINTS {
            let Passages { passed, killed, refused } = self.points.get(*point).copied().unwrap_or_default();
            let missed = self.missed.get(*point).copied().unwrap_or(0);
            writeln!(f, "  {point:<24}{passed:>10}{killed:>10}{refused:>10}{missed:>12}")?;
        }
        let unmet = self.unmet();
        if !unmet.is_empty() {
            writeln!(f, "  no program died at {}", unmet.join(", "))?;
        }
        Ok(())
    }
}
