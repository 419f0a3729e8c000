//! The upload endpoints of the site: the right to upload, and the parser of documents.

use std::sync::Arc;

use serde_json::{Value, json};

use crate::answers::Answer;
use crate::script::ScriptedReply;
use crate::storage::uploads::{BUCKET, ENDPOINT, Parsed};
use crate::web::accounts::Account;
use crate::world::{Call, World};

/// Answers `getstsToken` on both routes: STS credentials and a signed link for one announced file.
pub(crate) fn grant(world: &World, call: &Call, account: &Arc<Account>, reply: &ScriptedReply) -> Answer {
    let body = call.json().unwrap_or_default();
    let text = |name: &str| body.get(name).and_then(Value::as_str).filter(|text| !text.is_empty());
    // The site has sent a number for long, and a string since 0.3.11.
    let size = match body.get("filesize") {
        Some(Value::String(digits)) => digits.parse().ok(),
        Some(other) => other.as_u64(),
        None => None,
    };
    let type_ = text("filetype").filter(|one| WORDS.contains(one) || one.contains('/'));
    let (Some(name), Some(size), Some(type_)) = (text("filename"), size.filter(|size| *size > 0), type_) else {
        return bad_file(call);
    };
    let grant = world.uploads.grant(account, (name, type_, size), reply.grant);
    let data = json!({
        "access_key_id": grant.access_key, "access_key_secret": grant.secret, "security_token": grant.token,
        "file_url": grant.url, "file_path": grant.path, "file_id": grant.file_id, "bucketname": BUCKET,
        "region": "oss-ap-southeast-1", "endpoint": ENDPOINT,
    });
    if call.is_v1() { Answer::flat(200, &data) } else { Answer::envelope(&call.request_id, &data) }
}

/// Answers `files/parse`: starts parsing one uploaded file of the account.
pub(crate) fn parse(world: &World, call: &Call, account: &Account, reply: &ScriptedReply) -> Answer {
    let body = call.json().unwrap_or_default();
    let Some(id) = body.get("file_id").and_then(Value::as_str) else {
        return bad_file(call);
    };
    let parsed = world.uploads.parse(account, id, reply.parse.clone());
    one(world, call, id, parsed)
}

/// `files/parse/status`: a list of files, or, as in older versions of the site, one.
pub(crate) fn parse_status(world: &World, call: &Call, account: &Account) -> Answer {
    let body = call.json().unwrap_or_default();
    if let Some(id) = body.get("file_id").and_then(Value::as_str) {
        let parsed = world.uploads.poll(account, id);
        return one(world, call, id, parsed);
    }
    let Some(ids) = body.get("file_id_list").and_then(Value::as_array) else {
        let details = "[\"Field 'file_id_list': Field required\"]";
        return Answer::refusal_with(&call.request_id, "RequestValidationError", details);
    };
    let entries = ids.iter().filter_map(Value::as_str).map(|id| {
        let parsed = world.uploads.poll(account, id);
        told(world, call, id, parsed).unwrap_or_else(
            || json!({ "file_id": id, "status": "failed", "error_msg": "Not_Found: the file does not exist" }),
        )
    });
    Answer::envelope(&call.request_id, &Value::Array(entries.collect()))
}

fn one(world: &World, call: &Call, id: &str, parsed: Parsed) -> Answer {
    match told(world, call, id, parsed) {
        Some(entry) => Answer::envelope(&call.request_id, &entry),
        None => Answer::refusal(&call.request_id, "Not_Found"),
    }
}

/// The state of a file as JSON; `None` if the account has no such file.
fn told(world: &World, call: &Call, id: &str, parsed: Parsed) -> Option<Value> {
    let (status, error) = match parsed {
        Parsed::So { status, error } => (status, error),
        Parsed::Never => {
            world.violation(call, &format!("asked how far file {id} is parsed, which was not handed to the parser"));
            ("pending", None)
        }
        Parsed::Missing => return None,
        Parsed::Foreign => {
            world.violation(call, &format!("asked for another account's file {id}"));
            return None;
        }
    };
    Some(json!({ "file_id": id, "status": status, "error_msg": error }))
}

fn bad_file(call: &Call) -> Answer {
    let details = "Invalid file information!";
    if call.is_v1() {
        return Answer::flat(400, &json!({ "detail": details }));
    }
    Answer::refusal_with(&call.request_id, "Bad_Request", details)
}

/// The file types that the site sends; MIME types are accepted as well.
const WORDS: &[&str] = &["image", "video", "audio", "file", "document", "default"];
