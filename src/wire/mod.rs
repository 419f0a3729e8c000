//! Serde mirrors of what travels: `qwen` below, `openai` and `login` above. Shapes only, no behaviour.

pub mod login;
pub mod openai;
pub mod qwen;
