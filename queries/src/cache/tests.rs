use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use arrow::array::{AsArray, Int64Array};
use arrow::datatypes::Int64Type;
use async_trait::async_trait;
use futures::TryStreamExt;
use futures::executor::block_on;

use super::*;
use crate::history::ExternalTable;

/// Answers with as many batches of one row as the text has letters, and fails after them when the text says so.
struct Letters {
    asked: AtomicUsize,
    whole: AtomicBool,
}

#[async_trait]
impl History for Letters {
    async fn query(&self, sql: &str) -> Result<HistoryStream, HistoryError> {
        let asked = self.asked.fetch_add(1, Ordering::SeqCst) as i64;
        let batch = |at: usize| {
            let column = Arc::new(Int64Array::from(vec![asked * 100 + at as i64])) as _;
            Ok(RecordBatch::try_from_iter([("n", column)]).unwrap())
        };
        let error = sql.contains("fail").then(|| Err(HistoryError::lasting("as it was told")));
        Ok(stream::iter((0..sql.len()).map(batch).chain(error).collect::<Vec<_>>()).boxed())
    }

    async fn query_with(&self, sql: &str, _tables: Vec<ExternalTable>) -> Result<HistoryStream, HistoryError> {
        self.query(sql).await
    }

    async fn available(&self) -> Result<(), HistoryError> {
        Ok(())
    }

    fn is_whole(&self) -> bool {
        self.whole.load(Ordering::SeqCst)
    }

    fn database(&self) -> &str {
        "letters"
    }
}

struct World {
    cache: Arc<Cache>,
    history: Arc<Letters>,
}

impl World {
    fn new(bytes_max: usize) -> Self {
        let history = Arc::new(Letters { asked: AtomicUsize::new(0), whole: AtomicBool::new(true) });
        World { cache: Cache::new(bytes_max), history }
    }

    fn stream(&self, sql: &str) -> HistoryStream {
        let read = self.cache.read(self.history.clone(), sql.to_owned(), Epoch(1), Waits::default());
        block_on(read).unwrap()
    }

    /// The first number of the answer: which time it was that ClickHouse was asked.
    fn time(&self, sql: &str) -> i64 {
        let batches: Vec<RecordBatch> = block_on(self.stream(sql).try_collect()).unwrap();
        let numbers: Vec<i64> =
            batches.iter().map(|batch| batch.column(0).as_primitive::<Int64Type>().value(0)).collect();
        let first = numbers[0];
        assert_eq!(numbers, (first..first + sql.len() as i64).collect::<Vec<_>>(), "it is whole and in order");
        first / 100
    }
}

#[test]
fn the_same_text_is_asked_once() {
    let world = World::new(1 << 20);
    assert_eq!([world.time("a"), world.time("bb"), world.time("a"), world.time("bb")], [0, 1, 0, 1]);
    let world = World::new(0);
    assert_eq!([world.time("a"), world.time("a")], [0, 1]);
}

#[test]
fn what_did_not_come_whole_is_not_kept() {
    let world = World::new(1 << 20);
    assert!(block_on(world.stream("fail").try_collect::<Vec<_>>()).is_err());
    let (first, _rest) = block_on(world.stream("abc").into_future());
    first.unwrap().unwrap();
    assert_eq!(world.time("abc"), 2);
    // Rows that are set aside come later.
    world.history.whole.store(false, Ordering::SeqCst);
    assert_eq!(world.time("d"), 3);
    world.history.whole.store(true, Ordering::SeqCst);
    assert_eq!([world.time("d"), world.time("d")], [4, 4]);
}

#[test]
fn what_was_not_asked_for_longest_goes() {
    let one = {
        let world = World::new(1 << 20);
        world.time("a");
        world.cache.kept.lock().bytes
    };
    let world = World::new(one * SHARE + one / 2);
    let texts: Vec<String> = (b'a'..b'a' + SHARE as u8).map(|letter| char::from(letter).to_string()).collect();
    for (time, text) in texts.iter().enumerate() {
        assert_eq!(world.time(text), time as i64);
    }
    assert_eq!(world.time("a"), 0); // so b is the one that was not asked for longest
    assert_eq!(world.time("z"), SHARE as i64);
    assert_eq!(world.time("a"), 0);
    assert_eq!(world.time("b"), SHARE as i64 + 1);
    assert!(world.cache.kept.lock().bytes <= world.cache.bytes_max);
    // One that is too large pushes nothing out.
    assert_eq!(world.time(&"x".repeat(50)), SHARE as i64 + 2);
    assert_eq!([world.time("a"), world.time("b")], [0, SHARE as i64 + 1]);
}
