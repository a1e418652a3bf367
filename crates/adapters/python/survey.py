"""What the ready adapters are found to be, as the tables in docs/bugs.md: ``python survey.py JUDGE [--write FILE]``.

Each release that an interpreter has is diagnosed, also over ranks under torchrun where it has ranks, and where
it has a loop of its own, the loop is held to the laws of whole trainings. What is printed is what was seen on the
day that is printed. With ``--python``, which can be given more than once, those of other interpreters than this
one.
"""

import argparse
import datetime
import json
import os
import pathlib
import re
import subprocess
import sys
import tempfile

#: The adapter, the package whose version it has, and what trains.
ADAPTERS = [
    ("hf_trainer", "transformers", "`Trainer`"),
    ("sft_trainer", "trl", "`SFTTrainer`"),
    ("accelerate_loop", "accelerate", "the loop of run_clm_no_trainer"),
    ("lightning_trainer", "lightning", "`Trainer`"),
]

#: The adapter, more of its arguments, and what that is.
LOOPS = [
    ("hf_trainer", "--model gpt2", "`Trainer` of transformers {}, GPT-2"),
    ("hf_trainer", "--model llama", "`Trainer` of transformers {}, Llama"),
    ("accelerate_loop", "--model gpt2", "run_clm_no_trainer on accelerate {}, GPT-2"),
    ("accelerate_loop", "--model gpt2 --length 8", "the same over blocks of one length, accelerate {}"),
]

#: The same over ranks, each a process under torchrun.
LOOPS_OVER_RANKS = [
    ("hf_trainer", "--model llama --ranks 2", "`Trainer` of transformers {}, Llama"),
    ("accelerate_loop", "--model llama --ranks 2", "run_clm_no_trainer on accelerate {}, Llama"),
    ("accelerate_loop", "--model llama --ranks 2 --length 8", "the same over blocks of one length, accelerate {}"),
]

#: The adapter, the package whose version it has, and what trains over ranks.
OVER_RANKS = [
    ("hf_trainer", "transformers", "`Trainer`"),
    ("accelerate_loop", "accelerate", "the loop of run_clm_no_trainer"),
    ("ddp_loop", "torch", "a plain loop over `DistributedDataParallel`"),
]

#: The most ranks of a batch.
RANKS = [2, 3]

#: The laws of whole trainings, as docs/laws.md has them.
LAWS = """training-validation resume resume-again resume-otherwise samples-once training-update training-schedule
training-clipping training-loss training-split training-undisturbed not-a-number skipped-update frozen dropout""".split()

MODELS = [("gpt2", "GPT2LMHeadModel"), ("llama", "LlamaForCausalLM")]

#: What a verdict is called in the table.
VERDICTS = {
    "pass": "kept",
    "fail": "**broken**",
    "unchecked": "undecided",
    "unsupported": "not supported",
    "errored": "ends with an error",
}

#: What the judge's exit code says of a trainer in which it names no bug.
UNNAMED = {0: "as claimed", 1: "not as claimed, and no known bug", 3: "undecided"}


def has(python, adapter):
    """Whether an interpreter can import an adapter."""
    done = subprocess.run([python, "-c", f"import lossproof_adapters.{adapter}"], capture_output=True)
    return done.returncode == 0


def asked(judge, *arguments):
    """What the judge prints, and the code that it ends with."""
    # Releases older than PyTorch's default of loading nothing but weights can read their own checkpoints with it.
    environment = {**os.environ, "TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD": "1"}
    done = subprocess.run([judge, *arguments], capture_output=True, text=True, timeout=1800, env=environment)
    if done.returncode not in UNNAMED:
        raise SystemExit(done.stderr or f"{judge} ended with {done.returncode}")
    return done.stdout, done.returncode


def seen(judge, python, adapter, model, more=""):
    """The version, and what the diagnosis says."""
    command = f"'{python}' -m lossproof_adapters.{adapter} --model {model} {more}"
    said, code = asked(judge, "diagnose", "--adapter", command)
    # `NAME, MODEL VERSION (FRAMEWORK), …`
    version = re.search(rf", {model} (.*?) \(", said).group(1)
    how_sure = "looks like|perhaps|or, alike in everything that was looked at,"
    named = re.findall(rf"^(?:{how_sure}) ([\w-]+)(?: \(.*?\))?:", said, re.M)
    if named:
        return version, " or ".join(f"`{bug}`" for bug in named)
    return version, UNNAMED[code]


def held(judge, python, adapter, arguments):
    """The version, and by its name each law of a whole training: its clause and the verdict."""
    command = f"'{python}' -m lossproof_adapters.{adapter} {arguments}"
    laws = [part for law in LAWS for part in ("--law", law)]
    with tempfile.TemporaryDirectory() as folder:
        report = pathlib.Path(folder) / "report.json"
        asked(judge, "laws", "--adapter", command, *laws, "--json", str(report))
        subject = json.loads(report.read_text())["subjects"][0]
    version = re.search(r", \w+ (.*?) \(", subject["subject"]).group(1)
    found = {law["law"]: (law["clauses"][0], VERDICTS[law["verdict"]]) for law in subject["laws"]}
    return version, found


def releases(judge, pythons, adapters, more=""):
    """What is found of the adapters, with more arguments, that interpreters have: what it is, and what is seen."""
    for adapter, package, what in adapters:
        for python in pythons:
            if has(python, adapter):
                for model, name in MODELS:
                    version, found = seen(judge, python, adapter, model, more)
                    yield f"{package} {version} | {what} | {name}", found


#: What all of them claim.
CLAIM = "per-token mean of the step"


def diagnosed(judge, pythons):
    """The table of what releases are found to be."""
    rows = [f"| {what} | {CLAIM} | {found} |" for what, found in releases(judge, pythons, ADAPTERS)]
    # Interpreters may have the same release.
    return ["| release | what trains | model class | claim | seen |", "|---|---|---|---|---|", *dict.fromkeys(rows)]


def over_ranks(judge, pythons):
    """The table of what releases are found to be over ranks, of which each is a process."""
    most = [list(releases(judge, pythons, OVER_RANKS, f"--ranks {ranks}")) for ranks in RANKS]
    rows = []
    for of_one in zip(*most, strict=True):
        for ranks, (what, found) in zip(RANKS, of_one, strict=True):
            rows.append(f"| {what} | 1 to {ranks} | {CLAIM} | {found} |")
    head = ["| release | what trains | model class | ranks | claim | seen |", "|---|---|---|---|---|---|"]
    return [*head, *dict.fromkeys(rows)]


def loops(judge, pythons, which=LOOPS):
    """The table of what laws loops keep: a law in each row, a loop in each column."""
    columns = {}
    for adapter, arguments, what in which:
        for python in pythons:
            if has(python, adapter):
                version, found = held(judge, python, adapter, arguments)
                columns.setdefault(what.format(version), found)
    if not columns:
        return []
    clauses = {law: clause for found in columns.values() for law, (clause, _) in found.items()}
    rows = ["| clause | law | " + " | ".join(columns) + " |", "|---|---|" + "---|" * len(columns)]
    for law in LAWS:
        verdicts = [found[law][1] for found in columns.values()]
        rows.append(f"| {clauses[law]} | `{law}` | " + " | ".join(verdicts) + " |")
    return rows


def loops_over_ranks(judge, pythons):
    """The same table of loops over ranks."""
    return loops(judge, pythons, LOOPS_OVER_RANKS)


#: The tables, by the names of their marks in the page.
TABLES = {"survey": diagnosed, "over-ranks": over_ranks, "loops": loops, "loops-over-ranks": loops_over_ranks}


def main():
    parser = argparse.ArgumentParser(prog="python survey.py", description=__doc__)
    parser.add_argument("judge", help="the lossproof program")
    parser.add_argument("--python", action="append", default=[], metavar="PROGRAM", help="one with other releases")
    parser.add_argument("--table", choices=TABLES, action="append", help="only this one; by default all")
    parser.add_argument("--write", type=pathlib.Path, metavar="FILE", help="the page that has the tables")
    arguments = parser.parse_args()
    day = datetime.date.today().isoformat()
    for name in arguments.table or TABLES:
        begin, end = f"<!-- {name}: begin -->", f"<!-- {name}: end -->"
        table = TABLES[name](arguments.judge, [sys.executable, *arguments.python])
        text = "\n".join([begin, f"Run on {day}.", "", *table, end])
        print(text)
        if arguments.write:
            page = arguments.write.read_text()
            before, rest = page.split(begin)
            arguments.write.write_text(before + text + rest.split(end)[1])


if __name__ == "__main__":
    main()
