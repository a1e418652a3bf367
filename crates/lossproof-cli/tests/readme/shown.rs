//! Holds what a page shows to what a command prints.
//!
//! Everything has to be the same but what differs from machine to machine. Times, rates and memory are not
//! compared. Measured rounding errors, the numbers in scientific notation, have to agree in their order of
//! magnitude. The bound beside an error is a function of the shape, and is compared to its digits.

use std::iter::zip;

/// A line that stands for lines left out.
const LEFT_OUT: &str = "…";

/// Two measured errors up to this are the same: they are what a few dozen roundings of f64 make, and 0 is
/// among them.
const ROUNDING: f64 = 1e-14;

/// Two measured errors above it are the same when the one is less than so many times the other.
const MAGNITUDE: f64 = 10.0;

/// A word of a line.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Word<'a> {
    Exact(&'a str),
    /// An error or a power, which roundings decide.
    Measured(f64),
    /// A time, a rate, or an amount of memory.
    Machine,
}

impl Word<'_> {
    fn agrees(self, other: Self) -> bool {
        match (self, other) {
            (Self::Measured(a), Self::Measured(b)) => {
                a.max(b) <= ROUNDING || (a < MAGNITUDE * b && b < MAGNITUDE * a)
            }
            _ => self == other,
        }
    }
}

/// A number in scientific notation, at the end of a clause, too.
fn scientific(word: &str) -> Option<f64> {
    let word = word.trim_end_matches([',', ';', '.']);
    let number = word.starts_with(|c: char| c.is_ascii_digit()) && word.contains('e');
    if number { word.parse().ok() } else { None }
}

fn words(line: &str) -> Vec<Word<'_>> {
    let words: Vec<_> = line.split_whitespace().collect();
    let at = |index: usize| words.get(index).copied().unwrap_or_default();
    let classified = words.iter().enumerate().map(|(index, &word)| {
        let next = at(index + 1);
        let unit = next.trim_end_matches([',', ';']);
        let of_the_machine =
            matches!(unit, "s" | "ms" | "GiB") || (next == "per" && at(index + 2) == "second");
        if of_the_machine && word.parse::<f64>().is_ok() {
            return Word::Machine;
        }
        match scientific(word) {
            // The bound that rounding is held to.
            Some(_) if next == "rounding" => Word::Exact(word),
            Some(number) => Word::Measured(number),
            // An error of zero, beside its bound.
            None if word == "0" && scientific(next).is_some() => Word::Measured(0.0),
            None => Word::Exact(word),
        }
    });
    classified.collect()
}

fn same(shown: &str, printed: &str) -> bool {
    let (shown, printed) = (words(shown), words(printed));
    shown.len() == printed.len() && zip(shown, printed).all(|(shown, printed)| shown.agrees(printed))
}

/// Holds the lines shown to what is printed. A line `…` stands for any number of lines.
///
/// # Errors
/// The first line that is not as shown.
pub(crate) fn compare(shown: &[&str], printed: &str) -> Result<(), String> {
    let printed: Vec<_> = printed.lines().collect();
    // Columns are as wide as what is measured; where nothing is, the spaces count, too.
    let to_the_letter = shown.iter().all(|line| words(line).iter().all(|w| matches!(w, Word::Exact(_))));
    let agree =
        |shown: &str, printed: &str| if to_the_letter { shown == printed } else { same(shown, printed) };

    let parts: Vec<&[&str]> = shown.split(|line| *line == LEFT_OUT).collect();
    let mut from = 0;
    for (index, part) in parts.iter().enumerate() {
        let is_last = index + 1 == parts.len();
        let Some(latest) = printed.len().checked_sub(part.len()).filter(|latest| *latest >= from) else {
            return Err(format!("  not printed: {}", part.first().unwrap_or(&"")));
        };
        let places = match (index == 0, is_last) {
            (true, _) => 0..=0,
            (false, true) => latest..=latest,
            (false, false) => from..=latest,
        };
        // The place where most of the part's lines are found.
        let found = |place: usize| zip(*part, &printed[place..]).take_while(|(s, p)| agree(s, p)).count();
        let mut best = (0, *places.start());
        for place in places {
            let found = found(place);
            if found > best.0 {
                best = (found, place);
            }
            if found == part.len() {
                break;
            }
        }
        let (found, place) = best;
        if found < part.len() {
            let printed = printed.get(place + found).unwrap_or(&"(nothing)");
            return Err(format!("  shown:   {}\n  printed: {printed}", part[found]));
        }
        from = place + part.len();
    }
    match printed.get(from) {
        Some(line) => Err(format!("  printed and not shown: {line}")),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::compare;

    const PRINTED: &str = "\
gpt2-nano, 35 744 parameters
             statement     worst error    bound  from        power  verdict
  reference  token losses      7.1e-16  3.1e-14  rounding  3.1e-14  pass
  libtorch   ∇                       0  4.6e-14  rounding  1.3e-13  pass
  libtorch   ∇                 6.2e-12   1.0e-9  plateau    1.0e-9  pass
took 3.5 s, peak memory 0.15 GiB
5 passed; 1280 cases in 3.0 s, 420 per second
certified: 5 laws hold to a relative error of 3.7e-14, without an anchor
";

    fn shown(changes: &[(&str, &str)]) -> Result<(), String> {
        let mut text = PRINTED.to_owned();
        for (from, to) in changes {
            assert!(text.contains(from), "{from}");
            text = text.replace(from, to);
        }
        compare(&text.lines().collect::<Vec<_>>(), PRINTED)
    }

    #[test]
    fn what_differs_between_machines_is_not_compared() {
        for change in [
            ("took 3.5 s, peak memory 0.15 GiB", "took 61.0 s, peak memory 1.50 GiB"),
            ("in 3.0 s, 420 per second", "in 12.5 s, 100 per second"),
            ("  7.1e-16", "        0"),
            ("      0  4.6e-14", "1.1e-15  4.6e-14"),
            ("6.2e-12", "2.0e-12"),
            ("1.3e-13", "1.2e-13"),
            ("3.7e-14,", "2.9e-14,"),
        ] {
            assert_eq!(shown(&[change]), Ok(()), "{change:?}");
        }
    }

    #[test]
    fn everything_else_is() {
        for change in [
            ("35 744", "35 745"),
            ("7.1e-16", "7.1e-13"),
            ("3.1e-14  rounding", "3.2e-14  rounding"),
            ("6.2e-12", "7.2e-11"),
            ("1.0e-9  plateau", "1.0e-6  plateau"),
            ("1.3e-13", "2.3e-12"),
            ("3.7e-14,", "3.7e-12,"),
            ("5 passed", "6 passed"),
            ("1280 cases", "128 cases"),
            ("pass\nt", "fail\nt"),
            ("took 3.5 s, peak memory 0.15 GiB\n", ""),
            ("gpt2-nano", "gpt2-nano\ngpt2-nano"),
        ] {
            assert!(shown(&[change]).is_err(), "{change:?}");
        }
    }

    #[test]
    fn lines_can_be_left_out_and_no_others() {
        let printed = "a\nb\nc\nd\n";
        for shown in ["a\nb\nc\nd", "…\nd", "a\n…", "a\n…\nc\n…", "…\nb\nc\n…\nd", "…"] {
            assert_eq!(compare(&shown.lines().collect::<Vec<_>>(), printed), Ok(()), "{shown}");
        }
        for shown in ["a\nb\nc", "b\n…", "…\nc", "a\n…\nb\nd", "a\n…\nc\n…\nb\n…", "a\nb\nc\nd\ne", "…\ne\n…"]
        {
            assert!(compare(&shown.lines().collect::<Vec<_>>(), printed).is_err(), "{shown}");
        }
    }

    #[test]
    fn where_nothing_is_measured_spaces_count() {
        assert!(compare(&["a  b"], "a  b\n").is_ok() && compare(&["a b"], "a  b\n").is_err());
    }
}
