//! What clients of PostgreSQL ask beside questions: the catalogues, and statements before they are run.

#![allow(clippy::unwrap_used, reason = "a test ends where something is not as it must be")]

mod support;

use std::sync::Arc;

use arrow::array::{ArrayRef, Float64Array, StringArray};
use arrow::datatypes::DataType;
use futures::TryStreamExt;
use streamgauge_queries::{AskOptions, Format, Parameters, format};
use streamgauge_schemas::EventTime;
use support::{Event, World, run};

const T0: i64 = 1_714_521_600_000_000;

fn event(second: i64, value: f64) -> Event {
    Event { name: "cpu", dimensions: vec![("host", "a")], ts: EventTime(T0 + second * 1_000_000), value }
}

async fn world(name: &str) -> World {
    let world = World::new(name).await;
    world.append(&[event(0, 1.0), event(1, 2.5), event(2, 4.0)]).await;
    world
}

async fn asked(world: &World, sql: &str, parameters: Parameters) -> Result<String, String> {
    let answer = world.queries.sql_with(sql, parameters, AskOptions::default()).await;
    let answer = answer.map_err(|error| error.to_string())?;
    let body = format::body(answer, Format::Csv, std::time::Instant::now()).await.map_err(|error| error.to_string())?;
    let parts: Vec<_> = body.try_collect().await.map_err(|error| error.to_string())?;
    let text = String::from_utf8(parts.concat()).unwrap();
    Ok(text.lines().skip(1).collect::<Vec<_>>().join(" "))
}

#[test]
fn every_table_of_the_catalogues_is_read() {
    run(async {
        let world = world("catalogues").await;
        world
            .rows("CREATE MATERIALIZED VIEW v AS SELECT name, sum(value) AS total FROM metrics GROUP BY name")
            .await
            .unwrap();
        let tables = world
            .rows("SELECT table_schema || '.' || table_name FROM information_schema.tables WHERE table_schema <> 'public'")
            .await
            .unwrap();
        assert!(tables.len() > 70, "{tables:?}");
        for table in &tables {
            world.rows(&format!("SELECT * FROM {table}")).await.unwrap_or_else(|error| panic!("{table}: {error}"));
        }
        // What is told of a table agrees, wherever it is told.
        let of = |question: &'static str| world.rows(question);
        assert_eq!(
            of("SELECT a.attname, format_type(a.atttypid, a.atttypmod), a.attnum FROM pg_attribute a WHERE a.attrelid = \
                'v'::regclass ORDER BY attnum")
            .await
            .unwrap(),
            ["name,text,1", "total,double precision,2"]
        );
        assert_eq!(
            of(
                "SELECT column_name, data_type, ordinal_position FROM information_schema.columns WHERE table_name = 'v'"
            )
            .await
            .unwrap(),
            ["name,text,1", "total,double precision,2"]
        );
        assert_eq!(
            of("SELECT c.relname, n.nspname, c.oid::regclass, relkind FROM pg_class c JOIN pg_namespace n ON n.oid = \
                c.relnamespace WHERE c.oid = 'public.v'::regclass")
            .await
            .unwrap(),
            ["v,public,v,v"]
        );
        let columns = "SELECT count(*) FROM pg_class c JOIN pg_attribute a ON a.attrelid = c.oid LEFT JOIN pg_type t ON \
                       t.oid = a.atttypid WHERE t.oid IS NULL OR c.relnatts < a.attnum";
        assert_eq!(of(columns).await.unwrap(), ["0"], "every column is of a type that is listed, and counted");
        assert_eq!(of("SELECT count(*), count(DISTINCT oid) FROM pg_class").await.unwrap().len(), 1);
        assert_eq!(of("SELECT count(*) - count(DISTINCT oid) FROM pg_class").await.unwrap(), ["0"]);
    });
}

#[test]
fn forms_of_browsing_are_answered() {
    run(async {
        let world = world("browsing").await;
        for (sql, expected) in [
            (
                "SELECT current_schema, current_user, current_database(), pg_table_is_visible(1)",
                "public,streamgauge,streamgauge,true",
            ),
            ("SELECT d.oid > 0, d.* FROM (SELECT oid, datname FROM pg_database) d", "true,16383,streamgauge"),
            (
                "SELECT nspname FROM pg_namespace WHERE nspname NOT LIKE 'pg/_%' ESCAPE '/' ORDER BY 1",
                "information_schema public system",
            ),
            (
                "SELECT typname FROM pg_type t WHERE typname = ANY ('{int8,text}') AND t.typtype OPERATOR(pg_catalog.=) 'b' ORDER BY typname COLLATE \"C\"",
                "int8 text",
            ),
            (
                "SELECT (SELECT nspname FROM pg_namespace n WHERE n.oid = t.typnamespace) FROM pg_type t WHERE oid = 20",
                "pg_catalog",
            ),
            (
                "SELECT array_to_string(array(SELECT relname FROM pg_class c WHERE c.relnamespace = n.oid AND relname = 'metrics'), '-') FROM pg_namespace n WHERE nspname = 'public'",
                "metrics",
            ),
            ("SELECT count(*) FROM (SELECT indkey[0] FROM pg_index WHERE indrelid = 'metrics'::regclass) x", "0"),
            ("SELECT k, bool_and(u) FROM (SELECT indrelid AS k, indisunique AS u FROM pg_index) x GROUP BY k", ""),
            ("SELECT 'a' WHERE EXISTS (SELECT 1 FROM pg_constraint WHERE contype = 'p')", ""),
            (
                "SELECT format('%I.%s %L%%', 'a b', 1, 'it''s'), quote_ident('Ab')",
                "\"\"\"a b\"\".1 'it''s'%\",\"\"\"Ab\"\"\"",
            ),
            ("SELECT value, value::bigint, 1, 1 FROM metrics ORDER BY ts LIMIT 1", "1.0,1,1,1"),
            ("SELECT current_setting('search_path'), current_setting('no_such', true) IS NULL", "public,true"),
        ] {
            assert_eq!(asked(&world, sql, Parameters::default()).await.as_deref(), Ok(expected), "{sql}");
        }
    });
}

#[test]
fn parameters_take_the_types_of_their_places() {
    run(async {
        let world = world("parameters").await;
        let described = |sql: &'static str, given: Vec<Option<DataType>>| {
            let queries = world.queries.clone();
            async move { queries.describe(sql, &given).await.map(|it| (it.parameters, it.columns)) }
        };
        let list = DataType::new_list(DataType::Utf8, true);
        for (sql, expected) in [
            ("SELECT 1", vec![]),
            (
                "SELECT value FROM metrics WHERE value > $1 AND name = $2 LIMIT $3",
                vec![DataType::Float64, DataType::Utf8, DataType::Int64],
            ),
            ("SELECT $2::bigint, $1", vec![DataType::Utf8, DataType::Int64]),
            ("SELECT value FROM metrics WHERE name = ANY ($1)", vec![list]),
        ] {
            assert_eq!(described(sql, Vec::new()).await.unwrap().0, expected, "{sql}");
        }
        let (kinds, columns) =
            described("SELECT $1 AS a, count(*), $1 + 1", vec![Some(DataType::Int64)]).await.unwrap();
        let columns = columns.unwrap();
        let told: Vec<_> = columns.fields().iter().map(|field| (field.name().as_str(), field.data_type())).collect();
        assert_eq!(kinds, [DataType::Int64]);
        assert_eq!(told, [("a", &DataType::Int64), ("count", &DataType::Int64), ("?column?", &DataType::Int64)]);
        assert!(
            described("CREATE MATERIALIZED VIEW v AS SELECT count(*) AS n FROM metrics", Vec::new())
                .await
                .unwrap()
                .1
                .is_none()
        );
        assert!(world.rows("SELECT * FROM v").await.is_err(), "what is described is not done");
        assert!(described("SELECT nothing FROM metrics", Vec::new()).await.is_err());

        let values: Vec<ArrayRef> =
            vec![Arc::new(Float64Array::from(vec![1.5])), Arc::new(StringArray::from(vec!["cpu"]))];
        let question = "SELECT count(*) FROM metrics WHERE value > $1 AND name = $2";
        assert_eq!(asked(&world, question, Parameters::from_arrays(&values).unwrap()).await.as_deref(), Ok("2"));
        let json = |values: serde_json::Value| Parameters::from_json(values.as_array().unwrap());
        assert_eq!(asked(&world, question, json(serde_json::json!([3, "cpu"]))).await.as_deref(), Ok("1"));
        assert_eq!(asked(&world, question, json(serde_json::json!([null, "cpu"]))).await.as_deref(), Ok("0"));
        let late = "SELECT count(*) FROM metrics WHERE ts >= $1";
        assert_eq!(asked(&world, late, json(serde_json::json!(["2024-05-01T00:00:01Z"]))).await.as_deref(), Ok("2"));
        // A value is never read as SQL.
        let text = json(serde_json::json!([0, "cpu' OR 'a' = 'a"]));
        assert_eq!(asked(&world, question, text).await.as_deref(), Ok("0"));
        for (given, says) in [(serde_json::json!([1]), "up to $2"), (serde_json::json!([]), "up to $2")] {
            assert!(asked(&world, question, json(given)).await.unwrap_err().contains(says));
        }
        assert!(asked(&world, "SELECT 1", json(serde_json::json!([1]))).await.unwrap_err().contains("no parameter"));
    });
}

/// Patterns of times as Superset writes them when it narrows a chart.
#[test]
fn times_are_read_and_written_by_patterns_of_postgres() {
    run(async {
        let world = world("patterns").await;
        let since = "SELECT count(*) FROM metrics WHERE ts >= TO_TIMESTAMP('2024-05-01 00:00:01.000000', 'YYYY-MM-DD HH24:MI:SS.US')";
        assert_eq!(world.rows(since).await.unwrap(), ["2"]);
        let day = "SELECT to_date('01.05.2024', 'DD.MM.YYYY'), to_char(ts, 'YYYY-MM-DD\"T\"HH24:MI'), to_char(ts, '%H:%M:%S') \
                   FROM metrics ORDER BY ts DESC LIMIT 1";
        assert_eq!(world.rows(day).await.unwrap(), ["2024-05-01,2024-05-01T00:00,00:00:02"]);
    });
}

#[test]
fn a_parameter_of_no_type_multiplies_an_interval() {
    run(async {
        let world = world("intervals").await;
        for (sql, wanted) in [
            ("SELECT TIMESTAMP '2024-05-01' + $1 * INTERVAL '1 hour'", "2024-05-01T03:00:00Z"),
            ("SELECT TIMESTAMP '2024-05-01' + INTERVAL '1 hour' * $1", "2024-05-01T03:00:00Z"),
            ("SELECT TIMESTAMP '2024-05-01' + INTERVAL '1 day' / $1", "2024-05-01T08:00:00Z"),
        ] {
            let three = Parameters::from_json(&[serde_json::json!(3)]);
            assert_eq!(asked(&world, sql, three).await.unwrap(), wanted, "{sql}");
        }
    });
}

/// Whatever they are planned as.
#[test]
fn functions_of_postgres_name_their_columns() {
    run(async {
        let world = world("names").await;
        for (sql, names) in [
            ("SELECT localtime, localtimestamp, age(ts) FROM metrics", "localtime localtimestamp age"),
            ("SELECT statement_timestamp(), transaction_timestamp()", "statement_timestamp transaction_timestamp"),
            ("SELECT gen_random_uuid(), make_interval(days => 1)", "gen_random_uuid make_interval"),
            ("SELECT every(true), mode() WITHIN GROUP (ORDER BY value) FROM metrics", "every mode"),
            ("SELECT extract(epoch FROM ts - ts) AS s, json_build_object('a', 1) FROM metrics", "s json_build_object"),
            ("SELECT * FROM generate_series(1, 2)", "generate_series"),
            ("SELECT * FROM generate_series(1, 2) AS n, generate_series(1, 2) AS t (m)", "n m"),
            ("TABLE metrics LIMIT 1", "ts name value dimensions source"),
        ] {
            let columns = world.queries.describe(sql, &[]).await.unwrap().columns.unwrap();
            let told: Vec<&str> = columns.fields().iter().map(|field| field.name().as_str()).collect();
            assert_eq!(told.join(" "), names, "{sql}");
            let answer = world.queries.sql(sql, AskOptions::default()).await.unwrap();
            assert_eq!(answer.named.fields(), columns.fields(), "{sql}");
        }
    });
}
