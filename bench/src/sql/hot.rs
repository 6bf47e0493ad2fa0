//! A dashboard's questions: one series of a view over the last hour, 200 a second, while 50,000 events a second arrive;
//! and 30 days by the hour.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result};
use serde::Serialize;
use tokio::runtime::{Builder, Runtime};
use tokio::task::JoinHandle;

use crate::client::Client;

const SERIES: usize = 1_000;
const EVENTS_A_SECOND: usize = 50_000;
const QUESTIONS_A_SECOND: u32 = 200;
/// Dashboards that ask by turns, each over a connection of its own.
const ASKERS: u32 = 4;
const SPAN: Duration = Duration::from_secs(20);
const DAY_S: u64 = 86_400;
/// How long events arrive before the first question.
const STEADY: Duration = Duration::from_secs(5);
/// How long the old events have to be flushed before anything is measured.
const SETTLED: Duration = Duration::from_secs(15);

/// What was found.
#[derive(Serialize)]
pub(super) struct Hot {
    questions: usize,
    late: usize,
    p50_ms: f64,
    p99_ms: f64,
    worst_ms: f64,
    events: usize,
    month_p50_ms: f64,
    month_worst_ms: f64,
}

/// Runs it and prints what was found.
///
/// # Errors
/// When the program refuses events or questions.
pub(super) async fn measure(client: &Client, events_a_request: usize) -> Result<Hot> {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).context("the clock is before 1970")?.as_secs();
    // An event an hour for 30 days, and one a minute for the last hour, of every series.
    let old = (1..=720).map(|hour| now - hour * 3_600).chain((0..60).map(|minute| now - minute * 60));
    for second in old {
        client
            .post_to("metrics", (0..SERIES).map(|series| event(series, second)).collect::<Vec<_>>().join("\n"))
            .await?;
    }
    tokio::time::sleep(SETTLED).await;
    let is_over = Arc::new(AtomicBool::new(false));
    let posting = {
        let (client, over) = (client.apart()?, is_over.clone());
        apart(move |runtime| post(&client, runtime, events_a_request, &over))
    };
    tokio::time::sleep(STEADY).await;
    let asked =
        async { Ok::<_, anyhow::Error>((ask(client).await?, ask_month(client, now - 30 * DAY_S).await?)) }.await;
    is_over.store(true, Ordering::Relaxed); // also when a question failed
    let (times, month) = asked?;
    let events = posting.await??;
    let at = |level: f64| times[((times.len() - 1) as f64 * level) as usize];
    let hot = Hot {
        questions: times.len(),
        late: times.iter().filter(|time| **time > 5.0).count(),
        p50_ms: at(0.5),
        p99_ms: at(0.99),
        worst_ms: at(1.0),
        events,
        month_p50_ms: month[month.len() / 2],
        month_worst_ms: month[month.len() - 1],
    };
    println!(
        "one series, last hour, {} questions at {QUESTIONS_A_SECOND}/s beside {} events/s: p50 {:.2} ms, p99 {:.2} ms, worst {:.2} ms",
        hot.questions,
        events as u64 / (SPAN + STEADY).as_secs(),
        hot.p50_ms,
        hot.p99_ms,
        hot.worst_ms
    );
    println!("30 days by the hour: p50 {:.1} ms, worst {:.1} ms", hot.month_p50_ms, hot.month_worst_ms);
    Ok(hot)
}

/// Asks for 30 days of some series by the hour, and answers how long each question took, in rising order.
async fn ask_month(client: &Client, start: u64) -> Result<Vec<f64>> {
    let mut times = Vec::new();
    for host in 0..30 {
        let began = Instant::now();
        client.sql_arrow(&format!(
            "SELECT bucket, sum / count FROM metrics_1h WHERE name = 'load' AND dimensions['host'] = 'h{host}' AND bucket >= \
             to_timestamp_seconds({start}) ORDER BY bucket"
        )).await?;
        times.push(began.elapsed().as_secs_f64() * 1e3);
    }
    times.sort_by(f64::total_cmp);
    Ok(times)
}

/// Runs `work` on a thread of its own, with a runtime for it alone: what one of the clients does delays no other, but for the
/// processors that they share.
fn apart<T: Send + 'static>(work: impl FnOnce(&Runtime) -> Result<T> + Send + 'static) -> JoinHandle<Result<T>> {
    tokio::task::spawn_blocking(move || work(&Builder::new_current_thread().enable_all().build()?))
}

/// Posts at the pace until it is over; answers how many events.
fn post(client: &Client, runtime: &Runtime, events_a_request: usize, is_over: &AtomicBool) -> Result<usize> {
    let every = Duration::from_secs_f64(events_a_request as f64 / EVENTS_A_SECOND as f64);
    let (mut due, mut sent) = (Instant::now(), 0);
    while !is_over.load(Ordering::Relaxed) {
        let second = SystemTime::now().duration_since(UNIX_EPOCH).context("the clock is before 1970")?.as_secs();
        let body: Vec<String> = (sent..sent + events_a_request).map(|number| event(number % SERIES, second)).collect();
        let body = body.join("\n"); // before it is due
        std::thread::sleep(due.saturating_duration_since(Instant::now()));
        runtime.block_on(client.post_to("metrics", body))?;
        (due, sent) = (due + every, sent + events_a_request);
    }
    Ok(sent)
}

/// Asks for the span, and answers how long each question took, in rising order: from the moment that it was due, so a
/// program that falls behind is late with all that waits.
async fn ask(client: &Client) -> Result<Vec<f64>> {
    let questions = SPAN.as_secs() as u32 * QUESTIONS_A_SECOND;
    let clients = (0..ASKERS).map(|_| client.apart()).collect::<Result<Vec<_>>>()?;
    let (began, every) = (Instant::now(), Duration::from_secs(1) / QUESTIONS_A_SECOND);
    let asker = |(first, client): (u32, Client)| {
        apart(move |runtime| {
            let mut times = Vec::new();
            for number in (first..questions).step_by(ASKERS as usize) {
                let due = began + every * number;
                std::thread::sleep(due.saturating_duration_since(Instant::now()));
                let host = number as usize * 7 % SERIES;
                runtime.block_on(client.sql_arrow(&format!(
                    "SELECT bucket, count, sum, min, max FROM metrics_1m WHERE name = 'load' AND dimensions['host'] = 'h{host}' AND \
                     bucket >= now() - interval '1 hour' ORDER BY bucket"
                )))?;
                times.push(due.elapsed().as_secs_f64() * 1e3);
            }
            Ok(times)
        })
    };
    let mut times = Vec::new();
    for asker in (0..ASKERS).zip(clients).map(asker).collect::<Vec<_>>() {
        times.extend(asker.await??);
    }
    times.sort_by(f64::total_cmp);
    Ok(times)
}

fn event(series: usize, second: u64) -> String {
    format!(r#"{{"ts":{second}000,"name":"load","value":{},"dimensions":{{"host":"h{series}"}}}}"#, series % 97)
}
