//! Numbers over tokens or updates, with how far each course is from the first.

/// Courses of one quantity in one picture.
#[derive(Clone, Debug, PartialEq)]
pub struct Curves {
    /// What the picture shows.
    pub caption: String,
    /// What is counted from left to right: `tokens` or `updates`.
    pub x: String,
    /// What is measured, as it stands beside the axis: `loss`.
    pub y: String,
    /// Whether it is drawn by its logarithm. What is not positive is then not drawn, which the picture says.
    pub log: bool,
    /// The courses. The first is what the others are compared with.
    pub series: Vec<Series>,
    /// What a second picture shows of every other course, where it has the same x as the first.
    pub difference: Option<Difference>,
}

/// One course.
#[derive(Clone, Debug, PartialEq)]
pub struct Series {
    /// Whose it is.
    pub name: String,
    /// Where it is measured and what it is there, in the order in which they are joined. Neither need be
    /// finite.
    pub points: Vec<(f64, f64)>,
}

impl Series {
    /// A named course.
    #[must_use]
    pub fn new(name: impl Into<String>, points: Vec<(f64, f64)>) -> Self {
        Self { name: name.into(), points }
    }
}

/// How a course is compared with the first.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Difference {
    /// Its value less that of the first.
    Absolute,
    /// Its value over that of the first.
    Ratio,
}
