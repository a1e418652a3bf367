//! Text from strangers, made fit to be shown: bounded in length, and without what moves a cursor or turns the
//! writing.

/// Characters of what there is little room for: names of checks and bugs, and beside an axis.
pub(crate) const NAME: usize = 60;
/// Characters of a heading or a cell.
pub(crate) const LINE: usize = 240;
/// Characters of a sentence: a reason, a summary, an item of a list.
pub(crate) const SENTENCE: usize = 2_000;
/// Characters of preformatted text.
pub(crate) const BLOCK: usize = 20_000;
/// Characters of a command, which is of use only as a whole.
pub(crate) const COMMAND: usize = 8_000;

/// Text on one line, of at most `limit` characters and a note that says how much was cut off.
pub(crate) fn line(text: &str, limit: usize) -> String {
    shown(text, limit, |character| match character {
        '\n' | '\r' | '\t' | '\u{2028}' | '\u{2029}' => Some(' '),
        _ => None,
    })
}

/// Text whose line breaks count, of at most `limit` characters and a note that says how much was cut off.
pub(crate) fn block(text: &str, limit: usize) -> String {
    let text = text.replace("\r\n", "\n");
    shown(&text, limit, |character| matches!(character, '\n' | '\t').then_some(character))
}

fn shown(text: &str, limit: usize, space: impl Fn(char) -> Option<char>) -> String {
    let mut shown = String::new();
    let mut characters = text.chars();
    for character in characters.by_ref().take(limit) {
        match space(character) {
            Some(space) => shown.push(space),
            None => push_visible(&mut shown, character),
        }
    }
    let rest = characters.count();
    if rest > 0 {
        let note = format!("… ({rest} more characters)");
        shown.push_str(&note);
    }
    shown
}

/// Writes a character, or a sign for one that cannot be seen and does something.
fn push_visible(text: &mut String, character: char) {
    match character {
        // The pictures of the control characters stand in their order.
        '\0'..='\u{1f}' => text.extend(char::from_u32(0x2400 + u32::from(character))),
        '\u{7f}' => text.push('␡'),
        '\u{80}'..='\u{9f}'
        | '\u{61c}'
        | '\u{200b}'..='\u{200f}'
        | '\u{2028}'..='\u{202e}'
        | '\u{2060}'..='\u{206f}'
        | '\u{feff}'
        | '\u{fff9}'..='\u{fffb}'
        | '\u{fffe}'..='\u{ffff}'
        | '\u{e0000}'..='\u{e007f}' => {
            let code = format!("U+{:04X}", u32::from(character));
            text.push_str(&code);
        }
        _ => text.push(character),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_moves_a_cursor_or_turns_the_writing_is_shown_and_not_done() {
        assert_eq!(line("a\u{1b}[31mb\0\u{7f}", LINE), "a␛[31mb␀␡");
        assert_eq!(line("a\u{202e}b\u{2066}c\u{85}\u{ffff}", LINE), "aU+202EbU+2066cU+0085U+FFFF");
        assert_eq!(line("שלום", LINE), "שלום");
    }

    #[test]
    fn a_line_has_no_breaks_and_a_block_keeps_them() {
        assert_eq!(line("a\r\nb\tc\u{2028}d", LINE), "a  b c d");
        assert_eq!(block("a\r\nb\tc\rd", BLOCK), "a\nb\tc␍d");
    }

    #[test]
    fn long_text_is_cut_between_characters_and_says_so() {
        assert_eq!(line("äöü", 3), "äöü");
        assert_eq!(line("äöü", 2), "äö… (1 more characters)");
        assert_eq!(block(&"x".repeat(1_000_000), BLOCK).len(), BLOCK + "… (980000 more characters)".len());
    }
}
