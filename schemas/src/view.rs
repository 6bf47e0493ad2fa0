//! Views: maintained queries over a stream, and the pace at which each is flushed and forgotten.
//!
//! ```text
//!  SELECT date_bin(interval '1 minute', at), carrier, sum(delay) / count(*)   FROM flights WHERE … GROUP BY 1, 2
//!         └────── bucket ─────────────────┘ └ dimension ┘ └ outputs of folds ┘                └ filter ┘
//! ```
//!
//! What is kept are the folds of each group; the select list is computed when somebody reads.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::state::{Finish, Fold, Function, Layout, Output};
use crate::stream::check_name;
use crate::{Duration, Epoch, EventTime, SchemaError, StreamId, ValueType};

/// The identity of a view: the epoch of its creation; those of built-in views are small numbers, which no epoch is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct ViewId(pub u64);

/// The largest identity of a built-in view.
const BUILT_IN_MAX: u64 = 4;

impl ViewId {
    /// Whether the view is there from the beginning and stays.
    #[must_use]
    pub fn is_built_in(self) -> bool {
        self.0 <= BUILT_IN_MAX
    }

    /// The epoch of its creation: events at or below it are not the flow's to count. Zero of a built-in one.
    #[must_use]
    pub fn created(self) -> Epoch {
        if self.is_built_in() { Epoch::ZERO } else { Epoch(self.0) }
    }
}

/// A view as it stands.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct View {
    /// Its identity.
    pub id: ViewId,
    /// What was defined.
    pub definition: ViewDefinition,
}

/// An expression by which a view tells groups apart.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Dimension {
    /// Its column in ClickHouse; each dimension of a view has another.
    pub name: String,
    /// The expression, in the one way in which it is written out; the name of its column in plans.
    pub expression: String,
    /// Its type.
    pub kind: ValueType,
}

/// The time bucket of a view.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Bucket {
    /// Its column in ClickHouse.
    pub name: String,
    /// The expression, as in [`Dimension::expression`].
    pub expression: String,
    /// The length, when all buckets have one and begin at multiples of it since 1970.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub width: Option<Duration>,
}

/// What a view aggregates: an expression over the events, null for those that its `FILTER` leaves out.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Argument {
    /// The expression, as in [`Dimension::expression`].
    pub expression: String,
    /// Its type.
    pub kind: ValueType,
}

/// What `WITH (…)` says.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ViewOptions {
    /// How often changed rows are written to ClickHouse.
    pub flush_interval: Duration,
    /// `K`: a row that was not changed for this long is final.
    pub idle: Duration,
    /// How long ClickHouse keeps a row after its last change.
    pub retention: Duration,
    /// Whether events before the view's creation are counted.
    pub backfill: bool,
    /// So many bytes of rows in memory make the view push back on its stream's producers; `None` for the program's bound alone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub memory_bytes_max: Option<u64>,
}

/// Events that a view's expressions could not be computed of; it does not count them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Failed {
    /// How many.
    pub events: u64,
    /// Why, of one of them; empty of none.
    pub reason: String,
}

impl Failed {
    /// Adds later ones, which say why.
    pub fn add(&mut self, later: &Failed) {
        if later.events > 0 {
            self.events += later.events;
            self.reason.clone_from(&later.reason);
        }
    }
}

/// How long ClickHouse keeps rows of a view that does not say: two years after their last change.
pub const DEFAULT_VIEW_RETENTION: Duration = Duration::from_secs(2 * 365 * 86_400);

impl ViewOptions {
    /// The options of a view that says nothing: fine buckets are flushed often and forgotten soon, since there are many
    /// of them; coarse ones are few.
    #[must_use]
    pub fn by_bucket(width: Option<Duration>) -> Self {
        let (flush, idle) = match width.map_or(60, Duration::as_secs) {
            ..=1 => (1, 5),
            2..=60 => (2, 60),
            61..=3_600 => (5, 300),
            _ => (10, 600),
        };
        ViewOptions {
            flush_interval: Duration::from_secs(flush),
            idle: Duration::from_secs(idle),
            retention: DEFAULT_VIEW_RETENTION,
            backfill: true,
            memory_bytes_max: None,
        }
    }
}

/// The definition of a view: its text, and what was made of it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ViewDefinition {
    /// The view's name, and its table's.
    pub name: String,
    /// The stream that it is over.
    pub stream: StreamId,
    /// The `SELECT`, in the one way in which it is written out.
    pub select: String,
    /// The condition of `WHERE`, as in [`Dimension::expression`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub filter: Option<String>,
    /// What tells groups apart, besides the bucket.
    pub dimensions: Vec<Dimension>,
    /// Whether the dimensions are `name` and `dimensions` of `metrics`, so that a group is a series and a bucket.
    #[serde(default)]
    pub by_series: bool,
    /// The time bucket.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bucket: Option<Bucket>,
    /// What is aggregated.
    pub arguments: Vec<Argument>,
    /// What is kept.
    pub folds: Vec<Fold>,
    /// What is made of it.
    pub outputs: Vec<Output>,
    /// The columns of the select list, in order; then one for each `count(DISTINCT …)` among them, named with
    /// [`IS_EXACT_SUFFIX`].
    pub columns: Vec<ViewColumn>,
    /// Its pace and bounds.
    pub options: ViewOptions,
}

/// What the column that says whether a number of distinct values is exact has after the name of that number's column.
pub const IS_EXACT_SUFFIX: &str = "_is_exact";

/// A column of a view as a table.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ViewColumn {
    /// Its name.
    pub name: String,
    /// Its type.
    pub kind: ValueType,
    /// Whether it may be null.
    pub nullable: bool,
    /// The place of the result that it is, if it is one as it stands.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub output: Option<usize>,
}

impl View {
    /// The horizon `H` for a flushed epoch `F`: `F − K`, and never before the view's creation, since all rows up to then
    /// are back-filled ones, which are final.
    #[must_use]
    pub fn horizon(&self, flushed: Epoch) -> Epoch {
        self.horizon_keeping(flushed, Duration::from_secs(0))
    }

    /// The horizon of a memory that keeps rows for `recent` after they are final.
    #[must_use]
    pub fn horizon_keeping(&self, flushed: Epoch, recent: Duration) -> Epoch {
        flushed.minus((self.definition.options.idle.as_micros() + recent.as_micros()) as u64).max(self.id.created())
    }

    /// Whether the view counts all that it should, when its back-fill counts the events up to `upto`.
    #[must_use]
    pub fn is_filled(&self, upto: Epoch) -> bool {
        !self.definition.options.backfill || upto >= self.id.created()
    }

    /// For how long memory keeps final rows if it has room, so that questions about recent time need nothing else: the time
    /// that a dashboard shows in buckets of this width. Groups without buckets have no recent time.
    #[must_use]
    pub fn recent(&self) -> Duration {
        let Some(bucket) = &self.definition.bucket else { return Duration::from_secs(0) };
        let shown = Duration::from_secs(match bucket.width.map_or(86_400, Duration::as_secs) {
            ..=1 => 300,
            2..=60 => 3_600,
            61..=3_600 => 86_400,
            _ => 31 * 86_400,
        });
        shown.min(self.definition.options.retention)
    }

    /// The ClickHouse table that keeps this view's states; the finished view has the plain name.
    #[must_use]
    pub fn states_table(&self) -> String {
        format!("{}_states", self.definition.name)
    }

    /// The name of a hidden column of the states table: names with `_` before them cannot be those of dimensions. The
    /// tables of the built-in views are older than this rule.
    #[must_use]
    pub fn hidden(&self, name: &str) -> String {
        if self.id.is_built_in() { name.to_owned() } else { format!("_{name}") }
    }

    /// The names of the columns that keep the states, in the order of [`Layout::columns`].
    #[must_use]
    pub fn state_columns(&self) -> Vec<String> {
        let layout = self.layout();
        let columns = layout.columns().into_iter().map(|column| {
            let function = match layout.folds()[column.fold].function {
                Function::Count => "count",
                Function::Sum => "sum",
                Function::Min => "min",
                Function::Max => "max",
                Function::Moments => "moments",
                Function::First => "first",
                Function::Last => "last",
                Function::Distinct => "distinct",
                Function::Quantiles => "quantiles",
                Function::Top { .. } => "top",
            };
            if self.id.is_built_in() {
                function.to_owned()
            } else {
                format!("_{}_{function}{}", column.fold, column.suffix)
            }
        });
        columns.collect()
    }

    /// How its states are laid out.
    #[must_use]
    pub fn layout(&self) -> Layout {
        self.definition.layout().expect("a view in the catalog has folds that can be laid out")
    }
}

impl ViewDefinition {
    /// Checks the name, and that every part refers to what is there.
    ///
    /// # Errors
    /// [`SchemaError`] that names the part.
    pub fn check(&self) -> Result<(), SchemaError> {
        check_name("view", &self.name)?;
        let arguments = self.folds.iter().flat_map(|fold| fold.argument.into_iter().chain(fold.condition));
        if let Some(missing) = arguments.into_iter().find(|argument| usize::from(*argument) >= self.arguments.len()) {
            let reason = format!("a fold is of argument {missing}, and there are {}", self.arguments.len());
            return Err(SchemaError::View { view: self.name.clone(), reason });
        }
        self.layout().map(|_| ())
    }

    /// How its states are laid out.
    ///
    /// # Errors
    /// [`SchemaError::Fold`] for folds that are not kept of their argument's type.
    pub fn layout(&self) -> Result<Layout, SchemaError> {
        Layout::new(&self.folds)
    }

    /// The lower bound of the bucket that holds `time`, of a view with buckets of one length.
    #[must_use]
    pub fn bucket_of(&self, time: EventTime) -> Option<EventTime> {
        Some(time.floor(self.bucket.as_ref()?.width?))
    }

    /// The types of the dimensions, in order.
    #[must_use]
    pub fn dimension_kinds(&self) -> Vec<ValueType> {
        self.dimensions.iter().map(|dimension| dimension.kind).collect()
    }

    /// Whether this view's groups can be made by merging those of `finer`: the same events and dimensions, every fold
    /// kept there too, and each bucket a union of finer ones.
    #[must_use]
    pub fn is_fed_by(&self, finer: &ViewDefinition) -> bool {
        let same_events = self.stream == finer.stream && self.filter == finer.filter;
        let expressions = |view: &ViewDefinition| -> Vec<String> {
            view.dimensions.iter().map(|dimension| dimension.expression.clone()).collect()
        };
        let same_groups = self.by_series == finer.by_series && expressions(self) == expressions(finer);
        let wider = match (&self.bucket, &finer.bucket) {
            (None, _) => true,
            (Some(bucket), Some(finer)) => match (bucket.width, finer.width) {
                (Some(width), Some(finer)) => width.as_micros() % finer.as_micros() == 0,
                _ => bucket.expression == finer.expression,
            },
            (Some(_), None) => false,
        };
        same_events && same_groups && wider && self.folds_of(finer).is_some()
    }

    /// The places of this view's folds among those of `finer`; `None` when one is missing.
    #[must_use]
    pub fn folds_of(&self, finer: &ViewDefinition) -> Option<Vec<usize>> {
        fn expression(view: &ViewDefinition, argument: Option<u16>) -> Option<&str> {
            argument.map(|argument| view.arguments[usize::from(argument)].expression.as_str())
        }
        let place = |fold: &Fold| {
            let same = |other: &Fold| {
                other.function == fold.function
                    && other.kind == fold.kind
                    && expression(finer, other.argument) == expression(self, fold.argument)
                    && expression(finer, other.condition) == expression(self, fold.condition)
            };
            finer.folds.iter().position(same)
        };
        self.folds.iter().map(place).collect()
    }
}

/// The four built-in rollups of `metrics`, finest first; each is fed from the one before.
#[must_use]
pub fn built_in_rollups() -> Vec<Arc<View>> {
    // Kept as long as the tables say that the migrations made.
    let rollups = [
        ("metrics_1s", "1 second", 1, 90),
        ("metrics_1m", "1 minute", 60, 730),
        ("metrics_1h", "1 hour", 3_600, 3_650),
        ("metrics_1d", "1 day", 86_400, 7_300),
    ];
    let definition = |(name, text, secs, days): (&str, &str, i64, i64)| {
        let mut definition = rollup(name, text, secs);
        definition.options.retention = Duration::from_secs(days * 86_400);
        definition
    };
    let definitions = rollups.into_iter().map(definition);
    (1..).zip(definitions).map(|(id, definition)| Arc::new(View { id: ViewId(id), definition })).collect()
}

/// The view over `metrics` that keeps count, sum, minimum and maximum of each series by buckets of `secs` seconds;
/// `text` is that length as an interval.
#[must_use]
pub fn rollup(name: &str, text: &str, secs: i64) -> ViewDefinition {
    let width = Some(Duration::from_secs(secs));
    let column = |name: &str, kind, output| ViewColumn { name: name.into(), kind, nullable: false, output };
    let output = |name: &str, finish, kind| Output { name: name.into(), finish, kind, nullable: false };
    let dimension = |name: &str, kind| Dimension { name: name.into(), expression: format!("metrics.{name}"), kind };
    ViewDefinition {
        name: name.to_owned(),
        stream: StreamId::METRICS,
        select: format!(
            "SELECT date_bin(INTERVAL '{text}', ts) AS bucket, name, dimensions, count(*) AS count, sum(value) AS sum, \
             min(value) AS min, max(value) AS max, avg(value) AS avg FROM metrics GROUP BY bucket, name, dimensions"
        ),
        filter: None,
        dimensions: vec![dimension("name", ValueType::Text), dimension("dimensions", ValueType::Map)],
        by_series: true,
        bucket: Some(Bucket { name: "bucket".into(), expression: format!("date_bin({text}, metrics.ts)"), width }),
        arguments: vec![Argument { expression: "metrics.value".into(), kind: ValueType::F64 }],
        folds: vec![
            Fold::ROWS,
            Fold::of(Function::Sum, 0, ValueType::F64),
            Fold::of(Function::Min, 0, ValueType::F64),
            Fold::of(Function::Max, 0, ValueType::F64),
        ],
        outputs: vec![
            output("count(*)", Finish::Count(0), ValueType::I64),
            output("sum(metrics.value)", Finish::Value { fold: 1, count: 0 }, ValueType::F64),
            output("min(metrics.value)", Finish::Value { fold: 2, count: 0 }, ValueType::F64),
            output("max(metrics.value)", Finish::Value { fold: 3, count: 0 }, ValueType::F64),
            output("avg(metrics.value)", Finish::Mean { sum: 1, count: 0 }, ValueType::F64),
        ],
        columns: vec![
            column("bucket", ValueType::Time, None),
            column("name", ValueType::Text, None),
            column("dimensions", ValueType::Map, None),
            column("count", ValueType::I64, Some(0)),
            column("sum", ValueType::F64, Some(1)),
            column("min", ValueType::F64, Some(2)),
            column("max", ValueType::F64, Some(3)),
            column("avg", ValueType::F64, Some(4)),
        ],
        options: ViewOptions::by_bucket(width),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rollups_are_kept_as_long_as_their_tables_say() {
        let sql = include_str!("../sql/0001_streams_and_rollups.sql");
        for view in built_in_rollups() {
            let table = sql.split("CREATE TABLE").find(|table| table.contains(&format!("{}\n", view.states_table())));
            let table = table.or_else(|| sql.split("CREATE TABLE").find(|table| table.contains(&view.states_table())));
            let interval = table.and_then(|table| table.split("INTERVAL ").nth(1)).unwrap();
            let mut words = interval.split_whitespace();
            let number: i64 = words.next().unwrap().parse().unwrap();
            let days = if words.next() == Some("YEAR") { number * 365 } else { number };
            assert_eq!(
                view.definition.options.retention,
                Duration::from_secs(days * 86_400),
                "{}",
                view.definition.name
            );
        }
    }
}
