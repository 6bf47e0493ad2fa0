//! Bodies as a whole: frames, places of faults, bounds.

use super::*;

const E: &str = r#"{"name":"a","value":1,"ts":0}"#;
const OK: &str = "1970-01-01T00:00:00Z a 1";

fn ndjson(body: &str) -> Result<Vec<String>, String> {
    decode_metrics(body.as_bytes(), Format::Ndjson, &limits()).map(|decoded| shown(&decoded)).map_err(|e| e.to_string())
}

#[test]
fn lines_are_told_apart() {
    let fault = |index: usize, reason: &str| format!("{index}: not JSON at column {reason}");
    for (body, expected) in [
        (format!("{E}\n{E}\n"), vec![OK.to_owned(), OK.into()]),
        (format!("{E}\r\n{E}"), vec![OK.to_owned(), OK.into()]),
        (format!("\u{feff}{E}\n\n  \r\n\t\n{E}\n\n"), vec![OK.to_owned(), OK.into()]),
        (format!("\n\n{E}"), vec![OK.to_owned()]),
        (
            format!("{E}\n{E}{E}\n{E}"),
            vec![OK.into(), OK.into(), fault(1, "30: expected the end of the line after the event, found '{'")],
        ),
        (
            format!("{E}\nx\n\n{E}\n{{\n{E}"),
            vec![
                OK.into(),
                OK.into(),
                OK.into(),
                fault(1, "1: expected a value, found 'x'"),
                fault(3, "2: expected a key in quotes or \"}\", found the end of the line"),
            ],
        ),
        (format!("  {{\"é\":NaN}}\n{E}"), vec![OK.into(), fault(0, "8: expected a value, found 'N'")]),
        (
            format!("{E}\n{{\"value\":NaN,\"name\":\"a\"}}"),
            vec![OK.into(), fault(1, "10: expected a value, found 'N'")],
        ),
        (format!("\u{feff}nul\n{E}"), vec![OK.into(), fault(0, "1: expected a value, found 'n'")]),
    ] {
        assert_eq!(ndjson(&body).unwrap(), expected, "{body}");
    }
}

#[test]
fn faults_of_a_line_name_the_place() {
    for (line, reason) in [
        ("{", "2: expected a key in quotes or \"}\", found the end of the line"),
        ("{\"a\"", "5: expected \":\", found the end of the line"),
        ("{\"a\":", "6: expected a value, found the end of the line"),
        ("{\"a\":1", "7: expected \",\" or \"}\", found the end of the line"),
        ("{\"a\":1,", "8: expected a key in quotes, found the end of the line"),
        ("{\"a\":1,}", "8: expected a key in quotes, found '}'"),
        ("{\"a\":1 \"b\":2}", "8: expected \",\" or \"}\", found '\"'"),
        ("{,}", "2: expected a key in quotes or \"}\", found ','"),
        ("{a:1}", "2: expected a key in quotes or \"}\", found 'a'"),
        ("{'a':1}", "2: expected a key in quotes or \"}\", found '\\''"),
        ("{\"a\":[1,]}", "9: expected a value, found ']'"),
        ("{\"a\":[,1]}", "7: expected a value, found ','"),
        ("{\"a\":[1 2]}", "9: expected \",\" or \"]\", found '2'"),
        ("{\"a\":[1}", "8: expected \",\" or \"]\", found '}'"),
        ("{\"a\":{\"b\":1]}", "12: expected \",\" or \"}\", found ']'"),
        ("{\"a\":tru}", "6: expected a value, found 't'"),
        ("{\"a\":truer}", "10: expected \",\" or \"}\", found 'r'"),
        ("{\"a\":01}", "7: expected \",\" or \"}\", found '1'"),
        ("{\"a\":+1}", "6: expected a value, found '+'"),
        ("{\"a\":-}", "7: expected a digit, found '}'"),
        ("{\"a\":1.}", "8: expected a digit, found '}'"),
        ("{\"a\":.5}", "6: expected a value, found '.'"),
        ("{\"a\":1e}", "8: expected a digit, found '}'"),
        ("{\"a\":1e+}", "9: expected a digit, found '}'"),
        ("{\"a\":0x1}", "7: expected \",\" or \"}\", found 'x'"),
        ("{\"a\":Infinity}", "6: expected a value, found 'I'"),
        ("{\"a\":\"x", "8: expected the closing quote of a string, found the end of the line"),
        ("{\"a\":\"x\\\"}", "11: expected the closing quote of a string, found the end of the line"),
        ("{\"a\":\"\\x\"}", "7: a backslash in a string begins no escape of JSON"),
        ("{\"a\":\"\\u12g4\"}", "7: a backslash in a string begins no escape of JSON"),
        ("{\"a\":\"\\u12\"}", "7: a backslash in a string begins no escape of JSON"),
        ("{\"a\":\"a\tb\"}", "8: a string holds the control character U+0009; write it as \\u0009"),
        ("{\"a\":\"0123456789\u{1f}\"}", "17: a string holds the control character U+001F; write it as \\u001f"),
        (
            "{\"a\":\"0123456789\u{1f}0123456789\"}",
            "17: a string holds the control character U+001F; write it as \\u001f",
        ),
        (
            "{\"a\":\"01234567890123456789\u{0}\"}",
            "27: a string holds the control character U+0000; write it as \\u0000",
        ),
        ("{\"a\":1}}", "8: expected the end of the line after the event, found '}'"),
        ("{\"a\":/**/1}", "6: expected a value, found '/'"),
    ] {
        assert_eq!(ndjson(line).unwrap(), [format!("0: not JSON at column {reason}")], "{line}");
    }
}

#[test]
fn documents_are_read() {
    let points = |body: &str| decode_points(body.as_bytes(), &limits()).map(|decoded| shown(&decoded));
    assert_eq!(points("[]").unwrap(), [""; 0]);
    assert_eq!(points(" [ ] \n").unwrap(), [""; 0]);
    assert_eq!(points(&format!("\u{feff}[{E},\n {E} ]\n")).unwrap(), [OK, OK]);
    assert_eq!(points(&format!("[{E},null,{E}]")).unwrap(), [OK, OK, "1: expected an object, found null"]);
    assert!(decode_points(b"[]", &limits()).unwrap().batch.is_none());
}

#[test]
fn the_frame_is_detected() {
    let detect = |body: &str| decode_metrics(body.as_bytes(), Format::Detect, &limits()).map(|decoded| shown(&decoded));
    assert_eq!(detect(&format!("{E}\n{E}")).unwrap(), [OK, OK]);
    assert_eq!(detect(&format!(" \n[{E}\n,{E}]")).unwrap(), [OK, OK]);
    assert_eq!(detect("{\n\"name\":\"a\",\n\"value\":1,\"ts\":0}\n").unwrap(), [OK]);
    let torn = detect(&format!("{{\"name\":\n{E}")).unwrap();
    assert_eq!(torn, [OK, "0: not JSON at column 9: expected a value, found the end of the line"]);
    assert_eq!(detect("hello").unwrap(), ["0: not JSON at column 1: expected a value, found 'h'"]);
}

#[test]
fn faults_of_the_body_name_the_place() {
    let not_json = |at: &str| format!("the body is not JSON at byte {at}");
    for (body, expected) in [
        ("", "the body is empty".to_owned()),
        (" \r\n\t ", "the body is empty".into()),
        ("\u{feff}\n", "the body is empty".into()),
        ("hello", not_json("0 (line 1, column 1): expected a value, found 'h'")),
        ("[", not_json("1 (line 1, column 2): expected a value, found the end of the body")),
        ("[{\"name\":\"é\",\n  \"value\":NaN}]", not_json("25 (line 2, column 11): expected a value, found 'N'")),
        ("[{}\n,\n]", not_json("6 (line 3, column 1): expected a value, found ']'")),
        ("[{}] x", not_json("5 (line 1, column 6): expected the end of the body, found 'x'")),
        ("[{} {}]", not_json("4 (line 1, column 5): expected \",\" or \"]\", found '{'")),
        ("{}\n{}", not_json("3 (line 2, column 1): expected the end of the body after one event, found '{'")),
        ("12 13", not_json("3 (line 1, column 4): expected the end of the body, found '1'")),
        ("12", "the body: expected an array of objects, or an object, found number 12".into()),
        ("\"x\"", "the body: expected an array of objects, or an object, found text \"x\"".into()),
    ] {
        assert_eq!(decode_points(body.as_bytes(), &limits()).unwrap_err().to_string(), expected, "{body}");
    }
}

#[test]
fn ingest_bodies_are_read() {
    let ingest = |body: &str| match decode_ingest(body.as_bytes(), &limits()) {
        Ok(decoded) => shown(&decoded),
        Err(error) => vec![error.to_string()],
    };
    let with = "1970-01-01T00:00:00Z a@s 1".to_owned();
    let own = E.replace('}', ",\"source\":\"o\"}");
    let shape = "expected an object with data_points, and source_id if you like";
    for (body, expected) in [
        (format!(r#"{{"source_id":"s","data_points":[{E}]}}"#), with.clone()),
        (format!(r#"{{"data_points":[{E}],"source_id":"s"}}"#), with.clone()),
        (format!(r#"{{"data_points":[{E}],"source_id":"\u0073"}}"#), with.clone()),
        (format!(r#" {{ "data_point\u0073" : [ {E} ] , "source_id":"s" }} "#), with),
        (format!(r#"{{"source_id":"s","data_points":[{own}]}}"#), "1970-01-01T00:00:00Z a@o 1".into()),
        (format!(r#"{{"data_points":[{E}]}}"#), OK.into()),
        (format!(r#"{{"source_id":null,"data_points":[{E}]}}"#), OK.into()),
        ("[]".into(), format!("the body: {shape}, found an array")),
        ("7".into(), format!("the body: {shape}, found number 7")),
        ("{}".into(), format!("the body: {shape}, found no data_points")),
        (r#"{"source_id":"s"}"#.into(), format!("the body: {shape}, found no data_points")),
        (r#"{"data_points":{}}"#.into(), "data_points: expected an array, found an object".into()),
        (r#"{"source_id":"s","data_points":null}"#.into(), "data_points: expected an array, found null".into()),
        (
            r#"{"source_id":7,"data_points":[]}"#.into(),
            "source_id: expected text of bounded length, found number 7".into(),
        ),
        (r#"{"source_id":"a","source_id":"b"}"#.into(), "key \"source_id\": expected it once, found it twice".into()),
        (
            r#"{"data_points":[],"data_points":[]}"#.into(),
            "key \"data_points\": expected it once, found it twice".into(),
        ),
        (
            r#"{"datapoints":[]}"#.into(),
            "the body: expected the keys source_id and data_points, found key \"datapoints\"".into(),
        ),
        (
            r#"{"data_points":[]"#.into(),
            "the body is not JSON at byte 17 (line 1, column 18): expected \",\" or \"}\", found the end of the body"
                .into(),
        ),
        (
            r#"{"source_id":"s","data_points":[{"a":]}"#.into(),
            "the body is not JSON at byte 37 (line 1, column 38): expected a value, found ']'".into(),
        ),
        (
            r#"{"data_points":[{"a":]}"#.into(),
            "the body is not JSON at byte 21 (line 1, column 22): expected a value, found ']'".into(),
        ),
        ("".into(), "the body is empty".into()),
    ] {
        assert_eq!(ingest(&body), [expected], "{body}");
    }
    assert_eq!(ingest(r#"{"data_points":[]}"#), [""; 0]);
    assert_eq!(ingest(r#"{"source_id":"s","data_points":[]}"#), [""; 0]);
}

#[test]
fn bytes_that_are_not_utf8_are_placed() {
    for wrong in [&b"\xff"[..], b"\xc3", b"\xe2\x82", b"\xed\xa0\x80", b"\xf4\x90\x80\x80", b"\xc0\xaf"] {
        for before in ["", E, &format!("{E}\n{E}\n")] {
            let body = [before.as_bytes(), wrong].concat();
            let expected = DecodeError::NotUtf8 { offset: before.len() };
            assert_eq!(decode_metrics(&body, Format::Detect, &limits()).unwrap_err(), expected);
            assert_eq!(decode_points(&body, &limits()).unwrap_err(), expected);
            assert_eq!(decode_ingest(&body, &limits()).unwrap_err(), expected);
        }
    }
}

#[test]
fn depth_is_bounded() {
    let brackets = "[".repeat(100_000);
    let braces = "{\"a\":".repeat(100_000);
    for body in [&brackets, &braces] {
        let line = &ndjson(body).unwrap()[0];
        assert!(line.contains("nested more than 128 deep"), "{line}");
        let error = decode_points(body.as_bytes(), &limits()).unwrap_err().to_string();
        assert!(error.contains("nested more than 128 deep"), "{error}");
        assert!(decode_ingest(body.as_bytes(), &limits()).is_err());
    }
    let nested = |depth: usize| format!("{{\"x\":{}{}}}", "[".repeat(depth), "]".repeat(depth));
    assert!(ndjson(&nested(128)).unwrap()[0].contains("unknown key"));
    assert!(ndjson(&nested(129)).unwrap()[0].contains("not JSON at column 134"));
}

#[test]
fn events_are_bounded() {
    let limits = DecodeLimits { events_max: 2, ..limits() };
    let error = DecodeError::TooManyEvents { max: 2 };
    for (body, fits) in [(format!("{E}\n{E}\n\n"), true), (format!("{E}\n{E}\nx"), false)] {
        let decoded = decode_metrics(body.as_bytes(), Format::Ndjson, &limits);
        assert_eq!(decoded.map(|decoded| decoded.total), if fits { Ok(2) } else { Err(error.clone()) });
    }
    let array = |count: usize| format!("[{}]", vec![E; count].join(","));
    assert_eq!(decode_points(array(2).as_bytes(), &limits).unwrap().total, 2);
    assert_eq!(decode_points(array(3).as_bytes(), &limits).unwrap_err(), error);
    let ingest = format!("{{\"data_points\":{}}}", array(3));
    assert_eq!(decode_ingest(ingest.as_bytes(), &limits).unwrap_err(), error);
    assert_eq!(error.to_string(), "the body holds more than 2 events; send fewer in one request");
}

#[test]
fn a_body_of_too_many_rejects_is_refused_as_a_whole() {
    let limits = DecodeLimits { rejects_max: 2, ..limits() };
    let body = |rejects: usize| "{\"name\":\"a\",\"value\":1}\n".to_owned() + &"{}\n".repeat(rejects) + "\n\n{}";
    assert_eq!(decode_metrics(body(1).as_bytes(), Format::Ndjson, &limits).unwrap().rejected.len(), 2);
    let error = decode_metrics(body(3).as_bytes(), Format::Ndjson, &limits).unwrap_err();
    assert!(matches!(&error, DecodeError::TooManyRejects { max: 2, index: 1, .. }), "{error}");
}

/// The text of a reject is found again in the body, whatever frame it came in.
#[test]
fn rejects_have_their_texts() {
    for (body, format, texts) in [
        ("{\"a\":1}\r\n{\"name\":\"a\",\"value\":1}\n  nonsense \n", Format::Ndjson, vec!["{\"a\":1}", "  nonsense"]),
        ("[ {\"a\" : 1} , {\"name\":\"a\",\"value\":1},\n7]", Format::JsonArray, vec!["{\"a\" : 1}", "7"]),
        ("\u{feff} {\n\"a\": 1\n} ", Format::Detect, vec!["{\n\"a\": 1\n}"]),
    ] {
        let decoded = decode_metrics(body.as_bytes(), format, &limits()).unwrap();
        assert_eq!(decoded.places.iter().map(|place| &body[place.clone()]).collect::<Vec<_>>(), texts);
    }
    let body = r#"{"data_points":[{"metric":"a"}],"source_id":"s\u0041"}"#;
    let decoded = decode_ingest(body.as_bytes(), &limits()).unwrap();
    assert_eq!((&body[decoded.places[0].clone()], decoded.source.as_str()), (r#"{"metric":"a"}"#, "sA"));
}

/// Many events of a few bytes with a long source would become large where each event has its own copy of it.
#[test]
fn a_long_source_of_many_events_is_refused() {
    let body = |events: usize, good: bool| {
        let event = if good { r#"{"name":"a","value":1}"# } else { "{}" };
        format!("{{\"source_id\":\"{}\",\"data_points\":[{}]}}", "s".repeat(1 << 20), vec![event; events].join(","))
    };
    for good in [true, false] {
        assert_eq!(decode_ingest(body(64, good).as_bytes(), &limits()).unwrap().total, 64);
        let error = decode_ingest(body(65, good).as_bytes(), &limits()).unwrap_err();
        assert_eq!(error, DecodeError::SourceTooLong { bytes: 1 << 20, events: 65, max: 64 << 20 });
    }
}
