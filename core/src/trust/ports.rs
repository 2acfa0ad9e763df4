//! Owns sets of ports, as grants have them, and their texts: service names, numbers and ranges.

use crate::codec::{Malformed, Put as _, Reader};
use crate::sort::sort_by;
use alloc::string::{String, ToString as _};
use alloc::vec::Vec;
use core::fmt;

/// The services that have a name in grants, with their ports. Source: `docs/services.md`.
const SERVICES: [(&str, u16); 4] = [("echo", 7), ("stdio", 1000), ("messages", 1001), ("events", 1002)];
/// Longest run of ports that is written one by one.
const SINGLE_RUN_MAX: u16 = 3;
/// In the form on disk and in messages, the places of the count that mean every port, and a list of ranges.
const ALL: u8 = u8::MAX;
const RANGES: u8 = u8::MAX - 1;

/// The ports of ours that a peer may reach.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ports {
    /// Every port.
    All,
    /// The ports of these ranges, at most [`Ports::LIST_MAX`], first and last port of each. In order and apart from each
    /// other: equal sets are equal values.
    List(Vec<(u16, u16)>),
}

impl Ports {
    /// Most ranges of a set; one port is a range of its own.
    pub const LIST_MAX: usize = 64;

    /// No port.
    pub const NONE: Self = Self::List(Vec::new());

    /// The set of one port.
    pub fn one(port: u16) -> Self {
        Self::List([(port, port)].into())
    }

    /// True when `port` is in the set.
    pub fn allow(&self, port: u16) -> bool {
        self.ranges().iter().any(|(first, last)| (*first..=*last).contains(&port))
    }

    /// True for the empty set.
    pub fn is_empty(&self) -> bool {
        self.ranges().is_empty()
    }

    /// True when every port of `other` is in this set.
    pub fn covers(&self, other: &Self) -> bool {
        let is_within = |(first, last): &(u16, u16)| self.ranges().iter().any(|(f, l)| f <= first && last <= l);
        other.ranges().iter().all(is_within)
    }

    /// The ports of either set.
    ///
    /// # Errors
    /// `None` when that takes more than [`Ports::LIST_MAX`] ranges.
    pub fn with(&self, other: &Self) -> Option<Self> {
        Self::from_ranges([self.ranges(), other.ranges()].concat())
    }

    /// The ports of this set that are not in the other.
    ///
    /// # Errors
    /// `None` when that takes more than [`Ports::LIST_MAX`] ranges.
    pub fn without(&self, other: &Self) -> Option<Self> {
        let mut left = self.ranges().to_vec();
        for (first, last) in other.ranges() {
            let cut = left.into_iter().flat_map(|(f, l)| {
                let below = (f < *first).then(|| (f, l.min(first - 1)));
                let above = (l > *last).then(|| (f.max(last + 1), l));
                [below, above].into_iter().flatten()
            });
            left = cut.collect();
        }
        Self::from_ranges(left)
    }

    /// The services by name, then the other ports, as people read them: `messages`, `80`, `8000-8010`.
    pub fn names(&self) -> Vec<String> {
        match self {
            Self::All => [String::from("all")].into(),
            Self::List(_) => {
                let named = SERVICES.iter().filter(|(_, port)| self.allow(*port));
                let mut out: Vec<String> = named.map(|(name, _)| String::from(*name)).collect();
                // Removing single ports can only fail for more ranges than a set has.
                let rest = SERVICES.iter().try_fold(self.clone(), |set, (_, port)| set.without(&Self::one(*port)));
                out.extend(rest.unwrap_or_else(|| self.clone()).words());
                out
            }
        }
    }

    /// The names of the services that are not in the set.
    pub fn withheld(&self) -> Vec<String> {
        SERVICES.iter().filter(|(_, port)| !self.allow(*port)).map(|(name, _)| String::from(*name)).collect()
    }

    /// The service of a port, or the port's number.
    pub fn name_of(port: u16) -> String {
        let named = SERVICES.iter().find(|(_, p)| *p == port);
        named.map_or_else(|| port.to_string(), |(name, _)| String::from(*name))
    }

    /// The number of ranges.
    pub(super) fn count(&self) -> usize {
        self.ranges().len()
    }

    fn ranges(&self) -> &[(u16, u16)] {
        match self {
            Self::All => &[(0, u16::MAX)],
            Self::List(list) => list,
        }
    }

    /// The set of these ranges, in any order.
    fn from_ranges(mut ranges: Vec<(u16, u16)>) -> Option<Self> {
        sort_by(&mut ranges, |a, b| a < b);
        let mut list: Vec<(u16, u16)> = Vec::new();
        for (first, last) in ranges {
            match list.last_mut() {
                Some(before) if first <= before.1.saturating_add(1) => before.1 = before.1.max(last),
                _ => list.push((first, last)),
            }
        }
        match list.as_slice() {
            [(0 | 1, u16::MAX)] => Some(Self::All),
            _ => (list.len() <= Self::LIST_MAX).then_some(Self::List(list)),
        }
    }

    /// Numbers and ranges, each as text.
    fn words(&self) -> impl Iterator<Item = String> {
        self.ranges().iter().flat_map(|(first, last)| {
            let is_short = last - first < SINGLE_RUN_MAX;
            let singles = is_short.then_some(*first..=*last).into_iter().flatten();
            let range = (!is_short).then(|| {
                let mut text = first.to_string();
                text.push('-');
                text + &last.to_string()
            });
            singles.map(|port| port.to_string()).chain(range)
        })
    }

    pub(super) fn emit(&self, out: &mut Vec<u8>) {
        let list = match self {
            Self::All => return out.put_u8(ALL),
            Self::List(list) => list,
        };
        debug_assert!(list.len() <= Self::LIST_MAX);
        let count: usize = list.iter().map(|(first, last)| usize::from(last - first) + 1).sum();
        if count <= Self::LIST_MAX {
            out.put_u8(count as u8);
            list.iter().flat_map(|(first, last)| *first..=*last).for_each(|port| out.put_u16(port));
        } else {
            out.put_u8(RANGES);
            out.put_u8(list.len() as u8);
            for (first, last) in list {
                out.put_u16(*first);
                out.put_u16(*last);
            }
        }
    }

    pub(super) fn parse(r: &mut Reader<'_>) -> Result<Self, Malformed> {
        let ranges = match r.u8()? {
            ALL => return Ok(Self::All),
            RANGES => {
                let count = r.u8()?;
                (0..count).map(|_| Ok((r.u16()?, r.u16()?))).collect::<Result<Vec<_>, _>>()?
            }
            count => {
                let port = |r: &mut Reader<'_>| r.u16().map(|port| (port, port));
                (0..count).map(|_| port(r)).collect::<Result<Vec<_>, _>>()?
            }
        };
        if ranges.iter().any(|(first, last)| first > last) {
            return Err(Malformed);
        }
        Self::from_ranges(ranges).ok_or(Malformed)
    }
}

impl Default for Ports {
    /// Echo, stdio, messages and files, events. Source: `docs/trust.md`.
    fn default() -> Self {
        Self::List([(7, 7), (1000, 1002)].into())
    }
}

impl fmt::Display for Ports {
    /// Writes numbers and ranges: `7,1000,8000-8010`, or `all`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if matches!(self, Self::All) {
            return f.write_str("all");
        }
        for (i, word) in self.words().enumerate() {
            write!(f, "{}{word}", if i > 0 { "," } else { "" })?;
        }
        Ok(())
    }
}

impl core::str::FromStr for Ports {
    type Err = Malformed;

    /// Reads names of services, numbers and ranges with commas between them, such as `messages,80,8000-8010`, or `all`.
    fn from_str(text: &str) -> Result<Self, Malformed> {
        if text.trim() == "all" {
            return Ok(Self::All);
        }
        let number = |text: &str| text.parse().ok().filter(|port: &u16| *port > 0).ok_or(Malformed);
        let range = |word: &str| {
            if let Some((_, port)) = SERVICES.iter().find(|(name, _)| *name == word) {
                return Ok((*port, *port));
            }
            let (first, last) = word.split_once('-').unwrap_or((word, word));
            let (first, last) = (number(first)?, number(last)?);
            if first > last { Err(Malformed) } else { Ok((first, last)) }
        };
        let ranges: Vec<(u16, u16)> = text.split(',').map(|word| range(word.trim())).collect::<Result<_, _>>()?;
        Self::from_ranges(ranges).ok_or(Malformed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::format;
    use std::vec;

    fn ports(text: &str) -> Ports {
        text.parse().expect(text)
    }

    #[test]
    fn texts_name_services_numbers_and_ranges() {
        assert_eq!(ports("echo,stdio,messages,events"), Ports::default());
        assert_eq!(Ports::default().to_string(), "7,1000,1001,1002");
        assert_eq!(ports(" 8000-8010, 80,messages").to_string(), "80,1001,8000-8010");
        assert_eq!(
            ports("8000-8010,80,1000-1003").names(),
            vec!["stdio", "messages", "events", "80", "1003", "8000-8010"]
        );
        assert_eq!((ports("all"), ports("1-65535")), (Ports::All, Ports::All));
        assert_eq!((Ports::All.names(), Ports::All.withheld()), (vec!["all".to_string()], vec![]));
        assert_eq!(ports("events,1").withheld(), ["echo", "stdio", "messages"]);
        assert_eq!((Ports::name_of(1001), Ports::name_of(22)), ("messages".to_string(), "22".to_string()));
        for bad in ["", ",", "0", "65536", "-", "5-", "-5", "9-8", "0-9", "mail", "80;81", "all,80", "8.0"] {
            assert!(bad.parse::<Ports>().is_err(), "{bad}");
        }
    }

    #[test]
    fn sets_are_joined_cut_and_compared() {
        let all_but = Ports::All.without(&ports("22,8000-8010")).expect("few ranges");
        assert!(all_but.allow(21) && !all_but.allow(22) && !all_but.allow(8005) && all_but.allow(65535));
        assert_eq!(all_but.with(&ports("22,8000-8010")), Some(Ports::All));
        assert!(Ports::All.covers(&all_but) && !all_but.covers(&Ports::All) && all_but.covers(&Ports::NONE));
        assert_eq!(ports("80").without(&ports("80")), Some(Ports::NONE));
        assert_eq!(ports("80-90").without(&ports("1-85,88")).expect("few").to_string(), "86,87,89,90");
        assert!(ports("1-10,11-20").covers(&ports("5-15")), "ranges that touch are one");
        assert!(Ports::NONE.is_empty() && !Ports::NONE.allow(80) && !ports("80").covers(&ports("80,81")));
    }

    #[test]
    fn a_set_has_a_maximum_of_ranges() {
        let odd = |count: u16| (1..=count).map(|n| format!("{}", 2 * n)).collect::<Vec<_>>().join(",");
        let full = ports(&odd(Ports::LIST_MAX as u16));
        assert!(odd(Ports::LIST_MAX as u16 + 1).parse::<Ports>().is_err());
        assert_eq!((full.with(&Ports::one(1001)), Ports::All.without(&full)), (None, None));
    }

    #[test]
    fn bytes_are_read_back_and_damage_is_noticed() {
        for text in ["all", "7", "7,1000,1001,1002", "1-64", "1-65", "1-100,5000-60000"] {
            let (set, mut out) = (ports(text), Vec::new());
            set.emit(&mut out);
            assert_eq!(Ports::parse(&mut Reader::new(&out)), Ok(set), "{text}");
            assert!((0..out.len()).all(|len| Ports::parse(&mut Reader::new(&out[..len])).is_err()));
        }
        assert_eq!(Ports::parse(&mut Reader::new(&[RANGES, 1, 9, 0, 8, 0])), Err(Malformed));
        // The form of lists before there were ranges.
        assert_eq!(Ports::parse(&mut Reader::new(&[2, 232, 3, 7, 0])), Ok(ports("7,1000")));
    }
}
