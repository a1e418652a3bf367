//! In which order gradients are added.

/// In which order the gradients of ranks are added.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Order {
    /// In that of the engine's all-reduce, which is the engine's own.
    #[default]
    Engine,
    /// In rank order, as [`RanksInTurn`](lossproof_loop::RanksInTurn) does in one process: the same bits.
    Ranks,
}
