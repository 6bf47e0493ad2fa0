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
//! | `a ^ b` | the exclusive or, where PostgreSQL has the power |

use std::fmt::Display;
use std::ops::ControlFlow;

use datafusion::sql::parser::Statement as SqlStatement;
use datafusion::sql::sqlparser::ast::{
    BinaryOperator, DuplicateTreatment, Expr, Function, FunctionArguments, GroupByExpr, Query, Select, TableFactor,
    Visit, Visitor,
};

const TABLE: &str =
    "a table is read whole and by its name; write conditions with WHERE, and number rows with row_number()";
const FORM: &str = "what form an answer has is said beside the question, and settings with SET before it";
const POWER: &str = "it is a power to some and an exclusive or to others; write power(a, b), or (a | b) - (a & b)";
const PLAIN: &str = "only aggregates take DISTINCT, ORDER BY, FILTER, OVER and the like, and this function is none";

/// What is not taken, and why.
#[derive(Debug, PartialEq)]
pub(crate) struct Misread {
    pub(crate) part: String,
    pub(crate) reason: &'static str,
}

/// Looks for the first such part; `is_scalar` knows the functions, by lower-case names, that are no aggregates and no windows.
pub(crate) fn misread(statement: &SqlStatement, is_scalar: &dyn Fn(&str) -> bool) -> Option<Misread> {
    match statement {
        SqlStatement::Statement(inner) => misread_in(inner.as_ref(), is_scalar),
        SqlStatement::Explain(explain) => misread(&explain.statement, is_scalar),
        _ => None,
    }
}

/// The same in a part of a statement.
pub(crate) fn misread_in(part: &impl Visit, is_scalar: &dyn Fn(&str) -> bool) -> Option<Misread> {
    part.visit(&mut Search { is_scalar }).break_value()
}

struct Search<'a> {
    is_scalar: &'a dyn Fn(&str) -> bool,
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
        match &query.for_clause {
            Some(clause) => found(clause, FORM),
            None => ControlFlow::Continue(()),
        }
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
        match &select.group_by {
            GroupByExpr::Expressions(_, modifiers) | GroupByExpr::All(modifiers) => match modifiers.first() {
                Some(modifier) => found(modifier, "write GROUP BY ROLLUP (…), CUBE (…) or GROUPING SETS (…)"),
                None => ControlFlow::Continue(()),
            },
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
        match expr {
            Expr::BinaryOp { op: BinaryOperator::BitwiseXor, .. } => found(expr, POWER),
            Expr::Function(call) if !matches!(call.parameters, FunctionArguments::None) => {
                found(expr, "write the parameter among the arguments, such as approx_percentile_cont(x, 0.9)")
            }
            Expr::Function(call) if !is_plain(call) && (self.is_scalar)(&call.name.to_string().to_lowercase()) => {
                found(expr, PLAIN)
            }
            _ => ControlFlow::Continue(()),
        }
    }
}

/// Whether a call has arguments only.
fn is_plain(call: &Function) -> bool {
    let plain = match &call.args {
        FunctionArguments::List(list) => {
            list.duplicate_treatment != Some(DuplicateTreatment::Distinct) && list.clauses.is_empty()
        }
        FunctionArguments::None | FunctionArguments::Subquery(_) => true,
    };
    plain
        && call.filter.is_none()
        && call.over.is_none()
        && call.null_treatment.is_none()
        && call.within_group.is_empty()
}

#[cfg(test)]
mod tests {
    use datafusion::sql::parser::DFParser;

    use super::misread;

    fn part_of(sql: &str) -> Option<String> {
        let statements = DFParser::parse_sql(sql).unwrap_or_else(|error| panic!("{sql}: {error}"));
        misread(&statements[0], &|name| name == "abs").map(|found| found.part)
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
            ("SELECT 1 SETTINGS max_threads = 1", "SETTINGS max_threads = 1"),
            ("SELECT 1 FORMAT JSON", "FORMAT JSON"),
            ("SELECT x FROM t FOR JSON AUTO", "FOR JSON AUTO"),
            ("SELECT quantile(0.9)(x) FROM t", "quantile(0.9)(x)"),
            ("SELECT 1 + abs(DISTINCT x) FROM t", "abs(DISTINCT x)"),
            ("SELECT ABS(x) FILTER (WHERE y) FROM t", "ABS(x) FILTER (WHERE y)"),
            ("SELECT abs(x) OVER () FROM t", "abs(x) OVER ()"),
            ("SELECT 2 * x ^ 2 FROM t", "2 * x ^ 2"),
        ] {
            assert_eq!(part_of(sql).as_deref(), Some(part), "{sql}");
        }
    }

    #[test]
    fn what_is_read_as_it_is_meant_passes() {
        for sql in [
            "SELECT abs(x), sum(DISTINCT x) FILTER (WHERE y) OVER (ORDER BY z) FROM t AS sample WHERE a <> b GROUP BY ROLLUP (x)",
            "SELECT * EXCLUDE (x) FROM t FOR UPDATE",
            "WITH u AS (SELECT x | 1 FROM t) SELECT * FROM u, LATERAL (SELECT 1) AS one",
        ] {
            assert_eq!(part_of(sql), None, "{sql}");
        }
    }
}
