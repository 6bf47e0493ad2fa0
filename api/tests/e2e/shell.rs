//! `streamgauge sql`: in a real terminal, and for programs.

use std::path::Path;
use std::process::{Output, Stdio};
use std::time::{Duration, Instant};

use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::process::{Child, ChildStdin, ChildStdout, Command};

use crate::postgres::ENDLESS;
use crate::support::client::accepted;
use crate::support::program::PROGRAM;
use crate::support::{Client, DataDir, PATIENCE, Program, eventually};

const PROMPT: &str = "streamgauge> ";
/// A question that needs more memory than a megabyte.
const SORT: &str = "SELECT max(n) FROM (SELECT value, row_number() OVER (ORDER BY value DESC) AS n FROM generate_series(1, 3000000) AS s (value))";
const CTRL_C: &str = "\u{3}";
const CTRL_D: &str = "\u{4}";
const UP: &str = "\u{1b}[A";

/// The shell in a terminal of 40 lines and 80 columns, which `script` makes.
struct Terminal {
    child: Child,
    keys: ChildStdin,
    screen: ChildStdout,
    /// What was shown, without what moves the cursor, and how much of it was looked at.
    shown: String,
    seen: usize,
}

impl Terminal {
    async fn open(client: &Client, state: &Path) -> Self {
        let mut script = Command::new("script");
        script.args(["-qefc", &format!("stty rows 40 cols 80; exec {PROGRAM} sql"), "/dev/null"]);
        script.env("TERM", "xterm").env("XDG_STATE_HOME", state).env("EDITOR", "sed -i s/edited/changed/");
        script.env_remove("VISUAL").env("STREAMGAUGE_URL", format!("http://{}", client.address()));
        script.stdin(Stdio::piped()).stdout(Stdio::piped()).kill_on_drop(true);
        let mut child = script.spawn().expect("`script` of util-linux makes a terminal");
        let (keys, screen) = (child.stdin.take().unwrap(), child.stdout.take().unwrap());
        let mut terminal = Terminal { child, keys, screen, shown: String::new(), seen: 0 };
        terminal.until(PROMPT).await;
        terminal
    }

    /// Presses keys.
    async fn press(&mut self, keys: &str) {
        self.keys.write_all(keys.as_bytes()).await.unwrap();
    }

    /// Waits until a text is shown that was not looked at yet, and answers what was shown up to its end.
    #[track_caller]
    fn until(&mut self, text: &str) -> impl Future<Output = String> {
        let place = std::panic::Location::caller();
        async move {
            let began = Instant::now();
            loop {
                if let Some(at) = self.shown[self.seen..].find(text) {
                    let end = self.seen + at + text.len();
                    let shown = self.shown[self.seen..end].to_owned();
                    self.seen = end;
                    return shown;
                }
                let mut some = [0; 4_096];
                let left = PATIENCE.saturating_sub(began.elapsed());
                let read = tokio::time::timeout(left, self.screen.read(&mut some)).await;
                match read {
                    Ok(Ok(read)) if read > 0 => self.shown.push_str(&plain(&String::from_utf8_lossy(&some[..read]))),
                    _ => panic!("{place}: {text:?} is not shown:\n{}", &self.shown[self.seen..]),
                }
            }
        }
    }

    /// Runs a line, and answers what is shown up to the next prompt.
    #[track_caller]
    fn run(&mut self, line: &str) -> impl Future<Output = String> {
        let place = std::panic::Location::caller();
        let keys = format!("{line}\r");
        async move {
            self.press(&keys).await;
            self.until("\n").await; // the line itself is shown as it is typed
            let shown = self.until(PROMPT).await;
            assert!(!shown.is_empty(), "{place}");
            shown
        }
    }

    /// How the shell ended.
    async fn ended(mut self) -> Option<i32> {
        let status = tokio::time::timeout(PATIENCE, self.child.wait()).await.expect("the shell ends").unwrap();
        status.code()
    }
}

/// A text without what moves the cursor or colours.
fn plain(text: &str) -> String {
    let mut out = String::new();
    let mut characters = text.chars();
    while let Some(next) = characters.next() {
        match next {
            '\u{1b}' => {
                if characters.next() == Some('[') {
                    let _ = characters.by_ref().find(|c| c.is_ascii_alphabetic() || *c == '~');
                }
            }
            '\r' => {}
            other => out.push(other),
        }
    }
    out
}

async fn with_events(data: &DataDir) -> Program {
    let program = Program::start(data).await;
    let events = json!([{"name": "cpu", "value": 1.5, "dimensions": {"host": "a"}}, {"name": "日本", "value": -20}]);
    accepted(&program.client().post_json("/v1/metrics", &events).await, 2);
    program
}

#[track_caller]
fn has(shown: &str, parts: &[&str]) {
    for part in parts {
        assert!(shown.contains(part), "{part:?} is not in:\n{shown}");
    }
}

#[tokio::test]
async fn a_terminal_asks_browses_and_remembers() {
    let (data, state) = (DataDir::new(), tempfile::tempdir().unwrap());
    let program = with_events(&data).await;
    let mut terminal = Terminal::open(program.client(), state.path()).await;

    let shown = terminal.run("SELECT name, value FROM metrics ORDER BY name;").await;
    has(&shown, &["name  value\n", "───────────\n", "cpu     1.5\n", "日本  -20.0\n", "2 rows in ", ", epoch 1"]);

    // A statement of several lines is one entry of the history.
    terminal.press("SELECT 40 +\r").await;
    let shown = terminal.run("2 AS answer;").await;
    has(&shown, &["answer\n", "    42\n", "1 row"]);
    let shown = terminal.run("\\x").await;
    has(&shown, &["on"]);
    terminal.press(UP).await;
    terminal.press(UP).await;
    let shown = terminal.run("").await;
    has(&shown, &["─[ 1 ]", "answer  42\n"]);
    terminal.run("\\x off").await;

    // An error points at its place, and the shell goes on.
    let shown = terminal.run("SELECT value,\n  valu FROM metrics;").await;
    has(&shown, &["error: ", "LINE 2:   valu FROM metrics\n", "          ^\n"]);
    let shown = terminal.run("SELECT 1 FORM metrics x y;").await;
    has(&shown, &["error: ", "LINE 1: SELECT 1 FORM metrics x y\n", "^\n"]);

    has(&terminal.run("\\d").await, &["metrics     stream", "metrics_1m  view", "7"]);
    has(&terminal.run("\\d metrics").await, &["dimensions", "timestamp", "nullable"]);
    has(&terminal.run("\\d metrics_1m").await, &["bucket", "SELECT"]);
    has(&terminal.run("\\d nowhere").await, &["error: there is no stream or view \"nowhere\""]);
    has(&terminal.run("\\dt").await, &["rejects", "requests"]);
    has(&terminal.run("\\dv").await, &["metrics_1d"]);
    has(&terminal.run("\\df date_b").await, &["date_bin"]);
    has(&terminal.run("\\l").await, &["streamgauge"]);
    has(&terminal.run("\\?").await, &["\\watch [SECONDS]", "\\q"]);
    has(&terminal.run("\\nothing").await, &["error: there is no command \\nothing"]);

    // Wide tables are cut to the terminal, and say so.
    let columns: Vec<String> = (10..40).map(|n| format!("{n} AS column_{n}")).collect();
    let script = state.path().join("wide.sql");
    std::fs::write(&script, format!("SELECT {};", columns.join(", "))).unwrap();
    let shown = terminal.run(&format!("\\i {}", script.display())).await;
    has(&shown, &["column_10", "…\n", "columns are not shown, \\x shows all"]);
    assert!(shown.lines().filter(|line| line.contains("────")).all(|line| line.chars().count() <= 80), "{shown}");

    // To a file and back.
    let file = state.path().join("out.csv");
    terminal.run("\\format csv").await;
    terminal.run(&format!("\\o {}", file.display())).await;
    has(&terminal.run("SELECT 1 AS a;").await, &["4 bytes to ", "out.csv, epoch"]);
    terminal.run("\\o").await;
    assert_eq!(std::fs::read_to_string(&file).unwrap(), "a\n1\n");
    has(&terminal.run("\\format parquet").await, &[PROMPT]);
    has(&terminal.run("SELECT 1;").await, &["error: parquet is not for a terminal; name a file by \\o FILE"]);
    terminal.run("\\format table").await;

    let script = state.path().join("some.sql");
    std::fs::write(&script, "\\timing on\nSELECT 6 * 7 AS\n six;\n\\timing off\n").unwrap();
    has(&terminal.run(&format!("\\i {}", script.display())).await, &["timing: on", "six\n", " 42\n", "time: ", "off"]);
    has(&terminal.run("\\set epoch 5").await, &[PROMPT]);
    has(&terminal.run("\\set").await, &["streamgauge.epoch 5", "streamgauge.partial false", "statement_timeout 0"]);
    has(&terminal.run("SET streamgauge.epoch = 'soon';").await, &["error: epoch is a whole number"]);
    terminal.run("\\unset epoch").await;
    // What is set holds for the statements after it, and the place of an error is that of the statement.
    has(&terminal.run("SET streamgauge.rows_max = 2;").await, &[PROMPT]);
    has(&terminal.run("SELECT value,\n  valu FROM metrics;").await, &["LINE 2:   valu FROM metrics\n", "Line: 2,"]);
    has(&terminal.run("SELECT * FROM generate_series(1, 3);").await, &["error: ", "query_rows_exceeded"]);
    has(&terminal.run("\\set rows_max many").await, &["error: ", "streamgauge.rows_max must be set to a whole number"]);
    has(&terminal.run("SHOW streamgauge.rows_max;").await, &["streamgauge.rows_max\n", "2\n"]);
    has(&terminal.run("\\unset rows_max").await, &[PROMPT]);
    has(&terminal.run("SELECT * FROM generate_series(1, 3);").await, &["3 rows"]);

    // The editor changes a statement, which then stands at the prompt.
    terminal.run("SELECT 'edited' AS what;").await;
    terminal.press("\\e\r").await;
    terminal.until("SELECT 'changed' AS what").await;
    has(&terminal.run(";").await, &["changed\n"]);

    terminal.press("SELECT 7 * 6 AS again \\watch 0.1\r").await;
    for _ in 0..3 {
        terminal.until("   42\n").await;
    }
    terminal.press(CTRL_C).await;
    terminal.until(PROMPT).await;
    terminal.press(CTRL_D).await;
    assert_eq!(terminal.ended().await, Some(0));

    // Another shell has the history, also of several lines; only its owner can read it.
    let kept = state.path().join("streamgauge/sql_history");
    let mode = std::os::unix::fs::PermissionsExt::mode(&std::fs::metadata(&kept).unwrap().permissions());
    assert_eq!(mode & 0o077, 0, "{mode:o}");
    let mut terminal = Terminal::open(program.client(), state.path()).await;
    terminal.press("\u{12}answer").await; // Ctrl-R searches
    terminal.until("SELECT 40 +").await;
    terminal.press("\r").await;
    terminal.until("    42\n").await;
    terminal.until(PROMPT).await;
    terminal.press("\\q\r").await;
    assert_eq!(terminal.ended().await, Some(0));
}

#[tokio::test]
async fn tab_completes_what_the_server_has() {
    let (data, state) = (DataDir::new(), tempfile::tempdir().unwrap());
    let program = with_events(&data).await;
    let mut terminal = Terminal::open(program.client(), state.path()).await;
    for (typed, completed) in [
        ("SELECT count(*) FROM metrics_1\t", "metrics_1"),
        ("SELECT dimen\t", "SELECT dimensions"),
        ("SELECT date_tr\t", "date_trunc("),
        ("sele\t", "select"),
        ("DESCRIBE reje\t", "DESCRIBE rejects"),
        ("\\form\t", "\\format"),
    ] {
        terminal.press(typed).await;
        terminal.until(completed).await;
        terminal.press(CTRL_C).await;
        terminal.until(PROMPT).await;
    }
    // Several are listed, and a view that was made a moment ago is among them.
    let view = "CREATE MATERIALIZED VIEW metrics_of_hosts AS SELECT dimensions['host'] AS host, count(*) AS n \
         FROM metrics GROUP BY dimensions['host'];";
    has(&terminal.run(view).await, &["1 row"]);
    terminal.press("SELECT * FROM metrics_\t\t").await;
    terminal.until("metrics_1d").await;
    let shown = terminal.until(PROMPT).await;
    has(&shown, &["metrics_1h", "metrics_1m", "metrics_1s", "metrics_of_hosts"]);
    let question = json!({"sql": "SELECT * FROM metrics_of_hosts"});
    eventually("the view is back-filled", 200, async || {
        program.client().post_json("/api/v1/sql", &question).await.status
    })
    .await;
    terminal.press("of\t;\r").await;
    terminal.until(", epoch ").await;
    terminal.until(PROMPT).await;
    terminal.press(CTRL_D).await;
    assert_eq!(terminal.ended().await, Some(0));
}

/// How long the process has computed, all its threads together.
fn computed(process: u32) -> Duration {
    let stat = std::fs::read_to_string(format!("/proc/{process}/stat")).unwrap();
    let fields: Vec<&str> = stat.rsplit_once(") ").unwrap().1.split(' ').collect();
    let ticks: u64 = fields[11].parse::<u64>().unwrap() + fields[12].parse::<u64>().unwrap();
    Duration::from_millis(ticks * 10)
}

/// Whether the process computes for most of a moment.
async fn is_busy(process: u32) -> bool {
    let (before, moment) = (computed(process), Duration::from_millis(400));
    tokio::time::sleep(moment).await; // what is measured is a rate
    computed(process) - before > moment / 2
}

#[tokio::test]
async fn ctrl_c_ends_a_statement_and_its_work() {
    let (data, state) = (DataDir::new(), tempfile::tempdir().unwrap());
    let program = Program::start(&data).await;
    let mut terminal = Terminal::open(program.client(), state.path()).await;
    terminal.press("SELECT 1 + \r").await;
    terminal.press(CTRL_C).await; // while a statement is written, it is dropped
    terminal.until(PROMPT).await;

    // In a file, so that the line ends where it is typed: from then on the terminal makes a signal of Ctrl-C.
    let script = state.path().join("long");
    let long = "SELECT count(*) FROM generate_series(1, 1000000) a (value), generate_series(1, 1000000) b (value) \
         WHERE (a.value * b.value) % 7 = 3;";
    std::fs::write(&script, long).unwrap();
    let long = format!("\\i {}\r", script.display());
    terminal.press(&long).await;
    eventually("the server computes", true, || is_busy(program.id())).await;
    let began = Instant::now();
    terminal.press(CTRL_C).await;
    terminal.until("error: cancelled").await;
    terminal.until(PROMPT).await;
    assert!(began.elapsed() < Duration::from_secs(5), "{:?}", began.elapsed());
    eventually("the server computes no more", false, || is_busy(program.id())).await;
    assert!(began.elapsed() < Duration::from_secs(30), "its bound would have ended it: {:?}", began.elapsed());

    // At once is early enough, too, and the shell goes on.
    for _ in 0..5 {
        terminal.press(&long).await;
        terminal.until("\n").await;
        terminal.press(CTRL_C).await;
        terminal.until(PROMPT).await;
    }
    has(&terminal.run("SELECT 6 * 7 AS n;").await, &["42\n"]);
    terminal.press(CTRL_D).await;
    assert_eq!(terminal.ended().await, Some(0));
}

/// Runs the command as a program does, with a text as its input.
async fn sql(client: &Client, arguments: &[&str], input: &str) -> Output {
    let mut command = Command::new(PROGRAM);
    command.arg("sql").args(arguments).env("STREAMGAUGE_URL", format!("http://{}", client.address()));
    let mut child =
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true).spawn().unwrap();
    let mut to = child.stdin.take().unwrap();
    let _ = to.write_all(input.as_bytes()).await; // it may not read it
    drop(to);
    tokio::time::timeout(PATIENCE, child.wait_with_output()).await.expect("it ends").unwrap()
}

fn out(output: &Output) -> &str {
    std::str::from_utf8(&output.stdout).unwrap()
}

fn err(output: &Output) -> &str {
    std::str::from_utf8(&output.stderr).unwrap()
}

#[tokio::test]
async fn programs_get_rows_and_exit_codes() {
    let (data, folder) = (DataDir::new(), tempfile::tempdir().unwrap());
    let program = with_events(&data).await;
    let client = program.client();
    for (arguments, input, expected) in [
        (vec!["SELECT 1 AS a"], "", "a\n─\n1\n"),
        (vec!["-c", "SELECT 1 AS a;", "-c", "SELECT 2 AS b"], "", "a\n─\n1\nb\n─\n2\n"),
        (vec![], "SELECT 1 AS a; -- and\n\\format csv\nSELECT 2 AS b", "a\n─\n1\nb\n2\n"),
        (vec!["-f", "-", "--format", "csv"], "SELECT name FROM metrics ORDER BY 1", "name\ncpu\n日本\n"),
        (vec!["--format", "ndjson", "SELECT 1 AS a"], "", "{\"a\":1}\n"),
        (vec!["--format", "markdown", "SELECT 'x|y' AS a, 1 AS b"], "", "| a | b |\n| --- | ---: |\n| x\\|y | 1 |\n"),
        (vec!["SET streamgauge.epoch = 1; SELECT 1 AS a; \\q SELECT"], "", "a\n─\n1\n"),
        (
            vec!["--format", "csv", "SET statement_timeout = '5s'; SHOW statement_timeout"],
            "",
            "statement_timeout\n5s\n",
        ),
        (
            vec!["--format", "csv", "-c", "SET streamgauge.rows_max TO 3; RESET ALL", "-c", "SHOW ALL"],
            "",
            "name,setting\nstreamgauge.epoch,0\nstreamgauge.partial,false\nstreamgauge.pushdown,true\n\
             statement_timeout,0\nstreamgauge.memory_bytes_max,0\nstreamgauge.rows_max,0\n",
        ),
    ] {
        let output = sql(client, &arguments, input).await;
        assert!(output.status.success(), "{arguments:?}: {}", err(&output));
        assert_eq!(out(&output), expected, "{arguments:?}");
    }

    // After what fails nothing runs, and the code says so.
    let output = sql(client, &["-c", "SELECT 1 AS a;\nSELECT nothing\nFROM metrics; SELECT 2 AS b"], "").await;
    assert_eq!((output.status.code(), out(&output)), (Some(1), "a\n─\n1\n"));
    has(err(&output), &["error: ", "(sql_invalid)", "LINE 1: SELECT nothing\n", "               ^"]);
    for (arguments, code, says) in [
        (vec![""], 1, "there is no statement"),
        (vec!["-f", "/nowhere.sql"], 1, "cannot read /nowhere.sql"),
        (vec!["--format", "pdf"], 2, "possible values"),
        (vec!["--url", "http://127.0.0.1:9", "SELECT 1"], 1, "no connection to"),
        (vec!["SET streamgauge.epoch = 99999999999999999; SELECT 1"], 1, "epoch_not_reached"),
        (vec!["SET statement_timeout = '100ms'; SET streamgauge.rows_max = 9", "-c", ENDLESS], 1, "longer than 100ms"),
        (vec!["SET streamgauge.memory_bytes_max = 1000000;", "-c", SORT], 1, "streamgauge.memory_bytes_max was set"),
        (vec!["SET statement_timeout = soon; SELECT 1"], 1, "statement_timeout must be set to a time"),
        (vec!["SET no_such_thing = 1"], 1, "setting_unknown"),
        (vec!["RESET no_such_thing"], 1, "there is no setting \"no_such_thing\"; there are streamgauge.epoch"),
        (vec!["SET LOCAL statement_timeout = 1"], 1, "(sql_invalid)"),
    ] {
        let output = sql(client, &arguments, "").await;
        assert_eq!(output.status.code(), Some(code), "{arguments:?}: {}", err(&output));
        has(err(&output), &[says]);
    }

    // A question that ClickHouse has a part in is asked without push-down when that is set.
    for (set, pushed) in [("", true), ("SET streamgauge.pushdown = false; ", false)] {
        let explain = format!("{set}EXPLAIN SELECT name, count(*) FROM metrics GROUP BY name");
        let output = sql(client, &[&explain], "").await;
        assert!(output.status.success(), "{}", err(&output));
        assert_eq!(out(&output).contains("ClickHouseExec"), pushed, "{}", out(&output));
    }

    // Files: whole answers, and none of one that broke off.
    for format in ["parquet", "xlsx", "arrow", "json", "csv"] {
        let file = folder.path().join(format!("answer.{format}"));
        let file = file.to_str().unwrap();
        let output = sql(client, &["--format", format, "-o", file, "SELECT name, value FROM metrics"], "").await;
        assert!(output.status.success() && out(&output).is_empty(), "{}", err(&output));
        has(err(&output), &[" bytes to ", ", epoch "]);
        let written = std::fs::read(file).unwrap();
        match format {
            "parquet" => assert!(written.starts_with(b"PAR1") && written.ends_with(b"PAR1")),
            "xlsx" => assert!(written.starts_with(b"PK")),
            _ => assert!(!written.is_empty()),
        }
    }
    let file = folder.path().join("broken.csv");
    let fails = "SELECT value, 1 / (400000 - value) AS part FROM generate_series(1, 400000) AS s (value)";
    let output = sql(client, &["--format", "csv", "-o", file.to_str().unwrap(), fails], "").await;
    assert_eq!(output.status.code(), Some(1), "{}", err(&output));
    has(err(&output), &["the answer broke off; it is not whole"]);
    assert_eq!(std::fs::metadata(&file).unwrap().len(), 0);
    let two = "SELECT 1; SELECT 2";
    let output = sql(client, &["--format", "parquet", "-o", file.to_str().unwrap(), two], "").await;
    assert_eq!(output.status.code(), Some(1));
    has(err(&output), &["has an answer, after which none may come"]);
}

#[tokio::test]
async fn a_signal_ends_a_command_with_its_code() {
    let data = DataDir::new();
    let program = Program::start(&data).await;
    let long = "SELECT count(*) FROM generate_series(1, 1000000) a (value), generate_series(1, 1000000) b (value) WHERE a.value < b.value";
    let mut command = Command::new(PROGRAM);
    command.args(["sql", long]).env("STREAMGAUGE_URL", format!("http://{}", program.client().address()));
    let mut child = command.stdin(Stdio::null()).stdout(Stdio::piped()).kill_on_drop(true).spawn().unwrap();
    eventually("the server computes", true, || is_busy(program.id())).await;
    crate::support::program::signal("INT", child.id().unwrap());
    let status = tokio::time::timeout(PATIENCE, child.wait()).await.expect("it ends").unwrap();
    assert_eq!(status.code(), Some(130));
    eventually("the server computes no more", false, || is_busy(program.id())).await;
}
