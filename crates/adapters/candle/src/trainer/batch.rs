//! A micro-batch as tensors: rows padded to one width, targets shifted, and who sees whom.

use super::{Bug, settings::Settings};
use candle_core::{Device, Result, Tensor};

/// A label that is not trained on.
pub const IGNORED: i64 = -100;

/// One row of a micro-batch before it is padded. All fields have one entry per position.
#[derive(Clone, Debug)]
pub struct Example {
    /// Token ids.
    pub tokens: Vec<u32>,
    /// The token at each position, or [`IGNORED`]. Position t is scored against `labels[t + 1]`.
    pub labels: Vec<i64>,
    /// Position ids: rows of the position embedding, or angles of rotary positions.
    pub positions: Vec<u32>,
    /// The number of the packed document, 0 for padding. A position sees its own document alone.
    pub documents: Vec<u32>,
}

/// Rows of one width.
pub(super) struct Batch {
    pub(super) rows: usize,
    pub(super) width: usize,
    /// `[rows, width]`.
    pub(super) tokens: Tensor,
    /// `[rows, width]`.
    pub(super) positions: Tensor,
    /// Whether a query sees a key, `[rows, 1, queries, keys]`.
    pub(super) visible: Tensor,
    /// What each position is scored against, or [`IGNORED`]: row after row.
    pub(super) targets: Vec<i64>,
    /// What a mean divides by.
    pub(super) counted: usize,
}

impl Batch {
    /// Pads on the right to the longest row.
    pub(super) fn collate(examples: &[Example], settings: &Settings) -> Result<Self> {
        let rows = examples.len();
        let width = examples.iter().map(|example| example.tokens.len()).max().unwrap_or(0);
        let (mut tokens, mut positions) = (Vec::new(), Vec::new());
        let (mut documents, mut targets) = (Vec::new(), Vec::new());
        for (row, example) in examples.iter().enumerate() {
            tokens.extend_from_slice(&example.tokens);
            positions.extend_from_slice(&example.positions);
            documents.extend_from_slice(&example.documents);
            targets.extend(shifted(&example.labels, settings));
            tokens.resize((row + 1) * width, 0);
            positions.resize((row + 1) * width, 0);
            documents.resize((row + 1) * width, 0);
            targets.resize((row + 1) * width, IGNORED);
        }
        let counted = if settings.has(Bug::PaddingCounted) {
            rows * width.saturating_sub(1)
        } else {
            targets.iter().filter(|&&target| target != IGNORED).count()
        };
        // How far ahead a query sees.
        let ahead = usize::from(settings.has(Bug::CausalMaskOffByOne));
        let mut visible = Vec::new();
        for documents in documents.chunks(width) {
            for (query, own) in documents.iter().enumerate() {
                for (key, other) in documents.iter().enumerate() {
                    visible.push(u8::from(key <= query + ahead && other == own));
                }
            }
        }
        let device = &Device::Cpu;
        Ok(Self {
            rows,
            width,
            tokens: Tensor::from_vec(tokens, (rows, width), device)?,
            positions: Tensor::from_vec(positions, (rows, width), device)?,
            visible: Tensor::from_vec(visible, (rows, 1, width, width), device)?,
            targets,
            counted,
        })
    }
}

/// What each position of a row is scored against.
fn shifted(labels: &[i64], settings: &Settings) -> Vec<i64> {
    let by = match settings.bug {
        Some(Bug::ShiftMissing) => 0,
        Some(Bug::ShiftTwice) => 2,
        _ => 1,
    };
    let mut targets = Vec::new();
    for position in 0..labels.len() {
        let target = labels.get(position + by).copied().unwrap_or(IGNORED);
        // The last position predicts nothing, whatever it is scored against.
        targets.push(if position + 1 < labels.len() { target } else { IGNORED });
    }
    if settings.has(Bug::PromptMaskTooLong) {
        let prompt = labels.iter().take_while(|&&label| label == IGNORED).count();
        for target in targets.iter_mut().take(prompt) {
            *target = IGNORED;
        }
    }
    targets
}
