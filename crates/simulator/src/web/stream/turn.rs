//! From a script and a question to the steps of a stream: which frame, how long a wait, where it tears.

use std::sync::Arc;
use std::time::Duration;

use crate::errors::details_of;
use crate::script::{
    Bench, Content, CutHow, End, Inserted, LineEnding, Packets, StreamError, StreamScript, ToolScript, UsageScript,
};
use crate::web::stream::frames::Voice;
use crate::web::stream::speech::{Question, Speech};
use crate::web::stream::steps::Step;
use crate::web::stream::usage::{FRAME_TOKENS, Usage};
use bytes::Bytes;

/// A stream to be played.
pub(crate) struct Plan {
    pub(crate) steps: Vec<Step>,
    /// Text that the chat stores as the answer.
    pub(crate) answer: String,
}

/// The steps of a stream for this script and question. `scenario_pace_ms` serves if the script has no `pace_ms`.
pub(crate) fn plan(
    script: &StreamScript,
    tools: Option<&ToolScript>,
    voice: &Voice,
    question: &Question,
    scenario_pace_ms: u64,
) -> Plan {
    let speech = Speech::new(script, tools, question);
    let answer = speech.pieces.concat();
    let frames = speech.frames(script, voice, question);
    Plan { steps: plan_frames(script, voice, frames, scenario_pace_ms), answer }
}

/// Inserted frames and error frames, in the spelling of an endpoint.
pub(crate) trait Interjections {
    /// Something that does not belong to the answer.
    fn inserted(&self, what: &Inserted) -> String;

    /// The error that ends the stream.
    fn broken(&self, error: &StreamError) -> String;
}

/// Plans a stream of these frames, the last of which finishes it.
pub(crate) fn plan_frames(
    script: &StreamScript,
    voice: &dyn Interjections,
    mut frames: Vec<String>,
    scenario_pace_ms: u64,
) -> Vec<Step> {
    let mut has_end = matches!(script.end, End::Finished | End::Open) && script.content == Content::Whole;
    if !has_end && script.content == Content::Whole {
        frames.pop();
    }
    if let Some(error) = &script.error {
        frames.truncate(error.after);
        frames.push(voice.broken(error));
        has_end = false;
    }
    let cut_after = script.cut.and_then(|cut| cut.after);
    if let Some(after) = cut_after.filter(|after| *after < frames.len()) {
        frames.truncate(after);
        has_end = false;
    }
    let pace = Duration::from_millis(script.pace_ms.unwrap_or(scenario_pace_ms));
    let mut steps = spaced(script, voice, frames, pace);
    if let Some(at_byte) = script.cut.and_then(|cut| cut.at_byte) {
        has_end &= !truncate(&mut steps, at_byte);
    }
    let recut_pace = Duration::from_millis(script.pace_ms.unwrap_or(0));
    let mut steps = repacked(steps, &script.packets, recut_pace);
    if script.first_event_ms > 0 {
        let wait = Duration::from_millis(script.first_event_ms);
        steps.insert(0, Step::Wait(wait));
    }
    if has_end {
        steps.push(Step::Finished);
    }
    steps.push(last_step(script, voice));
    steps
}

/// Plans a stream of many equal frames, whose packets may be shared by many streams.
pub(crate) fn plan_bench(
    script: &StreamScript,
    voice: &Voice,
    packets: Arc<[Bytes]>,
    scenario_pace_ms: u64,
) -> Vec<Step> {
    let pace = Duration::from_millis(script.pace_ms.unwrap_or(scenario_pace_ms));
    let first = Duration::from_millis(script.first_event_ms);
    vec![
        Step::Wait(first),
        Step::Send(Bytes::from(voice.created())),
        Step::Many { packets, next: 0, pace },
        Step::Finished,
        Step::EndOfBody,
    ]
}

/// The packets of a bench stream, the finished frame included, the created one not.
pub(crate) fn bench_packets(bench: Bench, voice: &Voice) -> Arc<[Bytes]> {
    let content = "x".repeat(bench.content_bytes);
    let events = u64::try_from(bench.events).unwrap_or(u64::MAX);
    let usage = |output_tokens| {
        Usage::from(UsageScript {
            input_tokens: FRAME_TOKENS,
            output_tokens,
            reasoning_tokens: 0,
            cached_tokens: 0,
            image_tokens: 0,
        })
    };
    let typing = (1..=events).map(|count| voice.text("answer", &content, usage(count)));
    let tail =
        [voice.text("answer", "", usage(events)), voice.text("answer", "", usage(events)), voice.finished("answer")];
    let frames: Vec<_> = typing.chain(tail).collect();
    frames.chunks(bench.per_packet.max(1)).map(|chunk| Bytes::from(chunk.concat())).collect()
}

/// Frames, inserts and pauses in their order; each frame a packet.
fn spaced(script: &StreamScript, voice: &dyn Interjections, frames: Vec<String>, pace: Duration) -> Vec<Step> {
    let mut steps = Vec::new();
    if script.bom {
        steps.push(Step::Send(Bytes::from_static("\u{feff}".as_bytes())));
    }
    let total = frames.len();
    let mut frames = frames.into_iter();
    for place in 0..=total {
        for insert in script.inserts.iter().filter(|one| one.after == place) {
            let text = voice.inserted(&insert.what);
            steps.push(Step::Send(with_ending(text, script.line_ending)));
        }
        for pause in script.pauses.iter().filter(|one| one.after == place) {
            steps.push(Step::Wait(Duration::from_millis(pause.ms)));
        }
        if let Some(frame) = frames.next() {
            if place > 0 && !pace.is_zero() {
                steps.push(Step::Wait(pace));
            }
            steps.push(Step::Send(with_ending(frame, script.line_ending)));
        }
    }
    steps
}

impl Interjections for Voice {
    fn inserted(&self, what: &Inserted) -> String {
        let usage = Usage::from(UsageScript {
            input_tokens: FRAME_TOKENS,
            output_tokens: 1,
            reasoning_tokens: 0,
            cached_tokens: 0,
            image_tokens: 0,
        });
        match what {
            Inserted::KeepAlive => self.keep_alive(),
            Inserted::Comment(text) => format!(": {text}\n\n"),
            Inserted::StrayTrue => "data: true\n\n".to_owned(),
            Inserted::Done => "data: [DONE]\n\n".to_owned(),
            Inserted::Text(text) => format!("{text}\n\n"),
            Inserted::UnknownPhase { phase, content, tool } => self.unknown(phase, content, *tool, usage),
        }
    }

    fn broken(&self, error: &StreamError) -> String {
        let details = if error.details.is_empty() { details_of(&error.code) } else { &error.details };
        self.error(error, details)
    }
}

fn with_ending(text: String, ending: LineEnding) -> Bytes {
    Bytes::from(match ending {
        LineEnding::Lf => text,
        LineEnding::Crlf => text.replace('\n', "\r\n"),
        LineEnding::Cr => text.replace('\n', "\r"),
    })
}

/// Drops everything after `bytes_max` bytes; returns whether anything was dropped.
fn truncate(steps: &mut Vec<Step>, bytes_max: usize) -> bool {
    let mut left = bytes_max;
    for place in 0..steps.len() {
        let Some(Step::Send(bytes)) = steps.get_mut(place) else {
            continue;
        };
        if bytes.len() <= left {
            left -= bytes.len();
            continue;
        }
        bytes.truncate(left);
        let has_some = !bytes.is_empty();
        steps.truncate(place + usize::from(has_some));
        return true;
    }
    false
}

fn repacked(steps: Vec<Step>, packets: &Packets, pace: Duration) -> Vec<Step> {
    if *packets == Packets::Frames {
        return steps;
    }
    let mut whole = Vec::new();
    for step in steps {
        if let Step::Send(bytes) = step {
            whole.extend_from_slice(&bytes);
        }
    }
    let length = whole.len();
    let mut rest = Bytes::from(whole);
    let ends: Vec<usize> = match packets {
        Packets::Frames | Packets::One => vec![length],
        Packets::Size(size) => (1..=length.div_ceil(*size)).map(|count| count * size).collect(),
        Packets::At(offsets) => {
            let mut ends: Vec<_> = offsets.iter().copied().chain([length]).collect();
            ends.sort_unstable();
            ends
        }
    };
    let mut steps = Vec::new();
    let mut start = 0;
    for end in ends {
        let packet = rest.split_to(end.saturating_sub(start).min(rest.len()));
        start = end.max(start);
        if packet.is_empty() {
            continue;
        }
        if !steps.is_empty() && !pace.is_zero() {
            steps.push(Step::Wait(pace));
        }
        steps.push(Step::Send(packet));
    }
    steps
}

fn last_step(script: &StreamScript, voice: &dyn Interjections) -> Step {
    match (script.cut.map(|cut| cut.how), &script.end) {
        (Some(CutHow::Fin), _) => Step::Tear { with_reset: false },
        (Some(CutHow::Reset), _) => Step::Tear { with_reset: true },
        (Some(CutHow::CleanEnd), _) | (None, End::Finished | End::Unfinished) => Step::EndOfBody,
        (None, _) if script.error.is_some() => Step::EndOfBody,
        (None, End::Open | End::Stalled) => Step::Hold,
        (None, End::Endless(endless)) => Step::Endless {
            packet: with_ending(voice.inserted(&endless.what), script.line_ending),
            pace: Duration::from_millis(endless.every_ms),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::script::Cut;

    fn bytes(steps: &[Step]) -> Vec<Vec<u8>> {
        let sends = steps.iter().filter_map(|step| match step {
            Step::Send(bytes) => Some(bytes.to_vec()),
            _ => None,
        });
        sends.collect()
    }

    fn steps() -> Vec<Step> {
        ["ab", "cdé", "f"].map(|text| Step::Send(Bytes::from(text))).to_vec()
    }

    #[test]
    fn packets_are_recut() {
        for (packets, expected) in [
            (Packets::One, vec![&b"abcd\xc3\xa9f"[..]]),
            (Packets::Size(5), vec![b"abcd\xc3", b"\xa9f"]),
            (Packets::At(vec![5, 1, 5, 99]), vec![b"a", b"bcd\xc3", b"\xa9f"]),
            (Packets::Frames, vec![b"ab", b"cd\xc3\xa9", b"f"]),
        ] {
            assert_eq!(bytes(&repacked(steps(), &packets, Duration::ZERO)), expected);
        }
    }

    #[test]
    fn bytes_are_cut_off() {
        let mut cut = steps();
        assert!(truncate(&mut cut, 5));
        assert_eq!(bytes(&cut), [&b"ab"[..], b"cd\xc3"]);
        assert!(!truncate(&mut steps(), 7));
    }

    #[test]
    fn every_cut_is_a_prefix() {
        let voice = Voice {
            chat_id: "c".into(),
            parent_id: "p".into(),
            response_id: "r".into(),
            index: 0,
            timestamp: 1,
            has_phases: true,
        };
        let question = Question {
            prompt: "echo: 字 🦀".into(),
            earlier: Vec::new(),
            reads_tools: true,
            small_talk: false,
            declared: Vec::new(),
            wants_thinking: false,
            wants_raw_thinking: false,
            wants_search: false,
            seen: None,
            pictures: 0,
            document_tokens: 0,
            attempt: 1,
            second_response_id: "s".into(),
        };
        let sent = |script: &StreamScript| {
            let plan = plan(script, None, &voice, &question, 0);
            let is_finished = plan.steps.iter().any(|step| matches!(step, Step::Finished));
            (bytes(&plan.steps).concat(), is_finished)
        };
        let (whole, is_finished) = sent(&StreamScript::default());
        assert!(is_finished);
        for at_byte in 0..whole.len() {
            let script = StreamScript {
                cut: Some(Cut { at_byte: Some(at_byte), ..Cut::default() }),
                packets: Packets::Size(7),
                ..StreamScript::default()
            };
            assert_eq!(sent(&script), (whole[..at_byte].to_vec(), false));
        }
    }
}
