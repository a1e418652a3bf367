//! Tables: those of a report, and those that give the numbers of a drawing.

use super::{bounded, class, scrolling, sign};
use crate::model::{Align, Column, Table, TableCell};
use crate::text;
use maud::{Markup, html};

/// The most rows that are shown.
const ROWS: usize = 1_000;
/// The most columns that are shown.
const COLUMNS: usize = 100;

pub(super) fn table(table: &Table) -> Markup {
    html! {
        p.caption { (text::line(&table.caption, text::SENTENCE)) }
        (grid(table))
    }
}

/// The numbers of a drawing, folded away; the caption is that of the drawing. `note` says what is left out of
/// them.
pub(super) fn numbers(numbers: &Table, note: Option<&str>) -> Markup {
    html! {
        details {
            summary { "The numbers as a table" }
            @if let Some(note) = note { p.note { (note) } }
            (grid(numbers))
        }
    }
}

fn grid(table: &Table) -> Markup {
    let (columns, columns_note) = bounded(&table.columns, COLUMNS, "columns");
    let (rows, rows_note) = bounded(&table.rows, ROWS, "rows");
    let caption = text::line(&table.caption, text::SENTENCE);
    let content = html! {
        table aria-label=(caption) {
            thead { tr { @for column in columns { (heading(column)) } } }
            tbody {
                @for row in rows {
                    tr {
                        @for (index, column) in columns.iter().enumerate() {
                            (cell(index, column, row.get(index)))
                        }
                    }
                }
            }
        }
    };
    html! { (scrolling(&caption, &content)) (columns_note) (rows_note) }
}

fn heading(column: &Column) -> Markup {
    html! { th scope="col" class=[end(column)] { (text::line(&column.heading, text::LINE)) } }
}

/// A cell under `column`; the first of a row is its name.
fn cell(index: usize, column: &Column, cell: Option<&TableCell>) -> Markup {
    let content = html! {
        @if let Some(cell) = cell {
            @if let Some(outcome) = cell.outcome {
                span.(class(outcome)) { (sign(outcome)) " " (text::line(&cell.text, text::SENTENCE)) }
            } @else {
                (text::line(&cell.text, text::SENTENCE))
            }
        }
    };
    html! {
        @if index == 0 {
            th scope="row" class=[end(column)] { (content) }
        } @else {
            td class=[end(column)] { (content) }
        }
    }
}

fn end(column: &Column) -> Option<&'static str> {
    (column.align == Align::End).then_some("end")
}
