//! The arguments of a conformance test that libtest does not know.

use std::ffi::OsString;

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
    fn a_number_that_is_none_is_named() {
        assert_eq!(parse(&["test", "--cases"]), Err("--cases needs a number".to_owned()));
        assert_eq!(parse(&["test", "--cases=many"]), Err("--cases takes a number, not `many`".to_owned()));
    }
}
