//! The page in a real browser: starts the program and runs the dashboard's own tests against it.
//!
//! One of those tests wants the program restarted. Its command makes a file and waits until it is gone; meanwhile the
//! program is killed and started again here, so that this test keeps hold of it.

#![allow(clippy::unwrap_used, reason = "a test ends where something is not as it must be")]

mod support;

use std::path::{Path, PathBuf};
use std::process::{Output, Stdio};
use std::time::Duration;

use support::{DataDir, Program};

/// How long all of the dashboard's tests may take.
const TIMEOUT: Duration = Duration::from_secs(300);

#[tokio::test]
async fn the_page_works_in_chromium() {
    let dashboard = PathBuf::from("../dashboard");
    let modules = dashboard.join("node_modules/playwright-core");
    assert!(modules.is_dir(), "{} is missing; `make test` installs it", modules.display());
    let browser = browser()
        .expect("there is no chromium on the PATH, and STREAMGAUGE_BROWSER names none; `make test` installs it");
    let data = DataDir::new();
    let mut program = Program::start(&data).await;
    let address = program.client().address().to_owned();
    let asked = data.path().join("restart");
    let tests = tokio::process::Command::new("npm")
        .args(["run", "--silent", "e2e"])
        .current_dir(&dashboard)
        .env("STREAMGAUGE_URL", format!("http://{address}"))
        .env("STREAMGAUGE_BROWSER", browser)
        .env("STREAMGAUGE_RESTART", format!("touch '{0}'; while [ -e '{0}' ]; do sleep 0.05; done", asked.display()))
        .stdin(Stdio::null())
        .kill_on_drop(true)
        .output();
    let mut tests = std::pin::pin!(tokio::time::timeout(TIMEOUT, tests));
    let output = loop {
        tokio::select! {
            output = &mut tests => break output,
            () = is_there(&asked) => {
                program.kill();
                program = Program::start_at(&data, &address, &[]).await;
                std::fs::remove_file(&asked).unwrap();
            }
        }
    };
    let output: Output =
        output.unwrap_or_else(|_| panic!("not done after {TIMEOUT:?}")).expect("npm starts; install Node.js");
    let said = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
    assert!(output.status.success(), "{said}");
    drop(program);
}

async fn is_there(file: &Path) {
    while !file.exists() {
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// The browser: what `STREAMGAUGE_BROWSER` names, or else the first that is on the `PATH`.
fn browser() -> Option<PathBuf> {
    if let Some(named) = std::env::var_os("STREAMGAUGE_BROWSER") {
        return Some(named.into());
    }
    let path = std::env::var_os("PATH")?;
    let names = ["chromium", "chromium-browser", "google-chrome", "chrome"];
    let places = std::env::split_paths(&path).flat_map(|folder| names.map(|name| folder.join(name)));
    places.into_iter().find(|place| place.is_file())
}
