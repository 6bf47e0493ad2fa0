//! Random events, written in random ways, against what was meant; and the scanner against serde_json.

use proptest::prelude::*;
use serde_json::Value as Json;

use super::super::json::Scanner;
use super::*;

/// An event as it is meant.
#[derive(Clone, Debug)]
struct Meant {
    micros: Option<i64>,
    name: String,
    value: f64,
    dimensions: Vec<(String, String)>,
    source: Option<String>,
}

/// How it is written: choices are drawn from here, again and again.
type Choices = Vec<u8>;

/// Writes JSON in one of its many forms.
struct Writer<'a> {
    out: String,
    choices: std::iter::Cycle<std::slice::Iter<'a, u8>>,
    lines: bool,
}

impl Writer<'_> {
    fn choose(&mut self, below: usize) -> usize {
        usize::from(*self.choices.next().unwrap()) % below
    }

    fn space(&mut self) {
        let spaces = if self.lines { ["", "", "", " ", "\t", "\r"] } else { ["", "", "", " \t", "\n", "\r\n"] };
        let at = self.choose(6);
        self.out.push_str(spaces[at]);
    }

    fn token(&mut self, token: &str) {
        self.space();
        self.out.push_str(token);
        self.space();
    }

    fn text(&mut self, text: &str) {
        self.space();
        self.out.push('"');
        for char in text.chars() {
            let plain = char >= ' ' && char != '"' && char != '\\';
            if plain && self.choose(4) > 0 {
                self.out.push(char);
            } else if self.choose(2) == 0 && matches!(char, '"' | '\\' | '/') {
                self.out.push('\\');
                self.out.push(char);
            } else {
                let mut units = [0; 2];
                let upper = self.choose(2) == 0;
                for unit in char.encode_utf16(&mut units) {
                    let code = if upper { format!("\\u{unit:04X}") } else { format!("\\u{unit:04x}") };
                    self.out.push_str(&code);
                }
            }
        }
        self.out.push('"');
        self.space();
    }

    fn pick<'t>(&mut self, options: &[&'t str]) -> &'t str {
        options[self.choose(options.len())]
    }

    fn event(&mut self, meant: &Meant) {
        let mut members = vec![0, 1];
        members.extend(meant.micros.map(|_| 2));
        members.extend((!meant.dimensions.is_empty() || self.choose(2) == 0).then_some(3));
        members.extend(meant.source.as_ref().map(|_| 4));
        let turn = self.choose(members.len());
        members.rotate_left(turn);
        self.token("{");
        for (at, member) in members.into_iter().enumerate() {
            if at > 0 {
                self.token(",");
            }
            self.member(member, meant);
        }
        self.token("}");
    }

    fn member(&mut self, member: usize, meant: &Meant) {
        let keys: &[&str] = match member {
            0 => &["name", "metric"],
            1 => &["value"],
            2 => &["ts", "timestamp", "time"],
            3 => &["dimensions", "tags", "labels"],
            _ => &["source"],
        };
        let key = self.pick(keys);
        self.text(key);
        self.token(":");
        match member {
            0 => self.text(&meant.name),
            1 => {
                let value = meant.value;
                let text = if self.choose(2) == 0 { format!("{value}") } else { format!("{value:e}") };
                self.token(&text);
            }
            2 => self.time(meant.micros.unwrap()),
            3 => self.dimensions(&meant.dimensions),
            _ => self.text(meant.source.as_ref().unwrap()),
        }
    }

    fn time(&mut self, micros: i64) {
        match self.choose(3) {
            0 if micros.abs() >= 100_000_000_000_000 => self.token(&micros.to_string()),
            1 if micros % 1_000_000 == 0 && micros.abs() < 100_000_000_000_000_000 => {
                self.token(&(micros / 1_000_000).to_string());
            }
            _ => self.text(&to_rfc3339(EventTime(micros))),
        }
    }

    fn dimensions(&mut self, dimensions: &[(String, String)]) {
        self.token("{");
        let mut pairs: Vec<_> = dimensions.iter().collect();
        let turn = self.choose(pairs.len().max(1));
        pairs.rotate_left(turn);
        for (at, (key, value)) in pairs.into_iter().enumerate() {
            if at > 0 {
                self.token(",");
            }
            if self.choose(4) == 0 {
                self.text(key); // repeated below: the last wins
                self.token(":");
                self.token("null");
                self.token(",");
            }
            self.text(key);
            self.token(":");
            let bare = value == "true" || value.parse::<u32>().is_ok_and(|number| number.to_string() == *value);
            if bare { self.token(value) } else { self.text(value) }
        }
        self.token("}");
    }
}

fn texts() -> impl Strategy<Value = String> {
    prop_oneof![
        Just("cpu".to_owned()),
        Just("true".to_owned()),
        Just("12".to_owned()),
        "[a-z]{1,12}",
        "\\PC{1,20}",
        "[\\x00-\\x7f]{1,20}"
    ]
}

fn events_meant() -> impl Strategy<Value = Vec<(Meant, Choices)>> {
    let micros = prop_oneof![
        Just(None),
        (0..1_714_564_800i64).prop_map(|seconds| Some(seconds * 1_000_000)),
        (EventTime::EARLIEST.0..1_714_564_800_000_000).prop_map(Some),
    ];
    let dimensions = prop::collection::btree_map(texts(), texts(), 0..4).prop_map(|map| map.into_iter().collect());
    let value = prop::num::f64::NORMAL | prop::num::f64::SUBNORMAL | prop::num::f64::ZERO;
    let meant = (micros, texts(), value, dimensions, prop::option::of(texts()));
    let meant =
        meant.prop_map(|(micros, name, value, dimensions, source)| Meant { micros, name, value, dimensions, source });
    prop::collection::vec((meant, prop::collection::vec(any::<u8>(), 1..40)), 1..12)
}

fn write(events: &[(Meant, Choices)], lines: bool) -> String {
    let written = |(meant, choices): &(Meant, Choices)| {
        let mut writer = Writer { out: String::new(), choices: choices.iter().cycle(), lines };
        writer.event(meant);
        writer.out
    };
    let events: Vec<String> = events.iter().map(written).collect();
    if lines { events.join("\n") } else { format!("[{}]", events.join(",")) }
}

fn assert_means(decoded: &Decoded, events: &[(Meant, Choices)]) {
    assert_eq!(decoded.rejected, []);
    let Some(EventBatch::Metrics(batch)) = &decoded.batch else { panic!("expected events of metrics") };
    assert_invariants(batch);
    assert_eq!(batch.len(), events.len());
    for (at, (meant, _)) in events.iter().enumerate() {
        let entry = &batch.series[batch.series_index[at] as usize];
        assert_eq!(entry.series.name(), meant.name);
        assert_eq!(entry.series.dimensions(), meant.dimensions);
        assert_eq!(&*entry.source, meant.source.as_deref().unwrap_or_default());
        assert_eq!(batch.value[at].to_bits(), meant.value.to_bits());
        assert_eq!(batch.ts[at], meant.micros.map_or(limits().now, EventTime));
    }
}

proptest! {
    #[test]
    fn what_is_decoded_is_what_was_meant(events in events_meant()) {
        let lines = write(&events, true);
        assert_means(&decode_metrics(lines.as_bytes(), Format::Ndjson, &limits()).unwrap(), &events);
        assert_means(&decode_metrics(lines.as_bytes(), Format::Detect, &limits()).unwrap(), &events);
        let array = write(&events, false);
        assert_means(&decode_points(array.as_bytes(), &limits()).unwrap(), &events);
        let ingest = format!("{{\"data_points\":{array},\"source_id\":null}}");
        assert_means(&decode_ingest(ingest.as_bytes(), &limits()).unwrap(), &events);
    }

    /// A body that was cut or changed anywhere gives an error or rejects, never a panic; lines before the place stand.
    #[test]
    fn a_damaged_body_is_answered(events in events_meant(), at: prop::sample::Index, byte: u8, cut: bool) {
        let mut body = write(&events, true).into_bytes();
        let at = at.index(body.len());
        if cut { body.truncate(at) } else { body[at] = byte };
        let whole_lines = body[..at].iter().filter(|byte| **byte == b'\n').count();
        if let Ok(decoded) = decode_metrics(&body, Format::Ndjson, &limits()) {
            prop_assert!(decoded.rejected.iter().all(|reject| reject.index >= whole_lines as u64));
            prop_assert!(decoded.total >= whole_lines as u64);
        }
        let _ = decode_points(&body, &limits());
        let _ = decode_ingest(&body, &limits());
    }

    /// The scanner takes a text for JSON exactly when serde_json does, and reads its strings the same.
    #[test]
    fn the_scanner_agrees_with_serde_json(text in json_like()) {
        let mut scanner = Scanner::new(&text, 0);
        let scanned = scanner.value().and_then(|value| scanner.end("the end").map(|()| value));
        let expected = serde_json::from_str::<&serde_json::value::RawValue>(&text);
        prop_assert_eq!(scanned.is_ok(), expected.is_ok(), "{:?}: {:?}", scanned, expected);
        if let Ok(super::super::json::Value::Text(string)) = scanned {
            let expected = serde_json::from_str::<String>(&text).ok();
            prop_assert_eq!(string.decode().map(std::borrow::Cow::into_owned), expected);
        }
    }

    #[test]
    fn every_value_is_scanned(value in json_values()) {
        let text = value.to_string();
        let mut scanner = Scanner::new(&text, 0);
        prop_assert!(scanner.value().is_ok());
        prop_assert_eq!(scanner.at(), text.len());
    }
}

/// Texts out of the pieces that JSON is made of, most of them a little wrong.
fn json_like() -> impl Strategy<Value = String> {
    let pieces = prop::sample::select(vec![
        "{", "}", "[", "]", ",", ":", "\"", "\"a\"", "\"a\":", "\\", "\\u00", "\\ud83c", "\\udf27", "\\n", "0", "1",
        "-", ".", "e", "E", "+", "12.5e3", "true", "false", "null", "nul", " ", "\n", "\t", "\u{1}", "é", "🌧", "x",
        "01234567", "\u{b}",
    ]);
    let soup = prop::collection::vec(pieces.clone(), 0..12).prop_map(|pieces| pieces.concat());
    let string = prop::collection::vec(pieces.clone(), 0..8)
        .prop_map(|pieces| format!("\"{}\"", pieces.concat().replace('"', "")));
    let damaged = (json_values(), any::<prop::sample::Index>(), pieces).prop_map(|(value, at, piece)| {
        let mut text = value.to_string();
        let mut at = at.index(text.len() + 1);
        while !text.is_char_boundary(at) {
            at -= 1;
        }
        text.insert_str(at, piece);
        text
    });
    prop_oneof![soup, string, damaged]
}

fn json_values() -> impl Strategy<Value = Json> {
    let leaf = prop_oneof![
        Just(Json::Null),
        any::<bool>().prop_map(Json::from),
        any::<i64>().prop_map(Json::from),
        any::<f64>().prop_map(Json::from),
        "\\PC{0,20}".prop_map(Json::from),
    ];
    leaf.prop_recursive(6, 40, 5, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..5).prop_map(Json::from),
            prop::collection::vec(("\\PC{0,6}", inner), 0..5)
                .prop_map(|members| Json::Object(members.into_iter().collect())),
        ]
    })
}
