//! What comes back of random batches of every type, against the answer in JSON.

use std::io::Read;

use arrow::array::{Array, Int64Array, RecordBatch, StringArray, TimestampMicrosecondArray};
use arrow::compute::{cast, concat_batches};
use arrow::datatypes::{DataType, TimeUnit};
use arrow::ipc::reader::StreamReader;
use bytes::Bytes;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use proptest::prelude::*;
use serde_json::Value;

use super::sheet::{self, Cell};
use super::*;
use crate::format::xlsx::{ROWS_MAX, Sheet};

/// The rows as the answer in JSON has them; numbers are the texts of their digits.
fn rows_of_json(batch: &RecordBatch) -> Vec<Vec<Box<serde_json::value::RawValue>>> {
    json_rows(batch).unwrap().iter().map(|row| serde_json::from_str(row).unwrap()).collect()
}

/// The text of a value, as CSV has it.
fn plain(json: &str) -> String {
    match serde_json::from_str(json).unwrap() {
        Value::String(text) => text,
        _ => json.to_owned(),
    }
}

/// Fields with whether they had quotes.
fn read_csv(text: &str) -> Vec<Vec<(String, bool)>> {
    let (mut rows, mut row, mut field, mut was_quoted, mut is_quoted) =
        (Vec::new(), Vec::new(), String::new(), false, false);
    let mut characters = text.chars().peekable();
    while let Some(next) = characters.next() {
        match next {
            '"' if is_quoted && characters.peek() == Some(&'"') => {
                characters.next();
                field.push('"');
            }
            '"' => {
                is_quoted = !is_quoted;
                was_quoted = true;
            }
            ',' | '\n' if !is_quoted => {
                row.push((std::mem::take(&mut field), std::mem::take(&mut was_quoted)));
                if next == '\n' {
                    rows.push(std::mem::take(&mut row));
                }
            }
            other => field.push(other),
        }
    }
    assert!(row.is_empty() && field.is_empty(), "the last line ends");
    rows
}

fn xlsx(batches: &[RecordBatch]) -> Result<Vec<u8>, QueryError> {
    let mut sheet = Sheet::new(&batches[0].schema())?;
    for batch in batches {
        sheet = sheet.with(batch)?;
    }
    let mut file = Vec::new();
    sheet.packed()?.read_to_end(&mut file).unwrap();
    Ok(file)
}

/// Microseconds since 1970 of a number of Excel's, to the nearest.
fn micros(days: f64) -> i64 {
    let day = days.floor();
    (day as i64 - 25_569) * 86_400_000_000 + ((days - day) * 86_400e6).round() as i64
}

/// Checks a cell against the value in JSON and the value itself.
fn check_cell(cell: Option<&Cell>, json: &str, column: &dyn Array, row: usize) {
    let kind = column.data_type();
    let at = || format!("{kind}: {json} is {cell:?}");
    let value = |kind| cast(&column.slice(row, 1), &kind).unwrap();
    let micros_of = |kind| value(kind).as_any().downcast_ref::<TimestampMicrosecondArray>().unwrap().value(0);
    match cell {
        None => assert_eq!(json, "null", "{}", at()),
        Some(Cell::Truth(truth)) => assert_eq!(json, truth.to_string(), "{}", at()),
        Some(Cell::Text(text)) => assert_eq!(*text, plain(json), "{}", at()),
        // Each digit that the answer in JSON has comes back.
        Some(Cell::Number(number)) => match json.parse::<i128>() {
            Ok(whole) => assert_eq!(*number as i128, whole, "{}", at()),
            // Between two texts of the same length that both mean it, the forms may differ.
            Err(_) if *kind == DataType::Float32 => {
                assert_eq!(*number as f32, json.parse::<f32>().unwrap(), "{}", at())
            }
            Err(_) => assert_eq!(number.to_bits(), json.parse::<f64>().unwrap().to_bits(), "{}", at()),
        },
        Some(Cell::Styled(days, _)) => match kind {
            DataType::Timestamp(unit, _) => {
                let expected = micros_of(DataType::Timestamp(TimeUnit::Microsecond, None));
                // To the nearest of the column's own units.
                let half_a_unit = match unit {
                    TimeUnit::Second => 500_000,
                    TimeUnit::Millisecond => 500,
                    TimeUnit::Microsecond | TimeUnit::Nanosecond => 1,
                };
                assert!((micros(*days) - expected).abs() < half_a_unit, "{}", at());
            }
            DataType::Date32 => {
                let expected = value(DataType::Int32);
                let expected = cast(&expected, &DataType::Int64).unwrap();
                let expected = expected.as_any().downcast_ref::<Int64Array>().unwrap().value(0);
                assert_eq!(micros(*days), expected * 86_400_000_000, "{}", at());
            }
            _ => {
                let expected = value(DataType::Int64);
                let expected = expected.as_any().downcast_ref::<Int64Array>().unwrap().value(0);
                assert_eq!((days * 86_400e6).round() as i64, expected, "{}", at());
            }
        },
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 192, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn every_value_comes_back(first in random::columns(), second in random::columns()) {
        let batches = [random::batch(&first), random::batch(&second)];
        let all = concat_batches(&batches[0].schema(), &batches).unwrap();
        let expected = rows_of_json(&all);

        let reader = StreamReader::try_new(std::io::Cursor::new(arrow(&batches)), None).unwrap();
        let found: Vec<RecordBatch> = reader.map(Result::unwrap).collect();
        prop_assert_eq!(json_rows(&concat_batches(&all.schema(), &found).unwrap()).unwrap(), json_rows(&all).unwrap());

        check_parquet(parquet(&batches), &all);

        let lines = text(ndjson(&batches));
        prop_assert_eq!(lines.lines().count(), all.num_rows());
        for (line, row) in lines.lines().zip(&expected) {
            let values: std::collections::BTreeMap<String, Box<serde_json::value::RawValue>> =
                serde_json::from_str(line).unwrap();
            for (field, value) in all.schema().fields().iter().zip(row) {
                prop_assert_eq!(values[field.name()].get(), value.get());
            }
        }

        let lines = read_csv(&text(csv(&batches)));
        let names: Vec<(String, bool)> = all.schema().fields().iter().map(|f| (f.name().clone(), false)).collect();
        prop_assert_eq!(&lines[0], &names);
        prop_assert_eq!(lines.len() - 1, all.num_rows());
        for (line, row) in lines[1..].iter().zip(&expected) {
            for (((found, was_quoted), value), field) in line.iter().zip(row).zip(all.schema().fields()) {
                let is_null = found.is_empty() && !was_quoted;
                prop_assert_eq!(is_null, value.get() == "null", "{}", value.get());
                let is_same = is_null || *found == plain(value.get());
                // 177490.125 has two shortest forms as a float of 32 bits.
                let as_number = || match field.data_type() {
                    DataType::Float32 => found.parse::<f32>().ok() == value.get().parse::<f32>().ok(),
                    _ => found.parse::<f64>().ok() == value.get().parse::<f64>().ok(),
                };
                prop_assert!(is_same || as_number(), "{} is {}", found, value.get());
            }
        }

        let sheet = sheet::read(&xlsx(&batches).unwrap());
        for (column, field) in all.schema().fields().iter().enumerate() {
            prop_assert_eq!(&sheet.cells[&(0, column)], &Cell::Text(field.name().clone()));
            for (row, values) in expected.iter().enumerate() {
                check_cell(sheet.cells.get(&(row + 1, column)), values[column].get(), all.column(column), row);
            }
        }
    }
}

/// Types and values come back as they were; an interval as its text.
fn check_parquet(file: Bytes, expected: &RecordBatch) {
    let reader = ParquetRecordBatchReaderBuilder::try_new(file).unwrap();
    let schema = reader.schema().clone();
    let found: Vec<RecordBatch> = reader.build().unwrap().map(Result::unwrap).collect();
    let found = concat_batches(&schema, &found).unwrap();
    for (place, field) in expected.schema().fields().iter().enumerate() {
        let column = match field.data_type() {
            DataType::Interval(_) => cast(expected.column(place), &DataType::Utf8).unwrap(),
            _ => expected.column(place).clone(),
        };
        assert_eq!(found.column(place).data_type(), column.data_type(), "{}", field.name());
        let only = |column: &ArrayRef| RecordBatch::try_from_iter_with_nullable([("x", column.clone(), true)]).unwrap();
        let rows = |column| json_rows(&only(column)).unwrap();
        assert_eq!(rows(found.column(place)), rows(&column), "{}", field.name());
    }
}

#[test]
fn times_are_dates_of_excel_as_far_as_it_has_them() {
    let text = |text: &str| Some(Cell::Text(text.to_owned()));
    for (micros, expected) in [
        (1_714_521_600_000_000, Some(Cell::Styled(45_413.0, 2))),
        (1_714_521_600_500_001, None), // a number that check_cell compares to the microsecond
        (-2_208_988_800_000_000, text("1900-01-01T00:00:00Z")),
        (253_402_300_800_000_000, text("+10000-01-01T00:00:00Z")),
    ] {
        let array: ArrayRef = Arc::new(TimestampMicrosecondArray::from(vec![micros]).with_timezone("UTC"));
        let batch = RecordBatch::try_from_iter([("ts", array.clone())]).unwrap();
        let sheet = sheet::read(&xlsx(std::slice::from_ref(&batch)).unwrap());
        let cell = &sheet.cells[&(1, 0)];
        assert!(expected.is_none_or(|expected| *cell == expected), "{micros}: {cell:?}");
        check_cell(Some(cell), rows_of_json(&batch)[0][0].get(), &array, 0);
    }
}

#[test]
fn a_sheet_has_a_head_that_stays_and_filters() {
    let file = xlsx(&[batch()]).unwrap();
    let sheet = sheet::read(&file);
    assert!(sheet.xml.contains("state=\"frozen\""), "{}", sheet.xml);
    assert!(sheet.xml.contains("<autoFilter ref=\"A1:G3\"/>"), "{}", sheet.xml);
    assert!(sheet.xml.contains("<c r=\"A1\" s=\"1\""), "{}", sheet.xml);
    let styles = sheet::unzipped(&file, "xl/styles.xml");
    assert!(styles.contains("<b/>") && styles.contains("yyyy-mm-dd hh:mm:ss.000"), "{styles}");
}

#[test]
fn a_sheet_that_is_too_large_is_refused_with_what_would_do() {
    let rows = |rows: i64| -> ArrayRef { Arc::new(Int64Array::from_iter_values(0..rows)) };
    let batch = |array| RecordBatch::try_from_iter([("n", array)]).unwrap();
    let most = i64::from(ROWS_MAX);
    let whole = xlsx(&[batch(rows(most))]).unwrap();
    assert!(sheet::unzipped(&whole, "xl/worksheets/sheet1.xml").contains("<c r=\"A1048576\"><v>1048574</v></c>"));
    let error = xlsx(&[batch(rows(most)), batch(rows(1))]).unwrap_err().to_string();
    assert!(error.contains("more than 1048575 rows") && error.contains("parquet"), "{error}");
    let long: ArrayRef = Arc::new(StringArray::from(vec!["x".repeat(32_768)]));
    let error = xlsx(&[batch(long)]).unwrap_err().to_string();
    assert!(error.contains("row 1, column \"n\"") && error.contains("32767"), "{error}");
    let wide = RecordBatch::try_from_iter((0..16_385).map(|column| (format!("c{column}"), rows(1)))).unwrap();
    let error = xlsx(&[wide]).unwrap_err().to_string();
    assert!(error.contains("16385 columns"), "{error}");
}
