//! Owns lists of pages in order, [`Lists`]: a page is in one of them or in none, and everything that is done to one takes the same time however long they are.

/// No page.
const NONE: u32 = u32::MAX;

/// `N` lists over pages that are numbers. A list has an old end and a new one.
pub(super) struct Lists<const N: usize> {
    /// Of each page, the next older and the next newer one.
    links: Vec<[u32; 2]>,
    /// Which list each page is in.
    within: Vec<Option<u8>>,
    /// Of each list, the newest page and the oldest.
    ends: [[u32; 2]; N],
    lengths: [usize; N],
}

/// Indices of `links` and `ends`: from a page to an older one, and to a newer one. The way to older pages begins at the newest.
const OLDER: usize = 0;
const NEWER: usize = 1;

impl<const N: usize> Lists<N> {
    /// Lists over so many pages, all of them empty.
    pub(super) fn new(distinct: usize) -> Self {
        Self {
            links: vec![[NONE; 2]; distinct],
            within: vec![None; distinct],
            ends: [[NONE; 2]; N],
            lengths: [0; N],
        }
    }

    /// The list that a page is in.
    pub(super) fn of(&self, page: u32) -> Option<usize> {
        self.within[page as usize].map(usize::from)
    }

    pub(super) fn len(&self, list: usize) -> usize {
        self.lengths[list]
    }

    /// The oldest page of a list.
    pub(super) fn oldest(&self, list: usize) -> Option<u32> {
        some(self.ends[list][NEWER])
    }

    /// The next newer page of the same list.
    pub(super) fn newer(&self, page: u32) -> Option<u32> {
        some(self.links[page as usize][NEWER])
    }

    /// Puts a page at the new end of a list, from wherever it is.
    pub(super) fn push(&mut self, list: usize, page: u32) {
        self.remove(page);
        let before = self.ends[list][OLDER];
        self.links[page as usize] = [before, NONE];
        self.join(list, before, page);
        self.join(list, page, NONE);
        self.within[page as usize] = u8::try_from(list).ok();
        self.lengths[list] += 1;
    }

    /// Takes a page out of its list.
    pub(super) fn remove(&mut self, page: u32) {
        let Some(list) = self.within[page as usize].take() else { return };
        let [older, newer] = self.links[page as usize];
        self.join(usize::from(list), older, newer);
        self.lengths[usize::from(list)] -= 1;
    }

    /// Takes the oldest page out of a list.
    pub(super) fn pop(&mut self, list: usize) -> Option<u32> {
        let page = self.oldest(list)?;
        self.remove(page);
        Some(page)
    }

    /// Makes two pages neighbours; one that is none stands for an end.
    fn join(&mut self, list: usize, older: u32, newer: u32) {
        match some(older) {
            Some(page) => self.links[page as usize][NEWER] = newer,
            None => self.ends[list][NEWER] = newer,
        }
        match some(newer) {
            Some(page) => self.links[page as usize][OLDER] = older,
            None => self.ends[list][OLDER] = older,
        }
    }
}

fn some(page: u32) -> Option<u32> {
    (page != NONE).then_some(page)
}
