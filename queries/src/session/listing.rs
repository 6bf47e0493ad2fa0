//! The tables that a statement may name, with their columns.

use std::sync::Arc;

use arrow::datatypes::SchemaRef;
use datafusion::catalog::CatalogProvider;

use super::QueryEngine;
use crate::error::QueryError;
use crate::history::Waits;
use crate::postgres::catalog::PG_CATALOG;
use crate::postgres::information::INFORMATION_SCHEMA;
use crate::postgres::relations::Relation;
use crate::system::SYSTEM;
use crate::tables::{CATALOG, SCHEMA, StatementCatalog};

/// The schemas of the catalogue, [`CATALOG_NAME`].
pub const SCHEMA_NAMES: [&str; 4] = [SCHEMA, SYSTEM, PG_CATALOG, INFORMATION_SCHEMA];
/// The one catalogue.
pub const CATALOG_NAME: &str = CATALOG;

/// A table of a schema.
#[derive(Clone, Debug)]
pub struct Table {
    /// One of [`SCHEMA_NAMES`].
    pub schema: &'static str,
    /// The name within it.
    pub name: String,
    /// What it is.
    pub kind: TableKind,
    /// The columns.
    pub columns: SchemaRef,
}

/// What a table is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TableKind {
    /// A stream.
    Stream,
    /// A maintained view, rollups included.
    View,
    /// A table that describes others.
    System,
}

impl QueryEngine {
    /// All tables there are now: streams, views, and those that describe them.
    ///
    /// # Errors
    /// [`QueryError::Bug`] when a table that describes others cannot be made.
    pub async fn tables(&self) -> Result<Vec<Table>, QueryError> {
        let engine = self.clone();
        self.inner.threads.spawn(async move { engine.listed().await }).await?
    }

    async fn listed(&self) -> Result<Vec<Table>, QueryError> {
        let fail = |error| QueryError::from_datafusion(error, self.inner.limits.memory_bytes_max);
        let own = Relation::all(&self.inner.engine).into_iter().map(|relation| {
            let kind = match (relation.namespace, &relation.select) {
                (SYSTEM, _) => TableKind::System,
                (_, Some(_)) => TableKind::View,
                (_, None) => TableKind::Stream,
            };
            Table { schema: relation.namespace, name: relation.name, kind, columns: relation.schema }
        });
        let mut tables: Vec<Table> = own.collect();
        let catalog = StatementCatalog(self.statement(Arc::default(), Waits::default(), self.bounds(), true));
        for schema in [PG_CATALOG, INFORMATION_SCHEMA] {
            let Some(provider) = catalog.schema(schema) else { continue };
            for name in provider.table_names() {
                if let Some(table) = provider.table(&name).await.map_err(fail)? {
                    tables.push(Table { schema, name, kind: TableKind::System, columns: table.schema() });
                }
            }
        }
        Ok(tables)
    }
}
