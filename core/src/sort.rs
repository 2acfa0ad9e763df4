//! Owns the sorting of lists where speed does not matter. The standard library's sorts are 3 to 5 KB of code for each type of
//! element, this one is 0.3 KB.

/// Sorts by `is_less`, in place and without memory of its own (heapsort): n · log n steps in every case. Elements of which
/// neither is less come in any order.
pub fn sort_by<T>(items: &mut [T], is_less: impl Fn(&T, &T) -> bool) {
    let len = items.len();
    // The first half of the steps makes a heap of all items, the others move its largest item behind it.
    for step in (0..len + len / 2).rev() {
        let (root, heap) = if step < len {
            items.swap(0, step);
            (0, step)
        } else {
            (step - len, len)
        };
        sift_down(&mut items[..heap], root, &is_less);
    }
    debug_assert!(items.windows(2).all(|pair| !is_less(&pair[1], &pair[0])), "is_less is an order");
}

/// Moves an item down until none below it is larger.
fn sift_down<T>(heap: &mut [T], mut at: usize, is_less: &impl Fn(&T, &T) -> bool) {
    loop {
        let mut child = 2 * at + 1;
        if child + 1 < heap.len() && is_less(&heap[child], &heap[child + 1]) {
            child += 1;
        }
        if child >= heap.len() || !is_less(&heap[at], &heap[child]) {
            return;
        }
        heap.swap(at, child);
        at = child;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rng::Rng;
    use alloc::vec::Vec;

    #[test]
    fn sorts_as_the_standard_library_does() {
        let mut rng = Rng::new([7; 32]);
        for len in (0..200).chain([10_000]) {
            let range = rng.below(len as u64 * 2 + 1) + 1;
            let mut items: Vec<u64> = (0..len).map(|_| rng.below(range)).collect();
            let mut expected = items.clone();
            expected.sort_unstable();
            sort_by(&mut items, |a, b| a < b);
            assert_eq!(items, expected);
            expected.reverse();
            sort_by(&mut items, |a, b| a > b);
            assert_eq!(items, expected, "a sorted list");
        }
    }
}
