//! Numbering: which of a batch's items are of one group.

use foldhash::fast::FixedState;
use hashbrown::HashMap;

/// Slots of a table without hashing: so many for each item, or this many at least.
const SLOTS_PER_ITEM: usize = 4;
const SLOTS_MIN: usize = 1_024;
const FREE: u32 = u32::MAX;

/// Numbers pairs of a place and a bucket; it keeps what it needs for that from batch to batch.
#[derive(Default)]
pub(super) struct Numbers {
    table: HashMap<(u32, i64), u32, FixedState>,
    slots: Vec<u32>,
}

impl Numbers {
    /// Per item the number of its group, and the groups in the order of their first items; `places` are below `places_len`,
    /// and `width` is the length of all buckets, if they have one.
    pub(super) fn number(
        &mut self,
        places_len: usize,
        places: &[u32],
        buckets: &[i64],
        width: Option<i64>,
    ) -> (Vec<u32>, Vec<(u32, i64)>) {
        let mut groups: Vec<(u32, i64)> = Vec::new();
        let items = places.iter().zip(buckets);
        let Some((lower, width, count)) = range(places_len, buckets, width) else {
            self.table.clear();
            let number = |(place, bucket): (&u32, &i64)| {
                *self.table.entry((*place, *bucket)).or_insert_with(|| {
                    groups.push((*place, *bucket));
                    groups.len() as u32 - 1
                })
            };
            return (items.map(number).collect(), groups);
        };
        self.slots.clear();
        self.slots.resize(places_len * count, FREE);
        let number = |(place, bucket): (&u32, &i64)| {
            let index = if count == 1 { 0 } else { ((bucket - lower) / width) as usize };
            let slot = &mut self.slots[*place as usize * count + index];
            if *slot == FREE {
                *slot = groups.len() as u32;
                groups.push((*place, *bucket));
            }
            *slot
        };
        (items.map(number).collect(), groups)
    }
}

/// The first bucket, their length and how many there are, when a slot for each place and bucket is little to hold.
fn range(places: usize, buckets: &[i64], width: Option<i64>) -> Option<(i64, i64, usize)> {
    let lower = *buckets.iter().min()?;
    let upper = *buckets.iter().max()?;
    let width = match width {
        Some(width) => width,
        None if lower == upper => 1,
        None => return None,
    };
    let count = usize::try_from(upper.checked_sub(lower)? / width).ok()?.checked_add(1)?;
    let slots = places.checked_mul(count)?;
    (slots <= SLOTS_MIN.max(buckets.len() * SLOTS_PER_ITEM)).then_some((lower, width, count))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_the_same_with_and_without_hashing() {
        let places: Vec<u32> = (0..4_000).map(|item| item * 7 % 50).collect();
        let buckets: Vec<i64> = (0..4_000).map(|item| i64::from(item) / 900 * 60 - 120).collect();
        let mut numbers = Numbers::default();
        let dense = numbers.number(50, &places, &buckets, Some(60));
        assert!(range(50, &buckets, Some(60)).is_some() && range(50, &buckets, None).is_none());
        assert_eq!(dense, numbers.number(50, &places, &buckets, None));
        for ((place, bucket), number) in places.iter().zip(&buckets).zip(&dense.0) {
            assert_eq!(dense.1[*number as usize], (*place, *bucket));
        }
        assert_eq!(numbers.number(50, &[], &[], Some(60)), (vec![], vec![]));
    }

    #[test]
    fn few_events_far_apart_are_hashed() {
        let (places, buckets) = ([0, 0, 1], [i64::MIN / 2 / 60 * 60, i64::MAX / 2 / 60 * 60, 0]);
        assert!(range(2, &buckets, Some(60)).is_none());
        let (numbers, groups) = Numbers::default().number(2, &places, &buckets, Some(60));
        assert_eq!((numbers.as_slice(), groups.len()), (&[0, 1, 2][..], 3));
    }
}
