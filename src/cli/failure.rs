//! Bad input and bad usage: one line on stderr, exit code 2.

use std::fmt::{self, Write};

use clap::error::{ContextKind, ContextValue};

/// What was wrong, and what to do about it.
#[derive(Debug)]
pub struct Failure(String);

pub type Result<T, E = Failure> = std::result::Result<T, E>;

impl Failure {
    pub fn new(message: impl Into<String>) -> Self {
        Self(message.into())
    }

    /// What clap found wrong with the arguments. Its usage text and closing hint are left to `--help`.
    pub fn usage(error: &clap::Error) -> Self {
        if let Some(ContextValue::String(command)) = error.get(ContextKind::InvalidSubcommand)
            && command == "train"
            && cfg!(not(feature = "tch"))
        {
            return Self("this program was built without the command train; build it with --features tch".to_owned());
        }
        let text = error.render().to_string();
        let told = text.lines().map(str::trim).take_while(|line| !line.starts_with("Usage:"));
        let told: Vec<&str> =
            told.filter(|line| !line.is_empty() && !line.starts_with("For more information")).collect();
        // A line that ends in a colon leads up to the next one.
        let message = told.join("; ").replace(":; ", ": ");
        Self(message.strip_prefix("error: ").unwrap_or(&message).to_owned())
    }
}

impl From<crate::Error> for Failure {
    fn from(error: crate::Error) -> Self {
        Self(error.to_string())
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("error: ")?;
        // A file or column name may hold a line break; the message is one line all the same.
        self.0
            .chars()
            .try_for_each(|c| if c.is_control() { write!(f, "{}", c.escape_default()) } else { f.write_char(c) })
    }
}

/// A text of the input, quoted and cut to a length that fits into a message.
pub fn quoted(text: &[u8]) -> String {
    const LONGEST: usize = 40;
    let text = String::from_utf8_lossy(text);
    let mut shown: String = text.chars().take(LONGEST).collect();
    if shown.len() < text.len() {
        shown.push_str("...");
    }
    format!("\"{shown}\"")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_is_one_line() {
        assert_eq!(Failure::new("a\nb\r\u{1b}c").to_string(), "error: a\\nb\\r\\u{1b}c");
    }

    #[test]
    fn long_texts_are_cut() {
        assert_eq!(quoted(b"abc"), "\"abc\"");
        assert_eq!(quoted("\u{e9}".repeat(50).as_bytes()), format!("\"{}...\"", "\u{e9}".repeat(40)));
    }
}
