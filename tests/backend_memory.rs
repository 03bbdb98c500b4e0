//! Memory that the host backend gave back is really gone, and a reservation of any size really costs nothing. One test alone, since it measures the
//! memory of the whole process.

use vastgrid::backend::{Access, Backend, Checked, HostBackend, HostConfig, HostMoves, ReserveSpec, Staging};

/// Memory of this process that is really there, counted page by page by the kernel.
fn rss_bytes() -> u64 {
    let rollup = std::fs::read_to_string("/proc/self/smaps_rollup").unwrap();
    let line = rollup.lines().find(|line| line.starts_with("Rss:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() * 1024
}

fn map<B: Backend>(b: &B, r: &B::Reservation, offset: u64, page: B::Page, page_bytes: u64) {
    b.map(r, offset, page).map_err(|refused| refused.error).unwrap();
    b.set_access(r, offset..offset + page_bytes, Access::ReadWrite).unwrap();
    let mut staging = b.stage(r, offset..offset + page_bytes).unwrap();
    staging.bytes_mut().fill(1);
    let ticket = b.submit(r, staging).unwrap();
    b.wait(ticket).unwrap();
}

fn memory_comes_back<B: Backend>(b: &B, page_bytes: u64) {
    let total: u64 = 32 << 20;
    let pages = total / page_bytes;
    let spec = ReserveSpec { bytes: 1 << 46, page_bytes, expected_pages: pages };
    let r = b.reserve(spec).unwrap();
    let place = |i: u64| i * (spec.bytes / pages);
    let before = rss_bytes();
    let grown = || rss_bytes().saturating_sub(before);
    // The books of a page take a few hundred bytes, and pages this far apart a page table each: 4 KiB, not counted as resident.
    let books = pages * 1024 + (1 << 20);
    for i in 0..pages {
        map(b, &r, place(i), b.create(page_bytes).unwrap(), page_bytes);
    }
    let full = grown();
    assert!((total..total + books).contains(&full), "{full} bytes for {total}");
    for i in 0..pages {
        let page = b.unmap(&r, place(i)).unwrap();
        map(b, &r, place(i) + page_bytes, page, page_bytes);
    }
    let moved = grown();
    assert!((total..total + books).contains(&moved), "{moved} bytes after moving {total}");
    for i in 0..pages / 2 {
        b.destroy(b.unmap(&r, place(i) + page_bytes).unwrap()).unwrap();
    }
    let half = grown();
    assert!(half <= total / 2 + books, "{half} of {total} bytes are still there after half was destroyed");
    for i in pages / 2..pages * 3 / 4 {
        drop(b.unmap(&r, place(i) + page_bytes).unwrap());
    }
    let quarter = grown();
    assert!(
        quarter <= total / 4 + books,
        "{quarter} of {total} bytes are still there after three quarters were dropped"
    );
    drop(r);
    let none = grown();
    assert!(none <= books, "{none} of {total} bytes are still there after everything is gone");
}

/// What the tables take by which the system finds this process' memory.
fn page_table_bytes() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("VmPTE:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() * 1024
}

/// A few pages that go far leave a table for every 2 MiB where they were, which are not kept for ever.
fn page_tables_go<B: Backend>(b: &B, page_bytes: u64) {
    const VISITED: u64 = 12_000;
    let block = page_bytes.max(2 << 20);
    let r = b.reserve(ReserveSpec { bytes: 1 << 38, page_bytes, expected_pages: 4 }).unwrap();
    let before = page_table_bytes();
    let blocks = (1 << 38) / block;
    // Some stay, beside which others come and go.
    let stay: Vec<u64> = (0..blocks).step_by(1 << 10).map(|at| at * block + block - page_bytes).collect();
    for &offset in stay.iter().filter(|_| page_bytes < block) {
        map(b, &r, offset, b.create(page_bytes).unwrap(), page_bytes);
    }
    let mut pages = (0..4).map(|_| b.create(page_bytes).unwrap()).collect::<Vec<_>>();
    // In order, then in none.
    for i in (0..VISITED).chain((0..VISITED).map(|i| i * 7919 % blocks)) {
        let offset = i % blocks * block;
        let page = pages.remove(0);
        map(b, &r, offset, page, page_bytes);
        let mut byte = [0];
        b.read(&r, offset + page_bytes / 2, &mut byte).unwrap();
        assert_eq!(byte, [1], "at {offset}");
        pages.push(b.unmap(&r, offset).unwrap());
    }
    let mut bytes = vec![0; usize::try_from(page_bytes).unwrap()];
    for &offset in stay.iter().filter(|_| page_bytes < block) {
        b.read(&r, offset, &mut bytes).unwrap();
        assert!(bytes.iter().all(|&byte| byte == 1), "at {offset}");
    }
    let left = page_table_bytes().saturating_sub(before);
    // 8 MiB of those that were left last, and one for every GiB. All of them would be 48 MiB and more.
    assert!(left < 12 << 20, "{left} bytes of page tables for pages of {page_bytes}");
}

#[test]
fn memory_that_was_given_back_is_gone() {
    for page_bytes in [4 << 10, 16 << 10, 64 << 10, 1 << 20, 2 << 20, 8 << 20] {
        memory_comes_back(&HostBackend::new(), page_bytes);
        memory_comes_back(&Checked::new(HostBackend::new()), page_bytes);
        for moves in [HostMoves::Pages, HostMoves::Mappings, HostMoves::Nothing] {
            let config = HostConfig { moves, ..HostConfig::default() };
            memory_comes_back(&HostBackend::with_config(config), page_bytes);
            if page_bytes == 64 << 10 || page_bytes == 2 << 20 {
                page_tables_go(&HostBackend::with_config(config), page_bytes);
            }
        }
    }
}
