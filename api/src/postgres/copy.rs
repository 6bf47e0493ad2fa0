//! `COPY … TO STDOUT`: rows as lines of text or CSV, or in binary, as PostgreSQL writes them.
//!
//! ```text
//!  binary:  "PGCOPY\n\xff\r\n\0" flags:u32=0 extension:u32=0   { fields:u16 { length:i32 value } … } …   -1:i16
//! ```

use super::command::Command;
use super::error::PostgresError;
use super::text::{Word, located};

/// What a copy in binary begins with: a signature, no flags, and nothing more to be passed over.
pub(super) const BINARY_HEAD: &[u8] = b"PGCOPY\n\xff\r\n\0\0\0\0\0\0\0\0\0";
/// What it ends with, where the number of a row's fields would be.
pub(super) const BINARY_END: &[u8] = &(-1_i16).to_be_bytes();

/// How the rows of a copy are written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum CopyForm {
    Lines(Lines),
    /// Values as those of an answer in binary.
    Binary,
}

/// How rows are written as lines.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Lines {
    pub(super) csv: bool,
    pub(super) header: bool,
    delimiter: char,
    null: String,
    quote: char,
    /// What stands before a quote within quotes; the quote itself unless it is said.
    escape: Option<char>,
    /// Whether all values but null are in quotes.
    quotes_all: bool,
}

impl Lines {
    fn text() -> Self {
        Lines {
            csv: false,
            header: false,
            delimiter: '\t',
            null: "\\N".to_owned(),
            quote: '"',
            escape: None,
            quotes_all: false,
        }
    }

    fn csv() -> Self {
        Lines { csv: true, delimiter: ',', null: String::new(), ..Lines::text() }
    }

    /// Writes a line of values, `None` for null.
    pub(super) fn line<'a>(&self, values: impl Iterator<Item = Option<&'a str>>, out: &mut Vec<u8>) {
        let mut buffer = [0; 4];
        for (place, value) in values.enumerate() {
            if place > 0 {
                out.extend_from_slice(self.delimiter.encode_utf8(&mut buffer).as_bytes());
            }
            match value {
                None => out.extend_from_slice(self.null.as_bytes()),
                Some(value) if self.csv => self.csv_value(value, out),
                Some(value) => self.text_value(value, out),
            }
        }
        out.push(b'\n');
    }

    fn csv_value(&self, value: &str, out: &mut Vec<u8>) {
        let special = |c: char| c == self.delimiter || c == self.quote || c == '\n' || c == '\r';
        if !self.quotes_all && value != self.null && value != "\\." && !value.contains(special) {
            out.extend_from_slice(value.as_bytes());
            return;
        }
        let (quote, escape) = (self.quote, self.escape.unwrap_or(self.quote));
        let mut quoted = String::with_capacity(value.len() + 2);
        quoted.push(quote);
        for character in value.chars() {
            if character == quote || character == escape {
                quoted.push(escape);
            }
            quoted.push(character);
        }
        quoted.push(quote);
        out.extend_from_slice(quoted.as_bytes());
    }

    fn text_value(&self, value: &str, out: &mut Vec<u8>) {
        let mut buffer = [0; 4];
        for character in value.chars() {
            let escaped = match character {
                '\\' => '\\',
                '\n' => 'n',
                '\r' => 'r',
                '\t' => 't',
                '\u{8}' => 'b',
                '\u{b}' => 'v',
                '\u{c}' => 'f',
                other if other == self.delimiter => other,
                other => {
                    out.extend_from_slice(other.encode_utf8(&mut buffer).as_bytes());
                    continue;
                }
            };
            out.push(b'\\');
            out.extend_from_slice(escaped.encode_utf8(&mut buffer).as_bytes());
        }
    }
}

/// Reads `COPY [BINARY] { (question) | table [(columns)] } TO STDOUT [WITH] [(options)]`.
pub(super) fn read(statement: &str) -> Result<Command, PostgresError> {
    let mut found = located(statement, usize::MAX);
    let wrong = || {
        PostgresError::new("0A000", "COPY goes TO STDOUT only")
            .with_hint("write COPY (SELECT …) TO STDOUT WITH (FORMAT csv, HEADER)")
    };
    // A table may be called so, too.
    let named = found.get(2).is_some_and(|(word, _)| !["TO", "FROM", "("].iter().any(|next| word.is(next)));
    let is_binary = named && found[1].0.is("BINARY");
    if is_binary {
        found.remove(0);
    }
    let mut depth = 0_usize;
    let mut to = None;
    for (place, (word, _)) in found.iter().enumerate().skip(1) {
        match word {
            Word::Sign('(') => depth += 1,
            Word::Sign(')') => depth = depth.saturating_sub(1),
            word if depth == 0 && word.is("TO") => {
                to = Some(place);
                break;
            }
            _ => {}
        }
    }
    let to = to.filter(|to| *to > 1).ok_or_else(wrong)?;
    if !found.get(to + 1).is_some_and(|(word, _)| word.is("STDOUT")) {
        return Err(wrong());
    }
    let source = statement[found[0].1..found[to - 1].1].trim();
    let question = match (source.strip_prefix('('), source.find('(')) {
        (Some(inner), _) => inner.strip_suffix(')').ok_or_else(wrong)?.to_owned(),
        (None, Some(columns)) => {
            let names = source[columns + 1..].strip_suffix(')').ok_or_else(wrong)?;
            format!("SELECT {names} FROM {}", &source[..columns])
        }
        (None, None) => format!("SELECT * FROM {source}"),
    };
    let rest: Vec<&Word<'_>> = found[to + 2..].iter().map(|(word, _)| word).collect();
    Ok(Command::Copy { question, form: form(&rest, is_binary)? })
}

/// Reads the options, in the form with parentheses or the older one without; `is_binary` if that was said before them.
fn form(words: &[&Word<'_>], is_binary: bool) -> Result<CopyForm, PostgresError> {
    let options: Vec<&Word<'_>> = words
        .iter()
        .copied()
        .filter(|word| !["(", ")", ",", "=", "WITH", "AS"].iter().any(|sign| word.is(sign)))
        .collect();
    let is_format = |name: &str| {
        let formatted =
            options.windows(2).any(|pair| pair[0].is("FORMAT") && pair[1].text().eq_ignore_ascii_case(name));
        formatted || options.iter().any(|word| word.is(name))
    };
    if is_binary || is_format("binary") {
        return binary(&options);
    }
    let mut form = if is_format("csv") { Lines::csv() } else { Lines::text() };
    let mut options = options.into_iter().peekable();
    while let Some(option) = options.next() {
        let name = option.text().to_uppercase();
        match name.as_str() {
            "CSV" => {}
            "FORCE" | "FORCE_QUOTE" => {
                let _ = options.next_if(|word| word.is("QUOTE"));
                if options.next_if(|word| word.is("*")).is_none() {
                    let error = PostgresError::new("0A000", "COPY puts all values in quotes, or those that need them");
                    return Err(error.with_hint("write FORCE_QUOTE *, or leave it out"));
                }
                form.quotes_all = true;
            }
            "FORMAT" => {
                let kind = options.next().map(|kind| kind.text().to_lowercase()).unwrap_or_default();
                if !matches!(kind.as_str(), "csv" | "text") {
                    return Err(PostgresError::new(
                        "0A000",
                        format!("COPY in the format {kind:?} is not answered here"),
                    )
                    .with_hint("use FORMAT text, csv or binary"));
                }
            }
            "HEADER" => {
                let off = options.next_if(|value| ["true", "false", "on", "off"].iter().any(|word| value.is(word)));
                form.header = !off.is_some_and(|value| value.is("false") || value.is("off"));
            }
            "DELIMITER" | "QUOTE" | "NULL" | "ESCAPE" | "ENCODING" => {
                let value = options.next().map(Word::text).unwrap_or_default();
                let value = if value == "\\t" { "\t".to_owned() } else { value };
                let one = || {
                    let mut characters = value.chars();
                    match (characters.next(), characters.next()) {
                        (Some(only), None) if only.is_ascii() => Ok(only),
                        _ => {
                            Err(PostgresError::new("22023", format!("{name} of COPY is one character, not {value:?}")))
                        }
                    }
                };
                match name.as_str() {
                    "DELIMITER" => form.delimiter = one()?,
                    "QUOTE" => form.quote = one()?,
                    "ESCAPE" => form.escape = Some(one()?),
                    "NULL" => form.null = value,
                    _ if ["utf8", "utf-8", "unicode"].contains(&value.to_lowercase().as_str()) => {}
                    _ => {
                        let message = format!("COPY in the encoding {value:?} is not answered here");
                        return Err(PostgresError::new("0A000", message).with_hint("use ENCODING 'UTF8'"));
                    }
                }
            }
            _ => {
                return Err(PostgresError::new("0A000", format!("COPY does not know {name}")).with_hint(
                    "the options are FORMAT, HEADER, DELIMITER, NULL, QUOTE, ESCAPE, FORCE_QUOTE * and ENCODING",
                ));
            }
        }
    }
    Ok(CopyForm::Lines(form))
}

/// Reads the options of a copy in binary: none but that it is so.
fn binary(options: &[&Word<'_>]) -> Result<CopyForm, PostgresError> {
    let is_its_own = |word: &&&Word<'_>| word.is("FORMAT") || word.text().eq_ignore_ascii_case("binary");
    match options.iter().find(|word| !is_its_own(word)) {
        None => Ok(CopyForm::Binary),
        Some(other) => {
            let message = format!("COPY in binary has no {}", other.text().to_uppercase());
            Err(PostgresError::new("42601", message).with_hint("leave it out, or use FORMAT text or csv"))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn copies_are_read() {
        let csv = Lines { header: true, ..Lines::csv() };
        for (sql, question, form) in [
            ("COPY (SELECT ')' AS a, (1)) TO STDOUT", "SELECT ')' AS a, (1)", Lines::text()),
            ("copy metrics to stdout with (format csv, header true)", "SELECT * FROM metrics", csv.clone()),
            ("COPY  ( SELECT 1 TO ) TO STDOUT CSV HEADER", " SELECT 1 TO ", csv),
            (
                r"COPY t TO STDOUT (DELIMITER E'\t', NULL 'csv', ENCODING 'utf-8')",
                "SELECT * FROM t",
                Lines { null: "csv".into(), ..Lines::text() },
            ),
            (
                r"COPY t TO STDOUT CSV FORCE QUOTE * ESCAPE E'\\'",
                "SELECT * FROM t",
                Lines { quotes_all: true, escape: Some('\\'), ..Lines::csv() },
            ),
            (
                "COPY t (a, b) TO STDOUT (DELIMITER '|', NULL '')",
                "SELECT a, b FROM t ",
                Lines { delimiter: '|', null: String::new(), ..Lines::text() },
            ),
        ] {
            let form = CopyForm::Lines(form);
            assert_eq!(read(sql), Ok(Command::Copy { question: question.into(), form }), "{sql}");
        }
        for (sql, question) in [
            ("COPY t TO STDOUT (FORMAT binary)", "SELECT * FROM t"),
            ("COPY (SELECT 1) TO STDOUT WITH BINARY", "SELECT 1"),
            ("copy (select 1) to stdout binary", "select 1"),
            ("COPY t (a) TO STDOUT WITH (FORMAT 'binary')", "SELECT a FROM t "),
            ("COPY BINARY t TO STDOUT", "SELECT * FROM t"),
        ] {
            let form = CopyForm::Binary;
            assert_eq!(read(sql), Ok(Command::Copy { question: question.into(), form }), "{sql}");
        }
        let form = CopyForm::Lines(Lines::text());
        let table = Command::Copy { question: "SELECT * FROM binary".into(), form };
        assert_eq!(read("COPY binary TO STDOUT"), Ok(table));
        let header = read("COPY t TO STDOUT (FORMAT binary, HEADER)").expect_err("there is none");
        assert_eq!((header.state, header.message.as_str()), ("42601", "COPY in binary has no HEADER"));
        for sql in [
            "COPY t FROM STDIN",
            "COPY t TO '/tmp/x'",
            "COPY t TO PROGRAM 'x'",
            "COPY",
            "COPY BINARY t FROM STDIN",
            "COPY t TO STDOUT (FORMAT parquet)",
            "COPY t TO STDOUT (FORMAT csv, FORCE_QUOTE (a))",
            "COPY t TO STDOUT CSV FORCE QUOTE a",
            "COPY t TO STDOUT (ENCODING 'LATIN1')",
        ] {
            assert_eq!(read(sql).expect_err(sql).state, "0A000", "{sql}");
        }
    }

    #[test]
    fn lines_as_postgres_writes_them() {
        let values = [Some("a\tb\\c\n"), None, Some("")];
        let line = |form: Lines, values: &[Option<&str>]| {
            let mut out = Vec::new();
            form.line(values.iter().copied(), &mut out);
            String::from_utf8(out).expect("it is text")
        };
        assert_eq!(line(Lines::text(), &values), "a\\tb\\\\c\\n\t\\N\t\n");
        let all = Lines { quotes_all: true, escape: Some('\\'), ..Lines::csv() };
        assert_eq!(line(all, &[Some("a\"\\"), None, Some("x")]), "\"a\\\"\\\\\",,\"x\"\n");
        assert_eq!(line(Lines::csv(), &[Some("a,\"b\""), None, Some(""), Some("x")]), "\"a,\"\"b\"\"\",,\"\",x\n");
    }
}
