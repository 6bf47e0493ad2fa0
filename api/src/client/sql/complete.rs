//! What Tab offers: after `\` commands and what they take, after FROM tables, after `table.` its columns, and elsewhere
//! the columns of the tables that the statement names, functions and keywords.

use std::collections::BTreeSet;

use clap::ValueEnum;

use super::names::Names;
use super::{Format, command, settings};

/// What may stand at a place.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Offer {
    /// From where the word begins, whole words.
    Words(usize, Vec<String>),
    /// Names of files.
    Files,
}

const KEYWORDS: &str = "ALL ANALYZE AND AS ASC ASOF BETWEEN BY CASE CAST COALESCE CREATE CROSS DESC DESCRIBE DISTINCT DROP ELSE END \
     EXCEPT EXISTS EXPLAIN FALSE FILTER FROM FULL GROUP HAVING IF IN INNER INTERSECT INTERVAL IS JOIN LEFT LIKE LIMIT \
     MATERIALIZED NOT NULL NULLS FIRST LAST OFFSET ON OR ORDER OUTER OVER PARTITION REPLACE RIGHT ROWS SELECT SET SHOW STREAM \
     TABLES TABLE THEN TIMESTAMP TRUE UNION USING VALUES VIEW VIEWS WHEN WHERE WITH";

/// After these a table is named.
const BEFORE_TABLES: [&str; 7] = ["FROM", "JOIN", "VIEW", "DESCRIBE", "TABLE", "EXISTS", "STREAM"];

/// What may stand at a place of a text, by the names that the server has.
pub(super) fn offers(text: &str, at: usize, names: &Names) -> Offer {
    let before = &text[..at];
    let line = before.rsplit('\n').next().unwrap_or_default();
    if let Some(command) = line.trim_start().strip_prefix('\\') {
        return after_command(command, at, names);
    }
    let begin = before.rfind(|c: char| !is_of_word(c)).map_or(0, |place| place + char_at(before, place));
    let word = &before[begin..];
    if let Some((table, part)) = word.rsplit_once('.') {
        let columns = table_named(text, table, names).into_iter().flatten().map(|column| quoted(column));
        return words(begin + table.len() + 1, part, columns);
    }
    let previous = before[..begin].split(|c: char| !is_of_word(c)).rfind(|word| !word.is_empty()).unwrap_or_default();
    let is_next = before[..begin].ends_with(char::is_whitespace);
    if is_next && BEFORE_TABLES.iter().any(|name| name.eq_ignore_ascii_case(previous)) {
        return words(begin, word, names.tables.keys().map(|name| quoted(name)));
    }
    let named: Vec<_> = tables_of(text, names).collect();
    let tables = names.tables.iter().filter(|(name, _)| named.is_empty() || named.contains(name));
    let columns = tables.flat_map(|(_, columns)| columns).map(|column| quoted(column));
    let functions = names.functions.iter().map(|name| format!("{name}("));
    let is_small = word.chars().all(|c| !c.is_uppercase()) && !word.is_empty();
    let keyword = |keyword: &str| if is_small { keyword.to_lowercase() } else { keyword.to_owned() };
    let keywords = KEYWORDS.split(' ').map(keyword);
    let tables = names.tables.keys().map(|name| quoted(name));
    // Hundreds of functions are no help before anything is written.
    match word.is_empty() {
        true => words(begin, word, columns.chain(tables)),
        false => words(begin, word, columns.chain(tables).chain(functions).chain(keywords)),
    }
}

fn after_command(command: &str, at: usize, names: &Names) -> Offer {
    let Some((name, argument)) = command.split_once(char::is_whitespace) else {
        return words(at - command.len() - 1, &format!("\\{command}"), command::names());
    };
    let argument = argument.trim_start();
    let begin = at - argument.len();
    let some = |texts: &[&str]| texts.iter().map(|text| (*text).to_owned()).collect::<Vec<_>>();
    match name {
        "d" | "d+" => words(begin, argument, names.tables.keys().cloned()),
        "df" => words(begin, argument, names.functions.iter().cloned()),
        "format" => words(begin, argument, Format::value_variants().iter().map(|format| format.name().to_owned())),
        "x" | "timing" => words(begin, argument, some(&["on", "off"])),
        "set" | "unset" => words(begin, argument, settings::names()),
        "i" | "o" => Offer::Files,
        _ => Offer::Words(begin, Vec::new()),
    }
}

/// Those of the words that begin as what is written, in whatever case, each once and in order.
fn words(begin: usize, written: &str, words: impl IntoIterator<Item = String>) -> Offer {
    let mut seen = BTreeSet::new();
    let bare = written.trim_start_matches('"').to_lowercase();
    let fits = |word: &String| word.trim_start_matches('"').to_lowercase().starts_with(&bare);
    let words = words.into_iter().filter(fits).filter(|word| seen.insert(word.clone())).collect();
    Offer::Words(begin, words)
}

/// The tables that a statement names.
fn tables_of<'a>(text: &str, names: &'a Names) -> impl Iterator<Item = &'a String> {
    let words: BTreeSet<String> = text.split(|c: char| !is_of_word(c)).map(plain).collect();
    names.tables.keys().filter(move |name| words.contains(name.as_str()))
}

/// The columns of a table, by its name or by the other name that the statement gives it.
fn table_named<'a>(text: &str, name: &str, names: &'a Names) -> Option<&'a Vec<String>> {
    let name = plain(name);
    if let Some(columns) = names.tables.get(&name) {
        return Some(columns);
    }
    let words: Vec<String> = text.split(|c: char| !is_of_word(c)).filter(|word| !word.is_empty()).map(plain).collect();
    let place = words.iter().enumerate().position(|(place, word)| {
        let previous = place.checked_sub(1).map(|previous| words[previous].as_str());
        *word == name && (previous == Some("as") || previous.is_some_and(|table| names.tables.contains_key(table)))
    })?;
    let table = words[..place].iter().rfind(|word| *word != "as")?;
    names.tables.get(table)
}

fn is_of_word(c: char) -> bool {
    c.is_alphanumeric() || matches!(c, '_' | '.' | '"')
}

fn char_at(text: &str, place: usize) -> usize {
    text[place..].chars().next().map_or(0, char::len_utf8)
}

/// A name without its quotes; without quotes, case does not count.
fn plain(word: &str) -> String {
    match word.strip_prefix('"') {
        Some(inner) => inner.trim_end_matches('"').to_owned(),
        None => word.to_lowercase(),
    }
}

/// A name as SQL needs it.
fn quoted(name: &str) -> String {
    let is_plain = |(place, c): (usize, char)| c == '_' || c.is_ascii_lowercase() || place > 0 && c.is_ascii_digit();
    match !name.is_empty() && name.char_indices().all(is_plain) {
        true => name.to_owned(),
        false => format!("\"{}\"", name.replace('"', "\"\"")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names() -> Names {
        let table = |name: &str, columns: &[&str]| (name.to_owned(), columns.iter().map(|c| (*c).to_owned()).collect());
        Names {
            tables: [
                table("metrics", &["ts", "name", "value", "dimensions"]),
                table("metrics_1m", &["bucket", "name", "count"]),
                table("flights", &["carrier", "Delay"]),
            ]
            .into(),
            functions: ["date_bin", "date_trunc", "count"].map(str::to_owned).into(),
        }
    }

    fn check(text: &str, expected: &[&str]) {
        let (text, rest) = text.split_once('|').unwrap_or((text, ""));
        let all = format!("{text}{rest}");
        let Offer::Words(begin, words) = offers(&all, text.len(), &names()) else { panic!("files: {text}") };
        assert_eq!(words, expected, "{text}");
        assert!(text.is_char_boundary(begin), "{text}");
    }

    #[test]
    fn tables_stand_after_from() {
        check("SELECT * FROM m", &["metrics", "metrics_1m"]);
        check("select * from ", &["flights", "metrics", "metrics_1m"]);
        check("SELECT 1 FROM metrics JOIN fl", &["flights"]);
        check("DROP MATERIALIZED VIEW metrics_", &["metrics_1m"]);
    }

    #[test]
    fn columns_are_those_of_the_tables_that_are_named() {
        check("SELECT va| FROM metrics", &["value", "values"]);
        check("SELECT buc| FROM metrics_1m", &["bucket"]);
        check("SELECT m.na| FROM metrics AS m", &["name"]);
        check("SELECT f.| FROM metrics m, flights f", &["carrier", "\"Delay\""]);
        check("SELECT metrics_1m.c", &["count"]);
        check("SELECT del| FROM flights", &["\"Delay\""]);
        check("SELECT é, carr", &["carrier"]);
    }

    #[test]
    fn functions_open_their_parenthesis_and_keywords_keep_their_case() {
        check("SELECT date_", &["date_bin(", "date_trunc("]);
        check("SEL", &["SELECT"]);
        check("sel", &["select"]);
        check("SELECT cou| FROM metrics_1m", &["count", "count("]);
    }

    #[test]
    fn commands_and_what_they_take() {
        check("\\d", &["\\d", "\\dt", "\\dv", "\\df"]);
        check("\\d fl", &["flights"]);
        check("\\format pa", &["parquet"]);
        check("\\timing o", &["on", "off"]);
        assert_eq!(offers("\\i /tm", 6, &names()), Offer::Files);
    }
}
