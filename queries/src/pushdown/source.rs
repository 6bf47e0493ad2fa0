//! A stream in a translated plan: what ClickHouse has of it and what memory has, as one.

use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::datatypes::{DataType, Field, SchemaRef};
use datafusion::error::Result;
use streamgauge_engine::snapshot::StreamSnapshot;
use streamgauge_schemas::StreamId;
use streamgauge_schemas::stream::EPOCH_COLUMN;

use crate::clickhouse;
use crate::history::ExternalTable;
use crate::tables::{StreamTable, memory_batches};

/// What ClickHouse has of a stream.
pub(super) struct HistoryPart {
    pub(super) table: String,
    /// The epoch up to which it counts.
    pub(super) flushed: String,
    /// Parts of the table that count as a whole.
    pub(super) settled: Vec<String>,
}

/// See the module.
#[derive(Clone, Debug)]
pub(super) struct Source {
    alias: String,
    number: usize,
    pub(super) stream: StreamId,
    /// The stream's name.
    pub(super) name: String,
    /// How many columns it has.
    shown: usize,
    /// The columns, or instead of none the time: a table has at least one.
    columns: Vec<usize>,
    read: SchemaRef,
    /// What rows must meet.
    pub(super) conditions: Vec<String>,
    /// The order of rows and how many of the first are enough.
    pub(super) first: Option<(String, usize)>,
}

impl Source {
    pub(super) fn new(table: &StreamTable, alias: String, columns: Vec<usize>, number: usize) -> Self {
        let shown = columns.len();
        let columns = if columns.is_empty() { vec![0] } else { columns };
        let read = table.stream_schema().project(&columns).expect("a scan names columns of its table").into();
        let (stream, name) = (table.stream(), table.name().to_owned());
        Source { alias, number, stream, name, shown, columns, read, conditions: Vec::new(), first: None }
    }

    /// What its columns are called.
    pub(super) fn columns(&self) -> Vec<String> {
        let fields = self.read.fields().iter().take(self.shown);
        fields.map(|field| format!("{}.{}", self.alias, clickhouse::name(field.name()))).collect()
    }

    /// Where it stands in a translated plan; no name and no literal has such a character.
    pub(super) fn mark(&self) -> String {
        format!("\0{}\0", self.number)
    }

    /// The subquery that stands for it; `memory` is the table of what memory has, if it has something.
    pub(super) fn sql(&self, history: &HistoryPart, memory: Option<&str>) -> String {
        let alias = &self.alias;
        // Events of a stream are younger than the stream; older ones in a table of its name are those of one deleted before.
        let epochs =
            format!("{alias}.{EPOCH_COLUMN} > {} AND {alias}.{EPOCH_COLUMN} <= {}", self.stream.0, history.flushed);
        let settled = history.settled.iter().map(|part| clickhouse::text(part)).collect::<Vec<_>>().join(", ");
        let mut parts = match history.settled.is_empty() {
            true => vec![self.part(&history.table, Some(&epochs))],
            false => vec![
                self.part(&history.table, Some(&format!("{alias}._part IN ({settled})"))),
                self.part(&history.table, Some(&format!("{alias}._part NOT IN ({settled}) AND {epochs}"))),
            ],
        };
        parts.extend(memory.map(|memory| self.part(memory, None)));
        match parts.as_slice() {
            [only] => format!("({only}) AS {alias}"),
            parts => format!("(({})) AS {alias}", parts.join(") UNION ALL (")),
        }
    }

    fn part(&self, table: &str, which: Option<&str>) -> String {
        let name = |field: &Field| clickhouse::name(field.name());
        let columns = self.read.fields().iter().map(|field| format!("{0}.{1} AS {1}", self.alias, name(field)));
        let columns = columns.collect::<Vec<_>>().join(", ");
        let conditions: Vec<&str> = which.into_iter().chain(self.conditions.iter().map(String::as_str)).collect();
        let mut sql = format!("SELECT {columns} FROM {table} AS {}", self.alias);
        if !conditions.is_empty() {
            sql.push_str(&format!(" WHERE {}", conditions.join(" AND ")));
        }
        if let Some((order, first)) = &self.first {
            sql.push_str(&format!(" ORDER BY {order} LIMIT {first}"));
        }
        sql
    }

    /// What memory has of it, as a table of that name; `None` when it has nothing.
    pub(super) fn memory(&self, name: &str, snapshot: &Arc<StreamSnapshot>) -> Result<Option<ExternalTable>> {
        let batches = memory_batches(snapshot.clone(), self.columns.clone(), self.read.clone());
        let batches: Vec<RecordBatch> = batches.collect::<Result<_>>()?;
        if batches.is_empty() {
            return Ok(None);
        }
        let column = |field: &Field| format!("{} {}", clickhouse::name(field.name()), clickhouse_type(field));
        let structure = self.read.fields().iter().map(|field| column(field)).collect::<Vec<_>>().join(", ");
        Ok(Some(ExternalTable { name: name.to_owned(), structure, batches }))
    }

    /// About how many bytes memory has of it.
    pub(super) fn bytes_in_memory(snapshot: &StreamSnapshot) -> usize {
        snapshot.batches.iter().map(|(_, batch)| batch.spread_bytes()).sum()
    }
}

/// The type that a column of this kind has in the tables of streams.
fn clickhouse_type(field: &Field) -> String {
    let plain = match field.data_type() {
        DataType::Int64 => "Int64",
        DataType::Float64 => "Float64",
        DataType::Boolean => "Bool",
        DataType::Timestamp(..) => "DateTime64(6, 'UTC')",
        DataType::Map(..) => return "Map(LowCardinality(String), String)".to_owned(),
        _ => "String",
    };
    if field.is_nullable() { format!("Nullable({plain})") } else { plain.to_owned() }
}
