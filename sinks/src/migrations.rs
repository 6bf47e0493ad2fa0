//! Brings a database to the schema of this version.
//!
//! The steps are in `schemas/sql`, numbered; those that were applied are rows of `streamgauge_migrations`. Each
//! statement may be run twice, so a crash between a step and its row is harmless.

use arrow::array::AsArray;
use arrow::datatypes::UInt32Type;
use streamgauge_schemas::ddl::MIGRATIONS;

use crate::sql::{sql_name, sql_text};
use crate::{ClickHouse, SinkError};

const TABLE: &str = "streamgauge_migrations";

/// Makes the database if it is not there, and applies the steps that it has not seen, in order.
///
/// Returns the version it stands at.
///
/// # Errors
/// [`SinkError::NewerSchema`] when a newer Streamgauge was here; any error of a statement.
pub async fn migrate(clickhouse: &ClickHouse) -> Result<u32, SinkError> {
    let database = sql_name(clickhouse.database());
    clickhouse.execute(&format!("CREATE DATABASE IF NOT EXISTS {database} ENGINE = Atomic")).await?;
    let table = clickhouse.table(TABLE);
    let create = format!(
        "CREATE TABLE IF NOT EXISTS {table} (version UInt32, title String, applied_at DateTime64(6, 'UTC') DEFAULT now64(6)) \
         ENGINE = ReplacingMergeTree ORDER BY version SETTINGS fsync_after_insert = 1, fsync_part_directory = 1"
    );
    clickhouse.execute(&create).await?;
    let found = applied(clickhouse, &table).await?;
    let known = MIGRATIONS.last().map_or(0, |last| last.version);
    if found > known {
        return Err(SinkError::NewerSchema { database: clickhouse.database().to_owned(), found, known });
    }
    for migration in MIGRATIONS.iter().filter(|migration| migration.version > found) {
        for statement in migration.statements(&database) {
            clickhouse.execute(&statement).await?;
        }
        let title = sql_text(migration.title);
        let row = format!("INSERT INTO {table} (version, title) VALUES ({}, {title})", migration.version);
        clickhouse.execute(&row).await?;
        tracing::info!(version = migration.version, title = migration.title, "the ClickHouse schema was brought on");
    }
    Ok(known)
}

async fn applied(clickhouse: &ClickHouse, table: &str) -> Result<u32, SinkError> {
    let sql = format!("SELECT max(version) AS version FROM {table}");
    let batches = clickhouse.query_batches(&sql).await?;
    let version = batches
        .iter()
        .filter(|batch| batch.num_rows() == 1)
        .find_map(|batch| batch.column(0).as_primitive_opt::<UInt32Type>().map(|column| column.value(0)));
    version.ok_or_else(|| SinkError::data(&sql, "no UInt32"))
}
