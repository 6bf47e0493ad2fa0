//! Commands: statements that are carried out, each answered with a small table.

use arrow::array::RecordBatch;

use crate::error::QueryError;
use crate::streams::StreamStatement;
use crate::views::{Management, ViewStatement};

/// See the module.
#[derive(Clone, Debug)]
pub(crate) enum Command {
    /// About a view.
    View(ViewStatement),
    /// About a stream.
    Stream(StreamStatement),
}

impl Command {
    /// Reads a text; `None` when it is a question.
    ///
    /// # Errors
    /// [`QueryError::View`] or [`QueryError::Sql`] when it begins like a command and cannot be read.
    pub(crate) fn parse(sql: &str, recursion_limit: usize) -> Result<Option<Self>, QueryError> {
        match ViewStatement::parse(sql, recursion_limit)? {
            Some(ViewStatement::Describe { .. }) => Ok(None), // tables of all kinds are described by DataFusion
            Some(statement) => Ok(Some(Command::View(statement))),
            None => Ok(StreamStatement::parse(sql)?.map(Command::Stream)),
        }
    }

    /// Whether it only reads, and may be carried out to see what it would say.
    pub(crate) fn reads(&self) -> bool {
        !matches!(self, Command::View(ViewStatement::Create { .. } | ViewStatement::Drop { .. }) | Command::Stream(_))
    }

    /// Carries it out.
    ///
    /// # Errors
    /// [`QueryError::View`] for what is wrong with it, [`QueryError::Engine`] for what the engine does not take.
    pub(crate) async fn run(self, management: Management<'_>) -> Result<RecordBatch, QueryError> {
        match self {
            Command::View(statement) => management.run(statement).await,
            Command::Stream(statement) => statement.run(management.engine).await,
        }
    }
}
