//! What is made of a `SELECT`, and which are refused.

use streamgauge_schemas::view::built_in_rollups;
use streamgauge_schemas::{Duration, ViewDefinition};

use super::stream::{catalog, state};
use crate::views::{GivenOptions, ViewError, ViewPlanner, plan_view, program_of};

fn plan(select: &str) -> Result<ViewDefinition, ViewError> {
    let planned = plan_view("v", select, &GivenOptions::default(), &catalog(), &state())?;
    Ok(planned.definition)
}

/// The parts of a definition, a line each.
fn describe(definition: &ViewDefinition) -> String {
    let mut lines = Vec::new();
    lines.extend(definition.filter.iter().map(|filter| format!("filter {filter}")));
    lines.extend(definition.by_series.then(|| "by series".to_owned()));
    for dimension in &definition.dimensions {
        lines.push(format!("dimension {} {:?} {}", dimension.name, dimension.kind, dimension.expression));
    }
    if let Some(bucket) = &definition.bucket {
        let width = bucket.width.map_or_else(|| "none".to_owned(), |width| width.to_string());
        lines.push(format!("bucket {} {width}", bucket.name));
    }
    for argument in &definition.arguments {
        lines.push(format!("argument {:?} {}", argument.kind, argument.expression));
    }
    for fold in &definition.folds {
        let of = fold.argument.map_or_else(|| "rows".to_owned(), |argument| argument.to_string());
        let condition = fold.condition.map_or_else(String::new, |condition| format!(" where {condition}"));
        lines.push(format!("fold {:?} {of}{condition}", fold.function));
    }
    for output in &definition.outputs {
        let null = if output.nullable { " or null" } else { "" };
        lines.push(format!("result {} = {:?} {:?}{null}", output.name, output.finish, output.kind));
    }
    for column in &definition.columns {
        let null = if column.nullable { " or null" } else { "" };
        lines.push(format!("column {} {:?}{null}", column.name, column.kind));
    }
    lines.join("\n")
}

#[test]
fn definitions() {
    for (select, expected) in [
        (
            "select date_bin(interval '1 minute', at) as m, carrier, sum(delay) / count(*) as mean from flights \
             where n > 3 group by 1, carrier having count(*) > 2",
            "filter flights.n > Int64(3)\n\
             dimension carrier Text flights.carrier\n\
             bucket m 1m\n\
             argument F64 flights.delay\n\
             fold Sum 0\n\
             fold Count 0\n\
             fold Count rows\n\
             result sum(flights.delay) = Value { fold: 0, count: 1 } F64 or null\n\
             result count(*) = Count(2) I64\n\
             column m Time\n\
             column carrier Text or null\n\
             column mean F64 or null",
        ),
        (
            // One argument, one count and one sum, however they are written.
            "SELECT max(n), min(n) AS least, sum(n), count(n), count(*), count(1), count(at), avg(n), avg(f.n) AS again, \
             max(CAST(n AS BIGINT)) FILTER (WHERE true) AS most FROM flights AS f",
            "argument I64 flights.n\n\
             argument F64 CAST(flights.n AS Float64)\n\
             fold Max 0\n\
             fold Count 0\n\
             fold Min 0\n\
             fold Sum 0\n\
             fold Count rows\n\
             fold Sum 1\n\
             fold Count 1\n\
             result max(f.n) = Value { fold: 0, count: 1 } I64 or null\n\
             result min(f.n) = Value { fold: 2, count: 1 } I64 or null\n\
             result sum(f.n) = Value { fold: 3, count: 1 } I64 or null\n\
             result count(f.n) = Count(1) I64\n\
             result count(*) = Count(4) I64\n\
             result avg(f.n) = Mean { sum: 5, count: 6 } F64 or null\n\
             column max(f.n) I64 or null\n\
             column least I64 or null\n\
             column sum(f.n) I64 or null\n\
             column count(f.n) I64\n\
             column count(*) I64\n\
             column count(Int64(1)) I64\n\
             column count(f.at) I64\n\
             column avg(f.n) F64 or null\n\
             column again F64 or null\n\
             column most I64 or null",
        ),
        (
            "SELECT dimensions, name, date_trunc('hour', ts), max(value) FROM metrics GROUP BY 1, 2, 3",
            "by series\n\
             dimension name Text metrics.name\n\
             dimension dimensions Map metrics.dimensions\n\
             bucket bucket 1h\n\
             argument F64 metrics.value\n\
             fold Max 0\n\
             fold Count rows\n\
             result max(metrics.value) = Value { fold: 0, count: 1 } F64\n\
             column dimensions Map\n\
             column name Text\n\
             column date_trunc(Utf8(\"hour\"),metrics.ts) Time\n\
             column max(metrics.value) F64",
        ),
        (
            "SELECT length(origin) AS letters, ok FROM flights GROUP BY letters, ok",
            "dimension letters I64 CAST(character_length(flights.origin) AS Int64)\n\
             dimension ok Bool flights.ok\n\
             fold Count rows\n\
             column letters I64 or null\n\
             column ok Bool or null",
        ),
        (
            "SELECT first_value(carrier ORDER BY at) FILTER (WHERE ok) AS a, last_value(n) IGNORE NULLS AS b FROM flights",
            "argument Text flights.carrier\n\
             argument Bool flights.ok\n\
             argument I64 flights.n\n\
             argument Bool flights.n IS NOT NULL\n\
             fold First 0 where 1\n\
             fold Last 2 where 3\n\
             result first_value(flights.carrier) FILTER (WHERE flights.ok) ORDER BY [flights.at ASC NULLS LAST] = Held(0) Text or null\n\
             result last_value(flights.n) IGNORE NULLS = Held(1) I64 or null\n\
             column a Text or null\n\
             column b I64 or null",
        ),
        (
            "SELECT first_value(carrier ORDER BY at), last_value(n), min(origin), stddev_pop(delay), var(n) FILTER (WHERE ok) \
             FROM flights",
            "argument Text flights.carrier\n\
             argument I64 flights.n\n\
             argument Text flights.origin\n\
             argument F64 flights.delay\n\
             argument F64 CASE WHEN flights.ok THEN CAST(flights.n AS Float64) END\n\
             fold First 0\n\
             fold Last 1\n\
             fold Min 2\n\
             fold Moments 3\n\
             fold Moments 4\n\
             result first_value(flights.carrier) ORDER BY [flights.at ASC NULLS LAST] = Held(0) Text or null\n\
             result last_value(flights.n) = Held(1) I64 or null\n\
             result min(flights.origin) = Held(2) Text or null\n\
             result stddev_pop(flights.delay) = Spread { fold: 3, sample: false, root: true } F64 or null\n\
             result var(flights.n) FILTER (WHERE flights.ok) = Spread { fold: 4, sample: true, root: false } F64 or null\n\
             column first_value(flights.carrier) ORDER BY [flights.at ASC NULLS LAST] Text or null\n\
             column last_value(flights.n) I64 or null\n\
             column min(flights.origin) Text or null\n\
             column stddev_pop(flights.delay) F64 or null\n\
             column var(flights.n) FILTER (WHERE flights.ok) F64 or null",
        ),
    ] {
        let definition = plan(select).unwrap_or_else(|error| panic!("{select}: {error}"));
        assert_eq!(describe(&definition), expected, "{select}");
    }
}

#[test]
fn widths_of_buckets() {
    let planner = ViewPlanner::new();
    for (bucket, width) in [
        ("date_bin(INTERVAL '250 milliseconds', at)", Some("250ms")),
        ("date_bin(INTERVAL '1 day 12 hours', at)", Some("36h")),
        ("date_bin(INTERVAL '1 hour', at, TIMESTAMP '2020-01-01T05:00:00Z')", Some("1h")),
        ("date_bin(INTERVAL '1 hour', at, TIMESTAMP '2020-01-01T05:00:01Z')", None),
        ("date_bin(INTERVAL '1 week', at, TIMESTAMP '1970-01-01T00:00:00')", Some("1w")),
        ("date_bin(INTERVAL '1 month', at)", None),
        ("date_bin('1 day', at, TIMESTAMP '1970-01-01', 'Europe/Rome')", None),
        ("time_bucket('5 minutes', at)", Some("5m")),
        ("time_bucket('1 day', at, 'UTC')", Some("1d")),
        ("time_bucket('1 day', at, 'Europe/Rome')", None),
        ("time_bucket('1 week', at)", None), // from Monday on
        ("date_trunc('DAY', at)", Some("1d")),
        ("date_trunc('minute', at AT TIME ZONE 'UTC')", Some("1m")),
        ("date_trunc('day', at AT TIME ZONE 'Asia/Kathmandu')", None),
        ("date_trunc('second', at AT TIME ZONE 'Asia/Kathmandu') AT TIME ZONE 'UTC'", None),
        ("date_trunc('week', at)", None),
    ] {
        let select = format!("SELECT count(*) AS c FROM flights GROUP BY {bucket}");
        let planned = plan_view("v", &select, &GivenOptions::default(), &catalog(), planner.state());
        let definition = planned.map(|planned| planned.definition);
        let definition = definition.unwrap_or_else(|error| panic!("{bucket}: {error}"));
        let found = definition.bucket.unwrap_or_else(|| panic!("{bucket} is no bucket")).width;
        assert_eq!(found, width.map(|width| width.parse::<Duration>().unwrap()), "{bucket}");
    }
    for other in
        ["date_trunc('hour', seen)", "date_bin(INTERVAL '1 minute', at + INTERVAL '1 second')", "extract(hour FROM at)"]
    {
        let definition = plan(&format!("SELECT count(*) AS c FROM flights GROUP BY {other}")).unwrap();
        assert_eq!((definition.bucket, definition.dimensions.len()), (None, 1), "{other}");
    }
}

#[test]
fn a_pattern_of_postgres_is_stored_as_it_is_computed() {
    let select = "SELECT to_char(at, 'YYYY-MM') AS month, count(*) AS c FROM flights GROUP BY to_char(at, 'YYYY-MM')";
    let planned = ViewPlanner::new().plan("v", select, &GivenOptions::default(), &catalog()).unwrap();
    assert_eq!(planned.definition.select, select.replace("YYYY-MM", "%Y-%m"));
    let stored = "SELECT to_char(at, 'YYYY') AS year, count(*) AS c FROM flights GROUP BY to_char(at, 'YYYY')";
    assert_eq!(plan(stored).unwrap().select, stored, "what is stored keeps its meaning");
    let named = "SELECT count(*) AS c FROM flights GROUP BY to_char(at, 'YYYY-MM Day')";
    let refused = ViewPlanner::new().plan("v", named, &GivenOptions::default(), &catalog());
    let error = refused.err().unwrap().to_string();
    assert!(error.starts_with("to_char(at, 'YYYY-MM Day') cannot be maintained: its pattern has no field"), "{error}");
}

#[test]
fn refused() {
    for (select, part, reason) in [
        ("SELECT carrier FROM flights", "SELECT carrier FROM flights", "name them in GROUP BY"),
        ("SELECT * FROM flights", "SELECT * FROM flights", "name them in GROUP BY"),
        ("SELECT DISTINCT carrier FROM flights", "DISTINCT", "GROUP BY instead"),
        ("SELECT count(*) FROM flights ORDER BY 1", "ORDER BY 1", "have no order"),
        ("SELECT count(*) FROM flights LIMIT 3", "LIMIT 3", "all rows of a view are kept"),
        ("SELECT count(*) FROM flights OFFSET 3", "OFFSET 3", "all rows of a view are kept"),
        ("SELECT count(*) FROM flights UNION ALL SELECT 1", "UNION", "a view of each"),
        ("SELECT count(*) FROM flights, metrics", "metrics", "joins are not maintained"),
        ("SELECT count(*) FROM flights JOIN metrics ON true", "JOIN metrics ON true", "joins are not maintained"),
        ("SELECT count(*) FROM (SELECT * FROM flights) AS f", "(SELECT * FROM flights) AS f", "subqueries"),
        ("WITH f AS (SELECT 1) SELECT count(*) FROM f", "WITH f AS (SELECT 1)", "into the SELECT itself"),
        ("SELECT 1", "SELECT 1", "say which with FROM"),
        ("VALUES (1)", "VALUES (1)", "a view is a SELECT"),
        ("DELETE FROM flights", "DELETE FROM flights", "a view is a SELECT"),
        ("SELECT count(*) FROM flights WHERE n = (SELECT 1)", "", "subqueries are not maintained"),
        ("SELECT count(*) FROM flights WHERE n IN (SELECT 1)", "", "subqueries are not maintained"),
        ("SELECT count(*) FROM flights WHERE at > now()", "now()", "another at another time"),
        ("SELECT count(*), random() FROM flights", "random()", "another at another time"),
        (
            "SELECT sum(delay) FILTER (WHERE seen < current_date) FROM flights",
            "current_date()",
            "another at another time",
        ),
        ("SELECT count(*) FROM flights GROUP BY ROLLUP (carrier)", "ROLLUP", "one set of dimensions"),
        (
            "SELECT count(*) FROM flights GROUP BY GROUPING SETS ((carrier), ())",
            "GROUPING SETS",
            "one set of dimensions",
        ),
        ("SELECT count(*), row_number() OVER () FROM flights", "row_number()", "windows are not maintained"),
        ("SELECT count(*) FROM flights QUALIFY row_number() OVER () = 1", "QUALIFY", "windows are not maintained"),
        ("SELECT sum(DISTINCT n) FROM flights", "sum(DISTINCT flights.n)", "nothing else is made of them"),
        ("SELECT median(delay) FROM flights", "median(flights.delay)", "approx_median is within 1 %"),
        ("SELECT array_agg(n) FROM flights", "array_agg(flights.n)", "there are count, sum, avg"),
        ("SELECT corr(n, delay) FROM flights", "corr", "there are count, sum, avg"),
        ("SELECT first_value(n ORDER BY delay) FROM flights", "first_value", "write ORDER BY at"),
        ("SELECT min(dimensions) FROM metrics", "min(metrics.dimensions)", ""),
        (
            "SELECT count(*) FROM metrics GROUP BY CASE WHEN value > 0 THEN dimensions END",
            "metrics.dimensions",
            "no map that is null",
        ),
        (
            "SELECT sum(CAST(n AS DECIMAL(10, 2))) FROM flights",
            "CAST(flights.n AS Decimal128(10, 2))",
            "CAST it to DOUBLE",
        ),
        ("SELECT count(*) FROM flights GROUP BY make_array(n)", "make_array(flights.n)", "CAST it to VARCHAR"),
        ("SELECT count(*) FROM flights GROUP BY seen - at", "flights.seen - flights.at", "CAST it to VARCHAR"),
        ("SELECT count(*) FROM flights GROUP BY date_bin(INTERVAL '0 seconds', at)", "date_bin", "a positive interval"),
        ("SELECT count(*) FROM flights GROUP BY date_bin(INTERVAL '-1 minute', at)", "date_bin", "a positive interval"),
    ] {
        let error = plan(select).expect_err(select);
        let ViewError::NotMaintained { part: found, reason: why } = &error else { panic!("{select}: {error:?}") };
        assert!(found.contains(part) && why.contains(reason), "{select}: {error}");
    }
}

#[test]
fn wrong() {
    for (select, says) in [
        ("SELECT count(*) FROM flight", "\"flight\" is none; there are metrics, rejects, requests, flights"),
        ("SELECT count(*) FROM other.flights", "\"other.flights\" is none"),
        ("SELECT count(*) FROM metrics_1m", "it is a view; write its SELECT over the stream itself"),
        ("SELECT count(*) AS a, max(n) AS a FROM flights", "a"),
        ("SELECT max(n) AS \"_hidden\" FROM flights", "column name \"_hidden\" is not usable"),
        ("SELECT max(n) AS \"\" FROM flights", "column name \"\" is not usable"),
        ("SELECT nothing, count(*) FROM flights GROUP BY nothing", "nothing"),
        ("SELECT sum(carrier) FROM flights", "sum"),
        ("SELECT carrier, count(*) FROM flights", "carrier"),
        ("SELECT count(* FROM flights", "Expected"),
    ] {
        let error = plan(select).expect_err(select);
        assert!(!matches!(error, ViewError::NotMaintained { .. }), "{select}: {error:?}");
        assert!(error.to_string().contains(says), "{select}: {error}");
    }
}

#[test]
fn the_text_that_is_stored_gives_the_same_again() {
    for select in [
        "select /* all */ \"carrier\",count( * )from flights -- group\n group by 1",
        "SELECT CASE WHEN n > 1 THEN 'it''s' ELSE 'ü' END AS a, max(n)::text AS \"Grün\" FROM flights GROUP BY 1",
        "SELECT date_bin('5 minutes', at) AS b, count(*) FILTER (WHERE origin NOT ILIKE '%x_') FROM public.flights GROUP BY b",
    ] {
        let first = plan(select).unwrap_or_else(|error| panic!("{select}: {error}"));
        let second = plan(&first.select).unwrap_or_else(|error| panic!("{}: {error}", first.select));
        assert_eq!(first, second);
    }
}

#[test]
fn the_built_in_rollups_are_what_their_texts_say() {
    for view in built_in_rollups() {
        let (_, reading) = program_of(&view, &catalog(), &state()).unwrap();
        let outputs = |definition: &ViewDefinition| -> Vec<String> {
            definition.outputs.iter().map(|output| output.name.clone()).collect()
        };
        assert_eq!(outputs(&view.definition), outputs(&plan(&view.definition.select).unwrap()));
        let columns: Vec<(&str, bool)> =
            view.definition.columns.iter().map(|column| (column.name.as_str(), column.nullable)).collect();
        let read: Vec<(&str, bool)> =
            reading.schema.fields().iter().map(|field| (field.name().as_str(), field.is_nullable())).collect();
        assert_eq!(columns, read);
        for (column, field) in view.definition.columns.iter().zip(reading.schema.fields()) {
            assert_eq!(column.kind.arrow(), *field.data_type(), "{}", column.name);
        }
    }
}

#[test]
fn a_stored_view_that_is_understood_in_another_way_is_refused() {
    type Change = fn(&mut ViewDefinition);
    let changes: [(&str, Change); 7] = [
        ("filter", |definition| definition.filter = Some("flights.n > Int64(4)".into())),
        ("dimensions", |definition| definition.dimensions[0].expression.push('x')),
        ("bucket", |definition| definition.bucket.as_mut().unwrap().width = None),
        ("arguments", |definition| definition.arguments[0].expression.push('x')),
        ("folds", |definition| definition.folds.swap(0, 1)),
        ("results", |definition| definition.outputs.swap(0, 1)),
        ("stream", |definition| definition.stream.0 += 1),
    ];
    let definition =
        plan("SELECT carrier, date_trunc('hour', at), max(n), count(*) FROM flights WHERE n > 3 GROUP BY 1, 2")
            .unwrap();
    for (part, change) in changes {
        let mut definition = definition.clone();
        change(&mut definition);
        let view = streamgauge_schemas::View { id: streamgauge_schemas::ViewId(9_000), definition };
        let error = program_of(&view, &catalog(), &state()).err().unwrap_or_else(|| panic!("{part}"));
        assert!(matches!(&error, ViewError::Changed { what, .. } if *what == part), "{part}: {error}");
    }
}
