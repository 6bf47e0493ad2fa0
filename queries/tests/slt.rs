//! `.slt` suites: each question of `slt/*.slt` is asked of the same rows in memory only, in history only, and across the
//! seam, and of DataFusion alone over the same rows. All of them must say what the file says.
//!
//! What is answered must have the columns that a question is said to have before it is asked.
//!
//! `UPDATE_SLT=1` writes the answers of DataFusion alone into the files, never ours; `SLT=name` runs one file. A record
//! under `onlyif datafusion` is the same question in the words that DataFusion has.

#![allow(clippy::unwrap_used, reason = "a test ends where something is not as it must be")]

#[path = "slt/answers.rs"]
mod answers;
#[path = "slt/places.rs"]
mod places;
mod support;

use std::path::{Path, PathBuf};

use answers::Asker;
use places::places;
use sqllogictest::{MakeConnection, Runner};

type Connection = std::future::Ready<Result<Asker, answers::Failure>>;

fn folder() -> PathBuf {
    PathBuf::from("tests/slt")
}

fn files() -> Vec<PathBuf> {
    let chosen = std::env::var("SLT").ok();
    let paths = std::fs::read_dir(folder()).unwrap().map(|entry| entry.unwrap().path());
    let is_chosen = |path: &PathBuf| {
        let name = path.file_stem().unwrap();
        path.extension().is_some_and(|kind| kind == "slt") && chosen.as_ref().is_none_or(|chosen| name == &**chosen)
    };
    let mut paths: Vec<PathBuf> = paths.filter(is_chosen).collect();
    paths.sort();
    assert!(!paths.is_empty(), "no suite named {chosen:?} in {}", folder().display());
    paths
}

fn runner(asker: &Asker) -> Runner<Asker, impl MakeConnection<Conn = Asker, MakeFuture = Connection>> {
    let asker = asker.clone();
    let label = asker.place;
    let mut runner = Runner::new(move || std::future::ready(Ok(asker.clone())));
    runner.with_column_validator(sqllogictest::strict_column_validator);
    runner.add_label(label);
    runner
}

/// What is not as the file says, a text for each record.
async fn differences(asker: &Asker, path: &Path) -> Vec<String> {
    let mut runner = runner(asker);
    let mut found = Vec::new();
    for record in sqllogictest::parse_file(path).unwrap() {
        if let Err(error) = runner.run_async(record).await {
            found.push(format!("in {}: {error}", asker.place));
        }
    }
    found
}

#[test]
fn every_place_gives_the_same_answers() {
    support::run(async {
        let (places, plain) = places("slt").await;
        let mut found = Vec::new();
        for path in files() {
            if std::env::var_os("UPDATE_SLT").is_some() {
                let (validator, normalizer) = (sqllogictest::default_validator, sqllogictest::default_normalizer);
                let columns = sqllogictest::strict_column_validator;
                runner(&plain).update_test_file(&path, " ", validator, normalizer, columns).await.unwrap();
            }
            for asker in std::iter::once(&plain).chain(places.iter().map(|(asker, _)| asker)) {
                found.extend(differences(asker, &path).await);
            }
        }
        assert!(found.is_empty(), "{} differences\n\n{}", found.len(), found.join("\n\n"));
    });
}

/// The rows are where the places say: a suite that reads memory everywhere would prove nothing.
#[test]
fn the_rows_are_where_they_should_be() {
    support::run(async {
        let (places, _) = places("slt_where").await;
        for (asker, world) in &places {
            for table in places::STREAMS {
                let partial = streamgauge_queries::AskOptions { partial: true, ..Default::default() };
                let count = format!("SELECT count(*) FROM {table}");
                let all: usize = world.rows(&count).await.unwrap()[0].parse().unwrap();
                *world.weather.lock() = support::Weather::Away;
                let answer = world.answer_as(&count, streamgauge_queries::Format::Csv, partial).await.unwrap();
                *world.weather.lock() = support::Weather::Fine;
                let in_memory: usize = answer.lines().nth(1).unwrap().parse().unwrap();
                match asker.place {
                    "memory" => assert_eq!(in_memory, all, "{table}"),
                    "history" | "flushed" => assert_eq!(in_memory, 0, "{table}"),
                    _ => assert!(0 < in_memory && in_memory < all, "{in_memory} of {all} of {table}"),
                }
            }
        }
    });
}

/// The examples of `docs/sql.md`, each with the answer that stands under it.
#[test]
fn the_documentation_is_true() {
    support::run(async {
        let (places, _) = places("slt_documentation").await;
        let path = PathBuf::from("../docs/sql.md");
        let text = std::fs::read_to_string(path).unwrap();
        let examples: Vec<&str> = text.split("```sql\n").skip(1).collect();
        assert!(examples.len() >= 8, "{} examples", examples.len());
        for example in examples {
            let (sql, rest) = example.split_once("```\n").unwrap();
            let answer = rest.strip_prefix("```text\n").and_then(|rest| rest.split_once("```")).expect(sql).0;
            let words = |line: &str| line.split_whitespace().map(str::to_owned).collect::<Vec<String>>();
            let wanted: Vec<Vec<String>> = answer.lines().map(words).collect();
            for (asker, _) in &places {
                assert_eq!(asker.rows(sql).await.unwrap(), wanted, "{sql} in {}", asker.place);
            }
        }
    });
}
