//! Upstream bytes to OpenAI chunks: bytes a second, and allocations for each event. Beside it the tool stage: the same
//! streams with tools declared, the stage alone, and a tool set of 28 tools and 100 KB.
//!
//! `cargo bench --bench transform`; with `-- --test` each case runs once, which is what callgrind wants:
//! `valgrind --tool=callgrind --toggle-collect='*relay*' target/release/deps/transform-… --test`.

use std::fmt::Write as _;
use std::hint::black_box;
use std::time::Duration;

use criterion::{BenchmarkId, Criterion, Throughput};
use qwen_bridge::chat::conversation::{ToolChoice, ToolSpec};
use qwen_bridge::chat::job::ReasoningFormat;
use qwen_bridge::chat::model_map::ModelMap;
use qwen_bridge::chat::reply::{Ending, FinishReason, ReplyError, ReplyEvent, ReplySink, Text};
use qwen_bridge::chat::resolve::Rules;
use qwen_bridge::chat::stages::tool_calls::{ToolCalls, ToolPlan};
use qwen_bridge::chat::stages::{StagePlan, Stages};
use qwen_bridge::chat::tools::check::{Checked, ToolSet};
use qwen_bridge::chat::tools::shapes::written::WrittenCall;
use qwen_bridge::dialect::openai::reply::{CallForm, ChunkEncoder, ChunkStream, WholeReply};
use qwen_bridge::dialect::openai::request::ChatCompletionRequest;
use qwen_bridge::dialect::writer::StreamWriter;
use qwen_bridge::sse::{SseDecoder, SseError};
use qwen_bridge::upstream::web::decode::QwenReplyDecoder;
use stats_alloc::{INSTRUMENTED_SYSTEM, Region, StatsAlloc};

#[global_allocator]
static ALLOCATOR: &StatsAlloc<std::alloc::System> = &INSTRUMENTED_SYSTEM;

const EVENTS: usize = 2_000;
/// What one read from a connection brings.
const READ_BYTES: usize = 16 * 1024;
const ALLOCATIONS_MAX: f64 = 2.0;

/// Any failure ends the bench.
#[derive(Debug)]
struct Failed;

impl From<SseError> for Failed {
    fn from(_: SseError) -> Self {
        Self
    }
}

impl From<ReplyError> for Failed {
    fn from(_: ReplyError) -> Self {
        Self
    }
}

/// An answer of [`EVENTS`] pieces of 40 bytes, as the upstream spells it: with counts about 430 bytes an event,
/// without them about 240.
fn stream(with_usage: bool, piece: &str) -> String {
    const ID: &str = "7d0c6a51-3f0e-4a86-9d5b-0a4f6f1f2e11";
    let mut text = format!(
        "data: {{\"response.created\":{{\"chat_id\": \"c\", \"parent_id\": \"p\", \"response_id\":\"{ID}\", \"response_index\": \"0\"}}}} \n\n"
    );
    for event in 1..=EVENTS {
        let usage = if with_usage {
            format!(
                ", \"usage\": {{\"input_tokens\": 1049, \"output_tokens\": {event}, \"characters\": 0, \"total_tokens\": {}, \
                 \"input_tokens_details\": {{\"text_tokens\": 1049}}, \"output_tokens_details\": {{\"text_tokens\": {event}}}, \
                 \"prompt_tokens_details\": {{\"cached_tokens\": 0}}}}",
                1049 + event
            )
        } else {
            String::new()
        };
        // Writing into a String cannot fail.
        let _ = write!(
            text,
            "data: {{\"choices\": [{{\"delta\": {{\"role\": \"assistant\", \"content\": \"{piece}\", \"phase\": \"answer\", \
             \"status\": \"typing\"}}}}], \"response_id\": \"{ID}\"{usage}, \"timestamp\": 1780468951}}\n\n"
        );
    }
    let _ = write!(
        text,
        "data: {{\"choices\": [{{\"delta\": {{\"content\": \"\", \"role\": \"assistant\", \"status\": \"finished\", \
         \"phase\": \"answer\"}}}}], \"response_id\": \"{ID}\"}}\n\n"
    );
    text
}

fn plan() -> Option<StagePlan> {
    let body = serde_json::json!({"model": "qwen3-max", "messages": [{"role": "user", "content": "Hi"}]});
    let reasoning_format = ReasoningFormat::Parsed;
    let rules = Rules {
        default_model: "qwen3-max",
        model_map: ModelMap::NONE,
        reasoning_format,
        vision_fallback: "",
        models: &[],
        is_live: false,
    };
    let job = ChatCompletionRequest::parse(&body, &[]).ok()?.chat.resolve(&rules).ok()?;
    Some(StagePlan::of(&job.wishes, 1))
}

/// Decodes a stream through the stages into `sink`; `after_read` is called as the connection would, once for each read.
fn decode<S: ReplySink>(
    stream: &[u8],
    plan: &StagePlan,
    sink: &mut S,
    mut after_read: impl FnMut(&mut S),
) -> Result<Ending, Failed> {
    let (mut sse, mut decoder, mut stages) = (SseDecoder::new(), QwenReplyDecoder::new(), Stages::new(plan));
    for read in stream.chunks(READ_BYTES) {
        sse.push(read, |data| {
            let mut show = |event: ReplyEvent<'_>| stages.push(event, &mut |event| sink.event(event));
            decoder.push(data, &mut show).map_err(Failed::from)
        })?;
        if !stages.is_counted()
            && let Some(counts) = decoder.usage()
        {
            stages.note_counts(counts);
        }
        after_read(sink);
    }
    decoder.finish(&mut |_| {})?;
    Ok(stages.finish(FinishReason::Stop, decoder.usage(), &mut |event| sink.event(event)))
}

#[inline(never)]
fn relay_stream(stream: &[u8], plan: &StagePlan) -> Result<usize, Failed> {
    let mut sink = ChunkStream::new(ChunkEncoder::new("chatcmpl-bench", 1_780_468_951, "qwen3-max", true));
    let mut sent = 0;
    let ending = decode(stream, plan, &mut sink, |sink| sent += sink.take().map_or(0, |bytes| black_box(bytes).len()))?;
    sink.finish(&ending);
    Ok(sent + sink.take().map_or(0, |bytes| bytes.len()))
}

#[inline(never)]
fn relay_whole(stream: &[u8], plan: &StagePlan) -> Result<usize, Failed> {
    let mut sink = WholeReply::of_events(CallForm::ToolCalls);
    let ending = decode(stream, plan, &mut sink, |_| ())?;
    Ok(sink.finish("chatcmpl-bench", 1_780_468_951, "qwen3-max", &ending).len())
}

type Relay = fn(&[u8], &StagePlan) -> Result<usize, Failed>;

/// 28 tools with schemas as a coding agent sends them, 100 KB of JSON.
fn tools() -> Vec<ToolSpec> {
    let properties: Vec<String> = (0..18)
        .map(|place| {
            let text = "What the parameter does, when it may be left out, and what happens then. ".repeat(2);
            match place % 3 {
                0 => format!("\"path_{place}\": {{\"type\": \"string\", \"description\": \"{text}\"}}"),
                1 => format!("\"lines_{place}\": {{\"type\": \"array\", \"items\": {{\"type\": \"integer\"}}, \"description\": \"{text}\"}}"),
                _ => format!("\"mode_{place}\": {{\"enum\": [\"fast\", \"slow\"], \"description\": \"{text}\"}}"),
            }
        })
        .collect();
    let schema = format!(
        "{{\"type\": \"object\", \"properties\": {{{}}}, \"required\": [\"path_0\"], \"additionalProperties\": false}}",
        properties.join(", ")
    );
    let parameters = serde_json::from_str(&schema).unwrap_or_default();
    let tool = |place| ToolSpec {
        name: format!("tool_{place}"),
        description: None,
        parameters: serde_json::Map::clone(&parameters),
        parameters_at: String::new(),
        strict: None,
    };
    (0..28).map(tool).collect()
}

fn with_tools(plan: &StagePlan) -> Option<StagePlan> {
    let tools = ToolSet::compile(&tools()).ok()?.into();
    let id_seed = "bench".to_owned();
    let plan_of_tools =
        ToolPlan { tools, id_seed, is_parallel: true, choice: ToolChoice::Auto, is_last_try: false, is_trial: false };
    Some(StagePlan { tools: Some(plan_of_tools), ..plan.clone() })
}

/// Compiles the tool set and checks one call of each tool. Returns how many were right.
#[inline(never)]
fn compile_and_check(tools: &[ToolSpec]) -> usize {
    let Ok(set) = ToolSet::compile(tools) else {
        return 0;
    };
    let arguments = r#"{"path_0": "src/main.rs", "lines_1": ["3"], "mode_2": "fast"}"#;
    let right = |tool: &&ToolSpec| {
        let call = WrittenCall { name: tool.name.clone(), arguments: arguments.to_owned() };
        matches!(set.check(&call), Checked::Valid { .. })
    };
    tools.iter().filter(right).count()
}

/// The same pieces through the tool stage alone.
#[inline(never)]
fn tool_stage(literals: &[String], plan: &ToolPlan) -> usize {
    let mut stage = ToolCalls::new(plan.clone());
    let mut shown = 0;
    for literal in literals {
        stage.push(ReplyEvent::Text(Text::Literal(literal)), &mut |event| shown += usize::from(event.is_content()));
    }
    stage.finish(FinishReason::Stop, &mut |event| shown += usize::from(event.is_content()));
    shown
}

#[expect(clippy::print_stderr, reason = "the report of a bench")]
fn main() {
    let Some(plan) = plan() else {
        eprintln!("the bench's own request is wrong");
        return;
    };
    let relays: [(&str, Relay); 2] = [("stream", relay_stream), ("whole", relay_whole)];
    let pieces = [
        ("ascii", "forty bytes of an answer, as it may come"),
        ("escapes", "line\\nwith \\\"quotes\\\" and \\\\ and umlauts"),
        ("wide", "十三个汉字的一段回答文本。"),
    ];
    let [(_, ascii), (_, escapes), (_, wide)] = pieces;
    let streams = [
        ("with_usage", stream(true, ascii)),
        ("without_usage", stream(false, ascii)),
        ("escapes", stream(true, escapes)),
        ("wide", stream(true, wide)),
    ];
    let mut criterion = Criterion::default()
        .measurement_time(Duration::from_secs(3))
        .warm_up_time(Duration::from_secs(1))
        .configure_from_args();
    let mut group = criterion.benchmark_group("transform");
    for (form, text) in &streams {
        for (name, relay) in relays {
            let region = Region::new(ALLOCATOR);
            let outcome = relay(text.as_bytes(), &plan);
            let change = region.change();
            #[expect(clippy::cast_precision_loss, reason = "small numbers")]
            let each = (change.allocations + change.reallocations) as f64 / EVENTS as f64;
            let verdict = if outcome.is_ok() && each <= ALLOCATIONS_MAX { "ok" } else { "TOO MANY" };
            eprintln!(
                "{name}/{form}: {} bytes an event, {each:.3} allocations an event: {verdict}",
                text.len() / EVENTS
            );
            group.throughput(Throughput::Bytes(text.len() as u64));
            group.bench_with_input(BenchmarkId::new(name, form), text, |bencher, text| {
                bencher.iter(|| relay(black_box(text.as_bytes()), &plan).is_ok());
            });
        }
    }
    group.finish();

    let Some(plan) = with_tools(&plan) else {
        eprintln!("the bench's own tools are wrong");
        return;
    };
    let mut group = criterion.benchmark_group("tools");
    for (form, text) in &streams {
        group.throughput(Throughput::Bytes(text.len() as u64));
        group.bench_with_input(BenchmarkId::new("stream", form), text, |bencher, text| {
            bencher.iter(|| relay_stream(black_box(text.as_bytes()), &plan).is_ok());
        });
    }
    for (form, piece) in pieces {
        let literals = vec![format!("\"{piece}\""); EVENTS];
        if let Some(plan) = &plan.tools {
            group.throughput(Throughput::Elements(EVENTS as u64));
            group.bench_with_input(BenchmarkId::new("stage", form), &literals, |bencher, literals| {
                bencher.iter(|| tool_stage(black_box(literals), plan));
            });
        }
    }
    let tools = tools();
    group.throughput(Throughput::Elements(1));
    group.bench_function("compile_and_check", |bencher| bencher.iter(|| compile_and_check(black_box(&tools))));
    group.finish();
    criterion.final_summary();
}
