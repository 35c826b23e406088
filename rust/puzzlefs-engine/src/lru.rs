//! A map that forgets what was not used for longest once its weight exceeds a limit.

use std::collections::HashMap;
use std::hash::Hash;

/// No entry.
const NONE: usize = usize::MAX;

/// The map; entries form a list from the newest to the oldest use.
pub struct Lru<K, V> {
    places: HashMap<K, usize>,
    entries: Vec<Entry<K, V>>,
    newest: usize,
    oldest: usize,
    weight: usize,
    limit: usize,
}

struct Entry<K, V> {
    key: K,
    value: V,
    weight: usize,
    newer: usize,
    older: usize,
}

impl<K: Copy + Eq + Hash, V: Clone> Lru<K, V> {
    /// Makes an empty map that keeps entries of at most `limit` weight in all.
    pub fn new(limit: usize) -> Self {
        Self {
            places: HashMap::new(),
            entries: Vec::new(),
            newest: NONE,
            oldest: NONE,
            weight: 0,
            limit,
        }
    }

    /// Returns the value of a key, which counts as a use of it.
    pub fn get(&mut self, key: K) -> Option<V> {
        let place = *self.places.get(&key)?;
        if self.newest != place {
            self.unlink(place);
            self.link(place);
        }
        Some(self.entries[place].value.clone())
    }

    /// Adds an entry, or replaces the one of this key. Returns what no longer fits, for the caller to
    /// drop once it holds no lock; an entry heavier than the limit comes straight back.
    pub fn insert(&mut self, key: K, value: V, weight: usize) -> Vec<V> {
        let mut dropped = Vec::new();
        dropped.extend(self.remove(key));
        if weight > self.limit {
            dropped.push(value);
            return dropped;
        }
        while self.weight > self.limit - weight {
            let oldest = self.entries[self.oldest].key;
            dropped.extend(self.remove(oldest));
        }
        let place = self.entries.len();
        self.entries.push(Entry {
            key,
            value,
            weight,
            newer: NONE,
            older: NONE,
        });
        self.places.insert(key, place);
        self.weight += weight;
        self.link(place);
        dropped
    }

    /// Forgets a key; returns its value.
    pub fn remove(&mut self, key: K) -> Option<V> {
        let place = self.places.remove(&key)?;
        self.unlink(place);
        let entry = self.entries.swap_remove(place);
        self.weight -= entry.weight;
        self.moved(place);
        Some(entry.value)
    }

    /// Mends the links to the entry that was moved to `place` from the end, if any was.
    fn moved(&mut self, place: usize) {
        let Some(entry) = self.entries.get(place) else {
            return;
        };
        let (key, newer, older) = (entry.key, entry.newer, entry.older);
        self.places.insert(key, place);
        *self.older_of(newer) = place;
        *self.newer_of(older) = place;
    }

    fn unlink(&mut self, place: usize) {
        let (newer, older) = (self.entries[place].newer, self.entries[place].older);
        *self.older_of(newer) = older;
        *self.newer_of(older) = newer;
    }

    /// Makes an unlinked entry the newest.
    fn link(&mut self, place: usize) {
        let next = self.newest;
        self.entries[place].newer = NONE;
        self.entries[place].older = next;
        *self.newer_of(next) = place;
        self.newest = place;
    }

    /// The link to the entry older than `place`; the list's start stands before its first entry.
    fn older_of(&mut self, place: usize) -> &mut usize {
        if place == NONE {
            &mut self.newest
        } else {
            &mut self.entries[place].older
        }
    }

    /// The link to the entry newer than `place`; the list's end stands after its last entry.
    fn newer_of(&mut self, place: usize) -> &mut usize {
        if place == NONE {
            &mut self.oldest
        } else {
            &mut self.entries[place].newer
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_oldest_use_goes_first() {
        let mut lru = Lru::new(30);
        for key in 1..=3 {
            assert!(lru.insert(key, key * 10, 10).is_empty());
        }
        assert_eq!(lru.get(1), Some(10));
        assert_eq!(lru.insert(4, 40, 10), [20]);
        assert_eq!(lru.insert(5, 50, 20), [30, 10]);
        assert_eq!(lru.insert(6, 60, 31), [60]);
        assert_eq!(lru.insert(5, 51, 5), [50]);
        assert_eq!(
            [1, 2, 3, 4, 5, 6].map(|key| lru.get(key)),
            [None, None, None, Some(40), Some(51), None]
        );
    }

    #[test]
    fn agrees_with_a_simple_model() {
        let mut lru = Lru::new(100);
        let mut model: Vec<(u64, u64)> = Vec::new();
        let mut state = 1u64;
        for value in 0..20_000 {
            state = state
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1);
            let key = (state >> 33) % 40;
            let at = model.iter().position(|entry| entry.0 == key);
            let known = at.map(|at| model.remove(at));
            match state >> 62 {
                0 => assert_eq!(lru.remove(key), known.map(|entry| entry.1)),
                1 => {
                    model.push((key, value));
                    lru.insert(key, value, (key as usize % 7) + 3);
                    while model
                        .iter()
                        .map(|entry| entry.0 as usize % 7 + 3)
                        .sum::<usize>()
                        > 100
                    {
                        model.remove(0);
                    }
                }
                _ => {
                    assert_eq!(lru.get(key), known.map(|entry| entry.1));
                    model.extend(known);
                }
            }
        }
    }
}
