//! What the child process does: it becomes ClickHouse and ends with its parent.
//!
//! The ClickHouse engine brings its own allocator and signal handlers, so the library is loaded in a process of its
//! own. The parent holds the other end of the child's standard input: when the parent ends, however it ends, the pipe
//! closes, and a thread here ends the child. (`PR_SET_PDEATHSIG` alone would not do: it fires when the *thread* that
//! spawned the child ends, and those of an asynchronous runtime come and go.)
//!
//! This is the one module of the workspace with `unsafe`: calling a C library leaves no choice.

#![allow(unsafe_code)]

use std::convert::Infallible;
use std::ffi::{CStr, CString, OsString, c_char, c_int, c_void};
use std::fs::{File, OpenOptions};
use std::io::Read;
use std::os::fd::{AsFd, AsRawFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use crate::SinkError;

/// The hidden subcommand of the program that runs the child.
pub const SUBCOMMAND: &str = "clickhouse-embedded";

/// How long a child that was asked to end may take.
const GRACE: Duration = Duration::from_secs(10);
/// By so much the threads of ClickHouse are nicer than those of the program: events and narrow questions come before merges.
const NICER: c_int = 10;

/// What a child runs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ChildEngine {
    /// `libchdb.so`, in this process.
    Library(PathBuf),
    /// The official `clickhouse` binary, as a process below this one.
    Binary(PathBuf),
}

/// The arguments of a child.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ChildArgs {
    /// What to run.
    pub engine: ChildEngine,
    /// ClickHouse's configuration file.
    pub config: PathBuf,
    /// ClickHouse's data folder.
    pub path: PathBuf,
    /// The port on 127.0.0.1.
    pub port: u16,
}

impl ChildArgs {
    /// The command line, [`SUBCOMMAND`] first.
    #[must_use]
    pub fn to_command_line(&self) -> Vec<OsString> {
        let (flag, engine) = match &self.engine {
            ChildEngine::Library(path) => ("--library", path),
            ChildEngine::Binary(path) => ("--binary", path),
        };
        let mut line: Vec<OsString> = vec![SUBCOMMAND.into()];
        line.extend([flag.into(), engine.into(), "--config".into(), OsString::from(&self.config)]);
        line.extend(["--path".into(), OsString::from(&self.path), "--port".into(), self.port.to_string().into()]);
        line
    }

    /// Reads what [`to_command_line`](ChildArgs::to_command_line) made, without [`SUBCOMMAND`]; `None` if it is anything else.
    pub fn parse(arguments: impl IntoIterator<Item = OsString>) -> Option<Self> {
        let (mut engine, mut config, mut path, mut port) = (None, None, None, None);
        let mut arguments = arguments.into_iter();
        while let Some(flag) = arguments.next() {
            let value = arguments.next()?;
            match flag.to_str()? {
                "--library" => engine = Some(ChildEngine::Library(value.into())),
                "--binary" => engine = Some(ChildEngine::Binary(value.into())),
                "--config" => config = Some(value.into()),
                "--path" => path = Some(value.into()),
                "--port" => port = Some(value.to_str()?.parse().ok()?),
                _ => return None,
            }
        }
        Some(ChildArgs { engine: engine?, config: config?, path: path?, port: port? })
    }
}

/// Runs ClickHouse in this process until it ends or the parent does.
///
/// Call it from `main`, on the main thread, before any runtime is made, with standard input as the parent's pipe.
///
/// # Errors
/// [`SinkError::Library`] when the library cannot be loaded or ClickHouse gives up, [`SinkError::Io`] when the
/// process cannot be prepared. It does not return otherwise.
pub fn run_embedded_child(args: &ChildArgs) -> Result<Infallible, SinkError> {
    end_with_parent()?;
    // SAFETY: it touches no memory. It acts on this thread, and on those that it starts; being nicer is always allowed.
    unsafe { libc::nice(NICER) };
    match &args.engine {
        ChildEngine::Library(library) => run_library(library, args),
        ChildEngine::Binary(binary) => run_binary(binary, args),
    }
}

/// Takes standard input for the pipe that it is, and ends this process when it closes.
fn end_with_parent() -> Result<(), SinkError> {
    let prepare = || -> std::io::Result<File> {
        let pipe = File::from(std::io::stdin().as_fd().try_clone_to_owned()?);
        let nothing = OpenOptions::new().read(true).open("/dev/null")?;
        // SAFETY: both descriptors are open; ClickHouse must not read the pipe, so its standard input becomes empty.
        if unsafe { libc::dup2(nothing.as_raw_fd(), libc::STDIN_FILENO) } < 0 {
            return Err(std::io::Error::last_os_error());
        }
        Ok(pipe)
    };
    let mut pipe = prepare().map_err(SinkError::io("take over standard input"))?;
    let wait = move || {
        let mut bytes = [0; 64];
        while matches!(pipe.read(&mut bytes), Ok(1..)) {}
        // SAFETY: these act on this process only and touch no memory of ours.
        unsafe { libc::kill(libc::getpid(), libc::SIGTERM) };
        std::thread::sleep(GRACE);
        unsafe { libc::_exit(1) };
    };
    let thread = std::thread::Builder::new().name("parent-watch".into()).spawn(wait);
    thread.map(drop).map_err(SinkError::io("start the thread that watches the parent"))
}

/// Becomes `clickhouse local` with an HTTP listener, kept alive by a query that never ends.
fn run_library(library: &Path, args: &ChildArgs) -> Result<Infallible, SinkError> {
    let fail = |reason: String| SinkError::Library { path: library.to_owned(), reason };
    let mut command: Vec<Vec<u8>> = vec![b"clickhouse".to_vec()];
    let mut path = |flag: &str, path: &Path| command.push([flag.as_bytes(), path.as_os_str().as_bytes()].concat());
    path("--config-file=", &args.config);
    path("--path=", &args.path);
    command.push(format!("--http_port={}", args.port).into_bytes());
    for fixed in [
        "--listen_host=127.0.0.1",
        "--log-level=warning",
        "--output-format=Null",
        "--query=SYSTEM START LISTEN HTTP; SELECT sleepEachRow(3) FROM system.numbers \
         SETTINGS max_block_size = 1, function_sleep_max_microseconds_per_block = 100000000",
    ] {
        command.push(fixed.as_bytes().to_vec());
    }
    let command: Result<Vec<CString>, _> = command.into_iter().map(CString::new).collect();
    let command = command.map_err(|_| fail("a path holds a zero byte".into()))?;
    let mut pointers: Vec<*mut c_char> = command.iter().map(|text| text.as_ptr().cast_mut()).collect();

    type Run = unsafe extern "C" fn(c_int, *mut *mut c_char) -> *mut c_void;
    type Reason = unsafe extern "C" fn(*mut c_void) -> *const c_char;
    // SAFETY: the library is the pinned one (its digest was checked) or one that the operator named; the signatures
    // are those of its header `chdb.h`. The texts live until the process ends.
    let reason = unsafe {
        let chdb = libloading::Library::new(library).map_err(|e| fail(e.to_string()))?;
        let run = *chdb.get::<Run>(b"chdb_query_cmdline\0").map_err(|e| fail(e.to_string()))?;
        let error = *chdb.get::<Reason>(b"chdb_result_error\0").map_err(|e| fail(e.to_string()))?;
        std::mem::forget(chdb); // unloading would run its destructors under its own threads
        let result = run(pointers.len() as c_int, pointers.as_mut_ptr());
        let text = if result.is_null() { std::ptr::null() } else { error(result) };
        if text.is_null() { "it ended".to_owned() } else { CStr::from_ptr(text).to_string_lossy().into_owned() }
    };
    Err(fail(reason))
}

/// Runs the official server below this process and ends as it ends.
fn run_binary(binary: &Path, args: &ChildArgs) -> Result<Infallible, SinkError> {
    let mut command = Command::new(binary);
    command.arg("server").arg("--config-file").arg(&args.config);
    command.arg("--").arg("--path").arg(&args.path).arg("--http_port").arg(args.port.to_string());
    // SAFETY: prctl is safe between fork and exec. This thread is the main one, so the signal comes only when this
    // process ends.
    unsafe {
        command.pre_exec(|| match libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGTERM) {
            0 => Ok(()),
            _ => Err(std::io::Error::last_os_error()),
        });
    }
    let missing = |_| SinkError::BinaryMissing { path: binary.to_owned() };
    let status = command.spawn().map_err(missing)?.wait().map_err(SinkError::io("wait for ClickHouse"))?;
    std::process::exit(status.code().unwrap_or_else(|| 128 + status.signal().unwrap_or(0)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arguments_survive_the_command_line() {
        for engine in [ChildEngine::Library("/a b/libchdb.so".into()), ChildEngine::Binary("clickhouse".into())] {
            let args = ChildArgs { engine, config: "c.xml".into(), path: "/data".into(), port: 8123 };
            assert_eq!(ChildArgs::parse(args.to_command_line().into_iter().skip(1)), Some(args));
        }
        assert_eq!(ChildArgs::parse(["--port".into(), "many".into()]), None);
    }
}
