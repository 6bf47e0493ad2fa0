//! The schedule: which fault comes when, from a seed alone.
//!
//! Kinds of faults are dealt from a shuffled deck, so that a short schedule has many of them too.

use std::fmt;
use std::time::Duration;

use rand::rngs::StdRng;
use rand::seq::SliceRandom;
use rand::{Rng, SeedableRng};
use streamgauge_schemas::fault;

/// Rounds of faults, and where they come from.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Schedule {
    pub(crate) seed: u64,
    /// How many processes are killed in all.
    pub(crate) kills: usize,
    pub(crate) rounds: Vec<Round>,
}

/// One fault, under load.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Round {
    /// How much load comes before it.
    pub(crate) after: Duration,
    pub(crate) fault: Fault,
    /// Decides what the schedule does not tell, such as how a tail is torn.
    pub(crate) seed: u64,
}

/// What goes wrong.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Fault {
    /// SIGKILL of the program.
    Kill,
    /// The program dies at a fault point, or is killed when it does not come there in time.
    Die { point: &'static str, passage: u64, patience: Duration },
    /// A durable step is refused at some passages, and the program must get over it by itself.
    Refuse { point: &'static str, from: u64, to: u64 },
    /// SIGKILL of ClickHouse.
    KillClickHouse,
    /// ClickHouse stands still for a while.
    StopClickHouse { lasting: Duration },
    /// SIGKILL of both.
    KillBoth,
    /// SIGTERM of the program.
    Terminate,
}

impl Fault {
    /// How many processes it kills.
    fn kills(&self) -> usize {
        match self {
            Fault::Kill | Fault::Die { .. } | Fault::KillClickHouse | Fault::KillBoth => 1,
            Fault::Refuse { .. } | Fault::StopClickHouse { .. } | Fault::Terminate => 0,
        }
    }

    /// The plan that the program must be started with.
    pub(crate) fn plan(&self) -> Option<String> {
        match self {
            Fault::Die { point, passage, .. } => Some(format!("{point}=kill@{passage}")),
            Fault::Refuse { point, from, to } => Some(format!("{point}=error@{from}..{to}")),
            _ => None,
        }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Fault::Kill => write!(f, "the program is killed"),
            Fault::Die { .. } => write!(f, "the program dies at {}", self.plan().unwrap_or_default()),
            Fault::Refuse { .. } => write!(f, "refused: {}", self.plan().unwrap_or_default()),
            Fault::KillClickHouse => write!(f, "ClickHouse is killed"),
            Fault::StopClickHouse { lasting } => write!(f, "ClickHouse stands still for {lasting:?}"),
            Fault::KillBoth => write!(f, "both are killed"),
            Fault::Terminate => write!(f, "the program is terminated"),
        }
    }
}

/// A kind of fault, as the deck holds it.
#[derive(Clone, Copy, Debug)]
enum Kind {
    Kill,
    /// After a write and before its sync, where a tail may be torn.
    DieUnsynced,
    DieInTheLog,
    DieInAFlush,
    DieAnywhere,
    Refuse,
    KillClickHouse,
    StopClickHouse,
    KillBoth,
    Terminate,
}

const DECK: [Kind; 12] = [
    Kind::Kill,
    Kind::Kill,
    Kind::DieUnsynced,
    Kind::DieInTheLog,
    Kind::DieInAFlush,
    Kind::DieAnywhere,
    Kind::Refuse,
    Kind::Refuse,
    Kind::KillClickHouse,
    Kind::StopClickHouse,
    Kind::KillBoth,
    Kind::Terminate,
];

/// Points after a group was written and before it was synced.
pub(crate) const UNSYNCED: [&str; 2] = ["log.written", "log.sync"];
/// Steps that may be refused for a while without anybody but the producers noticing.
const REFUSABLE: [&str; 4] = ["log.write", "log.sync", "flush.insert", "flush.commit"];

impl Schedule {
    /// The schedule of a seed, with so many kills.
    pub(crate) fn new(seed: u64, kills: usize) -> Self {
        let mut random = StdRng::seed_from_u64(seed);
        let (mut rounds, mut deck) = (Vec::<Round>::new(), Vec::new());
        let mut killed = 0;
        while killed < kills {
            if deck.is_empty() {
                deck.extend(DECK);
                deck.shuffle(&mut random);
            }
            let Some(kind) = deck.pop() else { continue };
            let fault = draw(kind, &mut random);
            killed += fault.kills();
            let after = Duration::from_millis(random.random_range(100..2_500));
            rounds.push(Round { after, fault, seed: random.random() });
        }
        Schedule { seed, kills, rounds }
    }
}

fn draw(kind: Kind, random: &mut StdRng) -> Fault {
    let of = |prefix: &str| fault::POINTS.iter().copied().filter(|point| point.starts_with(prefix)).collect::<Vec<_>>();
    let mut pick = |points: &[&'static str]| points[random.random_range(0..points.len())];
    match kind {
        Kind::Kill => Fault::Kill,
        Kind::DieUnsynced => die(pick(&UNSYNCED), random),
        Kind::DieInTheLog => die(pick(&["log.write", "log.written", "log.sync", "log.synced"]), random),
        Kind::DieInAFlush => die(pick(&of("flush.")), random),
        Kind::DieAnywhere => die(pick(fault::POINTS), random),
        Kind::Refuse => {
            let point = pick(&REFUSABLE);
            let from = random.random_range(1..20);
            Fault::Refuse { point, from, to: from + random.random_range(1..8) }
        }
        Kind::KillClickHouse => Fault::KillClickHouse,
        Kind::StopClickHouse => {
            Fault::StopClickHouse { lasting: Duration::from_millis(random.random_range(1_000..5_000)) }
        }
        Kind::KillBoth => Fault::KillBoth,
        Kind::Terminate => Fault::Terminate,
    }
}

/// Death at a passage that is likely to come: appends are many, flushes a few a second, the rest is rare.
fn die(point: &'static str, random: &mut StdRng) -> Fault {
    let (passages, seconds) = match point {
        "log.write" | "log.written" | "log.sync" | "log.synced" => (60, 15),
        point if point.starts_with("flush.") => (12, 15),
        _ => (2, 5),
    };
    Fault::Die { point, passage: random.random_range(1..=passages), patience: Duration::from_secs(seconds) }
}

impl fmt::Display for Schedule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "seed {}, {} kills in {} rounds:", self.seed, self.kills, self.rounds.len())?;
        for (index, round) in self.rounds.iter().enumerate() {
            writeln!(f, "  {index:>3}  after {:>4} ms: {}", round.after.as_millis(), round.fault)?;
        }
        Ok(())
    }
}

#[test]
fn a_seed_makes_the_same_schedule_again() {
    for seed in 0..50 {
        let schedule = Schedule::new(seed, 8);
        assert_eq!(schedule, Schedule::new(seed, 8));
        assert_ne!(schedule.rounds, Schedule::new(seed + 1, 8).rounds);
        assert_eq!(schedule.rounds.iter().map(|round| round.fault.kills()).sum::<usize>(), 8);
    }
}

#[test]
fn many_kills_meet_every_point() {
    let schedule = Schedule::new(1, 3_000);
    for point in fault::POINTS {
        let met = |round: &Round| matches!(round.fault, Fault::Die { point: at, .. } if at == *point);
        assert!(schedule.rounds.iter().any(met), "{point}");
    }
    assert!(schedule.rounds.iter().any(|round| round.fault == Fault::KillBoth));
}
