//! A result as an aligned table of text.

use serde_json::Value;

/// Characters of a cell that are shown at most.
const CELL_WIDTH_MAX: usize = 100;

/// Draws `rows` under `columns`: numbers to the right, everything else to the left.
pub(crate) fn render(columns: &[String], rows: &[Vec<Value>]) -> String {
    let cells: Vec<Vec<String>> = rows.iter().map(|row| row.iter().map(cell).collect()).collect();
    let headings: Vec<String> = columns.iter().map(|name| clip(name)).collect();
    let width = |index: usize| {
        let cells = cells.iter().filter_map(|row| row.get(index)).map(|text| text.chars().count());
        cells.chain([headings[index].chars().count()]).max().unwrap_or(0)
    };
    let widths: Vec<usize> = (0..columns.len()).map(width).collect();
    let to_right: Vec<bool> = (0..columns.len()).map(|index| is_numeric(rows, index)).collect();

    let mut text = String::new();
    line(&mut text, &headings, &widths, &to_right);
    let rule: Vec<String> = widths.iter().map(|width| "─".repeat(*width)).collect();
    text.push_str(rule.join("──").trim_end());
    text.push('\n');
    for row in &cells {
        line(&mut text, row, &widths, &to_right);
    }
    text
}

fn line(text: &mut String, cells: &[String], widths: &[usize], to_right: &[bool]) {
    let begin = text.len();
    for (index, (cell, width)) in cells.iter().zip(widths).enumerate() {
        if index > 0 {
            text.push_str("  ");
        }
        let padding = " ".repeat(width.saturating_sub(cell.chars().count()));
        if to_right[index] {
            text.push_str(&padding);
            text.push_str(cell);
        } else {
            text.push_str(cell);
            text.push_str(&padding);
        }
    }
    text.truncate(begin + text[begin..].trim_end().len());
    text.push('\n');
}

/// Whether every value of the column is a number or null, and at least one is a number.
fn is_numeric(rows: &[Vec<Value>], index: usize) -> bool {
    let mut values = rows.iter().filter_map(|row| row.get(index)).filter(|value| !value.is_null()).peekable();
    values.peek().is_some() && values.all(Value::is_number)
}

fn cell(value: &Value) -> String {
    match value {
        Value::Null => "NULL".to_owned(),
        Value::String(text) => clip(text),
        other => clip(&other.to_string()),
    }
}

/// One line of at most [`CELL_WIDTH_MAX`] characters that cannot move a terminal's cursor.
fn clip(text: &str) -> String {
    let mut clipped = String::new();
    for (index, character) in text.chars().enumerate() {
        if index == CELL_WIDTH_MAX {
            clipped.pop();
            clipped.push('…');
            break;
        }
        match character {
            '\n' => clipped.push('⏎'),
            '\t' => clipped.push(' '),
            c if c.is_control() => clipped.push('�'),
            c => clipped.push(c),
        }
    }
    clipped
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn check(columns: &[&str], rows: Value, expected: &str) {
        let columns: Vec<String> = columns.iter().map(|name| (*name).to_owned()).collect();
        let rows: Vec<Vec<Value>> = serde_json::from_value(rows).unwrap();
        assert_eq!(render(&columns, &rows), expected);
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
        let long = clip(&"x".repeat(500));
        assert_eq!((long.chars().count(), long.ends_with('…')), (CELL_WIDTH_MAX, true));
    }

    #[test]
    fn nested_values_are_shown_as_json() {
        check(&["d"], json!([[{"host": "a"}]]), "d\n────────────\n{\"host\":\"a\"}\n");
    }
}
