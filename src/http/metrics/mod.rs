//! `GET /metrics` in Prometheus' text form: behind the admin key, or without a key on `METRICS_ADDRESS`.
//!
//! Requests are counted when they end; everything else is read at the moment of the scrape. Labels come from closed
//! lists, but for names of accounts and kinds of drift, whose number is bounded.

mod state;

use std::sync::Arc;

use axum::extract::State;
use axum::response::{IntoResponse as _, Response};
use axum::routing::get;
use axum::{Extension, Router};
use http::header::{CACHE_CONTROL, CONTENT_TYPE};
use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

use crate::chat::failure::Failure;
use crate::http::metrics::state::StateCollector;
use crate::http::state::AppState;

/// Prefix of every metric's name.
const PREFIX: &str = "qwen_bridge";
/// The text form that Prometheus asks for.
const OPEN_METRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// The route of this file.
pub(crate) fn routes(state: &AppState) -> Router<AppState> {
    let mut registry = Registry::with_prefix(PREFIX);
    state.0.observers.metrics.register(&mut registry);
    let build = Gauge::<i64>::default();
    build.set(1);
    let labels = [("version".into(), env!("CARGO_PKG_VERSION").into())];
    registry.sub_registry_with_labels(labels.into_iter()).register("build", "The version that runs", build);
    registry.register_collector(Box::new(StateCollector(state.clone())));
    Router::new().route("/metrics", get(metrics)).layer(Extension(Arc::new(registry)))
}

async fn metrics(
    State(_): State<AppState>,
    Extension(registry): Extension<Arc<Registry>>,
) -> Result<Response, Failure> {
    let mut text = String::new();
    encode(&mut text, &registry).map_err(|_| Failure::internal())?;
    Ok(([(CONTENT_TYPE, OPEN_METRICS), (CACHE_CONTROL, "no-store")], text).into_response())
}
