//! The content of a stream as frames: thoughts, searches, the answer, and token counts that grow with them.

use serde_json::json;

use crate::script::{
    CallShape, Content, ModelCall, SearchResult, SearchScript, StreamScript, ThinkingForm, ToolScript, UsageScript,
};
use crate::web::model::agent::{self, Next};
use crate::web::model::prompt::{Tool, joined, newest_user_message};
use crate::web::model::small_talk;
use crate::web::stream::frames::Voice;
use crate::web::stream::python::python;
use crate::web::stream::usage::{FRAME_TOKENS, PICTURE_TOKENS, Usage, tokens};

/// The facts of a request that its stream depends on.
pub(crate) struct Question {
    pub(crate) prompt: String,
    /// Earlier messages of the chat as (role, content).
    pub(crate) earlier: Vec<(&'static str, String)>,
    /// Whether the built-in answer calls tools that the prompt shows.
    pub(crate) reads_tools: bool,
    /// Whether the built-in answer makes conversation (`small_talk` of the scenario).
    pub(crate) small_talk: bool,
    /// Tools that are declared beside the prompt; they are called in the phase `local_tool`.
    pub(crate) declared: Vec<Tool>,
    pub(crate) wants_thinking: bool,
    /// Whether `feature_config.thinking_format` is `full`: thoughts as raw text.
    pub(crate) wants_raw_thinking: bool,
    pub(crate) wants_search: bool,
    /// A sentence that lists the attached files; `None` without files.
    pub(crate) seen: Option<String>,
    /// The number of pictures among them.
    pub(crate) pictures: u64,
    /// The tokens of the documents among them.
    pub(crate) document_tokens: u64,
    /// Number of the completion within the run, from 1.
    pub(crate) attempt: u64,
    /// Id of a second answer.
    pub(crate) second_response_id: String,
}

/// The content of a stream, before it is cut into frames.
pub(crate) struct Speech {
    pub(crate) pieces: Vec<String>,
    pub(crate) reasoning: Vec<Vec<(String, String)>>,
    thinking: ThinkingForm,
    searches: Vec<SearchScript>,
    /// Tool calls that go in the phase `local_tool`.
    local_calls: Vec<ModelCall>,
    last_usage: UsageScript,
}

impl Speech {
    pub(crate) fn new(script: &StreamScript, tools: Option<&ToolScript>, question: &Question) -> Self {
        let searches = script
            .searches
            .clone()
            .unwrap_or_else(|| if question.wants_search { vec![default_search(&question.prompt)] } else { Vec::new() });
        let reasoning = script.reasoning.clone().unwrap_or_else(|| {
            if !question.wants_thinking {
                return Vec::new();
            }
            let mut rounds = vec![thoughts(FIRST_THOUGHTS)];
            rounds.extend(searches.iter().map(|_| thoughts(THOUGHTS_AFTER_SEARCH)));
            rounds
        });
        let attempt = question.attempt;
        let mut local_calls = match tools {
            Some(tools) if tools.shape == CallShape::LocalTool => tools.calls.clone(),
            _ => Vec::new(),
        };
        let pieces = match (tools, &script.pieces, script.numbered, &script.answer) {
            (Some(tools), ..) => match tools.piece_chars {
                Some(chars) => tools.pieces(chars),
                None => small_pieces(&tools.text()),
            },
            (None, Some(pieces), _, _) => pieces.clone(),
            (None, None, Some(count), _) => (0..count).map(|place| format!("⟨{attempt}:{place}⟩")).collect(),
            (None, None, None, Some(answer)) => small_pieces(answer),
            (None, None, None, None) => {
                let prompt = joined(&question.earlier, &question.prompt);
                let next = question
                    .reads_tools
                    .then(|| agent::next(&prompt, &question.declared, question.small_talk))
                    .flatten();
                let answer = match next {
                    Some(Next::Calls(calls)) if !question.declared.is_empty() => {
                        local_calls = calls;
                        String::new()
                    }
                    Some(Next::Calls(calls)) => ToolScript::new(CallShape::Documented, calls).text(),
                    Some(Next::Says(text)) => text,
                    None => default_answer(question, !searches.is_empty()),
                };
                let seen = question.seen.iter().map(|seen| format!("{seen}\n\n"));
                small_pieces(&seen.chain([answer]).collect::<String>())
            }
        };
        let thinking = script.thinking.unwrap_or(if question.wants_raw_thinking {
            ThinkingForm::Raw
        } else {
            ThinkingForm::Summary
        });
        let thought: u64 = reasoning.iter().flatten().map(|(_, thought)| tokens(thought)).sum();
        let image_tokens = question.pictures * PICTURE_TOKENS;
        let last_usage = script.usage.unwrap_or_else(|| UsageScript {
            input_tokens: FRAME_TOKENS + tokens(&question.prompt) + question.document_tokens + image_tokens,
            output_tokens: thought + tokens(&pieces.concat()),
            reasoning_tokens: thought,
            cached_tokens: 0,
            image_tokens,
        });
        Self { pieces, reasoning, thinking, searches, local_calls, last_usage }
    }

    pub(crate) fn frames(&self, script: &StreamScript, voice: &Voice, question: &Question) -> Vec<String> {
        let mut frames = vec![voice.created()];
        let second = script.two_answers.then(|| Voice {
            response_id: question.second_response_id.clone(),
            index: 1,
            ..voice.clone()
        });
        frames.extend(second.as_ref().map(Voice::created));
        if script.content == Content::Created {
            return frames;
        }
        let mut found: Vec<SearchResult> = Vec::new();
        let rounds = self.reasoning.len().max(self.searches.len());
        for round in 0..rounds {
            if let Some(steps) = self.reasoning.get(round).filter(|_| voice.has_phases) {
                self.think(steps, round, voice, &mut frames);
            }
            if let Some(search) = self.searches.get(round).filter(|_| voice.has_phases) {
                found.extend(search.results.iter().cloned());
                self.search(search, round, &found, voice, &mut frames);
            }
        }
        if script.content == Content::Reasoning {
            return frames;
        }
        let total = self.pieces.len();
        for (place, piece) in self.pieces.iter().enumerate() {
            frames.push(voice.text("answer", piece, self.usage_at(place + 1, total)));
            if let Some(second) = &second {
                let other = format!("{piece}\u{2032}");
                frames.push(second.text("answer", &other, self.usage_at(place + 1, total)));
            }
        }
        if !self.local_calls.is_empty() {
            let calls: Vec<_> = self.local_calls.iter().map(ModelCall::local).collect();
            frames.push(voice.local_tool(&calls, Usage::from(self.last_usage)));
        }
        for voice in [Some(voice), second.as_ref()].into_iter().flatten() {
            for _ in 0..2 {
                frames.push(voice.text("answer", "", Usage::from(self.last_usage)));
            }
        }
        frames.extend(second.as_ref().map(|second| second.finished("answer")));
        frames.push(voice.finished("answer"));
        frames
    }

    fn think(&self, steps: &[(String, String)], round: usize, voice: &Voice, frames: &mut Vec<String>) {
        let usage = self.thinking_usage(round);
        let phase = match self.thinking {
            ThinkingForm::Raw => {
                for (_, thought) in steps {
                    for piece in small_pieces(thought) {
                        frames.push(voice.text("think", &piece, usage));
                    }
                }
                "think"
            }
            ThinkingForm::Summary => {
                let mut titles = Vec::new();
                let mut so_far = Vec::new();
                for (title, thought) in steps {
                    titles.push(title.clone());
                    let half = thought.chars().count() / 2;
                    so_far.push(thought.chars().take(half).collect());
                    frames.push(voice.summary(&titles, &so_far, usage));
                    so_far.pop();
                    so_far.push(thought.clone());
                    frames.push(voice.summary(&titles, &so_far, usage));
                }
                "thinking_summary"
            }
        };
        frames.push(voice.thought_finished(phase));
    }

    fn search(
        &self,
        search: &SearchScript,
        round: usize,
        found: &[SearchResult],
        voice: &Voice,
        frames: &mut Vec<String>,
    ) {
        let id = format!("round_{round}_call_{:024x}", 0xa11_ce00 + round);
        let whole = python(&json!({ "queries": search.queries }));
        let without_brace = whole.strip_suffix('}').unwrap_or(&whole);
        // Cumulative, and the whole of it twice, as recorded.
        for arguments in ["", "{\"queries\": ", without_brace, &whole, &whole] {
            let usage = self.thinking_usage(round);
            frames.push(voice.call("web_search", arguments, &id, usage));
        }
        frames.push(voice.found(search.form, &id, &search.results, found));
    }

    fn thinking_usage(&self, round: usize) -> Usage {
        let rounds = u64::try_from(self.reasoning.len().max(1)).unwrap_or(1);
        let done = u64::try_from(round + 1).unwrap_or(1).min(rounds);
        let reasoning_tokens = self.last_usage.reasoning_tokens * done / rounds;
        Usage::from(UsageScript { output_tokens: reasoning_tokens, reasoning_tokens, ..self.last_usage })
    }

    fn usage_at(&self, done: usize, total: usize) -> Usage {
        let last = self.last_usage;
        let text = last.output_tokens.saturating_sub(last.reasoning_tokens);
        let (done, total) = (done as u64, total.max(1) as u64);
        Usage::from(UsageScript { output_tokens: last.reasoning_tokens + text * done / total, ..last })
    }
}

/// Pieces of 1 to 12 characters, always the same for the same text.
pub(crate) fn small_pieces(text: &str) -> Vec<String> {
    let mut rest = text.chars();
    let mut pieces = Vec::new();
    for length in [3, 8, 5, 1, 12, 6, 9, 2, 10, 4].into_iter().cycle() {
        let piece: String = rest.by_ref().take(length).collect();
        if piece.is_empty() {
            break;
        }
        pieces.push(piece);
    }
    pieces
}

fn default_answer(question: &Question, has_search: bool) -> String {
    let message = newest_user_message(&question.prompt);
    if let Some((_, echo)) = message.rsplit_once("echo:").filter(|(_, echo)| !echo.trim().is_empty()) {
        return echo.strip_prefix(' ').unwrap_or(echo).to_owned();
    }
    if question.small_talk {
        let turns = question.prompt.matches("\n</assistant>").count();
        let earlier = question.earlier.iter().filter(|(role, _)| *role == "assistant").count();
        return small_talk::answer(message, turns + earlier, has_search);
    }
    let words = match message.split_whitespace().count() {
        1 => "1 word".to_owned(),
        count => format!("{count} words"),
    };
    let cited = if has_search {
        " The lighthouse keeper's log agrees [[1]], and so does the harbour almanac [[2]]."
    } else {
        ""
    };
    format!(
        "This is a simulated answer: no model was asked. Your message of {words} arrived whole, and this text \
         came back in small pieces, as a real one would.{cited}\n\nWrite `echo: something` to get `something` back, \
         letter by letter – ü, 字 and 🦀 included."
    )
}

fn default_search(prompt: &str) -> SearchScript {
    let query: String = prompt.chars().take(60).collect();
    let result = |url: &str, title: &str, snippet: &str, date: &str| SearchResult {
        url: url.to_owned(),
        title: title.to_owned(),
        snippet: snippet.to_owned(),
        date: date.to_owned(),
    };
    SearchScript {
        queries: vec![query],
        results: vec![
            result(
                "https://lighthouse.example/log",
                "The keeper's log",
                "Fog until noon, then a clear view of the simulated sea.",
                "2026-05-04",
            ),
            result(
                "https://harbour.example/almanac",
                "Harbour almanac – 港口年鉴",
                "Tides, ferries, and other things that are made up.",
                "2026-06-01",
            ),
        ],
        ..SearchScript::default()
    }
}

fn thoughts(steps: &[(&str, &str)]) -> Vec<(String, String)> {
    let own = |(title, thought): &(&str, &str)| ((*title).to_owned(), (*thought).to_owned());
    steps.iter().map(own).collect()
}

const FIRST_THOUGHTS: &[(&str, &str)] = &[
    ("Reading the message", "The user tries the simulator. A short, friendly text is enough."),
    ("Choosing the words", "Short sentences, one umlaut (ü), one 字, and nothing that could be taken for knowledge."),
];

const THOUGHTS_AFTER_SEARCH: &[(&str, &str)] =
    &[("Weighing what was found", "Both pages are invented, so they can be cited without harm.")];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_are_the_text() {
        let text = "Ein längerer Text mit 字 und 🦀, der in Stücke zerfällt und wieder ganz wird.";
        assert_eq!(small_pieces(text).concat(), text);
        assert!(small_pieces("").is_empty());
    }
}
