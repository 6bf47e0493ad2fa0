//! Samples of a counter in the order of time, and what they say together.
//!
//! ```text
//!  in:  pushed at the back ──▶ [ front: each with the run from it on ][ back: samples, and the run of all ] ──▶ out: popped
//! ```
//!
//! A *run* is what a stretch of samples says: its ends, how much the counter rose, and how often it began again. Runs that
//! follow each other join, so a window that moves is summed without subtracting, which would not be exact.
//!
//! # Invariants
//!
//! 1. The run of a stretch says whether its samples came in order; if not, they are sorted before they are summed.
//! 2. Samples of one time are in the order of their values, so the answer does not depend on how rows came.

use std::collections::VecDeque;

/// The value of a counter at a time.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Sample {
    pub(super) time: i64,
    pub(super) value: f64,
}

impl Sample {
    fn order(&self, other: &Sample) -> std::cmp::Ordering {
        self.time.cmp(&other.time).then(self.value.total_cmp(&other.value))
    }
}

/// What samples say that follow each other.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Run {
    pub(super) first: Sample,
    pub(super) last: Sample,
    /// How much the counter rose; where it fell, it had begun again at 0.
    pub(super) increase: f64,
    pub(super) resets: i64,
    pub(super) samples: usize,
    is_ordered: bool,
}

impl Run {
    fn of(sample: Sample) -> Self {
        Run { first: sample, last: sample, increase: 0.0, resets: 0, samples: 1, is_ordered: true }
    }

    fn then(self, next: Run) -> Self {
        let is_reset = next.first.value < self.last.value;
        let step = if is_reset { next.first.value } else { next.first.value - self.last.value };
        Run {
            first: self.first,
            last: next.last,
            increase: self.increase + step + next.increase,
            resets: self.resets + i64::from(is_reset) + next.resets,
            samples: self.samples + next.samples,
            is_ordered: self.is_ordered && next.is_ordered && self.last.order(&next.first).is_le(),
        }
    }

    /// The run of samples, which are sorted if they are not.
    pub(super) fn sorted(samples: &mut [Sample]) -> Option<Run> {
        if !samples.is_sorted_by(|one, other| one.order(other).is_le()) {
            samples.sort_unstable_by(Sample::order);
        }
        samples.iter().map(|sample| Run::of(*sample)).reduce(Run::then)
    }
}

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Samples {
    /// Each with the run from it to the end of `front`.
    front: VecDeque<(Sample, Run)>,
    back: Vec<Sample>,
    back_run: Option<Run>,
}

impl Samples {
    pub(super) fn push(&mut self, sample: Sample) {
        let run = Run::of(sample);
        self.back.push(sample);
        self.back_run = Some(self.back_run.map_or(run, |before| before.then(run)));
    }

    /// Forgets the oldest.
    pub(super) fn pop(&mut self) {
        if self.front.is_empty() {
            self.back_run = None;
            while let Some(sample) = self.back.pop() {
                let run = Run::of(sample);
                let run = self.front.front().map_or(run, |(_, after)| run.then(*after));
                self.front.push_front((sample, run));
            }
        }
        self.front.pop_front();
    }

    /// What they say together; `None` of none.
    pub(super) fn run(&self) -> Option<Run> {
        let front = self.front.front().map(|(_, run)| *run);
        let all = match (front, self.back_run) {
            (Some(front), Some(back)) => Some(front.then(back)),
            (front, back) => front.or(back),
        }?;
        if all.is_ordered { Some(all) } else { Run::sorted(&mut self.all().collect::<Vec<_>>()) }
    }

    pub(super) fn all(&self) -> impl Iterator<Item = Sample> {
        self.front.iter().map(|(sample, _)| *sample).chain(self.back.iter().copied())
    }

    pub(super) fn heap_bytes(&self) -> usize {
        self.front.capacity() * size_of::<(Sample, Run)>() + self.back.capacity() * size_of::<Sample>()
    }
}

#[cfg(test)]
mod tests {
    use rand::rngs::StdRng;
    use rand::{Rng, SeedableRng};

    use super::*;

    /// The law itself: from each sample to the next.
    fn plainly(samples: &[Sample]) -> Option<(f64, i64)> {
        let mut samples = samples.to_vec();
        samples.sort_by(Sample::order);
        let steps = samples.windows(2).map(|pair| match pair[1].value < pair[0].value {
            true => (pair[1].value, 1),
            false => (pair[1].value - pair[0].value, 0),
        });
        (!samples.is_empty()).then(|| steps.fold((0.0, 0), |sum, step| (sum.0 + step.0, sum.1 + step.1)))
    }

    #[test]
    fn a_window_that_moves_says_what_its_samples_say() {
        let mut rng = StdRng::seed_from_u64(7);
        for jumble in [0, 3] {
            let (mut samples, mut plain) = (Samples::default(), VecDeque::new());
            for time in 0..4_000 {
                let time = time + rng.random_range(0..=jumble);
                let sample = Sample { time, value: f64::from(rng.random_range(0..50)) };
                samples.push(sample);
                plain.push_back(sample);
                while plain.len() > 9 || (!plain.is_empty() && rng.random_bool(0.3)) {
                    samples.pop();
                    plain.pop_front();
                }
                let said = samples.run().map(|run| (run.increase, run.resets));
                assert_eq!(said, plainly(plain.make_contiguous()), "{plain:?}");
                assert_eq!(samples.all().collect::<Vec<_>>(), plain.make_contiguous());
            }
        }
    }

    #[test]
    fn a_counter_that_begins_again() {
        let of = |values: &[f64]| {
            let sample = |(at, value): (usize, &f64)| Sample { time: at as i64, value: *value };
            let mut samples: Vec<Sample> = values.iter().enumerate().map(sample).collect();
            Run::sorted(&mut samples).map(|run| (run.increase, run.resets))
        };
        assert_eq!(of(&[10.0, 15.0, 15.0, 4.0, 6.0, 0.0, 1.0]), Some((5.0 + 4.0 + 2.0 + 1.0, 2)));
        assert_eq!(of(&[3.0]), Some((0.0, 0)));
        assert_eq!(of(&[]), None);
    }
}
