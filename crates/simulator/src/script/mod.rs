//! The language of scenarios: accounts and keys, the replies of each endpoint, the writing of streams.
//!
//! Plain data, read from a file or built in Rust. `queues` hands the replies out; the endpoints obey them.

pub(crate) mod api;
pub(crate) mod endpoint;
pub(crate) mod guests;
pub(crate) mod media;
pub(crate) mod oauth;
pub(crate) mod queues;
pub(crate) mod reply;
pub(crate) mod research;
pub(crate) mod scenario;
pub(crate) mod stream;
pub(crate) mod tools;

pub use crate::script::api::{
    ApiErrorForm, ApiErrorScript, ApiFailure, ChatScript, ChunkForm, PlanWindow, PortalScript, ToolCallScript,
    UsageChunk,
};
pub use crate::script::endpoint::Endpoint;
pub use crate::script::guests::{KeyScript, OAuthAccount};
pub use crate::script::media::{
    GrantScript, ParseEnd, ParseScript, PictureForm, PictureScript, PutScript, PutStop, VideoEnd, VideoScript,
};
pub use crate::script::oauth::{
    Approval, DeviceScript, OAuthErrorScript, OAuthFailure, ResourceUrl, TokenBody, TokenRotation, TokenScript,
};
pub use crate::script::reply::{
    BodyForm, Challenge, ChallengeForm, ErrorScript, RawScript, ScriptedFailure, ScriptedReply, StatusScript,
};
pub use crate::script::research::{ReportPhase, ResearchScript};
pub use crate::script::scenario::{AccountScript, DeclaredTools, Era, RefreshRotation, Scenario, ScenarioError};
pub use crate::script::stream::{
    Bench, Content, Cut, CutHow, End, Endless, ErrorForm, Insert, Inserted, LineEnding, Packets, Pause, SearchForm,
    SearchResult, SearchScript, StreamError, StreamScript, ThinkingForm, UsageScript,
};
pub use crate::script::tools::{CallShape, ModelCall, ToolScript};
