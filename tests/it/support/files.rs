//! Files that tests send: small pictures, their data URIs, and PNGs that unpack to any size.

use std::io::{Cursor, Write as _};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use flate2::write::ZlibEncoder;
use flate2::{Compression, Crc};
use image::ImageFormat;
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

/// A picture of its own for each number.
pub(crate) fn png(number: u8) -> Vec<u8> {
    let mut bytes = Cursor::new(Vec::new());
    let pixel = image::Rgb([number, 100, 200]);
    image::RgbImage::from_pixel(8, 8, pixel).write_to(&mut bytes, ImageFormat::Png).unwrap();
    bytes.into_inner()
}

pub(crate) fn data_uri(essence: &str, bytes: &[u8]) -> String {
    format!("data:{essence};base64,{}", STANDARD.encode(bytes))
}

pub(crate) fn image_part(number: u8) -> Value {
    json!({"type": "image_url", "image_url": {"url": data_uri("image/png", &png(number))}})
}

pub(crate) fn with_parts(model: &str, text: &str, parts: Vec<Value>) -> Value {
    let mut all = vec![json!({"type": "text", "text": text})];
    all.extend(parts);
    json!({"model": model, "messages": [{"role": "user", "content": all}]})
}

/// A model of the simulator that takes every kind of file.
pub(crate) const OMNI: &str = "qwen3.5-omni-plus";

/// The beginning of the hash that the simulator tells of a file.
pub(crate) fn hash(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().take(4).map(|byte| format!("{byte:02x}")).collect()
}

/// The first bytes of every PNG.
pub(crate) const SIGNATURE: &[u8] = b"\x89PNG\r\n\x1a\n";

/// One chunk of a PNG, with its length and checksum.
pub(crate) fn chunk(name: &[u8; 4], data: &[u8]) -> Vec<u8> {
    let mut crc = Crc::new();
    crc.update(name);
    crc.update(data);
    let length = u32::try_from(data.len()).unwrap();
    [&length.to_be_bytes(), name.as_slice(), data, &crc.sum().to_be_bytes()].concat()
}

/// So many zero bytes, compressed as the rows of a PNG are.
pub(crate) fn zipped_zeros(count: usize) -> Vec<u8> {
    let mut encoder = ZlibEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(&vec![0; count]).unwrap();
    encoder.finish().unwrap()
}

/// The header chunk of a PNG with two colours.
pub(crate) fn header(width: u32, height: u32) -> Vec<u8> {
    chunk(b"IHDR", &[&width.to_be_bytes(), &height.to_be_bytes(), [1, 0, 0, 0, 0].as_slice()].concat())
}

/// A PNG of two colours: a few kilobytes, which unpack to the size in its header.
pub(crate) fn bomb(width: u32, height: u32) -> Vec<u8> {
    let rows = zipped_zeros((width as usize / 8 + 1) * height as usize);
    [SIGNATURE, &header(width, height), &chunk(b"IDAT", &rows), &chunk(b"IEND", b"")].concat()
}
