//! The size of a picture and whether it is whole, told from its structure: of some megabytes only marks are read,
//! and what lies behind the end does not matter. Phones put a film there, and editors what they cut away.

use std::io::{self, BufRead, BufReader, Read, Seek};

use memchr::memchr;

const PNG_SIGNATURE_BYTES: i64 = 8;

/// Width and height of a whole PNG; `None` for a torn one.
///
/// # Errors
/// Those of the reader; a file that ends too early may be one.
pub(crate) fn png(content: impl Read + Seek) -> io::Result<Option<(u32, u32)>> {
    let mut reader = BufReader::new(content);
    reader.seek_relative(PNG_SIGNATURE_BYTES)?;
    let mut size = None;
    loop {
        let [a, b, c, d, name @ ..] = take::<8>(&mut reader)?;
        let mut skip = i64::from(u32::from_be_bytes([a, b, c, d])) + 4;
        match (&name, size) {
            (b"IHDR", None) => {
                let [a, b, c, d, height @ ..] = take::<8>(&mut reader)?;
                size = Some((u32::from_be_bytes([a, b, c, d]), u32::from_be_bytes(height)));
                skip -= 8;
            }
            // The header comes first.
            (_, None) => return Ok(None),
            (b"IEND", size) => return Ok(size),
            _ => {}
        }
        if skip < 0 {
            return Ok(None);
        }
        reader.seek_relative(skip)?;
    }
}

/// Width and height of a whole JPEG; `None` for a torn one. A preview inside of it, which has an end of its own, does
/// not count.
///
/// # Errors
/// Those of the reader; a file that ends too early may be one.
pub(crate) fn jpeg(content: impl Read + Seek) -> io::Result<Option<(u32, u32)>> {
    let mut reader = BufReader::new(content);
    if take::<2>(&mut reader)? != [0xff, 0xd8] {
        return Ok(None);
    }
    let mut size = None;
    loop {
        let Some(marker) = next_marker(&mut reader)? else {
            return Ok(None);
        };
        match marker {
            0xd9 => return Ok(size),
            // Stuffed bytes, restarts and the like have no length.
            0x00 | 0x01 | 0xd0..=0xd8 => {}
            _ => {
                let length = i64::from(u16::from_be_bytes(take::<2>(&mut reader)?));
                let mut skip = length - 2;
                if matches!(marker, 0xc0..=0xcf if !matches!(marker, 0xc4 | 0xc8 | 0xcc)) {
                    let [_, a, b, c, d] = take::<5>(&mut reader)?;
                    size = Some((u32::from(u16::from_be_bytes([c, d])), u32::from(u16::from_be_bytes([a, b]))));
                    skip -= 5;
                }
                if skip < 0 {
                    return Ok(None);
                }
                reader.seek_relative(skip)?;
            }
        }
    }
}

/// The byte after the next `ff` that is not one itself; `None` at the end.
fn next_marker(reader: &mut impl BufRead) -> io::Result<Option<u8>> {
    loop {
        let buffer = reader.fill_buf()?;
        if buffer.is_empty() {
            return Ok(None);
        }
        let (used, is_found) = match memchr(0xff, buffer) {
            Some(place) => (place + 1, true),
            None => (buffer.len(), false),
        };
        reader.consume(used);
        if !is_found {
            continue;
        }
        loop {
            match take::<1>(reader)? {
                [0xff] => {}
                [marker] => return Ok(Some(marker)),
            }
        }
    }
}

fn take<const COUNT: usize>(reader: &mut impl Read) -> io::Result<[u8; COUNT]> {
    let mut bytes = [0; COUNT];
    reader.read_exact(&mut bytes)?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use std::io::Cursor;

    use super::*;

    fn chunk(name: &[u8; 4], data: &[u8]) -> Vec<u8> {
        let length = u32::try_from(data.len()).unwrap().to_be_bytes();
        [length.as_slice(), name, data, &[0; 4]].concat()
    }

    fn a_png(inside: &[u8]) -> Vec<u8> {
        let header = chunk(b"IHDR", &[0, 0, 1, 0, 0, 0, 0, 7, 8, 2, 0, 0, 0]);
        [b"\x89PNG\r\n\x1a\n".as_slice(), &header, inside, &chunk(b"IDAT", b"IEND"), &chunk(b"IEND", b"")].concat()
    }

    fn a_jpeg(inside: &[u8]) -> Vec<u8> {
        let frame = [0xff, 0xc2, 0, 11, 8, 0, 7, 1, 0, 1, 1, 0x11, 0];
        let scan = [0xff, 0xda, 0, 8, 1, 1, 0, 0, 0x3f, 0, 1, 2, 0xff, 0, 3, 0xff, 0xd0, 4];
        [&[0xff, 0xd8], inside, &frame, &scan, &scan, &[0xff, 0xff, 0xd9]].concat()
    }

    fn png_size(bytes: &[u8]) -> Option<(u32, u32)> {
        png(Cursor::new(bytes)).ok().flatten()
    }

    fn jpeg_size(bytes: &[u8]) -> Option<(u32, u32)> {
        jpeg(Cursor::new(bytes)).ok().flatten()
    }

    #[test]
    fn whole_and_torn() {
        let preview = [&[0xff, 0xe1, 0, 30][..], &[0xff, 0xd8, 0xff, 0xd9], &[0; 24]].concat();
        for (whole, size) in [
            (a_png(b""), png_size as fn(&[u8]) -> _),
            (a_png(&chunk(b"tEXt", &vec![b'x'; 300_000])), png_size),
            (a_jpeg(b""), jpeg_size),
            (a_jpeg(&preview), jpeg_size),
            (a_jpeg(&[0xff, 0xe2, 0xff, 0xff].into_iter().chain([0; 0xfffd]).collect::<Vec<_>>()), jpeg_size),
        ] {
            assert_eq!(size(&whole), Some((256, 7)));
            for behind in [1, 100_000, 3_000_000] {
                let more: Vec<u8> = (0..behind).map(|at: u32| at.to_le_bytes()[0]).collect();
                assert_eq!(size(&[whole.as_slice(), &more].concat()), Some((256, 7)), "{behind} bytes behind the end");
            }
            let cuts = (0..whole.len().min(300)).chain(whole.len().saturating_sub(300)..whole.len() - 8);
            for cut in cuts.filter(|cut| cut + 8 < whole.len()) {
                assert_eq!(size(&whole[..cut]), None, "cut at {cut} of {}", whole.len());
            }
        }
    }

    #[test]
    fn nonsense() {
        for bytes in [&b""[..], b"\x89PNG\r\n\x1a\n", b"\xff\xd8", b"\xff\xd8\xff\xd9", b"\xff\xd8\xff\xe0\0\0\xff\xd9"]
        {
            assert_eq!((png_size(bytes), jpeg_size(bytes)), (None, None), "{bytes:?}");
        }
        let headless = [b"\x89PNG\r\n\x1a\n".as_slice(), &chunk(b"IDAT", b""), &chunk(b"IEND", b"")].concat();
        assert_eq!(png_size(&headless), None);
        let short = [b"\x89PNG\r\n\x1a\n".as_slice(), &[0, 0, 0, 1], b"IHDR", &[0; 40]].concat();
        assert_eq!(png_size(&short), None);
    }
}
