//! Logins in the background.

use serde_json::json;

use crate::gateway::accounts::device_login::{DeviceLogins, FlowState, LoginFailure, StartError};
use crate::gateway::tests::{Endpoint, Home, Process, content, id, until};

fn logins(process: &Process, endpoint: &Endpoint) -> DeviceLogins {
    DeviceLogins::new(process.accounts.clone(), endpoint.client(), process.supervisor.clone())
}

#[tokio::test]
async fn a_login_becomes_an_account() {
    let (endpoint, home) = (Endpoint::new(), Home::new());
    *endpoint.polls.lock() = vec![
        json!({"error": "authorization_pending"}),
        json!({"access_token": "hush-access", "refresh_token": "n-0", "expires_in": 3600, "resource_url": "portal.qwen.ai"}),
    ];
    let process = home.start(&endpoint).await;
    let logins = logins(&process, &endpoint);
    let flow = logins.start(id("me@example.com")).await.unwrap();
    assert_eq!(flow.verification_uri_complete, "https://chat.qwen.ai/authorize?user_code=ABC_DEF&client=qwen-code");
    assert_eq!((flow.expires_in.as_secs(), flow.interval.as_secs()), (900, 2));
    assert_eq!(logins.state(&flow.flow_id), Some(FlowState::Pending));
    assert!(!format!("{flow:?}").contains("hush"));
    until("the login", || logins.state(&flow.flow_id) != Some(FlowState::Pending)).await;
    let identity = id("me@example.com").identity();
    assert_eq!(logins.state(&flow.flow_id), Some(FlowState::Done(identity)));
    assert_eq!(process.states(), "oauth:me@example.com ready");
    assert_eq!(content(&home.own().path_of(&id("me@example.com")))["refresh_token"], "n-0");
    assert_eq!(logins.state("nonsense"), None);
    process.stop().await;
}

#[tokio::test]
async fn a_login_that_is_refused_ends() {
    let (endpoint, home) = (Endpoint::new(), Home::new());
    *endpoint.polls.lock() = vec![json!({"error": "access_denied"})];
    let process = home.start(&endpoint).await;
    let logins = logins(&process, &endpoint);
    let flow = logins.start(id("a")).await.unwrap();
    until("the end", || logins.state(&flow.flow_id) != Some(FlowState::Pending)).await;
    assert_eq!(logins.state(&flow.flow_id), Some(FlowState::Failed(LoginFailure::Denied)));
    assert_eq!(process.states(), "");
    process.stop().await;
}

#[tokio::test]
async fn logins_are_bounded_and_can_be_taken_back() {
    let (endpoint, home) = (Endpoint::new(), Home::new());
    *endpoint.polls.lock() = vec![json!({"error": "authorization_pending"})];
    let process = home.start(&endpoint).await;
    let logins = logins(&process, &endpoint);
    // A login that does not begin takes no place.
    for _ in 0..3 {
        endpoint.instead.lock().push(b"HTTP/1.1 503 X\r\ncontent-length: 0\r\nconnection: close\r\n\r\n".to_vec());
        assert!(matches!(logins.start(id("b")).await, Err(StartError::Upstream(_))));
    }
    let mut flows = Vec::new();
    for number in 0..8 {
        flows.push(logins.start(id(&format!("a{number}"))).await.unwrap().flow_id);
    }
    assert!(matches!(logins.start(id("one-more")).await, Err(StartError::TooMany)));
    let again = logins.start(id("a0")).await.unwrap().flow_id;
    let cancelled = Some(FlowState::Failed(LoginFailure::Cancelled));
    assert_eq!((logins.state(&flows[0]), logins.state(&again)), (cancelled.clone(), Some(FlowState::Pending)));
    process.stop().await;
    assert_eq!(logins.state(&again), cancelled, "stopping ends what is under way");
}
