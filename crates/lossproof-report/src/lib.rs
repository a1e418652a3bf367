//! What a judging command found, rendered as one static HTML page, as JUnit XML and as JSON lines.
//!
//! A command fills in a [`Report`]: a head, and sections of parts. [`html`] makes all of it a page that needs
//! no script, no network and no font of its own. [`junit`] and [`json_lines`] are made of its [`Checks`]
//! alone. The same report gives the same bytes.
//!
//! Nothing is believed of the text in a report. It may come from a trainer that somebody else wrote, so it is
//! escaped, stripped of what moves a cursor or turns the direction of writing, and cut where it would blow up
//! a page.
//!
//! ```
//! use lossproof_report::{Check, Checks, Outcome, Part, Report, Section, html, json_lines, junit};
//!
//! let laws = Checks {
//!     name: "laws".to_owned(),
//!     checks: vec![
//!         Check::passed("token-mean", "every supervised token has the same weight").measured("cases",
//! 256.0),
//!         Check::failed("packing", "documents in one sequence do not see each other", "the losses differ")
//!             .with_details("one sequence of 4 tokens, cut after 2")
//!             .with_rerun("lossproof laws --law packing --seed 7"),
//!     ],
//! };
//! let report = Report {
//!     title: "Laws".to_owned(),
//!     command: "lossproof laws --seed 7".to_owned(),
//!     subject: vec!["my trainer 1.0, f32 on cpu".to_owned()],
//!     outcome: Outcome::Deviates,
//!     summary: "1 of 2 laws is broken.".to_owned(),
//!     sections: vec![Section::new("Laws", vec![Part::Checks(laws)])],
//! };
//! assert!(html(&report).starts_with("<!DOCTYPE html>"));
//! assert!(junit(&report)?.contains("<failure"));
//! assert_eq!(json_lines(&report)?.lines().count(), 3);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod html;
mod json;
mod junit;
mod model;
mod number;
mod text;

pub use html::html;
pub use json::{JsonError, SCHEMA, json_lines};
pub use junit::{JunitError, junit};
pub use model::{
    Align, Cell, Check, CheckOutcome, Checks, Column, Coverage, Curves, Definition, Difference, HeatMap,
    HeatMaps, Kill, KillMatrix, KillRow, Mark, Measure, Outcome, Part, Report, Scale, Section, Sequence,
    Series, Table, TableCell,
};
