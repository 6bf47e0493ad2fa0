//! The functions with which clients browse: they say what a number of the catalogue stands for, and what every session
//! is like. Those about the session that asks are in [`own`].
//!
//! They are asked of few rows, so they are computed row by row. There is one role, one database and one search path,
//! the same for every session.

use std::fmt;
use std::hash::{Hash, Hasher};
use std::sync::Arc;

use arrow::datatypes::DataType;
use datafusion::common::ScalarValue;
use datafusion::error::{DataFusionError, Result};
use datafusion::logical_expr::{ColumnarValue, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, Volatility};
use streamgauge_engine::Engine;

use super::catalog::{self, INFORMATION_SCHEMA_OID, PG_CATALOG_OID};
use super::relations::{PUBLIC_OID, Relation, SYSTEM_OID};
use super::sheet::Sheet;
use super::{ROLE, SERVER_VERSION, own, types};
use crate::system::SYSTEM;
use crate::tables::{CATALOG, SCHEMA};

/// The schemas, with their numbers.
pub(super) const NAMESPACES: [(i64, &str); 4] = [
    (PG_CATALOG_OID, "pg_catalog"),
    (PUBLIC_OID, SCHEMA),
    (INFORMATION_SCHEMA_OID, "information_schema"),
    (SYSTEM_OID, SYSTEM),
];

/// The settings that clients ask for.
pub const SETTINGS: &[(&str, &str)] = &[
    ("application_name", ""),
    ("bytea_output", "hex"),
    ("client_encoding", "UTF8"),
    ("DateStyle", "ISO, MDY"),
    ("default_table_access_method", "heap"),
    ("default_transaction_isolation", "repeatable read"),
    ("default_transaction_read_only", "on"),
    ("extra_float_digits", "1"),
    ("integer_datetimes", "on"),
    ("IntervalStyle", "postgres"),
    ("is_superuser", "off"),
    ("jit", "off"),
    ("lc_collate", "C"),
    ("lc_ctype", "C"),
    ("max_identifier_length", "63"),
    ("max_index_keys", "32"),
    ("search_path", "public"),
    ("server_encoding", "UTF8"),
    ("server_version", SERVER_VERSION),
    ("server_version_num", "140000"),
    ("standard_conforming_strings", "on"),
    ("statement_timeout", "0"),
    ("TimeZone", "UTC"),
    ("transaction_isolation", "repeatable read"),
    ("transaction_read_only", "on"),
];

/// The value of a setting, as far as sessions do not change it.
#[must_use]
pub fn setting(name: &str) -> Option<&'static str> {
    SETTINGS.iter().find(|(known, _)| known.eq_ignore_ascii_case(name)).map(|(_, value)| *value)
}

type Work = fn(&Engine, &[ScalarValue]) -> Result<ScalarValue>;

/// What a function returns, and how.
#[derive(Clone, Copy)]
enum Answer {
    /// Always the same text.
    Text(&'static str),
    /// Always the same truth.
    Truth(bool),
    /// Always the same number.
    Number(i64),
    /// Nothing, which is a text.
    Nothing,
    /// A text.
    TextOf(Work),
    /// A truth.
    TruthOf(Work),
    /// A number.
    NumberOf(Work),
    /// A number of the catalogue.
    OidOf(Work),
}

use Answer::{Nothing, Number, NumberOf, OidOf, Text, TextOf, Truth, TruthOf};

const FUNCTIONS: &[(&str, Answer)] = &[
    ("version", TextOf(version)),
    ("current_database", Text(CATALOG)),
    ("current_catalog", Text(CATALOG)),
    ("current_schema", Text(SCHEMA)),
    ("current_user", Text(ROLE)),
    ("session_user", Text(ROLE)),
    ("current_role", Text(ROLE)),
    ("user", Text(ROLE)),
    ("pg_get_userbyid", Text(ROLE)),
    ("pg_encoding_to_char", Text("UTF8")),
    ("pg_client_encoding", Text("UTF8")),
    ("format_type", TextOf(format_type)),
    ("quote_ident", TextOf(quote_ident)),
    ("format", TextOf(format)),
    ("quote_literal", TextOf(quote_literal)),
    ("to_regclass", OidOf(to_regclass)),
    ("to_regtype", OidOf(to_regtype)),
    ("to_regnamespace", OidOf(to_regnamespace)),
    ("regclass_name", TextOf(regclass_name)),
    ("regnamespace_name", TextOf(regnamespace_name)),
    ("pg_get_viewdef", TextOf(pg_get_viewdef)),
    (
        "pg_size_pretty",
        TextOf(|_, arguments| Ok(ScalarValue::Utf8(number(arguments, 0).map(|n| format!("{n} bytes"))))),
    ),
    ("pg_relation_size", NumberOf(unknown)),
    ("pg_total_relation_size", NumberOf(unknown)),
    ("pg_table_size", NumberOf(unknown)),
    ("pg_indexes_size", NumberOf(unknown)),
    ("pg_database_size", NumberOf(unknown)),
    ("pg_stat_get_numscans", Number(0)),
    ("pg_advisory_unlock_all", Nothing),
    ("inet_server_port", Nothing),
    ("inet_server_addr", Nothing),
    ("inet_client_addr", Nothing),
    ("inet_client_port", Nothing),
    ("obj_description", Nothing),
    ("shobj_description", Nothing),
    ("col_description", Nothing),
    ("pg_get_expr", Nothing),
    ("pg_get_constraintdef", Nothing),
    ("pg_get_indexdef", Nothing),
    ("pg_get_partkeydef", Nothing),
    ("pg_get_partition_constraintdef", Nothing),
    ("pg_get_ruledef", Nothing),
    ("pg_get_triggerdef", Nothing),
    ("pg_get_functiondef", Nothing),
    ("pg_get_function_arguments", Nothing),
    ("pg_get_function_identity_arguments", Nothing),
    ("pg_get_function_result", Nothing),
    ("pg_get_function_sqlbody", Nothing),
    ("pg_get_publication_tables", Nothing),
    ("pg_get_serial_sequence", Nothing),
    ("pg_get_statisticsobjdef_columns", Nothing),
    ("pg_tablespace_location", Nothing),
    ("pg_relation_is_publishable", Truth(false)),
    ("pg_is_in_recovery", Truth(false)),
    ("pg_is_other_temp_schema", Truth(false)),
    ("row_security_active", Truth(false)),
    ("pg_relation_is_updatable", Number(0)),
    ("pg_column_is_updatable", Truth(false)),
    ("pg_table_is_visible", TruthOf(pg_table_is_visible)),
    ("pg_type_is_visible", Truth(true)),
    ("pg_function_is_visible", Truth(true)),
    ("pg_operator_is_visible", Truth(true)),
    ("pg_collation_is_visible", Truth(true)),
    ("has_table_privilege", Truth(true)),
    ("has_any_column_privilege", Truth(true)),
    ("has_column_privilege", Truth(true)),
    ("has_schema_privilege", Truth(true)),
    ("has_database_privilege", Truth(true)),
    ("has_function_privilege", Truth(true)),
    ("has_sequence_privilege", Truth(true)),
    ("pg_has_role", Truth(true)),
];

/// The functions, for a session.
pub(crate) fn functions(engine: &Engine) -> Vec<Arc<ScalarUDF>> {
    let function = |(name, answer): &(&'static str, Answer)| {
        let volatility = if matches!(answer, TextOf(_) | TruthOf(_) | NumberOf(_) | OidOf(_)) {
            Volatility::Stable
        } else {
            Volatility::Immutable
        };
        let signature = Signature::one_of(
            vec![
                datafusion::logical_expr::TypeSignature::VariadicAny,
                datafusion::logical_expr::TypeSignature::Nullary,
            ],
            volatility,
        );
        Arc::new(ScalarUDF::from(Function { name, answer: *answer, engine: engine.clone(), signature }))
    };
    FUNCTIONS.iter().map(function).collect()
}

/// Whether there is such a function here.
pub(super) fn is_known(name: &str) -> bool {
    FUNCTIONS.iter().any(|(known, _)| *known == name) || own::is_known(name)
}

/// Lists the functions, as `pg_proc` has them.
pub(super) fn list(sheet: &mut Sheet) {
    let functions = FUNCTIONS.iter().map(|(name, answer)| (*name, answer.returns())).chain(own::list());
    for (place, (name, returns)) in (14_000_i64..).zip(functions) {
        let returns = types::oid_of(&returns);
        sheet.add([
            ("oid", place.into()),
            ("proname", name.into()),
            ("pronamespace", PG_CATALOG_OID.into()),
            ("prokind", "f".into()),
            ("proretset", false.into()),
            ("pronargs", 0.into()), // they take what they are given
            ("pronargdefaults", 0.into()),
            ("prorettype", i64::from(returns).into()),
            ("proargtypes", Vec::new().into()),
        ]);
    }
}

impl Answer {
    fn returns(&self) -> DataType {
        match self {
            Text(_) | Nothing | TextOf(_) => DataType::Utf8,
            Truth(_) | TruthOf(_) => DataType::Boolean,
            Number(_) | NumberOf(_) => DataType::Int64,
            OidOf(_) => types::OID,
        }
    }
}

struct Function {
    name: &'static str,
    answer: Answer,
    engine: Engine,
    signature: Signature,
}

impl fmt::Debug for Function {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name)
    }
}

impl PartialEq for Function {
    fn eq(&self, other: &Self) -> bool {
        self.name == other.name
    }
}

impl Eq for Function {}

impl Hash for Function {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.name.hash(state);
    }
}

impl ScalarUDFImpl for Function {
    fn name(&self) -> &str {
        self.name
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _: &[DataType]) -> Result<DataType> {
        Ok(self.answer.returns())
    }

    fn invoke_with_args(&self, arguments: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let work = match self.answer {
            Text(text) => return Ok(ColumnarValue::Scalar(ScalarValue::Utf8(Some(text.to_owned())))),
            Nothing => return Ok(ColumnarValue::Scalar(ScalarValue::Utf8(None))),
            Truth(truth) => return Ok(ColumnarValue::Scalar(ScalarValue::Boolean(Some(truth)))),
            Number(number) => return Ok(ColumnarValue::Scalar(ScalarValue::Int64(Some(number)))),
            TextOf(work) | TruthOf(work) | NumberOf(work) | OidOf(work) => work,
        };
        value_by_value(&arguments, &self.answer.returns(), |row| work(&self.engine, row))
    }
}

/// Computes a function row by row, or once if its arguments are the same for all rows.
pub(super) fn value_by_value(
    arguments: &ScalarFunctionArgs,
    returns: &DataType,
    work: impl Fn(&[ScalarValue]) -> Result<ScalarValue>,
) -> Result<ColumnarValue> {
    let scalar = |argument: &ColumnarValue| matches!(argument, ColumnarValue::Scalar(_));
    if arguments.args.iter().all(scalar) {
        return work(&row(&arguments.args, 0)?).map(ColumnarValue::Scalar);
    }
    if arguments.number_rows == 0 {
        return Ok(ColumnarValue::Array(arrow::array::new_empty_array(returns)));
    }
    let values = (0..arguments.number_rows).map(|place| work(&row(&arguments.args, place)?));
    Ok(ColumnarValue::Array(ScalarValue::iter_to_array(values.collect::<Result<Vec<_>>>()?)?))
}

fn row(arguments: &[ColumnarValue], place: usize) -> Result<Vec<ScalarValue>> {
    let value = |argument: &ColumnarValue| match argument {
        ColumnarValue::Scalar(scalar) => Ok(scalar.clone()),
        ColumnarValue::Array(array) => ScalarValue::try_from_array(array, place),
    };
    arguments.iter().map(value).collect()
}

pub(super) fn text(arguments: &[ScalarValue], place: usize) -> Option<String> {
    match arguments.get(place)?.cast_to(&DataType::Utf8) {
        Ok(ScalarValue::Utf8(text)) => text,
        _ => None,
    }
}

fn number(arguments: &[ScalarValue], place: usize) -> Option<i64> {
    match arguments.get(place)?.cast_to(&DataType::Int64) {
        Ok(ScalarValue::Int64(number)) => number,
        _ => None,
    }
}

fn version(_: &Engine, _: &[ScalarValue]) -> Result<ScalarValue> {
    let version = env!("CARGO_PKG_VERSION");
    Ok(ScalarValue::Utf8(Some(format!("PostgreSQL {SERVER_VERSION} (Streamgauge {version})"))))
}

fn format_type(_: &Engine, arguments: &[ScalarValue]) -> Result<ScalarValue> {
    let name = number(arguments, 0).map(|oid| u32::try_from(oid).map_or_else(|_| "???".to_owned(), types::sql_name));
    Ok(ScalarValue::Utf8(name))
}

/// How large tables are is not counted.
fn unknown(_: &Engine, _: &[ScalarValue]) -> Result<ScalarValue> {
    Ok(ScalarValue::Int64(None))
}

/// A text with `%s`, `%I` (a name, in quotes if it needs them), `%L` (a text in quotes) and `%%`.
fn format(engine: &Engine, arguments: &[ScalarValue]) -> Result<ScalarValue> {
    let Some(pattern) = text(arguments, 0) else { return Ok(ScalarValue::Utf8(None)) };
    let (mut made, mut place, mut characters) = (String::new(), 1, pattern.chars());
    while let Some(character) = characters.next() {
        if character != '%' {
            made.push(character);
            continue;
        }
        let kind = characters.next();
        if kind == Some('%') {
            made.push('%');
            continue;
        }
        let wrong = |reason: &str| DataFusionError::Execution(format!("format({pattern:?}) {reason}"));
        let argument = arguments.get(place..=place).ok_or_else(|| wrong("has more places than values"))?;
        place += 1;
        let part = match kind {
            Some('s') => ScalarValue::Utf8(text(argument, 0)),
            Some('I') => quote_ident(engine, argument)?,
            Some('L') => quote_literal(engine, argument)?,
            _ => return Err(wrong("knows %s, %I, %L and %%")),
        };
        if let ScalarValue::Utf8(Some(part)) = part {
            made.push_str(&part);
        }
    }
    Ok(ScalarValue::Utf8(Some(made)))
}

fn quote_ident(_: &Engine, arguments: &[ScalarValue]) -> Result<ScalarValue> {
    let plain = |text: &str| {
        text.starts_with(|c: char| c.is_ascii_lowercase() || c == '_')
            && text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_')
    };
    let quoted = |text: String| if plain(&text) { text } else { format!("\"{}\"", text.replace('"', "\"\"")) };
    Ok(ScalarValue::Utf8(text(arguments, 0).map(quoted)))
}

fn quote_literal(_: &Engine, arguments: &[ScalarValue]) -> Result<ScalarValue> {
    Ok(ScalarValue::Utf8(text(arguments, 0).map(|text| format!("'{}'", text.replace('\'', "''")))))
}

/// A number of the catalogue.
fn oid(number: Option<i64>) -> ScalarValue {
    ScalarValue::UInt32(number.and_then(|number| u32::try_from(number).ok()))
}

/// The number of a table, from its name with or without a schema; a number stands for itself.
fn to_regclass(engine: &Engine, arguments: &[ScalarValue]) -> Result<ScalarValue> {
    let Some(name) = text(arguments, 0) else { return Ok(oid(None)) };
    if let Ok(number) = name.parse::<i64>() {
        return Ok(oid(Some(number)));
    }
    let name = name.replace('"', "");
    let (schema, name) = name.rsplit_once('.').map_or((None, name.as_str()), |(schema, name)| (Some(schema), name));
    let schema = schema.map(|schema| schema.strip_prefix("streamgauge.").unwrap_or(schema));
    let own = catalog::numbers().find(|(_, own)| *own == name && schema.is_none_or(|schema| schema == "pg_catalog"));
    let public = || {
        let relations = Relation::all(engine).into_iter();
        relations.filter(|one| one.namespace == schema.unwrap_or(SCHEMA)).find(|one| one.name == name)
    };
    Ok(oid(own.map(|(oid, _)| oid).or_else(|| public().map(|relation| relation.oid))))
}

/// Whether a table is found without its schema: those of `system` are not.
fn pg_table_is_visible(engine: &Engine, arguments: &[ScalarValue]) -> Result<ScalarValue> {
    let oid = number(arguments, 0);
    let hidden = |oid: i64| Relation::all(engine).iter().any(|one| one.oid == oid && one.namespace == SYSTEM);
    Ok(ScalarValue::Boolean(oid.map(|oid| !hidden(oid))))
}

fn regclass_name(engine: &Engine, arguments: &[ScalarValue]) -> Result<ScalarValue> {
    let name = |oid: i64| {
        let own = catalog::numbers().find(|(own, _)| *own == oid).map(|(_, name)| name.to_owned());
        let public = || Relation::all(engine).into_iter().find(|relation| relation.oid == oid);
        own.or_else(|| public().map(|relation| relation.full_name())).unwrap_or_else(|| oid.to_string())
    };
    Ok(ScalarValue::Utf8(number(arguments, 0).map(name)))
}

fn to_regtype(_: &Engine, arguments: &[ScalarValue]) -> Result<ScalarValue> {
    let name = text(arguments, 0);
    let number = name.and_then(|name| {
        let plain = name.strip_prefix("pg_catalog.").unwrap_or(&name);
        match plain.strip_suffix("[]") {
            Some(item) => types::by_name(item).map(|kind| kind.array),
            None => types::by_name(plain).map(|kind| kind.oid).or_else(|| plain.parse().ok()),
        }
    });
    Ok(oid(number.map(i64::from)))
}

fn to_regnamespace(_: &Engine, arguments: &[ScalarValue]) -> Result<ScalarValue> {
    let name = text(arguments, 0);
    let number = name.and_then(|name| NAMESPACES.iter().find(|(_, known)| *known == name).map(|(oid, _)| *oid));
    Ok(oid(number))
}

fn regnamespace_name(_: &Engine, arguments: &[ScalarValue]) -> Result<ScalarValue> {
    let oid = number(arguments, 0);
    let name = |oid: i64| {
        let known = NAMESPACES.iter().find(|(known, _)| *known == oid);
        known.map_or_else(|| oid.to_string(), |(_, name)| (*name).to_owned())
    };
    Ok(ScalarValue::Utf8(oid.map(name)))
}

fn pg_get_viewdef(engine: &Engine, arguments: &[ScalarValue]) -> Result<ScalarValue> {
    let oid = number(&[to_regclass(engine, arguments)?], 0);
    let view = oid.and_then(|oid| Relation::all(engine).into_iter().find(|relation| relation.oid == oid));
    Ok(ScalarValue::Utf8(view.and_then(|view| view.select)))
}
