//! Logs of training runs, of any trainer: read, lined up, and where they part.
//!
//! A log says less than a [trace](lossproof_trace::Trace): numbers under names of its own, rounded as they were
//! printed, at some of the updates. [`read`] makes a [`Log`] of what several trainers write, and [`compare`] lines
//! two of them up and says where they part first, in what, and by which factor.

mod alignment;
mod allowed;
mod comparison;
mod json;
mod log;
mod names;
mod parting;
mod printed;
mod reading;

pub use alignment::Pairing;
pub use comparison::{CompareError, Comparison, Curve, Settings, compare};
pub use log::{Format, Log, Place, Quantity, Reading, Row};
pub use names::Names;
pub use parting::{Factor, Parting, Ratio};
pub use printed::Resolution;
pub use reading::{LARGEST, LogError, read, read_text};
