//! Aligned text tables.

use crate::number::NO_BREAK;

/// How the cells of a column are aligned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Align {
    /// To the left edge.
    Left,
    /// To the right edge, as numbers are.
    Right,
}

/// A table: heads, then rows. Two spaces stand before every column.
#[derive(Clone, Debug)]
pub(crate) struct Table {
    align: Vec<Align>,
    rows: Vec<Vec<String>>,
}

impl Table {
    /// A table from the heads and alignments of its columns.
    pub(crate) fn new<H: Into<String>>(columns: impl IntoIterator<Item = (H, Align)>) -> Self {
        let (heads, align) = columns.into_iter().map(|(head, align)| (head.into(), align)).unzip();
        Self { align, rows: vec![heads] }
    }

    /// Adds a row. A row with fewer cells than there are columns leaves the last ones empty.
    pub(crate) fn row<C: Into<String>>(&mut self, cells: impl IntoIterator<Item = C>) {
        self.rows.push(cells.into_iter().map(Into::into).collect());
    }

    /// The lines of the table, each ended by a newline.
    pub(crate) fn render(&self) -> String {
        let mut widths = vec![0; self.align.len()];
        for row in &self.rows {
            for (width, cell) in widths.iter_mut().zip(row) {
                *width = cell.chars().count().max(*width);
            }
        }
        let mut text = String::new();
        for row in &self.rows {
            let mut line = String::new();
            for ((cell, align), width) in row.iter().zip(&self.align).zip(&widths) {
                let padding = " ".repeat(width - cell.chars().count());
                match align {
                    Align::Left => line.extend(["  ", cell, &padding]),
                    Align::Right => line.extend(["  ", &padding, cell]),
                }
            }
            text += line.trim_end();
            text.push('\n');
        }
        text.replace(NO_BREAK, " ")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_as_wide_as_their_widest_cell_and_lines_end_without_spaces() {
        let mut table = Table::new([("name", Align::Left), ("Σ", Align::Right), ("note", Align::Left)]);
        table.row(["a", "1…2", "x"]);
        table.row(["longer", "7"]);
        let expected = "  name      Σ  note\n  a       1…2  x\n  longer    7\n";
        assert_eq!(table.render(), expected);
    }
}
