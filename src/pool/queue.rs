//! Requests that wait for an identity: first come, first served for each caller, and the callers take turns. Pure: `W`
//! is the channel that brings the answer to a request.

use std::collections::VecDeque;

use crate::base::facts::Need;
use crate::base::ids::CredentialKey;

/// Identifies a caller: requests of one caller wait in one line.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct CallerId(pub u64);

/// The lines of all waiting requests.
#[derive(Debug)]
pub(crate) struct Queue<W> {
    /// Lines in the order of their next turn; none is empty.
    lines: VecDeque<Line<W>>,
    count: usize,
    max: usize,
    next_number: u64,
}

#[derive(Debug)]
struct Line<W> {
    caller: CallerId,
    waiters: VecDeque<Waiter<W>>,
}

/// A request in the queue, with what it needs.
#[derive(Debug)]
pub(crate) struct Waiter<W> {
    number: u64,
    pub(crate) need: Need,
    pub(crate) tried: Vec<CredentialKey>,
    pub(crate) reply: W,
}

/// The decision about a waiting request.
pub(crate) enum Verdict<A> {
    /// The request keeps waiting.
    Stay,
    /// The request gets its turn, and its caller goes to the back.
    Serve(A),
    /// The request leaves without a turn.
    Refuse(A),
}

impl<W> Queue<W> {
    pub(crate) fn new(max: usize) -> Self {
        Self { lines: VecDeque::new(), count: 0, max, next_number: 0 }
    }

    /// Changes the most requests that may wait; requests in the queue stay.
    pub(crate) fn set_max(&mut self, max: usize) {
        self.max = max;
    }

    /// Number of waiting requests.
    pub(crate) fn len(&self) -> usize {
        self.count
    }

    /// Adds a request at the end of its caller's line and returns the number to leave with.
    ///
    /// A full queue is shared evenly: the newest request of the longest line makes room, its reply dropped, for a
    /// caller whose line is shorter by at least two. So a caller who asks too much is refused, and the others are
    /// served.
    ///
    /// # Errors
    /// The reply, if the queue is full and the caller has its share of it.
    pub(crate) fn join(
        &mut self,
        caller: CallerId,
        need: impl Into<Need>,
        tried: Vec<CredentialKey>,
        reply: W,
    ) -> Result<u64, W> {
        if self.count >= self.max {
            let own = self.lines.iter().find(|line| line.caller == caller).map_or(0, |line| line.waiters.len());
            let longest = self.lines.iter_mut().max_by_key(|line| line.waiters.len());
            let Some(longest) = longest.filter(|longest| own + 1 < longest.waiters.len()) else {
                return Err(reply);
            };
            longest.waiters.pop_back();
            self.count -= 1;
        }
        let number = self.next_number;
        self.next_number += 1;
        self.count += 1;
        let waiter = Waiter { number, need: need.into(), tried, reply };
        match self.lines.iter_mut().find(|line| line.caller == caller) {
            Some(line) => line.waiters.push_back(waiter),
            None => self.lines.push_back(Line { caller, waiters: VecDeque::from([waiter]) }),
        }
        Ok(number)
    }

    /// Removes a request; `false` when it is no longer there, because its answer is on the way.
    pub(crate) fn leave(&mut self, number: u64) -> bool {
        for (index, line) in self.lines.iter_mut().enumerate() {
            if let Some(at) = line.waiters.iter().position(|waiter| waiter.number == number) {
                line.waiters.remove(at);
                self.count -= 1;
                if line.waiters.is_empty() {
                    self.lines.remove(index);
                }
                return true;
            }
        }
        false
    }

    /// Asks `judge` about the waiting requests, in the order of their turns, until none gets one any more. Requests
    /// behind one that has to stay are asked too: they may need another usage.
    pub(crate) fn serve<A>(&mut self, mut judge: impl FnMut(&Waiter<W>) -> Verdict<A>) -> Vec<(W, A)> {
        let mut answered = Vec::new();
        while let Some((waiter, answer)) = self.next_answer(&mut judge) {
            answered.push((waiter.reply, answer));
        }
        answered
    }

    fn next_answer<A>(&mut self, judge: &mut impl FnMut(&Waiter<W>) -> Verdict<A>) -> Option<(Waiter<W>, A)> {
        for index in 0..self.lines.len() {
            let line = self.lines.get_mut(index)?;
            for at in 0..line.waiters.len() {
                let (answer, is_turn) = match judge(line.waiters.get(at)?) {
                    Verdict::Stay => continue,
                    Verdict::Serve(answer) => (answer, true),
                    Verdict::Refuse(answer) => (answer, false),
                };
                let waiter = line.waiters.remove(at)?;
                self.count -= 1;
                if line.waiters.is_empty() {
                    self.lines.remove(index);
                } else if is_turn && let Some(line) = self.lines.remove(index) {
                    self.lines.push_back(line);
                }
                return Some((waiter, answer));
            }
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::facts::Usage;

    fn queue(waiting: &[(u64, &'static str)]) -> Queue<&'static str> {
        let mut queue = Queue::new(8);
        for (caller, name) in waiting {
            queue.join(CallerId(*caller), Usage::Chat, Vec::new(), *name).unwrap();
        }
        queue
    }

    fn served(queue: &mut Queue<&'static str>, mut count: usize) -> Vec<&'static str> {
        let answers = queue.serve(|_| {
            if count == 0 {
                return Verdict::Stay;
            }
            count -= 1;
            Verdict::Serve(())
        });
        answers.into_iter().map(|(name, ())| name).collect()
    }

    #[test]
    fn callers_take_turns_and_each_line_keeps_its_order() {
        let mut queue = queue(&[(1, "a1"), (1, "a2"), (1, "a3"), (2, "b1"), (3, "c1"), (2, "b2")]);
        assert_eq!(served(&mut queue, 1), ["a1"]);
        assert_eq!(served(&mut queue, 3), ["b1", "c1", "a2"]);
        queue.join(CallerId(3), Usage::Chat, Vec::new(), "c2").unwrap();
        assert_eq!(served(&mut queue, 9), ["b2", "a3", "c2"]);
        assert_eq!(queue.len(), 0);
    }

    #[test]
    fn the_queue_is_bounded_and_whoever_leaves_makes_room() {
        let mut queue = Queue::new(2);
        let first = queue.join(CallerId(1), Usage::Chat, Vec::new(), "first").unwrap();
        let second = queue.join(CallerId(1), Usage::Chat, Vec::new(), "second").unwrap();
        assert_eq!(queue.join(CallerId(1), Usage::Chat, Vec::new(), "third"), Err("third"));
        assert!(queue.leave(first));
        assert!(!queue.leave(first));
        assert_eq!(queue.len(), 1);
        queue.join(CallerId(2), Usage::Chat, Vec::new(), "third").unwrap();
        assert!(queue.leave(second));
        assert_eq!(served(&mut queue, 9), ["third"]);
        assert_eq!(Queue::new(0).join(CallerId(1), Usage::Chat, Vec::new(), ()), Err(()));
    }

    #[test]
    fn a_full_queue_is_shared_evenly() {
        let mut queue = Queue::new(4);
        for name in ["a1", "a2", "a3", "a4"] {
            queue.join(CallerId(1), Usage::Chat, Vec::new(), name).unwrap();
        }
        assert_eq!(queue.join(CallerId(1), Usage::Chat, Vec::new(), "a5"), Err("a5"));
        for name in ["b1", "b2"] {
            queue.join(CallerId(2), Usage::Chat, Vec::new(), name).unwrap();
        }
        assert_eq!(queue.join(CallerId(2), Usage::Chat, Vec::new(), "b3"), Err("b3"), "it has its share");
        queue.join(CallerId(3), Usage::Chat, Vec::new(), "c1").unwrap();
        assert_eq!(queue.len(), 4);
        let mut names = served(&mut queue, 9);
        names.sort_unstable();
        assert!(names.contains(&"a1") && names.contains(&"b1") && names.contains(&"c1"), "{names:?}");
        // Lines of one each are even.
        let mut queue = Queue::new(2);
        for caller in 1..3 {
            queue.join(CallerId(caller), Usage::Chat, Vec::new(), "first").unwrap();
        }
        assert_eq!(queue.join(CallerId(3), Usage::Chat, Vec::new(), "late"), Err("late"));
    }

    #[test]
    fn those_who_can_be_served_do_not_wait_for_those_who_cannot() {
        let mut queue = queue(&[(1, "stuck"), (1, "a"), (2, "b"), (3, "bad"), (3, "c")]);
        let answers = queue.serve(|waiter| match waiter.reply {
            "stuck" => Verdict::Stay,
            "bad" => Verdict::Refuse(false),
            _ => Verdict::Serve(true),
        });
        assert_eq!(answers, [("a", true), ("b", true), ("bad", false), ("c", true)]);
        assert_eq!(queue.len(), 1);
        assert_eq!(served(&mut queue, 1), ["stuck"]);
    }

    #[test]
    fn a_refusal_is_no_turn() {
        let mut queue = queue(&[(1, "bad"), (1, "a"), (2, "b")]);
        let answers = queue.serve(|waiter| match waiter.reply {
            "bad" => Verdict::Refuse(()),
            _ => Verdict::Stay,
        });
        assert_eq!(answers, [("bad", ())]);
        assert_eq!(served(&mut queue, 2), ["a", "b"], "the first caller is still the next");
    }
}
