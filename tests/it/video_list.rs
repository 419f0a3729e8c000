//! Videos as their callers find them again: repeated requests, the list, deletion, and nothing of other callers.

use futures_util::future::join_all;
use reqwest::Response;
use serde_json::{Value, json};
use simulator::script::Endpoint;

use crate::support::app::{KEY, Setup, TestApp, error_of};
use crate::support::oracle::until;
use crate::videos::{
    OTHER_KEY, boat, bytes_in, create, good, look, must_be_a_video, soon, stalled, start, start_with, until_done,
    until_video,
};

async fn with_idempotency(app: &TestApp, key: &str, idempotency: &str, body: &Value) -> Response {
    let request = app.post("/v1/videos", body).header("idempotency-key", idempotency);
    let mut request = request.build().unwrap();
    request.headers_mut().insert("authorization", format!("Bearer {key}").parse().unwrap());
    app.client.execute(request).await.unwrap()
}

#[tokio::test]
async fn a_repeated_request_gets_the_same_video() {
    let setup = Setup::default().with("API_KEY", &format!("{KEY},{OTHER_KEY}"));
    let app = start_with(setup, 1, soon()).await;
    let same = async |app: &TestApp, key: &str, once: &str, body: &Value| {
        let video = good(with_idempotency(app, key, once, body).await).await;
        video["id"].as_str().unwrap().to_owned()
    };
    let wish = boat();
    let ids = join_all((0..4).map(|_| same(&app, KEY, "once", &wish))).await;
    assert!(ids.iter().all(|id| *id == ids[0]), "{ids:?}");
    let done = until_done(&app, &ids[0]).await;
    assert_eq!(done["status"], "completed", "{done}");
    assert_eq!(same(&app, KEY, "once", &boat()).await, ids[0], "also when it is done");
    let mut other = boat();
    other["prompt"] = json!("Another boat");
    let refused = with_idempotency(&app, KEY, "once", &other).await;
    assert_eq!(refused.status(), 400);
    assert_eq!(error_of(refused).await["code"], "idempotency_key_reuse");
    let others = same(&app, OTHER_KEY, "once", &other).await;
    assert_ne!(others, ids[0], "the keys of two callers are two keys");
    for wrong in ["", &"x".repeat(256)] {
        let refused = with_idempotency(&app, KEY, wrong, &boat()).await;
        assert_eq!(refused.status(), 400, "{wrong}");
        assert_eq!(error_of(refused).await["code"], "invalid_idempotency_key");
    }
    until("both videos to be begun", || app.simulator.stored().videos().len() == 2).await;

    let (simulator, state_dir) = app.stop().await;
    let bytes = bytes_in(&state_dir);
    for secret in [KEY, OTHER_KEY] {
        assert!(!bytes.windows(secret.len()).any(|window| window == secret.as_bytes()), "a key is written down");
    }
    // The order of the keys names no caller.
    let setup = Setup::default().with("API_KEY", &format!("{OTHER_KEY},{KEY}")).in_dir(state_dir);
    let app = setup.start(simulator).await;
    assert_eq!(same(&app, KEY, "once", &boat()).await, ids[0]);
    assert_eq!(same(&app, OTHER_KEY, "once", &other).await, others);
    assert_eq!(app.simulator.stored().videos().len(), 2);
    app.assert_clean();
}

#[tokio::test]
async fn nobody_sees_the_videos_of_others() {
    let setup = Setup::default().with("API_KEY", &format!("{KEY},{OTHER_KEY}"));
    let app = start_with(setup, 1, stalled()).await;
    let id = create(&app, &boat()).await;
    let as_other = |request: reqwest::RequestBuilder| {
        let mut request = request.build().unwrap();
        request.headers_mut().insert("authorization", format!("Bearer {OTHER_KEY}").parse().unwrap());
        app.client.execute(request)
    };
    let delete = app.client.delete(app.url(&format!("/v1/videos/{id}")));
    for request in [app.get(&format!("/v1/videos/{id}")), app.get(&format!("/v1/videos/{id}/content")), delete] {
        let refused = as_other(request).await.unwrap();
        assert_eq!(refused.status(), 404);
        assert_eq!(error_of(refused).await["code"], "video_not_found");
    }
    let list = good(as_other(app.get("/v1/videos")).await.unwrap()).await;
    assert_eq!(list, json!({"object": "list", "data": [], "first_id": null, "last_id": null, "has_more": false}));
    assert_eq!(as_other(app.get(&format!("/v1/videos?after={id}"))).await.unwrap().status(), 404);
    look(&app, &id).await;
    for id in ["video_unknown", "%ff", "a%20b", "video_'--"] {
        for path in ["", "/content"] {
            let refused = app.get(&format!("/v1/videos/{id}{path}")).send().await.unwrap();
            assert_eq!(refused.status(), 404, "{id}");
            assert_eq!(error_of(refused).await["code"], "video_not_found", "{id}");
        }
    }
    assert_eq!(app.post(&format!("/v1/videos/{id}/remix"), &boat()).send().await.unwrap().status(), 404);
    let without_key = app.client.get(app.url(&format!("/v1/videos/{id}"))).send().await.unwrap();
    assert_eq!(without_key.status(), 401);
}

#[tokio::test]
async fn videos_are_listed_page_by_page() {
    let app = start(1, stalled()).await;
    let mut ids = Vec::new();
    for _ in 0..5 {
        ids.push(create(&app, &boat()).await);
    }
    let page = async |query: &str| {
        let list = good(app.get(&format!("/v1/videos{query}")).send().await.unwrap()).await;
        let data = list["data"].as_array().unwrap().clone();
        data.iter().for_each(must_be_a_video);
        let found: Vec<String> = data.iter().map(|video| video["id"].as_str().unwrap().to_owned()).collect();
        assert_eq!(list["object"], "list");
        assert_eq!(list["first_id"].as_str(), found.first().map(String::as_str));
        assert_eq!(list["last_id"].as_str(), found.last().map(String::as_str));
        (found, list["has_more"].as_bool().unwrap())
    };
    assert_eq!(page("?order=asc").await, (ids.clone(), false));
    let mut newest = ids.clone();
    newest.reverse();
    assert_eq!(page("").await, (newest.clone(), false));
    assert_eq!(page("?limit=2").await, (newest[..2].to_vec(), true));
    assert_eq!(page(&format!("?limit=2&after={}", newest[1])).await, (newest[2..4].to_vec(), true));
    assert_eq!(page(&format!("?limit=2&after={}", newest[3])).await, (newest[4..].to_vec(), false));
    assert_eq!(page(&format!("?order=asc&after={}", ids[4])).await, (Vec::new(), false));
    assert_eq!(page("?limit=5&before=x").await, (newest, false));
    for (query, param) in [("limit=0", "limit"), ("limit=101", "limit"), ("limit=x", "limit"), ("order=up", "order")] {
        let refused = app.get(&format!("/v1/videos?{query}")).send().await.unwrap();
        assert_eq!(refused.status(), 400, "{query}");
        assert_eq!(error_of(refused).await["param"], param);
    }
}

#[tokio::test]
async fn a_video_can_be_deleted_at_any_time() {
    let app = start(1, stalled()).await;
    let id = create(&app, &boat()).await;
    until_video(&app, &id, |video| video["status"] == "in_progress").await;
    let delete = async |id: &str| {
        let path = app.url(&format!("/v1/videos/{id}"));
        let deleted = good(app.client.delete(path).bearer_auth(KEY).send().await.unwrap()).await;
        assert_eq!(deleted, json!({"id": id, "object": "video.deleted", "deleted": true}));
        for path in ["", "/content"] {
            assert_eq!(app.get(&format!("/v1/videos/{id}{path}")).send().await.unwrap().status(), 404);
        }
    };
    delete(&id).await;
    until("the chat to be deleted", || app.simulator.stored().chats(None).iter().all(|chat| chat.is_old)).await;
    let looks = app.simulator.record().requests_to(Endpoint::TaskStatus).len();
    app.simulator.script().set_default(None, Endpoint::Completions, Some(soon()));
    let id = create(&app, &boat()).await;
    until_done(&app, &id).await;
    delete(&id).await;
    assert_eq!(
        app.simulator.record().requests_to(Endpoint::TaskStatus).len(),
        looks + 1,
        "no caller waits for it any more"
    );
    let (simulator, state_dir) = app.stop().await;
    let app = Setup::default().in_dir(state_dir).start(simulator).await;
    let list = good(app.get("/v1/videos").send().await.unwrap()).await;
    assert_eq!(list["data"], json!([]));
    app.assert_clean();
}
