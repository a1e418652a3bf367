//! What a report consists of: plain values that a command fills in, and that know nothing of how they are
//! drawn.

mod checks;
mod curves;
mod heat_map;
mod kill_matrix;

pub use checks::{Check, CheckOutcome, Checks, Measure};
pub use curves::{Curves, Difference, Series};
pub use heat_map::{Cell, HeatMap, HeatMaps, Mark, Scale, Sequence};
pub use kill_matrix::{Kill, KillMatrix, KillRow};

/// What one command found.
#[derive(Clone, Debug, PartialEq)]
pub struct Report {
    /// What was looked at, as a title: `Tomography of one batch`.
    pub title: String,
    /// The line that makes this report again.
    pub command: String,
    /// Who was judged and how it was asked, one statement a line.
    pub subject: Vec<String>,
    /// What it comes to.
    pub outcome: Outcome,
    /// The same in one sentence.
    pub summary: String,
    /// In the order in which they are read.
    pub sections: Vec<Section>,
}

impl Report {
    /// All lists of checks, in the order of the sections.
    pub fn checks(&self) -> impl Iterator<Item = &Checks> {
        self.sections.iter().flat_map(|section| &section.parts).filter_map(|part| match part {
            Part::Checks(checks) => Some(checks),
            _ => None,
        })
    }
}

/// What a judgement comes to.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Outcome {
    /// It is what was asked for.
    Conforms,
    /// It is not.
    Deviates,
    /// It could not be decided, which never counts as conforming.
    Unchecked,
}

impl Outcome {
    /// The word for it, in lower case.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Conforms => "conforms",
            Self::Deviates => "deviates",
            Self::Unchecked => "unchecked",
        }
    }

    /// The sign for it, which needs no colour.
    #[must_use]
    pub fn sign(self) -> &'static str {
        match self {
            Self::Conforms => "✓",
            Self::Deviates => "✗",
            Self::Unchecked => "?",
        }
    }
}

/// A heading and what stands under it.
#[derive(Clone, Debug, PartialEq)]
pub struct Section {
    /// Its heading.
    pub heading: String,
    /// In the order in which they are read.
    pub parts: Vec<Part>,
}

impl Section {
    /// A section of these parts.
    #[must_use]
    pub fn new(heading: impl Into<String>, parts: Vec<Part>) -> Self {
        Self { heading: heading.into(), parts }
    }
}

/// One thing in a section.
#[derive(Clone, Debug, PartialEq)]
pub enum Part {
    /// A paragraph of plain text.
    Paragraph(String),
    /// Text whose line breaks and spaces count.
    Preformatted(String),
    /// Terms and what they stand for.
    Definitions(Vec<Definition>),
    /// Rows of cells.
    Table(Table),
    /// Numbers over sequences and positions.
    HeatMaps(HeatMaps),
    /// Numbers over tokens or updates.
    Curves(Curves),
    /// Statements that were tried.
    Checks(Checks),
    /// Which bug is found by what.
    KillMatrix(KillMatrix),
    /// What is certified, and what is not covered.
    Coverage(Coverage),
}

/// A term and what it stands for.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Definition {
    /// What is explained.
    pub term: String,
    /// Its explanation.
    pub text: String,
}

impl Definition {
    /// A term with its explanation.
    #[must_use]
    pub fn new(term: impl Into<String>, text: impl Into<String>) -> Self {
        Self { term: term.into(), text: text.into() }
    }
}

/// Rows of cells under headings. The first cell of a row is its name.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Table {
    /// What the table shows.
    pub caption: String,
    /// Its columns, from the left.
    pub columns: Vec<Column>,
    /// Its rows. One that is shorter than the columns ends in empty cells.
    pub rows: Vec<Vec<TableCell>>,
}

/// A column of a [`Table`].
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Column {
    /// What stands above it.
    pub heading: String,
    /// To which side its cells are set.
    pub align: Align,
}

impl Column {
    /// A column of words.
    #[must_use]
    pub fn words(heading: impl Into<String>) -> Self {
        Self { heading: heading.into(), align: Align::Start }
    }

    /// A column of numbers.
    #[must_use]
    pub fn numbers(heading: impl Into<String>) -> Self {
        Self { heading: heading.into(), align: Align::End }
    }
}

/// To which side the cells of a column are set.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Align {
    /// To the left: words.
    Start,
    /// To the right: numbers.
    End,
}

/// A cell of a [`Table`].
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct TableCell {
    /// What stands in it.
    pub text: String,
    /// Drawn as a colour and a sign before the text.
    pub outcome: Option<Outcome>,
}

impl TableCell {
    /// A cell that says nothing of right and wrong.
    #[must_use]
    pub fn plain(text: impl Into<String>) -> Self {
        Self { text: text.into(), outcome: None }
    }

    /// A cell with an outcome.
    #[must_use]
    pub fn judged(text: impl Into<String>, outcome: Outcome) -> Self {
        Self { text: text.into(), outcome: Some(outcome) }
    }
}

/// What is certified, and what is not covered.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Coverage {
    /// Statements that hold.
    pub certified: Vec<String>,
    /// What nothing here says anything about, with the reason where one is known.
    pub not_covered: Vec<String>,
}
