//! Colour for verdicts, on a terminal whose user has not asked for none.

use std::io::IsTerminal as _;

const RED: &str = "\u{1b}[31m";
const YELLOW: &str = "\u{1b}[33m";
const GREEN: &str = "\u{1b}[32m";
const PLAIN: &str = "\u{1b}[0m";

/// Verdicts, and the colour of each. They also say by themselves what they say by colour.
const VERDICTS: [(&str, &str); 12] = [
    ("FAIL", RED),
    ("ERRORED", RED),
    ("NOTHING", RED),
    ("UNEXPECTED PASS", RED),
    ("disagrees", RED),
    ("UNCHECKED", YELLOW),
    ("unchecked", YELLOW),
    ("undecided", YELLOW),
    ("unsupported", YELLOW),
    ("pass", GREEN),
    ("agrees", GREEN),
    ("Conforms", GREEN),
];

/// Whether stdout is to be coloured: it is a terminal that can, and `NO_COLOR` (no-color.org) is not set.
pub(crate) fn is_wanted() -> bool {
    let set = |name: &str| std::env::var_os(name).is_some_and(|value| !value.is_empty());
    std::io::stdout().is_terminal() && !set("NO_COLOR") && std::env::var("TERM").as_deref() != Ok("dumb")
}

/// A text with its verdicts in colour: a verdict is what a line ends with, before a colon and its reason if it has one.
pub(crate) fn painted(text: &str) -> String {
    let mut painted = String::with_capacity(text.len());
    for line in text.split_inclusive('\n') {
        painted += &painted_line(line);
    }
    painted
}

fn painted_line(line: &str) -> String {
    let end = line.trim_end().len();
    for (verdict, colour) in VERDICTS {
        for (at, _) in line.match_indices(verdict) {
            let after = at + verdict.len();
            let begins = at == 0 || line[..at].ends_with("  ");
            let ends = after == end || line[after..].starts_with(": ");
            if begins && ends {
                return format!("{}{colour}{verdict}{PLAIN}{}", &line[..at], &line[after..]);
            }
        }
    }
    line.to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn verdicts_at_the_end_of_a_row_are_coloured_and_words_in_a_sentence_are_not() {
        let text =
            "  2.2  token-mean  1.0  FAIL\n  sum  pass\n  steps  unsupported: it takes none\nall agrees\n";
        let expected = format!(
            "  2.2  token-mean  1.0  {RED}FAIL{PLAIN}\n  sum  {GREEN}pass{PLAIN}\n  steps  {YELLOW}unsupported{PLAIN}: it \
             takes none\nall agrees\n"
        );
        assert_eq!(painted(text), expected);
    }
}
