//! Processor time and memory of a process, from `/proc`.

use std::fs;

use anyhow::{Context, Result};
use serde::Serialize;

/// Processor time of a process, all its threads, since it began.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub(crate) struct CpuTime {
    /// Seconds in the process' own code.
    pub(crate) user_s: f64,
    /// Seconds in the kernel on its behalf.
    pub(crate) system_s: f64,
}

impl CpuTime {
    /// Of the process with this id.
    ///
    /// # Errors
    /// When the process has ended.
    pub(crate) fn of(process: u32) -> Result<Self> {
        let stat = read_stat(process)?;
        Ok(CpuTime { user_s: stat.user_ticks / TICKS_PER_S, system_s: stat.system_ticks / TICKS_PER_S })
    }

    /// Both together.
    pub(crate) fn total_s(&self) -> f64 {
        self.user_s + self.system_s
    }

    /// What was used since `earlier`.
    pub(crate) fn since(&self, earlier: &CpuTime) -> CpuTime {
        CpuTime { user_s: self.user_s - earlier.user_s, system_s: self.system_s - earlier.system_s }
    }

    /// The time of both.
    pub(crate) fn plus(&self, other: &CpuTime) -> CpuTime {
        CpuTime { user_s: self.user_s + other.user_s, system_s: self.system_s + other.system_s }
    }
}

/// Processor time in seconds of this process' threads whose names begin with `name`, of those that still run.
///
/// # Errors
/// When the kernel does not tell it.
pub(crate) fn threads_cpu_s(name: &str) -> Result<f64> {
    let mut nanoseconds = 0u64;
    for task in fs::read_dir("/proc/self/task").context("read /proc/self/task")? {
        let path = task?.path();
        // A thread may end while we look.
        let Ok(comm) = fs::read_to_string(path.join("comm")) else { continue };
        if comm.starts_with(name) {
            let text = fs::read_to_string(path.join("schedstat")).context("read a thread's schedstat")?;
            let ran = text.split_whitespace().next().and_then(|ran| ran.parse::<u64>().ok());
            nanoseconds += ran.context("schedstat has an unknown form")?;
        }
    }
    Ok(nanoseconds as f64 / 1e9)
}

/// `USER_HZ`: Linux shows processor time in hundredths of a second on every platform that Rust's std supports.
const TICKS_PER_S: f64 = 100.0;

/// Memory of a process that is resident.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub(crate) struct Memory {
    /// Now.
    pub(crate) resident_bytes: u64,
    /// The most it ever was.
    pub(crate) peak_bytes: u64,
}

impl Memory {
    /// Of the process with this id.
    ///
    /// # Errors
    /// When the process has ended.
    pub(crate) fn of(process: u32) -> Result<Self> {
        let path = format!("/proc/{process}/status");
        let text = fs::read_to_string(&path).with_context(|| format!("read {path}"))?;
        let field = |name: &str| {
            let line = text.lines().find_map(|line| line.strip_prefix(name));
            let kib = line.and_then(|rest| rest.trim().trim_end_matches(" kB").parse::<u64>().ok());
            kib.map(|kib| kib * 1024).with_context(|| format!("{path} has no {name}"))
        };
        Ok(Memory { resident_bytes: field("VmRSS:")?, peak_bytes: field("VmHWM:")? })
    }
}

/// The processes that `parent` started and that still run.
pub(crate) fn children(parent: u32) -> Vec<u32> {
    let processes = fs::read_dir("/proc").into_iter().flatten().flatten();
    let ids = processes.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    ids.filter(|id| read_stat(*id).is_ok_and(|stat| stat.parent == parent)).collect()
}

/// Whether a process runs; one that has ended and waits for its parent does not.
pub(crate) fn is_running(process: u32) -> bool {
    read_stat(process).is_ok_and(|stat| !stat.ended)
}

struct Stat {
    ended: bool,
    parent: u32,
    user_ticks: f64,
    system_ticks: f64,
}

/// Reads the fields of `/proc/<id>/stat` (see proc(5)); the name in parentheses may itself hold spaces and parentheses.
fn read_stat(process: u32) -> Result<Stat> {
    let path = format!("/proc/{process}/stat");
    let text = fs::read_to_string(&path).with_context(|| format!("read {path}"))?;
    parse_stat(&text).with_context(|| format!("{path} has an unknown form"))
}

fn parse_stat(text: &str) -> Option<Stat> {
    let fields: Vec<&str> = text[text.rfind(')')? + 1..].split_whitespace().collect();
    let number = |field: usize| fields.get(field - 3)?.parse::<f64>().ok(); // counted from 1, the third comes after the name
    let ended = fields.first().is_some_and(|state| matches!(*state, "Z" | "X"));
    Some(Stat { ended, parent: number(4)? as u32, user_ticks: number(14)?, system_ticks: number(15)? })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_with_parentheses_is_skipped() {
        let stat = parse_stat("7 (a) b (c)) S 3 7 7 0 -1 0 1 2 3 4 250 50 9 9 20 0 1 0 1").unwrap();
        assert_eq!((stat.parent, stat.user_ticks, stat.system_ticks), (3, 250.0, 50.0));
    }

    #[test]
    fn this_process_is_measured() {
        let id = std::process::id();
        let before = CpuTime::of(id).unwrap();
        let began = std::time::Instant::now();
        while CpuTime::of(id).unwrap().since(&before).total_s() < 0.02 {
            assert!(began.elapsed().as_secs() < 60, "a busy process uses processor time");
        }
        let memory = Memory::of(id).unwrap();
        assert!(memory.resident_bytes > 1 << 20 && memory.peak_bytes >= memory.resident_bytes);
    }

    #[test]
    fn a_thread_is_measured_by_its_name() {
        let (stop, stopped) = std::sync::mpsc::channel::<()>();
        let busy = std::thread::Builder::new()
            .name("measured".into())
            .spawn(move || while stopped.try_recv() == Err(std::sync::mpsc::TryRecvError::Empty) {});
        let began = std::time::Instant::now();
        while threads_cpu_s("measured").unwrap() < 0.02 {
            assert!(began.elapsed().as_secs() < 60, "a busy thread uses processor time");
        }
        assert_eq!(threads_cpu_s("no such thread").unwrap(), 0.0);
        stop.send(()).unwrap();
        busy.unwrap().join().unwrap();
    }

    #[test]
    fn a_child_is_found_and_forgotten() {
        let mut child = std::process::Command::new("sleep").arg("60").spawn().unwrap();
        assert!(children(std::process::id()).contains(&child.id()));
        child.kill().unwrap();
        child.wait().unwrap();
        assert!(!children(std::process::id()).contains(&child.id()));
    }
}
