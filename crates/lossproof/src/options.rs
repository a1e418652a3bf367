//! The arguments of a conformance test that libtest does not know.

use lossproof_laws::expectations::Draw;
use std::{ffi::OsString, fmt::Write as _};

/// What libtest does not know, and the rest.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Options {
    pub(crate) cases: Option<u32>,
    pub(crate) seed: Option<u64>,
    /// Everything else.
    pub(crate) rest: Vec<OsString>,
}

impl Options {
    pub(crate) fn parse(arguments: impl IntoIterator<Item = OsString>) -> Result<Self, String> {
        let mut options = Self { cases: None, seed: None, rest: Vec::new() };
        let mut arguments = arguments.into_iter();
        while let Some(argument) = arguments.next() {
            let text = argument.to_string_lossy().into_owned();
            let (name, inline) = match text.split_once('=') {
                Some((name, value)) => (name, Some(value.to_owned())),
                None => (text.as_str(), None),
            };
            if !matches!(name, "--cases" | "--seed") {
                options.rest.push(argument);
                continue;
            }
            let value = inline
                .or_else(|| arguments.next().map(|value| value.to_string_lossy().into_owned()))
                .ok_or_else(|| format!("{name} needs a number"))?;
            let wrong = || format!("{name} takes a number, not `{value}`");
            match name {
                "--cases" => options.cases = Some(value.parse().map_err(|_| wrong())?),
                _ => options.seed = Some(value.parse().map_err(|_| wrong())?),
            }
        }
        Ok(options)
    }

    /// Which cases the laws are tried on.
    pub(crate) fn draw(&self) -> Draw {
        if self.cases.is_none() && self.seed.is_none() { Draw::Own } else { Draw::Other }
    }

    /// The arguments that select one test again and draw the same cases for it. The test's own seed and
    /// number go without saying: said, they would be other cases, of which pins do not demand anything.
    pub(crate) fn again(&self, test: &str) -> String {
        let mut arguments = format!("{} --exact", quoted(test));
        for (name, value) in [("seed", self.seed), ("cases", self.cases.map(u64::from))] {
            if let Some(value) = value {
                let _ = write!(arguments, " --{name} {value}");
            }
        }
        arguments
    }
}

/// A word as a POSIX shell reads it back.
fn quoted(word: &str) -> String {
    format!("'{}'", word.replace('\'', r"'\''"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(arguments: &[&str]) -> Result<Options, String> {
        Options::parse(arguments.iter().map(OsString::from))
    }

    #[test]
    fn own_arguments_are_taken_out_and_the_others_left() {
        let rest = |arguments: &[&str]| arguments.iter().map(OsString::from).collect::<Vec<_>>();
        let expected = Options { cases: Some(9), seed: Some(4), rest: rest(&["test", "ratios", "--list"]) };
        assert_eq!(parse(&["test", "--cases", "9", "ratios", "--list", "--seed=4"]), Ok(expected));
        let expected = Options { cases: None, seed: None, rest: rest(&["test", "--exact"]) };
        assert_eq!(parse(&["test", "--exact"]), Ok(expected));
    }

    #[test]
    fn a_test_is_run_again_with_the_numbers_that_were_given_and_no_others() {
        let own = parse(&["test"]).expect("no argument is wrong");
        assert_eq!((own.draw(), own.again("tiny::sum").as_str()), (Draw::Own, "'tiny::sum' --exact"));
        let other = parse(&["test", "--cases=9", "--seed=4"]).expect("both are numbers");
        assert_eq!(other.draw(), Draw::Other);
        assert_eq!(other.again("karl's::sum"), r"'karl'\''s::sum' --exact --seed 4 --cases 9");
    }

    #[test]
    fn a_number_that_is_none_is_named() {
        assert_eq!(parse(&["test", "--cases"]), Err("--cases needs a number".to_owned()));
        assert_eq!(parse(&["test", "--cases=many"]), Err("--cases takes a number, not `many`".to_owned()));
    }
}
