//! Keeps the boundaries of the workspace: who may depend on whom, who may name what, and what may stand where.
//!
//! ARCHITECTURE.md says why; a boundary that has to move is moved here and there in one commit.

#![allow(clippy::unwrap_used, reason = "a test ends where something is not as it must be")]

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

/// The crates of the workspace, in the order of the path of an event, and those that each may know.
const EDGES: [(&str, &[&str]); 6] = [
    ("schemas", &[]),
    ("engine", &["schemas"]),
    ("sinks", &["schemas"]),
    ("queries", &["schemas", "engine"]),
    ("api", &["schemas", "engine", "sinks", "queries"]),
    ("bench", &["schemas", "engine", "sinks", "queries", "api"]),
];

/// Every entry of the top level; anything else is stray.
const TOP_LEVEL: [&str; 27] = [
    ".cargo",
    ".ci",
    ".dockerignore",
    ".editorconfig",
    ".gitignore",
    "ARCHITECTURE.md",
    "CHANGELOG.md",
    "CONTRIBUTING.md",
    "Cargo.lock",
    "Cargo.toml",
    "Dockerfile",
    "LICENSE",
    "Makefile",
    "README.md",
    "api",
    "bench",
    "clippy.toml",
    "dashboard",
    "docker-compose.yml",
    "docs",
    "engine",
    "examples",
    "queries",
    "rustfmt.toml",
    "schemas",
    "scripts",
    "sinks",
];

/// What tools leave behind; not part of the project, and ignored by git.
const LEFT_BEHIND: [&str; 10] =
    [".git", ".idea", ".vscode", "data", "dist", "node_modules", "target", "test-results", ".DS_Store", ".env"];

/// Files with a `fn main`. The one in `sinks` is the ClickHouse child on its own, which the crate's tests start.
const MAINS: [&str; 3] = ["api/src/main.rs", "bench/src/main.rs", "sinks/src/bin/streamgauge-clickhouse-child.rs"];

/// Names that say nothing about what a file is.
const VAGUE: [&str; 8] = ["utils", "util", "common", "helpers", "helper", "misc", "manager", "shared"];

fn root() -> PathBuf {
    Path::new("..").canonicalize().expect("tests run in the folder of their crate")
}

/// All files of the project below `folder`, as paths from the root, sorted.
fn files(folder: &str) -> Vec<String> {
    let mut found = Vec::new();
    let mut folders = vec![root().join(folder)];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).unwrap_or_else(|e| panic!("{}: {e}", folder.display())) {
            let path = entry.unwrap().path();
            let name = path.file_name().unwrap().to_string_lossy().into_owned();
            if path.is_dir() && (!LEFT_BEHIND.contains(&name.as_str()) || path.ends_with("examples/data")) {
                folders.push(path);
            } else if path.is_file() {
                found.push(path.strip_prefix(root()).unwrap().to_string_lossy().into_owned());
            }
        }
    }
    found.sort();
    found
}

fn with_ending(folder: &str, endings: &[&str]) -> Vec<String> {
    let ends = |file: &String| endings.iter().any(|ending| file.ends_with(ending));
    files(folder).into_iter().filter(ends).collect()
}

fn read(file: &str) -> String {
    fs::read_to_string(root().join(file)).unwrap_or_else(|e| panic!("{file}: {e}"))
}

/// The lines of a Rust file with their numbers, without comments that stand on their own line.
fn code(file: &str) -> Vec<(usize, String)> {
    let text = read(file);
    let lines = text.lines().enumerate().map(|(index, line)| (index + 1, line.to_owned()));
    lines.filter(|(_, line)| !line.trim_start().starts_with("//")).collect()
}

/// The dependencies that a crate's manifest names, for every platform. Those of tests are left out: a test may know
/// more, as those of `queries` do, which ask a real ClickHouse.
fn dependencies(folder: &str) -> BTreeSet<String> {
    fn gather(table: &toml::Table, names: &mut BTreeSet<String>) {
        for (key, value) in table {
            match value.as_table() {
                Some(_) if key == "dev-dependencies" => {}
                Some(inner) if key.ends_with("dependencies") => names.extend(inner.keys().cloned()),
                Some(inner) => gather(inner, names),
                None => {}
            }
        }
    }
    let manifest: toml::Table = read(&format!("{folder}/Cargo.toml")).parse().unwrap();
    let mut names = BTreeSet::new();
    gather(&manifest, &mut names);
    names
}

fn none(what: &str, found: Vec<String>) {
    assert!(found.is_empty(), "{what}:\n  {}", found.join("\n  "));
}

#[test]
fn crates_depend_along_the_path_only() {
    let manifest: toml::Table = read("Cargo.toml").parse().unwrap();
    let members: BTreeSet<&str> =
        manifest["workspace"]["members"].as_array().unwrap().iter().map(|member| member.as_str().unwrap()).collect();
    assert_eq!(members, EDGES.iter().map(|(folder, _)| *folder).collect(), "the members of the workspace");
    let mut wrong = Vec::new();
    for (folder, allowed) in EDGES {
        let crates =
            dependencies(folder).into_iter().filter_map(|name| name.strip_prefix("streamgauge-").map(str::to_owned));
        let refused = crates.filter(|name| !allowed.contains(&name.as_str()));
        wrong.extend(refused.map(|name| format!("{folder} depends on {name}")));
    }
    none("a crate knows another that it should not", wrong);
}

#[test]
fn a_crate_keeps_to_its_own_libraries() {
    let owners: [(&str, &[&str]); 6] = [
        ("timely", &["engine"]),
        ("differential-dataflow", &["engine"]),
        ("datafusion", &["queries"]),
        ("clickhouse", &["sinks"]),
        ("axum", &["api"]),
        ("libloading", &["sinks"]),
    ];
    let mut wrong = Vec::new();
    for (library, owners) in owners {
        let others = EDGES.iter().filter(|(folder, _)| *folder != "bench" && !owners.contains(folder));
        let naming = others.filter(|(folder, _)| dependencies(folder).contains(library));
        wrong.extend(
            naming.map(|(folder, _)| format!("{folder} depends on {library}, which is for {}", owners.join(", "))),
        );
    }
    let has_async = ["schemas", "engine"].into_iter().filter(|folder| dependencies(folder).contains("tokio"));
    wrong.extend(
        has_async.map(|folder| format!("{folder} depends on tokio, which never runs on a timely worker's thread")),
    );
    none("a library is used outside the crate that hides it", wrong);
}

#[test]
fn only_the_dataflow_names_timely_and_differential() {
    let may = |file: &str| file.starts_with("engine/src/dataflow/") || file == "engine/src/workers.rs";
    let mut wrong = Vec::new();
    for (folder, _) in EDGES {
        for file in with_ending(folder, &[".rs"]).into_iter().filter(|file| !may(file) && !file.ends_with("/tidy.rs")) {
            for (line, text) in code(&file) {
                if text.contains("timely::") || text.contains("differential_dataflow") {
                    wrong.push(format!("{file}:{line}: {}", text.trim()));
                }
            }
        }
    }
    none("timely or differential is named outside engine/src/dataflow/ and engine/src/workers.rs", wrong);
}

#[test]
fn the_dataflow_reads_no_clock_does_no_io_and_spawns_nothing() {
    let forbidden = [
        "SystemTime",
        "Instant",
        "wall_clock",
        "chrono",
        "std::fs",
        "std::io",
        "std::net",
        "std::env",
        "std::process",
        "thread::",
        "spawn(",
        "tokio",
        "sleep(",
        "rand::",
        "RandomState::new",
        "println!",
        "eprintln!",
    ];
    let mut wrong = Vec::new();
    for file in with_ending("engine/src/dataflow", &[".rs"]) {
        for (line, text) in code(&file) {
            let named = forbidden.iter().filter(|word| text.contains(**word));
            wrong.extend(named.map(|word| format!("{file}:{line}: {word}")));
        }
    }
    none("same log, same answer: the dataflow may not do this", wrong);
}

#[test]
fn only_programs_have_a_main() {
    let mut wrong = Vec::new();
    for (folder, _) in EDGES {
        for file in
            with_ending(&format!("{folder}/src"), &[".rs"]).into_iter().filter(|file| !MAINS.contains(&file.as_str()))
        {
            let begins =
                |line: &(usize, String)| line.1.starts_with("fn main(") || line.1.starts_with("async fn main(");
            wrong.extend(code(&file).iter().filter(|line| begins(line)).map(|(line, _)| format!("{file}:{line}")));
        }
    }
    none("a main outside the programs", wrong);
}

#[test]
fn the_top_level_holds_what_is_listed() {
    let entries = fs::read_dir(root()).unwrap().map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned());
    let stray = entries.filter(|name| !TOP_LEVEL.contains(&name.as_str()) && !LEFT_BEHIND.contains(&name.as_str()));
    none("stray files at the top level", stray.collect());
}

#[test]
fn files_are_named_after_what_they_do() {
    let is_vague = |file: &String| {
        let mut parts = file.split('/').map(|part| part.split('.').next().unwrap_or(part));
        parts.any(|part| VAGUE.contains(&part) || part.ends_with("_v2"))
    };
    let folders = EDGES.iter().map(|(folder, _)| *folder).chain(["dashboard/src", "scripts"]);
    none("a name that says nothing", folders.flat_map(files).filter(is_vague).collect());
}

#[test]
fn nothing_names_a_folder_of_somebodys_machine() {
    // Written in parts, so that this file does not name them either.
    let homes = [concat!("/ro", "ot/"), concat!("/ho", "me/"), concat!("/Us", "ers/")];
    let endings =
        [".rs", ".toml", ".md", ".sql", ".slt", ".ts", ".tsx", ".json", ".css", ".html", ".yml", ".sh", ".py"];
    let without_ending = |file: &String| !file.rsplit('/').next().unwrap_or(file).trim_start_matches('.').contains('.');
    let mut wrong = Vec::new();
    for file in
        files("").into_iter().filter(|file| without_ending(file) || endings.iter().any(|ending| file.ends_with(ending)))
    {
        let Ok(text) = fs::read_to_string(root().join(&file)) else { continue }; // not text
        for (index, line) in text.lines().enumerate() {
            if homes.iter().any(|home| line.contains(home)) {
                wrong.push(format!("{file}:{}: {}", index + 1, line.trim()));
            }
        }
    }
    none("a path of somebody's home folder", wrong);
}

#[test]
fn scripts_can_be_run_and_end_at_the_first_error() {
    use std::os::unix::fs::PermissionsExt;
    let mut wrong = Vec::new();
    for file in files("scripts").into_iter().chain([".ci/run".to_owned()]) {
        let text = read(&file);
        if fs::metadata(root().join(&file)).unwrap().permissions().mode() & 0o111 == 0 {
            wrong.push(format!("{file} is not executable"));
        }
        if text.starts_with("#!/usr/bin/env bash") && !text.contains("set -euo pipefail") {
            wrong.push(format!("{file} has no `set -euo pipefail`"));
        }
    }
    none("a script that is not ready to run", wrong);
}
