//! Planning views again from what is stored of them: programs for the engine, readings for queries.

use std::collections::HashMap;
use std::error::Error;
use std::sync::Arc;

use datafusion::execution::FunctionRegistry;
use datafusion::execution::session_state::{SessionState, SessionStateBuilder};
use datafusion::prelude::SessionConfig;
use parking_lot::Mutex;
use streamgauge_engine::{Planner, Program};
use streamgauge_schemas::stream::Catalog;
use streamgauge_schemas::{View, ViewId};

use super::aggregates::sketches::top_k;
use super::shape;
use super::{GivenOptions, Planned, Reading, Tables, ViewError, plan_view, program_of};
use crate::misread::kind;
use crate::{combine, timeseries};

/// Makes the programs of views, for the engine.
#[derive(Clone)]
pub struct ViewPlanner {
    state: SessionState,
}

impl ViewPlanner {
    /// Makes one.
    #[must_use]
    pub fn new() -> Self {
        let mut config = SessionConfig::new().with_create_default_catalog_and_schema(false);
        config.options_mut().execution.time_zone = Some("UTC".into());
        let mut state = SessionStateBuilder::new().with_default_features().with_config(config).build();
        datafusion_functions_json::register_all(&mut state).expect("a session in memory takes any function");
        timeseries::register_plain(&mut state).expect("a session in memory takes any function");
        for function in [top_k(), combine::function()] {
            state.register_udaf(function).expect("a session in memory takes any function");
        }
        ViewPlanner { state }
    }

    /// Plans a new view.
    ///
    /// # Errors
    /// [`ViewError`] with what cannot be planned or maintained, and why.
    pub fn plan(
        &self,
        name: &str,
        select: &str,
        options: &GivenOptions,
        tables: &dyn Tables,
    ) -> Result<Planned, ViewError> {
        let recursion_limit: usize = self.state.config_options().sql_parser.recursion_limit.into();
        let select = shape::written(select, recursion_limit, &|name| kind(&self.state, name))?;
        plan_view(name, &select, options, tables, &self.state)
    }

    /// The session that views are planned in: DataFusion's functions, `approx_top_k`, and `combine` to refuse it; times in UTC.
    pub(crate) fn state(&self) -> &SessionState {
        &self.state
    }
}

impl Default for ViewPlanner {
    fn default() -> Self {
        ViewPlanner::new()
    }
}

impl Planner for ViewPlanner {
    fn program(&self, view: &View, catalog: &Catalog) -> Result<Arc<dyn Program>, Box<dyn Error + Send + Sync>> {
        Ok(program_of(view, catalog, &self.state)?.0)
    }
}

/// How the rows of views are read, planned once a view.
#[derive(Default)]
pub(crate) struct Readings {
    planner: ViewPlanner,
    known: Mutex<HashMap<ViewId, Arc<Reading>>>,
}

impl Readings {
    /// How the rows of a view are read.
    pub(crate) fn of(&self, view: &View, catalog: &Catalog) -> Result<Arc<Reading>, ViewError> {
        if let Some(reading) = self.known.lock().get(&view.id) {
            return Ok(reading.clone());
        }
        let reading = Arc::new(program_of(view, catalog, self.planner.state())?.1);
        let mut known = self.known.lock();
        known.retain(|id, _| catalog.view_by_id(*id).is_some()); // so it is bounded by the views there are
        known.insert(view.id, reading.clone());
        Ok(reading)
    }

    /// Where views are planned.
    pub(crate) fn planner(&self) -> &ViewPlanner {
        &self.planner
    }
}
