//! The names that the server has, for completion: asked once, and again when they may have changed.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::RwLock;
use serde_json::{Value, json};

use super::super::connection::{Ask, Connection};
use super::catalogue::{COLUMNS, FUNCTIONS};

/// Names are asked for again after this time.
const FRESH_FOR: Duration = Duration::from_secs(60);
/// How long a prompt waits for them.
const WAIT_MAX: Duration = Duration::from_secs(2);

/// What the server has.
#[derive(Debug, Default)]
pub(super) struct Names {
    /// Streams and views, with their columns.
    pub(super) tables: BTreeMap<String, Vec<String>>,
    pub(super) functions: Vec<String>,
}

/// Names that are kept fresh; clones share them.
#[derive(Clone, Default)]
pub(super) struct KnownNames(Arc<RwLock<Known>>);

#[derive(Default)]
struct Known {
    names: Arc<Names>,
    asked_at: Option<Instant>,
}

impl KnownNames {
    pub(super) fn get(&self) -> Arc<Names> {
        self.0.read().names.clone()
    }

    /// They are asked for before the next prompt.
    pub(super) fn forget(&self) {
        self.0.write().asked_at = None;
    }

    /// Asks for them unless they are fresh; a server that is slow or away is not waited for.
    pub(super) async fn refresh(&self, connection: &Arc<Connection>) {
        if self.0.read().asked_at.is_some_and(|at| at.elapsed() < FRESH_FOR) {
            return;
        }
        self.0.write().asked_at = Some(Instant::now());
        let (known, connection) = (self.clone(), connection.clone());
        let asked = tokio::spawn(async move {
            if let Some(names) = ask(&connection).await {
                known.0.write().names = Arc::new(names);
            }
        });
        let _ = tokio::time::timeout(WAIT_MAX, asked).await; // it goes on by itself
    }
}

/// All names; `None` when they cannot be had, which the next statement tells.
async fn ask(connection: &Connection) -> Option<Names> {
    let rows = async |sql: &str| {
        let mut answer = connection.ask_json(Ask::question(&json!({ "sql": sql }), None)).await.ok()?;
        serde_json::from_value::<Vec<Vec<Value>>>(answer["rows"].take()).ok()
    };
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let mut names = Names::default();
    for row in rows(COLUMNS).await? {
        if let [table, column] = row.as_slice() {
            names.tables.entry(text(table)).or_default().push(text(column));
        }
    }
    names.functions = rows(FUNCTIONS).await?.iter().filter_map(|row| row.first()).map(text).collect();
    Some(names)
}
