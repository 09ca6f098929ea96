//! Numbers and names as the pages write them.

use std::fmt::{self, Display, Write};

/// What stands where there is no number.
const NOTHING: &str = "n/a";

/// A difference with its sign and this many decimals; what rounds to zero has no sign.
pub(super) struct Signed(pub f64, pub usize);

impl Display for Signed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let &Self(value, decimals) = self;
        if !value.is_finite() {
            return f.write_str(NOTHING);
        }
        let digits = format!("{:.decimals$}", value.abs());
        let zero = digits
            .chars()
            .all(|character| matches!(character, '0' | '.'));
        let sign = match value {
            _ if zero => "",
            value if value < 0.0 => "\u{2212}",
            _ => "+",
        };
        write!(f, "{sign}{digits}")
    }
}

/// A number with this many decimals and a sign only where it is negative.
pub(super) struct Plain(pub f64, pub usize);

impl Display for Plain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let &Self(value, decimals) = self;
        if !value.is_finite() {
            return f.write_str(NOTHING);
        }
        let text = Signed(value, decimals).to_string();
        f.write_str(text.trim_start_matches('+'))
    }
}

/// A number with four decimals, where there is one.
pub(super) fn plain(value: Option<f64>) -> String {
    value.map_or(NOTHING.to_owned(), |value| Plain(value, 4).to_string())
}

/// A difference with four decimals, where there is one.
pub(super) fn signed(value: Option<f64>) -> String {
    value.map_or(NOTHING.to_owned(), |value| Signed(value, 4).to_string())
}

/// A place in a drawing, to a tenth of its unit.
pub(super) struct At(pub f64);

impl Display for At {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:.1}", self.0)
    }
}

/// A count with thin spaces between groups of three digits.
pub(super) struct Grouped(pub usize);

impl Display for Grouped {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let digits = self.0.to_string();
        for (index, digit) in digits.chars().enumerate() {
            if index > 0 && (digits.len() - index).is_multiple_of(3) {
                f.write_char('\u{202f}')?;
            }
            f.write_char(digit)?;
        }
        Ok(())
    }
}

/// A duration in its two largest units, such as `2 h 5 min`.
pub(super) struct Duration(pub f64);

impl Display for Duration {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const UNITS: [(u64, &str); 4] = [(86_400, "d"), (3_600, "h"), (60, "min"), (1, "s")];
        let seconds = self.0;
        if !seconds.is_finite() || seconds < 0.0 {
            return f.write_str(NOTHING);
        }
        if seconds == 0.0 {
            return f.write_str("none");
        }
        if seconds < 0.9995 {
            return write!(f, "{:.3} s", seconds);
        }
        if seconds < 59.95 {
            return write!(f, "{:.1} s", seconds);
        }
        // A number beyond 64 bits becomes the largest one.
        let whole = seconds.round() as u64;
        let first = UNITS
            .iter()
            .position(|&(length, _)| whole >= length)
            .unwrap_or(UNITS.len() - 1);
        let (length, unit) = UNITS[first];
        write!(f, "{} {unit}", Grouped((whole / length) as usize))?;
        if let Some(&(smaller, unit)) = UNITS.get(first + 1) {
            let rest = whole % length / smaller;
            if rest > 0 {
                write!(f, " {rest} {unit}")?;
            }
        }
        Ok(())
    }
}

/// At most `length` characters of a name, the last one an ellipsis where something is missing.
pub(super) fn shortened(name: &str, length: usize) -> String {
    if name.chars().count() <= length {
        return name.to_owned();
    }
    name.chars()
        .take(length.saturating_sub(1))
        .chain(['\u{2026}'])
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_read_well() {
        assert_eq!(Signed(-0.01234, 3).to_string(), "\u{2212}0.012");
        assert_eq!(Signed(0.01234, 3).to_string(), "+0.012");
        assert_eq!(Signed(-0.00001, 3).to_string(), "0.000");
        assert_eq!(Plain(0.5, 2).to_string(), "0.50");
        assert_eq!(Plain(-0.5, 2).to_string(), "\u{2212}0.50");
        assert_eq!(Grouped(1_234_567).to_string(), "1\u{202f}234\u{202f}567");
        assert_eq!(Grouped(999).to_string(), "999");
    }

    #[test]
    fn what_is_no_number_says_so() {
        for value in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY] {
            assert_eq!(Signed(value, 2).to_string(), "n/a");
            assert_eq!(plain(Some(value)), "n/a");
            assert_eq!(Duration(value).to_string(), "n/a");
        }
        assert_eq!((plain(None), signed(None)), ("n/a".into(), "n/a".into()));
    }

    #[test]
    fn durations_have_two_units() {
        for (seconds, text) in [
            (0.0, "none"),
            (0.0123, "0.012 s"),
            (1.0, "1.0 s"),
            (59.96, "1 min"),
            (61.0, "1 min 1 s"),
            (7_500.0, "2 h 5 min"),
            (90_000.0, "1 d 1 h"),
            (-1.0, "n/a"),
        ] {
            assert_eq!(Duration(seconds).to_string(), text);
        }
        assert!(Duration(1e300).to_string().ends_with(" h"));
    }

    #[test]
    fn long_names_are_shortened_by_characters() {
        assert_eq!(shortened("größer", 6), "größer");
        assert_eq!(shortened("größer", 4), "grö\u{2026}");
    }
}
