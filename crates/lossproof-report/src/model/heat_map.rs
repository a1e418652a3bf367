//! Numbers over the sequences and positions of one batch, such as the weight of every prediction.

/// Maps of one batch on one scale, side by side: what is claimed beside what was recovered.
#[derive(Clone, Debug, PartialEq)]
pub struct HeatMaps {
    /// What the maps show.
    pub caption: String,
    /// What a colour stands for: `weight`.
    pub quantity: String,
    /// How a number becomes a colour.
    pub scale: Scale,
    /// The rows of every map.
    pub sequences: Vec<Sequence>,
    /// The maps, from the left.
    pub maps: Vec<HeatMap>,
}

/// How a number becomes a colour.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Scale {
    /// By its share of the largest magnitude in all maps; what is negative has a hue of its own.
    Magnitude,
    /// By its ratio to one, with a hue for what is less and one for what is more.
    Ratio,
}

/// Where in a batch a row of a map is; all counted from 0.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Sequence {
    /// The rank that has the sequence.
    pub rank: usize,
    /// The micro-batch of that rank.
    pub micro_batch: usize,
    /// The sequence in the global batch.
    pub sequence: usize,
}

/// One map.
#[derive(Clone, Debug, PartialEq)]
pub struct HeatMap {
    /// What it is a map of: `claimed`.
    pub name: String,
    /// By sequence, then by position from 0; sequences may have different lengths.
    pub cells: Vec<Vec<Cell>>,
}

/// One position of one sequence.
#[derive(Clone, Debug, PartialEq)]
pub struct Cell {
    /// Its number, where it has one.
    pub value: Option<f64>,
    /// The number as it is read, exact where it is known: `1/25`. Seven characters can be read in the map
    /// itself.
    pub label: String,
    /// How it is drawn besides its colour.
    pub mark: Mark,
}

impl Cell {
    /// A number that is not judged.
    #[must_use]
    pub fn new(value: f64, label: impl Into<String>) -> Self {
        Self { value: Some(value), label: label.into(), mark: Mark::None }
    }

    /// A number that is not what it should be.
    #[must_use]
    pub fn differing(value: f64, label: impl Into<String>) -> Self {
        Self { value: Some(value), label: label.into(), mark: Mark::Differs }
    }

    /// A position that is not supervised, and has no number.
    #[must_use]
    pub fn ignored() -> Self {
        Self { value: None, label: "ignored".to_owned(), mark: Mark::Ignored }
    }

    /// A position whose number could not be found out.
    #[must_use]
    pub fn unknown() -> Self {
        Self { value: None, label: "unknown".to_owned(), mark: Mark::None }
    }
}

/// How a cell is drawn besides its colour.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Mark {
    /// Not at all.
    None,
    /// Hatched: the position is not supervised.
    Ignored,
    /// With a frame and `≠`: the number is not what it should be.
    Differs,
}
