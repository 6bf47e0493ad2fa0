//! Values that look like those of servers: a daily wave, a ripple, noise that wanders, and now and then a spike.

use std::f64::consts::TAU;
use std::fmt::Write;

use rand::Rng;
use rand::rngs::SmallRng;

const DAY_S: f64 = 86_400.0;
const RIPPLE_S: f64 = 420.0;
/// A spike begins about once in that many values.
const SPIKE_EVERY: f64 = 2_500.0;
/// What is left of a spike at the next value.
const SPIKE_DECAY: f64 = 0.8;
/// What is left of the wandering noise at the next value.
const WANDER_DECAY: f64 = 0.9;
const ZONES: [&str; 3] = ["zone-a", "zone-b", "zone-c"];

/// A kind of metric: its usual value, how far it swings, and its bounds.
struct Kind {
    name: &'static str,
    usual: f64,
    swing: f64,
    lower: f64,
    upper: f64,
}

const fn kind(name: &'static str, usual: f64, swing: f64, upper: f64) -> Kind {
    Kind { name, usual, swing, lower: 0.0, upper }
}

/// The first twenty metrics; further ones are numbered.
const KINDS: [Kind; 20] = [
    kind("cpu", 42.0, 22.0, 100.0),
    kind("memory", 61.0, 9.0, 100.0),
    kind("requests", 850.0, 480.0, f64::INFINITY),
    kind("latency_ms", 38.0, 16.0, f64::INFINITY),
    kind("errors", 2.0, 1.5, f64::INFINITY),
    kind("network_in_bytes", 2.4e6, 1.5e6, f64::INFINITY),
    kind("network_out_bytes", 5.1e6, 3.2e6, f64::INFINITY),
    kind("disk_read_bytes", 7.5e5, 4.0e5, f64::INFINITY),
    kind("disk_write_bytes", 1.2e6, 6.0e5, f64::INFINITY),
    kind("disk_used", 68.0, 2.0, 100.0),
    kind("connections", 320.0, 140.0, f64::INFINITY),
    kind("queue_depth", 24.0, 18.0, f64::INFINITY),
    kind("threads", 96.0, 22.0, f64::INFINITY),
    kind("load", 1.8, 1.1, f64::INFINITY),
    kind("cache_hit_ratio", 0.93, 0.05, 1.0),
    kind("gc_pause_ms", 6.0, 3.5, f64::INFINITY),
    kind("open_files", 1_500.0, 350.0, f64::INFINITY),
    kind("temperature", 47.0, 8.0, 110.0),
    kind("power_watts", 210.0, 65.0, f64::INFINITY),
    kind("fan_rpm", 3_100.0, 700.0, f64::INFINITY),
];

/// One simulated series.
pub(crate) struct Signal {
    /// The event's JSON up to the time: name, dimensions and source.
    opening: String,
    kind: &'static Kind,
    /// Where in the day the wave of this host is, in turns.
    phase: f64,
    /// How this host compares with the usual one.
    scale: f64,
    wander: f64,
    spike: f64,
}

impl Signal {
    /// Series `index`: the metric `index % metrics` on the host `index / metrics`.
    pub(crate) fn new(index: u32, metrics: u32, random: &mut SmallRng) -> Self {
        let (metric, host) = (index % metrics, index / metrics);
        let kind = &KINDS[metric as usize % KINDS.len()];
        let mut opening = format!("{{\"name\":\"simulated.{}", kind.name);
        if metric as usize >= KINDS.len() {
            let _ = write!(opening, "_{}", metric as usize / KINDS.len() + 1); // writing to a String cannot fail
        }
        let zone = ZONES[host as usize % ZONES.len()];
        let _ = write!(
            opening,
            "\",\"dimensions\":{{\"host\":\"host-{:02}\",\"zone\":\"{zone}\"}},\"source\":\"simulate\",\"timestamp\":",
            host + 1
        );
        let (phase, scale) = (random.random_range(0.0..0.15), random.random_range(0.8..1.2));
        Signal { opening, kind, phase, scale, wander: 0.0, spike: 0.0 }
    }

    /// The next value, for an event at `seconds` since 1970.
    pub(crate) fn value(&mut self, seconds: f64, random: &mut SmallRng) -> f64 {
        let day = (TAU * (seconds / DAY_S + self.phase)).sin();
        let ripple = (TAU * (seconds / RIPPLE_S + self.phase * 7.0)).sin();
        self.wander = self.wander * WANDER_DECAY + random.random_range(-0.06..0.06);
        self.spike *= SPIKE_DECAY;
        if random.random_bool(1.0 / SPIKE_EVERY) {
            self.spike = random.random_range(2.0..4.0);
        }
        let swing = 0.6 * day + 0.25 * ripple + self.wander + self.spike;
        (self.kind.usual * self.scale + self.kind.swing * swing).clamp(self.kind.lower, self.kind.upper)
    }

    /// Appends an event as one line of JSON.
    pub(crate) fn write(&self, time_us: i64, value: f64, out: &mut Vec<u8>) {
        use std::io::Write;
        out.extend_from_slice(self.opening.as_bytes());
        writeln!(out, "{time_us},\"value\":{value:.3}}}").expect("writing to memory cannot fail");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::SeedableRng;
    use serde_json::Value;

    #[test]
    fn series_have_distinct_names_and_dimensions() {
        let mut random = SmallRng::seed_from_u64(1);
        let openings: std::collections::HashSet<String> =
            (0..250).map(|index| Signal::new(index, 50, &mut random).opening).collect();
        assert_eq!(openings.len(), 250);
        assert!(openings.iter().any(|opening| opening.contains("\"simulated.cpu_2\"")));
    }

    #[test]
    fn an_event_is_a_line_of_json() {
        let mut random = SmallRng::seed_from_u64(1);
        let mut line = Vec::new();
        Signal::new(21, 20, &mut random).write(1_700_000_000_000_000, 1.5, &mut line);
        let event: Value = serde_json::from_slice(&line).unwrap();
        let expected = serde_json::json!({
            "name": "simulated.memory", "dimensions": {"host": "host-02", "zone": "zone-b"}, "source": "simulate",
            "timestamp": 1_700_000_000_000_000_i64, "value": 1.5,
        });
        assert_eq!(event, expected);
    }

    #[test]
    fn values_stay_in_their_bounds_and_repeat_with_their_seed() {
        let values = |seed: u64| {
            let mut random = SmallRng::seed_from_u64(seed);
            let mut cpu = Signal::new(0, 20, &mut random);
            (0..50_000).map(|n| cpu.value(1.7e9 + f64::from(n) * 0.3, &mut random)).collect::<Vec<f64>>()
        };
        let first = values(7);
        assert!(first.iter().all(|value| (0.0..=100.0).contains(value)));
        assert_eq!(first, values(7));
        assert_ne!(first, values(8));
        let spikes = first.windows(2).filter(|pair| pair[1] - pair[0] > 25.0).count();
        assert!((5..100).contains(&spikes), "{spikes} spikes");
    }
}
