//! OpenAI's Responses dialect: `POST /v1/responses`, streamed and whole, and what is kept of a response.

mod events;
pub(crate) mod items;
pub(crate) mod kept;
mod output;
pub(crate) mod reply;
pub(crate) mod request;
pub(crate) mod tools;
pub(crate) mod wire;
