//! Files in requests: every form that clients send, what is wrong with them, and what is made of them.

use std::io::Cursor;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use image::ImageFormat;
use serde_json::{Value, json};

use crate::chat::error::RequestError;
use crate::chat::file_part::LIFTED_PREFIX;
use crate::files::attachment::{Attachment, JobFile, RemoteFile};
use crate::files::blob::Blob;
use crate::files::media_type::IMAGE_BYTES_MAX;
use crate::tests::{planned, rules};
use crate::upstream::web::request::WebRequest;

pub(super) fn picture(format: ImageFormat, width: u32, height: u32) -> Vec<u8> {
    let mut bytes = Cursor::new(Vec::new());
    image::DynamicImage::new_rgb8(width, height).write_to(&mut bytes, format).unwrap();
    bytes.into_inner()
}

pub(super) fn data_uri(essence: &str, bytes: &[u8]) -> String {
    format!("data:{essence};base64,{}", STANDARD.encode(bytes))
}

pub(super) fn png() -> String {
    data_uri("image/png", &picture(ImageFormat::Png, 2, 3))
}

/// A small PNG whose header says otherwise, checksum included.
pub(super) fn bomb(width: u32, height: u32) -> Vec<u8> {
    let mut bytes = picture(ImageFormat::Png, 1, 1);
    bytes[16..20].copy_from_slice(&width.to_be_bytes());
    bytes[20..24].copy_from_slice(&height.to_be_bytes());
    let mut crc = !0_u32;
    for byte in &bytes[12..29] {
        crc ^= u32::from(*byte);
        for _ in 0..8 {
            crc = if crc & 1 == 1 { (crc >> 1) ^ 0xedb8_8320 } else { crc >> 1 };
        }
    }
    bytes[29..33].copy_from_slice(&(!crc).to_be_bytes());
    bytes
}

pub(super) fn request(messages: &Value, lifted: &[Blob]) -> Result<WebRequest, RequestError> {
    planned(&json!({ "messages": messages }), lifted, &rules(&[], false))
}

pub(super) fn described(file: &JobFile) -> String {
    match file {
        JobFile::Ready(Attachment { at, name, kind, content_type, content }) => {
            format!("{at} {name} {} {content_type} {}", kind.noun(), content.len())
        }
        JobFile::Remote(RemoteFile { at, label, kind, url }) => format!("{at} {label} {} {url}", kind.noun()),
        JobFile::Link(file) => format!("link {}", file.url),
    }
}

fn outcome(messages: &Value, lifted: &[Blob]) -> String {
    match request(messages, lifted) {
        Ok(request) => request.files.iter().map(described).collect::<Vec<_>>().join(" | "),
        Err(error) => format!("! {:?} {}", error.kind, error.param.unwrap_or_default()),
    }
}

/// One user message with this one part.
fn check(part: &Value, expected: &str) {
    let shown: String = part.to_string().chars().take(200).collect();
    assert_eq!(outcome(&json!([{"role": "user", "content": [part]}]), &[]), expected, "{shown}");
}

const AT: &str = "messages[0].content[0]";

#[test]
fn pictures_in_every_form() {
    let size = picture(ImageFormat::Png, 2, 3).len();
    let bare = STANDARD.encode(picture(ImageFormat::Png, 2, 3));
    let expected = format!("{AT} image-1.png picture image/png {size}");
    for part in [
        json!({"type": "image_url", "image_url": {"url": png(), "detail": "high"}}),
        json!({"type": "image_url", "image_url": png()}),
        json!({"type": "image", "image": png()}),
        json!({"type": "image", "image_url": {"url": png()}}),
        json!({"type": "image", "url": png()}),
        json!({"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": bare}}),
        json!({"type": "input_image", "image_url": png(), "detail": "auto"}),
        // The bytes decide which kind of picture it is.
        json!({"type": "image_url", "image_url": {"url": data_uri("image/jpeg", &picture(ImageFormat::Png, 2, 3))}}),
        json!({"type": "image_url", "image_url": {"url": data_uri("application/octet-stream", &picture(ImageFormat::Png, 2, 3))}}),
        json!({"type": "image_url", "image_url": {"url": data_uri("", &picture(ImageFormat::Png, 2, 3))}}),
    ] {
        check(&part, &expected);
    }
    for (format, essence, ending) in [
        (ImageFormat::Jpeg, "image/jpeg", "jpg"),
        (ImageFormat::Gif, "image/gif", "gif"),
        (ImageFormat::WebP, "image/webp", "webp"),
        (ImageFormat::Bmp, "image/bmp", "bmp"),
        (ImageFormat::Tiff, "image/tiff", "tiff"),
        (ImageFormat::Ico, "image/x-icon", "ico"),
    ] {
        let bytes = picture(format, 4, 4);
        let part = json!({"type": "image_url", "image_url": {"url": data_uri(essence, &bytes)}});
        check(&part, &format!("{AT} image-1.{ending} picture {essence} {}", bytes.len()));
    }
}

#[test]
fn other_files_in_every_form() {
    let wav = b"RIFF\x24\0\0\0WAVEfmt \x10\0\0\0";
    let mp4 = b"\0\0\0\x20ftypisom\0\0\x02\0isomiso2mp41";
    check(
        &json!({"type": "input_audio", "input_audio": {"data": STANDARD.encode(wav), "format": "wav"}}),
        &format!("{AT} audio-1.wav sound audio/wav {}", wav.len()),
    );
    for part in [
        json!({"type": "video_url", "video_url": {"url": data_uri("video/mp4", mp4)}}),
        json!({"type": "video_url", "video_url": data_uri("video/mp4", mp4)}),
        json!({"type": "input_video", "input_video": {"data": STANDARD.encode(mp4), "format": "mp4"}}),
        json!({"type": "input_video", "video_url": {"url": data_uri("video/mp4", mp4)}}),
    ] {
        check(&part, &format!("{AT} video-1.mp4 video video/mp4 {}", mp4.len()));
    }
    for (file, expected) in [
        (
            json!({"file_data": data_uri("application/pdf", b"%PDF-1.7 x"), "filename": "a b.pdf"}),
            "a b.pdf document application/pdf 10",
        ),
        (
            json!({"file_data": STANDARD.encode(b"%PDF-1.7 x"), "filename": "../x/r.pdf"}),
            "r.pdf document application/pdf 10",
        ),
        (json!({"file_data": data_uri("text/csv", b"a,b\n"), "filename": "t.csv"}), "t.csv document text/csv 4"),
        (json!({"file_data": data_uri("text/plain", b"x")}), "document-1.txt document text/plain 1"),
        (json!({"file_data": STANDARD.encode("Grüße"), "filename": "文件.md"}), "文件.md document text/markdown 7"),
        (json!({"file_data": STANDARD.encode(wav)}), "document-1.wav sound audio/wav 20"),
    ] {
        check(&json!({"type": "file", "file": file}), &format!("{AT} {expected}"));
    }
    check(
        &json!({"type": "input_file", "file_data": data_uri("text/plain", b"x"), "filename": "n.txt"}),
        &format!("{AT} n.txt document text/plain 1"),
    );
}

#[test]
fn addresses() {
    for (part, expected) in [
        (
            json!({"type": "image_url", "image_url": {"url": "https://e.org/a.png"}}),
            "image-1 picture https://e.org/a.png",
        ),
        (json!({"type": "image_url", "image_url": "HTTP://e.org/a"}), "image-1 picture HTTP://e.org/a"),
        (json!({"type": "video_url", "video_url": {"url": "https://e.org/a"}}), "video-1 video https://e.org/a"),
        (
            json!({"type": "input_file", "file_url": "https://e.org/a.pdf?x"}),
            "document-1 document https://e.org/a.pdf?x",
        ),
        (json!({"type": "input_file", "file_url": "https://e.org/a.png"}), "image-1 picture https://e.org/a.png"),
    ] {
        check(&part, &format!("{AT} {expected}"));
    }
    for bad in ["file:///etc/passwd", "ftp://e.org/a.png", "//e.org/a.png", "a.png", "", "javascript:1", "gopher://x"] {
        check(&json!({"type": "image_url", "image_url": {"url": bad}}), &format!("! InvalidValue {AT}"));
    }
    let long = format!("https://e.org/{}", "a".repeat(2048));
    check(&json!({"type": "image_url", "image_url": {"url": long}}), &format!("! InvalidValue {AT}"));
}

#[test]
fn what_is_wrong_with_files() {
    let image = |url: &str| json!({"type": "image_url", "image_url": {"url": url}});
    let whole = picture(ImageFormat::Png, 20, 20);
    let torn = &whole[..whole.len() - 20];
    for (url, expected) in [
        (png().replace('=', ""), "InvalidFile"),
        (png().replace("iVBOR", "iVB-OR"), "InvalidFile"),
        ("data:image/png;base64,%%%%".to_owned(), "InvalidFile"),
        ("data:image/png;base64,".to_owned(), "InvalidFile"),
        ("data:image/png,%89PNG".to_owned(), "InvalidValue"),
        ("data:image/png;base64".to_owned(), "InvalidValue"),
        (data_uri("text/html", &whole), "UnsupportedFile"),
        (data_uri("application/pdf", &whole), "UnsupportedFile"),
        (data_uri("image/png", b"<html><script>"), "UnsupportedFile"),
        (data_uri("image/png", b"%PDF-1.7"), "UnsupportedFile"),
        (data_uri("image/svg+xml", b"<svg xmlns=\"http://www.w3.org/2000/svg\"/>"), "UnsupportedFile"),
        (data_uri("image/png", &[0, 1, 2, 3]), "UnsupportedFile"),
        (data_uri("image/png", torn), "InvalidFile"),
        (data_uri("image/png", &whole[..20]), "InvalidFile"),
        (data_uri("image/jpeg", &picture(ImageFormat::Jpeg, 64, 64)[..300]), "InvalidFile"),
        (data_uri("image/png", &bomb(20_000, 20_000)), "FileTooLarge"),
        (data_uri("image/png", &bomb(65_000, 1)), "FileTooLarge"),
        (data_uri("image/png", &bomb(9_000, 9_000)), "FileTooLarge"),
        (data_uri("image/png", &bomb(0, 5)), "InvalidFile"),
        (data_uri("image/png", &vec![0; usize::try_from(IMAGE_BYTES_MAX).unwrap() + 1]), "FileTooLarge"),
    ] {
        check(&image(&url), &format!("! {expected} {AT}"));
    }
    let fields = [
        (json!({"type": "image_url"}), format!("! Missing {AT}.url")),
        (json!({"type": "image_url", "image_url": {}}), format!("! Missing {AT}.image_url.url")),
        (json!({"type": "image_url", "image_url": 5}), format!("! InvalidType {AT}.image_url")),
        (json!({"type": "image_url", "image_url": {"url": 5}}), format!("! InvalidType {AT}.image_url.url")),
        (json!({"type": "input_audio", "input_audio": {"format": "wav"}}), format!("! Missing {AT}.input_audio.data")),
        (json!({"type": "file", "file": {"filename": "a"}}), format!("! Missing {AT}.file.file_data")),
        (json!({"type": "file", "file": {"file_id": "file-1"}}), format!("! UnsupportedParameter {AT}.file.file_id")),
        (json!({"type": "video_url", "video_url": {"url": png()}}), format!("! UnsupportedFile {AT}")),
        (
            json!({"type": "input_audio", "input_audio": {"data": STANDARD.encode(&whole)}}),
            format!("! UnsupportedFile {AT}"),
        ),
        (json!({"type": "file", "file": {"file_data": STANDARD.encode([0, 1])}}), format!("! UnsupportedFile {AT}")),
    ];
    for (part, expected) in fields {
        check(&part, &expected);
    }
}

#[test]
fn what_was_taken_out_of_the_body_comes_back() {
    let blob = Blob::from(picture(ImageFormat::Png, 2, 3));
    let part = |place: &str| {
        json!([{"role": "user", "content": [
            {"type": "image_url", "image_url": {"url": format!("data:image/png;base64,{LIFTED_PREFIX}{place}")}},
        ]}])
    };
    let expected = format!("{AT} image-1.png picture image/png {}", blob.len());
    assert_eq!(outcome(&part("0"), std::slice::from_ref(&blob)), expected);
    for place in ["1", "-1", "x", ""] {
        assert_eq!(outcome(&part(place), std::slice::from_ref(&blob)), format!("! InvalidFile {AT}"), "{place}");
    }
}

/// The bytes that were decoded while the body came in are those that go up: no copy, and nothing is decoded again.
#[test]
fn what_was_lifted_is_shared() {
    let lifted = Blob::from(picture(ImageFormat::Png, 2, 3));
    let url = format!("data:image/png;base64,{LIFTED_PREFIX}0");
    let messages = json!([{"role": "user", "content": [{"type": "image_url", "image_url": {"url": url}}]}]);
    let job = request(&messages, std::slice::from_ref(&lifted)).unwrap();
    let [JobFile::Ready(file)] = job.files.as_slice() else { panic!("{job:?}") };
    assert_eq!(file.content.in_memory().unwrap().as_ptr(), lifted.in_memory().unwrap().as_ptr());
}
