//! The semantics that have a name on the command line, and their weights as a picture.

use super::batch::Batch;
use crate::{
    number::{fraction, to_f64},
    picture::{self, BarLayout, Bars, PictureError, Row},
};
use lossproof_spec::{Counting, LossSpec, TokenWeights};

/// A semantics that can be drawn, and asked for by name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Drawn {
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
    /// What it is.
    pub(crate) fn spec(self) -> LossSpec {
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
    pub(crate) fn title(self) -> &'static str {
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

/// Draws the token weights of `drawn` on `batch`, as SVG: the same bytes for the same arguments.
pub(super) fn picture(batch: &Batch, drawn: &[Drawn]) -> Result<String, PictureError> {
    let mut rows = Vec::new();
    for semantics in drawn {
        let weights = TokenWeights::new(&semantics.spec(), &batch.layout)
            .expect("invariant: these semantics count an empty group as zero");
        let mut sequences = Vec::new();
        for (weight, tokens) in weights.sequences() {
            sequences.push(Bars { weights: vec![to_f64(weight); tokens], label: fraction(weight) });
        }
        rows.push(Row { title: semantics.title().to_owned(), sequences });
    }
    picture::picture(&BarLayout { layout: &batch.layout, bars: |shape| shape.supervised }, &rows)
}

#[cfg(test)]
mod tests {
    use super::super::BatchShape;
    use super::*;

    fn draw(lengths: &[usize], drawn: &[Drawn]) -> Result<String, PictureError> {
        let shape =
            BatchShape { lengths: lengths.to_vec(), ranks: 1, micro_batches: 2, ..BatchShape::default() };
        picture(&Batch::new(&shape).unwrap(), drawn)
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
        assert_eq!(draw(&[1, 1], &[Drawn::Sum]), Err(PictureError::Tokens { bars: 0 }));
        assert_eq!(draw(&[2, 201], &[Drawn::Sum]), Err(PictureError::Tokens { bars: 201 }));
        assert!(draw(&[2, 200], &[Drawn::Sum]).is_ok());
    }
}
