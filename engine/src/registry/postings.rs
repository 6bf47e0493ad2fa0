//! Which series have a dimension with a value, so that a question about one host does not look at all of them.
//!
//! A chain of series for each pair, found by the pair's hash; pairs of the same hash share a chain, so whoever follows one
//! tests what is found. A series takes 16 bytes here, and each of its dimensions 8, and about 20 for a value that no other series has.

use foldhash::fast::FixedState;
use hashbrown::HashMap;
use std::hash::BuildHasher;
use streamgauge_schemas::{Series, SeriesId};

/// See the module.
#[derive(Default)]
pub(super) struct Postings {
    chains: HashMap<u64, Chain, FixedState>,
    links: Vec<Link>,
    series: Vec<SeriesId>,
}

/// The series of a pair, newest first.
#[derive(Clone, Copy)]
struct Chain {
    newest: u32,
    len: u32,
}

struct Link {
    /// The place of the series.
    series: u32,
    /// The link before, unless this is the first.
    before: u32,
}

impl Postings {
    /// Adds a series, once.
    pub(super) fn add(&mut self, series: &Series) {
        let place = self.series.len() as u32;
        self.series.push(series.id());
        for (key, value) in series.dimensions() {
            let link = self.links.len() as u32;
            let chain = self.chains.entry(hash(key, value)).or_insert(Chain { newest: link, len: 0 });
            self.links.push(Link { series: place, before: chain.newest });
            *chain = Chain { newest: link, len: chain.len + 1 };
        }
    }

    /// Series among which are all that have each of these pairs: those of the pair that fewest have. `None` without a pair.
    pub(super) fn candidates(&self, pairs: &[(String, String)]) -> Option<impl ExactSizeIterator<Item = SeriesId>> {
        let none = Chain { newest: 0, len: 0 };
        let chains = pairs.iter().map(|(key, value)| self.chains.get(&hash(key, value)).copied().unwrap_or(none));
        let Chain { newest, len } = chains.min_by_key(|chain| chain.len)?;
        let mut next = newest;
        Some((0..len).map(move |_| {
            let link = &self.links[next as usize];
            next = link.before;
            self.series[link.series as usize]
        }))
    }
}

fn hash(key: &str, value: &str) -> u64 {
    FixedState::default().hash_one((key, value))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_fewest_are_found_and_none_is_left_out() {
        let mut postings = Postings::default();
        let series = |n: usize| {
            Series::new(
                "cpu",
                vec![("host".to_owned(), format!("h{n}")), ("even".to_owned(), n.is_multiple_of(2).to_string())],
            )
        };
        (0..1_000).for_each(|n| postings.add(&series(n)));
        let pair = |key: &str, value: &str| (key.to_owned(), value.to_owned());
        let found = |pairs: &[(String, String)]| postings.candidates(pairs).map(|found| found.collect::<Vec<_>>());
        assert_eq!(found(&[]), None);
        assert_eq!(found(&[pair("host", "nobody")]), Some(vec![]));
        assert_eq!(found(&[pair("even", "true"), pair("host", "h7")]), Some(vec![series(7).id()]));
        let mut even = found(&[pair("even", "true")]).unwrap_or_default();
        even.reverse();
        assert_eq!(even, (0..1_000).step_by(2).map(|n| series(n).id()).collect::<Vec<_>>());
    }
}
