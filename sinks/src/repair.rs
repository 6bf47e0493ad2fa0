//! Takes back what must not be in a table, or not twice: ends writes that still run, and deletes events by their epoch.
//!
//! Both may be repeated. Deleted events come again under another token: ClickHouse remembers the tokens of what was
//! deleted, and would take the same one for a repetition.

use std::time::Duration;

use arrow::array::AsArray;
use arrow::datatypes::UInt64Type;

use crate::sql::sql_text;
use crate::{ClickHouse, SinkError};

/// A deletion rewrites the parts that hold the rows, at most a flush's worth; a slow disk may take its time.
const DELETE_TIMEOUT: Duration = Duration::from_secs(600);

/// Ends writes into the database, or into one table of it, whose answers nobody waits for; waits until they are gone.
///
/// What is ended by mistake is tried again by whoever began it, under the same token.
pub(crate) async fn end_writes(clickhouse: &ClickHouse, table: Option<&str>) -> Result<(), SinkError> {
    let prefix = sql_text(&clickhouse.write_id_prefix(table));
    let ours = format!("user = currentUser() AND startsWith(query_id, {prefix})");
    let sql = format!("SELECT count() AS writes FROM system.processes WHERE {ours}");
    if count(clickhouse, &sql).await? > 0 {
        tracing::warn!(table, "ending writes that were left behind");
        clickhouse.execute(&format!("KILL QUERY WHERE {ours} SYNC")).await?;
    }
    Ok(())
}

/// Whether the database has a table of that name.
pub(crate) async fn table_exists(clickhouse: &ClickHouse, name: &str) -> Result<bool, SinkError> {
    let (database, table) = (sql_text(clickhouse.database()), sql_text(name));
    let sql = format!("SELECT count() AS tables FROM system.tables WHERE database = {database} AND name = {table}");
    Ok(count(clickhouse, &sql).await? > 0)
}

/// How many rows of a table meet a condition.
pub(crate) async fn count_rows(clickhouse: &ClickHouse, name: &str, condition: &str) -> Result<u64, SinkError> {
    let table = clickhouse.table(name);
    count(clickhouse, &format!("SELECT count() AS events FROM {table} WHERE {condition}")).await
}

/// Deletes the rows of a table that meet a condition, if there are any; returns how many there were.
pub(crate) async fn delete_rows(clickhouse: &ClickHouse, name: &str, condition: &str) -> Result<u64, SinkError> {
    let rows = count_rows(clickhouse, name, condition).await?;
    if rows > 0 {
        let table = clickhouse.table(name);
        let sql =
            format!("DELETE FROM {table} WHERE {condition} SETTINGS lightweight_deletes_sync = 2, mutations_sync = 2");
        clickhouse.change(name, &sql, DELETE_TIMEOUT).await?;
    }
    Ok(rows)
}

async fn count(clickhouse: &ClickHouse, sql: &str) -> Result<u64, SinkError> {
    let batches = clickhouse.query_batches(sql).await?;
    let first = batches.iter().find(|batch| batch.num_rows() == 1);
    let column = first.and_then(|batch| batch.column(0).as_primitive_opt::<UInt64Type>());
    column.map(|column| column.value(0)).ok_or_else(|| SinkError::data(sql, "no count"))
}
