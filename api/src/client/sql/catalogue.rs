//! The questions behind `\d` and its like: the server's catalogues, which know streams and views.

use super::command::Command;

/// A question, and its values.
pub(super) type Question = (&'static str, Vec<String>);

/// All streams and views, and their columns.
pub(super) const COLUMNS: &str = "SELECT table_name, column_name FROM information_schema.columns \
     WHERE table_schema = 'public' ORDER BY table_name, ordinal_position";
/// The names of all functions.
pub(super) const FUNCTIONS: &str =
    "SELECT DISTINCT routine_name FROM information_schema.routines ORDER BY routine_name";

const TABLES: &str = "SELECT t.table_name AS name, CASE t.table_type WHEN 'VIEW' THEN 'view' ELSE 'stream' END AS type, \
     count(c.column_name) AS columns FROM information_schema.tables t JOIN information_schema.columns c \
     ON c.table_schema = t.table_schema AND c.table_name = t.table_name WHERE t.table_schema = 'public' \
     GROUP BY t.table_name, t.table_type ORDER BY name";
const STREAMS: &str = "SELECT table_name AS name FROM information_schema.tables \
     WHERE table_schema = 'public' AND table_type = 'BASE TABLE' ORDER BY name";
const VIEWS: &str = "SELECT table_name AS name, view_definition AS definition FROM information_schema.views \
     WHERE table_schema = 'public' ORDER BY name";
const COLUMNS_OF: &str = "SELECT column_name AS column, data_type AS type, \
     CASE is_nullable WHEN 'YES' THEN 'yes' ELSE 'no' END AS nullable FROM information_schema.columns \
     WHERE table_name = $1 AND (table_schema = 'public' OR table_schema = $2) ORDER BY ordinal_position";
const DEFINITION_OF: &str = "SELECT view_definition AS definition FROM information_schema.views \
     WHERE table_schema = 'public' AND table_name = $1";
const FUNCTIONS_LIKE: &str = "SELECT DISTINCT routine_name AS name, lower(function_type) AS type, description \
     FROM information_schema.routines WHERE routine_name LIKE '%' || $1 || '%' ORDER BY name";
const DATABASES: &str = "SELECT datname AS name FROM pg_catalog.pg_database ORDER BY name";

/// The questions of a command that asks any; of several, the first must have rows.
pub(super) fn questions(command: &Command) -> Vec<Question> {
    match command {
        Command::Describe(None) => vec![(TABLES, Vec::new())],
        Command::Describe(Some(name)) => {
            let (schema, table) = name.split_once('.').unwrap_or(("public", name));
            vec![(COLUMNS_OF, vec![table.to_owned(), schema.to_owned()]), (DEFINITION_OF, vec![table.to_owned()])]
        }
        Command::Streams => vec![(STREAMS, Vec::new())],
        Command::Views => vec![(VIEWS, Vec::new())],
        Command::Functions(part) => vec![(FUNCTIONS_LIKE, vec![part.clone().unwrap_or_default()])],
        Command::Databases => vec![(DATABASES, Vec::new())],
        _ => Vec::new(),
    }
}
