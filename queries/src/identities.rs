//! The series that a question names by their dimensions, by identity: ClickHouse has rows in the order of identities, and would look at
//! the dimensions of every row of the metric.
//!
//! Memory knows all series that history has, unless something was set aside when the program started; so none is left out.
//! What a filter has in `AND` with `=` is looked for by an index; of alternatives nothing is narrowed.

use streamgauge_engine::{Engine, KeyFilter};

/// So many identities are worth sending.
const SERIES_MAX: usize = 100;

/// The condition on a column of identities that rows of history meet which memory is asked for with `keys`; empty when it would
/// not help, or is not known.
pub(crate) fn condition(engine: &Engine, keys: &KeyFilter, column: &str) -> String {
    match engine.series().named(keys, SERIES_MAX) {
        None => String::new(),
        Some(series) if series.is_empty() => " AND false".to_owned(),
        Some(series) => {
            let series: Vec<String> = series.iter().map(|id| format!("toUInt128('{}')", id.as_u128())).collect();
            format!(" AND {column} IN ({})", series.join(", "))
        }
    }
}
