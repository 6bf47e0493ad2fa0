//! The registry of series: names and dimensions by identity, and what was last seen of each metric.
//!
//! Identities are content hashes, so the registry only translates; losing it would lose no data. It is filled before
//! an event is appended, so whoever reads a row finds its series here.

mod postings;

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use foldhash::fast::FixedState;
use hashbrown::HashMap;
use parking_lot::RwLock;
use postings::Postings;
use streamgauge_schemas::{EventTime, MetricsBatch, Series, SeriesId};

use crate::snapshot::KeyFilter;

/// All series that this program knows of, by identity and by name.
pub struct SeriesRegistry {
    series_max: usize,
    /// Whether history has no others.
    has_all: AtomicBool,
    inner: RwLock<Inner>,
}

#[derive(Default)]
struct Inner {
    by_id: HashMap<SeriesId, Arc<Series>, FixedState>,
    by_name: BTreeMap<Arc<str>, Metric>,
    by_dimension: Postings,
}

#[derive(Default)]
struct Metric {
    series: BTreeSet<SeriesId>,
    last: Option<(EventTime, f64)>,
}

/// What is known of a metric.
#[derive(Clone, Debug, PartialEq)]
pub struct MetricSummary {
    /// The metric's name.
    pub name: Arc<str>,
    /// How many series it has.
    pub series_count: usize,
    /// The newest event by event time: its time and value.
    pub last: Option<(EventTime, f64)>,
}

/// The registry is full: more series than `max`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TooManySeries {
    /// The configured bound.
    pub max: usize,
}

impl SeriesRegistry {
    /// Makes an empty registry that holds at most `series_max` series.
    #[must_use]
    pub fn new(series_max: usize) -> Self {
        SeriesRegistry { series_max, has_all: AtomicBool::new(false), inner: RwLock::default() }
    }

    /// Makes the series of a batch known, and its newest values.
    ///
    /// # Errors
    /// [`TooManySeries`] when the batch brings new series beyond the bound; then none of them is added.
    pub fn register(&self, batch: &MetricsBatch) -> Result<(), TooManySeries> {
        let missing = {
            let inner = self.inner.read();
            batch
                .series
                .iter()
                .filter(|s| !inner.by_id.contains_key(&s.id))
                .map(|s| s.series.clone())
                .collect::<Vec<_>>()
        };
        if !missing.is_empty() {
            let mut inner = self.inner.write();
            if inner.by_id.len() + missing.len() > self.series_max {
                return Err(TooManySeries { max: self.series_max });
            }
            missing.into_iter().for_each(|series| inner.insert(series));
        }
        Ok(())
    }

    /// Notes the newest value of each metric of an acknowledged batch.
    pub(crate) fn observe(&self, batch: &MetricsBatch) {
        let mut newest: Vec<Option<(EventTime, f64)>> = vec![None; batch.series.len()];
        for ((index, ts), value) in batch.series_index.iter().zip(&batch.ts).zip(&batch.value) {
            let slot = &mut newest[*index as usize];
            if slot.is_none_or(|(at, _)| at <= *ts) {
                *slot = Some((*ts, *value));
            }
        }
        let mut inner = self.inner.write();
        for (entry, last) in batch.series.iter().zip(newest) {
            if let (Some((at, value)), Some(metric)) = (last, inner.by_name.get_mut(entry.series.name())) {
                metric.observe(at, value);
            }
        }
    }

    /// Makes a series known, as read from history at start; the bound does not apply to what is there already.
    pub fn restore(&self, series: Arc<Series>) {
        self.inner.write().insert(series);
    }

    /// Notes the newest value of a metric, as read from history at start.
    pub fn restore_last(&self, name: &str, at: EventTime, value: f64) {
        if let Some(metric) = self.inner.write().by_name.get_mut(name) {
            metric.observe(at, value);
        }
    }

    /// The series of that identity.
    #[must_use]
    pub fn get(&self, id: SeriesId) -> Option<Arc<Series>> {
        self.inner.read().by_id.get(&id).cloned()
    }

    /// The identities, in order, of the series that pass `test`: of one metric or of all, and, when `has` says so, only of those with these
    /// dimensions, which are not searched for among all.
    pub(crate) fn select(
        &self,
        name: Option<&str>,
        has: &[(String, String)],
        test: impl Fn(&Series) -> bool,
    ) -> Vec<SeriesId> {
        self.select_some(name, has, test, usize::MAX)
    }

    /// As [`select`](Self::select), some `most` of them if there are more.
    fn select_some(
        &self,
        name: Option<&str>,
        has: &[(String, String)],
        test: impl Fn(&Series) -> bool,
        most: usize,
    ) -> Vec<SeriesId> {
        let inner = self.inner.read();
        let passes = |id: &SeriesId| {
            inner.by_id.get(id).is_some_and(|series| name.is_none_or(|name| series.name() == name) && test(series))
        };
        let of_name = name.map(|name| inner.by_name.get(name).map(|metric| &metric.series));
        let mut ids: Vec<SeriesId> = match (of_name, inner.by_dimension.candidates(has)) {
            (Some(None), _) => Vec::new(),
            (Some(Some(series)), found) if found.as_ref().is_none_or(|found| found.len() >= series.len()) => {
                return series.iter().filter(|id| passes(id)).take(most).copied().collect();
            }
            (_, Some(found)) => found.filter(passes).take(most).collect(),
            (_, None) => inner.by_id.keys().filter(|id| passes(id)).take(most).copied().collect(),
        };
        ids.sort_unstable();
        ids
    }

    /// Says that all series were restored that history has.
    pub(crate) fn restored_all(&self) {
        self.has_all.store(true, Ordering::Relaxed);
    }

    /// The identities, in order, of all series in memory and history that pass a filter, if it says of some dimensions what they are and
    /// no more than `most` series pass; `None` otherwise, and while history may have series that are not known.
    #[must_use]
    pub fn named(&self, filter: &KeyFilter, most: usize) -> Option<Vec<SeriesId>> {
        let (name, test) = match filter {
            KeyFilter::NameAnd(name, test) => (Some(name.as_str()), test),
            KeyFilter::Predicate(test) => (None, test),
            KeyFilter::All | KeyFilter::Name(_) | KeyFilter::Only(_) => return None,
        };
        if test.has.is_empty() || !self.has_all.load(Ordering::Relaxed) {
            return None;
        }
        let found = self.select_some(name, &test.has, |series| (test.passes)(series), most.saturating_add(1));
        Some(found).filter(|found| found.len() <= most)
    }

    /// Metrics whose name begins with `prefix`, by name, at most `limit`.
    #[must_use]
    pub fn metrics(&self, prefix: &str, limit: usize) -> Vec<MetricSummary> {
        let inner = self.inner.read();
        let from = inner
            .by_name
            .range::<str, _>((Bound::Included(prefix), Bound::Unbounded))
            .take_while(|(name, _)| name.starts_with(prefix));
        from.take(limit)
            .map(|(name, metric)| MetricSummary {
                name: name.clone(),
                series_count: metric.series.len(),
                last: metric.last,
            })
            .collect()
    }

    /// The dimensions of a metric with their values, each at most `limit`; `None` of an unknown metric.
    #[must_use]
    pub fn dimensions(&self, name: &str, limit: usize) -> Option<BTreeMap<String, BTreeSet<String>>> {
        let inner = self.inner.read();
        let metric = inner.by_name.get(name)?;
        let mut dimensions: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
        for series in metric.series.iter().filter_map(|id| inner.by_id.get(id)) {
            for (key, value) in series.dimensions() {
                let values = dimensions.entry(key.clone()).or_default();
                if values.len() < limit {
                    values.insert(value.clone());
                }
            }
        }
        Some(dimensions)
    }

    /// How many series are known.
    #[must_use]
    pub fn len(&self) -> usize {
        self.inner.read().by_id.len()
    }

    /// Whether none is known.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl Inner {
    fn insert(&mut self, series: Arc<Series>) {
        let id = series.id();
        let metric = match self.by_name.get_mut(series.name()) {
            Some(metric) => metric,
            None => self.by_name.entry(series.name().into()).or_default(),
        };
        if metric.series.insert(id) {
            self.by_dimension.add(&series);
        }
        self.by_id.entry(id).or_insert(series);
    }
}

impl Metric {
    fn observe(&mut self, at: EventTime, value: f64) {
        if self.last.is_none_or(|(newest, _)| newest <= at) {
            self.last = Some((at, value));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::snapshot::SeriesTest;

    fn with_host(host: &str) -> SeriesTest {
        let (has, host) = (vec![("host".to_owned(), host.to_owned())], host.to_owned());
        SeriesTest { has, passes: Arc::new(move |series| series.dimension("host") == Some(host.as_str())) }
    }

    #[test]
    fn series_are_named_when_all_are_known_and_they_are_few() {
        let registry = SeriesRegistry::new(10);
        let series = |name: &str, host: &str| Arc::new(Series::new(name, [("host", host)]));
        let (cpu, memory) = (series("cpu", "a"), series("memory", "a"));
        [&cpu, &memory, &series("cpu", "b")].into_iter().for_each(|series| registry.restore(series.clone()));
        let of_cpu = |host| KeyFilter::NameAnd("cpu".to_owned(), with_host(host));
        assert_eq!(registry.named(&of_cpu("a"), 10), None, "history may have others");
        registry.restored_all();
        assert_eq!(registry.named(&of_cpu("a"), 10), Some(vec![cpu.id()]));
        assert_eq!(registry.named(&of_cpu("c"), 10), Some(vec![]));
        let mut both = vec![cpu.id(), memory.id()];
        both.sort_unstable();
        assert_eq!(registry.named(&KeyFilter::Predicate(with_host("a")), 2), Some(both));
        assert_eq!(registry.named(&KeyFilter::Predicate(with_host("a")), 1), None, "too many");
        assert_eq!(registry.named(&KeyFilter::Name("cpu".to_owned()), 10), None, "it names no dimension");
    }
}
