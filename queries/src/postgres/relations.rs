//! The tables there are, with the numbers that `pg_catalog` knows them by.
//!
//! The number of a table is made of its identity, so it is the same in every session and after a restart. Should two be
//! the same, the younger table takes the next one.

use std::collections::HashSet;
use std::sync::Arc;

use arrow::datatypes::{Field, Schema, SchemaRef};
use streamgauge_engine::Engine;
use streamgauge_schemas::stream::METRICS;
use streamgauge_schemas::{StreamDefinition, StreamId, View};

use crate::system::{self, SYSTEM};
use crate::tables::SCHEMA;

/// A table, as the catalogues have it.
#[derive(Clone, Debug)]
pub(crate) struct Relation {
    pub(crate) oid: i64,
    /// The schema that it is in.
    pub(crate) namespace: &'static str,
    pub(crate) name: String,
    pub(crate) schema: SchemaRef,
    /// The question behind it, of a view.
    pub(crate) select: Option<String>,
}

/// The number of schema `public`.
pub(crate) const PUBLIC_OID: i64 = 2_200;
/// The number of schema `system`.
pub(crate) const SYSTEM_OID: i64 = 16_382;
/// The first number that is not PostgreSQL's own.
const FIRST_OID: u64 = 16_384;

impl Relation {
    /// All there are, streams first, those of schema `system` last.
    pub(crate) fn all(engine: &Engine) -> Vec<Relation> {
        let mut taken = HashSet::new();
        let metrics =
            (format!("s{}", StreamId::METRICS.0), METRICS.to_owned(), StreamDefinition::metrics_schema(), None);
        let catalog = engine.catalog();
        let streams = catalog.streams.iter().map(|stream| {
            (format!("s{}", stream.id.0), stream.definition.name.clone(), stream.definition.schema(), None)
        });
        let views = catalog.views.iter().map(|view| {
            let select = Some(view.definition.select.clone());
            (format!("v{}", view.id.0), view.definition.name.clone(), view_schema(view), select)
        });
        let own = std::iter::once(metrics).chain(streams).chain(views);
        let own = own.map(|(identity, name, schema, select)| (identity, SCHEMA, name, schema, select));
        let system =
            system::schemas().map(|(name, schema)| (format!("{SYSTEM}.{name}"), SYSTEM, name.to_owned(), schema, None));
        let all = own.chain(system);
        all.map(|(identity, namespace, name, schema, select)| {
            let mut oid = oid(&identity);
            while !taken.insert(oid) {
                oid += 1;
            }
            Relation { oid, namespace, name, schema, select }
        })
        .collect()
    }

    /// The number of its schema.
    pub(crate) fn namespace_oid(&self) -> i64 {
        if self.namespace == SYSTEM { SYSTEM_OID } else { PUBLIC_OID }
    }

    /// Its name, with its schema unless that is found without.
    pub(crate) fn full_name(&self) -> String {
        if self.namespace == SYSTEM { format!("{SYSTEM}.{}", self.name) } else { self.name.clone() }
    }

    /// Its kind: `r` of a stream, `v` of a view: tools list those, and not all of them materialized ones.
    pub(crate) fn kind(&self) -> &'static str {
        if self.select.is_some() { "v" } else { "r" }
    }
}

fn view_schema(view: &View) -> SchemaRef {
    let columns = view.definition.columns.iter();
    let fields = columns.map(|column| Field::new(&column.name, column.kind.arrow(), column.nullable));
    Arc::new(Schema::new(fields.collect::<Vec<_>>()))
}

/// A number made of an identity (FNV-1a), such as PostgreSQL gives to what users make.
fn oid(identity: &str) -> i64 {
    let hash = identity
        .bytes()
        .fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3));
    (FIRST_OID + hash % (i32::MAX as u64 - FIRST_OID)) as i64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_those_of_users_and_differ() {
        let numbers: HashSet<i64> = (0..1_000).map(|stream| oid(&format!("s{stream}"))).collect();
        assert_eq!(numbers.len(), 1_000);
        assert!(numbers.iter().all(|oid| (16_384..=i64::from(i32::MAX)).contains(oid)));
        assert_eq!(oid("s0"), oid("s0"));
    }
}
