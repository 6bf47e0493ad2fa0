//! The events of several files, merged by the time at which they are due.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::path::PathBuf;

use streamgauge_schemas::EventTime;

use super::super::error::ClientError;
use super::metrics::MetricsMapping;
use super::rows::{Cell, Rows};
use super::scan::time_of;
use super::stream::StreamMapping;
use super::timeline::{Moment, Timeline};

/// A file, what its rows become, and when.
#[derive(Clone, Debug)]
pub(crate) struct Track {
    /// The file.
    pub(crate) path: PathBuf,
    /// The place of its column with the time.
    pub(crate) time: usize,
    /// When its events happen.
    pub(crate) timeline: Timeline,
    /// What its rows become.
    pub(crate) mapping: Mapping,
    /// Events at or before this time are left out, because the server has them.
    pub(crate) after: Option<EventTime>,
}

/// What a row becomes.
#[derive(Clone, Debug)]
pub(crate) enum Mapping {
    /// Events of `metrics`.
    Metrics(MetricsMapping),
    /// An event of a stream of the user's own.
    Stream(StreamMapping),
}

/// A row's events, ready to be sent.
#[derive(Debug)]
pub(crate) struct Event {
    /// When they are due, and the time that they say.
    pub(crate) moment: Moment,
    /// One line of JSON each.
    pub(crate) lines: Vec<u8>,
    /// How many.
    pub(crate) events: u64,
}

/// Reads all tracks at once, in bounded memory; an iterator that blocks on files.
pub(crate) struct Playlist {
    players: Vec<Player>,
    /// The next event of each track that has one.
    heads: BinaryHeap<Reverse<(Moment, usize)>>,
    in_loop: bool,
}

struct Player {
    track: Track,
    rows: Rows,
    cells: Vec<Cell>,
    lap: u64,
}

impl Playlist {
    /// Opens every track at its first event.
    ///
    /// # Errors
    /// When a file cannot be read any more.
    pub(crate) fn open(tracks: Vec<Track>, in_loop: bool) -> Result<Self, ClientError> {
        let mut playlist = Playlist { players: Vec::new(), heads: BinaryHeap::new(), in_loop };
        for (index, track) in tracks.into_iter().enumerate() {
            let rows = Rows::open(&track.path)?;
            playlist.players.push(Player { track, rows, cells: Vec::new(), lap: 0 });
            playlist.advance(index)?;
        }
        Ok(playlist)
    }

    fn advance(&mut self, index: usize) -> Result<(), ClientError> {
        if let Some(moment) = self.players[index].next(self.in_loop)? {
            self.heads.push(Reverse((moment, index)));
        }
        Ok(())
    }

    fn take(&mut self) -> Result<Option<Event>, ClientError> {
        let Some(Reverse((moment, index))) = self.heads.pop() else { return Ok(None) };
        let player = &self.players[index];
        let mut lines = Vec::with_capacity(200);
        let events = match &player.track.mapping {
            Mapping::Metrics(mapping) => mapping.write(&player.cells, moment.at, &mut lines),
            Mapping::Stream(mapping) => mapping.write(&player.cells, moment.at, &mut lines),
        };
        self.advance(index)?;
        Ok(Some(Event { moment, lines, events }))
    }
}

impl Iterator for Playlist {
    type Item = Result<Event, ClientError>;

    fn next(&mut self) -> Option<Self::Item> {
        self.take().transpose()
    }
}

impl Player {
    /// Reads the next row that is to be sent into `cells`.
    fn next(&mut self, in_loop: bool) -> Result<Option<Moment>, ClientError> {
        let mut rows_of_lap = 0_u64;
        loop {
            if !self.rows.next(&mut self.cells)? {
                if !in_loop || (rows_of_lap == 0 && self.rows.line() <= 1) {
                    return Ok(None); // the end, or a file that lost its rows since it was scanned
                }
                self.rows = Rows::open(&self.track.path)?;
                self.lap += 1;
                rows_of_lap = 0;
                continue;
            }
            rows_of_lap += 1;
            let time = self.cells.get(self.track.time).and_then(time_of);
            let time = time.ok_or_else(|| self.rows.wrong("there is no time any more".into()))?;
            let moment = self.track.timeline.moment(time, self.lap);
            if self.track.after.is_none_or(|after| moment.at > after) {
                return Ok(Some(moment));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::metrics::MetricsRule;
    use super::super::scan::scan;
    use super::super::timeline::{Share, Span, Speed};
    use super::*;

    const NOW: EventTime = EventTime(1_800_000_000_000_000);

    /// The names and the times after `NOW`, in seconds, of the first events of `a` (at 0, 20) and `b` (at 5, 10, 15).
    fn played(in_loop: bool, after_s: Option<i64>, take: usize) -> Vec<(String, i64)> {
        let folder = tempfile::tempdir().unwrap();
        let mut tracks = Vec::new();
        for (name, times) in [("a", vec![0, 20]), ("b", vec![5, 10, 15])] {
            let path = folder.path().join(format!("{name}.csv"));
            let lines: String = times.iter().map(|time| format!("{},1\n", 1_700_000_000 + time)).collect();
            std::fs::write(&path, format!("ts,value\n{lines}")).unwrap();
            let scan = scan(&path, None).unwrap();
            let span =
                Span { first: EventTime(1_700_000_000_000_000), last: EventTime(1_700_000_020_000_000), events: 5 };
            tracks.push(Track {
                mapping: Mapping::Metrics(MetricsMapping::new(&path, &scan, &MetricsRule::default()).unwrap()),
                timeline: Timeline::new(span, Speed::Times(1.0), true, Share(0.0), NOW),
                time: scan.time,
                after: after_s.map(|after| EventTime(NOW.0 + after * 1_000_000)),
                path,
            });
        }
        let playlist = Playlist::open(tracks, in_loop).unwrap();
        let name = |event: &Event| {
            let line: serde_json::Value = serde_json::from_slice(&event.lines).unwrap();
            line["name"].as_str().unwrap().to_owned()
        };
        let event =
            |event: Result<Event, ClientError>| event.map(|e| (name(&e), (e.moment.at.0 - NOW.0) / 1_000_000)).unwrap();
        playlist.take(take).map(event).collect()
    }

    fn expected(events: &[(&str, i64)]) -> Vec<(String, i64)> {
        events.iter().map(|(name, at)| ((*name).to_owned(), *at)).collect()
    }

    #[test]
    fn files_are_merged_by_time() {
        assert_eq!(played(false, None, 99), expected(&[("a", 0), ("b", 5), ("b", 10), ("b", 15), ("a", 20)]));
    }

    #[test]
    fn a_loop_goes_on_one_step_after_the_end() {
        let all = played(true, None, 8);
        assert_eq!(all[5..], expected(&[("a", 25), ("b", 30), ("b", 35)]));
    }

    #[test]
    fn what_the_server_has_is_left_out() {
        assert_eq!(played(false, Some(10), 99), expected(&[("b", 15), ("a", 20)]));
        assert_eq!(played(true, Some(20), 2), expected(&[("a", 25), ("b", 30)]));
    }
}
