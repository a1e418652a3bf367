"""Ranks as processes: a step of a trainer is made by as many processes as a batch has ranks, under torchrun.

The process that answers the judge trains nothing. For each number of ranks it starts its own command once
more under torchrun, whose processes stay and are asked for one step after another, each over its own socket::

    model = my_model().double()
    train = over_ranks(model, train)
    run(SteppedTrainer(model, train, limits=Limits(vocabulary=61, positions=32, ranks=(1, 2))))

There `train(model, batch)` sees the ranks of the environment that torchrun makes, and is given the whole
batch, of which it trains on its own rank. Nothing is left running: a process whose socket is closed ends,
whatever it waits for.
"""

import atexit
import contextlib
import copy
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
from multiprocessing.connection import Client, Connection, wait
from queue import SimpleQueue

import torch

#: The variable of the environment that says to a process under torchrun where it is asked.
SOCKET = "LOSSPROOF_RANKS"

#: Seconds that a process has for what takes no time: to say where it is, and to end.
MOMENT = 5


def over_ranks(model, train):
    """`train(model, batch)`, as it is made by processes under torchrun: it leaves the parameters that they end
    with in the model, and returns the loss that rank 0 returns. In such a process this answers, and does not
    return."""
    if SOCKET in os.environ:
        serve(model, train)
    return Ranks()


class Ranks:
    """A step on a batch, made by as many processes as it has ranks. They are started when they are needed."""

    def __init__(self):
        self.jobs = {}
        # Ranks wait a third as long as the judge: one third to start, one to answer.
        self.patience = float(os.environ.get("LOSSPROOF_TIMEOUT", 600)) / 3
        atexit.register(self.end)

    def __call__(self, model, batch):
        ranks = len(batch)
        try:
            if ranks not in self.jobs:
                self.jobs[ranks] = Job(ranks, self.patience)
            loss, parameters = agreed(self.jobs[ranks].step(parameters_of(model), batch))
        except BaseException:
            # Where one rank fails, others may wait for it for ever. The next batch has new ones.
            if ranks in self.jobs:
                self.jobs.pop(ranks).end()
            raise
        put(parameters, model)
        return loss

    def end(self):
        """Ends all processes."""
        while self.jobs:
            self.jobs.popitem()[1].end()


def agreed(steps):
    """The loss of rank 0, and the parameters that all ranks end with."""
    loss, parameters = steps[0]
    for rank, (_, others) in enumerate(steps):
        for name, values in parameters.items():
            if others[name].tobytes() != values.tobytes():
                which = f"rank {rank} of {len(steps)}"
                raise RuntimeError(f"{which} ends the step with another `{name}` than rank 0")
    return loss, parameters


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

    def step(self, parameters, batch):
        """The loss of every rank, and the parameters that it ends with."""
        self.tell(self.connections, "step", parameters, batch)
        done, late = {}, time.monotonic() + self.patience
        while len(done) < self.ranks:
            said, gone = self.hear(set(self.connections) - set(done), late - time.monotonic())
            # One that is gone is why others fail, and not the other way round.
            if gone:
                raise RuntimeError(f"{named(gone, self.ranks)} ended without an answer")
            if not said:
                raise TimeoutError(self.silent(set(self.connections) - set(done)))
            for rank, (what, answer) in sorted(said.items()):
                if what == "failed":
                    raise RuntimeError(f"rank {rank} of {self.ranks}: {answer}")
                done[rank] = answer
        return [done[rank] for rank in range(self.ranks)]

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


def serve(model, train):
    """Makes the steps that this rank is asked for, until nobody asks any more."""
    torch.set_num_threads(1)
    connection = Client(os.environ.pop(SOCKET), family="AF_UNIX")
    questions, turns = SimpleQueue(), threading.Lock()

    def say(what, answer):
        with turns:
            connection.send_bytes(pickle.dumps((what, answer)))

    def listen():
        try:
            while True:
                what, *question = pickle.loads(connection.recv_bytes())
                if what == "where":
                    say("where", place(sys._current_frames()[threading.main_thread().ident]))
                elif what == "step":
                    questions.put(question)
                else:
                    break
        except (EOFError, OSError):
            pass  # Whoever asked is gone.
        # A step may wait for another rank for ever.
        os._exit(0)

    say(int(os.environ["RANK"]), os.getpid())
    threading.Thread(target=listen, daemon=True).start()
    while True:
        parameters, batch = questions.get()
        try:
            # Of its own for every step: what wraps a model leaves hooks on its parameters.
            trained = copy.deepcopy(model)
            put(parameters, trained)
            loss = float(train(trained, batch))
            said = "done", (loss, parameters_of(trained))
        except Exception as error:
            traceback.print_exc()
            said = "failed", f"{type(error).__name__}: {error}"
        say(*said)


def place(frame):
    """Where a frame is, in words."""
    at = traceback.extract_stack(frame)[-1]
    return f"in `{at.name}`, line {at.lineno} of {at.filename}"
