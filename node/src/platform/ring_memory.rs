//! Owns the memory of streams' rings: pages mapped for each stream, of which untouched ones cost nothing, and which go back
//! to the system when the stream is over, whatever the program's allocator does with what is freed.

use pilot_stack::RingMemory;
use rustix::io::Result;
use rustix::mm::{MapFlags, ProtFlags, mmap_anonymous, munmap};
use std::ptr::NonNull;

/// Gives pages that are all zero; memory of the allocator where the system gives no pages. Any thread.
pub fn map_rings(len: usize) -> RingMemory {
    match Mapping::new(len) {
        Ok(mapping) => Box::new(mapping),
        Err(_) => Box::new(vec![0; len]),
    }
}

/// Gives the pages that lie wholly in `bytes` back to the system; they are zero afterwards. Any thread.
#[cfg(target_os = "linux")]
pub(super) fn discard_rings(bytes: &mut [u8]) {
    let page = rustix::param::page_size();
    let skip = bytes.as_ptr().align_offset(page);
    let len = bytes.len().saturating_sub(skip) / page * page;
    if let Some(pages) = bytes.get_mut(skip..skip + len).filter(|pages| !pages.is_empty()) {
        // SAFETY: the pages are borrowed for writing, so nothing else reads them; the memory of rings is anonymous and private
        // (`map_rings`), for which the advice means that its bytes are zero when they are read again.
        let _ = unsafe { rustix::mm::madvise(pages.as_mut_ptr().cast(), len, rustix::mm::Advice::LinuxDontNeed) };
    }
}

/// Pages that belong to this value alone.
struct Mapping {
    start: NonNull<u8>,
    len: usize,
}

impl Mapping {
    /// # Errors
    /// For no bytes; when the system has no memory or address space left, or the process too many mappings.
    fn new(len: usize) -> Result<Self> {
        let (protection, flags) = (ProtFlags::READ | ProtFlags::WRITE, MapFlags::PRIVATE);
        // SAFETY: the system chooses the place, so no memory that is in use changes.
        let start = unsafe { mmap_anonymous(std::ptr::null_mut(), len, protection, flags) }?;
        // A huge page would cost 2 MiB for the first byte of a ring.
        #[cfg(target_os = "linux")]
        // SAFETY: the pages were mapped above, and the advice does not change their contents. Without it they work as well.
        let _ = unsafe { rustix::mm::madvise(start, len, rustix::mm::Advice::LinuxNoHugepage) };
        NonNull::new(start.cast()).map(|start| Self { start, len }).ok_or(rustix::io::Errno::NOMEM)
    }
}

impl AsMut<[u8]> for Mapping {
    fn as_mut(&mut self) -> &mut [u8] {
        // SAFETY: the pages are mapped for reading and writing as long as this value lives, zero at first, and borrowed
        // from here only.
        unsafe { std::slice::from_raw_parts_mut(self.start.as_ptr(), self.len) }
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: the pages were mapped with this length, and no reference to them is left.
        let unmapped = unsafe { munmap(self.start.as_ptr().cast(), self.len) };
        debug_assert!(unmapped.is_ok(), "a mapping can be given back");
    }
}

// SAFETY: the pages belong to the value, like those of a `Vec<u8>`.
unsafe impl Send for Mapping {}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;

    /// Resident and virtual bytes of the mapping at this place; `None` when there is none.
    fn sizes_at(start: usize) -> Option<(usize, usize)> {
        let maps = std::fs::read_to_string("/proc/self/smaps").expect("Linux");
        let mut here = false;
        let kib = |line: &str| line.split_whitespace().nth(1).and_then(|n| n.parse::<usize>().ok());
        let mut size = 0;
        for line in maps.lines() {
            let range = line.split_once(' ').and_then(|(range, _)| range.split_once('-'));
            if let Some((from, to)) = range.and_then(|(from, to)| {
                Some((usize::from_str_radix(from, 16).ok()?, usize::from_str_radix(to, 16).ok()?))
            }) {
                here = (from..to).contains(&start);
                size = to - from;
            } else if here && line.starts_with("Rss:") {
                return Some((kib(line)? * 1024, size));
            }
        }
        None
    }

    fn bytes_are_discarded(bytes: &mut [u8]) {
        let len = 1 << 20;
        bytes[..len + 20].fill(7);
        discard_rings(&mut bytes[10..len + 10]);
        assert!((bytes[9], bytes[len + 10]) == (7, 7), "other bytes stay");
        assert!(bytes[len / 4..len / 2].iter().all(|byte| *byte == 0));
        discard_rings(&mut bytes[..100]);
        discard_rings(&mut []);
    }

    #[test]
    fn pages_are_zero_and_cost_nothing_untouched() {
        const LEN: usize = 64 << 20;
        let mut mapping = Mapping::new(LEN).expect("address space");
        let start = mapping.start.as_ptr() as usize;
        let bytes = mapping.as_mut();
        assert!(bytes.len() == LEN && bytes[..4096].iter().chain(&bytes[LEN - 4096..]).all(|byte| *byte == 0));
        bytes[LEN / 2] = 7;
        let (resident, size) = sizes_at(start).expect("mapped");
        // Neighbours with the same flags are shown as one; streams of other tests may be there.
        assert!(resident < size / 2, "{resident} of {size} bytes");
        bytes_are_discarded(&mut mapping.as_mut()[1..LEN - 1]);
        assert!(sizes_at(start).is_some_and(|(now, _)| now < resident + (1 << 19)), "pages were given back");
        drop(mapping);
        assert!(Mapping::new(0).is_err() && Mapping::new(usize::MAX / 2).is_err());
        assert_eq!(map_rings(0).as_mut().as_mut().len(), 0);
    }
}
