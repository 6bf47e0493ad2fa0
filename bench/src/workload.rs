//! The workload: NDJSON events of `metrics`, the same bytes for the same settings.
//!
//! Events come in the order of a clock that runs evenly through the event time; each then lies up to `disorder` in the
//! past of that clock. Series take turns at random. Everything is made before a measurement begins.

use std::sync::Arc;

use anyhow::{Result, ensure};
use bytes::Bytes;
use clap::Args;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use serde::Serialize;
use streamgauge_engine::decode::{DecodeLimits, Format, decode_metrics};
use streamgauge_schemas::time::{from_rfc3339, to_rfc3339, wall_clock};
use streamgauge_schemas::{Duration, EventBatch, EventTime, MetricsBatch};

/// Series that share a metric, told apart by `host`.
const HOSTS: usize = 10;

/// The settings of a workload.
#[derive(Args, Clone, Debug, Serialize)]
pub(crate) struct Shape {
    /// Events in all
    #[arg(long, value_name = "N", default_value_t = 1_000_000)]
    pub(crate) events: usize,
    /// Distinct series: ten hosts a metric
    #[arg(long, value_name = "N", default_value_t = 100)]
    pub(crate) series: usize,
    /// The event time that they cover
    #[arg(long, value_name = "SPAN", default_value = "1h")]
    pub(crate) span: Duration,
    /// How far an event may lie behind newer ones
    #[arg(long, value_name = "SPAN", default_value = "2s")]
    pub(crate) disorder: Duration,
    /// The seed of the generator
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub(crate) seed: u64,
}

impl Body {
    /// Decodes it as the program would.
    ///
    /// # Errors
    /// When an event of it is rejected.
    pub(crate) fn decode(&self) -> Result<Arc<MetricsBatch>> {
        let decoded = decode_metrics(&self.bytes, Format::Ndjson, &DecodeLimits::at(wall_clock()))?;
        ensure!(decoded.rejected.is_empty(), "an event of the workload was rejected: {:?}", decoded.rejected[0]);
        match decoded.batch {
            Some(EventBatch::Metrics(batch)) => Ok(batch),
            other => anyhow::bail!("the workload decodes to {other:?}"),
        }
    }
}

impl Default for Shape {
    /// A million events of 100 series in an hour, up to two seconds out of order.
    fn default() -> Self {
        let (span, disorder) = (Duration::from_secs(3_600), Duration::from_secs(2));
        Shape { events: 1_000_000, series: 100, span, disorder, seed: 1 }
    }
}

/// A workload cut into bodies of requests.
pub(crate) struct Bodies {
    /// The bodies, in order.
    pub(crate) bodies: Vec<Body>,
    /// Events of all bodies.
    pub(crate) events: usize,
    /// Bytes of all bodies.
    pub(crate) bytes: usize,
}

/// The body of one request.
#[derive(Clone)]
pub(crate) struct Body {
    /// NDJSON.
    pub(crate) bytes: Bytes,
    /// How many events.
    pub(crate) events: usize,
}

impl Shape {
    /// The moment at which part `part` of the event time begins; parts follow each other.
    pub(crate) fn begin(&self, part: u32) -> EventTime {
        let first = from_rfc3339("2024-05-01T00:00:00Z").expect("the text is RFC 3339");
        EventTime(first.0 + i64::from(part) * self.span.as_micros())
    }

    /// Makes the events of one part, `body_events` to a body.
    pub(crate) fn bodies(&self, part: u32, body_events: usize) -> Bodies {
        let mut random = StdRng::seed_from_u64(self.seed.wrapping_add(u64::from(part)));
        let begin = self.begin(part);
        let mut made = Bodies { bodies: Vec::new(), events: self.events, bytes: 0 };
        let mut text = Vec::with_capacity(body_events * 112);
        for first in (0..self.events).step_by(body_events.max(1)) {
            let last = (first + body_events.max(1)).min(self.events);
            (first..last).for_each(|index| self.write_event(&mut text, &mut random, begin, index));
            made.bytes += text.len();
            made.bodies.push(Body { bytes: Bytes::copy_from_slice(&text), events: last - first });
            text.clear();
        }
        made
    }

    /// Writes one line, about 100 bytes long.
    fn write_event(&self, out: &mut Vec<u8>, random: &mut StdRng, begin: EventTime, index: usize) {
        let clock = self.span.as_micros() as i128 * index as i128 / self.events as i128;
        let behind = random.random_range(0..=self.disorder.as_micros());
        let time = EventTime((begin.0 + clock as i64 - behind).max(begin.0) / 1_000 * 1_000);
        let series = random.random_range(0..self.series.max(1));
        let (metric, host) = (series / HOSTS, series % HOSTS);
        let value = f64::from(random.random_range(0..100_000)) / 1_000.0;
        let line = format!(
            "{{\"timestamp\":\"{}\",\"name\":\"metric_{metric:02}\",\"value\":{value},\"dimensions\":{{\"host\":\"h{host}\"}}}}\n",
            to_rfc3339(time),
        );
        out.extend_from_slice(line.as_bytes());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shape() -> Shape {
        Shape {
            events: 10_000,
            series: 100,
            span: Duration::from_secs(3_600),
            disorder: Duration::from_secs(2),
            seed: 7,
        }
    }

    #[test]
    fn the_same_settings_make_the_same_bytes() {
        let (one, two) = (shape().bodies(0, 999), shape().bodies(0, 999));
        assert!(one.bodies.iter().zip(&two.bodies).all(|(a, b)| a.bytes == b.bytes));
        assert_eq!(one.bodies.len(), 11);
        assert_ne!(one.bodies[0].bytes, shape().bodies(1, 999).bodies[0].bytes);
    }

    #[test]
    fn every_event_is_accepted_and_in_its_hour() {
        let shape = shape();
        let (mut series, mut seen) = (std::collections::HashSet::new(), 0);
        for body in shape.bodies(1, 1_000).bodies {
            let batch = body.decode().unwrap();
            assert_eq!(batch.len(), body.events);
            assert!(batch.ts.iter().all(|ts| (shape.begin(1)..shape.begin(2)).contains(ts)));
            series.extend(batch.series.iter().map(|entry| entry.id));
            seen += batch.len();
        }
        assert_eq!((seen, series.len()), (10_000, 100));
    }

    #[test]
    fn a_line_is_about_a_hundred_bytes() {
        let made = shape().bodies(0, 1_000);
        assert!((90..=110).contains(&(made.bytes / made.events)), "{}", made.bytes / made.events);
    }
}
