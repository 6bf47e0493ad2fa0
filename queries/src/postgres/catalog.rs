//! The tables of `pg_catalog`: what clients read to browse.
//!
//! They describe the tables of `public` and `pg_catalog` itself. What Streamgauge does not have (indexes, constraints,
//! triggers, rules, …) are tables without rows, with the columns that clients name.

use std::sync::Arc;

use async_trait::async_trait;
use datafusion::catalog::{SchemaProvider, TableProvider};
use datafusion::error::Result;
use streamgauge_engine::Engine;

use super::relations::{PUBLIC_OID, Relation};
use super::sheet::{Cell, Sheet};
use super::types::{self, PostgresType, TYPES};
use super::{ROLE, functions};
use crate::tables::CATALOG;

/// The schema's name.
pub(crate) const PG_CATALOG: &str = "pg_catalog";
pub(super) const PG_CATALOG_OID: i64 = 11;
pub(super) const INFORMATION_SCHEMA_OID: i64 = 13_000;
/// The number of the one role.
const ROLE_OID: i64 = 10;
/// The number of the one database.
const DATABASE_OID: i64 = 16_383;

/// The tables of the schema, with their columns, as [`Sheet`] reads them.
const TABLES: &[(&str, i64, &str)] = &[
    (
        "pg_type",
        1247,
        "oid:o typname typnamespace:o typowner:o typlen:i2 typbyval:b typtype typcategory typispreferred:b \
      typisdefined:b typdelim typrelid:o typsubscript:o typelem:o typarray:o typinput typoutput typreceive typsend \
      typmodin typmodout typanalyze typalign typstorage typnotnull:b typbasetype:o typtypmod:i4 typndims:i4 \
      typcollation:o typdefaultbin typdefault typacl:[t]",
    ),
    (
        "pg_attribute",
        1249,
        "attrelid:o attname atttypid:o attstattarget:i4 attlen:i2 attnum:i2 attndims:i4 \
      attcacheoff:i4 atttypmod:i4 attbyval:b attalign attstorage attcompression attnotnull:b atthasdef:b \
      atthasmissing:b attidentity attgenerated attisdropped:b attislocal:b attinhcount:i4 attcollation:o attacl:[t] \
      attoptions attfdwoptions attmissingval",
    ),
    (
        "pg_proc",
        1255,
        "oid:o proname pronamespace:o proowner:o prolang:o procost:f prorows:f provariadic:o prosupport \
      prokind prosecdef:b proleakproof:b proisstrict:b proretset:b provolatile proparallel pronargs:i2 \
      pronargdefaults:i2 prorettype:o proargtypes:[o] proallargtypes:[o] proargmodes:[t] proargnames:[t] \
      proargdefaults protrftypes:[o] prosrc probin prosqlbody proconfig:[t] proacl:[t]",
    ),
    (
        "pg_class",
        1259,
        "oid:o relname relnamespace:o reltype:o reloftype:o relowner:o relam:o relfilenode:o \
      reltablespace:o relpages:i4 reltuples:f relallvisible:i4 reltoastrelid:o relhasindex:b relisshared:b \
      relpersistence relkind relnatts:i2 relchecks:i2 relhasrules:b relhastriggers:b relhassubclass:b \
      relrowsecurity:b relforcerowsecurity:b relispopulated:b relreplident relispartition:b relrewrite:o \
      relfrozenxid:i8 relminmxid:i8 relacl:[t] reloptions:[t] relpartbound xmin:i8 tableoid:o",
    ),
    (
        "pg_database",
        1262,
        "oid:o datname datdba:o encoding:i4 datlocprovider datistemplate:b datallowconn:b \
      datconnlimit:i4 datlastsysoid:o datfrozenxid:i8 datminmxid:i8 dattablespace:o datcollate datctype daticulocale \
      datacl:[t]",
    ),
    ("pg_namespace", 2615, "oid:o nspname nspowner:o nspacl:[t]"),
    (
        "pg_tables",
        12_001,
        "schemaname tablename tableowner tablespace hasindexes:b hasrules:b hastriggers:b rowsecurity:b",
    ),
    ("pg_views", 12_002, "schemaname viewname viewowner definition"),
    (
        "pg_roles",
        12_004,
        "rolname rolsuper:b rolinherit:b rolcreaterole:b rolcreatedb:b rolcanlogin:b rolreplication:b \
      rolconnlimit:i4 rolpassword rolvaliduntil:ts rolbypassrls:b rolconfig:[t] oid:o",
    ),
    (
        "pg_user",
        12_005,
        "usename usesysid:o usecreatedb:b usesuper:b userepl:b usebypassrls:b passwd valuntil:ts \
      useconfig:[t]",
    ),
    (
        "pg_settings",
        12_006,
        "name setting unit category short_desc extra_desc context vartype source min_val max_val \
      enumvals:[t] boot_val reset_val sourcefile sourceline:i4 pending_restart:b",
    ),
    ("pg_am", 2601, "oid:o amname amhandler amtype"),
    ("pg_tablespace", 1213, "oid:o spcname spcowner:o spcacl:[t] spcoptions:[t]"),
    (
        "pg_stat_user_tables",
        12_007,
        "relid:o schemaname relname seq_scan:i8 seq_tup_read:i8 idx_scan:i8 \
      idx_tup_fetch:i8 n_tup_ins:i8 n_tup_upd:i8 n_tup_del:i8 n_live_tup:i8 n_dead_tup:i8",
    ),
    ("pg_get_keywords", 12_024, "word catcode catdesc barelabel:b baredesc"),
    // What there is none of.
    ("pg_matviews", 12_003, "schemaname matviewname matviewowner tablespace hasindexes:b ispopulated:b definition"),
    (
        "pg_index",
        2610,
        "indexrelid:o indrelid:o indnatts:i2 indnkeyatts:i2 indisunique:b indnullsnotdistinct:b \
      indisprimary:b indisexclusion:b indimmediate:b indisclustered:b indisvalid:b indcheckxmin:b indisready:b \
      indislive:b indisreplident:b indkey:[i2] indcollation:[o] indclass:[o] indoption:[i2] indexprs indpred",
    ),
    ("pg_indexes", 12_010, "schemaname tablename indexname tablespace indexdef"),
    (
        "pg_constraint",
        2606,
        "oid:o conname connamespace:o contype condeferrable:b condeferred:b convalidated:b \
      conrelid:o contypid:o conindid:o conparentid:o confrelid:o confupdtype confdeltype confmatchtype conislocal:b \
      coninhcount:i4 connoinherit:b conkey:[i2] confkey:[i2] conpfeqop:[o] conppeqop:[o] conffeqop:[o] conexclop:[o] \
      conbin",
    ),
    ("pg_description", 2609, "objoid:o classoid:o objsubid:i4 description"),
    ("pg_shdescription", 2396, "objoid:o classoid:o description"),
    ("pg_attrdef", 2604, "oid:o adrelid:o adnum:i2 adbin"),
    ("pg_inherits", 2611, "inhrelid:o inhparent:o inhseqno:i4 inhdetachpending:b"),
    (
        "pg_trigger",
        2620,
        "oid:o tgrelid:o tgparentid:o tgname tgfoid:o tgtype:i2 tgenabled tgisinternal:b \
      tgconstrrelid:o tgconstrindid:o tgconstraint:o tgdeferrable:b tginitdeferred:b tgnargs:i2 tgattr:[i2] tgargs \
      tgqual tgoldtable tgnewtable",
    ),
    ("pg_rewrite", 2618, "oid:o rulename ev_class:o ev_type ev_enabled is_instead:b ev_qual ev_action"),
    ("pg_rules", 12_011, "schemaname tablename rulename definition"),
    ("pg_depend", 2608, "classid:o objid:o objsubid:i4 refclassid:o refobjid:o refobjsubid:i4 deptype"),
    ("pg_enum", 3501, "oid:o enumtypid:o enumsortorder:f enumlabel"),
    ("pg_range", 3541, "rngtypid:o rngsubtype:o rngmultitypid:o rngcollation:o rngsubopc:o rngcanonical rngsubdiff"),
    (
        "pg_collation",
        3456,
        "oid:o collname collnamespace:o collowner:o collprovider collisdeterministic:b \
      collencoding:i4 collcollate collctype colliculocale collversion",
    ),
    (
        "pg_sequence",
        2224,
        "seqrelid:o seqtypid:o seqstart:i8 seqincrement:i8 seqmax:i8 seqmin:i8 seqcache:i8 seqcycle:b",
    ),
    (
        "pg_sequences",
        12_012,
        "schemaname sequencename sequenceowner data_type start_value:i8 min_value:i8 max_value:i8 \
      increment_by:i8 cycle:b cache_size:i8 last_value:i8",
    ),
    (
        "pg_extension",
        3079,
        "oid:o extname extowner:o extnamespace:o extrelocatable:b extversion extconfig:[o] \
      extcondition:[t]",
    ),
    ("pg_available_extensions", 12_013, "name default_version installed_version comment"),
    ("pg_foreign_table", 3118, "ftrelid:o ftserver:o ftoptions:[t]"),
    ("pg_foreign_server", 1417, "oid:o srvname srvowner:o srvfdw:o srvtype srvversion srvacl:[t] srvoptions:[t]"),
    ("pg_foreign_data_wrapper", 2328, "oid:o fdwname fdwowner:o fdwhandler:o fdwvalidator:o fdwacl:[t] fdwoptions:[t]"),
    ("pg_user_mappings", 12_014, "umid:o srvid:o srvname umuser:o usename umoptions:[t]"),
    (
        "pg_partitioned_table",
        3350,
        "partrelid:o partstrat partnatts:i2 partdefid:o partattrs:[i2] partclass:[o] \
      partcollation:[o] partexprs",
    ),
    ("pg_policy", 3256, "oid:o polname polrelid:o polcmd polpermissive:b polroles:[o] polqual polwithcheck"),
    ("pg_policies", 12_015, "schemaname tablename policyname permissive roles:[t] cmd qual with_check"),
    (
        "pg_publication",
        6104,
        "oid:o pubname pubowner:o puballtables:b pubinsert:b pubupdate:b pubdelete:b pubtruncate:b \
      pubviaroot:b",
    ),
    ("pg_publication_rel", 6106, "oid:o prpubid:o prrelid:o prqual prattrs:[i2]"),
    ("pg_publication_namespace", 6237, "oid:o pnpubid:o pnnspid:o"),
    ("pg_publication_tables", 12_016, "pubname schemaname tablename"),
    (
        "pg_subscription",
        6100,
        "oid:o subdbid:o subname subowner:o subenabled:b subconninfo subslotname subsynccommit \
      subpublications:[t]",
    ),
    (
        "pg_statistic_ext",
        3381,
        "oid:o stxrelid:o stxname stxnamespace:o stxowner:o stxstattarget:i4 stxkeys:[i2] \
      stxkind:[t] stxexprs",
    ),
    ("pg_stats", 12_017, "schemaname tablename attname inherited:b null_frac:f avg_width:i4 n_distinct:f"),
    (
        "pg_stat_activity",
        12_018,
        "datid:o datname pid:i4 usesysid:o usename application_name client_addr \
      client_hostname client_port:i4 backend_start:ts xact_start:ts query_start:ts state_change:ts wait_event_type \
      wait_event state query backend_type",
    ),
    ("pg_locks", 12_019, "locktype database:o relation:o pid:i4 mode granted:b"),
    ("pg_cursors", 12_020, "name statement is_holdable:b is_binary:b is_scrollable:b creation_time:ts"),
    ("pg_prepared_statements", 12_021, "name statement prepare_time:ts parameter_types:[t] from_sql:b"),
    ("pg_auth_members", 1261, "roleid:o member:o grantor:o admin_option:b"),
    ("pg_db_role_setting", 2964, "setdatabase:o setrole:o setconfig:[t]"),
    ("pg_default_acl", 826, "oid:o defaclrole:o defaclnamespace:o defaclobjtype defaclacl:[t]"),
    ("pg_seclabels", 12_022, "objoid:o classoid:o objsubid:i4 objtype objnamespace:o objname provider label"),
    ("pg_event_trigger", 3466, "oid:o evtname evtevent evtowner:o evtfoid:o evtenabled evttags:[t]"),
    ("pg_aggregate", 2600, "aggfnoid:o aggkind aggnumdirectargs:i2"),
    ("pg_operator", 2617, "oid:o oprname oprnamespace:o oprowner:o oprkind oprleft:o oprright:o oprresult:o"),
    ("pg_opclass", 2616, "oid:o opcmethod:o opcname opcnamespace:o opcowner:o opcfamily:o opcintype:o opcdefault:b"),
    ("pg_cast", 2605, "oid:o castsource:o casttarget:o castfunc:o castcontext castmethod"),
    ("pg_conversion", 2607, "oid:o conname connamespace:o conowner:o"),
    ("pg_language", 2612, "oid:o lanname lanowner:o lanispl:b lanpltrusted:b"),
    ("pg_ts_config", 3602, "oid:o cfgname cfgnamespace:o cfgowner:o cfgparser:o"),
    ("pg_ts_dict", 3600, "oid:o dictname dictnamespace:o dictowner:o dicttemplate:o dictinitoption"),
    ("pg_ts_parser", 3601, "oid:o prsname prsnamespace:o"),
    ("pg_ts_template", 3764, "oid:o tmplname tmplnamespace:o"),
    ("pg_opfamily", 2753, "oid:o opfmethod:o opfname opfnamespace:o opfowner:o"),
    ("pg_amop", 2602, "oid:o amopfamily:o amoplefttype:o amoprighttype:o amopstrategy:i2 amoppurpose amopopr:o"),
    ("pg_amproc", 2603, "oid:o amprocfamily:o amproclefttype:o amprocrighttype:o amprocnum:i2 amproc:o"),
    ("pg_timezone_names", 12_023, "name abbrev utc_offset is_dst:b"),
];

/// The first tables have rows; the others are those of which there is none.
const WITH_ROWS: usize = 15;

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
pub(crate) struct PgCatalog(pub(crate) Engine);

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
        let relations = || Relation::all(&self.0);
        match name {
            "pg_type" => types(&mut sheet),
            "pg_attribute" => attributes(&mut sheet, &relations()),
            "pg_class" => classes(&mut sheet, &relations()),
            "pg_database" => database(&mut sheet),
            "pg_namespace" => namespaces(&mut sheet),
            "pg_proc" => functions::list(&mut sheet),
            "pg_tables" => tables(&mut sheet, &relations()),
            "pg_views" => views(&mut sheet, &relations()),
            "pg_roles" | "pg_user" => role(&mut sheet, name),
            "pg_settings" => settings(&mut sheet),
            "pg_am" => sheet.add([("oid", 2.into()), ("amname", "heap".into()), ("amtype", "t".into())]),
            "pg_tablespace" => {
                sheet.add([("oid", 1663.into()), ("spcname", "pg_default".into()), ("spcowner", ROLE_OID.into())]);
            }
            "pg_get_keywords" => KEYWORDS.iter().for_each(|word| {
                sheet.add([("word", (*word).into()), ("catcode", "R".into()), ("catdesc", "reserved".into())]);
            }),
            "pg_stat_user_tables" => statistics(&mut sheet, &relations()),
            _ => {}
        }
        sheet.table().map(Some)
    }

    fn table_exist(&self, name: &str) -> bool {
        table_names().any(|known| known == name)
    }
}

fn types(sheet: &mut Sheet) {
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
    for PostgresType { oid, name, length, array, category, .. } in &TYPES {
        add(*oid, (*name).to_owned(), *length, *category, 0, *array);
        if *array != 0 {
            add(*array, format!("_{name}"), -1, 'A', *oid, 0);
        }
    }
}

fn attributes(sheet: &mut Sheet, relations: &[Relation]) {
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

fn classes(sheet: &mut Sheet, relations: &[Relation]) {
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
        add(relation.oid, &relation.name, PUBLIC_OID, relation.kind(), relation.schema.fields().len());
    }
    for (name, oid, columns) in TABLES {
        add(*oid, name, PG_CATALOG_OID, "r", columns.split_whitespace().count());
    }
}

fn database(sheet: &mut Sheet) {
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

fn namespaces(sheet: &mut Sheet) {
    for (oid, name) in functions::NAMESPACES {
        sheet.add([("oid", oid.into()), ("nspname", name.into()), ("nspowner", ROLE_OID.into())]);
    }
}

fn tables(sheet: &mut Sheet, relations: &[Relation]) {
    let streams = relations.iter().filter(|relation| relation.select.is_none());
    let own = table_names().map(|name| (PG_CATALOG, name));
    for (schema, name) in streams.map(|stream| ("public", stream.name.as_str())).chain(own) {
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

fn views(sheet: &mut Sheet, relations: &[Relation]) {
    for view in relations.iter().filter(|relation| relation.select.is_some()) {
        sheet.add([
            ("schemaname", "public".into()),
            ("viewname", view.name.clone().into()),
            ("viewowner", ROLE.into()),
            ("definition", view.select.clone().into()),
        ]);
    }
}

fn role(sheet: &mut Sheet, table: &str) {
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

fn settings(sheet: &mut Sheet) {
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

fn statistics(sheet: &mut Sheet, relations: &[Relation]) {
    for relation in relations {
        sheet.add([
            ("relid", relation.oid.into()),
            ("schemaname", "public".into()),
            ("relname", relation.name.clone().into()),
        ]);
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
