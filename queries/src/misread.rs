//! What the parser takes and DataFusion's planner leaves out without a word, or reads otherwise than most who write it mean. The answer
//! would be another than what was asked, so it is refused.
//!
//! | written | it would be |
//! |---|---|
//! | `FROM t TABLESAMPLE (10)`, and hints, versions, partitions, `WITH ORDINALITY` | all rows, without the number |
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

use std::fmt::Display;
use std::ops::ControlFlow;

use datafusion::execution::session_state::SessionState;
use datafusion::sql::parser::Statement as SqlStatement;
use datafusion::sql::sqlparser::ast::{
    BinaryOperator, DuplicateTreatment, Expr, Function, FunctionArguments, GroupByExpr, NamedWindowDefinition,
    NamedWindowExpr, OrderByOptions, PipeOperator, Query, Select, SetExpr, TableFactor, Visit, Visitor, WindowType,
};

const TABLE: &str =
    "a table is read whole and by its name; write conditions with WHERE, and number rows with row_number()";
const FORM: &str = "what form an answer has is said beside the question, and settings with SET before it";
const POWER: &str = "it is a power to some and an exclusive or to others; write power(a, b), or (a | b) - (a & b)";
const PLAIN: &str = "only aggregates take DISTINCT, ORDER BY, FILTER, OVER and the like, and this function is none";
const WINDOW: &str = "write the whole window into the OVER (…) of the call, and the call into the SELECT list";
/// Aggregates that take `DISTINCT` and do not mind it.
const NEVER_DISTINCT: [&str; 20] = [
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
            _ => true,
        };
        if whole { ControlFlow::Continue(()) } else { found(table, TABLE) }
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

#[cfg(test)]
mod tests {
    use datafusion::sql::parser::DFParser;

    use super::{Kind, misread};

    fn part_of(sql: &str) -> Option<String> {
        let statements = DFParser::parse_sql(sql).unwrap_or_else(|error| panic!("{sql}: {error}"));
        let kind = |name: &str| match name {
            "abs" => Kind::Scalar,
            "row_number" => Kind::Window,
            _ => Kind::Other,
        };
        misread(&statements[0], &kind).map(|found| found.part)
    }

    #[test]
    fn what_would_be_left_out_is_found() {
        for (sql, part) in [
            ("SELECT count(*) FROM t TABLESAMPLE (10)", "t TABLESAMPLE (10)"),
            ("SELECT 1 FROM u, (SELECT * FROM t) TABLESAMPLE (10)", "(SELECT * FROM t) TABLESAMPLE (10)"),
            ("SELECT * FROM t PARTITION (p0)", "tPARTITION (p0)"), // as the parser writes it
            ("SELECT * FROM t WITH (NOLOCK)", "t WITH (NOLOCK)"),
            ("SELECT * FROM generate_series(1, 2) WITH ORDINALITY", "generate_series(1, 2) WITH ORDINALITY"),
            ("SELECT x FROM t WHERE x IN (SELECT y FROM u PREWHERE y > 1)", "PREWHERE y > 1"),
            ("SELECT x FROM t START WITH x = 1 CONNECT BY PRIOR x = y", "START WITH x = 1"),
            ("SELECT x, count(*) FROM t GROUP BY x WITH TOTALS", "WITH TOTALS"),
            ("EXPLAIN SELECT x, count(*) FROM t GROUP BY x WITH ROLLUP", "WITH ROLLUP"),
            ("SELECT x FROM t SETTINGS max_threads = 1", "SETTINGS max_threads = 1"),
            ("SELECT x FROM t FORMAT JSON", "FORMAT JSON"),
            ("SELECT x FROM t FOR JSON AUTO", "FOR JSON AUTO"),
            ("SELECT quantile(0.9)(x) FROM t", "quantile(0.9)(x)"),
            ("SELECT 1 + abs(DISTINCT x) FROM t", "abs(DISTINCT x)"),
            ("SELECT ABS(x) FILTER (WHERE y) FROM t", "ABS(x) FILTER (WHERE y)"),
            ("SELECT abs(x) OVER () FROM t", "abs(x) OVER ()"),
            ("SELECT 2 * x ^ 2 FROM t", "2 * x ^ 2"),
            ("SELECT \"abs\"(DISTINCT x) FROM t", "\"abs\"(DISTINCT x)"),
            ("SELECT corr(DISTINCT x, y) FROM t", "corr(DISTINCT x, y)"),
            ("SELECT row_number() FILTER (WHERE x) OVER () FROM t", "row_number() FILTER (WHERE x) OVER ()"),
            ("SELECT sum(x) OVER (w ORDER BY y) FROM t WINDOW w AS (PARTITION BY z)", "sum(x) OVER (w ORDER BY y)"),
            ("SELECT 1 FROM t WINDOW w AS (PARTITION BY z), v AS (w ORDER BY y)", "v AS (w ORDER BY y)"),
            ("SELECT x FROM t WINDOW w AS (PARTITION BY z) ORDER BY sum(x) OVER w", "sum(x) OVER w"),
            (
                "WITH RECURSIVE n AS (SELECT 1 UNION ALL SELECT 2 FROM n LIMIT 5) SELECT * FROM n",
                "n AS (SELECT 1 UNION ALL SELECT 2 FROM n LIMIT 5)",
            ),
            ("FROM t |> AGGREGATE sum(x) AS s DESC GROUP BY y", "AGGREGATE sum(x) AS s DESC GROUP BY y"),
        ] {
            assert_eq!(part_of(sql).as_deref(), Some(part), "{sql}");
        }
    }

    #[test]
    fn what_is_read_as_it_is_meant_passes() {
        for sql in [
            "SELECT abs(x), sum(DISTINCT x) FILTER (WHERE y) OVER (ORDER BY z) FROM t AS sample WHERE a <> b GROUP BY ROLLUP (x)",
            "SELECT * EXCLUDE (x) FROM t FOR UPDATE",
            "WITH u AS (SELECT x | 1 FROM t LIMIT 1) SELECT * FROM u, LATERAL (SELECT 1) AS one",
            "SELECT sum(x) OVER w, row_number() OVER (ORDER BY x) FROM t WINDOW w AS (PARTITION BY z ORDER BY y)",
            "WITH RECURSIVE n AS (SELECT 1 UNION ALL SELECT 2 FROM n) SELECT * FROM n ORDER BY 1 LIMIT 5",
        ] {
            assert_eq!(part_of(sql), None, "{sql}");
        }
    }
}
