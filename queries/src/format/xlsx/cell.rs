//! A value as a cell of Excel, which counts in floats and knows days from 1900 on. What would not come back as it was
//! is text: whole numbers beyond 2⁵³, decimals of more than 15 digits, times that are finer than a cell can hold.
//!
//! A null is no cell, and an empty text is a formula that gives one: Excel has no other way to tell them apart.

use arrow::array::{Array, ArrayRef, AsArray, BooleanArray};
use arrow::buffer::NullBuffer;
use arrow::compute::cast;
use arrow::datatypes::{DataType, Field, Float64Type, Int64Type, TimeUnit};
use arrow::error::ArrowError;
use arrow::util::display::{ArrayFormatter, FormatOptions};
use rust_xlsxwriter::{Format, Formula, Worksheet, XlsxError};

use super::super::{not_finite, unwritable};
use super::wrong;
use crate::error::QueryError;

/// Characters of a cell's text, in UTF-16.
const TEXT_MAX: usize = 32_767;
/// Up to here a float has every whole number.
const WHOLE_MAX: u64 = 1 << 53;
/// So many digits come back from a float as they were.
const DIGITS_MAX: usize = 15;
/// The day 1970-01-01 as Excel counts.
const UNIX_DAY: i64 = 25_569;
/// 1900-03-01: before it Excel counts a day that was not.
const DAY_MIN: i64 = 61;
/// 9999-12-31.
const DAY_MAX: i64 = 2_958_465;

/// How times are shown.
pub(super) struct Formats {
    time: Format,
    date: Format,
    clock: Format,
}

impl Default for Formats {
    fn default() -> Self {
        let shown = |text| Format::new().set_num_format(text);
        Formats { time: shown("yyyy-mm-dd hh:mm:ss.000"), date: shown("yyyy-mm-dd"), clock: shown("hh:mm:ss.000") }
    }
}

/// What a cell takes.
#[derive(Default)]
pub(super) struct Written {
    pub(super) bytes: usize,
    pub(super) width: usize,
}

/// The values of a column.
pub(super) struct Column<'a> {
    name: &'a str,
    nulls: Option<NullBuffer>,
    values: Values,
    texts: ArrayFormatter<'a>,
}

/// Values that may be other than text.
enum Values {
    Text,
    /// Numbers whose texts may be exact as floats: whole ones, decimals and short floats.
    Number,
    Float(ArrayRef),
    Truth(BooleanArray),
    /// Since 1970, in so many units a day.
    Time(ArrayRef, i64),
    Date(ArrayRef),
    /// Since midnight, in so many units a day.
    Clock(ArrayRef, i64),
}

impl<'a> Column<'a> {
    pub(super) fn new(field: &'a Field, column: &'a ArrayRef) -> Result<Self, ArrowError> {
        let kind = match column.data_type() {
            DataType::Dictionary(_, kind) => kind.as_ref(),
            kind => kind,
        };
        let whole = || cast(&cast(column, kind)?, &DataType::Int64);
        let values = match kind {
            DataType::Boolean => Values::Truth(cast(column, kind)?.as_boolean().clone()),
            DataType::Float64 => Values::Float(cast(column, kind)?),
            kind if kind.is_integer() || kind.is_floating() || kind.is_decimal() => Values::Number,
            DataType::Timestamp(unit, _) => Values::Time(whole()?, a_day(*unit)),
            DataType::Time32(unit) | DataType::Time64(unit) => Values::Clock(whole()?, a_day(*unit)),
            DataType::Date32 | DataType::Date64 => {
                Values::Date(cast(&cast(&cast(column, &DataType::Date32)?, &DataType::Int32)?, &DataType::Int64)?)
            }
            _ => Values::Text,
        };
        let options = FormatOptions::default().with_display_error(false);
        let texts = ArrayFormatter::try_new(column, &options)?;
        Ok(Column { name: field.name(), nulls: column.logical_nulls(), values, texts })
    }

    /// Writes the value of a row to a cell.
    pub(super) fn write(
        &self,
        row: usize,
        page: &mut Worksheet,
        to_row: u32,
        to_column: u16,
        formats: &Formats,
    ) -> Result<Written, QueryError> {
        if self.nulls.as_ref().is_some_and(|nulls| nulls.is_null(row)) {
            return Ok(Written::default());
        }
        let (number, format) = match &self.values {
            Values::Truth(truths) => {
                let written = page.write_boolean(to_row, to_column, truths.value(row));
                return done(written, Written { bytes: 1, width: 5 });
            }
            Values::Float(values) => {
                let value = values.as_primitive::<Float64Type>().value(row);
                (not_finite(value).is_none().then_some(value), None)
            }
            Values::Number => (exact(&self.text(row)?), None),
            Values::Time(values, a_day) => (time(value(values, row), *a_day), Some((&formats.time, 23))),
            Values::Date(values) => (day(value(values, row)).map(|day| day as f64), Some((&formats.date, 10))),
            Values::Clock(values, a_day) => {
                (Some(value(values, row) as f64 / *a_day as f64), Some((&formats.clock, 12)))
            }
            Values::Text => (None, None),
        };
        match (number, format) {
            (Some(number), Some((format, width))) => {
                let written = page.write_number_with_format(to_row, to_column, number, format);
                done(written, Written { bytes: 20, width })
            }
            (Some(number), None) => {
                done(page.write_number(to_row, to_column, number), Written { bytes: 20, width: 12 })
            }
            (None, _) => self.write_text(row, page, to_row, to_column),
        }
    }

    fn text(&self, row: usize) -> Result<String, QueryError> {
        let text = self.texts.value(row).try_to_string().map_err(|error| unwritable(&error))?;
        match text.as_str() {
            "inf" if !matches!(self.values, Values::Text) => Ok("Infinity".to_owned()),
            "-inf" if !matches!(self.values, Values::Text) => Ok("-Infinity".to_owned()),
            _ => Ok(text),
        }
    }

    fn write_text(&self, row: usize, page: &mut Worksheet, to_row: u32, to_column: u16) -> Result<Written, QueryError> {
        let text = self.text(row)?;
        let length = text.encode_utf16().count();
        if length > TEXT_MAX {
            let name = self.name;
            return Err(unwritable(&format_args!(
                "in row {to_row}, column {name:?} has a text of {length} characters, and a cell of Excel holds \
                 {TEXT_MAX}; ask for parquet or csv"
            )));
        }
        let written = Written { bytes: text.len(), width: width(&text) };
        match text.is_empty() {
            true => done(page.write_formula(to_row, to_column, Formula::new("=\"\"")), written),
            false => done(page.write_string(to_row, to_column, text), written),
        }
    }
}

/// The width of a text, in characters.
pub(super) fn width(text: &str) -> usize {
    text.lines().next().unwrap_or_default().chars().count()
}

fn done(cell: Result<&mut Worksheet, XlsxError>, written: Written) -> Result<Written, QueryError> {
    cell.map(|_| written).map_err(|error| wrong(&error))
}

fn value(values: &ArrayRef, row: usize) -> i64 {
    values.as_primitive::<Int64Type>().value(row)
}

fn a_day(unit: TimeUnit) -> i64 {
    86_400
        * match unit {
            TimeUnit::Second => 1,
            TimeUnit::Millisecond => 1_000,
            TimeUnit::Microsecond => 1_000_000,
            TimeUnit::Nanosecond => 1_000_000_000,
        }
}

/// The number of a text, if a float holds it exactly.
fn exact(text: &str) -> Option<f64> {
    let digits = text.bytes().filter(u8::is_ascii_digit).count();
    let whole = || text.parse::<i64>().is_ok_and(|value| value.unsigned_abs() <= WHOLE_MAX);
    let number = text.parse::<f64>().ok().filter(|number| not_finite(*number).is_none())?;
    (digits <= DIGITS_MAX || whole()).then_some(number)
}

/// The day since 1970 as Excel counts.
fn day(since_unix: i64) -> Option<i64> {
    since_unix.checked_add(UNIX_DAY).filter(|day| (DAY_MIN..=DAY_MAX).contains(day))
}

/// A time as days and parts of one, if it comes back from that as it was.
fn time(since_unix: i64, a_day: i64) -> Option<f64> {
    let (since_unix, a_day) = match (a_day / 86_400, since_unix % 1_000) {
        (1_000_000_000, 0) => (since_unix / 1_000, a_day / 1_000),
        (1_000_000_000, _) => return None,
        _ => (since_unix, a_day),
    };
    let day = day(since_unix.div_euclid(a_day))?;
    let part = since_unix.rem_euclid(a_day);
    let time = day as f64 + part as f64 / a_day as f64;
    let back = ((time - day as f64) * a_day as f64).round();
    (back == part as f64).then_some(time)
}
