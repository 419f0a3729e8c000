//! The stream of a deep research: a question back, or a plan, searches, reading and a report.

use serde_json::{Value, json};

use crate::script::{ReportPhase, ResearchScript, StreamScript, UsageScript};
use crate::web::stream::frames::Voice;
use crate::web::stream::speech::{Question, small_pieces};
use crate::web::stream::usage::{FRAME_TOKENS, Usage, tokens};

/// The frames of a research, and what its chat will remember.
pub(crate) fn frames(
    script: &ResearchScript,
    stream: &StreamScript,
    voice: &Voice,
    question: &Question,
) -> (Vec<String>, String) {
    let mut frames = vec![voice.created()];
    let asks = script.asks.unwrap_or_else(|| question.earlier.is_empty() && !question.prompt.contains("echo:"));
    let answer = if asks { QUESTION_BACK.to_owned() } else { report(stream, question) };
    let usage = Usage::from(UsageScript {
        input_tokens: FRAME_TOKENS + tokens(&question.prompt),
        output_tokens: tokens(&answer),
        reasoning_tokens: 0,
        cached_tokens: 0,
        image_tokens: 0,
    });
    let say = |phase: &str, pieces: &[String], frames: &mut Vec<String>| {
        for piece in pieces {
            frames.push(voice.research(phase, piece, "typing", Value::Null, usage));
        }
        frames.push(voice.research(phase, "", "finished", Value::Null, usage));
    };
    if asks {
        say("ResearchNotice", &small_pieces(&answer), &mut frames);
    } else {
        say("ResearchPlanning", &small_pieces(PLAN), &mut frames);
        frames.push(voice.research("ResearchSearching", SEARCHING, "typing", found(), usage));
        frames.extend((0..script.keep_alives).map(|_| voice.keep_alive()));
        frames.push(voice.research("KeepAlive", "", "typing", Value::Null, usage));
        frames.push(voice.research("ResearchSearching", "", "finished", Value::Null, usage));
        say("ResearchReading", &small_pieces(READING), &mut frames);
        let pieces = stream.pieces.clone().unwrap_or_else(|| small_pieces(&answer));
        match script.report {
            ReportPhase::Writing => say("Writing", &pieces, &mut frames),
            ReportPhase::Answer => frames.extend(pieces.iter().map(|piece| voice.text("answer", piece, usage))),
        }
    }
    if script.has_last_frame {
        frames.push(voice.text("answer", "", usage));
        frames.push(voice.finished("answer"));
    }
    (frames, answer)
}

fn report(stream: &StreamScript, question: &Question) -> String {
    let scripted = stream.pieces.as_ref().map(|pieces| pieces.concat()).or_else(|| stream.answer.clone());
    let echoed = question.prompt.rsplit_once("echo:").map(|(_, echo)| echo.trim_start().to_owned());
    scripted.or(echoed).unwrap_or_else(|| REPORT.to_owned())
}

/// The hits of the search in the upstream's form.
fn found() -> Value {
    json!([
        { "url": "https://lighthouse.example/log", "title": "The keeper's log", "snippet": "Fog until noon.",
          "hostname": "lighthouse.example", "hostlogo": "", "date": "" },
        { "url": "https://harbour.example/almanac", "title": "Harbour almanac", "snippet": "Tides and ferries.",
          "hostname": "harbour.example", "hostlogo": "", "date": "" },
    ])
}

const QUESTION_BACK: &str =
    "Before the search begins: which harbour is meant, and should the report cover tides, ferries or both?";
const PLAN: &str = "1. Find logs of invented lighthouses. 2. Compare them with the almanac.";
const SEARCHING: &str = "Searching for lighthouse logs.";
const READING: &str = "Reading the keeper's log.";
const REPORT: &str =
    "# Fog at the simulated harbour\n\nThe fog lifts at noon [[1]], and the ferries go by the tide [[2]].";
