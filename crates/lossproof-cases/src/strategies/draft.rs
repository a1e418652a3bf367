//! What a case is drawn as and simplified as.

use crate::{Case, Scale};
use lossproof_spec::{GlobalBatch, IGNORE_INDEX, LossSpec, MicroBatch, Rank, Sequence, SequenceFields};

/// A case before its sequences are spelt out.
#[derive(Clone, Debug)]
pub(super) struct Draft {
    /// Ranks × micro-batches × sequences.
    pub(super) ranks: Vec<Vec<Vec<Row>>>,
    pub(super) spec: LossSpec,
    pub(super) scale: Scale,
    pub(super) upstream: Vec<f64>,
    pub(super) seed: u64,
}

/// A sequence: padding, documents, padding.
#[derive(Clone, Debug)]
pub(super) struct Row {
    /// Positions padded before the documents.
    pub(super) left: usize,
    /// At least one, none empty. Several are packed.
    pub(super) documents: Vec<Vec<Token>>,
    /// Positions padded after the documents.
    pub(super) right: usize,
    /// The token at padded positions; 0 where there are none.
    pub(super) padding: u32,
}

#[derive(Clone, Copy, Debug)]
pub(super) struct Token {
    pub(super) id: u32,
    /// Whether the label at this position is its token, and not ignored.
    pub(super) labelled: bool,
}

impl Draft {
    pub(super) fn rows(&self) -> impl Iterator<Item = &Row> {
        self.ranks.iter().flatten().flatten()
    }

    pub(super) fn rows_mut(&mut self) -> impl Iterator<Item = &mut Row> {
        self.ranks.iter_mut().flatten().flatten()
    }

    pub(super) fn case(&self) -> Case {
        let invariant = "invariant: no group of a draft is empty";
        let micro_batch =
            |rows: &Vec<Row>| MicroBatch::new(rows.iter().map(Row::sequence).collect()).expect(invariant);
        let rank = |rank: &Vec<Vec<Row>>| Rank::new(rank.iter().map(micro_batch).collect()).expect(invariant);
        Case {
            batch: GlobalBatch::new(self.ranks.iter().map(rank).collect()).expect(invariant),
            spec: self.spec,
            scale: self.scale,
            upstream: self.upstream.clone(),
            seed: self.seed,
        }
    }
}

impl Row {
    pub(super) fn len(&self) -> usize {
        self.left + self.right + self.documents.iter().map(Vec::len).sum::<usize>()
    }

    pub(super) fn padded(&self) -> usize {
        self.left + self.right
    }

    pub(super) fn is_valid(&self) -> bool {
        !self.documents.is_empty() && self.documents.iter().all(|document| !document.is_empty())
    }

    pub(super) fn tokens(&self) -> impl Iterator<Item = &Token> {
        self.documents.iter().flatten()
    }

    pub(super) fn tokens_mut(&mut self) -> impl Iterator<Item = &mut Token> {
        self.documents.iter_mut().flatten()
    }

    /// Takes back what a row must not have: a label whose prediction would be made from padding or from
    /// another document, and a padding token that stands nowhere.
    pub(super) fn settle(&mut self) {
        if self.documents.len() > 1 || self.left > 0 {
            for document in &mut self.documents {
                if let Some(first) = document.first_mut() {
                    first.labelled = false;
                }
            }
        }
        if self.padded() == 0 {
            self.padding = 0;
        }
    }

    fn sequence(&self) -> Sequence {
        let mut fields = SequenceFields::default();
        let mut push = |segment: u32, tokens: &[Token]| {
            for (position, token) in (0..).zip(tokens) {
                let label = if token.labelled { i64::from(token.id) } else { IGNORE_INDEX };
                fields.input_ids.push(token.id);
                fields.labels.push(label);
                fields.segment_ids.push(segment);
                fields.position_ids.push(position);
            }
        };
        let padding = Token { id: self.padding, labelled: false };
        push(0, &vec![padding; self.left]);
        for (segment, document) in (1..).zip(&self.documents) {
            push(segment, document);
        }
        push(0, &vec![padding; self.right]);
        Sequence::from_fields(fields).expect("invariant: settled rows make valid sequences")
    }
}
