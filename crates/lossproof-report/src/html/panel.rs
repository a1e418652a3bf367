//! One drawing of courses over an axis: lines, what could not be drawn, and the axes.

use super::axis::{self, Axis};
use crate::model::Series;
use crate::number::{coordinate, exact};
use crate::text;
use maud::{Markup, html};

/// The drawing in units: at the width of a phone a unit is a little less than a pixel.
const WIDTH: f64 = 440.0;
const HEIGHT: f64 = 264.0;
const TOP: f64 = 30.0;
const BOTTOM: f64 = 44.0;
const RIGHT: f64 = 16.0;
/// The width of a character beside the axis.
const CHARACTER: f64 = 6.6;
/// Up to how many points each has a dot.
const DOTS: usize = 40;
/// About how many points of a course are drawn; of more, the lowest and the highest of every few.
const POINTS: usize = 1_200;
/// The most marks for what could not be drawn, and how wide one is.
const CROSSES: usize = 100;
const CROSS: f64 = 8.0;

/// What one drawing shows.
pub(super) struct Panel<'a> {
    /// What it shows, for those who do not see it.
    pub(super) title: &'a str,
    pub(super) x: &'a str,
    pub(super) y: &'a str,
    pub(super) log: bool,
    /// The number of each course is that of its colour and of its dashes.
    pub(super) series: &'a [(usize, Series)],
}

impl Panel<'_> {
    /// The drawing, or a sentence where there is nothing to draw.
    pub(super) fn draw(&self) -> Markup {
        let drawable =
            || self.series.iter().flat_map(|(_, series)| &series.points).filter(|&&at| self.can_draw(at));
        let xs = drawable().map(|(x, _)| *x);
        let ys = drawable().map(|(_, y)| *y);
        let (Some(x_axis), Some(y_axis)) =
            (Axis::new(xs.clone(), false, 0.0), Axis::new(ys.clone(), self.log, 0.05))
        else {
            return html! { p.note { "Nothing of it can be drawn." } };
        };
        let ticks = |axis: &Axis, ends| Some(axis.ticks()).filter(|ticks| !ticks.is_empty()).unwrap_or(ends);
        let (x_ticks, y_ticks) = (ticks(&x_axis, axis::ends(xs)), ticks(&y_axis, axis::ends(ys)));
        let left = 16.0 + CHARACTER * axis::longest(&y_ticks) as f64;
        let frame = Frame { x: x_axis, y: y_axis, left };
        html! {
            svg.curves role="img" aria-label=(self.title) viewBox={ "0 0 " (WIDTH) " " (HEIGHT) } {
                title { (self.title) }
                (frame.axes(&x_ticks, &y_ticks, self.x, self.y))
                @for (number, series) in self.series { (self.course(&frame, *number, series)) }
            }
        }
    }

    /// What of the courses is not drawn, a sentence for each.
    pub(super) fn not_drawn(&self) -> Vec<String> {
        let mut sentences = Vec::new();
        for (_, series) in self.series {
            let name = text::line(&series.name, text::LINE);
            let (finite, not_finite): (Vec<_>, Vec<_>) =
                series.points.iter().partition(|(x, y)| x.is_finite() && y.is_finite());
            if let Some((x, y)) = not_finite.first() {
                let (count, x, y) = (not_finite.len(), exact(*x), exact(*y));
                sentences.push(format!("{name}: {count} not finite, the first {y} at {x} {}.", self.x));
            }
            let low = finite.iter().filter(|(_, y)| self.log && *y <= 0.0).count();
            if low > 0 {
                let why = "which a logarithmic axis has no place for";
                sentences.push(format!("{name}: {low} not positive, {why}."));
            }
            if series.points.is_empty() {
                sentences.push(format!("{name}: no values."));
            }
        }
        sentences
    }

    fn can_draw(&self, (x, y): (f64, f64)) -> bool {
        x.is_finite() && y.is_finite() && !(self.log && y <= 0.0)
    }

    fn course(&self, frame: &Frame, number: usize, series: &Series) -> Markup {
        let runs = series.points.split(|&point| !self.can_draw(point)).filter(|run| !run.is_empty());
        let dots = series.points.len() <= DOTS;
        html! {
            g class={ "series-" (number % 6) } {
                @for run in runs {
                    polyline points=(frame.points(&thinned(run))) {}
                    // A point between two gaps has no line.
                    @if dots || run.len() == 1 {
                        @for point in run.iter().take(DOTS) {
                            @let (x, y) = frame.place(*point);
                            circle cx=(coordinate(x)) cy=(coordinate(y)) r="2.5" {}
                        }
                    }
                }
                @for x in self.crosses(frame, series) {
                    text.cross x=(coordinate(x)) y=(coordinate(TOP + 10.0)) { "×" }
                }
            }
        }
    }

    /// Where across the drawing something of a course is not drawn, one place for those that would overlap.
    fn crosses(&self, frame: &Frame, series: &Series) -> Vec<f64> {
        let mut places: Vec<f64> = Vec::new();
        for &(x, y) in &series.points {
            if !x.is_finite() || self.can_draw((x, y)) || !(0.0..=1.0).contains(&frame.x.at(x)) {
                continue;
            }
            let place = frame.across(x);
            if places.len() < CROSSES && places.last().is_none_or(|last| (place - last).abs() >= CROSS) {
                places.push(place);
            }
        }
        places
    }
}

/// The axes in their places.
struct Frame {
    x: Axis,
    y: Axis,
    left: f64,
}

impl Frame {
    fn across(&self, x: f64) -> f64 {
        self.left + self.x.at(x) * (WIDTH - RIGHT - self.left)
    }

    fn up(&self, y: f64) -> f64 {
        HEIGHT - BOTTOM - self.y.at(y) * (HEIGHT - BOTTOM - TOP)
    }

    fn place(&self, (x, y): (f64, f64)) -> (f64, f64) {
        (self.across(x), self.up(y))
    }

    fn points(&self, points: &[(f64, f64)]) -> String {
        let mut places = Vec::new();
        for point in points {
            let (x, y) = self.place(*point);
            places.push(format!("{},{}", coordinate(x), coordinate(y)));
        }
        places.join(" ")
    }

    fn axes(&self, x_ticks: &[(f64, String)], y_ticks: &[(f64, String)], x: &str, y: &str) -> Markup {
        let (left, right) = (coordinate(self.left), coordinate(WIDTH - RIGHT));
        let bottom = coordinate(HEIGHT - BOTTOM);
        html! {
            g.axes {
                @for (value, label) in y_ticks {
                    @let at = self.up(*value);
                    line.grid x1=(left) x2=(right) y1=(coordinate(at)) y2=(coordinate(at)) {}
                    text.end x=(coordinate(self.left - 6.0)) y=(coordinate(at + 4.0)) { (label) }
                }
                line x1=(left) x2=(right) y1=(bottom) y2=(bottom) {}
                @for (value, label) in x_ticks {
                    @let at = self.across(*value);
                    @let text = at.min(WIDTH - CHARACTER * label.chars().count() as f64 / 2.0 - 2.0);
                    line x1=(coordinate(at)) x2=(coordinate(at)) y1=(bottom)
                        y2=(coordinate(HEIGHT - BOTTOM + 4.0)) {}
                    text x=(coordinate(text)) y=(coordinate(HEIGHT - BOTTOM + 18.0)) { (label) }
                }
                text.name.end x=(right) y=(coordinate(HEIGHT - 6.0)) { (x) }
                text.name.start x="2" y="16" { (y) }
            }
        }
    }
}

/// At most about [`POINTS`] points: of every few in a row the lowest and the highest, so that no spike is
/// lost.
fn thinned(points: &[(f64, f64)]) -> Vec<(f64, f64)> {
    if points.len() <= POINTS {
        return points.to_vec();
    }
    let mut kept = Vec::new();
    for few in points.chunks(points.len().div_ceil(POINTS / 2)) {
        let (mut low, mut high) = (0, 0);
        for (index, (_, y)) in few.iter().enumerate() {
            if *y < few[low].1 {
                low = index;
            }
            if *y > few[high].1 {
                high = index;
            }
        }
        kept.push(few[low.min(high)]);
        if low != high {
            kept.push(few[low.max(high)]);
        }
    }
    kept
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn thinning_keeps_the_order_and_every_spike() {
        let mut points: Vec<_> = (0..100_000).map(|step| (f64::from(step), f64::from(step % 7))).collect();
        points[54_321].1 = 1e6;
        points[54_322].1 = -1e6;
        let kept = thinned(&points);
        assert!(kept.len() <= POINTS + 2 && kept.is_sorted_by(|a, b| a.0 < b.0));
        assert!(kept.contains(&(54_321.0, 1e6)) && kept.contains(&(54_322.0, -1e6)));
        assert_eq!(thinned(&points[..POINTS]), points[..POINTS]);
    }
}
