//! What a scenario can say: the replies of each endpoint and how a stream is written.

pub mod api_script;
pub mod media_script;
pub mod oauth_script;
pub mod reply;
pub mod scenario;
pub(crate) mod scripts;
pub mod stream;
