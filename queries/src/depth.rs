//! How deep a text nests, before it is parsed.
//!
//! Parser, planner and evaluation descend into an expression by calls, and `a + a + a` is a tree as deep as it is long; the
//! parser's own bound does not see it. A thread whose stack is full ends the whole program, so the depth is bounded here.

use datafusion::sql::sqlparser::dialect::GenericDialect;
use datafusion::sql::sqlparser::keywords::Keyword;
use datafusion::sql::sqlparser::tokenizer::{Token, Tokenizer};

/// What a question may nest, on the threads of this crate.
pub(crate) const QUESTION_MAX: usize = 2_000;
/// What a view may nest: it is planned on threads of the engine, too, whose stacks are smaller.
pub(crate) const VIEW_MAX: usize = 500;

/// An open parenthesis or `CASE`, or the text itself.
#[derive(Default)]
struct Level {
    /// Operators since the last comma or clause.
    operators: usize,
    /// Set operations and joins, which nest from clause to clause.
    relations: usize,
}

impl Level {
    fn depth(&self) -> usize {
        self.operators + self.relations
    }
}

/// About how deep a text nests, and never less; what cannot be read nests nothing, and is for the parser to refuse.
pub(crate) fn depth(text: &str) -> usize {
    let tokens = Tokenizer::new(&GenericDialect {}, text).tokenize().unwrap_or_default();
    let mut levels = vec![Level::default()];
    let (mut below, mut deepest) = (0, 0); // of the levels that are open around the last one
    for token in &tokens {
        let last = levels.len() - 1;
        let level = &mut levels[last];
        match token {
            Token::LParen | Token::LBracket | Token::LBrace => {
                below += level.depth() + 1;
                levels.push(Level::default());
            }
            Token::RParen | Token::RBracket | Token::RBrace => close(&mut levels, &mut below),
            Token::Comma | Token::SemiColon => level.operators = 0,
            Token::Whitespace(_) | Token::Period | Token::Number(..) | Token::SingleQuotedString(_) => {}
            Token::Word(word) => match word.keyword {
                Keyword::CASE => {
                    below += level.depth() + 1;
                    levels.push(Level::default());
                }
                Keyword::END => close(&mut levels, &mut below),
                Keyword::UNION | Keyword::EXCEPT | Keyword::INTERSECT | Keyword::JOIN => level.relations += 1,
                Keyword::SELECT | Keyword::FROM | Keyword::WHERE | Keyword::GROUP | Keyword::HAVING => {
                    level.operators = 0
                }
                Keyword::ORDER | Keyword::WHEN | Keyword::THEN | Keyword::ELSE | Keyword::ON => level.operators = 0,
                Keyword::AND | Keyword::OR | Keyword::XOR | Keyword::NOT | Keyword::IS => level.operators += 1,
                Keyword::IN | Keyword::BETWEEN | Keyword::LIKE | Keyword::ILIKE => level.operators += 1,
                Keyword::SIMILAR | Keyword::RLIKE | Keyword::REGEXP | Keyword::DIV => level.operators += 1,
                Keyword::COLLATE | Keyword::AT | Keyword::INTERVAL | Keyword::PRIOR => level.operators += 1,
                _ => {} // a name, or what does not nest; most words are keywords somewhere
            },
            _ => level.operators += 1,
        }
        deepest = deepest.max(below + levels.last().map_or(0, Level::depth));
    }
    deepest
}

fn close(levels: &mut Vec<Level>, below: &mut usize) {
    if levels.len() > 1 {
        levels.pop();
        *below -= levels.last().map_or(0, Level::depth) + 1;
    }
}

/// What is said of a text that nests deeper than `max`; `None` of one that does not.
pub(crate) fn too_deep(text: &str, max: usize) -> Option<String> {
    // A text nests no deeper than it is long, and most texts are short.
    let depth = if text.len() <= max { 0 } else { depth(text) };
    (depth > max).then(|| {
        format!("nests about {depth} operators deep, and may nest {max}; use IN for many values, or a subquery for each part")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_nests_is_counted_and_what_stands_side_by_side_is_not() {
        let sum = |terms: usize| vec!["a"; terms].join(" + ");
        for (text, least, most) in [
            (format!("SELECT {} FROM t", sum(1_000)), 999, 1_010),
            (format!("SELECT {} FROM t", vec![sum(10); 1_000].join(", ")), 9, 20),
            (format!("SELECT a FROM t WHERE b IN ({})", vec!["1"; 10_000].join(", ")), 2, 10),
            (format!("SELECT CASE {} END", "WHEN a = 1 THEN 2 ".repeat(1_000)), 2, 10),
            (format!("SELECT {}1{}", "(".repeat(700), ")".repeat(700)), 700, 710),
            (format!("SELECT {}1{}", "1 + (".repeat(700), ")".repeat(700)), 1_400, 1_410),
            (format!("SELECT {}1{}", "CASE WHEN a THEN 1 + ".repeat(300), " END".repeat(300)), 600, 610),
            (format!("SELECT (({})) + {}", sum(50), sum(20)), 50, 60),
            (format!("SELECT 1{}", " UNION ALL SELECT 1".repeat(800)), 800, 1_610),
            (format!("SELECT {}true", "NOT ".repeat(900)), 900, 910),
            ("SELECT ')' FROM t)))) END".to_owned(), 0, 5),
            ("SELECT 'unclosed".to_owned(), 0, 0),
            (format!("SELECT {} FROM t", vec!["value"; 1_000].join(" + ")), 999, 1_010),
        ] {
            let found = depth(&text);
            assert!((least..=most).contains(&found), "{found}: {}", &text[..text.len().min(60)]);
        }
        assert_eq!(too_deep(&sum(100), 500), None);
        assert!(too_deep(&sum(1_000), 500).unwrap().contains("nests about 999 operators deep, and may nest 500"));
    }
}
