//! From the text of a `SELECT` to what is stored of a view and what computes it.

use std::collections::HashMap;
use std::sync::Arc;

use arrow::datatypes::{DataType, Field, Schema};
use datafusion::common::{Column, DFSchema};
use datafusion::execution::session_state::SessionState;
use datafusion::logical_expr::Expr;
use datafusion::physical_expr::expressions::Column as PhysicalColumn;
use datafusion::physical_plan::PhysicalExpr;
use streamgauge_engine::program::Program;
use streamgauge_schemas::view::{Bucket, Dimension, IS_EXACT_SUFFIX, View, ViewColumn, ViewDefinition};
use streamgauge_schemas::{StreamId, ValueType};

use super::aggregates::{Aggregates, sketches};
use super::analysis::{Analysis, analyse};
use super::bucket::{Width, bucket_of};
use super::error::ViewError;
use super::expression::{Scope, Typed, nearest};
use super::options::GivenOptions;
use super::program::{Parts, SqlProgram};
use super::reading::{BucketAt, Names, Reading, results_base, schema_of};
use super::shape;
use super::tables::Tables;
use crate::depth::too_deep;

/// A view as it was planned.
pub struct Planned {
    /// What is stored.
    pub definition: ViewDefinition,
    /// What the engine runs on every batch of its stream.
    pub program: Arc<dyn Program>,
    /// How its rows are read.
    pub reading: Reading,
}

/// Plans a view of this name by its `SELECT`.
///
/// The same text over the same stream gives the same plan, whenever it is planned. The session is one of UTC, with
/// DataFusion's own functions and `approx_top_k`, as [`ViewPlanner`](super::ViewPlanner) makes it.
///
/// # Errors
/// [`ViewError`] with what cannot be planned or maintained, and why.
pub fn plan_view(
    name: &str,
    select: &str,
    options: &GivenOptions,
    tables: &dyn Tables,
    state: &SessionState,
) -> Result<Planned, ViewError> {
    let recursion_limit: usize = state.config_options().sql_parser.recursion_limit.into();
    // What is planned is what is stored, for that will be planned again.
    let select = shape::parse(select, recursion_limit)?.to_string();
    let analysis = analyse(shape::parse(&select, recursion_limit)?, tables, state)?;
    // It is computed on the threads of the engine, too, whose stacks are smaller than those of questions.
    for expr in analysis.expressions() {
        if let Some(reason) = too_deep(expr)? {
            return Err(ViewError::Sql { message: format!("an expression of the view {reason}") });
        }
    }
    let scope = Scope::new(&analysis.stream, state)?;
    let filter = analysis.filter.clone().map(|filter| scope.normal(filter)).transpose()?;
    let groups = Groups::of(&analysis, &scope)?;
    let mut aggregates = Aggregates::default();
    let calls = analysis.calls.iter().map(|(column, call)| aggregates.add(&column.name, call, &scope));
    let calls = calls.collect::<Result<Vec<usize>, ViewError>>()?;
    aggregates.at_least_a_count();
    let exactness = exactness(&analysis, &mut aggregates, &calls);
    let reading = reading(&analysis, &scope, &groups, &aggregates, &calls, &exactness)?;
    let first_output = reading.base.fields().len() - aggregates.outputs.len();
    let columns = reading.schema.fields().iter().zip(&reading.columns).map(|(field, (expr, _))| ViewColumn {
        name: field.name().clone(),
        kind: nearest(field.data_type()),
        nullable: field.is_nullable(),
        output: expr.downcast_ref::<PhysicalColumn>().and_then(|column| column.index().checked_sub(first_output)),
    });
    let names = groups.names(&analysis);
    let width = groups.bucket.as_ref().and_then(|(_, width)| width.0);
    let dimension =
        |(typed, name): (&Typed, &String)| Dimension { name: name.clone(), expression: typed.text(), kind: typed.kind };
    let bucket_name = names.last().cloned().unwrap_or_default();
    let definition = ViewDefinition {
        name: name.to_owned(),
        stream: analysis.stream.id,
        select,
        filter: filter.as_ref().map(ToString::to_string),
        dimensions: groups.dimensions.iter().zip(&names).map(dimension).collect(),
        by_series: groups.by_series,
        bucket: groups.bucket.as_ref().map(|(typed, _)| Bucket { name: bucket_name, expression: typed.text(), width }),
        arguments: aggregates.stored_arguments(),
        folds: aggregates.folds,
        outputs: aggregates.outputs,
        columns: columns.collect(),
        options: options.of_bucket(width)?,
    };
    let parts = Parts {
        filter,
        dimensions: groups.dimensions,
        by_series: groups.by_series,
        bucket: groups.bucket,
        arguments: aggregates.arguments,
    };
    let program = Arc::new(SqlProgram::new(parts, &scope)?);
    Ok(Planned { definition, program, reading })
}

/// The program and the reading of a view that was stored, planned again from its text.
///
/// # Errors
/// [`ViewError::Changed`] when this version would group, filter or fold in another way than what is stored, and any
/// other [`ViewError`] when it cannot be planned any longer.
pub fn program_of(
    view: &View,
    tables: &dyn Tables,
    state: &SessionState,
) -> Result<(Arc<dyn Program>, Reading), ViewError> {
    let stored = &view.definition;
    let planned = plan_view(&stored.name, &stored.select, &GivenOptions::default(), tables, state)?;
    let now = &planned.definition;
    let check = |what, stored: String, now: String| match stored == now {
        true => Ok(()),
        false => Err(ViewError::Changed { view: view.definition.name.clone(), what, stored, now }),
    };
    let width = |definition: &ViewDefinition| match &definition.bucket {
        // The length says it all; without one, the expression does.
        Some(bucket) => bucket.width.map_or_else(|| bucket.expression.clone(), |width| width.to_string()),
        None => "none".to_owned(),
    };
    let dimensions = |definition: &ViewDefinition| {
        let dimensions = definition.dimensions.iter();
        dimensions.map(|dimension| format!("{} {:?}", dimension.expression, dimension.kind)).collect::<Vec<_>>()
    };
    let finishes = |definition: &ViewDefinition| {
        definition.outputs.iter().map(|output| (output.finish, output.kind)).collect::<Vec<_>>()
    };
    check("stream", format!("{:?}", stored.stream), format!("{:?}", now.stream))?;
    check("filter", format!("{:?}", stored.filter), format!("{:?}", now.filter))?;
    check("dimensions", dimensions(stored).join(", "), dimensions(now).join(", "))?;
    check("grouping by series", stored.by_series.to_string(), now.by_series.to_string())?;
    check("bucket", width(stored), width(now))?;
    check("arguments", format!("{:?}", stored.arguments), format!("{:?}", now.arguments))?;
    check("folds", format!("{:?}", stored.folds), format!("{:?}", now.folds))?;
    check("results", format!("{:?}", finishes(stored)), format!("{:?}", finishes(now)))?;
    Ok((planned.program, planned.reading))
}

/// What tells groups apart.
struct Groups {
    dimensions: Vec<Typed>,
    bucket: Option<(Typed, Width)>,
    by_series: bool,
    /// For each expression of `GROUP BY` its place in the base, and the type that the select list expects.
    places: Vec<(usize, DataType)>,
}

impl Groups {
    fn of(analysis: &Analysis, scope: &Scope<'_>) -> Result<Self, ViewError> {
        let mut groups = Groups { dimensions: Vec::new(), bucket: None, by_series: false, places: Vec::new() };
        let mut texts = Vec::new();
        for (_, expr) in &analysis.groups {
            let of = scope.type_of(expr)?;
            let expr = scope.normal(expr.clone())?;
            let width = bucket_of(&expr, &scope.stream.time_column)?;
            let typed = scope.typed(expr)?;
            if typed.kind == ValueType::Map && typed.nullable {
                let reason = "ClickHouse has no map that is null; group by what it is null for, or by another map then";
                return Err(ViewError::not_maintained(&typed.expr, reason));
            }
            texts.push((typed.text(), of));
            let known = groups.dimensions.iter().chain(groups.bucket.iter().map(|(bucket, _)| bucket));
            if known.map(Typed::text).any(|text| text == typed.text()) {
                continue;
            }
            match width {
                Some(width) if groups.bucket.is_none() => groups.bucket = Some((typed, width)),
                _ => groups.dimensions.push(typed),
            }
        }
        let mut series: Vec<String> = groups.dimensions.iter().map(Typed::text).collect();
        series.sort_unstable();
        groups.by_series = scope.stream.id == StreamId::METRICS && series == ["metrics.dimensions", "metrics.name"];
        if groups.by_series && groups.dimensions[0].text() != "metrics.name" {
            groups.dimensions.swap(0, 1); // a series is a name, then its dimensions
        }
        let texts_in_base: Vec<String> =
            groups.dimensions.iter().chain(groups.bucket.iter().map(|(bucket, _)| bucket)).map(Typed::text).collect();
        let place = |(text, of): (String, DataType)| {
            let place = texts_in_base.iter().position(|other| *other == text);
            (place.expect("each expression became a dimension or the bucket"), of)
        };
        groups.places = texts.into_iter().map(place).collect();
        Ok(groups)
    }

    /// How many columns of the base they are.
    fn len(&self) -> usize {
        self.dimensions.len() + usize::from(self.bucket.is_some())
    }

    /// Names for ClickHouse, in the order of the base: as the select list has them, or as they can be had.
    fn names(&self, analysis: &Analysis) -> Vec<String> {
        let mut names: Vec<String> = Vec::new();
        for place in 0..self.len() {
            let column = self.places.iter().position(|(other, _)| *other == place);
            let column = &analysis.groups[column.expect("each place is that of an expression")].0;
            let listed = |(_, expr): &&(String, _)| is_column(expr, column);
            let listed = analysis.columns.iter().find(listed).map(|(name, _)| name.clone());
            let candidates = listed.into_iter().chain([column.name.clone()]);
            let usual = if place < self.dimensions.len() { format!("d{}", place + 1) } else { "bucket".to_owned() };
            let numbered = (2..).map(|number| format!("{usual}_{number}"));
            let mut all = candidates.filter(|name| is_plain(name)).chain([usual.clone()]).chain(numbered);
            names.push(all.find(|name| !names.contains(name)).expect("numbers do not end"));
        }
        names
    }
}

fn is_column(expr: &Expr, column: &Column) -> bool {
    match expr {
        Expr::Alias(alias) => is_column(&alias.expr, column),
        Expr::Column(other) => other == column,
        _ => false,
    }
}

/// Whether a name is one that a stream's column could have.
fn is_plain(name: &str) -> bool {
    (1..=63).contains(&name.len())
        && name.starts_with(|c: char| c.is_ascii_lowercase())
        && name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_')
}

fn reading(
    analysis: &Analysis,
    scope: &Scope<'_>,
    groups: &Groups,
    aggregates: &Aggregates,
    calls: &[usize],
    exactness: &[(String, usize)],
) -> Result<Reading, ViewError> {
    let dimension = |typed: &Typed| Field::new(typed.text(), typed.kind.arrow(), typed.nullable);
    let bucket = |(typed, _): &(Typed, Width)| Field::new(typed.text(), ValueType::Time.arrow(), false);
    let outputs = aggregates.outputs.iter();
    let outputs = outputs.map(|output| Field::new(&output.name, output.kind.arrow(), output.nullable));
    let fields = groups.dimensions.iter().map(dimension).chain(groups.bucket.iter().map(bucket)).chain(outputs);
    let base = Arc::new(Schema::new(fields.collect::<Vec<_>>()));
    let group_places = analysis.groups.iter().zip(&groups.places);
    let mut places: Vec<(Column, usize, DataType)> =
        group_places.map(|((column, _), (place, of))| (column.clone(), *place, of.clone())).collect();
    for ((column, call), output) in analysis.calls.iter().zip(calls) {
        places.push((column.clone(), groups.len() + output, scope.type_of(call)?));
    }
    let names = Names::new(&base, places)?;
    let having = analysis.having.clone().map(|having| names.compile(having, scope.state)).transpose()?;
    let mut columns = Vec::new();
    let mut seen: HashMap<&str, usize> = HashMap::new();
    for (position, (name, expr)) in analysis.columns.iter().enumerate() {
        check_column(name)?;
        if let Some(before) = seen.insert(name, position) {
            let reason = format!("columns {} and {} have it; give one another with AS", before + 1, position + 1);
            return Err(ViewError::Name { what: "column", name: name.clone(), reason });
        }
        columns.push((names.column(expr.clone(), scope.state)?, name.clone()));
    }
    for (name, output) in exactness {
        check_column(name)?;
        if let Some(before) = columns.iter().position(|(_, other)| other == name) {
            let reason = format!(
                "column {} has it, and it is that of whether a count(DISTINCT …) is exact; give one another with AS",
                before + 1
            );
            return Err(ViewError::Name { what: "column", name: name.clone(), reason });
        }
        let column = Column::new_unqualified(base.field(groups.len() + output).name());
        columns.push((names.compile(Expr::Column(column), scope.state)?, name.clone()));
    }
    let schema = schema_of(&columns, &base)?;
    let results = over_results(analysis, scope, aggregates, calls, exactness)?;
    let bucket = groups.bucket.as_ref().map(|(typed, _)| bucket_at(typed, scope)).transpose()?;
    Ok(Reading { base, having, columns, schema, results, bucket })
}

/// See [`Reading::results`].
fn over_results(
    analysis: &Analysis,
    scope: &Scope<'_>,
    aggregates: &Aggregates,
    calls: &[usize],
    exactness: &[(String, usize)],
) -> Result<Vec<Option<Arc<dyn PhysicalExpr>>>, ViewError> {
    let base = results_base(&aggregates.outputs);
    let places = analysis.calls.iter().zip(calls);
    let places = places.map(|((column, call), output)| Ok((column.clone(), *output, scope.type_of(call)?)));
    let places = places.collect::<Result<Vec<(Column, usize, DataType)>, ViewError>>()?;
    let is_result = |column: &Column| places.iter().any(|(other, ..)| other == column);
    let names = Names::new(&base, places.clone())?;
    let listed = analysis.columns.iter().map(|(_, expr)| {
        let columns = expr.column_refs();
        match !columns.is_empty() && columns.into_iter().all(is_result) {
            true => names.column(expr.clone(), scope.state).map(Some),
            false => Ok(None),
        }
    });
    let exactness = exactness.iter().map(|(_, output)| {
        let column = PhysicalColumn::new(base.field(*output).name(), *output);
        Ok(Some(Arc::new(column) as Arc<dyn PhysicalExpr>))
    });
    listed.chain(exactness).collect()
}

/// A bucket over the time column alone.
fn bucket_at(typed: &Typed, scope: &Scope<'_>) -> Result<BucketAt, ViewError> {
    let time = Field::new(&scope.stream.time_column, ValueType::Time.arrow(), false);
    let time = Arc::new(Schema::new(vec![time]));
    let named = DFSchema::try_from_qualified_schema(scope.stream.name.as_str(), &time)?;
    Ok(BucketAt { expr: scope.state.create_physical_expr(typed.expr.clone(), &named)?, time })
}

/// For each column of the select list that is a `count(DISTINCT …)` as it is: the name of the column that says whether
/// it is exact, and the place of that result.
fn exactness(analysis: &Analysis, aggregates: &mut Aggregates, calls: &[usize]) -> Vec<(String, usize)> {
    let mut exactness = Vec::new();
    for (name, expr) in &analysis.columns {
        let of = |((column, call), _): &(&(Column, Expr), &usize)| {
            is_column(expr, column) && sketches::is_count_distinct(call)
        };
        let Some((_, output)) = analysis.calls.iter().zip(calls).find(of) else { continue };
        exactness.push((format!("{name}{IS_EXACT_SUFFIX}"), aggregates.is_exact(*output)));
    }
    exactness
}

fn check_column(name: &str) -> Result<(), ViewError> {
    let usable = (1..=255).contains(&name.len())
        && !name.starts_with('_')
        && !name.contains(|c: char| c.is_control() || c == '`');
    let reason = "use 1 to 255 bytes without control characters and `, not beginning with _; name it with AS";
    if usable { Ok(()) } else { Err(ViewError::Name { what: "column", name: name.to_owned(), reason: reason.into() }) }
}
