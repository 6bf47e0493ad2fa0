//! Values on their way to a client, in text or binary.
//!
//! Columns come as [`postgres::values::written_as`](streamgauge_queries::postgres::values::written_as) has them, so that
//! there are few types here. Times and dates count from 2000 in binary.

use std::fmt::Write;

use arrow::array::{
    Array, ArrayRef, AsArray, BinaryArray, BooleanArray, Date32Array, Decimal128Array, Float32Array, Float64Array,
    Int16Array, Int32Array, Int64Array, IntervalMonthDayNanoArray, LargeListArray, ListArray, StringArray,
    Time64MicrosecondArray, TimestampMicrosecondArray, UInt32Array,
};
use arrow::datatypes::{
    DataType, Date32Type, Decimal128Type, Float32Type, Float64Type, Int16Type, Int32Type, Int64Type,
    IntervalMonthDayNanoType, IntervalUnit, Time64MicrosecondType, TimeUnit, TimestampMicrosecondType, UInt32Type,
};
use arrow::temporal_conversions::{date32_to_datetime, timestamp_us_to_datetime};
use streamgauge_queries::postgres::types;

use super::message::Form;

/// From 1970 to 2000.
pub(super) const EPOCH_US: i64 = 946_684_800_000_000;
pub(super) const EPOCH_DAYS: i32 = 10_957;
/// The number of the type `oid`.
const OID: u32 = 26;

/// A column of a batch.
pub(super) enum Values<'a> {
    Truths(&'a BooleanArray),
    Shorts(&'a Int16Array),
    Integers(&'a Int32Array),
    Longs(&'a Int64Array),
    Oids(&'a UInt32Array),
    Reals(&'a Float32Array),
    Doubles(&'a Float64Array),
    Decimals(&'a Decimal128Array),
    Texts(&'a StringArray),
    Bytes(&'a BinaryArray),
    Dates(&'a Date32Array),
    Times(&'a Time64MicrosecondArray),
    Moments {
        values: &'a TimestampMicrosecondArray,
        zoned: bool,
    },
    Intervals(&'a IntervalMonthDayNanoArray),
    Lists {
        lists: &'a ListArray,
        items: Box<Values<'a>>,
        kind: u32,
    },
    /// `oidvector`.
    Vectors {
        vectors: &'a LargeListArray,
        oids: &'a UInt32Array,
    },
}

impl<'a> Values<'a> {
    /// The column's values; `None` for a type that is not written.
    pub(super) fn of(column: &'a ArrayRef) -> Option<Self> {
        Some(match column.data_type() {
            DataType::Boolean => Values::Truths(column.as_boolean()),
            DataType::Int16 => Values::Shorts(column.as_primitive::<Int16Type>()),
            DataType::Int32 => Values::Integers(column.as_primitive::<Int32Type>()),
            DataType::Int64 => Values::Longs(column.as_primitive::<Int64Type>()),
            DataType::UInt32 => Values::Oids(column.as_primitive::<UInt32Type>()),
            DataType::Float32 => Values::Reals(column.as_primitive::<Float32Type>()),
            DataType::Float64 => Values::Doubles(column.as_primitive::<Float64Type>()),
            DataType::Decimal128(..) => Values::Decimals(column.as_primitive::<Decimal128Type>()),
            DataType::Utf8 => Values::Texts(column.as_string()),
            DataType::Binary => Values::Bytes(column.as_binary()),
            DataType::Date32 => Values::Dates(column.as_primitive::<Date32Type>()),
            DataType::Time64(TimeUnit::Microsecond) => Values::Times(column.as_primitive::<Time64MicrosecondType>()),
            DataType::Timestamp(TimeUnit::Microsecond, zone) => {
                Values::Moments { values: column.as_primitive::<TimestampMicrosecondType>(), zoned: zone.is_some() }
            }
            DataType::Interval(IntervalUnit::MonthDayNano) => {
                Values::Intervals(column.as_primitive::<IntervalMonthDayNanoType>())
            }
            DataType::List(item) => {
                let lists = column.as_list::<i32>();
                let kind = types::oid_of(item.data_type());
                Values::Lists { lists, items: Box::new(Values::of(lists.values())?), kind }
            }
            DataType::LargeList(item) if *item.data_type() == DataType::UInt32 => {
                let vectors = column.as_list::<i64>();
                Values::Vectors { vectors, oids: vectors.values().as_primitive::<UInt32Type>() }
            }
            _ => return None,
        })
    }

    fn array(&self) -> &dyn Array {
        match self {
            Values::Truths(values) => values,
            Values::Shorts(values) => values,
            Values::Integers(values) => values,
            Values::Longs(values) => values,
            Values::Oids(values) => values,
            Values::Reals(values) => values,
            Values::Doubles(values) => values,
            Values::Decimals(values) => values,
            Values::Texts(values) => values,
            Values::Bytes(values) => values,
            Values::Dates(values) => values,
            Values::Times(values) => values,
            Values::Moments { values, .. } => values,
            Values::Intervals(values) => values,
            Values::Lists { lists, .. } => lists,
            Values::Vectors { vectors, .. } => vectors,
        }
    }

    pub(super) fn is_null(&self, row: usize) -> bool {
        self.array().is_null(row)
    }

    /// Writes the value with its length before it, or the length -1 for null.
    pub(super) fn put(&self, row: usize, form: Form, out: &mut Vec<u8>) {
        if self.is_null(row) {
            out.extend_from_slice(&(-1_i32).to_be_bytes());
            return;
        }
        let start = out.len();
        out.extend_from_slice(&[0; 4]);
        match form {
            Form::Text => self.text(row, out),
            Form::Binary => self.binary(row, out),
        }
        let length = (out.len() - start - 4) as u32;
        out[start..start + 4].copy_from_slice(&length.to_be_bytes());
    }

    /// Writes the value as text; it is not null.
    pub(super) fn text(&self, row: usize, out: &mut Vec<u8>) {
        let mut text = String::new();
        match self {
            Values::Texts(values) => return out.extend_from_slice(values.value(row).as_bytes()),
            Values::Truths(values) => text.push(if values.value(row) { 't' } else { 'f' }),
            Values::Shorts(values) => put(&mut text, format_args!("{}", values.value(row))),
            Values::Integers(values) => put(&mut text, format_args!("{}", values.value(row))),
            Values::Longs(values) => put(&mut text, format_args!("{}", values.value(row))),
            Values::Oids(values) => put(&mut text, format_args!("{}", values.value(row))),
            Values::Reals(values) => {
                let value = values.value(row);
                float(f64::from(value), &format!("{value:e}"), 6, &mut text);
            }
            Values::Doubles(values) => {
                let value = values.value(row);
                float(value, &format!("{value:e}"), 15, &mut text);
            }
            Values::Decimals(values) => text.push_str(&values.value_as_string(row)),
            Values::Bytes(values) => {
                text.push_str("\\x");
                values.value(row).iter().for_each(|byte| put(&mut text, format_args!("{byte:02x}")));
            }
            Values::Dates(values) => {
                if let Some(date) = date32_to_datetime(values.value(row)) {
                    put(&mut text, format_args!("{}", date.format("%Y-%m-%d")));
                }
            }
            Values::Times(values) => time(values.value(row), &mut text),
            Values::Moments { values, zoned } => moment(values.value(row), *zoned, &mut text),
            Values::Intervals(values) => {
                let value = values.value(row);
                interval(value.months, value.days, value.nanoseconds / 1_000, &mut text);
            }
            Values::Lists { lists, items, .. } => {
                let (offset, count) = (lists.value_offsets()[row] as usize, lists.value_length(row) as usize);
                list(items, offset..offset + count, &mut text);
            }
            Values::Vectors { vectors, oids } => {
                let oids: Vec<String> = vector(vectors, oids, row).map(|oid| oid.to_string()).collect();
                text.push_str(&oids.join(" "));
            }
        }
        out.extend_from_slice(text.as_bytes());
    }

    fn binary(&self, row: usize, out: &mut Vec<u8>) {
        match self {
            Values::Truths(values) => out.push(u8::from(values.value(row))),
            Values::Shorts(values) => out.extend_from_slice(&values.value(row).to_be_bytes()),
            Values::Integers(values) => out.extend_from_slice(&values.value(row).to_be_bytes()),
            Values::Longs(values) => out.extend_from_slice(&values.value(row).to_be_bytes()),
            Values::Oids(values) => out.extend_from_slice(&values.value(row).to_be_bytes()),
            Values::Reals(values) => out.extend_from_slice(&values.value(row).to_be_bytes()),
            Values::Doubles(values) => out.extend_from_slice(&values.value(row).to_be_bytes()),
            Values::Decimals(values) => numeric(values.value(row), values.scale(), out),
            Values::Texts(values) => out.extend_from_slice(values.value(row).as_bytes()),
            Values::Bytes(values) => out.extend_from_slice(values.value(row)),
            Values::Dates(values) => out.extend_from_slice(&values.value(row).saturating_sub(EPOCH_DAYS).to_be_bytes()),
            Values::Times(values) => out.extend_from_slice(&values.value(row).to_be_bytes()),
            Values::Moments { values, .. } => {
                out.extend_from_slice(&values.value(row).saturating_sub(EPOCH_US).to_be_bytes());
            }
            Values::Intervals(values) => {
                let value = values.value(row);
                out.extend_from_slice(&(value.nanoseconds / 1_000).to_be_bytes());
                out.extend_from_slice(&value.days.to_be_bytes());
                out.extend_from_slice(&value.months.to_be_bytes());
            }
            Values::Lists { lists, items, kind } => {
                let (offset, count) = (lists.value_offsets()[row] as usize, lists.value_length(row) as usize);
                let nulls = (offset..offset + count).any(|place| items.is_null(place));
                let dimensions = i32::from(count > 0);
                out.extend_from_slice(&dimensions.to_be_bytes());
                out.extend_from_slice(&i32::from(nulls).to_be_bytes());
                out.extend_from_slice(&kind.to_be_bytes());
                if count > 0 {
                    out.extend_from_slice(&(count as u32).to_be_bytes());
                    out.extend_from_slice(&1_i32.to_be_bytes());
                }
                (offset..offset + count).for_each(|place| items.put(place, Form::Binary, out));
            }
            Values::Vectors { vectors, oids } => {
                // An array of one dimension, also of no number, that counts from 0.
                let head = [1_u32, 0, OID, vectors.value_length(row) as u32, 0];
                head.iter().for_each(|word| out.extend_from_slice(&word.to_be_bytes()));
                for oid in vector(vectors, oids, row) {
                    out.extend_from_slice(&4_u32.to_be_bytes());
                    out.extend_from_slice(&oid.to_be_bytes());
                }
            }
        }
    }
}

fn vector<'a>(vectors: &LargeListArray, oids: &'a UInt32Array, row: usize) -> impl Iterator<Item = u32> + use<'a> {
    let (offset, count) = (vectors.value_offsets()[row] as usize, vectors.value_length(row) as usize);
    (offset..offset + count).map(|place| oids.value(place))
}

fn put(text: &mut String, arguments: std::fmt::Arguments<'_>) {
    text.write_fmt(arguments).expect("a string takes all");
}

/// Writes a float as PostgreSQL does: the shortest digits that mean it, with an exponent below 10⁻⁴ and from 10ⁿ on,
/// `n` = `wide`. `shortest` has the digits, as `d.ddde±x`.
fn float(value: f64, shortest: &str, wide: i32, text: &mut String) {
    if value.is_nan() {
        return text.push_str("NaN");
    }
    if value.is_infinite() {
        return text.push_str(if value > 0.0 { "Infinity" } else { "-Infinity" });
    }
    let (mantissa, exponent) = shortest.split_once('e').unwrap_or((shortest, "0"));
    let exponent: i32 = exponent.parse().unwrap_or(0);
    if value != 0.0 && (exponent < -4 || exponent >= wide) {
        let sign = if exponent < 0 { '-' } else { '+' };
        return put(text, format_args!("{mantissa}e{sign}{:02}", exponent.abs()));
    }
    let negative = mantissa.starts_with('-');
    let digits: String = mantissa.chars().filter(char::is_ascii_digit).collect();
    if negative {
        text.push('-');
    }
    let whole = exponent + 1;
    if whole <= 0 {
        text.push_str("0.");
        text.extend(std::iter::repeat_n('0', whole.unsigned_abs() as usize));
        text.push_str(&digits);
        return;
    }
    let whole = whole as usize;
    let (before, after) = digits.split_at(whole.min(digits.len()));
    text.push_str(before);
    text.extend(std::iter::repeat_n('0', whole - before.len()));
    if !after.is_empty() {
        text.push('.');
        text.push_str(after);
    }
}

fn moment(micros: i64, zoned: bool, text: &mut String) {
    let Some(at) = timestamp_us_to_datetime(micros) else { return text.push_str("infinity") };
    put(text, format_args!("{}", at.format("%Y-%m-%d %H:%M:%S")));
    fraction(micros.rem_euclid(1_000_000), text);
    if zoned {
        text.push_str("+00");
    }
}

fn time(micros: i64, text: &mut String) {
    let seconds = micros / 1_000_000;
    put(text, format_args!("{:02}:{:02}:{:02}", seconds / 3_600, seconds / 60 % 60, seconds % 60));
    fraction(micros % 1_000_000, text);
}

fn fraction(micros: i64, text: &mut String) {
    if micros != 0 {
        put(text, format_args!(".{micros:06}"));
        text.truncate(text.trim_end_matches('0').len());
    }
}

fn interval(months: i32, days: i32, micros: i64, text: &mut String) {
    let mut parts = Vec::new();
    let plural = |count: i32, unit: &str| format!("{count} {unit}{}", if count == 1 { "" } else { "s" });
    let (years, months) = (months / 12, months % 12);
    parts.extend((years != 0).then(|| plural(years, "year")));
    parts.extend((months != 0).then(|| plural(months, "mon")));
    parts.extend((days != 0).then(|| plural(days, "day")));
    if micros != 0 || parts.is_empty() {
        let mut part = if micros < 0 { "-".to_owned() } else { String::new() };
        time(micros.saturating_abs(), &mut part);
        parts.push(part);
    }
    text.push_str(&parts.join(" "));
}

fn list(items: &Values<'_>, places: std::ops::Range<usize>, text: &mut String) {
    text.push('{');
    let start = places.start;
    for place in places {
        if place > start {
            text.push(',');
        }
        if items.is_null(place) {
            text.push_str("NULL");
            continue;
        }
        let mut item = Vec::new();
        items.text(place, &mut item);
        let item = String::from_utf8_lossy(&item);
        let special = |c: char| matches!(c, '{' | '}' | ',' | '"' | '\\') || c.is_whitespace();
        if item.is_empty() || item.contains(special) || item.eq_ignore_ascii_case("null") {
            put(text, format_args!("\"{}\"", item.replace('\\', "\\\\").replace('"', "\\\"")));
        } else {
            text.push_str(&item);
        }
    }
    text.push('}');
}

/// Writes a decimal in groups of four digits, as `numeric` is in binary.
fn numeric(value: i128, scale: i8, out: &mut Vec<u8>) {
    let scale = usize::from(scale.max(0).unsigned_abs());
    let digits = format!("{:0width$}", value.unsigned_abs(), width = scale + 1);
    let (whole, fraction) = digits.split_at(digits.len() - scale);
    let mut padded = "0".repeat((4 - whole.len() % 4) % 4);
    padded.push_str(whole);
    let mut weight = (padded.len() / 4) as i16 - 1;
    padded.push_str(fraction);
    padded.push_str(&"0".repeat((4 - padded.len() % 4) % 4));
    let groups =
        padded.as_bytes().chunks(4).map(|group| group.iter().fold(0_u16, |n, digit| n * 10 + u16::from(digit - b'0')));
    let mut groups: Vec<u16> = groups.collect();
    while groups.last() == Some(&0) {
        groups.pop();
    }
    while groups.first() == Some(&0) {
        groups.remove(0);
        weight -= 1;
    }
    let sign: u16 = if value < 0 { 0x4000 } else { 0 };
    out.extend_from_slice(&(groups.len() as u16).to_be_bytes());
    out.extend_from_slice(&(if groups.is_empty() { 0 } else { weight }).to_be_bytes());
    out.extend_from_slice(&sign.to_be_bytes());
    out.extend_from_slice(&(scale as u16).to_be_bytes());
    groups.iter().for_each(|group| out.extend_from_slice(&group.to_be_bytes()));
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::array::new_null_array;
    use arrow::datatypes::IntervalMonthDayNano;

    use super::*;

    fn texts(column: ArrayRef) -> Vec<String> {
        let values = Values::of(&column).expect("it is written");
        let text = |row| {
            let mut out = Vec::new();
            values.text(row, &mut out);
            String::from_utf8(out).expect("it is text")
        };
        (0..column.len()).map(text).collect()
    }

    #[test]
    fn floats_as_postgres_writes_them() {
        let values = [
            0.0,
            -0.0,
            1.0,
            -2.5,
            0.1,
            100.0,
            0.0001,
            0.00001,
            1e14,
            1e15,
            1.25e300,
            f64::NAN,
            f64::NEG_INFINITY,
            1234.5,
        ];
        let expected = [
            "0",
            "-0",
            "1",
            "-2.5",
            "0.1",
            "100",
            "0.0001",
            "1e-05",
            "100000000000000",
            "1e+15",
            "1.25e+300",
            "NaN",
            "-Infinity",
            "1234.5",
        ];
        assert_eq!(texts(Arc::new(Float64Array::from(values.to_vec()))), expected);
        assert_eq!(texts(Arc::new(Float32Array::from(vec![1e6, 0.1, 123_456.0]))), ["1e+06", "0.1", "123456"]);
    }

    #[test]
    fn times_as_postgres_writes_them() {
        let moments = TimestampMicrosecondArray::from(vec![0, 1_714_521_600_120_000, -1]);
        let plain: ArrayRef = Arc::new(moments.clone());
        assert_eq!(texts(plain), ["1970-01-01 00:00:00", "2024-05-01 00:00:00.12", "1969-12-31 23:59:59.999999"]);
        assert_eq!(texts(Arc::new(moments.with_timezone("UTC")))[1], "2024-05-01 00:00:00.12+00");
        assert_eq!(texts(Arc::new(Date32Array::from(vec![0, EPOCH_DAYS]))), ["1970-01-01", "2000-01-01"]);
        assert_eq!(texts(Arc::new(Time64MicrosecondArray::from(vec![3_661_500_000]))), ["01:01:01.5"]);
        let interval = |months, days, seconds: i64| IntervalMonthDayNano::new(months, days, seconds * 1_000_000_000);
        let intervals = vec![interval(14, 1, 3_600), interval(0, 0, 0), interval(0, -3, -1)];
        assert_eq!(
            texts(Arc::new(IntervalMonthDayNanoArray::from(intervals))),
            ["1 year 2 mons 1 day 01:00:00", "00:00:00", "-3 days -00:00:01"]
        );
    }

    #[test]
    fn lists_and_bytes() {
        let lists = ListArray::from_iter_primitive::<Int64Type, _, _>([Some(vec![Some(1), None]), Some(vec![])]);
        assert_eq!(texts(Arc::new(lists)), ["{1,NULL}", "{}"]);
        let items = StringArray::from(vec![Some("a b"), Some("\"q\\"), Some("null"), Some("x"), Some("")]);
        let items: ArrayRef = Arc::new(items);
        let mut text = String::new();
        list(&Values::of(&items).expect("texts"), 0..5, &mut text);
        assert_eq!(text, r#"{"a b","\"q\\","null",x,""}"#);
        assert_eq!(texts(Arc::new(BinaryArray::from(vec![[0_u8, 255].as_slice()]))), ["\\x00ff"]);
        let vectors =
            LargeListArray::from_iter_primitive::<UInt32Type, _, _>([Some(vec![Some(20), Some(25)]), Some(vec![])]);
        assert_eq!(texts(Arc::new(vectors)), ["20 25", ""]);
    }

    #[test]
    fn binary_forms() {
        let binary = |column: ArrayRef| {
            let mut out = Vec::new();
            Values::of(&column).expect("it is written").put(0, Form::Binary, &mut out);
            out
        };
        assert_eq!(binary(Arc::new(Int64Array::from(vec![1]))), [0, 0, 0, 8, 0, 0, 0, 0, 0, 0, 0, 1]);
        assert_eq!(binary(new_null_array(&DataType::Utf8, 1)), [0xff; 4]);
        let vector = LargeListArray::from_iter_primitive::<UInt32Type, _, _>([Some(vec![Some(20)])]);
        let words = [28_u32, 1, 0, 26, 1, 0, 4, 20]; // all its bytes, one dimension, no null, of `oid`, one item, from 0
        assert_eq!(binary(Arc::new(vector)), words.map(u32::to_be_bytes).concat());
        assert_eq!(binary(Arc::new(Date32Array::from(vec![EPOCH_DAYS + 1]))), [0, 0, 0, 4, 0, 0, 0, 1]);
        // 12345.678: the groups 1, 2345 and 6780.
        let decimal = Decimal128Array::from(vec![12_345_678]).with_precision_and_scale(38, 3).expect("it fits");
        let groups = [0, 3, 0, 1, 0, 0, 0, 3, 0, 1, 0x09, 0x29, 0x1a, 0x7c];
        assert_eq!(binary(Arc::new(decimal))[4..], groups);
        let zero = Decimal128Array::from(vec![0]).with_precision_and_scale(38, 2).expect("it fits");
        assert_eq!(binary(Arc::new(zero))[4..], [0, 0, 0, 0, 0, 0, 0, 2]);
    }
}
