//! Conversations on disk, which answer questions again without the trainer.
//!
//! A recording holds answers, each under a key: the hash of its question and of everything that the adapter was told
//! before and that the answer depends on. So the same command gets the same answers, and so does one that asks a part
//! of it, whatever else is in the recording. It is foreign bytes like any answer.

use crate::{
    AdapterError, Message, MessageError, PROTOCOL, RecordingError,
    conversation::{Conversation, Question},
    message::{announced, read_line, shown},
};
use hmac_sha256::Hash;
use lossproof_files::AtomicFile;
use lossproof_spec::concise;
use lossproof_subject::Call;
use serde::{Deserialize, Serialize};
use std::{
    collections::BTreeMap,
    fmt::Write as _,
    fs::File,
    io::{self, BufReader, BufWriter, Seek as _, SeekFrom},
    path::{Path, PathBuf},
};

/// The key of an answer.
type Key = [u8; 32];

/// Everything that an adapter was told and that its answers depend on, as one hash.
#[derive(Clone, Copy, Debug, Default)]
struct Told {
    /// The loss in force.
    configured: Key,
    /// The parameters in force at first.
    loaded: Key,
    /// What was done since the last reset.
    done: Key,
}

impl Told {
    /// The key of the answer to a question, which is told from now on if it changes anything.
    fn key(&mut self, question: &Question<'_>) -> Key {
        let mut hash = Hash::new();
        hash.update(without_number(&question.message.line));
        hash.update(&question.message.tensors);
        let asked = hash.finalize();
        if question.changes_state {
            match question.call {
                Call::Configure => self.configured = asked,
                Call::Load => (self.loaded, self.done) = (asked, Key::default()),
                Call::Reset => self.done = Key::default(),
                _ => self.done = both(&self.done, &asked),
            }
        }
        both(&both(&self.configured, &self.loaded), &both(&self.done, &asked))
    }
}

fn both(one: &Key, other: &Key) -> Key {
    let mut hash = Hash::new();
    hash.update(one);
    hash.update(other);
    hash.finalize()
}

/// A line as we write them, behind the number that it begins with.
fn without_number(line: &[u8]) -> &[u8] {
    let comma = line.iter().position(|&byte| byte == b',').unwrap_or(0);
    &line[comma..]
}

/// The first line of a recording.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Title {
    /// The version of the protocol of its answers.
    lossproof_recording: u32,
}

/// The line in front of each answer.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Heading {
    /// The key, in hexadecimal.
    key: String,
    /// How often the question had been asked before. An answer that is the same as the one before is left out.
    occurrence: u64,
}

fn hexadecimal(key: &Key) -> String {
    let mut text = String::with_capacity(2 * key.len());
    for byte in key {
        let _ = write!(text, "{byte:02x}");
    }
    text
}

fn hash_of(message: &Message) -> Key {
    let mut hash = Hash::new();
    hash.update(without_number(&message.line));
    hash.update(&message.tensors);
    hash.finalize()
}

/// What is known of a question that was asked before.
struct Asked {
    /// How often.
    times: u64,
    /// The last answer.
    answer: Key,
}

/// A conversation that is written down.
pub(crate) struct Recorder<C> {
    inner: C,
    told: Told,
    path: PathBuf,
    /// Has its name at the end.
    file: Option<BufWriter<AtomicFile>>,
    asked: BTreeMap<Key, Asked>,
}

impl<C: Conversation> Recorder<C> {
    /// Writes down from now on.
    pub(crate) fn new(inner: C, path: &Path) -> Result<Self, RecordingError> {
        let unwritable = |source| RecordingError::Unwritable { path: path.to_owned(), source };
        let mut file = BufWriter::new(AtomicFile::create(path).map_err(unwritable)?);
        write_line(&mut file, &Title { lossproof_recording: PROTOCOL }).map_err(unwritable)?;
        let (told, path) = (Told::default(), path.to_owned());
        Ok(Self { inner, told, path, file: Some(file), asked: BTreeMap::new() })
    }

    /// Writes an answer down, unless it is what was answered to the same question before.
    fn write(&mut self, key: Key, answer: &Message) -> io::Result<()> {
        let hash = hash_of(answer);
        let asked = self.asked.entry(key).or_insert(Asked { times: 0, answer: Key::default() });
        let (occurrence, known) = (asked.times, asked.times > 0 && asked.answer == hash);
        *asked = Asked { times: occurrence + 1, answer: hash };
        let Some(file) = self.file.as_mut().filter(|_| !known) else { return Ok(()) };
        write_line(file, &Heading { key: hexadecimal(&key), occurrence })?;
        answer.write(file)
    }

    /// Gives the file its name: whole or not at all.
    fn keep(&mut self) -> io::Result<()> {
        let Some(file) = self.file.take() else { return Ok(()) };
        file.into_inner().map_err(io::IntoInnerError::into_error)?.keep()
    }
}

fn write_line(into: &mut impl io::Write, content: &impl Serialize) -> io::Result<()> {
    serde_json::to_writer(&mut *into, content)?;
    into.write_all(b"\n")
}

impl<C: Conversation> Conversation for Recorder<C> {
    fn begin(&mut self) {
        self.inner.begin();
    }

    fn exchange(&mut self, question: &Question<'_>) -> Result<Message, AdapterError> {
        let key = self.told.key(question);
        let answer = self.inner.exchange(question)?;
        let written = self.write(key, &answer);
        written.map_err(|source| RecordingError::Unwritable { path: self.path.clone(), source })?;
        Ok(answer)
    }

    fn begin_anew(&mut self) -> Result<bool, AdapterError> {
        self.told = Told::default();
        self.inner.begin_anew()
    }

    fn end(&mut self, keeps: bool) -> Result<(), AdapterError> {
        let ended = self.inner.end(keeps);
        if !keeps {
            return ended;
        }
        self.keep().map_err(|source| RecordingError::Unwritable { path: self.path.clone(), source })?;
        ended
    }
}

/// A recorded conversation.
pub(crate) struct Recorded {
    told: Told,
    path: PathBuf,
    file: BufReader<File>,
    /// Of each key, where the answers begin, by how often it had been asked before.
    places: BTreeMap<String, BTreeMap<u64, u64>>,
    /// How often each was asked here.
    asked: BTreeMap<Key, u64>,
}

impl Recorded {
    /// A recording, whose answers are read when they are asked for.
    pub(crate) fn open(path: &Path) -> Result<Self, RecordingError> {
        let unreadable = |source| RecordingError::Unreadable { path: path.to_owned(), source };
        let mut file = BufReader::new(File::open(path).map_err(unreadable)?);
        let size = file.get_ref().metadata().map_err(unreadable)?.len();
        let wrong = |place, source| RecordingError::Wrong { path: path.to_owned(), place, source };
        let title = read_line(&mut file).map_err(|source| wrong(0, source))?.unwrap_or_default();
        let Ok(Title { lossproof_recording }) = serde_json::from_slice(&title) else {
            return Err(RecordingError::None { path: path.to_owned(), shown: shown(&title) });
        };
        if lossproof_recording != PROTOCOL {
            return Err(RecordingError::Version { path: path.to_owned(), found: lossproof_recording });
        }
        let mut places: BTreeMap<String, BTreeMap<u64, u64>> = BTreeMap::new();
        loop {
            let place = file.stream_position().map_err(unreadable)?;
            let Some(line) = read_line(&mut file).map_err(|source| wrong(place, source))? else { break };
            let heading: Heading = serde_json::from_slice(&line).map_err(|source| {
                wrong(place, MessageError::NotAMessage { shown: shown(&line), source: concise(source) })
            })?;
            let place = file.stream_position().map_err(unreadable)?;
            let line = read_line(&mut file).map_err(|source| wrong(place, source))?.unwrap_or_default();
            let bytes = announced(&line).map_err(|source| wrong(place, source))?;
            let behind = file.stream_position().map_err(unreadable)?;
            let end = behind.checked_add(bytes).filter(|&end| end <= size);
            let truncated = MessageError::Truncated { announced: bytes, found: size.saturating_sub(behind) };
            let end = end.ok_or_else(|| wrong(place, truncated))?;
            file.seek(SeekFrom::Start(end)).map_err(unreadable)?;
            places.entry(heading.key).or_default().insert(heading.occurrence, place);
        }
        Ok(Self { told: Told::default(), path: path.to_owned(), file, places, asked: BTreeMap::new() })
    }
}

impl Conversation for Recorded {
    fn begin(&mut self) {}

    fn exchange(&mut self, question: &Question<'_>) -> Result<Message, AdapterError> {
        let key = self.told.key(question);
        let times = self.asked.entry(key).or_default();
        let answers = self.places.get(&hexadecimal(&key));
        let place = answers.and_then(|answers| answers.range(..=*times).next_back()).map(|(_, place)| *place);
        *times += 1;
        let missing = || RecordingError::Missing { path: self.path.clone(), call: question.call };
        let place = place.ok_or_else(missing)?;
        let unreadable = |source| RecordingError::Unreadable { path: self.path.clone(), source };
        self.file.seek(SeekFrom::Start(place)).map_err(unreadable)?;
        let wrong = |source| RecordingError::Wrong { path: self.path.clone(), place, source };
        let answer = Message::read(&mut self.file, question.most_tensors).map_err(wrong)?;
        let mut answer = answer.ok_or_else(missing)?;
        answer.answer_to(question.message).map_err(wrong)?;
        Ok(answer)
    }

    fn begin_anew(&mut self) -> Result<bool, AdapterError> {
        Ok(false)
    }

    fn end(&mut self, _: bool) -> Result<(), AdapterError> {
        Ok(())
    }
}
