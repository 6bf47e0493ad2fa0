//! Values that clients give for parameters, read from text or binary.
//!
//! Texts are read as the type that the parameter has, by the same casts that SQL uses.

use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, BinaryArray, BooleanArray, Date32Array, Float32Array, Float64Array, Int16Array, Int32Array,
    Int64Array, IntervalMonthDayNanoArray, ListArray, StringArray, Time64MicrosecondArray, TimestampMicrosecondArray,
    UInt32Array, new_null_array,
};
use arrow::buffer::OffsetBuffer;
use arrow::compute::{CastOptions, cast_with_options, concat};
use arrow::datatypes::{DataType, Field, IntervalMonthDayNano};
use arrow::util::display::FormatOptions;
use streamgauge_queries::postgres::types;

use super::error::PostgresError;
use super::message::Form;
use super::value::{EPOCH_DAYS, EPOCH_US};

/// Reads a value of the type with the number `kind`, which is `arrow` in a question; an array with the one value.
pub(super) fn read(value: Option<&[u8]>, form: Form, kind: u32, arrow: &DataType) -> Result<ArrayRef, PostgresError> {
    let Some(bytes) = value else { return Ok(new_null_array(arrow, 1)) };
    match form {
        Form::Text => from_text(bytes, arrow),
        Form::Binary => from_binary(bytes, kind),
    }
    .map_err(|reason| {
        let name = types::sql_name(kind);
        let state = if form == Form::Text { "22P02" } else { "22P03" };
        PostgresError::new(state, format!("a parameter cannot be read as {name}: {reason}"))
    })
}

fn from_text(bytes: &[u8], arrow: &DataType) -> Result<ArrayRef, String> {
    let text = std::str::from_utf8(bytes).map_err(|_| "it is not UTF-8".to_owned())?;
    match arrow {
        DataType::Utf8 => Ok(Arc::new(StringArray::from(vec![text]))),
        DataType::Binary => Ok(Arc::new(BinaryArray::from(vec![from_hex(text)?.as_slice()]))),
        DataType::List(item) => {
            let items = items(text).ok_or_else(|| format!("{text:?} is not a list such as {{a,b}}"))?;
            let items = items.iter().map(|value| match value {
                Some(value) => from_text(value.as_bytes(), item.data_type()),
                None => Ok(new_null_array(item.data_type(), 1)),
            });
            list(items.collect::<Result<_, _>>()?, item.data_type())
        }
        other => {
            let options = CastOptions { safe: false, format_options: FormatOptions::default() };
            let text = day_with_zone(text.trim(), other).unwrap_or_else(|| text.trim().to_owned());
            let text: ArrayRef = Arc::new(StringArray::from(vec![text]));
            cast_with_options(&text, other, &options).map_err(|error| error.to_string())
        }
    }
}

/// A day with a zone, such as `2024-02-29 +00`, as JDBC writes dates, in the form that casts take.
fn day_with_zone(text: &str, arrow: &DataType) -> Option<String> {
    let (day, zone) = text.split_at_checked(10)?;
    let zone = zone.trim_start();
    let is_zone = |zone: &str| !zone.is_empty() && zone.bytes().all(|byte| byte.is_ascii_digit() || byte == b':');
    if !zone.strip_prefix(['+', '-']).is_some_and(is_zone)
        || day.bytes().any(|byte| !byte.is_ascii_digit() && byte != b'-')
    {
        return None;
    }
    match arrow {
        DataType::Date32 | DataType::Date64 => Some(day.to_owned()),
        DataType::Timestamp(_, Some(_)) => Some(format!("{day} 00:00:00{zone}")),
        _ => None,
    }
}

fn from_hex(text: &str) -> Result<Vec<u8>, String> {
    let Some(digits) = text.strip_prefix("\\x") else { return Ok(text.as_bytes().to_vec()) };
    let pair = |pair: &[u8]| {
        let pair = std::str::from_utf8(pair).ok().filter(|pair| pair.len() == 2)?;
        u8::from_str_radix(pair, 16).ok()
    };
    digits
        .as_bytes()
        .chunks(2)
        .map(pair)
        .collect::<Option<_>>()
        .ok_or_else(|| "its hexadecimal digits are wrong".into())
}

/// The items of `{a,"b c",NULL}`; lists within are not read.
fn items(text: &str) -> Option<Vec<Option<String>>> {
    let inner = text.trim().strip_prefix('{')?.strip_suffix('}')?;
    let mut found = Vec::new();
    if inner.trim().is_empty() {
        return Some(found);
    }
    let mut characters = inner.chars();
    loop {
        let (mut item, mut quoted, mut within) = (String::new(), false, false);
        let ended = loop {
            match characters.next() {
                None => break true,
                Some('"') => {
                    quoted = true;
                    within = !within;
                }
                Some('\\') => item.push(characters.next()?),
                Some(',') if !within => break false,
                Some('{' | '}') if !within => return None,
                Some(other) => item.push(other),
            }
        };
        let is_null = !quoted && item.trim().eq_ignore_ascii_case("null");
        found.push((!is_null).then(|| if quoted { item } else { item.trim().to_owned() }));
        if ended {
            return (!within).then_some(found);
        }
    }
}

fn list(items: Vec<ArrayRef>, item: &DataType) -> Result<ArrayRef, String> {
    let parts: Vec<&dyn Array> = items.iter().map(AsRef::as_ref).collect();
    let values = match parts.is_empty() {
        true => new_null_array(item, 0),
        false => concat(&parts).map_err(|error| error.to_string())?,
    };
    let field = Arc::new(Field::new_list_field(values.data_type().clone(), true));
    let offsets = OffsetBuffer::from_lengths([values.len()]);
    ListArray::try_new(field, offsets, values, None).map(|list| Arc::new(list) as ArrayRef).map_err(|e| e.to_string())
}

fn from_binary(bytes: &[u8], kind: u32) -> Result<ArrayRef, String> {
    fn fixed<const N: usize>(bytes: &[u8]) -> Result<[u8; N], String> {
        bytes.try_into().map_err(|_| format!("it has {} bytes, and takes {N}", bytes.len()))
    }
    if let Some(item) = types::TYPES.iter().find(|item| item.array == kind && kind != 0) {
        return array_from_binary(bytes, item.oid);
    }
    Ok(match kind {
        16 => Arc::new(BooleanArray::from(vec![fixed::<1>(bytes)?[0] != 0])),
        17 => Arc::new(BinaryArray::from(vec![bytes])),
        20 => Arc::new(Int64Array::from(vec![i64::from_be_bytes(fixed(bytes)?)])),
        21 => Arc::new(Int16Array::from(vec![i16::from_be_bytes(fixed(bytes)?)])),
        23 => Arc::new(Int32Array::from(vec![i32::from_be_bytes(fixed(bytes)?)])),
        24 | 26 | 2205 => Arc::new(UInt32Array::from(vec![u32::from_be_bytes(fixed(bytes)?)])),
        700 => Arc::new(Float32Array::from(vec![f32::from_be_bytes(fixed(bytes)?)])),
        701 => Arc::new(Float64Array::from(vec![f64::from_be_bytes(fixed(bytes)?)])),
        18 | 19 | 25 | 114 | 705 | 1042 | 1043 => from_text(bytes, &DataType::Utf8)?,
        3802 => from_text(bytes.get(1..).unwrap_or_default(), &DataType::Utf8)?,
        1082 => Arc::new(Date32Array::from(vec![i32::from_be_bytes(fixed(bytes)?).saturating_add(EPOCH_DAYS)])),
        1083 => Arc::new(Time64MicrosecondArray::from(vec![i64::from_be_bytes(fixed(bytes)?)])),
        1114 | 1184 => {
            let micros = i64::from_be_bytes(fixed(bytes)?).saturating_add(EPOCH_US);
            let moment = TimestampMicrosecondArray::from(vec![micros]);
            Arc::new(if kind == 1184 { moment.with_timezone("UTC") } else { moment })
        }
        1186 => {
            let bytes: [u8; 16] = fixed(bytes)?;
            let (micros, days, months) = (fixed(&bytes[..8])?, fixed(&bytes[8..12])?, fixed(&bytes[12..])?);
            let nanos = i64::from_be_bytes(micros).checked_mul(1_000).ok_or("it is too long")?;
            let interval = IntervalMonthDayNano::new(i32::from_be_bytes(months), i32::from_be_bytes(days), nanos);
            Arc::new(IntervalMonthDayNanoArray::from(vec![interval]))
        }
        1700 => from_text(numeric(bytes)?.as_bytes(), &DataType::Decimal128(38, 10))?,
        2950 => {
            let digits: String = fixed::<16>(bytes)?.iter().map(|byte| format!("{byte:02x}")).collect();
            let parts = [&digits[..8], &digits[8..12], &digits[12..16], &digits[16..20], &digits[20..]];
            from_text(parts.join("-").as_bytes(), &DataType::Utf8)?
        }
        _ => return Err("its type is not read in binary; send it as text".into()),
    })
}

/// A `numeric` as text.
fn numeric(bytes: &[u8]) -> Result<String, String> {
    let words: Vec<u16> = bytes.chunks_exact(2).map(|pair| u16::from_be_bytes([pair[0], pair[1]])).collect();
    let [count, weight, sign, scale, groups @ ..] = &words[..] else { return Err("it is too short".into()) };
    if usize::from(*count) != groups.len() || groups.iter().any(|group| *group > 9_999) || *scale > 1_000 {
        return Err("its groups are wrong".into());
    }
    let negative = match sign {
        0 => false,
        0x4000 => true,
        _ => return Err("it is not a number".into()),
    };
    let weight = i32::from(weight.cast_signed());
    if weight > 100 {
        return Err("it is too large".into());
    }
    let group =
        |place: i32| usize::try_from(weight - place).ok().and_then(|place| groups.get(place)).copied().unwrap_or(0);
    let whole: String = (0..=weight.max(0)).rev().map(|place| format!("{:04}", group(place))).collect();
    let places = i32::from(scale.div_ceil(4));
    let fraction: String = (1..=places).map(|place| format!("{:04}", group(-place))).collect();
    let whole = whole.trim_start_matches('0');
    let whole = if whole.is_empty() { "0" } else { whole };
    let sign = if negative { "-" } else { "" };
    Ok(format!("{sign}{whole}.{}", &fraction[..usize::from(*scale)]))
}

fn array_from_binary(bytes: &[u8], item: u32) -> Result<ArrayRef, String> {
    let short = || "it ends too early".to_owned();
    let number = |at: usize| {
        let bytes = bytes.get(at..at + 4).ok_or_else(short)?;
        Ok::<i32, String>(i32::from_be_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]))
    };
    let arrow = types::arrow_of(item).ok_or("its items are not read in binary; send it as text")?;
    let count = match number(0)? {
        0 => 0,
        1 => number(12)?,
        _ => return Err("it has more than one dimension".into()),
    };
    let (mut at, mut items) = (20, Vec::new());
    for _ in 0..count {
        let length = number(at)?;
        at += 4;
        match usize::try_from(length) {
            Ok(length) => {
                items.push(from_binary(bytes.get(at..at + length).ok_or_else(short)?, item)?);
                at += length;
            }
            Err(_) => items.push(new_null_array(&arrow, 1)),
        }
    }
    list(items, &arrow)
}

#[cfg(test)]
mod tests {
    use arrow::array::{AsArray, Decimal128Array};
    use arrow::datatypes::{Int64Type, UInt32Type};
    use streamgauge_schemas::stream::timestamp_type;

    use super::super::value::Values;
    use super::*;

    fn text(value: &str, arrow: &DataType) -> Result<ArrayRef, PostgresError> {
        read(Some(value.as_bytes()), Form::Text, types::oid_of(arrow), arrow)
    }

    #[test]
    fn texts_are_read_as_their_type() {
        assert_eq!(text("17", &DataType::Int64).unwrap().as_ref(), &Int64Array::from(vec![17]) as &dyn Array);
        for (truth, expected) in [("t", true), ("false", false), ("on", true), ("0", false)] {
            let read = text(truth, &DataType::Boolean).unwrap();
            assert_eq!(read.as_boolean().value(0), expected, "{truth}");
        }
        for moment in ["2024-05-01 00:00:00+00", "2024-05-01T02:00:00+02:00", "2024-05-01"] {
            let read = text(moment, &timestamp_type()).unwrap();
            let expected = TimestampMicrosecondArray::from(vec![1_714_521_600_000_000]).with_timezone("UTC");
            assert_eq!(read.as_ref(), &expected as &dyn Array, "{moment}");
        }
        let day = text("2024-05-01 +02", &DataType::Date32).unwrap();
        assert_eq!(day.as_ref(), &Date32Array::from(vec![19_844]) as &dyn Array);
        let midnight = text("2024-05-01 +02", &timestamp_type()).unwrap();
        let expected = TimestampMicrosecondArray::from(vec![1_714_514_400_000_000]).with_timezone("UTC");
        assert_eq!(midnight.as_ref(), &expected as &dyn Array, "two hours before that in UTC");
        assert!(text("2024-05-01 +soon", &DataType::Date32).is_err());
        let list = text("{1,NULL,3}", &DataType::new_list(DataType::Int64, true)).unwrap();
        let items = list.as_list::<i32>().value(0);
        assert_eq!(items.as_primitive::<Int64Type>(), &Int64Array::from(vec![Some(1), None, Some(3)]));
        assert_eq!(
            items_of(r#"{"a,b",c,"\"d","NULL",null,""}"#),
            [Some("a,b"), Some("c"), Some("\"d"), Some("NULL"), None, Some("")]
        );
        let error = text("x", &DataType::Int64).unwrap_err();
        assert_eq!(error.state, "22P02");
        assert!(error.message.contains("bigint"), "{}", error.message);
    }

    fn items_of(text: &str) -> Vec<Option<&'static str>> {
        items(text).unwrap().into_iter().map(|item| item.map(|item| &*item.leak())).collect()
    }

    #[test]
    fn what_is_written_in_binary_is_read_as_the_same() {
        let decimal = |value| Decimal128Array::from(vec![value]).with_precision_and_scale(38, 10).unwrap();
        let columns: Vec<ArrayRef> = vec![
            Arc::new(BooleanArray::from(vec![true])),
            Arc::new(Int16Array::from(vec![-2])),
            Arc::new(Int32Array::from(vec![-3])),
            Arc::new(Int64Array::from(vec![i64::MIN])),
            Arc::new(UInt32Array::from(vec![u32::MAX])),
            Arc::new(ListArray::from_iter_primitive::<UInt32Type, _, _>([Some(vec![Some(7), None])])),
            Arc::new(Float32Array::from(vec![1.5])),
            Arc::new(Float64Array::from(vec![-0.1])),
            Arc::new(decimal(-123_456_789_012_345)),
            Arc::new(decimal(7)),
            Arc::new(decimal(0)),
            Arc::new(StringArray::from(vec!["é"])),
            Arc::new(BinaryArray::from(vec![[1_u8, 0].as_slice()])),
            Arc::new(Date32Array::from(vec![19_844])),
            Arc::new(Time64MicrosecondArray::from(vec![1])),
            Arc::new(TimestampMicrosecondArray::from(vec![1]).with_timezone("UTC")),
            Arc::new(IntervalMonthDayNanoArray::from(vec![IntervalMonthDayNano::new(1, 2, 3_000)])),
            Arc::new(ListArray::from_iter_primitive::<Int64Type, _, _>([Some(vec![Some(1), None])])),
        ];
        for column in columns {
            let mut bytes = Vec::new();
            Values::of(&column).unwrap().put(0, Form::Binary, &mut bytes);
            let kind = types::oid_of(column.data_type());
            let read = read(Some(&bytes[4..]), Form::Binary, kind, column.data_type()).unwrap();
            assert_eq!(&read, &column);
            let wrong = super::read(Some(&bytes[4..bytes.len() - 1]), Form::Binary, kind, column.data_type());
            assert!(matches!(kind, 17 | 25) || wrong.is_err(), "{kind}");
        }
    }
}
