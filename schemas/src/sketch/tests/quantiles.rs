//! The error of quantiles, proven for every bin and measured over distributions.

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use crate::sketch::quantiles::{BINS_MAX, COUNT_MAX, Quantiles};

const QS: [f64; 7] = [0.0, 0.01, 0.5, 0.9, 0.99, 0.999, 1.0];
/// Half of the smallest subnormal: what the rounding of subnormal answers may add.
const SUBNORMAL_HALF: f64 = 2.5e-324;

fn sketch(values: &[f64]) -> Quantiles {
    let mut sketch = Quantiles::default();
    values.iter().for_each(|value| sketch.add(*value));
    sketch
}

/// The greatest relative error over [`QS`], after checking each.
fn check(name: &str, mut values: Vec<f64>) -> f64 {
    let sketch = sketch(&values);
    values.sort_by(f64::total_cmp);
    assert_eq!(sketch.count(), values.len() as u64, "{name}");
    let mut worst: f64 = 0.0;
    for q in QS {
        let exact = values[(q * (values.len() - 1) as f64) as usize];
        let answer = sketch.quantile(q).unwrap();
        if answer != exact {
            let error = (answer - exact).abs();
            assert!(error <= 0.01 * exact.abs() + SUBNORMAL_HALF, "{name}: q={q} is {answer:e}, exact {exact:e}");
            if exact.abs() >= f64::MIN_POSITIVE {
                worst = worst.max(error / exact.abs());
            }
        }
    }
    println!("{name}: {:.3} %, {} bytes", 100.0 * worst, sketch.heap_bytes());
    worst
}

fn normal(random: &mut StdRng) -> f64 {
    (-2.0 * (1.0 - random.random::<f64>()).ln()).sqrt() * (std::f64::consts::TAU * random.random::<f64>()).cos()
}

#[test]
fn the_error_is_under_one_percent_over_distributions() {
    let mut random = StdRng::seed_from_u64(1);
    let mut many = |name: &str, value: &dyn Fn(&mut StdRng, usize) -> f64| {
        check(name, (0..200_000).map(|at| value(&mut random, at)).collect())
    };
    let exponential = |random: &mut StdRng| -(1.0 - random.random::<f64>()).ln();
    let worst = [
        many("uniform", &|r, _| r.random::<f64>()),
        many("uniform, both signs", &|r, _| r.random_range(-100.0..100.0)),
        many("normal", &|r, _| normal(r)),
        many("normal, far from zero", &|r, _| 1e6 + normal(r)),
        many("exponential", &|r, _| exponential(r)),
        many("Pareto, shape 1", &|r, _| 1.0 / (1.0 - r.random::<f64>())),
        many("Pareto, shape 0.2", &|r, _| (1.0 - r.random::<f64>()).powi(-5)),
        many("bimodal", &|r, at| if at % 2 == 0 { 2.0 + 0.1 * normal(r) } else { 5_000.0 + 200.0 * normal(r) }),
        many("constant", &|_, _| 42.0),
        many("ascending", &|_, at| at as f64),
        many("descending", &|_, at| -(at as f64)),
        many("1e-300 and 1e300 in turns", &|_, at| if at % 2 == 0 { 1e-300 } else { 1e300 }),
        many("±1e-300 and ±1e300", &|_, at| [1e-300, -1e300, 1e300, -1e-300][at % 4]),
        many("zeros and few others", &|r, at| if at % 50 == 0 { exponential(r) } else { 0.0 }),
        many("zeros of both signs", &|_, at| if at % 2 == 0 { 0.0 } else { -0.0 }),
        many("log-normal latencies with time-outs", &|r, at| {
            if at % 97 == 0 { 30_000.0 } else { (3.0 + 0.8 * normal(r)).exp().round() }
        }),
        many("bytes of replies", &|r, at| {
            [0.0, 512.0, 1_460.0, 65_536.0][at % 4] + (8.0 * r.random::<f64>()).exp().floor()
        }),
        many("temperatures, one decimal", &|r, _| ((12.0 + 9.0 * normal(r)) * 10.0).round() / 10.0),
    ];
    assert!(worst.iter().any(|worst| *worst > 0.005), "an error so small says that nothing was measured: {worst:?}");
    check("subnormals", (0..100_000).map(|_| f64::from_bits(random.random_range(0..1u64 << 52))).collect());
    check("the smallest subnormals", (0..100_000u64).map(f64::from_bits).collect());
    check("infinities", vec![f64::INFINITY, f64::MAX, 1.0, f64::MIN, f64::NEG_INFINITY]);
}

/// Proves the bound for every positive bin: both ends of it are within 1 % of its value.
#[test]
fn every_bin_holds_values_within_one_percent_of_its_own() {
    use crate::sketch::quantiles::{key_of, value_of};
    let mut lower = f64::MIN_POSITIVE;
    let (mut bins, mut worst) = (0, 0.0f64);
    while lower < f64::INFINITY {
        let key = key_of(lower);
        let (mut inside, mut outside) = (lower.to_bits(), (lower * 1.05).to_bits()); // the next edge is between
        while outside - inside > 1 {
            let middle = inside.midpoint(outside);
            if key_of(f64::from_bits(middle)) == key { inside = middle } else { outside = middle }
        }
        let (upper, middle) = (f64::from_bits(inside), value_of(key));
        assert_eq!(key_of(middle), key);
        assert_eq!(key_of(f64::from_bits(outside)), key + 1);
        assert_eq!(key_of(-lower), -key);
        worst = worst.max(middle / lower - 1.0).max(1.0 - middle / upper);
        bins += 1;
        lower = f64::from_bits(outside);
    }
    println!("{bins} bins, {:.4} %", 100.0 * worst);
    assert_eq!(bins, 2_046 * 35);
    assert!(worst < 0.0099996, "{worst}");
}

#[test]
fn keys_are_in_the_order_of_values() {
    use crate::sketch::quantiles::key_of;
    let mut random = StdRng::seed_from_u64(2);
    let mut values: Vec<f64> = (0..200_000).map(|_| f64::from_bits(random.random())).filter(|v| !v.is_nan()).collect();
    values.extend([f64::INFINITY, f64::NEG_INFINITY, 0.0, -0.0, f64::MAX, f64::MIN, 5e-324, -5e-324]);
    values.sort_by(f64::total_cmp);
    assert!(values.is_sorted_by_key(|value| key_of(*value)));
    assert!(key_of(f64::INFINITY) > key_of(f64::MAX) && key_of(5e-324) > 0 && key_of(-0.0) == 0);
}

#[test]
fn nothing_and_what_has_no_order() {
    let mut sketch = Quantiles::default();
    assert_eq!((sketch.quantile(0.5), sketch.count(), sketch.heap_bytes()), (None, 0, 0));
    sketch.add(f64::NAN);
    assert_eq!(sketch, Quantiles::default());
    sketch.add(7.0);
    assert!([-0.1, 1.1, f64::NAN].iter().all(|q| sketch.quantile(*q).is_none()));
}

#[test]
fn beyond_the_bound_the_lowest_bins_collapse_and_the_others_stay() {
    // 1.02 to the power of 6,000 is 10^51: 6,000 bins, about.
    let values: Vec<f64> = (0..6_000).map(|at| 1e-20 * 1.02f64.powi(at)).collect();
    let ascending = sketch(&values);
    let descending = sketch(&values.iter().rev().copied().collect::<Vec<f64>>());
    assert_eq!(ascending, descending);
    assert_eq!(ascending.count(), 6_000);
    assert!(ascending.heap_bytes() <= 4 * BINS_MAX * 8, "{}", ascending.heap_bytes());
    for (at, exact) in values.iter().enumerate().skip(6_000 - BINS_MAX + 10) {
        let answer = ascending.quantile(((at as f64 + 0.5) / 5_999.0).min(1.0)).unwrap();
        assert!((answer / exact - 1.0).abs() < 0.01, "{at}: {answer} {exact}");
    }
}

#[test]
fn a_count_stays_at_its_bound() {
    let mut sketch = sketch(&[1.0]);
    for _ in 0..60 {
        let twin = sketch.clone();
        sketch.merge(&twin);
    }
    assert_eq!(sketch.count(), COUNT_MAX);
    assert!((sketch.quantile(1.0).unwrap() - 1.0).abs() < 0.01);
}
