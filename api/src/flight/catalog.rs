//! Catalogues, schemas and tables, as clients browse them.

use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use arrow_flight::error::FlightError;
use arrow_flight::sql::{
    Command, CommandGetCatalogs, CommandGetDbSchemas, CommandGetSqlInfo, CommandGetTableTypes, CommandGetTables,
    CommandGetXdbcTypeInfo,
};
use streamgauge_queries::{CATALOG_NAME, QueryEngine, SCHEMA_NAMES, TableKind};
use tonic::Status;

use super::answer::wire;
use super::{capabilities, error, service};

/// The columns that a command answers.
///
/// # Errors
/// For a command that is not answered.
pub(super) fn columns(command: Command) -> Result<SchemaRef, Status> {
    Ok(match command {
        Command::CommandGetCatalogs(get) => get.into_builder().schema(),
        Command::CommandGetDbSchemas(get) => get.into_builder().schema(),
        Command::CommandGetTables(get) => get.into_builder().schema(),
        Command::CommandGetTableTypes(get) => get.into_builder().schema(),
        Command::CommandGetSqlInfo(get) => get.into_builder(capabilities::infos()).schema(),
        Command::CommandGetXdbcTypeInfo(get) => get.into_builder(capabilities::types()).schema(),
        Command::CommandGetPrimaryKeys(_) => primary_keys(),
        Command::CommandGetExportedKeys(_)
        | Command::CommandGetImportedKeys(_)
        | Command::CommandGetCrossReference(_) => foreign_keys(),
        other => return Err(service::unknown(other)),
    })
}

/// The rows that a command answers.
///
/// # Errors
/// For a command that is not answered, or that is wrong.
pub(super) async fn rows(command: Command, queries: &QueryEngine) -> Result<RecordBatch, Status> {
    let rows = match command {
        Command::CommandGetCatalogs(get) => catalogs(get),
        Command::CommandGetDbSchemas(get) => schemas(get),
        Command::CommandGetTables(get) => tables(get, queries).await?,
        Command::CommandGetTableTypes(get) => table_types(get),
        Command::CommandGetSqlInfo(get) => infos(get),
        Command::CommandGetXdbcTypeInfo(get) => types(get),
        keys => Ok(RecordBatch::new_empty(columns(keys)?)), // there are none
    };
    rows.map_err(error::of_flight)
}

fn catalogs(get: CommandGetCatalogs) -> Result<RecordBatch, FlightError> {
    let mut rows = get.into_builder();
    rows.append(CATALOG_NAME);
    rows.build()
}

fn schemas(get: CommandGetDbSchemas) -> Result<RecordBatch, FlightError> {
    let mut rows = get.into_builder();
    SCHEMA_NAMES.iter().for_each(|name| rows.append(CATALOG_NAME, name));
    rows.build()
}

async fn tables(get: CommandGetTables, queries: &QueryEngine) -> Result<Result<RecordBatch, FlightError>, Status> {
    let mut rows = get.into_builder();
    for table in queries.tables().await.map_err(error::of)? {
        let kind = table_type(table.kind);
        let appended = rows.append(CATALOG_NAME, table.schema, &table.name, kind, &wire(&table.columns));
        appended.map_err(error::of_flight)?;
    }
    Ok(rows.build())
}

fn table_types(get: CommandGetTableTypes) -> Result<RecordBatch, FlightError> {
    let mut rows = get.into_builder();
    [TableKind::Stream, TableKind::View, TableKind::System].into_iter().for_each(|kind| rows.append(table_type(kind)));
    rows.build()
}

fn infos(get: CommandGetSqlInfo) -> Result<RecordBatch, FlightError> {
    get.into_builder(capabilities::infos()).build()
}

fn types(get: CommandGetXdbcTypeInfo) -> Result<RecordBatch, FlightError> {
    get.into_builder(capabilities::types()).build()
}

/// The word for a kind of table, of those that clients of JDBC and ODBC know.
fn table_type(kind: TableKind) -> &'static str {
    match kind {
        TableKind::Stream => "TABLE",
        TableKind::View => "VIEW",
        TableKind::System => "SYSTEM TABLE",
    }
}

fn text(name: &str, nullable: bool) -> Field {
    Field::new(name, DataType::Utf8, nullable)
}

fn primary_keys() -> SchemaRef {
    Arc::new(Schema::new(vec![
        text("catalog_name", true),
        text("db_schema_name", true),
        text("table_name", false),
        text("column_name", false),
        text("key_name", true),
        Field::new("key_sequence", DataType::Int32, false),
    ]))
}

fn foreign_keys() -> SchemaRef {
    Arc::new(Schema::new(vec![
        text("pk_catalog_name", true),
        text("pk_db_schema_name", true),
        text("pk_table_name", false),
        text("pk_column_name", false),
        text("fk_catalog_name", true),
        text("fk_db_schema_name", true),
        text("fk_table_name", false),
        text("fk_column_name", false),
        Field::new("key_sequence", DataType::Int32, false),
        text("fk_key_name", true),
        text("pk_key_name", true),
        Field::new("update_rule", DataType::UInt8, false),
        Field::new("delete_rule", DataType::UInt8, false),
    ]))
}
