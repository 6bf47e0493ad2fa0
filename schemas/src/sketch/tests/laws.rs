//! Laws: any split and order of merging gives equal sketches; encodings come back; any bytes are decoded or refused.

use proptest::prelude::*;

use crate::SchemaError;
use crate::sketch::{Distinct, Quantiles, Top};

/// Values whose bins are few, close together, scattered or so many that they collapse.
fn values() -> impl Strategy<Value = Vec<f64>> {
    let value = prop_oneof![
        4 => 1.0..1_000.0f64,
        2 => -1e6..1e6f64,
        1 => any::<f64>(),
        1 => Just(0.0),
    ];
    let spread = (5_000..9_000usize, any::<u64>(), any::<bool>()).prop_map(|(count, seed, shuffle)| {
        let mixed = |at: usize| (at as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ seed;
        let exponent = |at: usize| if shuffle { (mixed(at) >> 32) as usize % count } else { at };
        (0..count).map(|at| 1e-60 * 1.021f64.powi(exponent(at) as i32)).collect()
    });
    prop_oneof![
        6 => prop::collection::vec(value, 0..600),
        2 => prop::collection::vec(1.0..1_000.0f64, 200..3_000),
        1 => prop::collection::vec(-1_000.0..0.0f64, 200..3_000),
        2 => spread,
    ]
}

fn hashes() -> impl Strategy<Value = Vec<u64>> {
    let hash = prop_oneof![any::<u64>(), (0..64u32).prop_map(|shift| 1u64 << shift)];
    prop_oneof![
        prop::collection::vec(hash, 0..300),
        prop::collection::vec(any::<u64>(), 900..1_100),
        prop::collection::vec(any::<u64>(), 1_000..9_000),
    ]
}

/// Cuts `items` into parts, makes a sketch of each, and merges two neighbours or two from the ends until one is left.
fn merged<T: Clone, S: Default>(
    items: &[T],
    choices: &[(usize, bool)],
    add: impl Fn(&mut S, &T),
    merge: impl Fn(&mut S, &S),
) -> S {
    let mut parts: Vec<S> = Vec::new();
    let mut rest = items;
    for (length, _) in choices {
        let (part, after) = rest.split_at((*length).min(rest.len()));
        let mut sketch = S::default();
        part.iter().rev().for_each(|item| add(&mut sketch, item));
        parts.push(sketch);
        rest = after;
    }
    let mut last = S::default();
    rest.iter().for_each(|item| add(&mut last, item));
    parts.push(last);
    let mut turn = 0;
    while parts.len() > 1 {
        let (place, swapped) = choices[turn % choices.len()];
        let one = parts.remove(place % parts.len());
        let at = (place / 7) % parts.len();
        if swapped {
            let two = std::mem::replace(&mut parts[at], one);
            merge(&mut parts[at], &two);
        } else {
            merge(&mut parts[at], &one);
        }
        turn += 1;
    }
    parts.remove(0)
}

fn choices() -> impl Strategy<Value = Vec<(usize, bool)>> {
    prop::collection::vec((prop_oneof![0..5usize, 0..100usize, 0..3_000usize], any::<bool>()), 1..20)
}

fn bytes_of(encode: impl Fn(&mut Vec<u8>)) -> Vec<u8> {
    let mut bytes = Vec::new();
    encode(&mut bytes);
    bytes
}

/// What decodes encodes to something that decodes to the same; what does not is an error of encoding.
fn check_decoding<S: PartialEq + std::fmt::Debug>(
    bytes: &[u8],
    decode: impl Fn(&[u8]) -> Result<S, SchemaError>,
    encode: impl Fn(&S, &mut Vec<u8>),
) -> Option<S> {
    match decode(bytes) {
        Ok(sketch) => {
            let again = decode(&bytes_of(|out| encode(&sketch, out)));
            assert_eq!(again.as_ref(), Ok(&sketch));
            Some(sketch)
        }
        Err(SchemaError::Encoding { offset, .. }) => {
            assert!(offset <= bytes.len());
            None
        }
        Err(other) => panic!("{other}"),
    }
}

/// Tries every prefix and some damage of a good encoding: no prefix is one too.
fn check_damage<S: PartialEq + std::fmt::Debug>(
    bytes: &[u8],
    damage: (usize, u8),
    decode: impl Fn(&[u8]) -> Result<S, SchemaError>,
    encode: impl Fn(&S, &mut Vec<u8>),
) {
    for length in (0..bytes.len()).step_by(bytes.len() / 200 + 1).chain([bytes.len() - 1]) {
        assert_eq!(check_decoding(&bytes[..length], &decode, &encode), None, "a prefix of {length} bytes was accepted");
    }
    let mut damaged = bytes.to_vec();
    damaged[damage.0 % bytes.len()] ^= damage.1;
    check_decoding(&damaged, &decode, &encode);
    damaged.extend_from_slice(bytes);
    assert_eq!(check_decoding(&[bytes, &[0]].concat(), &decode, &encode), None, "a byte after the end was accepted");
}

fn reaches_all_questions(sketch: &Quantiles) {
    let answers = [0.0, 0.5, 1.0].map(|q| sketch.quantile(q));
    assert!(answers.iter().all(|answer| answer.is_some_and(|value| !value.is_nan()) == (sketch.count() > 0)));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn quantiles_do_not_depend_on_splits_and_orders(values in values(), choices in choices()) {
        let mut whole = Quantiles::default();
        values.iter().for_each(|value| whole.add(*value));
        let parts = merged(&values, &choices, |sketch: &mut Quantiles, value| sketch.add(*value), Quantiles::merge);
        prop_assert_eq!(&whole, &parts);
        prop_assert_eq!(whole.count(), values.iter().filter(|value| !value.is_nan()).count() as u64);
        let bytes = bytes_of(|out| whole.encode(out));
        prop_assert_eq!(&bytes, &bytes_of(|out| parts.encode(out)));
        prop_assert_eq!(Quantiles::decode(&bytes), Ok(whole));
    }

    #[test]
    fn distinct_does_not_depend_on_splits_and_orders(hashes in hashes(), choices in choices()) {
        let mut whole = Distinct::default();
        hashes.iter().for_each(|hash| whole.add_hash(*hash));
        let parts = merged(&hashes, &choices, |sketch: &mut Distinct, hash| sketch.add_hash(*hash), Distinct::merge);
        prop_assert_eq!(&whole, &parts);
        let exact = hashes.iter().collect::<std::collections::HashSet<_>>().len();
        prop_assert_eq!(whole.is_exact(), exact <= crate::sketch::distinct::EXACT_MAX);
        let bytes = bytes_of(|out| whole.encode(out));
        prop_assert_eq!(&bytes, &bytes_of(|out| parts.encode(out)));
        prop_assert_eq!(Distinct::decode(&bytes), Ok(whole));
    }

    #[test]
    fn top_holds_its_bounds_for_splits_and_orders(texts in prop::collection::vec(0..400u32, 0..4_000), choices in choices()) {
        let add = |sketch: &mut Option<Top>, text: &u32| {
            // Skewed: the square of a uniform number is small more often.
            sketch.get_or_insert_with(|| Top::new(1)).add(&(text * text / 400).to_string(), 1);
        };
        let merge = |into: &mut Option<Top>, from: &Option<Top>| {
            if let Some(from) = from {
                into.get_or_insert_with(|| Top::new(1)).merge(from);
            }
        };
        let sketch = merged(&texts, &choices, add, merge).unwrap_or_else(|| Top::new(1));
        let floor_max = texts.len() as u64 / 101;
        for (text, count, error) in sketch.top(usize::MAX) {
            let exact = texts.iter().filter(|t| (*t * *t / 400).to_string() == *text).count() as u64;
            prop_assert!(count - error <= exact && exact <= count && error <= floor_max, "{} {} {} {}", text, exact, count, error);
        }
        let bytes = bytes_of(|out| sketch.encode(out));
        let again = Top::decode(&bytes).unwrap();
        prop_assert_eq!(&again, &sketch);
        prop_assert_eq!(again.top(5), sketch.top(5));
        prop_assert_eq!(bytes_of(|out| again.encode(out)), bytes);
    }

    #[test]
    fn random_bytes_are_decoded_or_refused(mut bytes in prop::collection::vec(any::<u8>(), 0..200), form in 0..5u8) {
        if let Some(first) = bytes.first_mut() {
            *first = form;
        }
        if let Some(sketch) = check_decoding(&bytes, Quantiles::decode, Quantiles::encode) {
            reaches_all_questions(&sketch);
        }
        check_decoding(&bytes, Distinct::decode, Distinct::encode);
        check_decoding(&bytes, Top::decode, Top::encode);
    }

    #[test]
    fn damaged_bytes_are_decoded_or_refused(
        values in values(), hashes in hashes(), texts in prop::collection::vec(".{0,6}", 0..300), at in any::<usize>(), bits in 1..=255u8,
    ) {
        let (mut quantiles, mut distinct, mut top) = (Quantiles::default(), Distinct::default(), Top::new(2));
        values.iter().for_each(|value| quantiles.add(*value));
        hashes.iter().for_each(|hash| distinct.add_hash(*hash));
        texts.iter().for_each(|text| top.add(text, 1));
        check_damage(&bytes_of(|out| quantiles.encode(out)), (at, bits), Quantiles::decode, Quantiles::encode);
        check_damage(&bytes_of(|out| distinct.encode(out)), (at, bits), Distinct::decode, Distinct::encode);
        check_damage(&bytes_of(|out| top.encode(out)), (at, bits), Top::decode, Top::encode);
    }
}

/// The bytes are a format that is kept: these were written by version 1 of it.
#[test]
fn encodings_stay_as_they_are() {
    let (mut quantiles, mut distinct, mut top) = (Quantiles::default(), Distinct::default(), Top::new(1));
    [-1.0, 0.0, 1.0, 1.0].iter().for_each(|value| quantiles.add(*value));
    [7, 1 << 63].iter().for_each(|hash| distinct.add_hash(*hash));
    [("é", 300), ("a", 1)].iter().for_each(|(text, weight)| top.add(text, *weight));
    // 1.0 has the key 1,074 × 35 + 1 = 37,591, and −∞ the key −73,431: distances 35,840, 37,591 and 37,591.
    assert_eq!(bytes_of(|out| quantiles.encode(out)), [1, 3, 0x80, 0x98, 2, 1, 0xd7, 0xa5, 2, 1, 0xd7, 0xa5, 2, 2]);
    assert_eq!(bytes_of(|out| distinct.encode(out)), [1, 2, 7, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x80]);
    assert_eq!(bytes_of(|out| top.encode(out)), [1, 1, 0, 2, 1, b'a', 1, 0, 2, 0xc3, 0xa9, 0xac, 2, 0]);
}

/// A count of billions in a few bytes reserves nothing like it.
#[test]
fn a_claimed_length_is_not_believed() {
    let claims = [0xff, 0xff, 0xff, 0xff, 0x0f];
    assert!(Quantiles::decode(&[&[1], &claims[..]].concat()).is_err());
    assert!(Distinct::decode(&[&[1], &claims[..]].concat()).is_err());
    assert!(Top::decode(&[&[1, 1, 0], &claims[..]].concat()).is_err());
    assert!(Top::decode(&[&[1, 1, 0, 1], &claims[..]].concat()).is_err());
}

#[test]
fn what_cannot_be_is_refused() {
    let check =
        |error: SchemaError, reason: &str| assert!(error.to_string().contains(reason), "{error} is not: {reason}");
    for (bytes, reason) in [
        (&[][..], "the bytes end early"),
        (&[9, 0], "the form is not known"),
        (&[1, 2, 7, 1, 0, 1], "a bin is not above the one before"),
        (&[1, 1, 0xff, 0xff, 0xff, 1, 1], "beyond the last"),
        (&[1, 1, 7, 0], "a bin's count is 0"),
        (&[1, 1, 7, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 2], "a number does not fit 64 bits"),
    ] {
        check(Quantiles::decode(bytes).unwrap_err(), reason);
    }
    let twice = [&[1, 2][..], &[5; 16]].concat();
    let rank_too_high = [&[3][..], &[52; 12_288]].concat();
    let few_in_the_long_form = [&[3][..], &[0; 12_288]].concat();
    for (bytes, reason) in [
        (&twice[..], "hashes are not ascending"),
        (&[2, 1, 7, 52], "a register or its rank cannot be"),
        (&[2, 1, 7, 0], "a register or its rank cannot be"),
        (&rank_too_high, "a rank cannot be"),
        (&few_in_the_long_form, "so few registers"),
    ] {
        check(Distinct::decode(bytes).unwrap_err(), reason);
    }
    for (bytes, reason) in [
        (&[1, 0, 0, 0][..], "k is 0"),
        (&[1, 1, 0, 1, 1, 0xff, 1, 0], "not UTF-8"),
        (&[1, 1, 0, 2, 1, b'a', 1, 0, 1, b'a', 1, 0], "texts are not ascending"),
        (&[1, 1, 5, 1, 1, b'a', 4, 0], "a count is below the floor"),
        (&[1, 1, 5, 1, 1, b'a', 9, 6], "an error above it"),
    ] {
        check(Top::decode(bytes).unwrap_err(), reason);
    }
}
