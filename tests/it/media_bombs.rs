//! Files that are made to hurt: each gets one clear error, and other callers notice nothing.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use futures_util::future::join_all;
use image::ImageFormat;
use serde_json::{Value, json};
use simulator::Simulator;
use simulator::script::{Endpoint, Scenario};

use crate::support::app::{KEY, PATIENCE, Setup, TestApp, checked_error, error_of, json_of};
use crate::support::files::{SIGNATURE, bomb, chunk, data_uri, hash, header, png, with_parts, zipped_zeros};
use crate::support::program::{self, Program};
use crate::support::raw::{self, Raw};

/// A PNG whose header says this and whose rows are missing.
fn hollow(width: u32, height: u32) -> Vec<u8> {
    [SIGNATURE, &header(width, height), &chunk(b"IDAT", &zipped_zeros(9)), &chunk(b"IEND", b"")].concat()
}

/// A good picture with this chunk before its rows.
fn png_with(name: &[u8; 4], data: &[u8]) -> Vec<u8> {
    let good = png(1);
    let (head, rest) = good.split_at(SIGNATURE.len() + 25);
    [head, &chunk(name, data), rest].concat()
}

fn jpeg(width: u16, height: u16, padding: usize) -> Vec<u8> {
    let frame = [&[0xff, 0xc0, 0, 11, 8][..], &height.to_be_bytes(), &width.to_be_bytes(), &[1, 1, 0x11, 0]].concat();
    let comment = [&[0xff, 0xfe, 0xff, 0xff][..], &vec![b' '; 65_533]].concat();
    [&[0xff, 0xd8][..], &comment.repeat(padding / comment.len()), &frame, &[0xff, 0xd9]].concat()
}

fn gif(width: u16, height: u16, frames: usize) -> Vec<u8> {
    let frame = b"\x2c\0\0\0\0\x01\0\x01\0\0\x02\x02\x44\x01\0";
    let head =
        [b"GIF89a".as_slice(), &width.to_le_bytes(), &height.to_le_bytes(), b"\x80\0\0\0\0\0\xff\xff\xff"].concat();
    [head.as_slice(), &frame.repeat(frames), b"\x3b"].concat()
}

fn tiff(width: u32, height: u32) -> Vec<u8> {
    let entry = |tag: u16, value: u32| [&tag.to_le_bytes()[..], &[4, 0, 1, 0, 0, 0], &value.to_le_bytes()].concat();
    let entries = [entry(256, width), entry(257, height), entry(258, 8), entry(262, 1), entry(273, 8), entry(279, 1)];
    [&b"II*\0\x08\0\0\0\x06\0"[..], &entries.concat(), &[0; 64]].concat()
}

fn bmp(head_bytes: u32, width: i32, height: i32) -> Vec<u8> {
    let sizes = [&head_bytes.to_le_bytes()[..], &width.to_le_bytes(), &height.to_le_bytes()].concat();
    [&b"BM\xff\xff\xff\x7f\0\0\0\0\x36\0\0\0"[..], &sizes, &[1, 0, 24, 0], &[0; 64]].concat()
}

fn ico(inner: &[u8]) -> Vec<u8> {
    let size = u32::try_from(inner.len()).unwrap().to_le_bytes();
    [&b"\0\0\x01\0\x01\0\0\0\0\0\x01\0\x20\0"[..], &size, &[22, 0, 0, 0], inner].concat()
}

/// The extended form, whose canvas has 24 bits a side.
fn webp(side: u32) -> Vec<u8> {
    let side = &(side - 1).to_le_bytes()[..3];
    let body = [&b"WEBPVP8X\x0a\0\0\0\x02\0\0\0"[..], side, side, b"ANIM\x06\0\0\0\0\0\0\0\0\0"].concat();
    [b"RIFF".as_slice(), &u32::try_from(body.len()).unwrap().to_le_bytes(), &body].concat()
}

fn good(format: ImageFormat) -> Vec<u8> {
    let mut bytes = std::io::Cursor::new(Vec::new());
    let picture = image::DynamicImage::ImageRgba8(image::RgbaImage::from_pixel(8, 8, image::Rgba([1, 2, 3, 255])));
    let picture = if format == ImageFormat::Jpeg { picture.to_rgb8().into() } else { picture };
    picture.write_to(&mut bytes, format).unwrap();
    bytes.into_inner()
}

/// A server as a process of its own, so that its memory can be seen.
struct Measured {
    simulator: Simulator,
    program: Program,
    address: SocketAddr,
    client: reqwest::Client,
}

impl Measured {
    async fn start(more: &[(&'static str, &str)]) -> Self {
        let simulator = Simulator::start(Scenario::default().paced_ms(0)).await.unwrap();
        let mut settings = program::settings(&simulator, "json");
        settings.retain(|(name, _)| *name != "LOG_LEVEL");
        settings.push(("QWEN_OSS_BASE_URL", simulator.urls().storage.to_string()));
        settings.extend(more.iter().map(|(name, value)| (*name, (*value).to_owned())));
        let program = Program::start(&["serve"], &settings);
        let address = program.address_beside("listening").await;
        let client = reqwest::Client::builder().no_proxy().timeout(PATIENCE * 3).build().unwrap();
        let server = Self { simulator, program, address, client };
        // Connections, threads and code are there before anything is measured.
        assert_eq!(server.ask(&picture(&data_uri("image/png", &png(9)))).await.0, 200);
        server.program.forget_peak();
        server
    }

    async fn ask(&self, body: &Value) -> (u16, Value) {
        let request = self.client.post(format!("http://{}/v1/chat/completions", self.address));
        let request = request.bearer_auth(program::KEY).header("content-type", "application/json");
        let response = request.body(body.to_string()).send().await.unwrap();
        (response.status().as_u16(), json_of(response).await)
    }

    /// How much more memory was in use at some time since the start.
    fn added_mib(&self, before_kib: u64) -> u64 {
        self.program.memory_kib("VmHWM:").saturating_sub(before_kib) / 1024
    }
}

fn picture(url: &str) -> Value {
    with_parts("qwen3-vl-plus", "What is it?", vec![json!({"type": "image_url", "image_url": {"url": url}})])
}

#[tokio::test]
async fn bombs_are_seen_by_their_heads() {
    let server = Measured::start(&[]).await;
    let before = server.program.memory_kib("VmRSS:");
    let torn = |bytes: &[u8], count: usize| bytes[..count].to_vec();
    let unsupported = "unsupported_file_type";
    let mut wrong = Vec::new();
    for (what, bytes, code) in [
        ("a PNG of 144 megapixels", bomb(12_000, 12_000), "file_too_large"),
        ("a PNG of 4 gigapixels", hollow(65_000, 65_000), "file_too_large"),
        ("a PNG with the largest sides", hollow(0x7fff_ffff, 0x7fff_ffff), "file_too_large"),
        ("a PNG with impossible sides", hollow(0xffff_ffff, 1), "file_too_large"),
        ("a PNG with a long side", hollow(20_000, 8), "file_too_large"),
        ("a PNG without a side", hollow(0, 8), "invalid_file"),
        ("a JPEG with the largest sides", jpeg(65_535, 65_535, 0), "file_too_large"),
        ("a JPEG without a side", jpeg(0, 8, 0), "invalid_file"),
        ("a large JPEG with the largest sides", jpeg(65_535, 65_535, 4_000_000), "file_too_large"),
        ("a JPEG of comments", [&jpeg(8, 8, 2_000_000)[..1_900_000], &[0xff, 0xd9]].concat(), "invalid_file"),
        (
            "a JPEG of empty segments",
            [&[0xff, 0xd8][..], &[0xff, 0xfe, 0, 2].repeat(500_000), &[0xff, 0xd9]].concat(),
            "invalid_file",
        ),
        ("a GIF with the largest sides and many frames", gif(65_535, 65_535, 100_000), "file_too_large"),
        ("a TIFF with the largest sides", tiff(u32::MAX, u32::MAX), "file_too_large"),
        ("a BMP with the largest sides", bmp(40, 60_000, 60_000), "file_too_large"),
        ("a BMP whose header is huge", bmp(u32::MAX, 8, 8), "invalid_file"),
        ("an icon with a bomb in it", ico(&hollow(65_000, 65_000)), "file_too_large"),
        ("a WebP with the largest canvas", webp(1 << 24), "invalid_file"),
        ("a torn PNG", torn(&png(1), 40), "invalid_file"),
        ("a PNG without its end", torn(&png(1), png(1).len() - 12), "invalid_file"),
        ("a torn WebP", torn(&good(ImageFormat::WebP), 14), "invalid_file"),
        ("nothing", Vec::new(), "invalid_file"),
        ("a signature", SIGNATURE.to_vec(), "invalid_file"),
        ("a signature and a page", [SIGNATURE, b"<html><script>alert(1)</script>IEND"].concat(), "invalid_file"),
        ("a page", b"<!doctype html><html></html>".to_vec(), unsupported),
        (
            "a drawing with a script",
            b"<svg xmlns='http://www.w3.org/2000/svg' onload='alert(1)'/>".to_vec(),
            unsupported,
        ),
        ("a script that begins as a GIF", b"GIF89a=1;alert(1);//;".to_vec(), unsupported),
        ("an archive", b"PK\x03\x04\x14\0\0\0\x08\0 and so on".to_vec(), unsupported),
        ("a program", b"\x7fELF\x02\x01\x01\0\0\0\0\0\0\0\0\0".to_vec(), unsupported),
        ("a paper", b"%PDF-1.7\n".to_vec(), unsupported),
        ("a video", b"\0\0\0\x20ftypisom\0\0\x02\0isomiso2mp41".to_vec(), unsupported),
    ] {
        let began = server.program.cpu();
        let (status, answer) = server.ask(&picture(&data_uri("image/png", &bytes))).await;
        if status != 400 {
            wrong.push(format!("{what}: {status} {answer}"));
            continue;
        }
        let error = checked_error(&answer);
        if (&error["code"], &error["param"]) != (&json!(code), &json!("messages[0].content[1]")) {
            wrong.push(format!("{what}: {error}"));
        }
        let took = server.program.cpu() - began;
        assert!(took < Duration::from_secs(2), "{what}: {took:?}");
    }
    assert_eq!(wrong, Vec::<String>::new());
    let uploads = server.simulator.stored().uploads().len();
    assert_eq!((uploads, server.simulator.record().requests_to(Endpoint::Completions).len()), (1, 1), "only the first");
    let formats = {
        use ImageFormat as Format;
        [Format::Jpeg, Format::Gif, Format::Bmp, Format::Tiff, Format::Ico, Format::WebP]
    };
    for format in formats {
        let (status, answer) = server.ask(&picture(&data_uri("", &good(format)))).await;
        assert_eq!(status, 200, "{format:?}: {answer}");
    }
    let uploads = uploads + formats.len();
    // These hurt who unpacks them. They are pictures, and nothing here unpacks any.
    let unpacked = zipped_zeros(100_000_000);
    for bytes in [
        png_with(b"zTXt", &[b"a\0\0".as_slice(), &unpacked].concat()),
        png_with(b"iCCP", &[b"a\0\0".as_slice(), &unpacked].concat()),
        gif(8, 8, 100_000),
        [png(1), b"PK\x03\x04 and a second life as an archive".to_vec()].concat(),
    ] {
        let began = server.program.cpu();
        let (status, answer) = server.ask(&picture(&data_uri("image/png", &bytes))).await;
        assert_eq!(status, 200, "{answer}");
        let took = server.program.cpu() - began;
        assert!(took < Duration::from_secs(2), "{took:?}");
    }
    assert_eq!(server.simulator.stored().uploads().len(), uploads + 4);
    let added = server.added_mib(before);
    assert!(added <= 40, "{added} MiB");
    let (status, _) = server.ask(&picture(&data_uri("image/png", &png(1)))).await;
    assert_eq!(status, 200, "other requests are served as before");
}

#[tokio::test]
async fn data_uris_that_are_none() {
    let app = TestApp::quick().await;
    let good = STANDARD.encode(png(1));
    let large = STANDARD.encode(vec![7; 90_000]);
    let (bare, _) = good.split_at(good.len() - 1);
    let ((start, end), (large_start, large_end)) = (good.split_at(40), large.split_at(70_000));
    let percent = good.replace('+', "%2B").replace('/', "%2F").replace('=', "%3D");
    for (payload, code) in [
        ("data:,".to_owned(), "invalid_value"),
        ("data:image/png,%89PNG%0D%0A".to_owned(), "invalid_value"),
        (format!("data:image/png;base64{good}"), "invalid_value"),
        ("data:image/png;base64,".to_owned(), "invalid_file"),
        (format!("data:image/png;base64,{bare}"), "invalid_file"),
        (format!("data:image/png;base64,{good}="), "invalid_file"),
        (format!("data:image/png;base64,{good}{good}"), "invalid_file"),
        (format!("data:image/png;base64,{percent}"), "invalid_file"),
        (format!("data:image/png;base64,{large}="), "invalid_file"),
        // Lines may be broken, also where the file is taken out of the body; but this is no picture.
        (format!("data:image/png;base64,{large_start}\n{large_end}"), "unsupported_file_type"),
        (format!("data:image/png;base64,{large}"), "unsupported_file_type"),
        (format!("data:text/plain;base64,{good}"), "unsupported_file_type"),
        (format!("data:video/mp4;base64,{good}"), "unsupported_file_type"),
        (format!("data:{};base64,{good}", "x".repeat(100_000)), "unsupported_file_type"),
        ("\u{0}lifted:0".to_owned(), "invalid_value"),
        ("data:image/png;base64,\u{0}lifted:0".to_owned(), "invalid_file"),
        ("data:image/png;base64,\u{0}lifted:-1".to_owned(), "invalid_file"),
    ] {
        let shown: String = payload.chars().take(100).collect();
        let response = app.chat(&picture(&payload)).await;
        assert_eq!(response.status(), 400, "{shown}");
        let error = error_of(response).await;
        assert_eq!(error["code"], code, "{shown}: {error}");
        assert!(error["message"].as_str().unwrap().len() < 500, "{error}");
    }
    assert_eq!((app.simulator.stored().uploads().len(), app.turns()), (0, 0));
    // With no type at all, with parameters, or with broken lines, it is still a picture.
    let wrapped = format!("{start}\r\n{end}\n");
    for uri in [
        format!("data:;base64,{good}"),
        format!("DATA:Image/PNG;name=a.png;BASE64,{good}"),
        format!("data:image/png;base64,{wrapped}"),
        format!("data:image/png;base64,{start} {end}"),
    ] {
        let answer = json_of(app.chat(&picture(&uri)).await).await;
        assert!(answer.to_string().contains(&hash(&png(1))), "{answer}");
    }
}

#[tokio::test]
async fn bodies_without_measure() {
    let app = TestApp::quick().await;
    for path in ["/v1/chat/completions", "/v1/images/generations", "/v1/images/edits"] {
        for content_type in ["application/json", "multipart/form-data; boundary=x"] {
            if path.ends_with("completions") && content_type.starts_with("multipart") {
                continue;
            }
            let head =
                |line: &str| raw::head(&format!("POST {path}"), &[&format!("content-type: {content_type}"), line]);
            let mut client = Raw::connect(app.address).await;
            client.send(head("content-length: 2147483648")).await;
            let answer = client.answer().await;
            assert_eq!(answer.status, 413, "{path} {content_type}");
            assert_eq!(checked_error(&answer.json())["code"], "request_too_large");
        }
    }
    let simulator = Simulator::start(Scenario::default().paced_ms(0)).await.unwrap();
    let app = Setup::default().with("MAX_BODY", "1MB").start(simulator).await;
    let piece = "QUJD".repeat(4096);
    let piece = format!("{:x}\r\n{piece}\r\n", piece.len());
    for (path, content_type, begin) in [
        (
            "/v1/chat/completions",
            "application/json",
            r#"{"messages":[{"role":"user","content":[{"type":"image_url","image_url":"data:image/png;base64,"#,
        ),
        (
            "/v1/images/edits",
            "multipart/form-data; boundary=x",
            "--x\r\ncontent-disposition: form-data; name=\"image\"; filename=\"a.png\"\r\n\r\n",
        ),
    ] {
        let mut client = Raw::connect(app.address).await;
        let lines = [&format!("content-type: {content_type}"), "transfer-encoding: chunked"];
        client.send(raw::head(&format!("POST {path}"), &lines)).await;
        client.send(format!("{:x}\r\n{begin}\r\n", begin.len())).await;
        let mut sent = 0;
        while client.is_silent() && client.try_send(&piece).await {
            sent += piece.len();
            assert!(sent < 100_000_000, "it reads for ever");
        }
        let answer = client.answer().await;
        assert_eq!(answer.status, 413, "{path}");
        assert_eq!(checked_error(&answer.json())["code"], "request_too_large");
    }
    assert_eq!((app.simulator.stored().uploads().len(), app.turns()), (0, 0));
}

/// A form with these parts, each a head and a body.
fn form(parts: &[(&str, &[u8])]) -> Vec<u8> {
    let part = |(head, body): &(&str, &[u8])| {
        [format!("--x\r\ncontent-disposition: form-data; {head}\r\n\r\n").as_bytes(), body, b"\r\n"].concat()
    };
    [parts.iter().map(part).collect::<Vec<_>>().concat(), b"--x--\r\n".to_vec()].concat()
}

async fn send_form(app: &TestApp, content_type: &str, body: Vec<u8>) -> reqwest::Response {
    let request = app.client.post(app.url("/v1/images/edits")).bearer_auth(KEY).header("content-type", content_type);
    request.body(body).send().await.unwrap()
}

#[tokio::test]
async fn forms_that_are_none() {
    let app = TestApp::quick().await;
    let usual = "multipart/form-data; boundary=x";
    let image = png(1);
    let file = ("name=\"image\"; filename=\"a.png\"", image.as_slice());
    let prompt = ("name=\"prompt\"", b"Bluer".as_slice());
    let many = vec![prompt; 64];
    for (what, content_type, body, status, code) in [
        ("65 fields", usual, form(&[&many[..], &[file]].concat()), 400, "invalid_form"),
        ("no boundary", "multipart/form-data", form(&[prompt, file]), 415, "unsupported_media_type"),
        ("another boundary", "multipart/form-data; boundary=y", form(&[prompt, file]), 400, "invalid_form"),
        ("no end", usual, form(&[prompt, file])[..100].to_vec(), 400, "invalid_form"),
        ("nothing", usual, Vec::new(), 400, "invalid_form"),
        (
            "a long name",
            usual,
            form(&[prompt, (&format!("name=\"{}\"", "n".repeat(101)), b"x"), file]),
            400,
            "invalid_form",
        ),
        ("a long text", usual, form(&[("name=\"prompt\"", &vec![b'x'; 2_000_000]), file]), 413, "request_too_large"),
        (
            "a long prompt",
            usual,
            form(&[("name=\"prompt\"", &vec![b'x'; 200_000]), file]),
            400,
            "context_length_exceeded",
        ),
        ("n in words", usual, form(&[prompt, file, ("name=\"n\"", b"two")]), 400, "invalid_type"),
        ("n of all", usual, form(&[prompt, file, ("name=\"n\"", b"1000000000000000000000")]), 400, "invalid_type"),
        ("n of none", usual, form(&[prompt, file, ("name=\"n\"", b"0")]), 400, "invalid_value"),
        ("an empty file", usual, form(&[prompt, ("name=\"image\"; filename=\"a.png\"", b"")]), 400, "invalid_file"),
        (
            "a bomb",
            usual,
            form(&[prompt, ("name=\"image\"; filename=\"a.png\"", &hollow(65_000, 65_000))]),
            400,
            "file_too_large",
        ),
        (
            "a page",
            usual,
            form(&[prompt, ("name=\"image\"; filename=\"a.png\"", b"<html>")]),
            400,
            "unsupported_file_type",
        ),
    ] {
        let response = send_form(&app, content_type, body).await;
        assert_eq!(response.status(), status, "{what}");
        let error = error_of(response).await;
        assert_eq!(error["code"], code, "{what}: {error}");
    }
    assert_eq!((app.simulator.stored().uploads().len(), app.turns()), (0, 0));
    // A name is no name of a place, and a field without one does not matter.
    let odd = ("name=\"image\"; filename=\"../../etc/passwd\"", image.as_slice());
    let body = form(&[prompt, odd, ("x=y", b"z"), ("name=\"n\"", b" 1 ")]);
    assert_eq!(send_form(&app, usual, body).await.status(), 200);
    assert_eq!(app.simulator.stored().uploads()[0].name, "image-1.png");
}

/// The parser keeps what it has until the head of a field is whole, and looks through it anew for every piece.
#[tokio::test]
async fn the_head_of_a_field_has_an_end() {
    let app = TestApp::quick().await;
    for begin in ["--x\r\ncontent-disposition: form-data; name=\"", "", "--x\r\na: ", "--x"] {
        let began = Instant::now();
        let body = [begin.as_bytes(), &vec![b'a'; 40_000_000]].concat();
        let response = send_form(&app, "multipart/form-data; boundary=x", body).await;
        assert_eq!(response.status(), 400, "{begin:?}");
        assert_eq!(error_of(response).await["code"], "invalid_form");
        assert!(began.elapsed() < PATIENCE, "{begin:?}: {:?}", began.elapsed());
    }
}

/// A picture of 5 MB, of its own for each number.
fn heavy(number: u8) -> (&'static str, Vec<u8>) {
    if number.is_multiple_of(2) {
        return ("image/png", png_with(b"zzZz", &vec![number; 5_000_000]));
    }
    let mut bytes = jpeg(8, 8, 5_000_000);
    // Somewhere in a comment.
    bytes[100] = number;
    ("image/jpeg", bytes)
}

#[tokio::test]
async fn eight_large_pictures_at_once() {
    let server = Measured::start(&[]).await;
    let before = server.program.memory_kib("VmRSS:");
    let body = |(format, bytes): (&str, Vec<u8>)| picture(&data_uri(format, &bytes));
    let bodies: Vec<Value> = (0..8).map(heavy).map(body).collect();
    for (status, answer) in join_all(bodies.iter().map(|body| server.ask(body))).await {
        assert_eq!(status, 200, "{answer}");
    }
    let added = server.added_mib(before);
    assert!(added <= 16, "{added} MiB");
    assert_eq!(server.simulator.stored().uploads().len(), 9);
}

/// A body is there as it came, with its escapes resolved, and as the string that is kept; not more often.
#[tokio::test]
async fn a_text_that_is_too_long_is_not_copied() {
    let server = Measured::start(&[("MAX_JSON", "50MB")]).await;
    let before = server.program.memory_kib("VmRSS:");
    let long = "A line of a book.\n".repeat(1_300_000);
    let messages = json!([{"role": "user", "content": long}, {"role": "user", "content": "Sum it up"}]);
    let (status, answer) = server.ask(&json!({"model": "qwen3-max", "messages": messages})).await;
    assert_eq!(status, 400, "{answer}");
    assert_eq!(checked_error(&answer)["code"], "context_length_exceeded");
    let (added, once) = (server.added_mib(before), long.len() as u64 / (1024 * 1024));
    assert!(added <= 3 * once + 12, "{added} MiB for {once} MiB");
}
