//! Streams of the user's own: made, filled, read, deleted.

use serde_json::{Value, json};

use crate::psql::Psql;
use crate::support::client::{NDJSON, accepted};
use crate::support::{DataDir, Program, eventually};

fn orders() -> Value {
    json!({
        "name": "orders",
        "time_column": "placed_at",
        "columns": [
            {"name": "placed_at", "type": "timestamp"},
            {"name": "customer", "type": "text"},
            {"name": "items", "type": "i64"},
            {"name": "total", "type": "f64"},
            {"name": "paid", "type": "bool"},
            {"name": "shipped_at", "type": "timestamp"},
            {"name": "details", "type": "json"},
        ],
        "order_by": ["customer", "placed_at"],
        "retention": "30d",
    })
}

#[tokio::test]
async fn a_stream_is_made_filled_read_and_deleted() {
    let data = DataDir::new();
    let program = Program::start(&data).await;
    let client = program.client();
    let made = client.post_json("/api/v1/streams", &orders()).await.expect(201);
    for (key, value) in orders().as_object().unwrap() {
        assert_eq!(&made[key], value, "{key}");
    }
    assert_eq!(made["built_in"], false);
    assert_eq!(
        client.post_json("/api/v1/streams", &orders()).await.expect(200),
        made,
        "the same again changes nothing"
    );
    assert_eq!(client.get("/api/v1/streams/orders").await.expect(200), made);
    let listed = client.get("/api/v1/streams").await.expect(200);
    let names: Vec<&Value> = listed["streams"].as_array().unwrap().iter().map(|stream| &stream["name"]).collect();
    assert_eq!(names, ["metrics", "rejects", "requests", "orders"]);
    let built_in: Vec<&Value> =
        listed["streams"].as_array().unwrap().iter().map(|stream| &stream["built_in"]).collect();
    assert_eq!(built_in, [true, true, true, false]);

    let mut other = orders();
    other["columns"][2]["type"] = json!("f64");
    let detail = client.post_json("/api/v1/streams", &other).await.problem(409, "stream_exists");
    assert!(detail.contains("orders"), "{detail}");

    let path = "/api/v1/streams/orders/events";
    let lines = r#"{"placed_at":"2024-05-01T10:00:00.000001Z","customer":"Zoë","items":9007199254740993,"total":12.5,"paid":true,"shipped_at":1714557600,"details":{"b":[1,null],"a":"x"}}
{"placed_at":"2024-05-01T09:00:00Z","customer":"Ada"}"#;
    accepted(&client.post(path, NDJSON, lines).await, 2);
    let array = json!([{"placed_at": 1714561200000_u64, "customer": "Ada", "items": -1, "total": 0, "paid": false, "details": "plain"}]);
    accepted(&client.post_json(path, &array).await, 1);
    let rows = json!([
        ["2024-05-01T09:00:00Z", "Ada", null, null, null, null, null],
        [
            "2024-05-01T10:00:00.000001Z",
            "Zoë",
            "9007199254740993",
            12.5,
            true,
            "2024-05-01T10:00:00Z",
            r#"{"b":[1,null],"a":"x"}"#
        ],
        ["2024-05-01T11:00:00Z", "Ada", "-1", 0.0, false, null, "\"plain\""],
    ]);
    let sql = "SELECT placed_at, customer, CAST(items AS TEXT), total, paid, shipped_at, details FROM orders ORDER BY placed_at";
    assert_eq!(client.sql(sql).await, rows);
    let of_clickhouse = json!([[3.0, "9007199254740992", 12.5, 1.0]]);
    let ask = "SELECT toFloat64(count()), toString(sum(items)), sum(total), toFloat64(countIf(paid)) FROM orders";
    eventually("orders in ClickHouse", of_clickhouse, || client.clickhouse(ask)).await;
    assert_eq!(client.sql(sql).await, rows, "the same from history");
    let joined = "SELECT count(*) FROM orders o JOIN metrics m ON m.name = o.customer";
    assert_eq!(client.sql(joined).await, json!([[0.0]]), "streams and metrics are of one catalogue");

    let mixed = r#"{"placed_at":"2024-05-02T10:00:00Z","customer":"Bob"}
{"placed_at":"yesterday","customer":"Bob"}
{"customer":7}
{"placed_at":"2024-05-02T11:00:00Z","customers":"Bob"}
{"placed_at":"2024-05-02T12:00:00Z","customer":"Bob","items":1.5}
{"placed_at":"2024-05-02T13:00:00Z","customer":"Bob"}"#;
    let answer = client.post(path, NDJSON, mixed).await.expect(200);
    let rejected = answer["rejected"].as_array().unwrap();
    let indexes: Vec<u64> = rejected.iter().map(|reject| reject["index"].as_u64().unwrap()).collect();
    assert_eq!((&answer["accepted"], indexes), (&json!(2), vec![1, 2, 3, 4]), "{answer}");
    for (reject, says) in rejected.iter().zip(["placed_at", "customer", "customers", "items"]) {
        assert!(reject["reason"].as_str().unwrap().contains(says), "{reject}");
    }
    assert_eq!(client.sql("SELECT count(*) FROM orders").await, json!([[5.0]]));

    assert_eq!(client.request("DELETE", "/api/v1/streams/orders", &[], "").await.status, 204);
    client.request("DELETE", "/api/v1/streams/orders", &[], "").await.problem(404, "unknown_stream");
    client.get("/api/v1/streams/orders").await.problem(404, "unknown_stream");
    client.post(path, NDJSON, lines).await.problem(404, "unknown_stream");
    assert_eq!(client.post_json("/api/v1/sql", &json!({"sql": sql})).await.status, 400);

    let again = client.post_json("/api/v1/streams", &orders()).await.expect(201);
    assert_ne!(again["id"], made["id"]);
    assert_eq!(
        client.sql("SELECT count(*) FROM orders").await,
        json!([[0.0]]),
        "a new stream has nothing of the old one"
    );
    accepted(&client.post_json(path, &array).await, 1);
    eventually("the new orders in ClickHouse", json!([[1.0]]), || {
        client.clickhouse("SELECT toFloat64(count()) FROM orders")
    })
    .await;
    assert_eq!(client.sql("SELECT customer FROM orders").await, json!([["Ada"]]));
}

#[tokio::test]
async fn a_stream_is_made_and_dropped_in_sql() {
    let data = DataDir::new();
    let program = Program::start(&data).await;
    let (client, psql) = (program.client(), Psql::of(&program).await);
    let create = "CREATE STREAM visits (at TIMESTAMP NOT NULL, path TEXT, ms DOUBLE) WITH (retention = '30d', order_by = 'path, at')";
    assert!(psql.prints(&[create]).await.contains("CREATE STREAM"));
    let made = client.get("/api/v1/streams/visits").await.expect(200);
    assert_eq!(
        [&made["time_column"], &made["order_by"], &made["retention"], &made["columns"][2]["type"]],
        [&json!("at"), &json!(["path", "at"]), &json!("30d"), &json!("f64")]
    );
    let client = &client;
    let refused = |sql: &'static str| async move { client.post_json("/api/v1/sql", &json!({"sql": sql})).await };
    refused(create).await.problem(409, "stream_exists");
    let again = "CREATE STREAM IF NOT EXISTS visits (moment TIMESTAMP)";
    assert_eq!(client.sql(again).await, json!([["visits", "is there already, and was left as it is"]]));
    assert_eq!(client.get("/api/v1/streams/visits").await.expect(200), made);
    let detail = refused("CREATE STREAM metrics (at TIMESTAMP)").await.problem(400, "bad_definition");
    assert!(detail.contains("taken by a built-in table"), "{detail}");
    let detail = refused("CREATE STREAM w (at TIMESTAMP, x BYTEA)").await.problem(400, "sql_invalid");
    assert!(detail.contains("column x cannot be of type BYTEA"), "{detail}");

    let visit = json!([{"at": "2024-05-01T10:00:00Z", "path": "/a", "ms": 1.5}]);
    accepted(&client.post_json("/api/v1/streams/visits/events", &visit).await, 1);
    assert!(psql.prints(&["SELECT path, ms FROM visits"]).await.contains("/a   | 1.5"));
    client.sql("CREATE MATERIALIZED VIEW by_path AS SELECT path, count(*) AS n FROM visits GROUP BY path").await;
    let detail = refused("DROP STREAM visits").await.problem(409, "stream_in_use");
    assert!(detail.contains("by_path"), "{detail}");
    client.sql("DROP MATERIALIZED VIEW by_path").await;
    assert!(psql.prints(&["DROP STREAM public.visits"]).await.contains("DROP STREAM"));
    client.get("/api/v1/streams/visits").await.problem(404, "unknown_stream");
    refused("DROP STREAM visits").await.problem(404, "unknown_stream");
    assert_eq!(client.sql("DROP STREAM IF EXISTS visits").await, json!([["visits", "is not there"]]));
    let detail = refused("DROP STREAM IF EXISTS rejects").await.problem(400, "sql_invalid");
    assert!(detail.contains("part of the program"), "{detail}");
}

#[tokio::test]
async fn definitions_that_make_no_sense_are_refused_with_the_part() {
    let data = DataDir::new();
    let program = Program::start(&data).await;
    let client = program.client();
    let with = |change: fn(&mut Value)| {
        let mut definition = orders();
        change(&mut definition);
        definition
    };
    for (definition, says) in [
        (with(|d| d["name"] = json!("Orders!")), "Orders!"),
        (with(|d| d["name"] = json!("metrics")), "metrics"),
        (with(|d| d["time_column"] = json!("customer")), "customer"),
        (with(|d| d["columns"][1]["type"] = json!("varchar")), "varchar"),
        (with(|d| d["columns"][1]["name"] = json!("items")), "items"),
        (with(|d| d["order_by"] = json!(["nothing"])), "nothing"),
        (with(|d| d["retention"] = json!("soon")), "soon"),
        (with(|d| d["colour"] = json!("red")), "colour"),
    ] {
        let detail = client.post_json("/api/v1/streams", &definition).await.problem(400, "bad_definition");
        assert!(detail.contains(says), "{says}: {detail}");
    }
    assert_eq!(client.get("/api/v1/streams").await.expect(200)["streams"].as_array().unwrap().len(), 3);
    let metrics = client.request("DELETE", "/api/v1/streams/metrics", &[], "").await;
    assert!((400..500).contains(&metrics.status), "the built-in stream stays: {}", metrics.text());
}
