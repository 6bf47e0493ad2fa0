//! Events of a stream of the user's own.

use arrow::array::{Array, AsArray};
use arrow::datatypes::TimestampMicrosecondType;
use arrow::util::display::{ArrayFormatter, FormatOptions};
use streamgauge_schemas::{Column, ColumnType, StreamDefinition, StreamId};

use super::*;

fn stream() -> Stream {
    let columns = [
        ("at", ColumnType::Timestamp),
        ("t", ColumnType::Text),
        ("i", ColumnType::I64),
        ("f", ColumnType::F64),
        ("b", ColumnType::Bool),
        ("seen", ColumnType::Timestamp),
        ("j", ColumnType::Json),
    ];
    let definition = StreamDefinition {
        name: "flights".into(),
        time_column: "at".into(),
        columns: columns.map(|(name, kind)| Column { name: name.into(), kind }).to_vec(),
        order_by: Vec::new(),
        retention: None,
    };
    Stream { id: StreamId(7), definition: definition.validate().unwrap() }
}

/// Rows as `a|b|…` in the order of the columns, null as `∅`; then rejects as `index: reason`.
fn table(body: &str, format: Format) -> Vec<String> {
    let stream = stream();
    let decoded = decode_table(body.as_bytes(), format, &stream, &limits()).unwrap();
    let mut lines = Vec::new();
    if let Some(batch) = &decoded.batch {
        assert_eq!(batch.stream(), stream.id);
        let rows = batch.to_record_batch();
        assert_eq!(rows.schema(), stream.definition.schema());
        let columns: Vec<Vec<String>> = rows.columns().iter().map(|column| cells(column.as_ref())).collect();
        let row = |at: usize| columns.iter().map(|column| column[at].clone()).collect::<Vec<_>>().join("|");
        lines.extend((0..rows.num_rows()).map(row));
    }
    assert_eq!(decoded.total as usize, lines.len() + decoded.rejected.len());
    lines.extend(decoded.rejected.iter().map(|reject| format!("{}: {}", reject.index, reject.reason)));
    lines
}

fn cells(column: &dyn Array) -> Vec<String> {
    if let Some(times) = column.as_primitive_opt::<TimestampMicrosecondType>() {
        return times.iter().map(|time| time.map_or("∅".to_owned(), |micros| to_rfc3339(EventTime(micros)))).collect();
    }
    let options = FormatOptions::default().with_null("∅");
    let formatter = ArrayFormatter::try_new(column, &options).unwrap();
    (0..column.len()).map(|at| formatter.value(at).to_string()).collect()
}

fn check(event: &str, expected: &str) {
    assert_eq!(table(event, Format::Ndjson), [expected], "{event}");
    assert_eq!(table(&format!("[{event}]"), Format::Detect), [expected], "{event}");
}

#[test]
fn rows_are_accepted() {
    let now = "2024-05-01T12:00:00Z";
    for (event, expected) in [
        ("{}", format!("{now}|∅|∅|∅|∅|∅|∅")),
        (r#"{"at":null,"t":null,"i":null,"f":null,"b":null,"seen":null,"j":null}"#, format!("{now}|∅|∅|∅|∅|∅|∅")),
        (
            r#"{"at":"2024-05-01T00:00:00Z","t":"x","i":1,"f":1.5,"b":true,"seen":1714564800123,"j":{"a": [1, "é"]}}"#,
            r#"2024-05-01T00:00:00Z|x|1|1.5|true|2024-05-01T12:00:00.123Z|{"a": [1, "é"]}"#.into(),
        ),
        (r#"{"j":[1],"b":false,"f":2,"i":-3,"t":"","at":0}"#, "1970-01-01T00:00:00Z||-3|2.0|false|∅|[1]".into()),
        (r#"{"t":"a","t":"\u0062\n"}"#, format!("{now}|b\n|∅|∅|∅|∅|∅")),
        (r#"{"\u0074":"x"}"#, format!("{now}|x|∅|∅|∅|∅|∅")),
        (r#"{"i":9223372036854775807}"#, format!("{now}|∅|9223372036854775807|∅|∅|∅|∅")),
        (r#"{"i":-9223372036854775808}"#, format!("{now}|∅|-9223372036854775808|∅|∅|∅|∅")),
        (r#"{"i":9007199254740993}"#, format!("{now}|∅|9007199254740993|∅|∅|∅|∅")),
        (r#"{"i":12.0}"#, format!("{now}|∅|12|∅|∅|∅|∅")),
        (r#"{"seen":"2299-12-31T23:59:59Z"}"#, format!("{now}|∅|∅|∅|∅|2299-12-31T23:59:59Z|∅")),
        (r#"{"j":"a\"b"}"#, format!(r#"{now}|∅|∅|∅|∅|∅|"a\"b""#)),
        (r#"{"j":true}"#, format!("{now}|∅|∅|∅|∅|∅|true")),
        (r#"{"j":1.50}"#, format!("{now}|∅|∅|∅|∅|∅|1.50")),
        (r#"{"i":"x","i":1}"#, format!("{now}|∅|1|∅|∅|∅|∅")),
    ] {
        check(event, &expected);
    }
}

#[test]
fn rows_are_refused() {
    let time = "expected RFC 3339 (2024-05-01T00:00:00Z) or a number of s, ms, µs or ns since 1970";
    for (event, reason) in [
        ("5", "expected an object, found number 5".to_owned()),
        (r#"{"t":5}"#, r#"column "t": expected text, found number 5"#.into()),
        (r#"{"t":true}"#, r#"column "t": expected text, found true"#.into()),
        (r#"{"t":{}}"#, r#"column "t": expected text, found an object"#.into()),
        (r#"{"t":"\ud800"}"#, r#"column "t": half of a surrogate pair stands alone in the text"#.into()),
        (r#"{"i":"5"}"#, r#"column "i": expected i64, found text "5""#.into()),
        (r#"{"i":1.5}"#, r#"column "i": expected i64 (a whole number without exponent), found number 1.5"#.into()),
        (r#"{"i":1e3}"#, r#"column "i": expected i64 (a whole number without exponent), found number 1e3"#.into()),
        (
            r#"{"i":9223372036854775808}"#,
            r#"column "i": number 9223372036854775808 is outside the range of i64"#.into(),
        ),
        (r#"{"f":"1"}"#, r#"column "f": expected f64, found text "1""#.into()),
        (r#"{"f":1e400}"#, r#"column "f": number 1e400 is too large for f64"#.into()),
        (r#"{"b":1}"#, r#"column "b": expected bool, found number 1"#.into()),
        (r#"{"at":"x"}"#, format!(r#"column "at": text "x" is not a time; {time}"#)),
        (r#"{"at":true}"#, format!(r#"column "at": {time}, found true"#)),
        (
            r#"{"at":"2024-05-02T12:00:00Z"}"#,
            r#"column "at": 2024-05-02T12:00:00Z is 1 day ahead of now; at most 10m is accepted"#.into(),
        ),
        (
            r#"{"seen":"2300-01-01T00:00:00Z"}"#,
            r#"column "seen": 2300-01-01T00:00:00Z is too late; up to 2299-12-31T23:59:59.999999Z is accepted"#.into(),
        ),
        (r#"{"x":1}"#, r#"unknown key "x"; the columns are at, t, i, f, b, seen, j"#.into()),
        (r#"{"\ud800":1,"y":2}"#, r#"unknown key "\ud800"; the columns are at, t, i, f, b, seen, j"#.into()),
        (r#"{"T":1}"#, r#"unknown key "T"; the columns are at, t, i, f, b, seen, j"#.into()),
    ] {
        check(event, &format!("0: {reason}"));
    }
}

#[test]
fn a_reject_leaves_no_value_in_any_column() {
    let body = r#"
        {"t":"a","i":1,"j":1}
        {"t":"b","i":2,"j":2,"b":7}
        {"t":"c","i":3,"j":3} x
        {"t":"d","i":4,"j":4,"x":1}
        {"t":"e","i":5}
    "#;
    assert_eq!(
        table(body, Format::Ndjson),
        [
            "2024-05-01T12:00:00Z|a|1|∅|∅|∅|1",
            "2024-05-01T12:00:00Z|e|5|∅|∅|∅|∅",
            "1: column \"b\": expected bool, found number 7",
            "2: not JSON at column 31: expected the end of the line after the event, found 'x'",
            "3: unknown key \"x\"; the columns are at, t, i, f, b, seen, j",
        ]
    );
}

#[test]
fn texts_are_bounded() {
    let limits = DecodeLimits { text_bytes_max: 4, ..limits() };
    let stream = stream();
    for (event, reason) in [
        (r#"{"t":"1234","j":1234}"#, None),
        (r#"{"t":"12345"}"#, Some(r#"column "t": the text has 5 bytes; at most 4 are accepted"#)),
        (r#"{"j":12345}"#, Some(r#"column "j": the JSON has 5 bytes; at most 4 are accepted"#)),
    ] {
        let decoded = decode_table(event.as_bytes(), Format::Ndjson, &stream, &limits).unwrap();
        assert_eq!(decoded.rejected.first().map(|reject| reject.reason.as_str()), reason, "{event}");
    }
}

#[test]
fn only_rejects_make_no_batch() {
    let decoded = decode_table(b"5\n6", Format::Ndjson, &stream(), &limits()).unwrap();
    assert!(decoded.batch.is_none());
    assert_eq!((decoded.total, decoded.rejected.len()), (2, 2));
}

/// A body of a few bytes an event does not become reasons of thousands of bytes an event.
#[test]
fn reasons_of_a_small_body_stay_small() {
    let columns = std::iter::once(Column { name: "at".into(), kind: ColumnType::Timestamp });
    let columns =
        columns.chain((0..200).map(|n| Column { name: format!("{}{n:03}", "c".repeat(60)), kind: ColumnType::I64 }));
    let definition = StreamDefinition {
        name: "wide".into(),
        time_column: "at".into(),
        columns: columns.collect(),
        order_by: Vec::new(),
        retention: None,
    };
    let stream = Stream { id: StreamId(7), definition: definition.validate().unwrap() };
    let bytes = |decoded: &Decoded| decoded.rejected.iter().map(|reject| reject.reason.capacity()).sum::<usize>();

    let body = "{\"x\":1}\n".repeat(10_000) + "{\"y\":1}\n";
    let decoded = decode_table(body.as_bytes(), Format::Ndjson, &stream, &limits()).unwrap();
    assert_eq!(decoded.rejected.len(), 10_001);
    let lists = |reject: &Reject| reject.reason.contains("the columns are at, ccc");
    assert!(lists(&decoded.rejected[0]) && !decoded.rejected[1..].iter().any(lists));
    assert_eq!(decoded.rejected[10_000].reason, "unknown key \"y\"; the first such reason lists the columns");
    assert!(bytes(&decoded) < 8 * body.len(), "{} bytes of reasons for {}", bytes(&decoded), body.len());

    // Whatever the reasons are, all of them together are bounded.
    let bounded = DecodeLimits { reason_bytes_max: 10_000, ..limits() };
    let body = format!("{{\"{}000\":\"text\"}}\n", "c".repeat(60)).repeat(2_000);
    let whole = decode_table(body.as_bytes(), Format::Ndjson, &stream, &limits()).unwrap();
    let decoded = decode_table(body.as_bytes(), Format::Ndjson, &stream, &bounded).unwrap();
    assert_eq!(decoded.rejected[0], whole.rejected[0]);
    let (long, short) = (&whole.rejected[1_999].reason, &decoded.rejected[1_999].reason);
    assert!(short.ends_with('…') && long.starts_with(short.trim_end_matches('…')), "{short} of {long}");
    assert!(bytes(&decoded) < 10_000 + 2_000 * 70, "{}", bytes(&decoded));
}
