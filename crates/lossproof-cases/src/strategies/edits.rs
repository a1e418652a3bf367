//! Simplifications of a draft, in the order in which they are tried.

use super::{
    complexity::{COMBINES, POLICIES, REDUCTIONS, SCOPES},
    draft::{Draft, Row, Token},
};
use crate::Scale;
use lossproof_spec::LossSpec;
use std::{collections::BTreeSet, mem};

/// One simplification. It may change nothing, complicate, or leave the bounds: then it is not taken.
pub(super) type Edit<T = Draft> = Box<dyn Fn(&mut T)>;

/// Lists simplifications of one kind, the largest first. Indices in them are those of the draft they are listed for.
pub(super) type Pass = fn(&Draft) -> Vec<Edit>;

pub(super) const PASSES: [Pass; 9] =
    [ranks, micro_batches, sequences, positions, documents, labels, tokens, spec, numbers];

fn ranks(draft: &Draft) -> Vec<Edit> {
    groups(draft.ranks.len(), |draft: &mut Draft| &mut draft.ranks)
}

fn micro_batches(draft: &Draft) -> Vec<Edit> {
    let of_rank =
        |(r, rank): (usize, &Vec<_>)| groups(rank.len(), move |draft: &mut Draft| &mut draft.ranks[r]);
    draft.ranks.iter().enumerate().flat_map(of_rank).collect()
}

fn sequences(draft: &Draft) -> Vec<Edit> {
    let mut edits = Vec::new();
    for (r, rank) in draft.ranks.iter().enumerate() {
        for (m, rows) in rank.iter().enumerate() {
            edits.extend(members(rows.len(), move |draft: &mut Draft| &mut draft.ranks[r][m]));
            edits.extend((1..rows.len()).map(|second| {
                let join = move |draft: &mut Draft| {
                    let rows = &mut draft.ranks[r][m];
                    let row = rows.remove(second);
                    rows[second - 1].append(&row);
                };
                Box::new(join) as Edit
            }));
        }
    }
    edits
}

fn positions(draft: &Draft) -> Vec<Edit> {
    let longest = draft.rows().map(Row::len).max().unwrap_or(0);
    let lengths = || (0..).map(|power| 1 << power).take_while(move |&length| length < longest);
    let mut edits: Vec<Edit> = vec![everywhere(|row| (row.left, row.right) = (0, 0))];
    edits.extend(lengths().map(|length| everywhere(move |row| row.truncate(length))));
    edits.extend(in_each_row(draft, |row| {
        let mut edits: Vec<Edit<Row>> = vec![
            Box::new(|row| row.left = 0),
            Box::new(|row| row.right = 0),
            Box::new(|row| row.left /= 2),
            Box::new(|row| row.right /= 2),
            Box::new(|row| row.left = row.left.saturating_sub(1)),
            Box::new(|row| row.right = row.right.saturating_sub(1)),
        ];
        edits.extend(members(row.documents.len(), |row: &mut Row| &mut row.documents));
        for (d, document) in row.documents.iter().enumerate() {
            edits.extend(without(document.len(), move |row: &mut Row| &mut row.documents[d]));
        }
        edits
    }));
    edits
}

/// Several documents become one, and padding becomes part of it.
fn documents(draft: &Draft) -> Vec<Edit> {
    let mut edits: Vec<Edit> = vec![
        everywhere(|row| row.documents = vec![mem::take(&mut row.documents).concat()]),
        everywhere(|row| {
            row.fill_left();
            row.fill_right();
        }),
    ];
    edits.extend(in_each_row(draft, |row| {
        let mut edits: Vec<Edit<Row>> = vec![Box::new(Row::fill_left), Box::new(Row::fill_right)];
        edits.extend(joined(row.documents.len(), |row: &mut Row| &mut row.documents));
        edits
    }));
    edits
}

fn labels(draft: &Draft) -> Vec<Edit> {
    let label = |row: &mut Row| row.tokens_mut().for_each(|token| token.labelled = true);
    let mut edits: Vec<Edit> = vec![everywhere(label)];
    edits.extend(in_each_row(draft, move |row| {
        let mut edits: Vec<Edit<Row>> = vec![Box::new(label)];
        edits.extend(row.tokens().enumerate().filter(|(_, token)| !token.labelled).map(|(index, _)| {
            let label = move |row: &mut Row| {
                row.tokens_mut().nth(index).into_iter().for_each(|token| token.labelled = true);
            };
            Box::new(label) as Edit<Row>
        }));
        edits
    }));
    edits
}

fn tokens(draft: &Draft) -> Vec<Edit> {
    let zero = |row: &mut Row| row.ids_mut().for_each(|id| *id = 0);
    let mut edits: Vec<Edit> = vec![everywhere(zero)];
    // The same token becomes another one wherever it stands: a pair that must stay equal shrinks in no other way.
    let ids: BTreeSet<_> = draft.rows().flat_map(Row::tokens).map(|token| token.id).collect();
    for id in ids {
        let rename = move |new| {
            everywhere(move |row| row.ids_mut().filter(|old| **old == id).for_each(|old| *old = new))
        };
        edits.extend(smaller(id).map(rename));
    }
    edits.extend(in_each_row(draft, move |row| {
        let mut edits: Vec<Edit<Row>> = vec![Box::new(zero)];
        let ids = row.tokens().map(|token| token.id).chain([row.padding]);
        edits.extend(ids.enumerate().flat_map(|(index, id)| {
            smaller(id).map(move |new| {
                let edit = move |row: &mut Row| row.ids_mut().nth(index).into_iter().for_each(|id| *id = new);
                Box::new(edit) as Edit<Row>
            })
        }));
        edits
    }));
    edits
}

fn spec(_: &Draft) -> Vec<Edit> {
    fn set<T: Copy + 'static>(
        values: &[T],
        field: fn(&mut LossSpec) -> &mut T,
    ) -> impl Iterator<Item = Edit> {
        values
            .iter()
            .map(move |&value| Box::new(move |draft: &mut Draft| *field(&mut draft.spec) = value) as Edit)
    }
    let mut edits: Vec<Edit> = vec![Box::new(|draft| draft.spec = LossSpec::token_mean())];
    edits.extend(set(&REDUCTIONS, |spec| &mut spec.reduction));
    edits.extend(set(&SCOPES, |spec| &mut spec.scope));
    edits.extend(set(&COMBINES, |spec| &mut spec.micro_batches));
    edits.extend(set(&COMBINES, |spec| &mut spec.ranks));
    edits.extend(set(&POLICIES, |spec| &mut spec.empty));
    edits.extend(set(&[0.0], |spec| &mut spec.label_smoothing));
    edits.extend(set(&[0.0], |spec| &mut spec.z_loss));
    edits
}

fn numbers(draft: &Draft) -> Vec<Edit> {
    let mut edits: Vec<Edit> =
        vec![Box::new(|draft| draft.scale = Scale::Probe), Box::new(|draft| draft.upstream = vec![1.0])];
    edits.extend(without(draft.upstream.len(), |draft: &mut Draft| &mut draft.upstream));
    let one = |index| Box::new(move |draft: &mut Draft| draft.upstream[index] = 1.0) as Edit;
    edits.extend((0..draft.upstream.len()).map(one));
    let seed = draft.seed;
    let seeds = (0..4).chain([32, 16, 8, 4, 1].map(|bits| seed >> bits));
    edits.extend(seeds.map(|seed| Box::new(move |draft: &mut Draft| draft.seed = seed) as Edit));
    edits
}

/// Token ids worth trying for `id`.
fn smaller(id: u32) -> impl Iterator<Item = u32> {
    [0, 1, 2, id / 2, id.saturating_sub(1)].into_iter().filter(move |&new| new < id)
}

fn everywhere(edit: impl Fn(&mut Row) + 'static) -> Edit {
    Box::new(move |draft| draft.rows_mut().for_each(&edit))
}

/// The edits of every row, as edits of the draft.
fn in_each_row(draft: &Draft, list: impl Fn(&Row) -> Vec<Edit<Row>>) -> Vec<Edit> {
    let in_row = |(index, row)| {
        let there = move |edit: Edit<Row>| {
            Box::new(move |draft: &mut Draft| draft.rows_mut().nth(index).into_iter().for_each(&edit)) as Edit
        };
        list(row).into_iter().map(there)
    };
    draft.rows().enumerate().flat_map(in_row).collect()
}

/// Where a list of a draft or a row stands.
trait Place<R, T>: Fn(&mut R) -> &mut Vec<T> + Copy + 'static {}
impl<R, T, F: Fn(&mut R) -> &mut Vec<T> + Copy + 'static> Place<R, T> for F {}

fn groups<R, T: 'static>(length: usize, at: impl Place<R, Vec<T>>) -> Vec<Edit<R>> {
    let mut edits = members(length, at);
    edits.extend(joined(length, at));
    edits
}

/// One member alone, or all without some.
fn members<R, T: 'static>(length: usize, at: impl Place<R, T>) -> Vec<Edit<R>> {
    let alone = |index| {
        let edit = move |root: &mut R| {
            let kept = at(root).swap_remove(index);
            *at(root) = vec![kept];
        };
        Box::new(edit) as Edit<R>
    };
    let mut edits: Vec<_> = (0..length).map(alone).collect();
    edits.extend(without(length, at));
    edits
}

/// All members without a run of them: halves first, single ones last.
fn without<R, T: 'static>(length: usize, at: impl Place<R, T>) -> Vec<Edit<R>> {
    let mut edits = Vec::new();
    let mut run = length / 2;
    while run > 0 {
        for start in (0..length).step_by(run) {
            let edit = move |root: &mut R| drop(at(root).drain(start..length.min(start + run)));
            edits.push(Box::new(edit) as Edit<R>);
        }
        run /= 2;
    }
    edits
}

/// Two neighbours become one.
fn joined<R, T: 'static>(length: usize, at: impl Place<R, Vec<T>>) -> Vec<Edit<R>> {
    let join = |index| {
        let edit = move |root: &mut R| {
            let second = at(root).remove(index);
            at(root)[index - 1].extend(second);
        };
        Box::new(edit) as Edit<R>
    };
    (1..length).map(join).collect()
}

impl Row {
    /// Keeps the first tokens of the documents.
    fn truncate(&mut self, mut length: usize) {
        for document in &mut self.documents {
            document.truncate(length);
            length -= document.len();
        }
        self.documents.retain(|document| !document.is_empty());
    }

    /// Continues the last document with all tokens of `row`.
    fn append(&mut self, row: &Self) {
        self.documents.last_mut().into_iter().for_each(|last| last.extend(row.tokens()));
    }

    /// Makes the padding on the left part of the first document.
    fn fill_left(&mut self) {
        let padding = vec![Token { id: self.padding, labelled: true }; mem::take(&mut self.left)];
        self.documents[0].splice(0..0, padding);
    }

    /// Makes the padding on the right part of the last document.
    fn fill_right(&mut self) {
        let padding = vec![Token { id: self.padding, labelled: true }; mem::take(&mut self.right)];
        self.documents.last_mut().into_iter().for_each(|last| last.extend_from_slice(&padding));
    }

    fn ids_mut(&mut self) -> impl Iterator<Item = &mut u32> {
        self.documents.iter_mut().flatten().map(|token| &mut token.id).chain([&mut self.padding])
    }
}
