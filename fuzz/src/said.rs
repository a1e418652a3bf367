//! What the error of a reader must be: it names the file and the fault, on a few lines that can be printed.

/// Bytes of the longest error, with all that it comes from: whatever the input holds, it is not repeated
/// whole.
pub const LONGEST_ERROR: usize = 4096;

/// Words that say a place or a reason, beside the path of the file.
const FEWEST_WORDS: usize = 3;

/// What is wrong with an error's text, of a reader that was given a file of this name; `None` where nothing
/// is.
#[must_use]
pub fn unfit(error: &str, file: Option<&str>) -> Option<String> {
    if error.trim().is_empty() {
        return Some("the error is empty".to_owned());
    }
    if error.len() > LONGEST_ERROR {
        return Some(format!("the error has {} bytes, {LONGEST_ERROR} at most", error.len()));
    }
    if let Some(file) = file
        && !error.contains(file)
    {
        return Some(format!("the error does not name `{file}`: {error}"));
    }
    let is_path = |word: &&str| file.is_some_and(|file| word.contains(file));
    if error.split_whitespace().filter(|word| !is_path(word)).count() < FEWEST_WORDS {
        return Some(format!("the error says neither a place nor a reason: {error}"));
    }
    let unprintable = error.chars().find(|c| c.is_control() && *c != '\n');
    unprintable.map(|found| format!("the error holds {found:?}, which a terminal may obey: {error:?}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_names_the_file_and_the_fault_and_is_short() {
        let fit = "/tmp/a/case.json:3:7 holds no valid case: unknown field `x`";
        assert_eq!(unfit(fit, Some("case.json")), None);
        assert_eq!(unfit("line 3: unknown field", None), None);
        let said = |error: &str| unfit(error, Some("case.json")).unwrap();
        assert!(said(" \n").contains("is empty"));
        assert!(said("line 3: unknown field").contains("does not name"));
        assert!(said("/tmp/case.json: invalid").contains("neither a place nor a reason"));
        assert!(said(&format!("{fit} {}", "x".repeat(LONGEST_ERROR))).contains("at most"));
        assert!(said(&format!("{fit} \u{1b}[2J")).contains("terminal"));
    }
}
