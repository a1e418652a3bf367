//! Token weights as a picture: one bar per token, one row of bars per semantics or measurement.

use lossproof_spec::{Layout, SequenceShape};
use miette::Diagnostic;
use plotters::{
    coord::Shift,
    prelude::*,
    style::text_anchor::{HPos, Pos, VPos},
};
use std::fmt;

/// More bars than these cannot be told apart.
const MOST_BARS: usize = 200;

/// Pixels. A row has its title above the bars, and above each bar its weight.
const MARGIN: i32 = 20;
const NARROWEST: i32 = 520;
const WIDTH_OF_BARS: usize = 720;
const WIDEST_BAR: usize = 16;
const BETWEEN_SEQUENCES: i32 = 7;
const BETWEEN_MICRO_BATCHES: i32 = 22;
const BETWEEN_RANKS: i32 = 40;
const TITLE: i32 = 26;
const HIGHEST_BAR: i32 = 96;
const ABOVE_BARS: i32 = 20;
const BELOW_BARS: i32 = 20;
const FOOT: i32 = 96;
const TEXT: i32 = 16;
const SMALL: i32 = 14;

const INK: RGBColor = RGBColor(0x24, 0x29, 0x2f);
const BAR: RGBColor = RGBColor(0x3b, 0x82, 0xc4);
const RIGHT: RGBColor = RGBColor(0xd9, 0x6c, 0x06);

/// The ink turns light where the page is dark: a style sheet outranks the attributes that plotters writes.
/// Bars and marks stand out from both.
const STYLE: &str = "<style>@media (prefers-color-scheme: dark) { text { fill: #e6edf3 } \
                     [stroke=\"#24292F\"] { stroke: #e6edf3 } }</style>";

/// One row of bars, below its title.
pub(crate) struct Row {
    /// Name and formula: what stands before the colon is what marks in other rows are called by.
    pub(crate) title: String,
    /// Sequence by sequence.
    pub(crate) sequences: Vec<Bars>,
}

/// The bars of one sequence, side by side.
pub(crate) struct Bars {
    /// How high each is; what is not above zero is not drawn.
    pub(crate) weights: Vec<f64>,
    /// What is written above them, once for neighbours that have the same.
    pub(crate) label: String,
}

impl Bars {
    fn highest(&self) -> f64 {
        self.weights.iter().copied().fold(0.0, f64::max)
    }
}

/// How many bars each sequence has in every row, and how many tokens a micro-batch is said to have.
pub(crate) struct BarLayout<'a> {
    /// Ranks × micro-batches × sequences.
    pub(crate) layout: &'a Layout,
    /// Bars of a sequence.
    pub(crate) bars: fn(&SequenceShape) -> usize,
}

/// Where a sequence is drawn: from its first bar to the end of its last.
#[derive(Clone, Copy)]
struct Place {
    left: i32,
    right: i32,
    bars: usize,
    rank: usize,
}

/// The part of the picture's width that belongs to a group, and what is written there.
struct Label {
    left: i32,
    right: i32,
    text: String,
}

/// Where things are from left to right, the same in every row.
struct Columns {
    bar: i32,
    sequences: Vec<Place>,
    micro_batches: Vec<Label>,
    ranks: Vec<Label>,
    width: i32,
}

impl Columns {
    fn of(shown: &BarLayout<'_>) -> Result<Self, PictureError> {
        let bars: usize = shown.layout.sequences().map(shown.bars).sum();
        if bars == 0 || bars > MOST_BARS {
            return Err(PictureError::Tokens { bars });
        }
        let bar = pixels((WIDTH_OF_BARS / bars).clamp(3, WIDEST_BAR));
        let mut columns =
            Self { bar, sequences: Vec::new(), micro_batches: Vec::new(), ranks: Vec::new(), width: 0 };
        let mut x = MARGIN;
        for (number, rank) in shown.layout.ranks().iter().enumerate() {
            let rank_left = x;
            for micro_batch in rank {
                let left = x;
                for shape in micro_batch {
                    let bars = (shown.bars)(shape);
                    let right = x + bar * pixels(bars);
                    columns.sequences.push(Place { left: x, right, bars, rank: number });
                    x = right + BETWEEN_SEQUENCES;
                }
                x -= BETWEEN_SEQUENCES;
                let tokens: usize = micro_batch.iter().map(|shape| shape.supervised).sum();
                columns.micro_batches.push(Label { left, right: x, text: tokens.to_string() });
                x += BETWEEN_MICRO_BATCHES;
            }
            x -= BETWEEN_MICRO_BATCHES;
            columns.ranks.push(Label { left: rank_left, right: x, text: format!("rank {number}") });
            x += BETWEEN_RANKS;
        }
        columns.width = (x - BETWEEN_RANKS + MARGIN).max(NARROWEST);
        Ok(columns)
    }
}

fn pixels(count: usize) -> i32 {
    i32::try_from(count).unwrap_or(i32::MAX)
}

/// Pixels that hold a length of at most [`HIGHEST_BAR`].
fn ceil(length: f64) -> i32 {
    #[expect(clippy::cast_possible_truncation, reason = "at most the height of the highest bar")]
    let pixels = length.ceil() as i32;
    pixels
}

/// Draws rows of bars one below the other, as SVG: the same bytes for the same rows. The first is what the
/// others are compared with.
///
/// # Errors
/// When there is no bar, there are more than can be told apart, or drawing fails.
pub(crate) fn picture(shown: &BarLayout<'_>, rows: &[Row]) -> Result<String, PictureError> {
    let columns = Columns::of(shown)?;
    let most = |row: &Row| row.sequences.iter().map(Bars::highest).fold(f64::MIN_POSITIVE, f64::max);
    let scale = f64::from(HIGHEST_BAR) / rows.iter().map(most).fold(f64::MIN_POSITIVE, f64::max);
    let right = rows.first();
    // Where each row begins, and where the last one ends.
    let mut tops = vec![0];
    for own in rows {
        let highest = right.map_or(0.0, most).max(most(own)) * scale;
        let top = tops.last().copied().unwrap_or(0);
        tops.push(top + TITLE + ABOVE_BARS + ceil(highest) + BELOW_BARS);
    }
    let foot = tops.last().copied().unwrap_or(0);

    let mut svg = String::new();
    {
        let size = (columns.width.unsigned_abs(), (foot + FOOT).unsigned_abs());
        let area = SVGBackend::with_string(&mut svg, size).into_drawing_area();
        let canvas = Canvas { area: &area, columns: &columns, scale };
        for (index, own) in rows.iter().enumerate() {
            canvas.text(&own.title, (MARGIN, tops[index] + TITLE), HPos::Left, TEXT)?;
            canvas.row(tops[index + 1] - BELOW_BARS, own, right.filter(|_| index > 0))?;
        }
        canvas.foot(foot, rows)?;
        area.present().map_err(failed)?;
    }
    let end_of_tag = svg.find('>').map_or(0, |index| index + 1);
    svg.insert_str(end_of_tag, &format!("\n{STYLE}"));
    Ok(svg)
}

struct Canvas<'a, 'b> {
    area: &'a DrawingArea<SVGBackend<'b>, Shift>,
    columns: &'a Columns,
    /// Pixels per unit of weight.
    scale: f64,
}

impl Canvas<'_, '_> {
    /// One row: bars that stand on `floor`, what they weigh, and marks where the bars of `right` end.
    fn row(&self, floor: i32, own: &Row, right: Option<&Row>) -> Result<(), PictureError> {
        for (place, bars) in self.columns.sequences.iter().zip(&own.sequences) {
            for (bar, &weight) in bars.weights.iter().enumerate() {
                if weight > 0.0 {
                    let left = place.left + pixels(bar) * self.columns.bar;
                    // A gap between bars, as long as they are wide enough to spare it.
                    let corners = [(left, floor - self.height(weight)), (left + self.columns.bar - 2, floor)];
                    self.area.draw(&Rectangle::new(corners, BAR.filled())).map_err(failed)?;
                }
            }
        }
        if let Some(right) = right {
            for (place, bars) in self.columns.sequences.iter().zip(&right.sequences) {
                self.marks(floor, place, bars)?;
            }
        }
        for micro_batch in &self.columns.micro_batches {
            self.line((micro_batch.left, floor + 1), (micro_batch.right, floor + 1), INK.stroke_width(1))?;
        }
        for run in runs(&self.columns.sequences, own, right.unwrap_or(own)) {
            let above = floor - self.height(run.highest) - 4;
            self.text(run.label, (i32::midpoint(run.left, run.right), above), HPos::Center, SMALL)?;
        }
        Ok(())
    }

    /// A line at the height of each run of equal bars.
    fn marks(&self, floor: i32, place: &Place, bars: &Bars) -> Result<(), PictureError> {
        let mut from = 0;
        for run in bars.weights.chunk_by(|one, next| one.to_bits() == next.to_bits()) {
            let to = from + run.len();
            if run[0] > 0.0 {
                let y = floor - self.height(run[0]);
                let (left, right) =
                    (place.left + pixels(from) * self.columns.bar, pixels(to) * self.columns.bar);
                self.line((left - 2, y), (place.left + right, y), RIGHT.stroke_width(2))?;
            }
            from = to;
        }
        Ok(())
    }

    /// What the columns are, and what the marks are.
    fn foot(&self, top: i32, rows: &[Row]) -> Result<(), PictureError> {
        let columns = self.columns;
        for label in &columns.micro_batches {
            self.text(&label.text, (i32::midpoint(label.left, label.right), top), HPos::Center, SMALL)?;
        }
        for label in &columns.ranks {
            let y = top + 8;
            self.line((label.left, y), (label.right, y), INK.stroke_width(1))?;
            self.text(&label.text, (i32::midpoint(label.left, label.right), y + 16), HPos::Center, SMALL)?;
        }
        let mut legend = vec![
            "A bar is the weight of one token; bars side by side are one sequence.".to_owned(),
            "A line below bars is one micro-batch, the number its tokens.".to_owned(),
        ];
        if let [first, _, ..] = rows {
            let name = first.title.split(':').next().unwrap_or_default();
            legend.push(format!("Orange marks: what the {name} weighs."));
        }
        for (number, line) in legend.iter().enumerate() {
            self.text(line, (MARGIN, top + 48 + 17 * pixels(number)), HPos::Left, SMALL)?;
        }
        Ok(())
    }

    fn height(&self, weight: f64) -> i32 {
        ceil(weight * self.scale)
    }

    fn text(&self, text: &str, at: (i32, i32), from: HPos, size: i32) -> Result<(), PictureError> {
        let style = ("sans-serif", size).into_text_style(self.area).color(&INK);
        let style = style.pos(Pos::new(from, VPos::Bottom));
        self.area.draw(&Text::new(text.to_owned(), at, style)).map_err(failed)
    }

    fn line(&self, from: (i32, i32), to: (i32, i32), style: ShapeStyle) -> Result<(), PictureError> {
        self.area.draw(&PathElement::new([from, to], style)).map_err(failed)
    }
}

fn failed(error: impl fmt::Display) -> PictureError {
    PictureError::Drawing(error.to_string())
}

/// Neighbouring sequences of a rank whose bars have the same label.
struct Run<'a> {
    rank: usize,
    left: i32,
    right: i32,
    label: &'a str,
    /// The heaviest of what is drawn there.
    highest: f64,
}

fn runs<'a>(places: &[Place], own: &'a Row, other: &Row) -> Vec<Run<'a>> {
    let mut runs: Vec<Run<'a>> = Vec::new();
    for (place, (bars, other)) in places.iter().zip(own.sequences.iter().zip(&other.sequences)) {
        let highest = bars.highest().max(other.highest());
        match runs.last_mut() {
            _ if place.bars == 0 => {}
            Some(run) if run.label == bars.label && run.rank == place.rank => {
                run.right = place.right;
                run.highest = run.highest.max(highest);
            }
            _ => runs.push(Run {
                rank: place.rank,
                left: place.left,
                right: place.right,
                label: &bars.label,
                highest,
            }),
        }
    }
    runs
}

/// Why there is no picture.
#[derive(Debug, PartialEq, Eq, thiserror::Error, Diagnostic)]
pub(crate) enum PictureError {
    #[error("{bars} tokens cannot be drawn")]
    #[diagnostic(help("give a batch of 1 to {MOST_BARS}: a small one shows the same"))]
    Tokens { bars: usize },
    #[error("the picture could not be drawn: {0}")]
    #[diagnostic(help("leave out --svg"))]
    Drawing(String),
}
