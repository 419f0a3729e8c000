//! Generated pictures and videos: their signed links, and the bytes behind them.

use std::collections::HashMap;
use std::io::Cursor;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use image::{ImageFormat, Rgb, RgbImage};
use parking_lot::Mutex;
use serde_json::json;
use sha2::{Digest, Sha256};
use url::Url;

use crate::clock::now_ms;
use crate::web::accounts::Account;
use crate::web::tokens::sign;

/// Everything that was generated in a run.
#[derive(Default)]
pub(crate) struct Media {
    made: Mutex<HashMap<String, Made>>,
    count: AtomicU64,
}

#[derive(Clone)]
struct Made {
    owner: Arc<Account>,
    key: String,
    what: What,
}

#[derive(Clone, Copy)]
enum What {
    Picture(Size),
    Video { bytes: usize },
}

/// Size of a picture in pixels.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Size {
    pub(crate) width: u32,
    pub(crate) height: u32,
}

/// A picture as a stream names it: its link and its size in pixels.
#[derive(Clone, Debug)]
pub(crate) struct Picture {
    pub(crate) url: String,
    pub(crate) size: Size,
}

impl Media {
    /// Registers a generated picture and returns its signed link.
    pub(crate) fn picture(
        &self,
        base: &str,
        owner: &Arc<Account>,
        (chat_id, response_id): (&str, &str),
        size: Size,
    ) -> Picture {
        let count = self.count.fetch_add(1, Ordering::SeqCst);
        let resource = format!("{}{:04x}", now_ms() / 1000, count.wrapping_mul(0x9e37) & 0xffff);
        let path = format!("/output/{}/t2i/{response_id}/{resource}.png", owner.user_id);
        let query = self.insert(&path, owner, &resource, chat_id, What::Picture(size));
        Picture { url: format!("{base}{query}"), size }
    }

    /// Path and query of a new video, without a host: it exists before its first poll.
    pub(crate) fn video(
        &self,
        owner: &Arc<Account>,
        (chat_type, chat_id, task_id): (&str, &str, &str),
        bytes: usize,
    ) -> String {
        let path = format!("/output/{}/{chat_type}/{chat_id}/{task_id}.mp4", owner.user_id);
        self.insert(&path, owner, task_id, chat_id, What::Video { bytes })
    }

    fn insert(&self, path: &str, owner: &Arc<Account>, resource: &str, chat_id: &str, what: What) -> String {
        let key = sign(&json!({
            "resource_user_id": owner.user_id, "resource_id": resource, "resource_chat_id": chat_id,
        }));
        let made = Made { owner: Arc::clone(owner), key: key.clone(), what };
        self.made.lock().insert(path.to_owned(), made);
        format!("{path}?key={key}")
    }

    /// The account whose picture or video has this path.
    pub(crate) fn owner(&self, path: &str) -> Option<Arc<Account>> {
        self.made.lock().get(path).map(|made| Arc::clone(&made.owner))
    }

    /// The picture behind a link of this run, with its key, wherever the link says it is.
    pub(crate) fn linked_picture(&self, url: &str) -> Option<Bytes> {
        let url = Url::parse(url).ok()?;
        let made = self.made.lock().get(url.path()).cloned()?;
        let key = url.query_pairs().find(|(name, _)| name == "key")?;
        match made.what {
            What::Picture(size) if key.1 == made.key => Some(png(url.path(), size)),
            _ => None,
        }
    }

    /// Content type and bytes of the file at a path; `None` if the key is not its own.
    pub(crate) fn file(&self, path: &str, key: &str) -> Option<(&'static str, Bytes)> {
        let made = self.made.lock().get(path).cloned().filter(|made| made.key == key)?;
        Some(match made.what {
            What::Picture(size) => ("image/png", png(path, size)),
            What::Video { bytes } => ("video/mp4", mp4(path, bytes)),
        })
    }
}

/// The size that goes with a ratio: small, so that tests are quick. `None` for a ratio that the site does not know.
pub(crate) fn size_of(ratio: &str) -> Option<Size> {
    let (width, height) = match ratio {
        "1:1" => (256, 256),
        "3:4" => (240, 320),
        "4:3" => (320, 240),
        "16:9" => (336, 192),
        "9:16" => (192, 336),
        _ => return None,
    };
    Some(Size { width, height })
}

/// A gradient whose colours depend on the path, and so differ from answer to answer.
fn png(path: &str, size: Size) -> Bytes {
    let seed = Sha256::digest(path);
    let tone = |place: usize| seed.get(place).copied().unwrap_or_default();
    let shade = |at: u32, of: u32| u8::try_from(at * 127 / of.max(1)).unwrap_or_default();
    let picture = RgbImage::from_fn(size.width, size.height, |x, y| {
        let (across, down) = (shade(x, size.width), shade(y, size.height));
        Rgb([tone(0).wrapping_add(across), tone(1).wrapping_add(down), tone(2)])
    });
    let mut bytes = Cursor::new(Vec::new());
    // Writing to memory does not fail; if it did, the client would get an empty file and say so.
    let _ = picture.write_to(&mut bytes, ImageFormat::Png);
    Bytes::from(bytes.into_inner())
}

/// Five seconds of a boat at sea, 320 x 180, H.264: drawn for this simulator, and played by every browser.
const BOAT: &[u8] = include_bytes!("boat.mp4");

/// A video that plays, with so many bytes behind it that players pass over: they make the file as large as a test wants
/// it, and differ from path to path.
fn mp4(path: &str, bytes: usize) -> Bytes {
    let filler = Sha256::digest(path);
    let filler: Vec<u8> = filler.iter().copied().cycle().take(bytes).collect();
    Bytes::from([BOAT, &boxed(*b"free", &filler)].concat())
}

fn boxed(kind: [u8; 4], content: &[u8]) -> Vec<u8> {
    let length = u32::try_from(content.len() + 8).unwrap_or(u32::MAX);
    [&length.to_be_bytes()[..], &kind, content].concat()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_video_is_made_of_boxes() {
        let file = mp4("/output/u/t2v/c/t.mp4", 1_000);
        let mut kinds = Vec::new();
        let mut rest = &file[..];
        while !rest.is_empty() {
            let length = u32::from_be_bytes(rest[..4].try_into().unwrap());
            kinds.push(String::from_utf8(rest[4..8].to_vec()).unwrap());
            rest = &rest[usize::try_from(length).unwrap()..];
        }
        assert_eq!(kinds, ["ftyp", "moov", "mdat", "free"]);
    }

    #[test]
    fn pictures_have_the_asked_shape_and_differ() {
        for (ratio, width, height) in [("1:1", 256, 256), ("16:9", 336, 192), ("9:16", 192, 336)] {
            let size = size_of(ratio).unwrap();
            let picture = image::load_from_memory(&png("/a", size)).unwrap();
            assert_eq!((picture.width(), picture.height()), (width, height));
            assert_ne!(png("/a", size), png("/b", size));
        }
        assert!(size_of("2:1").is_none() && size_of("auto").is_none());
    }
}
