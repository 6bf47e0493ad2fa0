//! Records after an epoch, read from segment files in order.
//!
//! A reader sees the log as it was when the reader was made: it knows each segment's length from then, and never
//! looks beyond. Besides the CRCs it checks that no segment is missing: each names the last epoch before it.

use std::fs::File;
use std::io::{BufReader, Read};

use streamgauge_schemas::Epoch;

use super::frame::{Fault, GROUP_HEADER_BYTES, GroupHeader, RecordPlace, SEGMENT_HEADER_BYTES};
use super::segment::Segment;
use super::{LogError, Record};

const BUFFER_BYTES: usize = 256 << 10;

/// An iterator over records; the first error is its last item. Holds one group in memory.
pub struct LogReader {
    segments: std::vec::IntoIter<Segment>,
    after: Epoch,
    /// The last epoch seen, skipped ones too; `None` before the first segment.
    last: Option<Epoch>,
    open: Option<OpenSegment>,
    body: Vec<u8>,
    epoch: Epoch,
    records: std::vec::IntoIter<RecordPlace>,
}

struct OpenSegment {
    segment: Segment,
    /// The segment's last group, as the next segment's header has it.
    end: Option<Epoch>,
    file: BufReader<File>,
    at: u64,
}

impl LogReader {
    /// Reads `segments`, the first of which may hold epochs at or before `after`.
    pub(super) fn new(segments: Vec<Segment>, after: Epoch) -> Self {
        LogReader {
            segments: segments.into_iter(),
            after,
            last: None,
            open: None,
            body: Vec::new(),
            epoch: Epoch::ZERO,
            records: Vec::new().into_iter(),
        }
    }

    /// Moves to the next group after `after`; answers whether there is one.
    fn next_group(&mut self) -> Result<bool, LogError> {
        loop {
            let Some(open) = &mut self.open else {
                let Some(segment) = self.segments.next() else { return Ok(false) };
                let last = *self.last.get_or_insert(segment.header.previous);
                let end = self.segments.as_slice().first().map(|next| next.header.previous);
                self.open = Some(OpenSegment::new(segment, last, end)?);
                continue;
            };
            let last = self.last.unwrap_or(open.segment.header.previous);
            // What follows the group that the next segment names was never acknowledged.
            if open.at == open.segment.len || open.end.is_some_and(|end| last >= end) {
                self.open = None;
                continue;
            }
            let header = open.group_header()?;
            if header.epoch <= last || header.epoch < open.segment.header.first {
                return Err(open.corrupt(0, format!("epoch {} does not follow the one before it", header.epoch)));
            }
            self.last = Some(header.epoch);
            if header.epoch <= self.after {
                open.skip(&header)?;
                continue;
            }
            self.records = open.records(&header, &mut self.body)?.into_iter();
            self.epoch = header.epoch;
            return Ok(true);
        }
    }

    fn next_record(&mut self) -> Result<Option<Record>, LogError> {
        loop {
            if let Some(place) = self.records.next() {
                let payload = self.body[place.payload].to_vec();
                return Ok(Some(Record { epoch: self.epoch, kind: place.kind, stream: place.stream, payload }));
            }
            if !self.next_group()? {
                return Ok(None);
            }
        }
    }
}

impl Iterator for LogReader {
    type Item = Result<Record, LogError>;

    fn next(&mut self) -> Option<Self::Item> {
        let next = self.next_record();
        if next.is_err() {
            *self = LogReader::new(Vec::new(), Epoch::MAX);
        }
        next.transpose()
    }
}

impl OpenSegment {
    fn new(segment: Segment, last: Epoch, end: Option<Epoch>) -> Result<Self, LogError> {
        let previous = segment.header.previous;
        if last != previous {
            let reason = format!("it follows epoch {previous}, but the segment before it ends with {last}");
            return Err(LogError::Corrupt { segment: segment.path, offset: 20, reason });
        }
        let opening = LogError::io("open the log segment", &segment.path);
        let mut file = BufReader::with_capacity(BUFFER_BYTES, File::open(&segment.path).map_err(opening)?);
        let at = SEGMENT_HEADER_BYTES as u64;
        file.seek_relative(at as i64).map_err(LogError::io("read the log segment", &segment.path))?;
        Ok(OpenSegment { segment, end, file, at })
    }

    fn corrupt(&self, at: usize, reason: String) -> LogError {
        LogError::Corrupt { segment: self.segment.path.clone(), offset: self.at + at as u64, reason }
    }

    fn faulty(&self, fault: Fault) -> LogError {
        self.corrupt(fault.at, fault.reason)
    }

    /// Reads the header at `at`, whose group must end within the segment.
    fn group_header(&mut self) -> Result<GroupHeader, LogError> {
        let left = self.segment.len - self.at;
        let mut bytes = [0; GROUP_HEADER_BYTES];
        if left < GROUP_HEADER_BYTES as u64 {
            return Err(self.corrupt(0, "the segment ends inside a group's header".to_owned()));
        }
        self.file.read_exact(&mut bytes).map_err(LogError::io("read the log segment", &self.segment.path))?;
        let header = GroupHeader::decode(&bytes, self.segment.header.salt).map_err(|fault| self.faulty(fault))?;
        if header.group_bytes() > left {
            return Err(self.corrupt(0, "the segment ends inside a group".to_owned()));
        }
        Ok(header)
    }

    fn skip(&mut self, header: &GroupHeader) -> Result<(), LogError> {
        let skipping = LogError::io("read the log segment", &self.segment.path);
        self.file.seek_relative(i64::from(header.body_bytes)).map_err(skipping)?;
        self.at += header.group_bytes();
        Ok(())
    }

    fn records(&mut self, header: &GroupHeader, body: &mut Vec<u8>) -> Result<Vec<RecordPlace>, LogError> {
        body.resize(header.body_bytes as usize, 0);
        self.file.read_exact(body).map_err(LogError::io("read the log segment", &self.segment.path))?;
        let places = header.records(body).map_err(|fault| self.faulty(fault))?;
        self.at += header.group_bytes();
        Ok(places)
    }
}
