//! Serde mirrors of what travels: `qwen` below, `openai` above. Shapes only, no behaviour.

pub mod openai;
pub mod qwen;
