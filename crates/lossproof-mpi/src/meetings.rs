//! How ranks meet: each says to the first where it has come and what it brings, and the first says what all have
//! brought, or which of them does not go on.

use crate::{
    Engine, EngineError, Failure, Order, RankError,
    note::{Line, Note, Said},
};
use lossproof_process::Request;
use lossproof_subject::{
    TensorSet,
    safetensors::{decode, encode},
};
use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

/// Where the ranks meet, seen from one of them.
pub(crate) struct Meetings {
    pub(crate) engine: Box<dyn Engine>,
    pub(crate) limit: Duration,
    pub(crate) order: Order,
    /// The question that goes on.
    question: u64,
    /// Once a rank is lost nothing can be asked any more.
    pub(crate) lost: Option<RankError>,
}

impl Meetings {
    pub(crate) fn new(engine: Box<dyn Engine>, limit: Duration, order: Order) -> Self {
        Self { engine, limit, order, question: 0, lost: None }
    }

    pub(crate) fn meet(&mut self, place: &str, own: Vec<u8>) -> Result<Vec<Vec<u8>>, RankError> {
        if let Some(lost) = &self.lost {
            return Err(lost.clone());
        }
        if self.engine.rank() == 0 {
            return self.receive_all(place, own);
        }
        // The first waits for the last to come, and that began when the first came itself.
        let limit = self.limit.saturating_mul(2).saturating_add(Duration::from_secs(1));
        self.go_to(place, own, Some(limit))
    }

    /// The last meeting: the first comes to it when it has done what it alone does, however long that takes.
    pub(crate) fn meet_at_last(&mut self, place: &str) -> Result<(), RankError> {
        if let Some(lost) = &self.lost {
            return Err(lost.clone());
        }
        if self.engine.rank() == 0 {
            self.receive_all(place, Vec::new()).map(drop)
        } else {
            self.go_to(place, Vec::new(), None).map(drop)
        }
    }

    /// The first rank's end of a meeting.
    fn receive_all(&mut self, place: &str, own: Vec<u8>) -> Result<Vec<Vec<u8>>, RankError> {
        let begun = Instant::now();
        let mut brought = vec![own];
        let mut came = vec![place.to_owned()];
        let mut ended: Option<RankError> = None;
        for rank in 1..self.engine.size() {
            let left = self.limit.saturating_sub(begun.elapsed()).max(Duration::from_millis(1));
            match self.arrival(rank, place, left) {
                Ok((at, bytes)) => {
                    came.push(at);
                    brought.push(bytes);
                }
                Err(error) => ended = ended.or(Some(error)),
            }
        }
        if let Some(error) = ended.or_else(|| astray(&came)) {
            self.tell_end(error.rank, &error.failure);
            return Err(error);
        }
        let lengths = brought.iter().map(Vec::len).collect();
        let reply = Note::new(self.question, Said::All(lengths), brought.concat());
        self.send_to_others(reply)?;
        Ok(brought)
    }

    /// Where a rank has come, and with what.
    fn arrival(&mut self, rank: usize, place: &str, left: Duration) -> Result<(String, Vec<u8>), RankError> {
        match self.next(rank, Some(left), place)? {
            Note { line: Line { said: Said::Came(at), .. }, bytes } => Ok((at, bytes)),
            Note { line: Line { said: Said::Ends { rank, failure }, .. }, .. } => {
                Err(RankError { rank, failure })
            }
            Note { line, .. } => Err(self.loses(rank, out_of_turn(&line.said))),
        }
    }

    /// Another rank's end of it.
    fn go_to(
        &mut self,
        place: &str,
        own: Vec<u8>,
        limit: Option<Duration>,
    ) -> Result<Vec<Vec<u8>>, RankError> {
        let sent = self.send(0, Note::new(self.question, Said::Came(place.to_owned()), own));
        if let Err(error) = sent {
            // Before it went it may have said why.
            return match self.next(0, Some(Duration::ZERO), place) {
                Ok(Note { line: Line { said: Said::Ends { rank, failure }, .. }, .. }) => {
                    Err(RankError { rank, failure })
                }
                _ => Err(error),
            };
        }
        match self.next(0, limit, place)? {
            Note { line: Line { said: Said::All(lengths), .. }, bytes } => {
                let (size, announced) =
                    (self.engine.size(), lengths.iter().copied().fold(0, usize::saturating_add));
                if lengths.len() != size || announced != bytes.len() {
                    let (ranks, bytes) = (lengths.len(), bytes.len());
                    let message = format!(
                        "what {ranks} ranks of {size} have brought: {bytes} bytes, and {announced} announced"
                    );
                    return Err(self.loses(0, Failure::Garbage { message }));
                }
                let mut rest = bytes.as_slice();
                let mut brought = Vec::with_capacity(lengths.len());
                for length in lengths {
                    let (own, others) = rest.split_at(length.min(rest.len()));
                    brought.push(own.to_vec());
                    rest = others;
                }
                Ok(brought)
            }
            Note { line: Line { said: Said::Ends { rank, failure }, .. }, .. } => {
                let error = RankError { rank, failure };
                self.note_loss(&error);
                Err(error)
            }
            Note { line, .. } => Err(self.loses(0, out_of_turn(&line.said))),
        }
    }

    /// The next thing that a rank says in the course of this question.
    fn next(&mut self, rank: usize, limit: Option<Duration>, place: &str) -> Result<Note, RankError> {
        loop {
            let message = match self.engine.receive(rank, limit) {
                Ok(message) => message,
                Err(EngineError::Late) => {
                    let waited = limit.unwrap_or_default().max(self.limit);
                    let milliseconds = u64::try_from(waited.as_millis()).unwrap_or(u64::MAX);
                    return Err(self.loses(rank, Failure::Silent { place: place.to_owned(), milliseconds }));
                }
                Err(EngineError::Gone) => return Err(self.loses(rank, Failure::Gone)),
                Err(error @ EngineError::TooLong { .. }) => return Err(self.of_own(error.to_string())),
            };
            match Note::read(rank, message) {
                Ok(Note { line: Line { said: Said::Leaves { rank, failure }, .. }, .. }) => {
                    let error = RankError { rank, failure };
                    self.lost = self.lost.take().or(Some(error.clone()));
                    return Err(error);
                }
                Ok(note) if note.line.question < self.question => {}
                Ok(note) => return Ok(note),
                Err(error) => return Err(self.loses(rank, error.failure)),
            }
        }
    }

    pub(crate) fn ask(&mut self, request: &Request<'static>, tensors: &TensorSet) -> Result<(), RankError> {
        if let Some(lost) = &self.lost {
            return Err(lost.clone());
        }
        let bytes = if tensors.is_empty() { Ok(Vec::new()) } else { encode(tensors) };
        let bytes = bytes.map_err(|error| self.of_own(error.to_string()))?;
        self.question += 1;
        self.send_to_others(Note::new(self.question, Said::Asks(request.clone()), bytes))
    }

    pub(crate) fn hear(&mut self) -> Result<(Request<'static>, TensorSet), RankError> {
        loop {
            let note = self.next(0, None, "a question")?;
            // What the first still says of a question that has ended here is of no interest.
            let Said::Asks(request) = note.line.said else { continue };
            self.question = note.line.question;
            let tensors = if note.bytes.is_empty() { Ok(TensorSet::new()) } else { decode(&note.bytes) };
            let failure = |message: String| Failure::Garbage { message };
            return match tensors {
                Ok(tensors) => Ok((request, tensors)),
                Err(error) => Err(self.loses(0, failure(error.to_string()))),
            };
        }
    }

    /// Tells whoever waits that a rank does not go on: the first tells all, the others tell the first.
    pub(crate) fn tell_end(&mut self, rank: usize, failure: &Failure) {
        let error = RankError { rank, failure: failure.clone() };
        self.note_loss(&error);
        let note = Note::new(self.question, Said::Ends { rank, failure: failure.clone() }, Vec::new());
        // Whoever does not hear it any more needs not know.
        let _ = if self.engine.rank() == 0 { self.send_to_others(note) } else { self.send(0, note) };
    }

    /// Tells all that this rank leaves for good.
    pub(crate) fn leave(&mut self, failure: &Failure) {
        let rank = self.engine.rank();
        let note = Note::new(self.question, Said::Leaves { rank, failure: failure.clone() }, Vec::new());
        // Whoever does not hear it any more needs not know.
        let _ = if rank == 0 { self.send_to_others(note) } else { self.send(0, note) };
    }

    fn send_to_others(&mut self, note: Note) -> Result<(), RankError> {
        let lost = self.lost.as_ref().map(|lost| lost.rank);
        let message = note.write().map_err(|message| self.of_own(message))?;
        let mut sent = Ok(());
        for rank in (1..self.engine.size()).filter(|rank| Some(*rank) != lost) {
            sent = sent.and(self.carry(rank, message.clone()));
        }
        sent
    }

    fn send(&mut self, to: usize, note: Note) -> Result<(), RankError> {
        let message = note.write().map_err(|message| self.of_own(message))?;
        self.carry(to, message)
    }

    fn carry(&mut self, to: usize, message: Vec<u8>) -> Result<(), RankError> {
        match self.engine.send(to, message, self.limit) {
            Ok(()) => Ok(()),
            Err(error @ EngineError::TooLong { .. }) => Err(self.of_own(error.to_string())),
            Err(_) => Err(self.loses(to, Failure::Gone)),
        }
    }

    /// A failure of this rank.
    pub(crate) fn of_own(&self, message: String) -> RankError {
        RankError { rank: self.engine.rank(), failure: Failure::Failed { message } }
    }

    /// A rank of which nothing can be expected any more.
    pub(crate) fn loses(&mut self, rank: usize, failure: Failure) -> RankError {
        let error = RankError { rank, failure };
        self.note_loss(&error);
        error
    }

    fn note_loss(&mut self, error: &RankError) {
        let lost = matches!(error.failure, Failure::Silent { .. } | Failure::Garbage { .. } | Failure::Gone);
        if lost && self.lost.is_none() {
            self.lost = Some(error.clone());
        }
    }
}

/// The first rank that is not where most are; where there is no majority the first rank is right.
fn astray(came: &[String]) -> Option<RankError> {
    let mut at = BTreeMap::<&String, usize>::new();
    for place in came {
        *at.entry(place).or_default() += 1;
    }
    let here = |place: &&String| (at.get(*place).copied().unwrap_or_default(), Some(*place) == came.first());
    let others = came.iter().max_by_key(here)?;
    let rank = came.iter().position(|place| place != others)?;
    let failure = Failure::Elsewhere { came: came.get(rank)?.clone(), others: others.clone() };
    Some(RankError { rank, failure })
}

fn out_of_turn(said: &Said) -> Failure {
    let what = match said {
        Said::Asks(_) => "a question",
        Said::Came(_) => "where it has come",
        Said::All(_) => "what all have brought",
        Said::Ends { .. } | Said::Leaves { .. } => "an end",
    };
    Failure::Garbage { message: format!("{what}, out of turn") }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn astray_of(places: &[&str]) -> Option<usize> {
        let came: Vec<String> = places.iter().map(|&place| place.to_owned()).collect();
        astray(&came).map(|error| error.rank)
    }

    #[test]
    fn whoever_is_not_where_most_are_is_astray() {
        assert_eq!(astray_of(&["a", "a", "a"]), None);
        assert_eq!(astray_of(&["a", "b", "a"]), Some(1));
        assert_eq!(astray_of(&["b", "a", "a"]), Some(0));
        assert_eq!(astray_of(&["a", "b"]), Some(1));
    }
}
