//! Counts of rows and copies as text.

use std::fmt::Write;

use perennial_connect::migrate::Standing;

pub fn standing_text(standing: &Standing) -> String {
    let mut text = format!(
        "{} rows ({} without a vector), {} copies: {} missing, {} outdated, {} without a row\n",
        standing.rows,
        standing.without_vector,
        standing.copies,
        standing.missing,
        standing.changed,
        standing.orphaned
    );
    if standing.written_by_application > 0 {
        let _ = writeln!(
            text,
            "{} copies were written by the application",
            standing.written_by_application
        );
    }
    text
}
