//! A server with OAuth accounts in the hands of its owner.

use std::path::Path;
use std::time::Duration;

use http::{Method, StatusCode};
use reqwest::Response;
use serde_json::{Value, json};
use simulator::script::{Approval, Endpoint, Scenario, ScriptedReply};
use simulator::{Simulator, TokenLife};
use tempfile::TempDir;

use crate::support::app::{PATIENCE, Setup, TestApp, json_of};

pub(crate) const ADMIN: &str = "sk-admin-of-tests";

/// A server that belongs to someone who looks at it.
pub(crate) struct Owned {
    pub(crate) app: TestApp,
    pub(crate) dir: TempDir,
}

/// A server in debug mode whose owner has a key, with these OAuth accounts in files and no other.
pub(crate) async fn owned(accounts: &[(&str, TokenLife)], change: impl FnOnce(Setup) -> Setup) -> Owned {
    let simulator = Simulator::start(Scenario::default().paced_ms(0)).await.unwrap();
    let dir = tempfile::tempdir().unwrap();
    for (account, life) in accounts {
        put(dir.path(), account, &simulator.oauth().credentials(account, *life));
    }
    let setup = Setup::default()
        .without("COOKIE")
        .with("ADMIN_SECRET_KEY", ADMIN)
        .with("DEBUG_MODE", "true")
        .with("QWEN_DIR", &dir.path().display().to_string())
        .with("QWEN_OAUTH_BASE_URL", simulator.urls().web.as_str());
    Owned { app: change(setup).start(simulator).await, dir }
}

pub(crate) fn put(dir: &Path, name: &str, text: &str) {
    std::fs::write(dir.join(format!("oauth_creds_{name}.json")), text).unwrap();
}

impl Owned {
    pub(crate) async fn call(&self, method: &str, path: &str, body: Option<Value>) -> Response {
        let method = method.parse::<Method>().unwrap();
        let mut request = self.app.client.request(method, self.app.url(path)).bearer_auth(ADMIN);
        if let Some(body) = body {
            request = request.header("content-type", "application/json").body(body.to_string());
        }
        request.send().await.unwrap()
    }

    pub(crate) async fn get(&self, path: &str) -> Value {
        let response = self.call("GET", path, None).await;
        assert_eq!(
            (response.status(), &response.headers()["cache-control"]),
            (StatusCode::OK, &"no-store".parse().unwrap())
        );
        json_of(response).await
    }

    pub(crate) async fn initiate(&self, account: &str) -> Response {
        self.call("POST", "/v1/debug/auth/initiate", Some(json!({"account": account}))).await
    }

    pub(crate) async fn poll(&self, flow: &Value) -> Response {
        self.call("POST", "/v1/debug/auth/poll", Some(json!({"flow_id": flow["flow_id"]}))).await
    }

    /// How a login ends.
    pub(crate) async fn end_of(&self, flow: &Value) -> Response {
        let polled = async {
            loop {
                let response = self.poll(flow).await;
                if response.status() != 202 {
                    return response;
                }
                assert_eq!(json_of(response).await["status"], "pending");
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        };
        tokio::time::timeout(PATIENCE, polled).await.expect("the login did not end")
    }

    pub(crate) fn next_login(&self, approval: Approval) {
        self.app.simulator.script().queue(
            None,
            Endpoint::DeviceCode,
            ScriptedReply::device(|device| device.approval = approval),
        );
    }

    pub(crate) fn assert_keeps_secrets(&self, text: &str) {
        let secrets = self.app.simulator.record().secrets();
        let shown = self.app.simulator.oauth().user_codes();
        let leaked = secrets.iter().filter(|secret| !shown.contains(secret) && text.contains(*secret)).count();
        assert_eq!(leaked, 0, "{text}");
        assert!(!text.contains("verifier") && !text.contains("device_code") && !text.contains(ADMIN), "{text}");
    }
}
