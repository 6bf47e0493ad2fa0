//! A result as text: an aligned table, a record a row, or Markdown.

use serde_json::Value;
use unicode_width::{UnicodeWidthChar, UnicodeWidthStr};

/// The width of a cell that is shown at most.
const CELL_WIDTH_MAX: usize = 100;
/// Columns are not made narrower than this to fit them in.
const CELL_WIDTH_MIN: usize = 8;
/// What stands between columns.
const GAP: &str = "  ";

/// Columns and rows as text.
#[derive(Debug, Default)]
pub(crate) struct Table {
    columns: Vec<Heading>,
    rows: Vec<Vec<String>>,
}

/// A column.
#[derive(Debug)]
pub(crate) struct Heading {
    /// Its name.
    pub(crate) name: String,
    /// Whether its values are numbers, which stand to the right.
    pub(crate) is_numeric: bool,
}

impl Table {
    /// Of cells that are text already.
    pub(crate) fn new(columns: Vec<Heading>, rows: Vec<Vec<String>>) -> Self {
        Table { columns, rows }
    }

    /// Of values in JSON; a column of nothing but numbers and nulls is numeric.
    pub(crate) fn of_values(names: &[&str], rows: &[Vec<Value>]) -> Self {
        let heading = |(index, name): (usize, &&str)| {
            let mut values = rows.iter().filter_map(|row| row.get(index)).filter(|value| !value.is_null()).peekable();
            Heading { name: (*name).to_owned(), is_numeric: values.peek().is_some() && values.all(Value::is_number) }
        };
        let columns = names.iter().enumerate().map(heading).collect();
        Table { columns, rows: rows.iter().map(|row| row.iter().map(cell).collect()).collect() }
    }

    /// Aligned columns, numbers to the right, each row a line of at most `width_max`; and how many columns that left out.
    pub(crate) fn aligned(&self, width_max: Option<usize>) -> (String, usize) {
        let cells: Vec<Vec<String>> =
            self.rows.iter().map(|row| row.iter().map(|text| one_line(text)).collect()).collect();
        let names: Vec<String> = self.columns.iter().map(|column| one_line(&column.name)).collect();
        let width = |index: usize| {
            let cells = cells.iter().filter_map(|row| row.get(index)).map(|text| text.width());
            cells.chain([names[index].width()]).max().unwrap_or(0).min(CELL_WIDTH_MAX)
        };
        let mut widths: Vec<usize> = (0..names.len()).map(width).collect();
        let left_out = width_max.map_or(0, |width_max| self.fit(&mut widths, width_max));
        let mut text = String::new();
        self.line(&mut text, &names, &widths, left_out > 0);
        let rule: Vec<String> = widths.iter().map(|width| "─".repeat(*width)).collect();
        text.push_str(rule.join("──").trim_end());
        text.push('\n');
        for row in &cells {
            self.line(&mut text, row, &widths, left_out > 0);
        }
        (text, left_out)
    }

    /// Makes columns of text narrower until all fit, and leaves out the last if they do not; answers how many. A number
    /// is never cut, since it would be another.
    fn fit(&self, widths: &mut Vec<usize>, width_max: usize) -> usize {
        let total = |widths: &[usize]| widths.iter().sum::<usize>() + GAP.len() * widths.len().saturating_sub(1);
        let may = |widths: &[usize], index: usize| widths[index] > CELL_WIDTH_MIN && !self.columns[index].is_numeric;
        while total(widths) > width_max {
            let narrower = (0..widths.len()).filter(|index| may(widths, *index));
            let Some(widest) = narrower.max_by_key(|index| widths[*index]) else { break };
            widths[widest] -= 1;
        }
        let all = widths.len();
        let sign = |widths: &[usize]| if widths.len() < all { GAP.len() + 1 } else { 0 };
        while widths.len() > 1 && total(widths) + sign(widths) > width_max {
            widths.pop();
        }
        all - widths.len()
    }

    fn line(&self, text: &mut String, cells: &[String], widths: &[usize], is_cut: bool) {
        let begin = text.len();
        for (index, (cell, width)) in cells.iter().zip(widths).enumerate() {
            if index > 0 {
                text.push_str(GAP);
            }
            let cell = clip(cell, *width);
            let padding = " ".repeat(width.saturating_sub(cell.width()));
            match self.columns[index].is_numeric {
                true => text.extend([padding.as_str(), &cell]),
                false => text.extend([cell.as_str(), &padding]),
            }
        }
        text.truncate(begin + text[begin..].trim_end().len());
        if is_cut {
            text.extend([GAP, "…"]);
        }
        text.push('\n');
    }

    /// A record a row, a column a line, each value whole.
    pub(crate) fn expanded(&self) -> String {
        let names: Vec<String> = self.columns.iter().map(|column| one_line(&column.name)).collect();
        let width = names.iter().map(|name| name.width()).max().unwrap_or(0);
        let mut text = String::new();
        for (index, row) in (1..).zip(&self.rows) {
            text.push_str(&format!("─[ {index} ]{}\n", "─".repeat(width.saturating_sub(4))));
            for (name, cell) in names.iter().zip(row) {
                let padding = " ".repeat(width - name.width());
                text.push_str(format!("{name}{padding}{GAP}{}", one_line(cell)).trim_end());
                text.push('\n');
            }
        }
        text
    }

    /// A table of Markdown, each value whole.
    pub(crate) fn markdown(&self) -> String {
        let escaped = |text: &str| text.replace('\\', "\\\\").replace('|', "\\|").replace('\n', "<br>");
        let line = |cells: &[String]| format!("| {} |\n", cells.join(" | "));
        let names: Vec<String> = self.columns.iter().map(|column| escaped(&column.name)).collect();
        let rule = |column: &Heading| if column.is_numeric { "---:" } else { "---" }.to_owned();
        let mut text = line(&names);
        text.push_str(&line(&self.columns.iter().map(rule).collect::<Vec<_>>()));
        for row in &self.rows {
            text.push_str(&line(&row.iter().map(|cell| escaped(cell)).collect::<Vec<_>>()));
        }
        text
    }
}

fn cell(value: &Value) -> String {
    match value {
        Value::Null => "NULL".to_owned(),
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

/// The text in one line that cannot move a terminal's cursor.
fn one_line(text: &str) -> String {
    let shown = |character: char| match character {
        '\n' => '⏎',
        '\t' => ' ',
        c if c.is_control() => '�',
        c => c,
    };
    text.chars().map(shown).collect()
}

/// The text in `width` at most.
fn clip(text: &str, width: usize) -> String {
    if text.width() <= width {
        return text.to_owned();
    }
    let mut clipped = String::new();
    let mut taken = 1; // for the sign that something is missing
    for character in text.chars() {
        taken += character.width().unwrap_or(0);
        if taken > width {
            break;
        }
        clipped.push(character);
    }
    clipped.push('…');
    clipped
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn table(columns: &[&str], rows: Value) -> Table {
        let rows: Vec<Vec<Value>> = serde_json::from_value(rows).unwrap();
        Table::of_values(columns, &rows)
    }

    fn check(columns: &[&str], rows: Value, expected: &str) {
        assert_eq!(table(columns, rows).aligned(None), (expected.to_owned(), 0));
    }

    #[test]
    fn numbers_stand_to_the_right_and_text_to_the_left() {
        let expected =
            ["name    value", "─────────────", "cpu       1.5", "memory   NULL", "disk      -20", ""].join("\n");
        check(&["name", "value"], json!([["cpu", 1.5], ["memory", null], ["disk", -20]]), &expected);
    }

    #[test]
    fn an_empty_result_shows_its_columns() {
        check(&["a", "bb"], json!([]), "a  bb\n─────\n");
    }

    #[test]
    fn a_cell_is_one_short_line() {
        check(&["x"], json!([["a\nb\u{1b}c"]]), "x\n─────\na⏎b�c\n");
        let (long, _) = table(&["x"], json!([["y".repeat(500)]])).aligned(None);
        let long = long.lines().nth(2).unwrap();
        assert_eq!((long.width(), long.ends_with('…')), (CELL_WIDTH_MAX, true));
    }

    #[test]
    fn nested_values_are_shown_as_json() {
        check(&["d"], json!([[{"host": "a"}]]), "d\n────────────\n{\"host\":\"a\"}\n");
    }

    #[test]
    fn wide_characters_take_two_places() {
        check(&["名", "n"], json!([["日本", 1], ["é", 22]]), "名     n\n────────\n日本   1\né     22\n");
    }

    #[test]
    fn what_does_not_fit_is_made_narrower_and_then_left_out() {
        let wide = table(&["text", "n"], json!([["x".repeat(50), 123_456_789]]));
        let (text, left_out) = wide.aligned(Some(30));
        assert_eq!(left_out, 0);
        assert_eq!(text.lines().nth(2).unwrap(), format!("{}…  123456789", "x".repeat(18)));
        let names: Vec<String> = (0..20).map(|index| format!("column{index:02}")).collect();
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        let (text, left_out) = table(&names, json!([vec![1; 20]])).aligned(Some(40));
        assert_eq!(left_out, 17);
        assert!(text.lines().all(|line| line.width() <= 40), "{text}");
        assert!(text.lines().next().unwrap().ends_with("column02  …"), "{text}");
        let (all, left_out) = table(&names[..4], json!([vec![1; 4]])).aligned(Some(38));
        assert_eq!((all.lines().next().unwrap().width(), left_out), (38, 0));
    }

    #[test]
    fn a_record_a_row() {
        let text = table(&["a", "longer"], json!([["x", "y\nz"], [1, null]])).expanded();
        assert_eq!(text, "─[ 1 ]──\na       x\nlonger  y⏎z\n─[ 2 ]──\na       1\nlonger  NULL\n");
    }

    #[test]
    fn markdown_is_escaped() {
        let text = table(&["a|b", "n"], json!([["x|y\nz", 1]])).markdown();
        assert_eq!(text, "| a\\|b | n |\n| --- | ---: |\n| x\\|y<br>z | 1 |\n");
    }
}
