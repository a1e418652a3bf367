//! The list of all modes.

use super::modes::{Factor, releases};
use crate::{
    table::{Align, Table},
    text::paragraph,
};

/// What the letters of the divisors are.
const LETTERS: &str = "A loss is divided by N, all losses; N_r, those on its rank; N_k, those in its \
                       micro-batch; l_i, those in its sequence; n, n_r and n_k, as many sequences; K, the \
                       micro-batches of a rank; R, the ranks; m, the sequences whose first label is given; \
                       L_k, the losses of the longest sequence in the micro-batch; L, a constant such as a \
                       maximal length, for which --mode takes the losses of the longest sequence in the \
                       batch.";

/// Every mode with its release, divisor, semantics and source.
pub(super) fn listing() -> String {
    let mut text = "Which modes of trainers are known?\n".to_owned();
    text += &paragraph(
        "Below are settings that decide how token losses become one gradient, each read in the source of the \
         release that it stands under. A capital letter is that of `lossproof explain`; a mode without one \
         is told by the letter of what it does with each part of the batch. A mode that no loss spec can say \
         is marked; its weights are computed from the divisor.",
        0,
    );
    text += &paragraph(LETTERS, 0);
    let mut table =
        Table::new([("mode", Align::Left), ("divided by", Align::Left), ("which is", Align::Left)]);
    for mode in releases().flat_map(|release| release.modes) {
        let mut which = mode.weighing.short();
        if mode.weighing.factor != Factor::One {
            which += " (no spec)";
        }
        table.row([mode.name.to_owned(), mode.divided_by.to_owned(), which]);
    }
    let table = table.render();
    let mut rows = table.lines();
    let mut lines = vec![String::new()];
    lines.extend(rows.next().map(str::to_owned));
    for release in releases() {
        lines.extend([String::new(), format!("{}, {}", release.name, release.place)]);
        for (mode, row) in release.modes.iter().zip(rows.by_ref()) {
            lines.push(row.to_owned());
            lines.extend(mode.source.iter().map(|source| format!("    {source}")));
        }
    }
    lines.push(String::new());
    text + &lines.join("\n")
}
