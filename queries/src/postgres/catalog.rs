//! The tables of `pg_catalog`: what clients read to browse.
//!
//! They describe the tables of `public` and `system`, and `pg_catalog` itself. What Streamgauge does not have (indexes, constraints,
//! triggers, rules, …) are tables without rows, with the columns that clients name.
//!
//! # Layout
//!
//! - `columns`: the tables and their columns; `rows`: what is in those that have rows.

mod columns;
mod rows;

use std::sync::Arc;

use async_trait::async_trait;
use datafusion::catalog::{SchemaProvider, TableProvider};
use datafusion::error::Result;

use super::functions;
use super::relations::Relation;
use super::sheet::Sheet;
use crate::system::System;
use columns::{TABLES, WITH_ROWS};

/// The schema's name.
pub(crate) const PG_CATALOG: &str = "pg_catalog";
pub(super) const PG_CATALOG_OID: i64 = 11;
pub(super) const INFORMATION_SCHEMA_OID: i64 = 13_000;
/// The number of the one role.
const ROLE_OID: i64 = 10;
/// The number of the one database.
const DATABASE_OID: i64 = 16_383;

/// Words that are not names, beside those of the SQL standard.
const KEYWORDS: [&str; 8] = ["analyze", "ilike", "isnull", "limit", "notnull", "offset", "returning", "verbose"];

/// The names of all tables of the schema.
pub(crate) fn table_names() -> impl Iterator<Item = &'static str> {
    TABLES.iter().map(|(name, ..)| *name)
}

/// The number and name of each table of the schema.
pub(super) fn numbers() -> impl Iterator<Item = (i64, &'static str)> {
    TABLES.iter().map(|(name, oid, _)| (*oid, *name))
}

/// Whether a table of the schema never has rows.
pub(super) fn is_empty(name: &str) -> bool {
    TABLES[WITH_ROWS..].iter().any(|(empty, ..)| *empty == name)
}

/// The schema `pg_catalog`, as of the moment that a table is asked for.
#[derive(Clone)]
pub(crate) struct PgCatalog(pub(crate) Arc<System>);

impl std::fmt::Debug for PgCatalog {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("PgCatalog")
    }
}

#[async_trait]
impl SchemaProvider for PgCatalog {
    fn table_names(&self) -> Vec<String> {
        table_names().map(str::to_owned).collect()
    }

    async fn table(&self, name: &str) -> Result<Option<Arc<dyn TableProvider>>> {
        let Some((_, _, columns)) = TABLES.iter().find(|(known, ..)| *known == name) else { return Ok(None) };
        let mut sheet = Sheet::new(columns);
        let relations = || Relation::all(&self.0.engine);
        match name {
            "pg_type" => rows::types(&mut sheet),
            "pg_attribute" => rows::attributes(&mut sheet, &relations()),
            "pg_class" => rows::classes(&mut sheet, &relations()),
            "pg_database" => rows::database(&mut sheet),
            "pg_namespace" => rows::namespaces(&mut sheet),
            "pg_proc" => functions::list(&mut sheet),
            "pg_tables" => rows::tables(&mut sheet, &relations()),
            "pg_views" => rows::views(&mut sheet, &relations()),
            "pg_roles" | "pg_user" => rows::role(&mut sheet, name),
            "pg_settings" => rows::settings(&mut sheet),
            "pg_am" => sheet.add([("oid", 2.into()), ("amname", "heap".into()), ("amtype", "t".into())]),
            "pg_tablespace" => {
                sheet.add([("oid", 1663.into()), ("spcname", "pg_default".into()), ("spcowner", ROLE_OID.into())]);
            }
            "pg_get_keywords" => KEYWORDS.iter().for_each(|word| {
                sheet.add([("word", (*word).into()), ("catcode", "R".into()), ("catdesc", "reserved".into())]);
            }),
            "pg_stat_user_tables" => rows::statistics(&mut sheet, &relations()),
            "pg_stat_activity" => rows::activity(&mut sheet, &self.0.activity),
            _ => {}
        }
        sheet.table().map(Some)
    }

    fn table_exist(&self, name: &str) -> bool {
        table_names().any(|known| known == name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_and_names_are_there_once() {
        let mut numbers: Vec<i64> = TABLES.iter().map(|(_, oid, _)| *oid).collect();
        let mut names: Vec<&str> = table_names().collect();
        let all = names.len();
        numbers.sort_unstable();
        numbers.dedup();
        names.sort_unstable();
        names.dedup();
        assert_eq!((numbers.len(), names.len()), (all, all));
        assert!(is_empty("pg_index") && !is_empty("pg_class") && !is_empty("pg_stat_user_tables"));
    }
}
