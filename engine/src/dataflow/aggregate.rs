//! `aggregate`: events to partial states of the finest buckets, one pass, each event hashed once.

use std::rc::Rc;
use std::sync::Arc;

use foldhash::fast::FixedState;
use hashbrown::HashMap;
use streamgauge_schemas::{Duration, GroupKey, MetricsBatch, State};
use timely::dataflow::Stream;
use timely::dataflow::channels::pact::Pipeline;
use timely::dataflow::operators::generic::Operator;

use super::{Arrived, Partials, Share};

/// Groups the events of this worker's series by (series, bucket).
///
/// # Contract
///
/// One [`Partials`] an epoch, its groups in order and each once; the values of a group are added in the order of the
/// log. Cost: one hash look-up an event, one sort of the groups an epoch.
pub(super) fn aggregate<'scope>(
    events: Stream<'scope, u64, Vec<Arrived>>,
    bucket: Duration,
    share: Share,
) -> Stream<'scope, u64, Vec<Partials>> {
    events.unary(Pipeline, "aggregate", move |_capability, _info| {
        let mut table: HashMap<GroupKey, State, FixedState> = HashMap::default();
        move |input, output| {
            input.for_each(|capability, arrived| {
                let mut session = output.session(&capability);
                for epoch in arrived.drain(..) {
                    epoch.batches.iter().for_each(|batch| add(&mut table, batch, bucket, share));
                    let mut groups: Vec<(GroupKey, State)> = table.drain().collect();
                    groups.sort_unstable_by_key(|(key, _)| *key);
                    session.give(Partials { epoch: epoch.epoch, groups: Rc::new(groups) });
                }
            });
        }
    })
}

/// Adds a batch's events to `table`.
fn add(table: &mut HashMap<GroupKey, State, FixedState>, batch: &Arc<MetricsBatch>, bucket: Duration, share: Share) {
    let owned: Vec<bool> = batch.series.iter().map(|s| s.id.owner(share.workers) == share.index).collect();
    for ((index, ts), value) in batch.series_index.iter().zip(&batch.ts).zip(&batch.value) {
        let at = *index as usize;
        if owned[at] {
            let key = GroupKey { series: batch.series[at].id, bucket: ts.floor(bucket) };
            table.entry(key).or_default().add(*value);
        }
    }
}
