//! A line of the terminal: edited, completed, and kept in a history. What edits is rustyline, which nothing else names.
//!
//! A statement is one entry of the history, also of several lines. The file is
//! `$XDG_STATE_HOME/streamgauge/sql_history`, readable by its owner only, and bounded.

use std::fs::DirBuilder;
use std::os::unix::fs::DirBuilderExt;
use std::path::PathBuf;

use rustyline::completion::{Completer, FilenameCompleter, Pair};
use rustyline::error::ReadlineError;
use rustyline::highlight::Highlighter;
use rustyline::hint::Hinter;
use rustyline::history::FileHistory;
use rustyline::validate::{ValidationContext, ValidationResult, Validator};
use rustyline::{CompletionType, Config, Context, Helper, Result};

use super::complete::{self, Offer};
use super::names::KnownNames;
use super::script;

/// Entries of the history.
const HISTORY_MAX: usize = 2_000;

/// What came of a prompt.
pub(super) enum Line {
    Text(String),
    /// Ctrl-C.
    Cancelled,
    /// Ctrl-D.
    End,
}

/// A terminal with a history.
pub(super) struct Editor {
    editor: rustyline::Editor<Assistant, FileHistory>,
    history: Option<PathBuf>,
}

impl Editor {
    /// # Errors
    /// When there is no terminal.
    pub(super) fn new(names: KnownNames) -> anyhow::Result<Self> {
        let config = Config::builder()
            .max_history_size(HISTORY_MAX)?
            .history_ignore_space(true)
            .completion_type(CompletionType::List)
            .bracketed_paste(true)
            .build();
        let mut editor = rustyline::Editor::with_history(config.clone(), FileHistory::with_config(&config))?;
        editor.set_helper(Some(Assistant { names, files: FilenameCompleter::new() }));
        let history = history_file();
        if let Some(file) = history.as_ref().filter(|file| file.exists())
            && let Err(error) = editor.load_history(file)
        {
            eprintln!("the history in {} cannot be read: {error}", file.display());
        }
        Ok(Editor { editor, history })
    }

    /// Reads until what is written is complete; `initial` is there to be edited.
    pub(super) fn read(&mut self, prompt: &str, initial: &str) -> anyhow::Result<Line> {
        let text = match self.editor.readline_with_initial(prompt, (initial, "")) {
            Ok(text) => text,
            Err(ReadlineError::Interrupted) => return Ok(Line::Cancelled),
            Err(ReadlineError::Eof) => return Ok(Line::End),
            Err(error) => return Err(error.into()),
        };
        if !text.trim().is_empty() && self.editor.add_history_entry(text.trim())? {
            self.keep();
        }
        Ok(Line::Text(text))
    }

    /// Columns of the terminal.
    pub(super) fn width(&mut self) -> Option<usize> {
        self.editor.dimensions().map(|(columns, _)| usize::from(columns)).filter(|columns| *columns > 0)
    }

    /// Adds what is new to the file; other shells may do so at the same time.
    fn keep(&mut self) {
        let Some(file) = &self.history else { return };
        let folder =
            file.parent().map_or(Ok(()), |folder| DirBuilder::new().recursive(true).mode(0o700).create(folder));
        let kept = folder.map_err(ReadlineError::from).and_then(|()| self.editor.append_history(file));
        if let Err(error) = kept {
            eprintln!("the history is not kept: {}: {error}", file.display());
            self.history = None;
        }
    }
}

fn history_file() -> Option<PathBuf> {
    let folder = |name: &str| std::env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute());
    let state = folder("XDG_STATE_HOME").or_else(|| folder("HOME").map(|home| home.join(".local/state")))?;
    Some(state.join("streamgauge/sql_history"))
}

/// Completes, and knows when a statement is at its end.
struct Assistant {
    names: KnownNames,
    files: FilenameCompleter,
}

impl Helper for Assistant {}
impl Highlighter for Assistant {}

impl Hinter for Assistant {
    type Hint = String;
}

impl Validator for Assistant {
    fn validate(&self, context: &mut ValidationContext<'_>) -> Result<ValidationResult> {
        Ok(match script::is_complete(context.input()) {
            true => ValidationResult::Valid(None),
            false => ValidationResult::Incomplete,
        })
    }
}

impl Completer for Assistant {
    type Candidate = Pair;

    fn complete(&self, line: &str, at: usize, context: &Context<'_>) -> Result<(usize, Vec<Pair>)> {
        match complete::offers(line, at, &self.names.get()) {
            Offer::Files => self.files.complete(line, at, context),
            Offer::Words(begin, words) => {
                let pair = |word: String| Pair { display: word.clone(), replacement: word };
                Ok((begin, words.into_iter().map(pair).collect()))
            }
        }
    }
}
