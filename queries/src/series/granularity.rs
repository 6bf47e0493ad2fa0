//! The length of a bucket, and the rollup that serves it.

use std::sync::Arc;

use streamgauge_schemas::{Duration, View};

use crate::error::QueryError;

/// About how many points a series has when the granularity is chosen for it.
const POINTS: i64 = 1_000;

/// Lengths that people read easily, in seconds.
const NICE_SECS: [i64; 14] = [1, 5, 10, 30, 60, 300, 900, 1_800, 3_600, 10_800, 21_600, 43_200, 86_400, 604_800];

/// The granularity asked for, if a rollup serves it; or one that gives at most about 1,000 points over `range`.
///
/// # Errors
/// [`QueryError::Parameter`] when no rollup's bucket divides what was asked for.
pub fn chosen_granularity(
    asked: Option<Duration>,
    range: Duration,
    views: &[Arc<View>],
) -> Result<Duration, QueryError> {
    let finest = rollups(views).map(|(width, _)| width).min().unwrap_or(Duration::from_secs(1));
    match asked {
        Some(asked) if asked.as_micros() % finest.as_micros() == 0 => Ok(asked),
        Some(asked) => {
            let reason = format!("{asked} is not a multiple of {finest}, the finest there is");
            Err(QueryError::Parameter { parameter: "granularity", reason })
        }
        None => Ok(nice(range, finest)),
    }
}

fn nice(range: Duration, finest: Duration) -> Duration {
    let fits = |step: &Duration| step.as_micros().saturating_mul(POINTS) >= range.as_micros();
    let steps = NICE_SECS.iter().map(|secs| Duration::from_secs(*secs));
    let divided = steps.filter(|step| step.as_micros() % finest.as_micros() == 0).find(fits);
    divided.unwrap_or_else(|| {
        let week = Duration::from_secs(604_800);
        let weeks = (range.as_micros() / POINTS / week.as_micros()) + 1;
        Duration::from_micros(week.as_micros() * weeks)
    })
}

/// The coarsest rollup whose bucket divides `granularity`; [`chosen_granularity`] has seen that there is one.
pub(super) fn view_for(granularity: Duration, views: &[Arc<View>]) -> Arc<View> {
    let fitting = rollups(views).filter(|(width, _)| granularity.as_micros() % width.as_micros() == 0);
    let (_, view) = fitting.max_by_key(|(width, _)| *width).expect("the granularity was chosen for a rollup");
    view.clone()
}

/// The built-in rollups with the length of their buckets.
fn rollups(views: &[Arc<View>]) -> impl Iterator<Item = (Duration, &Arc<View>)> {
    let built_in = views.iter().filter(|view| view.id.is_built_in());
    built_in.filter_map(|view| Some((view.definition.bucket.as_ref()?.width?, view)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use streamgauge_schemas::view::built_in_rollups;

    fn views() -> Vec<Arc<View>> {
        built_in_rollups()
    }

    #[test]
    fn granularities() {
        let check = |asked: Option<&str>, range: &str, expected: Option<(&str, &str)>| {
            let asked = asked.map(|text| text.parse().unwrap());
            let found = chosen_granularity(asked, range.parse().unwrap(), &views()).ok();
            let named = found.map(|g| (g.to_string(), view_for(g, &views()).definition.name.clone()));
            assert_eq!(named, expected.map(|(g, view)| (g.to_owned(), view.to_owned())), "{asked:?} over {range}");
        };
        check(Some("1s"), "1h", Some(("1s", "metrics_1s")));
        check(Some("90s"), "1h", Some(("90s", "metrics_1s")));
        check(Some("5m"), "1h", Some(("5m", "metrics_1m")));
        check(Some("2h"), "1h", Some(("2h", "metrics_1h")));
        check(Some("1w"), "1h", Some(("1w", "metrics_1d")));
        check(Some("25h"), "1h", Some(("25h", "metrics_1h")));
        check(Some("500ms"), "1h", None);
        check(Some("1500ms"), "1h", None);
        check(None, "5m", Some(("1s", "metrics_1s")));
        check(None, "1000s", Some(("1s", "metrics_1s")));
        check(None, "1h", Some(("5s", "metrics_1s")));
        check(None, "1d", Some(("5m", "metrics_1m")));
        check(None, "30d", Some(("1h", "metrics_1h")));
        check(None, "365d", Some(("12h", "metrics_1h")));
        check(None, "3650d", Some(("1w", "metrics_1d")));
        check(None, "36500d", Some(("6w", "metrics_1d")));
    }
}
