//! What the parser takes and DataFusion's planner leaves out without a word, or reads otherwise than most who write it mean. The answer
//! would be another than what was asked, so it is refused.
//!
//! | written | it would be |
//! |---|---|
//! | `FROM t TABLESAMPLE (10)`, and hints, versions, partitions, `WITH ORDINALITY` | all rows, without the number |
//! | `FROM f(1, SETTINGS a = 2)`, `LATERAL f(a => 1)`, `s.f(1)` | `f(1)` |
//! | `FROM t AS u (a INT)`, `WITH u (a INT) AS …` | a column of any type |
//! | `PREWHERE`, `CONNECT BY` | no condition |
//! | `GROUP BY x WITH TOTALS` | no totals |
//! | `SETTINGS`, `FORMAT`, `FOR JSON` | nothing |
//! | `quantile(0.9)(x)` | a call without its parameter |
//! | `abs(DISTINCT x)`, `abs(x) FILTER (…)` | `abs(x)` |
//! | `corr(DISTINCT a, b)` | `corr(a, b)` |
//! | `OVER (w ORDER BY x)` | a window without what `w` says; `OVER w` in `ORDER BY` an aggregate |
//! | `WITH RECURSIVE t AS (… UNION … LIMIT 5)` | no limit |
//! | `\|> AGGREGATE … DESC` | no order |
//! | `a ^ b` | the exclusive or, where PostgreSQL has the power |

#[cfg(test)]
mod tests;

use std::fmt::Display;
use std::ops::ControlFlow;

use datafusion::execution::session_state::SessionState;
use datafusion::sql::parser::Statement as SqlStatement;
use datafusion::sql::sqlparser::ast::{
    BinaryOperator, DuplicateTreatment, Expr, Function, FunctionArg, FunctionArguments, GroupByExpr,
    NamedWindowDefinition, NamedWindowExpr, OrderByOptions, PipeOperator, Query, Select, SetExpr, TableAlias,
    TableFactor, Visit, Visitor, WindowType,
};

const TABLE: &str =
    "a table is read whole and by its name; write conditions with WHERE, and number rows with row_number()";
const CALL: &str =
    "a function in FROM has no schema, its arguments go by their place, and settings stand before the question";
const TYPE: &str = "a column has the type of what it names; write a CAST in the list of the SELECT";
const FORM: &str = "what form an answer has is said beside the question, and settings with SET before it";
const POWER: &str = "it is a power to some and an exclusive or to others; write power(a, b), or (a | b) - (a & b)";
const PLAIN: &str = "only aggregates take DISTINCT, ORDER BY, FILTER, OVER and the like, and this function is none";
const WINDOW: &str = "write the whole window into the OVER (…) of the call, and the call into the SELECT list";
/// Aggregates that take `DISTINCT` and do not mind it.
const NEVER_DISTINCT: [&str; 22] = [
    "corr",
    "covar",
    "covar_samp",
    "covar_pop",
    "regr_avgx",
    "regr_avgy",
    "regr_count",
    "regr_intercept",
    "regr_r2",
    "regr_slope",
    "regr_sxx",
    "regr_sxy",
    "regr_syy",
    "nth_value",
    "mode",
    "percentile_disc",
    "approx_percentile_cont",
    "approx_percentile_cont_with_weight",
    "rate",
    "delta",
    "increase",
    "resets",
];

/// What is not taken, and why.
#[derive(Debug, PartialEq)]
pub(crate) struct Misread {
    pub(crate) part: String,
    pub(crate) reason: &'static str,
}

/// What a function may be.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Kind {
    Scalar,
    /// It is computed over windows only.
    Window,
    /// An aggregate, or unknown.
    Other,
}

/// What a session knows the function of a name as.
pub(crate) fn kind(state: &SessionState, name: &str) -> Kind {
    if state.aggregate_functions().contains_key(name) {
        Kind::Other
    } else if state.window_functions().contains_key(name) {
        Kind::Window
    } else if state.scalar_functions().contains_key(name) || matches!(name, "unnest" | "unnest_outer") {
        Kind::Scalar
    } else {
        Kind::Other
    }
}

/// Looks for the first such part; `kind` knows the functions by their names.
pub(crate) fn misread(statement: &SqlStatement, kind: &dyn Fn(&str) -> Kind) -> Option<Misread> {
    match statement {
        SqlStatement::Statement(inner) => misread_in(inner.as_ref(), kind),
        SqlStatement::Explain(explain) => misread(&explain.statement, kind),
        _ => None,
    }
}

/// The same in a part of a statement.
pub(crate) fn misread_in(part: &impl Visit, kind: &dyn Fn(&str) -> Kind) -> Option<Misread> {
    part.visit(&mut Search { kind }).break_value()
}

struct Search<'a> {
    kind: &'a dyn Fn(&str) -> Kind,
}

/// Looks for a window by its name.
struct NamedWindows;

impl Visitor for NamedWindows {
    type Break = Misread;

    fn pre_visit_expr(&mut self, expr: &Expr) -> ControlFlow<Misread> {
        match expr {
            Expr::Function(Function { over: Some(WindowType::NamedWindow(_)), .. }) => found(expr, WINDOW),
            _ => ControlFlow::Continue(()),
        }
    }
}

fn found(part: impl Display, reason: &'static str) -> ControlFlow<Misread> {
    ControlFlow::Break(Misread { part: part.to_string(), reason })
}

impl Visitor for Search<'_> {
    type Break = Misread;

    fn pre_visit_query(&mut self, query: &Query) -> ControlFlow<Misread> {
        if let Some(setting) = query.settings.iter().flatten().next() {
            return found(format_args!("SETTINGS {setting}"), FORM);
        }
        if let Some(format) = &query.format_clause {
            return found(format, FORM);
        }
        if let Some(clause) = &query.for_clause {
            return found(clause, FORM);
        }
        for table in query.with.iter().flat_map(|with| &with.cte_tables) {
            if is_typed(&table.alias) {
                return found(&table.alias, TYPE);
            }
        }
        for table in query.with.iter().filter(|with| with.recursive).flat_map(|with| &with.cte_tables) {
            if matches!(*table.query.body, SetExpr::SetOperation { .. }) && !is_bare(&table.query) {
                return found(table, "ORDER BY, LIMIT and WITH stand outside of the UNION of WITH RECURSIVE");
            }
        }
        for operator in &query.pipe_operators {
            if let PipeOperator::Aggregate { full_table_exprs, group_by_expr } = operator
                && full_table_exprs.iter().chain(group_by_expr).any(|expr| expr.order_by != OrderByOptions::default())
            {
                return found(operator, "write |> ORDER BY after it");
            }
        }
        query.order_by.visit(&mut NamedWindows)
    }

    fn pre_visit_select(&mut self, select: &Select) -> ControlFlow<Misread> {
        if let Some(condition) = &select.prewhere {
            return found(format_args!("PREWHERE {condition}"), "write the condition with WHERE");
        }
        if let Some(connected) = select.connect_by.first() {
            return found(connected, "write WITH RECURSIVE");
        }
        if let Some(mode) = &select.value_table_mode {
            return found(mode, "list the columns");
        }
        if let Some(left_out) = &select.exclude {
            return found(left_out, "write it directly after the *");
        }
        let named = |window: &&NamedWindowDefinition| match &window.1 {
            NamedWindowExpr::WindowSpec(spec) => spec.window_name.is_some(),
            NamedWindowExpr::NamedWindow(_) => true,
        };
        if let Some(window) = select.named_window.iter().find(named) {
            return found(window, WINDOW);
        }
        let (GroupByExpr::Expressions(_, modifiers) | GroupByExpr::All(modifiers)) = &select.group_by;
        match modifiers.first() {
            Some(modifier) => found(modifier, "write GROUP BY ROLLUP (…), CUBE (…) or GROUPING SETS (…)"),
            None => select.qualify.visit(&mut NamedWindows),
        }
    }

    fn pre_visit_table_factor(&mut self, table: &TableFactor) -> ControlFlow<Misread> {
        let whole = match table {
            TableFactor::Table {
                with_hints,
                version,
                with_ordinality,
                partitions,
                json_path,
                sample,
                index_hints,
                ..
            } => {
                let more = version.is_some() || *with_ordinality || json_path.is_some() || sample.is_some();
                !more && with_hints.is_empty() && partitions.is_empty() && index_hints.is_empty()
            }
            TableFactor::Derived { sample, .. } => sample.is_none(),
            TableFactor::Function { with_ordinality, .. } => !with_ordinality,
            _ => true,
        };
        if !whole {
            return found(table, TABLE);
        }
        let by_place = |args: &[FunctionArg]| args.iter().all(|argument| matches!(argument, FunctionArg::Unnamed(_)));
        let plain = match table {
            TableFactor::Table { name, args: Some(args), .. } => {
                name.0.len() == 1 && args.settings.is_none() && by_place(&args.args)
            }
            TableFactor::Function { name, args, .. } => name.0.len() == 1 && by_place(args),
            _ => true,
        };
        match alias_of(table) {
            _ if !plain => found(table, CALL),
            Some(alias) if is_typed(alias) => found(alias, TYPE),
            _ => ControlFlow::Continue(()),
        }
    }

    fn pre_visit_expr(&mut self, expr: &Expr) -> ControlFlow<Misread> {
        let call = match expr {
            Expr::BinaryOp { op: BinaryOperator::BitwiseXor, .. } => return found(expr, POWER),
            Expr::Function(call) => call,
            _ => return ControlFlow::Continue(()),
        };
        if !matches!(call.parameters, FunctionArguments::None) {
            return found(expr, "write the parameter among the arguments, such as approx_percentile_cont(x, 0.9)");
        }
        if matches!(&call.over, Some(WindowType::WindowSpec(spec)) if spec.window_name.is_some()) {
            return found(expr, WINDOW);
        }
        let name = call.name.0.last().and_then(|part| part.as_ident()).map(|name| match name.quote_style {
            Some(_) => name.value.clone(),
            None => name.value.to_lowercase(),
        });
        let name = name.unwrap_or_default();
        if is_distinct(call) && NEVER_DISTINCT.contains(&name.as_str()) {
            return found(expr, "it takes all values; select the distinct ones in a subquery");
        }
        match (self.kind)(&name) {
            Kind::Scalar if !is_plain(call) => found(expr, PLAIN),
            Kind::Window if is_distinct(call) || call.filter.is_some() => {
                found(expr, "it is over all rows of its window; select the rows in a subquery")
            }
            _ => ControlFlow::Continue(()),
        }
    }
}

fn alias_of(table: &TableFactor) -> Option<&TableAlias> {
    match table {
        TableFactor::Table { alias, .. }
        | TableFactor::Derived { alias, .. }
        | TableFactor::Function { alias, .. }
        | TableFactor::UNNEST { alias, .. }
        | TableFactor::NestedJoin { alias, .. } => alias.as_ref(),
        _ => None, // the others are not planned
    }
}

fn is_typed(alias: &TableAlias) -> bool {
    alias.columns.iter().any(|column| column.data_type.is_some())
}

/// Whether a query has a body and nothing around it.
fn is_bare(query: &Query) -> bool {
    query.with.is_none()
        && query.order_by.is_none()
        && query.limit_clause.is_none()
        && query.fetch.is_none()
        && query.pipe_operators.is_empty()
}

fn is_distinct(call: &Function) -> bool {
    matches!(&call.args, FunctionArguments::List(list) if list.duplicate_treatment == Some(DuplicateTreatment::Distinct))
}

/// Whether a call has arguments only.
fn is_plain(call: &Function) -> bool {
    let plain = match &call.args {
        FunctionArguments::List(list) => list.clauses.is_empty(),
        FunctionArguments::None | FunctionArguments::Subquery(_) => true,
    };
    plain
        && !is_distinct(call)
        && call.filter.is_none()
        && call.over.is_none()
        && call.null_treatment.is_none()
        && call.within_group.is_empty()
}
