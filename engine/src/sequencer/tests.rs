use streamgauge_schemas::view::built_in_rollups;

use super::*;

const START: Epoch = Epoch(1_700_000_000_000_000);
const SECOND: u64 = 1_000_000;

/// The rollup by minute, flushed each second.
struct Flushed {
    view: Arc<View>,
    known: OrderedView,
}

impl Flushed {
    fn new() -> Self {
        let mut rollups = built_in_rollups().into_iter();
        let view = rollups.find(|view| view.definition.name == "metrics_1m").expect("there is one by minute");
        let horizon = view.horizon(START);
        let known = OrderedView::new(START, horizon, Failed::default(), Arc::default(), Err("not asked".to_owned()));
        Flushed { view, known }
    }

    /// So many flushes are confirmed while rows take that share of what they may.
    fn confirm(&mut self, flushes: u64, pressure: f64) {
        for _ in 0..flushes {
            let before = self.known.horizon;
            self.known.confirm(&self.view, Epoch(self.known.flushed.0 + SECOND), pressure);
            assert!(self.known.horizon >= before, "what memory gave up is not there again");
            assert!(self.known.horizon <= self.view.horizon(self.known.flushed), "rows that may change stay");
        }
    }

    /// For how many seconds final rows are kept.
    fn kept(&self) -> u64 {
        (self.view.horizon(self.known.flushed).0 - self.known.horizon.0) / SECOND
    }
}

#[test]
fn final_rows_stay_while_there_is_room() {
    let mut flushed = Flushed::new();
    let full = flushed.view.recent().as_secs() as u64;
    flushed.confirm(full / 2, 1.0);
    assert_eq!(flushed.kept(), full / 2, "from when on they are there, none goes");
    flushed.confirm(3 * full, 0.2);
    assert!((full..=full + full / 8).contains(&flushed.kept()), "{} of {full} s", flushed.kept());
}

#[test]
fn final_rows_go_in_proportion_when_there_is_none() {
    let mut flushed = Flushed::new();
    let full = flushed.view.recent().as_secs() as u64;
    flushed.confirm(2 * full, 0.2);
    flushed.confirm(1, 2.0);
    let expected = (full as f64 * SHRUNK / 2.0) as u64;
    assert!(flushed.kept().abs_diff(expected) <= 1, "{} s, and not about {expected}", flushed.kept());
    flushed.confirm(30, 1.5);
    assert!(flushed.kept() <= 1, "all of them in the end: {} s", flushed.kept());
    flushed.confirm(100, 0.9);
    assert!(flushed.kept().abs_diff(100) <= 1, "and they gather again: {} s", flushed.kept());
    flushed.confirm(1, f64::INFINITY); // none may be there at all
    assert_eq!(flushed.kept(), 0);
}
