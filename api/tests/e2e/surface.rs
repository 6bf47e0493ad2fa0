//! What stands around the path: health, status, the program's own metrics, the description of the interface, the page.

use std::path::Path;

use serde_json::{Value, json};

use crate::support::client::accepted;
use crate::support::program::{FREE_PORT, PROGRAM, run_to_end};
use crate::support::{DataDir, Program, difference};

#[tokio::test]
async fn the_program_tells_how_it_is() {
    let data = DataDir::new();
    let program = Program::start(&data).await;
    let client = program.client();
    let epoch = accepted(&client.post_json("/v1/metrics", &json!({"name": "cpu", "value": 1})).await, 1);
    assert_eq!((client.get("/healthz").await.status, client.get("/readyz").await.status), (200, 200));
    let status = client.get("/api/v1/status").await.expect(200);
    assert_eq!(
        (&status["version"], &status["events_total"]),
        (&json!(env!("CARGO_PKG_VERSION")), &json!(1)),
        "{status}"
    );
    assert!(status["epoch"].as_u64().unwrap() >= epoch, "{status}");
    assert_eq!(
        (&status["clickhouse"]["mode"], &status["clickhouse"]["healthy"]),
        (&json!("embedded"), &json!(true)),
        "{status}"
    );
    assert!(!status["clickhouse"]["version"].as_str().unwrap().is_empty(), "{status}");
    assert!(status["memory_bytes"].as_u64().unwrap() > 1 << 20, "{status}");
    let items: Vec<&str> =
        status["flush"].as_array().unwrap().iter().map(|item| item["item"].as_str().unwrap()).collect();
    for item in ["catalog", "stream/0", "view/metrics_1s", "view/metrics_1m", "view/metrics_1h", "view/metrics_1d"] {
        assert!(items.contains(&item), "{item}: {status}");
    }
    let own = client.get("/metrics").await;
    assert!(own.header("content-type").starts_with("text/plain"), "{}", own.header("content-type"));
    let counted =
        own.text().lines().find(|line| line.starts_with("streamgauge_ingest_events_total")).map(str::to_owned);
    assert!(counted.as_deref().is_some_and(|line| line.ends_with(" 1")), "{counted:?}\n{}", own.text());

    let page = client.get("/").await;
    assert_eq!(page.status, 200, "{}", page.text());
    assert!(page.header("content-type").starts_with("text/html") && page.text().contains("<script"), "{}", page.text());
    let docs = client.get("/docs/").await;
    assert!(docs.status == 200 && docs.text().contains("swagger"), "{}", docs.text());
    assert!(!docs.text().contains("https://"), "the description can be read without network: {}", docs.text());
}

/// Set `UPDATE_GOLDEN=1` to write the file anew.
#[tokio::test]
async fn the_described_interface_is_the_golden_one() {
    let path = Path::new("openapi.json");
    let printed = std::process::Command::new(PROGRAM).arg("openapi").output().unwrap();
    assert!(printed.status.success(), "{}", String::from_utf8_lossy(&printed.stderr));
    if std::env::var_os("UPDATE_GOLDEN").is_some_and(|value| value == "1") {
        std::fs::write(path, &printed.stdout).unwrap();
    }
    let golden = std::fs::read_to_string(path).unwrap_or_default();
    let golden: Value = serde_json::from_str(&golden).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    let hint = "api/openapi.json is not what the program says; if the interface was meant to change, run this test with \
        UPDATE_GOLDEN=1, and `npm run types` in dashboard/";
    let printed: Value = serde_json::from_slice(&printed.stdout).unwrap();
    assert_eq!(difference(&printed, &golden), None, "{hint}");

    let data = DataDir::new();
    let program = Program::start(&data).await;
    let served = program.client().get("/api/openapi.json").await.expect(200);
    assert_eq!(difference(&served, &golden), None, "{hint}");
}

#[tokio::test]
async fn a_start_that_cannot_be_says_why() {
    let data = DataDir::new();
    let (status, output) = run_to_end(&data, &["--clickhouse-library", "/nonexistent/libchdb.so"]).await;
    assert!(
        !status.success() && output.contains("/nonexistent/libchdb.so") && !output.contains("panicked"),
        "{output}"
    );
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let output = tokio::process::Command::new(PROGRAM)
        .env("STREAMGAUGE_PG", FREE_PORT)
        .env("STREAMGAUGE_FLIGHT", FREE_PORT)
        .args(["serve", "--http", &address, "--data-dir"])
        .arg(data.path())
        .output();
    let output = tokio::time::timeout(crate::support::PATIENCE, output).await.expect("it ends by itself").unwrap();
    let said = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
    assert!(!output.status.success() && said.contains(&address) && !said.contains("panicked"), "{said}");
}
