use proptest::prelude::*;
use serde_json::json;

use super::*;

/// The kept part of a text, without a limit on it.
fn kept(json: &str, cut: usize) -> Lifted {
    let dir = tempfile::tempdir().unwrap();
    let mut lifter = Lifter::new(dir.path(), usize::MAX);
    json.as_bytes().chunks(cut.max(1)).for_each(|chunk| lifter.push(chunk).unwrap());
    lifter.finish()
}

fn lifted(json: &str, cut: usize) -> (Value, Vec<Vec<u8>>) {
    let Lifted { json, files: blobs, .. } = kept(json, cut);
    let read = |blob: &Blob| {
        let mut bytes = Vec::new();
        blob.reader().read_to_end(&mut bytes).unwrap();
        bytes
    };
    (serde_json::from_slice(&json).unwrap(), blobs.iter().map(read).collect())
}

fn bytes(len: usize) -> Vec<u8> {
    (0..len).map(|at| u8::try_from(at * 31 % 251).unwrap()).collect()
}

#[test]
fn large_files_are_taken_out() {
    for len in [100_000, 100_001, 100_002] {
        let file = bytes(len);
        let encoded = STANDARD.encode(&file);
        let body = json!({
            "a": "\"\\ü", "url": format!("data:image/png;base64,{encoded}"), "file_data" : encoded,
            "small": "data:image/png;base64,AAAA", "text": encoded,
        });
        for cut in [1, 7, 1000, usize::MAX] {
            let (json, files) = lifted(&body.to_string(), cut);
            assert_eq!(files.len(), 2, "{cut}");
            assert!(files.iter().all(|found| *found == file), "{cut}");
            let token = |place: usize| format!("{LIFTED_PREFIX}{place}");
            assert_eq!(json["url"], format!("data:image/png;base64,{}", token(0)));
            assert_eq!(json["file_data"], token(1));
            assert_eq!((&json["a"], &json["small"], &json["text"]), (&body["a"], &body["small"], &body["text"]));
        }
    }
}

#[test]
fn what_somebody_says_stays() {
    let uri = format!("data:image/png;base64,{}", STANDARD.encode(bytes(90_000)));
    let body = json!({"messages": [
        {"content": uri}, {"content": format!("{uri} is what?")}, {"content": [{"text": uri}]},
        {"tool_calls": [{"function": {"arguments": uri}}]},
    ], "prompt": uri});
    for cut in [999, usize::MAX] {
        assert_eq!(lifted(&body.to_string(), cut), (body.clone(), Vec::new()));
    }
    let body = json!({"context": uri, "content": [uri]});
    assert_eq!(lifted(&body.to_string(), 999).1.len(), 2);
}

#[test]
fn broken_files_are_named() {
    let encoded = STANDARD.encode(bytes(90_000));
    let broken = json!(format!("data:image/png;base64,{LIFTED_PREFIX}broken"));
    let mut late = encoded.clone();
    late.replace_range(80_000..80_001, "%");
    for bad in [
        format!("{encoded}A"),
        format!("{encoded}=AAA"),
        format!("{}==AA", encoded.get(..80_002).unwrap()),
        format!("{encoded}\\f"),
        late,
    ] {
        let body = format!("{{\"url\":\"data:image/png;base64,{bad}\"}}");
        for cut in [999, usize::MAX] {
            let (json, files) = lifted(&body, cut);
            assert_eq!((&json["url"], files.len()), (&broken, 0));
        }
    }
    // Escaped slashes are what some writers of JSON make of every slash.
    let body = json!({"url": format!("data:image/png;base64,{encoded}")}).to_string().replace('/', "\\/");
    assert_eq!(lifted(&body, 1000).1, [bytes(90_000)]);
}

#[test]
fn base64_may_be_wrapped() {
    let file = bytes(90_001);
    let encoded = STANDARD.encode(&file);
    let lines: Vec<&str> = encoded.as_bytes().chunks(76).map(|line| str::from_utf8(line).unwrap()).collect();
    for end in ["\n", "\r\n", " ", "\t"] {
        let wrapped = lines.join(end) + end;
        let body = json!({"url": format!("data:image/png;base64,{wrapped}"), "file_data": wrapped}).to_string();
        for cut in [1, 999, usize::MAX] {
            let (_, files) = lifted(&body, cut);
            let count = if end == " " { 1 } else { 2 };
            assert_eq!(files, vec![file.clone(); count], "{end:?} {cut}");
        }
    }
}

#[test]
fn what_was_taken_out_can_be_put_back() {
    for len in [90_000, 90_001, 90_002, 1_000_000] {
        let encoded = STANDARD.encode(bytes(len));
        let body = json!({"a": [{"url": format!("data:image/png;base64,{encoded}")}], "data": encoded, "b": 1});
        let Lifted { json, files, .. } = kept(&body.to_string(), 10_000);
        let mut value = serde_json::from_slice(&json).unwrap();
        assert_ne!(value, body);
        put_back(&mut value, &files).unwrap();
        assert_eq!(value, body);
    }
}

#[test]
fn the_json_that_is_left_has_a_limit() {
    let dir = tempfile::tempdir().unwrap();
    let encoded = STANDARD.encode(bytes(900_000));
    let body = json!({"file_data": encoded, "text": "x".repeat(70_000)}).to_string();
    for (max, fits) in [(200_000, true), (72_000, true), (70_000, false), (1000, false)] {
        for cut in [1, 999, usize::MAX] {
            let mut lifter = Lifter::new(dir.path(), max);
            let pushed = body.as_bytes().chunks(cut).try_for_each(|chunk| lifter.push(chunk));
            assert_eq!(pushed.is_ok(), fits, "{max} {cut}");
            assert!(pushed.is_ok() || matches!(pushed, Err(LiftError::TooLarge)), "{pushed:?}");
            assert!(lifter.json.len() <= max + body.len().min(cut), "{max} {cut}");
        }
    }
}

#[test]
fn white_space_takes_no_room() {
    let space = " \n\t\r".repeat(SPACE_BYTES_MAX);
    let body = format!("{space}{{{space}\"a  b\"{space}:{space}[1{space},2]{space}}}{space}");
    for cut in [7, 100_000, usize::MAX] {
        let Lifted { json, .. } = kept(&body, cut);
        assert!(json.len() < SPACE_BYTES_MAX + body.len().min(cut) + 100, "{cut}: {}", json.len());
        assert_eq!(serde_json::from_slice::<Value>(&json).unwrap(), json!({"a  b": [1, 2]}));
    }
    // Two tokens stay two.
    let Lifted { json, .. } = kept(&format!("{space}1{space}2"), 1000);
    assert!(serde_json::from_slice::<Value>(&json).is_err());
}

#[test]
fn parts_are_counted_on_the_way() {
    let dir = tempfile::tempdir().unwrap();
    let file = STANDARD.encode(bytes(90_000));
    let message = format!("{{\"role\":\"us\\\"er\",\"file_data\":\"{file}\",\"n\":[1,2,{{}}]}}");
    let body = format!("{{\"model\":\"[[[,,,:::\",\"messages\":[{message},{message}]}}");
    for cut in [1, 1000, usize::MAX] {
        let mut lifter = Lifter::new(dir.path(), usize::MAX);
        body.as_bytes().chunks(cut).for_each(|chunk| lifter.push(chunk).unwrap());
        // Eight keys; a bracket or a comma for each value.
        assert_eq!(lifter.finish().cost, 8 * 700 + 18 * 100, "{cut}");
    }
    let many = format!("{{\"messages\":[{}]}}", vec!["{}"; 20_000].join(","));
    let refused = Lifter::new(dir.path(), usize::MAX).push(many.as_bytes());
    assert!(matches!(refused, Err(LiftError::Shape(ShapeError::List { .. }))), "{refused:?}");
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]
    /// JSON without large files is unchanged.
    #[test]
    fn everything_else_stays(text in ".{0,200}", key in ".{0,20}", cut in 1_usize..50) {
        let body = json!({key: [text, {"n": 1.5, "t": text}]});
        let (json, files) = lifted(&body.to_string(), cut);
        prop_assert_eq!(json, body);
        prop_assert!(files.is_empty());
    }
}
