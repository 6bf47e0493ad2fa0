//! The schedule: which fault comes when, from a seed alone.
//!
//! Kinds of faults are dealt from a shuffled deck, so that a short schedule has many of them too.

use std::fmt;
use std::time::Duration;

use rand::rngs::StdRng;
use rand::seq::{IndexedRandom, SliceRandom};
use rand::{Rng, SeedableRng};
use streamgauge_schemas::fault;

use crate::disk::Loss;
use crate::refusals::REFUSALS;
use crate::site::SEGMENT_BYTES;

/// Rounds of faults, and where they come from.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Schedule {
    pub(crate) seed: u64,
    /// How many processes are killed in all.
    pub(crate) kills: usize,
    /// Whether a program must die at every fault point that it is to die at.
    pub(crate) strict: bool,
    pub(crate) rounds: Vec<Round>,
}

/// One fault, under load.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Round {
    /// How much load comes before it.
    pub(crate) after: Duration,
    pub(crate) fault: Fault,
    /// What the disk loses when the program dies: nothing, or what a power failure takes.
    pub(crate) loss: Loss,
    /// How long a segment of the log may become in the lives of the round.
    pub(crate) segment_bytes: u64,
    /// Decides what the schedule does not tell, such as which bytes are lost.
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
    /// A table of ClickHouse refuses some rows from now on.
    RefuseRows { refusal: usize },
    /// Every table takes everything again.
    TakeRows,
}

impl Fault {
    /// How many processes it kills.
    fn kills(&self) -> usize {
        match self {
            Fault::Die { point, .. } if AFTER_ANOTHER_DEATH.contains(point) => 2,
            Fault::Kill | Fault::Die { .. } | Fault::KillClickHouse | Fault::KillBoth => 1,
            Fault::Refuse { .. } | Fault::StopClickHouse { .. } | Fault::Terminate => 0,
            Fault::RefuseRows { .. } | Fault::TakeRows => 0,
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
            Fault::RefuseRows { refusal } => {
                write!(f, "{} takes only rows with {}", REFUSALS[*refusal].0, REFUSALS[*refusal].1)
            }
            Fault::TakeRows => write!(f, "every table takes everything again"),
        }
    }
}

/// A kind of fault, as the deck holds it.
#[derive(Clone, Copy, Debug)]
enum Kind {
    Kill,
    /// After a write and before its sync.
    DieUnsynced,
    DieInTheLog,
    /// Where segments of the log are made, cut and removed.
    DieInSegments,
    DieInAFlush,
    DieAside,
    DieAnywhere,
    Refuse,
    RefuseRows,
    KillClickHouse,
    StopClickHouse,
    KillBoth,
    Terminate,
}

const DECK: [Kind; 18] = [
    Kind::Kill,
    Kind::Kill,
    Kind::DieUnsynced,
    Kind::DieInTheLog,
    Kind::DieInSegments,
    Kind::DieInSegments,
    Kind::DieInSegments,
    Kind::DieInAFlush,
    Kind::DieAside,
    Kind::DieAnywhere,
    Kind::Refuse,
    Kind::Refuse,
    Kind::RefuseRows,
    Kind::RefuseRows,
    Kind::KillClickHouse,
    Kind::StopClickHouse,
    Kind::KillBoth,
    Kind::Terminate,
];

/// Points after a group was written and before it was synced.
const UNSYNCED: [&str; 2] = ["log.written", "log.sync"];
/// Points on the way of every group.
const OF_GROUPS: [&str; 4] = ["log.write", "log.written", "log.sync", "log.synced"];
/// Points that are passed only after a start that finds a torn tail, or rows that are set aside.
pub(crate) const AFTER_ANOTHER_DEATH: [&str; 4] = ["log.cut", "aside.restore", "aside.restored", "aside.removed"];
/// Points that are passed when ClickHouse has everything that a segment holds.
pub(crate) const OF_TRUNCATION: [&str; 3] = ["log.truncate", "log.removed", "log.truncated"];
/// Steps that may be refused for a while without anybody but the producers noticing.
const REFUSABLE: [&str; 10] = [
    "log.write",
    "log.sync",
    "log.segment.create",
    "log.segment.written",
    "log.segment.renamed",
    "log.truncate",
    "log.removed",
    "flush.insert",
    "flush.commit",
    "recovery.repair",
];
/// Lengths of segments: a few groups, and the default.
const SEGMENTS_BYTES: [u64; 4] = [8 << 10, 32 << 10, 256 << 10, SEGMENT_BYTES];
const SMALL_SEGMENT_BYTES: u64 = SEGMENTS_BYTES[0];
/// What the disk loses when the program dies.
const LOSSES: [Loss; 6] = [Loss::Nothing, Loss::Nothing, Loss::Some, Loss::Some, Loss::Some, Loss::All];

impl Schedule {
    /// The schedule of a seed, with so many kills.
    pub(crate) fn new(seed: u64, kills: usize) -> Self {
        let mut random = StdRng::seed_from_u64(seed);
        let (mut rounds, mut deck) = (Vec::<Round>::new(), Vec::new());
        let (mut killed, mut refusing) = (0, false);
        while killed < kills {
            if deck.is_empty() {
                deck.extend(DECK);
                deck.shuffle(&mut random);
            }
            let Some(kind) = deck.pop() else { continue };
            let fault = match draw(kind, &mut random) {
                Fault::RefuseRows { .. } if refusing && random.random_bool(0.7) => Fault::TakeRows,
                fault => fault,
            };
            refusing = matches!(fault, Fault::RefuseRows { .. }) || (refusing && fault != Fault::TakeRows);
            killed += fault.kills();
            let after = Duration::from_millis(random.random_range(100..2_500));
            let loss = *LOSSES.choose(&mut random).expect("there are some");
            let segment_bytes = fault.segment_bytes().min(*SEGMENTS_BYTES.choose(&mut random).expect("there are some"));
            rounds.push(Round { after, fault, loss, segment_bytes, seed: random.random() });
        }
        Schedule { seed, kills, strict: false, rounds }
    }

    /// The schedule that meets every fault point, in about two minutes; each must be reached.
    pub(crate) fn tour() -> Self {
        let losses = [Loss::All, Loss::Some, Loss::Data];
        let round = |(index, (fault, loss)): (usize, (Fault, Option<Loss>))| Round {
            after: Duration::from_millis(100),
            segment_bytes: fault.segment_bytes(),
            fault,
            loss: loss.unwrap_or(losses[index % losses.len()]),
            seed: index as u64,
        };
        let die = |point, passage| Fault::Die { point, passage, patience: PATIENCE };
        let mut faults = Vec::new();
        for point in fault::POINTS {
            // Not at the first group, so that some are acknowledged before.
            faults.push((die(point, if OF_GROUPS.contains(point) { 20 } else { 1 }), None));
            if *point == "log.segment.renamed" {
                // The process dies, and the power fails in the next life only: the name must be durable by then.
                faults.last_mut().expect("it was pushed").1 = Some(Loss::Nothing);
                faults.push((die("log.write", 20), Some(Loss::All)));
            } else if point.ends_with(".renamed") || point.ends_with(".removed") {
                faults.last_mut().expect("it was pushed").1 = Some(Loss::All); // names are all that is not durable
            }
        }
        faults.push((Fault::Refuse { point: "log.sync", from: 5, to: 8 }, None));
        faults.push((Fault::Refuse { point: "log.segment.renamed", from: 2, to: 4 }, None));
        faults.push((Fault::KillClickHouse, None));
        let rounds: Vec<Round> = faults.into_iter().enumerate().map(round).collect();
        let kills = rounds.iter().map(|round| round.fault.kills()).sum();
        Schedule { seed: 0, kills, strict: true, rounds }
    }
}

impl Fault {
    /// The longest segments with which it does something.
    fn segment_bytes(&self) -> u64 {
        match self {
            Fault::Die { point, .. } | Fault::Refuse { point, .. }
                if point.starts_with("log.segment.") || OF_TRUNCATION.contains(point) =>
            {
                SMALL_SEGMENT_BYTES
            }
            _ => SEGMENT_BYTES,
        }
    }
}

fn draw(kind: Kind, random: &mut StdRng) -> Fault {
    let of = |prefix: &str| fault::POINTS.iter().copied().filter(|point| point.starts_with(prefix)).collect::<Vec<_>>();
    let mut pick = |points: &[&'static str]| points[random.random_range(0..points.len())];
    match kind {
        Kind::Kill => Fault::Kill,
        Kind::DieUnsynced => die(pick(&UNSYNCED), random),
        Kind::DieInTheLog => die(pick(&OF_GROUPS), random),
        Kind::DieInSegments => {
            let points: Vec<_> = of("log.").into_iter().filter(|point| !OF_GROUPS.contains(point)).collect();
            die(pick(&points), random)
        }
        Kind::DieInAFlush => die(pick(&of("flush.")), random),
        Kind::DieAside => die(pick(&of("aside.")), random),
        Kind::DieAnywhere => die(pick(fault::POINTS), random),
        Kind::Refuse => {
            let point = pick(&REFUSABLE);
            let from = random.random_range(1..20);
            Fault::Refuse { point, from, to: from + random.random_range(1..8) }
        }
        Kind::RefuseRows => Fault::RefuseRows { refusal: random.random_range(0..REFUSALS.len()) },
        Kind::KillClickHouse => Fault::KillClickHouse,
        Kind::StopClickHouse => {
            Fault::StopClickHouse { lasting: Duration::from_millis(random.random_range(1_000..5_000)) }
        }
        Kind::KillBoth => Fault::KillBoth,
        Kind::Terminate => Fault::Terminate,
    }
}

/// How long a point may take to be reached that must be.
const PATIENCE: Duration = Duration::from_secs(60);

/// Death at a passage that is likely to come: appends are many, flushes a few a second, the rest is rare.
fn die(point: &'static str, random: &mut StdRng) -> Fault {
    let (passages, seconds) = match point {
        point if OF_GROUPS.contains(&point) => (60, 15),
        point if point.starts_with("flush.") => (12, 15),
        point if point.starts_with("log.segment.") => (8, 15),
        point if point.starts_with("recovery.") => (5, 15),
        point if OF_TRUNCATION.contains(&point) => (3, 30),
        point if point.starts_with("aside.") => (1, 40),
        point if point.starts_with("log.") => (1, 15),
        _ => (2, 5),
    };
    Fault::Die { point, passage: random.random_range(1..=passages), patience: Duration::from_secs(seconds) }
}

impl fmt::Display for Schedule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = if self.strict { "every fault point".to_owned() } else { format!("seed {}", self.seed) };
        writeln!(f, "{name}, {} kills in {} rounds:", self.kills, self.rounds.len())?;
        for (index, round) in self.rounds.iter().enumerate() {
            let (after, kib) = (round.after.as_millis(), round.segment_bytes >> 10);
            writeln!(
                f,
                "  {index:>3}  after {after:>4} ms, segments {kib:>5} KiB, loss {:<7}: {}",
                format!("{:?}", round.loss),
                round.fault
            )?;
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
        let killed = schedule.rounds.iter().map(|round| round.fault.kills()).sum::<usize>();
        assert!((8..=9).contains(&killed), "{killed}"); // the last round may have two
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
    assert!(schedule.rounds.iter().any(|round| round.fault == Fault::TakeRows));
    for refusal in 0..REFUSALS.len() {
        assert!(schedule.rounds.iter().any(|round| round.fault == Fault::RefuseRows { refusal }));
    }
}

#[test]
fn the_tour_meets_every_point() {
    let tour = Schedule::tour();
    for point in fault::POINTS {
        assert!(tour.rounds.iter().any(|round| matches!(round.fault, Fault::Die { point: at, .. } if at == *point)));
    }
}
