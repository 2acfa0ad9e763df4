//! Owns the list of faults, which is the page `docs/faults.md`.

const PAGE: &str = include_str!("../../../../docs/faults.md");

/// One row of the page.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Fault {
    pub(crate) name: &'static str,
    pub(crate) fault: &'static str,
    pub(crate) goal: &'static str,
}

/// The rows of all tables of the page.
pub(crate) fn faults() -> Vec<Fault> {
    let cells = |line: &'static str| line.trim_matches('|').split(" | ").map(str::trim).collect::<Vec<_>>();
    let rows = PAGE.lines().filter(|line| line.starts_with("| ")).map(cells);
    let rows = rows.filter_map(|row| <[&str; 3]>::try_from(row).ok()).filter(|[name, ..]| *name != "name");
    rows.map(|[name, fault, goal]| Fault { name, fault, goal }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rows::ROWS;
    use std::collections::BTreeSet;

    #[test]
    fn every_row_of_the_page_has_an_entry_and_every_entry_a_row() {
        let page: Vec<&str> = faults().iter().map(|fault| fault.name).collect();
        let rows: Vec<&str> = ROWS.iter().map(|(name, _)| *name).collect();
        let set = |names: &[&'static str]| names.iter().copied().collect::<BTreeSet<_>>();
        assert_eq!(set(&page), set(&rows));
        assert_eq!((page.len(), rows.len()), (set(&page).len(), set(&rows).len()), "a name stands twice");
    }

    #[test]
    fn the_page_has_every_row_of_the_two_lists_that_it_was_made_from() {
        let known: BTreeSet<&str> = faults().iter().map(|fault| fault.name).collect();
        let strangers = (1..=15).map(|n| format!("S{n}"));
        let time = (1..=7).map(|n| format!("T{n}"));
        let life = (1..=4).map(|n| format!("P{n}"));
        let disks = (1..=16).map(|n| format!("R{n}"));
        for name in strangers.chain(time).chain(life).chain(disks) {
            assert!(known.contains(&name[..]), "{name} is missing");
        }
        assert!(known.len() >= 19 + 42);
    }
}
