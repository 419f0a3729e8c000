//! OpenAI's Responses dialect: `POST /v1/responses`, streamed and whole, and what is kept of a response.

mod events;
pub mod items;
pub mod kept;
pub mod reply;
pub mod request;
pub mod tools;
pub mod wire;
