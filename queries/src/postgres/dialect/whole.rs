//! `TABLE t`, of which the parser would read no more than three words: it becomes `SELECT * FROM t`, word by word.

use datafusion::sql::sqlparser::keywords::Keyword;
use datafusion::sql::sqlparser::tokenizer::{Token, TokenWithSpan, Word};

/// What a question stands after, besides the beginning of a text.
const BEFORE: [Keyword; 8] = [
    Keyword::UNION,
    Keyword::EXCEPT,
    Keyword::INTERSECT,
    Keyword::ALL,
    Keyword::DISTINCT,
    Keyword::EXPLAIN,
    Keyword::ANALYZE,
    Keyword::VERBOSE,
];
/// What comes after a table, besides the end of a text.
const AFTER: [Keyword; 7] = [
    Keyword::ORDER,
    Keyword::LIMIT,
    Keyword::OFFSET,
    Keyword::FETCH,
    Keyword::UNION,
    Keyword::EXCEPT,
    Keyword::INTERSECT,
];

/// The words of a text, with those of `SELECT * FROM` for each such `TABLE`.
pub(crate) fn spelled_out(tokens: Vec<TokenWithSpan>) -> Vec<TokenWithSpan> {
    let places: Vec<usize> =
        (0..tokens.len()).filter(|place| !matches!(tokens[*place].token, Token::Whitespace(_))).collect();
    let words: Vec<&Token> = places.iter().map(|place| &tokens[*place].token).collect();
    let found: Vec<usize> =
        (0..words.len()).filter(|place| is_question(&words, *place)).map(|place| places[place]).collect();
    if found.is_empty() {
        return tokens;
    }
    let mut found = found.into_iter().peekable();
    let mut spelled = Vec::with_capacity(tokens.len());
    for (place, token) in tokens.into_iter().enumerate() {
        if found.next_if_eq(&place).is_none() {
            spelled.push(token);
            continue;
        }
        for word in [Token::make_keyword("SELECT"), Token::Mul, Token::make_keyword("FROM")] {
            spelled.push(TokenWithSpan::new(word, token.span));
        }
    }
    spelled
}

/// Whether a question begins at a word: `TABLE`, a name, and then the end or what may follow a question.
fn is_question(words: &[&Token], place: usize) -> bool {
    if !is_one_of(words[place], &[Keyword::TABLE]) {
        return false;
    }
    let begins = match place.checked_sub(1).map(|before| words[before]) {
        None | Some(Token::SemiColon | Token::LParen | Token::RParen) => true,
        Some(before) => is_one_of(before, &BEFORE),
    };
    let mut rest = words[place + 1..].iter().copied();
    let mut is_named = matches!(rest.next(), Some(Token::Word(_)));
    let mut after = rest.next();
    while after == Some(&Token::Period) {
        is_named &= matches!(rest.next(), Some(Token::Word(_)));
        after = rest.next();
    }
    begins
        && is_named
        && match after {
            None | Some(Token::SemiColon | Token::RParen) => true,
            Some(after) => is_one_of(after, &AFTER),
        }
}

fn is_one_of(token: &Token, keywords: &[Keyword]) -> bool {
    matches!(token, Token::Word(Word { quote_style: None, keyword, .. }) if keywords.contains(keyword))
}

#[cfg(test)]
mod tests {
    use datafusion::sql::sqlparser::dialect::GenericDialect;
    use datafusion::sql::sqlparser::tokenizer::Tokenizer;

    use super::*;

    #[test]
    fn a_whole_table_is_selected() {
        for (sql, expected) in [
            ("TABLE t", "SELECT*FROM t"),
            (" table public.\"T\" ;", " SELECT*FROM public.\"T\" ;"),
            ("SET x = 1; TABLE t", "SET x = 1; SELECT*FROM t"),
            ("TABLE t ORDER BY a LIMIT 5", "SELECT*FROM t ORDER BY a LIMIT 5"),
            ("TABLE a UNION ALL TABLE b", "SELECT*FROM a UNION ALL SELECT*FROM b"),
            ("WITH a AS (TABLE t) TABLE a", "WITH a AS (SELECT*FROM t) SELECT*FROM a"),
            ("EXPLAIN TABLE metrics", "EXPLAIN SELECT*FROM metrics"),
            ("TABLE t WHERE a", "TABLE t WHERE a"),
            ("DROP TABLE t", "DROP TABLE t"),
            ("SELECT table, (table), \"table\" FROM t", "SELECT table, (table), \"table\" FROM t"),
            ("SELECT (table IS NULL) FROM t", "SELECT (table IS NULL) FROM t"),
            ("SELECT * FROM TABLE(f(x))", "SELECT * FROM TABLE(f(x))"),
            ("SELECT 1 FROM (SELECT 2) table LIMIT 1", "SELECT 1 FROM (SELECT 2) table LIMIT 1"),
        ] {
            let tokens = Tokenizer::new(&GenericDialect {}, sql).tokenize_with_location().expect(sql);
            let spelled: String = spelled_out(tokens).iter().map(|word| word.token.to_string()).collect();
            assert_eq!(spelled, expected, "{sql}");
        }
    }
}
