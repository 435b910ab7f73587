//! `fairlayer devices`: what can be used here, and why the others cannot.

use super::failure::Result;
use super::figures::table;
use super::{Ending, say};

/// Runs the command.
pub fn run() -> Result<Ending> {
    let rows = crate::devices().into_iter().map(|device| {
        let (usable, detail) = match device.usable {
            Ok(detail) => ("yes", detail),
            Err(why_not) => ("no", why_not),
        };
        vec![device.kind.to_owned(), usable.to_owned(), device.name, detail]
    });
    say(&table(&["--device", "usable", "device", "detail"], usize::MAX, rows));
    Ok(Ending::Done)
}
