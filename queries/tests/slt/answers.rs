//! How a question is asked of a place, and how its answer is written in a suite.

use std::fmt;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, RecordBatch};
use arrow::datatypes::{DataType, Float32Type, Float64Type, SchemaRef};
use arrow::util::display::{ArrayFormatter, FormatOptions};
use async_trait::async_trait;
use datafusion::physical_plan::collect;
use datafusion::prelude::SessionContext;
use futures::TryStreamExt;
use sqllogictest::{AsyncDB, ColumnType, DBOutput};
use streamgauge_queries::{AskOptions, QueryEngine};

/// The significant digits of a float: a sum may differ in the last ones by the order of its rows.
const DIGITS: usize = 12;

/// Who answers.
#[derive(Clone)]
pub(crate) struct Asker {
    pub(crate) place: &'static str,
    pub(crate) of: Of,
}

#[derive(Clone)]
pub(crate) enum Of {
    Ours(QueryEngine),
    Plain(SessionContext),
}

/// Why there is no answer.
#[derive(Debug)]
pub(crate) struct Failure(String);

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Failure {}

/// The letter of a column.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Letter(char);

impl ColumnType for Letter {
    fn from_char(value: char) -> Option<Self> {
        "TIRBPD?".contains(value).then_some(Letter(value))
    }

    fn to_char(&self) -> char {
        self.0
    }
}

fn letter(of: &DataType) -> Letter {
    Letter(match of {
        DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View => 'T',
        kind if kind.is_integer() => 'I',
        DataType::Float64 | DataType::Float32 | DataType::Decimal128(..) => 'R',
        DataType::Boolean => 'B',
        DataType::Timestamp(..) => 'P',
        DataType::Interval(_) | DataType::Duration(_) => 'D',
        _ => '?',
    })
}

impl Asker {
    async fn ask(&self, sql: &str) -> Result<(SchemaRef, Vec<RecordBatch>), Failure> {
        match &self.of {
            Of::Ours(queries) => {
                let fail = |error: streamgauge_queries::QueryError| Failure(error.to_string());
                let answer = queries.sql(sql, AskOptions::default()).await.map_err(fail)?;
                let schema = answer.schema.clone();
                Ok((schema, answer.try_collect().await.map_err(fail)?))
            }
            Of::Plain(context) => {
                let answer = async {
                    let state = context.state();
                    let plan = state.create_logical_plan(sql).await?;
                    let plan = state.create_physical_plan(&plan).await?;
                    Ok((plan.schema(), collect(plan, context.task_ctx()).await?))
                };
                answer.await.map_err(|error: datafusion::error::DataFusionError| Failure(error.strip_backtrace()))
            }
        }
    }
}

#[async_trait]
impl AsyncDB for Asker {
    type Error = Failure;
    type ColumnType = Letter;

    async fn run(&mut self, sql: &str) -> Result<DBOutput<Letter>, Failure> {
        let (schema, batches) = self.ask(sql).await?;
        let types = schema.fields().iter().map(|field| letter(field.data_type())).collect();
        Ok(DBOutput::Rows { types, rows: batches.iter().flat_map(rows).collect() })
    }

    async fn shutdown(&mut self) {}

    fn engine_name(&self) -> &str {
        self.place
    }
}

fn rows(batch: &RecordBatch) -> Vec<Vec<String>> {
    let columns: Vec<Vec<String>> = batch.columns().iter().map(cells).collect();
    (0..batch.num_rows()).map(|row| columns.iter().map(|column| column[row].clone()).collect()).collect()
}

fn cells(column: &ArrayRef) -> Vec<String> {
    let options = FormatOptions::new().with_null("NULL");
    let formatter = ArrayFormatter::try_new(column, &options).unwrap();
    let cell = |row: usize| match column.data_type() {
        _ if column.is_null(row) => "NULL".to_owned(),
        DataType::Float64 => float(column.as_primitive::<Float64Type>().value(row)),
        DataType::Float32 => float(f64::from(column.as_primitive::<Float32Type>().value(row))),
        _ => match formatter.value(row).to_string() {
            empty if empty.is_empty() => "(empty)".to_owned(),
            text => text.replace(char::is_whitespace, "␠"),
        },
    };
    (0..column.len()).map(cell).collect()
}

fn float(value: f64) -> String {
    let rounded: f64 = format!("{value:.*e}", DIGITS - 1).parse().unwrap();
    format!("{rounded:?}")
}

/// The batches with a schema, for a table in memory.
pub(crate) fn table(schema: SchemaRef, batches: Vec<RecordBatch>) -> Arc<datafusion::datasource::MemTable> {
    Arc::new(datafusion::datasource::MemTable::try_new(schema, vec![batches]).unwrap())
}
