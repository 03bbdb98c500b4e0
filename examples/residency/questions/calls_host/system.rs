//! Owns the system's calls on a range of addresses, as a program would make them that has no library for it: [`Area`]. Each call does one thing, and nothing else in the time that it takes.
#![allow(unsafe_code, reason = "the system's calls are what is measured")]

use std::os::fd::OwnedFd;
use std::ptr::{self, NonNull};

use rustix::fs::{FallocateFlags, MemfdFlags, fallocate, memfd_create};
use rustix::mm::{
    Advice, MapFlags, MprotectFlags, MremapFlags, ProtFlags, madvise, mmap, mmap_anonymous, mprotect,
    mremap_fixed, munmap,
};

use crate::suite::Failure;
use crate::userfault::Userfault;

/// What a slot of an [`Area`] is.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Slot {
    Reserved,
    /// Nobody's, until it is reserved again.
    Hole,
    /// Mapped, and no access is set.
    Closed,
    Open,
    /// Registered for OS pages to be moved there, and without memory.
    Waiting,
}

/// Reserved addresses, in slots of one size.
pub(super) struct Area {
    /// The whole mapping, with what was too much for alignment.
    whole: (NonNull<u8>, usize),
    /// Where the first slot lies in it.
    start: usize,
    slot_bytes: usize,
    slots: Vec<Slot>,
}

/// Memory without an address.
pub(super) struct MemoryFile(OwnedFd);

impl MemoryFile {
    /// Takes all of its memory now.
    pub(super) fn new(bytes: usize) -> Result<Self, Failure> {
        let file = memfd_create("residency", MemfdFlags::CLOEXEC)?;
        fallocate(&file, FallocateFlags::empty(), 0, bytes as u64)?;
        Ok(Self(file))
    }
}

/// Addresses without memory, and nothing else in them.
const RESERVED: MapFlags = MapFlags::PRIVATE.union(MapFlags::NORESERVE);

impl Area {
    /// Reserves slots that begin at multiples of `align`, a power of two.
    pub(super) fn reserve(slots: usize, slot_bytes: usize, align: usize) -> Result<Self, Failure> {
        let bytes = slots.checked_mul(slot_bytes).and_then(|bytes| bytes.checked_add(align));
        let bytes = bytes.ok_or("more addresses than there are")?;
        // SAFETY: no address is given, so that no mapping is replaced.
        let base = unsafe { mmap_anonymous(ptr::null_mut(), bytes, ProtFlags::empty(), RESERVED) }?;
        let base = NonNull::new(base.cast::<u8>()).ok_or("the system gave the address 0")?;
        let start = base.as_ptr().addr().next_multiple_of(align) - base.as_ptr().addr();
        Ok(Self { whole: (base, bytes), start, slot_bytes, slots: vec![Slot::Reserved; slots] })
    }

    /// Maps all of its slots for reading and writing, in one mapping, and lets OS pages be moved there.
    pub(super) fn register(&mut self, userfault: &Userfault, huge: bool) -> Result<(), Failure> {
        if self.slots.iter().any(|slot| *slot != Slot::Reserved) {
            return Err("only an area where nothing is can be registered".into());
        }
        let (at, bytes) = (self.address(0), self.slots.len() * self.slot_bytes);
        let (protection, flags) = (ProtFlags::READ | ProtFlags::WRITE, RESERVED | MapFlags::FIXED);
        // SAFETY: all slots are reserved by this area, and nothing lives there.
        unsafe { mmap_anonymous(at.cast(), bytes, protection, flags) }?;
        let advice = if huge { Advice::LinuxHugepage } else { Advice::LinuxNoHugepage };
        // SAFETY: the mapping just made.
        unsafe { madvise(at.cast(), bytes, advice) }?;
        // SAFETY: as above, and nobody reads what is not there: see `check`.
        unsafe { userfault.register(at, bytes) }?;
        self.slots.fill(Slot::Waiting);
        Ok(())
    }

    /// Moves the OS pages of a slot to one of a registered area, this one or another; what they leave is without memory.
    pub(super) fn move_pages(
        &mut self,
        from: usize,
        to: usize,
        userfault: &Userfault,
    ) -> Result<(), Failure> {
        let (old, new) = (self.check(from, &[Slot::Open])?, self.check(to, &[Slot::Waiting])?);
        // SAFETY: both are this area's, different ones as they are in different states, and nothing lives in the second.
        unsafe { userfault.move_pages(old, new, self.slot_bytes) }?;
        self.slots[to] = Slot::Open;
        self.slots[from] = Slot::Waiting;
        Ok(())
    }

    /// The same from another area, which has no mapping there afterwards that anything is moved to.
    pub(super) fn take_pages(
        &mut self,
        other: &mut Self,
        from: usize,
        to: usize,
        userfault: &Userfault,
    ) -> Result<(), Failure> {
        if other.slot_bytes != self.slot_bytes {
            return Err("the slots of two areas differ in size".into());
        }
        let (old, new) = (other.check(from, &[Slot::Open])?, self.check(to, &[Slot::Waiting])?);
        // SAFETY: each is its area's own, and nothing lives in the second.
        unsafe { userfault.move_pages(old, new, self.slot_bytes) }?;
        self.slots[to] = Slot::Open;
        other.slots[from] = Slot::Closed;
        Ok(())
    }

    /// The address of a slot. Lies in the whole mapping, as the slots do.
    fn address(&self, slot: usize) -> *mut u8 {
        self.whole.0.as_ptr().wrapping_add(self.start + slot * self.slot_bytes)
    }

    fn check(&self, slot: usize, is: &[Slot]) -> Result<*mut u8, Failure> {
        match self.slots.get(slot) {
            Some(found) if is.contains(found) => Ok(self.address(slot)),
            _ => Err(format!("slot {slot} of {} is not what the call is for", self.slots.len()).into()),
        }
    }

    /// Puts new memory there, with `MAP_FIXED`: it is taken when it is touched.
    pub(super) fn map(&mut self, slot: usize) -> Result<(), Failure> {
        let at = self.check(slot, &[Slot::Reserved])?;
        let (protection, flags) = (ProtFlags::READ | ProtFlags::WRITE, RESERVED | MapFlags::FIXED);
        // SAFETY: `check` says that the addresses are reserved by this area, and that nothing lives there.
        unsafe { mmap_anonymous(at.cast(), self.slot_bytes, protection, flags) }?;
        self.slots[slot] = Slot::Open;
        Ok(())
    }

    /// Puts the memory of a file there, with `MAP_FIXED`, without access.
    pub(super) fn map_file(&mut self, slot: usize, file: &MemoryFile) -> Result<(), Failure> {
        let at = self.check(slot, &[Slot::Reserved])?;
        let flags = MapFlags::SHARED | MapFlags::FIXED;
        // SAFETY: as in `map`; the file is as long as a slot, and nobody shortens it.
        unsafe { mmap(at.cast(), self.slot_bytes, ProtFlags::empty(), flags, &file.0, 0) }?;
        self.slots[slot] = Slot::Closed;
        Ok(())
    }

    /// Lets it be read and written, with `mprotect`.
    pub(super) fn open(&mut self, slot: usize) -> Result<(), Failure> {
        let at = self.check(slot, &[Slot::Closed])?;
        // SAFETY: `check` says that it is a mapping of this area.
        unsafe { mprotect(at.cast(), self.slot_bytes, MprotectFlags::READ | MprotectFlags::WRITE) }?;
        self.slots[slot] = Slot::Open;
        Ok(())
    }

    /// Has the system use huge pages for it, or not.
    pub(super) fn want_huge(&mut self, slot: usize, huge: bool) -> Result<(), Failure> {
        self.advise(slot, if huge { Advice::LinuxHugepage } else { Advice::LinuxNoHugepage })
    }

    /// Takes memory for all of it.
    pub(super) fn populate(&mut self, slot: usize) -> Result<(), Failure> {
        self.advise(slot, Advice::LinuxPopulateWrite)
    }

    /// Gives its memory back; it is zero afterwards.
    pub(super) fn give_back(&mut self, slot: usize) -> Result<(), Failure> {
        self.advise(slot, Advice::LinuxDontNeed)
    }

    fn advise(&mut self, slot: usize, advice: Advice) -> Result<(), Failure> {
        let at = self.check(slot, &[Slot::Open])?;
        // SAFETY: `check` says that it is a mapping of this area; no reference into it lives while the area is borrowed exclusively.
        Ok(unsafe { madvise(at.cast(), self.slot_bytes, advice) }?)
    }

    /// Moves the memory of one slot to another, with `MREMAP_FIXED`, and leaves a hole, which has to be reserved again.
    pub(super) fn relocate(&mut self, from: usize, to: usize) -> Result<(), Failure> {
        let (old, new) = (self.check(from, &[Slot::Open])?, self.check(to, &[Slot::Reserved])?);
        let bytes = self.slot_bytes;
        // SAFETY: both are this area's, different ones as they are in different states, and nothing lives in the second.
        unsafe { mremap_fixed(old.cast(), bytes, bytes, MremapFlags::MAYMOVE, new.cast()) }?;
        self.slots[to] = Slot::Open;
        self.slots[from] = Slot::Hole;
        Ok(())
    }

    /// Puts reserved addresses in the place of whatever is there, with `MAP_FIXED`.
    pub(super) fn reserve_again(&mut self, slot: usize) -> Result<(), Failure> {
        let at = self.check(slot, &[Slot::Hole, Slot::Closed, Slot::Open])?;
        // SAFETY: `check` says that the addresses are this area's; no thread of this program maps anything while a hole is open, and no reference into the mapping lives.
        unsafe {
            mmap_anonymous(at.cast(), self.slot_bytes, ProtFlags::empty(), RESERVED | MapFlags::FIXED)
        }?;
        self.slots[slot] = Slot::Reserved;
        Ok(())
    }

    /// Writes the first word.
    pub(super) fn write(&mut self, slot: usize, word: u64) -> Result<(), Failure> {
        let at = self.check(slot, &[Slot::Open])?;
        // SAFETY: mapped for writing, a slot is at least an OS page, and it is borrowed exclusively.
        unsafe { at.cast::<[u8; 8]>().write(word.to_ne_bytes()) };
        Ok(())
    }

    /// Reads the first word.
    pub(super) fn read(&self, slot: usize) -> Result<u64, Failure> {
        let at = self.check(slot, &[Slot::Open])?;
        // SAFETY: mapped for reading, and a slot is at least an OS page.
        Ok(u64::from_ne_bytes(unsafe { at.cast::<[u8; 8]>().read() }))
    }
}

impl Drop for Area {
    fn drop(&mut self) {
        let (base, bytes) = self.whole;
        // SAFETY: all of it is this area's, and nothing refers to it any more.
        let _ = unsafe { munmap(base.as_ptr().cast(), bytes) };
    }
}
