//! Files and variables of similar programs, as `docs/migrating.md` promises: each is understood, or warned of.

use std::fs;
use std::path::Path;

use serde_json::{Value, json};
use simulator::script::{AccountScript, Era, Scenario};
use simulator::{Simulator, TokenLife};
use tempfile::TempDir;

use crate::support::app::json_of;
use crate::support::program::Program;

/// A server in a folder with the files of another program.
struct Moved {
    server: Program,
    address: String,
    client: reqwest::Client,
}

impl Moved {
    /// Starts the program in a folder with these files. The environment holds what leads to the simulator only.
    async fn start(simulator: &Simulator, files: &[(&str, String)]) -> Self {
        Self::start_with(simulator, files, &[]).await
    }

    /// The same with further variables.
    async fn start_with(simulator: &Simulator, files: &[(&str, String)], more: &[(&str, &str)]) -> Self {
        let folder = TempDir::new().unwrap();
        for (name, text) in files {
            let path = folder.path().join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        let mut environment = vec![
            ("QWEN_WEB_BASE_URL", simulator.urls().web.to_string()),
            ("QWEN_AUTH_BASE_URL", simulator.urls().auth.to_string()),
            ("QWEN_OAUTH_BASE_URL", simulator.urls().web.to_string()),
            ("HOME", folder.path().join("home").display().to_string()),
            ("PORT", "0".to_owned()),
            ("LOG_FORMAT", "text".to_owned()),
        ];
        environment.extend(more.iter().map(|(name, value)| (*name, (*value).to_owned())));
        let server = Program::start_in(folder, &["serve"], &environment);
        let address = format!("http://{}", server.address_beside("listening").await);
        Self { server, address, client: reqwest::Client::new() }
    }

    fn get(&self, path: &str) -> reqwest::RequestBuilder {
        self.client.get(format!("{}{path}", self.address))
    }

    async fn ask(&self, key: &str, model: Option<&str>) -> (u16, Value) {
        let mut body = json!({"messages": [{"role": "user", "content": "echo: moved"}], "stream": false});
        if let Some(model) = model {
            body["model"] = json!(model);
        }
        let request = self.client.post(format!("{}/v1/chat/completions", self.address)).bearer_auth(key);
        let request = request.header("content-type", "application/json").body(body.to_string());
        let response = request.send().await.unwrap();
        let status = response.status().as_u16();
        (status, json_of(response).await)
    }

    async fn must_answer(&self, key: &str, model: Option<&str>) -> Value {
        let (status, answer) = self.ask(key, model).await;
        let content = &answer["choices"][0]["message"]["content"];
        assert_eq!((status, content), (200, &json!("moved")), "{answer} {}", self.server.stderr());
        answer
    }

    /// The log has each of these, and no other warning.
    fn must_warn(&self, expected: &[&str]) {
        let log = self.server.stderr();
        let warnings: Vec<&str> = log.lines().filter(|line| line.contains("WARN")).collect();
        for text in expected {
            assert!(warnings.iter().any(|line| line.contains(text)), "{text}: {warnings:#?}");
        }
        assert_eq!(warnings.len(), expected.len(), "{warnings:#?}");
    }
}

/// A simulator with two accounts of the web chat and two of OAuth.
async fn simulator() -> Simulator {
    let accounts = [AccountScript::new("ada", Era::A), AccountScript::new("bob", Era::B)];
    Simulator::start(Scenario::with_accounts(accounts).paced_ms(0)).await.unwrap()
}

fn creds(simulator: &Simulator, account: &str) -> String {
    simulator.oauth().credentials(account, TokenLife::Fresh)
}

const KEY: &str = "sk-4f9c2a7be1d04c55";

#[tokio::test]
async fn the_files_of_003() {
    let simulator = simulator().await;
    let config = format!(
        r#"{{
          // the key of callers
          "API_KEY": "{KEY}",
          "QWEN_TOKEN": "", // not needed beside a cookie
          "SERVER_MODE": true,
          "DEBUG_MODE": false,
          "SERVER_PORT": 8000,
          "VISION_FALLBACK_MODEL": "qwen3-vl-plus",
          "AUTO_REFRESH_TOKEN": true,
          "TOKEN_REFRESH_INTERVAL_HOURS": 24
        }}"#
    );
    let (ada, bob) = (simulator.accounts().cookie("ada"), simulator.accounts().cookie("bob"));
    let cookies = format!("# first account\r\n{ada}\r\n\r\n# second\r\n{bob}\r\n");
    let moved = Moved::start(&simulator, &[("config.json", config), ("cookie.txt", cookies)]).await;
    moved.must_answer(KEY, Some("qwen3-max-thinking")).await;
    assert_eq!(moved.ask("wrong", None).await.0, 401);
    let health = json_of(moved.get("/health").send().await.unwrap()).await;
    assert_eq!((&health["status"], &health["identityPool"]["total"]), (&json!("OK"), &json!(2)));
    assert_eq!(
        health["config"],
        json!({"apiKeyEnabled": true, "serverMode": true, "debugMode": false, "autoRefreshToken": true})
    );
    moved.must_warn(&[]);
}

#[tokio::test]
async fn the_variables_of_003() {
    let simulator = simulator().await;
    let (ada, bob) = (simulator.accounts().cookie("ada"), simulator.accounts().cookie("bob"));
    for cookies in [format!("{ada}|||{bob}"), format!("\"{ada}\\n{bob}\""), format!("'{ada}\n# a comment\n{bob}'")] {
        let dotenv = format!(
            "API_KEY={KEY}\nCOOKIE={cookies}\nSERVER_MODE=true\nDEBUG_MODE=false\nAUTO_REFRESH_TOKEN=true\n\
             TOKEN_REFRESH_INTERVAL_HOURS=24\nVISION_FALLBACK_MODEL=\nQWEN_TOKEN={}\n",
            simulator.accounts().bearer("ada")
        );
        let moved = Moved::start(&simulator, &[(".env", dotenv)]).await;
        moved.must_answer(KEY, Some("qwen3-max")).await;
        let health = json_of(moved.get("/health").send().await.unwrap()).await;
        assert_eq!(health["identityPool"]["total"], 2, "the token belongs to a cookie: {}", moved.server.stderr());
        moved.must_warn(&[]);
    }
}

#[tokio::test]
async fn the_client_mode_of_003() {
    let simulator = simulator().await;
    let config = format!("{{\"API_KEY\": \"{KEY}\", \"SERVER_MODE\": false}}");
    let moved = Moved::start(&simulator, &[("config.json", config)]).await;
    let (token, cookie) = (simulator.accounts().bearer("ada"), simulator.accounts().cookie("ada"));
    moved.must_answer(&format!("{KEY};{token};{cookie}"), Some("qwen3-max")).await;
    moved.must_answer(&format!("{KEY};{token}"), Some("qwen3-max")).await;
    moved.must_warn(&[]);
}

#[tokio::test]
async fn the_accounts_of_000() {
    let simulator = simulator().await;
    let dotenv = "OPENAI_API_KEYS=sk-1d04c55e-of-a-tool, sk-9b1f-of-another\nADMIN_SECRET_KEY=sk-77aa-of-the-owner\n\
                  FAILED_ACCOUNTS=cleo\nLOCAL_DEVELOPMENT=1\n";
    let files = [
        (".env", dotenv.to_owned()),
        (".qwen/oauth_creds_cleo.json", creds(&simulator, "cleo")),
        (".qwen/oauth_creds_dora.json", creds(&simulator, "dora")),
    ];
    let moved = Moved::start(&simulator, &files).await;
    moved.must_answer("sk-9b1f-of-another", None).await;
    moved.must_answer("sk-1d04c55e-of-a-tool", Some("qwen3-coder-plus")).await;
    assert_eq!(moved.ask("sk-77aa-of-the-owner", None).await.0, 401);
    let health = moved.get("/admin/health").bearer_auth("sk-77aa-of-the-owner").send().await.unwrap();
    let health = json_of(health).await;
    assert_eq!((&health["summary"]["total_accounts"], &health["summary"]["healthy_accounts"]), (&json!(2), &json!(2)));
    moved.must_warn(&["FAILED_ACCOUNTS (.env) has no effect", "LOCAL_DEVELOPMENT (.env) has no effect"]);
}

#[tokio::test]
async fn the_account_of_001() {
    let simulator = simulator().await;
    let one_line = creds(&simulator, "cleo").replace('\n', "");
    for quote in ["", "'"] {
        let dotenv = format!("OPENAI_API_KEY={KEY}\nQWEN_OAUTH_CREDS={quote}{one_line}{quote}\n");
        let moved = Moved::start(&simulator, &[(".env", dotenv)]).await;
        moved.must_answer(KEY, Some("qwen3-coder-plus")).await;
        moved.must_answer(KEY, None).await;
        moved.must_warn(&[]);
    }
}

#[tokio::test]
async fn the_login_of_002() {
    let simulator = simulator().await;
    let dotenv = "PORT=8080\nHOST=localhost\nDEFAULT_MODEL=qwen3-coder-flash\nTOKEN_REFRESH_BUFFER=30000\n\
                  DEFAULT_ACCOUNT=cleo\nLOG_LEVEL=warning\n";
    let files = [(".env", dotenv.to_owned()), ("home/.qwen/oauth_creds.json", creds(&simulator, "cleo"))];
    // The level hides the line with the address, so the environment shows it again: it wins over `.env`.
    let moved = Moved::start_with(&simulator, &files, &[("LOG_LEVEL", "info")]).await;
    let answer = moved.must_answer("fake-key", None).await;
    assert_eq!(answer["model"], "qwen3-coder-flash");
    let again: Value = serde_json::from_str(&creds(&simulator, "cleo")).unwrap();
    let kept = moved.server.folder().join("home/.qwen/oauth_creds.json");
    assert!(again["access_token"].is_string() && kept.is_file(), "the file of the command line stays");
    moved.must_warn(&[
        "HOST (.env) has no effect here: SERVER_HOST",
        "DEFAULT_ACCOUNT (.env) has no effect",
        "TOKEN_REFRESH_BUFFER (.env) is 30000 seconds",
    ]);
}

#[tokio::test]
async fn the_variables_of_004() {
    let simulator = simulator().await;
    let dotenv = format!(
        "SERVER_HOST=127.0.0.1\nSERVER_PORT=:8080\nLOG_LEVEL=info\nLOG_FORMAT=text\nDEBUG_MODE=false\n\
         RATE_LIMIT_RPS=10\nRATE_LIMIT_BURST=20\nQWEN_DIR=.qwen\nREAD_TIMEOUT=30s\nWRITE_TIMEOUT=1m30s\n\
         SHUTDOWN_TIMEOUT=30s\nTRUSTED_PROXIES=10.0.0.0/8,127.0.0.1\nDEFAULT_MODEL=qwen3-coder-plus\n\
         TOKEN_REFRESH_BUFFER=5m\nQWEN_OAUTH_BASE_URL={}\nAPI_BASE_URL={}\nQWEN_OAUTH_CLIENT_ID=f0304373b74a44d2b584a3fb70ca9e56\n\
         QWEN_OAUTH_SCOPE=openid profile email model.completion\n\
         QWEN_OAUTH_DEVICE_AUTH_URL=https://chat.qwen.ai/api/v1/oauth2/device/code\n\
         ENABLE_TLS=false\nTLS_CERT_FILE=cert.pem\nTLS_KEY_FILE=key.pem\n",
        simulator.urls().web,
        simulator.urls().portal
    );
    let files = [(".env", dotenv), (".qwen/oauth_creds.json", creds(&simulator, "dora"))];
    let moved = Moved::start(&simulator, &files).await;
    moved.must_answer("", None).await;
    let models = moved.get("/v1/models").send().await.unwrap();
    assert_eq!(models.headers()["x-ratelimit-limit"], "20");
    assert_eq!(json_of(models).await["object"], "list");
    moved.must_warn(&[
        "QWEN_OAUTH_DEVICE_AUTH_URL (.env) has no effect",
        "ENABLE_TLS (.env) has no effect",
        "TLS_CERT_FILE (.env) has no effect",
        "TLS_KEY_FILE (.env) has no effect",
    ]);
}

/// Each variable that `docs/migrating.md` names in a table of one program is in a test above.
#[test]
fn every_variable_of_the_page_is_tried() {
    let page = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/migrating.md")).unwrap();
    let (_, tables) = page.split_once("\n## QwenChat2Api").unwrap();
    let is_name = |text: &str| text.len() > 3 && text.bytes().all(|byte| byte.is_ascii_uppercase() || byte == b'_');
    let before = |span: &str| span.split(['=', '{']).next().unwrap_or_default().to_owned();
    let named = tables.lines().filter_map(|line| line.strip_prefix("| `")?.split('|').next());
    let spans = named.flat_map(|cell| cell.split('`').step_by(2).map(before).collect::<Vec<_>>());
    let names: Vec<String> = spans.filter(|span| is_name(span)).collect();
    assert!(names.len() > 35, "{names:?}");
    let tests = include_str!("migrating.rs");
    let missing: Vec<&String> = names
        .iter()
        .filter(|name| !tests.contains(&format!("{name}=")) && !tests.contains(&format!("\"{name}\"")))
        .collect();
    assert_eq!(missing, Vec::<&String>::new());
}
