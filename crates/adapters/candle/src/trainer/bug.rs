//! The bugs that the trainers can be given, one at a time, each as users of candle make it.

/// One mistake in a trainer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bug {
    /// Each micro-batch is averaged over its own tokens and the averages are averaged, where the mean over
    /// all tokens is
    /// meant. Under [`Mean::OfMicroBatches`](crate::Mean::OfMicroBatches) that is what is meant, and no bug.
    MeanOfMeans,
    /// Ignored positions and padding are counted in the denominator.
    PaddingCounted,
    /// Position t is scored against the token at t.
    ShiftMissing,
    /// The labels are shifted twice: position t is scored against the token at t + 2.
    ShiftTwice,
    /// As many shifted labels are hidden as the prompt has tokens: one too many.
    PromptMaskTooLong,
    /// The gradient is cleared before each micro-batch.
    ZeroGradInWindow,
    /// The gradient is never cleared.
    ZeroGradMissing,
    /// A window is divided by the number of micro-batches of the longest window so far.
    PartialWindow,
    /// The loss that is logged is the other mean: that of the micro-batches' means where the mean over all
    /// tokens is
    /// trained on, and the other way round.
    OtherLossLogged,
    /// A position sees the one after it.
    CausalMaskOffByOne,
    /// Scores are divided by the root of the number of keys, where the width of a head is meant: the wrong
    /// dimension.
    ScaleOfWrongDimension,
    /// The gains of all norms are detached.
    GainDetached,
    /// Adam's moments are not corrected for their start at zero.
    NoBiasCorrection,
    /// Norms and biases decay too.
    DecayOnNorms,
    /// Each micro-batch's gradient is clipped by itself before it is accumulated, and the sum is not.
    ClippedPerMicroBatch,
}

impl Bug {
    /// All of them.
    pub const ALL: [Self; 15] = [
        Self::MeanOfMeans,
        Self::PaddingCounted,
        Self::ShiftMissing,
        Self::ShiftTwice,
        Self::PromptMaskTooLong,
        Self::ZeroGradInWindow,
        Self::ZeroGradMissing,
        Self::PartialWindow,
        Self::OtherLossLogged,
        Self::CausalMaskOffByOne,
        Self::ScaleOfWrongDimension,
        Self::GainDetached,
        Self::NoBiasCorrection,
        Self::DecayOnNorms,
        Self::ClippedPerMicroBatch,
    ];
}
