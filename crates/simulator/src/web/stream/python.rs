//! JSON the way the upstream's Python writes it: `", "` and `": "` between things, and text as raw UTF-8.

use std::io;

use serde::Serialize;
use serde_json::ser::{Formatter, Serializer};

/// One value in Python's spelling.
pub(crate) fn python<T: Serialize + ?Sized>(value: &T) -> String {
    let mut bytes = Vec::new();
    let mut serializer = Serializer::with_formatter(&mut bytes, Python);
    // The types written here have string keys and finite numbers, so nothing can go wrong; if it did, the reader
    // would see half a line and say so.
    let _ = value.serialize(&mut serializer);
    String::from_utf8_lossy(&bytes).into_owned()
}

struct Python;

impl Formatter for Python {
    fn begin_array_value<W: io::Write + ?Sized>(&mut self, writer: &mut W, first: bool) -> io::Result<()> {
        separate(writer, first)
    }

    fn begin_object_key<W: io::Write + ?Sized>(&mut self, writer: &mut W, first: bool) -> io::Result<()> {
        separate(writer, first)
    }

    fn begin_object_value<W: io::Write + ?Sized>(&mut self, writer: &mut W) -> io::Result<()> {
        writer.write_all(b": ")
    }
}

fn separate<W: io::Write + ?Sized>(writer: &mut W, first: bool) -> io::Result<()> {
    if first {
        return Ok(());
    }
    writer.write_all(b", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spaces_are_where_python_puts_them() {
        let value: serde_json::Value = serde_json::from_str(r#"{"a":[1,"две",{"b":null}],"c":"line\n\"q\""}"#).unwrap();
        assert_eq!(python(&value), r#"{"a": [1, "две", {"b": null}], "c": "line\n\"q\""}"#);
        assert_eq!(python(&serde_json::json!([])), "[]");
    }
}
