//! Times and sizes of sketches: `cargo bench --workspace --bench sketches`. Prints the best of many short runs in nanoseconds of wall
//! time: short, so that on a busy machine some are not interrupted.

use std::hint::black_box;
use std::time::Instant;

use streamgauge_schemas::sketch::{Distinct, Quantiles, Top};
use xxhash_rust::xxh3::xxh3_64;

const RUNS: usize = 1_000;
const OPERATIONS: usize = 200;

/// Runs `operation` with numbers that ascend and prints the time of one.
fn time(name: &str, mut operation: impl FnMut(usize)) {
    let best = (0..RUNS)
        .map(|run| {
            let begin = Instant::now();
            (run * OPERATIONS..(run + 1) * OPERATIONS).for_each(&mut operation);
            begin.elapsed().as_nanos() as f64 / OPERATIONS as f64
        })
        .fold(f64::INFINITY, f64::min);
    println!("{name:58} {best:8.1} ns");
}

/// A number in `[0, 1)` that looks random and costs next to nothing.
fn mixed(at: usize) -> f64 {
    ((at as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 11) as f64 / (1u64 << 53) as f64
}

fn quantiles() {
    let latency = |at: usize| 1.0 / (1.0 - mixed(at)); // Pareto
    let values: Vec<f64> = (0..1 << 16).map(latency).collect();
    let value = |at: usize| values[at & 0xffff];
    let of = |values: &mut dyn Iterator<Item = f64>| {
        let mut sketch = Quantiles::default();
        values.for_each(|value| sketch.add(value));
        sketch
    };
    let small: Vec<Quantiles> = (0..4_096).map(|at| of(&mut (0..3).map(|n| value(3 * at + n)))).collect();
    let five: Vec<Quantiles> = (0..4_096).map(|at| of(&mut (0..5).map(|n| value(5 * at + n)))).collect();
    time("quantiles: create, add 3 values, drop", |at| {
        black_box(of(&mut (0..3).map(|n| value(3 * at + n))));
    });
    time("quantiles: create, add 5 values, drop", |at| {
        black_box(of(&mut (0..5).map(|n| value(5 * at + n))));
    });
    let mut dense = of(&mut values.iter().copied());
    let mut scattered = of(&mut values.iter().flat_map(|value| [*value, -*value]));
    println!(
        "{:58} {:8} and {} bytes",
        "quantiles: heap, dense and sparse",
        dense.heap_bytes(),
        scattered.heap_bytes()
    );
    time("quantiles: add 1 value to a large one, dense", |at| dense.add(value(at)));
    time("quantiles: add 1 value to a large one, sparse", |at| scattered.add(value(at)));
    time("quantiles: merge 3 values into a large one, dense", |at| dense.merge(&small[at & 4_095]));
    time("quantiles: merge 3 values into a large one, sparse", |at| scattered.merge(&small[at & 4_095]));
    time("quantiles: merge 5 values into a large one, dense", |at| dense.merge(&five[at & 4_095]));
    time("quantiles: merge 3 values into an empty one", |at| {
        let mut sketch = Quantiles::default();
        sketch.merge(&small[at & 4_095]);
        black_box(sketch);
    });
    time("quantiles: clone a small one", |at| {
        black_box(small[at & 4_095].clone());
    });
    let (mut into, from) = (dense.clone(), dense.clone());
    time("quantiles: merge a large one into a large one, dense", |_| into.merge(&from));
    time("quantiles: p99 of a large one, dense", |_| {
        black_box(dense.quantile(black_box(0.99)));
    });
    let mut bytes = Vec::new();
    dense.encode(&mut bytes);
    println!("{:58} {:8} bytes", "quantiles: encoding of a large one", bytes.len());
    time("quantiles: encode a large one", |_| {
        bytes.clear();
        dense.encode(black_box(&mut bytes));
    });
    time("quantiles: decode a large one", |_| {
        black_box(Quantiles::decode(&bytes).is_ok());
    });
}

fn distinct() {
    let hashes: Vec<u64> = (0..1u64 << 16).map(|at| xxh3_64(&at.to_le_bytes())).collect();
    let of = |hashes: &[u64]| {
        let mut sketch = Distinct::default();
        hashes.iter().for_each(|hash| sketch.add_hash(*hash));
        sketch
    };
    let small: Vec<Distinct> = (0..4_096).map(|at| of(&hashes[3 * at..3 * at + 3])).collect();
    time("distinct: create, add 3 hashes, drop", |at| {
        let from = (3 * at) & 0x7fff;
        black_box(of(&hashes[from..from + 3]));
    });
    let (mut exact, mut registers) = (of(&hashes[..1_000]), of(&hashes));
    time("distinct: add 1 hash to 1,000, held already", |at| exact.add_hash(hashes[at % 1_000]));
    time("distinct: add 1 hash to registers", |at| registers.add_hash(hashes[at & 0xffff]));
    time("distinct: merge 3 hashes into 1,000, held already", |at| exact.merge(&small[at % 333]));
    time("distinct: merge 3 hashes into registers", |at| registers.merge(&small[at & 4_095]));
    let from = registers.clone();
    time("distinct: merge registers into registers", |_| registers.merge(black_box(&from)));
    time("distinct: estimate from registers", |_| {
        black_box(black_box(&registers).estimate());
    });
}

fn top() {
    let texts: Vec<String> = (0..1 << 14).map(|at| format!("/page/{}", (1.0 / (1.0 - mixed(at))) as u64)).collect();
    let rare: Vec<String> = (0..RUNS * OPERATIONS).map(|at| format!("/page/{at}")).collect();
    time("top: create, add 3 texts, drop", |at| {
        let mut sketch = Top::new(10);
        (0..3).for_each(|n| sketch.add(&texts[(3 * at + n) & 0x3fff], 1));
        black_box(sketch);
    });
    for k in [10, 1_000] {
        let mut sketch = Top::new(k);
        texts.iter().for_each(|text| sketch.add(text, 1));
        println!("{:58} {:8} bytes", format!("top {k}: heap"), sketch.heap_bytes());
        time(&format!("top {k}: add 1 text, skewed"), |at| sketch.add(&texts[at & 0x3fff], 1));
        time(&format!("top {k}: add 1 text, all different"), |at| sketch.add(&rare[at], 1));
    }
}

fn main() {
    println!(
        "size of quantiles {}, distinct {}, top {} bytes",
        size_of::<Quantiles>(),
        size_of::<Distinct>(),
        size_of::<Top>()
    );
    quantiles();
    distinct();
    top();
}
