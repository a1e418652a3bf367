"""Ranks as processes: a step of a trainer is made by as many processes as a batch has ranks, under torchrun.

The process that answers the judge trains nothing. For each number of ranks it starts its own command once
more under torchrun, whose processes stay and are asked for one step after another, each over its own socket::

    model = my_model().double()
    train = over_ranks(model, train)
    run(SteppedTrainer(model, train, limits=Limits(vocabulary=61, positions=32, ranks=(1, 2))))

There `train(model, batch)` sees the ranks of the environment that torchrun makes, and is given the whole
batch, of which it trains on its own rank. A loop of its own is run by such processes, too::

    ranks = over_ranks(model, train, training=MyLoop())
    run(SteppedTrainer(model, ranks, training=ranks.training, limits=limits))

Nothing is left running: a process whose socket is closed ends, whatever it waits for.
"""

import atexit
import contextlib
import copy
import hashlib
import itertools
import os
import pickle
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import threading
import time
import traceback
from collections import Counter
from multiprocessing.connection import Client, Connection, wait
from queue import SimpleQueue

import torch

from .protocol import NAMED
from .training import TrainingLoop, Update, Validation

#: The variable of the environment that says to a process under torchrun where it is asked.
SOCKET = "LOSSPROOF_RANKS"

#: Seconds that a process has for what takes no time: to say where it is, and to end.
MOMENT = 5


def over_ranks(model, train, training=None):
    """`train(model, batch)`, as it is made by processes under torchrun: it leaves the parameters that they end
    with in the model, and returns the loss that rank 0 returns. Its `training` runs whole plans on such processes,
    where a :class:`~lossproof_adapters.TrainingLoop` is given. In such a process this answers, and does not return."""
    if training is not None:
        training = copy.copy(training)
        training.takes = {*training.takes, "ranks"}
    if SOCKET in os.environ:
        serve(model, train, training)
    return Ranks(training)


class Ranks:
    """A step on a batch, made by as many processes as it has ranks. They are started when they are needed."""

    def __init__(self, training=None):
        self.training = None if training is None else RankedTraining(self, training)
        self.jobs = {}
        # Ranks wait a third as long as the judge: one third to start, one to answer.
        self.patience = float(os.environ.get("LOSSPROOF_TIMEOUT", 600)) / 3
        atexit.register(self.end)

    def __call__(self, model, batch):
        loss, parameters = self.ask(len(batch), agreed_step, "step", parameters_of(model), batch)
        put(parameters, model)
        return loss

    def ask(self, ranks, agreed, *question):
        """What so many ranks agree on as their answer."""
        try:
            if ranks not in self.jobs:
                self.jobs[ranks] = Job(ranks, self.patience)
            return agreed(self.jobs[ranks].ask(*question))
        except BaseException:
            # Where one rank fails, others may wait for it for ever. The next question has new ones.
            if ranks in self.jobs:
                self.jobs.pop(ranks).end()
            raise

    def end(self):
        """Ends all processes."""
        while self.jobs:
            self.jobs.popitem()[1].end()


class RankedTraining(TrainingLoop):
    """A loop, run by as many processes as a plan has ranks. Each says what happens on its own rank: its own samples of
    each micro-batch. What is logged is what rank 0 logs."""

    def __init__(self, ranks, loop):
        self.ranks, self.loop = ranks, loop
        self.takes, self.resumes, self.masks_of_samples = loop.takes, loop.resumes, loop.masks_of_samples

    def accepts(self, plan):
        self.loop.accepts(plan)

    def train(self, model, plan, stop_after):
        return self.run("train", model, plan, stop_after)

    def resume(self, model, plan, stop_after):
        return self.run("resume", model, plan, stop_after)

    def run(self, what, model, plan, stop_after):
        """The events of all ranks as those of one training."""
        question = what, parameters_of(model), plan, stop_after, self.checkpoints
        return self.ranks.ask(plan.ranks, agreed_training, *question)


def agreed_step(steps):
    """The loss of rank 0, and the parameters that all ranks end with."""
    loss, parameters = steps[0]
    of_zero = digests(parameters)
    for rank, (_, others) in enumerate(steps[1:], 1):
        hold_equal(of_zero, others, f"rank {rank} of {len(steps)} ends the step")
    return loss, parameters


def digests(parameters):
    """What parameters are told apart by, to the bit: ranks other than 0 say no more of theirs."""
    return {name: hashlib.sha256(values.tobytes()).digest() for name, values in parameters.items()}


def hold_equal(of_zero, others, whose):
    """Raises an error where the digests of parameters are not those of rank 0."""
    if of_zero.keys() != others.keys():
        raise RuntimeError(f"{whose} with other parameters than rank 0: {sorted(of_zero.keys() ^ others.keys())}")
    for name, digest in of_zero.items():
        if others[name] != digest:
            raise RuntimeError(f"{whose} with another `{name}` than rank 0")


def agreed_training(traces):
    """The events of rank 0, with the samples of all ranks in each update, and the tokens of all in each validation."""
    ranks = len(traces)
    updates = [[event for event in trace if isinstance(event, Update)] for trace in traces]
    for rank, of_rank in enumerate(updates):
        if len(of_rank) != len(updates[0]):
            raise RuntimeError(f"rank {rank} of {ranks} makes {len(of_rank)} updates, and rank 0 {len(updates[0])}")
    for number, of_all in enumerate(zip(*updates)):
        merge_updates(of_all, number)
    validations = [[event for event in trace if isinstance(event, Validation)] for trace in traces]
    # A loop may validate on rank 0 alone.
    for of_all in zip(*(of_rank for of_rank in validations if len(of_rank) == len(validations[0]))):
        merge_validations(of_all)
    return traces[0]


def merge_updates(of_all, number):
    """Gives the update of rank 0 the samples of all ranks."""
    first, dealt = of_all[0], []
    of_zero = digests(first.parameters)
    for rank, update in enumerate(of_all):
        whose = f"rank {rank} of {len(of_all)} ends update {number}"
        if rank:
            hold_equal(of_zero, update.parameters, whose)
        if update.skipped != first.skipped:
            raise RuntimeError(f"{whose} {'' if update.skipped else 'not '}skipped, unlike rank 0")
        if any(len(micro_batch) > 1 for micro_batch in update.samples):
            raise RuntimeError(f"{whose} with samples of several ranks: a rank names its own, of each micro-batch")
        dealt.append([sum(micro_batch, []) for micro_batch in update.samples])
    first.samples = [list(of_ranks) for of_ranks in itertools.zip_longest(*dealt, fillvalue=[])]


def merge_validations(of_all):
    """Gives the validation of rank 0 the tokens of all ranks."""
    first = of_all[0]
    if any(validation.samples is None for validation in of_all):
        if any(validation.tokens != first.tokens for validation in of_all):
            counts = ", ".join(str(validation.tokens) for validation in of_all)
            raise RuntimeError(f"ranks validate {counts} tokens: say those of all ranks, or which `samples` they are of")
        return
    tokens, times = {}, Counter()
    for validation in of_all:
        for number, of_sample in validation.samples:
            if tokens.setdefault(number, of_sample) != of_sample:
                raise RuntimeError(f"ranks validate {tokens[number]} and {of_sample} tokens of sample {number}")
        # Loaders fill up the ranks that have fewer: a sample that several ranks look at counts once.
        times |= Counter(number for number, _ in validation.samples)
    first.tokens = sum(tokens[number] * count for number, count in times.items())


class Job:
    """Processes under torchrun that have one process group. It is to be ended."""

    def __init__(self, ranks, patience):
        self.ranks, self.patience = ranks, patience
        #: Of each rank: the number of its process, and the connection to it as long as it lives.
        self.processes, self.connections = {}, {}
        # One's own folder, so that nobody else is there.
        with tempfile.TemporaryDirectory() as folder, socket.socket(socket.AF_UNIX) as door:
            address = os.path.join(folder, "ranks")
            door.bind(address)
            door.listen(ranks)
            self.torchrun = subprocess.Popen(
                [sys.executable, "-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={ranks}"]
                + ["--no-python", sys.executable, *sys.orig_argv[1:]],
                env=environment() | {SOCKET: address},
                stdin=subprocess.DEVNULL,
                # What trainers print is no answer.
                stdout=sys.stderr,
            )
            try:
                self.meet(door)
            except BaseException:
                self.end()
                raise

    def meet(self, door):
        """Waits until all ranks have come."""
        late = time.monotonic() + self.patience
        while len(self.connections) < self.ranks:
            if self.torchrun.poll() is not None:
                code = self.torchrun.returncode
                raise RuntimeError(f"torchrun ended ({code}) before {self.ranks} ranks had started")
            if time.monotonic() > late:
                missing = sorted(set(range(self.ranks)) - set(self.connections))
                raise TimeoutError(f"ranks {missing} of {self.ranks} have not started in {self.patience:g} s")
            if wait([door], timeout=0.5):
                connection = Connection(hurried(door.accept()[0]).detach())
                rank, process = connection.recv()
                self.connections[rank], self.processes[rank] = connection, process

    def ask(self, *question):
        """What every rank answers."""
        self.tell(self.connections, *question)
        done, refused, late = {}, {}, time.monotonic() + self.patience
        while len(done) + len(refused) < self.ranks:
            waiting = set(self.connections) - set(done) - set(refused)
            said, gone = self.hear(waiting, late - time.monotonic())
            # One that is gone is why others fail, and not the other way round.
            if gone:
                raise RuntimeError(f"{named(gone, self.ranks)} ended without an answer")
            if not said and not refused:
                raise TimeoutError(self.silent(waiting))
            if not said:
                break
            for rank, (what, answer) in sorted(said.items()):
                if what == "failed":
                    raise RuntimeError(f"rank {rank} of {self.ranks}: {answer}")
                if what == "goes on":
                    late = time.monotonic() + self.patience
                elif what == "refused":
                    refused[rank] = answer
                    # The others refuse, too, or wait for it for ever.
                    late = min(late, time.monotonic() + MOMENT)
                else:
                    done[rank] = answer
        if refused:
            raise self.refusal(refused)
        return [done[rank] for rank in range(self.ranks)]

    def refusal(self, refused):
        """What is raised where some ranks refuse: what they raise themselves, where all raise the same."""
        rank, (kind, message) = min(refused.items())
        if len(refused) == self.ranks and len({kind for kind, _ in refused.values()}) == 1:
            return next(named for named in NAMED if named.__name__ == kind)(message)
        return RuntimeError(f"rank {rank} of {self.ranks}: {kind}: {message}")

    def tell(self, ranks, *question):
        """Sends some of the ranks a question. One that is gone is seen where its answer is waited for."""
        for rank in ranks:
            with contextlib.suppress(OSError):
                self.connections[rank].send_bytes(pickle.dumps(question))

    def hear(self, ranks, seconds):
        """What is said first by some of these ranks, and which are gone: nothing where the time is over."""
        said, gone = {}, []
        waited = wait([self.connections[rank] for rank in ranks], timeout=max(seconds, 0))
        for rank in sorted(rank for rank in ranks if self.connections[rank] in waited):
            try:
                said[rank] = self.connections[rank].recv()
            except (EOFError, OSError):
                self.connections.pop(rank).close()
                gone.append(rank)
        return said, gone

    def silent(self, ranks):
        """Which ranks have not answered, and where they are."""
        self.tell(ranks, "where")
        late, places = time.monotonic() + MOMENT, {}
        while len(places) < len(ranks) and time.monotonic() < late:
            said, _ = self.hear((ranks & set(self.connections)) - set(places), late - time.monotonic())
            places |= {rank: place for rank, (what, place) in said.items() if what == "where"}
        where = [f"rank {rank} is {places.get(rank, 'stopped altogether')}" for rank in sorted(ranks)]
        return f"{named(ranks, self.ranks)} gave no answer in {self.patience:g} s: {'; '.join(where)}"

    def end(self):
        """Ends the processes, and by a signal those that cannot be told."""
        self.tell(self.connections, "end")
        late = time.monotonic() + MOMENT
        while self.connections and any(self.hear(set(self.connections), late - time.monotonic())):
            pass
        for rank, connection in self.connections.items():
            # It is connected, so that its number is that of no other process.
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.processes[rank], signal.SIGKILL)
            connection.close()
        # Told to end, torchrun ends the ranks that never came.
        for harder in (self.torchrun.terminate, self.torchrun.kill):
            try:
                self.torchrun.wait(MOMENT)
            except subprocess.TimeoutExpired:
                harder()
        self.torchrun.wait()


def hurried(connected):
    """A socket that waits a moment for the other end to take and to send what was begun, and not for ever."""
    for direction in (socket.SO_SNDTIMEO, socket.SO_RCVTIMEO):
        connected.setsockopt(socket.SOL_SOCKET, direction, struct.pack("ll", MOMENT, 0))
    return connected


def named(ranks, of):
    """Ranks in words."""
    ranks = sorted(ranks)
    numbers = " and ".join(filter(None, [", ".join(map(str, ranks[:-1])), str(ranks[-1])]))
    return f"rank{'s' if len(ranks) > 1 else ''} {numbers} of {of}"


def environment():
    """That of this process, but for what makes it an adapter. Models are small, and ranks many."""
    without = {name: value for name, value in os.environ.items() if name != "LOSSPROOF_ADAPTER"}
    return without | {"OMP_NUM_THREADS": "1"}


def parameters_of(model):
    """Copies of all parameters by their names, as arrays."""
    return {name: values.detach().numpy().copy() for name, values in model.named_parameters()}


def put(parameters, model):
    """Gives a model these parameters."""
    with torch.no_grad():
        for name, values in model.named_parameters():
            values.copy_(torch.from_numpy(parameters[name]))


def serve(model, train, training):
    """Makes the steps and the trainings that this rank is asked for, until nobody asks any more."""
    torch.set_num_threads(1)
    connection = Client(os.environ.pop(SOCKET), family="AF_UNIX")
    questions, turns = SimpleQueue(), threading.Lock()

    def say(what, answer):
        said = pickle.dumps((what, answer))
        with turns:
            connection.send_bytes(said)

    def listen():
        try:
            while True:
                what, *question = pickle.loads(connection.recv_bytes())
                if what == "where":
                    say("where", place(sys._current_frames()[threading.main_thread().ident]))
                elif what == "end":
                    break
                else:
                    questions.put((what, question))
        except (EOFError, OSError):
            pass  # Whoever asked is gone.
        # A step may wait for another rank for ever.
        os._exit(0)

    say(int(os.environ["RANK"]), os.getpid())
    threading.Thread(target=listen, daemon=True).start()
    while True:
        what, question = questions.get()
        try:
            # What cannot be sent is the trainer's failure, too.
            say("done", answered(model, train, training, lambda: say("goes on", None), what, *question))
        except NAMED as error:
            # What a trainer may say of a batch or a plan.
            kind = next(kind.__name__ for kind in NAMED if isinstance(error, kind))
            say("refused", (kind, str(error)))
        except Exception as error:
            traceback.print_exc()
            say("failed", f"{type(error).__name__}: {error}")


def answered(model, train, training, goes_on, what, parameters, *question):
    """A step: its loss, and the parameters that it ends with. A training: its events, at each of which it is said that
    it goes on."""
    brief = digests if int(os.environ["RANK"]) else dict
    # Of its own for every question: what wraps a model leaves hooks on its parameters.
    trained = copy.deepcopy(model)
    put(parameters, trained)
    if what == "step":
        (batch,) = question
        return float(train(trained, batch)), brief(parameters_of(trained))
    plan, stop_after, training.checkpoints = question
    training.accepts(plan)
    events = []
    for event in (training.train if what == "train" else training.resume)(trained, plan, stop_after):
        if isinstance(event, Update):
            event.parameters = brief(event.parameters)
        events.append(event)
        goes_on()
    return events


def place(frame):
    """Where a frame is, in words."""
    at = traceback.extract_stack(frame)[-1]
    return f"in `{at.name}`, line {at.lineno} of {at.filename}"
