//! Rows as they are compared: texts that name a row, and numbers.

use std::collections::BTreeMap;

use anyhow::{Context, ensure};
use streamgauge_schemas::Summary;

/// How far a sum may be off, relative to itself: the order of adding is not fixed.
const SUM_TOLERANCE: f64 = 1e-9;
/// Differences that are listed.
const LISTED_MAX: usize = 10;

/// Rows by their names. A row that is there twice has its numbers twice.
#[derive(Debug, Default)]
pub(crate) struct Table(BTreeMap<Vec<String>, Vec<f64>>);

impl Table {
    /// A table of count, sum, least and greatest.
    pub(crate) fn of_states(rows: impl Iterator<Item = (Vec<String>, Summary)>) -> Self {
        Table::of_rows(rows.map(|(name, state)| (name, vec![state.count as f64, state.sum, state.min, state.max])))
    }

    /// A table of any numbers.
    pub(crate) fn of_rows(rows: impl Iterator<Item = (Vec<String>, Vec<f64>)>) -> Self {
        let mut table = Table::default();
        rows.for_each(|(name, numbers)| table.0.entry(name).or_default().extend(numbers));
        table
    }

    /// Reads CSV: so many columns name a row, and the others are numbers. (CSV, because a float is read exactly.)
    pub(crate) fn read(csv: &[u8], header: bool, names: usize) -> anyhow::Result<Self> {
        let mut rows = Table::default();
        for record in csv::ReaderBuilder::new().has_headers(header).from_reader(csv).into_records() {
            let record = record?;
            ensure!(record.len() > names, "a row of {} columns: {record:?}", record.len());
            let number = |text: &str| text.parse::<f64>().with_context(|| format!("{text:?} in {record:?}"));
            let numbers = record.iter().skip(names).map(number).collect::<anyhow::Result<Vec<f64>>>()?;
            rows.0.entry(record.iter().take(names).map(str::to_owned).collect()).or_default().extend(numbers);
        }
        Ok(rows)
    }

    /// The rows.
    pub(crate) fn rows(&self) -> impl Iterator<Item = (&[String], &[f64])> {
        self.0.iter().map(|(name, numbers)| (name.as_slice(), numbers.as_slice()))
    }

    /// Where this table is not as expected, the first of it; the numbers at the places `sums` may be off a little.
    pub(crate) fn differences(&self, what: &str, expected: &Table, sums: &[usize]) -> Vec<String> {
        let mut found = Vec::new();
        let mut note = |name: &[String], found_there: Option<&Vec<f64>>, expected: Option<&Vec<f64>>| {
            found.push(format!("{what} {}: found {found_there:?}, expected {expected:?}", name.join(" ")));
        };
        for (name, numbers) in &expected.0 {
            let there = self.0.get(name);
            if !there.is_some_and(|there| agree(there, numbers, sums)) {
                note(name, there, Some(numbers));
            }
        }
        for (name, numbers) in self.0.iter().filter(|(name, _)| !expected.0.contains_key(*name)) {
            note(name, Some(numbers), None);
        }
        let all = found.len();
        found.truncate(LISTED_MAX);
        if all > LISTED_MAX {
            found.push(format!("{what}: {} more, of {} rows", all - LISTED_MAX, expected.0.len()));
        }
        found
    }
}

fn agree(found: &[f64], expected: &[f64], sums: &[usize]) -> bool {
    let close = |(place, (found, expected)): (usize, (&f64, &f64))| {
        let tolerance = if sums.contains(&place) { SUM_TOLERANCE * expected.abs() } else { 0.0 };
        (found - expected).abs() <= tolerance
    };
    found.len() == expected.len() && found.iter().zip(expected).enumerate().all(close)
}

#[test]
fn differences_are_found() {
    let table = |csv: &str| Table::read(csv.as_bytes(), true, 1).unwrap();
    let expected = table("name,count,sum\na,1,10\nb,2,20\nc,3,30\n");
    let check = |found: &str, says: &[&str]| {
        let differences = table(found).differences("t", &expected, &[1]);
        assert_eq!(differences.len(), says.len(), "{differences:?}");
        for (difference, says) in differences.iter().zip(says) {
            assert!(difference.contains(says), "{difference}");
        }
    };
    check("name,count,sum\na,1,10\nb,2,20.000000001\nc,3,30\n", &[]);
    check("name,count,sum\na,1,10\nb,2,20.001\nc,3,30\n", &["t b: found Some([2.0, 20.001])"]);
    check("name,count,sum\na,2,10\nb,2,20\nc,3,30\n", &["t a"]);
    check(
        "name,count,sum\na,1,10\nc,3,30\nd,4,40\n",
        &["t b: found None", "t d: found Some([4.0, 40.0]), expected None"],
    );
    check("name,count,sum\na,1,10\na,1,10\nb,2,20\nc,3,30\n", &["t a: found Some([1.0, 10.0, 1.0, 10.0])"]);
}
