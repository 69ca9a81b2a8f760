//! Finds the run that a request continues by the conversation that the request repeats.
//!
//! The conversations of the last completions are remembered as [hashes](Said). The oldest is
//! forgotten first. A request continues the run whose whole conversation it repeats. If there is
//! none, it continues a run of which it repeats a part: the end, if the client omitted or changed
//! what came before (a sliding window, a summary), or the beginning, if the client changed what
//! came last.
//!
//! A wrong match is worse than a missed one. If the repeated text occurs in two conversations, the
//! request matches neither. For a whole conversation this applies while both are open; for a part
//! it always applies. A match on a single exchange is trusted only if the request repeats nothing
//! else, or if an earlier exchange matches the same conversation. The hashes depend on upstream,
//! app, user and session.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use hashbrown::HashTable;
use serde::{Deserialize, Serialize};

use crate::observation::{ConversationKey, Said};
use crate::time::UnixMillis;

/// The whole conversation of a run, including the run.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Remembered {
    /// The conversation.
    pub conversation: ConversationKey,
    /// The run.
    pub run: Arc<str>,
    /// The hashes of the conversation.
    pub said: Said,
    /// When the run was seen.
    pub at: UnixMillis,
}

/// The most recently remembered conversations.
#[derive(Debug)]
pub(super) struct Histories {
    /// The maximum number.
    max: usize,
    /// Oldest first.
    turns: VecDeque<RememberedTurn>,
    /// The number of the oldest. Numbers wrap around after 2³².
    first: u32,
    /// The number of the newest turn for each last exchange. The key is the exchange, which is
    /// already a hash.
    newest: HashTable<u32>,
    /// The names of upstreams. There are only a few.
    upstreams: Vec<Arc<str>>,
}

/// A remembered turn in compact form.
#[derive(Debug)]
struct RememberedTurn {
    said: Said,
    conversation: Arc<str>,
    run: Arc<str>,
    /// Seconds since the Unix epoch.
    at_secs: u32,
    /// The distance to the previous turn with the same last exchange. 0 if there is none.
    distance: u32,
    /// The index of the upstream's name.
    upstream: u16,
}

impl RememberedTurn {
    fn at(&self) -> UnixMillis {
        UnixMillis(u64::from(self.at_secs) * 1000)
    }

    /// Turns with the same exchange have the same upstream, because the hash includes its name.
    fn is_beside(&self, other: &Self) -> bool {
        self.conversation == other.conversation
    }
}

/// Several conversations match, and each may be the right one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Shared;

impl Histories {
    /// Creates an empty memory.
    pub(super) fn new(max: usize) -> Self {
        let (turns, newest, upstreams) = (VecDeque::new(), HashTable::new(), Vec::new());
        Self { max: max.min(MOST), turns, first: 0, newest, upstreams }
    }

    /// Remembers the conversation of a run, and forgets the oldest ones beyond the limit. Returns
    /// whether it is new.
    pub(super) fn remember(&mut self, remembered: &Remembered) -> bool {
        let Remembered { conversation: ConversationKey { upstream, id }, run, said, at } = remembered;
        let is_same = |known: &RememberedTurn| known.run == *run && known.said == *said;
        if self.max == 0 || self.with_exchange(said.exchange).take(MAX_LOOKED_AT).any(is_same) {
            return false;
        }
        self.make_room();
        let known = self.upstreams.iter().position(|known| known == upstream);
        let Ok(place) = u16::try_from(known.unwrap_or(self.upstreams.len())) else { return false };
        if known.is_none() {
            self.upstreams.push(upstream.clone());
        }
        while self.turns.len() >= self.max {
            self.forget_oldest();
        }
        let distance = self.note_newest(said.exchange);
        self.turns.push_back(RememberedTurn {
            said: *said,
            conversation: id.clone(),
            run: run.clone(),
            at_secs: u32::try_from(at.0 / 1000).unwrap_or(u32::MAX),
            distance,
            upstream: place,
        });
        true
    }

    /// Reserves capacity for the maximum number. Unused capacity uses no physical memory, while
    /// growth by doubling would use half as much again.
    fn make_room(&mut self) {
        let room = self.max.min(MOST_AT_ONCE);
        if self.turns.capacity() < room {
            let Self { turns, newest, first, .. } = self;
            turns.reserve_exact(room - turns.len());
            newest.reserve(room - newest.len(), |number| exchange_at(turns, number.wrapping_sub(*first)));
        }
    }

    /// Restores what an earlier process remembered, oldest first.
    pub(super) fn restore(&mut self, all: impl Iterator<Item = Remembered>) {
        // The turns of a conversation share one copy of its name.
        let mut names: HashMap<Arc<str>, Arc<str>> = HashMap::new();
        for mut remembered in all {
            let Remembered { conversation: ConversationKey { id, .. }, run, .. } = &mut remembered;
            *id = names.entry(id.clone()).or_insert_with(|| id.clone()).clone();
            if *run == *id {
                *run = id.clone();
            }
            self.remember(&remembered);
        }
    }

    /// Forgets all turns from before a time.
    pub(super) fn forget_before(&mut self, time: UnixMillis) {
        while self.turns.front().is_some_and(|oldest| oldest.at() < time) {
            self.forget_oldest();
        }
    }

    /// Forgets the turns of the conversations that `which` selects.
    pub(super) fn forget_where(&mut self, which: impl Fn(&ConversationKey) -> bool) {
        let Self { turns, upstreams, .. } = std::mem::replace(self, Self::new(self.max));
        for turn in turns {
            let remembered = told(&turn, &upstreams);
            if !which(&remembered.conversation) {
                self.remember(&remembered);
            }
        }
    }

    /// The run that a request continues, given what it repeats up to each of the assistant's
    /// messages, last one first. None if no run is known.
    ///
    /// # Errors
    /// If runs of several conversations match.
    pub(super) fn find(&self, said: &[Said], now: UnixMillis) -> Result<Option<Remembered>, Shared> {
        let found = self.find_turn(said, now)?;
        Ok(found.map(|turn| told(turn, &self.upstreams)))
    }

    fn find_turn(&self, said: &[Said], now: UnixMillis) -> Result<Option<&RememberedTurn>, Shared> {
        let Some(end) = said.first() else { return Ok(None) };
        if let Some(found) = self.newest_open(said, now)? {
            return Ok(Some(found));
        }
        if end.pair.is_some()
            && let Some(found) = self.only_one(end.exchange, |known| known.pair == end.pair)?
        {
            return Ok(Some(found));
        }
        if let Some(found) =
            self.only_one(end.exchange, |_| true)?.filter(|found| self.is_borne_out(found, said))
        {
            return Ok(Some(found));
        }
        for place in 1..said.len() {
            if let Some(found) = self.newest_open(&said[place..], now)? {
                return Ok(Some(found));
            }
        }
        Ok(None)
    }

    /// How many turns are remembered.
    pub(super) fn len(&self) -> usize {
        self.turns.len()
    }

    /// The newest run with the same whole conversation. An error if another conversation also
    /// matches: as a whole, or because it ends the same way and the request may have omitted its
    /// beginning.
    fn newest_open(&self, said: &[Said], now: UnixMillis) -> Result<Option<&RememberedTurn>, Shared> {
        let Some((end, before)) = said.split_first() else { return Ok(None) };
        let is_open = |known: &RememberedTurn| now.since(known.at()) < OPEN;
        let is_whole = |known: &RememberedTurn| known.said.whole == end.whole;
        let found = self.with_exchange(end.exchange).take(MAX_LOOKED_AT).find(|known| is_whole(known));
        let Some(found) = found else { return Ok(None) };
        let ends_so = |known: &RememberedTurn| {
            let leads_there = |said: &Said| self.says(known, said.exchange);
            // A pair is the last two exchanges.
            (end.pair.is_none() || known.said.pair == end.pair) && before.iter().skip(1).all(leads_there)
        };
        for (place, other) in self.with_exchange(end.exchange).enumerate() {
            let is_rival = !other.is_beside(found)
                && (!is_open(found) || is_open(other))
                && (is_whole(other) || ends_so(other));
            if is_rival || place >= MAX_LOOKED_AT {
                return Err(Shared);
            }
        }
        Ok(Some(found))
    }

    /// The newest run with a last exchange, if all the runs that `which` selects belong to one
    /// conversation.
    fn only_one(
        &self,
        exchange: u64,
        which: impl Fn(&Said) -> bool,
    ) -> Result<Option<&RememberedTurn>, Shared> {
        let mut found: Option<&RememberedTurn> = None;
        for (place, known) in self.with_exchange(exchange).enumerate() {
            if place >= MAX_LOOKED_AT {
                return Err(Shared);
            }
            match found {
                _ if !which(&known.said) => {}
                None => found = Some(known),
                Some(newest) if newest.is_beside(known) => {}
                Some(_) => return Err(Shared),
            }
        }
        Ok(found)
    }

    /// Whether a match on only the last exchange is trusted.
    fn is_borne_out(&self, found: &RememberedTurn, said: &[Said]) -> bool {
        match said {
            [only] => only.pair.is_none(),
            [_, before @ ..] => before.iter().any(|said| self.says(found, said.exchange)),
            [] => false,
        }
    }

    /// Whether an exchange occurs in a run's conversation.
    fn says(&self, run: &RememberedTurn, exchange: u64) -> bool {
        self.with_exchange(exchange).take(MAX_LOOKED_AT).any(|known| known.is_beside(run))
    }

    /// Turns with a last exchange, newest first.
    fn with_exchange(&self, exchange: u64) -> impl Iterator<Item = &RememberedTurn> {
        let is_it = |number: &u32| exchange_at(&self.turns, number.wrapping_sub(self.first)) == exchange;
        let newest = self.newest.find(exchange, is_it);
        let place = newest.map(|number| number.wrapping_sub(self.first) as usize);
        let before = |place: &usize| {
            let distance = usize::try_from(self.turns.get(*place)?.distance).ok()?;
            place.checked_sub(distance).filter(|before| before != place)
        };
        std::iter::successors(place, before).map_while(|place| self.turns.get(place))
    }

    /// Notes that the next turn is the newest with an exchange. Returns the distance to the
    /// previous one, or 0 if there is none.
    fn note_newest(&mut self, exchange: u64) -> u32 {
        let Self { turns, first, newest, .. } = self;
        let next = first.wrapping_add(u32::try_from(turns.len()).unwrap_or(u32::MAX));
        let exchange_of = |number: &u32| exchange_at(turns, number.wrapping_sub(*first));
        match newest.find_mut(exchange, |number| exchange_of(number) == exchange) {
            Some(known) => next.wrapping_sub(std::mem::replace(known, next)),
            None => {
                newest.insert_unique(exchange, next, exchange_of);
                0
            }
        }
    }

    fn forget_oldest(&mut self) {
        let Some(oldest) = self.turns.pop_front() else { return };
        let first = self.first;
        if let Ok(newest) = self.newest.find_entry(oldest.said.exchange, |number| *number == first) {
            newest.remove();
        }
        self.first = first.wrapping_add(1);
    }
}

/// The last exchange of the turn at an index.
fn exchange_at(turns: &VecDeque<RememberedTurn>, place: u32) -> u64 {
    turns.get(place as usize).map_or(0, |turn| turn.said.exchange)
}

/// Converts a turn from its compact form.
fn told(turn: &RememberedTurn, upstreams: &[Arc<str>]) -> Remembered {
    let upstream = upstreams[usize::from(turn.upstream)].clone();
    Remembered {
        conversation: ConversationKey { upstream, id: turn.conversation.clone() },
        run: turn.run.clone(),
        said: turn.said,
        at: turn.at(),
    }
}

/// How long after its last turn a conversation counts as open, if another one has the same text.
const OPEN: Duration = Duration::from_secs(3600);
/// The maximum number of turns, so that the numbers of held turns are distinct.
const MOST: usize = 1 << 31;
/// The maximum number of turns for which capacity is reserved.
const MOST_AT_ONCE: usize = 1 << 20;
/// How many turns with one exchange are examined. If there are more, the exchange identifies
/// nothing.
const MAX_LOOKED_AT: usize = 64;

#[cfg(test)]
mod tests {
    use std::num::NonZeroU64;

    use super::*;

    /// A conversation as hashes. Each exchange is a number.
    fn said(exchanges: &[u64]) -> Vec<Said> {
        let whole =
            |end: usize| exchanges[..=end].iter().fold(7, |whole: u64, exchange| whole * 1000 + exchange);
        let said = |end: usize| Said {
            exchange: exchanges[end],
            pair: end
                .checked_sub(1)
                .and_then(|before| NonZeroU64::new(exchanges[before] * 1000 + exchanges[end])),
            whole: whole(end),
        };
        (0..exchanges.len()).rev().map(said).collect()
    }

    struct HistoryFixture {
        histories: Histories,
        now: UnixMillis,
    }

    impl HistoryFixture {
        fn new() -> Self {
            Self { histories: Histories::new(100), now: UnixMillis(1_000_000_000) }
        }

        fn remember(&mut self, conversation: &str, run: &str, exchanges: &[u64]) -> bool {
            let key = ConversationKey { upstream: "u".into(), id: conversation.into() };
            let said = said(exchanges)[0];
            let remembered = Remembered { conversation: key, run: run.into(), said, at: self.now };
            self.histories.remember(&remembered)
        }

        fn find(&self, exchanges: &[u64]) -> &'static str {
            match self.histories.find(&said(exchanges), self.now) {
                Ok(Some(found)) => found.run.to_string().leak(),
                Ok(None) => "unknown",
                Err(Shared) => "shared",
            }
        }
    }

    #[test]
    fn a_request_goes_on_with_the_run_whose_conversation_it_repeats() {
        let mut world = HistoryFixture::new();
        assert_eq!(world.find(&[]), "unknown");
        assert!(world.remember("a", "a1", &[1]) && world.remember("a", "a2", &[1, 2]));
        assert!(!world.remember("a", "a2", &[1, 2]), "it is known");
        assert_eq!((world.find(&[1]), world.find(&[1, 2]), world.find(&[3])), ("a1", "a2", "unknown"));
        // Two continuations of one turn are two children of one parent, and each continues
        // separately.
        world.remember("a", "a3", &[1, 3]);
        assert_eq!((world.find(&[1]), world.find(&[1, 2]), world.find(&[1, 3])), ("a1", "a2", "a3"));
        // The same text occurred twice: the later run is as good as the first.
        world.remember("a", "a4", &[1, 3]);
        assert_eq!(world.find(&[1, 3]), "a4");
    }

    #[test]
    fn what_two_open_conversations_say_leads_to_neither() {
        let mut world = HistoryFixture::new();
        world.remember("a", "a1", &[1]);
        world.remember("b", "b1", &[1]);
        assert_eq!(world.find(&[1]), "shared");
        // Both continue, and differ from then on.
        world.remember("b", "b2", &[1, 2]);
        assert_eq!(world.find(&[1, 2]), "b2");
        assert_eq!(world.find(&[1, 9]), "shared", "an edit of what one of them said");
    }

    #[test]
    fn of_two_conversations_that_say_the_same_the_open_one_is_meant() {
        let mut world = HistoryFixture::new();
        world.remember("a", "a1", &[1]);
        world.now = world.now.after(OPEN);
        world.remember("b", "b1", &[1]);
        assert_eq!(world.find(&[1]), "b1");
        world.now = world.now.after(OPEN);
        assert_eq!(world.find(&[1]), "shared", "neither is open");
    }

    #[test]
    fn what_another_conversation_ends_with_may_be_its_trimmed_history() {
        let mut world = HistoryFixture::new();
        world.remember("a", "a1", &[1]);
        world.remember("b", "b1", &[2]);
        world.remember("b", "b2", &[2, 1]);
        assert_eq!((world.find(&[1]), world.find(&[2, 1])), ("shared", "b2"));
        world.remember("c", "c3", &[3, 2, 1]);
        assert_eq!((world.find(&[2, 1]), world.find(&[3, 2, 1])), ("shared", "c3"));
    }

    #[test]
    fn the_end_of_a_history_is_enough_unless_two_conversations_end_so() {
        let mut world = HistoryFixture::new();
        world.remember("a", "a3", &[1, 2, 3]);
        assert_eq!((world.find(&[2, 3]), world.find(&[3])), ("a3", "a3"));
        // A single exchange is weak evidence if it follows something else.
        assert_eq!(world.find(&[8, 3]), "unknown");
        world.remember("a", "a1", &[1]);
        assert_eq!(world.find(&[1, 9, 3]), "a3", "what came before was changed");
        world.now = world.now.after(OPEN);
        world.remember("b", "b3", &[4, 2, 3]);
        assert_eq!((world.find(&[2, 3]), world.find(&[3])), ("shared", "shared"));
        assert_eq!((world.find(&[1, 2, 3]), world.find(&[4, 2, 3])), ("a3", "b3"));
    }

    #[test]
    fn what_came_before_an_edit_is_enough() {
        let mut world = HistoryFixture::new();
        for (run, exchanges) in [("a1", &[1][..]), ("a2", &[1, 2]), ("a3", &[1, 2, 3])] {
            world.remember("a", run, exchanges);
        }
        assert_eq!((world.find(&[1, 2, 9]), world.find(&[1, 9, 8])), ("a2", "a1"));
        assert_eq!(world.find(&[9, 2]), "unknown");
    }

    #[test]
    fn the_oldest_is_forgotten_first_and_what_is_forgotten_leads_nowhere() {
        let mut world = HistoryFixture::new();
        for number in 0..150 {
            world.remember("a", &format!("a{number}"), &[number % 7, number]);
        }
        assert_eq!((world.histories.len(), world.histories.newest.len()), (100, 100));
        assert_eq!((world.find(&[49 % 7, 49]), world.find(&[50 % 7, 50])), ("unknown", "a50"));
        world.now = world.now.after(Duration::from_secs(1));
        world.remember("b", "b", &[200]);
        world.histories.forget_before(world.now);
        assert_eq!((world.histories.len(), world.find(&[200])), (1, "b"));
        world.remember("a", "again", &[200]);
        world.histories.forget_where(|key| *key.id == *"b");
        assert_eq!((world.histories.len(), world.find(&[200])), (1, "again"));
        assert!(world.histories.newest.len() == 1);
    }

    #[test]
    fn what_very_many_say_says_nothing_and_costs_little() {
        let mut world = HistoryFixture::new();
        for number in 0..90 {
            world.remember("a", &format!("a{number}"), &[1]);
        }
        assert_eq!(world.find(&[1]), "shared");
    }

    #[test]
    fn a_turn_takes_no_more_than_its_share() {
        // With an id of 60 letters, and a share of the table, part of which stays empty.
        let id = 16 + 64;
        assert!(
            size_of::<RememberedTurn>() + size_of::<(u32, u8)>() * 3 / 2 + id <= 200,
            "{}",
            size_of::<RememberedTurn>()
        );
    }
}
