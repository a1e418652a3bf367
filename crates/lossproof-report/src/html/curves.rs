//! Courses of one quantity in one picture, how far each is from the first in a second one, and the numbers as
//! a table.

use super::panel::Panel;
use super::{bounded, table};
use crate::model::{Column, Curves, Difference, Series, Table, TableCell};
use crate::{number, text};
use maud::{Markup, html};
use std::collections::HashMap;

/// The most courses that are drawn.
const SERIES: usize = 12;
/// About how many rows the table of numbers has.
const ROWS: usize = 200;

pub(super) fn curves(curves: &Curves) -> Markup {
    let (shown, note) = bounded(&curves.series, SERIES, "courses");
    let (x, y) = (text::line(&curves.x, text::NAME), text::line(&curves.y, text::NAME));
    let caption = text::line(&curves.caption, text::SENTENCE);
    let series: Vec<_> = shown.iter().cloned().enumerate().collect();
    let title = format!("{y} over {x}");
    let first =
        Panel { title: &title, x: &x, y: &axis_name(&y, curves.log), log: curves.log, series: &series };
    let compared = curves.difference.filter(|_| shown.len() > 1).map(|how| (how, differences(how, shown)));
    html! {
        figure.courses {
            figcaption { (caption) }
            (names(shown))
            div.side-by-side {
                div.panel { (first.draw()) (sentences(&first.not_drawn())) }
                @if let Some((how, differences)) = &compared {
                    (second(*how, &x, &y, &text::line(&shown[0].name, text::NAME), differences))
                }
            }
            (note)
            (numbers(&caption, &x, shown, compared.as_ref().map_or(&[][..], |(_, all)| all.as_slice())))
        }
    }
}

fn second(how: Difference, x: &str, y: &str, first: &str, differences: &[(usize, Series)]) -> Markup {
    let name = match how {
        Difference::Absolute => format!("{y} minus that of {first}"),
        Difference::Ratio => format!("{y} over that of {first}"),
    };
    let title = format!("{name}, over {x}");
    let panel = Panel { title: &title, x, y: &name, log: false, series: differences };
    html! { div.panel { (panel.draw()) (sentences(&panel.not_drawn())) } }
}

fn axis_name(y: &str, log: bool) -> String {
    if log { format!("{y} (logarithmic)") } else { y.to_owned() }
}

fn sentences(sentences: &[String]) -> Markup {
    html! { @for sentence in sentences { p.note { (sentence) } } }
}

/// Every course but the first against the first, where it has the same x; each keeps the number of its
/// colour.
fn differences(how: Difference, series: &[Series]) -> Vec<(usize, Series)> {
    let Some((first, others)) = series.split_first() else { return Vec::new() };
    let known: HashMap<u64, f64> = first.points.iter().map(|(x, y)| (key(*x), *y)).collect();
    let mut differences = Vec::new();
    for (number, other) in (1..).zip(others) {
        let mut points = Vec::new();
        for (x, y) in &other.points {
            if let Some(to) = known.get(&key(*x)) {
                let difference = match how {
                    Difference::Absolute => y - to,
                    Difference::Ratio => y / to,
                };
                points.push((*x, difference));
            }
        }
        differences.push((number, Series::new(other.name.as_str(), points)));
    }
    differences
}

/// Equal for equal numbers; of zeros, both.
fn key(x: f64) -> u64 {
    (x + 0.0).to_bits()
}

/// The courses' names, each with a piece of its line.
fn names(series: &[Series]) -> Markup {
    html! {
        ul.legend {
            @for (number, series) in series.iter().enumerate() {
                li {
                    svg.key width="34" height="12" viewBox="0 0 34 12" aria-hidden="true" {
                        g class={ "series-" (number % 6) } { polyline points="1,6 33,6" {} }
                    }
                    span { (text::line(&series.name, text::LINE)) }
                }
            }
        }
    }
}

/// The numbers by x, some of them left out where they are many, and the differences beside them.
fn numbers(caption: &str, x: &str, series: &[Series], differences: &[(usize, Series)]) -> Markup {
    let mut xs: Vec<f64> = series.iter().flat_map(|series| &series.points).map(|(x, _)| x + 0.0).collect();
    xs.sort_by(f64::total_cmp);
    xs.dedup_by_key(|x| x.to_bits());
    let every = xs.len().div_ceil(ROWS).max(1);
    let mut courses: Vec<HashMap<u64, f64>> = Vec::new();
    let mut columns = vec![Column::numbers(x)];
    for course in series {
        columns.push(Column::numbers(course.name.as_str()));
        courses.push(course.points.iter().map(|(x, y)| (key(*x), *y)).collect());
    }
    for (_, difference) in differences {
        columns.push(Column::numbers(format!("{}, compared", difference.name)));
        courses.push(difference.points.iter().map(|(x, y)| (key(*x), *y)).collect());
    }
    let mut rows = Vec::new();
    for (index, x) in xs.iter().enumerate() {
        if index % every != 0 && index + 1 != xs.len() {
            continue;
        }
        let mut row = vec![TableCell::plain(number::exact(*x))];
        for course in &courses {
            let y = course.get(&key(*x));
            row.push(TableCell::plain(y.map_or_else(String::new, |y| number::exact(*y))));
        }
        rows.push(row);
    }
    let note = (every > 1).then(|| format!("Every {every}th of {} values.", xs.len()));
    table::numbers(&Table { caption: caption.to_owned(), columns, rows }, note.as_deref())
}
