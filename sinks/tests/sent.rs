//! Rows that are sent along with a query are there for it, and errors come through wherever they happen.

#![allow(clippy::unwrap_used, reason = "a test ends where something is not as it must be")]

mod support;

use std::sync::Arc;

use arrow::array::{AsArray, Float64Array, Int64Array, RecordBatch, StringArray};
use arrow::datatypes::{DataType, Field, Float64Type, Int64Type, Schema};
use futures::TryStreamExt;
use streamgauge_sinks::{ClickHouse, SentTable, SinkError};
use support::{database, run};

/// Rows `from..to` of `(n, text, half)`, with nulls.
fn batch(from: i64, to: i64) -> RecordBatch {
    let fields = [("n", DataType::Int64), ("it's a `name`", DataType::Utf8), ("half", DataType::Float64)];
    let schema = Schema::new(fields.map(|(name, kind)| Field::new(name, kind, true)).to_vec());
    let text: StringArray = (from..to).map(|n| (n % 3 != 0).then(|| format!("it's {n}\0\\"))).collect();
    let half: Float64Array = (from..to).map(|n| (n % 2 == 0).then_some(n as f64 / 2.0)).collect();
    let columns = vec![Arc::new(Int64Array::from_iter_values(from..to)) as _, Arc::new(text) as _, Arc::new(half) as _];
    RecordBatch::try_new(Arc::new(schema), columns).unwrap()
}

fn table(name: &str, batches: Vec<RecordBatch>) -> SentTable {
    let structure = "n Int64, `it's a \\`name\\`` Nullable(String), half Nullable(Float64)";
    SentTable { name: name.to_owned(), structure: structure.to_owned(), batches }
}

async fn ask(clickhouse: &ClickHouse, sql: &str, tables: &[SentTable]) -> Result<Vec<RecordBatch>, SinkError> {
    clickhouse.query_arrow_with(sql, tables).await?.try_collect().await
}

fn integers(batches: &[RecordBatch], column: usize) -> Vec<i64> {
    batches.iter().flat_map(|batch| batch.column(column).as_primitive::<Int64Type>().values().to_vec()).collect()
}

#[test]
fn rows_are_there_for_their_query_alone() {
    run(async {
        let clickhouse = database("sent").await;
        let tables = [table("_one", vec![batch(0, 10), batch(10, 70_000)]), table("_two", vec![batch(5, 8)])];
        let sum = "SELECT toInt64(count()), sum(n), sum(half) FROM _one";
        let answer = ask(&clickhouse, sum, &tables).await.unwrap();
        assert_eq!((integers(&answer, 0), integers(&answer, 1)), (vec![70_000], vec![70_000 * 69_999 / 2]));
        assert_eq!(answer[0].column(2).as_primitive::<Float64Type>().value(0), (0..35_000).sum::<i64>() as f64);
        let joined = "SELECT n, two.`it's a \\`name\\`` FROM _one AS one JOIN _two AS two ON one.n = two.n ORDER BY n";
        let answer = ask(&clickhouse, joined, &tables).await.unwrap();
        assert_eq!(integers(&answer, 0), [5, 6, 7]);
        let texts: Vec<_> = answer.iter().flat_map(|batch| batch.column(1).as_string::<i32>().iter()).collect();
        assert_eq!(texts, [Some("it's 5\0\\"), None, Some("it's 7\0\\")]);
        let nothing = ask(&clickhouse, "SELECT n FROM _two WHERE n > 100", &tables).await.unwrap();
        assert_eq!(integers(&nothing, 0), Vec::<i64>::new());
        let gone = ask(&clickhouse, "SELECT n FROM _one", &tables[1..]).await.unwrap_err();
        assert!(gone.is_unknown_table(), "{gone}");
    });
}

#[test]
fn failures_say_what_clickhouse_says_at_the_beginning_and_in_the_middle() {
    run(async {
        let clickhouse = database("sent_failures").await;
        let tables = [table("_one", vec![batch(0, 100)])];
        let refused = ask(&clickhouse, "SELECT nothing FROM _one", &tables).await.unwrap_err();
        assert!(matches!(&refused, SinkError::Statement { code: 47, .. }), "{refused}");
        let writes = ask(&clickhouse, "CREATE TABLE t (n Int64) ENGINE = Memory", &tables).await.unwrap_err();
        assert!(matches!(&writes, SinkError::Statement { code: 164, .. }), "{writes}");
        // Far more than fits into a buffer comes before the row that fails.
        let late = "SELECT number + throwIf(number = 20000000) AS n FROM numbers(30000000) SETTINGS max_threads = 1";
        let mut answer = clickhouse.query_arrow_with(late, &tables).await.unwrap();
        let mut rows = 0;
        let failed = loop {
            match answer.try_next().await {
                Ok(Some(batch)) => rows += batch.num_rows(),
                Ok(None) => panic!("the answer ended after {rows} rows as if it were whole"),
                Err(error) => break error,
            }
        };
        assert!(rows > 0, "it fails in the middle");
        assert!(failed.to_string().contains("395"), "{failed}");
    });
}

#[test]
fn a_dropped_answer_ends_the_query() {
    run(async {
        let clickhouse = database("sent_dropped").await;
        let tables = [table("_one", vec![batch(0, 100)])];
        let endless = "SELECT number AS n FROM system.numbers WHERE number % 7 = 3";
        let mut answer = clickhouse.query_arrow_with(endless, &tables).await.unwrap();
        assert!(answer.try_next().await.unwrap().is_some());
        let running = "SELECT count() FROM system.processes WHERE query LIKE '%system.numbers WHERE number%' AND query NOT LIKE '%processes%'";
        assert_eq!(support::ask(&clickhouse, running).await, "1");
        drop(answer);
        let ended = || async { support::ask(&clickhouse, running).await == "0" };
        support::until("the query has ended", std::time::Duration::from_secs(30), ended).await;
    });
}
