//! The rotation: which identity serves next. Pure: no clock, no randomness, no waiting.
//!
//! One request at a time gives exact round-robin; long streams go to the identity with the fewest in flight,
//! ties to the one that waited longest. Not an index into a filtered list: that skews whenever the list changes
//! its length, and picks the identity again that has just failed.

use crate::base::facts::{PerUsage, Usage};

/// The order of all identities: a line of its own for each usage, so that its quota is used up evenly whatever else
/// is asked for; but what is in flight counts in all of them.
#[derive(Clone, Debug)]
pub(crate) struct Rotation {
    lines: PerUsage<Line>,
    /// In-flight requests at which an identity takes no more, shifted to its bits of the rank.
    cap: u64,
}

/// One line, in 16 bytes for each identity, so that a thousand of them are looked through in less than a microsecond.
#[derive(Clone, Debug)]
struct Line {
    turns: Vec<Turn>,
    /// The place at the very back.
    back: u64,
}

#[derive(Clone, Copy, Debug)]
struct Turn {
    /// First tick at which the identity may be used; [`NEVER`] if no time heals it.
    usable_at: u64,
    /// Sort key, highest bits first: at its cap, last choice, second choice, requests in flight, place in line. One
    /// number, because a thousand comparisons of it take half a microsecond.
    rank: u64,
}

/// The result of a look through the line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Choice {
    /// The slot of the identity that is next.
    Free(usize),
    /// Some would do, but all of them are at their cap.
    AtCap,
    /// No identity is usable, not even after a wait for a free place.
    NoneFree,
}

/// Selection tier, best first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Standing {
    /// Any request may use it.
    First,
    /// A retry prefers others (degraded, or to be probed).
    Second,
    /// Used only when there is no other (no token).
    Last,
}

/// The tick of identities that do not become usable by time alone.
pub(crate) const NEVER: u64 = u64::MAX;

impl Rotation {
    /// Lines of `count` identities, all usable, in their order.
    pub(crate) fn new(count: usize, in_flight_max: u32) -> Self {
        let turns: Vec<_> = (0_u64..).take(count).map(|place| Turn { usable_at: 0, rank: place }).collect();
        let back = turns.last().map_or(0, |turn| turn.rank + 1);
        Self { lines: PerUsage::of(|_| Line { turns: turns.clone(), back }), cap: cap(in_flight_max) }
    }

    /// Changes the most requests in flight on each identity, from now on.
    pub(crate) fn set_cap(&mut self, in_flight_max: u32) {
        self.cap = cap(in_flight_max);
        for usage in Usage::ALL {
            for turn in &mut self.lines.get_mut(usage).turns {
                turn.rank = if turn.rank & IN_FLIGHT >= self.cap { turn.rank | AT_CAP } else { turn.rank & !AT_CAP };
            }
        }
    }

    /// The usable identity with the fewest in flight, then the longest in line, that is not among `tried`.
    /// A first attempt takes any usable identity in turn; a retry prefers healthy ones.
    pub(crate) fn choose(&self, usage: Usage, now: u64, tried: &[usize]) -> Choice {
        let line = self.lines.get(usage);
        let (rank, index) = if tried.is_empty() {
            line.least(now, !SECOND, |_| true)
        } else {
            line.least(now, !0, |index| !tried.contains(&index))
        };
        match rank {
            NEVER => Choice::NoneFree,
            _ if rank & AT_CAP != 0 => Choice::AtCap,
            _ => Choice::Free(index),
        }
    }

    /// Whether this identity is usable and below its cap.
    pub(crate) fn is_free(&self, usage: Usage, now: u64, index: usize) -> bool {
        let turn = self.lines.get(usage).turns.get(index);
        turn.is_some_and(|turn| turn.usable_at <= now && turn.rank & AT_CAP == 0)
    }

    /// All of the same tier as the one that [`Rotation::choose`] gave, itself included; in no order of load or turn.
    pub(crate) fn peers(&self, usage: Usage, now: u64, tried: &[usize], chosen: usize) -> Vec<usize> {
        let turns = &self.lines.get(usage).turns;
        let compared = if tried.is_empty() { AT_CAP | LAST } else { AT_CAP | LAST | SECOND };
        let tier = turns.get(chosen).map(|turn| turn.rank & compared);
        let is_peer = |(index, turn): &(usize, &Turn)| {
            turn.usable_at <= now && Some(turn.rank & compared) == tier && !tried.contains(index)
        };
        turns.iter().enumerate().filter(is_peer).map(|(index, _)| index).collect()
    }

    /// The one longest in line of those that `admits` and that are below their cap, usable or not.
    pub(crate) fn longest_unpicked(&self, usage: Usage, mut admits: impl FnMut(usize) -> bool) -> Option<usize> {
        let turns = self.lines.get(usage).turns.iter().enumerate();
        let mut line: Vec<_> =
            turns.filter(|(_, turn)| turn.rank & AT_CAP == 0).map(|(index, turn)| (turn.rank & PLACE, index)).collect();
        line.sort_unstable();
        line.into_iter().map(|(_, index)| index).find(|index| admits(*index))
    }

    /// One more in flight, and to the back of the line of this usage.
    pub(crate) fn take(&mut self, usage: Usage, index: usize) {
        for each in Usage::ALL {
            if let Some(turn) = self.lines.get_mut(each).turns.get_mut(index) {
                turn.rank += ONE_IN_FLIGHT;
                if turn.rank & IN_FLIGHT >= self.cap {
                    turn.rank |= AT_CAP;
                }
            }
        }
        let line = self.lines.get_mut(usage);
        if let Some(turn) = line.turns.get_mut(index) {
            turn.rank = turn.rank & !PLACE | line.back & PLACE;
            line.back += 1;
        }
    }

    /// One less in flight; its place in every line stays.
    pub(crate) fn give_back(&mut self, index: usize) {
        for usage in Usage::ALL {
            if let Some(turn) = self.lines.get_mut(usage).turns.get_mut(index)
                && turn.rank & IN_FLIGHT > 0
            {
                turn.rank -= ONE_IN_FLIGHT;
                if turn.rank & IN_FLIGHT < self.cap {
                    turn.rank &= !AT_CAP;
                }
            }
        }
    }

    /// One more identity, at the back of every line.
    pub(crate) fn push(&mut self) {
        for usage in Usage::ALL {
            let line = self.lines.get_mut(usage);
            line.turns.push(Turn { usable_at: 0, rank: line.back & PLACE });
            line.back += 1;
        }
    }

    /// Another identity in the place of one, at the back of every line.
    pub(crate) fn renew(&mut self, index: usize) {
        for usage in Usage::ALL {
            let line = self.lines.get_mut(usage);
            if let Some(turn) = line.turns.get_mut(index) {
                *turn = Turn { usable_at: 0, rank: line.back & PLACE };
                line.back += 1;
            }
        }
    }

    /// Sets from which tick on, and in which tier, an identity is used for something.
    pub(crate) fn place(&mut self, usage: Usage, index: usize, usable_at: u64, standing: Standing) {
        if let Some(turn) = self.lines.get_mut(usage).turns.get_mut(index) {
            turn.usable_at = usable_at;
            turn.rank = turn.rank & !(SECOND | LAST)
                | match standing {
                    Standing::First => 0,
                    Standing::Second => SECOND,
                    Standing::Last => LAST,
                };
        }
    }

    /// Requests in flight on one identity.
    pub(crate) fn in_flight(&self, index: usize) -> u32 {
        self.any_line().get(index).map_or(0, Turn::in_flight)
    }

    /// Requests in flight on all.
    pub(crate) fn in_flight_total(&self) -> usize {
        self.any_line()
            .iter()
            .map(|turn| usize::try_from(turn.in_flight()).unwrap_or(usize::MAX))
            .fold(0, usize::saturating_add)
    }

    /// The next tick after `now` at which an identity becomes usable by time alone.
    pub(crate) fn next_change(&self, usage: Usage, now: u64) -> Option<u64> {
        let turns = self.lines.get(usage).turns.iter();
        turns.map(|turn| turn.usable_at).filter(|at| *at > now && *at != NEVER).min()
    }

    /// For what is the same in all of them.
    fn any_line(&self) -> &[Turn] {
        &self.lines.get(Usage::Chat).turns
    }
}

impl Line {
    /// The least rank of the identities that are usable and wanted, and its place.
    fn least(&self, now: u64, compared: u64, wants: impl Fn(usize) -> bool) -> (u64, usize) {
        let mut least = (NEVER, 0);
        for (index, turn) in self.turns.iter().enumerate() {
            let rank = if turn.usable_at <= now && wants(index) { turn.rank & compared } else { NEVER };
            if rank < least.0 {
                least = (rank, index);
            }
        }
        least
    }
}

impl Turn {
    fn in_flight(&self) -> u32 {
        u32::try_from((self.rank & IN_FLIGHT) >> PLACE_BITS).unwrap_or(u32::MAX)
    }
}

/// In-flight requests at which an identity takes no more, shifted to its bits of the rank.
fn cap(in_flight_max: u32) -> u64 {
    u64::from(in_flight_max).clamp(1, IN_FLIGHT_MAX) << PLACE_BITS
}

/// Enough places for a thousand picks a second over thirty years.
const PLACE_BITS: u32 = 40;
const PLACE: u64 = (1 << PLACE_BITS) - 1;
const ONE_IN_FLIGHT: u64 = 1 << PLACE_BITS;
const IN_FLIGHT_MAX: u64 = (1 << 21) - 1;
const IN_FLIGHT: u64 = IN_FLIGHT_MAX << PLACE_BITS;
const SECOND: u64 = 1 << 61;
const AT_CAP: u64 = 1 << 62;
const LAST: u64 = 1 << 63;

#[cfg(test)]
mod tests {
    use super::*;

    fn picks(rotation: &mut Rotation, count: usize) -> Vec<usize> {
        (0..count)
            .map(|_| {
                let Choice::Free(index) = rotation.choose(Usage::Chat, 10, &[]) else {
                    panic!("no identity is free in {rotation:?}");
                };
                rotation.take(Usage::Chat, index);
                rotation.give_back(index);
                index
            })
            .collect()
    }

    #[test]
    fn one_at_a_time_is_round_robin() {
        assert_eq!(picks(&mut Rotation::new(3, 4), 7), [0, 1, 2, 0, 1, 2, 0]);
    }

    #[test]
    fn the_fewest_in_flight_come_first_then_the_longest_in_line() {
        let mut rotation = Rotation::new(3, 4);
        let mut order = Vec::new();
        while let Choice::Free(index) = rotation.choose(Usage::Chat, 0, &[]) {
            rotation.take(Usage::Chat, index);
            order.push(index);
        }
        assert_eq!(order, [0, 1, 2, 0, 1, 2, 0, 1, 2, 0, 1, 2]);
        assert_eq!(rotation.choose(Usage::Chat, 0, &[]), Choice::AtCap);
        assert_eq!(rotation.choose(Usage::Chat, 0, &[0, 1, 2]), Choice::NoneFree);
        rotation.give_back(1);
        assert_eq!(rotation.choose(Usage::Chat, 0, &[]), Choice::Free(1));
        assert_eq!(rotation.choose(Usage::Chat, 0, &[1]), Choice::AtCap);
        assert_eq!(rotation.in_flight(1), 3);
        assert_eq!(rotation.in_flight_total(), 11);
        rotation.give_back(2);
        rotation.give_back(2);
        assert_eq!(rotation.choose(Usage::Chat, 0, &[]), Choice::Free(2));
    }

    #[test]
    fn time_and_standing_decide_who_is_asked() {
        let mut rotation = Rotation::new(4, 1);
        rotation.place(Usage::Chat, 0, 11, Standing::First);
        rotation.place(Usage::Chat, 1, 10, Standing::Last);
        rotation.place(Usage::Chat, 2, 0, Standing::Second);
        rotation.place(Usage::Chat, 3, NEVER, Standing::First);
        assert_eq!(rotation.choose(Usage::Chat, 9, &[]), Choice::Free(2));
        assert_eq!(rotation.choose(Usage::Chat, 10, &[2]), Choice::Free(1));
        assert_eq!(rotation.choose(Usage::Chat, 10, &[]), Choice::Free(2));
        assert_eq!(rotation.choose(Usage::Chat, 11, &[]), Choice::Free(0));
        assert_eq!(rotation.choose(Usage::Chat, 9, &[2]), Choice::NoneFree);
        assert_eq!(rotation.next_change(Usage::Chat, 0), Some(10));
        assert_eq!(rotation.next_change(Usage::Chat, 10), Some(11));
        assert_eq!(rotation.next_change(Usage::Chat, 11), None);
        rotation.take(Usage::Chat, 0);
        rotation.take(Usage::Chat, 2);
        // A first attempt takes the degraded in turn, a retry does not.
        let mut rotation = Rotation::new(3, 4);
        rotation.place(Usage::Chat, 0, 0, Standing::Second);
        assert_eq!(rotation.choose(Usage::Chat, 0, &[]), Choice::Free(0));
        assert_eq!(rotation.choose(Usage::Chat, 0, &[2]), Choice::Free(1));
        rotation.place(Usage::Chat, 0, 0, Standing::First);
        assert_eq!(rotation.choose(Usage::Chat, 0, &[2]), Choice::Free(0));
    }

    #[test]
    fn peers_share_the_tier_of_the_chosen() {
        let mut rotation = Rotation::new(6, 1);
        rotation.place(Usage::Chat, 0, 11, Standing::First);
        rotation.place(Usage::Chat, 1, 0, Standing::Last);
        rotation.place(Usage::Chat, 2, 0, Standing::Second);
        rotation.take(Usage::Video, 3);
        let peers = |now, tried: &[usize]| {
            let Choice::Free(chosen) = rotation.choose(Usage::Chat, now, tried) else {
                panic!("no identity is free in {rotation:?}");
            };
            rotation.peers(Usage::Chat, now, tried, chosen)
        };
        assert_eq!(peers(10, &[]), [2, 4, 5], "neither who rests, nor who has no token, nor who is at the cap");
        assert_eq!(peers(11, &[]), [0, 2, 4, 5]);
        assert_eq!(peers(10, &[4]), [5], "a retry prefers the healthy");
        assert_eq!(peers(10, &[4, 5]), [2], "and takes who is left");
    }

    #[test]
    fn each_usage_has_a_line_of_its_own_but_the_load_is_one() {
        let mut rotation = Rotation::new(2, 2);
        let mut order = Vec::new();
        for usage in [Usage::Chat, Usage::Video, Usage::Chat, Usage::Video, Usage::Image] {
            let Choice::Free(index) = rotation.choose(usage, 0, &[]) else {
                panic!("no identity is free in {rotation:?}");
            };
            rotation.take(usage, index);
            rotation.give_back(index);
            order.push(index);
        }
        assert_eq!(order, [0, 0, 1, 1, 0], "one after the other, whatever else is asked for");
        rotation.take(Usage::Video, 0);
        assert_eq!(rotation.choose(Usage::Chat, 0, &[]), Choice::Free(1), "the other one is busy");
        rotation.take(Usage::Video, 0);
        assert_eq!(rotation.choose(Usage::Image, 0, &[1]), Choice::AtCap);
        assert_eq!((rotation.in_flight(0), rotation.in_flight_total()), (2, 2));
        rotation.place(Usage::Video, 1, 7, Standing::First);
        assert_eq!(rotation.choose(Usage::Video, 6, &[0]), Choice::NoneFree);
        assert_eq!(rotation.choose(Usage::Chat, 6, &[0]), Choice::Free(1));
        assert_eq!((rotation.next_change(Usage::Video, 0), rotation.next_change(Usage::Chat, 0)), (Some(7), None));
        assert_eq!(rotation.longest_unpicked(Usage::Chat, |_| true), Some(1), "below the cap");
    }

    #[test]
    fn nothing_is_given_back_twice_and_a_cap_of_nothing_is_one() {
        let mut rotation = Rotation::new(1, 0);
        rotation.give_back(0);
        assert_eq!(rotation.choose(Usage::Chat, 0, &[]), Choice::Free(0));
        rotation.take(Usage::Chat, 0);
        assert_eq!(rotation.choose(Usage::Chat, 0, &[]), Choice::AtCap);
        assert_eq!(Rotation::new(0, 1).choose(Usage::Chat, 0, &[]), Choice::NoneFree);
    }

    #[test]
    fn the_longest_unpicked_need_not_be_usable() {
        let mut rotation = Rotation::new(3, 1);
        for index in 0..3 {
            rotation.place(Usage::Chat, index, NEVER, Standing::Second);
        }
        assert_eq!(rotation.longest_unpicked(Usage::Chat, |_| true), Some(0));
        rotation.take(Usage::Chat, 0);
        assert_eq!(rotation.longest_unpicked(Usage::Chat, |_| true), Some(1));
        rotation.give_back(0);
        assert_eq!(rotation.longest_unpicked(Usage::Chat, |index| index != 1), Some(2));
        rotation.take(Usage::Chat, 1);
        rotation.take(Usage::Chat, 2);
        assert_eq!(rotation.longest_unpicked(Usage::Chat, |_| true), Some(0));
    }
}
