//! Small tables, written row by row: those of the catalogues.

use std::sync::Arc;

use arrow::array::{ArrayRef, RecordBatch, new_null_array};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use datafusion::catalog::{MemTable, TableProvider};
use datafusion::common::ScalarValue;
use datafusion::error::Result;

use super::types;

/// A value of a sheet.
#[derive(Clone, Debug)]
pub(crate) enum Cell {
    Null,
    Number(i64),
    Text(String),
    Truth(bool),
    Float(f64),
    /// Numbers of the catalogue.
    Oids(Vec<u32>),
}

impl From<i64> for Cell {
    fn from(number: i64) -> Self {
        Cell::Number(number)
    }
}

impl From<&str> for Cell {
    fn from(text: &str) -> Self {
        Cell::Text(text.to_owned())
    }
}

impl From<String> for Cell {
    fn from(text: String) -> Self {
        Cell::Text(text)
    }
}

impl From<f64> for Cell {
    fn from(float: f64) -> Self {
        Cell::Float(float)
    }
}

impl From<Vec<u32>> for Cell {
    fn from(oids: Vec<u32>) -> Self {
        Cell::Oids(oids)
    }
}

impl From<bool> for Cell {
    fn from(truth: bool) -> Self {
        Cell::Truth(truth)
    }
}

impl<T: Into<Cell>> From<Option<T>> for Cell {
    fn from(value: Option<T>) -> Self {
        value.map_or(Cell::Null, Into::into)
    }
}

/// A table with its rows.
pub(crate) struct Sheet {
    schema: SchemaRef,
    rows: Vec<Vec<Cell>>,
}

impl Sheet {
    /// An empty one. Each word of `columns` is a name and, after a colon, a type: `o` (a number of the catalogue), `ov` (several), `i2`,
    /// `i4`, `i8`, `f` and `f8` (floats), `b` (truth), `t` (text), `ts` (a time, as microseconds), `[…]` for a list; text when it has none.
    pub(crate) fn new(columns: &str) -> Self {
        let field = |column: &str| {
            let (name, kind) = column.split_once(':').unwrap_or((column, "t"));
            let list = kind.strip_prefix('[').and_then(|kind| kind.strip_suffix(']'));
            let arrow = match list {
                Some(item) => DataType::new_list(plain(item), true),
                None => plain(kind),
            };
            Field::new(name, arrow, true)
        };
        let schema = Schema::new(columns.split_whitespace().map(field).collect::<Vec<_>>());
        Sheet { schema: Arc::new(schema), rows: Vec::new() }
    }

    /// Adds a row; the columns that it does not name are null.
    pub(crate) fn add<const N: usize>(&mut self, cells: [(&str, Cell); N]) {
        let mut row = vec![Cell::Null; self.schema.fields().len()];
        for (name, cell) in cells {
            let place = self.schema.index_of(name).expect("a row names columns of its sheet");
            row[place] = cell;
        }
        self.rows.push(row);
    }

    pub(crate) fn schema(&self) -> SchemaRef {
        self.schema.clone()
    }

    /// The table.
    pub(crate) fn table(self) -> Result<Arc<dyn TableProvider>> {
        let column = |(place, field): (usize, &Arc<Field>)| -> Result<ArrayRef> {
            if self.rows.is_empty() {
                return Ok(new_null_array(field.data_type(), 0));
            }
            let scalar = |row: &Vec<Cell>| -> Result<ScalarValue> {
                let value = match &row[place] {
                    Cell::Null => return ScalarValue::try_from(field.data_type()),
                    Cell::Number(number) => ScalarValue::Int64(Some(*number)),
                    Cell::Text(text) => ScalarValue::Utf8(Some(text.clone())),
                    Cell::Truth(truth) => ScalarValue::Boolean(Some(*truth)),
                    Cell::Float(float) => ScalarValue::Float64(Some(*float)),
                    Cell::Oids(oids) => {
                        let oids: Vec<ScalarValue> = oids.iter().map(|oid| ScalarValue::UInt32(Some(*oid))).collect();
                        ScalarValue::LargeList(ScalarValue::new_large_list(&oids, &types::OID))
                    }
                };
                value.cast_to(field.data_type())
            };
            ScalarValue::iter_to_array(self.rows.iter().map(scalar).collect::<Result<Vec<_>>>()?)
        };
        let columns = self.schema.fields().iter().enumerate().map(column).collect::<Result<Vec<_>>>()?;
        let batch = RecordBatch::try_new(self.schema.clone(), columns)?;
        Ok(Arc::new(MemTable::try_new(self.schema.clone(), vec![vec![batch]])?))
    }
}

fn plain(kind: &str) -> DataType {
    match kind {
        "o" => types::OID,
        "ov" => types::oid_vector(),
        "i8" => DataType::Int64,
        "i2" => DataType::Int16,
        "i4" => DataType::Int32,
        "f" => DataType::Float32,
        "f8" => DataType::Float64,
        "b" => DataType::Boolean,
        "ts" => streamgauge_schemas::stream::timestamp_type(),
        _ => DataType::Utf8,
    }
}
