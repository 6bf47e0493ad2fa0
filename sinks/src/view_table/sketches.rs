//! Sketches in ClickHouse's SQL: what `schemas::sketch` reads, merges and answers, as expressions over the rows of one group.
//!
//! ```text
//!  bytes of each row ─▶ numbers ─▶ bins: keys, counts       ─▶ sumMap ─▶ quantile
//!                              └─▶ registers: places, ranks ─▶ maxMap ─▶ estimate
//! ```
//!
//! The answers are those of `schemas::sketch`, also beyond its bounds on bins and on hashes. What several results of one
//! sketch share is the same text, which ClickHouse computes once.

use streamgauge_schemas::sketch::distinct::{EXACT_MAX, INDEX_BITS, RANK_MAX, REGISTERS};
use streamgauge_schemas::sketch::quantiles::{BINS_MAX, BINS_PER_OCTAVE, EXPONENT_MIN, KEY_INFINITY, MIDDLES};

/// `body` with `value` under a name. Functions over the elements of an array may take names of numbers into them, and of
/// nothing larger: ClickHouse copies what they take for each element.
fn with(name: &str, value: &str, body: &str) -> String {
    format!("arrayMap({name} -> {body}, [{value}])[1]")
}

/// The LEB128 numbers that bytes are.
fn numbers(bytes: &str) -> String {
    let all = format!("arrayMap(b -> reinterpretAsUInt8(b), splitByString('', {bytes}))");
    let number = "arraySum(arrayMap((b, i) -> bitShiftLeft(toUInt64(bitAnd(b, 127)), toUInt8(7 * (i - 1))), n, arrayEnumerate(n)))";
    format!("arrayMap(n -> {number}, arrayReverseSplit(b -> b < 128, {all}))")
}

/// Of the numbers that bytes are, after the first two, every second one, beginning with that at `place`.
fn every_second(bytes: &str, place: usize) -> String {
    let numbers = numbers(bytes);
    let parity = place % 2;
    format!("arrayFilter((n, i) -> i > 2 AND i % 2 = {parity}, {numbers}, arrayEnumerate({numbers}))")
}

/// The value at the rank `q` of merged sketches of quantiles; null of no values.
pub(super) fn quantile(bytes: &str, q: f64) -> String {
    let (keys, counts) = (format!("arrayCumSum({})", every_second(bytes, 3)), every_second(bytes, 4));
    let last = "toUInt64(arraySum(m.2) - 1)"; // signed by itself
    let rank = format!("least(toUInt64({q} * toFloat64({last})), {last})");
    let found = with("rank", &rank, "arrayFirst((k, upto) -> upto > rank, m.1, arrayCumSum(m.2))");
    // What is below the highest bins that are kept counts as the lowest of these.
    let lowest = format!("if(length(m.1) > {BINS_MAX}, m.1[length(m.1) - {}], 0)", BINS_MAX - 1);
    let key = format!("toInt64(greatest({found}, {lowest})) - {KEY_INFINITY}");
    let value = format!("if(empty(m.1), NULL, {})", with("k", &key, &value_of("k")));
    with("m", &format!("sumMap({keys}, {counts})"), &value)
}

/// The value that stands for the bin of a key, in the same steps as in `schemas::sketch`.
fn value_of(key: &str) -> String {
    let middles: Vec<String> = MIDDLES.iter().map(|middle| format!("{middle:?}")).collect();
    let at = format!("abs({key}) - 1");
    let middle = format!("[{}][({at}) % {BINS_PER_OCTAVE} + 1]", middles.join(", "));
    let octave = format!("intDiv({at}, {BINS_PER_OCTAVE}) + {EXPONENT_MIN}");
    let power = |exponent: &str| format!("reinterpretAsFloat64(bitShiftLeft(toUInt64({exponent} + 1023), 52))");
    let powers = format!("{} * {}", power("greatest(o, -1000)"), power("o - greatest(o, -1000)"));
    let finite = format!("{middle} * {}", with("o", &octave, &powers));
    format!("multiIf({key} = 0, 0., abs({key}) = {KEY_INFINITY}, inf, {finite}) * if({key} < 0, -1, 1)")
}

/// The hashes of a sketch that has them, and nothing of one that has registers.
fn hashes(bytes: &str) -> String {
    let begin = format!("length({bytes}) - 8 * intDiv(length({bytes}) - 2, 8) + 1"); // one or two bytes say how many
    let each = pieces(&format!("if(ascii({bytes}) = 1, substring({bytes}, {begin}), '')"), 8);
    format!("arrayMap(h -> reinterpretAsUInt64(h), {each})")
}

/// Bytes in pieces of one length.
fn pieces(bytes: &str, length: usize) -> String {
    format!("extractAll({bytes}, '\\\\C{{{length}}}')")
}

/// Whether merged sketches of distinct values are exact.
pub(super) fn distinct_is_exact(bytes: &str) -> String {
    format!("max(ascii({bytes})) = 1 AND length(groupUniqArrayArray({})) <= {EXACT_MAX}", hashes(bytes))
}

/// How many distinct values merged sketches have.
pub(super) fn distinct(bytes: &str) -> String {
    let of_hashes = hashes(bytes);
    let listed = format!("if(ascii({bytes}) = 2, {bytes}, '')");
    let fours = pieces(&format!("if(ascii({bytes}) = 3, substring({bytes}, 2), '')"), 3);
    let fours = format!("arrayMap(f -> reinterpretAsUInt32(f), {fours})");
    let mut places = vec![
        format!("arrayMap(h -> bitShiftRight(h, {}), {of_hashes})", 64 - INDEX_BITS),
        format!("arrayCumSum({})", every_second(&listed, 3)),
    ];
    places.extend((0..4).map(|of| format!("arrayMap(i -> toUInt64(4 * i - {}), arrayEnumerate({fours}))", 4 - of)));
    let bits = format!("bitOr(bitShiftLeft(h, {INDEX_BITS}), {})", 1 << (INDEX_BITS - 1));
    let mut ranks = vec![
        format!("arrayMap(h -> position(leftPad(bin({bits}), 64, '0'), '1'), {of_hashes})"),
        every_second(&listed, 4),
    ];
    ranks.extend((0..4).map(|of| format!("arrayMap(f -> bitAnd(bitShiftRight(f, {}), 63), {fours})", 6 * of)));
    let all = format!("maxMap(arrayConcat({}), arrayConcat({}))", places.join(", "), ranks.join(", "));
    let occupied = format!("arrayFilter(r -> r > 0, {all}.2)");
    let estimated =
        with("ranks", &occupied, &format!("greatest(toInt64(round({})), {})", estimate("ranks"), EXACT_MAX + 1));
    let exact = format!("toInt64(length(groupUniqArrayArray({of_hashes})))");
    format!("if({}, {exact}, {estimated})", distinct_is_exact(bytes))
}

/// Ertl's improved raw estimator, of the ranks of the occupied registers; its two series are summed until they do not change.
fn estimate(ranks: &str) -> String {
    let full = format!("arrayCount(r -> r = {RANK_MAX}, {ranks})");
    let tau = "if(x = 1, 0, (1 - x - arraySum(k -> pow(1 - pow(x, exp2(-k)), 2) * exp2(-k), range(1, 60))) / 3)";
    let tau = with("x", &format!("({REGISTERS} - {full}) / {REGISTERS}"), tau);
    let sigma = "x + arraySum(k -> pow(x, exp2(k)) * exp2(k - 1), range(1, 24))";
    let sigma = with("x", &format!("({REGISTERS} - length({ranks})) / {REGISTERS}"), sigma);
    let of_ranks = format!("arraySum(r -> if(r < {RANK_MAX}, exp2(-toInt64(r)), 0), {ranks})");
    let sum = format!("{REGISTERS} * {tau} * exp2({}) + {of_ranks} + {REGISTERS} * ({sigma})", 1 - i32::from(RANK_MAX));
    format!("{:?} / ({sum})", 0.5 / std::f64::consts::LN_2 * (REGISTERS * REGISTERS) as f64)
}
