//! The text of statements, as far as the protocol has to understand it: where one ends, and its words.
//!
//! Texts, names in quotes, `$tag$ … $tag$` and comments are passed over whole. What a statement means is not here.

/// A word of a statement, or a sign.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Word<'a> {
    /// A name or key word as it is written.
    Plain(&'a str),
    /// A name in double quotes, or a text in single ones, without them.
    Quoted(String),
    /// Anything else, a character a word.
    Sign(char),
}

impl Word<'_> {
    /// Whether it is this key word or sign.
    pub(crate) fn is(&self, expected: &str) -> bool {
        match self {
            Word::Plain(word) => word.eq_ignore_ascii_case(expected),
            Word::Sign(sign) => expected.chars().eq([*sign]),
            Word::Quoted(_) => false,
        }
    }

    /// Its text.
    pub(crate) fn text(&self) -> String {
        match self {
            Word::Plain(word) => (*word).to_owned(),
            Word::Quoted(text) => text.clone(),
            Word::Sign(sign) => sign.to_string(),
        }
    }

    /// A name: small letters unless it is in quotes.
    pub(crate) fn name(&self) -> String {
        match self {
            Word::Plain(word) => word.to_lowercase(),
            other => other.text(),
        }
    }
}

/// The statements of a text, without the semicolons between them; those that are empty are left out.
pub(super) fn statements(text: &str) -> Vec<&str> {
    let mut found = Vec::new();
    let mut start = 0;
    let mut at = 0;
    while at < text.len() {
        let end = piece(text, at);
        if &text[at..end] == ";" {
            found.push(&text[start..at]);
            start = end;
        }
        at = end;
    }
    found.push(&text[start..]);
    found.retain(|statement| !words(statement, 1).is_empty());
    found
}

/// The first words of a statement.
pub(crate) fn words(statement: &str, most: usize) -> Vec<Word<'_>> {
    located(statement, most).into_iter().map(|(word, _)| word).collect()
}

/// The first words of a statement, each with where it ends.
pub(super) fn located(statement: &str, most: usize) -> Vec<(Word<'_>, usize)> {
    let mut found = Vec::new();
    let mut at = 0;
    while at < statement.len() && found.len() < most {
        let end = piece(statement, at);
        let text = &statement[at..end];
        at = end;
        let first = text.chars().next().unwrap_or(' ');
        let word = if first.is_whitespace() || text.starts_with("--") || text.starts_with("/*") {
            continue;
        } else if matches!(first, 'e' | 'E') && text[1..].starts_with('\'') {
            Word::Quoted(unescaped(text[2..].strip_suffix('\'').unwrap_or(&text[2..])))
        } else if is_name(first) {
            Word::Plain(text)
        } else {
            match first {
                '\'' | '"' => {
                    let quote = first.to_string();
                    let inner = text[1..].strip_suffix(first).unwrap_or(&text[1..]);
                    Word::Quoted(inner.replace(&quote.repeat(2), &quote))
                }
                '$' if text.len() > 1 => Word::Quoted(text.to_owned()),
                sign => Word::Sign(sign),
            }
        };
        found.push((word, end));
    }
    found
}

fn is_name(c: char) -> bool {
    c.is_alphanumeric() || c == '_' || c == '.'
}

/// Where the piece that begins at `at` ends: a text, a comment, a word, a run of blanks or a sign.
fn piece(text: &str, at: usize) -> usize {
    let rest = &text[at..];
    let first = rest.chars().next().unwrap_or(' ');
    let length = match first {
        '\'' => quoted(rest, '\'', false),
        '"' => quoted(rest, '"', false),
        _ if rest.starts_with("--") => rest.find('\n').unwrap_or(rest.len()),
        _ if rest.starts_with("/*") => comment(rest),
        '$' => dollars(rest).unwrap_or(1),
        'e' | 'E' if rest[1..].starts_with('\'') => 1 + quoted(&rest[1..], '\'', true),
        c if is_name(c) => rest.find(|c: char| !is_name(c) && c != '$').unwrap_or(rest.len()),
        c if c.is_whitespace() => rest.find(|c: char| !c.is_whitespace()).unwrap_or(rest.len()),
        c => c.len_utf8(),
    };
    at + length
}

fn quoted(text: &str, quote: char, escapes: bool) -> usize {
    let mut characters = text.char_indices().skip(1).peekable();
    while let Some((place, character)) = characters.next() {
        if escapes && character == '\\' {
            characters.next();
        } else if character == quote {
            match characters.peek() {
                Some((_, next)) if *next == quote => {
                    characters.next();
                }
                _ => return place + quote.len_utf8(),
            }
        }
    }
    text.len()
}

/// The text within `E'…'`.
fn unescaped(text: &str) -> String {
    let mut made = String::with_capacity(text.len());
    let mut characters = text.chars().peekable();
    while let Some(character) = characters.next() {
        match (character, characters.peek()) {
            ('\'', Some('\'')) => made.extend(characters.next()),
            ('\\', Some(_)) => {
                let escape = characters.next();
                let code = |digits: String| u32::from_str_radix(&digits, 16).ok().and_then(char::from_u32);
                made.extend(match escape {
                    Some('b') => Some('\u{8}'),
                    Some('f') => Some('\u{c}'),
                    Some('n') => Some('\n'),
                    Some('r') => Some('\r'),
                    Some('t') => Some('\t'),
                    Some('x') => {
                        let digits = std::iter::from_fn(|| characters.next_if(char::is_ascii_hexdigit)).take(2);
                        code(digits.collect())
                    }
                    other => other,
                });
            }
            (other, _) => made.push(other),
        }
    }
    made
}

fn comment(text: &str) -> usize {
    let (mut depth, mut at) = (0_usize, 0);
    while at < text.len() {
        let rest = &text[at..];
        if rest.starts_with("/*") {
            depth += 1;
            at += 2;
        } else if rest.starts_with("*/") {
            depth -= 1;
            at += 2;
            if depth == 0 {
                return at;
            }
        } else {
            at += rest.chars().next().map_or(1, char::len_utf8);
        }
    }
    text.len()
}

/// The length of `$tag$ … $tag$`; `None` of a parameter such as `$1`, or a lonely sign.
fn dollars(text: &str) -> Option<usize> {
    let end = 1 + text[1..].find('$')?;
    let tag = &text[1..end];
    let named = tag.chars().all(|c| c.is_alphanumeric() || c == '_') && !tag.starts_with(|c: char| c.is_ascii_digit());
    if !named {
        return None;
    }
    let opening = &text[..=end];
    Some(text[end + 1..].find(opening).map_or(text.len(), |close| end + 1 + close + opening.len()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn statements_end_at_semicolons_that_are_their_own() {
        for (text, expected) in [
            ("SELECT 1", vec!["SELECT 1"]),
            ("SELECT 1; SELECT 2;", vec!["SELECT 1", " SELECT 2"]),
            (";;\n-- nothing;\n;", vec![]),
            ("SELECT ';', \";\", 'it''s;'; x", vec!["SELECT ';', \";\", 'it''s;'", " x"]),
            ("SELECT E'\\';'; x", vec!["SELECT E'\\';'", " x"]),
            ("SELECT a$b$ FROM t; x", vec!["SELECT a$b$ FROM t", " x"]),
            ("SELECT $$;$$, $a$;$$;$a$, $1; x", vec!["SELECT $$;$$, $a$;$$;$a$, $1", " x"]),
            ("a /* ; /* ; */ ; */ b; c -- ;\n;", vec!["a /* ; /* ; */ ; */ b", " c -- ;\n"]),
            ("SELECT 'é;", vec!["SELECT 'é;"]),
        ] {
            assert_eq!(statements(text), expected, "{text}");
        }
    }

    #[test]
    fn words_of_a_statement() {
        let found = words("/* x */ set  Streamgauge.epoch = 'a''b', \"C\" -1", 9);
        assert_eq!(
            found,
            [
                Word::Plain("set"),
                Word::Plain("Streamgauge.epoch"),
                Word::Sign('='),
                Word::Quoted("a'b".into()),
                Word::Sign(','),
                Word::Quoted("C".into()),
                Word::Sign('-'),
                Word::Plain("1"),
            ]
        );
        assert!(found[0].is("SET") && found[2].is("=") && !found[3].is("a'b"));
        let escaped = words(r"E'a\tb\\\'''\x41' e", 9);
        assert_eq!(escaped, [Word::Quoted("a\tb\\''A".into()), Word::Plain("e")]);
        assert_eq!((found[1].name(), found[5].name()), ("streamgauge.epoch".to_owned(), "C".to_owned()));
    }
}
