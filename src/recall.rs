//! Owns [`RecallMap`]: a hash map that is mostly asked for the key that it was asked for last. Pages come in batches, in order, and what is kept of neighbours is kept together.

use std::cell::Cell;
use std::hash::Hash;

use foldhash::HashMap;

/// A map that finds the key which it found last without hashing it.
#[derive(Debug)]
pub(crate) struct RecallMap<K, V> {
    entries: Vec<(K, V)>,
    /// Where each key's entry is.
    places: HashMap<K, usize>,
    /// Where the key is that was found last.
    last: Cell<usize>,
}

impl<K, V> Default for RecallMap<K, V> {
    fn default() -> Self {
        Self { entries: Vec::new(), places: HashMap::default(), last: Cell::new(0) }
    }
}

impl<K: Copy + Eq + Hash, V> RecallMap<K, V> {
    #[cfg(test)]
    pub(crate) fn len(&self) -> usize {
        self.entries.len()
    }

    #[inline]
    pub(crate) fn get(&self, key: K) -> Option<&V> {
        let place = self.find(key)?;
        self.entries.get(place).map(|(_, value)| value)
    }

    #[inline]
    pub(crate) fn get_mut(&mut self, key: K) -> Option<&mut V> {
        let place = self.find(key)?;
        self.entries.get_mut(place).map(|(_, value)| value)
    }

    /// The value of the key, made if there is none.
    #[inline]
    pub(crate) fn get_or_insert_with(&mut self, key: K, make: impl FnOnce() -> V) -> &mut V {
        let place = self.find(key).unwrap_or_else(|| {
            self.entries.push((key, make()));
            self.places.insert(key, self.entries.len() - 1);
            self.entries.len() - 1
        });
        &mut self.entries[place].1
    }

    /// Enters a value, in the place of the one that the key had.
    pub(crate) fn insert(&mut self, key: K, value: V) {
        match self.get_mut(key) {
            Some(old) => *old = value,
            None => _ = self.get_or_insert_with(key, || value),
        }
    }

    pub(crate) fn remove(&mut self, key: K) -> Option<V> {
        let place = self.places.remove(&key)?;
        let (_, value) = self.entries.swap_remove(place);
        if let Some((moved, _)) = self.entries.get(place) {
            self.places.insert(*moved, place);
        }
        Some(value)
    }

    /// All values, in no order.
    pub(crate) fn values(&self) -> impl Iterator<Item = &V> {
        self.entries.iter().map(|(_, value)| value)
    }

    /// All entries, in no order.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (K, &V)> {
        self.entries.iter().map(|(key, value)| (*key, value))
    }

    #[inline]
    fn find(&self, key: K) -> Option<usize> {
        let last = self.last.get();
        if self.entries.get(last).is_some_and(|(of, _)| *of == key) {
            return Some(last);
        }
        let place = *self.places.get(&key)?;
        self.last.set(place);
        Some(place)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn is_a_map(steps in prop::collection::vec((0u8..4, 0u8..12, any::<u32>()), 0..400)) {
            let (mut map, mut plain) = (RecallMap::default(), HashMap::new());
            for (step, key, value) in steps {
                match step {
                    0 => prop_assert_eq!(map.get(key), plain.get(&key)),
                    1 => prop_assert_eq!(map.get_or_insert_with(key, || value), plain.entry(key).or_insert(value)),
                    2 => prop_assert_eq!(map.remove(key), plain.remove(&key)),
                    _ => {
                        if let Some(old) = map.get_mut(key) {
                            *old = value;
                        }
                        plain.entry(key).and_modify(|old| *old = value);
                    }
                }
                prop_assert_eq!(map.len(), plain.len());
            }
            prop_assert_eq!(map.iter().map(|(key, value)| (key, *value)).collect::<HashMap<_, _>>(), plain);
        }
    }
}
