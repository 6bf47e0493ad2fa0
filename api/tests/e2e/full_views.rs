//! A view at its bound of memory: it says so, its stream's producers wait, and nothing else does.

use serde_json::{Value, json};

use crate::support::client::accepted;
use crate::support::{Client, DataDir, Program, eventually};

const ORDERS: &str = "/api/v1/streams/orders/events";
const PER_POST: usize = 2_000;

/// Orders of so many customers that nobody has seen before, from the `post`th post.
fn orders(post: usize) -> Value {
    let order = |at: usize| json!({"at": 1_714_557_600, "customer": format!("c{}", post * PER_POST + at), "amount": 2});
    (0..PER_POST).map(order).collect()
}

async fn detail(client: &Client, operator: &str) -> String {
    let rows = client.sql("EXPLAIN MATERIALIZED VIEW by_customer").await;
    let row = rows.as_array().unwrap().iter().find(|row| row[0] == operator).unwrap().clone();
    row[1].as_str().unwrap().to_owned()
}

#[tokio::test]
async fn a_full_view_makes_its_stream_wait_and_nothing_else() {
    let data = DataDir::new();
    let program = Program::start(&data).await;
    let client = program.client();
    let columns = json!([{"name": "customer", "type": "text"}, {"name": "amount", "type": "i64"}]);
    let definition = json!({"name": "orders", "time_column": "at", "columns": columns});
    client.post_json("/api/v1/streams", &definition).await.expect(201);
    let view = "CREATE MATERIALIZED VIEW by_customer WITH (memory = '1MiB', idle = '2s', flush_interval = '200ms', \
                backfill = false) AS SELECT customer, count(*) AS orders, sum(amount) AS total FROM orders GROUP BY customer";
    client.sql(view).await;
    assert!(detail(client, "memory").await.starts_with("1048576 bytes"), "the bound is shown");

    // More groups than the bound holds: sooner or later a post is refused, whole, by the name of the view.
    let mut posts = 0;
    let refused = loop {
        let answer = client.post_json(ORDERS, &orders(posts)).await;
        if answer.status == 503 {
            break answer;
        }
        accepted(&answer, PER_POST);
        posts += 1;
        assert!(posts < 50, "{posts} posts are more than the view may hold");
    };
    assert!(refused.header("retry-after").parse::<u64>().is_ok(), "it says when to come again");
    let says = refused.problem(503, "view_full");
    assert!(says.contains("by_customer") && says.contains("1048576"), "{says}");
    let bytes = detail(client, "bytes in memory").await;
    assert!(bytes.ends_with("which is full") || bytes.parse::<u64>().is_ok_and(|bytes| bytes <= 1 << 20), "{bytes}");

    // Another stream, and questions, go on.
    let metric = json!([{"ts": 1_714_557_600, "name": "load", "value": 1}]);
    accepted(&client.post_json("/api/v1/streams/metrics/events", &metric).await, 1);
    let totals = "SELECT count(*), sum(orders), sum(total) FROM by_customer";
    let expected =
        |posts: usize| json!([[(posts * PER_POST) as f64, (posts * PER_POST) as f64, (2 * posts * PER_POST) as f64]]);
    assert_eq!(client.sql(totals).await, expected(posts));

    // Groups become final and leave: what was refused is taken when it is sent again, and everything is counted once.
    let again = async || {
        let answer = client.post_json(ORDERS, &orders(posts)).await;
        if answer.status == 200 { String::new() } else { format!("{} {}", answer.status, answer.text()) }
    };
    eventually("the view has room again", String::new(), again).await;
    assert_eq!(client.sql(totals).await, expected(posts + 1));
    program.kill();
    let program = Program::start(&data).await;
    eventually("the view answers", expected(posts + 1), async || program.client().sql(totals).await).await;
}
