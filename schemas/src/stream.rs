//! Streams: named, typed, append-only tables of events.

use std::sync::Arc;

use arrow::datatypes::{DataType, Field, Fields, Schema, SchemaRef, TimeUnit};
use serde::{Deserialize, Serialize};

use crate::view::{View, ViewId, built_in_rollups};
use crate::{Duration, Epoch, SchemaError, ViewDefinition};

/// The identity of a stream: the epoch of its creation; those of built-in streams are small numbers, which no epoch is.
///
/// A stream that is deleted and made again gets another identity, so records of the old one stay its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct StreamId(pub u64);

impl StreamId {
    /// The built-in stream `metrics`.
    pub const METRICS: StreamId = StreamId(0);
    /// The built-in stream `rejects`.
    pub const REJECTS: StreamId = StreamId(1);
    /// The built-in stream `requests`.
    pub const REQUESTS: StreamId = StreamId(2);

    /// Whether the stream is there from the beginning and stays.
    #[must_use]
    pub fn is_built_in(self) -> bool {
        self.0 <= StreamId::REQUESTS.0
    }
}

/// The name of the built-in stream.
pub const METRICS: &str = "metrics";

/// The hidden column that carries the epoch of each event in ClickHouse.
pub const EPOCH_COLUMN: &str = "_epoch";

/// The type of a column.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ColumnType {
    /// UTF-8 text.
    Text,
    /// 64-bit signed integer.
    I64,
    /// 64-bit float.
    F64,
    /// Boolean.
    Bool,
    /// Microseconds since 1970, UTC.
    Timestamp,
    /// Any JSON value, kept as its text.
    Json,
}

impl ColumnType {
    /// The Arrow type of the column.
    #[must_use]
    pub fn arrow(self) -> DataType {
        match self {
            ColumnType::Text | ColumnType::Json => DataType::Utf8,
            ColumnType::I64 => DataType::Int64,
            ColumnType::F64 => DataType::Float64,
            ColumnType::Bool => DataType::Boolean,
            ColumnType::Timestamp => timestamp_type(),
        }
    }

    /// The ClickHouse type of the column, without `Nullable`.
    #[must_use]
    pub fn clickhouse(self) -> &'static str {
        match self {
            ColumnType::Text | ColumnType::Json => "String",
            ColumnType::I64 => "Int64",
            ColumnType::F64 => "Float64",
            ColumnType::Bool => "Bool",
            ColumnType::Timestamp => "DateTime64(6, 'UTC')",
        }
    }
}

/// The Arrow type of every time in Streamgauge: microseconds, UTC.
#[must_use]
pub fn timestamp_type() -> DataType {
    DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into()))
}

/// The Arrow type of `dimensions`: a map of text to text, sorted by key.
#[must_use]
pub fn dimensions_type() -> DataType {
    let entry = DataType::Struct(Fields::from(vec![
        Field::new("key", DataType::Utf8, false),
        Field::new("value", DataType::Utf8, false),
    ]));
    DataType::Map(Arc::new(Field::new("entries", entry, false)), false)
}

/// A column of a stream.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Column {
    /// The column's name: `[a-z_][a-z0-9_]*`, not beginning with `_`.
    pub name: String,
    /// The column's type.
    #[serde(rename = "type")]
    pub kind: ColumnType,
}

/// The definition of a stream: its name, its columns, and how ClickHouse keeps it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StreamDefinition {
    /// The stream's name, and its table's.
    pub name: String,
    /// The column that holds the event time; one of `columns`, of type `timestamp`, and never null.
    pub time_column: String,
    /// All columns, in the table's order.
    pub columns: Vec<Column>,
    /// The order of rows in ClickHouse; the time column by default.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub order_by: Vec<String>,
    /// How long ClickHouse keeps an event after it arrived; [`DEFAULT_RETENTION`] by default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retention: Option<Duration>,
}

/// How long ClickHouse keeps events of a stream that does not say: 365 days after arrival.
pub const DEFAULT_RETENTION: Duration = Duration::from_secs(365 * 86_400);

const NAME_RULE: &str = "use 1 to 63 of a-z, 0-9 and _, beginning with a letter";
const COLUMNS_MAX: usize = 1_000;
/// Names that built-in tables and schemas take, or that their sink tables end in.
const RESERVED: [&str; 8] =
    ["metrics", "rejects", "requests", "system", "information_schema", "pg_catalog", "streams", "default"];

impl StreamDefinition {
    /// The definition of the built-in stream `metrics`, for listing; its batches have a form of their own.
    #[must_use]
    pub fn metrics_schema() -> SchemaRef {
        Arc::new(Schema::new(vec![
            Field::new("ts", timestamp_type(), false),
            Field::new("name", DataType::Utf8, false),
            Field::new("value", DataType::Float64, false),
            Field::new("dimensions", dimensions_type(), false),
            Field::new("source", DataType::Utf8, false),
        ]))
    }

    /// Checks names, types and references; fills in the time column and the default order where they were left out.
    ///
    /// # Errors
    /// [`SchemaError`] that names the part and says what would be accepted.
    pub fn validate(mut self) -> Result<Self, SchemaError> {
        check_name("stream", &self.name)?;
        let definition = |reason: String| SchemaError::Definition { stream: self.name.clone(), reason };
        if RESERVED.contains(&self.name.as_str()) || self.name.starts_with("metrics_") || self.name.ends_with("_states")
        {
            return Err(definition("the name is taken by a built-in table; choose another".into()));
        }
        if self.columns.is_empty() || self.columns.len() > COLUMNS_MAX {
            return Err(definition(format!("it needs 1 to {COLUMNS_MAX} columns")));
        }
        for (index, column) in self.columns.iter().enumerate() {
            check_name("column", &column.name)?;
            if self.columns[..index].iter().any(|other| other.name == column.name) {
                return Err(definition(format!("column {:?} is there twice", column.name)));
            }
        }
        match self.columns.iter().find(|column| column.name == self.time_column) {
            Some(column) if column.kind == ColumnType::Timestamp => {}
            Some(_) => {
                return Err(definition(format!("the time column {:?} must be of type timestamp", self.time_column)));
            }
            None => {
                check_name("column", &self.time_column)?;
                self.columns.insert(0, Column { name: self.time_column.clone(), kind: ColumnType::Timestamp });
            }
        }
        for (index, name) in self.order_by.iter().enumerate() {
            let definition = |reason: String| SchemaError::Definition { stream: self.name.clone(), reason };
            if !self.columns.iter().any(|column| column.name == *name) {
                return Err(definition(format!("order_by names {name:?}, which is not a column")));
            }
            if self.order_by[..index].contains(name) {
                return Err(definition(format!("order_by names {name:?} twice")));
            }
        }
        if self.order_by.is_empty() {
            self.order_by.push(self.time_column.clone());
        }
        Ok(self)
    }

    /// The Arrow schema of the stream's events: every column but the time may be null.
    #[must_use]
    pub fn schema(&self) -> SchemaRef {
        let field = |column: &Column| Field::new(&column.name, column.kind.arrow(), column.name != self.time_column);
        Arc::new(Schema::new(self.columns.iter().map(field).collect::<Vec<_>>()))
    }

    /// How long ClickHouse keeps an event after it arrived.
    #[must_use]
    pub fn retention(&self) -> Duration {
        self.retention.unwrap_or(DEFAULT_RETENTION)
    }
}

pub(crate) fn check_name(what: &'static str, name: &str) -> Result<(), SchemaError> {
    let usable = (1..=63).contains(&name.len())
        && name.starts_with(|c: char| c.is_ascii_lowercase())
        && name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_');
    if usable { Ok(()) } else { Err(SchemaError::Name { what, name: name.to_owned(), reason: NAME_RULE }) }
}

/// A stream as it stands: its definition and its identity.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stream {
    /// The identity: the epoch of its creation.
    pub id: StreamId,
    /// What was defined.
    pub definition: StreamDefinition,
}

/// A change to the set of streams, as the log keeps it (JSON).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CatalogChange {
    /// A stream was made; its identity is the epoch of this change.
    CreateStream(StreamDefinition),
    /// A stream was deleted.
    DropStream(StreamId),
    /// A view was made; its identity is the epoch of this change.
    CreateView {
        /// What was defined.
        definition: Box<ViewDefinition>,
        /// The view of the same name that goes in the same moment.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        replaces: Option<ViewId>,
    },
    /// A view was deleted.
    DropView(ViewId),
}

/// The stream of events that were not accepted, each with its reason and its text.
///
/// | column | what |
/// |---|---|
/// | `at` | when it arrived |
/// | `stream` | which stream it was meant for |
/// | `source` | who sent it, as far as it was said |
/// | `position` | its place among the events of its request, from 0 |
/// | `reason` | what was wrong with it |
/// | `event` | its text, as it was sent |
/// | `id` | tells it from every other reject |
#[must_use]
pub fn rejects() -> Arc<Stream> {
    built_in(
        StreamId::REJECTS,
        "rejects",
        &[
            ("at", ColumnType::Timestamp),
            ("stream", ColumnType::Text),
            ("source", ColumnType::Text),
            ("position", ColumnType::I64),
            ("reason", ColumnType::Text),
            ("event", ColumnType::Text),
            ("id", ColumnType::Text),
        ],
    )
}

/// The stream of ingest requests that named themselves, so that a repeat is known.
///
/// | column | what |
/// |---|---|
/// | `at` | when it arrived |
/// | `stream` | where its events went |
/// | `key` | its `Idempotency-Key`; null when it has a producer and a sequence number |
/// | `producer`, `sequence` | who sent it, and as which of theirs |
/// | `body_hash` | XXH3-128 of stream and body, as 32 hexadecimal digits |
/// | `accepted` | how many of its events were accepted |
/// | `rejected` | the others: a JSON array of `{"index", "reason"}` |
#[must_use]
pub fn requests() -> Arc<Stream> {
    built_in(
        StreamId::REQUESTS,
        "requests",
        &[
            ("at", ColumnType::Timestamp),
            ("stream", ColumnType::Text),
            ("key", ColumnType::Text),
            ("producer", ColumnType::Text),
            ("sequence", ColumnType::I64),
            ("body_hash", ColumnType::Text),
            ("accepted", ColumnType::I64),
            ("rejected", ColumnType::Json),
        ],
    )
}

fn built_in(id: StreamId, name: &str, columns: &[(&str, ColumnType)]) -> Arc<Stream> {
    let definition = StreamDefinition {
        name: name.to_owned(),
        time_column: "at".to_owned(),
        columns: columns.iter().map(|(name, kind)| Column { name: (*name).to_owned(), kind: *kind }).collect(),
        order_by: vec!["at".to_owned()],
        retention: Some(BUILT_IN_RETENTION),
    };
    Arc::new(Stream { id, definition })
}

/// How long ClickHouse keeps rejects and requests: 30 days after they arrived.
pub const BUILT_IN_RETENTION: Duration = Duration::from_secs(30 * 86_400);

/// All streams but `metrics`, and all views, as of an epoch: built-in ones first, then the user's own in order of creation.
#[derive(Clone, Debug, PartialEq)]
pub struct Catalog {
    /// Every change at or before this epoch is in.
    pub epoch: Epoch,
    /// The streams.
    pub streams: Vec<Arc<Stream>>,
    /// The views.
    pub views: Vec<Arc<View>>,
}

impl Default for Catalog {
    fn default() -> Self {
        Catalog::new(Epoch::ZERO, Vec::new(), Vec::new())
    }
}

impl Catalog {
    /// The catalog of these streams and views of the user's own.
    #[must_use]
    pub fn new(epoch: Epoch, streams: Vec<Arc<Stream>>, views: Vec<Arc<View>>) -> Self {
        Catalog {
            epoch,
            streams: [rejects(), requests()].into_iter().chain(streams).collect(),
            views: built_in_rollups().into_iter().chain(views).collect(),
        }
    }

    /// The streams that the user made.
    pub fn own(&self) -> impl Iterator<Item = &Arc<Stream>> {
        self.streams.iter().filter(|stream| !stream.id.is_built_in())
    }

    /// The views that the user made.
    pub fn own_views(&self) -> impl Iterator<Item = &Arc<View>> {
        self.views.iter().filter(|view| !view.id.is_built_in())
    }

    /// The stream of that name.
    #[must_use]
    pub fn by_name(&self, name: &str) -> Option<&Arc<Stream>> {
        self.streams.iter().find(|stream| stream.definition.name == name)
    }

    /// The stream of that identity.
    #[must_use]
    pub fn by_id(&self, id: StreamId) -> Option<&Arc<Stream>> {
        self.streams.iter().find(|stream| stream.id == id)
    }

    /// The view of that name.
    #[must_use]
    pub fn view_by_name(&self, name: &str) -> Option<&Arc<View>> {
        self.views.iter().find(|view| view.definition.name == name)
    }

    /// The view of that identity.
    #[must_use]
    pub fn view_by_id(&self, id: ViewId) -> Option<&Arc<View>> {
        self.views.iter().find(|view| view.id == id)
    }

    /// The views over a stream.
    pub fn views_over(&self, stream: StreamId) -> impl Iterator<Item = &Arc<View>> {
        self.views.iter().filter(move |view| view.definition.stream == stream)
    }

    /// Applies a change at `epoch`, and says whether it changed anything.
    ///
    /// A change before [`Catalog::epoch`] is in already; a stream or view whose name is taken is not made, whoever asked
    /// first has it; a stream that a view is over is not deleted; so the order of the log alone decides.
    pub fn apply(&mut self, epoch: Epoch, change: &CatalogChange) -> bool {
        if epoch < self.epoch {
            return false;
        }
        self.epoch = epoch;
        match change {
            CatalogChange::CreateStream(definition) => {
                let free = self.is_free(&definition.name, epoch);
                if free {
                    self.streams.push(Arc::new(Stream { id: StreamId(epoch.0), definition: definition.clone() }));
                }
                free
            }
            CatalogChange::DropStream(id) => {
                let stays = id.is_built_in() || self.views_over(*id).next().is_some();
                let before = self.streams.len();
                self.streams.retain(|stream| stream.id != *id || stays);
                self.streams.len() < before
            }
            CatalogChange::CreateView { definition, replaces } => {
                let before = self.views.clone();
                self.views.retain(|view| Some(view.id) != *replaces || view.id.is_built_in());
                let there = definition.stream == StreamId::METRICS || self.by_id(definition.stream).is_some();
                let made = there && self.is_free(&definition.name, epoch);
                if made {
                    self.views.push(Arc::new(View { id: ViewId(epoch.0), definition: (**definition).clone() }));
                } else {
                    self.views = before; // refused as a whole
                }
                made
            }
            CatalogChange::DropView(id) => {
                let before = self.views.len();
                self.views.retain(|view| view.id != *id || id.is_built_in());
                self.views.len() < before
            }
        }
    }

    /// Whether a name is not taken, nor an identity made of this epoch.
    fn is_free(&self, name: &str, epoch: Epoch) -> bool {
        let named = self.by_name(name).is_some() || self.view_by_name(name).is_some();
        let made = self.by_id(StreamId(epoch.0)).is_some() || self.view_by_id(ViewId(epoch.0)).is_some();
        !(named || made)
    }
}
