//! A stream in a translated plan: what ClickHouse has of it and what memory has, as one.

use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::compute::{and_kleene, filter_record_batch};
use arrow::datatypes::{DataType, Field, SchemaRef};
use datafusion::common::DFSchemaRef;
use datafusion::common::cast::as_boolean_array;
use datafusion::error::Result;
use datafusion::execution::context::ExecutionProps;
use datafusion::logical_expr::Expr;
use datafusion::logical_expr::physical_planning_context::PhysicalPlanningContext;
use datafusion::physical_expr::create_physical_expr;
use datafusion::physical_plan::PhysicalExpr;
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

/// What rows of a source must meet.
#[derive(Clone, Debug)]
pub(super) struct Condition {
    pub(super) sql: String,
    /// The same for DataFusion, over the columns that are read; without it ClickHouse tests what memory has too.
    pub(super) expr: Option<(Expr, DFSchemaRef)>,
}

/// Which rows of memory are sent.
pub(super) type MemoryFilter = Vec<Arc<dyn PhysicalExpr>>;

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
    /// Which of what is read the statement around it needs.
    given: Vec<usize>,
    pub(super) conditions: Vec<Condition>,
    /// The order of rows and how many of the first are enough.
    pub(super) first: Option<(String, usize)>,
}

impl Source {
    pub(super) fn new(table: &StreamTable, alias: String, columns: Vec<usize>, number: usize) -> Self {
        let shown = columns.len();
        let columns = if columns.is_empty() { vec![0] } else { columns };
        let read = table.stream_schema().project(&columns).expect("a scan names columns of its table").into();
        let (stream, name) = (table.stream(), table.name().to_owned());
        let given = (0..columns.len()).collect();
        Source { alias, number, stream, name, shown, columns, read, given, conditions: Vec::new(), first: None }
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

    /// Leaves out the columns that only its own conditions need; `around` is the statement around it.
    pub(super) fn leave_out_unread(&mut self, around: &str) {
        let is_read = |field: &Field| around.contains(&self.column(field));
        let mut read: Vec<usize> = (0..self.read.fields().len()).filter(|at| is_read(self.read.field(*at))).collect();
        if read.is_empty() {
            // Rows are counted by some column; by one that takes little.
            let columns = 0..self.read.fields().len();
            read.extend(columns.min_by_key(|at| usual_bytes(self.read.field(*at).data_type())));
        }
        self.given = read;
    }

    fn column(&self, field: &Field) -> String {
        format!("{}.{}", self.alias, clickhouse::name(field.name()))
    }

    /// The subquery that stands for it; `memory` is the table of what memory has, if it has something.
    pub(super) fn sql(&self, history: &HistoryPart, memory: Option<&str>) -> String {
        let alias = &self.alias;
        // Events of a stream are younger than the stream; older ones in a table of its name are those of one deleted before.
        let epochs =
            format!("{alias}.{EPOCH_COLUMN} > {} AND {alias}.{EPOCH_COLUMN} <= {}", self.stream.0, history.flushed);
        let part = |which: &str| {
            let conditions = self.conditions.iter().map(|condition| condition.sql.as_str());
            self.part(&history.table, &[which].into_iter().chain(conditions).collect::<Vec<_>>())
        };
        let settled = history.settled.iter().map(|part| clickhouse::text(part)).collect::<Vec<_>>().join(", ");
        let mut parts = match history.settled.is_empty() {
            true => vec![part(&epochs)],
            false => vec![
                part(&format!("indexHint({alias}._part IN ({settled}))")),
                part(&format!("{alias}._part NOT IN ({settled}) AND {epochs}")),
            ],
        };
        parts.extend(memory.map(|memory| self.part(memory, &self.memory_conditions().collect::<Vec<_>>())));
        match parts.as_slice() {
            [only] => format!("({only}) AS {alias}"),
            parts => format!("(({})) AS {alias}", parts.join(") UNION ALL (")),
        }
    }

    fn part(&self, table: &str, conditions: &[&str]) -> String {
        let column = |at: &usize| {
            let field = self.read.field(*at);
            format!("{} AS {}", self.column(field), clickhouse::name(field.name()))
        };
        let columns = self.given.iter().map(column).collect::<Vec<_>>().join(", ");
        let mut sql = format!("SELECT {columns} FROM {table} AS {}", self.alias);
        if !conditions.is_empty() {
            sql.push_str(&format!(" WHERE {}", conditions.join(" AND ")));
        }
        if let Some((order, first)) = &self.first {
            sql.push_str(&format!(" ORDER BY {order} LIMIT {first}"));
        }
        sql
    }

    /// What ClickHouse tests of the rows that are sent.
    fn memory_conditions(&self) -> impl Iterator<Item = &str> {
        self.conditions.iter().filter(|condition| condition.expr.is_none()).map(|condition| condition.sql.as_str())
    }

    /// What of memory is sent, for people.
    pub(super) fn memory_words(&self) -> String {
        let exprs = self.conditions.iter().filter_map(|condition| condition.expr.as_ref());
        let tested: Vec<String> = exprs.map(|(expr, _)| expr.to_string()).collect();
        if tested.is_empty() { self.name.clone() } else { format!("{} where {}", self.name, tested.join(" AND ")) }
    }

    /// What is tested of memory's rows before they are sent.
    ///
    /// # Errors
    /// When DataFusion cannot evaluate a condition.
    pub(super) fn memory_filter(&self, props: &ExecutionProps) -> Result<MemoryFilter> {
        let exprs = self.conditions.iter().filter_map(|condition| condition.expr.as_ref());
        exprs
            .map(|(expr, schema)| create_physical_expr(expr, schema, props, &PhysicalPlanningContext::default()))
            .collect()
    }

    /// What memory has of it, as a table of that name; `None` when it has nothing.
    ///
    /// # Errors
    /// What a condition says of a row.
    pub(super) fn memory(
        &self,
        name: &str,
        snapshot: &Arc<StreamSnapshot>,
        filter: &MemoryFilter,
    ) -> Result<Option<ExternalTable>> {
        let sent: Vec<usize> = (0..self.read.fields().len()).filter(|at| self.is_sent(*at)).collect();
        let mut batches = Vec::new();
        for batch in memory_batches(snapshot.clone(), self.columns.clone(), self.read.clone()) {
            let batch = passed(&batch?, filter, &sent)?;
            if batch.num_rows() > 0 {
                batches.push(batch);
            }
        }
        if batches.is_empty() {
            return Ok(None);
        }
        let column = |at: &usize| {
            let field = self.read.field(*at);
            format!("{} {}", clickhouse::name(field.name()), clickhouse_type(field))
        };
        let structure = sent.iter().map(column).collect::<Vec<_>>().join(", ");
        Ok(Some(ExternalTable { name: name.to_owned(), structure, batches }))
    }

    /// Whether something of the part for memory reads this column.
    fn is_sent(&self, at: usize) -> bool {
        let column = self.column(self.read.field(at));
        let order = self.first.iter().map(|(order, _)| order.as_str());
        self.given.contains(&at) || self.memory_conditions().chain(order).any(|sql| sql.contains(&column))
    }

    /// About how many bytes memory has of it.
    pub(super) fn bytes_in_memory(snapshot: &StreamSnapshot) -> usize {
        snapshot.batches.iter().map(|(_, batch)| batch.spread_bytes()).sum()
    }
}

/// The rows of a batch that meet all conditions, with some of its columns.
fn passed(batch: &RecordBatch, filter: &MemoryFilter, columns: &[usize]) -> Result<RecordBatch> {
    let mut passes = None;
    for condition in filter {
        let met = condition.evaluate(batch)?.into_array(batch.num_rows())?;
        let met = as_boolean_array(&met)?;
        passes = Some(match passes {
            None => met.clone(),
            Some(others) => and_kleene(&others, met)?,
        });
    }
    let batch = batch.project(columns)?;
    Ok(match passes {
        None => batch,
        Some(passes) => filter_record_batch(&batch, &passes)?,
    })
}

/// About how many bytes a value of a type takes.
fn usual_bytes(kind: &DataType) -> usize {
    match kind {
        DataType::Map(..) => 128,
        other => other.primitive_width().unwrap_or(if *other == DataType::Boolean { 1 } else { 32 }),
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
