//! What is in the tables of `pg_catalog` that have rows.

use std::collections::BTreeMap;

use super::super::relations::Relation;
use super::super::sheet::{Cell, Sheet};
use super::super::types::{self, PostgresType, TYPES as KINDS};
use super::super::{ROLE, functions};
use super::columns::TABLES;
use super::{DATABASE_OID, PG_CATALOG, PG_CATALOG_OID, ROLE_OID, table_names};
use crate::activity::{Activity, State};
use crate::tables::CATALOG;

pub(super) fn types(sheet: &mut Sheet) {
    let mut add = |oid: u32, name: String, length: i16, category: char, element: u32, array: u32| {
        let kind = if category == 'X' { "p" } else { "b" };
        sheet.add([
            ("oid", i64::from(oid).into()),
            ("typname", name.into()),
            ("typnamespace", PG_CATALOG_OID.into()),
            ("typowner", ROLE_OID.into()),
            ("typlen", i64::from(length).into()),
            ("typbyval", (length > 0 && length <= 8).into()),
            ("typtype", kind.into()),
            ("typcategory", category.to_string().into()),
            ("typispreferred", matches!(oid, 16 | 25 | 701 | 1184 | 1186).into()),
            ("typisdefined", true.into()),
            ("typdelim", ",".into()),
            ("typrelid", 0.into()),
            ("typelem", i64::from(element).into()),
            ("typarray", i64::from(array).into()),
            ("typinput", if element == 0 { "-" } else { "array_in" }.into()),
            ("typalign", "i".into()),
            ("typstorage", if length > 0 { "p" } else { "x" }.into()),
            ("typnotnull", false.into()),
            ("typbasetype", 0.into()),
            ("typtypmod", (-1).into()),
            ("typndims", 0.into()),
            ("typcollation", if category == 'S' { 100 } else { 0 }.into()),
        ]);
    };
    for PostgresType { oid, name, length, array, category, .. } in &KINDS {
        add(*oid, (*name).to_owned(), *length, *category, 0, *array);
        if *array != 0 {
            add(*array, format!("_{name}"), -1, 'A', *oid, 0);
        }
    }
}

pub(super) fn attributes(sheet: &mut Sheet, relations: &[Relation]) {
    let own = TABLES.iter().map(|(_, oid, columns)| (*oid, Sheet::new(columns).schema()));
    for (oid, schema) in relations.iter().map(|relation| (relation.oid, relation.schema.clone())).chain(own) {
        for (place, field) in (1_i64..).zip(schema.fields()) {
            let kind = types::oid_of(field.data_type());
            let length = types::by_oid(kind).map_or(-1, |kind| kind.length);
            sheet.add([
                ("attrelid", oid.into()),
                ("attname", field.name().clone().into()),
                ("atttypid", i64::from(kind).into()),
                ("attstattarget", (-1).into()),
                ("attlen", i64::from(length).into()),
                ("attnum", place.into()),
                ("attndims", 0.into()),
                ("atttypmod", (-1).into()),
                ("attbyval", (length > 0).into()),
                ("attalign", "i".into()),
                ("attstorage", if length > 0 { "p" } else { "x" }.into()),
                ("attcompression", "".into()),
                ("attnotnull", (!field.is_nullable()).into()),
                ("atthasdef", false.into()),
                ("atthasmissing", false.into()),
                ("attidentity", "".into()),
                ("attgenerated", "".into()),
                ("attisdropped", false.into()),
                ("attislocal", true.into()),
                ("attinhcount", 0.into()),
                ("attcollation", 0.into()),
            ]);
        }
    }
}

pub(super) fn classes(sheet: &mut Sheet, relations: &[Relation]) {
    let mut add = |oid: i64, name: &str, schema: i64, kind: &str, columns: usize| {
        sheet.add([
            ("oid", oid.into()),
            ("relname", name.into()),
            ("relnamespace", schema.into()),
            ("reltype", 0.into()),
            ("reloftype", 0.into()),
            ("relowner", ROLE_OID.into()),
            ("relam", if kind == "v" { 0 } else { 2 }.into()),
            ("relfilenode", oid.into()),
            ("reltablespace", 0.into()),
            ("relpages", 0.into()),
            ("reltuples", (-1).into()),
            ("relallvisible", 0.into()),
            ("reltoastrelid", 0.into()),
            ("relhasindex", false.into()),
            ("relisshared", false.into()),
            ("relpersistence", "p".into()),
            ("relkind", kind.into()),
            ("relnatts", (columns as i64).into()),
            ("relchecks", 0.into()),
            ("relhasrules", false.into()),
            ("relhastriggers", false.into()),
            ("relhassubclass", false.into()),
            ("relrowsecurity", false.into()),
            ("relforcerowsecurity", false.into()),
            ("relispopulated", true.into()),
            ("relreplident", "n".into()),
            ("relispartition", false.into()),
            ("relrewrite", 0.into()),
            ("relfrozenxid", 0.into()),
            ("relminmxid", 0.into()),
            ("xmin", 0.into()),
            ("tableoid", 1259.into()),
        ]);
    };
    for relation in relations {
        add(relation.oid, &relation.name, relation.namespace_oid(), relation.kind(), relation.schema.fields().len());
    }
    for (name, oid, columns) in TABLES {
        add(*oid, name, PG_CATALOG_OID, "r", columns.split_whitespace().count());
    }
}

pub(super) fn database(sheet: &mut Sheet) {
    sheet.add([
        ("oid", DATABASE_OID.into()),
        ("datname", CATALOG.into()),
        ("datdba", ROLE_OID.into()),
        ("encoding", 6.into()),
        ("datlocprovider", "c".into()),
        ("datistemplate", false.into()),
        ("datallowconn", true.into()),
        ("datconnlimit", (-1).into()),
        ("dattablespace", 1663.into()),
        ("datcollate", "C".into()),
        ("datctype", "C".into()),
    ]);
}

pub(super) fn namespaces(sheet: &mut Sheet) {
    for (oid, name) in functions::NAMESPACES {
        sheet.add([("oid", oid.into()), ("nspname", name.into()), ("nspowner", ROLE_OID.into())]);
    }
}

pub(super) fn tables(sheet: &mut Sheet, relations: &[Relation]) {
    let streams = relations.iter().filter(|relation| relation.select.is_none());
    let own = table_names().map(|name| (PG_CATALOG, name));
    for (schema, name) in streams.map(|stream| (stream.namespace, stream.name.as_str())).chain(own) {
        sheet.add([
            ("schemaname", schema.into()),
            ("tablename", name.into()),
            ("tableowner", ROLE.into()),
            ("hasindexes", false.into()),
            ("hasrules", false.into()),
            ("hastriggers", false.into()),
            ("rowsecurity", false.into()),
        ]);
    }
}

pub(super) fn views(sheet: &mut Sheet, relations: &[Relation]) {
    for view in relations.iter().filter(|relation| relation.select.is_some()) {
        sheet.add([
            ("schemaname", view.namespace.into()),
            ("viewname", view.name.clone().into()),
            ("viewowner", ROLE.into()),
            ("definition", view.select.clone().into()),
        ]);
    }
}

pub(super) fn role(sheet: &mut Sheet, table: &str) {
    if table == "pg_user" {
        sheet.add([("usename", ROLE.into()), ("usesysid", ROLE_OID.into()), ("usesuper", false.into())]);
        return;
    }
    sheet.add([
        ("rolname", ROLE.into()),
        ("rolsuper", false.into()),
        ("rolinherit", true.into()),
        ("rolcreaterole", false.into()),
        ("rolcreatedb", false.into()),
        ("rolcanlogin", true.into()),
        ("rolreplication", false.into()),
        ("rolconnlimit", (-1).into()),
        ("rolbypassrls", false.into()),
        ("oid", ROLE_OID.into()),
    ]);
}

pub(super) fn settings(sheet: &mut Sheet) {
    for (name, setting) in functions::SETTINGS {
        let value: Cell = (*setting).into();
        sheet.add([
            ("name", (*name).into()),
            ("setting", value.clone()),
            ("category", "Preset Options".into()),
            ("short_desc", "".into()),
            ("context", "internal".into()),
            ("vartype", "string".into()),
            ("source", "default".into()),
            ("boot_val", value.clone()),
            ("reset_val", value),
            ("pending_restart", false.into()),
        ]);
    }
}

pub(super) fn statistics(sheet: &mut Sheet, relations: &[Relation]) {
    for relation in relations {
        sheet.add([
            ("relid", relation.oid.into()),
            ("schemaname", relation.namespace.into()),
            ("relname", relation.name.clone().into()),
        ]);
    }
}

/// The sessions in which a question runs, each with its newest one.
pub(super) fn activity(sheet: &mut Sheet, activity: &Activity) {
    let newest: BTreeMap<i32, _> = activity.running().into_iter().map(|record| (record.number(), record)).collect();
    for (number, record) in newest {
        let state = if record.progress().state == State::Waiting { "idle" } else { "active" };
        sheet.add([
            ("datid", DATABASE_OID.into()),
            ("datname", CATALOG.into()),
            ("pid", i64::from(number).into()),
            ("usesysid", ROLE_OID.into()),
            ("usename", record.asker.user.as_ref().into()),
            ("application_name", record.asker.protocol.into()),
            ("client_addr", record.asker.client.as_deref().into()),
            ("query_start", record.began_at.0.into()),
            ("state", state.into()),
            ("query", record.sql.as_str().into()),
            ("backend_type", "client backend".into()),
        ]);
    }
}
