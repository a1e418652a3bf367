//! Which blocks of a transformer's gradient are structurally zero on a batch.

use lossproof_spec::{GlobalBatch, Role, Sequence};
use std::{
    collections::{BTreeMap, BTreeSet},
    ops::Range,
};

/// A rectangle of a parameter, seen as rows × columns: a vector is one row, and of more than two dimensions all but the
/// last count rows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Block {
    /// Name of the parameter.
    pub parameter: String,
    /// Which part of it this is: `query`, `key`, `value`, `rows 0..7`, or `all`.
    pub label: String,
    /// Its rows.
    pub rows: Range<usize>,
    /// Its columns.
    pub columns: Range<usize>,
    /// Columns of the whole parameter.
    pub width: usize,
    /// Whether the exact gradient of the block is zero whatever the parameters are.
    pub structurally_zero: bool,
    /// Whether it is where positions are no part of the input, which parameters do not tell: a table of
    /// positions that is not trained is none of them, and turned queries and keys need none. It says nothing
    /// then.
    pub may_be_zero: bool,
    /// Whether the role of the parameter says nothing of where its gradient is zero: it may be a query's under a
    /// name of its own.
    pub undeclared: bool,
}

impl Block {
    /// All elements of a parameter, taken for a vector.
    #[must_use]
    pub fn whole(parameter: &str, elements: usize) -> Self {
        Self {
            parameter: parameter.to_owned(),
            label: "all".to_owned(),
            rows: 0..1,
            columns: 0..elements,
            width: elements,
            structurally_zero: false,
            may_be_zero: false,
            undeclared: false,
        }
    }

    /// The block's elements as row-major indices into the whole parameter, ascending.
    pub fn indices(&self) -> impl Iterator<Item = usize> + '_ {
        self.rows
            .clone()
            .flat_map(move |row| self.columns.clone().map(move |column| row * self.width + column))
    }

    /// The same as runs without a gap.
    pub fn runs(&self) -> impl Iterator<Item = Range<usize>> + '_ {
        let whole = self.columns == (0..self.width);
        let rows = if whole { 0..usize::from(!self.rows.is_empty()) } else { self.rows.clone() };
        rows.map(move |row| {
            if whole {
                self.rows.start * self.width..self.rows.end * self.width
            } else {
                row * self.width + self.columns.start..row * self.width + self.columns.end
            }
        })
    }

    /// Number of elements.
    #[must_use]
    pub fn len(&self) -> usize {
        self.rows.len() * self.columns.len()
    }

    /// Whether the block has no element.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// Divides the parameters of a transformer (name, shape and role) into blocks that are, on this batch, either
/// structurally zero or generically not. Every element is in exactly one block.
///
/// Position `j` is *seen* by position `t` when `j ≤ t` and both are in the same document, that is, have the
/// same segment id other than 0 (padding). What a prediction made at `t` computes is a function of the seen
/// positions alone, through any number of layers, since seeing is transitive. It follows for the gradient of
/// any weighted sum of supervised token losses (label smoothing and z-loss included):
///
/// 1. *Nothing supervised*: the sum is empty, and everything is zero.
/// 2. *Key bias*, where positions are embedded by a parameter: always zero. The scores of one query are
///    `q·(k_j + b)/√D = q·k_j/√D + q·b/√D`; the last term is the same for every key, and softmax ignores it.
///    Where keys are turned by their position (Su et al. 2021) it is not, and the bias matters.
/// 3. *Row p of a position embedding*: zero iff no position with position id `p` is seen by a supervised
///    prediction. Iff: a seen position enters through its value, which generic parameters do not cancel.
/// 4. *Query weight and bias, key weight*: zero iff each supervised prediction sees only positions with the
///    input of its own, as when it sees itself alone: the token id and the position id. By induction over the
///    layers those positions all carry the same vector `x`; attention then averages equal values and returns
///    `v(x)` whatever the probabilities, so nothing depends on the scores, turned keys or not. Iff: with two
///    different inputs in sight, the values differ and the probabilities matter; where positions are no part
///    of the input they do with two different tokens in sight, and the block [may be
///    zero](Block::may_be_zero) without. So may both factors of a low-rank change, which may be of queries.
///
/// "Generically" means: for all parameters but a set of measure zero, in a model with at least one layer, a width of at
/// least 3 and a vocabulary of at least 2.
///
/// Parameters with other roles are one block each, zero only when nothing is supervised; so is an attention
/// projection whose columns are not three equal parts.
#[must_use]
pub fn gradient_blocks<'a>(
    batch: &GlobalBatch,
    parameters: impl IntoIterator<Item = (&'a str, &'a [usize], Role)>,
) -> Vec<Block> {
    let parameters: Vec<_> = parameters.into_iter().collect();
    let embedded = parameters.iter().any(|(_, _, role)| *role == Role::PositionEmbedding);
    let sight = Sight::of(batch);
    let scores_idle = !sight.scores_matter;
    let maybe_idle = !embedded && !sight.tokens_differ;
    let mut blocks = Vec::new();
    for (name, shape, role) in parameters {
        let (rows, width) = match shape.split_last() {
            Some((&last, leading)) => (leading.iter().product(), last),
            None => (1, 1),
        };
        let block = |label: &str, rows: Range<usize>, columns: Range<usize>, structurally_zero: bool| Block {
            parameter: name.to_owned(),
            label: label.to_owned(),
            rows,
            columns,
            width,
            structurally_zero: structurally_zero || !sight.anything_supervised(),
            may_be_zero: false,
            undeclared: matches!(role, Role::Weight | Role::Bias),
        };
        let of_scores =
            |block: Block, bias: bool| Block { may_be_zero: maybe_idle || bias && !embedded, ..block };
        match role {
            Role::QueryKeyValue | Role::QueryKeyValueBias if width % 3 == 0 => {
                let third = width / 3;
                let bias = role == Role::QueryKeyValueBias && embedded;
                let query = block("query", 0..rows, 0..third, scores_idle);
                let key = block("key", 0..rows, third..2 * third, scores_idle || bias);
                blocks.push(of_scores(query, false));
                blocks.push(of_scores(key, role == Role::QueryKeyValueBias));
                blocks.push(block("value", 0..rows, 2 * third..width, false));
            }
            Role::Query | Role::QueryBias | Role::Key => {
                blocks.push(of_scores(block("all", 0..rows, 0..width, scores_idle), false));
            }
            Role::KeyBias => {
                blocks.push(of_scores(block("all", 0..rows, 0..width, scores_idle || embedded), true));
            }
            Role::LowRankIn | Role::LowRankOut => {
                let idle = scores_idle || maybe_idle;
                blocks.push(Block { may_be_zero: idle, ..block("all", 0..rows, 0..width, false) });
            }
            Role::PositionEmbedding if rows > 0 => {
                for (rows, seen) in runs(rows, |row| sight.sees_position_id(row)) {
                    blocks.push(block(&format!("rows {}..{}", rows.start, rows.end), rows, 0..width, !seen));
                }
            }
            _ => blocks.push(block("all", 0..rows, 0..width, false)),
        }
    }
    blocks
}

/// What the supervised predictions of a batch see.
#[derive(Default)]
struct Sight {
    position_ids: BTreeSet<u32>,
    /// Whether some supervised prediction sees two different inputs.
    scores_matter: bool,
    /// Whether some sees two different tokens.
    tokens_differ: bool,
}

impl Sight {
    fn of(batch: &GlobalBatch) -> Self {
        let mut sight = Self::default();
        for sequence in batch.sequences() {
            sight.add(sequence);
        }
        sight
    }

    fn add(&mut self, sequence: &Sequence) {
        let segments = sequence.segment_ids();
        // Within a document a later position sees all that an earlier one does, so the last supervised one decides.
        let mut last_supervised = BTreeMap::new();
        for position in (0..sequence.len()).filter(|&position| sequence.supervises(position)) {
            last_supervised.insert(segments[position], position);
        }
        for (segment, last) in last_supervised {
            let input = |position: usize| (sequence.input_ids()[position], sequence.position_ids()[position]);
            for position in (0..=last).filter(|&position| segments[position] == segment) {
                self.position_ids.insert(sequence.position_ids()[position]);
                self.scores_matter |= input(position) != input(last);
                self.tokens_differ |= input(position).0 != input(last).0;
            }
        }
    }

    fn anything_supervised(&self) -> bool {
        !self.position_ids.is_empty()
    }

    fn sees_position_id(&self, row: usize) -> bool {
        u32::try_from(row).is_ok_and(|row| self.position_ids.contains(&row))
    }
}

/// Divides `0..length` into maximal runs on which `property` is constant.
fn runs(length: usize, property: impl Fn(usize) -> bool) -> Vec<(Range<usize>, bool)> {
    let mut runs: Vec<(Range<usize>, bool)> = Vec::new();
    for index in 0..length {
        let holds = property(index);
        match runs.last_mut() {
            Some((run, value)) if *value == holds => run.end = index + 1,
            _ => runs.push((index..index + 1, holds)),
        }
    }
    runs
}

#[cfg(test)]
mod tests {
    use super::*;
    use lossproof_spec::{IGNORE_INDEX, MicroBatch, Rank, SequenceFields};

    const SHAPES: [(&str, &[usize]); 6] = [
        ("wte.weight", &[50, 6]),
        ("wpe.weight", &[8, 6]),
        ("h.0.attn.c_attn.weight", &[6, 18]),
        ("h.0.attn.c_attn.bias", &[18]),
        ("h.0.mlp.c_fc.weight", &[6, 24]),
        ("ln_f.weight", &[6]),
    ];

    /// A sequence of distinct tokens that supervises the predictions made at these positions.
    fn sequence(length: u32, supervised: &[usize]) -> Sequence {
        let tokens: Vec<u32> = (10..10 + length).collect();
        let labels = tokens.iter().map(|&token| i64::from(token)).collect();
        Sequence::new(tokens, labels).unwrap().supervise_only(|position| supervised.contains(&position))
    }

    fn packed(
        input_ids: &[u32],
        segment_ids: &[u32],
        position_ids: &[u32],
        supervised: &[usize],
    ) -> Sequence {
        let mut labels = vec![IGNORE_INDEX; input_ids.len()];
        for &position in supervised {
            labels[position + 1] = i64::from(input_ids[position + 1]);
        }
        Sequence::from_fields(SequenceFields {
            input_ids: input_ids.to_vec(),
            labels,
            segment_ids: segment_ids.to_vec(),
            position_ids: position_ids.to_vec(),
            targets: vec![],
        })
        .unwrap()
    }

    fn batch(sequences: Vec<Sequence>) -> GlobalBatch {
        GlobalBatch::new(vec![Rank::new(vec![MicroBatch::new(sequences).unwrap()]).unwrap()]).unwrap()
    }

    /// `parameter label` of every block that is structurally zero.
    fn named<const N: usize>(
        shapes: [(&'static str, &'static [usize]); N],
    ) -> impl Iterator<Item = (&'static str, &'static [usize], Role)> {
        shapes.into_iter().map(|(name, shape)| (name, shape, Role::of_name(name)))
    }

    fn zeros(sequences: Vec<Sequence>) -> Vec<String> {
        let blocks = gradient_blocks(&batch(sequences), named(SHAPES));
        blocks
            .iter()
            .filter(|b| b.structurally_zero)
            .map(|b| format!("{} {}", b.parameter, b.label))
            .collect()
    }

    const KEY_BIAS: &str = "h.0.attn.c_attn.bias key";
    const IDLE_SCORES: [&str; 4] = [
        "h.0.attn.c_attn.weight query",
        "h.0.attn.c_attn.weight key",
        "h.0.attn.c_attn.bias query",
        KEY_BIAS,
    ];

    #[test]
    fn blocks_partition_every_parameter() {
        let blocks = gradient_blocks(&batch(vec![sequence(5, &[0, 2])]), named(SHAPES));
        for (name, shape) in SHAPES {
            let mut indices: Vec<usize> =
                blocks.iter().filter(|b| b.parameter == name).flat_map(Block::indices).collect();
            let own = blocks.iter().filter(|b| b.parameter == name).map(Block::len).sum::<usize>();
            assert_eq!(own, indices.len());
            indices.sort_unstable();
            assert!(indices.iter().copied().eq(0..shape.iter().product()), "{name}");
        }
    }

    #[test]
    fn indices_are_row_major_in_the_whole_parameter() {
        let blocks = gradient_blocks(&batch(vec![sequence(5, &[0])]), named(SHAPES));
        let key = blocks.iter().find(|b| b.parameter == SHAPES[2].0 && b.label == "key").unwrap();
        let indices: Vec<usize> = key.indices().take(8).collect();
        assert_eq!(indices, [6, 7, 8, 9, 10, 11, 24, 25]);
        for block in &blocks {
            assert!(block.runs().flatten().eq(block.indices()), "{block:?}");
        }
    }

    #[test]
    fn an_ordinary_batch_has_the_key_bias_and_the_unseen_positions() {
        assert_eq!(zeros(vec![sequence(5, &[0, 1, 2, 3])]), ["wpe.weight rows 4..8", KEY_BIAS]);
    }

    #[test]
    fn ignored_positions_before_a_supervised_prediction_are_seen_and_later_ones_are_not() {
        assert_eq!(zeros(vec![sequence(7, &[3])]), ["wpe.weight rows 4..8", KEY_BIAS]);
    }

    #[test]
    fn a_prediction_that_sees_itself_alone_leaves_scores_idle() {
        let mut expected = vec!["wpe.weight rows 1..8"];
        expected.extend(IDLE_SCORES);
        assert_eq!(zeros(vec![sequence(5, &[0]), sequence(2, &[0])]), expected);
        // One prediction with two keys in any sequence suffices.
        assert_eq!(zeros(vec![sequence(5, &[0]), sequence(3, &[1])]), ["wpe.weight rows 2..8", KEY_BIAS]);
    }

    #[test]
    fn documents_see_themselves_alone() {
        // Two documents of one supervised prediction each, positions restarting or not.
        let documents = |positions: &[u32]| packed(&[1, 2, 3, 4], &[1, 1, 2, 2], positions, &[0, 2]);
        let mut expected = vec!["wpe.weight rows 1..8"];
        expected.extend(IDLE_SCORES);
        assert_eq!(zeros(vec![documents(&[0, 1, 0, 1])]), expected);
        let mut expected = vec!["wpe.weight rows 1..2", "wpe.weight rows 3..8"];
        expected.extend(IDLE_SCORES);
        assert_eq!(zeros(vec![documents(&[0, 1, 2, 3])]), expected);
        // Interleaved documents: position 2 continues document 1 and sees position 0, not position 1.
        let interleaved = packed(&[1, 2, 3, 4], &[1, 2, 1, 1], &[0, 5, 1, 2], &[2]);
        assert_eq!(zeros(vec![interleaved]), ["wpe.weight rows 2..8", KEY_BIAS]);
    }

    #[test]
    fn padding_is_not_seen() {
        let left = packed(&[9, 9, 1, 2, 3], &[0, 0, 1, 1, 1], &[6, 7, 0, 1, 2], &[2, 3]);
        assert_eq!(zeros(vec![left]), ["wpe.weight rows 2..8", KEY_BIAS]);
    }

    #[test]
    fn equal_inputs_in_sight_leave_scores_idle() {
        let repeated = |position_ids: &[u32]| packed(&[5, 5, 5, 6], &[1; 4], position_ids, &[2]);
        let mut expected = vec!["wpe.weight rows 0..3", "wpe.weight rows 4..8"];
        expected.extend(IDLE_SCORES);
        assert_eq!(zeros(vec![repeated(&[3, 3, 3, 3])]), expected);
        assert_eq!(zeros(vec![repeated(&[0, 1, 2, 3])]), ["wpe.weight rows 3..8", KEY_BIAS]);
    }

    #[test]
    fn nothing_supervised_is_zero_everywhere() {
        let blocks = gradient_blocks(&batch(vec![sequence(5, &[]), sequence(1, &[])]), named(SHAPES));
        assert!(blocks.iter().all(|b| b.structurally_zero));
        assert_eq!(blocks.iter().filter(|b| b.parameter == "wpe.weight").count(), 1);
    }

    #[test]
    fn unknown_names_and_shapes_are_one_block() {
        let odd: [(&str, &[usize]); 5] = [
            ("encoder.embed", &[2, 3, 4]),
            ("temperature", &[]),
            ("h.x.attn.c_attn.bias", &[18]),
            ("h.0.attn.c_attn.bias", &[17]),
            ("wpe.weight", &[0, 6]),
        ];
        let blocks = gradient_blocks(&batch(vec![sequence(3, &[1])]), named(odd));
        let facts: Vec<_> =
            blocks.iter().map(|b| (b.label.as_str(), b.rows.end, b.width, b.structurally_zero)).collect();
        let all = |rows, width| ("all", rows, width, false);
        assert_eq!(facts, [all(6, 4), all(1, 1), all(1, 18), all(1, 17), all(0, 6)]);
    }
}
