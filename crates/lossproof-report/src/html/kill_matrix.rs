//! Kill matrices. A table and no drawing: the names of the bugs stay in sight while it scrolls.

use super::{bounded, labelled_sign, scrolling};
use crate::model::{Kill, KillMatrix, KillRow};
use crate::text;
use maud::{Markup, html};

/// The most bugs that are shown.
const BUGS: usize = 400;
/// The most columns that are shown.
const COLUMNS: usize = 120;

/// From how many columns on a matrix is printed across the paper.
const WIDE: usize = 30;

pub(super) fn kill_matrix(matrix: &KillMatrix) -> Markup {
    let (columns, columns_note) = bounded(&matrix.columns, COLUMNS, "columns");
    let (rows, rows_note) = bounded(&matrix.rows, BUGS, "bugs");
    let caption = text::line(&matrix.caption, text::SENTENCE);
    let survivors = matrix.rows.iter().filter(|row| survives(row, matrix.columns.len())).count();
    let content = html! {
        table.kills.wide[columns.len() > WIDE] aria-label=(caption) {
            thead {
                tr {
                    th scope="col" { "bug" }
                    th scope="col" { "outcome" }
                    @for column in columns {
                        th.upright scope="col" { span { (text::line(column, text::NAME)) } }
                    }
                }
            }
            tbody { @for each in rows { (row(each, columns.len(), matrix.columns.len())) } }
            tfoot {
                tr {
                    th scope="row" { "killed" }
                    td { (matrix.rows.len() - survivors) " of " (matrix.rows.len()) }
                    @for index in 0..columns.len() { td.kill { (killed(matrix, index)) } }
                }
            }
        }
    };
    html! {
        p.caption { (caption) }
        (legend())
        (scrolling(&caption, &content))
        (columns_note)
        (rows_note)
    }
}

/// One bug. It survives by all columns there are, not only by those that are shown.
fn row(row: &KillRow, shown: usize, all: usize) -> Markup {
    let (sign, word, class) = if survives(row, all) {
        ("✗", "survives", "survives")
    } else if row.cells.contains(&Kill::Named) {
        ("✓", "named", "passed")
    } else {
        ("✓", "killed", "passed")
    };
    html! {
        tr.(class) {
            th scope="row" { code { (text::line(&row.bug, text::NAME)) } }
            td.outcome.(class) { (labelled_sign(sign, word)) " " (word) }
            @for index in 0..shown { (cell(at(row, index))) }
        }
    }
}

fn cell(kill: Kill) -> Markup {
    html! {
        @if kill == Kill::Untried {
            td.kill {}
        } @else {
            td.kill.(kill.word()) { (labelled_sign(kill.sign(), kill.word())) }
        }
    }
}

fn at(row: &KillRow, index: usize) -> Kill {
    row.cells.get(index).copied().unwrap_or(Kill::Untried)
}

fn survives(row: &KillRow, columns: usize) -> bool {
    !row.cells.iter().take(columns).any(|kill| kill.is_kill())
}

fn killed(matrix: &KillMatrix, column: usize) -> usize {
    matrix.rows.iter().filter(|row| at(row, column).is_kill()).count()
}

fn legend() -> Markup {
    html! {
        p.note.kills-legend {
            @for kill in [Kill::Named, Kill::Killed, Kill::Missed] {
                span.(kill.word()) { span aria-hidden="true" { (kill.sign()) } } " " (kill.word()) ", "
            }
            "empty: " (Kill::Untried.word())
        }
    }
}
