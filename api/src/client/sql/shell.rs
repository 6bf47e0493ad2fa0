//! The shell in a terminal: prompt, run, and again, until Ctrl-D.

use super::line::{Editor, Line};
use super::session::Session;

const PROMPT: &str = "streamgauge> ";

/// Reads and runs until the user ends it; what fails is told, and does not end it.
pub(super) async fn run(mut session: Session) -> anyhow::Result<()> {
    let mut editor = Editor::new(session.names().clone())?;
    println!("streamgauge {} at {}; \\? for help", env!("CARGO_PKG_VERSION"), session.connection().url());
    while !session.is_over() {
        let connection = session.connection().clone();
        session.names().refresh(&connection).await;
        let initial = session.take_edited();
        session.at_prompt();
        let line = tokio::task::block_in_place(|| editor.read(PROMPT, &initial))?;
        session.width = editor.width();
        match line {
            Line::Text(text) => {
                if let Err(error) = session.run(&text).await {
                    eprintln!("error: {error:#}");
                }
            }
            Line::Cancelled => {}
            Line::End => break,
        }
    }
    Ok(())
}
