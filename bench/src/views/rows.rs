//! Decoded rows for the engine: events of `metrics` at a steady pace of event time, each up to two seconds late.

use std::sync::Arc;

use hashbrown::HashMap;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use streamgauge_schemas::event::BatchSeries;
use streamgauge_schemas::time::from_rfc3339;
use streamgauge_schemas::{EventTime, MetricsBatch, Series};

/// How far an event may lie behind newer ones, in µs.
const DISORDER_US: i64 = 2_000_000;

/// Makes batches one after the other, the same for the same settings.
pub(super) struct Rows {
    series: Vec<BatchSeries>,
    /// Events in a second of event time.
    pace: f64,
    batch_events: usize,
    random: StdRng,
    next: usize,
    begin: EventTime,
}

impl Rows {
    /// Events of `series` series, which take turns at random.
    pub(super) fn new(series: usize, pace: f64, batch_events: usize) -> Self {
        let source: Arc<str> = "bench".into();
        let entry = |index: usize| {
            let series = Series::new(format!("metric_{:03}", index % 100), [("host", format!("h{}", index / 100))]);
            BatchSeries { id: series.id(), series: Arc::new(series), source: source.clone() }
        };
        Rows {
            series: (0..series.max(1)).map(entry).collect(),
            pace,
            batch_events: batch_events.max(1),
            random: StdRng::seed_from_u64(1),
            next: 0,
            begin: from_rfc3339("2024-05-01T00:00:00Z").expect("the text is RFC 3339"),
        }
    }

    /// The event time at which the next batch begins.
    pub(super) fn clock(&self) -> EventTime {
        EventTime(self.begin.0 + (self.next as f64 / self.pace * 1e6) as i64)
    }

    /// The next `events` events.
    pub(super) fn take(&mut self, events: usize) -> Vec<Arc<MetricsBatch>> {
        let batches = events.div_ceil(self.batch_events);
        (0..batches).map(|at| self.batch(self.batch_events.min(events - at * self.batch_events))).collect()
    }

    fn batch(&mut self, events: usize) -> Arc<MetricsBatch> {
        let mut batch = MetricsBatch::default();
        let mut places: HashMap<usize, u32> = HashMap::with_capacity(events);
        for _ in 0..events {
            let series = self.random.random_range(0..self.series.len());
            let place = *places.entry(series).or_insert_with(|| {
                batch.series.push(self.series[series].clone());
                batch.series.len() as u32 - 1
            });
            let late = self.random.random_range(0..=DISORDER_US);
            batch.series_index.push(place);
            batch.ts.push(EventTime((self.clock().0 - late).max(self.begin.0)));
            batch.value.push(f64::from(self.random.random_range(0..100_000)) / 1_000.0);
            self.next += 1;
        }
        Arc::new(batch)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_settings_make_the_same_rows_at_the_pace_that_was_asked_for() {
        let (mut one, mut two) = (Rows::new(50, 1_000.0, 300), Rows::new(50, 1_000.0, 300));
        let (taken, same) = (one.take(10_000), two.take(10_000));
        assert_eq!(taken.iter().map(|batch| batch.len()).collect::<Vec<_>>()[33..], [100]);
        assert!(taken.iter().zip(&same).all(|(a, b)| (&a.ts, &a.value) == (&b.ts, &b.value)));
        assert_eq!(one.clock().0 - one.begin.0, 10_000_000, "10,000 events at 1,000 a second take 10 seconds");
        let late = taken[33].ts.iter().map(|ts| one.clock().0 - ts.0).max().unwrap();
        assert!(late > DISORDER_US / 2 && late <= DISORDER_US + 100_000, "{late}");
    }
}
