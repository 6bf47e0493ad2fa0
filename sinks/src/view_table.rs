//! The statements that make the tables of a view: its states, and the finished view for direct readers.
//!
//! ```text
//!  <view>_states   dimensions │ _series │ bucket │ _shard _generation _version │ one or more columns a fold
//!                                  │ FINAL, GROUP BY group
//!  <view>          bucket, dimensions, results
//! ```
//!
//! The built-in rollups have the same shape, without the `_` and without nulls; a migration makes theirs.
//!
//! A `Map` cannot be null in ClickHouse. A dimension that is a null map is written as an empty one; whoever reads it
//! tells the two apart by the group's identity.

use std::collections::HashSet;

use streamgauge_schemas::state::{Finish, Function, Output};
use streamgauge_schemas::view::Dimension;
use streamgauge_schemas::{Layout, ValueType, View};

mod sketches;

use crate::catalog::RETENTION_SECS_MAX;
use crate::sql::sql_name;

/// The type of a dimension's column.
fn dimension_type(view: &View, dimension: &Dimension) -> String {
    match dimension.kind {
        ValueType::Map => ValueType::Map.clickhouse().to_owned(),
        ValueType::Text if view.id.is_built_in() => "LowCardinality(String)".to_owned(),
        kind => format!("Nullable({})", kind.clickhouse()),
    }
}

/// The statement that makes the table of states, under its quoted name.
pub(crate) fn create_states(table: &str, view: &View) -> String {
    let definition = &view.definition;
    let hidden = |name: &str| sql_name(&view.hidden(name));
    let (series, shard, generation, version) =
        (hidden("series"), hidden("shard"), hidden("generation"), hidden("version"));
    let bucket = definition.bucket.as_ref().map(|bucket| sql_name(&bucket.name));

    let mut columns: Vec<String> = (definition.dimensions.iter())
        .map(|dimension| format!("{} {}", sql_name(&dimension.name), dimension_type(view, dimension)))
        .collect();
    columns.push(format!("{series} UInt128"));
    columns.extend(bucket.iter().map(|bucket| format!("{bucket} DateTime64(6, 'UTC') CODEC(Delta(8), LZ4)")));
    columns.push(format!("{shard} UInt16 DEFAULT 0"));
    columns.push(format!("{generation} UInt64 CODEC(Delta(8), LZ4)"));
    columns.push(format!("{version} UInt64 CODEC(Delta(8), LZ4)"));
    let states = view.state_columns().into_iter().zip(view.layout().columns());
    columns.extend(states.map(|(name, column)| format!("{} {}", sql_name(&name), column.kind.clickhouse())));
    columns.push(format!("INDEX version_range {version} TYPE minmax GRANULARITY 1"));
    columns.extend(bucket.iter().map(|bucket| format!("INDEX bucket_range {bucket} TYPE minmax GRANULARITY 1")));

    let mut order: Vec<String> = sortable(view).map(|dimension| sql_name(&dimension.name)).collect();
    order.push(series);
    order.extend(bucket);
    order.extend([shard, generation.clone()]);
    let retention = definition.options.retention.as_secs().clamp(1, RETENTION_SECS_MAX);
    format!(
        "CREATE TABLE IF NOT EXISTS {table}\n(\n    {columns}\n)\nENGINE = ReplacingMergeTree({version})\n\
         PARTITION BY toYYYYMM(fromUnixTimestamp64Micro(toInt64({generation}), 'UTC'))\nORDER BY ({order})\n\
         TTL toDateTime(intDiv({version}, 1000000), 'UTC') + INTERVAL {retention} SECOND\n\
         SETTINGS {nullable}ttl_only_drop_parts = 1, \
         vertical_merge_algorithm_min_columns_to_activate = 1, vertical_merge_algorithm_min_rows_to_activate = 1, \
         fsync_after_insert = 1, fsync_part_directory = 1, min_rows_to_fsync_after_merge = 1",
        columns = columns.join(",\n    "),
        order = order.join(", "),
        nullable = if view.id.is_built_in() { "" } else { "allow_nullable_key = 1, " },
    )
}

/// The dimensions that rows can be ordered by.
fn sortable(view: &View) -> impl Iterator<Item = &Dimension> {
    view.definition.dimensions.iter().filter(|dimension| dimension.kind != ValueType::Map)
}

/// The statement that makes the finished view, under its quoted name, over the quoted table of states: generations are
/// merged, a row is a group. `None` when ClickHouse can finish nothing of it.
pub(crate) fn create_finished(name: &str, states: &str, view: &View) -> Option<String> {
    let definition = &view.definition;
    let bucket = definition.bucket.as_ref().map(|bucket| bucket.name.as_str());
    let column = |name: &str| format!("s.{}", sql_name(name));
    let mut selected: Vec<String> =
        bucket.map(|name| format!("{} AS {}", column(name), sql_name(name))).into_iter().collect();
    for dimension in &definition.dimensions {
        let value = column(&dimension.name);
        let value = if dimension.kind == ValueType::Map { format!("any({value})") } else { value };
        selected.push(format!("{value} AS {}", sql_name(&dimension.name)));
    }
    let mut taken: HashSet<&str> = definition.dimensions.iter().map(|dimension| dimension.name.as_str()).collect();
    taken.extend(bucket);
    let finisher = Finisher::new(view);
    for (place, output) in definition.outputs.iter().enumerate() {
        let Some(value) = finisher.finish(output) else { continue };
        let selected_as = definition.columns.iter().find(|column| column.output == Some(place));
        let names = [selected_as.map(|column| column.name.as_str()), Some(&output.name)];
        if let Some(name) = names.into_iter().flatten().find(|name| !taken.contains(name)) {
            taken.insert(name);
            selected.push(format!("{value} AS {}", sql_name(name)));
        }
    }
    let mut group: Vec<String> = sortable(view).map(|dimension| column(&dimension.name)).collect();
    group.push(column(&view.hidden("series")));
    group.extend(bucket.map(column));
    (!selected.is_empty()).then(|| {
        format!(
            "CREATE VIEW IF NOT EXISTS {name} AS\nSELECT\n    {}\nFROM {states} AS s FINAL\nGROUP BY {}\n\
             SETTINGS do_not_merge_across_partitions_select_final = 1",
            selected.join(",\n    "),
            group.join(", "),
        )
    })
}

/// Makes the expressions that finish states, each over the rows of one group.
struct Finisher<'a> {
    view: &'a View,
    layout: Layout,
    names: Vec<String>,
}

impl<'a> Finisher<'a> {
    fn new(view: &'a View) -> Self {
        Finisher { view, layout: view.layout(), names: view.state_columns() }
    }

    /// The column of a fold.
    fn column(&self, fold: usize, suffix: &str) -> Option<String> {
        let columns = self.layout.columns();
        let place = columns.iter().position(|column| (column.fold, column.suffix) == (fold, suffix))?;
        Some(format!("s.{}", sql_name(&self.names[place])))
    }

    /// How ClickHouse makes a result; `None` when it cannot.
    fn finish(&self, output: &Output) -> Option<String> {
        match output.finish {
            Finish::Count(fold) => {
                self.is(fold, Function::Count).then(|| Some(format!("toInt64(sum({}))", self.column(fold, "")?)))?
            }
            Finish::Value { fold, count } => {
                let (value, count) = (self.value(fold, count)?, self.column(count, "")?);
                Some(format!("if(sum({count}) > 0, {}, NULL)", of_integer(output.kind, &value)))
            }
            Finish::Mean { sum, count } => {
                let (sum, count) = (self.column(sum, "")?, self.column(count, "")?);
                Some(format!("if(sum({count}) > 0, sum({sum}) / sum({count}), NULL)"))
            }
            Finish::Spread { fold, sample, root } => {
                let [count, mean, m2] = ["_count", "_mean", "_m2"].map(|suffix| self.column(fold, suffix));
                let (count, mean, m2) = (count?, mean?, m2?);
                let over = if sample { "- 1" } else { "" };
                let variance = format!("{} / (sum({count}) {over})", merged_m2(&count, &mean, &m2));
                let spread = if root { format!("sqrt({variance})") } else { variance };
                Some(format!("if(sum({count}) > {}, {spread}, NULL)", u8::from(sample)))
            }
            Finish::Held(fold) => self.held(fold, output.kind),
            Finish::Distinct(fold) => Some(sketches::distinct(&self.column(fold, "")?)),
            Finish::DistinctIsExact(fold) => {
                Some(format!("toBool({})", sketches::distinct_is_exact(&self.column(fold, "")?)))
            }
            Finish::Quantile { fold, q } => Some(sketches::quantile(&self.column(fold, "")?, q)),
            Finish::Top { .. } => None, // its texts have to be read one after the other
        }
    }

    fn is(&self, fold: usize, function: Function) -> bool {
        self.layout.folds()[fold].function == function
    }

    /// A sum, minimum or maximum that was counted by the fold `count`. A NaN is greater than all numbers, and in the
    /// column of a minimum or maximum of nothing there is something without meaning.
    fn value(&self, fold: usize, count: usize) -> Option<String> {
        let (value, count) = (self.column(fold, "")?, self.column(count, "")?);
        let fold = self.layout.folds()[fold];
        let order = format!("(isNaN({value}), if(isNaN({value}), 0, {value}))");
        match (fold.function, fold.kind) {
            (Function::Sum, _) => Some(format!("sum({value})")),
            (Function::Min, ValueType::F64) => Some(format!("argMinIf({value}, {order}, {count} > 0)")),
            (Function::Max, ValueType::F64) => Some(format!("argMaxIf({value}, {order}, {count} > 0)")),
            (Function::Min, _) => Some(format!("minIf({value}, {count} > 0)")),
            (Function::Max, _) => Some(format!("maxIf({value}, {count} > 0)")),
            _ => None,
        }
    }

    /// A value that knows by itself whether it is null. Generations are in order of arrival, which decides between
    /// equal times.
    fn held(&self, fold: usize, kind: ValueType) -> Option<String> {
        let generation = format!("s.{}", sql_name(&self.view.hidden("generation")));
        let function = self.layout.folds()[fold].function;
        let (text, pick) = match function {
            Function::Min => return self.extreme(fold, "minIf"),
            Function::Max => return self.extreme(fold, "maxIf"),
            Function::First => (kind == ValueType::Text, "argMinIf"),
            Function::Last => (kind == ValueType::Text, "argMaxIf"),
            _ => return None,
        };
        let (what, time, value) = if text {
            let bytes = self.column(fold, "")?; // a tag, the time, the text
            let time = format!("reinterpretAsInt64(substring({bytes}, 2, 8))");
            (format!("ascii({bytes})"), time, format!("substring({bytes}, 10)"))
        } else {
            (self.column(fold, "_is")?, self.column(fold, "_time")?, self.column(fold, "_value")?)
        };
        let picked = |of: &str| format!("{pick}({of}, ({time}, {generation}), {what} > 0)");
        Some(format!("if({} = 2, {}, NULL)", picked(&what), of_integer(kind, &picked(&value))))
    }

    /// The smallest or largest text: a tag, the text.
    fn extreme(&self, fold: usize, pick: &str) -> Option<String> {
        let bytes = self.column(fold, "")?;
        let there = format!("ascii({bytes}) = 2");
        Some(format!("if(countIf({there}) > 0, {pick}(substring({bytes}, 2), {there}), NULL)"))
    }
}

/// The sum of squared differences from the common mean; as `merge_moments` of the states does, but all at once.
fn merged_m2(count: &str, mean: &str, m2: &str) -> String {
    let common = format!("sum({count} * {mean}) / sum({count})");
    format!(
        "arraySum(arrayMap((n, mean, m2, common) -> m2 + n * pow(mean - common, 2), groupArray({count}), \
         groupArray({mean}), groupArray({m2}), arrayResize([{common}], count(), {common})))"
    )
}

/// A value of a type that states keep as an integer; of other types the value itself.
fn of_integer(kind: ValueType, value: &str) -> String {
    match kind {
        ValueType::Bool => format!("toBool({value})"),
        ValueType::Time => format!("fromUnixTimestamp64Micro({value}, 'UTC')"),
        ValueType::Date => format!("addDays(toDate32('1970-01-01'), {value})"),
        ValueType::I64 | ValueType::F64 | ValueType::Text | ValueType::Map => value.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use streamgauge_schemas::ddl::MIGRATIONS;
    use streamgauge_schemas::state::Fold;
    use streamgauge_schemas::view::{ViewColumn, built_in_rollups};
    use streamgauge_schemas::{ViewDefinition, ViewId};

    use super::*;

    /// A statement without quotes of names, without its retention, and with one space wherever there is any.
    fn plain(statement: &str) -> String {
        let lines: Vec<&str> = statement.lines().filter(|line| !line.starts_with("TTL ")).collect();
        let words: Vec<&str> = lines.iter().flat_map(|line| line.split_whitespace()).collect();
        words.join(" ").replace('`', "")
    }

    #[test]
    fn the_migration_makes_the_tables_of_rollups_in_the_shape_of_all_views() {
        let statements = MIGRATIONS[0].statements("d");
        for view in built_in_rollups() {
            let table = format!("d.{}", view.states_table());
            let begins = format!("CREATE TABLE IF NOT EXISTS {table}\n");
            let migrated = statements.iter().find(|statement| statement.starts_with(&begins)).unwrap();
            assert_eq!(plain(migrated), plain(&create_states(&table, &view)));
        }
    }

    #[test]
    fn the_most_frequent_texts_are_left_out_of_the_finished_view_and_the_rest_keeps_its_names() {
        let built_in = built_in_rollups().remove(0);
        let mut definition = ViewDefinition { name: "v".into(), by_series: false, ..built_in.definition.clone() };
        definition.select =
            "SELECT bucket, count(DISTINCT value) AS values, count(*) AS total, approx_top_k(name, 3) AS often \
                             FROM metrics"
                .into();
        definition.folds.truncate(1);
        definition.folds.push(Fold::of(Function::Distinct, 0, ValueType::F64));
        definition.folds.push(Fold::of(Function::Top { k: 3 }, 0, ValueType::Text));
        let output = |name: &str, finish, kind| Output { name: name.into(), finish, kind, nullable: false };
        definition.outputs = vec![
            output("count(DISTINCT value)", Finish::Distinct(1), ValueType::I64),
            output("count(*)", Finish::Count(0), ValueType::I64),
            output("approx_top_k(name, 3)", Finish::Top { fold: 2, k: 3 }, ValueType::Text),
            output("count(DISTINCT value)_is_exact", Finish::DistinctIsExact(1), ValueType::Bool),
        ];
        let column = |name: &str, kind, output| ViewColumn { name: name.into(), kind, nullable: false, output };
        definition.columns = vec![
            column("bucket", ValueType::Time, None),
            column("values", ValueType::I64, Some(0)),
            column("total", ValueType::I64, Some(1)),
            column("often", ValueType::Text, Some(2)),
            column("values_is_exact", ValueType::Bool, Some(3)),
        ];
        let view = View { id: ViewId(7_000), definition };
        assert!(plain(&create_states("d.v_states", &view)).contains("_1_distinct String"));
        let finished = plain(&create_finished("d.v", "d.v_states", &view).unwrap());
        for column in ["AS values,", "AS total,", "AS values_is_exact FROM"] {
            assert!(finished.contains(column), "{finished}");
        }
        assert!(!finished.contains("top") && !finished.contains("often"), "{finished}");
    }
}
