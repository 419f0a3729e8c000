//! Files on their way in: grants of the upload endpoint, objects in the bucket, and how far each one is parsed.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use parking_lot::Mutex;
use sha2::{Digest, Sha256};
use url::Url;
use uuid::Uuid;

use crate::clock::now_ms;
use crate::script::{GrantScript, ParseEnd, ParseScript};
use crate::storage::oss_signature::{Link, decoded, encoded, presigned};
use crate::web::accounts::Account;

/// One object of the bucket as tests see it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UploadView {
    /// Name of the account that uploaded it.
    pub account: String,
    /// Id of the file (UUID), from the grant.
    pub file_id: String,
    /// Its key: `<user id>/<file id>_<name>`.
    pub path: String,
    /// File name, as the upload was announced.
    pub name: String,
    /// `image`, `file`, …, as the upload was announced.
    pub filetype: String,
    /// `Content-Type` of the upload; empty without.
    pub content_type: String,
    /// Number of bytes that arrived.
    pub size: u64,
    /// SHA-256 of all bytes, in lower-case hexadecimal.
    pub sha256: String,
    /// All bytes of a file up to 1 MiB, else the first 64 KiB; empty once newer uploads took the 64 MiB kept in all.
    pub bytes: Bytes,
    /// Whether `bytes` are all of them.
    pub is_whole: bool,
    /// `pending`, `running`, `success` or `failed`, as last answered; `None`: parsing was never requested.
    pub parsed: Option<String>,
}

/// The kinds of files that models tell apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Picture,
    Video,
    Sound,
    Document,
}

/// All files of a run.
#[derive(Default)]
pub(crate) struct Uploads {
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    files: HashMap<String, File>,
    /// Access key ids and the files they may write.
    keys: HashMap<String, String>,
    /// Files with kept bytes, oldest first.
    kept: VecDeque<String>,
    kept_bytes: usize,
    /// In the order of their arrival.
    arrived: Vec<String>,
    foreign_links: Vec<String>,
}

struct File {
    grant: Arc<Grant>,
    /// End of the signed link, in Unix milliseconds; 0: expired.
    link_ends_at_ms: u64,
    object: Option<Object>,
    parse: Option<Parse>,
}

/// The right to upload one file.
pub(crate) struct Grant {
    pub(crate) account: Arc<Account>,
    pub(crate) file_id: String,
    pub(crate) name: String,
    pub(crate) filetype: String,
    pub(crate) filesize: u64,
    pub(crate) path: String,
    pub(crate) access_key: String,
    pub(crate) secret: String,
    pub(crate) token: String,
    /// End of the STS credentials, in Unix milliseconds.
    pub(crate) ends_at_ms: u64,
    /// The signed link for reading, with its query.
    pub(crate) url: String,
}

/// An uploaded object, as far as its bytes are kept.
#[derive(Clone)]
pub(crate) struct Object {
    pub(crate) content_type: String,
    pub(crate) size: u64,
    pub(crate) sha256: String,
    pub(crate) bytes: Bytes,
    pub(crate) is_whole: bool,
}

#[derive(Clone)]
struct Parse {
    script: ParseScript,
    polls: u32,
    told: &'static str,
}

/// The state of a file's parsing.
pub(crate) enum Parsed {
    So { status: &'static str, error: Option<String> },
    Never,
    Missing,
    Foreign,
}

/// Reasons why a file cannot go with a message.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Unfit {
    /// Not a link to this bucket.
    Elsewhere,
    /// It belongs to another account.
    Foreign,
    /// The link is not the one that was granted, or it has expired.
    BadLink,
    /// It was never uploaded.
    Empty,
    /// It is a document that was not parsed.
    Unparsed,
}

impl Uploads {
    /// The right to upload a file that was announced.
    pub(crate) fn grant(
        &self,
        account: &Arc<Account>,
        (name, filetype, filesize): (&str, &str, u64),
        script: GrantScript,
    ) -> Arc<Grant> {
        let now = now_ms();
        let file_id = Uuid::new_v4().to_string();
        let path = format!("{}/{file_id}_{name}", account.user_id);
        let random = || Uuid::new_v4().simple().to_string();
        let access_key = format!("STS.{}", letters(&random(), 25));
        let secret = letters(&random(), 44);
        let token = security_token(&random());
        let query = presigned(&Link {
            bucket: BUCKET,
            key: &path,
            access_key: &access_key,
            secret: &secret,
            token: &token,
            signed_at: i64::try_from(now / 1000).unwrap_or(i64::MAX),
            expires: script.link_seconds,
        });
        let url = format!("https://{BUCKET}.{ENDPOINT}/{}?{query}", encoded(&path, true));
        let grant = Arc::new(Grant {
            account: Arc::clone(account),
            file_id: file_id.clone(),
            name: name.to_owned(),
            filetype: filetype.to_owned(),
            filesize,
            path,
            access_key: access_key.clone(),
            secret,
            token,
            ends_at_ms: now.saturating_add(script.grant_seconds.saturating_mul(1000)),
            url,
        });
        let mut state = self.state.lock();
        state.keys.insert(access_key, file_id.clone());
        let link_ends_at_ms = now.saturating_add(script.link_seconds.saturating_mul(1000));
        let file = File { grant: Arc::clone(&grant), link_ends_at_ms, object: None, parse: None };
        state.files.insert(file_id, file);
        grant
    }

    /// The grant of an access key id.
    pub(crate) fn by_access_key(&self, access_key: &str) -> Option<Arc<Grant>> {
        let state = self.state.lock();
        let file = state.files.get(state.keys.get(access_key)?)?;
        Some(Arc::clone(&file.grant))
    }

    /// Puts an object into the bucket.
    pub(crate) fn put(&self, grant: &Grant, object: Object) {
        let mut state = self.state.lock();
        let length = object.bytes.len();
        let id = &grant.file_id;
        let Some(file) = state.files.get_mut(id) else {
            return;
        };
        let old = file.object.replace(object).map_or(0, |old| old.bytes.len());
        state.kept.retain(|kept| kept != id);
        state.kept.push_back(id.clone());
        state.kept_bytes = state.kept_bytes.saturating_sub(old) + length;
        state.arrived.retain(|arrived| arrived != id);
        state.arrived.push(id.clone());
        state.forget_old();
    }

    /// The object behind the path and query of a signed link.
    pub(crate) fn linked(&self, path: &str, query: &str) -> Option<Object> {
        let state = self.state.lock();
        let file = state.at(path)?;
        let is_good = file.grant.query() == query && file.link_ends_at_ms > now_ms();
        file.object.clone().filter(|_| is_good)
    }

    /// Ends the links that were given so far to an account.
    pub(crate) fn expire_links(&self, account: &str) {
        let mut state = self.state.lock();
        for file in state.files.values_mut() {
            if *file.grant.account.name == *account {
                file.link_ends_at_ms = 0;
            }
        }
    }

    /// Hands a file to the parser and returns its state, `pending`.
    pub(crate) fn parse(&self, account: &Account, file_id: &str, script: ParseScript) -> Parsed {
        let mut state = self.state.lock();
        match state.files.get_mut(file_id) {
            None => Parsed::Missing,
            Some(file) if file.grant.account.name != account.name => Parsed::Foreign,
            Some(file) if file.object.is_none() => Parsed::Missing,
            Some(file) => {
                file.parse = Some(Parse { script, polls: 0, told: "pending" });
                Parsed::So { status: "pending", error: None }
            }
        }
    }

    /// Polls the parser once. The state depends on the number of polls, not on time.
    pub(crate) fn poll(&self, account: &Account, file_id: &str) -> Parsed {
        let mut state = self.state.lock();
        let Some(file) = state.files.get_mut(file_id) else {
            return Parsed::Missing;
        };
        if file.grant.account.name != account.name {
            return Parsed::Foreign;
        }
        let Some(parse) = &mut file.parse else {
            return Parsed::Never;
        };
        parse.polls = parse.polls.saturating_add(1);
        let is_open = parse.polls <= parse.script.polls;
        let (status, error) = match &parse.script.end {
            ParseEnd::Pending => ("pending", None),
            _ if is_open && parse.polls == 1 => ("pending", None),
            ParseEnd::Running => ("running", None),
            _ if is_open => ("running", None),
            ParseEnd::Success => ("success", None),
            ParseEnd::Failed(message) => ("failed", Some(message.clone())),
        };
        parse.told = status;
        Parsed::So { status, error }
    }

    /// The upload that an entry of a message means, by its id and its link.
    pub(crate) fn find(&self, account: &Account, id: Option<&str>, url: &str) -> Result<(Arc<Grant>, Object), Unfit> {
        let (place, query) = url.split_once('?').unwrap_or((url, ""));
        let path = Url::parse(place).map_err(|_| Unfit::Elsewhere)?;
        let state = self.state.lock();
        let file = state.at(path.path()).ok_or(Unfit::Elsewhere)?;
        let grant = &file.grant;
        if grant.account.name != account.name {
            return Err(Unfit::Foreign);
        }
        if id.is_some_and(|id| id != grant.file_id) {
            return Err(Unfit::BadLink);
        }
        // A link without its query is good for as long as the object is there.
        let is_over = file.link_ends_at_ms <= now_ms();
        if !query.is_empty() && (is_over || grant.query() != query) {
            return Err(Unfit::BadLink);
        }
        let object = file.object.clone().ok_or(Unfit::Empty)?;
        let is_parsed = file.parse.as_ref().is_some_and(|parse| parse.told == "success");
        if grant.kind() == Kind::Document && !is_parsed {
            return Err(Unfit::Unparsed);
        }
        Ok((Arc::clone(grant), object))
    }

    /// Whether this id was given to another account.
    pub(crate) fn is_foreign(&self, account: &Account, id: &str) -> bool {
        let state = self.state.lock();
        state.files.get(id).is_some_and(|file| file.grant.account.name != account.name)
    }

    pub(crate) fn saw_foreign_link(&self, url: &str) {
        self.state.lock().foreign_links.push(url.to_owned());
    }

    pub(crate) fn foreign_links(&self) -> Vec<String> {
        self.state.lock().foreign_links.clone()
    }

    /// The access key secrets and security tokens of all grants, which can write to the bucket.
    pub(crate) fn secrets(&self) -> Vec<String> {
        let state = self.state.lock();
        state.files.values().flat_map(|file| [file.grant.secret.clone(), file.grant.token.clone()]).collect()
    }

    pub(crate) fn views(&self) -> Vec<UploadView> {
        let state = self.state.lock();
        let files = state.arrived.iter().filter_map(|id| state.files.get(id));
        files.filter_map(File::view).collect()
    }
}

impl State {
    /// The file whose object has this path, percent-encoded.
    fn at(&self, path: &str) -> Option<&File> {
        let path = decoded(path.trim_start_matches('/'));
        let (_, rest) = path.split_once('/')?;
        let file = self.files.get(rest.split_once('_')?.0)?;
        (file.grant.path == path).then_some(file)
    }

    fn forget_old(&mut self) {
        while self.kept_bytes > KEPT_BYTES_MAX && self.kept.len() > 1 {
            let oldest = self.kept.pop_front().unwrap_or_default();
            if let Some(object) = self.files.get_mut(&oldest).and_then(|file| file.object.as_mut()) {
                let bytes = std::mem::take(&mut object.bytes);
                object.is_whole &= bytes.is_empty();
                self.kept_bytes = self.kept_bytes.saturating_sub(bytes.len());
            }
        }
    }
}

impl File {
    fn view(&self) -> Option<UploadView> {
        let object = self.object.as_ref()?;
        let grant = &self.grant;
        Some(UploadView {
            account: grant.account.name.to_string(),
            file_id: grant.file_id.clone(),
            path: grant.path.clone(),
            name: grant.name.clone(),
            filetype: grant.filetype.clone(),
            content_type: object.content_type.clone(),
            size: object.size,
            sha256: object.sha256.clone(),
            bytes: object.bytes.clone(),
            is_whole: object.is_whole,
            parsed: self.parse.as_ref().map(|parse| parse.told.to_owned()),
        })
    }
}

impl Grant {
    /// The kind of the announced type.
    pub(crate) fn kind(&self) -> Kind {
        kind_of(&self.filetype)
    }

    fn query(&self) -> &str {
        self.url.split_once('?').map_or("", |(_, query)| query)
    }
}

/// The kind of a type: a word of the site, or a MIME type.
pub(crate) fn kind_of(filetype: &str) -> Kind {
    match filetype.split('/').next() {
        Some("image") => Kind::Picture,
        Some("video") => Kind::Video,
        Some("audio") => Kind::Sound,
        _ => Kind::Document,
    }
}

/// `count` letters and digits, the same for the same seed.
fn letters(seed: &str, count: usize) -> String {
    let text: String = (0..count.div_ceil(40)).map(|block| digest(&format!("{seed} {block}"))).collect();
    text.chars().filter(char::is_ascii_alphanumeric).take(count).collect()
}

/// A security token of a real one's length, with characters that have to be encoded in a query.
fn security_token(seed: &str) -> String {
    let text: String = (0..18).map(|block| digest(&format!("token {seed} {block}"))).collect();
    let text: String = text.chars().filter(|letter| *letter != '=').take(780).collect();
    format!("CAIS{text}+/==")
}

fn digest(text: &str) -> String {
    STANDARD.encode([Sha256::digest(text), Sha256::digest(format!("{text}'"))].concat())
}

pub(crate) const BUCKET: &str = "qwen-webui-prod";
pub(crate) const ENDPOINT: &str = "oss-accelerate.aliyuncs.com";

/// Objects up to this size are kept whole.
pub(crate) const WHOLE_BYTES_MAX: usize = 1024 * 1024;

/// Of larger objects, this much is kept.
pub(crate) const HEAD_BYTES_MAX: usize = 64 * 1024;

/// Most bytes kept for all objects together; the oldest objects lose theirs first.
const KEPT_BYTES_MAX: usize = 64 * 1024 * 1024;
