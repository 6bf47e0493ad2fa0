//! The error of distinct counts: none up to the bound, then measured over many runs.

use xxhash_rust::xxh3::xxh3_64;

use crate::sketch::Distinct;
use crate::sketch::distinct::EXACT_MAX;

/// Hashes of texts, as the caller makes them: each run has texts of its own.
fn hashes(run: u64, count: u64) -> impl Iterator<Item = u64> {
    (0..count).map(move |at| xxh3_64(format!("user-{run}-{at}").as_bytes()))
}

fn sketch(hashes: impl Iterator<Item = u64>) -> Distinct {
    let mut sketch = Distinct::default();
    hashes.for_each(|hash| sketch.add_hash(hash));
    sketch
}

#[test]
fn it_is_exact_up_to_the_bound() {
    let bound = EXACT_MAX as u64;
    for count in [0, 1, 3, 4, 1_000, bound - 1, bound] {
        let sketch = sketch(hashes(0, count).chain(hashes(0, count)));
        assert_eq!((sketch.estimate(), sketch.is_exact()), (count, true));
    }
    let beyond = sketch(hashes(0, bound + 1));
    assert!(!beyond.is_exact() && beyond.estimate() > bound);
}

/// The root mean square of the relative error over runs is an estimate of the standard error; over 100 runs it is itself
/// uncertain by 7 %, so that 0.81 % shows as more than 1 % only if something is wrong.
#[test]
fn the_standard_error_is_under_one_percent() {
    for (count, runs) in [(2_000, 400), (10_000, 200), (100_000, 100), (1_000_000, 40)] {
        let errors = (0..runs).map(|run| sketch(hashes(run, count)).estimate() as f64 / count as f64 - 1.0);
        let (mut squares, mut sum, mut worst) = (0.0, 0.0, 0.0f64);
        for error in errors {
            squares += error * error;
            sum += error;
            worst = worst.max(error.abs());
        }
        let (standard, bias) = ((squares / runs as f64).sqrt(), sum / runs as f64);
        println!("{count}: {:.3} % standard, {:.3} % bias, {:.3} % worst", 1e2 * standard, 1e2 * bias, 1e2 * worst);
        assert!(standard <= 0.01, "{count}: {standard}");
        assert!(standard > 0.0001, "{count}: {standard} is too good to be measured");
        assert!(worst <= 0.04, "{count}: {worst}");
    }
}

#[test]
fn memory_is_bounded() {
    let large = sketch(hashes(0, 200_000));
    assert_eq!(large.heap_bytes(), 16_384);
    assert!(sketch(hashes(0, EXACT_MAX as u64)).heap_bytes() <= 16_384);
    assert_eq!(sketch(hashes(0, 3)).heap_bytes(), 0);
    let mut bytes = Vec::new();
    large.encode(&mut bytes);
    assert_eq!(bytes.len(), 12_289);
}
