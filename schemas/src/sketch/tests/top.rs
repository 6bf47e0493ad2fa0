//! The most frequent texts of skewed data, and the bounds of their counts.

use std::collections::HashMap;

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use crate::sketch::Top;

const TEXTS: usize = 20_000;

/// Texts with frequencies as `1 / rank^exponent`, in random order.
fn zipf(exponent: f64, count: usize, seed: u64) -> Vec<usize> {
    let mut sums: Vec<f64> = Vec::with_capacity(TEXTS);
    for rank in 1..=TEXTS {
        sums.push(sums.last().unwrap_or(&0.0) + (rank as f64).powf(-exponent));
    }
    let mut random = StdRng::seed_from_u64(seed);
    (0..count).map(|_| random.random_range(0.0..sums[TEXTS - 1])).map(|at| sums.partition_point(|s| *s <= at)).collect()
}

fn sketch(k: u32, texts: &[usize]) -> Top {
    let mut sketch = Top::new(k);
    texts.iter().for_each(|text| sketch.add(&format!("text-{text}"), 1));
    sketch
}

/// Checks every bound of invariants 1 and 2, and gives how many of the true `k` most frequent are answered.
fn check(sketch: &Top, texts: &[usize], k: usize) -> usize {
    let mut truth: HashMap<String, u64> = HashMap::new();
    texts.iter().for_each(|text| *truth.entry(format!("text-{text}")).or_default() += 1);
    let all = sketch.top(usize::MAX);
    let capacity = (10 * k).max(100);
    assert!(all.len() < 2 * capacity);
    for (text, count, error) in &all {
        let exact = truth[&**text];
        assert!(count - error <= exact && exact <= *count, "{text}: {exact} is not in {count} - {error}");
        assert!(*error <= texts.len() as u64 / (capacity as u64 + 1), "{text}: {error}");
    }
    for (text, exact) in &truth {
        if *exact > texts.len() as u64 / (capacity as u64 + 1) {
            assert!(all.iter().any(|(found, ..)| **found == **text), "{text} came {exact} times and has no counter");
        }
    }
    let mut most: Vec<(u64, &String)> = truth.iter().map(|(text, count)| (*count, text)).collect();
    most.sort_by(|a, b| b.cmp(a));
    let answered = sketch.top(k);
    most.iter().take(k).filter(|(_, text)| answered.iter().any(|(found, ..)| **found == ***text)).count()
}

#[test]
fn frequent_texts_of_skewed_data_are_found() {
    for (exponent, k, found_min) in [(1.5, 10, 10), (1.1, 10, 10), (1.0, 10, 9), (1.1, 50, 45)] {
        let texts = zipf(exponent, 300_000, 3);
        let whole = sketch(k, &texts);
        let found = check(&whole, &texts, k as usize);
        let mut merged = Top::new(k);
        texts.chunks(7_001).for_each(|part| merged.merge(&sketch(k, part)));
        let found_merged = check(&merged, &texts, k as usize);
        println!("Zipf {exponent}, k {k}: {found} found, {found_merged} merged, {} bytes", whole.heap_bytes());
        assert!(found >= found_min && found_merged >= found_min, "{exponent} {k}: {found} {found_merged}");
    }
}

#[test]
fn few_texts_are_counted_exactly_and_in_order() {
    let texts: Vec<usize> = (0..150usize).flat_map(|text| vec![text; text + 1]).collect();
    let sketch = sketch(3, &texts);
    let top: Vec<(String, u64, u64)> = sketch.top(3).into_iter().map(|(t, c, e)| (t.to_string(), c, e)).collect();
    assert_eq!(top, [("text-149".into(), 150, 0), ("text-148".into(), 149, 0), ("text-147".into(), 148, 0)]);
}

#[test]
fn weights_count_and_equal_counts_are_in_the_order_of_texts() {
    let mut sketch = Top::new(2);
    [("b", 5), ("a", 5), ("c", 4), ("c", 2), ("nothing", 0)]
        .iter()
        .for_each(|(text, weight)| sketch.add(text, *weight));
    let top: Vec<(String, u64)> = sketch.top(9).into_iter().map(|(text, count, _)| (text.to_string(), count)).collect();
    assert_eq!(top, [("c".into(), 6), ("a".into(), 5), ("b".into(), 5)]);
    sketch.add("a", u64::MAX);
    assert_eq!(sketch.top(1)[0].1, u64::MAX);
}

/// Texts that each come once, then one that is most of the rest: the worst that Space-Saving can be given.
#[test]
fn a_late_frequent_text_is_found_among_many_rare_ones() {
    let mut texts: Vec<usize> = (0..50_000).collect();
    texts.extend(std::iter::repeat_n(7, 1_000));
    texts.extend(50_000..60_000);
    let sketch = sketch(1, &texts);
    check(&sketch, &texts, 1);
    assert_eq!(&*sketch.top(1)[0].0, "text-7");
}
