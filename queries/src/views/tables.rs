//! What a statement about a view may be over.

use arrow::datatypes::SchemaRef;
use streamgauge_schemas::stream::{Catalog, METRICS};
use streamgauge_schemas::{StreamDefinition, StreamId};

/// A stream as a view sees it.
#[derive(Clone, Debug)]
pub struct StreamTable {
    /// Its identity.
    pub id: StreamId,
    /// Its name.
    pub name: String,
    /// Its columns.
    pub schema: SchemaRef,
    /// The column that holds the event time.
    pub time_column: String,
}

/// The streams and views that there are.
pub trait Tables {
    /// The stream of that name.
    fn stream(&self, name: &str) -> Option<StreamTable>;
    /// Whether there is a view of that name.
    fn is_view(&self, name: &str) -> bool;
    /// The names of all streams.
    fn streams(&self) -> Vec<String>;
}

impl Tables for Catalog {
    fn stream(&self, name: &str) -> Option<StreamTable> {
        if name == METRICS {
            return Some(StreamTable {
                id: StreamId::METRICS,
                name: name.to_owned(),
                schema: StreamDefinition::metrics_schema(),
                time_column: "ts".to_owned(),
            });
        }
        let stream = self.by_name(name)?;
        Some(StreamTable {
            id: stream.id,
            name: name.to_owned(),
            schema: stream.definition.schema(),
            time_column: stream.definition.time_column.clone(),
        })
    }

    fn is_view(&self, name: &str) -> bool {
        self.view_by_name(name).is_some()
    }

    fn streams(&self) -> Vec<String> {
        let own = self.streams.iter().map(|stream| stream.definition.name.clone());
        std::iter::once(METRICS.to_owned()).chain(own).collect()
    }
}
