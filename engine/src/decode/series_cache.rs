//! The series of a request: each distinct text is parsed once, each distinct series is held once.
//!
//! ```text
//!  (name, dimensions, source) as they stand in the body ──▶ index into `series`      one look-up per event
//!                     │ not met before
//!                     ▼
//!            parse, sort, hash ──▶ (series id, source) ──▶ index into `series`       once per distinct text
//! ```
//!
//! # Invariants
//! 1. Two entries of `series` differ in series or source, however differently they were written.
//! 2. An event that is not accepted adds no entry.
//! 3. There are at most as many entries, of either kind, as accepted events; so the size of the body bounds them.

use std::collections::HashMap;
use std::hash::{BuildHasher, Hasher};
use std::sync::Arc;

use foldhash::fast::RandomState;
use hashbrown::HashTable;
use streamgauge_schemas::event::BatchSeries;
use streamgauge_schemas::{Series, SeriesId};

use super::DecodeLimits;
use super::describe::{clip, describe};
use super::json::{Scanner, Text, Value};

/// What tells the series of an event apart, as it stands in the body.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct SeriesText<'a> {
    /// The name.
    pub(super) name: Text<'a>,
    /// The object `dimensions`; empty when there is none.
    pub(super) dimensions: &'a str,
    /// The source; empty when there is none.
    pub(super) source: Text<'a>,
}

impl SeriesText<'_> {
    /// Whether both are written the same.
    ///
    /// Empty texts are not handed to `memcmp`: they may lie at an address that is not mapped, where the masked load of
    /// glibc, though it compares nothing, was seen to cost 80 ns, half of an event.
    #[inline]
    fn is(&self, other: &Self) -> bool {
        fn same(a: &str, b: &str) -> bool {
            a.len() == b.len() && (a.is_empty() || a == b)
        }
        same(self.dimensions, other.dimensions)
            && same(self.name.raw, other.name.raw)
            && same(self.source.raw, other.source.raw)
    }
}

/// The series met so far.
#[derive(Debug, Default)]
pub(super) struct SeriesCache<'a> {
    /// The distinct (series, source) pairs, in order of appearance.
    pub(super) series: Vec<BatchSeries>,
    hasher: RandomState,
    by_text: HashTable<(SeriesText<'a>, u32)>,
    by_identity: HashMap<(SeriesId, Arc<str>), u32, RandomState>,
}

impl<'a> SeriesCache<'a> {
    /// The index of an event's series, which is added if it is new.
    ///
    /// # Errors
    /// The reason why name, dimensions or source are not accepted.
    #[inline]
    pub(super) fn index(&mut self, text: SeriesText<'a>, limits: &DecodeLimits) -> Result<u32, String> {
        let hash = hash(&self.hasher, &text);
        if let Some((_, index)) = self.by_text.find(hash, |(known, _)| known.is(&text)) {
            return Ok(*index);
        }
        let index = self.intern(text, limits)?;
        let hasher = &self.hasher;
        self.by_text.insert_unique(hash, (text, index), |(known, _)| self::hash(hasher, known));
        Ok(index)
    }

    fn intern(&mut self, text: SeriesText<'a>, limits: &DecodeLimits) -> Result<u32, String> {
        let name = text.name.bounded(limits.text_bytes_max).map_err(|fault| format!("name: {fault}"))?;
        if name.is_empty() {
            return Err("name: expected text that is not empty".to_owned());
        }
        let source: Arc<str> =
            text.source.bounded(limits.text_bytes_max).map_err(|fault| format!("source: {fault}"))?.into();
        let dimensions =
            if text.dimensions.is_empty() { Vec::new() } else { parse_dimensions(text.dimensions, limits)? };
        let series = Series::new(name, dimensions);
        let id = series.id();
        let next = self.series.len() as u32;
        let index = *self.by_identity.entry((id, source.clone())).or_insert(next);
        if index == next {
            self.series.push(BatchSeries { id, series: Arc::new(series), source });
        }
        Ok(index)
    }
}

#[inline]
fn hash(hasher: &RandomState, text: &SeriesText<'_>) -> u64 {
    let mut state = hasher.build_hasher();
    state.write(text.name.raw.as_bytes());
    state.write(text.dimensions.as_bytes());
    state.write(text.source.raw.as_bytes());
    state.finish()
}

/// Reads the members of an object that was scanned before. Of a repeated key the last wins, also when it is null.
fn parse_dimensions(object: &str, limits: &DecodeLimits) -> Result<Vec<(String, String)>, String> {
    const SCANNED: &str = "the object was scanned before";
    let mut scanner = Scanner::new(object, 0);
    let mut dimensions: Vec<(String, Option<String>)> = Vec::new();
    let mut nulls = false;
    scanner.open_object().expect(SCANNED);
    while let Some(key) = scanner.next_key(dimensions.is_empty()).expect(SCANNED) {
        let value = scanner.value().expect(SCANNED);
        if dimensions.len() == limits.dimensions_max {
            return Err(format!(
                "dimensions: there are more than {}, the most that is accepted",
                limits.dimensions_max
            ));
        }
        let key_text = key.bounded(limits.text_bytes_max).map_err(|fault| format!("dimensions: {fault}"))?;
        let wrong = |fault: String| format!("dimensions.{}: {fault}", clip(key.raw));
        let text = match value {
            Value::Null => None,
            Value::Bool(value) => Some(value.to_string()),
            Value::Number(number) if number.len() <= limits.text_bytes_max => Some(number.to_owned()),
            Value::Number(_) => {
                return Err(wrong(format!("the number has more than {} characters", limits.text_bytes_max)));
            }
            Value::Text(text) => Some(text.bounded(limits.text_bytes_max).map_err(wrong)?.into_owned()),
            Value::Object(_) | Value::Array(_) => {
                return Err(wrong(format!("expected text, a number or a boolean, found {}", describe(value))));
            }
        };
        nulls |= text.is_none();
        dimensions.push((key_text.into_owned(), text));
    }
    if nulls {
        dimensions.reverse();
        dimensions.sort_by(|a, b| a.0.cmp(&b.0)); // stable: the last of a repeated key comes first
        dimensions.dedup_by(|later, kept| later.0 == kept.0);
    }
    Ok(dimensions.into_iter().filter_map(|(key, value)| Some((key, value?))).collect())
}
