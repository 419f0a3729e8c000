//! `demo`: a server with sample accounts in front of the simulator, for people who try it. The real program as a child
//! process.

use serde_json::Value;

use crate::support::leaks::Caller;
use crate::support::program::Program;

#[tokio::test]
async fn the_demo_answers_without_anything_else() {
    // Also on a bare machine that has no certificates.
    let bare = [("SSL_CERT_FILE", "/nowhere".to_owned()), ("SSL_CERT_DIR", "/nowhere".to_owned())];
    let mut program = Program::start(&["demo", "--port", "0"], &bare);
    let address = program.address_beside("base URL").await;
    let printed = program.stdout();
    let key = printed.lines().find_map(|line| line.trim().strip_prefix("key ")).unwrap().trim().to_owned();
    assert!(printed.contains("curl"), "{printed}");
    let mut caller = Caller::new(address, &key);
    for stream in [false, true] {
        assert_eq!(caller.ask("echo: hello from the demo", stream).await, 200, "{}", caller.last());
    }
    assert!(caller.answers[0].contains("hello from the demo"), "{}", caller.answers[0]);
    program.signal("INT");
    assert_eq!(program.code().await, 0);
}

#[tokio::test]
async fn the_demo_has_accounts_of_each_kind_and_is_alive_at_first_view() {
    let admin = [("ADMIN_SECRET_KEY", "sk-of-the-owner".to_owned())];
    let mut program = Program::start(&["demo", "--port", "0"], &admin);
    let address = program.address_beside("base URL").await;
    let client = reqwest::Client::builder().no_proxy().build().unwrap();
    let get = async |path: &str| -> Value {
        let request = client.get(format!("http://{address}{path}")).bearer_auth("sk-of-the-owner");
        serde_json::from_str(&request.send().await.unwrap().text().await.unwrap()).unwrap()
    };
    let body = get("/admin/accounts").await;
    let accounts = body["accounts"].as_array().unwrap();
    let kinds: Vec<&str> = accounts.iter().map(|account| account["kind"].as_str().unwrap()).collect();
    assert_eq!(kinds, ["web", "web", "web", "web", "oauth", "key"], "{body}");
    let rests = |account: &Value| account["cooling"]["chat"]["reason"] == "quota";
    assert_eq!(accounts.iter().map(rests).collect::<Vec<_>>(), [false, false, true, false, false, false], "{body}");
    for account in accounts {
        let hours: u64 = account["hours"].as_array().unwrap().iter().map(|hour| hour.as_u64().unwrap()).sum();
        assert_eq!(hours > 0, account["reason"] != "login_needed", "{account}");
        assert!(account["label"].is_string(), "{account}");
    }
    let today = accounts.iter().map(|account| account["today"]["requests"].as_u64().unwrap()).sum::<u64>();
    assert!(today > 0, "{body}");
    let usage = get("/admin/usage?by=kind").await;
    assert_eq!(usage["rows"].as_array().unwrap().len(), 3, "{usage}");
    let keys = get("/admin/keys").await;
    assert_eq!(keys["keys"].as_array().unwrap().len(), 4, "{keys}");
    program.signal("INT");
    assert_eq!(program.code().await, 0);
}

#[tokio::test]
async fn the_demo_leaves_the_account_of_its_user_alone() {
    let home = tempfile::tempdir().unwrap();
    std::fs::create_dir(home.path().join(".qwen")).unwrap();
    let account = r#"{"access_token":"theirs","refresh_token":"theirs too","expiry_date":1}"#;
    let file = home.path().join(".qwen/oauth_creds.json");
    std::fs::write(&file, account).unwrap();
    let admin = "sk-of-the-owner";
    let settings = [("HOME", home.path().display().to_string()), ("ADMIN_SECRET_KEY", admin.to_owned())];
    let mut program = Program::start(&["demo", "--port", "0"], &settings);
    let address = program.address_beside("base URL").await;
    let client = reqwest::Client::builder().no_proxy().build().unwrap();
    let request = client.get(format!("http://{address}/admin/accounts")).bearer_auth(admin);
    let body: Value = serde_json::from_str(&request.send().await.unwrap().text().await.unwrap()).unwrap();
    let accounts = body["accounts"].as_array().unwrap().iter().filter(|account| account["kind"] == "oauth");
    let names: Vec<&str> = accounts.map(|account| account["id"].as_str().unwrap()).collect();
    assert_eq!(names, ["oauth:cleo"], "only the sample");
    program.signal("INT");
    assert_eq!(program.code().await, 0);
    assert!(!program.stderr().contains("qwen-cli"), "{}", program.stderr());
    assert_eq!(std::fs::read_to_string(file).unwrap(), account);
}

#[tokio::test]
async fn a_demo_whose_port_is_taken_names_its_own_flag() {
    let taken = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = taken.local_addr().unwrap();
    let mut program = Program::start(&["demo", "--port", &address.port().to_string()], &[]);
    assert_eq!(program.code().await, 1);
    let said = program.stderr();
    assert!(said.contains(&address.to_string()) && said.contains("--port"), "{said}");
    assert!(!said.contains("SERVER_PORT"), "the demo does not look at it: {said}");
}
