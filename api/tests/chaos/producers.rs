//! The producers: each posts one request after the other, and repeats it until it is answered 200.
//!
//! A request with a key is repeated over lost connections, refusals and starts of the program, sometimes also after it
//! was answered, and sometimes it is sent twice at once. One without a key is sent once.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use anyhow::{bail, ensure};
use parking_lot::{Mutex, MutexGuard};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use serde_json::Value;
use tokio::sync::watch;
use tokio::task::JoinSet;

use crate::ledger::{Ledger, Outcome};
use crate::requests::{Generator, Naming, Request};
use crate::support::client::Answer;
use crate::support::{Client, PATIENCE};

const PRODUCERS: usize = 6;
/// Of these, so many name themselves and number their requests; the others use a key.
const SEQUENCED: usize = 2;
/// How long a request may take until it is acknowledged, whatever happens meanwhile.
const ACKNOWLEDGED_WITHIN: Duration = Duration::from_secs(240);
/// Refusals after which the events of a request are certainly not there; after any other they may be.
const NOT_TAKEN: [&str; 7] =
    ["starting", "busy", "too_many_requests", "bodies_full", "state_full", "log_full", "too_fast"];

#[derive(Default)]
struct Shared {
    ledger: Mutex<Ledger>,
    /// Requests that were acknowledged.
    acknowledged: AtomicU64,
    /// Producers that wait at the gate.
    waiting: AtomicUsize,
    /// What a producer found wrong.
    wrong: Mutex<Option<String>>,
}

/// All producers.
pub(crate) struct Producers {
    shared: Arc<Shared>,
    open: watch::Sender<bool>,
    _tasks: JoinSet<()>,
}

impl Producers {
    /// Starts them; each sends to the program that is at the address.
    pub(crate) fn start(seed: u64, address: watch::Receiver<Client>) -> Self {
        let (shared, open) = (Arc::new(Shared::default()), watch::Sender::new(true));
        let mut tasks = JoinSet::new();
        for producer in 0..PRODUCERS {
            let sequenced = producer >= PRODUCERS - SEQUENCED;
            let random = StdRng::seed_from_u64(seed ^ (producer as u64 + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15));
            let generator = Generator { producer, sequenced, seed, number: 0 };
            let producer = Producer { shared: shared.clone(), address: address.clone(), random };
            let (shared, open) = (shared.clone(), open.subscribe());
            tasks.spawn(async move {
                if let Err(error) = producer.run(generator, open).await {
                    shared.wrong.lock().get_or_insert(format!("a producer: {error:#}"));
                }
            });
        }
        Producers { shared, open, _tasks: tasks }
    }

    /// What was acknowledged.
    pub(crate) fn ledger(&self) -> MutexGuard<'_, Ledger> {
        self.shared.ledger.lock()
    }

    /// Fails when a producer has found something wrong.
    pub(crate) fn check(&self) -> anyhow::Result<()> {
        self.shared.wrong.lock().as_ref().map_or(Ok(()), |wrong| bail!("{wrong}"))
    }

    /// Waits until so many more requests were acknowledged, which shows that the program takes events.
    pub(crate) async fn progress(&self, requests: u64) -> anyhow::Result<()> {
        let acknowledged = || self.shared.acknowledged.load(Ordering::Relaxed);
        let goal = acknowledged() + requests;
        self.wait(PATIENCE, &format!("{requests} requests are acknowledged"), || acknowledged() >= goal).await
    }

    /// Lets every request be acknowledged, and begins no other.
    pub(crate) async fn pause(&self) -> anyhow::Result<()> {
        self.open.send_replace(false);
        let all = || self.shared.waiting.load(Ordering::Relaxed) == PRODUCERS;
        self.wait(ACKNOWLEDGED_WITHIN, "all requests are acknowledged", all).await
    }

    /// Goes on after a pause.
    pub(crate) fn resume(&self) {
        self.open.send_replace(true);
    }

    async fn wait(&self, patience: Duration, what: &str, done: impl Fn() -> bool) -> anyhow::Result<()> {
        let began = Instant::now();
        while !done() {
            self.check()?;
            ensure!(began.elapsed() < patience, "waited {patience:?} until {what}");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        self.check()
    }
}

struct Producer {
    shared: Arc<Shared>,
    address: watch::Receiver<Client>,
    random: StdRng,
}

impl Producer {
    async fn run(mut self, mut generator: Generator, mut open: watch::Receiver<bool>) -> anyhow::Result<()> {
        loop {
            if !*open.borrow_and_update() {
                self.shared.waiting.fetch_add(1, Ordering::Relaxed);
                let opened = open.wait_for(|open| *open).await.map(drop);
                self.shared.waiting.fetch_sub(1, Ordering::Relaxed);
                opened?;
            }
            let request = generator.next(&mut self.random);
            match request.naming {
                Naming::Unnamed => self.post_once(&request).await?,
                _ => self.post(&request).await?,
            }
            let pause = Duration::from_millis(self.random.random_range(0..40));
            tokio::time::sleep(pause).await;
        }
    }

    /// Posts a request that has no key, once.
    async fn post_once(&mut self, request: &Request) -> anyhow::Result<()> {
        let outcome = match self.attempt(request).await? {
            Some(answer) if answer.status == 200 => {
                self.shared.acknowledged.fetch_add(1, Ordering::Relaxed);
                return self.shared.ledger.lock().acknowledge(request, &answer.json());
            }
            Some(answer) if NOT_TAKEN.contains(&code(&answer).as_str()) => Outcome::Refused,
            _ => Outcome::Unknown,
        };
        self.shared.ledger.lock().note_unnamed(request, outcome)
    }

    /// Posts a request that has a key until it is acknowledged, and sometimes once more.
    async fn post(&mut self, request: &Request) -> anyhow::Result<()> {
        let answer = match self.random.random_range(0..100) {
            0..5 => self.post_twice_at_once(request).await?,
            _ => self.until_acknowledged(request).await?,
        };
        self.shared.ledger.lock().acknowledge(request, &answer.json())?;
        self.shared.acknowledged.fetch_add(1, Ordering::Relaxed);
        if self.random.random_bool(0.07) {
            let again = self.until_acknowledged(request).await?;
            ensure!(is_replay(&again), "{:?}: a repeat is not answered as one: {}", request.naming, again.text());
            same(request, &answer, &again)?;
        }
        Ok(())
    }

    async fn post_twice_at_once(&mut self, request: &Request) -> anyhow::Result<Answer> {
        let mut other = Producer {
            shared: self.shared.clone(),
            address: self.address.clone(),
            random: StdRng::seed_from_u64(self.random.random()),
        };
        let (first, second) = tokio::join!(self.until_acknowledged(request), other.until_acknowledged(request));
        let (first, second) = (first?, second?);
        ensure!(is_replay(&first) || is_replay(&second), "{:?}: sent twice, and both are new", request.naming);
        same(request, &first, &second)?;
        Ok(first)
    }

    async fn until_acknowledged(&mut self, request: &Request) -> anyhow::Result<Answer> {
        let began = Instant::now();
        loop {
            match self.attempt(request).await? {
                Some(answer) if answer.status == 200 => return Ok(answer),
                _ => {}
            }
            let waited = began.elapsed();
            ensure!(waited < ACKNOWLEDGED_WITHIN, "{:?} was not acknowledged in {waited:?}", request.naming);
            let pause = Duration::from_millis(self.random.random_range(20..200));
            tokio::time::sleep(pause).await;
        }
    }

    /// Sends a request; `None` when there was no answer. Only 200, 429 and 503 are answers that may come.
    async fn attempt(&self, request: &Request) -> anyhow::Result<Option<Answer>> {
        let client = self.address.borrow().clone();
        let headers: Vec<(&str, &str)> = request.headers.iter().map(|(name, value)| (*name, value.as_str())).collect();
        let answer = client.try_request("POST", &request.path, &headers, request.body.clone()).await;
        let mut ledger = self.shared.ledger.lock();
        ledger.sent += 1;
        let Ok(answer) = answer else { return Ok(None) };
        match answer.status {
            200 => ledger.replayed += u64::from(is_replay(&answer)),
            429 | 503 => {
                ledger.refused += 1;
                ensure!(!answer.header("retry-after").is_empty(), "no Retry-After with {}", answer.text());
                ensure!(!code(&answer).is_empty(), "no code in {}", answer.text());
            }
            status => bail!("{:?} was answered {status}: {}", request.naming, answer.text()),
        }
        Ok(Some(answer))
    }
}

fn is_replay(answer: &Answer) -> bool {
    answer.header("idempotency-replayed") == "true"
}

fn code(answer: &Answer) -> String {
    serde_json::from_slice::<Value>(&answer.body)
        .map_or_else(|_| String::new(), |problem| problem["code"].as_str().unwrap_or_default().to_owned())
}

fn same(request: &Request, first: &Answer, second: &Answer) -> anyhow::Result<()> {
    let (first, second) = (first.json(), second.json());
    ensure!(first == second, "{:?}: a repeat is answered {second}, and the first was {first}", request.naming);
    Ok(())
}
