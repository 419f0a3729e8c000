//! The object storage and the CDN: uploads are read as they come, so that a large one costs no memory here.

use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use sha2::{Digest, Sha256};

use crate::answers::Answer;
use crate::clock::now_ms;
use crate::errors::OssError;
use crate::record::{EndedHow, Ticket};
use crate::script::queues::Stage;
use crate::script::{Endpoint, PutScript, PutStop};
use crate::storage::oss_signature::{Signed, access_key, check, decoded};
use crate::storage::uploads::{BUCKET, ENDPOINT, Grant, HEAD_BYTES_MAX, Object, WHOLE_BYTES_MAX};
use crate::web::stream::steps::{Step, Torn};
use crate::world::{Call, World};

/// Reads an upload and answers it.
///
/// # Errors
/// [`Torn`]: the client left, or the script wants the connection closed.
pub(crate) async fn put(world: &World, call: &Call, body: Incoming, ticket: &Ticket) -> Result<Answer, Torn> {
    let edge = world.reply(call, Endpoint::OssPut, Stage::Edge);
    let admitted = admit(world, call);
    let reply = match (&edge, &admitted) {
        (Some(reply), _) => Arc::clone(reply),
        (None, Ok(_)) => world.reply(call, Endpoint::OssPut, Stage::Behind).unwrap_or_default(),
        (None, Err(_)) => Arc::default(),
    };
    let object = receive(body, reply.put, call, ticket).await?;
    tokio::time::sleep(Duration::from_millis(reply.delay_ms)).await;
    if let Some(failure) = &reply.fail {
        let answer = Answer::failure(failure, &call.request_id, &call.path);
        let answer = answer.unwrap_or_else(|| Answer::steps("application/xml", vec![Step::Hold], None));
        return Ok(answer.with_headers(&reply.headers));
    }
    let grant = match admitted {
        Ok(grant) => grant,
        Err(error) => {
            if [OssError::SIGNATURE, OssError::ACCESS_DENIED, OssError::INVALID_ARGUMENT].contains(&error) {
                world.violation(call, &format!("an upload that is signed wrong: {}", error.code));
            }
            return Ok(Answer::oss_error(error));
        }
    };
    if object.size != grant.filesize {
        let (announced, size) = (grant.filesize, object.size);
        world.violation(call, &format!("{size} bytes uploaded, {announced} announced"));
    }
    world.uploads.put(&grant, object);
    world.journal.changed();
    Ok(Answer::oss_done().with_headers(&reply.headers))
}

/// An object by its signed link.
pub(crate) fn get(world: &World, call: &Call) -> Answer {
    let (path, query) = call.path.split_once('?').unwrap_or((&call.path, ""));
    match world.uploads.linked(path, query) {
        Some(object) if object.is_whole => Answer::part(&object.content_type, &object.bytes, call.range()),
        Some(_) => Answer::oss_error(OssError::NO_SUCH_KEY),
        None => Answer::oss_error(OssError::SIGNATURE),
    }
}

/// A generated picture or video by its link.
pub(crate) fn generated(world: &World, call: &Call) -> Answer {
    let key = call.query("key").unwrap_or_default();
    match world.media.file(call.bare_path(), &key) {
        Some((content_type, file)) => Answer::part(content_type, &file, call.range()),
        None => Answer::oss_error(OssError::ACCESS_DENIED),
    }
}

/// Whether an upload may be written, by its head alone.
fn admit(world: &World, call: &Call) -> Result<Arc<Grant>, OssError> {
    if call.query("x-oss-signature").is_some() || call.query("Signature").is_some() {
        // The signed link is for reading.
        return Err(OssError::SIGNATURE);
    }
    let access_key = access_key(&call.headers).ok_or(OssError::ACCESS_DENIED)?;
    let grant = world.uploads.by_access_key(access_key).ok_or(OssError::NO_SUCH_ACCESS_KEY)?;
    if grant.ends_at_ms <= now_ms() {
        return Err(OssError::TOKEN_EXPIRED);
    }
    if call.headers.get("x-oss-security-token").is_none_or(|token| token.as_bytes() != grant.token.as_bytes()) {
        return Err(OssError::TOKEN_INVALID);
    }
    let key = decoded(call.bare_path().trim_start_matches('/'));
    let host = format!("{BUCKET}.{ENDPOINT}");
    let now = i64::try_from(now_ms() / 1000).unwrap_or(i64::MAX);
    let method = call.method.as_str();
    check(&Signed { method, bucket: BUCKET, key: &key, headers: &call.headers, host: &host, now }, &grant.secret)?;
    if key != grant.path {
        return Err(OssError::ACCESS_DENIED);
    }
    Ok(grant)
}

async fn receive(mut body: Incoming, stop: Option<PutScript>, call: &Call, ticket: &Ticket) -> Result<Object, Torn> {
    let mut hasher = Sha256::new();
    let mut kept = BytesMut::new();
    let mut size: u64 = 0;
    loop {
        if let Some(stop) = stop.filter(|stop| size >= stop.after_bytes) {
            return Err(halt(stop, ticket).await);
        }
        let Some(frame) = body.frame().await else {
            break;
        };
        let Ok(data) = frame.map_err(|_| Torn)?.into_data() else {
            continue;
        };
        hasher.update(&data);
        size += u64::try_from(data.len()).unwrap_or(0);
        if kept.len() <= WHOLE_BYTES_MAX {
            kept.extend_from_slice(&data);
            // One byte too many tells that there is more.
            kept.truncate(WHOLE_BYTES_MAX + 1);
        }
        ticket.read(data.len());
    }
    if let Some(stop) = stop {
        return Err(halt(stop, ticket).await);
    }
    let is_whole = kept.len() <= WHOLE_BYTES_MAX;
    if !is_whole {
        kept.truncate(HEAD_BYTES_MAX);
    }
    let content_type = call.headers.get("content-type").and_then(|value| value.to_str().ok());
    Ok(Object {
        content_type: content_type.unwrap_or_default().to_owned(),
        size,
        sha256: base16ct::lower::encode_string(&hasher.finalize()),
        // A copy of its own size: what was read may have grown far larger.
        bytes: Bytes::copy_from_slice(&kept),
        is_whole,
    })
}

async fn halt(stop: PutScript, ticket: &Ticket) -> Torn {
    match stop.how {
        PutStop::Hang => std::future::pending().await,
        PutStop::Close => ticket.ended(EndedHow::Torn),
    }
    Torn
}
