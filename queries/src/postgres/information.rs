//! The tables of `information_schema`: DataFusion's, with PostgreSQL's names of types and the columns that clients
//! name beside its own.

use std::sync::Arc;

use async_trait::async_trait;
use datafusion::catalog::information_schema::InformationSchemaProvider;
use datafusion::catalog::{SchemaProvider, TableProvider};
use datafusion::error::Result;
use streamgauge_engine::Engine;

use super::relations::Relation;
use super::sheet::Sheet;
use super::types;
use super::{ROLE, functions};
use crate::tables::CATALOG;

/// The schema's name.
pub(crate) const INFORMATION_SCHEMA: &str = "information_schema";

/// The tables of which this says more than DataFusion, or that it does not have.
const TABLES: &[(&str, &str)] = &[
    (
        "tables",
        "table_catalog table_schema table_name table_type self_referencing_column_name reference_generation \
      user_defined_type_catalog user_defined_type_schema user_defined_type_name is_insertable_into is_typed \
      commit_action",
    ),
    (
        "columns",
        "table_catalog table_schema table_name column_name ordinal_position:i4 column_default is_nullable \
      data_type character_maximum_length:i4 character_octet_length:i4 numeric_precision:i4 numeric_precision_radix:i4 \
      numeric_scale:i4 datetime_precision:i4 interval_type collation_name domain_name udt_catalog udt_schema udt_name \
      is_identity identity_generation is_generated generation_expression is_updatable",
    ),
    (
        "schemata",
        "catalog_name schema_name schema_owner default_character_set_catalog default_character_set_schema \
      default_character_set_name sql_path",
    ),
    ("views", "table_catalog table_schema table_name view_definition check_option is_updatable definition"),
];

/// The tables of which there is nothing.
const EMPTY: &[(&str, &str)] = &[
    (
        "table_constraints",
        "constraint_catalog constraint_schema constraint_name table_catalog table_schema table_name \
      constraint_type is_deferrable initially_deferred enforced",
    ),
    (
        "key_column_usage",
        "constraint_catalog constraint_schema constraint_name table_catalog table_schema table_name \
      column_name ordinal_position:i4 position_in_unique_constraint:i4",
    ),
    (
        "constraint_column_usage",
        "table_catalog table_schema table_name column_name constraint_catalog \
      constraint_schema constraint_name",
    ),
    (
        "referential_constraints",
        "constraint_catalog constraint_schema constraint_name unique_constraint_catalog \
      unique_constraint_schema unique_constraint_name match_option update_rule delete_rule",
    ),
    ("check_constraints", "constraint_catalog constraint_schema constraint_name check_clause"),
    ("sequences", "sequence_catalog sequence_schema sequence_name data_type"),
    (
        "triggers",
        "trigger_catalog trigger_schema trigger_name event_manipulation event_object_schema \
      event_object_table action_statement action_timing",
    ),
    ("table_privileges", "grantor grantee table_catalog table_schema table_name privilege_type is_grantable"),
    ("role_table_grants", "grantor grantee table_catalog table_schema table_name privilege_type is_grantable"),
    ("column_privileges", "grantor grantee table_catalog table_schema table_name column_name privilege_type"),
];

/// The schema `information_schema`; what is not its own is DataFusion's.
#[derive(Debug)]
pub(crate) struct Information {
    pub(crate) engine: InformationEngine,
    pub(crate) rest: InformationSchemaProvider,
}

/// The engine, which does not show itself.
#[derive(Clone)]
pub(crate) struct InformationEngine(pub(crate) Engine);

impl std::fmt::Debug for InformationEngine {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Engine")
    }
}

/// Whether a table of the schema never has rows.
pub(super) fn is_empty(name: &str) -> bool {
    EMPTY.iter().any(|(empty, _)| *empty == name)
}

#[async_trait]
impl SchemaProvider for Information {
    fn table_names(&self) -> Vec<String> {
        let own = TABLES.iter().chain(EMPTY).map(|(name, _)| (*name).to_owned());
        let rest = self.rest.table_names().into_iter().filter(|name| TABLES.iter().all(|(own, _)| own != name));
        own.chain(rest).collect()
    }

    async fn table(&self, name: &str) -> Result<Option<Arc<dyn TableProvider>>> {
        let Some((_, columns)) = TABLES.iter().chain(EMPTY).find(|(own, _)| *own == name) else {
            return self.rest.table(name).await;
        };
        let mut sheet = Sheet::new(columns);
        match name {
            "tables" => tables(&mut sheet, &self.relations(), &self.table_names()),
            "columns" => columns_of(&mut sheet, &self.relations()),
            "schemata" => schemata(&mut sheet),
            "views" => views(&mut sheet, &self.relations()),
            _ => {}
        }
        sheet.table().map(Some)
    }

    fn table_exist(&self, name: &str) -> bool {
        self.table_names().iter().any(|known| known == name)
    }
}

impl Information {
    fn relations(&self) -> Vec<Relation> {
        Relation::all(&self.engine.0)
    }
}

fn tables(sheet: &mut Sheet, relations: &[Relation], own: &[String]) {
    let mut add = |schema: &str, name: &str, kind: &str| {
        sheet.add([
            ("table_catalog", CATALOG.into()),
            ("table_schema", schema.into()),
            ("table_name", name.into()),
            ("table_type", kind.into()),
            ("is_insertable_into", "NO".into()),
            ("is_typed", "NO".into()),
        ]);
    };
    for relation in relations {
        add(relation.namespace, &relation.name, if relation.select.is_some() { "VIEW" } else { "BASE TABLE" });
    }
    for name in own {
        add(INFORMATION_SCHEMA, name, "VIEW");
    }
    for name in super::catalog::table_names() {
        add(super::catalog::PG_CATALOG, name, "VIEW");
    }
}

fn columns_of(sheet: &mut Sheet, relations: &[Relation]) {
    for relation in relations {
        for (place, field) in (1_i64..).zip(relation.schema.fields()) {
            let (kind, is_array) = types::of(field.data_type());
            let precision = |oid: u32| match oid {
                21 => Some(16_i64),
                23 => Some(32),
                20 => Some(64),
                700 => Some(24),
                701 => Some(53),
                _ => None,
            };
            let number = precision(kind.oid).filter(|_| !is_array);
            let time = matches!(kind.oid, 1083 | 1114 | 1184).then_some(6_i64);
            sheet.add([
                ("table_catalog", CATALOG.into()),
                ("table_schema", relation.namespace.into()),
                ("table_name", relation.name.clone().into()),
                ("column_name", field.name().clone().into()),
                ("ordinal_position", place.into()),
                ("is_nullable", if field.is_nullable() { "YES" } else { "NO" }.into()),
                ("data_type", if is_array { "ARRAY".into() } else { types::sql_name_of(field).into() }),
                ("numeric_precision", number.into()),
                ("numeric_precision_radix", number.map(|_| 2_i64).into()),
                ("datetime_precision", time.into()),
                ("udt_catalog", CATALOG.into()),
                ("udt_schema", super::catalog::PG_CATALOG.into()),
                ("udt_name", if is_array { format!("_{}", kind.name) } else { kind.name.to_owned() }.into()),
                ("is_identity", "NO".into()),
                ("is_generated", "NEVER".into()),
                ("is_updatable", "NO".into()),
            ]);
        }
    }
}

fn schemata(sheet: &mut Sheet) {
    for (_, name) in functions::NAMESPACES {
        sheet.add([("catalog_name", CATALOG.into()), ("schema_name", name.into()), ("schema_owner", ROLE.into())]);
    }
}

fn views(sheet: &mut Sheet, relations: &[Relation]) {
    for view in relations.iter().filter(|relation| relation.select.is_some()) {
        sheet.add([
            ("table_catalog", CATALOG.into()),
            ("table_schema", view.namespace.into()),
            ("table_name", view.name.clone().into()),
            ("view_definition", view.select.clone().into()),
            ("is_updatable", "NO".into()),
            ("definition", view.select.clone().into()),
        ]);
    }
}
