//! Prompts of a length that one message takes: the conversation whole, or its newest part with the rest as a file, and
//! the newest turn alone.

use crate::chat::conversation::ToolCall;
use crate::chat::error::{RequestError, RequestErrorKind};
use crate::chat::models::ModelInfo;
use crate::upstream::web::limits::{CONVERSATION_BYTES_MAX, PROMPT_JSON_BYTES_MAX, json_len};
use crate::upstream::web::request::prompt::{self, Block, LongPrompt};
use crate::upstream::web::request::tools::ToolPrompt;

/// The name of the file that a long prompt goes as.
pub(crate) const PROMPT_FILE: &str = "conversation.txt";

/// Most bytes of a prompt in a file that are also written inline. Long prompts are slow, and models read files less
/// faithfully than prompts.
const INLINE_BYTES_MAX: usize = 48_000;
/// The bytes of JSON that one file takes beside the prompt.
const FILE_JSON_BYTES: usize = 1_500;

/// Refuses a conversation that is too long for the upstream in any form.
pub(super) fn fits(bytes: usize) -> Result<(), RequestError> {
    if bytes <= CONVERSATION_BYTES_MAX {
        return Ok(());
    }
    let message = format!(
        "This conversation takes {bytes} bytes, but the upstream's maximum context length for one request is \
         {CONVERSATION_BYTES_MAX} bytes. Shorten or drop older messages."
    );
    Err(RequestError::new(RequestErrorKind::TooLong, "messages", message))
}

/// The prompt of a conversation, and the file beside it when it is too long.
pub(super) fn prompt_of(
    blocks: &[Block],
    tools: Option<&ToolPrompt>,
    files: usize,
    reserved: usize,
) -> Result<(String, Option<String>), RequestError> {
    let prompt = prompt::render(blocks, tools);
    let max = prompt_bytes_max(files, reserved);
    if json_len(&prompt) <= max {
        return Ok((prompt, None));
    }
    fits(prompt.len())?;
    let LongPrompt { inline, file } = long_prompt(blocks, tools, max);
    Ok((inline, Some(file)))
}

/// Most bytes of JSON for a prompt beside this number of files and the `reserved` bytes.
pub(super) fn prompt_bytes_max(files: usize, reserved: usize) -> usize {
    PROMPT_JSON_BYTES_MAX.saturating_sub(files.saturating_mul(FILE_JSON_BYTES)).saturating_sub(reserved)
}

/// The conversation as a file and a prompt of at most `max` bytes of JSON.
pub(super) fn long_prompt(blocks: &[Block], tools: Option<&ToolPrompt>, max: usize) -> LongPrompt {
    // Escapes can make the JSON of a text longer than the text, at worst six times.
    let beside_tools = max.saturating_sub(tools.map_or(0, |tools| json_len(&tools.text)));
    let mut room = INLINE_BYTES_MAX.min(beside_tools / 2);
    loop {
        let long = prompt::render_long(blocks, tools, PROMPT_FILE, room);
        if json_len(&long.inline) <= max || room < 1000 {
            return long;
        }
        room /= 2;
    }
}

/// The messages behind the last answer as a prompt; `None` when they are none, are too long for one message, or have
/// results that cannot be told apart without the calls.
pub(super) fn turn_prompt(
    blocks: &[Block],
    start: usize,
    tools: Option<&ToolPrompt>,
    output: Option<&str>,
    files: usize,
) -> Option<String> {
    let (Some(Block::Assistant { calls, .. }), turn) = (blocks.get(start.checked_sub(1)?), blocks.get(start..)?) else {
        return None;
    };
    let turn = in_order_of_calls(turn, calls)?;
    let prompt = prompt::render_turn(&turn, tools);
    let prompt = output.map_or(prompt.clone(), |output| format!("{prompt}\n\n{output}"));
    let max = PROMPT_JSON_BYTES_MAX.saturating_sub(files.saturating_mul(FILE_JSON_BYTES));
    (!turn.is_empty() && json_len(&prompt) <= max).then_some(prompt)
}

/// The messages of a turn with its results in the order of the calls, since the model does not know the ids that its
/// calls were given. `None` when a result answers another call, or when one of several calls has none.
fn in_order_of_calls(turn: &[Block], calls: &[ToolCall]) -> Option<Vec<Block>> {
    let is_result = |block: &&Block| matches!(block, Block::ToolResult { .. });
    let results: Vec<&Block> = turn.iter().filter(is_result).collect();
    let answers = |call: &ToolCall| {
        let its = |block: &&&Block| matches!(block, Block::ToolResult { id, .. } if id.as_ref() == Some(&call.id));
        let mut its = results.iter().filter(its).copied();
        its.next().filter(|_| its.next().is_none())
    };
    let mut ordered = match (results.len(), calls) {
        (0, []) => return Some(turn.to_vec()),
        // An older client's result has no id.
        (0 | 1, [_]) if results.iter().all(|block| matches!(block, Block::ToolResult { id: None, .. })) => results,
        (count, calls) if count == calls.len() => calls.iter().map(answers).collect::<Option<Vec<_>>>()?,
        _ => return None,
    }
    .into_iter();
    turn.iter().map(|block| if is_result(&block) { ordered.next().cloned() } else { Some(block.clone()) }).collect()
}

/// Refuses a conversation that the model cannot read to its end, by the rough count of four bytes a token.
pub(super) fn fits_context(text: &str, model: Option<&ModelInfo>) -> Result<(), RequestError> {
    let Some(limit) = model.and_then(|model| model.context_length) else {
        return Ok(());
    };
    let tokens = text.len() as u64 / 4;
    if tokens <= limit {
        return Ok(());
    }
    let message = format!(
        "This model's maximum context length is {limit} tokens, but the messages have about {tokens}. Shorten or drop \
         older messages."
    );
    Err(RequestError::new(RequestErrorKind::TooLong, "messages", message))
}
