//! Plans: from DataFusion's to one SELECT of ClickHouse.
//!
//! ```text
//!  node of the plan                      what becomes of the SELECT
//!  scan, filter, projection, limit  ──▶  FROM, WHERE, expressions, LIMIT
//!  aggregate, sort                  ──▶  GROUP BY, ORDER BY
//!  join, union                      ──▶  FROM, of subqueries
//!  a node that comes too late       ──▶  the SELECT so far becomes a subquery
//! ```
//!
//! # Invariants
//!
//! 1. Tables have aliases of their own (`_t0`, `_t1`, …) and columns are always named with them; outputs are named `_0`, `_1`, ….
//!    Columns of tables never begin with `_`, so no name of the user's means anything else.
//! 2. A stream is read where its mark is ([`Source::mark`]): from ClickHouse's table and from memory, as one.

use std::sync::Arc;

use arrow::datatypes::DataType;
use datafusion::common::{DFSchema, JoinType, NullEquality};
use datafusion::datasource::source_as_provider;
use datafusion::logical_expr::expr::{AggregateFunction, Sort};
use datafusion::logical_expr::{
    Aggregate, Expr, FetchType, Filter, Join, LogicalPlan, Projection, SkipType, TableScan,
};

use super::aggregate::aggregate;
use super::scalar::{Scope, is_known};
use super::source::{Condition, Source};
use super::time::{bin_of_nanoseconds, bucket_number};
use crate::tables::StreamTable;
use crate::zeros::sorted_by;

/// Longer expressions are put into a subquery, so that they are not written again and again.
const EXPRESSION_BYTES_MAX: usize = 4_096;

/// The SELECT that a plan becomes, so far.
#[derive(Default)]
struct Select {
    /// Per column of the plan an expression.
    columns: Vec<String>,
    from: String,
    conditions: Vec<String>,
    groups: Option<Vec<String>>,
    order: Vec<String>,
    skip: usize,
    fetch: Option<usize>,
    /// The source that it reads, as long as it does nothing else.
    source: Option<usize>,
}

/// A plan in ClickHouse's SQL.
pub(super) struct Translation {
    /// With a mark where a source is read.
    pub(super) sql: String,
    pub(super) sources: Vec<Source>,
}

/// Translates a plan; `None` when it cannot be, or when nothing would be won.
///
/// Rows come in any order: of a plan whose rows have one, only a sort that keeps the first of them is translated.
pub(super) fn translate(plan: &LogicalPlan) -> Option<Translation> {
    if !is_worth(plan) {
        return None;
    }
    let mut translator = Translator::default();
    let select = translator.select(plan)?;
    let keeps_first = matches!(plan, LogicalPlan::Sort(sort) if sort.fetch.is_some());
    (select.order.is_empty() || keeps_first).then(|| {
        let (sql, mut sources) = (select.sql(), translator.sources);
        for source in &mut sources {
            source.leave_out_unread(&sql);
        }
        Translation { sql, sources }
    })
}

/// Whether ClickHouse answers with fewer rows than it reads, or finds them better.
fn is_worth(plan: &LogicalPlan) -> bool {
    match plan {
        LogicalPlan::Aggregate(_) | LogicalPlan::Join(_) => true,
        LogicalPlan::Sort(sort) if sort.fetch.is_some() => true,
        LogicalPlan::Projection(_)
        | LogicalPlan::Filter(_)
        | LogicalPlan::Sort(_)
        | LogicalPlan::Limit(_)
        | LogicalPlan::SubqueryAlias(_)
        | LogicalPlan::Union(_) => plan.inputs().into_iter().any(is_worth),
        _ => false,
    }
}

#[derive(Default)]
struct Translator {
    sources: Vec<Source>,
    aliases: usize,
}

impl Translator {
    fn alias(&mut self) -> String {
        self.aliases += 1;
        format!("_t{}", self.aliases - 1)
    }

    fn select(&mut self, plan: &LogicalPlan) -> Option<Select> {
        let select = self.translated(plan)?;
        debug_assert_eq!(select.columns.len(), plan.schema().fields().len(), "{plan}");
        Some(select)
    }

    fn translated(&mut self, plan: &LogicalPlan) -> Option<Select> {
        match plan {
            LogicalPlan::TableScan(scan) => self.scan(scan),
            LogicalPlan::SubqueryAlias(alias) => self.select(&alias.input),
            LogicalPlan::Filter(filter) => self.filter(filter),
            LogicalPlan::Projection(projection) => self.projection(projection),
            LogicalPlan::Aggregate(aggregate) => self.aggregate(aggregate),
            LogicalPlan::Sort(sort) => {
                let input = self.select(&sort.input)?;
                self.sort(input, sort.input.schema(), &sort.expr, sort.fetch)
            }
            LogicalPlan::Limit(limit) => {
                let (SkipType::Literal(skip), FetchType::Literal(fetch)) =
                    (limit.get_skip_type().ok()?, limit.get_fetch_type().ok()?)
                else {
                    return None;
                };
                let input = self.select(&limit.input)?;
                self.limit(input, skip, fetch)
            }
            LogicalPlan::Join(join) => self.join(join),
            LogicalPlan::Union(union) => {
                let inputs = union.inputs.iter().map(|input| Some(format!("({})", self.select(input)?.sql())));
                let inputs: Vec<String> = inputs.collect::<Option<_>>()?;
                let same = |input: &Arc<LogicalPlan>| types(input.schema()).eq(types(&union.schema));
                union.inputs.iter().all(same).then_some(())?;
                let alias = self.alias();
                let from = format!("({}) AS {alias}", inputs.join(" UNION ALL "));
                Some(Select { columns: outputs(&alias, union.schema.fields().len()), from, ..Select::default() })
            }
            _ => None,
        }
    }

    fn scan(&mut self, scan: &TableScan) -> Option<Select> {
        let table = source_as_provider(&scan.source).ok()?;
        let table = table.downcast_ref::<StreamTable>()?;
        let alias = self.alias();
        let all = || (0..table.stream_schema().fields().len()).collect();
        let source = Source::new(table, alias, scan.projection.clone().unwrap_or_else(all), self.sources.len());
        let select = Select {
            columns: source.columns(),
            from: source.mark(),
            source: Some(self.sources.len()),
            fetch: scan.fetch,
            ..Select::default()
        };
        self.sources.push(source);
        // A limit comes after the filters of the scan, which are those of the node above it.
        match scan.fetch {
            Some(_) if !scan.filters.is_empty() => None,
            _ => Some(select),
        }
    }

    fn filter(&mut self, filter: &Filter) -> Option<Select> {
        let mut input = self.select(&filter.input)?;
        if input.is_finished() || input.groups.is_some() {
            input = self.wrapped(input);
        }
        let scope = Scope { schema: filter.input.schema(), columns: &input.columns };
        let condition = scope.scalar(&filter.predicate)?;
        match input.source {
            Some(source) => self.sources[source].conditions.push(condition_of(filter, condition)),
            None => input.conditions.push(condition),
        }
        Some(input)
    }

    fn projection(&mut self, projection: &Projection) -> Option<Select> {
        let mut input = self.select(&projection.input)?;
        // Of a group without keys there is a row as long as there are aggregates.
        let is_total = input.groups.as_ref().is_some_and(Vec::is_empty);
        if is_total || input.columns.iter().any(|column| column.len() > EXPRESSION_BYTES_MAX) {
            input = self.wrapped(input);
        }
        let scope = Scope { schema: projection.input.schema(), columns: &input.columns };
        let columns = projection.expr.iter().map(|expr| scope.scalar(expr)).collect::<Option<Vec<_>>>()?;
        Some(Select { columns, ..input })
    }

    fn aggregate(&mut self, node: &Aggregate) -> Option<Select> {
        if let Some(one) = distinct_in_one(node) {
            return self.aggregate(&one);
        }
        let mut input = self.select(&node.input)?;
        if input.is_finished() || input.groups.is_some() {
            input = self.wrapped(input);
        }
        let scope = Scope { schema: node.input.schema(), columns: &input.columns };
        let group = |expr: &Expr| match scope.kind(expr) {
            Some(DataType::Float64) if !scope.has_no_negative_zero(expr) => None, // it is a group of its own here
            Some(_) => scope.scalar(expr),
            None => bin_of_nanoseconds(&scope, &expr.clone().unalias()), // of a type that only what is above has
        };
        let groups = node.group_expr.iter().map(group).collect::<Option<Vec<_>>>()?;
        let calls = node.aggr_expr.iter().map(|expr| aggregate(&scope, expr)).collect::<Option<Vec<_>>>()?;
        let columns = groups.iter().cloned().chain(calls).collect();
        let groups =
            groups.into_iter().map(|group| bucket_number(&group).map_or(group.clone(), str::to_owned)).collect();
        Some(Select { columns, groups: Some(groups), order: Vec::new(), source: None, ..input })
    }

    fn sort(&mut self, input: Select, schema: &DFSchema, by: &[Sort], fetch: Option<usize>) -> Option<Select> {
        let input = if input.fetch.is_some() || input.skip > 0 { self.wrapped(input) } else { input };
        let scope = Scope { schema, columns: &input.columns };
        let mut order = Vec::new();
        for sort in by {
            // Zeros of either sign are equal to ClickHouse, with or without the one that is added.
            let value = scope.scalar(sorted_by(&sort.expr).unwrap_or(&sort.expr))?;
            let direction = if sort.asc { "ASC" } else { "DESC" };
            let nulls = if sort.nulls_first { "FIRST" } else { "LAST" };
            order.push(format!("{value} {direction} NULLS {nulls}"));
        }
        if let (Some(source), Some(fetch)) = (input.source, fetch) {
            self.sources[source].first = Some((order.join(", "), fetch));
        }
        Some(Select { order, fetch, source: None, ..input })
    }

    fn limit(&mut self, input: Select, skip: usize, fetch: Option<usize>) -> Option<Select> {
        let is_within = input.fetch.is_none_or(|most| fetch.is_some_and(|fetch| skip.saturating_add(fetch) <= most));
        (input.skip == 0 && is_within).then_some(Select { skip, fetch, source: None, ..input })
    }

    fn join(&mut self, join: &Join) -> Option<Select> {
        if join.null_equality != NullEquality::NullEqualsNothing || join.null_aware {
            return None;
        }
        let is_plain = |plan: &LogicalPlan| plan.schema().fields().iter().all(|field| is_known(field.data_type()));
        // What is missing of an outer join is null; a map of ClickHouse's cannot be.
        let (left_may_miss, right_may_miss) = match join.join_type {
            JoinType::Left => (false, true),
            JoinType::Right => (true, false),
            JoinType::Full => (true, true),
            _ => (false, false),
        };
        if left_may_miss && !is_plain(&join.left) || right_may_miss && !is_plain(&join.right) {
            return None;
        }
        let (left, right) = (self.select(&join.left)?, self.select(&join.right)?);
        let (left, right) = (self.wrapped(left), self.wrapped(right));
        let mut equal = Vec::new();
        for (one, other) in &join.on {
            let left = Scope { schema: join.left.schema(), columns: &left.columns };
            let right = Scope { schema: join.right.schema(), columns: &right.columns };
            let (kind, other_kind) = (left.kind(one)?, right.kind(other)?);
            (kind == other_kind && kind != DataType::Float64).then_some(())?;
            equal.push(format!("{} = {}", left.scalar(one)?, right.scalar(other)?));
        }
        let both: Vec<String> = left.columns.iter().chain(&right.columns).cloned().collect();
        let (word, columns) = match join.join_type {
            JoinType::Inner if equal.is_empty() => ("CROSS JOIN", both.clone()),
            JoinType::Inner => ("INNER JOIN", both.clone()),
            _ if equal.is_empty() => return None,
            JoinType::Left => ("LEFT JOIN", both.clone()),
            JoinType::Right => ("RIGHT JOIN", both.clone()),
            JoinType::Full => ("FULL JOIN", both.clone()),
            JoinType::LeftSemi => ("LEFT SEMI JOIN", left.columns),
            JoinType::LeftAnti => ("LEFT ANTI JOIN", left.columns),
            JoinType::RightSemi => ("RIGHT SEMI JOIN", right.columns),
            JoinType::RightAnti => ("RIGHT ANTI JOIN", right.columns),
            _ => return None,
        };
        let conditions = match (&join.filter, join.join_type) {
            (None, _) => Vec::new(),
            (Some(filter), JoinType::Inner) => {
                let schema = join.left.schema().join(join.right.schema()).ok()?;
                vec![Scope { schema: &schema, columns: &both }.scalar(filter)?]
            }
            _ => return None,
        };
        let on = if equal.is_empty() { String::new() } else { format!(" ON {}", equal.join(" AND ")) };
        let from = format!("{} {word} {}{on}", left.from, right.from);
        Some(Select { columns, from, conditions, ..Select::default() })
    }

    /// The SELECT so far, as a subquery.
    fn wrapped(&mut self, select: Select) -> Select {
        let alias = self.alias();
        let columns = outputs(&alias, select.columns.len());
        Select { columns, from: format!("({}) AS {alias}", select.sql()), ..Select::default() }
    }
}

impl Select {
    /// Whether rows were ordered or counted, so that what comes next comes after that.
    fn is_finished(&self) -> bool {
        self.fetch.is_some() || self.skip > 0
    }

    fn sql(&self) -> String {
        let mut columns: Vec<String> =
            self.columns.iter().enumerate().map(|(at, column)| format!("{column} AS _{at}")).collect();
        if columns.is_empty() {
            columns.push("1 AS _0".to_owned());
        }
        let mut sql = format!("SELECT {} FROM {}", columns.join(", "), self.from);
        if !self.conditions.is_empty() {
            sql.push_str(&format!(" WHERE {}", self.conditions.join(" AND ")));
        }
        if let Some(groups) = self.groups.as_ref().filter(|groups| !groups.is_empty()) {
            sql.push_str(&format!(" GROUP BY {}", groups.join(", ")));
        }
        if !self.order.is_empty() {
            sql.push_str(&format!(" ORDER BY {}", self.order.join(", ")));
        }
        match self.fetch {
            Some(fetch) => sql.push_str(&format!(" LIMIT {fetch} OFFSET {}", self.skip)),
            None if self.skip > 0 => sql.push_str(&format!(" OFFSET {}", self.skip)),
            None => {}
        }
        sql
    }
}

/// What a filter over a source asks of its rows; of rows in memory too where it reads the source's own columns.
fn condition_of(filter: &Filter, sql: String) -> Condition {
    let mut input = &filter.input;
    while let LogicalPlan::SubqueryAlias(alias) = input.as_ref() {
        input = &alias.input;
    }
    let is_over_scan = matches!(input.as_ref(), LogicalPlan::TableScan(_));
    let expr = is_over_scan.then(|| (filter.predicate.clone(), filter.input.schema().clone()));
    Condition { sql, expr }
}

/// A grouping in one, of the two that DataFusion makes of one with a single `count(DISTINCT …)`: by the groups and the values
/// first, and of these by the groups.
fn distinct_in_one(outer: &Aggregate) -> Option<Aggregate> {
    let LogicalPlan::Aggregate(inner) = outer.input.as_ref() else { return None };
    let place = |expr: &Expr| match expr {
        Expr::Column(column) => inner.schema.index_of_column(column).ok(),
        _ => None,
    };
    let (value, groups) = inner.group_expr.split_last()?;
    if !outer.group_expr.iter().map(place).eq((0..groups.len()).map(Some)) {
        return None;
    }
    let call = |expr: &Expr| {
        let Expr::AggregateFunction(AggregateFunction { func, params }) = expr else { return None };
        let [argument] = params.args.as_slice() else { return None };
        if params.distinct || params.filter.is_some() || !params.order_by.is_empty() || params.null_treatment.is_some()
        {
            return None;
        }
        match place(argument)?.checked_sub(groups.len())?.checked_sub(1) {
            None if func.name() == "count" => {
                let arguments = vec![value.clone().unalias()];
                Some(Expr::AggregateFunction(AggregateFunction::new_udf(
                    func.clone(),
                    arguments,
                    true,
                    None,
                    Vec::new(),
                    None,
                )))
            }
            None => None,
            // Of least ones the least, and so on.
            Some(at) => {
                let inner = inner.aggr_expr.get(at)?.clone().unalias();
                let is_same = matches!(&inner, Expr::AggregateFunction(inner) if inner.func == *func);
                (is_same && matches!(func.name(), "sum" | "min" | "max")).then_some(inner)
            }
        }
    };
    let calls = outer.aggr_expr.iter().map(call).collect::<Option<Vec<_>>>()?;
    Aggregate::try_new(inner.input.clone(), groups.to_vec(), calls).ok()
}

fn outputs(alias: &str, count: usize) -> Vec<String> {
    (0..count).map(|at| format!("{alias}._{at}")).collect()
}

fn types(schema: &DFSchema) -> impl Iterator<Item = &DataType> {
    schema.fields().iter().map(|field| field.data_type())
}
