//! Owns what threads remember of the bricks and groups that their rays met: [`Table`], a small table of the latest. A brick is looked up once for all rays of a block of pixels.

use std::collections::HashSet;
use std::sync::{Arc, Mutex, PoisonError};

use super::held::Held;
use crate::layout::TileCoord;

/// The bricks that any thread's rays met. Noted when a thread looks a brick up, which is seldom.
#[derive(Debug, Default)]
pub(crate) struct Met {
    tiles: Mutex<HashSet<TileCoord>>,
}

impl Met {
    pub(crate) fn note(&self, tile: TileCoord) {
        self.tiles.lock().unwrap_or_else(PoisonError::into_inner).insert(tile);
    }

    /// All of them, in order.
    pub(crate) fn into_tiles(self) -> Vec<TileCoord> {
        let mut tiles: Vec<_> =
            self.tiles.into_inner().unwrap_or_else(PoisonError::into_inner).into_iter().collect();
        tiles.sort_unstable();
        tiles
    }
}

/// What a thread met last.
#[derive(Debug)]
pub(crate) struct Table<'a, T> {
    pub(crate) bricks: Latest<Arc<Held<'a, T>>, 8>,
    pub(crate) groups: Groups<'a, T>,
}

/// Groups by their place among groups; `None` for one whose bricks are visited one by one.
pub(crate) type Groups<'a, T> = Latest<Option<Arc<Held<'a, T>>>, 4>;

impl<T> Table<'_, T> {
    pub(crate) fn new() -> Self {
        Self { bricks: Latest::new(), groups: Latest::new() }
    }
}

/// What was found last, for `EDGE` places along each axis, a power of two.
#[derive(Debug)]
pub(crate) struct Latest<F, const EDGE: i64> {
    /// Places side by side with what was found there, so that finding it again touches little memory.
    slots: Vec<([i64; 3], Option<F>)>,
}

impl<F, const EDGE: i64> Latest<F, EDGE> {
    pub(crate) fn new() -> Self {
        Self { slots: (0..EDGE.pow(3)).map(|_| ([0; 3], None)).collect() }
    }

    fn take(&mut self) -> Self {
        Self { slots: std::mem::take(&mut self.slots) }
    }

    /// What is known of the place, or found now.
    #[inline(always)]
    pub(crate) fn get(&mut self, place: [i64; 3], find: impl FnOnce() -> F) -> &mut F {
        let [x, y, z] = place.map(|p| p & (EDGE - 1));
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "less than EDGE cubed")]
        let (of, slot) = &mut self.slots[(x + EDGE * (y + EDGE * z)) as usize];
        // Not `!=`, which compares them through memory.
        if (of[0] ^ place[0]) | (of[1] ^ place[1]) | (of[2] ^ place[2]) != 0 {
            (*of, *slot) = (place, None);
        }
        slot.get_or_insert_with(find)
    }
}

/// The tables of a picture's threads: each takes one for a while, and so finds again what another one looked up.
#[derive(Debug)]
pub(crate) struct Tables<'a, T> {
    unused: Mutex<Vec<Table<'a, T>>>,
}

/// A table in use.
#[derive(Debug)]
pub(crate) struct InUse<'r, 'a, T> {
    tables: &'r Tables<'a, T>,
    pub(crate) table: Table<'a, T>,
}

impl<'a, T> Tables<'a, T> {
    pub(crate) fn new() -> Self {
        Self { unused: Mutex::new(Vec::new()) }
    }

    pub(crate) fn take(&self) -> InUse<'_, 'a, T> {
        let unused = self.unused.lock().unwrap_or_else(PoisonError::into_inner).pop();
        InUse { tables: self, table: unused.unwrap_or_else(Table::new) }
    }
}

impl<T> Drop for InUse<'_, '_, T> {
    fn drop(&mut self) {
        let table = Table { bricks: self.table.bricks.take(), groups: self.table.groups.take() };
        self.tables.unused.lock().unwrap_or_else(PoisonError::into_inner).push(table);
    }
}
