//! `deploy/prometheus` and `deploy/grafana` in front of a real Prometheus, where one is installed (Debian's `prometheus`).

use std::fs;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use serde_json::Value;
use simulator::Simulator;
use simulator::script::{Endpoint, ErrorScript, ScriptedReply};
use url::Url;

use crate::support::app::{PATIENCE, Setup, json_of};
use crate::support::oracle::crew;

/// A Prometheus that ends with its test.
struct Prometheus(Child);

impl Drop for Prometheus {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn deployed(path: &str) -> String {
    fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("deploy").join(path)).unwrap()
}

/// A port that is free at the moment.
fn free_port() -> u16 {
    std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

#[tokio::test]
async fn a_real_prometheus_takes_metrics_alerts_and_the_dashboards_queries() {
    if Command::new("prometheus").arg("--version").stdout(Stdio::null()).stderr(Stdio::null()).status().is_err() {
        println!("skipped: no prometheus on this machine");
        return;
    }
    let app =
        Setup::default().with("METRICS_ADDRESS", "127.0.0.1:0").start(Simulator::start(crew(3)).await.unwrap()).await;
    let busy = ErrorScript { code: "RateLimited".to_owned(), num: Some(2), ..ErrorScript::default() };
    app.simulator.script().queue(Some("ada"), Endpoint::Completions, ScriptedReply::error_with(busy));
    app.ask("echo: x").await;

    let folder = tempfile::tempdir().unwrap();
    let config = deployed("prometheus/prometheus.yml");
    let target = app.metrics_address.unwrap().to_string();
    let config = config.replace("127.0.0.1:9100", &target).replace("15s", "200ms");
    assert!(config.contains(&target) && config.contains("200ms"), "the template has an address and an interval");
    fs::write(folder.path().join("prometheus.yml"), config).unwrap();
    fs::write(folder.path().join("alerts.yml"), deployed("prometheus/alerts.yml")).unwrap();
    let port = free_port();
    let prometheus = Command::new("prometheus")
        .arg(format!("--config.file={}", folder.path().join("prometheus.yml").display()))
        .arg(format!("--storage.tsdb.path={}", folder.path().join("data").display()))
        .arg(format!("--web.listen-address=127.0.0.1:{port}"))
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn();
    let _prometheus = Prometheus(prometheus.unwrap());
    let base = format!("http://127.0.0.1:{port}/api/v1");
    let query = async |query: &str| -> Value {
        let response =
            app.client.get(Url::parse_with_params(&format!("{base}/query"), [("query", query)]).unwrap()).send().await;
        match response {
            Ok(response) if response.status() == 200 => json_of(response).await,
            // It is still starting.
            Ok(_) | Err(_) => Value::Null,
        }
    };
    // Two scrapes, so that rates have something to compare.
    let is_read = async {
        loop {
            let counted = query("count_over_time(qwen_bridge_uptime_seconds[1m])").await;
            let count = counted["data"]["result"][0]["value"][1].as_str().and_then(|count| count.parse::<f64>().ok());
            if count.is_some_and(|count| count >= 3.0) {
                return;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    tokio::time::timeout(PATIENCE, is_read).await.expect("Prometheus reads the metrics");

    let rules = json_of(app.client.get(format!("{base}/rules")).send().await.unwrap()).await;
    let rules = rules["data"]["groups"][0]["rules"].as_array().unwrap().clone();
    assert!(rules.len() >= 10, "{rules:?}");
    for rule in &rules {
        let evaluated = query(rule["query"].as_str().unwrap()).await;
        assert_eq!(evaluated["status"], "success", "{rule}: {evaluated}");
    }

    let dashboard: Value = serde_json::from_str(&deployed("grafana/dashboard.json")).unwrap();
    let mut silent = Vec::new();
    for panel in dashboard["panels"].as_array().unwrap() {
        for target in panel["targets"].as_array().unwrap() {
            let expr = target["expr"].as_str().unwrap();
            let expr = expr.replace("$__rate_interval", "1m").replace("$instance", ".*");
            let answered = query(&expr).await;
            assert_eq!(answered["status"], "success", "{expr}: {answered}");
            if answered["data"]["result"].as_array().unwrap().is_empty() {
                silent.push(expr);
            }
        }
    }
    // Nothing of the kind has happened here: no answer was asked for again, and the protocol has not drifted.
    silent.retain(|expr| !expr.contains("asked_again") && !expr.contains("drift"));
    assert_eq!(silent, Vec::<String>::new(), "these panels would stay empty");
}
