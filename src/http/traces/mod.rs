//! Traces by OTLP over HTTP, when the standard `OTEL_…` variables name a collector. Spans are made from what is known of a
//! request when it has ended, so that a request under way pays nothing for them.

mod spans;

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use http::{Request, Response};
use opentelemetry_http::{HttpClient, HttpError};
use opentelemetry_otlp::{ExporterBuildError, Protocol, SpanExporter, WithExportConfig as _, WithHttpConfig as _};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::trace::SpanExporter as _;
use tokio::sync::mpsc;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tracing::warn;
use url::Url;

use crate::gateway::requests::EndedRequest;
use crate::http::traces::spans::spans;
use crate::telemetry::ErrorChain;

/// Requests that wait to be sent. More are left out rather than kept.
const WAITING_MAX: usize = 2_048;
/// Most requests of one batch.
const BATCH_MAX: usize = 256;
/// Time for which a batch is collected.
const GATHERING: Duration = Duration::from_secs(2);
/// Time limit of a collector for a batch, and for the last one when the server stops.
const SENDING: Duration = Duration::from_secs(10);
const LAST_SENDING: Duration = Duration::from_secs(2);

/// Receives the requests that become spans.
#[derive(Clone, Debug)]
pub(crate) struct SpanSender(mpsc::Sender<Arc<EndedRequest>>);

/// Sends spans to a collector, as a task of the server.
pub(crate) struct SpanSending {
    requests: mpsc::Receiver<Arc<EndedRequest>>,
    exporter: SpanExporter,
}

/// Reasons why spans cannot be sent.
#[derive(Debug, thiserror::Error)]
pub enum TracesError {
    /// The HTTP client cannot be made.
    #[error("the HTTP client cannot be made")]
    Client(#[from] reqwest::Error),
    /// A variable of OpenTelemetry has a wrong value.
    #[error("a variable of OpenTelemetry (OTEL_…) is wrong")]
    Exporter(#[from] ExporterBuildError),
}

impl SpanSender {
    /// Hands a request on, unless too many wait already.
    pub(crate) fn send(&self, request: &Arc<EndedRequest>) {
        // A collector that is slow or gone costs spans, never a request.
        let _ = self.0.try_send(Arc::clone(request));
    }
}

/// Prepares to send spans to a collector's address for traces (`http://127.0.0.1:4318/v1/traces`).
///
/// # Errors
/// [`TracesError`].
pub(crate) fn to_collector(endpoint: &Url) -> Result<(SpanSender, SpanSending), TracesError> {
    let client = reqwest::Client::builder().timeout(SENDING).build()?;
    let exporter = SpanExporter::builder().with_http().with_http_client(Client(client));
    let mut exporter = exporter.with_protocol(Protocol::HttpBinary).with_endpoint(endpoint.as_str()).build()?;
    // Named by OTEL_SERVICE_NAME or OTEL_RESOURCE_ATTRIBUTES, if these are set.
    let mut resource = Resource::builder();
    if Resource::builder_empty()
        .with_detector(Box::new(opentelemetry_sdk::resource::EnvResourceDetector::new()))
        .build()
        .is_empty()
    {
        resource = resource.with_service_name("qwen-bridge");
    }
    exporter.set_resource(&resource.build());
    let (sender, requests) = mpsc::channel(WAITING_MAX);
    Ok((SpanSender(sender), SpanSending { requests, exporter }))
}

impl SpanSending {
    /// Sends batches until `stop`, then what is left.
    pub(crate) async fn run(mut self, stop: CancellationToken) {
        let mut has_failed = false;
        let mut batch = Vec::new();
        loop {
            let is_over = tokio::select! {
                received = self.requests.recv_many(&mut batch, BATCH_MAX) => received == 0,
                () = stop.cancelled() => true,
            };
            if is_over {
                break;
            }
            let gathering =
                async { while batch.len() < BATCH_MAX && self.requests.recv_many(&mut batch, BATCH_MAX).await > 0 {} };
            let _ = timeout(GATHERING, stop.run_until_cancelled(gathering)).await;
            self.send(std::mem::take(&mut batch), SENDING, &mut has_failed).await;
        }
        while let Ok(request) = self.requests.try_recv() {
            batch.push(request);
        }
        if !batch.is_empty() {
            self.send(batch, LAST_SENDING, &mut has_failed).await;
        }
    }

    async fn send(&self, batch: Vec<Arc<EndedRequest>>, patience: Duration, has_failed: &mut bool) {
        let mut new_id = || fastrand::u64(1..);
        let spans = batch.iter().flat_map(|request| spans(request, &mut new_id)).collect();
        let error = match timeout(patience, self.exporter.export(spans)).await {
            Ok(Ok(())) => {
                *has_failed = false;
                return;
            }
            Ok(Err(error)) => ErrorChain(&error).to_string(),
            Err(_) => "the collector did not answer in time".to_owned(),
        };
        if !std::mem::replace(has_failed, true) {
            warn!(
                error,
                requests = batch.len(),
                "traces not sent; the next failures are not told until it works again"
            );
        }
    }
}

/// This program's HTTP client for the exporter, which brings none.
#[derive(Debug)]
struct Client(reqwest::Client);

#[async_trait]
impl HttpClient for Client {
    async fn send_bytes(&self, request: Request<Bytes>) -> Result<Response<Bytes>, HttpError> {
        let answer = self.0.execute(request.try_into()?).await?;
        let (status, headers) = (answer.status(), answer.headers().clone());
        let mut response = Response::new(answer.bytes().await?);
        *response.status_mut() = status;
        *response.headers_mut() = headers;
        Ok(response)
    }
}
