//! How deep a statement can nest, before it is parsed, and how deep an expression does, once it is planned.
//!
//! Parser, planner and evaluation descend into an expression by calls, and `a + a + a` is a tree as deep as it is long; the
//! parser's own bound does not see it. A thread whose stack is full ends the whole program.
//!
//! A tree has no more levels than there are tokens that can make one. So the tokens of a whole text are counted: whatever
//! the planner folds into one expression, such as subqueries of subqueries, it does not become deeper than that. The threads that
//! read such texts have room for it ([`threads`](crate::threads)). What is computed on other threads is measured as planned.

use datafusion::common::tree_node::{TreeNode, TreeNodeRecursion, TreeNodeVisitor};
use datafusion::error::DataFusionError;
use datafusion::logical_expr::Expr;
use datafusion::sql::sqlparser::dialect::GenericDialect;
use datafusion::sql::sqlparser::keywords::Keyword;
use datafusion::sql::sqlparser::tokenizer::{Token, Tokenizer};

/// How many operators, keywords and parentheses a text may have. Planning a tree takes time by the square of its depth, and
/// cannot be stopped.
pub(crate) const OPERATORS_MAX: usize = 5_000;
/// How deep an expression may be that is computed for every batch, or for every change of a view that is followed.
pub(crate) const DEPTH_MAX: usize = 500;
/// The longest text. Values in lists are not operators, and there may be many of them.
const TEXT_BYTES_MAX: usize = 16 << 20;

/// How many tokens of a text can make a level of a tree: all but names, values, and the commas after values.
fn operators(text: &str) -> usize {
    // What cannot be read is for the parser to refuse.
    let tokens = Tokenizer::new(&GenericDialect {}, text).tokenize().unwrap_or_default();
    let (mut count, mut after_value) = (0, false);
    for token in &tokens {
        let is_value = match token {
            Token::Whitespace(_) => continue,
            Token::Number(..) | Token::SingleQuotedString(_) => true,
            Token::Word(word) if word.keyword == Keyword::NoKeyword => false,
            Token::Period => false,
            Token::Comma if after_value => false,
            _ => {
                count += 1;
                false
            }
        };
        after_value = is_value;
    }
    count
}

/// What is said of a text that is too long, or can nest too deep; `None` of any other.
pub(crate) fn too_much(text: &str) -> Option<String> {
    if text.len() > TEXT_BYTES_MAX {
        return Some(format!("has {} bytes, and may have {TEXT_BYTES_MAX}; ask in parts", text.len()));
    }
    // A text has no more operators than bytes, and most texts are short.
    let operators = if text.len() <= OPERATORS_MAX { 0 } else { operators(text) };
    (operators > OPERATORS_MAX).then(|| {
        format!(
            "has {operators} operators, keywords and parentheses, and may have {OPERATORS_MAX}; use IN for many values"
        )
    })
}

/// How many levels an expression has.
///
/// # Errors
/// None of its own.
pub(crate) fn depth(expr: &Expr) -> Result<usize, DataFusionError> {
    #[derive(Default)]
    struct Depth {
        now: usize,
        most: usize,
    }
    impl<'n> TreeNodeVisitor<'n> for Depth {
        type Node = Expr;

        fn f_down(&mut self, _: &'n Expr) -> Result<TreeNodeRecursion, DataFusionError> {
            self.now += 1;
            self.most = self.most.max(self.now);
            Ok(TreeNodeRecursion::Continue)
        }

        fn f_up(&mut self, _: &'n Expr) -> Result<TreeNodeRecursion, DataFusionError> {
            self.now -= 1;
            Ok(TreeNodeRecursion::Continue)
        }
    }
    let mut depth = Depth::default();
    expr.visit(&mut depth)?;
    Ok(depth.most)
}

/// What is said of an expression that is too deep; `None` of any other.
///
/// # Errors
/// None of its own.
pub(crate) fn too_deep(expr: &Expr) -> Result<Option<String>, DataFusionError> {
    let depth = depth(expr)?;
    let reason = || format!("is {depth} operators deep, and may be {DEPTH_MAX}; use IN for many values, or CASE");
    Ok((depth > DEPTH_MAX).then(reason))
}

#[cfg(test)]
mod tests {
    use datafusion::logical_expr::{col, lit};

    use super::*;

    #[test]
    fn what_can_nest_is_counted_and_values_are_not() {
        for (text, least, most) in [
            (format!("SELECT {} FROM t", vec!["a"; 1_000].join(" + ")), 1_001, 1_001),
            (format!("SELECT {} FROM t", vec!["t.order"; 1_000].join(" + ")), 1_001, 2_001),
            (format!("SELECT 1 {}", "MEMBER OF(1)".repeat(1_000)), 4_000, 4_001),
            (format!("SELECT a{}", "[1]".repeat(1_000)), 2_001, 2_001),
            (format!("SELECT 1 FROM {}", vec!["t a"; 1_000].join(", ")), 1_001, 1_001),
            (format!("SELECT {}1{}", "(".repeat(700), ")".repeat(700)), 1_401, 1_401),
            (format!("SELECT 1{}", " UNION ALL SELECT 1".repeat(800)), 2_401, 2_401),
            (format!("SELECT a FROM t WHERE b IN ({})", vec!["1"; 10_000].join(", ")), 5, 10),
            (format!("SELECT a FROM t WHERE b IN ({})", vec!["'x'"; 10_000].join(", ")), 5, 10),
            ("SELECT 'unclosed".to_owned(), 0, 0),
        ] {
            let found = operators(&text);
            assert!((least..=most).contains(&found), "{found}: {}", &text[..text.len().min(60)]);
        }
        assert_eq!(too_much(&vec!["a"; 4_900].join("+")), None);
        assert!(too_much(&vec!["a"; 30_000].join("+")).unwrap().starts_with("has 29999 operators"));
        assert!(too_much(&"1,".repeat(TEXT_BYTES_MAX)).unwrap().contains("bytes"));
    }

    #[test]
    fn an_expression_is_as_deep_as_its_longest_branch() {
        let sum = |terms: usize| (1..terms).fold(col("a"), |sum, term| sum + lit(term as i64));
        assert_eq!((depth(&col("a")).unwrap(), depth(&sum(100)).unwrap()), (1, 100));
        assert_eq!(depth(&(sum(50).gt(sum(80)).or(sum(20).is_null()))).unwrap(), 82);
        assert_eq!(too_deep(&sum(DEPTH_MAX)).unwrap(), None);
        assert!(too_deep(&sum(DEPTH_MAX + 1)).unwrap().unwrap().contains("501 operators deep"));
    }
}
