//! The series of a metric at a granularity: states merged from memory and history, grouped by dimensions.
//!
//! The coarsest rollup whose bucket divides the granularity is read; ClickHouse groups history, one row a point, and
//! what memory has is merged in.

use std::collections::{BTreeMap, HashMap};
use std::str::FromStr;
use std::sync::Arc;

use arrow::array::{Array, AsArray, RecordBatch};
use arrow::datatypes::{Float64Type, Int64Type, UInt64Type};
use futures::StreamExt;
use streamgauge_engine::snapshot::{DeltaSender, ViewSnapshot};
use streamgauge_engine::{KeyFilter, RowFilter, SeriesTest, SnapshotRequest, ViewRead};
use streamgauge_schemas::{Duration, Epoch, EventTime, Key, Series, SeriesId, Summary, View};
use tokio::time::Instant;

use crate::clickhouse::{self, Bounds};
use crate::error::QueryError;
use crate::history::{HistoryError, Waits, conform_column};
use crate::identities;
use crate::options::{AskOptions, Partial};
use crate::session::{Access, QueryEngine};

mod granularity;

pub use granularity::chosen_granularity;

/// What of a state is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Aggregation {
    /// The mean.
    Avg,
    /// The sum.
    Sum,
    /// The smallest value.
    Min,
    /// The largest value.
    Max,
    /// How many events.
    Count,
}

impl Aggregation {
    /// All of them.
    pub const ALL: [Aggregation; 5] =
        [Aggregation::Avg, Aggregation::Sum, Aggregation::Min, Aggregation::Max, Aggregation::Count];

    /// The name in requests and answers.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Aggregation::Avg => "avg",
            Aggregation::Sum => "sum",
            Aggregation::Min => "min",
            Aggregation::Max => "max",
            Aggregation::Count => "count",
        }
    }

    /// The value of a state that has events.
    #[must_use]
    pub fn of(self, state: &Summary) -> f64 {
        match self {
            Aggregation::Avg => state.sum / state.count as f64,
            Aggregation::Sum => state.sum,
            Aggregation::Min => state.min,
            Aggregation::Max => state.max,
            Aggregation::Count => state.count as f64,
        }
    }

    /// Reads names separated by commas.
    ///
    /// # Errors
    /// [`QueryError::Parameter`] for a name that is none of them.
    pub fn list(text: &str) -> Result<Vec<Aggregation>, QueryError> {
        text.split(',').map(|name| name.trim().parse()).collect()
    }
}

impl FromStr for Aggregation {
    type Err = QueryError;

    fn from_str(text: &str) -> Result<Self, QueryError> {
        let reason = || format!("{text:?} is none of avg, sum, min, max, count");
        let found = Aggregation::ALL.into_iter().find(|aggregation| aggregation.name() == text);
        found.ok_or_else(|| QueryError::Parameter { parameter: "aggregation", reason: reason() })
    }
}

/// Which series of a metric: each dimension named must have one of its values.
///
/// The empty value also stands for a dimension that a series does not have, as in ClickHouse's maps.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DimensionFilter(pub BTreeMap<String, Vec<String>>);

impl DimensionFilter {
    /// Reads `host:a,zone:1`, once or several times; a dimension named twice may have either value.
    ///
    /// ```
    /// use streamgauge_queries::DimensionFilter;
    /// let filter = DimensionFilter::parse(["host:a,zone:1", "host:b"]).unwrap();
    /// assert_eq!(filter.0["host"], ["a", "b"]);
    /// assert!(DimensionFilter::parse(["host"]).is_err());
    /// ```
    ///
    /// # Errors
    /// [`QueryError::Parameter`] for a part without a colon.
    pub fn parse<'a>(texts: impl IntoIterator<Item = &'a str>) -> Result<Self, QueryError> {
        let mut filter = DimensionFilter::default();
        for part in texts.into_iter().flat_map(|text| text.split(',')).filter(|part| !part.is_empty()) {
            let reason = || format!("{part:?} has no colon; write dimension:value, such as host:a");
            let (key, value) =
                part.split_once(':').ok_or_else(|| QueryError::Parameter { parameter: "filter", reason: reason() })?;
            filter.0.entry(key.to_owned()).or_default().push(value.to_owned());
        }
        Ok(filter)
    }

    /// The dimensions that must be there with a single value.
    fn single(&self) -> impl Iterator<Item = (String, String)> {
        self.0.iter().filter_map(|(key, values)| match &values[..] {
            [value] if !value.is_empty() => Some((key.clone(), value.clone())),
            _ => None,
        })
    }

    /// Whether the series passes.
    #[must_use]
    pub fn matches(&self, series: &Series) -> bool {
        let has = |key: &str, values: &[String]| values.iter().any(|v| v == series.dimension(key).unwrap_or_default());
        self.0.iter().all(|(key, values)| has(key, values))
    }
}

/// A question for the series of a metric.
#[derive(Clone, Debug)]
pub struct SeriesQuery {
    /// The metric's name.
    pub metric: String,
    /// Buckets from the one that holds this time,
    pub start: EventTime,
    /// to the last that begins before this time, whole.
    pub end: EventTime,
    /// The length of a bucket: a multiple of the finest rollup's; chosen for about 1,000 points when not given.
    pub granularity: Option<Duration>,
    /// What is wanted of each bucket; carried along to the answer.
    pub aggregations: Vec<Aggregation>,
    /// Which series.
    pub filter: DimensionFilter,
    /// The dimensions to tell series apart by; one series over all when empty.
    pub group_by: Vec<String>,
}

/// The series of a metric as of an epoch.
#[derive(Clone, Debug, PartialEq)]
pub struct SeriesAnswer {
    /// The metric's name.
    pub metric: String,
    /// The length of a bucket.
    pub granularity: Duration,
    /// What was asked of each bucket.
    pub aggregations: Vec<Aggregation>,
    /// `E`.
    pub epoch: Epoch,
    /// What it lacks, of an answer from memory alone.
    pub partial: Option<Partial>,
    /// By dimensions.
    pub series: Vec<SeriesPoints>,
}

/// One series: buckets without events are left out.
#[derive(Clone, Debug, PartialEq)]
pub struct SeriesPoints {
    /// The values of the dimensions grouped by; a dimension that the series does not have is left out.
    pub dimensions: BTreeMap<String, String>,
    /// Lower bound of the bucket and its state, in order of time.
    pub points: Vec<(EventTime, Summary)>,
}

/// A question made ready: which rollup, which buckets, how to group.
#[derive(Clone, Debug)]
pub(crate) struct Plan {
    pub(crate) metric: String,
    pub(crate) granularity: Duration,
    pub(crate) view: Arc<View>,
    pub(crate) lower: EventTime,
    /// `None` of a question that is followed.
    pub(crate) upper: Option<EventTime>,
    pub(crate) filter: DimensionFilter,
    pub(crate) group_by: Vec<String>,
}

/// The values of the dimensions grouped by, in their order.
pub(crate) type Group = Vec<Option<String>>;

/// The points of a question as of an epoch.
#[derive(Debug)]
pub(crate) struct Gathered {
    pub(crate) epoch: Epoch,
    pub(crate) points: Points,
    pub(crate) partial: Option<Partial>,
}

/// Points by group and time, bounded.
#[derive(Debug)]
pub(crate) struct Points {
    pub(crate) groups: HashMap<Group, BTreeMap<EventTime, Summary>>,
    len: usize,
    points_max: usize,
    series_max: usize,
}

impl QueryEngine {
    /// Answers the series of a metric. A metric that nobody sent has no series.
    ///
    /// # Errors
    /// Any [`QueryError`].
    pub async fn series(&self, query: &SeriesQuery, options: AskOptions) -> Result<SeriesAnswer, QueryError> {
        if query.start >= query.end {
            return Err(QueryError::Parameter { parameter: "start_time", reason: "must lie before end_time".into() });
        }
        let range = Duration::from_micros(query.end.0.saturating_sub(query.start.0));
        let granularity = chosen_granularity(query.granularity, range, &self.engine().views())?;
        let plan = Plan::new(query, granularity, &self.engine().views());
        let Gathered { epoch, points, partial } = self.points(&plan, None, options).await?;
        Ok(plan.answer(epoch, &points, query.aggregations.clone(), partial))
    }

    /// The points of a question as of an epoch, and from then on its changes to `follow`.
    pub(crate) async fn points(
        &self,
        plan: &Plan,
        follow: Option<DeltaSender>,
        options: AskOptions,
    ) -> Result<Gathered, QueryError> {
        let access = self.prepare(options).await?;
        let (engine, plan, waits) = (self.clone(), plan.clone(), Waits::default());
        let waiting = waits.clone();
        self.compute(&waits, async move { engine.gather(&plan, follow, access, options, &waiting).await }).await
    }

    async fn gather(
        &self,
        plan: &Plan,
        follow: Option<DeltaSender>,
        access: Access,
        options: AskOptions,
        waits: &Waits,
    ) -> Result<Gathered, QueryError> {
        let read = ViewRead { view: plan.view.id, filter: plan.row_filter(), follow };
        let mut snapshot = self.engine().snapshot(SnapshotRequest { views: vec![read], streams: Vec::new() }).await?;
        let memory = snapshot.views.pop().unwrap_or_default();
        let mut points = self.memory_points(plan, &memory)?;
        let absent = match access {
            _ if memory.horizon == Epoch::ZERO => None,
            Access::Away(error) => Some(error),
            Access::There => {
                let half = self.limits().time_max / 2;
                let late = waits.late(Instant::now() + half, half);
                let read = tokio::select! {
                    biased;
                    read = self.add_history(plan, memory.horizon, &mut points, waits) => read,
                    error = late, if options.partial => Err(QueryError::History(error)),
                };
                match read {
                    // The same snapshot, since who follows has begun to receive the changes after it.
                    Err(QueryError::History(error)) if options.partial => {
                        points = self.memory_points(plan, &memory)?;
                        Some(error)
                    }
                    read => read.map(|()| None)?,
                }
            }
        };
        let partial = absent.map(|error| Partial::new(memory.horizon, &error));
        Ok(Gathered { epoch: snapshot.epoch, points, partial })
    }

    fn memory_points(&self, plan: &Plan, memory: &ViewSnapshot) -> Result<Points, QueryError> {
        let mut points = Points::new(self.limits().points_max, self.limits().series_max);
        points.add_memory(plan, memory)?;
        Ok(points)
    }

    async fn add_history(
        &self,
        plan: &Plan,
        horizon: Epoch,
        points: &mut Points,
        waits: &Waits,
    ) -> Result<(), QueryError> {
        let table = clickhouse::table(self.history().as_ref(), &plan.view.states_table());
        let identities = identities::condition(self.engine(), &plan.row_filter().keys, "s.series");
        let sql = plan.history_sql(&table, &identities, horizon, self.bounds());
        let mut batches = self.cache().read(self.history().clone(), sql, horizon, waits.clone()).await?;
        while let Some(batch) = batches.next().await {
            points.add_history(plan, &batch?, horizon)?;
        }
        Ok(())
    }
}

impl Plan {
    pub(crate) fn new(query: &SeriesQuery, granularity: Duration, views: &[Arc<View>]) -> Self {
        let last = EventTime(query.end.0 - 1).floor(granularity);
        Plan {
            metric: query.metric.clone(),
            granularity,
            view: granularity::view_for(granularity, views),
            lower: query.start.floor(granularity),
            upper: Some(EventTime(last.0.saturating_add(granularity.as_micros()))),
            filter: query.filter.clone(),
            group_by: query.group_by.clone(),
        }
    }

    fn row_filter(&self) -> RowFilter {
        let keys = if self.filter.0.is_empty() {
            KeyFilter::Name(self.metric.clone())
        } else {
            let filter = self.filter.clone();
            let has = filter.single().collect();
            let passes = Arc::new(move |series: &Series| filter.matches(series));
            KeyFilter::NameAnd(self.metric.clone(), SeriesTest { has, passes })
        };
        RowFilter { keys, lower: Some(self.lower), upper: self.upper }
    }

    /// One row a point: the values of the dimensions, the bucket's time in µs, and the merged state; `identities` is one more condition.
    fn history_sql(&self, table: &str, identities: &str, horizon: Epoch, bounds: Bounds) -> String {
        let step = self.granularity.as_micros(); // signed, since an unsigned divisor makes ClickHouse's modulo unsigned
        let map = "s.dimensions";
        let group = |(place, key): (usize, &String)| {
            let key = clickhouse::text(key);
            format!("if(mapContains({map}, {key}), {map}[{key}], NULL) AS g{place}, ")
        };
        let groups: String = self.group_by.iter().enumerate().map(group).collect();
        let names: String = (0..self.group_by.len()).map(|place| format!("g{place}, ")).collect();
        let (name, lower) = (clickhouse::text(&self.metric), clickhouse::time(self.lower));
        let mut conditions = format!("s.name = {name} AND s.bucket >= {lower}{identities}");
        if let Some(upper) = self.upper {
            conditions.push_str(&format!(" AND s.bucket < {}", clickhouse::time(upper)));
        }
        for (key, values) in &self.filter.0 {
            let key = clickhouse::text(key);
            let values: Vec<String> = values.iter().map(|value| clickhouse::text(value)).collect();
            conditions.push_str(&format!(" AND {map}[{key}] IN ({})", values.join(", ")));
        }
        // The filter on the version comes after FINAL; see the rollups' table.
        format!(
            "SELECT {groups}toInt64(toUnixTimestamp64Micro(s.bucket) - positiveModulo(toUnixTimestamp64Micro(s.bucket), toInt64({step}))) AS t, \
             sum(s.count) AS c, sum(s.sum) AS u, min(s.min) AS l, max(s.max) AS h \
             FROM {table} AS s FINAL WHERE {conditions} AND identity(s.version) <= {horizon} GROUP BY {names}t {}{}",
            clickhouse::settings(bounds),
            clickhouse::FINAL_SETTINGS
        )
    }

    /// The group of a series.
    pub(crate) fn group(&self, series: &Series) -> Group {
        self.group_by.iter().map(|key| series.dimension(key).map(str::to_owned)).collect()
    }

    /// The dimensions of a group.
    pub(crate) fn dimensions(&self, group: &Group) -> BTreeMap<String, String> {
        let named = self.group_by.iter().zip(group);
        named.filter_map(|(key, value)| Some((key.clone(), value.clone()?))).collect()
    }

    pub(crate) fn answer(
        &self,
        epoch: Epoch,
        points: &Points,
        aggregations: Vec<Aggregation>,
        partial: Option<Partial>,
    ) -> SeriesAnswer {
        let mut series: Vec<SeriesPoints> = (points.groups.iter())
            .filter(|(_, points)| !points.is_empty())
            .map(|(group, points)| SeriesPoints {
                dimensions: self.dimensions(group),
                points: points.iter().map(|(time, state)| (*time, *state)).collect(),
            })
            .collect();
        series.sort_by(|a, b| a.dimensions.cmp(&b.dimensions));
        SeriesAnswer {
            metric: self.metric.clone(),
            granularity: self.granularity,
            aggregations,
            epoch,
            partial,
            series,
        }
    }
}

impl Points {
    fn new(points_max: usize, series_max: usize) -> Self {
        Points { groups: HashMap::new(), len: 0, points_max, series_max }
    }

    /// Merges a state into a point.
    pub(crate) fn merge(&mut self, group: &Group, time: EventTime, state: &Summary) -> Result<(), QueryError> {
        if !self.groups.contains_key(group) {
            if self.groups.len() >= self.series_max {
                return Err(QueryError::Series { max: self.series_max });
            }
            self.groups.insert(group.clone(), BTreeMap::new());
        }
        let points = self.groups.get_mut(group).expect("it was put in when it was missing");
        let mut new = false;
        let point = points.entry(time).or_insert_with(|| {
            new = true;
            Summary::EMPTY
        });
        point.merge(state);
        self.len += usize::from(new);
        if self.len > self.points_max { Err(QueryError::Points { max: self.points_max }) } else { Ok(()) }
    }

    /// Forgets the points before `lower`, and the groups that have none left.
    pub(crate) fn forget_before(&mut self, lower: EventTime) {
        for points in self.groups.values_mut() {
            if points.first_key_value().is_some_and(|(first, _)| *first < lower) {
                let kept = points.split_off(&lower);
                self.len -= points.len();
                *points = kept;
            }
        }
        self.groups.retain(|_, points| !points.is_empty());
    }

    fn add_memory(&mut self, plan: &Plan, memory: &ViewSnapshot) -> Result<(), QueryError> {
        let mut groups: HashMap<SeriesId, Group> = HashMap::new();
        for (index, state) in memory.rows.state.iter().enumerate() {
            let key = memory.rows.key(index);
            let Some(Key::Series(series)) = memory.keys.get(&key.series) else { continue }; // a rollup has series only
            let group = groups.entry(key.series).or_insert_with(|| plan.group(series));
            self.merge(group, key.bucket.floor(plan.granularity), &Summary::of_rollup(state))?;
        }
        Ok(())
    }

    fn add_history(&mut self, plan: &Plan, batch: &RecordBatch, horizon: Epoch) -> Result<(), QueryError> {
        let wrong = || unexpected(batch, horizon);
        let names = plan.group_by.len();
        if batch.num_columns() != names + 5 {
            return Err(wrong());
        }
        let text = |column| conform_column(column, &arrow::datatypes::DataType::Utf8).map_err(|_| wrong());
        let groups = batch.columns()[..names].iter().map(text).collect::<Result<Vec<_>, _>>()?;
        let groups: Vec<_> = groups.iter().map(|column| column.as_string::<i32>()).collect();
        let column = |place: usize| batch.column(names + place);
        let times = column(0).as_primitive_opt::<Int64Type>().ok_or_else(wrong)?;
        let counts = column(1).as_primitive_opt::<UInt64Type>().ok_or_else(wrong)?;
        let sums = column(2).as_primitive_opt::<Float64Type>().ok_or_else(wrong)?;
        let mins = column(3).as_primitive_opt::<Float64Type>().ok_or_else(wrong)?;
        let maxs = column(4).as_primitive_opt::<Float64Type>().ok_or_else(wrong)?;
        for row in 0..batch.num_rows() {
            let group: Group = groups.iter().map(|g| g.is_valid(row).then(|| g.value(row).to_owned())).collect();
            let state =
                Summary { count: counts.value(row), sum: sums.value(row), min: mins.value(row), max: maxs.value(row) };
            self.merge(&group, EventTime(times.value(row)), &state)?;
        }
        Ok(())
    }
}

fn unexpected(batch: &RecordBatch, horizon: Epoch) -> QueryError {
    let message = format!("ClickHouse answered points in another shape: {:?}", batch.schema());
    HistoryError::lasting(message).up_to(horizon).into()
}
