//! The list of pinned laws, edited with its comments.

use toml_edit::{Array, Item, RawString, Table, Value};

const KEY: &str = "decides";

/// What stands above the list in a table that a draft begins.
const REMARK: &str =
    "# The laws that decide, and that it keeps, at the test's own seed and number of cases.\n";

/// Between one law and the next.
const NEXT_LINE: &str = "\n    ";

/// The pinned laws of a subject, out of its table while they are edited: one on each line, and in the order
/// of their ids where nothing else was chosen.
pub(super) struct Pins {
    array: Array,
    /// Whether the table has had such a list before.
    old: bool,
}

impl Pins {
    pub(super) fn take(own: &mut Table) -> Self {
        let Some(former) = own.get(KEY).and_then(Item::as_array) else {
            return Self { array: Array::new(), old: false };
        };
        let mut array = former.clone();
        if !has_comments(&array) {
            for law in array.iter_mut() {
                law.decor_mut().set_prefix(NEXT_LINE);
                law.decor_mut().set_suffix("");
            }
            array.set_trailing("\n");
        }
        // The comma that a draft puts behind every law goes before a comment behind the last one.
        if let Some(last) = array.iter_mut().last() {
            let suffix = last.decor().suffix().map(text).unwrap_or_default().to_owned();
            last.decor_mut().set_suffix("");
            let trailing = format!("{suffix}{}", text(array.trailing()));
            array.set_trailing(trailing);
        }
        Self { array, old: true }
    }

    pub(super) fn give_back(mut self, own: &mut Table) {
        if self.array.is_empty() && !text(self.array.trailing()).contains('#') {
            self.array.set_trailing("");
        } else {
            self.array.set_trailing_comma(true);
        }
        own[KEY] = Item::Value(Value::Array(self.array));
        if !self.old
            && let Some(mut key) = own.key_mut(KEY)
        {
            key.leaf_decor_mut().set_prefix(REMARK);
        }
    }

    fn position(&self, law: &str) -> Option<usize> {
        self.array.iter().position(|pinned| pinned.as_str() == Some(law))
    }

    /// Pins a law before the first one that comes after it in the alphabet.
    pub(super) fn insert(&mut self, law: &str) {
        if self.position(law).is_some() {
            return;
        }
        let after = |pinned: &Value| pinned.as_str().is_some_and(|pinned| pinned > law);
        let index = self.array.iter().position(after).unwrap_or(self.array.len());
        let behind = self.behind(index);
        let (of_former, own) = split(&behind);
        let mut pinned = Value::from(law);
        pinned.decor_mut().set_prefix(format!("{of_former}{NEXT_LINE}"));
        self.set_behind(index, own);
        self.array.insert_formatted(index, pinned);
    }

    /// Removes a law with the comments above it. What stands behind the law before it on the same line stays.
    pub(super) fn remove(&mut self, law: &str) {
        let Some(index) = self.position(law) else { return };
        let before = self.behind(index);
        self.array.remove(index);
        let after = self.behind(index);
        let ((of_former, _), (_, of_next)) = (split(&before), split(&after));
        self.set_behind(index, &format!("{of_former}{of_next}"));
    }

    /// What stands between the law before `index`, with its comma, and the one there, or the end of the list.
    fn behind(&self, index: usize) -> String {
        match self.array.get(index) {
            Some(law) => law.decor().prefix().map(text).unwrap_or_default().to_owned(),
            None => text(self.array.trailing()).to_owned(),
        }
    }

    fn set_behind(&mut self, index: usize, to: &str) {
        // A list that was written in one line has no break there, which a comment needs.
        let end = if index >= self.array.len() { "\n" } else { NEXT_LINE };
        let to = if to.contains('\n') { to.to_owned() } else { format!("{to}{end}") };
        match self.array.get_mut(index) {
            Some(law) => law.decor_mut().set_prefix(to),
            None => self.array.set_trailing(to),
        }
    }
}

fn text(raw: &RawString) -> &str {
    raw.as_str().unwrap_or_default()
}

/// What belongs to the line that ends here, and everything from its end on.
fn split(between: &str) -> (&str, &str) {
    between.split_at(between.find('\n').unwrap_or(between.len()))
}

fn has_comments(array: &Array) -> bool {
    let mut between = text(array.trailing()).contains('#');
    for law in array {
        for raw in [law.decor().prefix(), law.decor().suffix()].into_iter().flatten() {
            between |= text(raw).contains('#');
        }
    }
    between
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The list after laws were pinned and removed.
    fn edited(before: &str, pinned: &[&str], removed: &[&str]) -> String {
        let mut document: toml_edit::DocumentMut = before.parse().unwrap();
        let mut pins = Pins::take(document.as_table_mut());
        for law in removed {
            pins.remove(law);
        }
        for law in pinned {
            pins.insert(law);
        }
        pins.give_back(document.as_table_mut());
        let after = document.to_string();
        assert!(after.parse::<toml_edit::DocumentMut>().is_ok(), "{after}");
        after
    }

    const COMMENTED: &str = "\
decides = [
    # Everything hangs on it.
    \"counting\", # since 0.2
    # Slow.
    \"ratios\",
    \"sum\", # at last
] # all
";

    #[test]
    fn a_list_is_begun_with_a_remark_and_one_law_on_each_line() {
        let begun = edited("", &["sum", "ratios"], &[]);
        assert_eq!(begun, format!("{REMARK}decides = [\n    \"ratios\",\n    \"sum\",\n]\n"));
        assert_eq!(edited("", &[], &[]), format!("{REMARK}decides = []\n"));
    }

    #[test]
    fn a_list_in_one_line_is_spread() {
        let spread = edited("decides = [\"counting\", \"sum\"]\n", &["ratios"], &["sum"]);
        assert_eq!(spread, "decides = [\n    \"counting\",\n    \"ratios\",\n]\n");
        assert_eq!(edited("decides = [\"sum\"]\n", &[], &["sum"]), "decides = []\n");
    }

    #[test]
    fn comments_stay_with_their_laws() {
        assert_eq!(edited(COMMENTED, &["counting", "sum"], &["shift"]), COMMENTED);
        let among = edited(COMMENTED, &["duplication", "z-loss"], &[]);
        let expected = COMMENTED
            .replace("# since 0.2\n", "# since 0.2\n    \"duplication\",\n")
            .replace("# at last\n", "# at last\n    \"z-loss\",\n");
        assert_eq!(among, expected);
    }

    #[test]
    fn a_comment_behind_a_missing_comma_stays_with_its_law() {
        let open = COMMENTED.replace("\"sum\", # at last", "\"sum\" # at last");
        assert_eq!(edited(&open, &[], &[]), COMMENTED);
    }

    #[test]
    fn the_comments_of_a_law_leave_with_it() {
        let without = edited(COMMENTED, &[], &["ratios"]);
        assert_eq!(without, COMMENTED.replace("    # Slow.\n    \"ratios\",\n", ""));
        let without = edited(COMMENTED, &[], &["sum"]);
        assert_eq!(without, COMMENTED.replace("    \"sum\", # at last\n", ""));
    }
}
