//! An answer in the format `json`, for people: its rows as a table, and a line below it.

use serde::Deserialize;
use serde_json::value::RawValue;

use super::super::progress::grouped;
use super::super::table::{Heading, Table};

/// Types whose values are numbers.
const NUMERIC: [&str; 6] = ["smallint", "integer", "bigint", "real", "double", "numeric"];

/// An answer; values are as the server wrote them, so that no digit is lost.
#[derive(Debug, Deserialize)]
pub(super) struct Answer {
    columns: Vec<Column>,
    pub(super) rows: Vec<Vec<Box<RawValue>>>,
    #[serde(default)]
    epoch: u64,
    #[serde(default)]
    elapsed_ms: f64,
    #[serde(default)]
    truncated: bool,
    #[serde(default)]
    partial: Option<Partial>,
}

#[derive(Debug, Deserialize)]
struct Partial {
    missing: String,
}

#[derive(Debug, Deserialize)]
struct Column {
    name: String,
    #[serde(rename = "type", default)]
    kind: String,
}

impl Answer {
    /// Its columns and rows as text.
    pub(super) fn table(&self) -> Table {
        let heading = |column: &Column| Heading {
            name: column.name.clone(),
            is_numeric: NUMERIC.contains(&column.kind.as_str()),
        };
        let columns = self.columns.iter().map(heading).collect();
        Table::new(columns, self.rows.iter().map(|row| row.iter().map(|value| text(value)).collect()).collect())
    }

    /// The values of its first column.
    pub(super) fn texts(&self) -> Vec<String> {
        self.rows.iter().filter_map(|row| row.first()).map(|value| text(value)).collect()
    }

    /// How many rows there are, how long they took, as of when, and what is missing.
    pub(super) fn footer(&self, columns_left_out: usize) -> String {
        let rows = self.rows.len() as u64;
        let noun = if rows == 1 { "row" } else { "rows" };
        let mut footer = format!("{} {noun} in {:.1} ms", grouped(rows), self.elapsed_ms);
        if self.epoch > 0 {
            footer.push_str(&format!(", epoch {}", self.epoch));
        }
        if self.truncated {
            footer.push_str(", and more that the server left out (narrow the statement or use --format csv)");
        }
        match columns_left_out {
            0 => {}
            1 => footer.push_str("; 1 column is not shown, \\x shows all"),
            some => footer.push_str(&format!("; {some} columns are not shown, \\x shows all")),
        }
        if let Some(partial) = &self.partial {
            footer.push_str(&format!("; {}", partial.missing));
        }
        footer
    }
}

/// A value as text; JSON that has parts as it is.
fn text(value: &RawValue) -> String {
    match value.get() {
        "null" => "NULL".to_owned(),
        quoted if quoted.starts_with('"') => serde_json::from_str(quoted).unwrap_or_else(|_| quoted.to_owned()),
        other => other.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Answer {
        serde_json::from_str(text).unwrap()
    }

    #[test]
    fn the_footer_counts_rows_and_says_when_some_are_missing() {
        let check = |answer: &str, left_out: usize, expected: &str| {
            let text = format!(r#"{{"columns":[{{"name":"a","type":"bigint"}}],{answer}}}"#);
            assert!(read(&text).footer(left_out).starts_with(expected), "{}", read(&text).footer(left_out));
        };
        check(r#""rows":[[1]],"epoch":5,"elapsed_ms":1.25"#, 0, "1 row in 1.2 ms, epoch 5");
        check(r#""rows":[[1],[2]],"truncated":true"#, 0, "2 rows in 0.0 ms, and more");
        check(r#""rows":[],"partial":{"missing":"history"}"#, 0, "0 rows in 0.0 ms; history");
        check(r#""rows":[]"#, 3, "0 rows in 0.0 ms; 3 columns are not shown");
    }

    #[test]
    fn no_digit_is_lost() {
        let answer = read(
            r#"{"columns":[{"name":"n","type":"numeric"},{"name":"f","type":"double"},{"name":"t","type":"text"}],
                "rows":[[123456789012345678901234567890.12,"NaN","1"],[null,-0.1,"é\n"]]}"#,
        );
        let expected = ["123456789012345678901234567890.12   NaN  1", "                             NULL  -0.1  é⏎"];
        let (table, _) = answer.table().aligned(None);
        assert_eq!(table.lines().skip(2).collect::<Vec<_>>(), expected);
    }
}
