//! Numbers and tables for people to read.

use std::time::Duration;

use comfy_table::{CellAlignment, Table, presets};

/// A measured number: five decimals where they say something.
pub fn figure(value: f64) -> String {
    match value.abs() {
        0.0 => "0".to_owned(),
        size if (1e-4..1e6).contains(&size) => format!("{value:.5}"),
        _ => format!("{value:.3e}"),
    }
}

/// A number that was given, in all its digits.
pub fn given(value: f64) -> String {
    let plain = value == 0.0 || (1e-4..1e6).contains(&value.abs());
    if plain { value.to_string() } else { format!("{value:e}") }
}

/// A measured number that may be missing.
pub fn optional(value: Option<f64>) -> String {
    value.map_or_else(|| "-".to_owned(), figure)
}

/// A time in the unit that suits it.
pub fn time(time: Duration) -> String {
    match time.as_secs_f64() {
        seconds if seconds < 1e-3 => format!("{:.1} us", seconds * 1e6),
        seconds if seconds < 1.0 => format!("{:.1} ms", seconds * 1e3),
        seconds => format!("{seconds:.2} s"),
    }
}

/// A number of things, such as `1 row` and `2 rows`, `2 batches`.
pub fn count(number: usize, thing: &str) -> String {
    let plural = if thing.ends_with("ch") { "es" } else { "s" };
    format!("{number} {thing}{}", if number == 1 { "" } else { plural })
}

/// A table whose columns are aligned to the right from the column `numbers` on.
pub fn table(header: &[&str], numbers: usize, rows: impl IntoIterator<Item = Vec<String>>) -> Table {
    let mut table = Table::new();
    table.load_style(presets::UTF8_FULL_CONDENSED).set_header(header).add_rows(rows);
    for column in table.column_iter_mut().skip(numbers) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    table
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_have_the_digits_that_matter() {
        assert_eq!([0.0, 0.02, -12.5, 3e-7, 1e9].map(figure), ["0", "0.02000", "-12.50000", "3.000e-7", "1.000e9"]);
        assert_eq!([0.0, 0.02, -3.5, 1e-12, 1e300].map(given), ["0", "0.02", "-3.5", "1e-12", "1e300"]);
        assert_eq!(
            [500, 5_000_000, 5_000_000_000].map(|n| time(Duration::from_nanos(n))),
            ["0.5 us", "5.0 ms", "5.00 s"]
        );
        assert_eq!((count(1, "row"), count(2, "row")), ("1 row".to_owned(), "2 rows".to_owned()));
        assert_eq!((count(1, "batch"), count(0, "batch")), ("1 batch".to_owned(), "0 batches".to_owned()));
    }
}
