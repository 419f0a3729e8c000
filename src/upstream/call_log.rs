//! One line in the log, at debug, for each call of an upstream: what was called, how it ended, how long it took.
//! Never a query, a header or a body.

use std::time::Instant;

use tracing::debug;

/// A call under way. Tells the log when it is dropped, also when it was cut off.
pub(crate) struct CallLog {
    upstream: &'static str,
    method: String,
    path: String,
    status: Option<u16>,
    began: Instant,
}

impl CallLog {
    /// A call that begins now. `path` is what stands for the path in the log; `None`: the path itself.
    pub(crate) fn begin(upstream: &'static str, request: &reqwest::Request, path: Option<&str>) -> Self {
        let path = path.unwrap_or_else(|| request.url().path()).to_owned();
        Self { upstream, method: request.method().to_string(), path, status: None, began: Instant::now() }
    }

    /// Sends the request.
    ///
    /// # Errors
    /// The client's.
    pub(crate) async fn execute(
        client: &reqwest::Client,
        upstream: &'static str,
        request: reqwest::Request,
    ) -> Result<reqwest::Response, reqwest::Error> {
        let mut log = Self::begin(upstream, &request, None);
        let sent = client.execute(request).await;
        log.answered(&sent);
        sent
    }

    /// Notes the status of the answer, if there is one.
    pub(crate) fn answered(&mut self, sent: &Result<reqwest::Response, reqwest::Error>) {
        self.status = sent.as_ref().ok().map(|response| response.status().as_u16());
    }
}

impl Drop for CallLog {
    fn drop(&mut self) {
        debug!(
            upstream.name = self.upstream,
            http.method = self.method,
            http.path = self.path,
            http.status = self.status,
            duration_ms = u64::try_from(self.began.elapsed().as_millis()).unwrap_or(u64::MAX),
            "upstream called"
        );
    }
}
