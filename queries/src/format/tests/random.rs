//! Batches of every type that an answer may have, out of whole numbers.

use std::sync::Arc;

use arrow::array::{
    ArrayRef, BinaryArray, BooleanArray, Decimal128Array, DictionaryArray, DurationMicrosecondArray, Float32Array,
    Float64Array, Int64Array, IntervalMonthDayNanoArray, LargeStringArray, ListBuilder, MapBuilder, NullArray,
    RecordBatch, StringArray, StringBuilder, StringViewArray, StructArray, UInt64Array,
};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Field, Int32Type, Int64Type, IntervalMonthDayNano, Schema, TimeUnit};
use proptest::prelude::*;

/// How many columns [`batch`] makes.
const COLUMNS: usize = 35;

/// Texts that formats have to take care of.
const TEXTS: [&str; 14] = [
    "",
    " ",
    "a",
    "NULL",
    "null",
    "NaN",
    "=1+1",
    "a,\"b\"\n",
    "\r",
    "\u{1}_x0041_",
    "é日🦀",
    "<&>'",
    "-0.5",
    "\t 'x' ",
];

/// Columns of whole numbers or nulls, of which [`batch`] makes others.
pub(super) fn columns() -> impl Strategy<Value = Vec<Vec<Option<i64>>>> {
    let edge = prop::sample::select(vec![0, 1, -1, i64::MIN, i64::MAX, 1 << 53, (1 << 53) + 1, -(1 << 53) - 1]);
    let value = prop_oneof![3 => any::<i64>(), 2 => -1_000..1_000_i64, 1 => edge];
    let values = prop::option::weighted(0.8, value);
    (0..12_usize).prop_flat_map(move |rows| prop::collection::vec(prop::collection::vec(values.clone(), rows), COLUMNS))
}

fn text(value: i64) -> String {
    let place = value.rem_euclid(20) as usize;
    TEXTS.get(place).map_or_else(|| format!("{value:x}"), |text| (*text).to_owned())
}

/// A float with those bits; of small numbers, a part of them.
fn float(value: i64) -> f64 {
    match value {
        -1_000..=-990 => f64::NAN,
        990..=995 => f64::INFINITY,
        996..=999 => f64::NEG_INFINITY,
        -900..=900 => value as f64 / 7.0,
        _ => f64::from_bits(value as u64),
    }
}

/// A time that has a text: of a year with four digits.
fn time(unit: TimeUnit, value: i64) -> i64 {
    let a_second = match unit {
        TimeUnit::Second => 1,
        TimeUnit::Millisecond => 1_000,
        TimeUnit::Microsecond => 1_000_000,
        TimeUnit::Nanosecond => 1_000_000_000,
    };
    match value.checked_abs() {
        Some(small) if small < 1_000 => value * 86_400 * a_second / 4,
        _ => value % (200_000_000_000_i64.saturating_mul(a_second)),
    }
}

/// A batch with a column of each type.
pub(super) fn batch(columns: &[Vec<Option<i64>>]) -> RecordBatch {
    let mut fields = Vec::new();
    let mut arrays: Vec<ArrayRef> = Vec::new();
    let mut place = 0;
    let mut add = |name: &str, make: &dyn Fn(&[Option<i64>]) -> ArrayRef| {
        let array = make(&columns[place]);
        fields.push(Field::new(format!("{place} {name}"), array.data_type().clone(), true));
        arrays.push(array);
        place += 1;
    };
    let whole = |values: &[Option<i64>]| Int64Array::from(values.to_vec());
    add("i64", &|values| Arc::new(whole(values)));
    for (kind, modulus) in [
        (DataType::Int8, 128),
        (DataType::Int16, 32_768),
        (DataType::Int32, 1 << 31),
        (DataType::UInt8, 128),
        (DataType::UInt16, 32_768),
        (DataType::UInt32, 1 << 31),
    ] {
        let narrow = |values: &[Option<i64>]| {
            let fits =
                |value: i64| if kind.is_unsigned_integer() { value.rem_euclid(modulus) } else { value % modulus };
            cast(&Int64Array::from_iter(values.iter().map(|value| value.map(fits))), &kind).unwrap()
        };
        add("narrow", &narrow);
    }
    add("u64", &|values| Arc::new(UInt64Array::from_iter(values.iter().map(|value| value.map(|value| value as u64)))));
    add("f64", &|values| Arc::new(Float64Array::from_iter(values.iter().map(|value| value.map(float)))));
    add("f32", &|values| {
        Arc::new(Float32Array::from_iter(values.iter().map(|value| value.map(|value| float(value) as f32))))
    });
    let bit = |value: i64| value % 2 == 0;
    add("flag", &|values| Arc::new(BooleanArray::from_iter(values.iter().map(|value| value.map(bit)))));
    add("text", &|values| Arc::new(StringArray::from_iter(values.iter().map(|value| value.map(text)))));
    add("large", &|values| Arc::new(LargeStringArray::from_iter(values.iter().map(|value| value.map(text)))));
    add("view", &|values| Arc::new(StringViewArray::from_iter(values.iter().map(|value| value.map(text)))));
    add("bytes", &|values| Arc::new(BinaryArray::from_iter(values.iter().map(|value| value.map(i64::to_be_bytes)))));
    add("dictionary", &|values| {
        let texts: Vec<Option<String>> = values.iter().map(|value| value.map(text)).collect();
        Arc::new(DictionaryArray::<Int32Type>::from_iter(texts.iter().map(Option::as_deref)))
    });
    for (precision, scale) in [(38, 10), (18, 2), (19, 0)] {
        add("decimal", &|values| {
            let values = values.iter().map(|value| value.map(|value| i128::from(value % 1_000_000_000_000_000_000)));
            Arc::new(Decimal128Array::from_iter(values).with_precision_and_scale(precision, scale).unwrap())
        });
    }
    for unit in [TimeUnit::Second, TimeUnit::Millisecond, TimeUnit::Microsecond, TimeUnit::Nanosecond] {
        for zone in [None, Some("UTC".into())] {
            let times = |values: &[Option<i64>]| {
                let times = values.iter().map(|value| value.map(|value| time(unit, value)));
                cast(&Int64Array::from_iter(times), &DataType::Timestamp(unit, zone.clone())).unwrap()
            };
            add("time", &times);
        }
    }
    let days = |value: i64| value % 2_000_000;
    add("date", &|values| {
        let days = Int64Array::from_iter(values.iter().map(|value| value.map(days)));
        cast(&cast(&days, &DataType::Int32).unwrap(), &DataType::Date32).unwrap()
    });
    add("clock", &|values| {
        let clocks = values.iter().map(|value| value.map(|value| value.rem_euclid(86_400_000_000)));
        cast(&Int64Array::from_iter(clocks), &DataType::Time64(TimeUnit::Microsecond)).unwrap()
    });
    add("span", &|values| {
        Arc::new(DurationMicrosecondArray::from_iter(values.iter().map(|value| value.map(|value| value / 4))))
    });
    add("interval", &|values| {
        let interval = |value: i64| IntervalMonthDayNano::new((value % 50) as i32, (value % 31) as i32, value / 1_000);
        Arc::new(IntervalMonthDayNanoArray::from_iter(values.iter().map(|value| value.map(interval))))
    });
    add("nothing", &|values| Arc::new(NullArray::new(values.len())));
    nested(&mut add);
    assert_eq!(arrays.len(), COLUMNS, "every column of numbers is used");
    RecordBatch::try_new(Arc::new(Schema::new(fields)), arrays).unwrap()
}

fn nested(add: &mut impl FnMut(&str, &dyn Fn(&[Option<i64>]) -> ArrayRef)) {
    add("map", &|values| {
        let mut maps = MapBuilder::new(None, StringBuilder::new(), StringBuilder::new());
        for value in values {
            for key in 0..value.unwrap_or_default().rem_euclid(3) {
                maps.keys().append_value(format!("k{key}"));
                maps.values().append_option(value.filter(|value| value % 5 != 0).map(text));
            }
            maps.append(value.is_some()).unwrap();
        }
        Arc::new(maps.finish())
    });
    add("list", &|values| {
        let mut lists = ListBuilder::new(arrow::array::PrimitiveBuilder::<Int64Type>::new());
        for value in values {
            for at in 0..value.unwrap_or_default().rem_euclid(4) {
                lists.values().append_option(value.filter(|_| at != 1));
            }
            lists.append(value.is_some());
        }
        Arc::new(lists.finish())
    });
    add("parts", &|values| {
        let whole: ArrayRef = Arc::new(Int64Array::from(values.to_vec()));
        let texts: ArrayRef = Arc::new(StringArray::from_iter(values.iter().map(|value| value.map(text))));
        let part = |name: &str, array: &ArrayRef| Arc::new(Field::new(name, array.data_type().clone(), true));
        Arc::new(StructArray::from(vec![(part("whole", &whole), whole), (part("text", &texts), texts)]))
    });
}
