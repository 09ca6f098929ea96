//! The section of a document that a benchmark writes: the lines between two marks.

use std::path::Path;

use perennial_core::{read_at_most, write_atomically};

use crate::exit_status::usage;

/// Far above the size of any document.
const MAX_BYTES: u64 = 64 << 20;

/// The first and the last line of a benchmark's section.
fn marks(name: &str) -> [String; 2] {
    ["begin", "end"].map(|end| format!("<!-- perennial bench compatibility, {name}: {end} -->"))
}

/// Replaces what stands between a benchmark's marks in a document.
///
/// # Errors
/// Wrong usage that names the file: marks that are missing, appear twice or stand in the wrong order.
pub fn write(path: &Path, name: &str, content: &str) -> anyhow::Result<()> {
    let bytes = read_at_most(path, MAX_BYTES)?;
    let text = String::from_utf8(bytes)
        .map_err(|_| usage(format!("{} is not UTF-8 text", path.display())))?;
    let new = replace(&text, name, content)
        .map_err(|problem| usage(format!("{}: {problem}", path.display())))?;
    if new != text {
        write_atomically(path, new)?;
    }
    Ok(())
}

fn replace(text: &str, name: &str, content: &str) -> Result<String, String> {
    let [begin, end] = marks(name);
    let lines: Vec<&str> = text.lines().collect();
    let place = |mark: &str| {
        let mut places = (0..lines.len()).filter(|&line| lines[line].trim() == mark);
        match (places.next(), places.next()) {
            (Some(place), None) => Ok(place),
            (None, _) => Err(format!(
                "there is no line `{mark}`; put `{begin}` and `{end}` where the section is to stand"
            )),
            (Some(_), Some(_)) => Err(format!("the line `{mark}` is there twice; keep one")),
        }
    };
    let (first, last) = (place(&begin)?, place(&end)?);
    if last < first {
        return Err(format!("`{end}` stands before `{begin}`"));
    }
    let mut new: Vec<&str> = lines[..=first].to_vec();
    new.push("");
    new.extend(content.trim_end().lines());
    new.push("");
    new.extend(&lines[last..]);
    let mut new = new.join("\n");
    new.push('\n');
    Ok(new)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_stands_between_the_marks_changes() {
        let [begin, end] = marks("cpu");
        let before = format!("# A\n\n{begin}\nold\n{end}\n\nafter\n");
        let after = replace(&before, "cpu", "new\nlines\n").unwrap();
        assert_eq!(
            after,
            format!("# A\n\n{begin}\n\nnew\nlines\n\n{end}\n\nafter\n")
        );
        assert_eq!(replace(&after, "cpu", "new\nlines\n").unwrap(), after);
    }

    #[test]
    fn missing_repeated_and_swapped_marks_are_refused() {
        let [begin, end] = marks("cpu");
        for (text, expected) in [
            (String::new(), "there is no line"),
            (format!("{begin}\n"), "there is no line"),
            (format!("{begin}\n{begin}\n{end}\n"), "twice"),
            (format!("{end}\n{begin}\n"), "stands before"),
            (marks("other").join("\n"), "there is no line"),
        ] {
            let problem = replace(&text, "cpu", "x").unwrap_err();
            assert!(problem.contains(expected), "{text}: {problem}");
        }
    }
}
