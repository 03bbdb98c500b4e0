//! What only the system's own page tables tell.

use super::userfault::{Userfault, userfault};
use super::{HostBackend, HostConfig, HostMoves, HostPage, HostReservation, sys};
use crate::backend::{Access, Backend as _, ReserveSpec, Staging as _};

const PAGE: u64 = 2 << 20;
const PAGE_LEN: usize = 2 << 20;

struct Subject {
    userfault: &'static Userfault,
    backend: HostBackend,
    reservation: HostReservation,
}

impl Subject {
    /// Nothing where the system has not what this is about.
    fn new() -> Option<Self> {
        let backend =
            HostBackend::with_config(HostConfig { moves: HostMoves::Pages, ..HostConfig::default() });
        let spec = ReserveSpec { bytes: 64 * PAGE, page_bytes: PAGE, expected_pages: 8 };
        let reservation = backend.reserve(spec).unwrap();
        let subject = Self { userfault: userfault()?, backend, reservation };
        let page = subject.backend.create(PAGE).unwrap();
        subject.map(0, page);
        let is_huge = subject.is_huge(0);
        drop(subject.unmap(0));
        is_huge.then_some(subject)
    }

    fn address(&self, place: u64) -> usize {
        usize::try_from(self.backend.base_address(&self.reservation) + place * PAGE).unwrap()
    }

    fn is_huge(&self, place: u64) -> bool {
        self.userfault.is_huge(self.address(place), PAGE_LEN)
    }

    fn map(&self, place: u64, page: HostPage) {
        self.backend.map(&self.reservation, place * PAGE, page).map_err(|refused| refused.error).unwrap();
        let range = place * PAGE..(place + 1) * PAGE;
        self.backend.set_access(&self.reservation, range, Access::ReadWrite).unwrap();
    }

    fn unmap(&self, place: u64) -> HostPage {
        self.backend.unmap(&self.reservation, place * PAGE).unwrap()
    }

    fn fill(&self, place: u64, value: u8) {
        let range = place * PAGE..(place + 1) * PAGE;
        let mut staging = self.backend.stage(&self.reservation, range).unwrap();
        staging.bytes_mut().fill(value);
        self.backend.submit(&self.reservation, staging).unwrap();
    }

    fn holds(&self, place: u64, value: u8) -> bool {
        let mut out = vec![0; PAGE_LEN];
        self.backend.read(&self.reservation, place * PAGE, &mut out).unwrap();
        out.iter().all(|&byte| byte == value)
    }

    /// Has a page lie in OS pages, as where the system had no huge one.
    fn split(&self, place: u64) {
        let scratch = sys::Range::new(4096, 4096, sys::Purpose::Touch { huge: false }).unwrap();
        // SAFETY: the scratch range is the test's own, and so is the page, which nobody reads meanwhile.
        unsafe { self.userfault.register(scratch.start(), 4096) }.unwrap();
        for (from, to) in [(self.address(place), scratch.start()), (scratch.start(), self.address(place))] {
            // SAFETY: as above.
            unsafe { self.userfault.move_pages(from, to, 4096) }.unwrap();
        }
        assert!(!self.is_huge(place));
    }
}

#[test]
fn a_page_that_is_not_huge_does_not_make_others_so() {
    let Some(subject) = Subject::new() else { return eprintln!("skipped: no huge pages that move here") };
    let [small, first, second] = [(); 3].map(|()| subject.backend.create(PAGE).unwrap());
    subject.map(0, small);
    subject.fill(0, 1);
    subject.split(0);
    subject.map(1, first);
    subject.fill(1, 2);
    subject.map(2, second);
    subject.fill(2, 3);
    assert!(subject.is_huge(1) && subject.is_huge(2));

    // To where it was, and left a table.
    let (small, first) = (subject.unmap(0), subject.unmap(1));
    subject.map(3, small);
    subject.map(0, first);
    assert!(subject.is_huge(0) && !subject.is_huge(3));
    // To where it lingers: it is displaced, and the table stays behind.
    let (small, second) = (subject.unmap(3), subject.unmap(2));
    subject.map(3, second);
    assert!(subject.is_huge(3));
    // To where it was displaced to, and back from there.
    subject.map(5, small);
    assert!(!subject.is_huge(5) && subject.holds(5, 1));
    let (first, fourth) = (subject.unmap(0), subject.backend.create(PAGE).unwrap());
    subject.map(0, fourth);
    subject.map(6, first);
    assert!(subject.is_huge(6) && subject.holds(6, 2));
    assert!(subject.is_huge(0) && subject.is_huge(3) && subject.holds(3, 3));
}

#[test]
fn a_place_where_a_page_could_not_be_put_is_as_good_as_before() {
    let Some(subject) = Subject::new() else { return eprintln!("skipped: no huge pages that move here") };
    let [first, second] = [(); 2].map(|()| subject.backend.create(PAGE).unwrap());
    subject.map(0, first);
    subject.fill(0, 1);
    let first = subject.unmap(0);
    // Something is at the end of where it goes that nobody knows of.
    let scratch = sys::Range::new(4096, 4096, sys::Purpose::Touch { huge: false }).unwrap();
    let taken = subject.address(7) + PAGE_LEN - 4096;
    // SAFETY: the scratch range is the test's own, and nothing is mapped where its memory goes.
    unsafe { sys::touch(scratch.start(), 4096) };
    // SAFETY: as above.
    unsafe { subject.userfault.move_pages(scratch.start(), taken, 4096) }.unwrap();
    let refused = subject.backend.map(&subject.reservation, 7 * PAGE, first).unwrap_err();
    assert!(refused.error.to_string().contains("userfaultfd move"), "{}", refused.error);
    // SAFETY: as above.
    unsafe { sys::give_back(taken, 4096) }.unwrap();

    subject.map(7, second);
    assert!(subject.is_huge(7), "what failed left a table, which would have split it");
    subject.map(1, refused.page);
    assert!(subject.holds(1, 1));
}
