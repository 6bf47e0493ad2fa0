//! Fault points: named places at every durable step, where a test makes the process die or the step fail.
//!
//! A point does nothing unless a plan was armed, and is not even there in a build without debug assertions. A plan is
//! text, such as `log.written=kill@17; log.sync=error@3..6`: at the 17th passage of one point the process is gone, as if
//! the power had failed there; at the third to fifth passage of another the step is refused as by a full disk.
//!
//! The [`journal`] says what a process asked of the disk and which points it passed.
//!
//! # Invariants
//!
//! 1. The same plan and the same passages give the same faults: there is no clock and no chance in here.

pub mod journal;

use std::io;

/// Every fault point, in the order of the path of the data.
///
/// The name of a step stands before it, its past form after it; an error makes sense before a step only. A step of several
/// has a point after each: a name is durable only at the last.
pub const POINTS: &[&str] = &[
    "log.write",
    "log.written",
    "log.sync",
    "log.synced",
    "log.segment.create",
    "log.segment.written",
    "log.segment.synced",
    "log.segment.renamed",
    "log.segment.created",
    "log.truncate",
    "log.removed",
    "log.truncated",
    "log.cut",
    "log.recovered",
    "flush.insert",
    "flush.inserted",
    "flush.commit",
    "flush.committed",
    "catalog.apply",
    "catalog.applied",
    "aside.write",
    "aside.synced",
    "aside.renamed",
    "aside.written",
    "aside.restore",
    "aside.restored",
    "aside.removed",
    "recovery.repair",
    "recovery.repaired",
];

/// Arms a plan for the life of the process.
///
/// # Errors
/// A text that says what is wrong with the plan, or that this build has no fault points.
pub fn arm(plan: &str) -> Result<(), String> {
    if plan.trim().is_empty() {
        return Ok(());
    }
    armed::arm(plan)
}

/// Passes a point: returns, dies or fails as the armed plan says.
///
/// # Errors
/// The error that the plan wants here, as of a full disk.
#[inline]
pub fn point(name: &'static str) -> io::Result<()> {
    armed::point(name)
}

#[cfg(not(debug_assertions))]
mod armed {
    use std::io;

    pub(super) fn arm(_plan: &str) -> Result<(), String> {
        Err("this build has no fault points; they are in debug builds only".to_owned())
    }

    #[inline(always)]
    #[allow(clippy::unnecessary_wraps, reason = "the build with fault points fails here")]
    pub(super) fn point(_name: &'static str) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(debug_assertions)]
mod armed {
    use std::collections::HashMap;
    use std::io;
    use std::ops::Range;
    use std::sync::OnceLock;
    use std::sync::atomic::{AtomicU64, Ordering};

    use super::POINTS;

    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub(super) enum Action {
        Kill,
        Error,
    }

    impl Action {
        fn name(self) -> &'static str {
            match self {
                Action::Kill => "kill",
                Action::Error => "error",
            }
        }
    }

    #[derive(Debug)]
    pub(super) struct Fault {
        pub(super) action: Action,
        pub(super) passages: Range<u64>,
    }

    #[derive(Debug, Default)]
    pub(super) struct Plan(pub(super) HashMap<&'static str, (AtomicU64, Vec<Fault>)>);

    static ARMED: OnceLock<Plan> = OnceLock::new();

    pub(super) fn arm(plan: &str) -> Result<(), String> {
        ARMED.set(Plan::parse(plan)?).map_err(|_| "a plan of faults is armed already".to_owned())
    }

    pub(super) fn point(name: &'static str) -> io::Result<()> {
        let action = ARMED.get().and_then(|plan| plan.pass(name));
        super::journal::passed(name, action.map(Action::name));
        match action {
            None => Ok(()),
            Some(Action::Error) => Err(io::Error::new(io::ErrorKind::StorageFull, format!("fault injected at {name}"))),
            Some(Action::Kill) => std::process::abort(),
        }
    }

    impl Plan {
        pub(super) fn parse(text: &str) -> Result<Self, String> {
            let mut plan = Plan::default();
            for entry in text.split(';').map(str::trim).filter(|entry| !entry.is_empty()) {
                let wrong = || format!("the fault {entry:?} is not of the form point=kill@N, point=error@N or @N..M");
                let (name, rest) = entry.split_once('=').ok_or_else(wrong)?;
                let (action, at) = rest.split_once('@').ok_or_else(wrong)?;
                let known = POINTS.iter().find(|known| **known == name.trim());
                let name = known.ok_or_else(|| format!("there is no fault point {name:?}"))?;
                let action = match action.trim() {
                    "kill" => Action::Kill,
                    "error" => Action::Error,
                    _ => return Err(wrong()),
                };
                let number = |text: &str| text.trim().parse::<u64>().map_err(|_| wrong());
                let passages = match at.split_once("..") {
                    None => number(at)?..number(at)? + 1,
                    Some((from, "")) => number(from)?..u64::MAX,
                    Some((from, to)) => number(from)?..number(to)?,
                };
                plan.0.entry(name).or_default().1.push(Fault { action, passages });
            }
            Ok(plan)
        }

        /// Counts a passage, from 1, and says what happens at it.
        pub(super) fn pass(&self, name: &str) -> Option<Action> {
            let (count, faults) = self.0.get(name)?;
            let passage = count.fetch_add(1, Ordering::Relaxed) + 1;
            faults.iter().find(|fault| fault.passages.contains(&passage)).map(|fault| fault.action)
        }
    }
}

#[cfg(all(test, debug_assertions))]
mod tests {
    use super::armed::{Action, Plan};

    #[test]
    fn a_plan_counts_passages() {
        let plan = Plan::parse("log.sync=error@2..4; log.sync=kill@5; flush.commit=error@3..").unwrap();
        let sync: Vec<_> = (0..6).map(|_| plan.pass("log.sync")).collect();
        assert_eq!(sync, [None, Some(Action::Error), Some(Action::Error), None, Some(Action::Kill), None]);
        let commit: Vec<_> = (0..4).map(|_| plan.pass("flush.commit")).collect();
        assert_eq!(commit, [None, None, Some(Action::Error), Some(Action::Error)]);
        assert_eq!(plan.pass("log.write"), None);
    }

    #[test]
    fn mistakes_are_named() {
        for (plan, words) in [
            ("log.snyc=kill@1", "no fault point"),
            ("log.sync=kill", "not of the form"),
            ("log.sync=melt@1", "not of the form"),
            ("log.sync=kill@x", "not of the form"),
        ] {
            let error = Plan::parse(plan).unwrap_err();
            assert!(error.contains(words), "{plan}: {error}");
        }
    }
}
