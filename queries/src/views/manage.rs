//! The statements about views, carried out: each answers with a small table.

use std::sync::Arc;

use arrow::array::{ArrayRef, BooleanArray, Int64Array, RecordBatch, StringArray};
use streamgauge_engine::{Engine, EngineError, ViewStatus};
use streamgauge_schemas::stream::METRICS;
use streamgauge_schemas::{StreamId, View, ViewDefinition};

use super::{Backfills, GivenOptions, Readings, ViewError, ViewStatement};
use crate::error::QueryError;

/// What the statements work on.
pub(crate) struct Management<'a> {
    pub(crate) engine: &'a Engine,
    pub(crate) readings: &'a Readings,
    pub(crate) backfills: &'a Backfills,
}

impl Management<'_> {
    /// Carries out a statement.
    ///
    /// # Errors
    /// [`QueryError::View`] for what is wrong with it, [`QueryError::Engine`] for what the engine does not take.
    pub(crate) async fn run(&self, statement: ViewStatement) -> Result<RecordBatch, QueryError> {
        match statement {
            ViewStatement::Create { name, or_replace, if_not_exists, options, select } => {
                let (definition, there) = self.plan(&name, &select, &options)?;
                let made = match there && !or_replace {
                    true => Err(EngineError::NameTaken(name.clone())),
                    false => self.engine.create_view(definition, or_replace).await,
                };
                match made {
                    Ok(view) if view.definition.options.backfill => {
                        Ok(said("view", "was made; its back-fill has begun", &name))
                    }
                    Ok(_) => Ok(said("view", "was made", &name)),
                    // Another one may have made it just now.
                    Err(EngineError::NameTaken(_)) if if_not_exists => {
                        Ok(said("view", "is there already, and was left as it is", &name))
                    }
                    Err(error) => Err(error.into()),
                }
            }
            ViewStatement::Drop { name, if_exists } => match self.engine.drop_view(&name).await {
                Ok(()) => Ok(said("view", "was dropped", &name)),
                Err(EngineError::UnknownView(_)) if if_exists => Ok(said("view", "is not there", &name)),
                Err(error) => Err(error.into()),
            },
            ViewStatement::Show => {
                self.engine.settled().await?; // what is acknowledged is counted
                Ok(self.show())
            }
            ViewStatement::ShowCreate { name } => {
                let view = self.view(&name)?;
                Ok(table(vec![("view", texts([name])), ("statement", texts([self.statement(&view)]))]))
            }
            ViewStatement::Explain { name } => {
                self.engine.settled().await?;
                Ok(self.explain(&*self.view(&name)?))
            }
            ViewStatement::Describe { name } => Ok(describe(&self.view(&name)?.definition)),
        }
    }

    fn plan(&self, name: &str, select: &str, options: &GivenOptions) -> Result<(ViewDefinition, bool), QueryError> {
        let catalog = self.engine.catalog();
        let planned = self.readings.planner().plan(name, select, options, &*catalog)?;
        Ok((planned.definition, catalog.view_by_name(name).is_some() || catalog.by_name(name).is_some()))
    }

    fn view(&self, name: &str) -> Result<Arc<View>, QueryError> {
        self.engine.view(name).ok_or_else(|| EngineError::UnknownView(name.to_owned()).into())
    }

    fn stream_name(&self, id: StreamId) -> String {
        let stream = self.engine.catalog().by_id(id).map(|stream| stream.definition.name.clone());
        stream.unwrap_or_else(|| METRICS.to_owned())
    }

    /// The statement that makes the view.
    fn statement(&self, view: &View) -> String {
        let options = &view.definition.options;
        let mut with = vec![
            format!("flush_interval = '{}'", options.flush_interval),
            format!("idle = '{}'", options.idle),
            format!("retention = '{}'", options.retention),
        ];
        with.extend((!options.backfill).then(|| "backfill = false".to_owned()));
        with.extend(options.memory_bytes_max.map(|bytes| format!("memory = {bytes}")));
        let (name, select) = (&view.definition.name, &view.definition.select);
        format!("CREATE MATERIALIZED VIEW {name} WITH ({}) AS {select}", with.join(", "))
    }

    fn show(&self) -> RecordBatch {
        let views = self.engine.views();
        let status: Vec<Option<ViewStatus>> = views.iter().map(|view| self.engine.view_status(view.id)).collect();
        let text = |of: &dyn Fn(&View) -> String| texts(views.iter().map(|view| of(view)));
        let number = |of: &dyn Fn(&ViewStatus) -> i64| -> ArrayRef {
            Arc::new(status.iter().map(|status| status.as_ref().map(of)).collect::<Int64Array>())
        };
        let failures = status.iter().map(|status| status.as_ref().and_then(|status| status.failure.clone()));
        table(vec![
            ("view", text(&|view| view.definition.name.clone())),
            ("stream", text(&|view| self.stream_name(view.definition.stream))),
            ("fed_from", texts(views.iter().map(|view| self.fed_from(view)))),
            ("backfill", text(&|view| self.backfill(view))),
            ("rows_in_memory", number(&|status| status.rows as i64)),
            ("bytes_in_memory", number(&|status| status.bytes as i64)),
            ("flushed_epoch", number(&|status| status.flushed.0 as i64)),
            ("failed_events", number(&|status| status.failed_events as i64)),
            ("failure", Arc::new(failures.collect::<StringArray>())),
            ("select", text(&|view| view.definition.select.clone())),
        ])
    }

    fn backfill(&self, view: &View) -> String {
        match (view.definition.options.backfill && !view.id.is_built_in(), self.backfills.is_done(view)) {
            (false, _) => "none".to_owned(),
            (true, true) => "done".to_owned(),
            (true, false) => self.backfills.get(view.id).to_string(),
        }
    }

    /// The view whose groups this one's are merged from, or the stream whose events it reads.
    fn fed_from(&self, view: &View) -> String {
        let fed_from = self.engine.fed_from(view.id).and_then(|id| self.engine.catalog().view_by_id(id).cloned());
        fed_from.map_or_else(|| self.stream_name(view.definition.stream), |finer| finer.definition.name.clone())
    }

    fn explain(&self, view: &View) -> RecordBatch {
        let (definition, status) = (&view.definition, self.engine.view_status(view.id));
        let list = |items: Vec<String>| if items.is_empty() { "none".to_owned() } else { items.join(", ") };
        let mut rows: Vec<(&str, String)> = Vec::new();
        let is_fed = self.engine.fed_from(view.id).is_some();
        match is_fed {
            true => {
                rows.push(("coarsen", format!("merges the groups of {}", self.fed_from(view))));
                rows.push(("feed", "of many batches at once, when the view is read, flushed or followed".to_owned()));
            }
            false => {
                rows.push(("read", format!("the events of {}, decoded once for all its views", self.fed_from(view))));
                rows.push(("filter", definition.filter.clone().unwrap_or_else(|| "none".to_owned())));
                let dimensions = definition.dimensions.iter();
                rows.push(("project", list(dimensions.map(|dimension| dimension.expression.clone()).collect())));
                let arguments = definition.arguments.iter().map(|argument| argument.expression.clone());
                rows.push(("arguments", list(arguments.collect())));
                rows.push(("aggregate", "once a batch, on one worker".to_owned()));
            }
        }
        let bucket = definition.bucket.as_ref().map(|bucket| match bucket.width {
            Some(width) => format!("{} (every {width})", bucket.expression),
            None => bucket.expression.clone(),
        });
        rows.push(("bucket", bucket.unwrap_or_else(|| "none: one group a key".to_owned())));
        let folds =
            definition.folds.iter().map(|fold| format!("{:?} of {:?}", fold.function, fold.kind).to_lowercase());
        rows.push(("folds", list(folds.collect())));
        if !is_fed {
            rows.push(("exchange", "by group, to the worker that owns it".to_owned()));
        }
        let options = &definition.options;
        rows.push(("accumulate", format!("a row that is idle for {} is final", options.idle)));
        let bound = options.memory_bytes_max.map(|bytes| {
            format!("{bytes} bytes; beyond, producers of {} get 503 view_full", self.stream_name(definition.stream))
        });
        rows.push(("memory", bound.unwrap_or_else(|| "without a bound of its own".to_owned())));
        rows.push(("flush", format!("every {} to {}", options.flush_interval, view.states_table())));
        rows.push(("read by", definition.select.clone()));
        let feeds = self.engine.views().into_iter().filter(|other| self.engine.fed_from(other.id) == Some(view.id));
        rows.push(("feeds", list(feeds.map(|other| other.definition.name.clone()).collect())));
        rows.push(("backfill", self.backfill(view)));
        if let Some(status) = status {
            rows.push(("rows in memory", status.rows.to_string()));
            let is_full = options.memory_bytes_max.is_some_and(|bound| status.bytes as u64 > bound);
            rows.push(("bytes in memory", format!("{}{}", status.bytes, if is_full { ", which is full" } else { "" })));
            rows.push(("failed events", status.failed_events.to_string()));
            rows.extend(status.failure.map(|failure| ("failure", failure)));
        }
        let (operators, details): (Vec<&str>, Vec<String>) = rows.into_iter().unzip();
        table(vec![("operator", texts(operators.into_iter().map(str::to_owned))), ("detail", texts(details))])
    }
}

fn describe(definition: &ViewDefinition) -> RecordBatch {
    let columns = &definition.columns;
    let nullable = columns.iter().map(|column| Some(column.nullable)).collect::<BooleanArray>();
    table(vec![
        ("column_name", texts(columns.iter().map(|column| column.name.clone()))),
        ("data_type", texts(columns.iter().map(|column| column.kind.arrow().to_string()))),
        ("is_nullable", Arc::new(nullable)),
    ])
}

/// What was done with a view or stream, in a row.
pub(crate) fn said(kind: &str, what: &str, name: &str) -> RecordBatch {
    table(vec![(kind, texts([name.to_owned()])), ("result", texts([what.to_owned()]))])
}

fn texts(texts: impl IntoIterator<Item = String>) -> ArrayRef {
    Arc::new(StringArray::from_iter_values(texts))
}

fn table(columns: Vec<(&str, ArrayRef)>) -> RecordBatch {
    RecordBatch::try_from_iter(columns).expect("the columns of an answer have one length")
}

impl From<ViewError> for QueryError {
    fn from(error: ViewError) -> Self {
        QueryError::View(error)
    }
}
