//! PostgreSQL's patterns of times, such as `YYYY-MM-DD HH24:MI:SS.US`, as those that DataFusion's functions take.
//!
//! Source: PostgreSQL's documentation, "Data Type Formatting Functions", table of template patterns for date and time.

/// What stands in a pattern, and what it is here; longer ones before those that they begin with.
const FIELDS: [(&str, &str); 19] = [
    ("YYYY", "%Y"),
    ("IYYY", "%G"),
    ("HH24", "%H"),
    ("HH12", "%I"),
    ("DDD", "%j"),
    ("Mon", "%b"),
    ("YY", "%y"),
    ("HH", "%I"),
    ("MI", "%M"),
    ("MM", "%m"),
    ("DD", "%d"),
    ("ID", "%u"),
    ("IW", "%V"),
    ("SS", "%S"),
    ("MS", "%3f"),
    ("US", "%6f"),
    ("Dy", "%a"),
    ("AM", "%p"),
    ("PM", "%p"),
];

/// Fields that begin as others do, and are not known.
const OTHERS: [&str; 3] = ["IDDD", "SSSS", "TZ"];
/// Fields whose letters also say how names are written; in another case they mean another thing.
const NAMES: [&str; 2] = ["Mon", "Dy"];

/// The pattern in the other form; `None` when it is in that form already, or has a field that is not known there.
///
/// To read a time, an hour needs its minute and one of twelve its half of the day: without, it would be read as midnight.
pub(super) fn translated(pattern: &str, reads: bool) -> Option<String> {
    let (mut rest, mut made, mut fields) = (pattern, String::new(), 0);
    while let Some(first) = rest.chars().next() {
        if OTHERS.iter().any(|other| rest.get(..other.len()).is_some_and(|start| start.eq_ignore_ascii_case(other))) {
            return None;
        }
        let field = FIELDS.iter().find(|(name, _)| match NAMES.contains(name) {
            true => rest.starts_with(name),
            false => rest.get(..name.len()).is_some_and(|start| start.eq_ignore_ascii_case(name)),
        });
        if let Some((name, here)) = field {
            // Of the halves of the day the case of the field is that of the text.
            made.push_str(if *here == "%p" && first.is_lowercase() { "%P" } else { here });
            rest = &rest[name.len()..];
            fields += 1;
        } else if first == '"' {
            let (text, after) = rest[1..].split_once('"')?;
            made.push_str(&text.replace('%', "%%"));
            rest = after;
        } else if first == '%' || (first.is_alphabetic() && !matches!(first, 'T' | 'Z')) {
            return None;
        } else {
            made.push(first);
            rest = &rest[first.len_utf8()..];
        }
    }
    let has = |field: &str| made.contains(field);
    let is_whole = !reads || ((!has("%I") || has("%p") || has("%P")) && (!(has("%H") || has("%I")) || has("%M")));
    (fields > 0 && is_whole).then_some(made)
}

#[cfg(test)]
mod tests {
    use super::translated;

    #[test]
    fn patterns_of_times_are_written_in_the_other_form() {
        for (pattern, expected) in [
            ("YYYY-MM-DD HH24:MI:SS.US", Some("%Y-%m-%d %H:%M:%S.%6f")),
            ("yyyy-mm-dd\"T\"hh24:mi:ss.ms", Some("%Y-%m-%dT%H:%M:%S.%3f")),
            ("YYYY-MM-DDTHH24:MI:SSZ", Some("%Y-%m-%dT%H:%M:%SZ")),
            ("DD Mon YYYY, HH12:MI AM", Some("%d %b %Y, %I:%M %p")),
            ("hh12:mi am", Some("%I:%M %P")),
            ("IYYY-IW-ID DDD \"100%\"", Some("%G-%V-%u %j 100%%")),
            ("%Y-%m-%d", None),
            ("MON", None),
            ("YYYY-MM-DD HH24", None),
            ("YYYY-MM-DD HH:MI", None),
            ("SSSS", None),
            ("TZ", None),
            ("FMDay", None),
            ("\"open", None),
            ("--", None),
            ("", None),
        ] {
            assert_eq!(translated(pattern, true).as_deref(), expected, "{pattern}");
        }
    }
}
