//! Events of `metrics`: what is accepted, and the reasons why others are not.

use super::*;

/// One event through every entry point; all must say the same.
fn check(event: &str, expected: &str) {
    let expected = vec![expected.to_owned()];
    let limits = limits();
    if event.trim_start().starts_with('{') {
        assert_eq!(shown(&decode_points(event.as_bytes(), &limits).unwrap()), expected, "{event}");
        assert_eq!(shown(&decode_metrics(event.as_bytes(), Format::Detect, &limits).unwrap()), expected, "{event}");
    }
    let array = format!("[{event}]");
    assert_eq!(shown(&decode_points(array.as_bytes(), &limits).unwrap()), expected, "{event}");
    assert_eq!(shown(&decode_metrics(array.as_bytes(), Format::Detect, &limits).unwrap()), expected, "{event}");
    if !event.contains('\n') {
        assert_eq!(shown(&decode_metrics(event.as_bytes(), Format::Ndjson, &limits).unwrap()), expected, "{event}");
    }
    let ingest = format!(r#"{{"data_points":{array}}}"#);
    assert_eq!(shown(&decode_ingest(ingest.as_bytes(), &limits).unwrap()), expected, "{event}");
}

const T: &str = "2024-05-01T12:00:00Z";

#[test]
fn events_are_accepted() {
    for (event, expected) in [
        (
            r#"{"timestamp":"2024-02-02T11:43:02.099Z","name":"temperature","value":30}"#,
            "2024-02-02T11:43:02.099Z temperature 30",
        ),
        (
            r#"{"ts":"2024-05-01T00:00:00.123Z","name":"cpu.load","value":12.345,"dimensions":{"host":"host-07","zone":"a"}}"#,
            "2024-05-01T00:00:00.123Z cpu.load{host=host-07,zone=a} 12.345",
        ),
        (r#"{"name":"a","value":1}"#, "2024-05-01T12:00:00Z a 1"),
        (r#"{"name":"a","value":1,"ts":null}"#, "2024-05-01T12:00:00Z a 1"),
        (r#"{"metric":"a","value":-1.5e3,"time":0}"#, "1970-01-01T00:00:00Z a -1500"),
        ("{\n  \"metric\": \"a\",\n  \"value\": 1\n}", "2024-05-01T12:00:00Z a 1"),
        (r#"{"name":"a","value":1,"source":"s"}"#, "2024-05-01T12:00:00Z a@s 1"),
        (r#"{"name":"a","value":1,"source":null}"#, "2024-05-01T12:00:00Z a 1"),
        (r#"{"name":"a","value":1,"tags":{"k":"v"}}"#, "2024-05-01T12:00:00Z a{k=v} 1"),
        (r#"{"name":"a","value":1,"labels":{"k":"v"}}"#, "2024-05-01T12:00:00Z a{k=v} 1"),
        (r#"{"name":"a","value":1,"dimensions":{}}"#, "2024-05-01T12:00:00Z a 1"),
        (r#"{"name":"a","value":1,"dimensions":null}"#, "2024-05-01T12:00:00Z a 1"),
        (
            r#"{"name":"a","value":1,"dimensions":{"z":1,"f":1.50,"b":true,"c":false,"n":null,"e":""}}"#,
            "2024-05-01T12:00:00Z a{b=true,c=false,e=,f=1.50,z=1} 1",
        ),
        (r#"{"name":"a","value":1,"dimensions":{"k":"1","k":"2"}}"#, "2024-05-01T12:00:00Z a{k=2} 1"),
        (r#"{"name":"a","value":1,"dimensions":{"k":"1","k":null}}"#, "2024-05-01T12:00:00Z a 1"),
        (
            r#"{"name":"a","value":1,"dimensions":{"k":null,"j":null,"k":"2","j":"3"}}"#,
            "2024-05-01T12:00:00Z a{j=3,k=2} 1",
        ),
        (r#"{"name":"a","value":1,"dimensions":{"\u006b":"1","k":"2"}}"#, "2024-05-01T12:00:00Z a{k=2} 1"),
        (r#"{"name":"b","name":"a","value":"x","value":1}"#, "2024-05-01T12:00:00Z a 1"),
        (r#"{"name":"a","metric":"a","value":1}"#, "2024-05-01T12:00:00Z a 1"),
        (r#"{"name":"a","metric":"\u0061","value":1}"#, "2024-05-01T12:00:00Z a 1"),
        (r#"{"name":"a","metric":null,"value":1}"#, "2024-05-01T12:00:00Z a 1"),
        (r#"{"name":null,"metric":"a","value":1}"#, "2024-05-01T12:00:00Z a 1"),
        (r#"{"na\u006de":"a","v\u0061lue":1}"#, "2024-05-01T12:00:00Z a 1"),
        (
            r#"{"name":"zürich ☂ 🌧 \u00fc\ud83c\udf27\n\"\\\/\t","value":1}"#,
            "2024-05-01T12:00:00Z zürich ☂ 🌧 ü🌧\n\"\\/\t 1",
        ),
        (
            r#"{"name":"\ud800\udc00\udbff\udfff\ud7ff\ue000","value":1}"#,
            "2024-05-01T12:00:00Z \u{10000}\u{10ffff}\u{d7ff}\u{e000} 1",
        ),
        (r#"{"name":"a","value":9007199254740993}"#, "2024-05-01T12:00:00Z a 9007199254740992"),
        (
            r#"{"name":"a","value":123456789012345678901234567890}"#,
            "2024-05-01T12:00:00Z a 123456789012345680000000000000",
        ),
        (r#"{"name":"a","value":-0.0}"#, "2024-05-01T12:00:00Z a -0"),
        (r#"{"name":"a","value":1e-400}"#, "2024-05-01T12:00:00Z a 0"),
        (
            "\t{ \"name\" : \"a\" ,\t\"value\" : 1 , \"dimensions\" : { \"k\" : \"v\" } } ",
            "2024-05-01T12:00:00Z a{k=v} 1",
        ),
    ] {
        check(event, expected);
    }
}

#[test]
fn times_are_read() {
    for (time, expected) in [
        (r#""2024-05-01T12:10:00Z""#, "2024-05-01T12:10:00Z"),
        (r#""2024-05-01T14:00:00.000001+02:00""#, "2024-05-01T12:00:00.000001Z"),
        (r#""2024-05-01 12:00:00""#, T),
        (r#""2024-05-01t12:00:00z""#, T),
        (r#""2024-05-01""#, "2024-05-01T00:00:00Z"),
        (r#""2024-05-01T12:00:00\u005a""#, T),
        ("1714564800", T),
        ("1714564800000", T),
        ("1714564800000000", T),
        ("1714564800000000000", T),
        ("1714564800000000999", T),
        ("1714564800.5", "2024-05-01T12:00:00.500Z"),
        ("1714564800.123457", "2024-05-01T12:00:00.123457Z"),
        ("1714564800.0", T),
        ("1.7145648e9", T),
        ("1714564800000.25", "2024-05-01T12:00:00.000250Z"),
        ("-1", "1969-12-31T23:59:59Z"),
        ("-2208988800", "1900-01-01T00:00:00Z"),
        ("-0.5", "1969-12-31T23:59:59.500Z"),
    ] {
        check(&format!(r#"{{"name":"a","ts":{time},"value":1}}"#), &format!("{expected} a 1"));
    }
}

#[test]
fn times_are_refused() {
    let wanted = "expected RFC 3339 (2024-05-01T00:00:00Z) or a number of s, ms, µs or ns since 1970";
    for (time, reason) in [
        (
            r#""9999-01-01T00:00:00Z""#,
            "9999-01-01T00:00:00Z is 7974 years ahead of now; at most 10m is accepted".to_owned(),
        ),
        (
            r#""2024-05-01T12:10:00.000001Z""#,
            "2024-05-01T12:10:00.000001Z is 10 minutes ahead of now; at most 10m is accepted".into(),
        ),
        (r#""2024-05-01T13:30:00Z""#, "2024-05-01T13:30:00Z is 1 hour ahead of now; at most 10m is accepted".into()),
        ("1714737600", "1714737600 (2024-05-03T12:00:00Z) is 2 days ahead of now; at most 10m is accepted".into()),
        (
            r#""1899-12-31T23:59:59Z""#,
            "1899-12-31T23:59:59Z is too early; from 1900-01-01T00:00:00Z on is accepted".into(),
        ),
        (
            "-2208988801",
            "-2208988801 (1899-12-31T23:59:59Z) is too early; from 1900-01-01T00:00:00Z on is accepted".into(),
        ),
        (r#""yesterday""#, format!("text \"yesterday\" is not a time; {wanted}")),
        (r#""""#, format!("text \"\" is not a time; {wanted}")),
        (r#""2023-02-29T00:00:00Z""#, format!("text \"2023-02-29T00:00:00Z\" is not a time; {wanted}")),
        (r#""1714564800""#, format!("text \"1714564800\" is not a time; {wanted}; a number stands without quotes")),
        (r#""\ud800""#, format!("text \"\\ud800\" is not a time; {wanted}")),
        ("99999999999999999999", format!("number 99999999999999999999 is not a time; {wanted}")),
        ("1e300", format!("number 1e300 is not a time; {wanted}")),
        ("1e999", format!("number 1e999 is not a time; {wanted}")),
        ("true", format!("{wanted}, found true")),
        ("{}", format!("{wanted}, found an object")),
        ("[1]", format!("{wanted}, found an array")),
    ] {
        check(&format!(r#"{{"name":"a","ts":{time},"value":1}}"#), &format!("0: ts: {reason}"));
    }
}

#[test]
fn events_are_refused() {
    let unknown = |key: &str| {
        format!(
            "unknown key \"{key}\"; known are timestamp (ts, time), name (metric), value, dimensions (tags, labels) and source"
        )
    };
    for (event, reason) in [
        ("12", "expected an object, found number 12".to_owned()),
        ("[1]", "expected an object, found an array".into()),
        ("null", "expected an object, found null".into()),
        (r#"{}"#, "name: expected text, found no such key".into()),
        (r#"{"value":1}"#, "name: expected text, found no such key".into()),
        (r#"{"name":null,"value":1}"#, "name: expected text, found null".into()),
        (r#"{"metric":5,"value":1}"#, "metric: expected text, found number 5".into()),
        (r#"{"name":"","value":1}"#, "name: expected text that is not empty".into()),
        (r#"{"name":"\ud83c","value":1}"#, "name: half of a surrogate pair stands alone in the text".into()),
        (r#"{"name":"\udf27\ud83c","value":1}"#, "name: half of a surrogate pair stands alone in the text".into()),
        (r#"{"name":"\ud83cab","value":1}"#, "name: half of a surrogate pair stands alone in the text".into()),
        (r#"{"name":"a"}"#, "value: expected a number, found no such key".into()),
        (r#"{"name":"a","value":null}"#, "value: expected a number, found null".into()),
        (r#"{"name":"a","value":"1.5"}"#, "value: expected a number, found text \"1.5\"".into()),
        (r#"{"name":"a","value":true}"#, "value: expected a number, found true".into()),
        (r#"{"name":"a","value":[1]}"#, "value: expected a number, found an array".into()),
        (
            r#"{"name":"a","value":1e400}"#,
            "value: number 1e400 is too large; at most 1.7976931348623157e308 is accepted".into(),
        ),
        (
            r#"{"name":"a","value":-1e309}"#,
            "value: number -1e309 is too large; at most 1.7976931348623157e308 is accepted".into(),
        ),
        (r#"{"name":"a","metric":"b","value":1}"#, "name and metric are both given, and differ; give one".into()),
        (r#"{"name":"a","ts":1,"time":2,"value":1}"#, "ts and time are both given, and differ; give one".into()),
        (
            r#"{"name":"a","tags":{},"labels":{"a":1},"value":1}"#,
            "tags and labels are both given, and differ; give one".into(),
        ),
        (r#"{"name":"a","vlaue":1}"#, unknown("vlaue")),
        (r#"{"name":"a","value":1,"":1}"#, unknown("")),
        (r#"{"name":"a","value":1,"Value":1}"#, unknown("Value")),
        (r#"{"name":"a","value":1,"x\u0079":{"deep":[[1]]}}"#, unknown("x\\u0079")),
        (r#"{"name":"a","value":1,"\ud800":1}"#, unknown("\\ud800")),
        (r#"{"name":"a","value":1,"dimensions":[]}"#, "dimensions: expected an object, found an array".into()),
        (r#"{"name":"a","value":1,"tags":"x"}"#, "tags: expected an object, found text \"x\"".into()),
        (
            r#"{"name":"a","value":1,"dimensions":{"host":{"a":1}}}"#,
            "dimensions.host: expected text, a number or a boolean, found an object".into(),
        ),
        (
            r#"{"name":"a","value":1,"dimensions":{"host":[]}}"#,
            "dimensions.host: expected text, a number or a boolean, found an array".into(),
        ),
        (
            r#"{"name":"a","value":1,"dimensions":{"host":"\ud800"}}"#,
            "dimensions.host: half of a surrogate pair stands alone in the text".into(),
        ),
        (r#"{"name":"a","value":1,"source":7}"#, "source: expected text, found number 7".into()),
    ] {
        check(event, &format!("0: {reason}"));
    }
}

#[test]
fn long_findings_are_cut_in_reasons() {
    let long = "é".repeat(100_000);
    let decoded = decode_points(format!(r#"{{"name":"a","value":"{long}"}}"#).as_bytes(), &limits()).unwrap();
    assert_eq!(decoded.rejected[0].reason, format!("value: expected a number, found text \"{}…\"", "é".repeat(60)));
}

#[test]
fn texts_and_dimensions_are_bounded() {
    let max = limits().text_bytes_max;
    let check = |event: String, expected: Option<&str>| {
        let decoded = decode_points(event.as_bytes(), &limits()).unwrap();
        assert_eq!(decoded.rejected.first().map(|reject| reject.reason.as_str()), expected);
    };
    let event = |name: &str, dimensions: &str, source: &str| {
        format!(r#"{{"name":"{name}","value":1,"dimensions":{{{dimensions}}},"source":"{source}"}}"#)
    };
    let (fits, long) = ("x".repeat(max), "x".repeat(max + 1));
    let escaped = "\\u0078".repeat(max);
    check(event(&fits, "", ""), None);
    check(event(&escaped, "", ""), None);
    check(event("a", "", &fits), None);
    check(event("a", &format!(r#""k":"{fits}""#), ""), None);
    check(event("a", &format!(r#""{fits}":"v""#), ""), None);
    check(event(&long, "", ""), Some("name: the text has 1048577 bytes; at most 1048576 are accepted"));
    check(event("a", "", &long), Some("source: the text has 1048577 bytes; at most 1048576 are accepted"));
    check(
        event("a", &format!(r#""k":"{long}""#), ""),
        Some("dimensions.k: the text has 1048577 bytes; at most 1048576 are accepted"),
    );
    check(
        event("a", &format!(r#""{long}":"v""#), ""),
        Some("dimensions: the text has 1048577 bytes; at most 1048576 are accepted"),
    );
    check(
        event("a", &format!(r#""k":{}"#, "1".repeat(max + 1)), ""),
        Some("dimensions.k: the number has more than 1048576 characters"),
    );

    let many = |count: usize| (0..count).map(|at| format!(r#""k{at}":"v""#)).collect::<Vec<_>>().join(",");
    check(event("a", &many(10_000), ""), None);
    check(event("a", &many(10_001), ""), Some("dimensions: there are more than 10000, the most that is accepted"));
}

#[test]
fn a_series_is_held_once_however_it_is_written() {
    let body = r#"
        {"name":"a","value":1,"dimensions":{"host":"x","zone":"y"}}
        {"metric":"a","value":2,"tags":{ "zone":"y", "host":"x" }}
        {"name":"\u0061","value":3,"labels":{"host":"\u0078","zone":"y"}}
        {"name":"a","value":4,"dimensions":{"host":"z","host":"x","zone":"y","n":null}}
        {"name":"a","value":5,"dimensions":{"host":"x","zone":"y"},"source":"s"}
        {"name":"a","value":6}
        {"name":"a","value":7,"dimensions":{}}
        {"name":"a","value":8,"dimensions":null,"source":""}
    "#;
    let decoded = decode_metrics(body.as_bytes(), Format::Ndjson, &limits()).unwrap();
    let Some(EventBatch::Metrics(batch)) = decoded.batch else { panic!("expected a batch") };
    assert_invariants(&batch);
    assert_eq!(batch.series_index, [0, 0, 0, 0, 1, 2, 2, 2]);
}

/// So many that their hashes share places in the table.
#[test]
fn series_that_differ_in_one_part_are_told_apart() {
    let mut body = String::new();
    let mut expected = Vec::new();
    for at in 0..8_000 {
        let (name, host, source) = (at % 20, at / 20 % 20, at / 400);
        body.push_str(&format!(
            "{{\"name\":\"n{name}\",\"value\":1,\"dimensions\":{{\"h\":{host}}},\"source\":\"s{source}\"}}\n"
        ));
        expected.push(format!("{T} n{name}{{h={host}}}@s{source} 1"));
    }
    let decoded = decode_metrics(body.as_bytes(), Format::Ndjson, &limits()).unwrap();
    assert!(shown(&decoded) == expected, "some event has the series of another");
}

#[test]
fn a_reject_leaves_nothing() {
    let body = r#"
        {"name":"bad","value":1,"ts":"x"}
        {"name":"bad","value":"x"}
        {"name":"bad","value":1,"dimensions":{"k":[]}}
        {"name":"bad","value":1} x
        {"name":"good","value":1}
        {"name":"bad","value":1,"vlaue":1}
    "#;
    let decoded = decode_metrics(body.as_bytes(), Format::Ndjson, &limits()).unwrap();
    let Some(EventBatch::Metrics(batch)) = &decoded.batch else { panic!("expected a batch") };
    assert_eq!(events(batch), [format!("{T} good 1")]);
    assert_eq!(decoded.rejected.iter().map(|reject| reject.index).collect::<Vec<_>>(), [0, 1, 2, 3, 5]);
}
