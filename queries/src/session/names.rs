//! Which name may have been meant.

/// The tables that `name` may have meant, or all of them.
pub(super) fn hint(name: &str, names: &[String]) -> String {
    let mut near: Vec<(usize, &String)> = names.iter().map(|other| (distance(name, other), other)).collect();
    near.sort();
    let close: Vec<&str> = near
        .iter()
        .filter(|(distance, _)| *distance <= name.len() / 3 + 1)
        .take(3)
        .map(|(_, name)| name.as_str())
        .collect();
    if close.is_empty() {
        let all: Vec<&str> = names.iter().take(20).map(String::as_str).collect();
        format!("there are {}", all.join(", "))
    } else {
        format!("did you mean {}?", close.join(" or "))
    }
}

/// How many letters to put in, take out or change to make `a` into `b` (Levenshtein).
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, from) in a.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, to) in b.iter().enumerate() {
            let changed = diagonal + usize::from(from != *to);
            diagonal = row[j + 1];
            row[j + 1] = changed.min(row[j] + 1).min(row[j + 1] + 1);
        }
    }
    row[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn near_names() {
        let names = ["metrics", "metrics_1s", "flights"].map(String::from);
        for (name, expected) in [
            ("metric", "did you mean metrics?"),
            ("flight", "did you mean flights?"),
            ("metrics_1x", "did you mean metrics_1s or metrics?"),
            ("zebra", "there are metrics, metrics_1s, flights"),
        ] {
            assert_eq!(hint(name, &names), expected);
        }
        assert_eq!((distance("kitten", "sitting"), distance("", "ab"), distance("ab", "")), (3, 2, 2));
    }
}
