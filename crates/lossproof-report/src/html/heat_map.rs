//! Heat maps over sequences and positions: a drawing for each map, one legend, and the numbers as a table.

use super::colour::Colours;
use super::{bounded, capitalised, table};
use crate::model::{Cell, Column, HeatMap, HeatMaps, Mark, Sequence, Table, TableCell};
use crate::number::{self, coordinate};
use crate::text;
use maud::{Markup, html};

/// The most maps, sequences and positions that are drawn.
const MAPS: usize = 8;
const SEQUENCES: usize = 64;
const POSITIONS: usize = 64;
/// The most characters that are written into a cell.
const IN_A_CELL: usize = 8;
/// Sizes in pixels: a row; a column of the names of rows; a character of a number; what stands above the
/// cells.
const ROW: f64 = 26.0;
const NAME: f64 = 36.0;
const CHARACTER: f64 = 6.6;
const HEAD: f64 = 24.0;
/// The columns of the names of rows.
const NAMES: [&str; 3] = ["rank", "micro", "seq."];
/// What the name of a row of the table consists of.
const WHERE: &str = "rank / micro-batch / sequence / position";

pub(super) fn heat_maps(maps: &HeatMaps) -> Markup {
    let (shown, maps_note) = bounded(&maps.maps, MAPS, "maps");
    let (sequences, sequences_note) = bounded(&maps.sequences, SEQUENCES, "sequences");
    let positions = maps.maps.iter().flat_map(|map| &map.cells).map(Vec::len).max().unwrap_or(0);
    let drawn = Drawn {
        sequences,
        positions: positions.min(POSITIONS),
        width: cell_width(shown),
        colours: &Colours::of(maps),
        quantity: text::line(&maps.quantity, text::LINE),
    };
    html! {
        figure.heat-maps {
            figcaption { (text::line(&maps.caption, text::SENTENCE)) }
            div.side-by-side { @for map in shown { (drawn.map(map)) } }
            (drawn.colours.legend(&drawn.quantity))
            (marks(shown))
            (maps_note)
            (sequences_note)
            @if positions > POSITIONS {
                p.note { "The first " (POSITIONS) " of " (positions) " positions are shown." }
            }
            (table::numbers(&numbers(&maps.caption, shown, sequences, drawn.positions), None))
        }
    }
}

/// What all maps of a figure have in common.
struct Drawn<'a> {
    sequences: &'a [Sequence],
    positions: usize,
    /// Of a cell, in pixels.
    width: f64,
    colours: &'a Colours,
    quantity: String,
}

impl Drawn<'_> {
    fn map(&self, map: &HeatMap) -> Markup {
        let name = text::line(&map.name, text::LINE);
        let title = format!("{name}: {} by sequence and position", self.quantity);
        let width = coordinate(self.x(self.positions) + 2.0);
        let height = coordinate(y(self.sequences.len()) + 2.0);
        let drawing = html! {
            svg.heat-map role="img" aria-label=(title) width=(width) height=(height)
                viewBox={ "0 0 " (width) " " (height) } {
                title { (title) }
                @for (index, name) in NAMES.iter().enumerate() {
                    (label(index as f64 * NAME, HEAD - 8.0, NAME, name))
                }
                @for position in 0..self.positions {
                    (label(self.x(position), HEAD - 8.0, self.width, &position.to_string()))
                }
                @for (row, sequence) in self.sequences.iter().enumerate() {
                    (self.row(row, sequence, map.cells.get(row).map_or(&[][..], Vec::as_slice)))
                }
            }
        };
        html! {
            div.map {
                h3 { (capitalised(&name)) }
                (super::scrolling(&title, &drawing))
            }
        }
    }

    fn row(&self, row: usize, sequence: &Sequence, cells: &[Cell]) -> Markup {
        let names = [sequence.rank, sequence.micro_batch, sequence.sequence];
        html! {
            @for (index, name) in names.iter().enumerate() {
                (label(index as f64 * NAME, y(row) + 17.0, NAME, &name.to_string()))
            }
            @for (position, cell) in cells.iter().take(self.positions).enumerate() {
                (self.cell(row, position, sequence, cell))
            }
        }
    }

    /// A cell: its colour, its mark, its number, and all of it in words where the pointer rests.
    fn cell(&self, row: usize, position: usize, sequence: &Sequence, cell: &Cell) -> Markup {
        let (left, top) = (self.x(position), y(row));
        let class = cell.value.map_or_else(|| unknown(cell).to_owned(), |value| self.colours.class(value));
        let mark = match cell.mark {
            Mark::None => "",
            Mark::Ignored => " is-ignored",
            Mark::Differs => " differs",
        };
        html! {
            g class={ "cell " (class) (mark) } {
                title { (place(sequence, position)) ": " (in_words(cell)) }
                rect x=(coordinate(left + 1.0)) y=(coordinate(top + 1.0))
                    width=(coordinate(self.width - 2.0)) height=(coordinate(ROW - 2.0)) rx="2" {}
                @if cell.mark == Mark::Ignored && cell.value.is_none() {
                    path d={ "M" (coordinate(left + 4.0)) " " (coordinate(top + ROW - 4.0))
                        "L" (coordinate(left + self.width - 4.0)) " " (coordinate(top + 4.0)) } {}
                } @else {
                    (label(left, top + 17.0, self.width, &in_a_cell(cell)))
                }
            }
        }
    }

    /// Where a position begins, from the left.
    fn x(&self, position: usize) -> f64 {
        NAMES.len() as f64 * NAME + position as f64 * self.width
    }
}

/// Where a row begins, from the top.
fn y(row: usize) -> f64 {
    HEAD + row as f64 * ROW
}

/// Text in the middle of a box that begins at `x` and is `width` wide.
fn label(x: f64, y: f64, width: f64, text: &str) -> Markup {
    html! { text x=(coordinate(x + width / 2.0)) y=(coordinate(y)) { (text) } }
}

/// The class of a cell without a number.
fn unknown(cell: &Cell) -> &'static str {
    if cell.mark == Mark::Ignored { "ignored" } else { "unknown" }
}

fn place(sequence: &Sequence, position: usize) -> String {
    let Sequence { rank, micro_batch, sequence } = sequence;
    format!("rank {rank}, micro-batch {micro_batch}, sequence {sequence}, position {position}")
}

fn short_place(sequence: &Sequence, position: usize) -> String {
    let Sequence { rank, micro_batch, sequence } = sequence;
    format!("{rank} / {micro_batch} / {sequence} / {position}")
}

/// A cell as the table and the pointer say it: its label, and its number where that is not the label.
fn in_words(cell: &Cell) -> String {
    let label = text::line(&cell.label, text::LINE);
    let mut words = match cell.value {
        Some(value) if label.parse() != Ok(value) => format!("{label} = {}", number::exact(value)),
        _ => label,
    };
    match cell.mark {
        Mark::Differs => words.insert_str(0, "≠ "),
        Mark::Ignored if cell.value.is_some() => words.push_str(", ignored"),
        Mark::Ignored | Mark::None => {}
    }
    words
}

/// A cell as it is written into the map: its label, its number where that is shorter, or a dot for what is
/// too long.
fn in_a_cell(cell: &Cell) -> String {
    let Some(value) = cell.value else { return "?".to_owned() };
    let label = text::line(&cell.label, text::LINE);
    let fitting = [label, number::short(value)].into_iter().find(|text| text.chars().count() <= IN_A_CELL);
    let mark = if cell.mark == Mark::Differs { "≠" } else { "" };
    format!("{mark}{}", fitting.unwrap_or_else(|| "…".to_owned()))
}

/// Room for the longest number in any of the maps, so that all have the same measure.
fn cell_width(maps: &[HeatMap]) -> f64 {
    let mut longest = 2;
    for cell in maps.iter().flat_map(|map| map.cells.iter().take(SEQUENCES).flatten()) {
        longest = longest.max(in_a_cell(cell).chars().count());
    }
    longest as f64 * CHARACTER + 12.0
}

/// What the marks mean that occur.
fn marks(maps: &[HeatMap]) -> Markup {
    let cells = || maps.iter().flat_map(|map| map.cells.iter().flatten());
    html! {
        ul.legend {
            @if cells().any(|cell| cell.mark == Mark::Differs) {
                li { span.swatch.differs { "≠" } span { "not what it should be" } }
            }
            @if cells().any(|cell| cell.mark == Mark::Ignored) {
                li { span.swatch.ignored { "╱" } span { "not supervised" } }
            }
            @if cells().any(|cell| cell.value.is_none() && cell.mark != Mark::Ignored) {
                li { span.swatch.unknown { "?" } span { "could not be found out" } }
            }
        }
    }
}

/// The numbers of all maps, a row for each position that is drawn.
fn numbers(caption: &str, maps: &[HeatMap], sequences: &[Sequence], positions: usize) -> Table {
    let mut columns = vec![Column::words(WHERE)];
    columns.extend(maps.iter().map(|map| Column::numbers(map.name.as_str())));
    let mut rows = Vec::new();
    for (row, sequence) in sequences.iter().enumerate() {
        for position in 0..positions {
            let cells = maps.iter().map(|map| map.cells.get(row).and_then(|cells| cells.get(position)));
            let cells: Vec<_> = cells.collect();
            if cells.iter().all(Option::is_none) {
                continue;
            }
            let mut line = vec![TableCell::plain(short_place(sequence, position))];
            line.extend(cells.iter().map(|cell| TableCell::plain(cell.map_or_else(String::new, in_words))));
            rows.push(line);
        }
    }
    Table { caption: caption.to_owned(), columns, rows }
}
