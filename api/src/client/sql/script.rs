//! A text as the statements and commands that it has: a statement ends with `;`, a command begins with `\` and ends
//! with its line.
//!
//! It knows of SQL what may hide a `;` or a `\`: quotes, comments and dollar quotes.

/// A part of a text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Item {
    /// A statement, without its `;`.
    Statement(String),
    /// A command, without its `\`, and the statement before it that has no end.
    Command { line: String, pending: Option<String> },
}

/// A text, read.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Script {
    pub(super) items: Vec<Item>,
    /// A statement that has no end yet.
    pub(super) rest: Option<String>,
}

/// Reads a text.
pub(super) fn read(text: &str) -> Script {
    let mut reader = Reader { text, at: 0, begin: 0, is_blank: true };
    let mut items = Vec::new();
    while let Some(next) = reader.text[reader.at..].chars().next() {
        match next {
            ';' => {
                let statement = reader.take();
                reader.skip(1);
                items.extend(statement.map(Item::Statement));
            }
            '\\' => {
                let pending = reader.take();
                let line = text[reader.at + 1..].lines().next().unwrap_or_default();
                reader.skip(1 + line.len());
                items.push(Item::Command { line: line.trim().to_owned(), pending });
            }
            _ => reader.pass(next),
        }
    }
    Script { items, rest: reader.take() }
}

/// Whether a text can be run as it is, or its last statement needs more lines.
pub(super) fn is_complete(text: &str) -> bool {
    read(text).rest.is_none()
}

struct Reader<'a> {
    text: &'a str,
    at: usize,
    /// Where the statement begins.
    begin: usize,
    /// Whether it has nothing but spaces and comments.
    is_blank: bool,
}

impl Reader<'_> {
    /// The statement up to here, if there is one.
    fn take(&mut self) -> Option<String> {
        let statement = self.text[self.begin..self.at].trim();
        (!std::mem::replace(&mut self.is_blank, true)).then(|| statement.to_owned())
    }

    fn skip(&mut self, bytes: usize) {
        self.at += bytes;
        self.begin = self.at;
    }

    /// Passes what begins with a character.
    fn pass(&mut self, next: char) {
        let rest = &self.text[self.at..];
        let (length, is_blank) = match next {
            '\'' | '"' => (quoted(rest, next), false),
            '-' if rest.starts_with("--") => (rest.find('\n').unwrap_or(rest.len()), true),
            '/' if rest.starts_with("/*") => (comment(rest), true),
            '$' => (dollar_quoted(rest).unwrap_or(1), false),
            next => (next.len_utf8(), next.is_whitespace()),
        };
        self.at += length;
        self.is_blank &= is_blank;
    }
}

/// The length of what begins with a quote; a doubled quote stands for itself.
fn quoted(text: &str, quote: char) -> usize {
    text[1..].find(quote).map_or(text.len(), |end| end + 2)
}

/// The length of a comment, in which others may nest.
fn comment(text: &str) -> usize {
    let (mut depth, mut at) = (0, 0);
    while at < text.len() {
        let step = match &text.as_bytes()[at..] {
            [b'/', b'*', ..] => {
                depth += 1;
                2
            }
            [b'*', b'/', ..] => {
                depth -= 1;
                2
            }
            _ => 1,
        };
        at += step;
        if depth == 0 {
            return at;
        }
    }
    text.len()
}

/// The length of a text in dollar quotes, if it is one: `$1` is a parameter.
fn dollar_quoted(text: &str) -> Option<usize> {
    let name = text[1..].find('$')?;
    let tag = &text[..name + 2];
    let is_name = |(place, c): (usize, char)| c == '_' || c.is_alphabetic() || place > 0 && c.is_ascii_digit();
    if !text[1..=name].char_indices().all(is_name) {
        return None;
    }
    Some(text[tag.len()..].find(tag).map_or(text.len(), |end| end + 2 * tag.len()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, statements: &[&str], rest: Option<&str>) {
        let script = read(text);
        let items: Vec<Item> = statements.iter().map(|text| Item::Statement((*text).to_owned())).collect();
        assert_eq!(script, Script { items, rest: rest.map(str::to_owned) }, "{text}");
        assert_eq!(is_complete(text), rest.is_none(), "{text}");
    }

    #[test]
    fn statements_end_with_a_semicolon_outside_of_quotes_and_comments() {
        check("", &[], None);
        check(" \n-- nothing\n/* at /* all */ */ ;;", &[], None);
        check("SELECT 1", &[], Some("SELECT 1"));
        check("SELECT 1; SELECT 2 ;", &["SELECT 1", "SELECT 2"], None);
        check("SELECT ';' || ';''';\nSELECT \"a;\"", &["SELECT ';' || ';'''"], Some("SELECT \"a;\""));
        check("SELECT 1 -- not; yet\n+ 1;", &["SELECT 1 -- not; yet\n+ 1"], None);
        check("SELECT /* ; */ 1; -- done", &["SELECT /* ; */ 1"], None);
        check("SELECT $$;$$, $a$ ; $$ ; $a$, $1;", &["SELECT $$;$$, $a$ ; $$ ; $a$, $1"], None);
        check("SELECT $1 + $2; SELECT '", &["SELECT $1 + $2"], Some("SELECT '"));
        check("SELECT 'é;';", &["SELECT 'é;'"], None);
        check("SELECT /* not", &[], Some("SELECT /* not"));
        check("SELECT $x$ not", &[], Some("SELECT $x$ not"));
    }

    #[test]
    fn a_command_ends_with_its_line() {
        let command = |line: &str, pending: Option<&str>| Item::Command {
            line: line.to_owned(),
            pending: pending.map(str::to_owned),
        };
        let check = |text: &str, items: &[Item]| {
            assert_eq!(read(text), Script { items: items.to_vec(), rest: None }, "{text}");
        };
        check(r"\d metrics", &[command("d metrics", None)]);
        check(
            "\\x\n  \\timing on \nSELECT '\\d';",
            &[command("x", None), command("timing on", None), Item::Statement(r"SELECT '\d'".to_owned())],
        );
        check("SELECT 1\n\\watch 2", &[command("watch 2", Some("SELECT 1"))]);
        check("\\o a;b", &[command("o a;b", None)]);
    }
}
