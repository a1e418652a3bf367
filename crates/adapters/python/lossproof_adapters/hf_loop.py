"""The loop of transformers' `Trainer` over a whole plan: its sampler, its windows, its schedule, its logs, checkpoints.

What a plan says is said by `TrainingArguments`, and for a rule that those do not have by an optimizer of PyTorch's that
the trainer is handed. Nothing of the trainer is replaced: a callback keeps the parameters after each update.
"""

import math

import transformers
from transformers.trainer_utils import get_last_checkpoint

from .protocol import OtherTraining, Unsupported
from .torch_loop import RULES, Samples, Witness, collate, optimizer_of, planned
from .training import TrainingLoop

#: What PyTorch's clipping adds to the norm that it divides by.
CLIP_EPSILON = 1e-6


class Callback(transformers.TrainerCallback):
    """Tells a witness what happens, and has the trainer save and stop."""

    def __init__(self, witness, stop_after):
        self.witness, self.stop_after = witness, stop_after

    @property
    def stopped(self):
        """Whether the update that was made last is the one to stop after."""
        return self.witness.updates == self.stop_after

    def on_step_end(self, args, state, control, **_):
        self.witness.update()
        control.should_training_stop |= self.stopped
        control.should_save = control.should_training_stop or state.global_step == state.max_steps

    def on_log(self, args, state, control, logs=None, **_):
        if "loss" in logs:
            numbers = {name: logs.get(name) for name in ("loss", "learning_rate", "grad_norm")}
            self.witness.logged(**numbers)

    def on_evaluate(self, args, state, control, metrics=None, **_):
        loss = metrics["eval_loss"]
        try:
            perplexity = math.exp(loss)
        except OverflowError:
            perplexity = math.inf
        self.witness.validation(loss, perplexity)

    def on_epoch_end(self, args, state, control, **_):
        # A trainer that stops within an epoch says that it is at its end, and would validate as there.
        if self.stopped and not float(state.epoch).is_integer():
            control.should_evaluate = False
        else:
            self.witness.epoch_end()


class HfTraining(TrainingLoop):
    """The trainer's loop, which stops by `should_training_stop` and goes on from its own checkpoint."""

    takes = RULES | {
        "accumulation",
        "linear-schedule",
        "clipping",
        "dropout",
        "frozen",
        "validation",
        "validation-between-updates",
    }
    resumes = True

    def accepts(self, plan):
        super().accepts(plan)
        if plan.clip and plan.clip.epsilon != CLIP_EPSILON:
            raise Unsupported(f"clipping with {plan.clip.epsilon} beside the norm")
        if plan.validation and plan.evaluate_every and plan.updates_per_epoch % plan.evaluate_every:
            raise Unsupported("validations after so many updates and at the ends of epochs, too")

    def train(self, model, plan, stop_after):
        return self.run(model, plan, stop_after, None)

    def resume(self, model, plan, stop_after):
        checkpoint = get_last_checkpoint(self.checkpoints)
        if checkpoint is None:
            raise OtherTraining("nothing was saved")
        return self.run(model, plan, stop_after, checkpoint)

    def run(self, model, plan, stop_after, checkpoint):
        """Trains on from a checkpoint, or from the beginning."""
        with Witness(model) as witness, planned(model, plan):
            trainer = transformers.Trainer(
                model=model,
                args=transformers.TrainingArguments(**settings(self.checkpoints, plan)),
                data_collator=collate,
                train_dataset=Samples(plan.training),
                eval_dataset=Samples(plan.validation) if plan.validation else None,
                optimizers=(None if has_own(plan) else optimizer_of(model, plan), None),
                callbacks=[Callback(witness, stop_after)],
            )
            trainer.remove_callback(transformers.PrinterCallback)
            trainer.train(resume_from_checkpoint=checkpoint)
            return witness.events


def has_own(plan):
    """Whether the trainer itself makes the optimizer of a plan: AdamW without decay of norms and biases."""
    decays = "decay-of-matrices" if plan.rule.weight_decay else "adam-w"
    return {"adam-w", decays} <= plan.uses


def settings(folder, plan):
    """The arguments by which a trainer runs a plan."""
    arguments = {
        "output_dir": folder,
        "per_device_train_batch_size": plan.batch,
        "per_device_eval_batch_size": plan.batch,
        "gradient_accumulation_steps": plan.accumulate,
        "num_train_epochs": plan.epochs,
        "seed": plan.seed,
        "learning_rate": plan.learning_rate,
        "lr_scheduler_type": plan.schedule,
        "max_grad_norm": plan.clip.max_norm if plan.clip else 0.0,
        "eval_strategy": "no",
        "save_strategy": "no",
        "logging_steps": 1,
        "use_cpu": True,
        "report_to": "none",
        "disable_tqdm": True,
        "remove_unused_columns": False,
    }
    if has_own(plan):
        rule = plan.rule
        arguments |= {"optim": "adamw_torch", "adam_beta1": rule.beta_1, "adam_beta2": rule.beta_2}
        arguments |= {"adam_epsilon": rule.epsilon, "weight_decay": rule.weight_decay}
    if plan.validation and plan.evaluate_every:
        arguments |= {"eval_strategy": "steps", "eval_steps": plan.evaluate_every}
    elif plan.validation:
        arguments |= {"eval_strategy": "epoch"}
    return arguments
