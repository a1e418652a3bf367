//! What models of trainers weigh in a call, each way made once: most hypotheses see and weigh most calls as an honest
//! trainer does.

use crate::{
    call::{Term, TrainerCall},
    reported_loss::Summed,
    trainer_model::{DataPath, TrainerModel},
};
use lossproof_spec::GlobalBatch;
use std::{ptr::fn_addr_eq, rc::Rc};

/// A call as a model weighs it.
pub(crate) struct Weighed {
    /// The batch behind the data path.
    pub(crate) batch: GlobalBatch,
    /// The sums; `None` where the mean of nothing leaves no number.
    pub(crate) terms: Option<Vec<Term>>,
}

/// One call, and how models have weighed it so far.
#[derive(Default)]
pub(crate) struct WeighedCall {
    known: Vec<(DataPath, Summed, Rc<Weighed>)>,
}

impl WeighedCall {
    /// The call as a model weighs it. It is always the same call.
    pub(crate) fn by(
        &mut self,
        model: &TrainerModel,
        summed: Summed,
        asked: &TrainerCall<'_>,
    ) -> Rc<Weighed> {
        let same =
            |(sees, known, _): &&(DataPath, Summed, _)| fn_addr_eq(*sees, model.sees) && *known == summed;
        if let Some((.., weighed)) = self.known.iter().find(same) {
            return Rc::clone(weighed);
        }
        let batch = model.seen(asked);
        let call = TrainerCall { batch: &batch, ..*asked };
        let terms = summed.terms(&call);
        let weighed = Rc::new(Weighed { batch, terms });
        self.known.push((model.sees, summed, Rc::clone(&weighed)));
        weighed
    }
}
