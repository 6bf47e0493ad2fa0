//! A log disk that is full or fails: refused at once, nothing acknowledged lost, and on again without help.

use std::process::Command;
use std::time::{Duration, Instant};

use serde_json::json;

use crate::support::client::NDJSON;
use crate::support::{Client, DataDir, Program};

const EVENTS: &str = "/api/v1/streams/metrics/events";

async fn post(client: &Client, value: u32) -> u16 {
    let body = format!("{{\"name\":\"disk\",\"value\":{value}}}");
    let answer = client.post(EVENTS, NDJSON, body).await;
    if answer.status != 200 {
        answer.problem(503, "log_unavailable");
        assert!(!answer.header("retry-after").is_empty());
    }
    answer.status
}

/// Posts until the program has refused and then taken events; answers what was taken, in order.
async fn through_a_failure(client: &Client, refused_min: usize) -> Vec<u32> {
    let (began, mut taken, mut refused) = (Instant::now(), Vec::new(), 0);
    let mut value = 0;
    while refused < refused_min || taken.last() != Some(&(value - 1)) {
        match post(client, value).await {
            200 => taken.push(value),
            _ => refused += 1,
        }
        value += 1;
        assert!(began.elapsed() < Duration::from_secs(60), "it took {taken:?} and refused {refused}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    taken
}

async fn check(client: &Client, taken: &[u32]) {
    let values = client.sql("SELECT value FROM metrics WHERE name = 'disk' ORDER BY value").await;
    let expected: Vec<_> = taken.iter().map(|value| json!([f64::from(*value)])).collect();
    assert_eq!(values, json!(expected));
    let count = client.sql(r#"SELECT CAST(sum("count") AS BIGINT) FROM metrics_1m"#).await;
    assert_eq!(count, json!([[taken.len() as f64]]));
}

/// A write that fails, a sync that fails, and both while a new segment cannot be made either.
#[tokio::test]
async fn failing_writes_and_syncs_heal_by_themselves() {
    for (faults, refused_min) in [
        ("log.write=error@4..9", 5),
        ("log.sync=error@4..7", 3),
        ("log.sync=error@4; log.segment.create=error@2..4", 2),
    ] {
        let data = DataDir::new();
        let program = Program::start_with_faults(&data, faults).await;
        let taken = through_a_failure(program.client(), refused_min).await;
        check(program.client(), &taken).await;
        program.kill();
        let program = Program::start(&data).await;
        check(program.client(), &taken).await;
    }
}

/// A real file system without room, where the machine lets a test make one.
#[tokio::test]
async fn a_full_disk_is_waited_for() {
    let data = DataDir::new();
    let log = data.path().join("log");
    std::fs::create_dir(&log).unwrap();
    let mounted = Command::new("mount").args(["-t", "tmpfs", "-o", "size=1m", "tmpfs"]).arg(&log).output();
    if !mounted.is_ok_and(|output| output.status.success()) {
        eprintln!("no file system can be mounted here; the injected faults are all that is tested");
        return;
    }
    let filler = log.join("filler");
    {
        let program = Program::start(&data).await;
        let client = program.client();
        assert_eq!(post(client, 0).await, 200);
        // Somebody else takes what room there is.
        let full = std::fs::write(&filler, vec![1; 2 << 20]);
        assert!(full.is_err(), "the file system was to be full");
        let mut taken = vec![0];
        let mut refused = 0;
        for value in 1..60 {
            match post(client, value).await {
                200 => taken.push(value),
                _ => refused += 1,
            }
        }
        assert!(refused > 0, "the disk was to be full");
        check(client, &taken).await;
        std::fs::remove_file(&filler).unwrap();
        assert_eq!(post(client, 100).await, 200, "there is room again");
        taken.push(100);
        check(client, &taken).await;
        program.kill();
        let program = Program::start(&data).await;
        check(program.client(), &taken).await;
    }
    let unmounted = Command::new("umount").arg("-l").arg(&log).status().unwrap();
    assert!(unmounted.success());
}

/// Bytes that go bad in the middle of the log are reported with their place, and nothing is skipped.
#[tokio::test]
async fn corruption_is_reported_with_its_place() {
    let data = DataDir::new();
    // Nothing is flushed, so all of the log is needed at the next start.
    let program = Program::start_with_faults(&data, "flush.insert=error@1..").await;
    for value in 0..5 {
        assert_eq!(post(program.client(), value).await, 200);
    }
    program.kill();
    let segment = std::fs::read_dir(data.path().join("log")).unwrap().map(|entry| entry.unwrap().path());
    let segment = segment.into_iter().find(|path| path.extension().is_some_and(|end| end == "log")).unwrap();
    let mut bytes = std::fs::read(&segment).unwrap();
    bytes[100] ^= 1;
    std::fs::write(&segment, &bytes).unwrap();
    let (status, output) = crate::support::program::run_to_end(&data, &[]).await;
    assert!(!status.success());
    assert!(output.contains("is corrupt at byte") && output.contains(".log"), "{output}");
    bytes[100] ^= 1;
    std::fs::write(&segment, &bytes).unwrap();
    let program = Program::start(&data).await;
    check(program.client(), &[0, 1, 2, 3, 4]).await;
}
