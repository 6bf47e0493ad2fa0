//! The frame of a body: its text, and the events in it one after another.
//!
//! An event is read in two steps. [`ReadEvent::scan`] takes its members from the text; only when everything up to its
//! end is JSON does [`ReadEvent::commit`] judge them and append a row. So an event that is not accepted leaves nothing.

use std::ops::Range;

use memchr::memchr;
use streamgauge_schemas::Reject;

use super::describe::{clip, describe};
use super::json::{Scanner, Syntax, Value};
use super::{DecodeError, DecodeLimits, Format};

/// Offsets in a column of text are 32 bits, and no column is longer than the body it came from.
const BODY_BYTES_MAX: usize = i32::MAX as usize;

/// Reads events of one stream.
pub(super) trait ReadEvent<'a> {
    /// Takes an event's members from the text and forgets those of the event before.
    fn scan(&mut self, scanner: &mut Scanner<'a>) -> Result<(), Syntax>;

    /// Judges the scanned event and appends it, or gives the reason why it is not accepted.
    fn commit(&mut self) -> Result<(), String>;
}

/// Counts events and keeps the rejects.
#[derive(Debug)]
pub(super) struct Tally {
    pub(super) rejected: Vec<Reject>,
    /// Where in the body the text of each reject stands.
    pub(super) places: Vec<Range<usize>>,
    pub(super) total: u64,
    events_max: usize,
    rejects_max: usize,
    /// Bytes of reasons that may still be kept whole: an event of a few bytes may have a reason of many.
    reason_bytes_left: usize,
}

impl Tally {
    pub(super) fn new(limits: &DecodeLimits) -> Self {
        let DecodeLimits { events_max, rejects_max, reason_bytes_max: reason_bytes_left, .. } = *limits;
        Tally { rejected: Vec::new(), places: Vec::new(), total: 0, events_max, rejects_max, reason_bytes_left }
    }

    /// Counts the event that begins here and gives its index.
    fn begin(&mut self) -> Result<u64, DecodeError> {
        if self.total >= self.events_max as u64 {
            return Err(DecodeError::TooManyEvents { max: self.events_max });
        }
        if self.rejected.len() > self.rejects_max {
            let Reject { index, reason } = self.rejected.swap_remove(0);
            return Err(DecodeError::TooManyRejects { max: self.rejects_max, index, reason });
        }
        self.total += 1;
        Ok(self.total - 1)
    }

    fn settle(&mut self, index: u64, place: Range<usize>, outcome: Result<(), String>) {
        if let Err(mut reason) = outcome {
            match self.reason_bytes_left.checked_sub(reason.len()) {
                Some(left) => self.reason_bytes_left = left,
                None => reason = clip(&reason),
            }
            reason.shrink_to_fit();
            self.rejected.push(Reject { index, reason });
            self.places.push(place);
        }
    }
}

/// The text of a body, and the byte where it begins behind a byte order mark.
#[derive(Clone, Copy, Debug)]
pub(super) struct Body<'a> {
    text: &'a str,
    start: usize,
}

impl<'a> Body<'a> {
    /// Checks that the bytes are UTF-8 and not blank.
    pub(super) fn new(bytes: &'a [u8]) -> Result<Self, DecodeError> {
        if bytes.len() > BODY_BYTES_MAX {
            return Err(DecodeError::TooLarge { max: BODY_BYTES_MAX });
        }
        let text = std::str::from_utf8(bytes).map_err(|e| DecodeError::NotUtf8 { offset: e.valid_up_to() })?;
        let body = Body { text, start: if text.starts_with('\u{feff}') { '\u{feff}'.len_utf8() } else { 0 } };
        match body.scanner().peek() {
            Some(_) => Ok(body),
            None => Err(DecodeError::Empty),
        }
    }

    /// Steps through the body from its start.
    pub(super) fn scanner(&self) -> Scanner<'a> {
        Scanner::new(self.text, self.start)
    }

    /// Places a fault in the body as a whole.
    pub(super) fn not_json(&self, syntax: Syntax) -> DecodeError {
        let before = &self.text[self.start..syntax.offset];
        let line_start = before.rfind('\n').map_or(0, |at| at + 1);
        DecodeError::NotJson {
            offset: syntax.offset,
            line: 1 + before.bytes().filter(|byte| *byte == b'\n').count(),
            column: 1 + before[line_start..].chars().count(),
            reason: syntax.reason(self.text, "the end of the body"),
        }
    }

    /// Reads all events, framed as `format` says.
    pub(super) fn read(
        &self,
        format: Format,
        reader: &mut impl ReadEvent<'a>,
        tally: &mut Tally,
    ) -> Result<(), DecodeError> {
        match format {
            Format::Ndjson => self.lines(reader, tally),
            Format::JsonArray => self.document(reader, tally),
            Format::Detect if self.is_document() => self.document(reader, tally),
            Format::Detect => self.lines(reader, tally),
        }
    }

    /// Whether the body is an array, or one object that is written over several lines.
    fn is_document(&self) -> bool {
        let mut scanner = self.scanner();
        match scanner.peek() {
            Some(b'[') => return true,
            Some(b'{') => {}
            _ => return false,
        }
        let start = scanner.at();
        let end = memchr(b'\n', &self.text.as_bytes()[start..]).map_or(self.text.len(), |at| start + at);
        let first_line = Scanner::new(&self.text[..end], start).value();
        first_line.is_err_and(|fault| fault.offset >= end) && scanner.value().is_ok() && scanner.end("the end").is_ok()
    }

    fn lines(&self, reader: &mut impl ReadEvent<'a>, tally: &mut Tally) -> Result<(), DecodeError> {
        let bytes = self.text.as_bytes();
        let mut start = self.start;
        while start < bytes.len() {
            let end = memchr(b'\n', &bytes[start..]).map_or(bytes.len(), |at| start + at);
            let line = &self.text[..end];
            let mut scanner = Scanner::new(line, start);
            if scanner.peek().is_some() {
                let index = tally.begin()?;
                let scanned =
                    reader.scan(&mut scanner).and_then(|()| scanner.end("the end of the line after the event"));
                let outcome = match scanned {
                    Ok(()) => reader.commit(),
                    Err(syntax) => Err(not_json_line(line, start, syntax)),
                };
                let place = start..start + self.text[start..end].trim_end().len();
                tally.settle(index, place, outcome);
            }
            start = end + 1;
        }
        Ok(())
    }

    fn document(&self, reader: &mut impl ReadEvent<'a>, tally: &mut Tally) -> Result<(), DecodeError> {
        let mut scanner = self.scanner();
        match scanner.peek() {
            Some(b'[') => self.array(&mut scanner, reader, tally)?,
            Some(b'{') => {
                let index = tally.begin()?;
                let start = scanner.at();
                reader.scan(&mut scanner).map_err(|syntax| self.not_json(syntax))?;
                let place = start..scanner.at();
                scanner.end("the end of the body after one event").map_err(|syntax| self.not_json(syntax))?;
                tally.settle(index, place, reader.commit());
            }
            _ => {
                let found = self.scalar(scanner)?;
                return Err(DecodeError::WrongShape {
                    place: "the body".to_owned(),
                    wanted: "an array of objects, or an object",
                    found,
                });
            }
        }
        scanner.end("the end of the body").map_err(|syntax| self.not_json(syntax))
    }

    /// Describes a body that is a single value; one that is not even that is not JSON.
    pub(super) fn scalar(&self, mut scanner: Scanner<'a>) -> Result<String, DecodeError> {
        let value = scanner.value().map_err(|syntax| self.not_json(syntax))?;
        scanner.end("the end of the body").map_err(|syntax| self.not_json(syntax))?;
        Ok(describe(value))
    }

    /// Reads the events of the array that the scanner stands before.
    pub(super) fn array(
        &self,
        scanner: &mut Scanner<'a>,
        reader: &mut impl ReadEvent<'a>,
        tally: &mut Tally,
    ) -> Result<(), DecodeError> {
        let not_json = |syntax| self.not_json(syntax);
        scanner.open_array().map_err(not_json)?;
        let mut first = true;
        while scanner.next_element(first).map_err(not_json)? {
            first = false;
            let index = tally.begin()?;
            scanner.peek(); // to where the event begins
            let start = scanner.at();
            reader.scan(scanner).map_err(not_json)?;
            tally.settle(index, start..scanner.at(), reader.commit());
        }
        Ok(())
    }
}

#[cold]
fn not_json_line(line: &str, start: usize, syntax: Syntax) -> String {
    let column = 1 + line[start..syntax.offset].chars().count();
    format!("not JSON at column {column}: {}", syntax.reason(line, "the end of the line"))
}

/// Takes a value that is not an object where an event was expected, for the reason of its reject.
#[cold]
pub(super) fn not_an_object(value: Value<'_>) -> String {
    format!("expected an object, found {}", describe(value))
}
