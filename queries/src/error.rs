//! Why a question has no answer.

use std::sync::Arc;
use std::time::Duration;

use datafusion::error::DataFusionError;
use streamgauge_engine::EngineError;
use streamgauge_schemas::Epoch;

use crate::history::HistoryError;
use crate::memory::MemoryOf;
use crate::views::ViewError;

/// Whose fault an error is, with a stable code for the caller's own and for bounds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ErrorKind {
    /// The question is wrong; asked again, it is wrong again.
    Caller {
        /// A stable name for programs.
        code: &'static str,
    },
    /// The question, or the load, is beyond a bound.
    Limit {
        /// A stable name for programs.
        code: &'static str,
    },
    /// ClickHouse or the engine is away.
    Upstream,
    /// A fault of this program.
    Bug,
}

/// A question without an answer.
#[derive(Clone, Debug, thiserror::Error)]
pub enum QueryError {
    /// A statement that would change something.
    #[error(
        "{statement} is not answered here; ask with SELECT, WITH, VALUES, EXPLAIN, SHOW or DESCRIBE, or write CREATE or DROP with STREAM or MATERIALIZED VIEW"
    )]
    NotAQuestion {
        /// The first word of the statement.
        statement: String,
    },
    /// A setting that is not ours to change.
    #[error(
        "{name} cannot be set; the settings are streamgauge.epoch, streamgauge.partial and streamgauge.pushdown, and to lower bounds \
         statement_timeout, streamgauge.memory_bytes_max and streamgauge.rows_max"
    )]
    UnknownSetting {
        /// The name as given.
        name: String,
    },
    /// SQL that cannot be read or planned.
    #[error("{message}")]
    Sql {
        /// What is wrong, and where.
        message: String,
    },
    /// SQL that failed on the rows it met, such as a division by zero.
    #[error("{message}")]
    Evaluation {
        /// What failed.
        message: String,
    },
    /// A table that is not there.
    #[error("there is no table {name:?}; {hint}")]
    UnknownTable {
        /// The name as given.
        name: String,
        /// The tables that may be meant.
        hint: String,
    },
    /// A statement about a view that is not carried out.
    #[error(transparent)]
    View(ViewError),
    /// A view that does not count all yet.
    #[error("view {view:?} is being back-filled: {progress}; ask again later, or ask its stream")]
    Backfilling {
        /// The view's name.
        view: String,
        /// How far it is.
        progress: String,
    },
    /// A view that is not there.
    #[error("there is no view {name:?}; {hint}")]
    UnknownView {
        /// The name as given.
        name: String,
        /// The views that there are.
        hint: String,
    },
    /// A stream where a view was asked for.
    #[error(
        "{name:?} is a stream, and what is followed are views: make one of what you want to see of it, with CREATE MATERIALIZED VIEW … AS \
         SELECT … FROM {name} GROUP BY …, and follow that"
    )]
    NotAView {
        /// The name as given.
        name: String,
    },
    /// A view that was dropped, or replaced by another, while it was followed.
    #[error("view {view:?} was dropped or replaced while it was followed; follow again if there is one of that name")]
    ViewGone {
        /// The view's name.
        view: String,
    },
    /// A metric of which no event ever came.
    #[error("there is no metric {name:?}")]
    UnknownMetric {
        /// The name as given.
        name: String,
    },
    /// A parameter that does not make sense.
    #[error("{parameter} {reason}")]
    Parameter {
        /// Which.
        parameter: &'static str,
        /// Why, and what would.
        reason: String,
    },
    /// It took too long.
    #[error(
        "the question{} took longer than {max:?}, {}{}",
        waits(*waits_for),
        raise(*own, "statement_timeout", "query_timeout"),
        waits_for.map(|_| ", or ask for a partial answer").unwrap_or_default()
    )]
    Time {
        /// The bound.
        max: Duration,
        /// Whether it was asked with it.
        own: bool,
        /// Up to where it waited for what ClickHouse has when its time was over, if it did.
        waits_for: Option<Epoch>,
    },
    /// It needed too much memory.
    #[error("the question needs more memory than {bytes_max} bytes, {}", memory(*of))]
    Memory {
        /// The bound.
        bytes_max: usize,
        /// Whose it is.
        of: MemoryOf,
    },
    /// Its answer has too many rows.
    #[error("the answer has more than {max} rows, {}", raise(*own, "streamgauge.rows_max", "query_rows_max"))]
    Rows {
        /// The bound.
        max: usize,
        /// Whether it was asked with it.
        own: bool,
    },
    /// Somebody ended it.
    #[error("question {id} was cancelled")]
    Cancelled {
        /// Its number in `system.queries`.
        id: u64,
    },
    /// It would answer too many points.
    #[error("the answer has more than {max} points, the bound; choose a coarser granularity or a shorter range")]
    Points {
        /// The bound.
        max: usize,
    },
    /// Gap filling would make too many rows.
    #[error(
        "gap filling makes more than {max} rows, the bound; choose wider buckets, a shorter range of time in WHERE, or fewer \
         groups"
    )]
    GapFill {
        /// The bound.
        max: usize,
    },
    /// It would answer too many series.
    #[error("the answer has more than {max} series, the bound; group by fewer dimensions or filter")]
    Series {
        /// The bound.
        max: usize,
    },
    /// It would follow too many groups.
    #[error("more than {max} groups are to be followed, the bound; narrow them by a condition or a shorter range")]
    Groups {
        /// The bound.
        max: usize,
    },
    /// The rows to follow are too long.
    #[error(
        "the rows to be followed take more than {max} bytes, the bound; narrow them by a condition or a shorter range"
    )]
    FollowedBytes {
        /// The bound.
        max: usize,
    },
    /// It is more than a sheet of Excel holds.
    #[error("{reason}")]
    Sheet {
        /// What it has, what a sheet holds, and what to do.
        reason: String,
    },
    /// A sheet is made on disk, and the disk failed.
    #[error("the folder for temporary files, {folder}, failed: {reason}; make room there, or ask for parquet or csv")]
    SheetDisk {
        /// The folder.
        folder: String,
        /// Why.
        reason: String,
    },
    /// Too many questions at a time.
    #[error("{running} questions run, as many as may; retry in a moment, or raise queries_max")]
    Busy {
        /// The bound.
        running: usize,
    },
    /// Too many questions of one user at a time.
    #[error(
        "{running} questions of user {user:?} run, as many as one user's may; retry in a moment, or raise user_queries_max"
    )]
    UserBusy {
        /// Who asks.
        user: String,
        /// The bound.
        running: usize,
    },
    /// The epoch that was asked for did not become visible in time.
    #[error(
        "epoch {wanted} is not visible yet: after {waited:.1?} the newest is {newest}; ask again in a moment, and make \
         sure that the epoch comes from an answer of this server"
    )]
    EpochNotReached {
        /// The epoch that was asked for.
        wanted: Epoch,
        /// The newest that is visible.
        newest: Epoch,
        /// How long the question waited.
        waited: Duration,
    },
    /// A live follower did not keep up; follow again.
    #[error("the live changes came faster than they were read; follow again")]
    Lagged,
    /// ClickHouse did not answer.
    #[error(transparent)]
    History(#[from] HistoryError),
    /// The engine did not answer.
    #[error("the engine could not be read")]
    Engine(#[from] EngineError),
    /// What should not happen.
    #[error("a question failed for a reason that is ours")]
    Bug(#[source] Arc<DataFusionError>),
}

impl QueryError {
    /// Whose fault it is.
    #[must_use]
    pub fn kind(&self) -> ErrorKind {
        match self {
            QueryError::NotAQuestion { .. } => ErrorKind::Caller { code: "statement_not_allowed" },
            QueryError::UnknownSetting { .. } => ErrorKind::Caller { code: "setting_unknown" },
            QueryError::Sql { .. } => ErrorKind::Caller { code: "sql_invalid" },
            QueryError::Evaluation { .. } => ErrorKind::Caller { code: "sql_failed" },
            QueryError::UnknownTable { .. } => ErrorKind::Caller { code: "table_unknown" },
            QueryError::View(_) => ErrorKind::Caller { code: "view_invalid" },
            QueryError::Backfilling { .. } => ErrorKind::Limit { code: "view_backfilling" },
            QueryError::UnknownView { .. } => ErrorKind::Caller { code: "view_unknown" },
            QueryError::NotAView { .. } => ErrorKind::Caller { code: "not_a_view" },
            QueryError::ViewGone { .. } => ErrorKind::Caller { code: "view_dropped" },
            QueryError::UnknownMetric { .. } => ErrorKind::Caller { code: "metric_unknown" },
            QueryError::Parameter { .. } => ErrorKind::Caller { code: "parameter_invalid" },
            QueryError::Time { .. } => ErrorKind::Limit { code: "query_time_exceeded" },
            QueryError::Rows { .. } => ErrorKind::Limit { code: "query_rows_exceeded" },
            QueryError::Cancelled { .. } => ErrorKind::Limit { code: "query_cancelled" },
            QueryError::Memory { .. } => ErrorKind::Limit { code: "query_memory_exceeded" },
            QueryError::Points { .. } => ErrorKind::Limit { code: "points_exceeded" },
            QueryError::GapFill { .. } => ErrorKind::Limit { code: "gapfill_exceeded" },
            QueryError::Series { .. } => ErrorKind::Limit { code: "series_exceeded" },
            QueryError::Groups { .. } => ErrorKind::Limit { code: "groups_exceeded" },
            QueryError::FollowedBytes { .. } => ErrorKind::Limit { code: "rows_exceeded" },
            QueryError::Busy { .. } | QueryError::UserBusy { .. } => ErrorKind::Limit { code: "queries_busy" },
            QueryError::Sheet { .. } => ErrorKind::Limit { code: "sheet_exceeded" },
            QueryError::SheetDisk { .. } => ErrorKind::Limit { code: "sheet_disk" },
            QueryError::EpochNotReached { .. } => ErrorKind::Limit { code: "epoch_not_reached" },
            QueryError::Lagged => ErrorKind::Limit { code: "live_lagged" },
            QueryError::History(_) | QueryError::Engine(_) => ErrorKind::Upstream,
            QueryError::Bug(_) => ErrorKind::Bug,
        }
    }

    /// Whether the same question may be answered later.
    #[must_use]
    pub fn is_retryable(&self) -> bool {
        match self {
            QueryError::Busy { .. }
            | QueryError::UserBusy { .. }
            | QueryError::SheetDisk { .. }
            | QueryError::EpochNotReached { .. }
            | QueryError::Backfilling { .. }
            | QueryError::Lagged
            | QueryError::Memory { .. }
            | QueryError::Engine(_) => true,
            QueryError::History(history) => history.is_retryable(),
            _ => false,
        }
    }

    /// What DataFusion says, in our words; `memory_bytes_max` is the bound that it may have met.
    pub(crate) fn from_datafusion(error: DataFusionError, memory_bytes_max: usize) -> Self {
        let ours: Option<QueryError> = causes(&error).find_map(|cause| {
            let query = cause.downcast_ref::<QueryError>().cloned();
            query.or_else(|| cause.downcast_ref::<HistoryError>().cloned().map(QueryError::History))
        });
        if let Some(ours) = ours {
            return ours;
        }
        let message = || error.find_root().strip_backtrace();
        let place = place(&error);
        match error.find_root() {
            DataFusionError::ResourcesExhausted(_) => {
                QueryError::Memory { bytes_max: memory_bytes_max, of: MemoryOf::All }
            }
            DataFusionError::Plan(text)
            | DataFusionError::NotImplemented(text)
            | DataFusionError::Configuration(text) => QueryError::Sql { message: without_backtrace(text) + &place },
            DataFusionError::SQL(..)
            | DataFusionError::SchemaError(..)
            | DataFusionError::Collection(_)
            | DataFusionError::Diagnostic(..) => QueryError::Sql { message: message() + &place },
            DataFusionError::Execution(text) => QueryError::Evaluation { message: without_backtrace(text) },
            DataFusionError::ArrowError(arrow, _) => QueryError::Evaluation { message: arrow.to_string() },
            DataFusionError::External(cause) if is_of_pattern(&error) => QueryError::Sql { message: cause.to_string() },
            _ => QueryError::Bug(Arc::new(error)),
        }
    }
}

impl From<QueryError> for DataFusionError {
    fn from(error: QueryError) -> Self {
        DataFusionError::External(Box::new(error))
    }
}

impl From<HistoryError> for DataFusionError {
    fn from(error: HistoryError) -> Self {
        DataFusionError::External(Box::new(error))
    }
}

/// What a question whose time is over waits for.
fn waits(upto: Option<Epoch>) -> String {
    upto.map(|upto| format!(", which waits for what ClickHouse has up to epoch {upto},")).unwrap_or_default()
}

/// How a bound is raised: `own` by who asks, `setting` by who runs the program.
fn raise(own: bool, name: &str, setting: &str) -> String {
    match own {
        true => format!("to which {name} was set; set it higher, or to 0"),
        false => format!("the bound; ask for less, or over a coarser rollup, or raise {setting}"),
    }
}

fn memory(of: MemoryOf) -> &'static str {
    match of {
        MemoryOf::Question => "to which streamgauge.memory_bytes_max was set; set it higher, or to 0",
        MemoryOf::User => {
            "the bound for all that run of one user; group or sort less, or raise user_query_memory_bytes_max"
        }
        MemoryOf::All => "the bound for all that run; group or sort less, or raise query_memory_bytes_max",
    }
}

/// Where in the statement an error is, as the parser says it; nothing if that is not known.
fn place(error: &DataFusionError) -> String {
    let span = error.diagnostic().and_then(|diagnostic| diagnostic.span);
    span.map(|span| format!(" at Line: {}, Column: {}", span.start.line, span.start.column)).unwrap_or_default()
}

/// Whether an error is that of a regular expression, which has no kind of its own.
fn is_of_pattern(error: &DataFusionError) -> bool {
    match error {
        DataFusionError::Context(context, inner) => context == "Invalid regex" || is_of_pattern(inner),
        _ => false,
    }
}

fn without_backtrace(text: &str) -> String {
    text.split(DataFusionError::BACK_TRACE_SEP).next().unwrap_or_default().to_owned()
}

fn causes<'a>(
    error: &'a (dyn std::error::Error + 'static),
) -> impl Iterator<Item = &'a (dyn std::error::Error + 'static)> {
    std::iter::successors(Some(error), |error| match error.downcast_ref::<DataFusionError>() {
        Some(DataFusionError::External(inner)) => Some(inner.as_ref()),
        Some(DataFusionError::Shared(inner)) => Some(inner.as_ref()),
        _ => error.source(),
    })
}
