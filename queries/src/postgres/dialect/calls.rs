//! Calls and casts that only PostgreSQL knows, and patterns with another escape.

use datafusion::sql::sqlparser::ast::{
    ArrayElemTypeDef, BinaryOperator, CastKind, DataType, ExactNumberInfo, Expr, Function, FunctionArg,
    FunctionArgExpr, FunctionArguments, ObjectNamePart, TimezoneInfo, Value, ValueWithSpan,
};

use super::super::catalog::PG_CATALOG;
use super::super::functions;
use super::trees::{array, call, items_of, list, taken, text_of};
use super::{patterns, times, unqualified};

/// Writes PostgreSQL's pattern in a call of `to_timestamp`, `to_date` or `to_char` as DataFusion takes it.
pub(super) fn translate_pattern(function: &mut Function) -> Option<()> {
    let (pattern, reads) = pattern_of(function)?;
    *pattern = Expr::value(Value::SingleQuotedString(patterns::translated(&text_of(pattern)?, reads)?));
    Some(())
}

/// Whether it is such a call with a pattern without any field that DataFusion knows: it would say that text of every time.
pub(super) fn has_no_field(function: &mut Function) -> bool {
    pattern_of(function).and_then(|(pattern, _)| text_of(pattern)).is_some_and(|pattern| !pattern.contains('%'))
}

/// The pattern in a call of a function that takes one, and whether it reads times.
fn pattern_of(function: &mut Function) -> Option<(&mut Expr, bool)> {
    let [ObjectNamePart::Identifier(name)] = &function.name.0[..] else { return None };
    let reads = match name.value.to_lowercase().as_str() {
        "to_timestamp" | "to_date" => true,
        "to_char" => false,
        _ => return None,
    };
    let FunctionArguments::List(arguments) = &mut function.args else { return None };
    let [_, FunctionArg::Unnamed(FunctionArgExpr::Expr(pattern))] = &mut arguments.args[..] else { return None };
    Some((pattern, reads))
}

/// What stands for a call; the call itself may be changed as well.
pub(super) fn of_function(function: &mut Function) -> Option<Expr> {
    unqualified(&mut function.name);
    let parts = &mut function.name.0;
    let [ObjectNamePart::Identifier(name)] = &mut parts[..] else { return None };
    let lower = name.value.to_lowercase();
    if functions::is_known(&lower) {
        name.value.clone_from(&lower);
        if matches!(function.args, FunctionArguments::None) {
            function.args = list(Vec::new());
        }
    }
    match lower.as_str() {
        "current_schemas" => Some(array(vec![PG_CATALOG.to_owned(), "public".to_owned()])),
        "parse_ident" => {
            let FunctionArguments::List(arguments) = &function.args else { return None };
            let [FunctionArg::Unnamed(FunctionArgExpr::Expr(name))] = &arguments.args[..] else { return None };
            let parts = text_of(name)?.split('.').map(|part| part.trim_matches('"').to_owned()).collect();
            Some(array(parts))
        }
        "to_timestamp" | "to_date" | "to_char" => {
            translate_pattern(function);
            None
        }
        "age" | "localtime" | "localtimestamp" | "make_interval" | "statement_timestamp" | "transaction_timestamp" => {
            times::of_time(&lower, function)
        }
        "array_lower" => Some(Expr::value(Value::Number("1".to_owned(), false))),
        "array_upper" => {
            name.value = "array_length".to_owned();
            let length = Box::new(Expr::Function(function.clone()));
            let (kind, data_type) = (CastKind::Cast, DataType::BigInt(None));
            Some(Expr::Cast { kind, expr: length, data_type, array: false, format: None })
        }
        _ => None,
    }
}

/// What stands for a cast to a type that DataFusion does not know; the type itself may be changed instead.
pub(super) fn of_cast(inner: &mut Box<Expr>, to: &mut DataType) -> Option<Expr> {
    let name = match &*to {
        DataType::Regclass => "regclass".to_owned(),
        DataType::JSON | DataType::JSONB => "json".to_owned(),
        DataType::Uuid => "uuid".to_owned(),
        DataType::Custom(name, _) => name.0.last()?.as_ident()?.value.to_lowercase(),
        DataType::Array(ArrayElemTypeDef::SquareBracket(item, _) | ArrayElemTypeDef::AngleBracket(item)) => {
            if let Some(items) = text_of(inner).and_then(|text| items_of(&text)) {
                **inner = array(items);
            }
            let mut item = (**item).clone();
            if let DataType::Custom(name, _) = &item {
                item = plain_type(&name.0.last()?.as_ident()?.value.to_lowercase())?;
            }
            *to = DataType::Array(ArrayElemTypeDef::SquareBracket(Box::new(item), None));
            return None;
        }
        _ => return None,
    };
    let (to_number, to_name) = match name.as_str() {
        "regclass" => ("to_regclass", "regclass_name"),
        "regtype" => ("to_regtype", "format_type"),
        "regnamespace" => ("to_regnamespace", "regnamespace_name"),
        "int2vector" | "oidvector" | "anyarray" => return Some(taken(inner)),
        other => {
            if let Some(plain) = plain_type(other) {
                *to = plain;
            }
            return None;
        }
    };
    let is_name = is_name(inner);
    let operand = taken(inner);
    Some(match to_name {
        _ if is_name => call(to_number, vec![operand]),
        "format_type" => call(to_name, vec![operand, Expr::value(Value::Null)]),
        _ => call(to_name, vec![operand]),
    })
}

/// Whether an expression is a name rather than a number of the catalogue.
pub(super) fn is_name(expr: &Expr) -> bool {
    match expr {
        Expr::Value(value) => !matches!(value.value, Value::Number(..)),
        Expr::BinaryOp { op: BinaryOperator::StringConcat, .. } | Expr::Function(_) => true,
        Expr::Nested(inner) => is_name(inner),
        Expr::Cast { data_type, .. } => matches!(data_type, DataType::Text | DataType::Varchar(_)),
        _ => false,
    }
}

/// DataFusion's type of that name, where it differs from PostgreSQL's.
pub(super) fn plain_type(name: &str) -> Option<DataType> {
    Some(match name {
        "oid" => DataType::IntUnsigned(None),
        "xid" | "int8" | "cardinal_number" => DataType::BigInt(None),
        "int2" => DataType::SmallInt(None),
        "int4" => DataType::Integer(None),
        "float4" => DataType::Real,
        "float8" => DataType::DoublePrecision,
        "bool" => DataType::Boolean,
        "date" => DataType::Date,
        "timestamp" => DataType::Timestamp(None, TimezoneInfo::None),
        "timestamptz" => DataType::Timestamp(None, TimezoneInfo::Tz),
        "numeric" => DataType::Numeric(ExactNumberInfo::None),
        "name" | "char" | "text" | "varchar" | "bpchar" | "cstring" | "json" | "jsonb" | "uuid" | "xml" | "inet"
        | "unknown" | "regproc" | "regprocedure" | "regrole" | "regoper" | "sql_identifier" | "character_data"
        | "yes_or_no" | "aclitem" => DataType::Text,
        _ => return None,
    })
}

/// Writes a pattern that has another escape with the backslash; whether it could be.
pub(super) fn escape_with_backslash(pattern: &mut Expr, escape: &str) -> bool {
    match pattern {
        Expr::Value(ValueWithSpan { value: Value::SingleQuotedString(text), .. }) => {
            let mut made = String::new();
            let mut characters = text.chars();
            while let Some(character) = characters.next() {
                match character {
                    '\\' => made.push_str("\\\\"),
                    other if escape.chars().eq([other]) => {
                        made.push('\\');
                        made.extend(characters.next());
                    }
                    other => made.push(other),
                }
            }
            *text = made;
            true
        }
        Expr::BinaryOp { left, op: BinaryOperator::StringConcat, right } => {
            escape_with_backslash(left, escape) && escape_with_backslash(right, escape)
        }
        Expr::Nested(inner) => escape_with_backslash(inner, escape),
        _ => false,
    }
}
