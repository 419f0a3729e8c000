//! Works that take longer than an answer: pictures, videos and researches.

pub(crate) mod media;
pub(crate) mod pictures;
pub(crate) mod research;
pub(crate) mod tasks;
pub(crate) mod videos;
