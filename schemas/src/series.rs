//! A series: a metric's name with its dimensions.
//!
//! The identity of a series is a 128-bit hash of its canonical bytes, so every worker, every restart and
//! ClickHouse agree on it without a shared dictionary.

use std::fmt;

use xxhash_rust::xxh3::xxh3_128;

/// The stable identity of a series: XXH3-128 over its canonical bytes, split into two halves.
///
/// Two halves rather than a `u128` keep the alignment, and with it a group's key, at 8 bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct SeriesId {
    /// The upper 64 bits.
    pub high: u64,
    /// The lower 64 bits.
    pub low: u64,
}

impl SeriesId {
    /// Splits a 128-bit hash.
    #[must_use]
    pub fn from_u128(hash: u128) -> Self {
        SeriesId { high: (hash >> 64) as u64, low: hash as u64 }
    }

    /// The hash as one number, as ClickHouse stores it (`UInt128`).
    #[must_use]
    pub fn as_u128(self) -> u128 {
        (u128::from(self.high) << 64) | u128::from(self.low)
    }

    /// The worker that owns this series among `workers`.
    #[must_use]
    pub fn owner(self, workers: usize) -> usize {
        (self.low % workers.max(1) as u64) as usize
    }
}

impl fmt::Display for SeriesId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}{:016x}", self.high, self.low)
    }
}

/// A metric's name with its dimensions, sorted by dimension name, each name once.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Series {
    name: String,
    dimensions: Vec<(String, String)>,
}

impl Series {
    /// Makes a series; dimensions are sorted, and of a repeated dimension the last value wins.
    ///
    /// ```
    /// use streamgauge_schemas::Series;
    /// let a = Series::new("cpu", [("host", "a"), ("zone", "1")]);
    /// let b = Series::new("cpu", [("zone", "1"), ("host", "x"), ("host", "a")]);
    /// assert_eq!(a.id(), b.id());
    /// ```
    pub fn new<K: Into<String>, V: Into<String>>(
        name: impl Into<String>,
        dimensions: impl IntoIterator<Item = (K, V)>,
    ) -> Self {
        let mut sorted: Vec<(String, String)> = dimensions.into_iter().map(|(k, v)| (k.into(), v.into())).collect();
        sorted.sort_by(|a, b| a.0.cmp(&b.0)); // stable: equal names stay in order of arrival
        let mut unique: Vec<(String, String)> = Vec::with_capacity(sorted.len());
        for pair in sorted {
            match unique.last_mut() {
                Some(last) if last.0 == pair.0 => *last = pair,
                _ => unique.push(pair),
            }
        }
        Series { name: name.into(), dimensions: unique }
    }

    /// The metric's name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The dimensions, sorted by name.
    #[must_use]
    pub fn dimensions(&self) -> &[(String, String)] {
        &self.dimensions
    }

    /// The value of a dimension.
    #[must_use]
    pub fn dimension(&self, name: &str) -> Option<&str> {
        let at = self.dimensions.binary_search_by(|(k, _)| k.as_str().cmp(name)).ok()?;
        Some(&self.dimensions[at].1)
    }

    /// The stable identity: XXH3-128 of the canonical bytes.
    ///
    /// Canonical bytes are the name, then each dimension's name and value in order, each text preceded by
    /// its length as a little-endian `u32`; lengths first make the encoding free of ambiguity.
    #[must_use]
    pub fn id(&self) -> SeriesId {
        let mut bytes = Vec::with_capacity(64);
        let mut put = |text: &str| {
            bytes.extend_from_slice(&(text.len() as u32).to_le_bytes());
            bytes.extend_from_slice(text.as_bytes());
        };
        put(&self.name);
        for (key, value) in &self.dimensions {
            put(key);
            put(value);
        }
        SeriesId::from_u128(xxh3_128(&bytes))
    }
}
