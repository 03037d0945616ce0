//! A set of numbers kept as intervals: the bytes of a file that are in place, the files of a
//! package that are.

use std::collections::BTreeMap;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// Disjoint half-open intervals `[start, end)`; neighbours are merged.
/// Written as JSON pairs: `[[0,10],[20,30]]`.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Intervals {
    ends: BTreeMap<u64, u64>,
}

impl Intervals {
    /// Adds `[start, end)`; an empty or reversed one adds nothing.
    pub fn insert(&mut self, mut start: u64, mut end: u64) {
        if start >= end {
            return;
        }
        if let Some((&before, &before_end)) = self.ends.range(..=start).next_back()
            && before_end >= start
        {
            start = before;
            end = end.max(before_end);
        }
        while let Some((&next, &next_end)) = self.ends.range(start..=end).next() {
            self.ends.remove(&next);
            end = end.max(next_end);
        }
        self.ends.insert(start, end);
    }

    /// Whether `number` is in the set.
    pub fn contains(&self, number: u64) -> bool {
        self.ends
            .range(..=number)
            .next_back()
            .is_some_and(|(_, &end)| number < end)
    }

    /// How many numbers are in the set.
    pub fn total(&self) -> u64 {
        self.iter().map(|(start, end)| end - start).sum()
    }

    pub fn is_empty(&self) -> bool {
        self.ends.is_empty()
    }

    /// Takes one number out.
    pub fn remove(&mut self, number: u64) {
        let Some((&start, &end)) = self.ends.range(..=number).next_back() else {
            return;
        };
        if number < end {
            self.ends.remove(&start);
            self.insert(start, number);
            self.insert(number + 1, end);
        }
    }

    /// What is in both sets.
    pub fn intersection(&self, other: &Intervals) -> Intervals {
        let mut both = Intervals::default();
        for (start, end) in self.iter() {
            let before = other.ends.range(..start).next_back();
            for (&from, &to) in before.into_iter().chain(other.ends.range(start..end)) {
                both.insert(from.max(start), to.min(end));
            }
        }
        both
    }

    /// Removes everything from `limit` on.
    pub fn truncate(&mut self, limit: u64) {
        self.ends.split_off(&limit);
        if let Some((_, end)) = self.ends.iter_mut().next_back() {
            *end = (*end).min(limit);
        }
    }

    /// The intervals in ascending order.
    pub fn iter(&self) -> impl Iterator<Item = (u64, u64)> + '_ {
        self.ends.iter().map(|(&start, &end)| (start, end))
    }

    /// The first interval of `[0, limit)` that is not in the set.
    pub fn first_gap(&self, limit: u64) -> Option<(u64, u64)> {
        let mut start = 0;
        for (from, to) in self.iter() {
            if from > start {
                break;
            }
            start = to;
        }
        let end = self
            .ends
            .range(start..)
            .next()
            .map_or(limit, |(&next, _)| next.min(limit));
        (start < end).then_some((start, end))
    }
}

impl FromIterator<(u64, u64)> for Intervals {
    fn from_iter<T: IntoIterator<Item = (u64, u64)>>(pairs: T) -> Intervals {
        let mut intervals = Intervals::default();
        pairs
            .into_iter()
            .for_each(|(start, end)| intervals.insert(start, end));
        intervals
    }
}

impl Serialize for Intervals {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(self.iter())
    }
}

impl<'de> Deserialize<'de> for Intervals {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Intervals, D::Error> {
        Ok(Vec::<(u64, u64)>::deserialize(deserializer)?
            .into_iter()
            .collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    proptest! {
        #[test]
        fn agrees_with_a_plain_set(pairs in prop::collection::vec((0u64..60, 0u64..60), 0..40), limit in 0u64..70) {
            let mut intervals = Intervals::default();
            let mut set = BTreeSet::new();
            for (start, end) in pairs {
                intervals.insert(start, end);
                set.extend(start..end);
            }
            prop_assert_eq!(intervals.total(), set.len() as u64);
            prop_assert!((0..70).all(|n| intervals.contains(n) == set.contains(&n)));
            let gap = (0..limit).find(|n| !set.contains(n));
            prop_assert_eq!(intervals.first_gap(limit).map(|(start, _)| start), gap);
            if let Some((start, end)) = intervals.first_gap(limit) {
                prop_assert!((start..end).all(|n| !set.contains(&n)));
                prop_assert!(end == limit || set.contains(&end));
            }
            let ordered: Vec<_> = intervals.iter().collect();
            prop_assert!(ordered.windows(2).all(|pair| pair[0].1 < pair[1].0), "neighbours are merged");
            let text = serde_json::to_string(&intervals).unwrap();
            prop_assert_eq!(&serde_json::from_str::<Intervals>(&text).unwrap(), &intervals);
            let other: Intervals = [(limit / 3, limit / 2), (limit, limit + 5)].into_iter().collect();
            let both = intervals.intersection(&other);
            prop_assert!((0..80).all(|n| both.contains(n) == (other.contains(n) && set.contains(&n))));
            prop_assert_eq!(intervals.is_empty(), set.is_empty());
            for number in [limit / 2, 0] {
                intervals.remove(number);
                set.remove(&number);
                prop_assert!((0..70).all(|n| intervals.contains(n) == set.contains(&n)));
            }
            intervals.truncate(limit);
            prop_assert!((0..70).all(|n| intervals.contains(n) == (n < limit && set.contains(&n))));
        }
    }
}
