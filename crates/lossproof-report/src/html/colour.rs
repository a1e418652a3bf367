//! The steps of the colour scale: classes whose colours the style sheet has, and the legend that says what
//! they mean.

use crate::model::{HeatMaps, Scale};
use crate::number;
use maud::{Markup, html};

/// Steps of each hue, besides that for nothing at all.
const STEPS: usize = 6;
/// Up to which factor from one a ratio has each step; the last step is what is beyond them.
const FACTORS: [f64; STEPS - 1] = [1.1, 1.3, 1.6, 2.0, 4.0];
/// What counts as no magnitude, as a share of the largest, and as no distance of a ratio from one.
const NOTHING: f64 = 1e-6;

/// A scale with the largest magnitude that it has to show.
pub(super) struct Colours {
    scale: Scale,
    largest: f64,
    negative: bool,
}

impl Colours {
    /// The scale of these maps.
    pub(super) fn of(maps: &HeatMaps) -> Self {
        let mut largest = 0.0_f64;
        let mut negative = false;
        for value in maps.maps.iter().flat_map(|map| map.cells.iter().flatten()).filter_map(|cell| cell.value)
        {
            if value.is_finite() {
                largest = largest.max(value.abs());
            }
        }
        for value in maps.maps.iter().flat_map(|map| map.cells.iter().flatten()).filter_map(|cell| cell.value)
        {
            negative |= value.is_finite() && value < -NOTHING * largest;
        }
        Self { scale: maps.scale, largest, negative }
    }

    /// The class of a number: `zero`, `cool-1` to `cool-6`, `warm-1` to `warm-6`, or `unknown` where it is
    /// not finite.
    pub(super) fn class(&self, value: f64) -> String {
        if !value.is_finite() {
            return "unknown".to_owned();
        }
        match self.scale {
            Scale::Magnitude => {
                let share = if self.largest > 0.0 { value.abs() / self.largest } else { 0.0 };
                let hue = if value < 0.0 { "warm" } else { "cool" };
                if share <= NOTHING { "zero".to_owned() } else { step(hue, magnitude_step(share)) }
            }
            Scale::Ratio => {
                if (value - 1.0).abs() <= NOTHING {
                    return "zero".to_owned();
                }
                let (hue, factor) = if value > 1.0 { ("warm", value) } else { ("cool", value.recip()) };
                // What is not positive is beyond every factor.
                let beyond = FACTORS.iter().take_while(|&&limit| factor <= 0.0 || factor > limit).count();
                step(hue, beyond + 1)
            }
        }
    }

    /// The steps side by side with the numbers between them.
    pub(super) fn legend(&self, quantity: &str) -> Markup {
        let mut boxes = Vec::new();
        match self.scale {
            Scale::Magnitude => {
                let bound = |step: usize| number::rounded(self.largest * (step as f64 / STEPS as f64), 3);
                if self.negative {
                    boxes.extend(
                        (1..=STEPS).rev().map(|each| (step("warm", each), format!("−{}", bound(each)))),
                    );
                }
                boxes.push(("zero".to_owned(), "0".to_owned()));
                if self.largest > 0.0 {
                    boxes.extend((1..=STEPS).map(|each| (step("cool", each), bound(each))));
                }
            }
            Scale::Ratio => {
                let limit = |sign: char, step: usize| match FACTORS.get(step - 1) {
                    Some(factor) => format!("{sign}{factor}"),
                    None => format!("beyond {sign}{}", FACTORS[STEPS - 2]),
                };
                boxes.extend((1..=STEPS).rev().map(|each| (step("cool", each), limit('÷', each))));
                boxes.push(("zero".to_owned(), "1".to_owned()));
                boxes.extend((1..=STEPS).map(|each| (step("warm", each), limit('×', each))));
            }
        }
        strip(quantity, &boxes)
    }
}

fn step(hue: &str, step: usize) -> String {
    format!("{hue}-{step}")
}

/// The step of a share of the largest: the first sixth has the first.
#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a share is from 0 to 1")]
fn magnitude_step(share: f64) -> usize {
    // A bound itself, as rounded, belongs to the step below it.
    ((share * STEPS as f64 - 1e-9).ceil() as usize).clamp(1, STEPS)
}

/// One box for each class; what stands below it is where the step ends, away from nothing.
fn strip(quantity: &str, boxes: &[(String, String)]) -> Markup {
    html! {
        ul.legend aria-label={ "colours of the " (quantity) } {
            li.legend-name { (quantity) " up to" }
            @for (class, label) in boxes {
                li { span.swatch.(class) {} span { (label) } }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_bound_of_a_step_belongs_to_it_whatever_it_is_rounded_to() {
        for divisor in 1..200 {
            let largest = f64::from(divisor).recip();
            let colours = Colours { scale: Scale::Magnitude, largest, negative: false };
            for each in 1..=STEPS {
                let bound = largest * each as f64 / STEPS as f64;
                assert_eq!(colours.class(bound), step("cool", each), "{bound} of {largest}");
                assert_eq!(colours.class(-bound), step("warm", each), "-{bound} of {largest}");
            }
        }
    }
}
