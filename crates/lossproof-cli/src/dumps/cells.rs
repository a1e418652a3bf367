//! What is said of each gradient of a dump, on a terminal and on a page.

use crate::{number::grouped, table::Align};
use lossproof_dumps::State;

/// What is said of a gradient.
pub(super) const COLUMNS: [(&str, Align); 6] = [
    ("gradient", Align::Left),
    ("values", Align::Right),
    ("norm", Align::Right),
    ("root mean square", Align::Right),
    ("zero", Align::Right),
    ("no number", Align::Right),
];

/// The cells of one gradient.
pub(super) fn row(name: &str, state: &State) -> [String; 6] {
    [
        name.to_owned(),
        grouped(state.elements),
        format!("{:.3e}", state.norm),
        format!("{:.3e}", state.root_mean_square()),
        grouped(state.zeros),
        grouped(state.nans + state.infinities),
    ]
}
