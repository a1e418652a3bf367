//! What is seen and should not be, found by comparing with an honest trainer.

use super::{
    examination::Sight,
    judge::Judge,
    model::{Model, honest_attention},
    numbers::Numbers,
    runs::Run,
    score::Score,
    steps::Mistake,
};

impl Judge<'_, '_> {
    /// The loss of a probe beside what it should be, where it is something else.
    pub(super) fn strange_loss(&self, index: usize) -> Option<String> {
        let (measured, honest) = (&self.seen.measured[index], self.honest[index].as_ref()?);
        let numbers = Numbers { tolerance: self.tolerance(), floor: 0.0 };
        let (probe, found, due) = (&measured.probe, measured.loss, honest.loss);
        let said =
            format!("{} under {}: the loss is {found:.6} where {due:.6} is right", probe.name, probe.spec);
        (!numbers.same_number(found, due)).then_some(said)
    }

    /// The parameters whose gradient is not what it should be on some probe.
    pub(super) fn strange_gradients(&self) -> Vec<String> {
        let strange = |name: &str| {
            self.seen.measured.iter().zip(&self.honest).any(|(measured, honest)| {
                let Some(honest) = honest else { return false };
                let numbers = Numbers { tolerance: self.tolerance(), floor: honest.norm() / 1024.0 };
                let pair = measured.gradient.get(name).zip(honest.gradient.get(name));
                pair.is_some_and(|(found, due)| !numbers.same(found, due))
            })
        };
        let names = self.seen.parameters.iter().map(|parameter| &parameter.name);
        names.filter(|name| strange(name)).cloned().collect()
    }

    /// The first thing that is wrong in a run, in words.
    pub(super) fn strange_step(&self, run: &Run) -> Option<String> {
        let mut score = Score::default();
        self.run(run, Mistake::None, &mut score);
        score.first_against
    }

    /// What is wrong with a validation, in words.
    pub(super) fn strange_validation(&self) -> Option<String> {
        let mut score = Score::default();
        self.validation(self.seen.validation.as_ref()?, &Model::HONEST, &mut score);
        score.first_against
    }
}

/// Where attention is not what it should be: position and input.
pub(super) fn strange_sight(sight: &Sight) -> Option<(usize, usize, bool)> {
    sight.depends.iter().enumerate().find_map(|(position, depends)| {
        let real = sight.sequence.segment_ids()[position] > 0;
        let mut inputs = depends.iter().enumerate();
        let strange =
            inputs.find(|(input, d)| real && **d != honest_attention(&sight.sequence, position, *input));
        strange.map(|(input, depends)| (position, input, *depends))
    })
}
