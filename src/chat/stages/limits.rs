//! Stage: stop sequences and the token limit, for upstreams that know neither.

use crate::chat::reply::FinishReason;
use crate::chat::tokens::{HUNDREDTHS, TokenMeter};

/// Cuts text before the first stop sequence or at the token limit, for any division of the text into pieces.
#[derive(Clone, Debug)]
pub(crate) struct TextLimiter {
    stops: Vec<String>,
    /// Hundredths of tokens that may still be shown.
    left: Option<u64>,
    meter: TokenMeter,
    /// Text that may turn out to be the beginning of a stop sequence.
    held: String,
    /// The stop sequence that was met.
    met: Option<String>,
    ended: Option<FinishReason>,
}

impl TextLimiter {
    /// A limiter for these stop sequences (none of them empty) and at most this many estimated tokens.
    #[must_use]
    pub(crate) fn new(stops: Vec<String>, tokens_max: Option<u32>) -> Self {
        let left = tokens_max.map(|tokens| u64::from(tokens) * HUNDREDTHS);
        Self { stops, left, meter: TokenMeter::default(), held: String::new(), met: None, ended: None }
    }

    /// Whether there is nothing to limit.
    #[must_use]
    pub(crate) fn is_idle(&self) -> bool {
        self.stops.is_empty() && self.left.is_none()
    }

    /// The reason why the text has ended; `None` while it goes on. After the end all text is dropped.
    #[must_use]
    pub(crate) fn ended(&self) -> Option<FinishReason> {
        self.ended
    }

    /// Takes the stop sequence that ended the text.
    pub(crate) fn take_met(&mut self) -> Option<String> {
        self.met.take()
    }

    /// Takes the next piece and gives what may be shown of it and of what was held back.
    pub(crate) fn push(&mut self, piece: &str) -> String {
        if self.ended.is_some() {
            return String::new();
        }
        self.held.push_str(piece);
        // The sequence that is complete first wins; one that begins earlier but ends later is not complete yet.
        let found = |(index, stop): (usize, &String)| {
            self.held.find(stop.as_str()).map(|place| (place + stop.len(), place, index))
        };
        let shown_to = match self.stops.iter().enumerate().filter_map(found).min() {
            Some((_, place, index)) => {
                self.ended = Some(FinishReason::Stop);
                self.met = self.stops.get(index).cloned();
                place
            }
            None => self.held.len() - self.ambiguous_suffix(),
        };
        let rest = self.held.split_off(shown_to);
        let shown = std::mem::replace(&mut self.held, rest);
        self.take_tokens(shown)
    }

    /// Gives what was held back, when the upstream has finished.
    pub(crate) fn finish(&mut self) -> String {
        if self.ended.is_some() {
            return String::new();
        }
        let held = std::mem::take(&mut self.held);
        self.take_tokens(held)
    }

    /// Bytes at the end of what is held that could begin a stop sequence.
    fn ambiguous_suffix(&self) -> usize {
        let longest = |stop: &String| {
            let starts = stop.char_indices().map(|(place, _)| place).filter(|place| *place > 0);
            starts.filter(|length| stop.get(..*length).is_some_and(|head| self.held.ends_with(head))).max()
        };
        self.stops.iter().filter_map(longest).max().unwrap_or(0)
    }

    fn take_tokens(&mut self, mut text: String) -> String {
        let Some(left) = &mut self.left else {
            return text;
        };
        for (place, c) in text.char_indices() {
            let cost = self.meter.add_char(c);
            if cost > *left {
                // The limit was met before the stop sequence.
                (self.ended, self.met) = (Some(FinishReason::Length), None);
                *left = 0;
                text.truncate(place);
                return text;
            }
            *left -= cost;
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn run(pieces: &[&str], stops: &[&str], tokens_max: Option<u32>) -> (String, Option<FinishReason>) {
        let mut limiter = TextLimiter::new(stops.iter().map(|stop| (*stop).to_owned()).collect(), tokens_max);
        let mut shown = String::new();
        for piece in pieces {
            shown.push_str(&limiter.push(piece));
        }
        shown.push_str(&limiter.finish());
        (shown, limiter.ended())
    }

    #[test]
    fn stop_sequences() {
        let stop = Some(FinishReason::Stop);
        assert_eq!(run(&["one END two"], &["END"], None), ("one ".to_owned(), stop));
        assert_eq!(run(&["one E", "N", "D two"], &["END"], None), ("one ".to_owned(), stop));
        assert_eq!(run(&["one EN", "T"], &["END"], None), ("one ENT".to_owned(), None));
        assert_eq!(run(&["aab"], &["ab", "aab"], None), (String::new(), stop));
        assert_eq!(run(&["你好", "世界"], &["好世"], None), ("你".to_owned(), stop));
        assert_eq!(run(&["aaa", "b"], &["aab"], None), ("a".to_owned(), stop));
        assert_eq!(run(&["abc"], &["abc", "b"], None), ("a".to_owned(), stop));
        assert_eq!(run(&["ab", "c"], &["abc", "b"], None), ("a".to_owned(), stop));
    }

    #[test]
    fn token_limit() {
        let length = Some(FinishReason::Length);
        assert_eq!(run(&["one two"], &[], Some(1)), ("one ".to_owned(), length));
        assert_eq!(run(&["one "], &[], Some(1)), ("one ".to_owned(), None));
        assert_eq!(run(&["12"], &[], Some(1)), ("1".to_owned(), length));
        assert_eq!(run(&["你好"], &[], Some(1)), ("你".to_owned(), length));
        assert_eq!(run(&["on", "e 5"], &["5"], Some(1)), ("one ".to_owned(), Some(FinishReason::Stop)));
    }

    proptest! {
        #[test]
        fn pieces_do_not_matter(text in "[ab你]{0,20}", stop in "[ab你]{1,3}", cut in any::<prop::sample::Index>()) {
            let places: Vec<usize> = text.char_indices().map(|(place, _)| place).chain([text.len()]).collect();
            let (head, tail) = text.split_at(places[cut.index(places.len())]);
            let whole = text.split(&stop).next().unwrap_or_default();
            prop_assert_eq!(run(&[head, tail], &[&stop], None).0, whole);
        }

        #[test]
        fn any_cuts_give_the_same(
            text in "[ab你\u{1f600}]{0,30}",
            stops in prop::collection::vec("[ab你]{1,4}", 0..3),
            tokens_max in prop::option::of(1_u32..8),
            cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..8),
        ) {
            let stops: Vec<&str> = stops.iter().map(String::as_str).collect();
            let places: Vec<usize> = text.char_indices().map(|(place, _)| place).chain([text.len()]).collect();
            let mut ends: Vec<usize> = cuts.iter().map(|cut| places[cut.index(places.len())]).collect();
            ends.extend([0, text.len()]);
            ends.sort_unstable();
            let pieces: Vec<&str> = ends.windows(2).map(|pair| text.get(pair[0]..pair[1]).unwrap()).collect();
            let (shown, ended) = run(&pieces, &stops, tokens_max);
            let (whole, reason) = run(&[&text], &stops, tokens_max);
            prop_assert!(text.starts_with(&shown));
            prop_assert!(stops.iter().all(|stop| !shown.contains(stop)));
            prop_assert_eq!(ended.is_none(), shown == text);
            prop_assert_eq!((shown, ended), (whole, reason));
        }
    }
}
