//! `streamgauge replay FILE…`: files as if their events happened now.
//!
//! ```text
//! scan: columns, types, span ─▶ tracks: what rows become, and when ─▶ playlist: merged by time ─▶ sender
//!        (each file, once)         (metrics, or a stream)               (a thread that reads)      (waits for each turn)
//! ```
//!
//! # Layout
//!
//! - [`rows`]: the rows of a CSV or NDJSON file.
//! - [`scan`]: the first pass over a file.
//! - [`timeline`]: from a file's times to those of the replay.
//! - [`metrics`] and [`stream`]: what a row becomes.
//! - [`playlist`]: all files merged.
//! - [`target`]: what the server has already.

mod metrics;
mod playlist;
mod rows;
mod scan;
mod stream;
mod target;
mod timeline;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration as StdDuration;

use streamgauge_schemas::EventTime;
use streamgauge_schemas::time::{to_rfc3339, wall_clock};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use self::playlist::{Event, Playlist, Track};
use self::scan::Scan;
use self::timeline::{Share, Span, Speed, Timeline};
use super::connection::Connection;
use super::error::ClientError;
use super::progress::Progress;
use super::sender::Sender;
use super::{SendArgs, ServerArgs, stop};

/// Events that are read ahead.
const AHEAD_MAX: usize = 4_096;
/// Events that are due within the same interval are sent together.
const TURN_US: i64 = 50_000;

/// Options of `streamgauge replay`.
#[derive(Debug, clap::Args)]
pub(crate) struct ReplayArgs {
    /// Files to replay: .csv, .ndjson or .jsonl, or one of these and .gz
    #[arg(required = true, value_name = "FILE")]
    files: Vec<PathBuf>,
    #[command(flatten)]
    server: ServerArgs,

    /// Replay into this stream, which is made from the files' columns unless it exists; into `metrics` by default
    #[arg(long, value_name = "NAME", help_heading = "What rows become")]
    stream: Option<String>,
    /// Column with the event's time [default: the one with a usual name, or the first that holds times]
    #[arg(long, value_name = "COLUMN", help_heading = "What rows become")]
    time_column: Option<String>,
    /// Name of the metric [default: the column `name` or `metric`, else the file's name]
    #[arg(long, value_name = "NAME", conflicts_with = "stream", help_heading = "What rows become")]
    name: Option<String>,
    /// Column with the metric's value; with several, each is a metric NAME.COLUMN [default: value]
    #[arg(
        long = "value",
        value_name = "COLUMN",
        value_delimiter = ',',
        conflicts_with = "stream",
        help_heading = "What rows become"
    )]
    values: Vec<String>,
    /// Dimension of every event [default: category=FOLDER]
    #[arg(long = "dimension", value_name = "KEY=VALUE", value_parser = key_value, conflicts_with = "stream", help_heading = "What rows become")]
    dimensions: Vec<(String, String)>,
    /// Columns that become dimensions
    #[arg(
        long = "dimension-column",
        value_name = "COLUMN",
        value_delimiter = ',',
        conflicts_with = "stream",
        help_heading = "What rows become"
    )]
    dimension_columns: Vec<String>,

    /// max: all at once, spaced as in the file. 60x: played, a minute of the file each second, in event time as on the clock
    #[arg(long, default_value_t = Speed::Max, value_name = "SPEED", help_heading = "When events happen")]
    speed: Speed,
    /// How times are moved [default: together with --stream, else each]
    #[arg(long, value_enum, help_heading = "When events happen")]
    shift: Option<Shift>,
    /// Share of the files that is sent at once as history up to now; the rest is played (needs a --speed such as 60x)
    #[arg(long, default_value = "0%", value_name = "PERCENT", help_heading = "When events happen")]
    history: Share,
    /// Start over after the end, for ever (needs a --speed such as 60x)
    #[arg(long = "loop", help_heading = "When events happen")]
    in_loop: bool,
    /// Leave out events at or before the last one that the server has of the same metric
    #[arg(long, conflicts_with = "stream", help_heading = "When events happen")]
    resume: bool,
    /// Send nothing when the stream has events already
    #[arg(long, requires = "stream", help_heading = "When events happen")]
    if_empty: bool,

    #[command(flatten)]
    send: SendArgs,
}

/// How the times of files are moved.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Shift {
    /// Each file by itself: the last event of each is now (when played: the first, or the end of its history)
    Each,
    /// All files by the same time: the last event of all is now
    Together,
    /// Not at all
    None,
}

fn key_value(text: &str) -> Result<(String, String), String> {
    let (key, value) = text.split_once('=').filter(|(key, _)| !key.is_empty()).ok_or("expected KEY=VALUE")?;
    Ok((key.to_owned(), value.to_owned()))
}

/// Replays the files until their end or a signal, and prints a summary.
pub(crate) async fn run(args: ReplayArgs) -> anyhow::Result<()> {
    let played = args.speed != Speed::Max;
    anyhow::ensure!(
        played || !args.in_loop,
        "--loop needs a speed: at --speed max it would run into the future; try --speed 60x"
    );
    anyhow::ensure!(
        played || args.history == Share(0.0),
        "--history needs a speed for what comes after it; try --speed 60x"
    );
    let stop = stop::on_signal()?;
    let connection = Arc::new(Connection::new(&args.server.url, args.send.retry_for.into(), stop.clone())?);

    let (paths, time_column) = (args.files.clone(), args.time_column.clone());
    let scans = tokio::task::spawn_blocking(move || scan_all(&paths, time_column.as_deref())).await??;
    let path = match &args.stream {
        Some(name) => format!("/api/v1/streams/{name}/events"),
        None => "/api/v1/streams/metrics/events".to_owned(),
    };
    let Some(mappings) = target::prepare(&connection, &args, &scans).await? else {
        println!("replay: stream {} has events already; nothing was sent", args.stream.unwrap_or_default());
        return Ok(());
    };
    let timelines = timelines(&args, &scans, wall_clock());
    let tracks = (scans.into_iter().zip(mappings).zip(timelines))
        .map(|(((path, scan), (mapping, after)), timeline)| Track { path, time: scan.time, timeline, mapping, after })
        .collect();

    let (events_in, mut events) = mpsc::channel(AHEAD_MAX);
    let in_loop = args.in_loop;
    let reader = tokio::task::spawn_blocking(move || read(tracks, in_loop, &events_in));
    let mut sender = Sender::new(connection, &path, &args.send);
    let mut progress = Progress::new("replay", args.send.quiet);
    let outcome = play(&mut events, played, &mut sender, &mut progress, &stop).await;
    drop(events); // the reader ends with its next event
    let finished = sender.finish().await;
    reader.await?;
    println!("{}", progress.summary(sender.counts()));
    match outcome.and(finished) {
        Ok(()) | Err(ClientError::Stopped) => {}
        Err(error) => return Err(error.into()),
    }
    let counts = sender.counts();
    anyhow::ensure!(counts.rejected == 0 || counts.accepted > 0, "no event was accepted");
    anyhow::ensure!(counts.unsure == 0, "what became of {} events is unknown", counts.unsure);
    Ok(())
}

fn scan_all(paths: &[PathBuf], time_column: Option<&str>) -> Result<Vec<(PathBuf, Scan)>, ClientError> {
    paths.iter().map(|path| Ok((path.clone(), scan::scan(path, time_column)?))).collect()
}

fn read(tracks: Vec<Track>, in_loop: bool, events: &mpsc::Sender<Result<Event, ClientError>>) {
    match Playlist::open(tracks, in_loop) {
        Ok(playlist) => {
            for event in playlist {
                let failed = event.is_err();
                if events.blocking_send(event).is_err() || failed {
                    return;
                }
            }
        }
        Err(error) => drop(events.blocking_send(Err(error))), // nobody listens when the replay was stopped
    }
}

/// One timeline a file: its own, or that of all files.
fn timelines(args: &ReplayArgs, scans: &[(PathBuf, Scan)], now: EventTime) -> Vec<Timeline> {
    let shift = args.shift.unwrap_or(if args.stream.is_some() { Shift::Together } else { Shift::Each });
    let spans = scans.iter().map(|(_, scan)| Span::of(scan));
    let all = spans.clone().reduce(Span::union);
    let timeline = |span: Span| {
        let span = if shift == Shift::Each { span } else { all.unwrap_or(span) };
        Timeline::new(span, args.speed, shift != Shift::None, args.history, now)
    };
    spans.map(timeline).collect()
}

/// Sends each event when its turn comes, until the last one or a signal.
async fn play(
    events: &mut mpsc::Receiver<Result<Event, ClientError>>,
    played: bool,
    sender: &mut Sender,
    progress: &mut Progress,
    stop: &CancellationToken,
) -> Result<(), ClientError> {
    loop {
        let event = tokio::select! {
            biased;
            () = stop.cancelled() => return Ok(()),
            event = events.recv() => event,
        };
        let Some(event) = event.transpose()? else { return Ok(()) };
        let note = || format!(", at {}", to_rfc3339(event.moment.at));
        while played && event.moment.due > wall_clock() {
            sender.send().await?;
            progress.tick(sender.counts(), note);
            tokio::select! {
                () = tokio::time::sleep(until_turn(event.moment.due, wall_clock())) => {}
                () = stop.cancelled() => return Ok(()),
            }
        }
        let batch = sender.batch();
        batch.body.extend_from_slice(&event.lines);
        batch.events += event.events;
        sender.send_if_full().await?;
        progress.tick(sender.counts(), note);
    }
}

/// How long to sleep before something is due: to the end of its turn, and a second at most, so that status lines go on.
fn until_turn(due: EventTime, now: EventTime) -> StdDuration {
    let turn_us = due.0 + TURN_US - due.0.rem_euclid(TURN_US);
    StdDuration::from_micros((turn_us - now.0).clamp(0, 1_000_000) as u64)
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    #[derive(Debug, clap::Parser)]
    struct Program {
        #[command(flatten)]
        args: ReplayArgs,
    }

    #[test]
    fn options_are_read_together() {
        let line =
            ["replay", "a.csv", "b.csv.gz", "--speed", "60x", "--history", "80%", "--loop", "--dimension", "k=v=w"];
        let args = Program::try_parse_from(line).unwrap().args;
        assert_eq!((args.files.len(), args.speed, args.history), (2, Speed::Times(60.0), Share(0.8)));
        assert_eq!(args.dimensions, [("k".to_owned(), "v=w".to_owned())]);
        for wrong in [
            &["replay"][..],
            &["replay", "a.csv", "--stream", "s", "--name", "n"],
            &["replay", "a.csv", "--if-empty"],
            &["replay", "a.csv", "--speed", "soon"],
            &["replay", "a.csv", "--dimension", "k"],
        ] {
            assert!(Program::try_parse_from(wrong).is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn a_turn_ends_after_what_is_due_and_within_a_second() {
        let wait = |due_us: i64, now_us: i64| until_turn(EventTime(due_us), EventTime(now_us)).as_micros() as i64;
        assert_eq!(wait(120_000, 100_000), 50_000);
        assert_eq!(wait(100_000_000, 0), 1_000_000);
        assert_eq!(wait(0, 100_000), 0);
    }
}
