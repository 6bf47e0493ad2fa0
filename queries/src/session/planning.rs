//! From a statement to the plan that runs.

use std::sync::Arc;

use datafusion::common::TableReference;
use datafusion::execution::context::SQLOptions;
use datafusion::execution::session_state::SessionState;
use datafusion::logical_expr::LogicalPlan;
use datafusion::physical_plan::ExecutionPlan;
use datafusion::prelude::SessionConfig;
use datafusion::sql::parser::Statement as SqlStatement;

use super::names::hint;
use super::{QueryEngine, parameters};
use crate::combine;
use crate::error::QueryError;
use crate::misread::{Misread, kind, misread};
use crate::postgres;
use crate::postgres::catalog::PG_CATALOG;
use crate::postgres::information::INFORMATION_SCHEMA;
use crate::pushdown::pushed;
use crate::question::{Question, not_a_question};
use crate::system::{self, SYSTEM};
use crate::tables::{CATALOG, SCHEMA, Statement, StatementCatalog, table_names};
use crate::timeseries;

impl QueryEngine {
    /// A session whose tables read one snapshot; what time it is in there is not said yet.
    pub(super) fn session(&self, statement: Statement) -> SessionState {
        let mut state = self.inner.base.clone();
        state.register_catalog_list(Arc::new(StatementCatalog(statement)));
        state
    }

    /// The plan that runs, and how it is to run.
    pub(super) async fn plan(
        &self,
        state: &SessionState,
        statement: &Statement,
        question: &Question,
    ) -> Result<(Arc<dyn ExecutionPlan>, SessionConfig), QueryError> {
        let fail = |error| QueryError::from_datafusion(error, self.inner.limits.memory_bytes_max);
        let cached = match question.options.unpushed {
            true => None, // as DataFusion alone does it
            false => self.cached_plan(state, statement, question).await,
        };
        let plan = match cached {
            Some(plan) => plan,
            None => {
                let plan = self.logical_plan(state, question.statement.clone()).await?;
                let plan = parameters::bound(plan, &question.parameters).map_err(fail)?;
                let plan = timeseries::rewritten(plan, state).and_then(combine::rewritten).map_err(fail)?;
                state.optimize(&plan).map_err(fail)?
            }
        };
        let (plan, state) = match question.options.unpushed {
            true => (plan, state),
            false => {
                let plan = pushed(plan, statement, self.inner.narrow.plain()).map_err(fail)?;
                let narrow = self.inner.narrow.session(&plan).map_err(fail)?;
                (plan, narrow.unwrap_or(state))
            }
        };
        let plan = state.query_planner().create_physical_plan(&plan, state).await.map_err(fail)?;
        Ok((plan, state.config().clone()))
    }

    /// The plan as SQL gives it, of a statement that only reads.
    pub(super) async fn logical_plan(
        &self,
        state: &SessionState,
        statement: SqlStatement,
    ) -> Result<LogicalPlan, QueryError> {
        let fail = |error| QueryError::from_datafusion(error, self.inner.limits.memory_bytes_max);
        self.check_tables(state, &state.resolve_table_references(&statement).map_err(fail)?)?;
        let refused = not_a_question(&statement);
        if let Some(Misread { part, reason }) = misread(&statement, &|name| kind(state, name)) {
            return Err(QueryError::Sql { message: format!("{part} is not answered: {reason}") });
        }
        let plan = state.statement_to_plan(statement).await.map_err(fail)?;
        let only_questions = SQLOptions::new().with_allow_ddl(false).with_allow_dml(false).with_allow_statements(false);
        only_questions.verify_plan(&plan).map_err(|_| refused)?;
        Ok(plan)
    }

    /// Refuses names of no table, and says which there are.
    fn check_tables(&self, state: &SessionState, references: &[TableReference]) -> Result<(), QueryError> {
        let names = table_names(&self.inner.engine);
        for reference in references {
            let here = reference.catalog().is_none_or(|catalog| catalog == CATALOG);
            let known = match reference.schema().unwrap_or(SCHEMA) {
                SCHEMA => names.iter().any(|name| name == reference.table()),
                PG_CATALOG => postgres::catalog::table_names().any(|name| name == reference.table()),
                SYSTEM => system::table_names().any(|name| name == reference.table()),
                other => other == INFORMATION_SCHEMA,
            };
            let function = reference.schema().is_none() && state.table_functions().contains_key(reference.table());
            if !(here && known || function) {
                return Err(QueryError::UnknownTable {
                    name: reference.to_string(),
                    hint: hint(reference.table(), &names),
                });
            }
        }
        Ok(())
    }
}
