//! Where in a statement an error is: its line, and a mark under the place.

use unicode_width::UnicodeWidthChar;

/// What is shown of a long line.
const LINE_WIDTH_MAX: usize = 100;

/// The line of `statement` that `message` speaks of, and a mark below the place; nothing when it names none.
pub(super) fn shown(statement: &str, message: &str) -> Option<String> {
    let (line, column) = named(message)?;
    let text = statement.lines().nth(line.checked_sub(1)?)?;
    let characters: Vec<char> = text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    let place = column.checked_sub(1)?.min(characters.len());
    let begin = if characters.len() > LINE_WIDTH_MAX { place.saturating_sub(LINE_WIDTH_MAX / 2) } else { 0 };
    let end = characters.len().min(begin + LINE_WIDTH_MAX);
    let (before, after) = (if begin > 0 { "…" } else { "" }, if end < characters.len() { "…" } else { "" });
    let head = format!("LINE {line}: {before}");
    let width = |text: &str| text.chars().filter_map(UnicodeWidthChar::width).sum::<usize>();
    let left: String = characters[begin..place].iter().collect();
    let part: String = characters[begin..end].iter().collect();
    let mark = " ".repeat(width(&head) + width(&left));
    Some(format!("{head}{part}{after}\n{mark}^"))
}

/// `Line: 2, Column: 8`, as the server says it.
fn named(message: &str) -> Option<(usize, usize)> {
    let (_, rest) = message.rsplit_once("Line: ")?;
    let (line, rest) = rest.split_once(", Column: ")?;
    let column: String = rest.chars().take_while(char::is_ascii_digit).collect();
    Some((line.parse().ok()?, column.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(statement: &str, message: &str, expected: Option<&str>) {
        assert_eq!(shown(statement, message).as_deref(), expected, "{statement}: {message}");
    }

    #[test]
    fn the_place_is_marked_below_its_line() {
        check("SELECT\n  wrong", "no wrong at Line: 2, Column: 3 (sql)", Some("LINE 2:   wrong\n          ^"));
        check("SELECT 'é日' x", "at Line: 1, Column: 13", Some("LINE 1: SELECT 'é日' x\n                     ^"));
        check("SELECT", "found: EOF at Line: 1, Column: 99", Some("LINE 1: SELECT\n              ^"));
        check("SELECT", "at Line: 7, Column: 1", None);
        check("SELECT", "at Line: 0, Column: 0", None);
        check("SELECT", "the disk is full", None);
    }

    #[test]
    fn of_a_long_line_the_part_around_the_place_is_shown() {
        let statement = format!("SELECT {}x", "1 + ".repeat(100));
        let shown = shown(&statement, "at Line: 1, Column: 408").unwrap();
        let (line, mark) = shown.split_once('\n').unwrap();
        assert!(line.starts_with("LINE 1: …") && line.chars().count() < LINE_WIDTH_MAX + 12, "{line}");
        assert_eq!(line.chars().nth(mark.chars().count() - 1), Some('x'), "{shown}");
    }
}
