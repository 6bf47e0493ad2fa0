//! Commands of the shell, which begin with `\`.

use std::path::PathBuf;
use std::time::Duration;

use clap::ValueEnum;

use super::Format;

/// A command.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Command {
    /// What a table is, or all there are.
    Describe(Option<String>),
    Streams,
    Views,
    Functions(Option<String>),
    Databases,
    Format(Option<Format>),
    /// Answers go to a file, or to the terminal again.
    Output(Option<PathBuf>),
    Include(PathBuf),
    /// A record a row; switched when it is not said.
    Expanded(Option<bool>),
    Timing(Option<bool>),
    /// Asks again and again.
    Watch(Duration),
    /// Asks once more.
    Again,
    Edit,
    Set(Option<(String, String)>),
    Unset(String),
    Connection,
    Help,
    Quit,
}

/// Names, what they take, what they do.
const COMMANDS: [(&str, &str, &str); 18] = [
    ("d", "[NAME]", "list streams and views, or describe one"),
    ("dt", "", "list streams"),
    ("dv", "", "list views"),
    ("df", "[PART]", "list functions, those whose name has PART"),
    ("l", "", "list databases"),
    ("format", "[NAME]", "table, csv, json, ndjson, markdown, arrow, parquet, xlsx"),
    ("x", "[on|off]", "show a record a row"),
    ("timing", "[on|off]", "say how long a statement took here and there"),
    ("o", "[FILE]", "write answers to FILE, or here again"),
    ("i", "FILE", "run the statements and commands of FILE"),
    ("g", "", "ask the statement before it, or the last one, again"),
    ("watch", "[SECONDS]", "ask it again and again, every 2 seconds by default, until Ctrl-C"),
    ("e", "", "edit it with $VISUAL or $EDITOR"),
    ("set", "[NAME VALUE]", "what every statement is asked with, as by SET; without a name, show all"),
    ("unset", "NAME", "no more"),
    ("conninfo", "", "where the server is"),
    ("?", "", "show this"),
    ("q", "", "end, as Ctrl-D does"),
];

/// The names of all commands, with their `\`.
pub(super) fn names() -> impl Iterator<Item = String> {
    COMMANDS.iter().map(|(name, ..)| format!("\\{name}"))
}

/// What all commands do.
pub(super) fn help() -> String {
    let mut text =
        String::from("A statement ends with ; and may have several lines. Tab completes, Ctrl-C cancels.\n\n");
    for (name, takes, does) in COMMANDS {
        text.push_str(&format!("  {:<30}{does}\n", format!("\\{name} {takes}")));
    }
    text
}

/// Reads a command, without its `\`.
///
/// # Errors
/// What is wrong with it, and what would be right.
pub(super) fn read(line: &str) -> Result<Command, String> {
    let (name, rest) = line.split_once(char::is_whitespace).unwrap_or((line, ""));
    let rest = rest.trim().trim_end_matches(';').trim_end();
    let word = (!rest.is_empty()).then(|| unquoted(rest));
    let missing = |what: &str| format!("\\{name} takes {what}");
    Ok(match name {
        "d" | "d+" => Command::Describe(word),
        "dt" => Command::Streams,
        "dv" | "dm" => Command::Views,
        "df" => Command::Functions(word),
        "l" => Command::Databases,
        "format" => Command::Format(word.map(|word| format(&word)).transpose()?),
        "x" => Command::Expanded(switch(name, word)?),
        "timing" => Command::Timing(switch(name, word)?),
        "o" => Command::Output(word.map(PathBuf::from)),
        "i" => Command::Include(word.ok_or_else(|| missing("the name of a file"))?.into()),
        "g" => Command::Again,
        "watch" => Command::Watch(match word {
            None => Duration::from_secs(2),
            Some(word) => seconds(&word).ok_or_else(|| missing("a number of seconds, from 0.1 on"))?,
        }),
        "e" => Command::Edit,
        "set" => Command::Set(match word.as_deref().map(|word| word.split_once(char::is_whitespace)) {
            None => None,
            Some(Some((name, value))) => Some((name.to_owned(), value.trim().to_owned())),
            Some(None) => return Err(missing("a name, such as epoch, and a value")),
        }),
        "unset" => Command::Unset(word.ok_or_else(|| missing("a name, such as epoch"))?),
        "conninfo" => Command::Connection,
        "?" | "h" | "help" => Command::Help,
        "q" | "quit" => Command::Quit,
        _ => return Err(format!("there is no command \\{name}; \\? lists what there is")),
    })
}

fn format(word: &str) -> Result<Format, String> {
    Format::from_str(word, true).map_err(|_| {
        let names: Vec<&str> = Format::value_variants().iter().map(|format| format.name()).collect();
        format!("{word:?} is none of the formats {}", names.join(", "))
    })
}

fn switch(name: &str, word: Option<String>) -> Result<Option<bool>, String> {
    match word.as_deref() {
        None => Ok(None),
        Some("on" | "true") => Ok(Some(true)),
        Some("off" | "false") => Ok(Some(false)),
        Some(_) => Err(format!("\\{name} takes on or off")),
    }
}

fn seconds(word: &str) -> Option<Duration> {
    let seconds: f64 = word.parse().ok()?;
    (0.1..=86_400.0).contains(&seconds).then(|| Duration::from_secs_f64(seconds))
}

/// A word as it was meant, with quotes or without.
fn unquoted(word: &str) -> String {
    for quote in ['\'', '"'] {
        if let Some(inner) = word.strip_prefix(quote).and_then(|word| word.strip_suffix(quote)) {
            return inner.replace(&format!("{quote}{quote}"), &quote.to_string());
        }
    }
    word.to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands_are_read_with_what_they_take() {
        for (line, expected) in [
            ("d", Command::Describe(None)),
            ("d  metrics ;", Command::Describe(Some("metrics".into()))),
            ("d \"My \"\"view\"", Command::Describe(Some("My \"view".into()))),
            ("format XLSX", Command::Format(Some(Format::Xlsx))),
            ("x", Command::Expanded(None)),
            ("timing off", Command::Timing(Some(false))),
            ("o 'a b.csv'", Command::Output(Some("a b.csv".into()))),
            ("o", Command::Output(None)),
            ("watch", Command::Watch(Duration::from_secs(2))),
            ("watch 0.5", Command::Watch(Duration::from_millis(500))),
            ("set epoch 5", Command::Set(Some(("epoch".into(), "5".into())))),
            ("?", Command::Help),
            ("q", Command::Quit),
        ] {
            assert_eq!(read(line), Ok(expected), "{line}");
        }
    }

    #[test]
    fn a_wrong_command_says_what_is_right() {
        for (line, says) in [
            ("z", "\\? lists"),
            ("", "\\? lists"),
            ("i", "\\i takes the name of a file"),
            ("x maybe", "on or off"),
            ("watch 0", "from 0.1 on"),
            ("watch soon", "seconds"),
            ("format pdf", "markdown"),
            ("set epoch", "a value"),
        ] {
            let error = read(line).unwrap_err();
            assert!(error.contains(says), "{line}: {error}");
        }
    }

    #[test]
    fn help_names_commands_that_there_are() {
        for name in names() {
            let read = read(&name[1..]);
            assert!(!read.is_err_and(|error| error.contains("there is no")), "{name}");
            assert!(help().contains(&name), "{name}");
        }
    }
}
