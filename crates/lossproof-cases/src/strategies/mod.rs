//! Random [`Case`]s for property tests, always inside what a subject takes, and how they are made simple.
//!
//! A case is drawn as a draft: ranks of micro-batches of rows of documents, from which the fields of every sequence
//! follow. Shrinking works on the draft: there a simplification is a few lines, and none leads to an invalid batch.

mod bounds;
mod complexity;
mod draft;
mod draw;
mod edits;
mod mask;
mod tree;

use crate::Case;
use bounds::Bounds;
use lossproof_subject::{Claims, Count, Limits};
use proptest::{
    strategy::{NewTree, Strategy, ValueTree},
    test_runner::{Config, RngAlgorithm, TestRng, TestRunner},
};
use std::ops::RangeInclusive;
use tree::CaseTree;

/// How large the batches of [`case`] are. Where a subject's [`Limits`] are narrower, they win.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Size {
    /// Ranks of the global batch.
    pub ranks: RangeInclusive<usize>,
    /// Micro-batches of each rank.
    pub micro_batches: RangeInclusive<usize>,
    /// Sequences of each micro-batch.
    pub sequences: RangeInclusive<usize>,
    /// Positions of each sequence, padding included.
    pub positions: RangeInclusive<usize>,
}

/// 1–4 ranks of 1–5 micro-batches of 1–6 sequences of 1–24 positions.
impl Default for Size {
    fn default() -> Self {
        Self { ranks: 1..=4, micro_batches: 1..=5, sequences: 1..=6, positions: 1..=24 }
    }
}

impl Size {
    /// What of this size a subject takes: no count beyond the most that its limits allow.
    #[must_use]
    pub fn within(&self, limits: &Limits) -> Self {
        let narrowed = |range: &RangeInclusive<usize>, takes: Count| {
            takes.nearest(*range.start())..=takes.nearest(*range.end())
        };
        Self {
            ranks: narrowed(&self.ranks, limits.ranks),
            micro_batches: narrowed(&self.micro_batches, limits.micro_batches),
            sequences: narrowed(&self.sequences, limits.sequences),
            positions: narrowed(&self.positions, limits.lengths),
        }
    }
}

/// Cases inside `limits`, of this size and under one of the claimed specs.
///
/// Small counts are likelier than large ones: at the default size the mean global batch has about ten
/// sequences of about ten positions. Ragged and even batches; nothing masked, prompts, suffixes, holes,
/// random masks, an end-of-sequence token used as padding; padding on the left and on the right (segment 0,
/// real tokens counted from position 0); packed documents; ignored sequences, micro-batches, ranks and
/// batches; alphabets of few tokens; every loss spec that counts supervised tokens.
///
/// A failing case shrinks to a local minimum: no single simplification of it still fails. What is simpler is decided in
/// this order: fewer ranks, micro-batches, sequences and positions; one document, no padding, nothing ignored; small
/// tokens; the global token mean with neither smoothing nor z-loss; parameters at the probe's scale; upstream
/// weights of one; a small seed.
///
/// Where `limits` or `size` admit no batch at all, the runner aborts with the reason.
pub fn case(limits: &Limits, claims: &Claims, size: Size) -> impl Strategy<Value = Case> + use<> {
    Cases { limits: *limits, claims: claims.clone(), size }
}

/// So many [`case`]s, the same ones for the same seed.
///
/// # Errors
/// The reason, where `limits` or `size` admit no batch at all.
pub fn draw_cases(
    limits: &Limits,
    claims: &Claims,
    size: &Size,
    seed: u64,
    count: usize,
) -> Result<Vec<Case>, String> {
    let mut bytes = [0; 32];
    bytes[..8].copy_from_slice(&seed.to_le_bytes());
    let random = TestRng::from_seed(RngAlgorithm::ChaCha, &bytes);
    let mut runner = TestRunner::new_with_rng(Config::default(), random);
    let cases = case(limits, claims, size.clone());
    let draw =
        |_| cases.new_tree(&mut runner).map(|tree| tree.current()).map_err(|reason| reason.to_string());
    (0..count).map(draw).collect()
}

#[derive(Debug)]
struct Cases {
    limits: Limits,
    claims: Claims,
    size: Size,
}

impl Strategy for Cases {
    type Tree = CaseTree;
    type Value = Case;

    fn new_tree(&self, runner: &mut TestRunner) -> NewTree<Self> {
        let bounds = Bounds::new(self.limits, &self.claims, &self.size)?;
        let draft = draw::draft(runner.rng(), &bounds);
        Ok(CaseTree::new(bounds, draft))
    }
}
