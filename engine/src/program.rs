//! Programs: what a view computes of a batch of events before they are grouped.
//!
//! A program is made of a view's expressions by a [`Planner`]; the engine itself knows no SQL. It is pure: it reads no
//! clock, does no I/O, and gives the same for the same batch on every worker and at every replay.
//!
//! # Invariants
//!
//! 1. All columns of [`Computed`] have one length, and `keys.of_row` points into `keys.ids`.
//! 2. An id in `keys.ids` is that of its bytes. It is there once, but of a rollup by series once for each source that sent it:
//!    the grouping joins equal ids.

use std::error::Error;
use std::sync::{Arc, OnceLock};

use arrow::array::{ArrayRef, RecordBatch, StringBuilder};
use arrow::datatypes::{DataType, Field, Schema};
pub use streamgauge_schemas::view::Failed;

use streamgauge_schemas::event::{append_dimensions, dimensions_builder};
use streamgauge_schemas::stream::{Catalog, dimensions_type};
use streamgauge_schemas::{EventBatch, MetricsBatch, SeriesId, View};

/// A batch of events as programs see it: what several of them need is made once, whoever asks first.
#[derive(Debug)]
pub struct Prepared {
    batch: EventBatch,
    rows: OnceLock<RecordBatch>,
    series: OnceLock<RecordBatch>,
}

impl Prepared {
    /// Takes a batch.
    #[must_use]
    pub fn new(batch: EventBatch) -> Self {
        Prepared { batch, rows: OnceLock::new(), series: OnceLock::new() }
    }

    /// The batch.
    #[must_use]
    pub fn batch(&self) -> &EventBatch {
        &self.batch
    }

    /// How many events.
    #[must_use]
    pub fn len(&self) -> usize {
        self.batch.len()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.batch.is_empty()
    }

    /// The events in the stream's schema.
    #[must_use]
    pub fn rows(&self) -> &RecordBatch {
        self.rows.get_or_init(|| self.batch.to_record_batch())
    }

    /// Of metrics: the batch itself.
    #[must_use]
    pub fn metrics(&self) -> Option<&Arc<MetricsBatch>> {
        match &self.batch {
            EventBatch::Metrics(metrics) => Some(metrics),
            EventBatch::Table(_) => None,
        }
    }

    /// Of metrics: a row for each distinct series and source, in the order of [`MetricsBatch::series`], with the columns
    /// `name`, `dimensions` and `source`; what depends on these alone is computed once a series and not once an event.
    #[must_use]
    pub fn series(&self) -> Option<&RecordBatch> {
        let metrics = self.metrics()?;
        Some(self.series.get_or_init(|| series_rows(metrics)))
    }
}

fn series_rows(metrics: &MetricsBatch) -> RecordBatch {
    let (mut names, mut sources) = (StringBuilder::new(), StringBuilder::new());
    let mut dimensions = dimensions_builder();
    for entry in &metrics.series {
        names.append_value(entry.series.name());
        sources.append_value(&entry.source);
        append_dimensions(&mut dimensions, &entry.series);
    }
    let schema = Schema::new(vec![
        Field::new("name", DataType::Utf8, false),
        Field::new("dimensions", dimensions_type(), false),
        Field::new("source", DataType::Utf8, false),
    ]);
    let columns: Vec<ArrayRef> =
        vec![Arc::new(names.finish()), Arc::new(dimensions.finish()), Arc::new(sources.finish())];
    RecordBatch::try_new(Arc::new(schema), columns).expect("the columns are those of the schema")
}

/// The events of a batch that a view counts, in their order, by column.
#[derive(Clone, Debug, Default)]
pub struct Computed {
    /// What tells groups apart.
    pub keys: Keys,
    /// Per event the lower bound of its bucket, in µs.
    pub buckets: Vec<i64>,
    /// Per event its time, in µs.
    pub times: Vec<i64>,
    /// The arguments of the view, in order, of the types that its definition says.
    pub arguments: Vec<ArrayRef>,
    /// What could not be computed.
    pub failed: Option<Failed>,
}

/// The dimension values of a batch, each once.
#[derive(Clone, Debug, Default)]
pub struct Keys {
    /// The identities.
    pub ids: Vec<SeriesId>,
    /// The values in canonical form, one after the other; empty of a view by series.
    pub bytes: Vec<u8>,
    /// Where each of them ends in `bytes`; empty of a view by series.
    pub ends: Vec<usize>,
    /// Per event, the place of its key.
    pub of_row: Vec<u32>,
}

impl Keys {
    /// The canonical bytes of the key at `index`; `None` of a view by series.
    #[must_use]
    pub fn get(&self, index: usize) -> Option<&[u8]> {
        let end = *self.ends.get(index)?;
        let begin = if index == 0 { 0 } else { self.ends[index - 1] };
        Some(&self.bytes[begin..end])
    }
}

/// See the module.
pub trait Program: Send + Sync + 'static {
    /// Computes what the view needs of a batch of its stream.
    fn run(&self, events: &Prepared) -> Computed;
}

/// Makes programs of definitions.
pub trait Planner: Send + Sync + 'static {
    /// The program of a view, whose stream is in the catalog.
    ///
    /// # Errors
    /// Why the view cannot be maintained by this version.
    fn program(&self, view: &View, catalog: &Catalog) -> Result<Arc<dyn Program>, Box<dyn Error + Send + Sync>>;
}

/// The program of a plain rollup by series: nothing but a bucket to compute.
#[derive(Clone, Copy, Debug)]
pub struct Rollup {
    width_us: i64,
}

impl Rollup {
    /// The program of a view by series over all of `metrics` with buckets of one length, whose only argument is the value.
    #[must_use]
    pub fn of(view: &View) -> Option<Self> {
        let definition = &view.definition;
        let plain = definition.by_series && definition.filter.is_none();
        let values = definition.arguments.iter().all(|argument| argument.expression == "metrics.value");
        let width = definition.bucket.as_ref()?.width?;
        (plain && values).then_some(Rollup { width_us: width.as_micros() })
    }
}

impl Program for Rollup {
    fn run(&self, events: &Prepared) -> Computed {
        let Some(metrics) = events.metrics() else { return Computed::default() };
        let values: ArrayRef = Arc::new(arrow::array::Float64Array::from(metrics.value.clone()));
        // A series that two sources sent is there twice; its ids are equal, and the grouping joins them.
        Computed {
            keys: Keys {
                ids: metrics.series.iter().map(|entry| entry.id).collect(),
                of_row: metrics.series_index.clone(),
                ..Keys::default()
            },
            buckets: metrics.ts.iter().map(|ts| ts.0 - ts.0.rem_euclid(self.width_us)).collect(),
            times: metrics.ts.iter().map(|ts| ts.0).collect(),
            arguments: vec![values],
            failed: None,
        }
    }
}
