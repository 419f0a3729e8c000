//! Traces by OTLP, as a collector gets them.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::routing::post;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::trace::v1::Span;
use prost::Message as _;
use simulator::Simulator;
use simulator::script::{Endpoint, ErrorScript, ScriptedReply};
use tokio::net::TcpListener;
use tokio::sync::mpsc;

use crate::support::app::{PATIENCE, Setup, question, spawn};
use crate::support::oracle::crew;

/// A collector on a port of its own, and what it gets.
async fn collector() -> (String, mpsc::UnboundedReceiver<ExportTraceServiceRequest>) {
    let (sender, received) = mpsc::unbounded_channel();
    let take = async |State(sender): State<Arc<mpsc::UnboundedSender<ExportTraceServiceRequest>>>, body: Bytes| {
        sender.send(ExportTraceServiceRequest::decode(body).unwrap()).unwrap();
    };
    let router = Router::new().route("/v1/traces", post(take)).with_state(Arc::new(sender));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = format!("http://{}", listener.local_addr().unwrap());
    spawn(async move { axum::serve(listener, router).await });
    (address, received)
}

#[tokio::test]
async fn a_request_is_one_span_with_its_waits_and_attempts_inside() {
    let (address, mut received) = collector().await;
    let app = Setup::default()
        .with("OTEL_EXPORTER_OTLP_ENDPOINT", &address)
        .start(Simulator::start(crew(3)).await.unwrap())
        .await;
    let busy = ErrorScript { code: "RateLimited".to_owned(), num: Some(2), ..ErrorScript::default() };
    app.simulator.script().queue(Some("ada"), Endpoint::Completions, ScriptedReply::error_with(busy));
    let mine = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
    let body = question("echo: a secret question");
    app.post("/v1/chat/completions", &body).header("traceparent", mine).send().await.unwrap().bytes().await.unwrap();

    let batch = tokio::time::timeout(PATIENCE, received.recv()).await.expect("spans are sent").unwrap();
    assert!(!format!("{batch:?}").contains("secret question"));
    let resource = batch.resource_spans[0].resource.clone().unwrap();
    assert!(format!("{resource:?}").contains("service.name"), "{resource:?}");
    let spans: Vec<Span> = batch.resource_spans[0].scope_spans.iter().flat_map(|scope| scope.spans.clone()).collect();
    let root = spans.iter().find(|span| span.name == "POST /v1/chat/completions").expect("the request's own span");
    assert_eq!(root.parent_span_id, 0xb7ad_6b71_6920_3331_u64.to_be_bytes());
    assert!(spans.iter().all(|span| span.trace_id == 0x0af7_6519_16cd_43dd_8448_eb21_1c80_319c_u128.to_be_bytes()));
    let mut children = BTreeMap::new();
    for span in spans.iter().filter(|span| span.parent_span_id == root.span_id) {
        *children.entry(span.name.as_str()).or_insert(0) += 1;
        assert!(span.start_time_unix_nano >= root.start_time_unix_nano, "{span:?}");
        assert!(span.end_time_unix_nano <= root.end_time_unix_nano, "{span:?}");
    }
    assert_eq!((children["lease"], children["attempt"], children["first_token"]), (2, 2, 1), "{children:?}");
}

#[tokio::test]
async fn a_collector_that_is_gone_costs_no_request_and_no_stop() {
    let gone = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let app = Setup::default()
        .with("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", &format!("http://{gone}/v1/traces"))
        .start(Simulator::start(crew(1)).await.unwrap())
        .await;
    for _ in 0..3 {
        app.ask("echo: x").await;
    }
    tokio::time::timeout(PATIENCE, app.stop()).await.expect("the server stops");
}
