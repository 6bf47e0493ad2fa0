//! `generate_series` in `FROM`: its column is called as in PostgreSQL, after the alias or the function, and a step may be the text of
//! an interval.

use datafusion::sql::sqlparser::ast::{
    CastKind, DataType, Expr, FunctionArg, FunctionArgExpr, Ident, ObjectName, ObjectNamePart, TableAlias,
    TableAliasColumnDef, TableFactor,
};

use super::super::absent;
use super::trees::{taken, text_of};

const GENERATE_SERIES: &str = "generate_series";

/// Rewrites a call in `FROM`; DataFusion knows such functions in lower case only.
pub(super) fn name_column(table: &mut TableFactor) {
    let (name, args, alias) = match table {
        TableFactor::Table { name, args: Some(args), with_ordinality: false, alias, .. } if args.settings.is_none() => {
            (name, &mut args.args, alias)
        }
        TableFactor::Function { name, args, with_ordinality: false, alias, .. } => (name, args, alias),
        _ => return,
    };
    lower(name);
    let by_place = args.iter().all(|argument| matches!(argument, FunctionArg::Unnamed(_)));
    if absent::last(name) != GENERATE_SERIES || !by_place {
        return;
    }
    if let [_, _, FunctionArg::Unnamed(FunctionArgExpr::Expr(step))] = &mut args[..]
        && text_of(step).is_some_and(|text| text.parse::<f64>().is_err())
    {
        let (expr, data_type) = (Box::new(taken(step)), DataType::Interval { fields: None, precision: None });
        *step = Expr::Cast { kind: CastKind::Cast, expr, data_type, array: false, format: None };
    }
    let alias = alias.get_or_insert_with(|| {
        let name = Ident::new(GENERATE_SERIES);
        TableAlias { explicit: true, name, columns: Vec::new(), at: None }
    });
    if alias.columns.is_empty() {
        alias.columns.push(TableAliasColumnDef { name: alias.name.clone(), data_type: None });
    }
}

fn lower(name: &mut ObjectName) {
    if let [ObjectNamePart::Identifier(name)] = &mut name.0[..]
        && name.quote_style.is_none()
    {
        name.value = name.value.to_lowercase();
    }
}
