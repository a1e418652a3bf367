//! What one process knows of all ranks.

use crate::{Engine, Failure, Order, RankError, meetings::Meetings};
use lossproof_process::Request;
use lossproof_subject::{SubjectError, TensorSet};
use std::{cell::RefCell, rc::Rc, time::Duration};

/// What one process knows of all ranks. A clone is the same world.
#[derive(Clone)]
pub struct World(Rc<RefCell<Meetings>>);

impl World {
    /// The world of an engine, in which ranks wait for each other so long.
    #[must_use]
    pub fn new(engine: Box<dyn Engine>, limit: Duration, order: Order) -> Self {
        Self(Rc::new(RefCell::new(Meetings::new(engine, limit, order))))
    }

    /// The number of this rank, from 0.
    #[must_use]
    pub fn rank(&self) -> usize {
        self.0.borrow().engine.rank()
    }

    /// How many there are.
    #[must_use]
    pub fn size(&self) -> usize {
        self.0.borrow().engine.size()
    }

    /// The rank that was lost, if one was: no question is answered since.
    #[must_use]
    pub fn lost(&self) -> Option<RankError> {
        self.0.borrow().lost.clone()
    }

    /// Meets all ranks at a place: what each of them brings, in rank order.
    ///
    /// # Errors
    /// [`RankError`], the same on every rank: one has failed, is elsewhere, or does not come in time.
    pub fn meet(&self, place: &str, own: Vec<u8>) -> Result<Vec<Vec<u8>>, RankError> {
        self.0.borrow_mut().meet(place, own)
    }

    /// Meets all ranks at a place, where each has to bring the same.
    ///
    /// # Errors
    /// As [`meet`](Self::meet), and naming the first rank that brings something else than the first: `what` that is.
    pub fn agree(&self, place: &str, what: &str, own: Vec<u8>) -> Result<(), RankError> {
        let all = self.meet(place, own)?;
        match all.iter().position(|other| Some(other) != all.first()) {
            Some(rank) => Err(RankError { rank, failure: Failure::Differs { what: what.to_owned() } }),
            None => Ok(()),
        }
    }

    /// Meets all ranks for the last time. The others wait for the first however long it takes.
    ///
    /// # Errors
    /// As [`meet`](Self::meet).
    pub fn meet_at_last(&self, place: &str) -> Result<(), RankError> {
        self.0.borrow_mut().meet_at_last(place)
    }

    /// Says that this rank leaves for good, whatever is asked of it later.
    pub fn leave(&self, failure: &Failure) {
        self.0.borrow_mut().leave(failure);
    }

    /// Says at the next place that this rank does not go on with what was asked.
    pub fn end(&self, failure: &Failure) {
        let mut inner = self.0.borrow_mut();
        let rank = inner.engine.rank();
        inner.tell_end(rank, failure);
    }

    /// The sum of the gradients of all ranks, each tensor in its element type.
    ///
    /// # Errors
    /// As [`meet`](Self::meet), and when the tensors of a rank are not those of the first.
    pub fn sum(&self, gradient: TensorSet) -> Result<TensorSet, RankError> {
        self.0.borrow_mut().sum(gradient)
    }

    /// Ends every rank, wherever it is: this process with the status, where ranks are processes.
    pub fn abort(&self, status: i32) {
        self.0.borrow_mut().engine.end(status);
    }

    /// Asks all other ranks for their part in something. What this rank has to do of it, it does itself.
    ///
    /// # Errors
    /// [`RankError`] when a rank is lost or does not listen.
    pub(crate) fn ask(&self, request: &Request<'static>, tensors: &TensorSet) -> Result<(), RankError> {
        self.0.borrow_mut().ask(request, tensors)
    }

    /// What the first rank asks next, however long that takes.
    ///
    /// # Errors
    /// [`RankError`] when the first rank is gone or says what is nothing.
    pub(crate) fn hear(&self) -> Result<(Request<'static>, TensorSet), RankError> {
        self.0.borrow_mut().hear()
    }
}

impl World {
    /// Ends what was asked, on all ranks: `answer` is what this rank has made of it.
    ///
    /// # Errors
    /// What this rank or the first of the others has failed with.
    pub(crate) fn conclude<T>(&self, answer: Result<T, SubjectError>) -> Result<T, SubjectError> {
        match answer {
            Ok(answer) => {
                self.meet("the end of what was asked", Vec::new())?;
                Ok(answer)
            }
            Err(error) => {
                self.end(&Failure::of(&error));
                Err(error)
            }
        }
    }
}
