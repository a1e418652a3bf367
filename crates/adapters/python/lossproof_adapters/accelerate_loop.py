"""The loop of run_clm_no_trainer on accelerate, behind the judge: ``python -m lossproof_adapters.accelerate_loop``.

In words of our own: `accelerator.accumulate`, the model's own loss, `accelerator.backward`, one optimizer step. For a
batch that is plain SGD at rate 1, so that what it takes off the parameters is the gradient. A whole training is the
script's of 2026 line by line: its loaders, its schedule, its epochs with a validation at the end of each, the loss that
it tracks, its checkpoints and where it goes on from them. The optimizer and the model are the plan's, with dropout and
frozen parameters; the script has no clipping, and no validation but at the ends of epochs. With ``--ranks N`` a batch
is computed by up to N processes under torchrun.
"""

import math
import os

import accelerate
import torch
import transformers
from torch.utils.data import DataLoader

from .hf_trainer import MicroBatches
from .hf_trainer import collate as collate_micro_batch
from .protocol import OtherTraining
from .ready import DEALT, UNMASKED, ready
from .torch_loop import RULES, Samples, Witness, collate, optimizer_of, planned
from .training import TrainingLoop


def accelerator_of(accumulate):
    """An accelerator that accumulates so many micro-batches. The state that all of them share is begun anew."""
    accelerate.state.AcceleratorState._reset_state(reset_partial_state=True)
    accelerate.state.GradientState._reset_state()
    return accelerate.Accelerator(gradient_accumulation_steps=accumulate, cpu=True)


def train(model, batch):
    """One optimizer step; the mean of the losses of this rank's micro-batches, as the script tracks them."""
    count = len(batch[0])
    accelerator = accelerator_of(count)
    optimizer = torch.optim.SGD(model.parameters(), lr=1.0)
    loader = DataLoader(MicroBatches(batch), batch_size=1, collate_fn=collate_micro_batch)
    prepared, optimizer, loader = accelerator.prepare(model, optimizer, loader)
    prepared.train()
    total = 0.0
    for rows in loader:
        with accelerator.accumulate(prepared):
            loss = prepared(**rows).loss
            total += loss.detach().item()
            accelerator.backward(loss)
            optimizer.step()
            optimizer.zero_grad()
    return total / count


class Script(TrainingLoop):
    """The script's training. It is stopped as a killed process is, right after the checkpoint of an update."""

    takes = RULES | {"accumulation", "linear-schedule", "dropout", "frozen", "validation"}
    resumes = True

    def train(self, model, plan, stop_after):
        with Witness(model) as witness, planned(model, plan):
            self.run(model, plan, stop_after, witness)
        return witness.events

    def resume(self, model, plan, stop_after):
        saved = [int(name.removeprefix("step_")) for name in os.listdir(self.checkpoints)]
        if not saved:
            raise OtherTraining("nothing was saved")
        with Witness(model) as witness, planned(model, plan):
            self.run(model, plan, stop_after, witness, max(saved))
        return witness.events

    def run(self, model, plan, stop_after, witness, checkpoint=None):
        """Trains on from a checkpoint, the number of an update, or from the beginning."""
        accelerator = accelerator_of(plan.accumulate)
        accelerate.utils.set_seed(plan.seed)
        loader = DataLoader(Samples(plan.training), shuffle=True, collate_fn=collate, batch_size=plan.batch)
        validation = DataLoader(Samples(plan.validation), collate_fn=collate, batch_size=plan.batch)
        optimizer = optimizer_of(model, plan)
        # Those of all ranks: over ranks the schedule is stepped once for each.
        steps = plan.epochs * math.ceil(len(loader) / plan.accumulate)
        schedule = transformers.get_scheduler(plan.schedule, optimizer, num_warmup_steps=0, num_training_steps=steps)
        model, optimizer, loader, validation, schedule = accelerator.prepare(
            model, optimizer, loader, validation, schedule
        )
        # The loader has become shorter where there are ranks.
        last = plan.epochs * math.ceil(len(loader) / plan.accumulate)
        first_epoch = completed = skipped = 0
        if checkpoint is not None:
            accelerator.load_state(self.step(checkpoint))
            micro_batches = checkpoint * plan.accumulate
            first_epoch, skipped = divmod(micro_batches, len(loader))
            completed = checkpoint
        for epoch in range(first_epoch, plan.epochs):
            model.train()
            total_loss, total_samples = torch.tensor(0.0), 0
            active = loader
            if checkpoint is not None and epoch == first_epoch:
                active = accelerator.skip_first_batches(loader, skipped)
            for rows in active:
                with accelerator.accumulate(model):
                    loss = model(**rows).loss
                    samples = rows["input_ids"].shape[0]
                    total_loss += loss.detach().float() * samples
                    total_samples += samples
                    accelerator.backward(loss)
                    optimizer.step()
                    schedule.step()
                    optimizer.zero_grad()
                if accelerator.sync_gradients:
                    completed += 1
                    witness.update()
                    stops = witness.updates == stop_after
                    if stops or completed == last:
                        accelerator.save_state(self.step(completed))
                    if stops:
                        return
                if completed >= last:
                    break
            if plan.validation:
                witness.validation(*validated(accelerator, model, validation))
            # A resumed epoch may have nothing left, and then the script divides by zero.
            witness.epoch_end(total_loss.item() / total_samples if total_samples else None)

    def step(self, number):
        """The checkpoint of an update."""
        return os.path.join(self.checkpoints, f"step_{number}")


def validated(accelerator, model, loader):
    """The loss of a validation and its perplexity, as the script has them."""
    model.eval()
    losses = []
    for rows in loader:
        with torch.no_grad():
            loss = model(**rows).loss
        losses.append(accelerator.gather_for_metrics(loss.repeat(rows["input_ids"].shape[0])))
    loss = torch.mean(torch.cat(losses))
    try:
        return loss.item(), math.exp(loss)
    except OverflowError:
        return loss.item(), math.inf


def main():
    """Answers for the loop."""
    ready(
        "lossproof_adapters.accelerate_loop",
        __doc__,
        train,
        title="accelerate loop",
        version=accelerate.__version__,
        training=Script(),
        # The script's labels are its tokens.
        limits=UNMASKED,
        log_policy="mean-of-micro-batches",
        # The script tracks the loss of the process that prints it.
        ranks=DEALT | {"log_policy": "first-rank"},
    )


if __name__ == "__main__":
    main()
