//! Weights that a minority of wrong parts does not bend.

use super::{
    TomographyError,
    part_equations::{Misfit, PartEquations},
};
use lossproof_numerics::{Equations, Perturbation, Solution};

/// Reweighted least squares converges linearly; after this many rounds wrong parts stand out.
const ROUNDS: usize = 40;

/// How many equations per unknown the explained parts must have: with one alone they would be explained by
/// anything.
const EQUATIONS_PER_UNKNOWN: usize = 2;

/// The parts that one weighting explains and their weights, when they are most of the parts and determine as
/// much as all of them do.
///
/// Least absolute deviation over parts, `min_w Σ_p ρ_p` with `ρ_p = ‖r_p‖/s_p` and `s_p` the Frobenius norm
/// of the basis over the parameter, by iteratively reweighted least squares (Weiszfeld 1937): each round
/// solves `min_w Σ_p ‖r_p‖²/(s_p²·ρ_p)` with the ρ of the round before, no smaller than what rounding
/// explains. Then the parts with the largest `‖r_p‖` over its bound leave one by one, until least squares
/// over the rest explains all of the rest.
///
/// This finds wrong parts which are outweighed in every direction of the weights: `‖A_wrong·d‖/s` summed over
/// them is less than over the others. Where they are not, nothing is claimed.
pub(super) fn majority(
    all: &PartEquations<'_>,
    parts: &[usize],
    start: &Solution,
) -> Result<Option<(Vec<usize>, Solution)>, TomographyError> {
    let unknowns = start.values.len();
    let sizes: Vec<f64> = parts.iter().map(|&part| all.size(part)).collect();
    let mut misfits = all.misfits(parts, &start.closest);
    for _ in 0..ROUNDS {
        let sized = misfits.iter().zip(&sizes).filter(|(misfit, size)| **size > 0.0 && misfit.bound > 0.0);
        let weighed = sized.map(|(misfit, &size)| (factor(misfit, size), &all.of_part[misfit.part]));
        let solution = Equations::stack(unknowns, weighed)?
            .solve(&Perturbation { columns: &vec![0.0; unknowns], right: 0.0 })?;
        misfits = all.misfits(parts, &solution.values);
    }
    let mut candidates: Vec<usize> =
        misfits.iter().filter(|misfit| plausible(misfit)).map(|misfit| misfit.part).collect();
    loop {
        let equations: usize = candidates.iter().map(|&part| all.of_part[part].equations()).sum();
        if 2 * candidates.len() <= parts.len() || equations < EQUATIONS_PER_UNKNOWN * unknowns {
            return Ok(None);
        }
        let solution = all.solve(&candidates, 0.0)?;
        if !same_members(&solution, start) {
            return Ok(None);
        }
        let misfits = all.misfits(&candidates, &solution.closest);
        let worst = misfits.iter().enumerate().filter(|(_, misfit)| !misfit.explained());
        let excess = |misfit: &Misfit| misfit.residual / misfit.bound;
        match worst.max_by(|(_, a), (_, b)| excess(a).total_cmp(&excess(b))) {
            None => return Ok(Some((candidates, solution))),
            Some((worst, _)) => drop(candidates.remove(worst)),
        }
    }
}

/// `1/(s·√ρ)`: what the equations of a part are multiplied with.
fn factor(misfit: &Misfit, size: f64) -> f64 {
    1.0 / (size * misfit.residual.max(misfit.bound)).sqrt()
}

/// Whether a part may be one that is explained, short of convergence: within the square root of its relative
/// bound.
fn plausible(misfit: &Misfit) -> bool {
    misfit.residual <= (misfit.bound * misfit.scale).sqrt()
}

fn same_members(one: &Solution, other: &Solution) -> bool {
    one.groups.iter().map(|group| &group.members).eq(other.groups.iter().map(|group| &group.members))
}
