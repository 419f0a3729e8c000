use http::Method;
use serde_json::{Value, json};

use crate::Simulator;
use crate::script::{AccountScript, CutHow, Endpoint, Era, PictureForm, Scenario, ScriptedReply};
use crate::tests::client::{Caller, Read, answer_of, frames, media_question, read, start};

/// The links of phase `image_gen`.
fn links(read: &Read) -> Vec<String> {
    let frames = frames(&read.text);
    let deltas = frames.iter().map(|frame| &frame["choices"][0]["delta"]);
    let pictures = deltas.filter(|delta| delta["phase"] == "image_gen" && delta["status"] == "typing");
    pictures.map(|delta| delta["content"].as_str().unwrap().to_owned()).collect()
}

fn has_finished(read: &Read) -> bool {
    let last = frames(&read.text).pop().unwrap();
    last["choices"][0]["delta"]["status"] == "finished"
}

fn edit_of(link: &str) -> Value {
    json!([{
        "type": "image", "name": "example.png", "file_type": "image/png", "showType": "image", "file_class": "vision",
        "status": "uploaded", "url": link,
    }])
}

/// The last answer as the chat stores it.
async fn last_message(caller: &Caller<'_>) -> Value {
    caller.last_completion().await;
    let chat = caller.simulator.stored().chats(Some(&caller.name)).pop().unwrap().id;
    let data = caller.get(&format!("/api/v2/chats/{chat}")).await.data();
    data["chat"]["messages"].as_array().unwrap().last().unwrap().clone()
}

#[tokio::test]
async fn a_picture_comes_as_recorded() {
    let simulator = start().await;
    let caller = Caller::new(&simulator, "ada");
    let read = caller.wish("t2i", "Two pictures of a lighthouse", json!([])).await;
    let frames = frames(&read.text);
    let id = frames[0]["response.created"]["response_id"].as_str().unwrap();
    assert_eq!(frames.len(), 6, "created, two keep-alives, two pictures, finished");
    assert_eq!(frames[1]["response.info"]["action"], "keep_alive");
    assert_eq!(frames[3]["choices"][0]["delta"]["extra"]["output_image_hw"], json!([[192, 336]]));
    assert_eq!(frames[3]["usage"]["width"], 336);
    let finished = format!(
        "data: {{\"choices\": [{{\"delta\": {{\"content\": \"\", \"role\": \"assistant\", \"status\": \"finished\", \
         \"phase\": \"image_gen\"}}}}], \"response_id\": \"{id}\"}}\n\n"
    );
    assert!(read.text.ends_with(&finished));
    let links = links(&read);
    let start = format!("{}output/{}/t2i/{id}/", simulator.urls().web, simulator.accounts().user_id("ada"));
    assert!(links.iter().all(|link| link.starts_with(&start) && link.contains(".png?key=eyJ")), "{links:?}");
    assert_ne!(links[0], links[1]);

    let message = last_message(&caller).await;
    assert_eq!(message["id"], id);
    assert_eq!(message["chat_type"], "t2i");
    assert_eq!(message["content"], links.join("\n"));
    assert_eq!(message["content_list"][1]["content"], links[1]);
    assert_eq!(message["content_list"][1]["phase"], "image_gen");
    assert!(simulator.record().violations().is_empty(), "{:?}", simulator.record().violations());
}

#[tokio::test]
async fn links_serve_pictures() {
    let simulator = start().await;
    let caller = Caller::new(&simulator, "ada");
    let link = links(&caller.wish("t2i", "A lighthouse", json!([])).await).remove(0);
    let get = |link: &str, range: Option<&str>| {
        let mut request = reqwest::Client::new().get(link);
        if let Some(range) = range {
            request = request.header("range", range);
        }
        request.send()
    };
    let found = get(&link, None).await.unwrap();
    assert_eq!(found.headers()["content-type"], "image/png");
    let bytes = found.bytes().await.unwrap();
    let picture = image::load_from_memory(&bytes).unwrap();
    assert_eq!((picture.width(), picture.height()), (336, 192));
    let part = get(&link, Some("bytes=0-7")).await.unwrap();
    assert_eq!((part.status().as_u16(), part.bytes().await.unwrap()), (206, bytes.slice(..8)));
    let beyond = get(&link, Some("bytes=9999999-")).await.unwrap();
    assert_eq!(beyond.status(), 416);
    for bad in [link.split('?').next().unwrap().to_owned(), format!("{link}x")] {
        assert_eq!(get(&bad, None).await.unwrap().status(), 403);
    }
    simulator.script().queue(Some("ada"), Endpoint::MediaLink, ScriptedReply::status(503));
    assert_eq!(get(&link, None).await.unwrap().status(), 503);
    assert!(simulator.record().violations().is_empty(), "{:?}", simulator.record().violations());
    read(caller.polite(Method::GET, &link).send().await.unwrap()).await;
    assert!(simulator.record().violations()[0].contains("another host"));
}

#[tokio::test]
async fn pictures_are_edited() {
    let simulator = start().await;
    let caller = Caller::new(&simulator, "ada");
    let chat = caller.chat_for("t2i").await;
    let first = caller.complete(&chat, &media_question(&chat, "t2i", "A boat", json!([]))).await;
    let link = links(&first).remove(0);
    let parent = caller.last_completion().await.response_id.unwrap();
    for chat_type in ["t2i", "image_edit"] {
        let mut next = media_question(&chat, chat_type, "Make it red", edit_of(&link));
        next["parent_id"] = json!(parent);
        let edited = caller.complete(&chat, &next).await;
        assert_eq!(links(&edited).len(), 1);
        assert_ne!(links(&edited)[0], link);
        caller.last_completion().await;
    }
    let refused = caller.wish("image_edit", "Make it red", json!([])).await;
    assert_eq!(frames(&refused.text)[1]["error"]["code"], "invalid_input");
    assert!(simulator.record().violations().is_empty(), "{:?}", simulator.record().violations());
}

#[tokio::test]
async fn pictures_fail_as_scripted() {
    let simulator = start().await;
    let caller = Caller::new(&simulator, "ada");
    let wish = async |reply: ScriptedReply| {
        simulator.script().queue(Some("ada"), Endpoint::Completions, reply);
        caller.wish("t2i", "Two pictures of a boat", json!([])).await
    };
    let none = wish(ScriptedReply::pictures(0)).await;
    assert!(links(&none).is_empty() && has_finished(&none));
    assert_eq!(last_message(&caller).await["content"], "");

    let text = wish(ScriptedReply::no_picture_but("I would rather not.")).await;
    assert_eq!(answer_of(&text.text), "I would rather not.");
    assert!(links(&text).is_empty() && has_finished(&text));

    for (frames, shown) in [(3, 0), (4, 1)] {
        let cut = wish(ScriptedReply::default().cut_after(frames, CutHow::Fin)).await;
        assert_eq!((links(&cut).len(), has_finished(&cut)), (shown, false));
        let message = last_message(&caller).await;
        assert_eq!(message["content_list"].as_array().unwrap().len(), 2, "made all the same");
    }

    let lost = wish(ScriptedReply::default().with_picture(|picture| picture.lost = true)).await;
    assert!(links(&lost).is_empty() && has_finished(&lost));
    let kept = last_message(&caller).await["content_list"][0]["content"].clone();
    let found = reqwest::get(kept.as_str().unwrap()).await.unwrap();
    assert_eq!(found.status(), 200);

    let late = ScriptedReply::default().with_picture(|picture| (picture.lost, picture.late_reads) = (true, 2));
    wish(late).await;
    let mut counts = Vec::new();
    for _ in 0..3 {
        counts.push(last_message(&caller).await["content_list"].as_array().unwrap().len());
    }
    assert_eq!(counts, [0, 0, 2]);

    let waiting = wish(ScriptedReply::default().with_picture(|picture| picture.keep_alives = 7)).await;
    assert_eq!(frames(&waiting.text).len(), 11);
}

#[tokio::test]
async fn pictures_are_written_in_other_ways() {
    let simulator = start().await;
    let caller = Caller::new(&simulator, "ada");
    let wish = async |reply: ScriptedReply| {
        simulator.script().queue(Some("ada"), Endpoint::Completions, reply);
        caller.wish("t2i", "A boat", json!([])).await
    };
    let tool = wish(ScriptedReply::pictures_as(PictureForm::EditTool)).await;
    let frames = frames(&tool.text);
    let result = frames.iter().map(|frame| &frame["choices"][0]["delta"]).find(|delta| delta["role"] == "function");
    let link = result.unwrap()["extra"]["image_list"][0]["image"].as_str().unwrap();
    assert!(link.contains("/t2i/") && has_finished(&tool));
    let plain = wish(ScriptedReply::pictures_as(PictureForm::Answer)).await;
    assert!(answer_of(&plain.text).starts_with(simulator.urls().web.as_str()));
    assert!(links(&plain).is_empty());
}

#[tokio::test]
async fn links_begin_as_the_scenario_says() {
    let scenario = Scenario {
        media_base: Some("https://cdn.qwenlm.ai/".to_owned()),
        ..Scenario::with_accounts([AccountScript::new("ada", Era::A)])
    };
    let simulator = Simulator::start(scenario).await.unwrap();
    let caller = Caller::new(&simulator, "ada");
    let link = links(&caller.wish("t2i", "A boat", json!([])).await).remove(0);
    assert!(link.starts_with("https://cdn.qwenlm.ai/output/"), "{link}");
    let (_, path) = link.split_once(".ai").unwrap();
    assert_eq!(caller.bare(Method::GET, path).send().await.unwrap().status(), 200);
    assert_eq!(links(&caller.wish("image_edit", "Red", edit_of(&link)).await).len(), 1);
}
