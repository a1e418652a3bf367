//! Running text in lines of a terminal.

use crate::number::NO_BREAK;
use lossproof_subject::{Claims, SubjectInfo};

/// Columns of a line of running text. Tables may need more.
pub(crate) const WIDTH: usize = 80;

/// A paragraph, indented by two spaces and by `hanging` more after its first line, in lines that end in a newline.
pub(crate) fn paragraph(text: &str, hanging: usize) -> String {
    let mut lines = String::new();
    let mut line = " ".repeat(2);
    let mut empty = true;
    for word in text.split_ascii_whitespace() {
        if !empty && line.chars().count() + 1 + word.chars().count() > WIDTH {
            lines += &line;
            lines.push('\n');
            line = " ".repeat(2 + hanging);
            empty = true;
        }
        if !empty {
            line.push(' ');
        }
        line += word;
        empty = false;
    }
    lines += &line;
    lines.push('\n');
    lines.replace(NO_BREAK, " ")
}

/// Who a trainer is, on one line.
pub(crate) fn headline(info: &SubjectInfo) -> String {
    let SubjectInfo { name, version, framework, dtypes, device, .. } = info;
    format!("{name} {version} ({framework}), {dtypes} on {device}")
}

/// Which semantics a trainer says it has.
pub(crate) fn claims(claims: &Claims) -> String {
    match claims {
        Claims::Any => "any semantics that counts supervised tokens".to_owned(),
        claims => claims.listed().iter().map(ToString::to_string).collect::<Vec<_>>().join("; or "),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_full_but_not_too_long_and_numbers_stay_whole() {
        let text = format!("{} {} 516{NO_BREAK}096 {}", "a".repeat(40), "b".repeat(30), "c".repeat(100));
        let expected =
            format!("  {} {}\n   516 096\n   {}\n", "a".repeat(40), "b".repeat(30), "c".repeat(100));
        assert_eq!(paragraph(&text, 1), expected);
        // Exactly 80 columns: 2 + 40 + 1 + 30 + 1 + 6.
        let text = format!("{} {} 123456", "a".repeat(40), "b".repeat(30));
        assert_eq!(paragraph(&text, 1), format!("  {text}\n"));
    }
}
