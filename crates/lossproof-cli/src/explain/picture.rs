//! The token weights as a picture: one bar per supervised token, one row of bars per semantics.

use super::batch::Batch;
use crate::number::{fraction, to_f64};
use lossproof_spec::{Counting, Fraction, LossSpec, TokenWeights};
use miette::Diagnostic;
use plotters::{
    coord::Shift,
    prelude::*,
    style::text_anchor::{HPos, Pos, VPos},
};
use std::fmt;

/// More bars than these cannot be told apart.
const MOST_TOKENS: usize = 200;

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

/// The ink turns light where the page is dark: a style sheet outranks the attributes that plotters writes. Bars and marks
/// stand out from both.
const STYLE: &str = "<style>@media (prefers-color-scheme: dark) { text { fill: #e6edf3 } \
                     [stroke=\"#24292F\"] { stroke: #e6edf3 } }</style>";

/// A semantics that can be drawn.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(super) enum Drawn {
    /// One over the number of tokens.
    TokenMean,
    /// One.
    Sum,
    /// One over the tokens of the sequence and the number of sequences.
    SequenceMean,
    /// One over the number of sequences.
    BatchMean,
    /// The mean of the micro-batches' means.
    NaiveAccumulatedMean,
    /// The micro-batches' means, added.
    ForgottenDivision,
    /// The mean of the ranks' means.
    NaiveDataParallel,
    /// The per-token mean divided by the number of ranks.
    AveragingNotUndone,
    /// The per-token mean with first labels counted.
    CountedBeforeShift,
    /// The per-token mean with padding counted.
    PaddingCounted,
}

impl Drawn {
    fn spec(self) -> LossSpec {
        let counted = |counting| LossSpec { counting, ..LossSpec::token_mean() };
        match self {
            Self::TokenMean => LossSpec::token_mean(),
            Self::Sum => LossSpec::sum(),
            Self::SequenceMean => LossSpec::sequence_mean(),
            Self::BatchMean => LossSpec::batch_mean(),
            Self::NaiveAccumulatedMean => LossSpec::naive_accumulated_mean(),
            Self::ForgottenDivision => LossSpec::forgotten_division(),
            Self::NaiveDataParallel => LossSpec::naive_data_parallel(),
            Self::AveragingNotUndone => LossSpec::averaging_not_undone(),
            Self::CountedBeforeShift => counted(Counting::BeforeShift),
            Self::PaddingCounted => counted(Counting::AllPositions),
        }
    }

    /// Name and formula.
    fn title(self) -> &'static str {
        match self {
            Self::TokenMean => "per-token mean: 1/N",
            Self::Sum => "sum: 1",
            Self::SequenceMean => "per-sequence mean: 1/(n·lᵢ)",
            Self::BatchMean => "batch mean: 1/n",
            Self::NaiveAccumulatedMean => "naive accumulated mean: 1/(R·K·Nₖ)",
            Self::ForgottenDivision => "forgotten division: 1/Nₖ",
            Self::NaiveDataParallel => "naive data parallel: 1/(R·Nᵣ)",
            Self::AveragingNotUndone => "averaging not undone: 1/(R·N)",
            Self::CountedBeforeShift => "counted before the shift: 1/(N + m)",
            Self::PaddingCounted => "padding counted: 1/(n·(L − 1))",
        }
    }
}

/// Where a sequence is drawn: from its first bar to the end of its last.
#[derive(Clone, Copy)]
struct Place {
    left: i32,
    right: i32,
    tokens: usize,
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
    fn of(batch: &Batch) -> Result<Self, PictureError> {
        let supervised = batch.supervised;
        if supervised == 0 || supervised > MOST_TOKENS {
            return Err(PictureError::Tokens { supervised });
        }
        let bar = pixels((WIDTH_OF_BARS / supervised).clamp(3, WIDEST_BAR));
        let mut columns =
            Self { bar, sequences: Vec::new(), micro_batches: Vec::new(), ranks: Vec::new(), width: 0 };
        let mut x = MARGIN;
        for (number, rank) in batch.layout.ranks().iter().enumerate() {
            let rank_left = x;
            for micro_batch in rank {
                let left = x;
                for shape in micro_batch {
                    let right = x + bar * pixels(shape.supervised);
                    columns.sequences.push(Place { left: x, right, tokens: shape.supervised, rank: number });
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

/// Draws the token weights of `drawn` on `batch`, as SVG: the same bytes for the same arguments.
pub(super) fn picture(batch: &Batch, drawn: &[Drawn]) -> Result<String, PictureError> {
    let columns = Columns::of(batch)?;
    let weights: Vec<TokenWeights> = drawn
        .iter()
        .map(|drawn| TokenWeights::new(&drawn.spec(), &batch.layout))
        .collect::<Result<_, _>>()
        .expect("invariant: these semantics count an empty group as zero");
    let most = |weights: &TokenWeights| {
        weights.sequences().map(|(weight, _)| to_f64(weight)).fold(f64::MIN_POSITIVE, f64::max)
    };
    let scale = f64::from(HIGHEST_BAR) / weights.iter().map(most).fold(f64::MIN_POSITIVE, f64::max);
    let right = weights.first();
    // Where each row begins, and where the last one ends.
    let mut tops = vec![0];
    for own in &weights {
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
        for (index, (drawn, own)) in drawn.iter().zip(&weights).enumerate() {
            canvas.text(drawn.title(), (MARGIN, tops[index] + TITLE), HPos::Left, TEXT)?;
            canvas.row(tops[index + 1] - BELOW_BARS, own, right.filter(|_| index > 0))?;
        }
        canvas.foot(foot, drawn)?;
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
    /// One semantics: bars that stand on `floor`, what they weigh, and marks where the bars of `right` end.
    fn row(&self, floor: i32, own: &TokenWeights, right: Option<&TokenWeights>) -> Result<(), PictureError> {
        for (place, (weight, _)) in self.columns.sequences.iter().zip(own.sequences()) {
            let height = self.height(weight);
            for left in (0..place.tokens).map(|token| place.left + pixels(token) * self.columns.bar) {
                // A gap between bars, as long as they are wide enough to spare it.
                let corners = [(left, floor - height), (left + self.columns.bar - 2, floor)];
                self.area.draw(&Rectangle::new(corners, BAR.filled())).map_err(failed)?;
            }
        }
        if let Some(right) = right {
            for (place, (weight, _)) in self.columns.sequences.iter().zip(right.sequences()) {
                let y = floor - self.height(weight);
                if place.tokens > 0 {
                    self.line((place.left - 2, y), (place.right, y), RIGHT.stroke_width(2))?;
                }
            }
        }
        for micro_batch in &self.columns.micro_batches {
            self.line((micro_batch.left, floor + 1), (micro_batch.right, floor + 1), INK.stroke_width(1))?;
        }
        for run in runs(&self.columns.sequences, own, right.unwrap_or(own)) {
            let above = floor - self.height(run.highest) - 4;
            self.text(
                &fraction(run.weight),
                (i32::midpoint(run.left, run.right), above),
                HPos::Center,
                SMALL,
            )?;
        }
        Ok(())
    }

    /// What the columns are, and what the marks are.
    fn foot(&self, top: i32, drawn: &[Drawn]) -> Result<(), PictureError> {
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
        if let [first, _, ..] = drawn {
            let name = first.title().split(':').next().unwrap_or_default();
            legend.push(format!("Orange marks: what the {name} weighs."));
        }
        for (number, line) in legend.iter().enumerate() {
            self.text(line, (MARGIN, top + 48 + 17 * pixels(number)), HPos::Left, SMALL)?;
        }
        Ok(())
    }

    fn height(&self, weight: &Fraction) -> i32 {
        ceil(to_f64(weight) * self.scale)
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

/// Neighbouring sequences of a rank whose tokens have the same weight.
struct Run<'a> {
    rank: usize,
    left: i32,
    right: i32,
    weight: &'a Fraction,
    /// The heaviest of what is drawn there.
    highest: &'a Fraction,
}

fn runs<'a>(places: &[Place], own: &'a TokenWeights, other: &'a TokenWeights) -> Vec<Run<'a>> {
    let mut runs: Vec<Run<'a>> = Vec::new();
    for (place, ((weight, _), (other, _))) in places.iter().zip(own.sequences().zip(other.sequences())) {
        let highest = weight.max(other);
        match runs.last_mut() {
            _ if place.tokens == 0 => {}
            Some(run) if run.weight == weight && run.rank == place.rank => {
                run.right = place.right;
                run.highest = run.highest.max(highest);
            }
            _ => runs.push(Run { rank: place.rank, left: place.left, right: place.right, weight, highest }),
        }
    }
    runs
}

/// Why there is no picture.
#[derive(Debug, PartialEq, Eq, thiserror::Error, Diagnostic)]
pub(super) enum PictureError {
    #[error("{supervised} supervised tokens cannot be drawn")]
    #[diagnostic(help("give a batch of 1 to {MOST_TOKENS}: a small one shows the same"))]
    Tokens { supervised: usize },
    #[error("the picture could not be drawn: {0}")]
    #[diagnostic(help("leave out --svg"))]
    Drawing(String),
}

#[cfg(test)]
mod tests {
    use super::super::Args;
    use super::*;

    fn draw(lengths: &[usize], drawn: &[Drawn]) -> Result<String, PictureError> {
        let args = Args { lengths: lengths.to_vec(), ranks: 1, micro_batches: 2, ..Args::default() };
        picture(&Batch::new(&args).unwrap(), drawn)
    }

    /// Top, left and height of every bar.
    fn bars(svg: &str) -> Vec<(i32, i32, i32)> {
        let attribute = |line: &str, name: &str| {
            let value = line.split_once(&format!(" {name}=\"")).unwrap().1;
            value.split_once('"').unwrap().0.parse::<i32>().unwrap()
        };
        let bars = svg.lines().filter(|line| line.starts_with("<rect"));
        bars.map(|bar| (attribute(bar, "y"), attribute(bar, "x"), attribute(bar, "height"))).collect()
    }

    #[test]
    fn every_token_has_a_bar_in_proportion_to_its_weight() {
        // Micro-batches of 3 and 1 tokens: 1/4 each, and 1/6 and 1/2.
        let svg = draw(&[4, 2], &[Drawn::TokenMean, Drawn::NaiveAccumulatedMean]).unwrap();
        let heights: Vec<i32> = bars(&svg).iter().map(|bar| bar.2).collect();
        assert_eq!(heights, [48, 48, 48, 48, 32, 32, 32, 96]);
        for weight in ["1/4", "1/6", "1/2"] {
            assert!(svg.contains(&format!("\n{weight}\n")), "{weight} is not in\n{svg}");
        }
        let floors: Vec<i32> = bars(&svg).iter().map(|bar| bar.0 + bar.2).collect();
        assert!(floors[..4].iter().all(|floor| *floor == floors[0]));
        assert!(bars(&svg).iter().all(|bar| bar.0 >= 0));
    }

    #[test]
    fn a_picture_is_the_same_twice_and_has_ink_for_dark_pages() {
        let drawn = [Drawn::Sum, Drawn::PaddingCounted];
        let svg = draw(&[1, 5, 3], &drawn).unwrap();
        assert_eq!(svg, draw(&[1, 5, 3], &drawn).unwrap());
        assert!(svg.contains("prefers-color-scheme: dark") && svg.contains("stroke=\"#24292F\""), "{svg}");
        assert!(svg.contains("Orange marks: what the sum weighs."), "{svg}");
        assert!(!draw(&[3, 3], &[Drawn::Sum]).unwrap().contains("Orange"), "nothing to compare with");
    }

    #[test]
    fn what_cannot_be_seen_is_not_drawn() {
        assert_eq!(draw(&[1, 1], &[Drawn::Sum]), Err(PictureError::Tokens { supervised: 0 }));
        assert_eq!(draw(&[2, 201], &[Drawn::Sum]), Err(PictureError::Tokens { supervised: 201 }));
        assert!(draw(&[2, 200], &[Drawn::Sum]).is_ok());
    }
}
