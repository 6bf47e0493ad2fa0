//! `coarsen`: partial states of fine buckets to those of coarse ones, without another look at an event.

use std::rc::Rc;

use streamgauge_schemas::{Duration, GroupKey, State};
use timely::dataflow::Stream;
use timely::dataflow::channels::pact::Pipeline;
use timely::dataflow::operators::generic::Operator;

use super::Partials;

/// Merges adjacent fine groups that fall into one coarse bucket.
///
/// # Contract
///
/// The input's groups are ordered by (series, bucket), and every fine bucket lies in one coarse bucket; so equal coarse
/// groups are neighbours, and the output is ordered again. Cost: linear in the fine groups, no hashing.
pub(super) fn coarsen<'scope>(
    finer: Stream<'scope, u64, Vec<Partials>>,
    bucket: Duration,
) -> Stream<'scope, u64, Vec<Partials>> {
    finer.unary(Pipeline, "coarsen", move |_capability, _info| {
        move |input, output| {
            input.for_each(|capability, partials| {
                let mut session = output.session(&capability);
                for fine in partials.drain(..) {
                    let groups = Rc::new(merge_neighbours(&fine.groups, bucket));
                    session.give(Partials { epoch: fine.epoch, groups });
                }
            });
        }
    })
}

fn merge_neighbours(fine: &[(GroupKey, State)], bucket: Duration) -> Vec<(GroupKey, State)> {
    let mut coarse: Vec<(GroupKey, State)> = Vec::new();
    for (key, state) in fine {
        let key = GroupKey { series: key.series, bucket: key.bucket.floor(bucket) };
        match coarse.last_mut() {
            Some((last, merged)) if *last == key => merged.merge(state),
            _ => coarse.push((key, *state)),
        }
    }
    coarse
}
