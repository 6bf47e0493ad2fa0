//! The tables of `pg_catalog`, with the columns that clients name.

/// The tables of the schema, with their columns, as [`Sheet`](super::super::sheet::Sheet) reads them.
pub(super) const TABLES: &[(&str, i64, &str)] = &[
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
      pronargdefaults:i2 prorettype:o proargtypes:ov proallargtypes:[o] proargmodes:[t] proargnames:[t] \
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
    (
        "pg_stat_activity",
        12_018,
        "datid:o datname pid:i4 usesysid:o usename application_name client_addr \
      client_hostname client_port:i4 backend_start:ts xact_start:ts query_start:ts state_change:ts wait_event_type \
      wait_event state query backend_type",
    ),
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
pub(super) const WITH_ROWS: usize = 16;
