//! Calls about times that DataFusion has under another name, or with all of their arguments.

use datafusion::sql::sqlparser::ast::{
    CastKind, DataType, Expr, Function, FunctionArg, FunctionArgExpr, FunctionArguments, Ident, ObjectName,
    ObjectNamePart, TimezoneInfo, Value,
};

use super::trees::call;

/// What stands for a call of that name; the call itself may be changed as well.
pub(super) fn of_time(name: &str, function: &mut Function) -> Option<Expr> {
    match (name, &mut function.args) {
        ("localtime", FunctionArguments::None) => return Some(call("current_time", Vec::new())),
        ("localtimestamp", FunctionArguments::None) => {
            let (expr, data_type) = (Box::new(call("now", Vec::new())), DataType::Timestamp(None, TimezoneInfo::None));
            return Some(Expr::Cast { kind: CastKind::Cast, expr, data_type, array: false, format: None });
        }
        ("statement_timestamp" | "transaction_timestamp", _) => {
            function.name = ObjectName(vec![ObjectNamePart::Identifier(Ident::new("now"))]);
        }
        ("age", FunctionArguments::List(list)) if list.args.len() == 1 => {
            let midnight = call("current_date", Vec::new());
            list.args.insert(0, FunctionArg::Unnamed(FunctionArgExpr::Expr(midnight)));
        }
        ("make_interval", FunctionArguments::List(list)) => {
            if let Some(args) = in_place(&list.args) {
                list.args = args;
            }
        }
        _ => {}
    }
    None
}

/// The parts of an interval, in the order of their places.
const PARTS: [&str; 7] = ["years", "months", "weeks", "days", "hours", "mins", "secs"];

/// Arguments of `make_interval` with names or without, each in its place; those that are not there are 0.
fn in_place(arguments: &[FunctionArg]) -> Option<Vec<FunctionArg>> {
    let mut placed = PARTS.map(|_| None);
    let mut named = false;
    for (place, argument) in arguments.iter().enumerate() {
        let (place, value) = match argument {
            FunctionArg::Unnamed(FunctionArgExpr::Expr(value)) if !named => (place, value),
            FunctionArg::Named { name, arg: FunctionArgExpr::Expr(value), .. } => {
                named = true;
                (PARTS.iter().position(|part| name.value.eq_ignore_ascii_case(part))?, value)
            }
            _ => return None,
        };
        if placed.get_mut(place)?.replace(value.clone()).is_some() {
            return None;
        }
    }
    let zero = || Expr::value(Value::Number("0".to_owned(), false));
    let argument = |value: Option<Expr>| FunctionArg::Unnamed(FunctionArgExpr::Expr(value.unwrap_or_else(zero)));
    Some(placed.map(argument).into())
}
