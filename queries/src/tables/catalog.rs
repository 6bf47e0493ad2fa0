//! Which table a name means: `streamgauge.public` holds the streams and the views; `pg_catalog` and `information_schema`
//! beside it describe them, and `system` the program.

use std::sync::Arc;

use async_trait::async_trait;
use datafusion::catalog::information_schema::InformationSchemaProvider;
use datafusion::catalog::{CatalogProvider, CatalogProviderList, SchemaProvider, TableProvider};
use datafusion::error::{DataFusionError, Result};
use streamgauge_engine::Engine;
use streamgauge_schemas::stream::METRICS;
use streamgauge_schemas::{StreamDefinition, StreamId};

use super::Statement;
use super::groups::GroupsTable;
use super::stream::StreamTable;
use super::view::ViewTable;
use crate::postgres::catalog::{PG_CATALOG, PgCatalog};
use crate::postgres::information::{INFORMATION_SCHEMA, Information, InformationEngine};
use crate::system::{SYSTEM, SystemSchema};

/// The catalogue's name.
pub(crate) const CATALOG: &str = "streamgauge";
/// The schema's name.
pub(crate) const SCHEMA: &str = "public";

/// The catalogue as one statement sees it: its tables read the statement's snapshot.
#[derive(Clone, Debug)]
pub(crate) struct StatementCatalog(pub(crate) Statement);

/// The names of all tables: `metrics`, its rollups, and the user's streams.
pub(crate) fn table_names(engine: &Engine) -> Vec<String> {
    let rollups = engine.views().into_iter().map(|view| view.definition.name.clone());
    let streams = engine.catalog().streams.iter().map(|stream| stream.definition.name.clone()).collect::<Vec<_>>();
    std::iter::once(METRICS.to_owned()).chain(rollups).chain(streams).collect()
}

impl CatalogProviderList for StatementCatalog {
    fn register_catalog(&self, _name: String, _catalog: Arc<dyn CatalogProvider>) -> Option<Arc<dyn CatalogProvider>> {
        None
    }

    fn catalog_names(&self) -> Vec<String> {
        vec![CATALOG.to_owned()]
    }

    fn catalog(&self, name: &str) -> Option<Arc<dyn CatalogProvider>> {
        (name == CATALOG).then(|| Arc::new(self.clone()) as Arc<dyn CatalogProvider>)
    }
}

impl CatalogProvider for StatementCatalog {
    fn schema_names(&self) -> Vec<String> {
        [SCHEMA, SYSTEM, PG_CATALOG, INFORMATION_SCHEMA].map(str::to_owned).to_vec()
    }

    fn schema(&self, name: &str) -> Option<Arc<dyn SchemaProvider>> {
        let engine = self.0.engine.clone();
        Some(match name {
            SCHEMA => Arc::new(self.clone()),
            SYSTEM => {
                let (system, backfills) = (self.0.system.clone(), self.0.backfills.clone());
                Arc::new(SystemSchema { system, backfills })
            }
            PG_CATALOG => Arc::new(PgCatalog(self.0.system.clone())),
            INFORMATION_SCHEMA => Arc::new(Information {
                engine: InformationEngine(engine),
                rest: InformationSchemaProvider::new(Arc::new(self.clone())),
            }),
            _ => return None,
        })
    }
}

#[async_trait]
impl SchemaProvider for StatementCatalog {
    fn table_names(&self) -> Vec<String> {
        table_names(&self.0.engine)
    }

    async fn table(&self, name: &str) -> Result<Option<Arc<dyn TableProvider>>> {
        let statement = &self.0;
        if name == METRICS {
            let schema = StreamDefinition::metrics_schema();
            return Ok(Some(Arc::new(StreamTable::new(statement.clone(), StreamId::METRICS, METRICS, schema))));
        }
        if let Some(view) = statement.engine.view(name) {
            if view.id.is_built_in() {
                return Ok(Some(Arc::new(ViewTable::new(statement.clone(), view))));
            }
            statement.backfills.check(&view)?;
            let reading = statement.readings.of(&view, &statement.engine.catalog());
            let reading = reading.map_err(|error| DataFusionError::External(Box::new(error)))?;
            return Ok(Some(Arc::new(GroupsTable::new(statement.clone(), view, reading))));
        }
        let table = |stream: Arc<streamgauge_schemas::stream::Stream>| {
            Arc::new(StreamTable::new(statement.clone(), stream.id, name, stream.definition.schema()))
                as Arc<dyn TableProvider>
        };
        Ok(statement.engine.stream(name).map(table))
    }

    fn table_exist(&self, name: &str) -> bool {
        name == METRICS || table_names(&self.0.engine).iter().any(|table| table == name)
    }
}
